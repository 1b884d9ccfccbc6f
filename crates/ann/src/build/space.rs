//! The distance a graph is built with, where rows are measured and not codes.
//!
//! hnsw_rs stops the program at a distance that is negative or not a number,
//! so similarities need another shape. Cosine becomes `1 - cosine`, and a
//! little more where rounding left the rows with lengths above 1. A dot
//! product of vectors of different lengths is no distance at all, and by how much
//! one is less than another does not matter to a builder, only that it is: `-dot`
//! keeps its order and becomes a number that is not negative.

use crate::pool::{self, rank};
use crate::{Metric, Row, Rows};

/// The distance between two slots, at least 0 and finite.
#[inline]
pub(crate) fn between<R: Rows>(metric: Metric, rows: &R, a: u32, b: u32) -> f32 {
    apart(metric, rows.row(a), rows.row(b))
}

/// The distance between two rows, as hnsw_rs needs it: at least 0, finite.
#[inline]
pub(super) fn apart(metric: Metric, a: Row, b: Row) -> f32 {
    let distance = metric.between(a, b);
    let distance = match metric {
        Metric::Cosine => farthest_cosine(a) + distance,
        Metric::Dot => from_product(distance),
        Metric::Euclid | Metric::Manhattan => distance,
    };
    if distance.is_nan() {
        return f32::MAX;
    }
    // Rounding can leave a cosine at 1.0000001.
    distance.clamp(0.0, f32::MAX)
}

/// The rank of the smallest number, without its lowest bit.
const LOWEST: u32 = 0x0040_0000;

/// A number that orders as `-dot` does: its rank among all numbers, without the
/// lowest bit, read as a number from 0 to the largest.
#[inline]
fn from_product(distance: f32) -> f32 {
    f32::from_bits((rank(distance) >> 1).saturating_sub(LOWEST))
}

/// The `-dot` of such a number, but for its lowest bit.
#[inline]
pub(super) fn to_product(apart: f32) -> f32 {
    pool::distance((apart.to_bits() + LOWEST) << 1)
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::FlatRows;

    #[test]
    fn products_of_any_size_keep_their_order_and_come_back() {
        let sizes = [0.0, 1e-40, 1e-9, 0.5, 1.0, 1.000_001, 3.0, 1e6, 1e30, f32::MAX];
        let mut products: Vec<f32> = sizes.iter().flat_map(|&size| [size, -size]).collect();
        products.sort_by(f32::total_cmp);
        let turned: Vec<f32> = products.iter().map(|&product| from_product(product)).collect();
        assert!(turned.is_sorted() && turned.iter().all(|turned| (0.0..=f32::MAX).contains(turned)));
        assert!(turned[0] == 0.0 && turned.windows(2).filter(|pair| pair[0] == pair[1]).count() <= 1);
        for (product, turned) in products.iter().zip(turned) {
            assert!((to_product(turned) - product).abs() <= product.abs() * 1e-6 + 1e-44);
        }
    }

    #[test]
    fn distances_of_extreme_rows_are_finite_and_not_negative() {
        let values = [f32::MAX, f32::MAX, -f32::MAX, f32::MAX, 0.0, 0.0, 1e-40, 0.0];
        let rows = FlatRows::new(2, &values).expect("whole rows");
        for metric in [Metric::Cosine, Metric::Dot, Metric::Euclid, Metric::Manhattan] {
            for (a, b) in (0..16).map(|pair| (pair / 4, pair % 4)) {
                let distance = between(metric, &rows, a, b);
                assert!(distance.is_finite() && distance >= 0.0, "{metric:?} {a} {b}");
            }
        }
    }
}
