//! The walk: greedy through the upper layers, then a beam over layer 0.

#![allow(clippy::inline_always)] // Parts of loops that are compiled per instruction set.

use std::cmp::Reverse;

use super::judge::ByRows;
use super::lanes::LANES;
use super::{Graph, Scratch};
use crate::metric::Query;
use crate::nearest::Neighbor;
use crate::prefetch::prefetch;
use crate::{Metric, Rows};

/// Rows asked for ahead of the one being measured: about a tenth less time
/// than asking for none, on 98k rows of 384 values. 1 to 16 measured alike.
const AHEAD: usize = 4;

/// How far a walk looks around.
///
/// From a number it is that many candidates, as `ef` in the HNSW paper.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Beam {
    /// Candidates that a walk keeps, at least `k`: more find more of the true
    /// neighbours and cost more time.
    pub ef: usize,
    /// Candidates that it goes on from in any case, at most `ef`. With fewer than
    /// `k` it may find fewer than `k` within the bound.
    pub least: usize,
    /// It goes on from others only within this distance. Whoever searches one
    /// graph after another knows how near the next results have to be.
    pub bound: f32,
}

impl From<usize> for Beam {
    fn from(ef: usize) -> Self {
        Self { ef, least: ef, bound: f32::INFINITY }
    }
}

impl Beam {
    /// Wide enough for `k` results.
    pub(super) fn for_k(self, k: usize) -> Self {
        let ef = self.ef.max(k);
        Self { ef, least: self.least.min(ef), bound: self.bound }
    }

    /// How many candidates in a row a walk by estimates measures in vain before it
    /// ends. One that would go on from all of `len` does not end before. On 98k
    /// passages that saves a tenth of the hops at a recall of 0.97, a sixth at 0.99.
    pub(super) fn patience(self, len: usize) -> usize {
        if self.ef < len { self.ef / 4 + 8 } else { usize::MAX }
    }
}

impl Graph {
    /// Finds the `k` nearest slots that `accept` allows, nearest first.
    ///
    /// `rows` are the rows the graph was built over and `query` is prepared.
    /// `beam` is usually just `ef`, how many candidates are kept, at least `k`:
    /// more find more of the true neighbours and cost more time. Slots that are not accepted are measured
    /// and walked through, but not returned. Where few are accepted the walk
    /// grows long, to the whole graph at worst;
    /// [`search_filtered`](Self::search_filtered) is made for that.
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
        beam: impl Into<Beam>,
        accept: impl Fn(u32) -> bool,
        scratch: &mut Scratch,
    ) -> Vec<Neighbor> {
        assert!(rows.len() >= self.len(), "the rows are the graph's");
        if let Some(coded) = &self.coded {
            return self.search_coded(
                coded,
                &ByRows { metric, rows },
                query,
                k,
                beam.into(),
                accept,
                scratch,
            );
        }
        let query = Query::new(metric, query);
        let measure = |slot| query.distance(rows.row(slot));
        let fetch = |slot| prefetch(rows.row(slot).bytes());
        self.search_by(measure, fetch, k, beam, accept, scratch)
    }

    /// [`search`](Self::search) for several queries, the results in their order.
    ///
    /// Over codes of a byte a value and over [`Codes::Fast`](crate::Codes::Fast) the
    /// thread has two walks under way, a step of each in turn: while what one needs
    /// comes from memory, the other measures. `scratches` grows to two.
    ///
    /// ```
    /// use cairn_ann::{FlatRows, GraphBuilder, HnswRsBuilder, Metric};
    ///
    /// let values = [0.0f32, 1.0, 2.0, 3.0, 4.0];
    /// let rows = FlatRows::new(1, &values)?;
    /// let graph = HnswRsBuilder::default().build(Metric::Euclid, &rows, &|| false)?;
    /// let queries: [&[f32]; 2] = [&[0.9], &[4.2]];
    /// let near = graph.search_batch(Metric::Euclid, &rows, &queries, 1, 16, |_| true, &mut Vec::new());
    /// assert_eq!((near[0][0].slot, near[1][0].slot), (1, 4));
    /// # Ok::<(), cairn_ann::Error>(())
    /// ```
    ///
    /// # Panics
    /// As [`search`](Self::search) does.
    #[allow(clippy::too_many_arguments)] // What a search is made of.
    pub fn search_batch<R: Rows>(
        &self,
        metric: Metric,
        rows: &R,
        queries: &[&[f32]],
        k: usize,
        beam: impl Into<Beam>,
        accept: impl Fn(u32) -> bool,
        scratches: &mut Vec<Scratch>,
    ) -> Vec<Vec<Neighbor>> {
        assert!(rows.len() >= self.len(), "the rows are the graph's");
        let (beam, judge) = (beam.into(), ByRows { metric, rows });
        let many = queries.len().clamp(1, LANES).max(scratches.len());
        scratches.resize_with(many, Scratch::new);
        let Some(coded) = &self.coded else {
            let scratch = &mut scratches[0];
            let search = |query: &&[f32]| self.search(metric, rows, query, k, beam, &accept, scratch);
            return queries.iter().map(search).collect();
        };
        let groups = queries.chunks(LANES);
        groups
            .flat_map(|group| self.search_coded_some(coded, &judge, group, k, beam, &accept, scratches))
            .collect()
    }

    /// The search by any measure: several queries at once, rows of several
    /// vectors, scores of one's own.
    ///
    /// `measure` gives a slot's distance, smaller being nearer. It finds the
    /// nearest as far as it agrees with what the graph was built by. `prefetch`
    /// is told of slots that will be measured soon, and may do nothing.
    ///
    /// ```
    /// use cairn_ann::{FlatRows, GraphBuilder, HnswRsBuilder, Metric, Scratch};
    ///
    /// let values = [0.0f32, 1.0, 2.0, 3.0, 4.0];
    /// let rows = FlatRows::new(1, &values)?;
    /// let graph = HnswRsBuilder::default().build(Metric::Manhattan, &rows, &|| false)?;
    /// let either = |slot: u32| {
    ///     let value = values[slot as usize];
    ///     (value - 0.9).abs().min((value - 4.2).abs())
    /// };
    /// let near = graph.search_by(either, |_| (), 2, 16, |_| true, &mut Scratch::new());
    /// assert_eq!((near[0].slot, near[1].slot), (1, 4));
    /// # Ok::<(), cairn_ann::Error>(())
    /// ```
    pub fn search_by(
        &self,
        measure: impl Fn(u32) -> f32,
        prefetch: impl Fn(u32),
        k: usize,
        beam: impl Into<Beam>,
        accept: impl Fn(u32) -> bool,
        scratch: &mut Scratch,
    ) -> Vec<Neighbor> {
        let slots = self.slots();
        let measure = |position| measure(slots.of(position));
        let prefetch = |position| prefetch(slots.of(position));
        let accept = |position| accept(slots.of(position));
        let found = self.walk(&measure, &prefetch, k, beam.into(), &accept, usize::MAX, scratch);
        slots.name(found.expect("there is no limit to what it measures"))
    }

    /// The walk that measures every slot it meets; nothing if those are more
    /// than `limit`.
    #[allow(clippy::too_many_arguments)] // What a search is made of.
    pub(super) fn walk(
        &self,
        measure: &impl Fn(u32) -> f32,
        prefetch: &impl Fn(u32),
        k: usize,
        beam: Beam,
        accept: &impl Fn(u32) -> bool,
        limit: usize,
        scratch: &mut Scratch,
    ) -> Option<Vec<Neighbor>> {
        if self.is_empty() || k == 0 {
            return Some(Vec::new());
        }
        let Beam { ef, least, bound } = beam.for_k(k);
        scratch.reset(self.len(), ef);
        self.start(measure, accept, scratch);
        let Scratch { visited, candidates, nearest, fresh, .. } = scratch;
        let mut left = limit;
        let links = self.base();

        // Beam search, HNSW paper, algorithm 2.
        while let Some(Reverse(near)) = candidates.pop() {
            if nearest.ends_before(near.distance) || near.distance > bound && nearest.len() >= least {
                break;
            }
            fresh.clear();
            fresh.extend(links.of(near.slot).filter(|&slot| visited.insert(slot)));
            left = left.checked_sub(fresh.len())?;
            each_ahead(fresh, prefetch, |slot| {
                let distance = measure(slot);
                if !nearest.admits(distance) {
                    return;
                }
                candidates.push(Reverse(Neighbor { slot, distance }));
                if accept(slot) {
                    nearest.offer(Neighbor { slot, distance });
                }
            });
        }
        Some(nearest.take(k))
    }

    /// Puts the slots that a walk over layer 0 begins at among the candidates.
    ///
    /// Every slot can be reached from the entry, and perhaps not from where the
    /// descent ends: beginning at both, a wide beam misses nothing. Gives the
    /// latter, which is near the query whatever is accepted.
    pub(super) fn start(
        &self,
        measure: &impl Fn(u32) -> f32,
        accept: &impl Fn(u32) -> bool,
        scratch: &mut Scratch,
    ) -> Neighbor {
        let entry = Neighbor { slot: self.entry, distance: measure(self.entry) };
        let near = self.descend(entry, measure);
        for start in [near, entry] {
            if scratch.visited.insert(start.slot) {
                scratch.candidates.push(Reverse(start));
                if accept(start.slot) {
                    scratch.nearest.offer(start);
                }
            }
        }
        near
    }

    /// Goes down the upper layers, on each to the slot whose links are all
    /// farther than itself.
    #[inline(always)]
    pub(crate) fn descend(&self, mut near: Neighbor, measure: &impl Fn(u32) -> f32) -> Neighbor {
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

/// Does something with each slot, asking for the rows of the next ones ahead.
#[inline]
pub(super) fn each_ahead(slots: &[u32], prefetch: &impl Fn(u32), mut each: impl FnMut(u32)) {
    slots.iter().take(AHEAD).for_each(|&slot| prefetch(slot));
    for (at, &slot) in slots.iter().enumerate() {
        if let Some(&ahead) = slots.get(at + AHEAD) {
            prefetch(ahead);
        }
        each(slot);
    }
}
