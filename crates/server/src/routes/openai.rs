//! Embeddings and models in the OpenAI shape.

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use cairn_embed::TextKind;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use utoipa::ToSchema;

use crate::app::App;
use crate::auth::Access;
use crate::body::Input;
use crate::error::ApiError;

/// Texts to embed.
#[derive(Debug, Deserialize, ToSchema)]
pub(crate) struct EmbeddingsRequest {
    /// A text or up to 2,048 of them.
    #[schema(value_type = Object)]
    input: Texts,
    /// The default model when absent.
    #[serde(default)]
    model: Option<String>,
    /// `float` or `base64` (little-endian f32).
    #[serde(default)]
    #[schema(value_type = Option<String>)]
    encoding_format: Encoding,
    /// Length of the vectors: the first numbers of each, scaled to unit length.
    #[serde(default)]
    dimensions: Option<usize>,
}

#[derive(Debug, Deserialize)]
#[serde(untagged, expecting = "input must be a string or a list of strings")]
enum Texts {
    One(String),
    Many(Vec<String>),
}

#[derive(Debug, Default, Clone, Copy, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Encoding {
    #[default]
    Float,
    Base64,
}

#[derive(Debug, Serialize)]
struct List {
    object: &'static str,
    data: Vec<Item>,
    model: String,
    usage: Usage,
}

#[derive(Debug, Serialize)]
struct Item {
    object: &'static str,
    index: usize,
    embedding: Embedding,
}

#[derive(Debug, Serialize)]
struct Usage {
    prompt_tokens: usize,
    total_tokens: usize,
}

#[derive(Debug, Serialize)]
#[serde(untagged)]
enum Embedding {
    Float(Vec<f32>),
    Base64(String),
}

const MAX_INPUTS: usize = 2048;

/// Vectors of texts.
#[utoipa::path(
    post, path = "/v1/embeddings", tag = "openai",
    request_body = EmbeddingsRequest,
    responses((status = 200, body = Object), (status = 400), (status = 404))
)]
pub(crate) async fn embeddings(
    State(app): State<App>,
    input: Result<Input<EmbeddingsRequest>, ApiError>,
) -> Response {
    match embed(&app, input).await {
        Ok(list) => Json(list).into_response(),
        Err(error) => openai_error(&error),
    }
}

async fn embed(app: &App, input: Result<Input<EmbeddingsRequest>, ApiError>) -> Result<List, ApiError> {
    let Input(request) = input?;
    let texts = match request.input {
        Texts::One(text) => vec![text],
        Texts::Many(texts) => texts,
    };
    if texts.is_empty() || texts.len() > MAX_INPUTS {
        return Err(ApiError::bad_request(format!(
            "input must hold 1 to {MAX_INPUTS} texts, got {}",
            texts.len()
        )));
    }
    let model = request.model.clone();
    let embedded = app
        .write(move |engine| {
            let texts: Vec<&str> = texts.iter().map(String::as_str).collect();
            engine.embed(model.as_deref(), &texts, TextKind::Passage).map_err(|error| match error {
                cairn_rag::Error::UnknownModel { .. } => {
                    ApiError::new(StatusCode::NOT_FOUND, error.to_string())
                }
                other => other.into(),
            })
        })
        .await?;

    let mut data = Vec::with_capacity(embedded.vectors.len());
    for (index, vector) in embedded.vectors.into_iter().enumerate() {
        let vector = match request.dimensions {
            Some(dimensions) => cut(vector, dimensions)?,
            None => vector,
        };
        let embedding = match request.encoding_format {
            Encoding::Float => Embedding::Float(vector),
            Encoding::Base64 => Embedding::Base64(base64(&vector)),
        };
        data.push(Item { object: "embedding", index, embedding });
    }
    let usage = Usage { prompt_tokens: embedded.tokens, total_tokens: embedded.tokens };
    let model = request.model.unwrap_or_else(|| app.engine.default_model());
    Ok(List { object: "list", data, model, usage })
}

fn base64(vector: &[f32]) -> String {
    let bytes: Vec<u8> = vector.iter().flat_map(|number| number.to_le_bytes()).collect();
    BASE64_STANDARD.encode(bytes)
}

/// The first dimensions of a vector at unit length (Matryoshka embeddings).
fn cut(mut vector: Vec<f32>, dimensions: usize) -> Result<Vec<f32>, ApiError> {
    if !(1..=vector.len()).contains(&dimensions) {
        return Err(ApiError::bad_request(format!(
            "dimensions must be from 1 to {}, got {dimensions}",
            vector.len()
        )));
    }
    vector.truncate(dimensions);
    let norm = vector.iter().map(|number| number * number).sum::<f32>().sqrt();
    if norm > 0.0 {
        vector.iter_mut().for_each(|number| *number /= norm);
    }
    Ok(vector)
}

/// The models that can be named, and the collections that can be asked.
#[utoipa::path(get, path = "/v1/models", tag = "openai", responses((status = 200, body = Object)))]
pub(crate) async fn models(State(app): State<App>, access: Access) -> Json<Value> {
    let model = |id: String| json!({ "id": id, "object": "model", "created": 0, "owned_by": "cairn" });
    let asked = super::chat::models(&app, &access);
    let data: Vec<Value> = app.engine.models().into_iter().chain(asked).map(model).collect();
    Json(json!({ "object": "list", "data": data }))
}

pub(crate) fn openai_error(error: &ApiError) -> Response {
    let (kind, code) = match error.status {
        StatusCode::NOT_FOUND => ("invalid_request_error", Some("model_not_found")),
        status if status.is_client_error() => ("invalid_request_error", None),
        _ => ("server_error", None),
    };
    let body = json!({ "error": { "message": error.text, "type": kind, "param": null, "code": code } });
    (error.status, Json(body)).into_response()
}
