//! Points as clients write and read them.

use std::collections::BTreeMap;

use cairn_index::{Applied, Filter, Parts, Payload, PointId, Record, Selector, Vector, Vectors};
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use crate::error::{ApiError, ApiResult};
use crate::wire::vector::VectorInput;

/// A write of points, as a list or as columns.
#[derive(Debug, Deserialize, ToSchema)]
pub(crate) struct UpsertPoints {
    #[serde(default)]
    points: Option<Vec<PointInput>>,
    #[serde(default)]
    batch: Option<BatchInput>,
}

/// A point to be written.
#[derive(Debug, Deserialize, ToSchema)]
pub(crate) struct PointInput {
    /// An unsigned integer or a UUID.
    #[schema(value_type = Object)]
    pub(crate) id: PointId,
    /// Numbers, vectors by name, or `{"text", "model"}`.
    #[schema(value_type = Object)]
    pub(crate) vector: VectorInput,
    #[serde(default)]
    #[schema(value_type = Option<Object>)]
    pub(crate) payload: Option<Payload>,
}

/// Points as columns of equal length.
#[derive(Debug, Deserialize, ToSchema)]
pub(crate) struct BatchInput {
    #[schema(value_type = Vec<Object>)]
    ids: Vec<PointId>,
    #[schema(value_type = Vec<Object>)]
    vectors: BatchVectors,
    #[serde(default)]
    #[schema(value_type = Option<Vec<Object>>)]
    payloads: Option<Vec<Option<Payload>>>,
}

#[derive(Debug, Deserialize)]
#[serde(untagged)]
enum BatchVectors {
    Unnamed(Vec<VectorInput>),
    Named(std::collections::BTreeMap<String, Vec<VectorInput>>),
}

impl UpsertPoints {
    pub(crate) fn into_points(self) -> ApiResult<Vec<PointInput>> {
        match (self.points, self.batch) {
            (Some(points), None) => Ok(points),
            (None, Some(batch)) => batch.into_points(),
            _ => Err(ApiError::format("expected either `points` or `batch`")),
        }
    }
}

impl BatchInput {
    fn into_points(self) -> ApiResult<Vec<PointInput>> {
        let count = self.ids.len();
        let uneven =
            || ApiError::validation(format!("batch: ids, vectors and payloads must all have {count} items"));
        let vectors: Vec<VectorInput> = match self.vectors {
            BatchVectors::Unnamed(vectors) => vectors,
            BatchVectors::Named(columns) => {
                if columns.values().any(|column| column.len() != count) {
                    return Err(uneven());
                }
                let mut rows = vec![Vec::new(); count];
                for (name, column) in columns {
                    for (row, vector) in rows.iter_mut().zip(column) {
                        row.push((name.clone(), vector));
                    }
                }
                rows.into_iter().map(VectorInput::Named).collect()
            }
        };
        let payloads = self.payloads.unwrap_or_else(|| vec![None; count]);
        if vectors.len() != count || payloads.len() != count {
            return Err(uneven());
        }
        let rows = self.ids.into_iter().zip(vectors).zip(payloads);
        Ok(rows.map(|((id, vector), payload)| PointInput { id, vector, payload }).collect())
    }
}

/// How a write is waited for.
#[derive(Debug, Default, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub(crate) struct WriteParams {
    /// Whether the answer says `completed`. Writes are always durable and
    /// visible before the answer.
    #[serde(default)]
    pub(crate) wait: bool,
}

/// What became of a write.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct UpdateResult {
    operation_id: u64,
    status: &'static str,
}

impl UpdateResult {
    pub(crate) fn new(applied: Applied, params: &WriteParams) -> Self {
        let status = if params.wait { "completed" } else { "acknowledged" };
        Self { operation_id: applied.seq, status }
    }
}

/// Which points to remove: ids, or those that match.
#[derive(Debug, Deserialize, ToSchema)]
pub(crate) struct DeletePoints {
    #[serde(default)]
    #[schema(value_type = Option<Vec<Object>>)]
    pub(crate) points: Option<Vec<PointId>>,
    #[serde(default)]
    #[schema(value_type = Option<Object>)]
    pub(crate) filter: Option<Filter>,
}

/// Which points to read.
#[derive(Debug, Deserialize, ToSchema)]
pub(crate) struct GetPoints {
    #[schema(value_type = Vec<Object>)]
    pub(crate) ids: Vec<PointId>,
    #[serde(default)]
    #[schema(value_type = Option<Object>)]
    pub(crate) with_payload: Option<WithPayload>,
    #[serde(default, alias = "with_vectors")]
    #[schema(value_type = Option<Object>)]
    pub(crate) with_vector: Option<WithVector>,
}

/// A page of points by id.
#[derive(Debug, Deserialize, ToSchema)]
pub(crate) struct ScrollPoints {
    #[serde(default)]
    #[schema(value_type = Option<Object>)]
    pub(crate) offset: Option<PointId>,
    #[serde(default)]
    pub(crate) limit: Option<usize>,
    #[serde(default)]
    #[schema(value_type = Option<Object>)]
    pub(crate) filter: Option<Filter>,
    #[serde(default)]
    #[schema(value_type = Option<Object>)]
    pub(crate) with_payload: Option<WithPayload>,
    #[serde(default, alias = "with_vectors")]
    #[schema(value_type = Option<Object>)]
    pub(crate) with_vector: Option<WithVector>,
    #[serde(default)]
    #[schema(value_type = Option<Object>)]
    pub(crate) order_by: Option<serde_json::Value>,
}

/// A page of points and where the next one starts.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct ScrollResult {
    pub(crate) points: Vec<RecordOutput>,
    #[schema(value_type = Option<Object>)]
    pub(crate) next_page_offset: Option<PointId>,
}

/// A count of points.
#[derive(Debug, Deserialize, ToSchema)]
pub(crate) struct CountPoints {
    #[serde(default)]
    #[schema(value_type = Option<Object>)]
    pub(crate) filter: Option<Filter>,
}

#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct CountResult {
    pub(crate) count: usize,
}

/// A choice of payload keys.
#[derive(Debug, Deserialize)]
#[serde(untagged)]
pub(crate) enum WithPayload {
    Switch(bool),
    Only(Vec<String>),
    Choice(PayloadChoice),
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum PayloadChoice {
    Include(Vec<String>),
    Exclude(Vec<String>),
}

/// A choice of vectors.
#[derive(Debug, Deserialize)]
#[serde(untagged)]
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

/// A stored point.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct RecordOutput {
    #[schema(value_type = Object)]
    id: PointId,
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<Object>)]
    payload: Option<Payload>,
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<Object>)]
    vector: Option<VectorOutput>,
}

impl From<Record> for RecordOutput {
    fn from(record: Record) -> Self {
        Self { id: record.id, payload: record.payload, vector: record.vectors.map(VectorOutput::from) }
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
