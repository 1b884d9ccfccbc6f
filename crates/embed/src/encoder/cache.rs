//! Vectors of texts that were embedded before, within a budget of bytes.
//!
//! A text is known by the first half of the SHA-256 of its kind and content,
//! so nothing of the text is kept. The cache belongs to one loaded model, and
//! goes with it. What was not asked for longest goes first, nearly: entries
//! stand in a circle, and one that was used since the hand passed stays for
//! another round (CLOCK).

use std::collections::{HashMap, VecDeque};
use std::sync::Mutex;

use sha2::{Digest, Sha256};

use super::TextKind;

/// What a text is known by.
pub(super) type Key = [u8; 16];

/// A vector and the tokens its text had.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Known {
    pub(super) vector: Vec<f32>,
    pub(super) tokens: usize,
}

/// Bytes an entry takes besides its vector: keys, map, allocation.
const OVERHEAD: usize = 128;

pub(super) struct Cache {
    budget: usize,
    inner: Mutex<Inner>,
}

#[derive(Default)]
struct Inner {
    entries: HashMap<Key, (Known, bool)>,
    circle: VecDeque<Key>,
    bytes: usize,
}

impl Cache {
    /// One that keeps at most about `budget` bytes; none for 0.
    pub(super) fn new(budget: usize) -> Option<Cache> {
        (budget > 0).then(|| Cache { budget, inner: Mutex::default() })
    }

    pub(super) fn key(text: &str, kind: TextKind) -> Key {
        let kind = match kind {
            TextKind::Query => 0u8,
            TextKind::Passage => 1,
        };
        let digest = Sha256::new().chain_update([kind]).chain_update(text).finalize();
        let mut key = Key::default();
        key.copy_from_slice(&digest[..16]);
        key
    }

    pub(super) fn get(&self, key: &Key) -> Option<Known> {
        let mut inner = self.inner.lock().expect("nothing panics under this lock");
        let (known, used) = inner.entries.get_mut(key)?;
        *used = true;
        Some(known.clone())
    }

    pub(super) fn put(&self, key: Key, known: Known) {
        let size = |known: &Known| known.vector.len() * 4 + OVERHEAD;
        let more = size(&known);
        if more > self.budget {
            return;
        }
        let mut inner = self.inner.lock().expect("nothing panics under this lock");
        let inner = &mut *inner;
        if inner.entries.contains_key(&key) {
            return;
        }
        while inner.bytes + more > self.budget {
            let Some(oldest) = inner.circle.pop_front() else { break };
            match inner.entries.get_mut(&oldest) {
                Some((_, used)) if *used => {
                    *used = false;
                    inner.circle.push_back(oldest);
                }
                _ => {
                    if let Some((gone, _)) = inner.entries.remove(&oldest) {
                        inner.bytes -= size(&gone);
                    }
                }
            }
        }
        inner.bytes += more;
        inner.entries.insert(key, (known, false));
        inner.circle.push_back(key);
    }
}

#[cfg(test)]
mod tests {
    use super::{Cache, Known, OVERHEAD};
    use crate::TextKind::{Passage, Query};

    fn known(value: f32) -> Known {
        Known { vector: vec![value; 8], tokens: 3 }
    }

    #[test]
    fn a_text_is_known_again_and_by_its_kind() {
        let cache = Cache::new(10_000).expect("a budget");
        cache.put(Cache::key("stone", Query), known(1.0));
        assert_eq!(cache.get(&Cache::key("stone", Query)), Some(known(1.0)));
        assert_eq!(cache.get(&Cache::key("stone", Passage)), None);
        assert_eq!(cache.get(&Cache::key("path", Query)), None);
        assert!(Cache::new(0).is_none());
    }

    #[test]
    fn the_budget_holds_and_what_is_asked_for_stays() {
        let room = 10;
        let cache = Cache::new(room * (32 + OVERHEAD)).expect("a budget");
        let key = |i: usize| Cache::key(&i.to_string(), Query);
        for i in 0..1000 {
            cache.put(key(i), known(i as f32));
            assert!(cache.get(&key(0)).is_some(), "{i}");
            let held = cache.inner.lock().expect("free").entries.len();
            assert!(held <= room, "{held}");
        }
        let last = (0..1000).filter(|&i| cache.get(&key(i)).is_some()).count();
        assert_eq!(last, room);
        let large = Cache::new(100).expect("a budget");
        large.put(key(1), known(1.0));
        assert!(large.get(&key(1)).is_none());
    }
}
