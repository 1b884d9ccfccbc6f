//! Version, health and metrics.

use axum::Json;
use axum::extract::State;
use axum::http::header;
use axum::response::{Html, IntoResponse, Response};
use serde_json::{Value, json};

use crate::app::App;
use crate::body::{Reply, Started};

// Existing clients compare this with their own version and warn when it is
// more than one minor away.
pub(crate) const COMPATIBLE_VERSION: &str = "1.19.0";

/// The version of the API that existing clients expect, and our own.
#[utoipa::path(get, path = "/", tag = "service", responses((status = 200, body = Object)))]
pub(crate) async fn version() -> Json<Value> {
    Json(json!({
        "title": "cairn - vector search engine",
        "version": COMPATIBLE_VERSION,
        "cairn": env!("CARGO_PKG_VERSION"),
    }))
}

/// The process is alive.
#[utoipa::path(get, path = "/healthz", tag = "service", responses((status = 200, body = String)))]
pub(crate) async fn healthz() -> &'static str {
    "healthz check passed"
}

/// The process is alive.
#[utoipa::path(get, path = "/livez", tag = "service", responses((status = 200, body = String)))]
pub(crate) async fn livez() -> &'static str {
    "healthz check passed"
}

/// Requests are served. After a disk failure this says that writes are not.
#[utoipa::path(get, path = "/readyz", tag = "service", responses((status = 200, body = String)))]
pub(crate) async fn readyz(State(app): State<App>) -> String {
    match app.engine.database().health().write_failure {
        None => "all shards are ready".to_owned(),
        Some(cause) => format!("all shards are ready for reading, writes are refused: {cause}"),
    }
}

/// Metrics in the Prometheus text format.
#[utoipa::path(get, path = "/metrics", tag = "service", responses((status = 200, body = String)))]
pub(crate) async fn metrics(State(app): State<App>) -> Response {
    app.jobs.measure();
    let text = app.metrics.render(&app.engine);
    ([(header::CONTENT_TYPE, "text/plain; version=0.0.4")], text).into_response()
}

/// The console: a page to search and ask from a browser.
#[utoipa::path(get, path = "/dashboard", tag = "service", responses((status = 200, body = String)))]
pub(crate) async fn dashboard() -> Html<&'static str> {
    Html(include_str!("../../../../clients/console/index.html"))
}

/// The description of the service, to browse.
#[utoipa::path(get, path = "/docs", tag = "service", responses((status = 200, body = String)))]
pub(crate) async fn docs() -> Html<&'static str> {
    Html(include_str!("../docs.html"))
}

/// What runs here and what it holds.
#[utoipa::path(
    get, path = "/telemetry", tag = "service",
    responses((status = 200, body = Reply<Object>), (status = "4XX"))
)]
pub(crate) async fn telemetry(State(app): State<App>, started: Started) -> Reply<Value> {
    let db = app.engine.database();
    let collections: Vec<Value> = { db.collections().into_iter() }
        .filter_map(|name| Some((db.collection(&name).ok()?.info(), name)))
        .map(|(info, name)| json!({ "id": name, "points_count": info.points, "segments_count": info.segments }))
        .collect();
    started.reply(json!({
        "id": app.id.to_string(),
        "app": {
            "name": "cairn",
            "version": COMPATIBLE_VERSION,
            "cairn": env!("CARGO_PKG_VERSION"),
            "startup": app.since.to_string(),
        },
        "collections": { "number_of_collections": collections.len(), "collections": collections },
        "cluster": { "enabled": false },
    }))
}

/// Advice about settings: none is given yet.
#[utoipa::path(
    get, path = "/issues", tag = "service",
    responses((status = 200, body = Reply<Object>), (status = "4XX"))
)]
pub(crate) async fn issues(started: Started) -> Reply<Value> {
    started.reply(json!({ "issues": [] }))
}

/// Forgets the advice.
#[utoipa::path(
    delete, path = "/issues", tag = "service",
    responses((status = 200, body = Reply<bool>), (status = "4XX"))
)]
pub(crate) async fn clear_issues(started: Started) -> Reply<bool> {
    started.reply(true)
}

/// The state of the cluster: there is none.
#[utoipa::path(
    get, path = "/cluster", tag = "service",
    responses((status = 200, body = Reply<Object>), (status = "4XX"))
)]
pub(crate) async fn cluster(started: Started) -> Reply<Value> {
    started.reply(json!({ "status": "disabled" }))
}
