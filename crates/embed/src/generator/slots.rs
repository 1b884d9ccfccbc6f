//! Who may use the model when: a few caches, given to one call each.
//!
//! A call gets the free cache that shares most of its prompt, among equals the
//! one that was used longest ago. When none is free it waits for one.

use std::cmp::Reverse;
use std::ops::{Deref, DerefMut};
use std::sync::{Condvar, Mutex, MutexGuard};
use std::time::Duration;

use super::cache::Cache;
use crate::{Error, Result};

/// How often a call that waits looks whether its caller is still there.
const LOOK: Duration = Duration::from_millis(100);

pub(super) struct Slots {
    limit: usize,
    waiting: Mutex<Waiting>,
    freed: Condvar,
}

struct Waiting {
    /// In the order in which they were given back.
    free: Vec<Cache>,
    calls: usize,
}

/// A cache that is given back when this is dropped.
pub(super) struct Taken<'s> {
    slots: &'s Slots,
    cache: Cache,
}

impl Slots {
    /// `count` caches; no more than `limit` calls wait for one at a time.
    pub(super) fn new(count: usize, limit: usize) -> Slots {
        let free = (0..count).map(|_| Cache::default()).collect();
        Slots { limit, waiting: Mutex::new(Waiting { free, calls: 0 }), freed: Condvar::new() }
    }

    /// A cache for a prompt. While it waits, `going` is asked whether to go on.
    ///
    /// # Errors
    /// [`Error::Busy`] if too many calls wait, or what `going` says.
    pub(super) fn take(&self, prompt: &[u32], going: &mut dyn FnMut() -> Result<()>) -> Result<Taken<'_>> {
        let mut waiting = self.lock();
        if waiting.free.is_empty() && waiting.calls >= self.limit {
            return Err(Error::Busy { waiting: self.limit });
        }
        waiting.calls += 1;
        let result = loop {
            if let Some(cache) = waiting.best(prompt) {
                break Ok(Taken { slots: self, cache });
            }
            waiting = self.freed.wait_timeout(waiting, LOOK).expect("nothing panics under this lock").0;
            // The caller may do anything, so not under the lock.
            drop(waiting);
            let going = going();
            waiting = self.lock();
            if let Err(error) = going {
                break Err(error);
            }
        };
        waiting.calls -= 1;
        drop(waiting);
        result
    }

    fn lock(&self) -> MutexGuard<'_, Waiting> {
        self.waiting.lock().expect("nothing panics under this lock")
    }
}

impl Waiting {
    fn best(&mut self, prompt: &[u32]) -> Option<Cache> {
        let shared = |&at: &usize| (self.free[at].shared(prompt), Reverse(at));
        let best = (0..self.free.len()).max_by_key(shared)?;
        Some(self.free.remove(best))
    }
}

impl Deref for Taken<'_> {
    type Target = Cache;

    fn deref(&self) -> &Cache {
        &self.cache
    }
}

impl DerefMut for Taken<'_> {
    fn deref_mut(&mut self) -> &mut Cache {
        &mut self.cache
    }
}

impl Drop for Taken<'_> {
    fn drop(&mut self) {
        self.slots.lock().free.push(std::mem::take(&mut self.cache));
        self.slots.freed.notify_one();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fill(slots: &Slots, tokens: &[u32]) {
        slots.take(tokens, &mut || Ok(())).unwrap().tokens = tokens.to_vec();
    }

    #[test]
    fn a_prompt_gets_the_cache_that_shares_most_and_else_the_oldest() {
        let slots = Slots::new(2, 1);
        fill(&slots, &[1, 2, 3]);
        fill(&slots, &[9, 9]);
        assert_eq!(slots.take(&[1, 2, 5], &mut || Ok(())).unwrap().tokens, [1, 2, 3]);
        // The one with [9, 9] was used longer ago now.
        assert_eq!(slots.take(&[7], &mut || Ok(())).unwrap().tokens, [9, 9]);
    }

    #[test]
    fn who_waits_can_leave_and_one_too_many_is_refused() {
        let slots = Slots::new(1, 1);
        let held = slots.take(&[1], &mut || Ok(())).unwrap();
        let mut looks = 0;
        let left = slots.take(&[1], &mut || {
            looks += 1;
            assert!(matches!(slots.take(&[1], &mut || Ok(())), Err(Error::Busy { waiting: 1 })));
            Err(Error::Cancelled)
        });
        assert!(matches!(left, Err(Error::Cancelled)));
        assert_eq!(looks, 1);
        drop(held);
        assert!(slots.take(&[1], &mut || Ok(())).is_ok());
    }
}
