//! How good a collection is, on judged questions.

use std::collections::HashMap;

use axum::extract::State;
use cairn_rag::RetrievalChange;
use cairn_rag::eval::{EvalOptions, JudgedQuery, JudgedSet, Report};
use serde::Deserialize;
use utoipa::ToSchema;

use crate::app::App;
use crate::body::{At, Input, Reply, Started};
use crate::error::ApiResult;

/// Judged questions.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct Evaluate {
    /// Each with `id`, `text` and, if they are known, `answers`.
    #[schema(value_type = Vec<Object>)]
    queries: Vec<JudgedQuery>,
    /// By question id, the grades of relevant documents by their ids.
    #[schema(value_type = Object)]
    qrels: HashMap<String, HashMap<String, u32>>,
    /// How passages are found, where it differs from the collection's way.
    #[serde(default)]
    #[schema(value_type = Option<Object>)]
    retrieval: RetrievalChange,
    /// Only the collection's way of searching, not each way beside it.
    #[serde(default)]
    only_configured: bool,
    /// Also ask the questions that have known answers.
    #[serde(default)]
    answers: bool,
    /// Questions that the collection does not answer, to see them refused.
    #[serde(default)]
    unanswerable: Vec<String>,
}

/// Measures retrieval and answers on judged questions. A long list takes longer
/// than `server.request_timeout_ms`: use `cairn eval` for it.
#[utoipa::path(
    post, path = "/collections/{collection}/eval", tag = "text",
    params(("collection" = String, Path)),
    request_body = Evaluate,
    responses((status = 200, body = Reply<Object>), (status = "4XX"))
)]
pub(crate) async fn evaluate(
    State(app): State<App>,
    started: Started,
    At(name): At<String>,
    Input(body): Input<Evaluate>,
) -> ApiResult<Reply<Report>> {
    let set = JudgedSet::new(body.queries, body.qrels);
    let options = EvalOptions {
        retrieval: body.retrieval,
        only_configured: body.only_configured,
        answers: body.answers,
        unanswerable: body.unanswerable,
    };
    let report = app.write(move |engine| engine.evaluate(&name, &set, &options, &mut |_, _| {})).await?;
    Ok(started.reply(report))
}
