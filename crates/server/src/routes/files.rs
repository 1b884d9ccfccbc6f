//! Uploaded files, in the OpenAI shape. They lie in the data directory until they
//! are deleted; what is found in them is added by vector stores.

use axum::extract::multipart::{Field, MultipartRejection};
use axum::extract::{Multipart, State};
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde::Deserialize;
use serde_json::{Value, json};
use utoipa::IntoParams;

use super::stores::{Item, Paging, refusal, shaped};
use crate::app::App;
use crate::body::{At, Params};
use crate::error::{ApiError, ApiResult};
use crate::files::Uploaded;

/// Which files are wanted.
#[derive(Debug, Default, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(default)]
pub(crate) struct Purpose {
    purpose: Option<String>,
}

fn body(file: &Uploaded) -> Value {
    json!({
        "id": file.id, "object": "file", "bytes": file.bytes, "created_at": file.created_at,
        "expires_at": file.expires_at, "filename": file.filename, "purpose": file.purpose,
        "status": "processed", "status_details": null,
    })
}

/// What a form says of a file.
#[derive(Default)]
struct Form {
    file: Option<(String, Vec<u8>)>,
    purpose: Option<String>,
    anchor: Option<String>,
    seconds: Option<u64>,
}

impl Form {
    /// The file has at most `limit` bytes.
    async fn read(form: Result<Multipart, MultipartRejection>, limit: usize) -> ApiResult<Self> {
        let mut form = form.map_err(|error| unreadable(&error))?;
        let mut read = Self::default();
        while let Some(mut part) = form.next_field().await.map_err(|error| unreadable(&error))? {
            let name = part.name().unwrap_or_default().to_owned();
            match name.as_str() {
                "file" => {
                    let filename = part.file_name().unwrap_or("file").to_owned();
                    read.file = Some((filename, whole(&mut part, limit).await?));
                }
                "purpose" => read.purpose = Some(text(&mut part).await?),
                "expires_after[anchor]" => {
                    read.anchor = Some(text(&mut part).await?);
                }
                "expires_after[seconds]" => {
                    let text = text(&mut part).await?;
                    let seconds = text.parse().ok().filter(|seconds| (3600..=2_592_000).contains(seconds));
                    read.seconds = Some(seconds.ok_or_else(|| {
                        ApiError::bad_request(format!(
                            "expires_after[seconds] must be from 3600 to 2592000, got {text}"
                        ))
                    })?);
                }
                _ => {}
            }
        }
        Ok(read)
    }
}

fn unreadable(error: &dyn std::fmt::Display) -> ApiError {
    ApiError::bad_request(format!("the form cannot be read: {error}"))
}

/// The bytes of a part, if they are at most so many.
async fn whole(part: &mut Field<'_>, limit: usize) -> ApiResult<Vec<u8>> {
    let mut bytes = Vec::new();
    while let Some(chunk) = part.chunk().await.map_err(|error| unreadable(&error))? {
        if bytes.len() + chunk.len() > limit {
            return Err(too_large(limit));
        }
        bytes.extend_from_slice(&chunk);
    }
    Ok(bytes)
}

/// Bytes of a part that is no file.
const TEXT_BYTES: usize = 1 << 16;

async fn text(part: &mut Field<'_>) -> ApiResult<String> {
    let bytes = whole(part, TEXT_BYTES).await?;
    String::from_utf8(bytes).map_err(|error| unreadable(&error))
}

fn too_large(limit: usize) -> ApiError {
    let text = format!(
        "Payload too large: a part of the form has more than {limit} bytes, divide it or raise server.max_body_bytes"
    );
    ApiError::new(StatusCode::PAYLOAD_TOO_LARGE, text)
}

/// Uploads a file.
#[utoipa::path(
    post, path = "/v1/files", tag = "openai", operation_id = "upload_file",
    request_body(content = Object, content_type = "multipart/form-data"),
    responses((status = 200, body = Object), (status = "4XX"))
)]
pub(crate) async fn upload(State(app): State<App>, form: Result<Multipart, MultipartRejection>) -> Response {
    let kept = async move {
        let form = Form::read(form, app.options.max_body_bytes).await?;
        let (name, bytes) =
            form.file.ok_or_else(|| ApiError::bad_request("the form has no part named `file`"))?;
        if let Some(anchor) = form.anchor.filter(|anchor| anchor != "created_at") {
            return Err(ApiError::bad_request(format!(
                "expires_after[anchor] must be created_at, got {anchor}"
            )));
        }
        let purpose = form.purpose.unwrap_or_else(|| "assistants".to_owned());
        let (shared, seconds) = (app.clone(), form.seconds);
        app.write(move |_| Ok::<_, ApiError>(body(&shared.files.keep(name, purpose, &bytes, seconds)?))).await
    };
    shaped(kept.await)
}

/// The uploaded files.
#[utoipa::path(
    get, path = "/v1/files", tag = "openai", operation_id = "list_files",
    params(Paging, Purpose),
    responses((status = 200, body = Object), (status = "4XX"))
)]
pub(crate) async fn list(
    State(app): State<App>,
    paging: Result<Params<Paging>, ApiError>,
    purpose: Result<Params<Purpose>, ApiError>,
) -> Response {
    let listed = async move {
        let (Params(paging), Params(wanted)) = (paging?, purpose?);
        let shared = app.clone();
        app.write(move |_| {
            let mut files = shared.files.all();
            files.retain(|file| wanted.purpose.as_ref().is_none_or(|purpose| *purpose == file.purpose));
            let item = |file: Uploaded| Item { body: body(&file), created_at: file.created_at, id: file.id };
            paging.page(files.into_iter().map(item).collect(), 10_000, 10_000)
        })
        .await
    };
    shaped(listed.await)
}

/// An uploaded file.
#[utoipa::path(
    get, path = "/v1/files/{file}", tag = "openai", operation_id = "get_file",
    params(("file" = String, Path)),
    responses((status = 200, body = Object), (status = "4XX"))
)]
pub(crate) async fn get(State(app): State<App>, At(id): At<String>) -> Response {
    let shared = app.clone();
    shaped(app.write(move |_| Ok::<_, ApiError>(body(&shared.files.get(&id)?))).await)
}

/// Deletes an uploaded file; what vector stores took from it stays there.
#[utoipa::path(
    delete, path = "/v1/files/{file}", tag = "openai", operation_id = "delete_file",
    params(("file" = String, Path)),
    responses((status = 200, body = Object), (status = "4XX"))
)]
pub(crate) async fn delete(State(app): State<App>, At(id): At<String>) -> Response {
    let shared = app.clone();
    let deleted = app.write(move |_| {
        shared.files.delete(&id)?;
        Ok::<_, ApiError>(json!({ "id": id, "object": "file", "deleted": true }))
    });
    shaped(deleted.await)
}

/// The bytes of an uploaded file.
#[utoipa::path(
    get, path = "/v1/files/{file}/content", tag = "openai", operation_id = "get_file_content",
    params(("file" = String, Path)),
    responses((status = 200, body = Vec<u8>, content_type = "application/octet-stream"), (status = "4XX"))
)]
pub(crate) async fn content(State(app): State<App>, At(id): At<String>) -> Response {
    let shared = app.clone();
    match app.write(move |_| shared.files.content(&id)).await {
        Ok(bytes) => ([(header::CONTENT_TYPE, "application/octet-stream")], bytes).into_response(),
        Err(error) => refusal(&error),
    }
}
