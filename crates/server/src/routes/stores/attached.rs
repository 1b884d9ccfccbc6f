//! The files of a vector store.

use axum::extract::State;
use axum::response::Response;
use cairn_rag::{DocumentEntry, Engine};
use serde::Deserialize;
use serde_json::{Map, Value, json};
use utoipa::{IntoParams, ToSchema};

use super::attaching::{Pending, State as FileState, Wanted};
use super::filters::attributes;
use super::shape::{Item, Paging, shaped};
use super::{Attaching, FILE, Store, used};
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
    /// Read and left aside: passages follow the structure of a text.
    #[serde(default, rename = "chunking_strategy")]
    #[schema(value_type = Option<Object>)]
    _chunking_strategy: Option<Value>,
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

/// What the metadata of a passage says of its file, apart from its attributes.
pub(super) fn of_file(metadata: &mut Map<String, Value>) -> Value {
    metadata.remove(FILE).unwrap_or(Value::Null)
}

/// A document of a collection, seen as a file.
fn document_item(store: &str, mut document: DocumentEntry) -> Item {
    let about = of_file(&mut document.metadata);
    let created_at = about["created_at"].as_u64().unwrap_or(0);
    let bytes = about["bytes"].as_u64().unwrap_or(0);
    let mut body = body(store, &document.id, created_at, "completed", bytes, &document.metadata);
    body["filename"] = about["name"].as_str().map_or(Value::String(document.title), |name| json!(name));
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
        "chunking_strategy": { "type": "other" },
    })
}

fn pending_item(store: &str, id: &str, pending: &Pending) -> Item {
    let (status, error) = match &pending.state {
        FileState::InProgress => ("in_progress", Value::Null),
        FileState::Cancelled => ("cancelled", Value::Null),
        FileState::Failed { code, message } => ("failed", json!({ "code": code, "message": message })),
    };
    let mut body = body(store, id, pending.created_at, status, pending.bytes, &pending.attributes);
    body["last_error"] = error;
    Item { id: id.to_owned(), created_at: pending.created_at, body }
}

fn missing(store: &str, id: &str) -> ApiError {
    ApiError::not_found(format!("No file found with id '{id}' in vector store '{store}'."))
}

/// A file as it stands: on its way, or in the store.
pub(super) fn file(app: &App, store: &str, id: &str) -> ApiResult<Item> {
    if let Some(pending) = app.attaching.get(store, id) {
        return Ok(pending_item(store, id, &pending));
    }
    let found = app.engine.document_entry(store, id)?.map(|found| document_item(store, found));
    found.ok_or_else(|| missing(store, id))
}

fn files(app: &App, store: &str) -> ApiResult<Vec<Item>> {
    let pending = app.attaching.all(store);
    let there = app.engine.documents(store)?.into_iter();
    // One that replaces another is on its way.
    let there = there.filter(|document| !pending.iter().any(|(id, _)| *id == document.id));
    let mut items: Vec<Item> = there.map(|document| document_item(store, document)).collect();
    items.extend(pending.iter().map(|(id, pending)| pending_item(store, id, pending)));
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
            let wanted = Wanted { file_id: input.file_id.clone(), attributes: input.attributes };
            Attaching::start(&shared, &store, vec![wanted], None)?;
            file(&shared, &store, &input.file_id).map(|item| item.body)
        })
        .await
    };
    shaped(added.await)
}

/// The files of a vector store.
#[utoipa::path(
    get, path = "/v1/vector_stores/{store}/files", tag = "openai",
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
            let about = of_file(&mut found.metadata);
            found.metadata = wanted;
            if !about.is_null() {
                found.metadata.insert(FILE.to_owned(), about);
            }
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
            let was_known = shared.attaching.remove(&store, &id);
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
    get, path = "/v1/vector_stores/{store}/files/{file}/content", tag = "openai",
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
