//! Files that are added to a vector store together; they are files of the store.

use axum::extract::State;
use axum::response::Response;
use serde::Deserialize;
use serde_json::{Map, Value, json};
use utoipa::ToSchema;
use uuid::Uuid;

use super::adding;
use super::attached::{Status, file, having};
use super::pending::{Batch, Wanted};
use super::shape::{Item, Paging, shaped};
use super::used;
use crate::app::App;
use crate::auth::{Access, Level};
use crate::body::{At, Input, Params};
use crate::error::{ApiError, ApiResult};

/// Files to be added.
#[derive(Debug, Default, Deserialize, ToSchema)]
pub(crate) struct BatchInput {
    #[serde(default)]
    file_ids: Vec<String>,
    /// Each with `file_id`, `attributes` and `chunking_strategy`, in place of `file_ids`.
    #[serde(default)]
    #[schema(value_type = Option<Vec<Object>>)]
    files: Vec<Wanted>,
    /// Of all files of `file_ids`.
    #[serde(default)]
    #[schema(value_type = Option<Object>)]
    attributes: Option<Map<String, Value>>,
    /// How all files of `file_ids` are cut, as in a store.
    #[serde(default)]
    #[schema(value_type = Option<Object>)]
    chunking_strategy: Option<Value>,
}

const MAX_FILES: usize = 2000;

fn body(app: &App, batch: &Batch) -> Value {
    let mut counts = [("in_progress", 0), ("completed", 0), ("failed", 0), ("cancelled", 0)];
    for item in items(app, batch) {
        let status = counts.iter_mut().find(|(status, _)| item.body["status"] == *status);
        status.into_iter().for_each(|(_, count)| *count += 1);
    }
    let status = match counts {
        [(_, 1..), ..] => "in_progress",
        _ if batch.cancelled => "cancelled",
        [_, (_, 0), (_, 1..), _] => "failed",
        _ => "completed",
    };
    let mut told: Map<String, Value> =
        counts.into_iter().map(|(status, count)| (status.to_owned(), json!(count))).collect();
    told.insert("total".to_owned(), json!(batch.files.len()));
    json!({
        "id": batch.id, "object": "vector_store.files_batch", "created_at": batch.created_at,
        "vector_store_id": batch.store, "status": status, "file_counts": told,
    })
}

/// Its files, but for those that were removed meanwhile.
fn items(app: &App, batch: &Batch) -> Vec<Item> {
    batch.files.iter().filter_map(|id| file(app, &batch.store, id).ok()).collect()
}

fn known(app: &App, store: &str, id: &str) -> ApiResult<Batch> {
    let found = app.attaching.batch(id).filter(|batch| batch.store == store);
    found.ok_or_else(|| {
        ApiError::not_found(format!("No file batch with id '{id}' in vector store '{store}'."))
    })
}

/// Adds several uploaded files to a vector store.
#[utoipa::path(
    post, path = "/v1/vector_stores/{store}/file_batches", tag = "openai", operation_id = "create_batch",
    params(("store" = String, Path)),
    request_body = BatchInput, responses((status = 200, body = Object), (status = "4XX"))
)]
pub(crate) async fn create(
    State(app): State<App>,
    access: Access,
    At(store): At<String>,
    input: Result<Input<BatchInput>, ApiError>,
) -> Response {
    let made = async move {
        let Input(BatchInput { file_ids, mut files, attributes, chunking_strategy }) = input?;
        access.check(&store, Level::Write)?;
        let named = file_ids.into_iter().map(|file_id| Wanted {
            file_id,
            attributes: attributes.clone(),
            chunking_strategy: chunking_strategy.clone(),
        });
        files.extend(named);
        if files.is_empty() || files.len() > MAX_FILES {
            return Err(ApiError::bad_request(format!(
                "file_ids or files must name 1 to {MAX_FILES} files, got {}",
                files.len()
            )));
        }
        let shared = app.clone();
        app.write(move |_| {
            used(&shared, &store)?;
            let id = format!("vsfb_{}", Uuid::new_v4().simple());
            adding::start(&shared, &store, files, Some(&id))?;
            Ok::<_, ApiError>(body(&shared, &known(&shared, &store, &id)?))
        })
        .await
    };
    shaped(made.await)
}

/// How far a batch of files has come.
#[utoipa::path(
    get, path = "/v1/vector_stores/{store}/file_batches/{batch}", tag = "openai", operation_id = "get_batch",
    params(("store" = String, Path), ("batch" = String, Path)),
    responses((status = 200, body = Object), (status = "4XX"))
)]
pub(crate) async fn get(
    State(app): State<App>,
    access: Access,
    At((store, id)): At<(String, String)>,
) -> Response {
    let found = async move {
        access.check(&store, Level::Read)?;
        let shared = app.clone();
        app.write(move |_| Ok::<_, ApiError>(body(&shared, &known(&shared, &store, &id)?))).await
    };
    shaped(found.await)
}

/// Leaves out those files of a batch whose turn has not come.
#[utoipa::path(
    post, path = "/v1/vector_stores/{store}/file_batches/{batch}/cancel",
    tag = "openai", operation_id = "cancel_batch",
    params(("store" = String, Path), ("batch" = String, Path)),
    responses((status = 200, body = Object), (status = "4XX"))
)]
pub(crate) async fn cancel(
    State(app): State<App>,
    access: Access,
    At((store, id)): At<(String, String)>,
) -> Response {
    let cancelled = async move {
        access.check(&store, Level::Write)?;
        let shared = app.clone();
        app.write(move |_| {
            known(&shared, &store, &id)?;
            shared.attaching.cancel_batch(&id)?;
            Ok::<_, ApiError>(body(&shared, &known(&shared, &store, &id)?))
        })
        .await
    };
    shaped(cancelled.await)
}

/// The files of a batch.
#[utoipa::path(
    get, path = "/v1/vector_stores/{store}/file_batches/{batch}/files",
    tag = "openai", operation_id = "list_batch_files",
    params(("store" = String, Path), ("batch" = String, Path), Paging, Status),
    responses((status = 200, body = Object), (status = "4XX"))
)]
pub(crate) async fn list(
    State(app): State<App>,
    access: Access,
    At((store, id)): At<(String, String)>,
    paging: Result<Params<Paging>, ApiError>,
    status: Result<Params<Status>, ApiError>,
) -> Response {
    let listed = async move {
        let (Params(paging), Params(status)) = (paging?, status?);
        access.check(&store, Level::Read)?;
        let shared = app.clone();
        app.write(move |_| {
            let batch = known(&shared, &store, &id)?;
            paging.page(having(items(&shared, &batch), &status)?, 20, 100)
        })
        .await
    };
    shaped(listed.await)
}
