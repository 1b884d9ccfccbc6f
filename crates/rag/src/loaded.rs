//! Models in memory: loaded when first asked for, then shared, and the one that
//! was not asked for longest unloaded when their weights exceed a budget.
//!
//! A model that somebody works with is not unloaded, for that would free
//! nothing; the budget may be exceeded by those.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Instant;

use parking_lot::Mutex;

use crate::error::Result;

/// Models of one kind that are loaded or about to be, by name. Each has its own
/// lock, so that loading one holds up nobody who wants another.
pub(crate) struct Slots<T>(Mutex<HashMap<String, Slot<T>>>);

type Slot<T> = Arc<Mutex<Option<Held<T>>>>;

struct Held<T> {
    model: Arc<T>,
    /// Bytes of its weights.
    bytes: u64,
    used: Instant,
}

impl<T> Default for Slots<T> {
    fn default() -> Self {
        Self(Mutex::default())
    }
}

impl<T> Slots<T> {
    /// The model of this name. `load` makes it, and tells the bytes of its
    /// weights.
    pub(crate) fn get(&self, name: &str, load: impl FnOnce() -> Result<(T, u64)>) -> Result<Arc<T>> {
        let slot = self.0.lock().entry(name.to_owned()).or_default().clone();
        // Held while loading, so that a model is loaded once however many ask.
        let mut held = slot.lock();
        if let Some(held) = &mut *held {
            held.used = Instant::now();
            return Ok(held.model.clone());
        }
        match load() {
            Ok((model, bytes)) => {
                let model = Arc::new(model);
                *held = Some(Held { model: model.clone(), bytes, used: Instant::now() });
                // It may have been unloaded while this waited for its slot.
                self.0.lock().entry(name.to_owned()).or_insert_with(|| slot.clone());
                Ok(model)
            }
            Err(error) => {
                // Names that clients make up must not pile up.
                self.0.lock().remove(name);
                Err(error)
            }
        }
    }

    /// Whether a model is loaded.
    pub(crate) fn has(&self, name: &str) -> bool {
        let slot = self.0.lock().get(name).cloned();
        slot.is_some_and(|slot| slot.try_lock().is_some_and(|held| held.is_some()))
    }

    pub(crate) fn names(&self) -> Vec<String> {
        self.0.lock().keys().cloned().collect()
    }

    /// Bytes of the weights of all.
    fn bytes(&self) -> u64 {
        // One that is locked is being loaded; it counts when it is.
        let slots = self.0.lock();
        slots.values().filter_map(|slot| slot.try_lock()?.as_ref().map(|held| held.bytes)).sum()
    }

    /// The model that nobody works with and that was not asked for longest.
    fn oldest(&self) -> Option<(Instant, String)> {
        let slots = self.0.lock();
        let idle = slots.iter().filter_map(|(name, slot)| {
            let held = slot.try_lock()?;
            let held = held.as_ref().filter(|held| Arc::strong_count(&held.model) == 1)?;
            Some((held.used, name.clone()))
        });
        idle.min()
    }
}

/// Slots of whatever kind, as far as a budget needs to know.
pub(crate) trait Unload {
    fn bytes(&self) -> u64;
    fn oldest(&self) -> Option<(Instant, String)>;
    fn unload(&self, name: &str);
}

impl<T> Unload for Slots<T> {
    fn bytes(&self) -> u64 {
        self.bytes()
    }

    fn oldest(&self) -> Option<(Instant, String)> {
        self.oldest()
    }

    fn unload(&self, name: &str) {
        // Dropped after the lock, for it ends threads.
        let gone = self.0.lock().remove(name);
        drop(gone);
    }
}

/// Unloads models until there is room for `more` bytes of weights, or until all
/// that are left are worked with. Returns the names of those that are gone.
pub(crate) fn make_room(kinds: &[&dyn Unload], budget: u64, more: u64) -> Vec<String> {
    let mut gone = Vec::new();
    // No budget is no limit.
    while budget > 0 && kinds.iter().map(|kind| kind.bytes()).sum::<u64>() + more > budget {
        let oldest = kinds.iter().filter_map(|kind| kind.oldest().map(|(used, name)| (used, name, kind)));
        let Some((_, name, kind)) = oldest.min_by_key(|(used, ..)| *used) else { break };
        kind.unload(&name);
        gone.push(name);
    }
    gone
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::{Slots, make_room};
    use crate::error::Error;

    #[test]
    fn a_model_is_loaded_once_and_a_failure_leaves_nothing() {
        let slots = Slots::<u8>::default();
        let loads = AtomicUsize::new(0);
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    let load = || Ok((loads.fetch_add(1, Ordering::SeqCst) as u8, 10));
                    assert_eq!(slots.get("one", load).map(|model| *model).ok(), Some(0));
                });
            }
        });
        assert!(slots.get("two", || Err(Error::Cancelled)).is_err());
        assert_eq!((loads.load(Ordering::SeqCst), slots.names()), (1, vec!["one".to_owned()]));
        assert!(slots.has("one") && !slots.has("two"));
    }

    #[test]
    fn what_was_not_asked_for_longest_goes_first_whatever_its_kind() {
        let (large, small) = (Slots::<u8>::default(), Slots::<u16>::default());
        let budget = 100;
        for name in ["a", "b"] {
            large.get(name, || Ok((1, 40))).expect("loads");
        }
        small.get("c", || Ok((1, 20))).expect("loads");
        assert!(make_room(&[&large, &small], budget, 0).is_empty());
        large.get("a", || panic!("it is loaded")).expect("is there");
        assert_eq!(make_room(&[&large, &small], budget, 30), ["b"]);
        assert_eq!(make_room(&[&large, &small], budget, 70), ["c", "a"]);
        assert!(make_room(&[&large, &small], budget, 1000).is_empty());
        assert!(make_room(&[&large, &small], 0, 1000).is_empty());
    }

    #[test]
    fn a_model_that_is_worked_with_stays() {
        let slots = Slots::<u8>::default();
        let held = slots.get("a", || Ok((1, 40))).expect("loads");
        slots.get("b", || Ok((1, 40))).expect("loads");
        assert_eq!(make_room(&[&slots], 50, 40), ["b"]);
        assert!(slots.has("a"));
        drop(held);
        assert_eq!(make_room(&[&slots], 50, 40), ["a"]);
    }
}
