//! Questions in, passages and cited answers out.

use std::convert::Infallible;

use axum::extract::State;
use axum::http::{HeaderMap, header};
use axum::response::sse::{self, KeepAlive, Sse};
use axum::response::{IntoResponse, Response};
use cairn_index::Filter;
use cairn_rag::{
    Answer, Event, Provenance, Question, Replayed, RetrievalChange, Retrieved, Stage, TextSearch, Turn,
    Unsupported,
};
use serde::{Deserialize, Serialize};
use serde_json::json;
use tokio_stream::wrappers::ReceiverStream;
use utoipa::ToSchema;

use crate::app::App;
use crate::body::{At, Input, Reply, Started};
use crate::error::{ApiError, ApiResult};
use crate::routes::stores::in_use;

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
    /// How passages are found, where it differs from the collection's way: `mode`
    /// (dense, sparse, hybrid), `fusion`, `candidates`, `rerank`,
    /// `rerank_candidates`, `diversity`, `expand`, `rewrites`, `hyde`, `decay`.
    #[serde(default)]
    #[schema(value_type = Option<Object>)]
    retrieval: RetrievalChange,
    /// Tell each passage's path through the stages, with scores and times.
    #[serde(default)]
    explain: bool,
}

/// The passages found, best first.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct SearchHits {
    #[schema(value_type = Vec<Object>)]
    hits: Vec<Retrieved>,
    /// The seq of the collection that was searched.
    seq: u64,
    /// The stages, if the search was to explain itself.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[schema(value_type = Vec<Object>)]
    stages: Vec<Stage>,
    /// What did not go as asked.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    warnings: Vec<String>,
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
    /// How passages are found, as in a search.
    #[serde(default)]
    #[schema(value_type = Option<Object>)]
    retrieval: RetrievalChange,
    /// Tell each passage's path through the stages.
    #[serde(default)]
    explain: bool,
    /// Answer as server-sent events: `retrieval`, `delta`, `citation`, `done`.
    #[serde(default)]
    stream: bool,
    /// Go on with this conversation.
    #[serde(default)]
    conversation_id: Option<String>,
    /// What was said before, oldest first, where no conversation is kept here:
    /// each with `question` and `answer`.
    #[serde(default)]
    #[schema(value_type = Option<Vec<Object>>)]
    history: Vec<Turn>,
    /// Sentences of an extractive answer at most.
    #[serde(default)]
    max_sentences: Option<usize>,
    /// Confidence, 0 to 1, below which there is no answer.
    #[serde(default)]
    min_confidence: Option<f32>,
    /// What becomes of sentences that nothing supports: `mark` or `drop`.
    #[serde(default)]
    #[schema(value_type = Option<String>)]
    unsupported: Option<Unsupported>,
    /// False answers from the passages even where a language model is set.
    #[serde(default)]
    generate: Option<bool>,
}

const MAX_LIMIT: usize = 1000;

/// Finds passages by meaning and words.
#[utoipa::path(
    post, path = "/collections/{collection}/search", tag = "text", operation_id = "search_passages",
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
    let wanted = TextSearch {
        query: body.query,
        limit: limit(body.limit, 10)?,
        filter: body.filter,
        retrieval: body.retrieval,
        explain: body.explain,
    };
    let shared = app.clone();
    let found = app.write(move |engine| {
        in_use(&shared, &name)?;
        Ok::<_, ApiError>(engine.search(&name, &wanted)?)
    });
    let found = found.await?;
    Ok(started.reply(SearchHits {
        hits: found.passages,
        seq: found.seq,
        stages: found.stages,
        warnings: found.warnings,
    }))
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
    let streams = body.stream || accepts_events;
    let question = question(body)?;
    let (shared, named) = (app.clone(), name.clone());
    app.write(move |_| in_use(&shared, &named)).await?;
    if streams {
        // What can be refused is refused with a status, before the stream begins.
        app.engine.database().collection(&name)?;
        if let Some(id) = &question.conversation_id {
            app.engine.conversation(&name, id)?;
        }
        return Ok(stream(&app, name, question).into_response());
    }
    let answer: Answer = app.write(move |engine| engine.ask(&name, &question, &mut |_| Ok(()))).await?;
    Ok(started.reply(answer).into_response())
}

/// Retrieves again what an answer was made from, and says whether it is the same.
#[utoipa::path(
    post, path = "/collections/{collection}/replay", tag = "text",
    params(("collection" = String, Path)),
    request_body(content = Object, description = "The `provenance` of an answer"),
    responses((status = 200, body = Reply<Object>), (status = "4XX"))
)]
pub(crate) async fn replay(
    State(app): State<App>,
    started: Started,
    At(name): At<String>,
    Input(record): Input<Provenance>,
) -> ApiResult<Reply<Replayed>> {
    let record = Provenance { collection: name, ..record };
    let replayed = app.write(move |engine| engine.replay(&record)).await?;
    Ok(started.reply(replayed))
}

/// Sets how passages of a collection are found, where it differs from the settings.
#[utoipa::path(
    put, path = "/collections/{collection}/retrieval", tag = "text",
    params(("collection" = String, Path)),
    request_body(content = Object, description = "As `retrieval` in a search"),
    responses((status = 200, body = Reply<bool>), (status = "4XX"))
)]
pub(crate) async fn set_retrieval(
    State(app): State<App>,
    started: Started,
    At(name): At<String>,
    Input(change): Input<RetrievalChange>,
) -> ApiResult<Reply<bool>> {
    app.write(move |engine| engine.set_retrieval(&name, &change)).await?;
    Ok(started.reply(true))
}

fn question(body: AskQuestion) -> ApiResult<Question> {
    let search = TextSearch {
        query: body.question,
        limit: limit(body.limit, 8)?,
        filter: body.filter,
        retrieval: body.retrieval,
        explain: body.explain,
    };
    Ok(Question {
        conversation_id: body.conversation_id,
        history: body.history,
        max_sentences: body.max_sentences,
        min_confidence: body.min_confidence,
        unsupported: body.unsupported,
        generate: body.generate.unwrap_or(true),
        ..search.into()
    })
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

fn stream(app: &App, name: String, question: Question) -> impl IntoResponse + use<> {
    let (sender, receiver) = tokio::sync::mpsc::channel::<Result<sse::Event, Infallible>>(EVENTS_AHEAD);
    let engine = app.engine.clone();
    tokio::task::spawn_blocking(move || {
        let result = engine.ask(&name, &question, &mut |event| {
            // A reader that went away closes the channel, which ends the work.
            let told = match render(&event) {
                Some(event) => sender.blocking_send(Ok(event)).is_ok(),
                None => !sender.is_closed(),
            };
            if told { Ok(()) } else { Err(cairn_rag::Error::Cancelled) }
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

fn render(happened: &Event) -> Option<sse::Event> {
    Some(match happened {
        Event::Retrieval(passages) => event("retrieval", &json!({ "passages": passages })),
        Event::Waiting => return None,
        Event::Delta(text) => event("delta", &json!({ "text": text })),
        Event::Citation(citation) => event("citation", citation),
        Event::Done(answer) => event("done", answer),
    })
}

fn event(name: &str, data: &impl Serialize) -> sse::Event {
    let data = serde_json::to_string(data).expect("keys are strings and scores finite");
    sse::Event::default().event(name).data(data)
}
