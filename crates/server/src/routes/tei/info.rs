//! What the model is, and whether the service is well.

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use cairn_embed::{Encoder, ModelKind, Precision};
use serde::Deserialize;
use serde_json::{Value, json};

use super::error::TeiError;
use crate::app::App;
use crate::body::Params;
use crate::embedding::MAX_INPUTS;
use crate::error::ApiError;

/// Which model is asked about.
#[derive(Debug, Default, Deserialize)]
pub(crate) struct Which {
    #[serde(default)]
    model: Option<String>,
}

/// The default model, in the shape of text-embeddings-inference; another model
/// when one is named.
#[utoipa::path(
    get, path = "/info", tag = "tei",
    params(("model" = Option<String>, Query, description = "The default model when absent")),
    responses((status = 200, body = Object), (status = 404), (status = 422), (status = 424))
)]
pub(crate) async fn info(
    State(app): State<App>,
    which: Result<Params<Which>, ApiError>,
) -> Result<Json<Value>, TeiError> {
    let Params(Which { model }) = which?;
    let kind = match model.as_deref() {
        Some(name) => app.engine.model_kind(name),
        None => app.engine.model_kind(&app.engine.default_model()),
    };
    let about = if kind == Some(ModelKind::Rerank) {
        app.with_reranker(model, |loaded| {
            let labels: serde_json::Map<String, Value> = (0..)
                .zip(loaded.model.labels())
                .map(|(at, label): (usize, _)| (at.to_string(), json!(label)))
                .collect();
            let label2id: serde_json::Map<String, Value> =
                loaded.model.labels().iter().zip(0..).map(|(label, at)| (label.clone(), json!(at))).collect();
            let kind = if labels.len() == 1 { "reranker" } else { "classifier" };
            Ok(About {
                kind: json!({ kind: { "id2label": labels, "label2id": label2id } }),
                precision: loaded.model.precision(),
                max_tokens: loaded.model.max_tokens(),
                name: loaded.name,
            })
        })
        .await?
    } else if matches!(kind, Some(ModelKind::Sparse | ModelKind::Multivector)) {
        app.with_any_encoder(model, |loaded| {
            Ok(About::of(loaded.name, Some(&loaded.model), loaded.model.max_tokens()))
        })
        .await?
    } else {
        app.with_embedder(model, |loaded| {
            let encoder = loaded.model.encoder().map(|encoder| &**encoder);
            Ok(About::of(loaded.name, encoder, loaded.model.max_tokens()))
        })
        .await?
    };
    Ok(Json(about.render(&app)))
}

struct About {
    name: String,
    kind: Value,
    precision: Precision,
    max_tokens: usize,
}

impl About {
    /// What is said of a model for vectors; one behind an address says little.
    fn of(name: String, encoder: Option<&Encoder>, max_tokens: usize) -> About {
        About {
            kind: json!({ "embedding": { "pooling": encoder.map(Encoder::pooling) } }),
            precision: encoder.map_or(Precision::F32, Encoder::precision),
            max_tokens,
            name,
        }
    }

    fn render(self, app: &App) -> Value {
        let dtype = match self.precision {
            Precision::Bf16 => "bfloat16",
            Precision::F16 => "float16",
            Precision::Int8 => "int8",
            Precision::F32 | Precision::Auto => "float32",
        };
        json!({
            "model_id": self.name,
            "model_sha": null,
            "model_dtype": dtype,
            "model_type": self.kind,
            "max_concurrent_requests": app.options.max_concurrent_requests,
            "max_input_length": self.max_tokens,
            "max_batch_tokens": app.engine.max_batch_tokens(),
            "max_batch_requests": null,
            "max_client_batch_size": MAX_INPUTS,
            "auto_truncate": false,
            "tokenization_workers": std::thread::available_parallelism().map_or(1, std::num::NonZero::get),
            "version": env!("CARGO_PKG_VERSION"),
            "reranker": app.engine.default_reranker(),
        })
    }
}

/// Whether the service takes requests.
#[utoipa::path(get, path = "/health", tag = "tei", responses((status = 200)))]
pub(crate) async fn health() -> StatusCode {
    StatusCode::OK
}
