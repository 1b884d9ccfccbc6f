//! Searching a vector store.

use std::collections::HashMap;

use axum::extract::State;
use axum::response::Response;
use cairn_rag::{Engine, Fusion, FusionMethod, RetrievalChange, Retrieved, TextSearch};
use serde::Deserialize;
use serde_json::{Value, json};
use utoipa::ToSchema;

use super::FILE;
use super::filters::AttributeFilter;
use super::shape::shaped;
use super::used;
use crate::app::App;
use crate::auth::{Access, Level};
use crate::body::{At, Input};
use crate::error::{ApiError, ApiResult};

/// A search of a vector store.
#[derive(Debug, Deserialize, ToSchema)]
pub(crate) struct SearchInput {
    /// A text, or several, of whose results each is taken with its best score.
    #[schema(value_type = Object)]
    query: Queries,
    /// Results at most, 1 to 50; 10 when absent.
    #[serde(default)]
    max_num_results: Option<usize>,
    /// `{type, key, value}` or `{type: and | or, filters}` over attributes.
    #[serde(default)]
    #[schema(value_type = Option<Object>)]
    filters: Option<AttributeFilter>,
    #[serde(default)]
    #[schema(value_type = Option<Object>)]
    ranking_options: Option<Ranking>,
    /// Also search with other wordings, where a language model is set.
    #[serde(default)]
    rewrite_query: bool,
}

#[derive(Debug, Deserialize)]
#[serde(untagged, expecting = "query must be a string or a list of strings")]
enum Queries {
    One(String),
    Several(Vec<String>),
}

/// How results are put in order.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub(crate) struct Ranking {
    /// `none` leaves the rerank model out.
    ranker: Option<String>,
    /// Results with a lower score are left out; 0 to 1.
    score_threshold: Option<f32>,
    hybrid_search: Option<Weights>,
}

#[derive(Debug, Clone, Copy, Deserialize)]
struct Weights {
    embedding_weight: f32,
    text_weight: f32,
}

impl Ranking {
    /// What it changes about a collection's way of finding passages.
    pub(crate) fn retrieval(&self) -> ApiResult<RetrievalChange> {
        let mut change = RetrievalChange::default();
        if self.ranker.as_deref() == Some("none") {
            change.rerank = Some(false);
        }
        if let Some(Weights { embedding_weight, text_weight }) = self.hybrid_search {
            let sum = embedding_weight + text_weight;
            if !(embedding_weight >= 0.0 && text_weight >= 0.0 && sum > 0.0 && sum.is_finite()) {
                return Err(ApiError::bad_request(
                    "hybrid_search: the weights must be 0 or larger, and one of them above 0",
                ));
            }
            let dense = embedding_weight / sum;
            change.fusion = Some(Fusion { method: FusionMethod::Weighted, dense, ..Fusion::default() });
        }
        Ok(change)
    }

    pub(crate) fn lets_through(&self, score: f32) -> bool {
        self.score_threshold.is_none_or(|least| score >= least)
    }
}

/// Results that may be asked for.
pub(crate) fn results(wanted: Option<usize>, usual: usize) -> ApiResult<usize> {
    let wanted = wanted.unwrap_or(usual);
    if (1..=50).contains(&wanted) {
        return Ok(wanted);
    }
    Err(ApiError::bad_request(format!("max_num_results must be from 1 to 50, got {wanted}")))
}

/// The name of the file that a passage is of.
pub(crate) fn filename(passage: &Retrieved) -> String {
    let named = passage.metadata.get(FILE).and_then(|file| file["name"].as_str());
    let title = Some(passage.title.as_str()).filter(|title| !title.is_empty());
    named.or(title).unwrap_or(&passage.document_id).to_owned()
}

/// A passage as a result.
pub(crate) fn result(mut passage: Retrieved) -> Value {
    let filename = filename(&passage);
    passage.metadata.remove(FILE);
    json!({
        "file_id": passage.document_id, "filename": filename, "score": passage.score,
        "attributes": passage.metadata, "content": [{ "type": "text", "text": passage.text }],
        "page": passage.page, "start": passage.start, "end": passage.end,
    })
}

/// Finds passages of the files of a vector store.
#[utoipa::path(
    post, path = "/v1/vector_stores/{store}/search", tag = "openai", operation_id = "search_store",
    params(("store" = String, Path)),
    request_body = SearchInput, responses((status = 200, body = Object), (status = "4XX"))
)]
pub(crate) async fn search(
    State(app): State<App>,
    access: Access,
    At(store): At<String>,
    input: Result<Input<SearchInput>, ApiError>,
) -> Response {
    let found = async move {
        let Input(input) = input?;
        access.check(&store, Level::Read)?;
        let shared = app.clone();
        app.write(move |engine| {
            used(&shared, &store)?;
            run(engine, &store, input)
        })
        .await
    };
    shaped(found.await)
}

fn run(engine: &Engine, store: &str, input: SearchInput) -> ApiResult<Value> {
    let queries = match input.query {
        Queries::One(query) => vec![query],
        Queries::Several(queries) => queries,
    };
    if queries.is_empty() {
        return Err(ApiError::bad_request("query must hold a text at least"));
    }
    let limit = results(input.max_num_results, 10)?;
    let ranking = input.ranking_options.unwrap_or_default();
    let mut retrieval = ranking.retrieval()?;
    if input.rewrite_query {
        retrieval.rewrites = Some(2);
    }
    let filter = input.filters.as_ref().map(AttributeFilter::filter).transpose()?;
    let mut best: HashMap<cairn_index::PointId, Retrieved> = HashMap::new();
    for query in &queries {
        let wanted = TextSearch {
            limit,
            filter: filter.clone(),
            retrieval: retrieval.clone(),
            ..TextSearch::new(query.as_str())
        };
        for passage in engine.search(store, &wanted)?.passages {
            let known = best.get(&passage.id).map_or(f32::NEG_INFINITY, |known| known.score);
            if passage.score > known {
                best.insert(passage.id, passage);
            }
        }
    }
    let mut found: Vec<Retrieved> =
        best.into_values().filter(|passage| ranking.lets_through(passage.score)).collect();
    found.sort_by(|a, b| b.score.total_cmp(&a.score).then_with(|| a.id.cmp(&b.id)));
    found.truncate(limit);
    let data: Vec<Value> = found.into_iter().map(result).collect();
    Ok(json!({
        "object": "vector_store.search_results.page", "search_query": queries, "data": data,
        "has_more": false, "next_page": null,
    }))
}
