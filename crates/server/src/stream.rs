//! What blocking code writes, as the body of an answer.

use std::io::{self, BufWriter, Write};

use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;

type Chunk = io::Result<Vec<u8>>;

/// Chunks that a slow reader may be behind before the writer waits for it.
const AHEAD: usize = 4;
const CHUNK_BYTES: usize = 256 << 10;

/// The bytes that `write` writes, while it writes them. A failure ends the
/// stream, which the reader sees as a broken answer.
pub(crate) fn written(
    write: impl FnOnce(&mut dyn Write) -> io::Result<()> + Send + 'static,
) -> ReceiverStream<Chunk> {
    let (sender, receiver) = mpsc::channel(AHEAD);
    tokio::task::spawn_blocking(move || {
        let mut out = BufWriter::with_capacity(CHUNK_BYTES, Sending(sender.clone()));
        if let Err(error) = write(&mut out).and_then(|()| out.flush()) {
            let _ = sender.blocking_send(Err(error));
        }
    });
    ReceiverStream::new(receiver)
}

struct Sending(mpsc::Sender<Chunk>);

impl Write for Sending {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let gone = |_| io::Error::new(io::ErrorKind::BrokenPipe, "the reader went away");
        self.0.blocking_send(Ok(bytes.to_vec())).map_err(gone)?;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
