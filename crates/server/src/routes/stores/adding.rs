//! Files are added to their store, one after the other for each store.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::Duration;

use cairn_rag::parse::{VERSION, parse};
use cairn_rag::{ChunkOptions, Document, Error};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use uuid::Uuid;

use super::attaching::Turn;
use super::chunking::strategy;
use super::filters::attributes;
use super::pending::{Adding, Batch, Order, State, Wanted};
use super::{FILE, Store};
use crate::app::App;
use crate::error::{ApiError, ApiResult};
use crate::files::now;

/// Readers of nested formats go deep.
const STACK: usize = 256 << 20;
/// How long a file waits for a model that has too much to do.
const MODEL_IS_BUSY: Duration = Duration::from_millis(200);

/// What the metadata of passages says of the file they are of.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct About {
    pub(super) name: String,
    pub(super) bytes: u64,
    pub(super) created_at: u64,
    /// How it was cut.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) chunk: Option<ChunkOptions>,
    /// How it was read.
    #[serde(default)]
    pub(super) reader: u32,
}

impl About {
    /// Takes it out of the metadata, which are attributes without it.
    pub(super) fn take(metadata: &mut Map<String, Value>) -> Option<Self> {
        metadata.remove(FILE).and_then(|about| Self::deserialize(about).ok())
    }

    fn with(&self, attributes: &Map<String, Value>) -> ApiResult<Map<String, Value>> {
        let mut metadata = attributes.clone();
        metadata.insert(FILE.to_owned(), serde_json::to_value(self).map_err(ApiError::internal)?);
        Ok(metadata)
    }
}

/// Begins to add files to a store; `batch` is the id of theirs.
pub(super) fn start(app: &App, store: &str, files: Vec<Wanted>, batch: Option<&str>) -> ApiResult<()> {
    let created_at = now();
    let mut checked: Vec<Adding> = Vec::with_capacity(files.len());
    for wanted in files {
        let file = app.files.get(&wanted.file_id)?;
        let adding = Adding {
            file: file.id,
            bytes: file.bytes,
            attributes: attributes(wanted.attributes)?,
            chunk: strategy(wanted.chunking_strategy.as_ref())?,
        };
        // What is named twice is wanted as it was named last.
        checked.retain(|before| before.file != adding.file);
        checked.push(adding);
    }
    let batch = batch.map(|id| Batch {
        id: id.to_owned(),
        store: store.to_owned(),
        created_at,
        files: checked.iter().map(|adding| adding.file.clone()).collect(),
        cancelled: false,
    });
    let order = Order {
        id: Uuid::new_v4().simple().to_string(),
        number: 0,
        store: store.to_owned(),
        batch: batch.as_ref().map(|batch| batch.id.clone()),
        created_at,
        files: checked,
    };
    app.attaching.take(order, batch)?;
    work(app, store);
    Ok(())
}

/// Goes on with what the process before left; what is known of stores that are
/// gone is forgotten.
pub(crate) fn resume(app: &App) {
    for store in app.attaching.stores() {
        let is_gone = Store::of(&app.engine, &store).is_err_and(|error| error.status.as_u16() == 404);
        if is_gone && let Err(error) = app.attaching.forget(&store) {
            tracing::warn!(store, %error.text, "what is left of a vector store cannot be cleared away");
        }
    }
    for store in app.attaching.waiting() {
        work(app, &store);
    }
}

/// Works off the orders of a store in a thread of its own, if none does already.
fn work(app: &App, store: &str) {
    if !app.attaching.begin(store) {
        return;
    }
    let (shared, named) = (app.clone(), store.to_owned());
    let thread = std::thread::Builder::new().name("cairn-stores".to_owned()).stack_size(STACK);
    let started = thread.spawn(move || {
        let (app, store) = (shared, named);
        while let Some(order) = app.attaching.order(&store) {
            for adding in &order.files {
                let state = match app.attaching.turn(&order, &adding.file) {
                    Turn::Over => continue,
                    Turn::Add => added(&app, &order, adding, true),
                    Turn::Cancelled => added(&app, &order, adding, false),
                };
                if app.attaching.stopping.is_cancelled() {
                    return;
                }
                let is_wanted = app.attaching.settle(&order, &adding.file, state);
                if !is_wanted && let Err(error) = app.engine.delete_document(&store, &adding.file) {
                    tracing::warn!(store, file = adding.file, %error, "a file that was removed is there again");
                }
            }
            app.attaching.finish(&order);
        }
    });
    if let Err(error) = started {
        // The orders are kept: the next one, or the next start, takes them up.
        app.attaching.end(store);
        tracing::error!(store, %error, "no thread can be started to add files");
    }
}

/// Adds a file unless it is there as it is wanted, or was cancelled; what became
/// of one that is not there.
fn added(app: &App, order: &Order, adding: &Adding, may_add: bool) -> Option<State> {
    // What a reader of some format does not expect must not end the rest.
    let outcome = catch_unwind(AssertUnwindSafe(|| {
        if is_there(app, order, adding)? {
            return Ok(None);
        }
        if may_add { add(app, order, adding).map(|()| None) } else { Ok(Some(State::Cancelled)) }
    }));
    let failed = |code: &str, message: String| Some(State::Failed { code: code.to_owned(), message });
    match outcome {
        Ok(Ok(state)) => state,
        Ok(Err(Failure::Unreadable(message))) => failed("invalid_file", message),
        Ok(Err(Failure::Api(error))) => failed("server_error", error.text),
        Err(_) => failed("invalid_file", "it is broken in a way that its reader does not know".to_owned()),
    }
}

enum Failure {
    Unreadable(String),
    Api(ApiError),
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        match error {
            Error::Document { .. } | Error::EmptyText { .. } => Self::Unreadable(error.to_string()),
            error => Self::Api(error.into()),
        }
    }
}

impl From<ApiError> for Failure {
    fn from(error: ApiError) -> Self {
        Self::Api(error)
    }
}

/// What is to be said of the file of an order.
fn about(app: &App, order: &Order, adding: &Adding, name: String) -> Result<About, Failure> {
    let chunk = app.engine.about(&order.store)?.chunk.with(adding.chunk.unwrap_or_default());
    Ok(About { name, bytes: adding.bytes, created_at: order.created_at, chunk: Some(chunk), reader: VERSION })
}

/// Whether the file is in the store, read and cut as it would be now. Then only
/// its attributes are set, and nothing is embedded: what was uploaded under an id
/// never changes.
fn is_there(app: &App, order: &Order, adding: &Adding) -> Result<bool, Failure> {
    let Some(mut there) = app.engine.document_entry(&order.store, &adding.file)? else { return Ok(false) };
    let before = there.metadata.clone();
    let Some(known) = About::take(&mut there.metadata) else { return Ok(false) };
    let wanted = about(app, order, adding, known.name.clone())?;
    if (About { created_at: known.created_at, ..wanted }) != known {
        return Ok(false);
    }
    let metadata = known.with(&adding.attributes)?;
    Ok(metadata == before || app.engine.set_document_metadata(&order.store, &adding.file, metadata)?)
}

fn add(app: &App, order: &Order, adding: &Adding) -> Result<(), Failure> {
    let file = app.files.get(&adding.file)?;
    let bytes = app.files.content(&adding.file)?;
    let parsed = parse(&file.filename, &bytes).map_err(|error| Failure::Unreadable(error.to_string()))?;
    drop(bytes);
    let metadata = about(app, order, adding, file.filename.clone())?.with(&adding.attributes)?;
    let title = if parsed.title.trim().is_empty() { file.filename } else { parsed.title };
    let document = Document { id: file.id, title, text: parsed.text, metadata, pages: parsed.pages };
    let (documents, chunk) = ([document], adding.chunk.unwrap_or_default());
    loop {
        let cancel = &app.attaching.stopping;
        match app.engine.add_cut(&order.store, &documents, parsed.format, chunk, cancel) {
            Err(Error::Embed(cairn_embed::Error::Busy { .. })) => std::thread::sleep(MODEL_IS_BUSY),
            other => return Ok(other.map(drop)?),
        }
    }
}
