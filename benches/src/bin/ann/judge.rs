//! How much of what should be found was found.

use std::collections::HashSet;

use cairn_benches::npy::Matrix;

use crate::K;
use crate::sets::Set;

/// What another order of summing may change.
const TOLERANCE: f32 = 1e-6;

pub(crate) struct Judge<'a> {
    set: &'a Set,
    /// For each query the distance of its true `K`-th, and a little more, so
    /// that ties are no misses.
    bounds: Vec<f32>,
}

impl<'a> Judge<'a> {
    pub(crate) fn new(set: &'a Set) -> Self {
        let bound = |(query, truth): (&[f32], &[i32])| {
            let last = distance(set, query, truth[K - 1]);
            last + TOLERANCE * last.abs()
        };
        Self { set, bounds: set.queries.rows().zip(set.truth.rows()).map(bound).collect() }
    }

    /// The share found, given the ids for each query; -1 is none.
    pub(crate) fn recall(&self, ids: &Matrix<i32>) -> f64 {
        let mut found = 0;
        for ((query, ids), bound) in self.set.queries.rows().zip(ids.rows()).zip(&self.bounds) {
            let distinct: HashSet<i32> = ids.iter().copied().take(K).collect();
            let real = |id: &&i32| (0..self.set.len as i32).contains(*id);
            found +=
                distinct.iter().filter(real).filter(|&&id| distance(self.set, query, id) <= *bound).count();
        }
        found as f64 / (K * self.bounds.len()).max(1) as f64
    }
}

fn distance(set: &Set, query: &[f32], id: i32) -> f32 {
    set.metric.distance(query, &set.base.values[id as usize * set.base.columns..][..set.base.columns])
}
