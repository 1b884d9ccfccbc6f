//! Which searches are over sooner than another thread would have begun them.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU32, Ordering::Relaxed};
use std::time::Duration;

use parking_lot::RwLock;

/// The listener may be held up for so long; waking a thread and being woken by
/// it costs some 20 us.
const BRIEF: Duration = Duration::from_micros(500);

/// Kinds that are kept at most. One that was forgotten is timed again.
const MAX_KINDS: usize = 4096;

/// How long each kind of search has taken of late. A kind is as narrow as it
/// must be for its searches to be alike.
#[derive(Default)]
pub(crate) struct Brief {
    micros: RwLock<HashMap<String, AtomicU32>>,
}

impl Brief {
    /// Whether searches of this kind are brief. One that is not known may take
    /// any time.
    pub(crate) fn is(&self, kind: &str) -> bool {
        let micros = self.micros.read();
        micros.get(kind).is_some_and(|micros| u128::from(micros.load(Relaxed)) <= BRIEF.as_micros())
    }

    /// Takes the time of one into account: one that takes long counts at once,
    /// trust comes back slowly.
    pub(crate) fn took(&self, kind: &str, time: Duration) {
        let time = u32::try_from(time.as_micros()).unwrap_or(u32::MAX);
        let known = self.micros.read();
        if let Some(micros) = known.get(kind) {
            let before = micros.load(Relaxed);
            let now = if time > before {
                before + (time - before).div_ceil(2)
            } else {
                before - (before - time) / 8
            };
            micros.store(now, Relaxed);
            return;
        }
        drop(known);
        let mut micros = self.micros.write();
        if micros.len() == MAX_KINDS {
            micros.clear();
        }
        micros.insert(kind.to_owned(), AtomicU32::new(time));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_long_search_ends_the_trust_that_brief_ones_earn() {
        let brief = Brief::default();
        assert!(!brief.is("a"));
        brief.took("a", Duration::from_micros(80));
        assert!(brief.is("a"));
        assert!(!brief.is("b"));
        brief.took("a", Duration::from_millis(5));
        assert!(!brief.is("a"));
        let needed = (1..100).find(|_| {
            brief.took("a", Duration::from_micros(80));
            brief.is("a")
        });
        assert!((8..30).contains(&needed.unwrap()), "{needed:?}");
    }
}
