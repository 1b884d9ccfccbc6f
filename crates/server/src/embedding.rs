//! What requests give a text model to do: texts or token ids, a model by name,
//! and work that ends when its client goes away.

use std::sync::Arc;

use cairn_embed::{Cancel, Embedder, Encoder, Input, Reranker, TextKind};
use cairn_rag::Engine;
use serde::Deserialize;

use crate::app::App;
use crate::error::{ApiError, ApiResult};

/// Inputs that one request may have.
pub(crate) const MAX_INPUTS: usize = 2048;

/// One or many inputs, as the interfaces of embedding services take them.
#[derive(Debug, Deserialize)]
#[serde(
    untagged,
    expecting = "it must be a text, a list of texts, a list of token ids, or a list of such lists"
)]
pub(crate) enum Inputs {
    Text(String),
    Texts(Vec<String>),
    Ids(Vec<u32>),
    Many(Vec<One>),
}

/// A text or its token ids.
#[derive(Debug, Deserialize)]
#[serde(untagged, expecting = "it must be a text or a list of token ids")]
pub(crate) enum One {
    Text(String),
    Ids(Vec<u32>),
}

impl Inputs {
    /// All inputs, in their order.
    pub(crate) fn into_vec(self) -> Vec<One> {
        match self {
            Self::Text(text) => vec![One::Text(text)],
            Self::Texts(texts) => texts.into_iter().map(One::Text).collect(),
            Self::Ids(ids) => vec![One::Ids(ids)],
            Self::Many(many) => many,
        }
    }
}

impl One {
    /// As the encoder takes it; `end` says that the end of a long text counts.
    pub(crate) fn input(&self, end: bool) -> Input<'_> {
        match self {
            Self::Text(text) if end => Input::End(text),
            Self::Text(text) => Input::Text(text),
            Self::Ids(ids) => Input::Ids(ids),
        }
    }

    pub(crate) fn is_empty(&self) -> bool {
        match self {
            Self::Text(text) => text.trim().is_empty(),
            Self::Ids(ids) => ids.is_empty(),
        }
    }
}

/// Stops the work of a request that is dropped before it is answered.
struct Stops(Cancel);

impl Drop for Stops {
    fn drop(&mut self) {
        self.0.cancel();
    }
}

impl App {
    /// Runs `work` with an embedding model, here or behind an address; the
    /// default one when none is named.
    pub(crate) async fn with_embedder<T: Send + 'static>(
        &self,
        model: Option<String>,
        work: impl FnOnce(Loaded<Embedder>) -> cairn_rag::Result<T> + Send + 'static,
    ) -> ApiResult<T> {
        let find = move |engine: &Engine| {
            let (name, model) = engine.embedder(model.as_deref())?;
            Ok((name, Arc::new(model)))
        };
        self.with_model(find, work).await
    }

    /// The same with a model that makes vectors of any kind; it must be here.
    pub(crate) async fn with_any_encoder<T: Send + 'static>(
        &self,
        model: Option<String>,
        work: impl FnOnce(Loaded<Encoder>) -> cairn_rag::Result<T> + Send + 'static,
    ) -> ApiResult<T> {
        self.with_model(move |engine| engine.any_encoder(model.as_deref()), work).await
    }

    /// Runs `work` with a model that reranks; that of the settings when none is
    /// named.
    pub(crate) async fn with_reranker<T: Send + 'static>(
        &self,
        model: Option<String>,
        work: impl FnOnce(Loaded<Reranker>) -> cairn_rag::Result<T> + Send + 'static,
    ) -> ApiResult<T> {
        self.with_model(move |engine| engine.rerank_model(model.as_deref()), work).await
    }

    /// Runs `work` with what `find` finds, and stops it when nobody waits any more.
    async fn with_model<M: 'static, T: Send + 'static>(
        &self,
        find: impl FnOnce(&Engine) -> cairn_rag::Result<(String, Arc<M>)> + Send + 'static,
        work: impl FnOnce(Loaded<M>) -> cairn_rag::Result<T> + Send + 'static,
    ) -> ApiResult<T> {
        let stops = Stops(Cancel::new());
        let cancel = stops.0.clone();
        self.write(move |engine| {
            let (name, model) = find(engine).map_err(unknown_is_not_found)?;
            work(Loaded { name, model, cancel }).map_err(ApiError::from)
        })
        .await
    }
}

/// A model in memory, and the flag of the request that uses it.
pub(crate) struct Loaded<M> {
    pub(crate) name: String,
    pub(crate) model: Arc<M>,
    pub(crate) cancel: Cancel,
}

/// These interfaces name a model in the body as others do in the path.
fn unknown_is_not_found(error: cairn_rag::Error) -> ApiError {
    match error {
        cairn_rag::Error::UnknownModel { .. } => {
            ApiError::new(axum::http::StatusCode::NOT_FOUND, error.to_string())
        }
        other => other.into(),
    }
}

/// The first dimensions of a vector at unit length (Matryoshka embeddings).
pub(crate) fn cut(mut vector: Vec<f32>, dimensions: usize) -> ApiResult<Vec<f32>> {
    if !(1..=vector.len()).contains(&dimensions) {
        return Err(ApiError::bad_request(format!(
            "dimensions must be from 1 to {}, got {dimensions}",
            vector.len()
        )));
    }
    vector.truncate(dimensions);
    normalize(&mut vector);
    Ok(vector)
}

/// Gives a vector the length 1, unless it is zero.
pub(crate) fn normalize(vector: &mut [f32]) {
    let norm = vector.iter().map(|number| number * number).sum::<f32>().sqrt();
    if norm > 0.0 {
        vector.iter_mut().for_each(|number| *number /= norm);
    }
}

/// The prompt a request names: models tell queries from passages.
pub(crate) fn kind_of(prompt_name: Option<&str>) -> ApiResult<TextKind> {
    match prompt_name {
        Some("query") => Ok(TextKind::Query),
        None | Some("passage" | "document" | "corpus") => Ok(TextKind::Passage),
        Some(other) => Err(ApiError::bad_request(format!(
            "prompt_name `{other}` is not known, take query, passage, document or corpus"
        ))),
    }
}
