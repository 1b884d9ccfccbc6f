//! The walk by signs: a neighbour costs a line of the cache.
//!
//! Estimates by signs say which candidates are kept and in which order the walk
//! goes on from them. A candidate that it goes on from is measured by its code,
//! and the rows of the best decide.

#![allow(clippy::inline_always)] // Parts of loops that are compiled per instruction set.

use super::coded::{ByCode, Measured};
use super::lanes::{Walk, Way};
use super::{Beam, Graph, Scratch};
use crate::codes::{BySigns, Int8, Signs};
use crate::links::Links;
use crate::pool::{Pool, rank};
use crate::prefetch::prefetch;
use crate::simd::{GROUP, Simd};
use crate::walk::{AHEAD, Measure, Walker};

/// How it goes, for every query.
pub(super) struct Signed<'g, A> {
    graph: &'g Graph,
    codes: &'g Int8,
    signs: &'g Signs,
    /// Candidates that are decided on.
    wanted: usize,
    beam: Beam,
    /// By position.
    accept: A,
}

impl<'g, A: Fn(u32) -> bool> Signed<'g, A> {
    pub(super) fn new(
        graph: &'g Graph,
        codes: &'g Int8,
        signs: &'g Signs,
        (wanted, beam): (usize, Beam),
        accept: A,
    ) -> Self {
        Self { graph, codes, signs, wanted, beam, accept }
    }
}

impl<A: Fn(u32) -> bool> Way for Signed<'_, A> {
    type Walk<'a>
        = SignedWalk<'a, &'a A>
    where
        Self: 'a;

    fn walk<'a>(&'a self, query: &[f32], scratch: &'a mut Scratch) -> SignedWalk<'a, &'a A> {
        let Self { graph, codes, signs, wanted, beam, accept } = self;
        let Scratch { walker, code, planes, best, .. } = scratch;
        let measure = ByCode(codes.query(query, code));
        let signs = measure.0.by_signs(signs, planes);
        // Estimates order less well than codes do: half as many again find as much.
        let wider = |many: usize| many.saturating_add(many / 2).min(graph.len());
        let beam = Beam { ef: wider(beam.ef), least: wider(beam.least), bound: beam.bound };
        best.reset(*wanted);
        let measured = Measured::new(best, accept, beam.patience(graph.len()));
        SignedWalk { graph, links: graph.base(), measure, signs, beam, walker, measured, is_ready: false }
    }
}

/// The walk from the entry down to layer 0 and over it.
pub(super) struct SignedWalk<'a, A> {
    graph: &'a Graph,
    links: Links<'a>,
    measure: ByCode<'a>,
    signs: BySigns<'a>,
    beam: Beam,
    walker: &'a mut Walker,
    measured: Measured<'a, A>,
    /// Whether the next candidate's links are noted.
    is_ready: bool,
}

impl<A: Fn(u32) -> bool> Walk for SignedWalk<'_, A> {
    #[inline(always)]
    fn begin<S: Simd>(&mut self) {
        let Self { graph, links, signs, beam, walker, .. } = self;
        let near = graph.descend_coded::<S, _>(signs);
        walker.begin::<S, _>(*links, signs, [near.1, graph.entry], beam.ef);
    }

    #[inline(always)]
    fn step<S: Simd>(&mut self) -> bool {
        let Self { links, measure, signs, beam, walker, measured, is_ready, .. } = self;
        let links = *links;
        let bound = rank(beam.bound);
        while walker.claimed.len() <= AHEAD
            && let Some(position) = walker.pool.claim(beam.least, bound)
        {
            prefetch(links.record(position));
            measure.prefetch(position);
            walker.claimed.push_back(position);
        }
        let Some(position) = walker.claimed.pop_front() else { return false };
        if !*is_ready {
            walker.next_fresh(links, position, |link| signs.prefetch(link));
        }
        // What this one leads to, while what the next one does is on its way.
        let [fresh, next] = &mut walker.rooms;
        std::mem::swap(fresh, next);
        *is_ready = match walker.claimed.front().copied() {
            Some(next) => {
                walker.next_fresh(links, next, |link| signs.prefetch(link));
                true
            }
            None => false,
        };
        let distance = measure.0.distance::<S>(position);
        if !measured.take(distance, position) {
            return false;
        }
        let Walker { rooms: [fresh, _], pool, .. } = &mut **walker;
        for positions in fresh.chunks(GROUP) {
            let estimates = signs.group::<S>(positions);
            let mut below = S::below(&estimates, pool.worst());
            while below != 0 {
                let at = below.trailing_zeros() as usize;
                below &= below - 1;
                pool.offer(rank(estimates[at]), positions[at]);
            }
        }
        true
    }

    fn found(&self) -> Option<&Pool> {
        self.measured.found()
    }
}

impl Walker {
    /// Notes which links of a position were not met before, as the room ahead.
    #[inline(always)]
    fn next_fresh(&mut self, links: Links<'_>, position: u32, prefetch: impl Fn(u32)) {
        let Self { visited, rooms: [_, ahead], .. } = self;
        // Whether a link is new is not to be guessed: nothing branches on it.
        ahead.resize(links.stride(), 0);
        let mut fresh = 0;
        for link in links.of(position) {
            ahead[fresh] = link;
            fresh += usize::from(visited.insert(link));
        }
        ahead.truncate(fresh);
        ahead.iter().for_each(|&link| prefetch(link));
    }
}
