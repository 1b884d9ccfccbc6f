//! Queries as clients write them, and scored points.

use cairn_index::{Filter, Hit, Payload, PointId};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use utoipa::ToSchema;

use crate::error::{ApiError, ApiResult};
use crate::wire::points::{VectorOutput, WithPayload, WithVector};
use crate::wire::vector::{TextInput, VectorInput};

/// A search for the nearest points.
#[derive(Debug, Deserialize, ToSchema)]
pub(crate) struct QueryPoints {
    /// Numbers, a point id, `{"text", "model"}`, or `{"nearest": one of these}`.
    #[serde(default)]
    #[schema(value_type = Option<Object>)]
    pub(crate) query: Option<Value>,
    #[serde(default)]
    #[schema(value_type = Option<Object>)]
    pub(crate) prefetch: Option<Value>,
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
    pub(crate) limit: Option<usize>,
    /// Points passed over.
    #[serde(default)]
    pub(crate) offset: Option<usize>,
    #[serde(default)]
    #[schema(value_type = Option<Object>)]
    pub(crate) with_payload: Option<WithPayload>,
    #[serde(default, alias = "with_vectors")]
    #[schema(value_type = Option<Object>)]
    pub(crate) with_vector: Option<WithVector>,
    #[serde(default)]
    #[schema(value_type = Option<Object>)]
    pub(crate) lookup_from: Option<Value>,
}

/// How the search is carried out.
#[derive(Debug, Default, Deserialize, ToSchema)]
pub(crate) struct SearchParams {
    /// Candidates kept while walking the graph.
    #[serde(default)]
    pub(crate) hnsw_ef: Option<usize>,
    /// Compare with every point.
    #[serde(default)]
    pub(crate) exact: Option<bool>,
}

/// What points are compared with.
#[derive(Debug, PartialEq)]
pub(crate) enum Target {
    Vector(Vec<f32>),
    Text(TextInput),
    Point(PointId),
}

impl Target {
    pub(crate) fn read(query: Value) -> ApiResult<Self> {
        match query {
            Value::Number(_) | Value::String(_) => {
                let id = serde_json::from_value(query).map_err(ApiError::format)?;
                Ok(Self::Point(id))
            }
            Value::Object(mut fields) if fields.contains_key("nearest") => {
                let extra: Vec<&String> = fields.keys().filter(|key| *key != "nearest").collect();
                if let Some(key) = extra.first() {
                    return Err(ApiError::not_yet(&format!("`{key}` beside `nearest`")));
                }
                Self::read(fields.remove("nearest").unwrap_or_default())
            }
            Value::Object(fields) if !fields.contains_key("text") => {
                let key = fields.keys().next().map_or("{}", String::as_str);
                Err(ApiError::not_yet(&format!("a query of kind `{key}`")))
            }
            other => match serde_json::from_value(other).map_err(ApiError::format)? {
                VectorInput::Dense(vector) => Ok(Self::Vector(vector)),
                VectorInput::Text(text) => Ok(Self::Text(text)),
                VectorInput::Named(_) => {
                    Err(ApiError::format("a query must be one vector, name it with `using`"))
                }
            },
        }
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
    #[schema(value_type = Object)]
    pub(crate) id: PointId,
    pub(crate) version: u64,
    pub(crate) score: f32,
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<Object>)]
    pub(crate) payload: Option<Payload>,
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<Object>)]
    pub(crate) vector: Option<VectorOutput>,
}

impl From<Hit> for ScoredPoint {
    fn from(hit: Hit) -> Self {
        Self {
            id: hit.id,
            version: hit.version,
            score: hit.score,
            payload: hit.payload,
            vector: hit.vectors.map(VectorOutput::from),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_query_is_numbers_an_id_a_text_or_nearest_of_these() {
        let read = |query| Target::read(query).unwrap();
        assert_eq!(read(json!([1, 0.5])), Target::Vector(vec![1.0, 0.5]));
        assert_eq!(read(json!(7)), Target::Point(7.into()));
        assert_eq!(read(json!({"nearest": {"nearest": [2]}})), Target::Vector(vec![2.0]));
        let text = TextInput { text: "t".to_owned(), model: None };
        assert_eq!(read(json!({"nearest": {"text": "t"}})), Target::Text(text));
    }

    #[test]
    fn what_is_not_supported_is_named() {
        let error = Target::read(json!({"fusion": "rrf"})).unwrap_err();
        assert!(error.text.contains("`fusion`"), "{}", error.text);
        let error = Target::read(json!("no-uuid")).unwrap_err();
        assert!(error.text.contains("not a valid point ID"), "{}", error.text);
    }
}
