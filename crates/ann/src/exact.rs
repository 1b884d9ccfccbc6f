//! The exact scan: every slot is measured.

use crate::metric::Query;
use crate::nearest::{Nearest, Neighbor};
use crate::prefetch::prefetch;
use crate::{Metric, Rows};

/// Slots taken from the iterator at once, so that rows can be asked for ahead.
const BLOCK: usize = 64;
/// Rows asked for ahead of the one being measured.
const AHEAD: usize = 4;

/// Finds the `k` nearest of `slots` by measuring each, nearest first.
///
/// `query` is prepared and has `rows.dim()` values; the slots are below
/// `rows.len()`. Equal distances are ordered by slot. Takes time in proportion
/// to the number of slots, so it suits few slots, and checks other searches.
///
/// ```
/// use cairn_ann::{exact, FlatRows, Metric};
///
/// let rows = FlatRows::new(1, &[5.0f32, 1.0, 3.0, 2.0])?;
/// let odd = [1, 3].into_iter();
/// let near = exact(Metric::Euclid, &rows, &[2.5], 1, odd);
/// assert_eq!(near[0].slot, 3);
/// # Ok::<(), cairn_ann::Error>(())
/// ```
///
/// # Panics
/// If `query` has another length than the rows, or a slot has no row.
pub fn exact<R: Rows>(
    metric: Metric,
    rows: &R,
    query: &[f32],
    k: usize,
    slots: impl Iterator<Item = u32>,
) -> Vec<Neighbor> {
    let query = Query::new(metric, query);
    let measure = |slot| query.distance(rows.row(slot));
    scan(slots, measure, |slot| prefetch(rows.row(slot).bytes()), k)
}

/// The scan by any measure; `prefetch` is told of slots some time before.
pub(crate) fn scan(
    mut slots: impl Iterator<Item = u32>,
    measure: impl Fn(u32) -> f32,
    prefetch: impl Fn(u32),
    k: usize,
) -> Vec<Neighbor> {
    let mut nearest = Nearest::new(k);
    let mut block = Vec::with_capacity(BLOCK);
    loop {
        block.clear();
        block.extend(slots.by_ref().take(BLOCK));
        if block.is_empty() {
            return nearest.take(k);
        }
        for (at, &slot) in block.iter().enumerate() {
            if let Some(&ahead) = block.get(at + AHEAD) {
                prefetch(ahead);
            }
            nearest.offer(Neighbor { slot, distance: measure(slot) });
        }
    }
}
