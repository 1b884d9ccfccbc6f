//! The files of a vector store.

use std::collections::HashSet;

use axum::extract::State;
use axum::response::Response;
use cairn_rag::{DocumentEntry, Engine};
use serde::Deserialize;
use serde_json::{Map, Value, json};
use utoipa::{IntoParams, ToSchema};

use super::adding::{self, About};
use super::chunking::shown;
use super::filters::attributes;
use super::pending::{Pending, State as FileState, Wanted};
use super::shape::{Item, Paging, shaped};
use super::{FILE, Store, used};
use crate::app::App;
use crate::auth::{Access, Level};
use crate::body::{At, Input, Params};
use crate::error::{ApiError, ApiResult};

/// A file to be added to a vector store.
#[derive(Debug, Deserialize, ToSchema)]
pub(crate) struct AttachInput {
    /// The id of an uploaded file.
    file_id: String,
    /// Up to 16 strings, numbers and booleans to filter by.
    #[serde(default)]
    #[schema(value_type = Option<Object>)]
    attributes: Option<Map<String, Value>>,
    /// How it is cut, as in a store; as the others of its store when absent or `auto`.
    #[serde(default)]
    #[schema(value_type = Option<Object>)]
    chunking_strategy: Option<Value>,
}

#[derive(Debug, Deserialize, ToSchema)]
pub(crate) struct AttributesInput {
    #[schema(value_type = Option<Object>)]
    attributes: Option<Map<String, Value>>,
}

/// Which files are wanted.
#[derive(Debug, Default, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(default)]
pub(crate) struct Status {
    /// `in_progress`, `completed`, `failed` or `cancelled`.
    filter: Option<String>,
}

/// A document of a collection, seen as a file.
fn document_item(store: &str, mut document: DocumentEntry) -> Item {
    let about = About::take(&mut document.metadata);
    let (created_at, bytes) = about.as_ref().map_or((0, 0), |about| (about.created_at, about.bytes));
    let mut body = body(store, &document.id, created_at, "completed", bytes, &document.metadata);
    body["chunking_strategy"] = shown(about.as_ref().and_then(|about| about.chunk.as_ref()));
    body["filename"] = json!(about.map_or(document.title, |about| about.name));
    Item { id: document.id, created_at, body }
}

fn body(
    store: &str,
    id: &str,
    created_at: u64,
    status: &str,
    bytes: u64,
    attributes: &Map<String, Value>,
) -> Value {
    json!({
        "id": id, "object": "vector_store.file", "created_at": created_at, "vector_store_id": store,
        "status": status, "usage_bytes": bytes, "last_error": null, "attributes": attributes,
        "chunking_strategy": shown(None),
    })
}

fn pending_item(app: &App, pending: &Pending) -> Item {
    let (status, error) = match &pending.state {
        FileState::InProgress => ("in_progress", Value::Null),
        FileState::Cancelled => ("cancelled", Value::Null),
        FileState::Failed { code, message } => ("failed", json!({ "code": code, "message": message })),
    };
    let Pending { store, created_at, adding, .. } = pending;
    let mut body = body(store, &adding.file, *created_at, status, adding.bytes, &adding.attributes);
    body["last_error"] = error;
    let usual = app.engine.about(store).ok().map(|about| about.chunk);
    body["chunking_strategy"] =
        shown(usual.map(|usual| usual.with(adding.chunk.unwrap_or_default())).as_ref());
    Item { id: adding.file.clone(), created_at: *created_at, body }
}

fn missing(store: &str, id: &str) -> ApiError {
    ApiError::not_found(format!("No file found with id '{id}' in vector store '{store}'."))
}

/// A file as it stands: on its way, or in the store.
pub(super) fn file(app: &App, store: &str, id: &str) -> ApiResult<Item> {
    if let Some(pending) = app.attaching.get(store, id) {
        return Ok(pending_item(app, &pending));
    }
    let found = app.engine.document_entry(store, id)?.map(|found| document_item(store, found));
    found.ok_or_else(|| missing(store, id))
}

fn files(app: &App, store: &str) -> ApiResult<Vec<Item>> {
    let pending = app.attaching.all(store);
    // One that replaces another is on its way.
    let replaced: HashSet<&str> = pending.iter().map(|pending| pending.adding.file.as_str()).collect();
    let there = app.listed.documents(app, store)?;
    let there = there.iter().filter(|document| !replaced.contains(document.id.as_str()));
    let mut items: Vec<Item> = there.map(|document| document_item(store, document.clone())).collect();
    items.extend(pending.iter().map(|pending| pending_item(app, pending)));
    Ok(items)
}

/// Those with the status asked for.
pub(super) fn having(mut items: Vec<Item>, status: &Status) -> ApiResult<Vec<Item>> {
    if let Some(wanted) = &status.filter {
        if !["in_progress", "completed", "failed", "cancelled"].contains(&wanted.as_str()) {
            return Err(ApiError::bad_request(format!(
                "filter must be in_progress, completed, failed or cancelled, got {wanted}"
            )));
        }
        items.retain(|item| item.body["status"] == wanted.as_str());
    }
    Ok(items)
}

/// Adds an uploaded file to a vector store; it is in progress at first.
#[utoipa::path(
    post, path = "/v1/vector_stores/{store}/files", tag = "openai", params(("store" = String, Path)),
    request_body = AttachInput, responses((status = 200, body = Object), (status = "4XX"))
)]
pub(crate) async fn attach(
    State(app): State<App>,
    access: Access,
    At(store): At<String>,
    input: Result<Input<AttachInput>, ApiError>,
) -> Response {
    let added = async move {
        let Input(input) = input?;
        access.check(&store, Level::Write)?;
        let shared = app.clone();
        app.write(move |_: &Engine| {
            used(&shared, &store)?;
            let AttachInput { file_id, attributes, chunking_strategy } = input;
            let wanted = Wanted { file_id: file_id.clone(), attributes, chunking_strategy };
            adding::start(&shared, &store, vec![wanted], None)?;
            file(&shared, &store, &file_id).map(|item| item.body)
        })
        .await
    };
    shaped(added.await)
}

/// The files of a vector store.
#[utoipa::path(
    get, path = "/v1/vector_stores/{store}/files", tag = "openai", operation_id = "list_store_files",
    params(("store" = String, Path), Paging, Status),
    responses((status = 200, body = Object), (status = "4XX"))
)]
pub(crate) async fn list(
    State(app): State<App>,
    access: Access,
    At(store): At<String>,
    paging: Result<Params<Paging>, ApiError>,
    status: Result<Params<Status>, ApiError>,
) -> Response {
    let listed = async move {
        let (Params(paging), Params(status)) = (paging?, status?);
        access.check(&store, Level::Read)?;
        let shared = app.clone();
        app.write(move |engine| {
            Store::of(engine, &store)?;
            paging.page(having(files(&shared, &store)?, &status)?, 20, 100)
        })
        .await
    };
    shaped(listed.await)
}

/// A file of a vector store.
#[utoipa::path(
    get, path = "/v1/vector_stores/{store}/files/{file}", tag = "openai",
    params(("store" = String, Path), ("file" = String, Path)),
    responses((status = 200, body = Object), (status = "4XX"))
)]
pub(crate) async fn attached(
    State(app): State<App>,
    access: Access,
    At((store, id)): At<(String, String)>,
) -> Response {
    let found = async move {
        access.check(&store, Level::Read)?;
        let shared = app.clone();
        app.write(move |engine| {
            Store::of(engine, &store)?;
            file(&shared, &store, &id).map(|item| item.body)
        })
        .await
    };
    shaped(found.await)
}

/// Changes the attributes of a file.
#[utoipa::path(
    post, path = "/v1/vector_stores/{store}/files/{file}", tag = "openai",
    params(("store" = String, Path), ("file" = String, Path)),
    request_body = AttributesInput, responses((status = 200, body = Object), (status = "4XX"))
)]
pub(crate) async fn change_attached(
    State(app): State<App>,
    access: Access,
    At((store, id)): At<(String, String)>,
    input: Result<Input<AttributesInput>, ApiError>,
) -> Response {
    let changed = async move {
        let Input(input) = input?;
        access.check(&store, Level::Write)?;
        let wanted = attributes(input.attributes)?;
        let shared = app.clone();
        app.write(move |engine| {
            used(&shared, &store)?;
            let found = engine.document_entry(&store, &id)?;
            let mut found = found.ok_or_else(|| missing(&store, &id))?;
            let about = found.metadata.remove(FILE);
            found.metadata = wanted;
            found.metadata.extend(about.map(|about| (FILE.to_owned(), about)));
            if !engine.set_document_metadata(&store, &id, found.metadata.clone())? {
                return Err(missing(&store, &id));
            }
            Ok::<_, ApiError>(document_item(&store, found).body)
        })
        .await
    };
    shaped(changed.await)
}

/// Removes a file from a vector store; the uploaded file stays.
#[utoipa::path(
    delete, path = "/v1/vector_stores/{store}/files/{file}", tag = "openai",
    params(("store" = String, Path), ("file" = String, Path)),
    responses((status = 200, body = Object), (status = "4XX"))
)]
pub(crate) async fn detach(
    State(app): State<App>,
    access: Access,
    At((store, id)): At<(String, String)>,
) -> Response {
    let removed = async move {
        access.check(&store, Level::Write)?;
        let shared = app.clone();
        app.write(move |engine| {
            used(&shared, &store)?;
            let was_known = shared.attaching.remove(&store, &id)?;
            let passages = engine.delete_document(&store, &id)?;
            if passages == 0 && !was_known {
                return Err(missing(&store, &id));
            }
            Ok(json!({ "id": id, "object": "vector_store.file.deleted", "deleted": true }))
        })
        .await
    };
    shaped(removed.await)
}

/// The text of a file of a vector store.
#[utoipa::path(
    get, path = "/v1/vector_stores/{store}/files/{file}/content",
    tag = "openai", operation_id = "get_store_file_content",
    params(("store" = String, Path), ("file" = String, Path)),
    responses((status = 200, body = Object), (status = "4XX"))
)]
pub(crate) async fn content(
    State(app): State<App>,
    access: Access,
    At((store, id)): At<(String, String)>,
) -> Response {
    let read = async move {
        access.check(&store, Level::Read)?;
        app.write(move |engine| {
            Store::of(engine, &store)?;
            let kept = engine.document(&store, &id)?;
            let kept = kept.ok_or_else(|| missing(&store, &id))?;
            Ok::<_, ApiError>(json!({
                "object": "vector_store.file_content.page",
                "data": [{ "type": "text", "text": kept.text }],
                "has_more": false, "next_page": null,
            }))
        })
        .await
    };
    shaped(read.await)
}
