//! The HTTP service over an engine: points in the Qdrant shapes, documents and
//! cited answers, embeddings in the OpenAI shape.
//!
//! A handler parses, calls one verb of the engine and renders. Nothing is
//! decided here about ranking or storage; `error` alone maps errors to
//! statuses.

mod app;
mod auth;
mod body;
mod brief;
mod embedding;
mod error;
mod files;
#[doc(hidden)]
pub mod fuzzing;
mod incoming;
mod infer;
mod jobs;
mod json;
mod layers;
mod metrics;
mod options;
mod pool;
mod rates;
mod router;
mod routes;
mod stream;
mod strict;
mod wire;
mod writes;

use std::future::Future;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::ServiceExt;
use axum::extract::Request;
use axum::serve::ListenerExt;
use cairn_rag::Engine;
use tokio::net::TcpListener;
use tower::Layer;
use tower_http::normalize_path::NormalizePathLayer;

pub use options::{JobOptions, Secret, ServerOptions};
pub use router::openapi;

/// Takes the address, so that its failure is known before anything starts.
///
/// # Errors
/// When the address is in use or not ours, or can be reached from other
/// machines without there being a key.
pub async fn listen(options: &ServerOptions) -> std::io::Result<TcpListener> {
    let has_key = options.api_key.is_some() || options.read_only_api_key.is_some();
    if !options.host.is_loopback() && !has_key && !options.open_to_all_without_key {
        let text = format!(
            "{} can be reached from other machines and there is no key: set server.api_key, listen on \
             127.0.0.1, or set server.open_to_all_without_key",
            options.host
        );
        return Err(std::io::Error::new(std::io::ErrorKind::PermissionDenied, text));
    }
    TcpListener::bind(SocketAddr::new(options.host, options.port)).await
}

/// Answers the Model Context Protocol on standard input and output, until the
/// input ends.
///
/// # Errors
/// When the streams fail.
pub async fn serve_mcp_stdio(engine: Arc<Engine>, options: ServerOptions) -> std::io::Result<()> {
    routes::mcp::stdio(&app::App::new(engine, options)?).await
}

/// Serves until `shutdown` is ready, then lets open requests finish.
///
/// # Errors
/// When the listener fails.
pub async fn serve(
    listener: TcpListener,
    engine: Arc<Engine>,
    options: ServerOptions,
    shutdown: impl Future<Output = ()> + Send + 'static,
) -> std::io::Result<()> {
    let grace = Duration::from_millis(options.shutdown_timeout_ms);
    let app = app::App::new(engine, options)?;
    let upkeep = tokio::spawn(app.metrics.clone().kept_up());
    let worker = jobs::start(&app)?;
    let resumed = app.clone();
    tokio::task::spawn_blocking(move || routes::stores::resume(&resumed));
    let router = router::router(app.clone());
    let service = NormalizePathLayer::trim_trailing_slash().layer(router);
    let service = ServiceExt::<Request>::into_make_service(service);

    let (asked, mut was_asked) = tokio::sync::watch::channel(false);
    let stop = async move {
        shutdown.await;
        tracing::info!("shutting down, open requests may finish");
        let _ = asked.send(true);
    };
    // Answers in several pieces must not wait for the acknowledgement of the first.
    let listener = listener.tap_io(|stream| drop(stream.set_nodelay(true)));
    let serving = axum::serve(listener, service).with_graceful_shutdown(stop);
    let out_of_time = async move {
        // A closed channel means the server ended by itself.
        if was_asked.changed().await.is_err() {
            std::future::pending::<()>().await;
        }
        tokio::time::sleep(grace).await;
    };
    let served = tokio::select! {
        result = serving => result,
        () = out_of_time => {
            tracing::warn!("some requests did not finish in time");
            Ok(())
        }
    };
    upkeep.abort();
    app.jobs.stop();
    app.attaching.stop();
    let ended = tokio::task::spawn_blocking(move || worker.join());
    if tokio::time::timeout(grace, ended).await.is_err() {
        tracing::warn!("a job did not stop in time, it goes on at the next start");
    }
    served
}
