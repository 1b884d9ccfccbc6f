//! Examples made into something that can be searched for: one average vector,
//! or a rule that combines the similarities to each of them.
//!
//! All arithmetic is f32, in the order written, so that scores agree to the
//! last digit with what clients expect.

use std::collections::BTreeMap;

use crate::error::{Error, Result};
use crate::vector::{MultiVector, SparseVector, Vector};

use super::kinds::{FeedbackWeights, Strategy};

/// The vector that a recommendation by average looks for. The examples are of
/// one kind and length.
pub(super) fn average_vector(positive: &[Vector], negative: &[Vector]) -> Result<Vector> {
    match positive.first() {
        None => Err(Error::Request("At least one positive vector ID required with this strategy".to_owned())),
        Some(Vector::Dense(_)) => Ok(Vector::Dense(dense(&denses(positive), &denses(negative)))),
        Some(Vector::Sparse(_)) => sparse(&sparses(positive), &sparses(negative)).map(Vector::Sparse),
        Some(Vector::Multi(first)) => multi(first.dim(), positive, negative).map(Vector::Multi),
    }
}

fn denses(vectors: &[Vector]) -> Vec<&[f32]> {
    vectors.iter().filter_map(Vector::as_dense).collect()
}

fn sparses(vectors: &[Vector]) -> Vec<&SparseVector> {
    vectors.iter().filter_map(Vector::as_sparse).collect()
}

/// `2 avg(positive) - avg(negative)`, or `avg(positive)`.
fn dense(positive: &[&[f32]], negative: &[&[f32]]) -> Vec<f32> {
    let positive = dense_mean(positive);
    if negative.is_empty() {
        return positive;
    }
    let negative = dense_mean(negative);
    positive.iter().zip(&negative).map(|(p, n)| p + p - n).collect()
}

fn dense_mean(vectors: &[&[f32]]) -> Vec<f32> {
    let mut mean = vec![0.0; vectors[0].len()];
    for vector in vectors {
        mean.iter_mut().zip(*vector).for_each(|(sum, value)| *sum += value);
    }
    mean.iter_mut().for_each(|sum| *sum /= vectors.len() as f32);
    mean
}

fn sparse(positive: &[&SparseVector], negative: &[&SparseVector]) -> Result<SparseVector> {
    let mut values = sparse_mean(positive);
    if negative.is_empty() {
        return SparseVector::new(values);
    }
    values.values_mut().for_each(|value| *value += *value);
    for (index, value) in sparse_mean(negative) {
        *values.entry(index).or_default() -= value;
    }
    SparseVector::new(values)
}

fn sparse_mean(vectors: &[&SparseVector]) -> BTreeMap<u32, f32> {
    let mut mean = BTreeMap::new();
    for (index, value) in vectors.iter().flat_map(|vector| vector.entries()) {
        *mean.entry(index).or_default() += value;
    }
    mean.values_mut().for_each(|sum: &mut f32| *sum /= vectors.len() as f32);
    mean
}

/// All rows of the positives, and those of the negatives negated.
fn multi(dim: usize, positive: &[Vector], negative: &[Vector]) -> Result<MultiVector> {
    let rows = |vectors: &[Vector]| {
        vectors.iter().filter_map(Vector::as_multi).flat_map(|rows| rows.values().to_vec()).collect()
    };
    let mut values: Vec<f32> = rows(positive);
    let negative: Vec<f32> = rows(negative);
    values.extend(negative.into_iter().map(|value| -value));
    MultiVector::new(dim, values)
}

/// How similarities to several examples make one score, larger for better.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Rule {
    /// Positives first, then negatives.
    BestScore { positives: usize },
    /// Positives first, then negatives.
    SumScores { positives: usize },
    /// The target, then pairs of a positive and a negative.
    Discover,
    /// Pairs of a positive and a negative.
    Context,
    /// The target, then the examples that the pairs name by position.
    Feedback { a: f32, pairs: Vec<FeedbackPair> },
}

/// Two feedback examples, and what their difference weighs.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct FeedbackPair {
    better: usize,
    worse: usize,
    weight: f32,
}

impl Rule {
    /// The rule of a strategy that does not average.
    pub(super) fn recommend(strategy: Strategy, positives: usize, examples: usize) -> Result<Self> {
        if examples == 0 {
            let text = "At least one positive or negative vector ID required with this strategy";
            return Err(Error::Request(text.to_owned()));
        }
        Ok(if strategy == Strategy::SumScores {
            Self::SumScores { positives }
        } else {
            Self::BestScore { positives }
        })
    }

    /// The rule for feedback with these scores; example `i` is at `i + 1`.
    pub(super) fn feedback(weights: FeedbackWeights, scores: &[f32]) -> Result<Self> {
        let FeedbackWeights { a, b, c } = weights;
        if scores.is_empty() {
            return Err(Error::Request("relevance feedback needs at least one example".to_owned()));
        }
        if b < 0.0 {
            return Err(Error::Request(format!(
                "relevance feedback weight b: value {b} invalid, must be 0 or larger"
            )));
        }
        if !(a.is_finite() && b.is_finite() && c.is_finite() && scores.iter().all(|score| score.is_finite()))
        {
            return Err(Error::Request("weights and scores of relevance feedback must be finite".to_owned()));
        }
        let mut order: Vec<usize> = (0..scores.len()).collect();
        order.sort_by(|x, y| scores[*y].total_cmp(&scores[*x]));
        let mut pairs = Vec::new();
        for (rank, better) in order.iter().enumerate() {
            for worse in &order[rank + 1..] {
                let confidence = scores[*better] - scores[*worse];
                if confidence > 0.0 {
                    let weight = confidence.powf(b) * c;
                    pairs.push(FeedbackPair { better: better + 1, worse: worse + 1, weight });
                }
            }
        }
        Ok(Self::Feedback { a, pairs })
    }

    /// The score of a point with these similarities to the examples.
    pub(super) fn combine(&self, similarities: &[f32]) -> f32 {
        match self {
            Self::BestScore { positives } => {
                let (positive, negative) = similarities.split_at(*positives);
                let (best, worst) = (largest(positive), largest(negative));
                if best > worst { squash_to_unit(best) } else { -squash_to_unit(worst) }
            }
            Self::SumScores { positives } => {
                let (positive, negative) = similarities.split_at(*positives);
                total(positive.iter().copied()) - total(negative.iter().copied())
            }
            Self::Discover => {
                let rank: i32 = similarities[1..].chunks_exact(2).map(side).sum();
                rank as f32 + squash_to_unit(similarities[0])
            }
            Self::Context => total(similarities.chunks_exact(2).map(|pair| loss(pair[0] - pair[1]))),
            Self::Feedback { a, pairs } => {
                let mut score = a * similarities[0];
                for pair in pairs {
                    score += pair.weight * (similarities[pair.better] - similarities[pair.worse]);
                }
                score
            }
        }
    }
}

/// The sum, which of nothing is 0 and not -0.
fn total(values: impl Iterator<Item = f32>) -> f32 {
    values.fold(0.0, |sum, value| sum + value)
}

fn largest(similarities: &[f32]) -> f32 {
    similarities.iter().copied().fold(f32::NEG_INFINITY, f32::max)
}

/// Which side of a pair a point is on: 1, -1, or 0 for neither.
fn side(pair: &[f32]) -> i32 {
    i32::from(pair[0] > pair[1]) - i32::from(pair[0] < pair[1])
}

/// How far on the wrong side of a pair a point is; 0 on the right side.
fn loss(difference: f32) -> f32 {
    squash((difference - f32::EPSILON).min(0.0))
}

/// A cheap sigmoid into -1..1.
fn squash(x: f32) -> f32 {
    // Similarities of huge vectors overflow.
    if x.is_infinite() { x.signum() } else { x / (1.0 + x.abs()) }
}

/// The same into 0..1.
fn squash_to_unit(x: f32) -> f32 {
    0.5 * (squash(x) + 1.0)
}
