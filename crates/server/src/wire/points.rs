//! Points as clients read them, and what they ask for. How they are written is
//! in `writes`.

use std::collections::BTreeMap;
use std::sync::Arc;

use cairn_index::{
    FacetValue, Filter, Group, GroupId, Hit, OrderValue, Parts, Payload, PointId, QueryHit, Record, Selector,
    Vector, Vectors, WrittenId,
};
use serde::{Deserialize, Serialize, Serializer};
use utoipa::ToSchema;

use crate::wire::query::OrderInput;

/// Which points to read.
#[derive(Debug, Deserialize, ToSchema)]
pub(crate) struct GetPoints {
    #[schema(value_type = Vec<serde_json::Value>)]
    pub(crate) ids: Vec<PointId>,
    #[serde(default)]
    #[schema(value_type = Option<serde_json::Value>)]
    pub(crate) with_payload: Option<WithPayload>,
    #[serde(default, alias = "with_vectors")]
    #[schema(value_type = Option<serde_json::Value>)]
    pub(crate) with_vector: Option<WithVector>,
}

/// A page of points, by id or in the order of a payload field.
#[derive(Debug, Deserialize, ToSchema)]
pub(crate) struct ScrollPoints {
    /// The id to start at.
    #[serde(default)]
    #[schema(value_type = Option<serde_json::Value>)]
    pub(crate) offset: Option<PointId>,
    /// Points at most, 10 when absent.
    #[serde(default)]
    #[schema(minimum = 1)]
    pub(crate) limit: Option<usize>,
    #[serde(default)]
    #[schema(value_type = Option<Object>)]
    pub(crate) filter: Option<Filter>,
    #[serde(default)]
    #[schema(value_type = Option<serde_json::Value>)]
    pub(crate) with_payload: Option<WithPayload>,
    #[serde(default, alias = "with_vectors")]
    #[schema(value_type = Option<serde_json::Value>)]
    pub(crate) with_vector: Option<WithVector>,
    /// A key, or `{"key", "direction", "start_from"}`.
    #[serde(default)]
    #[schema(value_type = Option<serde_json::Value>)]
    pub(crate) order_by: Option<OrderInput>,
}

/// A page of points and where the next one starts.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct ScrollResult {
    pub(crate) points: Vec<RecordOutput>,
    #[schema(value_type = Option<serde_json::Value>)]
    pub(crate) next_page_offset: Option<WrittenId>,
}

/// A count of points.
#[derive(Debug, Deserialize, ToSchema)]
pub(crate) struct CountPoints {
    #[serde(default)]
    #[schema(value_type = Option<Object>)]
    pub(crate) filter: Option<Filter>,
    /// Counts are always exact.
    #[serde(default, rename = "exact")]
    _exact: Option<bool>,
}

#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct CountResult {
    pub(crate) count: usize,
}

/// A question for the values of a field.
#[derive(Debug, Deserialize, ToSchema)]
pub(crate) struct FacetPoints {
    pub(crate) key: String,
    /// Values at most, 10 when absent.
    #[serde(default)]
    #[schema(minimum = 1)]
    pub(crate) limit: Option<usize>,
    #[serde(default)]
    #[schema(value_type = Option<Object>)]
    pub(crate) filter: Option<Filter>,
    /// Counts are always exact.
    #[serde(default)]
    pub(crate) exact: Option<bool>,
}

/// The most frequent values first.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct FacetResult {
    pub(crate) hits: Vec<FacetOutput>,
}

#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct FacetOutput {
    #[schema(value_type = serde_json::Value)]
    #[serde(serialize_with = "facet_value")]
    pub(crate) value: FacetValue,
    pub(crate) count: usize,
}

fn facet_value<S: Serializer>(value: &FacetValue, serializer: S) -> Result<S::Ok, S::Error> {
    match value {
        FacetValue::Keyword(text) => serializer.serialize_str(text),
        FacetValue::Integer(number) => serializer.serialize_i64(*number),
        FacetValue::Bool(value) => serializer.serialize_bool(*value),
    }
}

/// A question for how near sampled points are to each other.
#[derive(Debug, Deserialize, ToSchema)]
pub(crate) struct MatrixPoints {
    #[serde(default)]
    #[schema(value_type = Option<Object>)]
    pub(crate) filter: Option<Filter>,
    /// Points sampled, 10 when absent, at least 2.
    #[serde(default)]
    #[schema(minimum = 2)]
    pub(crate) sample: Option<usize>,
    /// Neighbours of each, 3 when absent.
    #[serde(default)]
    #[schema(minimum = 1)]
    pub(crate) limit: Option<usize>,
    #[serde(default)]
    pub(crate) using: Option<String>,
}

/// Pairs of sampled points.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct MatrixPairs {
    pub(crate) pairs: Vec<PairOutput>,
}

#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct PairOutput {
    #[schema(value_type = serde_json::Value)]
    pub(crate) a: WrittenId,
    #[schema(value_type = serde_json::Value)]
    pub(crate) b: WrittenId,
    pub(crate) score: f32,
}

/// The same as a sparse matrix in coordinate form.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct MatrixOffsets {
    pub(crate) offsets_row: Vec<u64>,
    pub(crate) offsets_col: Vec<u64>,
    pub(crate) scores: Vec<f32>,
    #[schema(value_type = Vec<serde_json::Value>)]
    pub(crate) ids: Vec<WrittenId>,
}

/// A choice of payload keys.
#[derive(Debug, Clone, Deserialize)]
#[serde(untagged, expecting = "with_payload is a bool, a list of keys, or {include} or {exclude}")]
pub(crate) enum WithPayload {
    Switch(bool),
    Only(Vec<String>),
    Choice(PayloadChoice),
}

#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum PayloadChoice {
    Include(Vec<String>),
    Exclude(Vec<String>),
}

/// A choice of vectors.
#[derive(Debug, Clone, Deserialize)]
#[serde(untagged, expecting = "with_vector is a bool or a list of names")]
pub(crate) enum WithVector {
    Switch(bool),
    Only(Vec<String>),
}

/// The parts asked for; the payload's default depends on the call.
pub(crate) fn parts(
    payload: Option<WithPayload>,
    vector: Option<WithVector>,
    payload_default: bool,
) -> Parts {
    let switch = |on| if on { Selector::All } else { Selector::None };
    Parts {
        payload: match payload {
            None => switch(payload_default),
            Some(WithPayload::Switch(on)) => switch(on),
            Some(WithPayload::Only(keys) | WithPayload::Choice(PayloadChoice::Include(keys))) => {
                Selector::Only(keys)
            }
            Some(WithPayload::Choice(PayloadChoice::Exclude(keys))) => Selector::Except(keys),
        },
        vectors: match vector {
            None => Selector::None,
            Some(WithVector::Switch(on)) => switch(on),
            Some(WithVector::Only(names)) => Selector::Only(names),
        },
    }
}

/// An id with the string it was made of, as it is shown.
pub(crate) fn written(id: PointId, label: Option<Arc<str>>) -> WrittenId {
    WrittenId { id, label }
}

/// A stored point.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct RecordOutput {
    #[schema(value_type = serde_json::Value)]
    id: WrittenId,
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<Object>)]
    payload: Option<Payload>,
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<serde_json::Value>)]
    vector: Option<VectorOutput>,
    /// The value the points were ordered by.
    #[serde(skip_serializing_if = "Option::is_none", serialize_with = "order_value")]
    #[schema(value_type = Option<f64>)]
    order_value: Option<OrderValue>,
}

impl From<Record> for RecordOutput {
    fn from(record: Record) -> Self {
        let (id, vector) = (written(record.id, record.label), record.vectors.map(VectorOutput::from));
        Self { id, payload: record.payload, vector, order_value: None }
    }
}

/// A point found by its place in an order.
impl From<QueryHit> for RecordOutput {
    fn from(hit: QueryHit) -> Self {
        let (id, vector) = (written(hit.id, hit.label), hit.vectors.map(VectorOutput::from));
        Self { id, payload: hit.payload, vector, order_value: hit.order_value }
    }
}

// serde gives a reference to the field as it is.
#[allow(clippy::ref_option)]
fn order_value<S: Serializer>(value: &Option<OrderValue>, serializer: S) -> Result<S::Ok, S::Error> {
    match value {
        Some(OrderValue::Int(number)) => serializer.serialize_i64(*number),
        Some(OrderValue::Float(number)) => serializer.serialize_f64(*number),
        None => serializer.serialize_none(),
    }
}

/// The points found.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct QueryResult {
    pub(crate) points: Vec<ScoredPoint>,
}

/// A point and its score.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct ScoredPoint {
    #[schema(value_type = serde_json::Value)]
    id: WrittenId,
    version: u64,
    score: f32,
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<Object>)]
    payload: Option<Payload>,
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<serde_json::Value>)]
    vector: Option<VectorOutput>,
    /// The value the points were ordered by.
    #[serde(skip_serializing_if = "Option::is_none", serialize_with = "order_value")]
    #[schema(value_type = Option<f64>)]
    order_value: Option<OrderValue>,
}

impl From<QueryHit> for ScoredPoint {
    fn from(hit: QueryHit) -> Self {
        Self {
            id: written(hit.id, hit.label),
            version: hit.version,
            score: hit.score,
            payload: hit.payload,
            vector: hit.vectors.map(VectorOutput::from),
            order_value: hit.order_value,
        }
    }
}

impl From<Hit> for ScoredPoint {
    fn from(hit: Hit) -> Self {
        Self {
            id: written(hit.id, hit.label),
            version: hit.version,
            score: hit.score,
            payload: hit.payload,
            vector: hit.vectors.map(VectorOutput::from),
            order_value: None,
        }
    }
}

/// Hits by the value they share.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct GroupsResult {
    pub(crate) groups: Vec<GroupOutput>,
}

#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct GroupOutput {
    #[serde(serialize_with = "group_id")]
    #[schema(value_type = serde_json::Value)]
    id: GroupId,
    hits: Vec<ScoredPoint>,
    #[serde(skip_serializing_if = "Option::is_none")]
    lookup: Option<RecordOutput>,
}

impl From<Group> for GroupOutput {
    fn from(group: Group) -> Self {
        let lookup = group.lookup.map(|found| RecordOutput {
            id: written(found.id, found.label),
            payload: found.payload,
            vector: found.vectors.map(VectorOutput::from),
            order_value: None,
        });
        Self { id: group.id, hits: group.hits.into_iter().map(ScoredPoint::from).collect(), lookup }
    }
}

fn group_id<S: Serializer>(id: &GroupId, serializer: S) -> Result<S::Ok, S::Error> {
    match id {
        GroupId::Keyword(text) => serializer.serialize_str(text),
        GroupId::Unsigned(number) => serializer.serialize_u64(*number),
        GroupId::Signed(number) => serializer.serialize_i64(*number),
    }
}

/// Vectors by name, or the bare unnamed one.
#[derive(Debug, Serialize)]
#[serde(untagged)]
pub(crate) enum VectorOutput {
    Unnamed(OneVector),
    Named(BTreeMap<String, OneVector>),
}

/// One vector in the shape clients read.
#[derive(Debug, Serialize)]
#[serde(untagged)]
pub(crate) enum OneVector {
    Dense(Vec<f32>),
    Multi(Vec<Vec<f32>>),
    Sparse { indices: Vec<u32>, values: Vec<f32> },
}

impl From<Vector> for OneVector {
    fn from(vector: Vector) -> Self {
        match vector {
            Vector::Dense(values) => Self::Dense(values),
            Vector::Multi(rows) => Self::Multi(rows.rows().map(<[f32]>::to_vec).collect()),
            Vector::Sparse(sparse) => {
                Self::Sparse { indices: sparse.indices().to_vec(), values: sparse.values().to_vec() }
            }
        }
    }
}

impl From<Vectors> for VectorOutput {
    fn from(mut vectors: Vectors) -> Self {
        if vectors.len() == 1
            && let Some(only) = vectors.remove("")
        {
            return Self::Unnamed(only.into());
        }
        Self::Named(vectors.into_iter().map(|(name, vector)| (name, vector.into())).collect())
    }
}
