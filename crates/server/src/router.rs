//! The routes and the layers around them.

use std::sync::Arc;

use axum::extract::{DefaultBodyLimit, Request};
use axum::http::{Method, StatusCode};
use axum::middleware;
use axum::routing::{any, get, post};
use axum::{Json, Router};
use tower::ServiceBuilder;
use tower_http::compression::CompressionLayer;
use tower_http::compression::predicate::{NotForContentType, Predicate, SizeAbove};
use utoipa::OpenApi;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use crate::app::App;
use crate::auth;
use crate::error::ApiError;
use crate::layers;
use crate::routes;

#[derive(OpenApi)]
#[openapi(
    info(
        title = "Cairn",
        description = "Vector search and cited answers. Point endpoints are compatible with the Qdrant API.",
        license(name = "Apache-2.0", identifier = "Apache-2.0")
    ),
    tags(
        (name = "text", description = "Documents in, passages and cited answers out"),
        (name = "jobs", description = "Uploads that nobody waits for"),
        (name = "collections", description = "Collections of points"),
        (name = "aliases", description = "Other names for collections"),
        (name = "points", description = "Points: vectors with a payload"),
        (name = "mcp", description = "The Model Context Protocol"),
        (name = "snapshots", description = "Copies of a collection at one moment"),
        (name = "openai", description = "Endpoints in the OpenAI shape"),
        (name = "tei", description = "Endpoints of text-embeddings-inference"),
        (name = "rerank", description = "Reranking and embeddings in the shapes of Cohere and Jina"),
        (name = "service", description = "Health and metrics")
    )
)]
struct Doc;

fn documented() -> (Router<App>, utoipa::openapi::OpenApi) {
    OpenApiRouter::with_openapi(Doc::openapi())
        .merge(service())
        .merge(collections())
        .merge(points())
        .merge(queries())
        .merge(snapshots())
        .merge(texts())
        .merge(models())
        .split_for_parts()
}

fn service() -> OpenApiRouter<App> {
    use routes::service as at;
    OpenApiRouter::new()
        .routes(routes!(at::version))
        .routes(routes!(at::healthz))
        .routes(routes!(at::livez))
        .routes(routes!(at::readyz))
        .routes(routes!(at::metrics))
        .routes(routes!(at::dashboard))
        .routes(routes!(at::docs))
        .routes(routes!(at::telemetry))
        .routes(routes!(at::issues, at::clear_issues))
        .routes(routes!(at::cluster))
}

fn collections() -> OpenApiRouter<App> {
    use routes::{aliases, collections as at};
    OpenApiRouter::new()
        .routes(routes!(at::list))
        .routes(routes!(at::get, at::create, at::update, at::delete))
        .routes(routes!(at::exists))
        .routes(routes!(at::add_vector, at::drop_vector))
        .routes(routes!(at::create_index))
        .routes(routes!(at::drop_index))
        .routes(routes!(at::optimizations))
        .routes(routes!(at::cluster))
        .routes(routes!(at::shards))
        .routes(routes!(aliases::change))
        .routes(routes!(aliases::list))
        .routes(routes!(aliases::of_collection))
}

fn points() -> OpenApiRouter<App> {
    use routes::{points as at, writes};
    OpenApiRouter::new()
        .routes(routes!(writes::upsert, at::retrieve))
        .routes(routes!(at::get))
        .routes(routes!(writes::delete))
        .routes(routes!(writes::update_vectors))
        .routes(routes!(writes::delete_vectors))
        .routes(routes!(writes::set_payload, writes::overwrite_payload))
        .routes(routes!(writes::delete_payload))
        .routes(routes!(writes::clear_payload))
        .routes(routes!(writes::batch))
        .routes(routes!(at::scroll))
        .routes(routes!(at::count))
        .routes(routes!(at::facet))
        .routes(routes!(at::matrix_pairs))
        .routes(routes!(at::matrix_offsets))
}

fn queries() -> OpenApiRouter<App> {
    use routes::query as at;
    OpenApiRouter::new()
        .routes(routes!(at::query))
        .routes(routes!(at::query_batch))
        .routes(routes!(at::query_groups))
        .routes(routes!(at::search))
        .routes(routes!(at::search_batch))
        .routes(routes!(at::search_groups))
        .routes(routes!(at::recommend))
        .routes(routes!(at::recommend_batch))
        .routes(routes!(at::recommend_groups))
        .routes(routes!(at::discover))
        .routes(routes!(at::discover_batch))
        .routes(routes!(routes::explain::explain))
}

fn snapshots() -> OpenApiRouter<App> {
    use routes::snapshots as at;
    OpenApiRouter::new()
        .routes(routes!(at::create, at::list))
        .routes(routes!(at::recover))
        .routes(routes!(at::upload))
        .routes(routes!(at::download, at::delete))
        .routes(routes!(at::create_whole, at::list_whole))
        .routes(routes!(at::download_whole, at::delete_whole))
        // What comes in goes to a file, piece by piece.
        .layer(DefaultBodyLimit::disable())
}

fn texts() -> OpenApiRouter<App> {
    use routes::{answers, conversations, evaluation, jobs, text, uploads};
    OpenApiRouter::new()
        .routes(routes!(text::add))
        .routes(routes!(text::delete))
        .merge(OpenApiRouter::new().routes(routes!(uploads::add_files)).layer(DefaultBodyLimit::disable()))
        .routes(routes!(jobs::list))
        .routes(routes!(jobs::get, jobs::cancel))
        .routes(routes!(text::preview))
        .routes(routes!(answers::search))
        .routes(routes!(answers::ask))
        .routes(routes!(answers::replay))
        .routes(routes!(answers::set_retrieval))
        .routes(routes!(conversations::start))
        .routes(routes!(conversations::get, conversations::delete))
        .routes(routes!(evaluation::evaluate))
        .routes(routes!(routes::chat::completions))
        .merge(stores())
        .routes(routes!(routes::mcp::post))
}

/// Files, vector stores and responses in the OpenAI shape.
fn stores() -> OpenApiRouter<App> {
    use routes::{files, responses, stores as at};
    OpenApiRouter::new()
        .merge(
            OpenApiRouter::new()
                .routes(routes!(files::upload, files::list))
                // Counted where the file is read.
                .layer(DefaultBodyLimit::disable()),
        )
        .routes(routes!(files::get, files::delete))
        .routes(routes!(files::content))
        .routes(routes!(at::create, at::list))
        .routes(routes!(at::get, at::change, at::delete))
        .routes(routes!(at::search::search))
        .routes(routes!(at::attached::attach, at::attached::list))
        .routes(routes!(at::attached::attached, at::attached::change_attached, at::attached::detach))
        .routes(routes!(at::attached::content))
        .routes(routes!(at::batches::create))
        .routes(routes!(at::batches::get))
        .routes(routes!(at::batches::cancel))
        .routes(routes!(at::batches::list))
        .routes(routes!(responses::create))
        .routes(routes!(responses::get, responses::delete))
        .routes(routes!(responses::input_items))
}

fn models() -> OpenApiRouter<App> {
    use routes::{cohere, openai, rerank, tei};
    OpenApiRouter::new()
        .routes(routes!(openai::embeddings))
        .routes(routes!(openai::embeddings_of_tei))
        .routes(routes!(openai::models))
        .routes(routes!(openai::model))
        .routes(routes!(tei::embed::embed))
        .routes(routes!(tei::embed::embed_all))
        .routes(routes!(tei::sparse::embed_sparse))
        .routes(routes!(tei::embed::similarity))
        .routes(routes!(tei::predict::predict))
        .routes(routes!(tei::tokens::tokenize))
        .routes(routes!(tei::tokens::decode))
        .routes(routes!(tei::info::info))
        .routes(routes!(tei::info::health))
        .routes(routes!(cohere::embed))
        .routes(routes!(rerank::rerank))
        .routes(routes!(rerank::rerank_v1))
        .routes(routes!(rerank::rerank_v2))
}

/// What only a cluster can do, which this is not.
fn of_clusters() -> Router<App> {
    let refused = || any(routes::collections::no_cluster);
    Router::new()
        .route("/collections/{collection}/shards/delete", refused())
        .route("/cluster/recover", refused())
        .route("/cluster/peer/{peer}", refused())
        .route("/cluster/telemetry", refused())
}

/// The OpenAPI description of the service.
pub fn openapi() -> utoipa::openapi::OpenApi {
    documented().1
}

/// Shorter answers are not worth the time it takes to compress them.
const COMPRESSED_BYTES: u64 = 2048;

pub(crate) fn router(app: App) -> Router {
    let (router, description) = documented();
    let description = Arc::new(description);
    let served = move || async move { Json((*description).clone()) };
    let compressed = SizeAbove::new(COMPRESSED_BYTES)
        .and(NotForContentType::new("application/octet-stream"))
        .and(NotForContentType::new("text/event-stream"));
    let layers = ServiceBuilder::new()
        .layer(auth::cors(&app.options))
        .layer(CompressionLayer::new().compress_when(compressed))
        .layer(middleware::from_fn_with_state(app.clone(), layers::around));
    router
        .merge(of_clusters())
        // Where the client of the model hub sends texts to a server of its own.
        .route("/", post(routes::tei::embed::embed))
        .route("/v1/models/{organisation}/{model}", get(routes::openai::model_in_two))
        .route("/openapi.json", get(served))
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

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    /// Clients that are made from the description call operations by their names;
    /// those of two functions in different files were the same once.
    #[test]
    fn each_operation_has_a_name_of_its_own() {
        let description = serde_json::to_value(super::openapi()).unwrap();
        let mut named = BTreeMap::new();
        for (path, operations) in description["paths"].as_object().unwrap() {
            for (method, operation) in operations.as_object().unwrap() {
                let Some(name) = operation["operationId"].as_str() else { continue };
                let other = named.insert(name.to_owned(), format!("{method} {path}"));
                assert_eq!(other, None, "{method} {path} is called `{name}`, too");
            }
        }
        assert!(named.len() > 100);
    }

    /// Who reads the file sees what a change does to clients.
    #[test]
    fn the_description_in_the_repository_is_that_of_the_service() {
        let kept: serde_json::Value = serde_json::from_str(include_str!("../openapi.json")).unwrap();
        let served = serde_json::to_value(super::openapi()).unwrap();
        assert!(kept == served, "write it anew: cargo xtask openapi > crates/server/openapi.json");
    }
}
