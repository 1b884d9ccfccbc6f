//! Texts to sparse vectors.

use axum::Json;
use axum::extract::State;
use cairn_embed::Heads;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::embed::Reading;
use super::error::TeiError;
use super::{check_lengths, checked};
use crate::app::App;
use crate::body::Input as Body;
use crate::embedding::Inputs;
use crate::error::ApiError;

/// Texts whose sparse vectors are wanted.
#[derive(Debug, Deserialize, ToSchema)]
pub(crate) struct EmbedSparseRequest {
    /// As for `/embed`.
    #[schema(value_type = Object)]
    inputs: Inputs,
    /// The default model when absent.
    #[serde(default)]
    model: Option<String>,
    #[serde(flatten)]
    #[schema(inline)]
    reading: Reading,
}

/// A value of a sparse vector that is not zero.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct SparseValue {
    /// The number of a token in the model's vocabulary.
    index: u32,
    value: f32,
}

/// Sparse vectors of texts: the values that are not zero, in the order of tokens.
#[utoipa::path(
    post, path = "/embed_sparse", tag = "tei",
    request_body = EmbedSparseRequest,
    responses(
        (status = 200, body = Vec<Vec<SparseValue>>), (status = 400), (status = 404), (status = 413),
        (status = 422), (status = 424), (status = 429)
    )
)]
pub(crate) async fn embed_sparse(
    State(app): State<App>,
    body: Result<Body<EmbedSparseRequest>, ApiError>,
) -> Result<Json<Vec<Vec<SparseValue>>>, TeiError> {
    let Body(request) = body?;
    let wanted = request.reading.of(checked(request.inputs)?)?;
    let found = app.with_any_encoder(request.model, move |loaded| {
        if !loaded.model.heads().sparse {
            return Ok(Err(loaded.name));
        }
        let inputs = wanted.inputs();
        if !wanted.truncate {
            check_lengths(&loaded.model, &inputs, wanted.kind)?;
        }
        let found = loaded.model.embed_heads(&inputs, Heads::SPARSE, wanted.kind, &loaded.cancel)?;
        Ok(Ok(found.sparse))
    });
    // The first words are those of text-embeddings-inference.
    let vectors = found.await?.map_err(|name| {
        TeiError::backend(format!(
            "Model is not an embedding model with SPLADE pooling: `{name}` makes no sparse vectors, name a \
             model that does in `model`, such as prithivida/Splade_PP_en_v1 or BAAI/bge-m3"
        ))
    })?;
    let values = |vector: cairn_embed::SparseVector| {
        let pairs = vector.indices.into_iter().zip(vector.values);
        pairs.map(|(index, value)| SparseValue { index, value }).collect()
    };
    Ok(Json(vectors.into_iter().map(values).collect()))
}
