//! A query, and what all its distances share: the length, which the cosine with
//! rows of bytes needs. Rows of floats need nothing but the values.

use super::Metric;
use super::sums::{Difference, Number, Product, SquaredDifference, sum};
use crate::Row;

/// A prepared query that is measured against many rows.
///
/// ```
/// use cairn_ann::{Metric, Query, Row};
///
/// let query = Query::new(Metric::Euclid, &[1.0, 2.0]);
/// assert_eq!(query.distance(Row::F32(&[4.0, 6.0])), 25.0);
/// assert_eq!(query.distance(Row::U8(&[4, 6])), 25.0);
/// ```
#[derive(Debug, Clone, Copy)]
pub struct Query<'a> {
    metric: Metric,
    values: &'a [f32],
    /// For cosine; else 0.
    length: f32,
}

impl<'a> Query<'a> {
    /// Readies a query; `values` are prepared for the metric.
    pub fn new(metric: Metric, values: &'a [f32]) -> Self {
        let length = match metric {
            Metric::Cosine => length(values),
            _ => 0.0,
        };
        Self { metric, values, length }
    }

    /// Measures a row; smaller is nearer. See [`Metric::distance_to`].
    ///
    /// # Panics
    /// If the row has another length than the query.
    #[inline]
    pub fn distance(&self, row: Row) -> f32 {
        match row {
            Row::F32(row) => self.metric.distance(self.values, row),
            Row::F16(row) => apart(self.metric, self.values, row),
            Row::U8(row) if self.metric == Metric::Cosine => cosine(self.values, self.length, row),
            Row::U8(row) => apart(self.metric, self.values, row),
        }
    }
}

/// Measures two rows of the same format.
#[inline]
pub(super) fn between(metric: Metric, a: Row, b: Row) -> f32 {
    match (a, b) {
        (Row::F32(a), Row::F32(b)) => metric.distance(a, b),
        (Row::F16(a), Row::F16(b)) => apart(metric, a, b),
        (Row::U8(a), Row::U8(b)) if metric == Metric::Cosine => cosine(a, length(a), b),
        (Row::U8(a), Row::U8(b)) => apart(metric, a, b),
        // Nothing asks for it; right all the same.
        (a, b) => Query::new(metric, &a.to_f32()).distance(b),
    }
}

fn apart<A: Number, B: Number>(metric: Metric, a: &[A], b: &[B]) -> f32 {
    match metric {
        Metric::Cosine | Metric::Dot => 0.0 - sum::<Product, A, B>(a, b),
        Metric::Euclid => sum::<SquaredDifference, A, B>(a, b),
        Metric::Manhattan => sum::<Difference, A, B>(a, b),
    }
}

/// The negated cosine; 0 where a vector has no direction.
fn cosine<A: Number>(a: &[A], a_length: f32, b: &[u8]) -> f32 {
    let lengths = a_length * length(b);
    if lengths == 0.0 {
        return 0.0;
    }
    0.0 - sum::<Product, A, u8>(a, b) / lengths
}

fn length<T: Number>(values: &[T]) -> f32 {
    sum::<Product, T, T>(values, values).sqrt()
}
