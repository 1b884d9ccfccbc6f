//! From where the service may be used: by which web pages, under which names.
//!
//! A page of another site can send requests to a server on the visitor's own
//! machine, and with a name that changes its address it can read the answers
//! too. So an origin must be of this machine or named in the settings, and
//! without a key so must the name that the service is called by.

use std::net::IpAddr;

use axum::extract::Request;
use axum::http::{HeaderValue, Method, header};
use tower_http::cors::{AllowHeaders, AllowMethods, AllowOrigin, CorsLayer};

use crate::app::App;
use crate::error::{ApiError, ApiResult};
use crate::options::ServerOptions;

/// Answers browsers that ask whether a page may use the service.
pub(crate) fn cors(options: &ServerOptions) -> CorsLayer {
    let origins = options.cors_origins.clone();
    CorsLayer::new()
        .allow_origin(AllowOrigin::predicate(move |origin, _| allows(&origins, origin)))
        .allow_methods(AllowMethods::mirror_request())
        .allow_headers(AllowHeaders::mirror_request())
        .expose_headers([header::RETRY_AFTER, header::HeaderName::from_static("x-request-id")])
}

/// Turns away pages and names that are not allowed.
pub(crate) fn check(app: &App, request: &Request) -> ApiResult<()> {
    let host = host(request);
    if let Some(origin) = request.headers().get(header::ORIGIN)
        && request.method() != Method::OPTIONS
        && !allows(&app.options.cors_origins, origin)
        && !is_same(origin, host)
    {
        return Err(ApiError::forbidden(
            "this web page may not use the service, add its origin to server.cors_origins",
        ));
    }
    if !names(&app.options, app.keys.are_set(), host) {
        return Err(ApiError::forbidden(
            "the service is not known by this name, add it to server.allowed_hosts",
        ));
    }
    Ok(())
}

fn allows(origins: &[String], origin: &HeaderValue) -> bool {
    let Ok(origin) = origin.to_str() else { return false };
    let listed = |allowed: &String| allowed == "*" || allowed.eq_ignore_ascii_case(origin);
    let host = origin.split_once("://").map(|(_, host)| host);
    origins.iter().any(listed) || host.is_some_and(|host| is_here(without_port(host)))
}

fn is_same(origin: &HeaderValue, host: Option<&str>) -> bool {
    let origin = origin.to_str().ok().and_then(|origin| origin.split_once("://"));
    origin.is_some_and(|(_, origin)| Some(origin) == host)
}

/// The name and port the request was sent to.
fn host(request: &Request) -> Option<&str> {
    let header = request.headers().get(header::HOST).and_then(|host| host.to_str().ok());
    header.or_else(|| request.uri().authority().map(axum::http::uri::Authority::as_str))
}

fn names(options: &ServerOptions, has_key: bool, host: Option<&str>) -> bool {
    // Nothing that a browser sends is without it.
    let Some(host) = host.map(without_port) else { return true };
    if is_here(host) {
        return true;
    }
    if options.allowed_hosts.is_empty() {
        return has_key
            || options.open_to_all_without_key
            || host.trim_matches(['[', ']']).parse::<IpAddr>().is_ok();
    }
    options.allowed_hosts.iter().any(|allowed| allowed == "*" || allowed.eq_ignore_ascii_case(host))
}

fn without_port(host: &str) -> &str {
    match host.rsplit_once(':') {
        Some((name, port)) if port.bytes().all(|digit| digit.is_ascii_digit()) => name,
        _ => host,
    }
}

fn is_here(host: &str) -> bool {
    let address = host.trim_matches(['[', ']']).parse::<IpAddr>();
    host.eq_ignore_ascii_case("localhost") || address.is_ok_and(|address| address.is_loopback())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pages_of_this_machine_and_listed_ones_are_allowed() {
        let allows = |listed: &[&str], origin: &str| {
            let listed: Vec<String> = listed.iter().map(|one| (*one).to_owned()).collect();
            allows(&listed, &HeaderValue::from_str(origin).unwrap())
        };
        assert!(allows(&[], "http://localhost:3000"));
        assert!(allows(&[], "http://127.0.0.1"));
        assert!(!allows(&[], "https://example.org"));
        assert!(!allows(&[], "http://localhost.example.org"));
        assert!(!allows(&[], "null"));
        assert!(allows(&["https://example.org"], "https://example.org"));
        assert!(allows(&["*"], "https://example.org"));
    }

    #[test]
    fn without_a_key_the_service_has_no_foreign_name() {
        let open = ServerOptions::default();
        for host in ["localhost:6333", "127.0.0.1", "[::1]:6333", "192.168.1.7:6333"] {
            assert!(names(&open, false, Some(host)), "{host}");
        }
        assert!(!names(&open, false, Some("rebound.example.org:6333")));
        assert!(names(&open, true, Some("vectors.example.org")));
        let named = ServerOptions { allowed_hosts: vec!["vectors.example.org".to_owned()], ..open };
        assert!(names(&named, false, Some("vectors.example.org:6333")));
        assert!(!names(&named, true, Some("other.example.org")));
    }
}
