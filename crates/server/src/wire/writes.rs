//! Writes as clients send them, alone or in a batch.

use std::collections::BTreeMap;

use cairn_index::{Applied, Filter, Path, Payload, Selection, WriteMode, WrittenId};
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use crate::error::{ApiError, ApiResult};
use crate::wire::vector::{VectorInput, VectorsInput};

/// How a write is waited for.
#[derive(Debug, Clone, Copy, Default, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub(crate) struct WriteParams {
    /// Whether the answer says `completed`. Writes are always durable and
    /// visible before the answer.
    #[serde(default)]
    pub(crate) wait: Option<bool>,
}

/// What became of a write.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct UpdateResult {
    operation_id: u64,
    /// `completed`, or `acknowledged` for a write that did not ask to wait.
    status: &'static str,
}

impl UpdateResult {
    pub(crate) fn new(applied: Applied, params: WriteParams) -> Self {
        let status = if params.wait == Some(true) { "completed" } else { "acknowledged" };
        Self { operation_id: applied.seq, status }
    }
}

/// One write of a batch.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Operation {
    Upsert(UpsertPoints),
    Delete(Selected),
    SetPayload(SetPayload),
    OverwritePayload(SetPayload),
    DeletePayload(DeletePayload),
    ClearPayload(Selected),
    UpdateVectors(UpdateVectors),
    DeleteVectors(DeleteVectors),
}

impl Operation {
    /// The ids it names of points that are to be there.
    pub(crate) fn ids(&self) -> Vec<WrittenId> {
        let of = match self {
            Self::Upsert(_) => None,
            Self::UpdateVectors(update) => {
                return update.points.iter().map(|point| point.id.clone()).collect();
            }
            Self::Delete(of) | Self::ClearPayload(of) => of.points.as_ref(),
            Self::SetPayload(set) | Self::OverwritePayload(set) => set.of.points.as_ref(),
            Self::DeletePayload(delete) => delete.of.points.as_ref(),
            Self::DeleteVectors(delete) => delete.of.points.as_ref(),
        };
        of.cloned().unwrap_or_default()
    }
}

/// Writes that are carried out one after the other.
#[derive(Debug, Deserialize, ToSchema)]
pub(crate) struct Operations {
    pub(crate) operations: Vec<Operation>,
}

/// A write of points, as a list or as columns.
#[derive(Debug, Deserialize, ToSchema)]
pub(crate) struct UpsertPoints {
    #[serde(default)]
    points: Option<Vec<PointInput>>,
    #[serde(default)]
    batch: Option<BatchInput>,
    /// An existing point is replaced only if it matches before the write.
    #[serde(default)]
    #[schema(value_type = Option<Object>)]
    pub(crate) update_filter: Option<Filter>,
    /// `upsert`, `insert_only` or `update_only`.
    #[serde(default)]
    #[schema(value_type = Option<String>)]
    pub(crate) update_mode: Option<WriteMode>,
}

/// A point to be written.
#[derive(Debug, Deserialize, ToSchema)]
pub(crate) struct PointInput {
    /// An unsigned integer or a UUID; any string where the collection has `string_ids`.
    #[schema(value_type = serde_json::Value)]
    pub(crate) id: WrittenId,
    /// Numbers, vectors by name, or `{"text", "model"}`.
    #[schema(value_type = serde_json::Value)]
    pub(crate) vector: VectorsInput,
    #[serde(default)]
    #[schema(value_type = Option<Object>)]
    pub(crate) payload: Option<Payload>,
}

/// Points as columns of equal length.
#[derive(Debug, Deserialize, ToSchema)]
pub(crate) struct BatchInput {
    #[schema(value_type = Vec<serde_json::Value>)]
    ids: Vec<WrittenId>,
    /// A list of vectors, or such lists by vector name.
    #[schema(value_type = serde_json::Value)]
    vectors: BatchVectors,
    #[serde(default)]
    #[schema(value_type = Option<Vec<serde_json::Value>>)]
    payloads: Option<Vec<Option<Payload>>>,
}

#[derive(Debug, Deserialize)]
#[serde(untagged, expecting = "vectors are a list of vectors, or such lists by name")]
enum BatchVectors {
    Unnamed(Vec<VectorInput>),
    Named(BTreeMap<String, Vec<VectorInput>>),
}

impl UpsertPoints {
    /// The points, whichever way they were written.
    pub(crate) fn take_points(&mut self) -> ApiResult<Vec<PointInput>> {
        match (self.points.take(), self.batch.take()) {
            (Some(points), None) => Ok(points),
            (None, Some(batch)) => batch.into_points(),
            _ => Err(ApiError::format("expected either `points` or `batch`")),
        }
    }

    /// How many points there are.
    pub(crate) fn len(&self) -> usize {
        let batch = self.batch.as_ref().map_or(0, |batch| batch.ids.len());
        self.points.as_ref().map_or(batch, Vec::len)
    }
}

impl BatchInput {
    fn into_points(self) -> ApiResult<Vec<PointInput>> {
        let count = self.ids.len();
        let uneven =
            || ApiError::validation(format!("batch: ids, vectors and payloads must all have {count} items"));
        let vectors: Vec<VectorsInput> = match self.vectors {
            BatchVectors::Unnamed(vectors) => vectors.into_iter().map(VectorsInput::Unnamed).collect(),
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
                rows.into_iter().map(VectorsInput::Named).collect()
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

/// Which points a write is about: ids, or those that match.
#[derive(Debug, Deserialize, ToSchema)]
pub(crate) struct Selected {
    #[serde(default)]
    #[schema(value_type = Option<Vec<serde_json::Value>>)]
    points: Option<Vec<WrittenId>>,
    #[serde(default)]
    #[schema(value_type = Option<Object>)]
    pub(crate) filter: Option<Filter>,
}

impl Selected {
    pub(crate) fn selection(self) -> ApiResult<Selection> {
        match (self.points, self.filter) {
            (Some(ids), _) => Ok(Selection::Ids(ids.into_iter().map(|written| written.id).collect())),
            (None, Some(filter)) => Ok(Selection::Filter(filter)),
            (None, None) => Err(ApiError::format("Either list of point ids or filter must be provided")),
        }
    }
}

/// Payload values for points.
#[derive(Debug, Deserialize, ToSchema)]
pub(crate) struct SetPayload {
    #[schema(value_type = Object)]
    pub(crate) payload: Payload,
    #[serde(flatten)]
    pub(crate) of: Selected,
    /// The path of the object that the values are put into.
    #[serde(default)]
    #[schema(value_type = Option<String>)]
    pub(crate) key: Option<Path>,
}

/// Payload values that go away.
#[derive(Debug, Deserialize, ToSchema)]
pub(crate) struct DeletePayload {
    /// Their paths.
    #[schema(value_type = Vec<String>)]
    pub(crate) keys: Vec<Path>,
    #[serde(flatten)]
    pub(crate) of: Selected,
}

/// Vectors for points, the others left as they are.
#[derive(Debug, Deserialize, ToSchema)]
pub(crate) struct UpdateVectors {
    pub(crate) points: Vec<PointVectors>,
    /// Only points that match are changed.
    #[serde(default)]
    #[schema(value_type = Option<Object>)]
    pub(crate) update_filter: Option<Filter>,
}

#[derive(Debug, Deserialize, ToSchema)]
pub(crate) struct PointVectors {
    #[schema(value_type = serde_json::Value)]
    pub(crate) id: WrittenId,
    #[schema(value_type = serde_json::Value)]
    pub(crate) vector: VectorsInput,
}

/// Vectors that go away.
#[derive(Debug, Deserialize, ToSchema)]
pub(crate) struct DeleteVectors {
    /// Their names.
    pub(crate) vector: Vec<String>,
    #[serde(flatten)]
    pub(crate) of: Selected,
}
