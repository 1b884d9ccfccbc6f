//! Reading request bodies and writing the usual envelope.

use std::marker::PhantomData;
use std::time::Instant;

use axum::Json;
use axum::body::{Body, Bytes, HttpBody};
use axum::extract::{FromRef, FromRequest, FromRequestParts, Path, Query, RawPathParams, Request};
use axum::http::StatusCode;
use axum::http::request::Parts;
use axum::response::{IntoResponse, Response};
use futures_util::StreamExt;
use serde::Serialize;
use serde::de::DeserializeOwned;
use utoipa::ToSchema;

use crate::app::App;
use crate::error::{ApiError, ApiResult};
use crate::infer::Usage;
use crate::json;

/// A JSON body, read whole. Content types are not insisted on.
pub(crate) struct Input<T>(pub(crate) T);

impl<T, S> FromRequest<S> for Input<T>
where
    T: DeserializeOwned,
    S: Send + Sync,
    App: FromRef<S>,
{
    type Rejection = ApiError;

    async fn from_request(request: Request, state: &S) -> Result<Self, ApiError> {
        Unread::from_request(request, state).await?.read().map(Input)
    }
}

/// A JSON body that is here as a whole, and may be long: it is to be read where
/// that holds up nobody.
pub(crate) struct Unread<T> {
    text: json::Text,
    /// Whether the collection that the request is about takes strings as ids.
    string_ids: bool,
    wanted: PhantomData<fn() -> T>,
}

impl<T: DeserializeOwned> Unread<T> {
    pub(crate) fn read(self) -> ApiResult<T> {
        let read = || json::read(&self.text);
        let read = if self.string_ids { cairn_index::with_labels(read) } else { read() };
        read.map_err(|error| ApiError::from_json(&error))
    }
}

impl<T, S> FromRequest<S> for Unread<T>
where
    S: Send + Sync,
    App: FromRef<S>,
{
    type Rejection = ApiError;

    async fn from_request(request: Request, state: &S) -> Result<Self, ApiError> {
        let app = App::from_ref(state);
        let (mut parts, body) = request.into_parts();
        let text = read(body, app.options.max_body_bytes).await?;
        let string_ids = takes_string_ids(&app, &mut parts).await;
        Ok(Self { text, string_ids, wanted: PhantomData })
    }
}

/// Whether the collection that the path names takes strings as ids.
async fn takes_string_ids(app: &App, parts: &mut Parts) -> bool {
    let Ok(params) = RawPathParams::from_request_parts(parts, &()).await else { return false };
    let named = params.iter().find(|(key, _)| *key == "collection");
    let collection = named.and_then(|(_, name)| app.engine.database().collection(name).ok());
    collection.is_some_and(|collection| collection.takes_string_ids())
}

/// The query parameters of a request.
pub(crate) struct Params<T>(pub(crate) T);

impl<T: DeserializeOwned, S: Send + Sync> FromRequestParts<S> for Params<T> {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, ApiError> {
        match Query::<T>::from_request_parts(parts, state).await {
            Ok(Query(params)) => Ok(Self(params)),
            Err(error) => {
                let text = format!("Deserialize error in query parameters: {}", error.body_text());
                Err(ApiError::new(StatusCode::BAD_REQUEST, text))
            }
        }
    }
}

/// What the path of a request says, with an error in the usual shape.
pub(crate) struct At<T>(pub(crate) T);

impl<T: DeserializeOwned + Send, S: Send + Sync> FromRequestParts<S> for At<T> {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, ApiError> {
        match Path::<T>::from_request_parts(parts, state).await {
            Ok(Path(value)) => Ok(Self(value)),
            Err(error) => {
                let text = format!("Deserialize error in path parameters: {}", error.body_text());
                Err(ApiError::new(StatusCode::BAD_REQUEST, text))
            }
        }
    }
}

/// A body over the limit is read on for a while before it is refused: a client
/// that is still sending would otherwise see a broken connection, not the
/// answer.
const READ_ON_FACTOR: usize = 8;

async fn read(body: Body, limit: usize) -> Result<json::Text, ApiError> {
    let announced = body.size_hint().exact().and_then(|bytes| usize::try_from(bytes).ok());
    let mut stream = body.into_data_stream();
    // Whoever announces much gets the room for it when some has come.
    let room = announced.unwrap_or(0).min(limit);
    let mut collected = None;
    let mut total = 0usize;
    while let Some(chunk) = stream.next().await {
        let chunk =
            chunk.map_err(|error| ApiError::bad_request(format!("the body could not be read: {error}")))?;
        total += chunk.len();
        if total <= limit {
            if Some(chunk.len()) == announced {
                return Ok(json::Text::Whole(chunk));
            }
            collected.get_or_insert_with(|| Box::new(json::Collected::new(room))).push(&chunk);
        } else if total > limit.saturating_mul(READ_ON_FACTOR) {
            break;
        } else {
            collected = None;
        }
    }
    if total > limit {
        let text = format!(
            "Payload too large: the body is larger than {limit} bytes, send fewer points at once or raise server.max_body_bytes"
        );
        return Err(ApiError::new(StatusCode::PAYLOAD_TOO_LARGE, text));
    }
    Ok(collected.map_or_else(|| json::Text::Whole(Bytes::new()), json::Text::Collected))
}

/// When a request was taken up, for the `time` of its answer.
pub(crate) struct Started(Instant);

impl<S: Sync> FromRequestParts<S> for Started {
    type Rejection = std::convert::Infallible;

    async fn from_request_parts(_: &mut Parts, _: &S) -> Result<Self, Self::Rejection> {
        Ok(Self(Instant::now()))
    }
}

impl Started {
    /// Seconds since then.
    pub(crate) fn seconds(&self) -> f64 {
        self.0.elapsed().as_secs_f64()
    }

    /// The envelope of a success.
    pub(crate) fn reply<T>(&self, result: T) -> Reply<T> {
        Reply { result, status: "ok", time: self.0.elapsed().as_secs_f64(), usage: None }
    }
}

/// What every answer is wrapped in.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct Reply<T> {
    result: T,
    /// `ok`
    status: &'static str,
    /// Seconds the request took.
    time: f64,
    /// What models were given to do, if anything.
    #[serde(skip_serializing_if = "Option::is_none")]
    usage: Option<Usage>,
}

impl<T> Reply<T> {
    /// The same, with what models had to do.
    pub(crate) fn with(mut self, usage: Option<Usage>) -> Self {
        self.usage = usage;
        self
    }
}

impl<T: Serialize> IntoResponse for Reply<T> {
    fn into_response(self) -> Response {
        Json(self).into_response()
    }
}
