//! The memory of a search, kept from one query to the next.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use super::scan::Scanned;
use crate::codes::{Int8Buffer, Planes, ProductBuffer, Tables};
use crate::nearest::{Nearest, Neighbor};
use crate::pool::Pool;
use crate::walk::Walker;

/// Buffers that searches reuse, so that a query allocates only its result.
///
/// One per thread, for any number of graphs: it grows to the largest graph and
/// the largest `ef` it has met.
///
/// ```
/// let mut scratch = cairn_ann::Scratch::new();
/// ```
#[derive(Debug, Default)]
pub struct Scratch {
    pub(super) visited: Visited,
    /// Found but not yet expanded, nearest on top.
    pub(super) candidates: BinaryHeap<Reverse<Neighbor>>,
    pub(super) nearest: Nearest,
    /// The unvisited links of the slot being expanded.
    pub(super) fresh: Vec<u32>,
    /// The rejected ones among them, in a walk that steps over them.
    pub(super) rejected: Vec<u32>,
    /// All slots stepped over, in order.
    pub(super) stepped: Vec<u32>,
    /// The walk over codes, and the query as a code.
    pub(super) walker: Walker,
    pub(super) code: Int8Buffer,
    /// The tables of the query for product codes.
    pub(super) product: ProductBuffer,
    /// What estimates of the query are made with, and the best that were measured.
    pub(super) tables: Tables,
    pub(super) planes: Planes,
    pub(super) best: Pool,
    /// What a scan by codes keeps of its slots.
    pub(super) scanned: Scanned,
}

impl Scratch {
    /// Empty buffers.
    pub fn new() -> Self {
        Self::default()
    }

    /// From now on walks pass this position by as if it were not there.
    pub(super) fn hide(&mut self, position: u32) {
        self.visited.hidden = Some(position);
        self.walker.visited.hidden = Some(position);
    }

    /// Forgets the last search and makes room for `len` slots.
    pub(super) fn reset(&mut self, len: usize, ef: usize) {
        self.visited.reset(len);
        self.candidates.clear();
        self.stepped.clear();
        self.nearest.reset(ef);
    }
}

/// A set of slots.
///
/// A bit a slot keeps most of it in the nearest caches, where a link in four is looked
/// up. It is emptied line by line of the cache, and only where something was put.
#[derive(Debug, Default)]
pub(crate) struct Visited {
    lines: Vec<[u64; WORDS]>,
    /// A bit for each line that may not be empty.
    used: Vec<u64>,
    /// In the set from the beginning.
    hidden: Option<u32>,
}

/// Words of a line of the cache.
const WORDS: usize = 8;
/// Lines that are all emptied, for a quarter of a million slots.
const FEW: usize = 512;

impl Visited {
    pub(crate) fn reset(&mut self, len: usize) {
        if self.lines.len() <= FEW {
            self.lines.fill([0; WORDS]);
        }
        for (at, used) in self.used.iter_mut().enumerate() {
            while *used != 0 {
                self.lines[at * 64 + used.trailing_zeros() as usize] = [0; WORDS];
                *used &= *used - 1;
            }
        }
        let lines = len.div_ceil(64 * WORDS);
        if self.lines.len() < lines {
            self.lines.resize(lines, [0; WORDS]);
            self.used.resize(lines.div_ceil(64), 0);
        }
        if let Some(hidden) = self.hidden {
            self.insert(hidden);
        }
    }

    /// Whether a slot is in the set.
    #[inline]
    pub(crate) fn has(&self, slot: u32) -> bool {
        let (line, word, bit) = place(slot);
        self.lines[line][word] & bit != 0
    }

    /// Adds a slot; true if it was not there.
    #[inline]
    pub(crate) fn insert(&mut self, slot: u32) -> bool {
        let (line, word, bit) = place(slot);
        let word = &mut self.lines[line][word];
        let fresh = *word & bit == 0;
        *word |= bit;
        // Where all are emptied, nothing is noted: each note waits for the last.
        if self.lines.len() > FEW {
            self.used[line / 64] |= 1 << (line % 64);
        }
        fresh
    }
}

/// The line of a slot, the word there and its bit.
#[inline]
fn place(slot: u32) -> (usize, usize, u64) {
    let (word, bit) = (slot as usize / 64, 1 << (slot % 64));
    (word / WORDS, word % WORDS, bit)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_visited_set_is_empty_after_each_reset() {
        let mut visited = Visited::default();
        for round in 0..1_000 {
            let slots = [round % 3, 63, 64, 511, 512, 32_767, 32_768, 99_999 - round];
            visited.reset(100_000);
            assert!((0..100_000).all(|slot| !visited.has(slot)), "round {round}");
            assert!(slots.iter().all(|&slot| visited.insert(slot)), "round {round}");
            assert!(slots.iter().all(|&slot| visited.has(slot) && !visited.insert(slot)), "round {round}");
        }
    }

    #[test]
    fn slots_added_by_growing_are_unvisited() {
        let mut visited = Visited::default();
        visited.reset(1);
        visited.reset(1);
        visited.reset(5);
        assert!((0..5).all(|slot| visited.insert(slot)));
    }
}
