//! The best rows so far.

use std::cmp::Ordering;
use std::collections::BinaryHeap;

/// At most `k` rows, the best of those offered: larger scores first, of equal
/// scores the lower slot. Scores at or below the floor are not kept.
#[derive(Default)]
pub(super) struct Best {
    k: usize,
    floor: f32,
    heap: BinaryHeap<Scored>,
}

/// Ordered so that the worst is the greatest.
#[derive(Clone, Copy)]
struct Scored {
    score: f32,
    slot: u32,
}

impl Best {
    pub(super) fn start(&mut self, k: usize, floor: Option<f32>) {
        self.k = k;
        self.floor = floor.unwrap_or(f32::NEG_INFINITY);
        self.heap.clear();
    }

    /// A row that does not score above this is not among the best, unless its
    /// slot is lower than that of a row of the same score.
    pub(super) fn threshold(&self) -> f32 {
        match self.heap.peek() {
            Some(worst) if self.heap.len() == self.k => worst.score.max(self.floor),
            _ => self.floor,
        }
    }

    pub(super) fn has_room_for(&self, slot: u32, score: f32) -> bool {
        let above = score > self.floor || self.floor == f32::NEG_INFINITY;
        above
            && (self.heap.len() < self.k
                || self.heap.peek().is_some_and(|&worst| Scored { score, slot } < worst))
    }

    pub(super) fn offer(&mut self, slot: u32, score: f32) {
        if !self.has_room_for(slot, score) {
            return;
        }
        if self.heap.len() < self.k {
            self.heap.push(Scored { score, slot });
        } else if let Some(mut worst) = self.heap.peek_mut() {
            *worst = Scored { score, slot };
        }
    }

    pub(super) fn take(&mut self) -> Vec<(u32, f32)> {
        let best = std::mem::take(&mut self.heap).into_sorted_vec();
        best.into_iter().map(|Scored { score, slot }| (slot, score)).collect()
    }
}

impl Ord for Scored {
    fn cmp(&self, other: &Self) -> Ordering {
        other.score.total_cmp(&self.score).then(self.slot.cmp(&other.slot))
    }
}

impl PartialOrd for Scored {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for Scored {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other) == Ordering::Equal
    }
}

impl Eq for Scored {}
