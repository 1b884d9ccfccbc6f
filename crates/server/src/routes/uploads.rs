//! Files sent to a collection: the parts of a form, or a body with a name. They
//! are added at once, or kept on the disk as a job.

use axum::body::{Body, Bytes};
use axum::extract::{FromRequest, Multipart, Request, State};
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use cairn_rag::parse::parse;
use cairn_rag::{Added, Document, Engine, Format};
use futures_util::StreamExt;
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use super::jobs::accepted;
use crate::app::App;
use crate::body::{At, Params, Reply, Started};
use crate::error::{ApiError, ApiResult};
use crate::jobs::{About, Kind, Receiving, Shown};
use crate::routes::stores::in_use;

/// Whether to wait, and what a body that is no form is called.
#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub(crate) struct Sending {
    /// `false`: the files are kept on the disk and a job is answered (202) that
    /// adds them.
    wait: Option<bool>,
    /// The name of the file, where the body is a file and not a form.
    name: Option<String>,
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

/// What a job is about: the collection that a name means now.
pub(crate) fn about(engine: &Engine, asked: &str, kind: Kind) -> About {
    let there = engine.database().collection(asked).ok();
    About {
        asked: asked.to_owned(),
        collection: there.as_ref().map_or_else(|| asked.to_owned(), |there| there.name().to_owned()),
        was_there: there.is_some(),
        kind,
        format: Format::default(),
        chunk: None,
    }
}

/// Adds files, each a part of a form with a file name, or one that is the body and
/// named in `name`: Markdown, text, HTML, PDF, DOCX, PPTX, XLSX, EPUB, CSV, JSON,
/// source code. A file that cannot be read is reported, and the others are added.
#[utoipa::path(
    post, path = "/collections/{collection}/documents/files", tag = "text",
    params(("collection" = String, Path), Sending),
    request_body(content = Object, content_type = "multipart/form-data"),
    responses(
        (status = 200, body = Reply<Vec<FileAdded>>), (status = 202, body = Reply<Shown>), (status = "4XX"),
        (status = 507)
    )
)]
pub(crate) async fn add_files(
    State(app): State<App>,
    started: Started,
    At(collection): At<String>,
    Params(params): Params<Sending>,
    request: Request,
) -> ApiResult<Response> {
    let source = Source::of(request, params.name, &app).await?;
    if params.wait == Some(false) {
        // Where there is no place, what is sent is still read for a while.
        let mut receiving = Receiving::new(&app);
        let came = source.read(|piece| {
            let receiving = receiving.as_mut().map_err(|error| error.clone())?;
            match piece {
                Piece::Begin(name) => receiving.begin(name),
                Piece::Bytes(bytes) => receiving.take(bytes),
            }
        });
        came.await?;
        let receiving = receiving?;
        if receiving.is_empty() {
            return Err(no_file());
        }
        let shared = app.clone();
        let job = app.write(move |engine| {
            let about = about(engine, &collection, Kind::Files);
            in_use(&shared, &about.collection)?;
            // What can be refused is refused with a status, also when nobody waits.
            engine.check_documents(&about.collection, &[], None)?;
            receiving.queue(about)
        });
        return Ok(accepted(&app, &started, &job.await?));
    }
    let files = source.whole(app.options.max_body_bytes).await?;
    if files.is_empty() {
        return Err(no_file());
    }
    Ok(started.reply(added(&app, &collection, files).await?).into_response())
}

fn no_file() -> ApiError {
    ApiError::bad_request("the form has no file: send parts with a file name")
}

/// Adds one file after the other.
async fn added(app: &App, collection: &str, files: Vec<(String, Vec<u8>)>) -> ApiResult<Vec<FileAdded>> {
    let (shared, name) = (app.clone(), collection.to_owned());
    app.write(move |_| in_use(&shared, &name)).await?;
    let mut done = Vec::with_capacity(files.len());
    for (name, bytes) in files {
        let (into, named) = (collection.to_owned(), name.clone());
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
            Ok(file) => done.push(file),
            // What was written before must be told.
            Err(error) if !done.is_empty() => {
                done.push(FileAdded { name: named, added: None, error: Some(error.text) });
                break;
            }
            Err(error) => return Err(error),
        }
    }
    Ok(done)
}

/// Where files come from.
enum Source {
    Form(Multipart),
    Body { name: String, body: Body },
}

/// What comes of files, in order.
enum Piece<'b> {
    /// A file begins.
    Begin(&'b str),
    Bytes(&'b Bytes),
}

/// Of an upload that is refused so much is still read: a client that is sending
/// would otherwise see a broken connection, not the answer.
const READ_ON_BYTES: usize = 256 << 20;

/// Whoever listens to the pieces of a source, until something is refused.
struct Sink<F> {
    take: F,
    refused: Option<ApiError>,
    read_on: usize,
}

impl<F: FnMut(Piece<'_>) -> ApiResult<()>> Sink<F> {
    /// Fails once enough was read of what is refused.
    fn offer(&mut self, piece: Piece<'_>) -> ApiResult<()> {
        if let Some(refused) = &self.refused {
            if let Piece::Bytes(bytes) = piece {
                self.read_on += bytes.len();
            }
            return if self.read_on > READ_ON_BYTES { Err(refused.clone()) } else { Ok(()) };
        }
        self.refused = (self.take)(piece).err();
        Ok(())
    }
}

fn unreadable(error: &dyn std::fmt::Display) -> ApiError {
    ApiError::bad_request(format!("the form cannot be read: {error}"))
}

impl Source {
    async fn of(request: Request, name: Option<String>, app: &App) -> ApiResult<Self> {
        let kind = request.headers().get(header::CONTENT_TYPE).and_then(|kind| kind.to_str().ok());
        if kind.is_some_and(|kind| kind.to_ascii_lowercase().starts_with("multipart/form-data")) {
            return match Multipart::from_request(request, app).await {
                Ok(form) => Ok(Self::Form(form)),
                Err(error) => Err(unreadable(&error)),
            };
        }
        match name.filter(|name| !name.is_empty()) {
            Some(name) => Ok(Self::Body { name, body: request.into_body() }),
            None => Err(ApiError::bad_request(
                "the body is no form: send files as multipart/form-data, or one file as the body with ?name= \
                 and its name",
            )),
        }
    }

    /// Hands on what comes, until something is refused.
    async fn read(self, take: impl FnMut(Piece<'_>) -> ApiResult<()>) -> ApiResult<()> {
        let mut sink = Sink { take, refused: None, read_on: 0 };
        match self {
            Self::Form(mut form) => {
                while let Some(mut part) = form.next_field().await.map_err(|error| unreadable(&error))? {
                    let name = part.file_name().filter(|name| !name.is_empty()).map(str::to_owned);
                    let Some(name) = name else { continue };
                    sink.offer(Piece::Begin(&name))?;
                    while let Some(bytes) = part.chunk().await.map_err(|error| unreadable(&error))? {
                        sink.offer(Piece::Bytes(&bytes))?;
                    }
                }
            }
            Self::Body { name, body } => {
                sink.offer(Piece::Begin(&name))?;
                let mut stream = body.into_data_stream();
                while let Some(bytes) = stream.next().await {
                    let bytes = bytes.map_err(|error| {
                        ApiError::bad_request(format!("the body could not be read: {error}"))
                    })?;
                    sink.offer(Piece::Bytes(&bytes))?;
                }
            }
        }
        sink.refused.map_or(Ok(()), Err)
    }

    /// All files, in memory.
    async fn whole(self, limit: usize) -> ApiResult<Vec<(String, Vec<u8>)>> {
        let (mut files, mut total) = (Vec::<(String, Vec<u8>)>::new(), 0);
        let came = self.read(|piece| {
            match piece {
                Piece::Begin(name) => files.push((name.to_owned(), Vec::new())),
                Piece::Bytes(bytes) => {
                    total += bytes.len();
                    if total > limit {
                        return Err(too_large(limit));
                    }
                    if let Some((_, file)) = files.last_mut() {
                        file.extend_from_slice(bytes);
                    }
                }
            }
            Ok(())
        });
        came.await?;
        Ok(files)
    }
}

fn too_large(limit: usize) -> ApiError {
    let text = format!(
        "Payload too large: the files have more than {limit} bytes, send fewer at once, do not wait \
         (?wait=false), or raise server.max_body_bytes"
    );
    ApiError::new(StatusCode::PAYLOAD_TOO_LARGE, text)
}
