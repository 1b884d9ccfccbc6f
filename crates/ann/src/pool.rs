//! The best candidates of a walk, as one sorted array.
//!
//! For the few hundred that a walk keeps, moving a few entries up is faster than
//! two heaps: nothing is pushed that cannot be among the results, and the next
//! to expand is found by going along.

#![allow(clippy::inline_always)] // Parts of loops that are compiled per instruction set.

/// Slots below 2^31, so that an entry has a bit to spare.
const CLAIMED: u64 = 1;

/// Entries that move at once.
const MOVED: usize = 8;

/// At most `limit` candidates, nearest first.
///
/// An entry is the distance's rank, the position, and whether it was claimed,
/// packed so that entries order by distance and then position.
#[derive(Debug, Default)]
pub(crate) struct Pool {
    /// Zero, then the entries, then the largest number to the end of a block.
    entries: Vec<u64>,
    len: usize,
    limit: usize,
    /// All entries before this one are claimed.
    next: usize,
}

impl Pool {
    /// Empties the pool for another walk, keeping its memory.
    pub(crate) fn reset(&mut self, limit: usize) {
        self.entries.clear();
        self.entries.push(0);
        self.entries.resize(1 + (limit / MOVED + 1) * MOVED, u64::MAX);
        self.limit = limit;
        self.len = 0;
        self.next = 0;
    }

    /// The distance within which candidates are among the best.
    #[inline]
    pub(crate) fn worst(&self) -> f32 {
        if self.len < self.limit {
            return f32::INFINITY;
        }
        distance((self.entries[self.len] >> 32) as u32)
    }

    /// Takes a candidate if it is among the best; says whether it is.
    #[inline(always)]
    pub(crate) fn offer(&mut self, rank: u32, position: u32) -> bool {
        let entry = u64::from(rank) << 32 | u64::from(position) << 1;
        let full = self.len == self.limit;
        if full && entry >= self.entries[self.len] {
            return false;
        }
        // From the end on, everything larger moves up by one. Each place gets the
        // larger of what was before it, and the smaller of itself and the new
        // one; that needs no branch, and the compiler does eight at a time.
        let mut block = self.len / MOVED;
        let below = loop {
            let places = &mut self.entries[block * MOVED..][..=MOVED];
            let old: [u64; MOVED + 1] = std::array::from_fn(|at| places[at]);
            for at in 0..MOVED {
                places[at + 1] = old[at].max(old[at + 1].min(entry));
            }
            // What is before the first place of all is below everything.
            if block == 0 || old[0] < entry {
                let below: usize = old[1..].iter().map(|&old| usize::from(old < entry)).sum();
                break block * MOVED + below;
            }
            block -= 1;
        };
        if full {
            self.entries[self.len + 1] = u64::MAX;
        } else {
            self.len += 1;
        }
        self.next = self.next.min(below);
        true
    }

    /// The nearest that was not claimed yet, now claimed; none if it is neither
    /// among the first `least` nor within `bound`.
    #[inline]
    pub(crate) fn claim(&mut self, least: usize, bound: u32) -> Option<u32> {
        while self.next < self.len {
            let entry = &mut self.entries[1 + self.next];
            if self.next >= least && (*entry >> 32) as u32 > bound {
                return None;
            }
            self.next += 1;
            if *entry & CLAIMED == 0 {
                *entry |= CLAIMED;
                return Some(position(*entry));
            }
        }
        None
    }

    /// Ranks and positions, nearest first.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (u32, u32)> + '_ {
        self.entries.iter().skip(1).take(self.len).map(|&entry| ((entry >> 32) as u32, position(entry)))
    }

    pub(crate) fn len(&self) -> usize {
        self.len
    }
}

fn position(entry: u64) -> u32 {
    entry as u32 >> 1
}

/// A number that orders as the distance does; not a number comes last.
#[inline]
pub(crate) fn rank(distance: f32) -> u32 {
    let bits = distance.to_bits();
    if bits >> 31 == 0 { bits | 1 << 31 } else { !bits }
}

/// The distance that has a rank.
#[inline]
pub(crate) fn distance(rank: u32) -> f32 {
    f32::from_bits(if rank >> 31 == 0 { !rank } else { rank & !(1 << 31) })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_best_stay_in_order_and_each_is_claimed_once() {
        let mut pool = Pool::default();
        pool.reset(3);
        for (rank, position) in [(5, 1), (9, 2), (7, 3), (8, 4), (5, 0)] {
            pool.offer(rank, position);
        }
        assert_eq!(pool.iter().collect::<Vec<_>>(), [(5, 0), (5, 1), (7, 3)]);
        assert_eq!((claim(&mut pool), claim(&mut pool)), (Some(0), Some(1)));
        pool.offer(1, 9);
        assert_eq!((claim(&mut pool), claim(&mut pool)), (Some(9), None));
        assert_eq!(pool.iter().collect::<Vec<_>>(), [(1, 9), (5, 0), (5, 1)]);
    }

    fn claim(pool: &mut Pool) -> Option<u32> {
        pool.claim(usize::MAX, 0)
    }

    #[test]
    fn what_is_beyond_the_bound_is_claimed_only_among_the_first() {
        let mut pool = Pool::default();
        pool.reset(10);
        (0..5).for_each(|at| assert!(pool.offer(10 * at, at)));
        let claimed: Vec<u32> = std::iter::from_fn(|| pool.claim(2, 25)).collect();
        assert_eq!(claimed, [0, 1, 2]);
        assert_eq!(pool.claim(4, 25), Some(3));
        assert_eq!(pool.claim(4, 25), None);
    }

    #[test]
    fn a_pool_holds_what_sorting_everything_would() {
        let mut random = fastrand::Rng::with_seed(9);
        let mut pool = Pool::default();
        for limit in (0..40).chain([100, 257]) {
            pool.reset(limit);
            let mut all = Vec::new();
            for position in 0..random.u32(0..300) {
                let rank = random.u32(0..50);
                let sorted = all.partition_point(|&other| other < (rank, position));
                assert_eq!(pool.offer(rank, position), sorted < limit);
                all.insert(sorted, (rank, position));
                all.truncate(limit);
                if random.bool() {
                    pool.claim(usize::MAX, 0);
                }
            }
            assert_eq!(pool.iter().collect::<Vec<_>>(), all, "limit {limit}");
        }
    }

    #[test]
    fn ranks_order_as_distances_do() {
        let distances =
            [f32::NEG_INFINITY, -2.0, -1e-30, -0.0, 0.0, 1e-30, 1.0, f32::MAX, f32::INFINITY, f32::NAN];
        assert!(distances.windows(2).all(|pair| rank(pair[0]) < rank(pair[1])));
        assert!(distances.iter().all(|at| distance(rank(*at)).to_bits() == at.to_bits()));
    }
}
