//! What is done with every request: named, logged, counted, let in, bounded in
//! time. It is one layer, because each costs every request a few allocations.

use std::panic::AssertUnwindSafe;
use std::time::{Duration, Instant};

use axum::extract::{MatchedPath, Request, State};
use axum::http::{HeaderName, HeaderValue, StatusCode};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use futures_util::FutureExt;
use tracing::Instrument;

use crate::app::App;
use crate::auth;
use crate::error::ApiError;
use crate::metrics::Metrics;
use crate::routes::openai::openai_error;
use crate::routes::tei::error as tei;
use crate::strict::Strict;

const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

/// Everything that every request goes through.
pub(crate) async fn around(State(app): State<App>, request: Request, next: Next) -> Response {
    let started = Instant::now();
    let method = Metrics::method(request.method());
    let route = request.extensions().get::<MatchedPath>().cloned();
    let id = request.headers().get(REQUEST_ID).cloned().unwrap_or_else(new_id);
    let uri = request.uri().clone();
    // A span writes down what it holds when it begins, whether anything is logged or not.
    let span = tracing::debug_span!("request", id = id.to_str().unwrap_or_default(), path = uri.path());

    let answer = AssertUnwindSafe(guarded(&app, request, next)).catch_unwind();
    let mut response = match answer.instrument(span.clone()).await {
        Ok(response) => response,
        // The panic's own text was logged by the hook; a client gets none of it.
        Err(_) => ApiError::internal("the request hit a bug, see the server's log").into_response(),
    };
    let took = started.elapsed();
    let about = About { id: id.to_str().unwrap_or_default(), method, path: uri.path() };
    span.in_scope(|| log(&about, response.status(), took));
    app.metrics.request(method, route.as_ref().map_or("other", MatchedPath::as_str), response.status(), took);
    response.headers_mut().insert(REQUEST_ID, id);
    response
}

/// Nobody has to be kept from guessing it.
fn new_id() -> HeaderValue {
    let id = uuid::Builder::from_random_bytes(fastrand::u128(..).to_ne_bytes()).into_uuid();
    HeaderValue::from_str(id.hyphenated().encode_lower(&mut uuid::Uuid::encode_buffer()))
        .expect("digits and hyphens can stand in a header")
}

/// An answer that took longer is worth a line of the log.
const SLOW: Duration = Duration::from_secs(1);

/// What a line of the log says of a request.
struct About<'a> {
    id: &'a str,
    method: &'static str,
    path: &'a str,
}

fn log(about: &About<'_>, status: StatusCode, took: Duration) {
    let (code, ms) = (status.as_u16(), took.as_secs_f64() * 1e3);
    let About { id, method, path } = about;
    // Thousands of good answers a second are what metrics are for.
    if status.is_server_error() {
        tracing::error!(id, method, path, status = code, ms, "answered");
    } else if status.is_success() && took < SLOW {
        tracing::debug!(method, status = code, ms, "answered");
    } else {
        tracing::info!(id, method, path, status = code, ms, "answered");
    }
}

async fn guarded(app: &App, mut request: Request, next: Next) -> Response {
    if let Err(refusal) = auth::check_origin(app, &request) {
        return refusal.into_response();
    }
    if let Err(refusal) = auth::check(app, &mut request).await {
        return refusal;
    }
    admitted(app, request, next).await
}

/// Turns requests away when enough are being worked on, and bounds the time of
/// those let in; probes always pass. What nobody waits for any more is not
/// begun, and ends soon if it was.
async fn admitted(app: &App, request: Request, next: Next) -> Response {
    if matches!(request.uri().path(), "/health" | "/healthz" | "/livez" | "/readyz" | "/metrics") {
        return next.run(request).await;
    }
    let shape = Shape::of(&request);
    let Ok(_permit) = app.permits.try_acquire() else {
        return shape.render(ApiError::overloaded("server.max_concurrent_requests"));
    };
    let limit = match limits(app, &request) {
        Ok(limit) => limit,
        Err(refusal) => return shape.render(refusal),
    };
    match tokio::time::timeout(limit, next.run(request)).await {
        Ok(response) => response,
        Err(_) => {
            let text = format!(
                "Timeout: the request took longer than {} ms, ask for less at once or raise \
                 `timeout` or server.request_timeout_ms",
                limit.as_millis()
            );
            shape.render(ApiError::new(StatusCode::REQUEST_TIMEOUT, text))
        }
    }
}

/// What an error looks like that comes before or instead of a handler's answer.
#[derive(Debug, Clone, Copy)]
enum Shape {
    Usual,
    Tei,
    OpenAi,
}

impl Shape {
    fn of(request: &Request) -> Shape {
        match request.uri().path() {
            path if tei::is_spoken_at(request.method(), path) => Shape::Tei,
            path if path.starts_with("/v1/") => Shape::OpenAi,
            _ => Shape::Usual,
        }
    }

    fn render(self, error: ApiError) -> Response {
        match self {
            Shape::Usual => error.into_response(),
            Shape::Tei => tei::TeiError::from(error).into_rerank_response(),
            Shape::OpenAi => openai_error(&error),
        }
    }
}

/// The time of a request: what the server gives, or what it asks for if that is
/// less. Strict mode may forbid it altogether for now.
fn limits(app: &App, request: &Request) -> Result<Duration, ApiError> {
    let most = Duration::from_millis(app.options.request_timeout_ms);
    let asked = timeout(request.uri().query().unwrap_or_default())?;
    let path = request.uri().path();
    if let Some(name) = path.strip_prefix("/collections/").and_then(|rest| rest.split('/').next())
        && let Ok(collection) = app.engine.database().collection(name)
    {
        let strict = Strict::of(&collection);
        strict.check_timeout(asked)?;
        let (reads, writes) = strict.rates();
        if path.contains("/points") && (reads.is_some() || writes.is_some()) {
            let writing = crate::auth::writes(request);
            if let Some(rate) = if writing { writes } else { reads } {
                let taken = app.rates.lock().take(collection.name(), writing, rate, Instant::now());
                taken.map_err(|wait| ApiError::limited(writing, wait))?;
            }
        }
    }
    Ok(asked.map_or(most, |seconds| most.min(Duration::from_secs(seconds))))
}

fn timeout(query: &str) -> Result<Option<u64>, ApiError> {
    let Some(given) = query.split('&').find_map(|pair| pair.strip_prefix("timeout=")) else {
        return Ok(None);
    };
    match given.parse() {
        Ok(0) => {
            let text =
                "Validation error in query parameters: [timeout: value 0 invalid, must be 1 or larger]";
            Err(ApiError::new(StatusCode::UNPROCESSABLE_ENTITY, text))
        }
        Ok(seconds) => Ok(Some(seconds)),
        Err(_) => {
            let text = format!(
                "Deserialize error in query parameters: timeout: `{given}` is not a number of seconds"
            );
            Err(ApiError::new(StatusCode::BAD_REQUEST, text))
        }
    }
}
