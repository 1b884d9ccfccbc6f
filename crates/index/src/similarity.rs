//! How alike two vectors of any kind are, compared directly.
//!
//! A *similarity* is larger for what is nearer, whatever the metric, so that
//! sums and maxima of similarities have a meaning: the inner product, or the
//! negated distance (for Euclid of the square). A *score* is what users see.

use cairn_ann::Metric;

use crate::sparse::scan::dot;
use crate::vector::{MultiVector, Vector};

/// Compares two prepared vectors, dense rows of equal length.
///
/// Several rows are compared by the sum over the query's rows of the best
/// match among the stored rows (MaxSim, Khattab and Zaharia 2020); a dense
/// vector counts as one row. `None` for sparse vectors that share no position,
/// and for a sparse and a dense one.
pub(crate) fn similarity(metric: Metric, query: &Vector, stored: &Vector) -> Option<f32> {
    match (query, stored) {
        (Vector::Sparse(query), Vector::Sparse(stored)) => dot(query, stored),
        (Vector::Sparse(_), _) | (_, Vector::Sparse(_)) => None,
        _ => Some(max_sim(metric, rows(query), || rows(stored))),
    }
}

/// Turns a similarity into what users see, for any kind of vector: the
/// similarity for cosine and dot, a distance for Euclid and Manhattan.
pub(crate) fn score(metric: Metric, similarity: f32) -> f32 {
    match metric {
        Metric::Cosine | Metric::Dot => similarity,
        Metric::Euclid => similarity.abs().sqrt(),
        Metric::Manhattan => similarity.abs(),
    }
}

/// The similarity of two prepared rows of equal length.
pub(crate) fn of_rows(metric: Metric, query: &[f32], stored: &[f32]) -> f32 {
    0.0 - metric.distance(query, stored)
}

fn max_sim<'a, Rows: Iterator<Item = &'a [f32]>>(
    metric: Metric,
    query: impl Iterator<Item = &'a [f32]>,
    stored: impl Fn() -> Rows,
) -> f32 {
    let best =
        |row: &[f32]| stored().map(|other| of_rows(metric, row, other)).fold(f32::NEG_INFINITY, f32::max);
    query.map(best).fold(0.0, |sum, best| sum + best)
}

/// The rows of a vector; none of a sparse one.
fn rows(vector: &Vector) -> impl Iterator<Item = &[f32]> {
    let several = vector.as_multi().into_iter().flat_map(MultiVector::rows);
    vector.as_dense().into_iter().chain(several)
}

#[cfg(test)]
mod tests {
    use rand::{Rng, SeedableRng, rngs::StdRng};

    use super::*;
    use crate::vector::SparseVector;

    const ALL: [Metric; 4] = [Metric::Cosine, Metric::Dot, Metric::Euclid, Metric::Manhattan];

    fn naive(metric: Metric, a: &[f32], b: &[f32]) -> f32 {
        let pairs = || a.iter().zip(b);
        match metric {
            Metric::Cosine | Metric::Dot => pairs().map(|(x, y)| x * y).sum(),
            Metric::Euclid => -pairs().map(|(x, y)| (x - y) * (x - y)).sum::<f32>(),
            Metric::Manhattan => -pairs().map(|(x, y)| (x - y).abs()).sum::<f32>(),
        }
    }

    #[test]
    fn several_rows_are_compared_by_the_sum_of_best_matches() {
        let seed = 9;
        let mut random = StdRng::seed_from_u64(seed);
        for _ in 0..200 {
            let dim = random.random_range(1..50);
            let mut draw = |most: usize| -> Vec<Vec<f32>> {
                let count = random.random_range(1..=most);
                (0..count).map(|_| (0..dim).map(|_| random.random_range(-1.0..1.0)).collect()).collect()
            };
            let (query, stored) = (draw(4), draw(6));
            let vector = |rows: &[Vec<f32>]| match rows {
                [row] => Vector::Dense(row.clone()),
                rows => MultiVector::from_rows(rows).unwrap().into(),
            };
            for metric in ALL {
                let mut want = 0.0;
                for a in &query {
                    want += stored.iter().map(|b| naive(metric, a, b)).fold(f32::NEG_INFINITY, f32::max);
                }
                let got = similarity(metric, &vector(&query), &vector(&stored)).unwrap();
                assert!((got - want).abs() < 1e-3, "{metric:?} {got}, naively {want}, seed {seed}");
            }
        }
    }

    #[test]
    fn sparse_vectors_are_compared_where_both_have_values() {
        let sparse = |entries: &[(u32, f32)]| Vector::Sparse(SparseVector::new(entries.to_vec()).unwrap());
        let query = sparse(&[(1, 2.0), (5, -1.0), (u32::MAX, 3.0)]);
        let compared = |stored: &[(u32, f32)]| similarity(Metric::Dot, &query, &sparse(stored));
        assert_eq!(compared(&[(1, 0.5), (2, 9.0), (u32::MAX, 1.0)]), Some(4.0));
        assert_eq!(compared(&[(1, 1.0), (5, 2.0)]), Some(0.0));
        assert_eq!(compared(&[(2, 1.0)]), None);
        assert_eq!(compared(&[]), None);
        assert_eq!(similarity(Metric::Dot, &query, &Vector::Dense(vec![1.0])), None);
    }

    #[test]
    fn scores_of_distances_are_positive() {
        let (query, stored) = (Vector::Dense(vec![1.0, 2.0]), Vector::Dense(vec![4.0, 6.0]));
        let shown = |metric| score(metric, similarity(metric, &query, &stored).unwrap());
        assert_eq!([Metric::Dot, Metric::Euclid, Metric::Manhattan].map(shown), [16.0, 5.0, 7.0]);
        let rows = [vec![1.0, 2.0], vec![4.0, 6.0]];
        let twice: Vector = MultiVector::from_rows(&rows).unwrap().into();
        let origin: Vector = MultiVector::from_rows(&[vec![4.0, 6.0], vec![7.0, 10.0]]).unwrap().into();
        // Squares are summed before the root is taken: 25 + 0.
        assert_eq!(score(Metric::Euclid, similarity(Metric::Euclid, &twice, &origin).unwrap()), 5.0);
        assert_eq!(score(Metric::Euclid, -0.0).to_bits(), 0);
    }
}
