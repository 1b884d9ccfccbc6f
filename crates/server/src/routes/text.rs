//! Documents in, passages and cited answers out.

use std::convert::Infallible;

use axum::extract::State;
use axum::http::{HeaderMap, header};
use axum::response::sse::{self, KeepAlive, Sse};
use axum::response::{IntoResponse, Response};
use cairn_index::Filter;
use cairn_rag::{Added, Answer, Document, Event, Format, Retrieved, TextSearch};
use serde::{Deserialize, Serialize};
use serde_json::json;
use tokio_stream::wrappers::ReceiverStream;
use utoipa::ToSchema;

use crate::app::App;
use crate::body::{At, Input, Reply, Started};
use crate::error::{ApiError, ApiResult};

/// Documents to add.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct AddDocuments {
    /// Each with `id`, `text` and, if wanted, `title` and `metadata`.
    #[schema(value_type = Vec<Object>)]
    documents: Vec<Document>,
    /// `markdown`, which plain prose also is, or `text`.
    #[serde(default)]
    #[schema(value_type = Option<String>)]
    format: Format,
}

/// A search by text.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct SearchText {
    query: String,
    /// Passages at most, 10 when absent.
    #[serde(default)]
    limit: Option<usize>,
    /// Conditions on `document_id`, `title` and `metadata.…`.
    #[serde(default)]
    #[schema(value_type = Option<Object>)]
    filter: Option<Filter>,
}

/// The passages found, best first.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct SearchHits {
    #[schema(value_type = Vec<Object>)]
    hits: Vec<Retrieved>,
}

/// A question.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct AskQuestion {
    question: String,
    /// Passages the answer may rest on, 8 when absent.
    #[serde(default)]
    limit: Option<usize>,
    /// Conditions on `document_id`, `title` and `metadata.…`.
    #[serde(default)]
    #[schema(value_type = Option<Object>)]
    filter: Option<Filter>,
    /// Answer as server-sent events: `retrieval`, `delta`, `citation`, `done`.
    #[serde(default)]
    stream: bool,
}

/// How much of a document was removed.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct Deleted {
    /// Passages removed.
    deleted: usize,
}

const MAX_LIMIT: usize = 1000;

/// Adds documents, creating the collection when it is not there.
#[utoipa::path(
    put, path = "/collections/{collection}/documents", tag = "text",
    params(("collection" = String, Path)),
    request_body = AddDocuments,
    responses((status = 200, body = Reply<Object>), (status = "4XX"), (status = 507))
)]
pub(crate) async fn add(
    State(app): State<App>,
    started: Started,
    At(name): At<String>,
    Input(body): Input<AddDocuments>,
) -> ApiResult<Reply<Added>> {
    let added = app.write(move |engine| engine.add(&name, &body.documents, body.format, &mut |_| {})).await?;
    Ok(started.reply(added))
}

/// Removes a document.
#[utoipa::path(
    delete, path = "/collections/{collection}/documents/{id}", tag = "text",
    params(("collection" = String, Path), ("id" = String, Path)),
    responses((status = 200, body = Reply<Deleted>), (status = "4XX"))
)]
pub(crate) async fn delete(
    State(app): State<App>,
    started: Started,
    At((name, id)): At<(String, String)>,
) -> ApiResult<Reply<Deleted>> {
    let deleted = app.write(move |engine| engine.delete_document(&name, &id)).await?;
    Ok(started.reply(Deleted { deleted }))
}

/// Finds passages by meaning.
#[utoipa::path(
    post, path = "/collections/{collection}/search", tag = "text",
    params(("collection" = String, Path)),
    request_body = SearchText,
    responses((status = 200, body = Reply<SearchHits>), (status = "4XX"))
)]
pub(crate) async fn search(
    State(app): State<App>,
    started: Started,
    At(name): At<String>,
    Input(body): Input<SearchText>,
) -> ApiResult<Reply<SearchHits>> {
    let wanted = TextSearch { query: body.query, limit: limit(body.limit, 10)?, filter: body.filter };
    let hits = app.write(move |engine| engine.search(&name, &wanted)).await?;
    Ok(started.reply(SearchHits { hits }))
}

/// Answers a question with checked citations, at once or as events.
#[utoipa::path(
    post, path = "/collections/{collection}/ask", tag = "text",
    params(("collection" = String, Path)),
    request_body = AskQuestion,
    responses((status = 200, body = Reply<Object>), (status = "4XX"))
)]
pub(crate) async fn ask(
    State(app): State<App>,
    started: Started,
    At(name): At<String>,
    headers: HeaderMap,
    Input(body): Input<AskQuestion>,
) -> ApiResult<Response> {
    let accepts_events = headers
        .get(header::ACCEPT)
        .and_then(|accept| accept.to_str().ok())
        .is_some_and(|accept| accept.contains("text/event-stream"));
    let wanted = TextSearch { query: body.question, limit: limit(body.limit, 8)?, filter: body.filter };
    if body.stream || accepts_events {
        // What can be refused is refused with a status, before the stream begins.
        app.engine.database().collection(&name)?;
        return Ok(stream(&app, name, wanted).into_response());
    }
    let answer: Answer = app.write(move |engine| engine.ask(&name, &wanted, &mut |_| Ok(()))).await?;
    Ok(started.reply(answer).into_response())
}

fn limit(limit: Option<usize>, usual: usize) -> ApiResult<usize> {
    let limit = limit.unwrap_or(usual);
    if (1..=MAX_LIMIT).contains(&limit) {
        return Ok(limit);
    }
    Err(ApiError::validation(format!("limit: value {limit} invalid, must be from 1 to {MAX_LIMIT}")))
}

/// Events that a slow reader may be behind before the work waits for it.
const EVENTS_AHEAD: usize = 32;

fn stream(app: &App, name: String, wanted: TextSearch) -> impl IntoResponse + use<> {
    let (sender, receiver) = tokio::sync::mpsc::channel::<Result<sse::Event, Infallible>>(EVENTS_AHEAD);
    let engine = app.engine.clone();
    tokio::task::spawn_blocking(move || {
        let result = engine.ask(&name, &wanted, &mut |event| {
            // A reader that went away closes the channel, which ends the work.
            sender.blocking_send(Ok(render(&event))).map_err(|_| cairn_rag::Error::Cancelled)
        });
        match result {
            Ok(_) | Err(cairn_rag::Error::Cancelled) => {}
            Err(error) => {
                let error = ApiError::from(error);
                let _ = sender.blocking_send(Ok(event("error", &json!({ "error": error.text }))));
            }
        }
    });
    Sse::new(ReceiverStream::new(receiver)).keep_alive(KeepAlive::default())
}

fn render(happened: &Event) -> sse::Event {
    match happened {
        Event::Retrieval(passages) => event("retrieval", &json!({ "passages": passages })),
        Event::Delta(text) => event("delta", &json!({ "text": text })),
        Event::Citation(citation) => event("citation", citation),
        Event::Done(answer) => event("done", answer),
    }
}

fn event(name: &str, data: &impl Serialize) -> sse::Event {
    let data = serde_json::to_string(data).expect("keys are strings and scores finite");
    sse::Event::default().event(name).data(data)
}
