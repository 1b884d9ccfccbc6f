//! The walk over one layer of a graph: the loop that building and searching
//! spend their time in.
//!
//! It waits for memory, not for sums. So what is read is asked for two steps
//! ahead: a candidate is claimed some hops before it is expanded, its links
//! arrive meanwhile, and while one hop is measured, the codes of the next
//! hop's links are on their way.

#![allow(clippy::inline_always)] // Parts of loops that are compiled per instruction set.

use std::collections::VecDeque;

use crate::graph::Visited;
use crate::links::Links;
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

/// The memory of a walk, kept from one to the next.
#[derive(Debug, Default)]
pub(crate) struct Walker {
    pub(crate) visited: Visited,
    pub(crate) claimed: VecDeque<u32>,
    fresh: Vec<u32>,
    /// The links of the position that is gone on from, and of the next one.
    pub(crate) rooms: [Vec<u32>; 2],
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
        self.begin::<S, M>(links, measure, starts, ef);
        self.go_on::<S, M>(links, measure, (least, bound));
    }

    /// Puts the positions that a walk begins at into the pool, alone.
    #[inline(always)]
    pub(crate) fn begin<S: Simd, M: Measure>(
        &mut self,
        links: Links<'_>,
        measure: &M,
        starts: impl IntoIterator<Item = u32>,
        ef: usize,
    ) {
        let Self { visited, claimed, pool, .. } = self;
        visited.reset(links.positions());
        pool.reset(ef);
        claimed.clear();
        for start in starts {
            if visited.insert(start) {
                pool.offer(measure.rank::<S>(start), start);
            }
        }
    }

    /// Goes on from what is in the pool, as [`walk`](Self::walk) does. With
    /// wider limits it can go on once more after that.
    #[inline(always)]
    pub(crate) fn go_on<S: Simd, M: Measure>(
        &mut self,
        links: Links<'_>,
        measure: &M,
        (least, bound): (usize, u32),
    ) {
        let Self { visited, claimed, fresh, rooms: [room, ahead], pool } = self;
        let mut next = None;
        loop {
            while claimed.len() <= AHEAD
                && let Some(position) = pool.claim(least, bound)
            {
                prefetch(links.record(position));
                claimed.push_back(position);
            }
            let Some(position) = claimed.pop_front() else { return };
            if next == Some(position) {
                std::mem::swap(room, ahead);
            } else {
                room.clear();
                room.extend(links.of(position));
            }
            fresh.clear();
            for &link in &*room {
                if visited.insert(link) {
                    fresh.push(link);
                }
            }
            next = claimed.front().copied();
            if let Some(next) = next {
                ahead.clear();
                for link in links.of(next) {
                    ahead.push(link);
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
