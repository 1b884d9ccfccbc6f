//! How two vectors are compared.
//!
//! Inside, every metric is a distance: smaller is nearer. Users see a score,
//! which is what the metric's name promises them.

mod kernels;
#[cfg(target_arch = "aarch64")]
mod neon;
mod query;
mod sums;

pub use kernels::simd_capabilities;
pub use query::Query;

use serde::{Deserialize, Serialize};

use crate::Row;

/// How far a squared length may be from 1 and still count as 1: wider than
/// what rounding to `f32` leaves behind, so that preparing twice is the same
/// as preparing once.
const UNIT_TOLERANCE: f64 = 1e-6;

/// How two vectors are compared.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Metric {
    /// The cosine of the angle between them; floats are stored at unit length.
    Cosine,
    /// The inner product.
    Dot,
    /// The straight-line distance.
    Euclid,
    /// The sum of the absolute differences.
    Manhattan,
}

impl Metric {
    /// Brings a vector with finite values into the form that is stored and
    /// compared.
    ///
    /// For [`Metric::Cosine`] that is unit length. A zero vector stays zero,
    /// and one that is already of unit length is left exactly alone. The other
    /// metrics change nothing.
    ///
    /// Rows of `f16` are prepared before they are rounded. Rows of `u8` are
    /// stored as they are, and neither they nor the queries asked of them need
    /// to be prepared: their cosine is taken with both lengths each time.
    ///
    /// ```
    /// let mut vector = [3.0, 4.0];
    /// cairn_ann::Metric::Cosine.prepare(&mut vector);
    /// assert_eq!(vector, [0.6, 0.8]);
    /// ```
    pub fn prepare(self, vector: &mut [f32]) {
        if self != Self::Cosine {
            return;
        }
        // f64, because squares of large or tiny f32 leave the range of f32.
        let squared: f64 = vector.iter().map(|&x| f64::from(x) * f64::from(x)).sum();
        if squared == 0.0 || (squared - 1.0).abs() <= UNIT_TOLERANCE {
            return;
        }
        let scale = squared.sqrt().recip();
        for x in vector {
            *x = (f64::from(*x) * scale) as f32;
        }
    }

    /// A row at full width, prepared, whatever was stored.
    pub(crate) fn prepared(self, row: Row<'_>) -> Vec<f32> {
        let mut values = row.to_f32();
        self.prepare(&mut values);
        values
    }

    /// Measures two prepared vectors of equal length; smaller is nearer.
    ///
    /// Cosine and dot give the negated inner product, Euclid the squared
    /// distance, Manhattan the distance.
    ///
    /// # Panics
    /// If the lengths differ.
    #[inline]
    pub fn distance(self, a: &[f32], b: &[f32]) -> f32 {
        match self {
            // Subtracting from zero, unlike negating, never gives -0.0, which
            // would sort before an equal 0.0.
            Self::Cosine | Self::Dot => 0.0 - kernels::dot(a, b),
            Self::Euclid => kernels::squared_euclid(a, b),
            Self::Manhattan => kernels::manhattan(a, b),
        }
    }

    /// Measures a prepared query against a row of any format; smaller is nearer.
    ///
    /// The stored values count: those of an `f16` row after rounding. The
    /// cosine with a `u8` row divides by both lengths, and is 0 where one of
    /// them is 0. For many rows, a [`Query`] does what they share once.
    ///
    /// # Panics
    /// If the lengths differ.
    #[inline]
    pub fn distance_to(self, query: &[f32], row: Row) -> f32 {
        match row {
            Row::F32(row) => self.distance(query, row),
            row => Query::new(self, query).distance(row),
        }
    }

    /// Measures two rows of the same format, as [`distance_to`](Self::distance_to)
    /// would with one of them as the query.
    ///
    /// # Panics
    /// If the lengths differ.
    #[inline]
    pub fn between(self, a: Row, b: Row) -> f32 {
        query::between(self, a, b)
    }

    /// Turns a distance into what users see: the similarity for cosine and
    /// dot, the distance itself for Euclid and Manhattan.
    pub fn score(self, distance: f32) -> f32 {
        match self {
            Self::Cosine | Self::Dot => 0.0 - distance,
            Self::Euclid => distance.sqrt(),
            Self::Manhattan => distance,
        }
    }

    /// Whether a larger [`score`](Self::score) is a nearer vector.
    pub fn larger_is_better(self) -> bool {
        matches!(self, Self::Cosine | Self::Dot)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rand::{Rng, SeedableRng, rngs::StdRng};

    const ALL: [Metric; 4] = [Metric::Cosine, Metric::Dot, Metric::Euclid, Metric::Manhattan];

    fn naive(metric: Metric, a: &[f32], b: &[f32]) -> f64 {
        let pairs = || a.iter().zip(b).map(|(&x, &y)| (f64::from(x), f64::from(y)));
        match metric {
            Metric::Cosine | Metric::Dot => -pairs().map(|(x, y)| x * y).sum::<f64>(),
            Metric::Euclid => pairs().map(|(x, y)| (x - y) * (x - y)).sum(),
            Metric::Manhattan => pairs().map(|(x, y)| (x - y).abs()).sum(),
        }
    }

    #[test]
    fn every_kernel_agrees_with_the_naive_sum_in_every_dimension() {
        let mut random = StdRng::seed_from_u64(7);
        let mut draw = || random.random_range(-2.0f32..2.0);
        for dim in 1..=1100 {
            let a: Vec<f32> = (0..dim).map(|_| draw()).collect();
            let b: Vec<f32> = (0..dim).map(|_| draw()).collect();
            // No sum of the four has terms above 16 here.
            let tolerance = 16.0 * dim as f64 * 1e-6;
            for metric in ALL {
                let (fast, slow) = (f64::from(metric.distance(&a, &b)), naive(metric, &a, &b));
                assert!(
                    (fast - slow).abs() <= tolerance,
                    "{metric:?} in {dim} dimensions: {fast}, naively {slow}"
                );
            }
        }
    }

    #[test]
    fn kernels_read_from_any_alignment() {
        let values: Vec<f32> = (0..200).map(|i| (i as f32 * 0.37).sin()).collect();
        for metric in ALL {
            for start in 0..16 {
                let (a, b) = (&values[start..start + 77], &values[100..177]);
                let (fast, slow) = (f64::from(metric.distance(a, b)), naive(metric, a, b));
                assert!((fast - slow).abs() < 1e-3, "{metric:?} from {start}");
            }
        }
    }

    #[test]
    fn preparing_twice_is_preparing_once() {
        let mut random = StdRng::seed_from_u64(8);
        for dim in (1..=64).chain([384, 768, 1024, 4096]) {
            for exponent in [-30, -3, 0, 3, 30] {
                let mut once: Vec<f32> =
                    (0..dim).map(|_| random.random_range(-1.0f32..1.0) * 10f32.powi(exponent)).collect();
                Metric::Cosine.prepare(&mut once);
                let mut twice = once.clone();
                Metric::Cosine.prepare(&mut twice);
                assert_eq!(once, twice, "{dim} dimensions, 1e{exponent}");
                assert!((naive(Metric::Euclid, &once, &vec![0.0; dim]) - 1.0).abs() < 1e-6);
            }
        }
    }

    #[test]
    fn zero_vectors_and_other_metrics_are_left_alone() {
        let mut zero = [0.0f32; 5];
        Metric::Cosine.prepare(&mut zero);
        assert_eq!(zero.map(f32::to_bits), [0; 5]);
        let mut long = [3.0f32, 4.0];
        for metric in [Metric::Dot, Metric::Euclid, Metric::Manhattan] {
            metric.prepare(&mut long);
        }
        assert_eq!(long.map(f32::to_bits), [3f32, 4.0].map(f32::to_bits));
    }

    #[test]
    fn scores_are_what_users_expect() {
        let (a, b) = ([1.0, 2.0], [4.0, 6.0]);
        let score = |metric: Metric| metric.score(metric.distance(&a, &b));
        assert_eq!(score(Metric::Dot).to_bits(), 16f32.to_bits());
        assert_eq!(score(Metric::Euclid).to_bits(), 5f32.to_bits());
        assert_eq!(score(Metric::Manhattan).to_bits(), 7f32.to_bits());
        assert!(Metric::Dot.larger_is_better() && !Metric::Euclid.larger_is_better());
    }

    #[test]
    fn orthogonal_vectors_have_a_positive_zero_distance_and_score() {
        let distance = Metric::Dot.distance(&[1.0, 0.0], &[0.0, 1.0]);
        assert_eq!(distance.to_bits(), 0);
        assert_eq!(Metric::Dot.score(distance).to_bits(), 0);
    }

    #[test]
    fn the_instruction_sets_have_a_name() {
        assert!(!simd_capabilities().is_empty());
    }
}
