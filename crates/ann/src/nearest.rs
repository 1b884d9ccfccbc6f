//! A neighbour, and the few nearest of many.
//!
//! [`Nearest`] is a bounded heap with the farthest on top: offering one costs
//! a comparison once the heap is full and the offer is far.

use std::cmp::Ordering;
use std::collections::BinaryHeap;

/// A slot and its distance to the query; smaller is nearer.
///
/// Ordered by distance, then slot, so that equal distances have one order.
#[derive(Debug, Clone, Copy)]
pub struct Neighbor {
    /// The row's slot.
    pub slot: u32,
    /// Its distance, by the metric of the search.
    pub distance: f32,
}

impl Ord for Neighbor {
    fn cmp(&self, other: &Self) -> Ordering {
        self.distance.total_cmp(&other.distance).then(self.slot.cmp(&other.slot))
    }
}

impl PartialOrd for Neighbor {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for Neighbor {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other).is_eq()
    }
}

impl Eq for Neighbor {}

/// The `limit` nearest of the neighbours offered so far.
#[derive(Debug, Default)]
pub(crate) struct Nearest {
    limit: usize,
    heap: BinaryHeap<Neighbor>,
}

impl Nearest {
    pub(crate) fn new(limit: usize) -> Self {
        Self { limit, heap: BinaryHeap::new() }
    }

    /// Empties the heap for another search, keeping its memory.
    pub(crate) fn reset(&mut self, limit: usize) {
        self.limit = limit;
        self.heap.clear();
    }

    pub(crate) fn len(&self) -> usize {
        self.heap.len()
    }

    pub(crate) fn is_full(&self) -> bool {
        self.heap.len() >= self.limit
    }

    /// Whether a neighbour at `distance` is nearer than the worst one held.
    ///
    /// A tie does not count: among a thousand equal rows a graph walk would
    /// otherwise visit all of them.
    pub(crate) fn admits(&self, distance: f32) -> bool {
        !self.is_full() || self.heap.peek().is_some_and(|worst| distance < worst.distance)
    }

    /// Whether nothing at `distance` or beyond can be among the nearest.
    pub(crate) fn ends_before(&self, distance: f32) -> bool {
        self.is_full() && self.heap.peek().is_none_or(|worst| distance > worst.distance)
    }

    pub(crate) fn offer(&mut self, neighbor: Neighbor) {
        if !self.is_full() {
            self.heap.push(neighbor);
        } else if let Some(mut worst) = self.heap.peek_mut()
            && neighbor < *worst
        {
            *worst = neighbor;
        }
    }

    /// Takes out the `k` nearest, nearest first. The heap is empty after it.
    pub(crate) fn take(&mut self, k: usize) -> Vec<Neighbor> {
        while self.heap.len() > k {
            self.heap.pop();
        }
        let mut nearest = Vec::with_capacity(self.heap.len());
        nearest.extend(self.heap.drain());
        nearest.sort_unstable();
        nearest
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(slot: u32, distance: f32) -> Neighbor {
        Neighbor { slot, distance }
    }

    #[test]
    fn only_the_nearest_stay_and_ties_go_to_the_lower_slot() {
        let mut nearest = Nearest::new(2);
        for (slot, distance) in [(9, 1.0), (3, 0.5), (4, 1.0), (7, 2.0), (1, 1.0)] {
            nearest.offer(at(slot, distance));
        }
        assert_eq!(nearest.take(2), [at(3, 0.5), at(1, 1.0)]);
    }

    #[test]
    fn a_limit_of_zero_takes_nothing() {
        let mut nearest = Nearest::new(0);
        nearest.offer(at(1, 0.0));
        assert!(nearest.take(10).is_empty());
    }
}
