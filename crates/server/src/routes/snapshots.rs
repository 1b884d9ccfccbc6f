//! Snapshots of collections: made, listed, sent, taken back.

use axum::body::Body;
use axum::extract::{Multipart, State};
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use cairn_index::{Snapshot, StorageSnapshot};
use futures_util::Stream;
use serde::{Deserialize, Serialize};
use serde_json::json;
use utoipa::{IntoParams, ToSchema};

use crate::app::App;
use crate::body::{At, Input, Params, Reply, Started};
use crate::error::{ApiError, ApiResult};
use crate::incoming::{self, Incoming};
use crate::stream;

/// A snapshot of a collection.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct SnapshotDescription {
    name: String,
    creation_time: String,
    /// Bytes.
    size: u64,
}

impl From<Snapshot> for SnapshotDescription {
    fn from(snapshot: Snapshot) -> Self {
        let time = cairn_index::DateTime::from_millis(snapshot.created_ms);
        Self { name: snapshot.name, creation_time: time.to_string(), size: snapshot.bytes }
    }
}

impl From<StorageSnapshot> for SnapshotDescription {
    fn from(snapshot: StorageSnapshot) -> Self {
        let time = cairn_index::DateTime::from_millis(snapshot.created_ms);
        Self { name: snapshot.name, creation_time: time.to_string(), size: snapshot.bytes }
    }
}

/// Whether the answer waits for the work.
#[derive(Debug, Clone, Default, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub(crate) struct SnapshotParams {
    /// True when absent; otherwise 202 is answered at once.
    #[serde(default)]
    wait: Option<bool>,
    /// The SHA-256 the snapshot must have, in hexadecimal.
    #[serde(default)]
    checksum: Option<String>,
    /// Read and left aside: there is one node.
    #[serde(default)]
    #[param(value_type = Option<String>)]
    priority: Option<Priority>,
}

/// Which copy of a shard counts in a cluster.
#[derive(Debug, Clone, Copy, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
enum Priority {
    NoSync,
    Snapshot,
    Replica,
}

/// Where a snapshot is.
#[derive(Debug, Deserialize, ToSchema)]
pub(crate) struct RecoverSnapshot {
    /// `http://…`, `https://…` or `file:///…` on the machine of the server.
    location: String,
    #[serde(default, rename = "priority")]
    #[schema(value_type = Option<String>)]
    _priority: Option<Priority>,
    #[serde(default)]
    checksum: Option<String>,
    /// Sent as the key of the server that `location` names.
    #[serde(default)]
    api_key: Option<String>,
}

/// Waits for the work, or answers 202 and lets it go on.
async fn answered<T: Serialize + Send + 'static>(
    started: Started,
    wait: Option<bool>,
    work: impl Future<Output = ApiResult<T>> + Send + 'static,
) -> ApiResult<Response> {
    if wait != Some(false) {
        return Ok(started.reply(work.await?).into_response());
    }
    tokio::spawn(async move {
        if let Err(error) = work.await {
            tracing::warn!(error = error.text, "work that nobody waited for failed");
        }
    });
    let body = json!({ "status": "accepted", "time": started.seconds() });
    Ok((StatusCode::ACCEPTED, axum::Json(body)).into_response())
}

/// Keeps a collection as it is now.
#[utoipa::path(
    post, path = "/collections/{collection}/snapshots", tag = "snapshots", operation_id = "create_snapshot",
    params(("collection" = String, Path), SnapshotParams),
    responses((status = 200, body = Reply<SnapshotDescription>), (status = 202), (status = "4XX"), (status = 507))
)]
pub(crate) async fn create(
    State(app): State<App>,
    started: Started,
    At(name): At<String>,
    Params(params): Params<SnapshotParams>,
) -> ApiResult<Response> {
    // What can be refused is refused with a status, also when nobody waits.
    app.engine.database().collection(&name)?;
    let work = async move {
        let made = app.write(move |engine| engine.database().collection(&name)?.create_snapshot());
        made.await.map(SnapshotDescription::from)
    };
    answered(started, params.wait, work).await
}

/// The snapshots of a collection.
#[utoipa::path(
    get, path = "/collections/{collection}/snapshots", tag = "snapshots", operation_id = "list_snapshots",
    params(("collection" = String, Path)),
    responses((status = 200, body = Reply<Vec<SnapshotDescription>>), (status = "4XX"))
)]
pub(crate) async fn list(
    State(app): State<App>,
    started: Started,
    At(name): At<String>,
) -> ApiResult<Reply<Vec<SnapshotDescription>>> {
    let snapshots = app.read(move |engine| Ok(engine.database().collection(&name)?.snapshots()?)).await?;
    Ok(started.reply(snapshots.into_iter().map(SnapshotDescription::from).collect()))
}

/// Removes a snapshot.
#[utoipa::path(
    delete, path = "/collections/{collection}/snapshots/{snapshot}",
    tag = "snapshots", operation_id = "delete_snapshot",
    params(("collection" = String, Path), ("snapshot" = String, Path), SnapshotParams),
    responses((status = 200, body = Reply<bool>), (status = 202), (status = "4XX"))
)]
pub(crate) async fn delete(
    State(app): State<App>,
    started: Started,
    At((name, snapshot)): At<(String, String)>,
    Params(params): Params<SnapshotParams>,
) -> ApiResult<Response> {
    let work = async move {
        let (found, named) = (snapshot.clone(), snapshot);
        let removed =
            app.write(move |engine| engine.database().collection(&name)?.delete_snapshot(&found)).await?;
        if removed { Ok(true) } else { Err(unknown(&named)) }
    };
    answered(started, params.wait, work).await
}

/// Sends a snapshot as one tar file.
#[utoipa::path(
    get, path = "/collections/{collection}/snapshots/{snapshot}", tag = "snapshots",
    params(("collection" = String, Path), ("snapshot" = String, Path)),
    responses((status = 200, content_type = "application/octet-stream", body = Vec<u8>), (status = "4XX"))
)]
pub(crate) async fn download(
    State(app): State<App>,
    At((name, snapshot)): At<(String, String)>,
) -> ApiResult<Response> {
    let wanted = snapshot.clone();
    let found = app
        .read(move |engine| {
            let all = engine.database().collection(&name)?.snapshots()?;
            all.into_iter().find(|snapshot| snapshot.name == wanted).ok_or_else(|| unknown(&wanted))
        })
        .await?;
    Ok(sent(&snapshot, stream::written(move |out| found.pack(out).map_err(std::io::Error::other))))
}

/// A file of this name.
fn sent(name: &str, body: impl Stream<Item = std::io::Result<Vec<u8>>> + Send + 'static) -> Response {
    let quoted = name.replace(['"', '\\'], "_");
    let headers = [
        (header::CONTENT_TYPE, "application/octet-stream".to_owned()),
        (header::CONTENT_DISPOSITION, format!("attachment; filename=\"{quoted}\"")),
    ];
    (headers, Body::from_stream(body)).into_response()
}

fn unknown(snapshot: &str) -> ApiError {
    ApiError::not_found(format!("Snapshot {snapshot} not found"))
}

/// Makes a collection of a snapshot that is somewhere else.
#[utoipa::path(
    put, path = "/collections/{collection}/snapshots/recover", tag = "snapshots",
    params(("collection" = String, Path), SnapshotParams),
    request_body = RecoverSnapshot,
    responses((status = 200, body = Reply<bool>), (status = 202), (status = "4XX"), (status = 507))
)]
pub(crate) async fn recover(
    State(app): State<App>,
    started: Started,
    At(name): At<String>,
    Params(params): Params<SnapshotParams>,
    Input(body): Input<RecoverSnapshot>,
) -> ApiResult<Response> {
    let work = async move {
        app.write(move |engine| {
            let incoming = incoming::from(&body.location, body.api_key.as_deref(), engine.database())?;
            incoming.restore(engine.database(), &name, body.checksum.as_deref())
        })
        .await
    };
    answered(started, params.wait, work).await
}

/// Makes a collection of a snapshot that is sent along, as the part `snapshot`
/// of a form.
#[utoipa::path(
    post, path = "/collections/{collection}/snapshots/upload",
    tag = "snapshots", operation_id = "upload_snapshot",
    params(("collection" = String, Path), SnapshotParams),
    request_body(content = Object, content_type = "multipart/form-data"),
    responses((status = 200, body = Reply<bool>), (status = 202), (status = "4XX"), (status = 507))
)]
pub(crate) async fn upload(
    State(app): State<App>,
    started: Started,
    At(name): At<String>,
    Params(params): Params<SnapshotParams>,
    form: Result<Multipart, axum::extract::multipart::MultipartRejection>,
) -> ApiResult<Response> {
    let unreadable =
        |error: &dyn std::fmt::Display| ApiError::bad_request(format!("the form cannot be read: {error}"));
    let mut form = form.map_err(|error| unreadable(&error))?;
    let mut incoming = None;
    while let Some(mut part) = form.next_field().await.map_err(|error| unreadable(&error))? {
        if part.name() != Some("snapshot") {
            continue;
        }
        let mut receiving = Incoming::new(app.engine.database())?;
        while let Some(chunk) = part.chunk().await.map_err(|error| unreadable(&error))? {
            receiving = app.write(move |_| receiving.take(&chunk).map(|()| receiving)).await?;
        }
        incoming = Some(receiving);
    }
    let incoming = incoming.ok_or_else(|| ApiError::bad_request("the form has no part named `snapshot`"))?;
    let _ = params.priority;
    let (wait, checksum) = (params.wait, params.checksum);
    let work = async move {
        app.write(move |engine| incoming.restore(engine.database(), &name, checksum.as_deref())).await
    };
    answered(started, wait, work).await
}

/// Keeps all collections as they are now, with their aliases.
///
/// `cairn snapshot restore` brings them back, all or one, while no server runs.
#[utoipa::path(
    post, path = "/snapshots", tag = "snapshots", operation_id = "create_storage_snapshot",
    params(SnapshotParams),
    responses((status = 200, body = Reply<SnapshotDescription>), (status = 202), (status = "4XX"), (status = 507))
)]
pub(crate) async fn create_whole(
    State(app): State<App>,
    started: Started,
    Params(params): Params<SnapshotParams>,
) -> ApiResult<Response> {
    let work = async move {
        let made = app.write(|engine| engine.database().create_snapshot());
        made.await.map(SnapshotDescription::from)
    };
    answered(started, params.wait, work).await
}

/// The snapshots of all collections together.
#[utoipa::path(
    get, path = "/snapshots", tag = "snapshots", operation_id = "list_storage_snapshots",
    responses((status = 200, body = Reply<Vec<SnapshotDescription>>), (status = "4XX"))
)]
pub(crate) async fn list_whole(
    State(app): State<App>,
    started: Started,
) -> ApiResult<Reply<Vec<SnapshotDescription>>> {
    let snapshots = app.read(|engine| Ok(engine.database().snapshots()?)).await?;
    Ok(started.reply(snapshots.into_iter().map(SnapshotDescription::from).collect()))
}

/// Removes a snapshot of all collections.
#[utoipa::path(
    delete, path = "/snapshots/{snapshot}", tag = "snapshots", operation_id = "delete_storage_snapshot",
    params(("snapshot" = String, Path), SnapshotParams),
    responses((status = 200, body = Reply<bool>), (status = 202), (status = "4XX"))
)]
pub(crate) async fn delete_whole(
    State(app): State<App>,
    started: Started,
    At(snapshot): At<String>,
    Params(params): Params<SnapshotParams>,
) -> ApiResult<Response> {
    let work = async move {
        let named = snapshot.clone();
        let removed = app.write(move |engine| engine.database().delete_snapshot(&snapshot)).await?;
        if removed { Ok(true) } else { Err(unknown(&named)) }
    };
    answered(started, params.wait, work).await
}

/// Sends a snapshot of all collections as one tar file.
#[utoipa::path(
    get, path = "/snapshots/{snapshot}", tag = "snapshots", operation_id = "download_storage_snapshot",
    params(("snapshot" = String, Path)),
    responses((status = 200, content_type = "application/octet-stream", body = Vec<u8>), (status = "4XX"))
)]
pub(crate) async fn download_whole(State(app): State<App>, At(snapshot): At<String>) -> ApiResult<Response> {
    let wanted = snapshot.clone();
    let found = app
        .read(move |engine| {
            let all = engine.database().snapshots()?;
            all.into_iter().find(|snapshot| snapshot.name == wanted).ok_or_else(|| unknown(&wanted))
        })
        .await?;
    Ok(sent(&snapshot, stream::written(move |out| found.pack(out).map_err(std::io::Error::other))))
}
