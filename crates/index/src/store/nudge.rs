//! Wakes writers that sled forgot.
//!
//! When the disk fails in one place of sled (`Log::exit_reservation`, 0.34.7), it
//! notes the failure but does not wake the writer that waits for the flush,
//! which would then wait for ever. Another flush does wake it.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{self, RecvTimeoutError, Sender};
use std::thread::JoinHandle;
use std::time::Duration;

use crate::error::{Error, Result};

/// A flush takes longer than this only on a disk that is very slow or failing.
const PATIENCE: Duration = Duration::from_secs(1);

/// Flushes once more when a flush has taken long. Dropping it ends its thread.
pub(super) struct Nudge {
    waiting: Arc<AtomicUsize>,
    stop: Option<Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Nudge {
    pub(super) fn start(db: sled::Db) -> Result<Self> {
        let waiting = Arc::new(AtomicUsize::new(0));
        let (stop, stopped) = mpsc::channel();
        let seen = waiting.clone();
        let run = move || {
            let mut before = 0;
            while stopped.recv_timeout(PATIENCE) == Err(RecvTimeoutError::Timeout) {
                let now = seen.load(Ordering::Relaxed);
                if now > 0 && before > 0 {
                    // The one who waits hears of the failure.
                    let _ = super::call("flushing the log", || db.flush());
                }
                before = now;
            }
            let close = || {
                drop(db);
                Ok(())
            };
            let _ = super::contain("closing the log", close);
        };
        let thread = std::thread::Builder::new().name("cairn-nudge".to_owned()).spawn(run);
        let thread = thread.map_err(Error::io("start a thread for", "cairn-nudge"))?;
        Ok(Self { waiting, stop: Some(stop), thread: Some(thread) })
    }

    /// Runs a flush under watch.
    pub(super) fn watch<T>(&self, flush: impl FnOnce() -> T) -> T {
        self.waiting.fetch_add(1, Ordering::Relaxed);
        let done = flush();
        self.waiting.fetch_sub(1, Ordering::Relaxed);
        done
    }
}

impl Drop for Nudge {
    fn drop(&mut self) {
        self.stop.take();
        if let Some(thread) = self.thread.take() {
            // Panics of sled end in the thread itself.
            let _ = thread.join();
        }
    }
}
