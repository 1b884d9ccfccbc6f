//! The walk by estimates: a position's neighbours cost one look at the block
//! beside it.
//!
//! Estimates say which candidates are kept and in which order they are gone on
//! from. A candidate that is gone on from is measured by its code of one byte a
//! value, which the estimates of its neighbours begin from. The best of those
//! measured are then decided by their rows.

#![allow(clippy::inline_always)] // Parts of loops that are compiled per instruction set.

use super::coded::{ByCode, Measured, named};
use super::judge::Judge;
use super::{Beam, Coded, Graph, Scratch};
use crate::Metric;
use crate::codes::{BlockView, Blocks, Int8, Tables};
use crate::nearest::Neighbor;
use crate::pool::{Pool, rank};
use crate::simd::{Simd, Task, run};
use crate::walk::{AHEAD, Measure, Walker};

impl Graph {
    /// The search by estimates; see [`Graph::search`].
    #[allow(clippy::too_many_arguments)] // What a search is made of.
    pub(super) fn search_fast(
        &self,
        (coded, codes, blocks): (&Coded, &Int8, &Blocks),
        judge: &impl Judge,
        query: &[f32],
        k: usize,
        beam: Beam,
        accept: impl Fn(u32) -> bool,
        scratch: &mut Scratch,
    ) -> Vec<Neighbor> {
        let Scratch { walker, code, tables, best, .. } = scratch;
        let measure = ByCode(codes.query(query, code));
        let slots = &*coded.slots;
        best.reset(judge.wanted(k, coded.rescored(k, beam.ef)));
        let rejected = run(FastWalk {
            graph: self,
            measure: &measure,
            blocks: blocks.view(),
            euclid: codes.metric() == Metric::Euclid,
            beam: beam.for_k(k),
            accept: |position| accept(slots[position as usize]),
            walker,
            tables,
            best,
        });
        if rejected > best.len() / 4 {
            // The beam has to count what is accepted.
            return self.search_rejecting(coded, judge, query, k, beam, accept, scratch);
        }
        let mut near = Vec::with_capacity(best.len());
        near.extend(best.iter().map(named(slots)));
        judge.decide(query, near, k)
    }
}

/// The walk from the entry down to layer 0 and over it. Says how many
/// near ones were rejected.
struct FastWalk<'a, A> {
    graph: &'a Graph,
    measure: &'a ByCode<'a>,
    blocks: BlockView<'a>,
    euclid: bool,
    beam: Beam,
    /// By position.
    accept: A,
    walker: &'a mut Walker,
    tables: &'a mut Tables,
    /// The best of those measured and accepted.
    best: &'a mut Pool,
}

impl<A: Fn(u32) -> bool> Task for FastWalk<'_, A> {
    type Output = usize;

    #[inline(always)]
    fn run<S: Simd>(self) -> usize {
        let Self { graph, measure, blocks, euclid, beam, accept, walker, tables, best } = self;
        tables.fill::<S>(measure.0.placed);
        let near = graph.descend_coded::<S, _>(measure);
        walker.begin::<S, _>(graph.base(), measure, [near.1, graph.entry], beam.ef);
        let Walker { visited, claimed, pool, .. } = walker;
        let mut measured = Measured::new(best, accept, beam.patience(graph.len()));
        let bound = rank(beam.bound);
        loop {
            while claimed.len() <= AHEAD
                && let Some(position) = pool.claim(beam.least, bound)
            {
                blocks.prefetch(position);
                measure.prefetch(position);
                claimed.push_back(position);
            }
            let Some(position) = claimed.pop_front() else { return measured.rejected };
            let distance = measure.0.distance::<S>(position);
            if !measured.take(distance, position) {
                return measured.rejected;
            }
            for block in blocks.blocks(position) {
                let estimates = tables.estimate::<S>(block, distance, euclid);
                let mut below = S::below(&estimates, pool.worst());
                while below != 0 {
                    let at = below.trailing_zeros() as usize;
                    below &= below - 1;
                    let link = block.links[at];
                    if !visited.has(link) && pool.offer(rank(estimates[at]), link) {
                        visited.insert(link);
                    }
                }
            }
        }
    }
}
