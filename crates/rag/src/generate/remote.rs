//! A language model behind an OpenAI-compatible address.
//!
//! The one place where this crate speaks HTTP. Failures before an answer begins
//! are tried again; a server that says nothing, cuts the stream or writes without
//! end is an error.

use std::io::{BufRead, BufReader, Read};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
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

/// Bytes of a line; a piece of an answer has some hundred.
const LINE_BYTES: usize = 1 << 20;

/// Bytes of an answer for each token that was asked for, more than any token has.
const TOKEN_BYTES: usize = 128;

pub(super) struct Remote {
    asker: Arc<Asker>,
    /// Address and model, once known.
    found: Mutex<Option<Model>>,
}

/// What sends requests.
struct Asker {
    options: GeneratorOptions,
    agent: Agent,
}

/// What comes of a request, in its order.
enum Heard {
    /// The server took it.
    Begun,
    /// A line of the stream.
    Line(Vec<u8>),
    Failed(String),
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
        Self { asker: Arc::new(Asker { options, agent }), found: Mutex::default() }
    }

    /// The model that answers: as configured, or the first that is found.
    ///
    /// # Errors
    /// [`Error::Generator`] when no server answers.
    pub(super) fn model(&self) -> Result<Model> {
        if let Some(model) = &*self.found.lock() {
            return Ok(model.clone());
        }
        let model = self.asker.look()?;
        *self.found.lock() = Some(model.clone());
        Ok(model)
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
        let options = &self.asker.options;
        let body = json!({
            "model": model.name,
            "messages": messages,
            "max_tokens": max_tokens,
            "temperature": options.temperature,
            "stream": true,
        });
        let failed = |reason: String| Error::Generator { url: model.url.clone(), reason };
        let heard = self.asker.clone().ask(model.clone(), body);
        let idle = Duration::from_millis(options.idle_timeout_ms);
        let longest = max_tokens.saturating_mul(TOKEN_BYTES);
        let mut answer = String::new();
        let (mut begun, mut finished) = (false, false);
        let mut waited = Duration::ZERO;
        loop {
            let line = match heard.recv_timeout(TICK) {
                Ok(Heard::Line(line)) => line,
                Ok(Heard::Begun) => {
                    begun = true;
                    continue;
                }
                Ok(Heard::Failed(reason)) => return Err(failed(reason)),
                Err(RecvTimeoutError::Disconnected) => break,
                Err(RecvTimeoutError::Timeout) => {
                    // Until it begins, the time for the whole holds.
                    waited += if begun { TICK } else { Duration::ZERO };
                    if waited >= idle {
                        return Err(failed(format!("it said nothing for {} ms", idle.as_millis())));
                    }
                    on_piece("")?;
                    continue;
                }
            };
            waited = Duration::ZERO;
            let Some(data) = line.strip_prefix(b"data:").map(<[u8]>::trim_ascii) else { continue };
            if data == b"[DONE]" {
                finished = true;
                break;
            }
            let chunk: Value = serde_json::from_slice(data)
                .map_err(|error| failed(format!("a piece of the stream is not JSON: {error}")))?;
            if let Some(error) = chunk.get("error").filter(|error| !error.is_null()) {
                return Err(failed(format!("it broke off: {error}")));
            }
            let choice = &chunk["choices"][0];
            finished |= choice["finish_reason"].is_string();
            if let Some(piece) = choice["delta"]["content"].as_str().filter(|piece| !piece.is_empty()) {
                answer.push_str(piece);
                if answer.len() > longest {
                    return Err(failed(format!(
                        "it wrote on after the {max_tokens} tokens it was asked for"
                    )));
                }
                on_piece(piece)?;
            }
        }
        if !finished {
            return Err(failed("the stream ended before the answer did".to_owned()));
        }
        Ok(answer)
    }
}

impl Asker {
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

    /// Sends a request on a thread of its own, so that a server that says nothing
    /// holds up nobody who has gone away meanwhile; what comes of it.
    fn ask(self: Arc<Self>, model: Model, body: Value) -> Receiver<Heard> {
        let (sender, receiver) = sync_channel(LINES_AHEAD);
        std::thread::spawn(move || match self.send(&model, &body) {
            Ok(response) => {
                if sender.send(Heard::Begun).is_ok() {
                    read(response, &sender);
                }
            }
            // Nobody hears it who is not there any more.
            Err(reason) => drop(sender.send(Heard::Failed(reason))),
        });
        receiver
    }

    /// Sends a request, again after a while when the server cannot be reached
    /// or says that it is busy.
    fn send(&self, model: &Model, body: &Value) -> std::result::Result<Response<ureq::Body>, String> {
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
                return Err(reason);
            }
            let usual = Duration::from_millis(200) * 2u32.pow(tried.min(6));
            std::thread::sleep(wait.unwrap_or(usual).min(Duration::from_secs(5)));
            tried += 1;
        }
    }
}

/// Hands on the lines of a stream, until nobody takes them.
fn read(response: Response<ureq::Body>, sender: &SyncSender<Heard>) {
    let mut reader = BufReader::new(response.into_body().into_reader());
    loop {
        let mut line = Vec::new();
        let heard = match reader.by_ref().take(LINE_BYTES as u64 + 1).read_until(b'\n', &mut line) {
            Ok(0) => break,
            Ok(_) if line.len() > LINE_BYTES => {
                Heard::Failed(format!("a line of its stream has more than {LINE_BYTES} bytes"))
            }
            Ok(_) => Heard::Line(line),
            Err(error) => Heard::Failed(error.to_string()),
        };
        let last = matches!(heard, Heard::Failed(_));
        if sender.send(heard).is_err() || last {
            break;
        }
    }
}
