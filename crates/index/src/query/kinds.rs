//! What one node of a query tree can ask, kind by kind.
//!
//! Every kind's arithmetic is written here once, as its definition; `examples`,
//! `fusion`, `mmr` and `formula` carry it out.

use std::collections::BTreeMap;

use serde_json::Value;

use crate::id::PointId;
use crate::label::WrittenId;
use crate::path::Path;
use crate::vector::Vector;

use super::expression::Expression;
use crate::fields::OrderValue;

/// What scores points, or orders them.
///
/// `sim(x)` below is the similarity of a point to `x`, larger for nearer: the
/// inner product for cosine and dot, the negated squared distance for Euclid,
/// the negated distance for Manhattan. Points without the vector compared are
/// not found.
#[derive(Debug, Clone, PartialEq)]
pub enum Query {
    /// The points nearest to a vector.
    ///
    /// The score is the similarity for cosine and dot, and the distance,
    /// smaller being better, for Euclid and Manhattan.
    Nearest {
        /// What is looked for.
        target: Target,
        /// Whether the result should also be diverse.
        mmr: Option<Mmr>,
    },
    /// Points like some examples and unlike others.
    ///
    /// An example given by id whose point lacks the vector is left out.
    Recommend {
        /// What hits should be like.
        positive: Vec<Target>,
        /// What hits should be unlike.
        negative: Vec<Target>,
        /// How examples become a score.
        strategy: Strategy,
    },
    /// Points near a target within the region that pairs of examples mark off:
    /// `sum over pairs of sign(sim(positive) - sim(negative)) + s(sim(target))`
    /// with `s(x) = (x / (1 + |x|) + 1) / 2`.
    Discover {
        /// What is looked for.
        target: Target,
        /// What marks off the region.
        context: Vec<ContextPair>,
    },
    /// Points on the positive side of every pair:
    /// `sum over pairs of f(min(sim(positive) - sim(negative) - e, 0))` with
    /// `f(x) = x / (1 + |x|)` and `e` the f32 epsilon. The best score is 0.
    Context(Vec<ContextPair>),
    /// Points by how well a text field answers words; the field is what `using`
    /// names.
    Words(WordsQuery),
    /// Points by a payload value, each with score 1.
    OrderBy(OrderBy),
    /// What several prefetches found, as one list.
    Fusion(Fusion),
    /// What prefetches found, by a formula over their scores and the payload.
    Formula(Formula),
    /// Points at random, each with score 1.
    Sample,
    /// Points near a target, corrected by scores that a better judge gave to
    /// earlier hits: `a * sim(target) + sum over pairs of
    /// confidence^b * c * (sim(better) - sim(worse))`. Each two examples of
    /// unequal score are a pair, and the difference is its confidence.
    Feedback {
        /// What is looked for.
        target: Target,
        /// Earlier hits with their scores, at least one.
        feedback: Vec<FeedbackExample>,
        /// The trained weights.
        weights: FeedbackWeights,
    },
}

impl Query {
    /// The points nearest to a vector or to a point.
    pub fn nearest(target: impl Into<Target>) -> Self {
        Self::Nearest { target: target.into(), mmr: None }
    }

    /// Near to a vector or a point, and diverse.
    pub fn diverse(target: impl Into<Target>, mmr: Mmr) -> Self {
        Self::Nearest { target: target.into(), mmr: Some(mmr) }
    }

    /// Points like `positive` and unlike `negative`, by average vector.
    pub fn recommend(positive: Vec<Target>, negative: Vec<Target>) -> Self {
        Self::Recommend { positive, negative, strategy: Strategy::default() }
    }

    /// Points by the number or datetime at `key`, smallest first.
    pub fn order_by(key: Path) -> Self {
        Self::OrderBy(OrderBy { key, direction: Direction::Ascending, start_from: None })
    }

    /// Prefetched lists fused by rank, with the usual `k` and equal weights.
    pub fn rrf() -> Self {
        Self::Fusion(Fusion::Rrf { k: Fusion::DEFAULT_K, weights: None })
    }

    /// Prefetched points scored by an expression.
    pub fn formula(expression: Expression) -> Self {
        Self::Formula(Formula { expression, defaults: BTreeMap::new() })
    }
}

/// The words that a text field is ranked by, with Okapi BM25 over the strings of
/// the field. The field has a text index with
/// [`scoring`](crate::TextOptions::scoring).
#[derive(Debug, Clone, PartialEq)]
pub struct WordsQuery {
    /// The text that is looked for, analysed as the field's texts are; points
    /// that have none of its words are not found.
    pub text: String,
    /// How soon a word that is repeated adds nothing more; from 0. Default 1.2.
    pub k: f32,
    /// How much longer texts are discounted, from 0 to 1. Default 0.75.
    pub b: f32,
}

impl WordsQuery {
    /// With the usual `k` and `b`.
    pub fn new(text: impl Into<String>) -> Self {
        Self { text: text.into(), k: 1.2, b: 0.75 }
    }
}

/// An example: a vector, or a point that has one.
///
/// A point given by id is not itself a hit of the query, unless it was looked
/// up in another collection.
#[derive(Debug, Clone, PartialEq)]
pub enum Target {
    /// This vector.
    Vector(Vector),
    /// The vector of this point.
    Id(WrittenId),
}

impl<V: Into<Vector>> From<V> for Target {
    fn from(vector: V) -> Self {
        Self::Vector(vector.into())
    }
}

impl From<PointId> for Target {
    fn from(id: PointId) -> Self {
        Self::Id(id.into())
    }
}

impl From<WrittenId> for Target {
    fn from(id: WrittenId) -> Self {
        Self::Id(id)
    }
}

impl From<u64> for Target {
    fn from(id: u64) -> Self {
        Self::Id(id.into())
    }
}

/// Maximal marginal relevance (Carbonell and Goldstein, 1998).
///
/// Of the nearest candidates, repeatedly takes the one with the largest
/// `(1 - diversity) * sim(target) - diversity * max over taken of sim(taken)`.
/// Hits keep their scores and come in the order they were taken.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Mmr {
    /// From 0, by relevance alone, to 1, by difference alone. Default 0.5.
    pub diversity: f32,
    /// How many of the nearest are candidates, at most 16384. Default: the
    /// limit.
    pub candidates_limit: Option<usize>,
}

impl Default for Mmr {
    fn default() -> Self {
        Self { diversity: 0.5, candidates_limit: None }
    }
}

/// How the examples of a recommendation become a score.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Strategy {
    /// Nearest to `avg(positive) + avg(positive) - avg(negative)`, or to
    /// `avg(positive)` without negatives. Needs a positive example.
    #[default]
    AverageVector,
    /// With `p` and `n` the largest similarities to a positive and a negative
    /// example: `s(p)` if `p > n`, else `-s(n)`, and
    /// `s(x) = (x / (1 + |x|) + 1) / 2`.
    BestScore,
    /// `sum of sim(positive) - sum of sim(negative)`.
    SumScores,
}

/// Two examples that mark off a half of the space.
#[derive(Debug, Clone, PartialEq)]
pub struct ContextPair {
    /// On the side looked for.
    pub positive: Target,
    /// On the other side.
    pub negative: Target,
}

impl ContextPair {
    /// The half of the space nearer to `positive` than to `negative`.
    pub fn new(positive: impl Into<Target>, negative: impl Into<Target>) -> Self {
        Self { positive: positive.into(), negative: negative.into() }
    }
}

/// An order by a payload value. A point whose value is an array comes once for
/// each of its values.
#[derive(Debug, Clone, PartialEq)]
pub struct OrderBy {
    /// Where the numbers or datetimes are.
    pub key: Path,
    /// Smallest or largest first.
    pub direction: Direction,
    /// The first value that may come. A datetime is its microseconds.
    pub start_from: Option<OrderValue>,
}

/// Which end of an order comes first.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Direction {
    /// Smallest first.
    #[default]
    Ascending,
    /// Largest first.
    Descending,
}

/// How several lists become one.
#[derive(Debug, Clone, PartialEq)]
pub enum Fusion {
    /// Reciprocal rank fusion (Cormack, Clarke and Buettcher, 2009): the sum
    /// over lists of `1 / ((position + 1) / weight + k - 1)`, positions from 0.
    Rrf {
        /// How fast ranks lose value, 1 or more. Default 2. The paper's 60 is
        /// 61 here.
        k: usize,
        /// One for each prefetch. Default: all 1.
        weights: Option<Vec<f32>>,
    },
    /// Distribution-based score fusion (Mazzeschi, 2023): the sum over lists
    /// of `(score - min) / (max - min)`, where `min` and `max` are the list's
    /// mean less and plus three sample standard deviations. A list of one score
    /// counts 0.5. Where smaller scores are better, one minus that is summed.
    Dbsf,
}

impl Fusion {
    /// The usual `k` of reciprocal rank fusion.
    pub const DEFAULT_K: usize = 2;
}

/// A score computed from prefetch scores and payload values.
#[derive(Debug, Clone, PartialEq)]
pub struct Formula {
    /// What is computed.
    pub expression: Expression,
    /// Values of variables where a point has none, by the variable as it is
    /// written: `$score`, `$score[1]`, `a.b`.
    pub defaults: BTreeMap<String, Value>,
}

/// An earlier hit and the score that a better judge gave it.
#[derive(Debug, Clone, PartialEq)]
pub struct FeedbackExample {
    /// The hit.
    pub example: Target,
    /// Its score, larger for better.
    pub score: f32,
}

/// The weights of relevance feedback, trained for a pair of models.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct FeedbackWeights {
    /// Of the similarity to the target.
    pub a: f32,
    /// The power of a pair's confidence, 0 or more.
    pub b: f32,
    /// Of the pairs.
    pub c: f32,
}
