//! Documents in and out of a collection.

use axum::extract::multipart::MultipartRejection;
use axum::extract::{Multipart, State};
use cairn_rag::parse::parse;
use cairn_rag::{Added, ChunkChange, Document, Format, Preview};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::app::App;
use crate::body::{At, Input, Reply, Started};
use crate::error::{ApiError, ApiResult};

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
    let added = app.write(move |engine| {
        engine.add_chunked(&name, &body.documents, body.format, body.chunk, &mut |_| {})
    });
    Ok(started.reply(added.await?))
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

/// What became of a file.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct FileAdded {
    /// Its name, which is the document's id.
    name: String,
    /// Absent when it could not be read.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<Object>)]
    added: Option<Added>,
    /// Why it could not be read.
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<String>,
}

/// Adds files, each a part of a form with a file name: Markdown, text, HTML, PDF,
/// DOCX, PPTX, XLSX, EPUB, CSV, JSON, source code. A file that cannot be read is reported, and
/// the others are added.
#[utoipa::path(
    post, path = "/collections/{collection}/documents/files", tag = "text",
    params(("collection" = String, Path)),
    request_body(content = Object, content_type = "multipart/form-data"),
    responses((status = 200, body = Reply<Vec<FileAdded>>), (status = "4XX"), (status = 507))
)]
pub(crate) async fn add_files(
    State(app): State<App>,
    started: Started,
    At(collection): At<String>,
    form: Result<Multipart, MultipartRejection>,
) -> ApiResult<Reply<Vec<FileAdded>>> {
    let unreadable =
        |error: &dyn std::fmt::Display| ApiError::bad_request(format!("the form cannot be read: {error}"));
    let mut form = form.map_err(|error| unreadable(&error))?;
    let mut files = Vec::new();
    while let Some(part) = form.next_field().await.map_err(|error| unreadable(&error))? {
        let Some(name) = part.file_name().map(str::to_owned) else { continue };
        let bytes = part.bytes().await.map_err(|error| unreadable(&error))?;
        let (into, named) = (collection.clone(), name.clone());
        let added = app.write(move |engine| {
            let parsed = match parse(&name, &bytes) {
                Ok(parsed) => parsed,
                Err(error) => return Ok(FileAdded { name, added: None, error: Some(error.to_string()) }),
            };
            let document = Document {
                id: name.clone(),
                title: parsed.title,
                text: parsed.text,
                metadata: serde_json::Map::new(),
                pages: parsed.pages,
            };
            let added = engine.add(&into, &[document], parsed.format, &mut |_| {})?;
            Ok::<_, cairn_rag::Error>(FileAdded { name, added: Some(added), error: None })
        });
        match added.await {
            Ok(file) => files.push(file),
            // What was written before must be told.
            Err(error) if !files.is_empty() => {
                let told = FileAdded { name: named, added: None, error: Some(error.text) };
                files.push(told);
                break;
            }
            Err(error) => return Err(error),
        }
    }
    if files.is_empty() {
        return Err(ApiError::bad_request("the form has no file: send parts with a file name"));
    }
    Ok(started.reply(files))
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
