//! The walk by signs: a neighbour costs a line of the cache.
//!
//! Estimates by signs say which candidates are kept and in which order the walk
//! goes on from them. A candidate that it goes on from is measured by its code,
//! and the rows of the best decide.

#![allow(clippy::inline_always)] // Parts of loops that are compiled per instruction set.

use super::coded::{ByCode, Measured, named};
use super::judge::Judge;
use super::{Beam, Coded, Graph, Scratch};
use crate::codes::{BySigns, Int8, Signs};
use crate::links::Links;
use crate::nearest::Neighbor;
use crate::pool::{Pool, rank};
use crate::prefetch::prefetch;
use crate::simd::{Simd, Task, run};
use crate::walk::{AHEAD, Measure, Walker};

impl Graph {
    /// The search by signs; see [`Graph::search`].
    #[allow(clippy::too_many_arguments)] // What a search is made of.
    pub(super) fn search_signed(
        &self,
        (coded, codes, signs): (&Coded, &Int8, &Signs),
        judge: &impl Judge,
        query: &[f32],
        k: usize,
        beam: Beam,
        accept: impl Fn(u32) -> bool,
        scratch: &mut Scratch,
    ) -> Vec<Neighbor> {
        let Scratch { walker, code, planes, best, .. } = scratch;
        let measure = ByCode(codes.query(query, code));
        let signs = measure.0.by_signs(signs, planes);
        let slots = &*coded.slots;
        best.reset(judge.wanted(k, coded.rescored(k, beam.ef)));
        // Estimates order less well than codes do: half as many again find as much.
        let beam = beam.for_k(k);
        let wider = |many: usize| many.saturating_add(many / 2).min(self.len());
        let rejected = run(SignedWalk {
            graph: self,
            measure: &measure,
            signs: &signs,
            beam: Beam { ef: wider(beam.ef), least: wider(beam.least), bound: beam.bound },
            accept: |position| accept(slots[position as usize]),
            walker,
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

/// The walk from the entry down to layer 0 and over it. Says how many near ones
/// were rejected.
struct SignedWalk<'a, A> {
    graph: &'a Graph,
    measure: &'a ByCode<'a>,
    signs: &'a BySigns<'a>,
    beam: Beam,
    /// By position.
    accept: A,
    walker: &'a mut Walker,
    /// The best of those measured and accepted.
    best: &'a mut Pool,
}

impl<A: Fn(u32) -> bool> Task for SignedWalk<'_, A> {
    type Output = usize;

    #[inline(always)]
    fn run<S: Simd>(self) -> usize {
        let Self { graph, measure, signs, beam, accept, walker, best } = self;
        let near = graph.descend_coded::<S, _>(signs);
        let links = graph.base();
        walker.begin::<S, _>(links, signs, [near.1, graph.entry], beam.ef);
        let mut measured = Measured::new(best, accept, beam.patience(graph.len()));
        let bound = rank(beam.bound);
        let mut is_ready = false;
        loop {
            while walker.claimed.len() <= AHEAD
                && let Some(position) = walker.pool.claim(beam.least, bound)
            {
                prefetch(links.record(position));
                measure.prefetch(position);
                walker.claimed.push_back(position);
            }
            let Some(position) = walker.claimed.pop_front() else { return measured.rejected };
            if !is_ready {
                walker.next_fresh(links, position, |link| signs.prefetch(link));
            }
            // What this one leads to, while what the next one does is on its way.
            let [fresh, ahead] = &mut walker.rooms;
            std::mem::swap(fresh, ahead);
            is_ready = match walker.claimed.front().copied() {
                Some(next) => {
                    walker.next_fresh(links, next, |link| signs.prefetch(link));
                    true
                }
                None => false,
            };
            let distance = measure.0.distance::<S>(position);
            if !measured.take(distance, position) {
                return measured.rejected;
            }
            let (fours, rest) = walker.rooms[0].as_chunks::<4>();
            for positions in fours {
                let estimates = signs.estimates::<S>(positions);
                for (estimate, &position) in estimates.into_iter().zip(positions) {
                    if estimate < walker.pool.worst() {
                        walker.pool.offer(rank(estimate), position);
                    }
                }
            }
            for &position in rest {
                walker.pool.offer(signs.rank::<S>(position), position);
            }
        }
    }
}

impl Walker {
    /// Notes which links of a position were not met before, as the room ahead.
    #[inline(always)]
    fn next_fresh(&mut self, links: Links<'_>, position: u32, prefetch: impl Fn(u32)) {
        let Self { visited, rooms: [_, ahead], .. } = self;
        ahead.clear();
        for link in links.of(position) {
            if visited.insert(link) {
                prefetch(link);
                ahead.push(link);
            }
        }
    }
}
