//! The distance a graph is built with.
//!
//! hnsw_rs stops the program at a distance that is negative or not a number,
//! so similarities need another shape. Cosine becomes `1 - cosine`, and a
//! little more where rounding left the rows with lengths above 1. A dot
//! product of vectors with different lengths is no distance at all; each vector
//! gets one more value, which brings all of them to the length of the longest,
//! and then the nearest by straight line are the most similar. A query gets 0
//! there, so the order of a search by `-dot` is the order of the graph. The native
//! builder measures so only what links slots that are out of reach; its own links
//! follow the product (`codes`).

use crate::{Metric, Row, Rows};

/// The build distance of some rows.
pub(crate) struct Space {
    metric: Metric,
    /// For dot, the additional value of each row.
    lift: Vec<f32>,
}

/// What brings a row to where its distance is a straight line.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Lift {
    metric: Metric,
    /// For dot the largest squared length, else 0.
    longest: f64,
}

impl Lift {
    pub(crate) fn of<R: Rows>(metric: Metric, rows: &R) -> Self {
        let squares = (0..rows.len() as u32).map(|slot| squared(rows.row(slot)));
        let longest = if metric == Metric::Dot { squares.fold(0.0, f64::max) } else { 0.0 };
        Self { metric, longest }
    }

    /// The row at full width with its additional value. For cosine it has unit
    /// length, whatever was stored.
    pub(crate) fn apply(self, row: Row<'_>) -> Vec<f32> {
        let mut values = row.to_f32();
        self.metric.prepare(&mut values);
        if self.metric == Metric::Dot {
            values.push((self.longest - squared(row)).max(0.0).sqrt() as f32);
        }
        values
    }
}

impl Space {
    pub(crate) fn new<R: Rows>(metric: Metric, rows: &R) -> Self {
        let lift = match metric {
            Metric::Dot => lift(rows),
            _ => Vec::new(),
        };
        Self { metric, lift }
    }

    /// The distance between two slots, at least 0.
    #[inline]
    pub(crate) fn between<R: Rows>(&self, rows: &R, a: u32, b: u32) -> f32 {
        let (x, y) = (rows.row(a), rows.row(b));
        let distance = apart(self.metric, x, y);
        if self.lift.is_empty() {
            return distance;
        }
        let step = self.lift[a as usize] - self.lift[b as usize];
        (distance + step * step).min(f32::MAX)
    }
}

/// The distance between two rows, as hnsw_rs needs it: at least 0, finite.
/// Dot is measured as Euclid, the rows being lifted.
#[inline]
pub(super) fn apart(metric: Metric, a: Row, b: Row) -> f32 {
    let distance = match metric {
        Metric::Cosine => farthest_cosine(a) + Metric::Cosine.between(a, b),
        Metric::Dot | Metric::Euclid => Metric::Euclid.between(a, b),
        Metric::Manhattan => Metric::Manhattan.between(a, b),
    };
    if distance.is_nan() {
        return f32::MAX;
    }
    // Rounding can leave a cosine at 1.0000001.
    distance.clamp(0.0, f32::MAX)
}

/// What no product of two rows of unit length exceeds. Rounded to 16 bits, each
/// value grows by up to 2^-11 of itself; near rows must not all become equal.
#[inline]
fn farthest_cosine(row: Row) -> f32 {
    match row {
        Row::F16(_) => 1.001,
        Row::F32(_) | Row::U8(_) => 1.0,
    }
}

/// `sqrt(longest^2 - |row|^2)` of each row.
fn lift<R: Rows>(rows: &R) -> Vec<f32> {
    let squares: Vec<f64> = (0..rows.len() as u32).map(|slot| squared(rows.row(slot))).collect();
    let longest = squares.iter().copied().fold(0.0, f64::max);
    squares.iter().map(|square| (longest - square).max(0.0).sqrt() as f32).collect()
}

fn squared(row: Row<'_>) -> f64 {
    match row {
        Row::F32(row) => squared_length(row),
        Row::F16(row) => squared_length(row),
        Row::U8(row) => squared_length(row),
    }
}

fn squared_length<T: Copy + Into<f64>>(row: &[T]) -> f64 {
    row.iter().map(|&x| x.into() * x.into()).sum()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::FlatRows;

    #[test]
    fn lifted_distances_order_rows_by_their_dot_product() {
        let values = [3.0f32, 0.0, 1.0, 1.0, 0.1, 0.0, -2.0, 0.5, 0.0, 0.0];
        let rows = FlatRows::new(2, &values).expect("whole rows");
        let lift = Lift::of(Metric::Dot, &rows);
        let query = [0.7f32, 0.4, 0.0];
        let mut by_lift: Vec<u32> = (0..5).collect();
        let mut by_dot = by_lift.clone();
        by_lift.sort_by_key(|&slot| {
            let distance = apart(Metric::Dot, Row::F32(&query), Row::F32(&lift.apply(rows.row(slot))));
            (f64::from(distance) * 1e6) as i64
        });
        by_dot.sort_by(|&a, &b| {
            let dot = |slot| Metric::Dot.distance(&query[..2], rows.values(slot));
            dot(a).total_cmp(&dot(b))
        });
        assert_eq!(by_lift, by_dot);
    }

    #[test]
    fn distances_of_extreme_rows_are_finite_and_not_negative() {
        let values = [f32::MAX, f32::MAX, -f32::MAX, f32::MAX, 0.0, 0.0, 1e-40, 0.0];
        let rows = FlatRows::new(2, &values).expect("whole rows");
        for metric in [Metric::Cosine, Metric::Dot, Metric::Euclid, Metric::Manhattan] {
            let space = Space::new(metric, &rows);
            for (a, b) in (0..16).map(|pair| (pair / 4, pair % 4)) {
                let distance = space.between(&rows, a, b);
                assert!(distance.is_finite() && distance >= 0.0, "{metric:?} {a} {b}");
            }
        }
    }
}
