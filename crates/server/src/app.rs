//! The service: its state, its routes and the layers around them.

use std::sync::Arc;
use std::time::Duration;

use axum::extract::{DefaultBodyLimit, MatchedPath, Request, State};
use axum::http::{HeaderName, Method, StatusCode};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use axum::{Json, Router};
use cairn_rag::Engine;
use tokio::sync::Semaphore;
use tower::ServiceBuilder;
use tower_http::catch_panic::CatchPanicLayer;
use tower_http::compression::CompressionLayer;
use tower_http::request_id::{MakeRequestUuid, PropagateRequestIdLayer, RequestId, SetRequestIdLayer};
use tower_http::trace::TraceLayer;
use utoipa::OpenApi;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use crate::error::{ApiError, ApiResult};
use crate::metrics::Metrics;
use crate::options::ServerOptions;
use crate::routes;

/// What every handler can reach.
#[derive(Clone)]
pub(crate) struct App {
    pub(crate) engine: Arc<Engine>,
    pub(crate) options: Arc<ServerOptions>,
    pub(crate) metrics: Metrics,
    permits: Arc<Semaphore>,
}

impl App {
    pub(crate) fn new(engine: Arc<Engine>, options: ServerOptions) -> Self {
        let permits = Arc::new(Semaphore::new(options.max_concurrent_requests));
        Self { engine, options: Arc::new(options), metrics: Metrics::install(), permits }
    }

    /// Runs work that computes or waits for the disk away from the listener.
    pub(crate) async fn work<T, E>(
        &self,
        work: impl FnOnce(&Engine) -> Result<T, E> + Send + 'static,
    ) -> ApiResult<T>
    where
        T: Send + 'static,
        E: Into<ApiError> + Send + 'static,
    {
        let engine = self.engine.clone();
        match tokio::task::spawn_blocking(move || work(&engine)).await {
            Ok(result) => result.map_err(Into::into),
            Err(error) => Err(ApiError::internal(error)),
        }
    }
}

#[derive(OpenApi)]
#[openapi(
    info(
        title = "Cairn",
        description = "Vector search and cited answers. Point endpoints are compatible with the Qdrant API.",
        license(name = "Apache-2.0", identifier = "Apache-2.0")
    ),
    tags(
        (name = "text", description = "Documents in, passages and cited answers out"),
        (name = "collections", description = "Collections of points"),
        (name = "points", description = "Points: vectors with a payload"),
        (name = "openai", description = "Endpoints in the OpenAI shape"),
        (name = "service", description = "Health and metrics")
    )
)]
struct Doc;

fn documented() -> (Router<App>, utoipa::openapi::OpenApi) {
    OpenApiRouter::with_openapi(Doc::openapi())
        .routes(routes!(routes::service::version))
        .routes(routes!(routes::service::healthz))
        .routes(routes!(routes::service::livez))
        .routes(routes!(routes::service::readyz))
        .routes(routes!(routes::service::metrics))
        .routes(routes!(routes::service::dashboard))
        .routes(routes!(routes::collections::list))
        .routes(routes!(routes::collections::get, routes::collections::create, routes::collections::delete))
        .routes(routes!(routes::collections::exists))
        .routes(routes!(routes::points::upsert, routes::points::retrieve))
        .routes(routes!(routes::points::get))
        .routes(routes!(routes::points::delete))
        .routes(routes!(routes::points::scroll))
        .routes(routes!(routes::points::count))
        .routes(routes!(routes::points::query))
        .routes(routes!(routes::text::add))
        .routes(routes!(routes::text::delete))
        .routes(routes!(routes::text::search))
        .routes(routes!(routes::text::ask))
        .routes(routes!(routes::openai::embeddings))
        .routes(routes!(routes::openai::models))
        .split_for_parts()
}

/// The OpenAPI description of the service.
pub fn openapi() -> utoipa::openapi::OpenApi {
    documented().1
}

pub(crate) fn router(app: App) -> Router {
    let (router, description) = documented();
    let description = Arc::new(description);
    let served = move || async move { Json((*description).clone()) };
    let request_id = HeaderName::from_static("x-request-id");
    let layers = ServiceBuilder::new()
        .layer(SetRequestIdLayer::new(request_id.clone(), MakeRequestUuid))
        .layer(TraceLayer::new_for_http().make_span_with(span).on_response(log_response))
        .layer(PropagateRequestIdLayer::new(request_id))
        .layer(CatchPanicLayer::custom(answer_panic))
        .layer(CompressionLayer::new())
        .layer(middleware::from_fn(measured))
        .layer(middleware::from_fn_with_state(app.clone(), admitted))
        // Bodies are bounded where they are read; see `body`.
        .layer(DefaultBodyLimit::disable());
    router
        .route("/openapi.json", axum::routing::get(served))
        .fallback(no_route)
        .method_not_allowed_fallback(no_method)
        .layer(layers)
        .with_state(app)
}

async fn no_route(request: Request) -> ApiError {
    let text = format!("there is no {} {}, see /openapi.json", request.method(), request.uri().path());
    ApiError::not_found(text)
}

async fn no_method(method: Method) -> ApiError {
    let text = format!("this address does not take {method}, see /openapi.json");
    ApiError::new(StatusCode::METHOD_NOT_ALLOWED, text)
}

fn span(request: &Request) -> tracing::Span {
    let id = request.extensions().get::<RequestId>().and_then(|id| id.header_value().to_str().ok());
    tracing::info_span!(
        "request",
        id = id.unwrap_or_default(),
        method = %request.method(),
        path = request.uri().path(),
    )
}

fn log_response<B>(response: &axum::http::Response<B>, latency: Duration, _: &tracing::Span) {
    tracing::info!(status = response.status().as_u16(), ms = latency.as_secs_f64() * 1e3, "answered");
}

// The panic's own text was logged by the hook; a client gets none of it.
fn answer_panic(_: Box<dyn std::any::Any + Send>) -> Response {
    ApiError::internal("the request hit a bug, see the server's log").into_response()
}

/// Counts and times requests by route.
async fn measured(path: Option<MatchedPath>, request: Request, next: Next) -> Response {
    let method = request.method().clone();
    let route = path.map_or_else(|| "other".to_owned(), |path| path.as_str().to_owned());
    let started = std::time::Instant::now();
    let response = next.run(request).await;
    Metrics::request(&method, route, response.status(), started.elapsed());
    response
}

/// Turns requests away when enough are being worked on, and bounds the time of
/// those let in; probes always pass.
async fn admitted(State(app): State<App>, request: Request, next: Next) -> Response {
    if matches!(request.uri().path(), "/healthz" | "/livez" | "/readyz" | "/metrics") {
        return next.run(request).await;
    }
    match app.permits.clone().try_acquire_owned() {
        Ok(_permit) => {
            let limit = Duration::from_millis(app.options.request_timeout_ms);
            tokio::time::timeout(limit, next.run(request)).await.unwrap_or_else(|_| {
                let text =
                    "Timeout: the request took longer than server.request_timeout_ms, ask for less at once";
                ApiError::new(StatusCode::REQUEST_TIMEOUT, text).into_response()
            })
        }
        Err(_) => {
            let text =
                "Too many requests at once, try again in a second or raise server.max_concurrent_requests";
            ApiError::new(StatusCode::TOO_MANY_REQUESTS, text).into_response()
        }
    }
}
