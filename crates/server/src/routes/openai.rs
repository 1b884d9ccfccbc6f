//! Embeddings and models in the OpenAI shape.

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use cairn_embed::{Input as Fed, TextKind};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use utoipa::ToSchema;

use super::tei::error::TeiError;
use crate::app::App;
use crate::auth::Access;
use crate::body::{At, Input};
use crate::embedding::{Inputs, MAX_INPUTS, One, cut};
use crate::error::ApiError;

/// Texts to embed.
#[derive(Debug, Deserialize, ToSchema)]
pub(crate) struct EmbeddingsRequest {
    /// A text, a list of texts, a list of token ids of the model's own
    /// tokenizer, or a list of such lists; up to 2,048 of them.
    #[schema(value_type = Object)]
    input: Inputs,
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

/// Vectors of texts.
#[utoipa::path(
    post, path = "/v1/embeddings", tag = "openai",
    request_body = EmbeddingsRequest,
    responses((status = 200, body = Object), (status = 400), (status = 404), (status = 429))
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

/// The same with the errors of text-embeddings-inference, which has it here.
#[utoipa::path(
    post, path = "/embeddings", tag = "tei",
    request_body = EmbeddingsRequest,
    responses((status = 200, body = Object), (status = 404), (status = 422), (status = 429))
)]
pub(crate) async fn embeddings_of_tei(
    State(app): State<App>,
    input: Result<Input<EmbeddingsRequest>, ApiError>,
) -> Response {
    match embed(&app, input).await {
        Ok(list) => Json(list).into_response(),
        Err(error) => TeiError::from(error).into_flat_response(),
    }
}

async fn embed(app: &App, input: Result<Input<EmbeddingsRequest>, ApiError>) -> Result<List, ApiError> {
    let Input(request) = input?;
    let inputs = request.input.into_vec();
    if inputs.is_empty() || inputs.len() > MAX_INPUTS {
        return Err(ApiError::bad_request(format!(
            "input must hold 1 to {MAX_INPUTS} texts, got {}",
            inputs.len()
        )));
    }
    if inputs.iter().any(One::is_empty) {
        return Err(cairn_rag::Error::EmptyText { field: "text" }.into());
    }
    let named = request.model;
    let (model, embedded) = app
        .with_embedder(named.clone(), move |loaded| {
            let inputs: Vec<Fed<'_>> = inputs.iter().map(|input| input.input(false)).collect();
            let found = loaded.model.embed_inputs(&inputs, TextKind::Passage, &loaded.cancel)?;
            Ok((loaded.name, found))
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
    Ok(List { object: "list", data, model: named.unwrap_or(model), usage })
}

/// Its numbers as little-endian bytes.
pub(crate) fn base64(vector: &[f32]) -> String {
    let bytes: Vec<u8> = vector.iter().flat_map(|number| number.to_le_bytes()).collect();
    BASE64_STANDARD.encode(bytes)
}

/// The models that can be named, and the collections that can be asked.
#[utoipa::path(get, path = "/v1/models", tag = "openai", responses((status = 200, body = Object)))]
pub(crate) async fn models(State(app): State<App>, access: Access) -> Json<Value> {
    let data: Vec<Value> = names(&app, &access).map(|id| described(&id)).collect();
    Json(json!({ "object": "list", "data": data }))
}

/// One of the models that can be named, or of the collections that can be asked.
#[utoipa::path(
    get, path = "/v1/models/{id}", tag = "openai",
    params(("id" = String, Path, description = "Its name; a slash in it may stand as it is")),
    responses((status = 200, body = Object), (status = 404))
)]
pub(crate) async fn model(
    State(app): State<App>,
    access: Access,
    id: Result<At<String>, ApiError>,
) -> Response {
    match id {
        Ok(At(id)) => one_model(&app, &access, &id),
        Err(error) => openai_error(&error),
    }
}

/// The same for a name with a slash that was not encoded.
pub(crate) async fn model_in_two(
    State(app): State<App>,
    access: Access,
    id: Result<At<(String, String)>, ApiError>,
) -> Response {
    match id {
        Ok(At((organisation, name))) => one_model(&app, &access, &format!("{organisation}/{name}")),
        Err(error) => openai_error(&error),
    }
}

fn one_model(app: &App, access: &Access, id: &str) -> Response {
    // A short name means a model, too.
    let kind = app.engine.model_kind(id);
    if kind.is_some() || names(app, access).any(|name| name == id) {
        return Json(described(id)).into_response();
    }
    let text = format!("The model `{id}` does not exist, see /v1/models");
    openai_error(&ApiError::new(StatusCode::NOT_FOUND, text))
}

fn names(app: &App, access: &Access) -> impl Iterator<Item = String> {
    app.engine.models().into_iter().chain(super::chat::models(app, access))
}

fn described(id: &str) -> Value {
    json!({ "id": id, "object": "model", "created": 0, "owned_by": "cairn" })
}

pub(crate) fn openai_error(error: &ApiError) -> Response {
    refusal(error, Some("model_not_found"))
}

/// An error; `missing` is the code of what is not found.
pub(crate) fn refusal(error: &ApiError, missing: Option<&str>) -> Response {
    let (kind, code) = match error.status {
        StatusCode::NOT_FOUND => ("invalid_request_error", missing),
        StatusCode::TOO_MANY_REQUESTS => ("rate_limit_error", Some("rate_limit_exceeded")),
        status if status.is_client_error() => ("invalid_request_error", None),
        _ => ("server_error", None),
    };
    let body = json!({ "error": { "message": error.text, "type": kind, "param": null, "code": code } });
    error.respond(body)
}
