//! Responses in the OpenAI shape: a collection answers from its documents, at
//! once or as events, and what was said goes on with `previous_response_id`.
//!
//! Responses are kept in the data directory unless `store` is false.

mod output;
mod streamed;

use axum::Json;
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use cairn_rag::{Question, Turn};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use utoipa::ToSchema;
use uuid::Uuid;

use self::output::Made;
use super::chat::{self, Content, Message};
use super::stores::{AttributeFilter, Item, Paging, Ranking, in_use, refusal, results, shaped};
use crate::app::App;
use crate::auth::{Access, Level};
use crate::body::{At, Input, Params};
use crate::error::{ApiError, ApiResult};
use crate::files::now;

/// Passages an answer may rest on.
const PASSAGES: usize = 8;

/// A question. Fields that are not named here are left aside: what a model
/// samples by has no meaning for verbatim quotes.
#[derive(Debug, Deserialize, ToSchema)]
pub(crate) struct ResponseRequest {
    /// `cairn/` and the name of a collection, or any where `file_search` names a
    /// vector store.
    #[serde(default)]
    model: String,
    /// A text, or messages.
    #[schema(value_type = Object)]
    input: InputItems,
    /// `file_search` with one of `vector_store_ids`, `max_num_results`, `filters`
    /// and `ranking_options`.
    #[serde(default)]
    #[schema(value_type = Vec<Object>)]
    tools: Vec<Value>,
    /// `file_search_call.results` gives the passages, too.
    #[serde(default)]
    include: Option<Vec<String>>,
    #[serde(default)]
    instructions: Option<String>,
    #[serde(default)]
    previous_response_id: Option<String>,
    /// Keep it; true when absent.
    #[serde(default)]
    store: Option<bool>,
    #[serde(default)]
    stream: Option<bool>,
    #[serde(default)]
    #[schema(value_type = Option<Object>)]
    metadata: Option<Value>,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(untagged, expecting = "input must be a string or a list of items")]
enum InputItems {
    Text(String),
    Items(Vec<Value>),
}

/// What `file_search` may say.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct FileSearch {
    max_num_results: Option<usize>,
    filters: Option<AttributeFilter>,
    ranking_options: Option<Ranking>,
}

/// A response as it is kept.
#[derive(Serialize, Deserialize)]
pub(crate) struct Kept {
    pub(crate) collection: String,
    /// What was said so far, this response included.
    turns: Vec<Turn>,
    input: Vec<Value>,
    response: Value,
}

impl InputItems {
    /// As items, each with an id.
    fn items(&self) -> Vec<Value> {
        let items = match self {
            Self::Text(text) => {
                vec![
                    json!({ "type": "message", "role": "user", "content": [{ "type": "input_text", "text": text }] }),
                ]
            }
            Self::Items(items) => items.clone(),
        };
        let with_id = |mut item: Value| {
            if item.is_object() && item["id"].is_null() {
                item["id"] = json!(format!("msg_{}", Uuid::new_v4().simple()));
            }
            item
        };
        items.into_iter().map(with_id).collect()
    }

    /// The messages among the items; what tools said before is no message.
    fn messages(&self) -> ApiResult<Vec<Message>> {
        match self {
            Self::Text(text) => {
                Ok(vec![Message { role: "user".to_owned(), content: Some(Content::Text(text.clone())) }])
            }
            Self::Items(items) => {
                let messages =
                    items.iter().filter(|item| item["type"].is_null() || item["type"] == "message");
                let read = |item: &Value| {
                    Message::deserialize(item).map_err(|error| {
                        ApiError::bad_request(format!("input: a message cannot be read: {error}"))
                    })
                };
                messages.map(read).collect()
            }
        }
    }
}

/// A request that was checked, and what it is about.
struct Asked {
    question: Question,
    made: Made,
    /// What was said before.
    turns: Vec<Turn>,
    input: Vec<Value>,
    store: bool,
}

impl Asked {
    fn new(app: &App, access: &Access, request: ResponseRequest) -> ApiResult<Self> {
        let collection = chat::collection(&request.model, &request.tools)?;
        access.check(&collection, Level::Read)?;
        app.engine.about(&collection).map_err(|error| chat::unknown(app, access, &request.model, error))?;
        in_use(app, &collection)?;
        let mut question = chat::question(&request.input.messages()?)?;
        let search = match chat::file_search(&request.tools) {
            Some(tool) => FileSearch::deserialize(tool).map_err(|error| {
                ApiError::bad_request(format!("tools: file_search cannot be read: {error}"))
            })?,
            None => FileSearch::default(),
        };
        question.search.limit = results(search.max_num_results, PASSAGES)?;
        question.search.filter = search.filters.as_ref().map(AttributeFilter::filter).transpose()?;
        if let Some(ranking) = &search.ranking_options {
            question.search.retrieval = ranking.retrieval()?;
        }
        if let Some(previous) = &request.previous_response_id {
            let previous = kept(app, access, previous)?;
            if previous.collection != collection {
                return Err(ApiError::bad_request(format!(
                    "previous_response_id is of the collection `{}`, and not of `{collection}`",
                    previous.collection
                )));
            }
            question.history.splice(0..0, previous.turns);
        }
        let with_results = request.include.iter().flatten().any(|what| what == "file_search_call.results");
        let made = Made {
            id: format!("resp_{}", Uuid::new_v4().simple()),
            call: format!("fs_{}", Uuid::new_v4().simple()),
            message: format!("msg_{}", Uuid::new_v4().simple()),
            created_at: now(),
            collection,
            with_results,
            query: question.search.query.clone(),
            told: json!({
                "model": request.model, "instructions": request.instructions, "tools": request.tools,
                "previous_response_id": request.previous_response_id,
                "metadata": request.metadata.unwrap_or_else(|| json!({})),
                "store": request.store.unwrap_or(true),
            }),
        };
        Ok(Self {
            turns: question.history.clone(),
            question,
            made,
            input: request.input.items(),
            store: request.store.unwrap_or(true),
        })
    }

    /// Keeps a response with what was said.
    fn keep(&self, app: &App, response: &Value, answer: &cairn_rag::Answer) -> ApiResult<()> {
        if !self.store {
            return Ok(());
        }
        let mut turns = self.turns.clone();
        turns.push(Turn {
            question: self.question.search.query.clone(),
            query: answer.searched.query.clone(),
            answer: answer.answer.clone(),
            at_ms: now() * 1000,
        });
        let kept = Kept {
            collection: self.made.collection.clone(),
            turns,
            input: self.input.clone(),
            response: response.clone(),
        };
        app.responses.put(&self.made.id, &kept)
    }
}

/// A response that is kept, and may be seen.
fn kept(app: &App, access: &Access, id: &str) -> ApiResult<Kept> {
    let missing = || ApiError::not_found(format!("Response with id '{id}' not found."));
    let kept = app.responses.get(id)?.ok_or_else(missing)?;
    // What was said about one collection is nothing for readers of another.
    if access.allows(&kept.collection, Level::Read) { Ok(kept) } else { Err(missing()) }
}

/// Answers from a collection, at once or as events.
#[utoipa::path(
    post, path = "/v1/responses", tag = "openai", operation_id = "create_response",
    request_body = ResponseRequest, responses((status = 200, body = Object), (status = "4XX"))
)]
pub(crate) async fn create(
    State(app): State<App>,
    access: Access,
    input: Result<Input<ResponseRequest>, ApiError>,
) -> Response {
    let made = async move {
        let Input(request) = input?;
        let streams = request.stream == Some(true);
        let shared = app.clone();
        let asked = app.write(move |_| Asked::new(&shared, &access, request)).await?;
        if streams {
            return Ok(streamed::stream(&app, asked).into_response());
        }
        let shared = app.clone();
        let response = app.write(move |engine| {
            let mut passages = Vec::new();
            let answer = engine.ask(&asked.made.collection, &asked.question, &mut |event| {
                if let cairn_rag::Event::Retrieval(found) = event {
                    passages = found;
                }
                Ok(())
            })?;
            let response = asked.made.whole(engine, &answer, &passages);
            asked.keep(&shared, &response, &answer)?;
            Ok::<_, ApiError>(response)
        });
        Ok::<_, ApiError>(Json(response.await?).into_response())
    };
    made.await.unwrap_or_else(|error| refusal(&error))
}

/// A response that was kept.
#[utoipa::path(
    get, path = "/v1/responses/{response}", tag = "openai", operation_id = "get_response",
    params(("response" = String, Path)),
    responses((status = 200, body = Object), (status = "4XX"))
)]
pub(crate) async fn get(State(app): State<App>, access: Access, At(id): At<String>) -> Response {
    let shared = app.clone();
    shaped(app.write(move |_| Ok::<_, ApiError>(kept(&shared, &access, &id)?.response)).await)
}

/// Deletes a response.
#[utoipa::path(
    delete, path = "/v1/responses/{response}", tag = "openai", operation_id = "delete_response",
    params(("response" = String, Path)),
    responses((status = 200, body = Object), (status = "4XX"))
)]
pub(crate) async fn delete(State(app): State<App>, access: Access, At(id): At<String>) -> Response {
    let shared = app.clone();
    let deleted = app.write(move |_| {
        kept(&shared, &access, &id)?;
        shared.responses.delete(&id)?;
        Ok::<_, ApiError>(json!({ "id": id, "object": "response", "deleted": true }))
    });
    shaped(deleted.await)
}

/// What a response was an answer to.
#[utoipa::path(
    get, path = "/v1/responses/{response}/input_items", tag = "openai",
    params(("response" = String, Path), Paging),
    responses((status = 200, body = Object), (status = "4XX"))
)]
pub(crate) async fn input_items(
    State(app): State<App>,
    access: Access,
    At(id): At<String>,
    paging: Result<Params<Paging>, ApiError>,
) -> Response {
    let listed = async move {
        let Params(paging) = paging?;
        let shared = app.clone();
        app.write(move |_| {
            let items = kept(&shared, &access, &id)?.input.into_iter().zip(0..);
            let item = |(body, place): (Value, u64)| {
                let id = body["id"].as_str().unwrap_or_default().to_owned();
                Item { id, created_at: place, body }
            };
            paging.page(items.map(item).collect(), 20, 100)
        })
        .await
    };
    shaped(listed.await)
}
