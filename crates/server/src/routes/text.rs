//! Documents in and out of a collection.

use axum::extract::State;
use axum::response::{IntoResponse, Response};
use cairn_rag::{ChunkChange, Document, Format, Preview};
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use super::jobs::accepted;
use super::uploads::about;
use crate::app::App;
use crate::body::{At, Input, Params, Reply, Started};
use crate::error::{ApiError, ApiResult};
use crate::jobs::{About, Kind, Receiving, Shown};
use crate::routes::stores::in_use;

/// Whether to wait.
#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub(crate) struct Waiting {
    /// `false`: the documents are kept on the disk and a job is answered (202) that
    /// adds them.
    pub(crate) wait: Option<bool>,
}

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
    /// How the documents of a collection that is made now are cut: `max_tokens`
    /// and `overlap`, in tokens of its model. Kept with it.
    #[serde(default)]
    #[schema(value_type = Option<Object>)]
    chunk: Option<ChunkChange>,
}

/// A document that is not stored.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct PreviewDocument {
    /// With `text` and, if wanted, `id`, `title` and `metadata`.
    #[schema(value_type = Object)]
    document: PreviewedDocument,
    /// `markdown`, which plain prose also is, or `text`.
    #[serde(default)]
    #[schema(value_type = Option<String>)]
    format: Format,
    /// Settings to try instead of the collection's: `max_tokens` and `overlap`.
    #[serde(default)]
    #[schema(value_type = Option<Object>)]
    chunk: Option<ChunkChange>,
}

/// A document whose id does not matter.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct PreviewedDocument {
    #[serde(default = "unnamed")]
    id: String,
    #[serde(default)]
    title: String,
    text: String,
    #[serde(default)]
    metadata: serde_json::Map<String, serde_json::Value>,
    #[serde(default)]
    pages: Vec<usize>,
}

fn unnamed() -> String {
    "preview".to_owned()
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
    params(("collection" = String, Path), Waiting),
    request_body = AddDocuments,
    responses(
        (status = 200, body = Reply<Object>), (status = 202, body = Reply<Shown>), (status = "4XX"), (status = 507)
    )
)]
pub(crate) async fn add(
    State(app): State<App>,
    started: Started,
    At(name): At<String>,
    Params(params): Params<Waiting>,
    Input(body): Input<AddDocuments>,
) -> ApiResult<Response> {
    if params.wait == Some(false) {
        let shared = app.clone();
        let job = app.write(move |engine| {
            let AddDocuments { documents, format, chunk } = body;
            let about = About { format, chunk, ..about(engine, &name, Kind::Documents) };
            // What can be refused is refused with a status, also when nobody waits.
            in_use(&shared, &about.collection)?;
            engine.check_documents(&about.collection, &documents, chunk)?;
            let mut receiving = Receiving::new(&shared)?;
            for document in &documents {
                receiving.begin(&document.id)?;
                receiving.take(&serde_json::to_vec(document).map_err(ApiError::internal)?)?;
            }
            receiving.queue(about)
        });
        return Ok(accepted(&app, &started, &job.await?));
    }
    let shared = app.clone();
    let added = app.write(move |engine| {
        in_use(&shared, &name)?;
        Ok::<_, ApiError>(engine.add_chunked(&name, &body.documents, body.format, body.chunk, &mut |_| {})?)
    });
    Ok(started.reply(added.await?).into_response())
}

/// How a document would be cut, with what the model would be given: nothing is
/// stored. A collection that is not there is taken for one with the default model.
#[utoipa::path(
    post, path = "/collections/{collection}/documents/preview", tag = "text",
    params(("collection" = String, Path)),
    request_body = PreviewDocument,
    responses((status = 200, body = Reply<Object>), (status = "4XX"))
)]
pub(crate) async fn preview(
    State(app): State<App>,
    started: Started,
    At(name): At<String>,
    Input(body): Input<PreviewDocument>,
) -> ApiResult<Reply<Preview>> {
    let PreviewedDocument { id, title, text, metadata, pages } = body.document;
    let document = Document { id, title, text, metadata, pages };
    let cut = app.write(move |engine| engine.preview(&name, &document, body.format, body.chunk));
    Ok(started.reply(cut.await?))
}

/// Removes a document.
#[utoipa::path(
    delete, path = "/collections/{collection}/documents/{id}", tag = "text", operation_id = "delete_document",
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
