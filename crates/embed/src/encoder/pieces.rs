//! Calls with many texts on a device: while it computes some, the next ones are
//! tokenized.

use std::sync::mpsc::sync_channel;
use std::thread;

use super::queue::{Call, Cancel};
use super::runner::Output;
use super::{Encoder, TextKind};
use crate::{Error, Result};

/// Texts that are tokenized together: some batches of a GPU.
pub(super) const PIECE: usize = 2048;

impl Encoder {
    /// As [`Encoder::compute`], piece by piece.
    pub(super) fn compute_in_pieces(
        &self,
        texts: &[&str],
        kind: TextKind,
        cancel: &Cancel,
    ) -> Result<(Vec<Vec<f32>>, Vec<usize>)> {
        let (mut vectors, mut lengths) = (Vec::with_capacity(texts.len()), Vec::with_capacity(texts.len()));
        thread::scope(|scope| {
            let (send, receive) = sync_channel(1);
            scope.spawn(move || {
                for piece in texts.chunks(PIECE) {
                    // Nobody listens any more when a piece has failed.
                    if send.send(self.ids(piece, kind, cancel)).is_err() {
                        break;
                    }
                }
            });
            for ids in receive {
                let done = vectors.len();
                let ids = ids.map_err(|error| later(error, done))?;
                let (batches, short, of_piece) = self.plan(&ids);
                let call = Call::new(ids, Output::Head, batches, cancel.clone());
                vectors.extend(self.queue.run(call, short).map_err(|error| later(error, done))?);
                lengths.extend(of_piece);
            }
            Ok((vectors, lengths))
        })
    }
}

/// An error that names a text, with its position in the whole call.
fn later(error: Error, done: usize) -> Error {
    match error {
        Error::Tokenize { text, reason } => Error::Tokenize { text: done + text, reason },
        Error::NotFinite { text } => Error::NotFinite { text: done + text },
        error => error,
    }
}
