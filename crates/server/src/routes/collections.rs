//! Creating, listing, reading and removing collections.

use axum::extract::{Path, State};
use cairn_index::Error;
use serde_json::Value;

use crate::app::App;
use crate::body::{Input, Reply, Started};
use crate::error::ApiResult;
use crate::wire::collections::{self as wire, Collections, CreateCollection, Exists};

/// The collections there are.
#[utoipa::path(get, path = "/collections", tag = "collections", responses((status = 200, body = Reply<Collections>)))]
pub(crate) async fn list(State(app): State<App>, started: Started) -> Reply<Collections> {
    started.reply(app.engine.database().collections().into())
}

/// A collection's state and settings.
#[utoipa::path(
    get, path = "/collections/{collection}", tag = "collections",
    params(("collection" = String, Path)),
    responses((status = 200, body = Reply<Object>), (status = 404))
)]
pub(crate) async fn get(
    State(app): State<App>,
    started: Started,
    Path(name): Path<String>,
) -> ApiResult<Reply<Value>> {
    let info = app.engine.database().collection(&name)?.info();
    Ok(started.reply(wire::info(&info)))
}

/// Creates a collection.
#[utoipa::path(
    put, path = "/collections/{collection}", tag = "collections",
    params(("collection" = String, Path)),
    request_body = CreateCollection,
    responses((status = 200, body = Reply<bool>), (status = 400), (status = 409), (status = 422))
)]
pub(crate) async fn create(
    State(app): State<App>,
    started: Started,
    Path(name): Path<String>,
    Input(body): Input<CreateCollection>,
) -> ApiResult<Reply<bool>> {
    let config = body.into_config()?;
    app.work(move |engine| engine.database().create_collection(&name, config).map(drop)).await?;
    Ok(started.reply(true))
}

/// Removes a collection and all its points; `false` when there was none.
#[utoipa::path(
    delete, path = "/collections/{collection}", tag = "collections",
    params(("collection" = String, Path)),
    responses((status = 200, body = Reply<bool>))
)]
pub(crate) async fn delete(
    State(app): State<App>,
    started: Started,
    Path(name): Path<String>,
) -> ApiResult<Reply<bool>> {
    let removed = app.work(move |engine| engine.database().drop_collection(&name)).await?;
    Ok(started.reply(removed))
}

/// Whether a collection is there.
#[utoipa::path(
    get, path = "/collections/{collection}/exists", tag = "collections",
    params(("collection" = String, Path)),
    responses((status = 200, body = Reply<Exists>))
)]
pub(crate) async fn exists(
    State(app): State<App>,
    started: Started,
    Path(name): Path<String>,
) -> ApiResult<Reply<Exists>> {
    match app.engine.database().collection(&name) {
        Ok(_) => Ok(started.reply(Exists { exists: true })),
        Err(Error::UnknownCollection { .. }) => Ok(started.reply(Exists { exists: false })),
        Err(error) => Err(error.into()),
    }
}
