//! Who decides among the candidates of a search over codes: their rows, or their
//! codes alone.

use super::coded::rescore;
use crate::exact::exact;
use crate::nearest::Neighbor;
use crate::prefetch::prefetch_all;
use crate::{Metric, Rows};

/// What has the last word in a search over codes.
pub(super) trait Judge {
    /// Candidates to be decided on for `k` results, where rows would look at so many.
    fn wanted(&self, k: usize, by_rows: usize) -> usize;

    /// Asks for what deciding on these will read.
    fn ask(&self, near: &[Neighbor]);

    /// The `k` nearest of candidates, nearest first. They come with their distances
    /// by code.
    fn decide(&self, query: &[f32], near: Vec<Neighbor>, k: usize) -> Vec<Neighbor>;

    /// The `k` nearest of slots by their rows, nearest first; nothing if there are
    /// none.
    fn by_rows(&self, query: &[f32], k: usize, slots: impl Iterator<Item = u32>) -> Option<Vec<Neighbor>>;
}

/// The rows decide.
pub(super) struct ByRows<'r, R> {
    pub(super) metric: Metric,
    pub(super) rows: &'r R,
}

impl<R: Rows> Judge for ByRows<'_, R> {
    fn wanted(&self, _: usize, by_rows: usize) -> usize {
        by_rows
    }

    fn ask(&self, near: &[Neighbor]) {
        near.iter().for_each(|near| prefetch_all(self.rows.row(near.slot).bytes()));
    }

    fn decide(&self, query: &[f32], near: Vec<Neighbor>, k: usize) -> Vec<Neighbor> {
        rescore(self.metric, self.rows, query, near, k)
    }

    fn by_rows(&self, query: &[f32], k: usize, slots: impl Iterator<Item = u32>) -> Option<Vec<Neighbor>> {
        Some(exact(self.metric, self.rows, query, k, slots))
    }
}

/// Codes are all there is.
pub(super) struct ByCodesAlone;

impl Judge for ByCodesAlone {
    fn wanted(&self, k: usize, _: usize) -> usize {
        k
    }

    fn ask(&self, _: &[Neighbor]) {}

    fn decide(&self, _: &[f32], mut near: Vec<Neighbor>, k: usize) -> Vec<Neighbor> {
        near.sort_unstable();
        near.truncate(k);
        near
    }

    fn by_rows(&self, _: &[f32], _: usize, _: impl Iterator<Item = u32>) -> Option<Vec<Neighbor>> {
        None
    }
}
