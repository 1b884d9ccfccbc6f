//! Reranking in the shapes of TEI, Cohere and Jina, told apart by the body:
//! `texts` is answered with TEI's list, `documents` with an object that has the
//! fields of the others.

use std::sync::Arc;

use axum::Json;
use axum::extract::{OriginalUri, State};
use axum::response::{IntoResponse, Response};
use cairn_embed::Reranker;
use serde::{Deserialize, Serialize};
use serde_json::json;
use utoipa::ToSchema;
use uuid::Uuid;

use super::tei::check_count;
use super::tei::error::TeiError;
use crate::app::App;
use crate::body::Input as Body;
use crate::embedding::Loaded;
use crate::error::ApiError;

/// A query and what may answer it: `texts` as in TEI, or `documents` as in
/// Cohere and Jina.
#[derive(Debug, Deserialize, ToSchema)]
pub(crate) struct RerankRequest {
    query: String,
    /// Up to 2,048 texts; the answer is a list.
    #[serde(default)]
    texts: Option<Vec<String>>,
    /// Up to 2,048 texts, or objects with a `text`; the answer is an object.
    #[serde(default)]
    #[schema(value_type = Option<Vec<Object>>)]
    documents: Option<Vec<Document>>,
    /// The rerank model of the settings when absent.
    #[serde(default)]
    model: Option<String>,
    /// Of `texts`: what the model gives, not scaled to 0 to 1.
    #[serde(default)]
    raw_scores: bool,
    /// Of `texts`: give them back.
    #[serde(default)]
    return_text: bool,
    /// Of `texts`: cut what is too long for the model; otherwise it is refused.
    #[serde(default)]
    truncate: Option<bool>,
    /// Of `documents`: only so many results.
    #[serde(default)]
    top_n: Option<usize>,
    /// Of `documents`: give them back.
    #[serde(default)]
    return_documents: Option<bool>,
    /// Of `documents`: what is beyond these tokens is not read. The model's own
    /// limit also holds.
    #[serde(default)]
    max_tokens_per_doc: Option<usize>,
}

#[derive(Debug, Deserialize)]
#[serde(untagged, expecting = "a document must be a text or an object with a `text`")]
enum Document {
    Plain(String),
    Object { text: String },
}

impl Document {
    fn into_text(self) -> String {
        match self {
            Self::Plain(text) | Self::Object { text } => text,
        }
    }
}

#[derive(Debug, Serialize)]
struct Rank {
    index: usize,
    score: f32,
    #[serde(skip_serializing_if = "Option::is_none")]
    text: Option<String>,
}

#[derive(Debug, Serialize)]
struct Ranked {
    index: usize,
    relevance_score: f32,
    #[serde(skip_serializing_if = "Option::is_none")]
    document: Option<RankedDocument>,
}

#[derive(Debug, Serialize)]
struct RankedDocument {
    text: String,
}

/// Documents that are billed as one search, where that is counted.
const UNIT: usize = 100;

/// The order of texts by how well they answer a query.
#[utoipa::path(
    post, path = "/rerank", tag = "tei",
    request_body = RerankRequest,
    responses(
        (status = 200, body = Object), (status = 400), (status = 404), (status = 413), (status = 422),
        (status = 424), (status = 429)
    )
)]
pub(crate) async fn rerank(
    State(app): State<App>,
    OriginalUri(uri): OriginalUri,
    body: Result<Body<RerankRequest>, ApiError>,
) -> Response {
    let result = match body {
        Ok(Body(request)) if request.documents.is_some() => {
            documents(&app, request, if uri.path().starts_with("/v2") { "2" } else { "1" }).await
        }
        Ok(Body(request)) => texts(&app, request).await,
        Err(error) => Err(error.into()),
    };
    result.unwrap_or_else(TeiError::into_rerank_response)
}

/// The same, where clients of Cohere and Jina look for it.
#[utoipa::path(
    post, path = "/v1/rerank", tag = "rerank",
    request_body = RerankRequest,
    responses(
        (status = 200, body = Object), (status = 400), (status = 404), (status = 413), (status = 422),
        (status = 424), (status = 429)
    )
)]
pub(crate) async fn rerank_v1(
    app: State<App>,
    uri: OriginalUri,
    body: Result<Body<RerankRequest>, ApiError>,
) -> Response {
    rerank(app, uri, body).await
}

/// The same, where newer clients of Cohere look for it.
#[utoipa::path(
    post, path = "/v2/rerank", tag = "rerank",
    request_body = RerankRequest,
    responses(
        (status = 200, body = Object), (status = 400), (status = 404), (status = 413), (status = 422),
        (status = 424), (status = 429)
    )
)]
pub(crate) async fn rerank_v2(
    app: State<App>,
    uri: OriginalUri,
    body: Result<Body<RerankRequest>, ApiError>,
) -> Response {
    rerank(app, uri, body).await
}

/// What a model made of the texts of a request.
struct Judged {
    model: String,
    texts: Vec<String>,
    /// Places among the texts with their scores, best first.
    order: Vec<(usize, f32)>,
    tokens: usize,
}

async fn texts(app: &App, request: RerankRequest) -> Result<Response, TeiError> {
    let Some(texts) = request.texts else {
        return Err(TeiError::validation(
            "missing field `texts`, or `documents` in the shapes of Cohere and Jina",
        ));
    };
    check_count("texts", texts.len())?;
    let truncate = request.truncate.unwrap_or(false);
    let judged =
        judge(app, request.model, request.query, texts, request.raw_scores, move |model, query, texts| {
            if !truncate {
                let pairs: Vec<_> = texts.iter().map(|&text| (query, Some(text))).collect();
                model.check_lengths(&pairs)?;
            }
            Ok(())
        });
    let mut judged = judged.await?;
    let text = |texts: &mut Vec<String>, index: usize| std::mem::take(&mut texts[index]);
    let ranks: Vec<Rank> = judged
        .order
        .iter()
        .map(|&(index, score)| Rank {
            index,
            score,
            text: request.return_text.then(|| text(&mut judged.texts, index)),
        })
        .collect();
    Ok(Json(ranks).into_response())
}

async fn documents(app: &App, request: RerankRequest, version: &str) -> Result<Response, TeiError> {
    let documents = request.documents.unwrap_or_default();
    check_count("documents", documents.len())?;
    if request.top_n == Some(0) || request.max_tokens_per_doc == Some(0) {
        return Err(TeiError::validation("top_n and max_tokens_per_doc must be 1 or larger"));
    }
    let texts: Vec<String> = documents.into_iter().map(Document::into_text).collect();
    let count = texts.len();
    let limit = request.max_tokens_per_doc;
    let mut judged = match limit {
        Some(limit) => {
            let (cut, texts) = shortened(app, request.model.clone(), texts, limit).await?;
            let judged = judge(app, request.model, request.query, cut, false, |_, _, _| Ok(())).await?;
            Judged { texts: Arc::unwrap_or_clone(texts), ..judged }
        }
        None => judge(app, request.model, request.query, texts, false, |_, _, _| Ok(())).await?,
    };
    judged.order.truncate(request.top_n.unwrap_or(count));
    let with_text = request.return_documents.unwrap_or(false);
    let results: Vec<Ranked> = judged
        .order
        .iter()
        .map(|&(index, relevance_score)| Ranked {
            index,
            relevance_score,
            document: with_text.then(|| RankedDocument { text: std::mem::take(&mut judged.texts[index]) }),
        })
        .collect();
    let units = count.div_ceil(UNIT);
    Ok(Json(json!({
        "id": Uuid::new_v4(),
        "object": "list",
        "model": judged.model,
        "results": results,
        "usage": { "total_tokens": judged.tokens, "prompt_tokens": judged.tokens },
        "meta": { "api_version": { "version": version }, "billed_units": { "search_units": units } },
    }))
    .into_response())
}

/// The texts cut to a number of tokens, and the texts themselves.
async fn shortened(
    app: &App,
    model: Option<String>,
    texts: Vec<String>,
    limit: usize,
) -> Result<(Vec<String>, Arc<Vec<String>>), TeiError> {
    let texts = Arc::new(texts);
    let whole = texts.clone();
    let cut = app.with_reranker(model, move |Loaded { model, .. }| {
        let cut = |text: &String| Ok(model.start_of(text, limit)?.to_owned());
        whole.iter().map(cut).collect::<cairn_rag::Result<Vec<String>>>()
    });
    Ok((cut.await?, texts))
}

async fn judge(
    app: &App,
    model: Option<String>,
    query: String,
    texts: Vec<String>,
    raw: bool,
    check: impl FnOnce(&Reranker, &str, &[&str]) -> cairn_rag::Result<()> + Send + 'static,
) -> Result<Judged, TeiError> {
    let judged = app.with_reranker(model, move |Loaded { name, model, cancel }| {
        let found = {
            let texts: Vec<&str> = texts.iter().map(String::as_str).collect();
            check(&model, &query, &texts)?;
            model.score_until(&query, &texts, &cancel)?
        };
        let scores = if raw { found.raw.clone() } else { found.sigmoid() };
        let mut order: Vec<(usize, f32)> = scores.into_iter().enumerate().collect();
        // By the raw score, of which the other may round differences away.
        order.sort_by(|a, b| found.raw[b.0].total_cmp(&found.raw[a.0]));
        Ok(Judged { model: name, texts, order, tokens: found.tokens })
    });
    Ok(judged.await?)
}
