//! Chat completions in the OpenAI shape: a collection is a model that answers
//! from its documents.
//!
//! Sources stand in the message's annotations; the whole record, with spans and
//! support, in an extra field `context`.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::ops::Range;

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::sse::{self, KeepAlive, Sse};
use axum::response::{IntoResponse, Response};
use cairn_rag::{Answer, Citation, Error, Event, Question, Retrieved, TextSearch, Turn};
use serde::Deserialize;
use serde_json::{Value, json};
use tokio_stream::wrappers::ReceiverStream;
use utoipa::ToSchema;
use uuid::Uuid;

use super::openai::openai_error;
use super::stores::in_use;
use crate::app::App;
use crate::auth::{Access, Level};
use crate::body::Input;
use crate::error::{ApiError, ApiResult};

/// What a model of ours is called: this and the collection's name.
pub(crate) const PREFIX: &str = "cairn/";
/// Passages an answer may rest on.
const PASSAGES: usize = 8;
/// Events that a slow reader may be behind before the work waits for it.
const EVENTS_AHEAD: usize = 32;

/// A conversation to be gone on with. Fields that are not named here are left
/// aside: what a model samples by has no meaning for verbatim quotes.
#[derive(Debug, Deserialize, ToSchema)]
pub(crate) struct ChatRequest {
    /// `cairn/` and the name of a collection.
    model: String,
    #[schema(value_type = Vec<Object>)]
    messages: Vec<Message>,
    #[serde(default)]
    stream: Option<bool>,
    #[serde(default)]
    stream_options: Option<StreamOptions>,
    /// `file_search` with `vector_store_ids` names the collection, too.
    #[serde(default)]
    #[schema(value_type = Option<Vec<Object>>)]
    tools: Option<Vec<Value>>,
    /// Answers asked for; 1 is given.
    #[serde(default)]
    n: Option<u32>,
}

#[derive(Debug, Clone, Deserialize)]
pub(crate) struct Message {
    pub(crate) role: String,
    #[serde(default)]
    pub(crate) content: Option<Content>,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(untagged, expecting = "content must be a string or a list of parts")]
pub(crate) enum Content {
    Text(String),
    Parts(Vec<Part>),
}

#[derive(Debug, Clone, Deserialize)]
pub(crate) struct Part {
    #[serde(rename = "type")]
    kind: String,
    #[serde(default)]
    text: Option<String>,
}

#[derive(Debug, Default, Deserialize, ToSchema)]
struct StreamOptions {
    #[serde(default)]
    include_usage: bool,
}

impl Content {
    fn text(&self) -> ApiResult<String> {
        match self {
            Self::Text(text) => Ok(text.clone()),
            Self::Parts(parts) => {
                let texts = parts.iter().map(|part| match (part.kind.as_str(), &part.text) {
                    ("text" | "input_text" | "output_text", Some(text)) => Ok(text.as_str()),
                    (kind, _) => Err(ApiError::bad_request(format!(
                        "messages: a part of type `{kind}` cannot be read here, send `text`"
                    ))),
                });
                Ok(texts.collect::<ApiResult<Vec<_>>>()?.join("\n"))
            }
        }
    }
}

/// Answers the last message of a conversation from a collection.
#[utoipa::path(
    post, path = "/v1/chat/completions", tag = "openai",
    request_body = ChatRequest,
    responses((status = 200, body = Object), (status = 400), (status = 403), (status = 404))
)]
pub(crate) async fn completions(
    State(app): State<App>,
    access: Access,
    input: Result<Input<ChatRequest>, ApiError>,
) -> Response {
    match complete(app, access, input).await {
        Ok(response) => response,
        Err(error) => openai_error(&error),
    }
}

async fn complete(
    app: App,
    access: Access,
    input: Result<Input<ChatRequest>, ApiError>,
) -> ApiResult<Response> {
    let Input(request) = input?;
    let collection = collection(&request.model, request.tools.as_deref().unwrap_or_default())?;
    access.check(&collection, Level::Read)?;
    if request.n.is_some_and(|n| n != 1) {
        return Err(ApiError::bad_request("n must be 1: an answer that quotes is always the same"));
    }
    // What can be refused is refused with a status, before a stream begins.
    app.engine.about(&collection).map_err(|error| unknown(&app, &access, &request.model, error))?;
    let (shared, name) = (app.clone(), collection.clone());
    app.write(move |_| in_use(&shared, &name)).await?;
    let question = question(&request.messages)?;
    let reply = Reply::new(request.model, collection, &question);
    if request.stream == Some(true) {
        let usage = request.stream_options.unwrap_or_default().include_usage;
        return Ok(reply.stream(&app, question, usage).into_response());
    }
    let body = app.write(move |engine| {
        let mut sources = Sources::default();
        let answer = engine.ask(&reply.collection, &question, &mut |event| {
            sources.note(&event);
            Ok(())
        })?;
        let usage = reply.usage(engine, &answer);
        Ok::<_, Error>(reply.whole(&answer, &sources, &usage))
    });
    Ok(Json(body.await?).into_response())
}

/// The tool that searches, if there is one.
pub(crate) fn file_search(tools: &[Value]) -> Option<&Value> {
    tools.iter().find(|tool| tool["type"] == "file_search")
}

/// The collection that a request is about.
pub(crate) fn collection(model: &str, tools: &[Value]) -> ApiResult<String> {
    let stores = file_search(tools).map(|tool| &tool["vector_store_ids"]).and_then(Value::as_array);
    if stores.is_some_and(|stores| stores.len() > 1) {
        return Err(ApiError::bad_request("vector_store_ids must name one store, which is what is searched"));
    }
    if let Some(name) = model.strip_prefix(PREFIX) {
        return Ok(name.to_owned());
    }
    let named = stores.and_then(|stores| stores.first()?.as_str());
    named.map(str::to_owned).ok_or_else(|| {
        let text = format!("The model `{model}` does not exist: ask `{PREFIX}` and a collection");
        ApiError::new(StatusCode::NOT_FOUND, text)
    })
}

pub(crate) fn unknown(app: &App, access: &Access, model: &str, error: Error) -> ApiError {
    let missing = matches!(
        error,
        Error::NoTextModel { .. } | Error::Index(cairn_index::Error::UnknownCollection { .. })
    );
    if !missing {
        return error.into();
    }
    let there = models(app, access);
    let there = if there.is_empty() { "none yet".to_owned() } else { there.join(", ") };
    ApiError::new(StatusCode::NOT_FOUND, format!("The model `{model}` does not exist; there are: {there}"))
}

/// The collections that can be asked, as models.
pub(crate) fn models(app: &App, access: &Access) -> Vec<String> {
    let names = app.engine.database().collections().into_iter();
    let seen = names.filter(|name| access.allows(name, Level::Read) && app.engine.about(name).is_ok());
    seen.map(|name| format!("{PREFIX}{name}")).collect()
}

/// The last message of the user, after what was said before.
pub(crate) fn question(messages: &[Message]) -> ApiResult<Question> {
    let mut turns: Vec<Turn> = Vec::new();
    let mut asked: Option<String> = None;
    for message in messages {
        let text = message.content.as_ref().map(Content::text).transpose()?.unwrap_or_default();
        match message.role.as_str() {
            // A question that was not answered goes on in the next one.
            "user" => asked = Some(asked.map_or(text.clone(), |before| format!("{before}\n{text}"))),
            "assistant" => {
                if let Some(question) = asked.take() {
                    turns.push(Turn { query: question.clone(), question, answer: text, at_ms: 0 });
                }
            }
            // Who answers is settled by the server's own settings.
            "system" | "developer" | "tool" | "function" => {}
            role => {
                return Err(ApiError::bad_request(format!(
                    "messages: `{role}` is not a role, take system, developer, user, assistant or tool"
                )));
            }
        }
    }
    let text = asked.filter(|text| !text.trim().is_empty());
    let text = text.ok_or_else(|| ApiError::bad_request("messages must end with a question of the user"))?;
    let search = TextSearch { limit: PASSAGES, ..TextSearch::new(text) };
    Ok(Question { history: turns, ..search.into() })
}

/// The citations of an answer's sentences, each with the characters of the
/// sentence.
pub(crate) fn cited(answer: &Answer) -> Vec<(Range<usize>, &Citation)> {
    let mut cited = Vec::new();
    let mut from = 0;
    for sentence in &answer.sentences {
        let Some(at) = answer.answer[from..].find(&sentence.text).map(|at| from + at) else { continue };
        let start = answer.answer[..at].chars().count();
        let end = start + sentence.text.chars().count();
        from = at + sentence.text.len();
        let citations = sentence.citations.iter().filter_map(|&number| answer.citations.get(number));
        cited.extend(citations.map(|citation| (start..end, citation)));
    }
    cited
}

/// Where documents that were found can be read.
#[derive(Default)]
struct Sources(BTreeMap<String, String>);

impl Sources {
    fn note(&mut self, event: &Event) {
        let Event::Retrieval(passages) = event else { return };
        for passage in passages {
            if let Some(url) = passage.metadata.get("url").and_then(Value::as_str) {
                self.0.insert(passage.document_id.clone(), url.to_owned());
            }
        }
    }

    /// The document's own address, or one that names its place here, with the
    /// characters quoted (RFC 5147).
    fn url(&self, collection: &str, citation: &Citation) -> String {
        let id = &citation.document_id;
        let plain = |text: &str| {
            percent_encoding::utf8_percent_encode(text, percent_encoding::NON_ALPHANUMERIC).to_string()
        };
        let own = id.starts_with("http://") || id.starts_with("https://");
        let place = match self.0.get(id) {
            Some(url) => url.clone(),
            None if own => id.clone(),
            None => format!("cairn://{}/{}", plain(collection), plain(id)),
        };
        format!("{place}#char={},{}", citation.start, citation.end)
    }
}

/// What all pieces of an answer have in common.
struct Reply {
    id: String,
    created: u64,
    model: String,
    collection: String,
    /// What was asked, with what was said before.
    prompt: String,
}

struct Usage {
    prompt: usize,
    completion: usize,
}

impl Usage {
    fn json(&self) -> Value {
        json!({
            "prompt_tokens": self.prompt, "completion_tokens": self.completion,
            "total_tokens": self.prompt + self.completion,
        })
    }
}

impl Reply {
    fn new(model: String, collection: String, question: &Question) -> Self {
        let said = question.history.iter().flat_map(|turn| [turn.question.as_str(), turn.answer.as_str()]);
        let prompt: Vec<&str> = said.chain([question.search.query.as_str()]).collect();
        Self {
            id: format!("chatcmpl-{}", Uuid::new_v4().simple()),
            created: std::time::UNIX_EPOCH.elapsed().map_or(0, |since| since.as_secs()),
            model,
            prompt: prompt.join("\n"),
            collection,
        }
    }

    /// Tokens as the collection's model counts them.
    fn usage(&self, engine: &cairn_rag::Engine, answer: &Answer) -> Usage {
        let count = |text: &str| engine.count_tokens(&self.collection, text).unwrap_or(0);
        Usage { prompt: count(&self.prompt), completion: count(&answer.answer) }
    }

    fn annotations(&self, answer: &Answer, sources: &Sources) -> Vec<Value> {
        let annotation = |(place, citation): (Range<usize>, &Citation)| {
            json!({
                "type": "url_citation",
                "url_citation": {
                    "start_index": place.start, "end_index": place.end,
                    "url": sources.url(&self.collection, citation), "title": citation.title,
                },
            })
        };
        cited(answer).into_iter().map(annotation).collect()
    }

    fn whole(&self, answer: &Answer, sources: &Sources, usage: &Usage) -> Value {
        json!({
            "id": self.id, "object": "chat.completion", "created": self.created, "model": self.model,
            "choices": [{
                "index": 0,
                "message": {
                    "role": "assistant", "content": answer.answer, "refusal": null,
                    "annotations": self.annotations(answer, sources),
                },
                "logprobs": null, "finish_reason": "stop",
            }],
            "usage": usage.json(),
            "context": answer,
        })
    }

    fn chunk(&self, delta: &Value, finish: Option<&str>) -> Value {
        json!({
            "id": self.id, "object": "chat.completion.chunk", "created": self.created, "model": self.model,
            "choices": [{ "index": 0, "delta": delta, "logprobs": null, "finish_reason": finish }],
        })
    }

    /// Sources come with the first piece, annotations with the last.
    fn stream(self, app: &App, question: Question, with_usage: bool) -> impl IntoResponse + use<> {
        let (sender, receiver) = tokio::sync::mpsc::channel::<Result<sse::Event, Infallible>>(EVENTS_AHEAD);
        let engine = app.engine.clone();
        tokio::task::spawn_blocking(move || {
            let send = |value: &Value| {
                // A reader that went away closes the channel, which ends the work.
                let sent = sender.blocking_send(Ok(sse::Event::default().data(value.to_string())));
                sent.map_err(|_| Error::Cancelled)
            };
            let mut sources = Sources::default();
            let result = engine.ask(&self.collection, &question, &mut |event| {
                sources.note(&event);
                match &event {
                    Event::Retrieval(passages) => send(&self.first(passages)),
                    Event::Waiting if sender.is_closed() => Err(Error::Cancelled),
                    Event::Delta(text) => send(&self.chunk(&json!({ "content": text }), None)),
                    Event::Waiting | Event::Citation(_) | Event::Done(_) => Ok(()),
                }
            });
            let ended = result.and_then(|answer| {
                let delta = json!({ "annotations": self.annotations(&answer, &sources) });
                let mut last = self.chunk(&delta, Some("stop"));
                last["context"] = serde_json::to_value(&answer).expect("keys are strings and scores finite");
                send(&last)?;
                if with_usage {
                    let mut told = self.chunk(&json!({}), None);
                    told["choices"] = json!([]);
                    told["usage"] = self.usage(&engine, &answer).json();
                    send(&told)?;
                }
                Ok(())
            });
            match ended {
                Err(Error::Cancelled) => return,
                Err(error) => {
                    let error = ApiError::from(error);
                    let _ = send(&json!({ "error": { "message": error.text, "type": "server_error" } }));
                }
                Ok(()) => {}
            }
            let _ = sender.blocking_send(Ok(sse::Event::default().data("[DONE]")));
        });
        Sse::new(ReceiverStream::new(receiver)).keep_alive(KeepAlive::default())
    }

    fn first(&self, passages: &[Retrieved]) -> Value {
        let mut first = self.chunk(&json!({ "role": "assistant", "content": "" }), None);
        first["context"] = json!({ "passages": passages });
        first
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn asked(messages: &Value) -> ApiResult<Question> {
        question(&serde_json::from_value::<Vec<Message>>(messages.clone()).unwrap())
    }

    #[test]
    fn what_was_said_before_is_history_and_the_last_question_is_asked() {
        let question = asked(&json!([
            {"role": "system", "content": "Be brief."},
            {"role": "user", "content": "What is a cairn?"},
            {"role": "assistant", "content": "A pile of stones."},
            {"role": "user", "content": [{"type": "text", "text": "Who"}, {"type": "text", "text": "builds it?"}]},
        ]))
        .unwrap();
        assert_eq!(question.search.query, "Who\nbuilds it?");
        assert_eq!(question.history.len(), 1);
        assert_eq!(question.history[0].answer, "A pile of stones.");
    }

    #[test]
    fn messages_without_a_question_and_parts_that_are_no_text_are_refused() {
        for (messages, told) in [
            (json!([]), "end with a question"),
            (json!([{"role": "user", "content": "  "}]), "end with a question"),
            (json!([{"role": "assistant", "content": "hello"}]), "end with a question"),
            (json!([{"role": "friend", "content": "hello"}]), "is not a role"),
            (json!([{"role": "user", "content": [{"type": "image_url"}]}]), "`image_url` cannot be read"),
        ] {
            let error = asked(&messages).unwrap_err();
            assert!(error.text.contains(told), "{}", error.text);
        }
    }
}
