//! What a route needs of whoever asks. A route that is not named here needs the
//! most, so that nothing new is open by mistake.

use axum::http::Method;

use super::access::Level;

/// What a request needs.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Need {
    /// Probes, the console and the description of the service are for all.
    Nothing,
    /// Any key: the handler shows each its part.
    AnyKey,
    Everywhere(Level),
    Collection(String, Level),
}

const OPEN: [&str; 8] =
    ["/", "/health", "/healthz", "/livez", "/readyz", "/dashboard", "/docs", "/openapi.json"];

/// What is read with a POST, by the end of the route.
const READS: [&str; 24] = [
    "/points",
    "/points/scroll",
    "/points/count",
    "/points/query",
    "/points/query/batch",
    "/points/query/groups",
    "/points/search",
    "/points/search/batch",
    "/points/search/groups",
    "/points/search/matrix/pairs",
    "/points/search/matrix/offsets",
    "/points/recommend",
    "/points/recommend/batch",
    "/points/recommend/groups",
    "/points/discover",
    "/points/discover/batch",
    "/points/explain",
    "/facet",
    "/documents/preview",
    "/search",
    "/ask",
    "/replay",
    "/conversations",
    "/eval",
];

/// What computes with a model and touches no collection.
const MODELS: [&str; 18] = [
    "/",
    "/v1/embeddings",
    "/embeddings",
    "/v1/models",
    "/v1/models/{id}",
    "/v1/models/{organisation}/{model}",
    "/embed",
    "/embed_all",
    "/embed_sparse",
    "/similarity",
    "/predict",
    "/tokenize",
    "/decode",
    "/info",
    "/rerank",
    "/v1/rerank",
    "/v2/rerank",
    "/v2/embed",
];

/// What is as good as making a collection anew.
const MANAGED: [&str; 3] = ["", "/snapshots/recover", "/snapshots/upload"];

/// What a request of this method on this route needs; `path` is its own.
pub(crate) fn of(method: &Method, route: &str, path: &str) -> Need {
    let reads = *method == Method::GET || *method == Method::HEAD;
    if *method == Method::OPTIONS || (reads && OPEN.contains(&route)) {
        return Need::Nothing;
    }
    if let Some(end) = route.strip_prefix("/collections/{collection}") {
        let level = if reads || (*method == Method::POST && READS.contains(&end)) {
            Level::Read
        } else if MANAGED.contains(&end) {
            Level::Manage
        } else {
            Level::Write
        };
        return Need::Collection(collection(path), level);
    }
    // Vector stores, responses and jobs are of a collection, which the handler checks.
    let checked = ["/v1/vector_stores", "/v1/responses", "/jobs"];
    if checked.iter().any(|start| route.starts_with(start)) {
        return Need::AnyKey;
    }
    match route {
        // There is no such route, which any key may know.
        "" | "/collections" | "/aliases" if reads => Need::AnyKey,
        "" => Need::AnyKey,
        "/v1/chat/completions" | "/mcp" => Need::AnyKey,
        route if MODELS.contains(&route) => Need::AnyKey,
        "/collections/aliases" => Need::Everywhere(Level::Manage),
        "/v1/files" | "/v1/files/{file}" if !reads => Need::Everywhere(Level::Write),
        _ if reads => Need::Everywhere(Level::Read),
        _ => Need::Everywhere(Level::Manage),
    }
}

/// The collection that a path names.
fn collection(path: &str) -> String {
    let name = path.split('/').nth(2).unwrap_or_default();
    percent_encoding::percent_decode_str(name).decode_utf8_lossy().into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_route_needs_what_it_does() {
        let of = |method: Method, route: &str| of(&method, route, "/collections/a%20b/points");
        let level = |level| Need::Collection("a b".to_owned(), level);
        assert_eq!(of(Method::GET, "/readyz"), Need::Nothing);
        assert_eq!(of(Method::POST, "/readyz"), Need::Everywhere(Level::Manage));
        assert_eq!(of(Method::GET, "/metrics"), Need::Everywhere(Level::Read));
        assert_eq!(of(Method::POST, "/collections/{collection}/points"), level(Level::Read));
        assert_eq!(of(Method::PUT, "/collections/{collection}/points"), level(Level::Write));
        assert_eq!(of(Method::POST, "/collections/{collection}/points/query"), level(Level::Read));
        assert_eq!(of(Method::DELETE, "/collections/{collection}"), level(Level::Manage));
        assert_eq!(of(Method::PUT, "/collections/{collection}/index"), level(Level::Write));
        assert_eq!(of(Method::POST, "/collections/aliases"), Need::Everywhere(Level::Manage));
        assert_eq!(of(Method::POST, "/rerank"), Need::AnyKey);
        assert_eq!(of(Method::DELETE, "/jobs/{job}"), Need::AnyKey);
        assert_eq!(of(Method::POST, "/something/new"), Need::Everywhere(Level::Manage));
    }
}
