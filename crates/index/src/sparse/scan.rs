//! Scoring rows one by one, where there is no index over them.
//!
//! Sums are taken in `f64` and rounded once, as the index does it, so a row
//! scores the same before and after it is indexed.

use std::cmp::Ordering;

use crate::vector::SparseVector;

/// The inner product of two vectors; `None` if they share no position.
pub(crate) fn dot(query: &SparseVector, stored: &SparseVector) -> Option<f32> {
    let (mut left, mut right) = (query.entries().peekable(), stored.entries().peekable());
    let mut sum: Option<f64> = None;
    while let (Some(&(x, weight)), Some(&(y, value))) = (left.peek(), right.peek()) {
        let order = x.cmp(&y);
        if order == Ordering::Equal {
            *sum.get_or_insert(0.0) += f64::from(weight) * f64::from(value);
        }
        if order.is_le() {
            left.next();
        }
        if order.is_ge() {
            right.next();
        }
    }
    sum.map(|sum| sum as f32)
}

/// A sparse query that is looked up by position, for scoring many rows.
///
/// Open addressing with so much room that a position which is not in the query
/// mostly meets an empty place at once: most positions of a row are not.
pub(crate) struct Weights {
    /// Positions, or [`EMPTY`].
    positions: Vec<u64>,
    values: Vec<f32>,
    shift: u32,
}

/// What no position is.
const EMPTY: u64 = u64::MAX;

/// Places per position of the query.
const ROOM: usize = 16;

impl Weights {
    pub(crate) fn new(query: impl ExactSizeIterator<Item = (u32, f32)>) -> Self {
        let size = (query.len().max(1) * ROOM).next_power_of_two();
        let mut weights = Self {
            positions: vec![EMPTY; size],
            values: vec![0.0; size],
            shift: 32u32.saturating_sub(size.trailing_zeros()),
        };
        for (index, weight) in query {
            let at = weights.place(index);
            weights.positions[at] = u64::from(index);
            weights.values[at] += weight;
        }
        weights
    }

    /// The inner product with a row; `None` if they share no position.
    pub(crate) fn score(&self, row: impl Iterator<Item = (u32, f32)>) -> Option<f32> {
        let mut sum = None;
        for (index, value) in row {
            let at = self.place(index);
            if self.positions[at] != EMPTY {
                *sum.get_or_insert(0.0) += f64::from(self.values[at]) * f64::from(value);
            }
        }
        sum.map(|sum| sum as f32)
    }

    /// Where a position is, or would be.
    fn place(&self, index: u32) -> usize {
        // Fibonacci hashing spreads neighbouring positions.
        let mut at = (index.wrapping_mul(0x9e37_79b9) >> self.shift) as usize;
        while self.positions[at] != EMPTY && self.positions[at] != u64::from(index) {
            at = (at + 1) % self.positions.len();
        }
        at
    }
}
