//! Who asks, and what they may do.
//!
//! Every route but the probes asks for a key where one is set. What a request
//! needs follows from its route alone, in one place, `needs`; the handlers that
//! meet further collections in a body check those too.

mod access;
mod keys;
mod needs;
mod origin;

use axum::extract::{MatchedPath, Request};
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};

use crate::app::App;
use crate::error::ApiError;

pub(crate) use access::{Access, Level};
pub(crate) use keys::Keys;
pub(crate) use origin::{check as check_origin, cors};

use keys::{Identity, Refusal};
use needs::{Need, of};

/// Whether a request's key allows what it asks for; what else it allows goes
/// with the request.
pub(crate) async fn check(app: &App, request: &mut Request) -> Result<(), Response> {
    let need = need(request);
    if matches!(need, Need::Nothing) {
        return Ok(());
    }
    let given = given_key(request);
    let access = allowed(app, given.as_deref(), &need).await?;
    request.extensions_mut().insert(access);
    Ok(())
}

fn need(request: &Request) -> Need {
    let route = request.extensions().get::<MatchedPath>().map_or("", MatchedPath::as_str);
    of(request.method(), route, request.uri().path())
}

async fn allowed(app: &App, given: Option<&str>, need: &Need) -> Result<Access, Response> {
    let identity = app.keys.identify(given).map_err(|refusal| {
        let text = match refusal {
            Refusal::NoKey => "Must provide an API key or an Authorization bearer token",
            Refusal::WrongKey => "Invalid API key or JWT",
        };
        (StatusCode::UNAUTHORIZED, text).into_response()
    })?;
    let access = match identity {
        Identity::Key(access) => access,
        Identity::Token(claims) => {
            let (condition, access) = (claims.value_exists, claims.access);
            if let Some(condition) = condition {
                let there = app.read(move |engine| condition.holds(engine.database())).await;
                if !there.unwrap_or(false) {
                    return Err((StatusCode::UNAUTHORIZED, "Invalid API key or JWT").into_response());
                }
            }
            access
        }
    };
    permitted(app, &access, need).map_err(IntoResponse::into_response)?;
    Ok(access)
}

fn permitted(app: &App, access: &Access, need: &Need) -> Result<(), ApiError> {
    match need {
        Need::Nothing | Need::AnyKey => Ok(()),
        Need::Everywhere(level) => access.check_global(*level),
        Need::Collection(name, level) => match access.check(name, *level) {
            Ok(()) => Ok(()),
            // An alias is as good as the collection it means.
            Err(refusal) => match app.engine.database().aliases().get(name) {
                Some(collection) => access.check(collection, *level),
                None => Err(refusal),
            },
        },
    }
}

fn given_key(request: &Request) -> Option<String> {
    let text = |name: &str| request.headers().get(name).and_then(|value| value.to_str().ok());
    let bearer = text(header::AUTHORIZATION.as_str())
        .and_then(|value| value.strip_prefix("Bearer ").or_else(|| value.strip_prefix("bearer ")));
    text("api-key").or(bearer).map(|key| key.trim().to_owned())
}

/// Whether a request changes something.
pub(crate) fn writes(request: &Request) -> bool {
    !matches!(
        need(request),
        Need::Nothing | Need::AnyKey | Need::Everywhere(Level::Read) | Need::Collection(_, Level::Read)
    )
}
