//! Documents in and out of a collection.

use axum::extract::State;
use cairn_rag::{Added, Document, Format};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::app::App;
use crate::body::{At, Input, Reply, Started};
use crate::error::ApiResult;

/// Documents to add.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct AddDocuments {
    /// Each with `id`, `text` and, if wanted, `title` and `metadata`.
    #[schema(value_type = Vec<Object>)]
    documents: Vec<Document>,
    /// `markdown`, which plain prose also is, or `text`.
    #[serde(default)]
    #[schema(value_type = Option<String>)]
    format: Format,
}

/// How much of a document was removed.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct Deleted {
    /// Passages removed.
    deleted: usize,
}

/// Adds documents, creating the collection when it is not there.
#[utoipa::path(
    put, path = "/collections/{collection}/documents", tag = "text",
    params(("collection" = String, Path)),
    request_body = AddDocuments,
    responses((status = 200, body = Reply<Object>), (status = "4XX"), (status = 507))
)]
pub(crate) async fn add(
    State(app): State<App>,
    started: Started,
    At(name): At<String>,
    Input(body): Input<AddDocuments>,
) -> ApiResult<Reply<Added>> {
    let added = app.write(move |engine| engine.add(&name, &body.documents, body.format, &mut |_| {})).await?;
    Ok(started.reply(added))
}

/// Removes a document.
#[utoipa::path(
    delete, path = "/collections/{collection}/documents/{id}", tag = "text",
    params(("collection" = String, Path), ("id" = String, Path)),
    responses((status = 200, body = Reply<Deleted>), (status = "4XX"))
)]
pub(crate) async fn delete(
    State(app): State<App>,
    started: Started,
    At((name, id)): At<(String, String)>,
) -> ApiResult<Reply<Deleted>> {
    let deleted = app.write(move |engine| engine.delete_document(&name, &id)).await?;
    Ok(started.reply(Deleted { deleted }))
}
