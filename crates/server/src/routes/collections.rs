//! Creating, listing, reading, changing and removing collections, their vectors
//! and payload indexes.

use std::collections::BTreeMap;

use axum::extract::State;
use cairn_index::{Applied, Collection, Condition, ConfigChange, Error, FieldSchema, Filter, Path};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use utoipa::ToSchema;

use crate::app::App;
use crate::auth::{Access, Level};
use crate::body::{At, Input, Params, Reply, Started};
use crate::error::{ApiError, ApiResult};
use crate::strict::Strict;
use crate::wire::collections::{
    self as wire, CollectionName, Collections, CreateCollection, Exists, NewVector, UpdateCollection,
};
use crate::wire::writes::{UpdateResult, WriteParams};

/// The collections there are.
#[utoipa::path(
    get, path = "/collections", tag = "collections", operation_id = "list_collections",
    responses((status = 200, body = Reply<Collections>), (status = "4XX"))
)]
pub(crate) async fn list(State(app): State<App>, started: Started, access: Access) -> Reply<Collections> {
    let names = app.engine.database().collections().into_iter();
    let seen = names.filter(|name| access.allows(name, Level::Read));
    started.reply(Collections { collections: seen.map(|name| CollectionName { name }).collect() })
}

/// A collection's state and settings.
#[utoipa::path(
    get, path = "/collections/{collection}", tag = "collections", operation_id = "get_collection",
    params(("collection" = String, Path)),
    responses((status = 200, body = Reply<Object>), (status = "4XX"))
)]
pub(crate) async fn get(
    State(app): State<App>,
    started: Started,
    At(name): At<String>,
) -> ApiResult<Reply<Value>> {
    let info = app
        .read(move |engine| {
            let collection = engine.database().collection(&name)?;
            let info = collection.info();
            Ok(wire::info(&info, &indexed_points(&collection)?))
        })
        .await?;
    Ok(started.reply(info))
}

/// For each indexed field, the points that have a value there.
fn indexed_points(collection: &Collection) -> ApiResult<BTreeMap<String, usize>> {
    let config = collection.config();
    let mut indexed = BTreeMap::new();
    for path in config.payload_indexes.keys() {
        let is_empty = Condition::IsEmpty(path.parse()?);
        let has_value = Filter { must_not: vec![is_empty], ..Filter::default() };
        indexed.insert(path.clone(), collection.count(Some(&has_value))?);
    }
    Ok(indexed)
}

/// Creates a collection.
#[utoipa::path(
    put, path = "/collections/{collection}", tag = "collections", operation_id = "create_collection",
    params(("collection" = String, Path)),
    request_body = CreateCollection,
    responses((status = 200, body = Reply<bool>), (status = "4XX"), (status = 507))
)]
pub(crate) async fn create(
    State(app): State<App>,
    started: Started,
    At(name): At<String>,
    Input(body): Input<CreateCollection>,
) -> ApiResult<Reply<bool>> {
    let config = body.into_config(app.options.string_ids)?;
    app.write(move |engine| engine.database().create_collection(&name, config).map(drop)).await?;
    Ok(started.reply(true))
}

/// Changes settings of a collection.
#[utoipa::path(
    patch, path = "/collections/{collection}", tag = "collections",
    params(("collection" = String, Path)),
    request_body = UpdateCollection,
    responses((status = 200, body = Reply<bool>), (status = "4XX"), (status = 507))
)]
pub(crate) async fn update(
    State(app): State<App>,
    started: Started,
    At(name): At<String>,
    Input(body): Input<UpdateCollection>,
) -> ApiResult<Reply<bool>> {
    app.write(move |engine| {
        let collection = engine.database().collection(&name)?;
        let changes = body.into_changes(&collection.config())?;
        configure(&collection, changes).map(drop)
    })
    .await?;
    Ok(started.reply(true))
}

fn configure(collection: &Collection, changes: Vec<ConfigChange>) -> ApiResult<Applied> {
    let mut applied = Applied { seq: collection.info().seq, ..Applied::default() };
    for change in changes {
        applied = collection.configure(change)?;
    }
    Ok(applied)
}

/// Removes a collection and all its points; `false` when there was none.
#[utoipa::path(
    delete, path = "/collections/{collection}", tag = "collections", operation_id = "delete_collection",
    params(("collection" = String, Path)),
    responses((status = 200, body = Reply<bool>), (status = "4XX"))
)]
pub(crate) async fn delete(
    State(app): State<App>,
    started: Started,
    At(name): At<String>,
) -> ApiResult<Reply<bool>> {
    let removed = app.write(move |engine| engine.database().drop_collection(&name)).await?;
    Ok(started.reply(removed))
}

/// Whether a collection is there.
#[utoipa::path(
    get, path = "/collections/{collection}/exists", tag = "collections",
    params(("collection" = String, Path)),
    responses((status = 200, body = Reply<Exists>), (status = "4XX"))
)]
pub(crate) async fn exists(
    State(app): State<App>,
    started: Started,
    At(name): At<String>,
) -> ApiResult<Reply<Exists>> {
    match app.engine.database().collection(&name) {
        Ok(_) => Ok(started.reply(Exists { exists: true })),
        Err(Error::UnknownCollection { .. }) => Ok(started.reply(Exists { exists: false })),
        Err(error) => Err(error.into()),
    }
}

/// Adds a vector to a collection that is there; its points have none yet.
#[utoipa::path(
    put, path = "/collections/{collection}/vectors/{vector}", tag = "collections",
    params(("collection" = String, Path), ("vector" = String, Path), WriteParams),
    request_body = NewVector,
    responses((status = 200, body = Reply<UpdateResult>), (status = "4XX"), (status = 507))
)]
pub(crate) async fn add_vector(
    State(app): State<App>,
    started: Started,
    At((name, vector)): At<(String, String)>,
    Params(params): Params<WriteParams>,
    Input(body): Input<NewVector>,
) -> ApiResult<Reply<UpdateResult>> {
    let applied = app
        .write(move |engine| {
            let collection = engine.database().collection(&name)?;
            configure(&collection, body.into_changes(&vector, &collection.config()))
        })
        .await?;
    Ok(started.reply(UpdateResult::new(applied, params)))
}

/// Removes a vector from a collection and all its points.
#[utoipa::path(
    delete, path = "/collections/{collection}/vectors/{vector}", tag = "collections",
    params(("collection" = String, Path), ("vector" = String, Path), WriteParams),
    responses((status = 200, body = Reply<UpdateResult>), (status = "4XX"))
)]
pub(crate) async fn drop_vector(
    State(app): State<App>,
    started: Started,
    At((name, vector)): At<(String, String)>,
    Params(params): Params<WriteParams>,
) -> ApiResult<Reply<UpdateResult>> {
    let applied = app.write(move |engine| {
        engine.database().collection(&name)?.configure(ConfigChange::DropVector(vector))
    });
    Ok(started.reply(UpdateResult::new(applied.await?, params)))
}

/// A payload field to index.
#[derive(Debug, Deserialize, ToSchema)]
pub(crate) struct CreateIndex {
    #[schema(value_type = String)]
    field_name: Path,
    /// The name of a kind, or an object with `type` and options.
    #[schema(value_type = Value)]
    field_schema: FieldSchema,
}

/// Indexes a payload field. Filters work meanwhile, slower.
#[utoipa::path(
    put, path = "/collections/{collection}/index", tag = "collections",
    params(("collection" = String, Path), WriteParams),
    request_body = CreateIndex,
    responses((status = 200, body = Reply<UpdateResult>), (status = "4XX"), (status = 507))
)]
pub(crate) async fn create_index(
    State(app): State<App>,
    started: Started,
    At(name): At<String>,
    Params(params): Params<WriteParams>,
    Input(body): Input<CreateIndex>,
) -> ApiResult<Reply<UpdateResult>> {
    let applied = app
        .write(move |engine| {
            let collection = engine.database().collection(&name)?;
            Strict::of(&collection).check_new_index()?;
            configure(&collection, vec![ConfigChange::CreateIndex(body.field_name, body.field_schema)])
        })
        .await?;
    Ok(started.reply(UpdateResult::new(applied, params)))
}

/// Removes the index of a payload field.
#[utoipa::path(
    delete, path = "/collections/{collection}/index/{field}", tag = "collections",
    params(("collection" = String, Path), ("field" = String, Path), WriteParams),
    responses((status = 200, body = Reply<UpdateResult>), (status = "4XX"))
)]
pub(crate) async fn drop_index(
    State(app): State<App>,
    started: Started,
    At((name, field)): At<(String, String)>,
    Params(params): Params<WriteParams>,
) -> ApiResult<Reply<UpdateResult>> {
    let field: Path = field.parse()?;
    let applied = app
        .write(move |engine| engine.database().collection(&name)?.configure(ConfigChange::DropIndex(field)));
    Ok(started.reply(UpdateResult::new(applied.await?, params)))
}

/// What is being merged and indexed.
#[utoipa::path(
    get, path = "/collections/{collection}/optimizations", tag = "collections",
    params(("collection" = String, Path)),
    responses((status = 200, body = Reply<Object>), (status = "4XX"))
)]
pub(crate) async fn optimizations(
    State(app): State<App>,
    started: Started,
    At(name): At<String>,
) -> ApiResult<Reply<Value>> {
    let info = app.engine.database().collection(&name)?.info();
    let waiting = usize::from(info.indexing);
    Ok(started.reply(json!({
        "summary": {
            "queued_optimizations": waiting,
            "queued_segments": waiting,
            "queued_points": info.unsealed,
            "idle_segments": info.segments,
        },
        "running": [],
    })))
}

/// How a collection is spread: over one shard of this node.
#[utoipa::path(
    get, path = "/collections/{collection}/cluster", tag = "collections", operation_id = "collection_cluster",
    params(("collection" = String, Path)),
    responses((status = 200, body = Reply<Object>), (status = "4XX"))
)]
pub(crate) async fn cluster(
    State(app): State<App>,
    started: Started,
    At(name): At<String>,
) -> ApiResult<Reply<Value>> {
    let points = app.engine.database().collection(&name)?.info().points;
    Ok(started.reply(json!({
        "peer_id": 0,
        "shard_count": 1,
        "local_shards": [{ "shard_id": 0, "points_count": points, "state": "Active" }],
        "remote_shards": [],
        "shard_transfers": [],
    })))
}

/// The shard keys of a collection: none, it is not divided.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct ShardKeys {
    #[schema(value_type = Vec<Value>)]
    shard_keys: [(); 0],
}

/// The shard keys of a collection.
#[utoipa::path(
    get, path = "/collections/{collection}/shards", tag = "collections",
    params(("collection" = String, Path)),
    responses((status = 200, body = Reply<ShardKeys>), (status = "4XX"))
)]
pub(crate) async fn shards(
    State(app): State<App>,
    started: Started,
    At(name): At<String>,
) -> ApiResult<Reply<ShardKeys>> {
    app.engine.database().collection(&name)?;
    Ok(started.reply(ShardKeys { shard_keys: [] }))
}

/// What only a cluster can do.
pub(crate) async fn no_cluster() -> ApiError {
    let text = "Bad request: this is one node, there is no cluster to change";
    ApiError::new(axum::http::StatusCode::METHOD_NOT_ALLOWED, text)
}
