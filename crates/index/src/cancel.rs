//! Ending reads that nobody waits for any more.
//!
//! What may take long goes over rows; it looks every few thousand of them
//! whether it was cancelled, and then fails instead of giving a part of the
//! answer. Writes are settled before they begin, and are never cut.

use std::cell::RefCell;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use crate::error::{Error, Result};

/// Rows between two looks.
const EVERY: u32 = 4096;

/// Ends reads from another thread.
///
/// ```
/// use cairn_index::{Cancel, CollectionConfig, Database, Error, Metric, Search};
///
/// # let dir = tempfile::tempdir().unwrap();
/// # let db = Database::open(dir.path())?;
/// # let stones = db.create_collection("stones", CollectionConfig::new(1, Metric::Dot))?;
/// # stones.upsert(vec![cairn_index::Point::new(1, vec![1.0])])?;
/// let cancel = Cancel::new();
/// let ours = cancel.clone();
/// std::thread::spawn(move || ours.cancel()).join().unwrap();
/// let found = cancel.during(|| stones.search(&Search::nearest(vec![1.0])));
/// assert!(matches!(found, Err(Error::Cancelled)));
/// # Ok::<(), Error>(())
/// ```
#[derive(Debug, Clone, Default)]
pub struct Cancel(Arc<AtomicBool>);

thread_local! {
    static CURRENT: RefCell<Option<Cancel>> = const { RefCell::new(None) };
}

impl Cancel {
    /// Not cancelled yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// From now on reads under [`during`](Self::during) end soon, with
    /// [`Error::Cancelled`].
    pub fn cancel(&self) {
        self.0.store(true, Ordering::Relaxed);
    }

    /// Whether [`cancel`](Self::cancel) was called.
    pub fn is_cancelled(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }

    /// Does work on this thread whose reads can be cancelled, those that it hands
    /// to other threads too.
    pub fn during<T>(&self, work: impl FnOnce() -> T) -> T {
        let before = CURRENT.replace(Some(self.clone()));
        let _restore = Restore(before);
        work()
    }
}

/// Puts back what was there, also when the work panics.
struct Restore(Option<Cancel>);

impl Drop for Restore {
    fn drop(&mut self) {
        CURRENT.set(self.0.take());
    }
}

/// What can cancel the work of this thread. Work that is handed to other threads
/// takes it along.
pub(crate) fn current() -> Current {
    Current(CURRENT.with_borrow(Clone::clone))
}

/// # Errors
/// [`Error::Cancelled`] if the work of this thread was.
pub(crate) fn check() -> Result<()> {
    current().check()
}

#[derive(Clone)]
pub(crate) struct Current(Option<Cancel>);

impl Current {
    /// # Errors
    /// [`Error::Cancelled`] if it was.
    pub(crate) fn check(&self) -> Result<()> {
        if self.is_cancelled() { Err(Error::Cancelled) } else { Ok(()) }
    }

    pub(crate) fn is_cancelled(&self) -> bool {
        self.0.as_ref().is_some_and(Cancel::is_cancelled)
    }

    /// The items, none any more soon after it was cancelled. What was made of
    /// them is worth nothing then: whoever asks has to [`check`](Self::check).
    pub(crate) fn until<I: Iterator>(&self, items: I) -> impl Iterator<Item = I::Item> + use<I> {
        let (current, mut left) = (self.clone(), EVERY);
        items.take_while(move |_| {
            left -= 1;
            if left == 0 {
                left = EVERY;
                return !current.is_cancelled();
            }
            true
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cancelled_work_ends_soon_and_what_was_before_is_back_afterwards() {
        let (outer, inner) = (Cancel::new(), Cancel::new());
        outer.during(|| {
            let seen = inner.during(|| {
                let current = current();
                inner.cancel();
                assert!(matches!(check(), Err(Error::Cancelled)));
                current.until(0..u64::MAX).count()
            });
            assert_eq!(seen, EVERY as usize - 1);
            assert!(check().is_ok());
            assert_eq!(current().until(0..100_000).count(), 100_000);
        });
        assert!(current().0.is_none());
        let panicked = std::panic::catch_unwind(|| inner.during(|| panic!("a bug")));
        assert!(panicked.is_err() && check().is_ok());
    }
}
