//! A language model behind an OpenAI-compatible address.
//!
//! The one place where this crate speaks HTTP. Failures before an answer begins
//! are tried again; a server that says nothing, or cuts the stream, is an error.

use std::io::{BufRead, BufReader};
use std::sync::mpsc::{RecvTimeoutError, sync_channel};
use std::time::Duration;

use parking_lot::Mutex;
use serde_json::{Value, json};
use ureq::Agent;
use ureq::http::Response;

use super::{GeneratorOptions, Model, OnPiece};
use crate::error::{Error, Result};

/// Where `auto` looks, in this order.
const USUAL: [&str; 3] =
    ["http://127.0.0.1:11434/v1", "http://127.0.0.1:8080/v1", "http://127.0.0.1:8000/v1"];

/// Time for a server to say which models it has.
const LOOK: Duration = Duration::from_millis(1500);

/// How often whoever asked is told that the model is still at work.
const TICK: Duration = Duration::from_millis(250);

/// Lines of a stream that may wait to be read.
const LINES_AHEAD: usize = 64;

pub(super) struct Remote {
    options: GeneratorOptions,
    agent: Agent,
    /// Address and model, once known.
    found: Mutex<Option<Model>>,
}

impl Remote {
    pub(super) fn new(options: GeneratorOptions) -> Self {
        let timeout = Duration::from_millis(options.timeout_ms);
        let agent = Agent::config_builder()
            .timeout_global(Some(timeout))
            .timeout_connect(Some(timeout.min(Duration::from_secs(5))))
            .http_status_as_error(false)
            .build()
            .new_agent();
        Self { options, agent, found: Mutex::default() }
    }

    /// The model that answers: as configured, or the first that is found.
    ///
    /// # Errors
    /// [`Error::Generator`] when no server answers.
    pub(super) fn model(&self) -> Result<Model> {
        if let Some(model) = &*self.found.lock() {
            return Ok(model.clone());
        }
        let model = self.look()?;
        *self.found.lock() = Some(model.clone());
        Ok(model)
    }

    fn look(&self) -> Result<Model> {
        let url = self.options.url.trim_end_matches('/');
        if url != "auto" {
            let name = if self.options.model.is_empty() {
                self.first_model(url)?
            } else {
                self.options.model.clone()
            };
            return Ok(Model { url: url.to_owned(), name, sha256: None });
        }
        for url in USUAL {
            if let Ok(first) = self.first_model(url) {
                let name = if self.options.model.is_empty() { first } else { self.options.model.clone() };
                tracing::info!(url, model = name, "found a language model");
                return Ok(Model { url: url.to_owned(), name, sha256: None });
            }
        }
        let reason = format!("none of {} answers; start one or set rag.generator.url", USUAL.join(", "));
        Err(Error::Generator { url: "auto".to_owned(), reason })
    }

    /// The first model that the server at `url` lists.
    fn first_model(&self, url: &str) -> Result<String> {
        let failed = |reason: String| Error::Generator { url: url.to_owned(), reason };
        let request = self.agent.get(format!("{url}/models")).config().timeout_global(Some(LOOK)).build();
        let mut response = self.with_key(request).call().map_err(|error| failed(error.to_string()))?;
        if !response.status().is_success() {
            return Err(failed(format!("status {} when asked for its models", response.status())));
        }
        let listed: Value = response
            .body_mut()
            .read_json()
            .map_err(|error| failed(format!("its list of models is not JSON: {error}")))?;
        let name = listed["data"][0]["id"].as_str();
        name.map(str::to_owned)
            .ok_or_else(|| failed("it lists no models, set rag.generator.model".to_owned()))
    }

    fn with_key<B>(&self, request: ureq::RequestBuilder<B>) -> ureq::RequestBuilder<B> {
        match std::env::var(&self.options.api_key_env) {
            Ok(key) => request.header("authorization", format!("Bearer {key}")),
            Err(_) => request,
        }
    }

    /// Asks the model and hands on each piece as it comes. Returns the whole.
    pub(super) fn write(
        &self,
        messages: &[Value],
        max_tokens: usize,
        on_piece: &mut OnPiece<'_>,
    ) -> Result<String> {
        let model = self.model()?;
        let result = self.stream(&model, messages, max_tokens, on_piece);
        if matches!(result, Err(Error::Generator { .. })) {
            // It may have moved; the next question looks again.
            *self.found.lock() = None;
        }
        result
    }

    fn stream(
        &self,
        model: &Model,
        messages: &[Value],
        max_tokens: usize,
        on_piece: &mut OnPiece<'_>,
    ) -> Result<String> {
        let body = json!({
            "model": model.name,
            "messages": messages,
            "max_tokens": max_tokens,
            "temperature": self.options.temperature,
            "stream": true,
        });
        let response = self.send(model, &body)?;
        let failed = |reason: String| Error::Generator { url: model.url.clone(), reason };

        // Lines are read on a thread of their own, so that a model that says
        // nothing holds up nobody who has gone away meanwhile.
        let (sender, receiver) = sync_channel(LINES_AHEAD);
        std::thread::spawn(move || {
            for line in BufReader::new(response.into_body().into_reader()).lines() {
                if sender.send(line).is_err() {
                    break;
                }
            }
        });
        let idle = Duration::from_millis(self.options.idle_timeout_ms);
        let mut answer = String::new();
        let mut finished = false;
        let mut waited = Duration::ZERO;
        loop {
            let line = match receiver.recv_timeout(TICK) {
                Ok(line) => line.map_err(|error| failed(error.to_string()))?,
                Err(RecvTimeoutError::Disconnected) => break,
                Err(RecvTimeoutError::Timeout) => {
                    waited += TICK;
                    if waited >= idle {
                        return Err(failed(format!("it said nothing for {} ms", idle.as_millis())));
                    }
                    on_piece("")?;
                    continue;
                }
            };
            waited = Duration::ZERO;
            let Some(data) = line.strip_prefix("data:").map(str::trim) else { continue };
            if data == "[DONE]" {
                finished = true;
                break;
            }
            let chunk: Value = serde_json::from_str(data)
                .map_err(|error| failed(format!("a piece of the stream is not JSON: {error}")))?;
            if let Some(error) = chunk.get("error").filter(|error| !error.is_null()) {
                return Err(failed(format!("it broke off: {error}")));
            }
            let choice = &chunk["choices"][0];
            finished |= choice["finish_reason"].is_string();
            if let Some(piece) = choice["delta"]["content"].as_str().filter(|piece| !piece.is_empty()) {
                answer.push_str(piece);
                on_piece(piece)?;
            }
        }
        if !finished {
            return Err(failed("the stream ended before the answer did".to_owned()));
        }
        Ok(answer)
    }

    /// Sends a request, again after a while when the server cannot be reached
    /// or says that it is busy.
    fn send(&self, model: &Model, body: &Value) -> Result<Response<ureq::Body>> {
        let url = format!("{}/chat/completions", model.url);
        let mut tried = 0;
        loop {
            let sent = self.with_key(self.agent.post(&url)).send_json(body);
            let (reason, again, wait) = match sent {
                Ok(response) if response.status().is_success() => return Ok(response),
                Ok(mut response) => {
                    let status = response.status();
                    let wait = response.headers().get("retry-after").and_then(|value| value.to_str().ok());
                    let wait = wait.and_then(|value| value.trim().parse().ok()).map(Duration::from_secs);
                    let text = response.body_mut().read_to_string().unwrap_or_default();
                    let text: String = text.chars().take(300).collect();
                    let again = status.as_u16() == 429 || status.is_server_error();
                    (format!("status {status}: {text}"), again, wait)
                }
                Err(error) => {
                    let again = !matches!(error, ureq::Error::Timeout(_));
                    (error.to_string(), again, None)
                }
            };
            if !again || tried >= self.options.retries {
                return Err(Error::Generator { url: model.url.clone(), reason });
            }
            let usual = Duration::from_millis(200) * 2u32.pow(tried.min(6));
            std::thread::sleep(wait.unwrap_or(usual).min(Duration::from_secs(5)));
            tried += 1;
        }
    }
}
