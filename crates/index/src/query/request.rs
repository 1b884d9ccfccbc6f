//! The query tree's nodes: a request at the root, prefetches below.
//!
//! What a node can ask is in `kinds`; what a tree must keep to is checked by
//! `plan` when it runs.

use crate::filter::Filter;
use crate::point::Parts;

use super::kinds::Query;

/// A question to a collection.
///
/// Without prefetches the query looks at all points that pass the filter. With
/// prefetches it scores only what they found, and the filter also holds for
/// them. Without a query the points come in order of id, each with score 1.
///
/// ```
/// use cairn_index::{Prefetch, Query, QueryRequest};
///
/// // The nearest five.
/// let simple = QueryRequest::new(Query::nearest(vec![0.1, 0.2])).limit(5);
///
/// // Dense and sparse hits, fused by rank.
/// let hybrid = QueryRequest::new(Query::rrf())
///     .prefetch(Prefetch::new(Query::nearest(vec![0.1, 0.2])).limit(50))
///     .prefetch(Prefetch::new(Query::nearest(7)).using("words").limit(50));
/// assert_eq!(hybrid.limit, 10);
/// ```
#[derive(Debug, Clone, PartialEq)]
pub struct QueryRequest {
    /// What scores the points. Default: nothing, points come in order of id.
    pub query: Option<Query>,
    /// Where the candidates come from. Default: the collection.
    pub prefetch: Vec<Prefetch>,
    /// Which vector is compared; the unnamed one is `""`.
    pub using: String,
    /// Which points may be hits, here and in all prefetches.
    pub filter: Option<Filter>,
    /// How vectors are searched; matters only without prefetches.
    pub params: SearchParams,
    /// Only hits better than this score: above it, or below it where smaller
    /// scores are better. A fused score or a formula's may also equal it.
    pub score_threshold: Option<f32>,
    /// How many hits at most, 1 or more. Default 10.
    pub limit: usize,
    /// How many of the best are passed over. Default 0. A random sample of the
    /// collection has no order and ignores it.
    pub offset: usize,
    /// What comes back with a hit. Default: nothing but id and score.
    pub parts: Parts,
    /// Where examples given by id are read. Default: this collection, `using`.
    pub lookup_from: Option<LookupFrom>,
}

impl Default for QueryRequest {
    fn default() -> Self {
        Self {
            query: None,
            prefetch: Vec::new(),
            using: String::new(),
            filter: None,
            params: SearchParams::default(),
            score_threshold: None,
            limit: DEFAULT_LIMIT,
            offset: 0,
            parts: Parts::default(),
            lookup_from: None,
        }
    }
}

const DEFAULT_LIMIT: usize = 10;

impl QueryRequest {
    /// The ten best points for `query`.
    pub fn new(query: Query) -> Self {
        Self { query: Some(query), ..Self::default() }
    }

    /// With one more source of candidates.
    #[must_use]
    pub fn prefetch(mut self, prefetch: Prefetch) -> Self {
        self.prefetch.push(prefetch);
        self
    }

    /// Comparing the vector of this name.
    #[must_use]
    pub fn using(mut self, name: impl Into<String>) -> Self {
        self.using = name.into();
        self
    }

    /// Only points that match.
    #[must_use]
    pub fn filter(mut self, filter: Filter) -> Self {
        self.filter = Some(filter);
        self
    }

    /// Only hits better than `score`.
    #[must_use]
    pub fn score_threshold(mut self, score: f32) -> Self {
        self.score_threshold = Some(score);
        self
    }

    /// At most `limit` hits.
    #[must_use]
    pub fn limit(mut self, limit: usize) -> Self {
        self.limit = limit;
        self
    }

    /// Passing over the best `offset`.
    #[must_use]
    pub fn offset(mut self, offset: usize) -> Self {
        self.offset = offset;
        self
    }

    /// With these parts of each hit.
    #[must_use]
    pub fn with(mut self, parts: Parts) -> Self {
        self.parts = parts;
        self
    }

    /// Comparing with every point.
    #[must_use]
    pub fn exact(mut self) -> Self {
        self.params.exact = true;
        self
    }

    /// Reading examples given by id elsewhere.
    #[must_use]
    pub fn lookup_from(mut self, lookup: LookupFrom) -> Self {
        self.lookup_from = Some(lookup);
        self
    }
}

/// A source of candidates for the query above it; a tree of its own.
#[derive(Debug, Clone, PartialEq)]
pub struct Prefetch {
    /// What scores the points. Default: nothing, points come in order of id.
    pub query: Option<Query>,
    /// Where this one's candidates come from. Default: the collection.
    pub prefetch: Vec<Prefetch>,
    /// Which vector is compared; the unnamed one is `""`.
    pub using: String,
    /// Which points may be candidates, here and in prefetches below.
    pub filter: Option<Filter>,
    /// How vectors are searched; matters only without prefetches.
    pub params: SearchParams,
    /// Only candidates better than this score, as in [`QueryRequest`].
    pub score_threshold: Option<f32>,
    /// How many candidates at most, 1 or more. Default 10, whatever the limit
    /// and offset of the root are.
    pub limit: usize,
    /// Where examples given by id are read. Default: this collection, `using`.
    pub lookup_from: Option<LookupFrom>,
}

impl Default for Prefetch {
    fn default() -> Self {
        Self {
            query: None,
            prefetch: Vec::new(),
            using: String::new(),
            filter: None,
            params: SearchParams::default(),
            score_threshold: None,
            limit: DEFAULT_LIMIT,
            lookup_from: None,
        }
    }
}

impl Prefetch {
    /// The ten best points for `query`.
    pub fn new(query: Query) -> Self {
        Self { query: Some(query), ..Self::default() }
    }

    /// With one more source of candidates below.
    #[must_use]
    pub fn prefetch(mut self, prefetch: Prefetch) -> Self {
        self.prefetch.push(prefetch);
        self
    }

    /// Comparing the vector of this name.
    #[must_use]
    pub fn using(mut self, name: impl Into<String>) -> Self {
        self.using = name.into();
        self
    }

    /// Only points that match.
    #[must_use]
    pub fn filter(mut self, filter: Filter) -> Self {
        self.filter = Some(filter);
        self
    }

    /// Only candidates better than `score`.
    #[must_use]
    pub fn score_threshold(mut self, score: f32) -> Self {
        self.score_threshold = Some(score);
        self
    }

    /// At most `limit` candidates.
    #[must_use]
    pub fn limit(mut self, limit: usize) -> Self {
        self.limit = limit;
        self
    }
    /// Comparing with every point.
    #[must_use]
    pub fn exact(mut self) -> Self {
        self.params.exact = true;
        self
    }

    /// Reading examples given by id elsewhere.
    #[must_use]
    pub fn lookup_from(mut self, lookup: LookupFrom) -> Self {
        self.lookup_from = Some(lookup);
        self
    }
}

/// What a search by graph measures, where the graph has codes. Where there is none, and
/// for vectors of several rows, it is the vectors.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Measured {
    /// Codes on the way; the vectors of the best decide.
    #[default]
    Both,
    /// Vectors all the way: several times slower, and nothing is lost to codes.
    Vectors,
    /// Codes alone: scores are estimates, and vectors are not read.
    Codes,
}

/// How vectors are searched.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct SearchParams {
    /// Candidates kept while walking a graph: more finds more of the true
    /// neighbours and takes longer. Default: the collection's.
    pub ef: Option<usize>,
    /// The part of the true nearest neighbours to find, above 0 and at most 1,
    /// where `ef` is not given: each graph knows which effort reached it on a
    /// sample of its own points, and where no walk does, all codes are compared, or
    /// with codes of less than a byte a value all points. 1 compares with every point
    /// in full. A graph whose sample was not taken yet takes the usual `ef`.
    pub recall: Option<f32>,
    /// Compare with every point instead of using an index.
    pub exact: bool,
    /// Look only at points that an index covers already.
    pub indexed_only: bool,
    /// Candidates at most, whatever `recall` asks for.
    pub ef_limit: Option<usize>,
    /// Candidates for each hit at least: walks keep `limit` times so many.
    pub oversampling: Option<f32>,
    /// What walks measure, and what decides in the end.
    pub measured: Measured,
    /// The points that inverse document frequencies are counted over, for a
    /// sparse vector that has them. Default: all that have the vector.
    pub idf_corpus: Option<Filter>,
}

impl SearchParams {
    /// Whether all points are to be compared: by `exact`, or by a recall of 1.
    pub fn is_exact(&self) -> bool {
        self.exact || self.ef.is_none() && self.recall == Some(1.0)
    }
}

/// Another collection, or another vector, that examples given by id are read
/// from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LookupFrom {
    /// The collection.
    pub collection: String,
    /// The vector's name there. Default: the `using` of the query.
    pub vector: Option<String>,
}
