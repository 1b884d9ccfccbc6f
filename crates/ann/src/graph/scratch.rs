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

/// A set of slots that is emptied by counting one up.
///
/// A slot is in the set when its stamp is the current generation. A byte a slot
/// keeps more of it in the cache, and every 255 searches it is cleared.
#[derive(Debug, Default)]
pub(crate) struct Visited {
    stamps: Vec<u8>,
    generation: u8,
    /// In the set from the beginning.
    hidden: Option<u32>,
}

impl Visited {
    pub(crate) fn reset(&mut self, len: usize) {
        if self.stamps.len() < len {
            self.stamps.resize(len, 0);
        }
        self.generation = self.generation.wrapping_add(1);
        if self.generation == 0 {
            self.stamps.fill(0);
            self.generation = 1;
        }
        if let Some(hidden) = self.hidden {
            self.insert(hidden);
        }
    }

    /// Whether a slot is in the set.
    pub(crate) fn has(&self, slot: u32) -> bool {
        self.stamps[slot as usize] == self.generation
    }

    /// Adds a slot; true if it was not there.
    pub(crate) fn insert(&mut self, slot: u32) -> bool {
        let stamp = &mut self.stamps[slot as usize];
        let fresh = *stamp != self.generation;
        *stamp = self.generation;
        fresh
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_visited_set_is_empty_after_each_reset_even_when_the_counter_wraps() {
        let mut visited = Visited::default();
        for round in 0..200_000 {
            visited.reset(3);
            assert!(visited.insert(round % 3), "round {round}");
            assert!(!visited.insert(round % 3), "round {round}");
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
