//! A response as events, in the order that clients expect: each has a number, and
//! items and parts are opened before they grow and closed after.

use std::convert::Infallible;

use axum::response::IntoResponse;
use axum::response::sse::{self, KeepAlive, Sse};
use cairn_rag::{Error, Event, Retrieved};
use serde_json::{Value, json};
use tokio::sync::mpsc::Sender;
use tokio_stream::wrappers::ReceiverStream;

use super::Asked;
use super::output::Made;
use crate::app::App;
use crate::error::ApiError;

/// Events that a slow reader may be behind before the work waits for it.
const EVENTS_AHEAD: usize = 32;

struct Events {
    sender: Sender<Result<sse::Event, Infallible>>,
    number: u64,
    /// The passages found, once they are.
    passages: Option<Vec<Retrieved>>,
}

impl Events {
    fn send(&mut self, kind: &str, mut data: Value) -> Result<(), Error> {
        data["type"] = json!(kind);
        data["sequence_number"] = json!(self.number);
        self.number += 1;
        let event = sse::Event::default().event(kind).data(data.to_string());
        // A reader that went away closes the channel, which ends the work.
        self.sender.blocking_send(Ok(event)).map_err(|_| Error::Cancelled)
    }

    fn begin(&mut self, made: &Made) -> Result<(), Error> {
        let response = made.response("in_progress", &[]);
        self.send("response.created", json!({ "response": response }))?;
        self.send("response.in_progress", json!({ "response": response }))?;
        let call = made.call("in_progress", None);
        self.send("response.output_item.added", json!({ "output_index": 0, "item": call }))?;
        for stage in ["in_progress", "searching"] {
            let place = json!({ "output_index": 0, "item_id": made.call });
            self.send(&format!("response.file_search_call.{stage}"), place)?;
        }
        Ok(())
    }

    /// The search is done, and the message begins.
    fn found(&mut self, made: &Made, passages: Vec<Retrieved>) -> Result<(), Error> {
        let place = json!({ "output_index": 0, "item_id": made.call });
        self.send("response.file_search_call.completed", place)?;
        let call = made.call("completed", Some(&passages));
        self.send("response.output_item.done", json!({ "output_index": 0, "item": call }))?;
        let message = made.message("in_progress", &[]);
        self.send("response.output_item.added", json!({ "output_index": 1, "item": message }))?;
        let part = Made::text("", &[]);
        self.send("response.content_part.added", placed(made, json!({ "part": part })))?;
        self.passages = Some(passages);
        Ok(())
    }

    fn ended(&mut self, made: &Made, response: &Value) -> Result<(), Error> {
        let message = response["output"][1].clone();
        let part = message["content"][0].clone();
        for (number, annotation) in part["annotations"].as_array().into_iter().flatten().enumerate() {
            let data = placed(made, json!({ "annotation_index": number, "annotation": annotation }));
            self.send("response.output_text.annotation.added", data)?;
        }
        let text = placed(made, json!({ "text": part["text"], "logprobs": [] }));
        self.send("response.output_text.done", text)?;
        self.send("response.content_part.done", placed(made, json!({ "part": part })))?;
        self.send("response.output_item.done", json!({ "output_index": 1, "item": message }))?;
        self.send("response.completed", json!({ "response": response }))
    }

    fn failed(&mut self, made: &Made, error: &ApiError) -> Result<(), Error> {
        let told = json!({ "code": "server_error", "message": error.text, "param": null });
        self.send("error", told)?;
        let mut response = made.response("failed", &[]);
        response["error"] = json!({ "code": "server_error", "message": error.text });
        self.send("response.failed", json!({ "response": response }))
    }
}

/// Data about the text of the message.
fn placed(made: &Made, mut data: Value) -> Value {
    data["item_id"] = json!(made.message);
    data["output_index"] = json!(1);
    data["content_index"] = json!(0);
    data
}

pub(super) fn stream(app: &App, asked: Asked) -> impl IntoResponse + use<> {
    let (sender, receiver) = tokio::sync::mpsc::channel(EVENTS_AHEAD);
    let app = app.clone();
    tokio::task::spawn_blocking(move || {
        let mut events = Events { sender, number: 0, passages: None };
        let ended = run(&app, &asked, &mut events);
        if let Err(error) = ended {
            // Whoever has gone is told nothing.
            let _ = events.failed(&asked.made, &error);
        }
    });
    Sse::new(ReceiverStream::new(receiver)).keep_alive(KeepAlive::default())
}

fn run(app: &App, asked: &Asked, events: &mut Events) -> Result<(), ApiError> {
    let made = &asked.made;
    events.begin(made)?;
    let answer = app.engine.ask(&made.collection, &asked.question, &mut |event| match event {
        Event::Retrieval(passages) => events.found(made, passages),
        Event::Waiting if events.sender.is_closed() => Err(Error::Cancelled),
        Event::Delta(text) => {
            events.send("response.output_text.delta", placed(made, json!({ "delta": text, "logprobs": [] })))
        }
        Event::Waiting | Event::Citation(_) | Event::Done(_) => Ok(()),
    })?;
    if events.passages.is_none() {
        events.found(made, Vec::new())?;
    }
    let passages = events.passages.take().unwrap_or_default();
    let response = made.whole(&app.engine, &answer, &passages);
    asked.keep(app, &response, &answer)?;
    Ok(events.ended(made, &response)?)
}
