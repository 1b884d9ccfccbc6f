//! The search when a filter rejects many slots.
//!
//! Measuring what is then thrown away costs most of such a search, and leaving
//! it out cuts the graph to pieces. So, as in ACORN-1 (Patel et al., 2024), the
//! links of a rejected slot stand in for the slot: the walk steps over it,
//! unmeasured, to the accepted slots behind it. Where a region holds none, the
//! walk goes on through rejected slots in the order it met them.
//!
//! Two filters defeat any walk: one that accepts next to nothing, and one that
//! accepts just what is far from the query. Both are noticed, and then all
//! accepted slots are measured. Fewer than `k` are returned only if fewer are
//! accepted.

#![allow(clippy::inline_always)] // Parts of loops that are compiled per instruction set.

use std::cmp::Reverse;

use super::judge::{ByRows, Judge};
use super::search::each_ahead;
use super::{Beam, Coded, Graph, Scratch};
use crate::exact::scan;
use crate::metric::Query;
use crate::nearest::Neighbor;
use crate::pool::{distance, rank};
use crate::prefetch::prefetch as fetch;
use crate::simd::Simd;
use crate::walk::{Measure, Walker};
use crate::{Metric, Rows};

/// Accepted slots per slot of the beam up to which all of them are measured: a
/// walk that finds 99 % takes as long. Measured, as all below, on 98k rows of
/// 384 values.
const SCANNED_PER_EF: f32 = 64.0;
/// Share of accepted slots from which measuring the rejected ones too is no
/// slower for the same recall. At a fifth the ways are equal for a filter that
/// accepts at random, and stepping over is twice as fast for one that accepts
/// neighbours; at a half it is a fifth slower.
const WALKED_THROUGH: f32 = 0.3;
/// What a slot costs in a scan by codes, a slot of the beam in a walk through
/// rejected slots, and one in a walk that steps over them. Only how they compare
/// matters.
const NANOS_SCANNED: f32 = 10.0;
const NANOS_WALKED: f32 = 1300.0;
const NANOS_STEPPED_OVER: f32 = 9000.0;
/// Slots that a walk through rejected ones may keep, for each that it should.
const ROOM: f32 = 1.5;
/// Slots that such a walk goes on from before it first looks how many of them
/// are accepted.
const FIRST_LOOK: usize = 32;
/// Share of accepted slots from which a walk does not look at the filter before
/// its end.
const NEARLY_ALL: f32 = 0.9;
/// Slots stepped over from one slot, per link it has room for. With 1 the
/// recall at 2 % accepted falls below that of an unfiltered search, with 8 the
/// search is a third as fast.
const STEPS_PER_LINK: usize = 2;
/// The narrowest beam that tells a filter by distance from others.
const NARROWEST: usize = 32;
/// If the beam's results lie as close together as this part of their way from
/// where the query is, the filter accepts by distance. Those that accept the
/// farthest gave below 0.005, those that accept a cluster elsewhere 0.2 and more.
const SHELL: f32 = 0.05;

/// How to find the nearest of the accepted slots.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Strategy {
    /// Measure all accepted slots, like [`exact`](crate::exact).
    Scan,
    /// Walk over accepted slots, stepping over rejected ones.
    StepOver,
    /// Walk over all slots, measuring rejected ones too, like
    /// [`Graph::search`].
    WalkThrough,
}

/// How to search `len` slots with a beam of `ef`, where `accepted_share` of
/// them are accepted, 0 to 1.
///
/// [`Graph::search_filtered`] does as this says. A caller that has the accepted
/// slots as a list does a [`Strategy::Scan`] better itself, with
/// [`exact`](crate::exact).
///
/// ```
/// use cairn_ann::{Strategy, filtered_strategy};
///
/// assert_eq!(filtered_strategy(0.01, 100_000, 64), Strategy::Scan);
/// assert_eq!(filtered_strategy(0.1, 100_000, 64), Strategy::StepOver);
/// assert_eq!(filtered_strategy(0.6, 100_000, 64), Strategy::WalkThrough);
/// ```
pub fn filtered_strategy(accepted_share: f32, len: usize, ef: usize) -> Strategy {
    let few = accepted_share * len as f32 <= SCANNED_PER_EF * ef as f32;
    // What is not a number knows nothing: a scan is always right.
    if few || accepted_share.is_nan() {
        Strategy::Scan
    } else if accepted_share < WALKED_THROUGH {
        Strategy::StepOver
    } else {
        Strategy::WalkThrough
    }
}

/// Which slots or positions are accepted, and about what part of all they are.
pub(super) struct Filter<'a, A> {
    pub(super) share: f32,
    pub(super) accept: &'a A,
}

impl Graph {
    /// Finds the `k` nearest slots that `accept` allows, nearest first, in the
    /// way that suits how many those are.
    ///
    /// As [`search`](Self::search), with `accepted_share`, the part of all slots
    /// that `accept` allows, 0 to 1. An estimate will do: it decides the time
    /// taken and little else. For the same `ef`, recall is about that of a
    /// search without a filter, or better.
    ///
    /// # Panics
    /// If `rows` holds fewer rows than the graph has slots, or `query` has
    /// another length than the rows.
    #[allow(clippy::too_many_arguments)] // What a search is made of.
    pub fn search_filtered<R: Rows>(
        &self,
        metric: Metric,
        rows: &R,
        query: &[f32],
        k: usize,
        beam: impl Into<Beam>,
        accepted_share: f32,
        accept: impl Fn(u32) -> bool,
        scratch: &mut Scratch,
    ) -> Vec<Neighbor> {
        let found = self.walk_accepted(metric, rows, query, k, beam, accepted_share, &accept, scratch);
        found.unwrap_or_else(|| {
            let accepted = (0..self.len() as u32).filter(|&slot| accept(slot));
            self.scan(metric, rows, query, k, accepted, scratch)
        })
    }

    /// [`search_filtered`](Self::search_filtered) as far as a walk does it: `None`
    /// where it is better to measure all accepted slots. Whoever has them as a
    /// list does that with [`scan`](Self::scan), without asking about each slot.
    ///
    /// # Panics
    /// As [`search_filtered`](Self::search_filtered).
    #[allow(clippy::too_many_arguments)] // What a search is made of.
    pub fn walk_accepted<R: Rows>(
        &self,
        metric: Metric,
        rows: &R,
        query: &[f32],
        k: usize,
        beam: impl Into<Beam>,
        accepted_share: f32,
        accept: impl Fn(u32) -> bool,
        scratch: &mut Scratch,
    ) -> Option<Vec<Neighbor>> {
        assert!(rows.len() >= self.len(), "the rows are the graph's");
        let (beam, filter) = (beam.into(), Filter { share: accepted_share, accept: &accept });
        if let Some(coded) = &self.coded {
            let judge = ByRows { metric, rows };
            return self.walk_coded(coded, &judge, query, k, beam, &filter, scratch);
        }
        let query = Query::new(metric, query);
        let measure = |slot| query.distance(rows.row(slot));
        let ahead = |slot| fetch(rows.row(slot).bytes());
        self.walk_filtered(&measure, &ahead, k, beam, &filter, scratch)
    }

    /// The walk over codes that suits a filter; nothing if a scan is better.
    #[allow(clippy::too_many_arguments)] // What a search is made of.
    pub(super) fn walk_coded<A: Fn(u32) -> bool>(
        &self,
        coded: &Coded,
        judge: &impl Judge,
        query: &[f32],
        k: usize,
        beam: Beam,
        filter: &Filter<'_, A>,
        scratch: &mut Scratch,
    ) -> Option<Vec<Neighbor>> {
        if filter.share >= NEARLY_ALL {
            return Some(self.search_coded(coded, judge, query, k, beam, filter.accept, scratch));
        }
        self.search_coded_filtered(coded, judge, query, k, beam, filter, scratch)
    }

    /// [`search_filtered`](Self::search_filtered) by any measure, see
    /// [`search_by`](Self::search_by).
    #[allow(clippy::too_many_arguments)] // What a search is made of.
    pub fn search_filtered_by(
        &self,
        measure: impl Fn(u32) -> f32,
        prefetch: impl Fn(u32),
        k: usize,
        beam: impl Into<Beam>,
        accepted_share: f32,
        accept: impl Fn(u32) -> bool,
        scratch: &mut Scratch,
    ) -> Vec<Neighbor> {
        let slots = self.slots();
        let at = |position| measure(slots.of(position));
        let ahead = |position| prefetch(slots.of(position));
        let filter = Filter { share: accepted_share, accept: &|position| accept(slots.of(position)) };
        match self.walk_filtered(&at, &ahead, k, beam.into(), &filter, scratch) {
            Some(found) => slots.name(found),
            None => scan((0..self.len() as u32).filter(|&slot| accept(slot)), measure, prefetch, k),
        }
    }

    /// How to find the nearest of accepted slots with a beam of `ef`, where
    /// `accepted_share` of all are accepted, 0 to 1.
    ///
    /// [`search_filtered`](Self::search_filtered) does as this says. A caller that
    /// has the accepted slots as a list does better with [`scan`](Self::scan) if
    /// that is the answer. Of a graph without codes it is that of
    /// [`filtered_strategy`].
    pub fn filtered_strategy(&self, accepted_share: f32, ef: usize) -> Strategy {
        if self.coded.is_none() {
            return filtered_strategy(accepted_share, self.len(), ef);
        }
        let (share, ef) = (accepted_share, ef as f32);
        let scan = share * self.len() as f32 * NANOS_SCANNED;
        let through = ef / share * NANOS_WALKED;
        let over = ef * NANOS_STEPPED_OVER;
        // What is not a number knows nothing: a scan is always right.
        if scan.is_nan() || scan <= through.min(over) {
            Strategy::Scan
        } else if through <= over {
            Strategy::WalkThrough
        } else {
            Strategy::StepOver
        }
    }

    /// The walk over codes that measures rejected slots too, until it has gone on
    /// from `ef` that are accepted; nothing if a scan is better.
    #[inline(always)]
    pub(super) fn walk_through<S: Simd, M: Measure, A: Fn(u32) -> bool>(
        &self,
        measure: &M,
        k: usize,
        beam: Beam,
        filter: &Filter<'_, A>,
        walker: &mut Walker,
    ) -> Option<Vec<Neighbor>> {
        let Filter { share, accept } = *filter;
        let (links, bound) = (self.base(), rank(beam.bound));
        let width = (ROOM * beam.ef as f32 / share.clamp(WALKED_THROUGH / 2.0, 1.0)) as usize;
        let near = self.descend_coded::<S, M>(measure);
        walker.begin::<S, M>(links, measure, [near.1, self.entry], width);
        let mut least = FIRST_LOOK.min(beam.ef);
        loop {
            walker.go_on::<S, M>(links, measure, (least, 0));
            let met = || walker.pool.iter().take(least);
            let accepted = met().filter(|&(_, position)| accept(position)).count();
            let is_beyond = met().last().is_some_and(|(rank, _)| rank > bound);
            if accepted >= beam.ef || accepted >= beam.least && is_beyond {
                break;
            }
            if least >= walker.pool.len() {
                if accepted < beam.ef.div_ceil(2) {
                    return None;
                }
                break;
            }
            // So many it takes if it goes on like this.
            let needed = least * beam.ef / (accepted + 1);
            if needed > 2 * width {
                return None;
            }
            least = needed.clamp(least + least / 4 + 1, 2 * least + 1).min(width);
        }
        let accepted = walker.pool.iter().filter(|&(_, position)| accept(position));
        let mut found = Vec::with_capacity(k);
        found.extend(accepted.take(k).map(|(rank, slot)| Neighbor { slot, distance: distance(rank) }));
        Some(found)
    }

    /// The walk that suits a filter, by position; nothing if a scan is better.
    pub(super) fn walk_filtered<A: Fn(u32) -> bool>(
        &self,
        measure: &impl Fn(u32) -> f32,
        prefetch: &impl Fn(u32),
        k: usize,
        beam: Beam,
        filter: &Filter<'_, A>,
        scratch: &mut Scratch,
    ) -> Option<Vec<Neighbor>> {
        let Filter { share, accept } = *filter;
        match filtered_strategy(share, self.len(), beam.ef.max(k)) {
            Strategy::Scan => None,
            Strategy::StepOver => self.step_over(measure, prefetch, k, beam, accept, scratch),
            Strategy::WalkThrough => {
                let half_a_scan = (share * self.len() as f32 / 2.0) as usize;
                self.walk(measure, prefetch, k, beam, accept, half_a_scan, scratch)
            }
        }
    }

    /// The walk that steps over rejected slots; nothing if a scan is better.
    pub(super) fn step_over(
        &self,
        measure: &impl Fn(u32) -> f32,
        prefetch: &impl Fn(u32),
        k: usize,
        beam: Beam,
        accept: &impl Fn(u32) -> bool,
        scratch: &mut Scratch,
    ) -> Option<Vec<Neighbor>> {
        if self.is_empty() || k == 0 {
            return Some(Vec::new());
        }
        let ef = beam.ef.max(k).max(NARROWEST);
        scratch.reset(self.len(), ef);
        let start = self.start(measure, accept, scratch);
        let mut resumed = 0;
        while let Some(from) = scratch.next(&mut resumed) {
            if resumed > self.len() / 16 {
                return None;
            }
            self.reach(from, accept, scratch);
            let Scratch { candidates, nearest, fresh, .. } = scratch;
            each_ahead(fresh, prefetch, |slot| {
                let distance = measure(slot);
                if nearest.admits(distance) {
                    candidates.push(Reverse(Neighbor { slot, distance }));
                    nearest.offer(Neighbor { slot, distance });
                }
            });
        }
        let mut found = scratch.nearest.take(ef);
        if is_shell(&found, start) {
            return None;
        }
        found.truncate(k);
        Some(found)
    }

    /// Collects the accepted slots around `from`: those it is linked with, then
    /// those behind rejected ones, which are stepped over in the order met.
    fn reach(&self, from: u32, accept: &impl Fn(u32) -> bool, scratch: &mut Scratch) {
        let Scratch { visited, fresh, rejected, stepped, .. } = scratch;
        let (links, stride) = (self.base(), self.stride());
        fresh.clear();
        rejected.clear();
        let (mut slot, mut met, mut steps) = (from, 0, 0);
        loop {
            for link in links.of(slot) {
                if visited.has(link) {
                    continue;
                }
                if accept(link) {
                    visited.insert(link);
                    fresh.push(link);
                } else {
                    fetch(links.record(link));
                    rejected.push(link);
                }
            }
            let Some(next) = rejected[met..].iter().position(|&slot| !visited.has(slot)) else {
                return;
            };
            if fresh.len() >= stride || steps == STEPS_PER_LINK * stride {
                // The rest is looked at again only if the walk runs dry.
                stepped.push(from);
                return;
            }
            slot = rejected[met + next];
            met += next + 1;
            steps += 1;
            visited.insert(slot);
            stepped.push(slot);
        }
    }
}

impl Scratch {
    /// The slot to go on from: the nearest candidate, or while there are too
    /// few results the next one that was stepped over. None when the walk is
    /// done.
    fn next(&mut self, resumed: &mut usize) -> Option<u32> {
        match self.candidates.pop() {
            Some(Reverse(near)) if self.nearest.ends_before(near.distance) => None,
            Some(Reverse(near)) => Some(near.slot),
            None if self.nearest.is_full() => None,
            None => {
                let next = self.stepped.get(*resumed).copied();
                *resumed += 1;
                next
            }
        }
    }
}

/// Whether what was found, from nearest to farthest, is equally far from the
/// query compared with where the walk started. The accepted slots then lie
/// around the query like a shell, and a walk sees a small part of its inside.
fn is_shell(found: &[Neighbor], start: Neighbor) -> bool {
    let [nearest, .., farthest] = found else { return false };
    let thickness = farthest.distance - nearest.distance;
    let way = nearest.distance - start.distance;
    // Equally far to the bit are equal rows; there is nothing nearer to find.
    found.len() >= NARROWEST && thickness > 0.0 && thickness < SHELL * way
}
