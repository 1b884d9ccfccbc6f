//! The best candidates of a walk, as one sorted array.
//!
//! For the few hundred that a walk keeps, moving a few entries up is faster than
//! two heaps: nothing is pushed that cannot be among the results, and the next
//! to expand is found by going along.

/// Slots below 2^31, so that an entry has a bit to spare.
const CLAIMED: u64 = 1;

/// At most `limit` candidates, nearest first.
///
/// An entry is the distance's rank, the position, and whether it was claimed,
/// packed so that entries order by distance and then position.
#[derive(Debug, Default)]
pub(crate) struct Pool {
    entries: Vec<u64>,
    limit: usize,
    /// All entries before this one are claimed.
    next: usize,
}

impl Pool {
    /// Empties the pool for another walk, keeping its memory.
    pub(crate) fn reset(&mut self, limit: usize) {
        self.entries.clear();
        self.entries.reserve(limit + 1);
        self.limit = limit;
        self.next = 0;
    }

    /// Takes a candidate if it is among the best.
    #[inline]
    pub(crate) fn offer(&mut self, rank: u32, position: u32) {
        let entry = u64::from(rank) << 32 | u64::from(position) << 1;
        let full = self.entries.len() == self.limit;
        if full && self.entries.last().is_none_or(|&last| entry >= last) {
            return;
        }
        // Without a branch per entry: the compiler compares eight at a time.
        let below = self.entries.iter().map(|&other| usize::from(other < entry)).sum::<usize>();
        if full {
            self.entries.pop();
        }
        self.entries.insert(below, entry);
        self.next = self.next.min(below);
    }

    /// The nearest that was not claimed yet, now claimed; none if it is neither
    /// among the first `least` nor within `bound`.
    #[inline]
    pub(crate) fn claim(&mut self, least: usize, bound: u32) -> Option<u32> {
        while let Some(entry) = self.entries.get_mut(self.next) {
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
        self.entries.iter().map(|&entry| ((entry >> 32) as u32, position(entry)))
    }

    pub(crate) fn len(&self) -> usize {
        self.entries.len()
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
        (0..5).for_each(|at| pool.offer(10 * at, at));
        let claimed: Vec<u32> = std::iter::from_fn(|| pool.claim(2, 25)).collect();
        assert_eq!(claimed, [0, 1, 2]);
        assert_eq!(pool.claim(4, 25), Some(3));
        assert_eq!(pool.claim(4, 25), None);
    }

    #[test]
    fn ranks_order_as_distances_do() {
        let distances =
            [f32::NEG_INFINITY, -2.0, -1e-30, -0.0, 0.0, 1e-30, 1.0, f32::MAX, f32::INFINITY, f32::NAN];
        assert!(distances.windows(2).all(|pair| rank(pair[0]) < rank(pair[1])));
    }
}
