//! Builds a graph over rows of which parts have graphs already.
//!
//! Most of what a build looks for is known then: the near rows within a part. The
//! largest graph stays as it is. Each row of the others walks from a near one in
//! the largest and from its own links at once, and its links are pruned from all
//! it met; whoever it is linked to gets links back, as when a row is inserted.

#![allow(clippy::inline_always)] // Parts of loops that are compiled per instruction set.

use super::codes::{BuildCodes, From, Sums};
use super::native::{Grown, SLACK, finished, sizes};
use super::twins::Twins;
use crate::codes::{Int8, MIN_CODED_DIM};
use crate::graph::NONE;
use crate::nearest::Neighbor;
use crate::simd::{Simd, Task, run};
use crate::walk::Measure;
use crate::{Error, Graph, GraphBuilder, Metric, NativeBuilder, Result, Rows};

/// Rows inserted between two looks at whether the merge was cancelled.
const BATCH: usize = 1024;
/// A graph that lost more of its slots than one in so many is not used.
const MOST_LOST: usize = 2;

/// A graph over some of the rows of a larger one.
#[derive(Debug, Clone, Copy)]
pub struct Merged<'g> {
    /// The graph, quantized or not.
    pub graph: &'g Graph,
    /// For each of its slots the slot of the same row among all rows; none if it
    /// is not among them.
    pub slots: &'g [Option<u32>],
}

impl NativeBuilder {
    /// Builds a graph over all rows from graphs over parts of them.
    ///
    /// Costs a walk for each row that is not in the largest of the graphs: three
    /// graphs of together 98k rows of 384 values take 2 s on two threads, a build
    /// 5 s. Rows may be in no graph; a row that
    /// two graphs claim belongs to the larger. A graph that lost half of its slots
    /// is not used. Otherwise as [`build`](GraphBuilder::build), also in what it
    /// finds.
    ///
    /// ```
    /// use cairn_ann::{FlatRows, GraphBuilder, Merged, Metric, NativeBuilder};
    ///
    /// let values: Vec<f32> = (0..16_000).map(|at| (at as f32 * 0.7).sin()).collect();
    /// let (few, all) = (FlatRows::new(16, &values[..9_600])?, FlatRows::new(16, &values)?);
    /// let builder = NativeBuilder::default();
    /// let first = builder.build(Metric::Euclid, &few, &|| false)?;
    /// let slots: Vec<Option<u32>> = (0..600).map(Some).collect();
    /// let part = Merged { graph: &first, slots: &slots };
    /// let graph = builder.merge(Metric::Euclid, &all, &[part], &|| false)?;
    /// assert_eq!(graph.len(), 1000);
    /// # Ok::<(), cairn_ann::Error>(())
    /// ```
    ///
    /// # Errors
    /// As [`build`](GraphBuilder::build).
    ///
    /// # Panics
    /// If `slots` of a part is shorter than its graph, or names a slot that is
    /// not among the rows.
    pub fn merge<R: Rows>(
        &self,
        metric: Metric,
        rows: &R,
        parts: &[Merged<'_>],
        cancelled: &(dyn Fn() -> bool + Sync),
    ) -> Result<Graph> {
        self.check(rows.len())?;
        if rows.dim() < MIN_CODED_DIM {
            return self.build(metric, rows, cancelled);
        }
        let twins = Twins::find(rows);
        let joint = Joint::new(rows.len(), &twins.firsts, parts);
        let Some(lead) = joint.placed.first() else { return self.build(metric, rows, cancelled) };
        let codes = Int8::encode(metric, rows, &joint.order);
        let sums = Sums::of(&codes);
        let codes_at = BuildCodes::new(&codes, &sums);
        let stride = 2 * self.m;
        let mut grown = joint.links(stride);
        let work = self.work(metric, cancelled);
        let later: Vec<u32> = joint.later(&grown).collect();
        for batch in later.chunks(BATCH) {
            if cancelled() {
                return Err(Error::Cancelled);
            }
            work.insert(&codes_at, &mut grown, stride, batch, |position| lead.near(&codes_at, position));
        }
        let base = work.within(&codes_at, &grown, stride);

        // Who is above is drawn anew: each graph drew for its own rows.
        let mut above: Vec<u32> = (0..joint.order.len() as u32).collect();
        fastrand::Rng::with_seed(self.seed).shuffle(&mut above);
        above.truncate(sizes(above.len()).get(1).copied().unwrap_or(1));
        let codes_above = codes.reordered(&above);
        let sums_above = Sums::of(&codes_above);
        let codes_above = BuildCodes::new(&codes_above, &sums_above);
        let layers = work.grow_above(&codes_above, self.m, joint.order.len())?;
        let slots_above: Vec<u32> = above.iter().map(|&at| joint.order[at as usize]).collect();
        Ok(finished(metric, rows, &twins, (&base, &joint.order), (&layers, &slots_above)))
    }
}

/// Where the rows of all parts lie: those of the largest graph first, each in the
/// order of its graph, where what is near lies together.
struct Joint<'g> {
    /// The slot of each position.
    order: Vec<u32>,
    placed: Vec<Placed<'g>>,
}

/// A graph with the new positions of its old ones, `NONE` for lost ones.
struct Placed<'g> {
    graph: &'g Graph,
    positions: Vec<u32>,
    kept: usize,
}

impl<'g> Joint<'g> {
    fn new(len: usize, firsts: &[u32], parts: &[Merged<'g>]) -> Self {
        let mut free = vec![false; len];
        firsts.iter().for_each(|&slot| free[slot as usize] = true);
        let mut by_size: Vec<&Merged<'g>> = parts.iter().collect();
        let kept =
            |part: &Merged<'_>| part.slots.iter().flatten().filter(|&&slot| free[slot as usize]).count();
        by_size.retain(|part| kept(part) > 0 && kept(part) * MOST_LOST >= part.graph.len());
        by_size.sort_by_key(|part| std::cmp::Reverse(kept(part)));
        let (mut order, mut placed) = (Vec::with_capacity(firsts.len()), Vec::new());
        for part in by_size {
            let before = order.len();
            let mut place = |position: u32| {
                let slot = part.slots[part.graph.slot(position) as usize].filter(|&slot| free[slot as usize]);
                let Some(slot) = slot else { return NONE };
                free[slot as usize] = false;
                order.push(slot);
                order.len() as u32 - 1
            };
            let positions = (0..part.graph.len() as u32).map(&mut place).collect();
            placed.push(Placed { graph: part.graph, positions, kept: order.len() - before });
        }
        order.extend(firsts.iter().filter(|&&slot| free[slot as usize]));
        Self { order, placed }
    }

    /// The links that the graphs have, where their rows lie now.
    fn links(&self, stride: usize) -> Grown {
        let mut grown = Grown::unlinked(self.order.len(), stride + stride / SLACK);
        let mut links = Vec::new();
        for Placed { graph, positions, .. } in &self.placed {
            let new = |old: u32| Some(positions[old as usize]).filter(|&at| at != NONE);
            for (old, &at) in (0u32..).zip(positions).filter(|&(_, &at)| at != NONE) {
                graph.kept_links(old, new, &mut links);
                grown.row_mut(at).iter_mut().zip(&links).for_each(|(place, &link)| *place = link);
            }
        }
        grown
    }

    /// Positions that have to look for links: all but those of the largest graph,
    /// and what lost all it had.
    fn later(&self, grown: &Grown) -> impl Iterator<Item = u32> {
        let lead = self.placed.first().map_or(0, |lead| lead.kept as u32);
        (0..self.order.len() as u32).filter(move |&at| at >= lead || grown.links().room(at)[0] == NONE)
    }
}

impl Placed<'_> {
    /// A position of this graph's that is near another position.
    fn near(&self, codes: &BuildCodes<'_>, position: u32) -> u32 {
        let near = run(Near { placed: self, codes, position });
        let links = || self.graph.base().of(near).map(|link| self.positions[link as usize]);
        let all = || self.positions.iter().copied();
        let mut around = std::iter::once(self.positions[near as usize]).chain(links()).chain(all());
        around.find(|&at| at != NONE).expect("a graph that is used has rows left")
    }
}

struct Near<'a> {
    placed: &'a Placed<'a>,
    codes: &'a BuildCodes<'a>,
    position: u32,
}

impl Task for Near<'_> {
    type Output = u32;

    #[inline(always)]
    fn run<S: Simd>(self) -> u32 {
        let Self { placed: Placed { graph, positions, .. }, codes, position } = self;
        let mut buffer = Vec::new();
        let from = From { codes, turned: codes.turned(position, &mut buffer) };
        let measure = |old: u32| match positions[old as usize] {
            NONE => f32::INFINITY,
            at => from.rank::<S>(at) as f32,
        };
        let entry = Neighbor { slot: graph.entry(), distance: measure(graph.entry()) };
        graph.descend(entry, &measure).slot
    }
}
