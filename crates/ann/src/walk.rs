//! The walk over one layer of a graph: the loop that building and searching
//! spend their time in.
//!
//! It waits for memory, not for sums. So what is read is asked for two steps
//! ahead: a candidate is claimed some hops before it is expanded, its links
//! arrive meanwhile, and while one hop is measured, the codes of the next
//! hop's links are on their way.

#![allow(clippy::inline_always)] // Parts of loops that are compiled per instruction set.

use std::collections::VecDeque;

use crate::graph::{NONE, Visited};
use crate::pool::Pool;
use crate::prefetch::prefetch;
use crate::simd::Simd;

/// Hops from a claim to the expansion. On 98k codes of 384 bytes, 3 gives 1.5
/// times the searches of 0.
pub(crate) const AHEAD: usize = 3;

/// How far the positions of a layer are from what is looked for.
pub(crate) trait Measure {
    /// Orders as the distance does; smaller is nearer.
    fn rank<S: Simd>(&self, position: u32) -> u32;

    /// Asks for what `rank` will read.
    fn prefetch(&self, position: u32);
}

/// The links of a layer: `stride` for each position, unused room at the end
/// being `NONE`. Every link is a position of the layer.
#[derive(Clone, Copy)]
pub(crate) struct Links<'a> {
    pub(crate) all: &'a [u32],
    pub(crate) stride: usize,
}

impl<'a> Links<'a> {
    pub(crate) fn positions(self) -> usize {
        self.all.len() / self.stride
    }

    /// The links of a position, and unused room.
    #[inline(always)]
    pub(crate) fn room(self, position: u32) -> &'a [u32] {
        &self.all[position as usize * self.stride..][..self.stride]
    }

    /// All positions in the order in which a breadth-first walk from `first`
    /// meets them, each with the one it was met from, which where a walk begins
    /// is itself. What it does not reach is met by walks of its own.
    pub(crate) fn breadth_first(self, first: u32) -> Vec<(u32, u32)> {
        let mut met = vec![false; self.positions()];
        let mut order: Vec<(u32, u32)> = Vec::with_capacity(met.len());
        let all = 0..met.len() as u32;
        for start in all.clone().filter(|&position| position == first).chain(all) {
            if met[start as usize] {
                continue;
            }
            met[start as usize] = true;
            let mut next = order.len();
            order.push((start, start));
            while let Some(&(position, _)) = order.get(next) {
                next += 1;
                for link in self.of(position) {
                    if !met[link as usize] {
                        met[link as usize] = true;
                        order.push((link, position));
                    }
                }
            }
        }
        order
    }

    /// The links of a position.
    #[inline(always)]
    pub(crate) fn of(self, position: u32) -> impl Iterator<Item = u32> + 'a {
        self.room(position).iter().copied().take_while(|&link| link != NONE)
    }
}

/// The memory of a walk, kept from one to the next.
#[derive(Debug, Default)]
pub(crate) struct Walker {
    pub(crate) visited: Visited,
    pub(crate) claimed: VecDeque<u32>,
    fresh: Vec<u32>,
    /// The nearest, after a walk.
    pub(crate) pool: Pool,
}

impl Walker {
    /// Finds the `ef` nearest positions as far as links lead to them from
    /// `starts`, going on only from the `least` nearest once all others are
    /// beyond `bound`, a rank. They are in the pool then.
    #[inline(always)]
    pub(crate) fn walk<S: Simd, M: Measure>(
        &mut self,
        links: Links<'_>,
        measure: &M,
        starts: impl IntoIterator<Item = u32>,
        ef: usize,
        (least, bound): (usize, u32),
    ) {
        let Self { visited, claimed, fresh, pool } = self;
        visited.reset(links.positions());
        pool.reset(ef);
        claimed.clear();
        for start in starts {
            if visited.insert(start) {
                pool.offer(measure.rank::<S>(start), start);
            }
        }
        loop {
            while claimed.len() <= AHEAD
                && let Some(position) = pool.claim(least, bound)
            {
                prefetch(links.room(position));
                claimed.push_back(position);
            }
            let Some(position) = claimed.pop_front() else { return };
            fresh.clear();
            for &link in links.room(position) {
                if link == NONE {
                    break;
                }
                if visited.insert(link) {
                    fresh.push(link);
                }
            }
            if let Some(&next) = claimed.front() {
                for &link in links.room(next) {
                    if link == NONE {
                        break;
                    }
                    if !visited.has(link) {
                        measure.prefetch(link);
                    }
                }
            }
            for &link in &*fresh {
                pool.offer(measure.rank::<S>(link), link);
            }
        }
    }

    /// Goes from `start` to the position whose links are all farther.
    #[inline(always)]
    pub(crate) fn descend<S: Simd, M: Measure>(links: Links<'_>, measure: &M, start: u32) -> u32 {
        let (mut near, mut rank) = (start, measure.rank::<S>(start));
        loop {
            let from = near;
            links.of(from).for_each(|link| measure.prefetch(link));
            for link in links.of(from) {
                let other = measure.rank::<S>(link);
                if other < rank {
                    (near, rank) = (link, other);
                }
            }
            if near == from {
                return near;
            }
        }
    }
}
