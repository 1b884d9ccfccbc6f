//! Errors in the shape of TEI: `{error, error_type}`; flat ones of its OpenAI
//! route: `{message, code, type}`.

use axum::http::{Method, StatusCode};
use axum::response::{IntoResponse, Response};
use serde_json::json;

use crate::error::ApiError;

/// An error on its way to a client of TEI.
#[derive(Debug)]
pub(crate) struct TeiError {
    error: ApiError,
    kind: &'static str,
}

impl TeiError {
    pub(crate) fn validation(text: impl std::fmt::Display) -> Self {
        Self { error: ApiError::new(StatusCode::UNPROCESSABLE_ENTITY, text.to_string()), kind: "Validation" }
    }

    pub(crate) fn empty(text: impl std::fmt::Display) -> Self {
        Self { error: ApiError::new(StatusCode::BAD_REQUEST, text.to_string()), kind: "Empty" }
    }

    pub(crate) fn too_large(text: impl std::fmt::Display) -> Self {
        Self { error: ApiError::new(StatusCode::PAYLOAD_TOO_LARGE, text.to_string()), kind: "Validation" }
    }

    /// What the model cannot do.
    pub(crate) fn backend(text: impl std::fmt::Display) -> Self {
        Self { error: ApiError::new(StatusCode::FAILED_DEPENDENCY, text.to_string()), kind: "Backend" }
    }

    /// The error with the message in one more place, where clients of Cohere
    /// look for it.
    pub(crate) fn into_rerank_response(self) -> Response {
        let Self { error, kind } = self;
        let body = json!({ "message": error.text, "error": error.text, "error_type": kind });
        error.respond(body)
    }

    /// The error as TEI's OpenAI route has it.
    pub(crate) fn into_flat_response(self) -> Response {
        let Self { error, kind } = self;
        let body = json!({ "message": error.text, "code": error.status.as_u16(), "type": kind });
        error.respond(body)
    }
}

impl From<ApiError> for TeiError {
    fn from(mut error: ApiError) -> Self {
        let kind = match error.status {
            StatusCode::TOO_MANY_REQUESTS => "Overloaded",
            StatusCode::SERVICE_UNAVAILABLE => "Unhealthy",
            StatusCode::BAD_REQUEST => {
                // The type says it already.
                if let Some(text) = error.text.strip_prefix("Bad request: ") {
                    error.text = text.to_owned();
                }
                error.status = StatusCode::UNPROCESSABLE_ENTITY;
                if error.tokenizer { "Tokenizer" } else { "Validation" }
            }
            status if status.is_client_error() => "Validation",
            _ => {
                error.status = StatusCode::FAILED_DEPENDENCY;
                "Backend"
            }
        };
        Self { error, kind }
    }
}

impl From<cairn_rag::Error> for TeiError {
    fn from(error: cairn_rag::Error) -> Self {
        ApiError::from(error).into()
    }
}

impl IntoResponse for TeiError {
    fn into_response(self) -> Response {
        let Self { error, kind } = self;
        let body = json!({ "error": error.text, "error_type": kind });
        error.respond(body)
    }
}

/// Whether who asks so expects this shape, also of errors that come from before
/// the handler.
pub(crate) fn is_spoken_at(method: &Method, path: &str) -> bool {
    const PATHS: [&str; 12] = [
        "/",
        "/embed",
        "/embed_all",
        "/embed_sparse",
        "/similarity",
        "/rerank",
        "/v1/rerank",
        "/v2/rerank",
        "/v2/embed",
        "/predict",
        "/tokenize",
        "/decode",
    ];
    *method == Method::POST && PATHS.contains(&path)
}
