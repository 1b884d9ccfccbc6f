//! Queries as clients write them: the bodies of the universal query and what
//! they have in common. What one node can ask is in `kinds`, expressions in
//! `formula`, the older endpoints in `legacy`; how they become the engine's own
//! is in `ask`.

mod ask;
mod formula;
mod kinds;
pub(crate) mod legacy;

use cairn_index::Filter;
use serde::de::IgnoredAny;
use serde::{Deserialize, Deserializer};
use utoipa::ToSchema;

pub(crate) use self::ask::Asking;
pub(crate) use self::ask::order_by;
pub(crate) use self::kinds::{OrderInput, PairInput, QueryInput, StrategyInput};
use crate::wire::points::{WithPayload, WithVector};
use crate::wire::vector::{TargetInput, VectorInput};

/// A question to a collection.
#[derive(Debug, Clone, Default, Deserialize, ToSchema)]
pub(crate) struct QueryPoints {
    /// A vector, a point id, `{"text", "model"}`, or an object with one of
    /// `nearest`, `recommend`, `discover`, `context`, `order_by`, `fusion`,
    /// `rrf`, `formula`, `sample`, `relevance_feedback`.
    #[serde(default)]
    #[schema(value_type = Option<Value>)]
    pub(crate) query: Option<QueryInput>,
    /// Where the candidates come from: one or several queries of this form.
    #[serde(default, deserialize_with = "one_or_many")]
    #[schema(value_type = Option<Value>)]
    pub(crate) prefetch: Vec<PrefetchPoints>,
    /// The name of the vector compared; the unnamed one when absent.
    #[serde(default)]
    pub(crate) using: Option<String>,
    #[serde(default)]
    #[schema(value_type = Option<Object>)]
    pub(crate) filter: Option<Filter>,
    #[serde(default)]
    pub(crate) params: Option<SearchParams>,
    /// Only points that score better.
    #[serde(default)]
    pub(crate) score_threshold: Option<f32>,
    /// Points at most, 10 when absent.
    #[serde(default)]
    #[schema(minimum = 1)]
    pub(crate) limit: Option<usize>,
    /// Points passed over.
    #[serde(default)]
    pub(crate) offset: Option<usize>,
    #[serde(default)]
    #[schema(value_type = Option<Value>)]
    pub(crate) with_payload: Option<WithPayload>,
    #[serde(default, alias = "with_vectors")]
    #[schema(value_type = Option<Value>)]
    pub(crate) with_vector: Option<WithVector>,
    /// The collection that examples given by id are read from.
    #[serde(default)]
    pub(crate) lookup_from: Option<LookupInput>,
}

/// Bounds within which plain searches of a collection cost about the same.
const PLAIN_HITS: usize = 100;
const PLAIN_EF: usize = 512;

impl QueryPoints {
    /// Whether it asks for the few nearest points to a vector and nothing else,
    /// which takes about as long each time.
    pub(crate) fn is_plain(&self) -> bool {
        let Self { query, prefetch, filter, params, limit, offset, lookup_from, .. } = self;
        let is_vector = matches!(
            query,
            Some(QueryInput::Nearest(TargetInput::Vector(
                VectorInput::Dense(_) | VectorInput::Sparse { .. }
            )))
        );
        let hits = limit.unwrap_or(10).saturating_add(offset.unwrap_or(0));
        let is_quick = params.as_ref().is_none_or(|params| {
            params.exact != Some(true)
                && params.recall.is_none()
                && params.hnsw_ef.is_none_or(|ef| ef <= PLAIN_EF)
        });
        is_vector
            && is_quick
            && hits <= PLAIN_HITS
            && prefetch.is_empty()
            && filter.is_none()
            && lookup_from.is_none()
    }
}

/// A source of candidates for the query above it.
#[derive(Debug, Clone, Default, Deserialize)]
pub(crate) struct PrefetchPoints {
    #[serde(default)]
    pub(crate) query: Option<QueryInput>,
    #[serde(default, deserialize_with = "one_or_many")]
    pub(crate) prefetch: Vec<PrefetchPoints>,
    #[serde(default)]
    pub(crate) using: Option<String>,
    #[serde(default)]
    pub(crate) filter: Option<Filter>,
    #[serde(default)]
    pub(crate) params: Option<SearchParams>,
    #[serde(default)]
    pub(crate) score_threshold: Option<f32>,
    #[serde(default)]
    pub(crate) limit: Option<usize>,
    #[serde(default)]
    pub(crate) lookup_from: Option<LookupInput>,
}

/// Several questions at once.
#[derive(Debug, Deserialize, ToSchema)]
pub(crate) struct QueryBatch {
    pub(crate) searches: Vec<QueryPoints>,
}

/// A question whose hits come in groups.
#[derive(Debug, Deserialize, ToSchema)]
pub(crate) struct QueryGroups {
    #[serde(flatten)]
    pub(crate) request: QueryPoints,
    #[serde(flatten)]
    pub(crate) grouping: Grouping,
}

/// How hits are put together in groups.
#[derive(Debug, Clone, Deserialize, ToSchema)]
pub(crate) struct Grouping {
    /// The payload field whose values are the groups.
    pub(crate) group_by: String,
    /// Hits in a group at most, 3 when absent.
    #[serde(default)]
    #[schema(minimum = 1)]
    pub(crate) group_size: Option<usize>,
    /// A collection that has a point for each group.
    #[serde(default)]
    #[schema(value_type = Option<Value>)]
    pub(crate) with_lookup: Option<WithLookupInput>,
}

/// A collection, or one with a choice of what comes back.
#[derive(Debug, Clone, Deserialize)]
#[serde(untagged, expecting = "with_lookup is a collection or {collection, with_payload, with_vectors}")]
pub(crate) enum WithLookupInput {
    Collection(String),
    Parts(LookupParts),
}

#[derive(Debug, Clone, Deserialize)]
pub(crate) struct LookupParts {
    pub(crate) collection: String,
    #[serde(default)]
    pub(crate) with_payload: Option<WithPayload>,
    #[serde(default, alias = "with_vector")]
    pub(crate) with_vectors: Option<WithVector>,
}

/// Where examples given by id are read.
#[derive(Debug, Clone, Deserialize, ToSchema)]
pub(crate) struct LookupInput {
    pub(crate) collection: String,
    /// The vector's name there; that of `using` when absent.
    #[serde(default)]
    pub(crate) vector: Option<String>,
}

/// How the search is carried out.
#[derive(Debug, Clone, Default, Deserialize, ToSchema)]
pub(crate) struct SearchParams {
    /// Candidates kept while walking the graph.
    #[serde(default)]
    pub(crate) hnsw_ef: Option<usize>,
    /// An extension: the part of the true nearest neighbours to find, above 0 and
    /// at most 1, where `hnsw_ef` is not given.
    #[serde(default)]
    pub(crate) recall: Option<f32>,
    /// Compare with every point.
    #[serde(default)]
    pub(crate) exact: Option<bool>,
    /// Look only at points that an index covers already.
    #[serde(default)]
    pub(crate) indexed_only: Option<bool>,
    /// `oversampling`: candidates for each hit at least. `ignore`: measure the vectors
    /// all the way instead of their codes. `rescore` of false: measure codes alone.
    #[serde(default)]
    #[schema(value_type = Option<Object>)]
    pub(crate) quantization: Option<QuantizationParams>,
    /// Read and left aside: filtered walks step over rejected points anyway.
    #[serde(default, rename = "acorn")]
    #[schema(value_type = Option<Object>)]
    _acorn: Option<AcornParams>,
    /// Over what inverse document frequencies are counted: `global`, or the points
    /// that match a filter, `{"corpus": filter}`.
    #[serde(default)]
    #[schema(value_type = Option<Value>)]
    pub(crate) idf: Option<IdfInput>,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(untagged, expecting = "params.idf is `global` or {\"corpus\": filter}")]
pub(crate) enum IdfInput {
    Global(GlobalIdf),
    Of { corpus: Filter },
}

#[derive(Debug, Clone, Copy, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum GlobalIdf {
    Global,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub(crate) struct QuantizationParams {
    pub(crate) ignore: Option<bool>,
    pub(crate) rescore: Option<bool>,
    pub(crate) oversampling: Option<f32>,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub(crate) struct AcornParams {
    #[serde(rename = "enable")]
    _enable: Option<bool>,
    #[serde(rename = "max_selectivity")]
    _max_selectivity: Option<f64>,
}

/// A list, one item without its brackets, or null.
pub(crate) fn one_or_many<'de, D, T>(deserializer: D) -> Result<Vec<T>, D::Error>
where
    D: Deserializer<'de>,
    T: Deserialize<'de>,
{
    struct Visitor<T>(std::marker::PhantomData<T>);
    impl<'de, T: Deserialize<'de>> serde::de::Visitor<'de> for Visitor<T> {
        type Value = Vec<T>;

        fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
            f.write_str("one or a list of them")
        }

        fn visit_unit<E>(self) -> Result<Vec<T>, E> {
            Ok(Vec::new())
        }

        fn visit_seq<A: serde::de::SeqAccess<'de>>(self, seq: A) -> Result<Vec<T>, A::Error> {
            Vec::deserialize(serde::de::value::SeqAccessDeserializer::new(seq))
        }

        fn visit_map<A: serde::de::MapAccess<'de>>(self, map: A) -> Result<Vec<T>, A::Error> {
            T::deserialize(serde::de::value::MapAccessDeserializer::new(map)).map(|one| vec![one])
        }
    }
    deserializer.deserialize_any(Visitor(std::marker::PhantomData))
}

/// Whether a key is there, whatever it holds.
pub(crate) type Present = Option<IgnoredAny>;
