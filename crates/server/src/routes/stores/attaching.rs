//! Files on their way into a store, one after the other for each store.
//!
//! A file is `in_progress` until its passages are written; what could not be read
//! stays here as `failed`, what was cancelled as `cancelled`, until it is deleted
//! or the process ends.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use cairn_rag::parse::parse;
use cairn_rag::{Document, Engine, Error};
use parking_lot::Mutex;
use serde::Deserialize;
use serde_json::{Map, Value, json};

use super::FILE;
use crate::app::App;
use crate::error::{ApiError, ApiResult};
use crate::files::now;

/// A file that is to be added.
#[derive(Debug, Clone, Deserialize)]
pub(crate) struct Wanted {
    pub(crate) file_id: String,
    #[serde(default)]
    pub(crate) attributes: Option<Map<String, Value>>,
}

impl Wanted {
    pub(crate) fn plain(file_id: String) -> Self {
        Self { file_id, attributes: None }
    }
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum State {
    InProgress,
    Failed { code: &'static str, message: String },
    Cancelled,
}

/// A file that is not in its store.
#[derive(Debug, Clone)]
pub(crate) struct Pending {
    pub(crate) state: State,
    pub(crate) created_at: u64,
    pub(crate) attributes: Map<String, Value>,
    pub(crate) bytes: u64,
}

#[derive(Debug, Default, Clone, Copy)]
pub(crate) struct Counts {
    pub(crate) in_progress: usize,
    pub(crate) failed: usize,
    pub(crate) cancelled: usize,
}

/// Files that are added together.
#[derive(Debug, Clone)]
pub(crate) struct Batch {
    pub(crate) store: String,
    pub(crate) created_at: u64,
    pub(crate) files: Vec<String>,
    pub(crate) cancelled: bool,
}

/// What is on its way into the stores of a process.
#[derive(Default)]
pub(crate) struct Attaching {
    pending: Mutex<BTreeMap<(String, String), Pending>>,
    batches: Mutex<HashMap<String, Batch>>,
    active: Mutex<HashMap<String, u64>>,
    /// Held while a file of the store is added, so that one is added at a time.
    turns: Mutex<HashMap<String, Arc<Mutex<()>>>>,
}

impl Attaching {
    /// Begins to add files to a store; `batch` is the id of theirs.
    pub(crate) fn start(app: &App, store: &str, files: Vec<Wanted>, batch: Option<String>) -> ApiResult<()> {
        let mut checked = Vec::with_capacity(files.len());
        for file in files {
            let attributes = super::filters::attributes(file.attributes)?;
            checked.push((app.files.get(&file.file_id)?, attributes));
        }
        let this = &app.attaching;
        this.touch(store);
        for (file, attributes) in &checked {
            let pending = Pending {
                state: State::InProgress,
                created_at: now(),
                attributes: attributes.clone(),
                bytes: file.bytes,
            };
            this.pending.lock().insert((store.to_owned(), file.id.clone()), pending);
        }
        if checked.is_empty() {
            return Ok(());
        }
        let (app, store) = (app.clone(), store.to_owned());
        tokio::task::spawn_blocking(move || {
            let turn = app.attaching.turns.lock().entry(store.clone()).or_default().clone();
            for (file, attributes) in checked {
                let _turn = turn.lock();
                let cancelled = batch.as_deref().is_some_and(|batch| app.attaching.is_cancelled(batch));
                let state = if cancelled {
                    Some(State::Cancelled)
                } else {
                    add(&app, &store, &file, attributes).err().map(failed)
                };
                app.attaching.settle(&store, &file.id, state);
            }
        });
        Ok(())
    }

    /// A file was added, or was not.
    fn settle(&self, store: &str, file: &str, state: Option<State>) {
        let key = (store.to_owned(), file.to_owned());
        let mut pending = self.pending.lock();
        match state {
            None => drop(pending.remove(&key)),
            Some(state) => {
                if let Some(known) = pending.get_mut(&key) {
                    known.state = state;
                }
            }
        }
    }

    pub(crate) fn get(&self, store: &str, file: &str) -> Option<Pending> {
        self.pending.lock().get(&(store.to_owned(), file.to_owned())).cloned()
    }

    /// Forgets a file that is not there; whether it was known.
    pub(crate) fn remove(&self, store: &str, file: &str) -> bool {
        self.pending.lock().remove(&(store.to_owned(), file.to_owned())).is_some()
    }

    pub(crate) fn all(&self, store: &str) -> Vec<(String, Pending)> {
        let pending = self.pending.lock();
        let of = pending.iter().filter(|((of, _), _)| of == store);
        of.map(|((_, file), pending)| (file.clone(), pending.clone())).collect()
    }

    pub(crate) fn counts(&self, store: &str) -> Counts {
        let mut counts = Counts::default();
        for (_, pending) in self.all(store) {
            match pending.state {
                State::InProgress => counts.in_progress += 1,
                State::Failed { .. } => counts.failed += 1,
                State::Cancelled => counts.cancelled += 1,
            }
        }
        counts
    }

    pub(crate) fn add_batch(&self, id: String, batch: Batch) {
        self.batches.lock().insert(id, batch);
    }

    pub(crate) fn batch(&self, id: &str) -> Option<Batch> {
        self.batches.lock().get(id).cloned()
    }

    pub(crate) fn cancel_batch(&self, id: &str) {
        if let Some(batch) = self.batches.lock().get_mut(id) {
            batch.cancelled = true;
        }
    }

    fn is_cancelled(&self, id: &str) -> bool {
        self.batches.lock().get(id).is_some_and(|batch| batch.cancelled)
    }

    /// Notes that a store was used.
    pub(crate) fn touch(&self, store: &str) {
        self.active.lock().insert(store.to_owned(), now());
    }

    /// When a store was used last, as far as this process knows. One that it has
    /// not seen yet counts as used now, so that a restart never expires any.
    pub(crate) fn last_active(&self, store: &str, created_at: u64) -> u64 {
        (*self.active.lock().entry(store.to_owned()).or_insert_with(now)).max(created_at)
    }

    pub(crate) fn forget(&self, store: &str) {
        self.pending.lock().retain(|(of, _), _| of != store);
        self.batches.lock().retain(|_, batch| batch.store != store);
        self.active.lock().remove(store);
        self.turns.lock().remove(store);
    }
}

enum Failure {
    Unreadable(String),
    Api(ApiError),
    Rag(Error),
}

fn failed(failure: Failure) -> State {
    match failure {
        Failure::Unreadable(message) => State::Failed { code: "invalid_file", message },
        Failure::Api(error) => State::Failed { code: "server_error", message: error.text },
        Failure::Rag(error @ (Error::Document { .. } | Error::EmptyText { .. })) => {
            State::Failed { code: "invalid_file", message: error.to_string() }
        }
        Failure::Rag(error) => State::Failed { code: "server_error", message: error.to_string() },
    }
}

fn add(
    app: &App,
    store: &str,
    file: &crate::files::Uploaded,
    attributes: Map<String, Value>,
) -> Result<(), Failure> {
    let bytes = app.files.content(&file.id).map_err(Failure::Api)?;
    let parsed = parse(&file.filename, &bytes).map_err(|error| Failure::Unreadable(error.to_string()))?;
    drop(bytes);
    let mut metadata = attributes;
    let about = json!({ "name": file.filename, "bytes": file.bytes, "created_at": now() });
    metadata.insert(FILE.to_owned(), about);
    let title = if parsed.title.trim().is_empty() { file.filename.clone() } else { parsed.title };
    let document = Document { id: file.id.clone(), title, text: parsed.text, metadata, pages: parsed.pages };
    let engine: &Engine = &app.engine;
    engine.add(store, &[document], parsed.format, &mut |_| {}).map_err(Failure::Rag)?;
    Ok(())
}
