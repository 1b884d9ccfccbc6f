//! The older endpoints, `search`, `recommend` and `discover`, as thin shapes
//! over the universal query.

use cairn_index::Filter;
use serde::{Deserialize, Deserializer, de};
use serde_json::Value;
use utoipa::ToSchema;

use super::kinds::{DiscoverInput, RecommendInput};
use super::{
    Grouping, LookupInput, PairInput, QueryInput, QueryPoints, SearchParams, StrategyInput, one_or_many,
};
use crate::wire::points::{WithPayload, WithVector};
use crate::wire::vector::{TargetInput, VectorInput};

/// What the three have in common.
#[derive(Debug, Deserialize, ToSchema)]
pub(crate) struct Common {
    #[serde(default)]
    #[schema(value_type = Option<Object>)]
    filter: Option<Filter>,
    #[serde(default)]
    params: Option<SearchParams>,
    #[serde(alias = "top")]
    #[schema(minimum = 1)]
    limit: usize,
    #[serde(default)]
    offset: Option<usize>,
    #[serde(default)]
    #[schema(value_type = Option<Value>)]
    with_payload: Option<WithPayload>,
    #[serde(default, alias = "with_vectors")]
    #[schema(value_type = Option<Value>)]
    with_vector: Option<WithVector>,
    #[serde(default)]
    score_threshold: Option<f32>,
    #[serde(default)]
    lookup_from: Option<LookupInput>,
    #[serde(default)]
    #[schema(value_type = Option<Value>)]
    using: Option<UsingInput>,
}

impl Common {
    fn ask(self, query: QueryInput) -> QueryPoints {
        QueryPoints {
            query: Some(query),
            prefetch: Vec::new(),
            using: self.using.map(|(UsingInput::Name(name) | UsingInput::Named { name })| name),
            filter: self.filter,
            params: self.params,
            score_threshold: self.score_threshold,
            limit: Some(self.limit),
            offset: self.offset,
            with_payload: self.with_payload,
            with_vector: self.with_vector,
            lookup_from: self.lookup_from,
        }
    }
}

/// A vector's name, plain or in an object.
#[derive(Debug, Deserialize)]
#[serde(untagged)]
enum UsingInput {
    Name(String),
    Named { name: String },
}

/// A search for the nearest points.
#[derive(Debug, Deserialize, ToSchema)]
pub(crate) struct SearchPoints {
    /// Numbers, or `{"name", "vector"}`.
    #[schema(value_type = Value)]
    vector: NamedVector,
    #[serde(flatten)]
    common: Common,
}

/// Points like some and unlike others.
#[derive(Debug, Deserialize, ToSchema)]
pub(crate) struct RecommendPoints {
    #[serde(default)]
    #[schema(value_type = Vec<Value>)]
    positive: Vec<TargetInput>,
    #[serde(default)]
    #[schema(value_type = Vec<Value>)]
    negative: Vec<TargetInput>,
    #[serde(default)]
    #[schema(value_type = Option<String>)]
    strategy: Option<StrategyInput>,
    #[serde(flatten)]
    common: Common,
}

/// Points near a target in a region marked off by pairs.
#[derive(Debug, Deserialize, ToSchema)]
pub(crate) struct DiscoverPoints {
    #[serde(default)]
    #[schema(value_type = Option<Value>)]
    target: Option<TargetInput>,
    #[serde(default, deserialize_with = "one_or_many")]
    #[schema(value_type = Option<Value>)]
    context: Vec<PairInput>,
    #[serde(flatten)]
    common: Common,
}

/// Several requests of the same kind.
#[derive(Debug, Deserialize, ToSchema)]
pub(crate) struct Several<T> {
    pub(crate) searches: Vec<T>,
}

/// One whose hits come in groups.
#[derive(Debug, Deserialize, ToSchema)]
pub(crate) struct Grouped<T> {
    #[serde(flatten)]
    pub(crate) request: T,
    #[serde(flatten)]
    pub(crate) grouping: Grouping,
}

impl From<SearchPoints> for QueryPoints {
    fn from(search: SearchPoints) -> Self {
        let target = TargetInput::Vector(search.vector.vector);
        let mut query = search.common.ask(QueryInput::Nearest(target));
        query.using = search.vector.name.or(query.using);
        query
    }
}

impl From<RecommendPoints> for QueryPoints {
    fn from(recommend: RecommendPoints) -> Self {
        let RecommendPoints { positive, negative, strategy, common } = recommend;
        common.ask(QueryInput::Recommend(RecommendInput { positive, negative, strategy }))
    }
}

impl From<DiscoverPoints> for QueryPoints {
    fn from(discover: DiscoverPoints) -> Self {
        let DiscoverPoints { target, context, common } = discover;
        common.ask(match target {
            Some(target) => QueryInput::Discover(DiscoverInput { target, context }),
            None => QueryInput::Context(context),
        })
    }
}

#[derive(Debug)]
struct NamedVector {
    name: Option<String>,
    vector: VectorInput,
}

impl<'de> Deserialize<'de> for NamedVector {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        struct Named {
            name: String,
            vector: VectorInput,
        }
        let value = Value::deserialize(deserializer)?;
        if value.get("name").is_some() {
            let Named { name, vector } = serde_json::from_value(value).map_err(de::Error::custom)?;
            return Ok(Self { name: Some(name), vector });
        }
        let vector = serde_json::from_value(value).map_err(de::Error::custom)?;
        Ok(Self { name: None, vector })
    }
}
