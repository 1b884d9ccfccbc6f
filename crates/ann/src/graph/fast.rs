//! The walk by estimates: a position's neighbours cost one look at the block
//! beside it.
//!
//! Estimates say which candidates are kept and in which order they are gone on
//! from. A candidate that is gone on from is measured by its code of one byte a
//! value, which the estimates of its neighbours begin from. The best of those
//! measured are then decided by their rows.

#![allow(clippy::inline_always)] // Parts of loops that are compiled per instruction set.

use super::coded::{ByCode, Measured};
use super::lanes::{Walk, Way};
use super::{Beam, Graph, Scratch};
use crate::Metric;
use crate::codes::{BlockView, Blocks, Int8, Tables};
use crate::pool::{Pool, rank};
use crate::prefetch::prefetch_all;
use crate::simd::{GROUP, Simd};
use crate::walk::{AHEAD, Measure, Walker};

/// How it goes, for every query.
pub(super) struct Fast<'g, A> {
    graph: &'g Graph,
    codes: &'g Int8,
    blocks: &'g Blocks,
    /// Candidates that are decided on.
    wanted: usize,
    beam: Beam,
    /// By position.
    accept: A,
}

impl<'g, A: Fn(u32) -> bool> Fast<'g, A> {
    pub(super) fn new(
        graph: &'g Graph,
        codes: &'g Int8,
        blocks: &'g Blocks,
        (wanted, beam): (usize, Beam),
        accept: A,
    ) -> Self {
        Self { graph, codes, blocks, wanted, beam, accept }
    }
}

impl<A: Fn(u32) -> bool> Way for Fast<'_, A> {
    type Walk<'a>
        = FastWalk<'a, &'a A>
    where
        Self: 'a;

    fn walk<'a>(&'a self, query: &[f32], scratch: &'a mut Scratch) -> FastWalk<'a, &'a A> {
        let Self { graph, codes, blocks, wanted, beam, accept } = self;
        let Scratch { walker, code, tables, best, .. } = scratch;
        best.reset(*wanted);
        FastWalk {
            graph,
            measure: ByCode(codes.query(query, code)),
            blocks: blocks.view(),
            euclid: codes.metric() == Metric::Euclid,
            beam: *beam,
            walker,
            tables,
            measured: Measured::new(best, accept, beam.patience(graph.len())),
        }
    }
}

/// The walk from the entry down to layer 0 and over it.
pub(super) struct FastWalk<'a, A> {
    graph: &'a Graph,
    measure: ByCode<'a>,
    blocks: BlockView<'a>,
    euclid: bool,
    beam: Beam,
    walker: &'a mut Walker,
    tables: &'a mut Tables,
    measured: Measured<'a, A>,
}

impl<A: Fn(u32) -> bool> Walk for FastWalk<'_, A> {
    #[inline(always)]
    fn begin<S: Simd>(&mut self) {
        let Self { graph, measure, beam, walker, tables, .. } = self;
        tables.fill::<S>(measure.0.placed);
        let near = graph.descend_coded::<S, _>(measure);
        walker.begin::<S, _>(graph.base(), measure, [near.1, graph.entry], beam.ef);
    }

    #[inline(always)]
    fn step<S: Simd>(&mut self) -> bool {
        let Self { measure, blocks, euclid, beam, walker, tables, measured, .. } = self;
        let Walker { visited, claimed, pool, .. } = &mut **walker;
        let bound = rank(beam.bound);
        // What is asked for all at once, nothing else can be asked for, or done, until most
        // of it has come. So the sums go on between the lines of the last claim.
        let mut later = None;
        while claimed.len() <= AHEAD
            && let Some(position) = pool.claim(beam.least, bound)
        {
            later.replace(blocks.prefetch(position)).into_iter().flatten().for_each(prefetch_all);
            measure.prefetch(position);
            claimed.push_back(position);
        }
        let mut later = later.into_iter().flatten();
        let Some(position) = claimed.pop_front() else { return false };
        let distance = measure.0.distance::<S>(position);
        if !measured.take(distance, position) {
            return false;
        }
        for block in blocks.blocks(position) {
            let later = later.next().unwrap_or_default();
            let estimates = tables.estimate::<S>(block, (distance, *euclid), later);
            let mut below = S::below(&estimates, pool.worst());
            // Whether a link is new is not to be guessed: nothing branches on it.
            let (mut new, mut len) = ([0u8; GROUP], 0);
            while below != 0 {
                let at = below.trailing_zeros() as usize;
                below &= below - 1;
                new[len % GROUP] = at as u8;
                len += usize::from(!visited.has(block.links[at]));
            }
            for &at in &new[..len] {
                let (estimate, link) = (estimates[usize::from(at)], block.links[usize::from(at)]);
                if pool.offer(rank(estimate), link) {
                    visited.insert(link);
                }
            }
        }
        true
    }

    fn found(&self) -> Option<&Pool> {
        self.measured.found()
    }
}
