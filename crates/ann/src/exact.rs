//! The exact scan: every slot is measured.

use crate::nearest::{Nearest, Neighbor};
use crate::{Metric, Rows};

/// Finds the `k` nearest of `slots` by measuring each, nearest first.
///
/// `query` is prepared and has `rows.dim()` values; the slots are below
/// `rows.len()`. Equal distances are ordered by slot. Takes time in proportion
/// to the number of slots, so it suits few slots, and checks other searches.
///
/// ```
/// use cairn_ann::{exact, FlatRows, Metric};
///
/// let rows = FlatRows::new(1, &[5.0, 1.0, 3.0, 2.0])?;
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
    let mut nearest = Nearest::new(k);
    for slot in slots {
        let distance = metric.distance(query, rows.row(slot));
        nearest.offer(Neighbor { slot, distance });
    }
    nearest.take(k)
}
