//! The walk: greedy through the upper layers, then a beam over layer 0.

use std::cmp::Reverse;

use super::{Graph, Scratch};
use crate::nearest::Neighbor;
use crate::prefetch::prefetch;
use crate::{Metric, Rows};

/// Rows asked for ahead of the one being measured: about a tenth less time
/// than asking for none, on 98k rows of 384 values. 1 to 16 measured alike.
const AHEAD: usize = 4;

impl Graph {
    /// Finds the `k` nearest slots that `accept` allows, nearest first.
    ///
    /// `rows` are the rows the graph was built over and `query` is prepared.
    /// `ef` is the beam's width, at least `k`: wider finds more of the true
    /// neighbours and costs more time. Slots that are not accepted are walked
    /// through, but not returned. Where few are accepted the walk grows long,
    /// to the whole graph at worst, and [`exact`](crate::exact) over the
    /// accepted slots is the better choice.
    ///
    /// # Panics
    /// If `rows` holds fewer rows than the graph has slots, or `query` has
    /// another length than the rows.
    #[allow(clippy::too_many_arguments)] // What a search is made of.
    pub fn search<R: Rows>(
        &self,
        metric: Metric,
        rows: &R,
        query: &[f32],
        k: usize,
        ef: usize,
        accept: impl Fn(u32) -> bool,
        scratch: &mut Scratch,
    ) -> Vec<Neighbor> {
        assert!(rows.len() >= self.len(), "the rows are the graph's");
        let measure = |slot| metric.distance(query, rows.row(slot));
        let fetch = |slot| prefetch(rows.row(slot));
        self.walk(measure, fetch, k, ef, accept, scratch)
    }

    /// The search with any measure: the audit of a build walks with the
    /// distance of the build.
    pub(super) fn walk(
        &self,
        measure: impl Fn(u32) -> f32,
        fetch: impl Fn(u32),
        k: usize,
        ef: usize,
        accept: impl Fn(u32) -> bool,
        scratch: &mut Scratch,
    ) -> Vec<Neighbor> {
        if self.is_empty() || k == 0 {
            return Vec::new();
        }
        scratch.reset(self.len(), ef.max(k));
        let Scratch { visited, candidates, nearest, fresh } = scratch;

        let entry = Neighbor { slot: self.entry, distance: measure(self.entry) };
        // Every slot can be reached from the entry, and perhaps not from where
        // the descent ends: beginning at both, a wide beam misses nothing.
        for start in [self.descend(entry, &measure), entry] {
            if visited.insert(start.slot) {
                candidates.push(Reverse(start));
                if accept(start.slot) {
                    nearest.offer(start);
                }
            }
        }

        // Beam search, HNSW paper, algorithm 2.
        while let Some(Reverse(near)) = candidates.pop() {
            if nearest.ends_before(near.distance) {
                break;
            }
            fresh.clear();
            fresh.extend(self.links(near.slot).filter(|&slot| visited.insert(slot)));
            fresh.iter().take(AHEAD).for_each(|&slot| fetch(slot));
            for (at, &slot) in fresh.iter().enumerate() {
                if let Some(&ahead) = fresh.get(at + AHEAD) {
                    fetch(ahead);
                }
                let distance = measure(slot);
                if !nearest.admits(distance) {
                    continue;
                }
                candidates.push(Reverse(Neighbor { slot, distance }));
                if accept(slot) {
                    nearest.offer(Neighbor { slot, distance });
                }
            }
        }
        nearest.take(k)
    }

    /// Goes down the upper layers, on each to the slot whose links are all
    /// farther than itself.
    fn descend(&self, mut near: Neighbor, measure: &impl Fn(u32) -> f32) -> Neighbor {
        for layer in self.upper.iter().rev() {
            loop {
                let before = near.slot;
                for &slot in layer.links(before) {
                    let distance = measure(slot);
                    if distance < near.distance {
                        near = Neighbor { slot, distance };
                    }
                }
                if near.slot == before {
                    break;
                }
            }
        }
        near
    }
}
