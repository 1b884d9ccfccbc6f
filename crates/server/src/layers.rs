//! What is done with every request: logged, counted, let in, bounded in time.

use std::time::{Duration, Instant};

use axum::extract::{MatchedPath, Request, State};
use axum::http::StatusCode;
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use tower_http::request_id::RequestId;

use crate::app::App;
use crate::error::ApiError;
use crate::metrics::Metrics;
use crate::strict::Strict;

pub(crate) fn span(request: &Request) -> tracing::Span {
    let id = request.extensions().get::<RequestId>().and_then(|id| id.header_value().to_str().ok());
    tracing::info_span!(
        "request",
        id = id.unwrap_or_default(),
        method = %request.method(),
        path = request.uri().path(),
    )
}

/// An answer that took longer is worth a line of the log.
const SLOW: Duration = Duration::from_secs(1);

pub(crate) fn log_response<B>(response: &axum::http::Response<B>, latency: Duration, _: &tracing::Span) {
    let (status, ms) = (response.status(), latency.as_secs_f64() * 1e3);
    // Thousands of good answers a second are what metrics are for.
    if status.is_success() && latency < SLOW {
        tracing::debug!(status = status.as_u16(), ms, "answered");
    } else {
        tracing::info!(status = status.as_u16(), ms, "answered");
    }
}

/// Counts and times requests by route.
pub(crate) async fn measured(path: Option<MatchedPath>, request: Request, next: Next) -> Response {
    let method = request.method().clone();
    let started = Instant::now();
    let response = next.run(request).await;
    let route = path.as_ref().map_or("other", MatchedPath::as_str);
    Metrics::request(&method, route.to_owned(), response.status(), started.elapsed());
    response
}

/// Turns requests away when enough are being worked on, and bounds the time of
/// those let in; probes always pass. What nobody waits for any more is not
/// begun.
pub(crate) async fn admitted(State(app): State<App>, request: Request, next: Next) -> Response {
    if matches!(request.uri().path(), "/healthz" | "/livez" | "/readyz" | "/metrics") {
        return next.run(request).await;
    }
    let Ok(_permit) = app.permits.clone().try_acquire_owned() else {
        return ApiError::overloaded("server.max_concurrent_requests").into_response();
    };
    let limit = match limits(&app, &request) {
        Ok(limit) => limit,
        Err(refusal) => return refusal.into_response(),
    };
    match tokio::time::timeout(limit, next.run(request)).await {
        Ok(response) => response,
        Err(_) => {
            let text = format!(
                "Timeout: the request took longer than {} ms, ask for less at once or raise \
                 `timeout` or server.request_timeout_ms",
                limit.as_millis()
            );
            ApiError::new(StatusCode::REQUEST_TIMEOUT, text).into_response()
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
