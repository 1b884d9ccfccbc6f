//! Everything that changes points.

use axum::extract::State;
use serde::de::DeserializeOwned;

use crate::app::App;
use crate::body::{At, Params, Reply, Started, Unread};
use crate::error::{ApiError, ApiResult};
use crate::infer::Usage;
use crate::strict::Strict;
use crate::wire::writes::{
    DeletePayload, DeleteVectors, Operation, Operations, Selected, SetPayload, UpdateResult, UpdateVectors,
    UpsertPoints, WriteParams,
};
use crate::writes;

type Written = ApiResult<Reply<UpdateResult>>;

async fn one<T: DeserializeOwned + 'static>(
    app: App,
    started: Started,
    name: String,
    params: WriteParams,
    body: Unread<T>,
    operation: fn(T) -> Operation,
) -> Written {
    let (applied, usage) = app
        .write(move |engine| {
            let write = operation(body.read()?);
            let collection = engine.database().collection(&name)?;
            Strict::of(&collection).check_write(&collection, &write)?;
            writes::write(engine, &collection, write)
        })
        .await?;
    Ok(started.reply(UpdateResult::new(applied, params)).with(usage))
}

/// Writes points, each replacing any point of the same id.
#[utoipa::path(
    put, path = "/collections/{collection}/points", tag = "points",
    params(("collection" = String, Path), WriteParams),
    request_body = UpsertPoints,
    responses((status = 200, body = Reply<UpdateResult>), (status = "4XX"), (status = 507))
)]
pub(crate) async fn upsert(
    State(app): State<App>,
    started: Started,
    At(name): At<String>,
    Params(params): Params<WriteParams>,
    body: Unread<UpsertPoints>,
) -> Written {
    one(app, started, name, params, body, Operation::Upsert).await
}

/// Removes points by id or by filter.
#[utoipa::path(
    post, path = "/collections/{collection}/points/delete", tag = "points", operation_id = "delete_points",
    params(("collection" = String, Path), WriteParams),
    request_body = Selected,
    responses((status = 200, body = Reply<UpdateResult>), (status = "4XX"))
)]
pub(crate) async fn delete(
    State(app): State<App>,
    started: Started,
    At(name): At<String>,
    Params(params): Params<WriteParams>,
    body: Unread<Selected>,
) -> Written {
    one(app, started, name, params, body, Operation::Delete).await
}

/// Sets some vectors of points.
#[utoipa::path(
    put, path = "/collections/{collection}/points/vectors", tag = "points",
    params(("collection" = String, Path), WriteParams),
    request_body = UpdateVectors,
    responses((status = 200, body = Reply<UpdateResult>), (status = "4XX"))
)]
pub(crate) async fn update_vectors(
    State(app): State<App>,
    started: Started,
    At(name): At<String>,
    Params(params): Params<WriteParams>,
    body: Unread<UpdateVectors>,
) -> Written {
    one(app, started, name, params, body, Operation::UpdateVectors).await
}

/// Removes vectors of points.
#[utoipa::path(
    post, path = "/collections/{collection}/points/vectors/delete", tag = "points",
    params(("collection" = String, Path), WriteParams),
    request_body = DeleteVectors,
    responses((status = 200, body = Reply<UpdateResult>), (status = "4XX"))
)]
pub(crate) async fn delete_vectors(
    State(app): State<App>,
    started: Started,
    At(name): At<String>,
    Params(params): Params<WriteParams>,
    body: Unread<DeleteVectors>,
) -> Written {
    one(app, started, name, params, body, Operation::DeleteVectors).await
}

/// Puts payload values over those that points have.
#[utoipa::path(
    post, path = "/collections/{collection}/points/payload", tag = "points",
    params(("collection" = String, Path), WriteParams),
    request_body = SetPayload,
    responses((status = 200, body = Reply<UpdateResult>), (status = "4XX"))
)]
pub(crate) async fn set_payload(
    State(app): State<App>,
    started: Started,
    At(name): At<String>,
    Params(params): Params<WriteParams>,
    body: Unread<SetPayload>,
) -> Written {
    one(app, started, name, params, body, Operation::SetPayload).await
}

/// Puts a payload in place of what points have.
#[utoipa::path(
    put, path = "/collections/{collection}/points/payload", tag = "points",
    params(("collection" = String, Path), WriteParams),
    request_body = SetPayload,
    responses((status = 200, body = Reply<UpdateResult>), (status = "4XX"))
)]
pub(crate) async fn overwrite_payload(
    State(app): State<App>,
    started: Started,
    At(name): At<String>,
    Params(params): Params<WriteParams>,
    body: Unread<SetPayload>,
) -> Written {
    one(app, started, name, params, body, Operation::OverwritePayload).await
}

/// Removes values from the payloads of points.
#[utoipa::path(
    post, path = "/collections/{collection}/points/payload/delete", tag = "points",
    params(("collection" = String, Path), WriteParams),
    request_body = DeletePayload,
    responses((status = 200, body = Reply<UpdateResult>), (status = "4XX"))
)]
pub(crate) async fn delete_payload(
    State(app): State<App>,
    started: Started,
    At(name): At<String>,
    Params(params): Params<WriteParams>,
    body: Unread<DeletePayload>,
) -> Written {
    one(app, started, name, params, body, Operation::DeletePayload).await
}

/// Clears the payloads of points.
#[utoipa::path(
    post, path = "/collections/{collection}/points/payload/clear", tag = "points",
    params(("collection" = String, Path), WriteParams),
    request_body = Selected,
    responses((status = 200, body = Reply<UpdateResult>), (status = "4XX"))
)]
pub(crate) async fn clear_payload(
    State(app): State<App>,
    started: Started,
    At(name): At<String>,
    Params(params): Params<WriteParams>,
    body: Unread<Selected>,
) -> Written {
    one(app, started, name, params, body, Operation::ClearPayload).await
}

/// Carries out writes one after the other. The first that fails ends the batch;
/// those before it stay.
#[utoipa::path(
    post, path = "/collections/{collection}/points/batch", tag = "points",
    params(("collection" = String, Path), WriteParams),
    request_body = Operations,
    responses((status = 200, body = Reply<Vec<UpdateResult>>), (status = "4XX"))
)]
pub(crate) async fn batch(
    State(app): State<App>,
    started: Started,
    At(name): At<String>,
    Params(params): Params<WriteParams>,
    body: Unread<Operations>,
) -> ApiResult<Reply<Vec<UpdateResult>>> {
    let (results, usage) = app
        .write(move |engine| {
            let body = body.read()?;
            let collection = engine.database().collection(&name)?;
            let strict = Strict::of(&collection);
            let mut results = Vec::with_capacity(body.operations.len());
            let mut total: Option<Usage> = None;
            for write in body.operations {
                strict.check_write(&collection, &write)?;
                let (applied, usage) = writes::write(engine, &collection, write)?;
                results.push(UpdateResult::new(applied, params));
                total = Usage::sum(total, usage);
            }
            Ok::<_, ApiError>((results, total))
        })
        .await?;
    Ok(started.reply(results).with(usage))
}
