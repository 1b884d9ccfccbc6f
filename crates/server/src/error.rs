//! The one place where errors become HTTP statuses.
//!
//! Texts follow what existing clients match on; the mend is part of the text.

use axum::Json;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde_json::json;

/// What a field condition without a test is answered.
const NO_CONDITION: &str = "At least one field condition must be specified";

/// An error on its way to the client.
#[derive(Debug, Clone)]
pub(crate) struct ApiError {
    pub(crate) status: StatusCode,
    pub(crate) text: String,
    /// Whether it is about tokens, which some clients tell apart.
    pub(crate) tokenizer: bool,
    /// Seconds after which it may work.
    retry_after: u64,
}

pub(crate) type ApiResult<T> = Result<T, ApiError>;

impl ApiError {
    pub(crate) fn new(status: StatusCode, text: impl Into<String>) -> Self {
        Self { status, text: text.into(), tokenizer: false, retry_after: 1 }
    }

    pub(crate) fn bad_request(text: impl std::fmt::Display) -> Self {
        Self::new(StatusCode::BAD_REQUEST, format!("Bad request: {text}"))
    }

    pub(crate) fn wrong_input(text: impl std::fmt::Display) -> Self {
        Self::new(StatusCode::BAD_REQUEST, format!("Wrong input: {text}"))
    }

    pub(crate) fn format(text: impl std::fmt::Display) -> Self {
        Self::new(StatusCode::BAD_REQUEST, format!("Format error in JSON body: {text}"))
    }

    /// Why a body could not be read. Conditions are checked while they are
    /// read, but one that tests nothing is a matter of validation to clients.
    pub(crate) fn from_json(error: &serde_json::Error) -> Self {
        let text = error.to_string();
        match text.strip_prefix("invalid filter: ") {
            Some(text) if text.starts_with(NO_CONDITION) => Self::validation(NO_CONDITION),
            Some(text) => Self::format(text),
            None => Self::format(text),
        }
    }

    pub(crate) fn validation(text: impl std::fmt::Display) -> Self {
        let text = format!("Validation error in JSON body: [{text}]");
        Self::new(StatusCode::UNPROCESSABLE_ENTITY, text)
    }

    pub(crate) fn forbidden(text: impl std::fmt::Display) -> Self {
        Self::new(StatusCode::FORBIDDEN, format!("Forbidden: {text}"))
    }

    pub(crate) fn not_found(text: impl std::fmt::Display) -> Self {
        Self::new(StatusCode::NOT_FOUND, format!("Not found: {text}"))
    }

    /// Too much is asked at once; `setting` says how much may be.
    pub(crate) fn overloaded(setting: &str) -> Self {
        let text = format!("Too many requests at once, try again in a second or raise {setting}");
        Self::new(StatusCode::TOO_MANY_REQUESTS, text)
    }

    /// So much waits that no more is taken; `setting` says how much may, `wait` is
    /// in seconds.
    pub(crate) fn full(setting: &str, wait: f64) -> Self {
        let retry_after = wait.ceil().max(1.0) as u64;
        let text =
            format!("Too many uploads wait for their turn, try again in {retry_after} s or raise {setting}");
        Self { retry_after, ..Self::new(StatusCode::TOO_MANY_REQUESTS, text) }
    }

    /// The disk cannot take what is to be kept.
    pub(crate) fn not_kept(error: &std::io::Error) -> Self {
        match error.kind() {
            std::io::ErrorKind::StorageFull | std::io::ErrorKind::QuotaExceeded => Self::new(
                StatusCode::INSUFFICIENT_STORAGE,
                format!("the disk is full, free some of it: {error}"),
            ),
            _ => Self::internal(format!("it cannot be kept: {error}")),
        }
    }

    /// Strict mode allows no more for now; `wait` is in seconds.
    pub(crate) fn limited(writing: bool, wait: f64) -> Self {
        let what = if writing { "Write" } else { "Read" };
        let text = format!("Rate limiting exceeded: {what} rate limit exceeded, retry later");
        let retry_after = wait.ceil().max(1.0) as u64;
        Self { retry_after, ..Self::new(StatusCode::TOO_MANY_REQUESTS, text) }
    }

    /// The answer with this body, whatever shape it has.
    pub(crate) fn respond(&self, body: serde_json::Value) -> Response {
        let mut response = (self.status, Json(body)).into_response();
        if self.status == StatusCode::TOO_MANY_REQUESTS {
            response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from(self.retry_after));
        }
        response
    }

    pub(crate) fn internal(text: impl std::fmt::Display) -> Self {
        tracing::error!(error = %text, "a request failed");
        Self::new(StatusCode::INTERNAL_SERVER_ERROR, format!("Service internal error: {text}"))
    }
}

impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        self.respond(json!({ "status": { "error": self.text }, "time": 0.0 }))
    }
}

impl From<cairn_index::Error> for ApiError {
    fn from(error: cairn_index::Error) -> Self {
        use cairn_index::Error;
        match &error {
            Error::UnknownCollection { name } => {
                Self::not_found(format!("Collection `{name}` doesn't exist!"))
            }
            Error::CollectionExists { name } => {
                Self::new(StatusCode::CONFLICT, format!("Wrong input: Collection `{name}` already exists!"))
            }
            Error::Setting { .. } | Error::Name { .. } => Self::validation(error),
            Error::Dimension { want, got } => {
                Self::wrong_input(format!("Vector dimension error: expected dim: {want}, got {got}"))
            }
            Error::UnknownVector { name } => {
                Self::wrong_input(format!("Not existing vector name error: {name}"))
            }
            Error::NotFinite { .. } | Error::VectorKind { .. } | Error::OutOfType { .. } => {
                Self::wrong_input(error)
            }
            Error::UnknownPoint { .. } | Error::MissingVector { .. } | Error::UnknownLookup { .. } => {
                Self::not_found(error.to_string())
            }
            Error::Filter(text) => Self::format(text),
            Error::PointId(_) | Error::Label { .. } | Error::LabelTaken { .. } | Error::Request(_) => {
                Self::bad_request(error)
            }
            Error::TooLarge { .. } => Self::new(StatusCode::PAYLOAD_TOO_LARGE, error.to_string()),
            Error::DiskFull { .. } => Self::new(StatusCode::INSUFFICIENT_STORAGE, error.to_string()),
            Error::Cancelled => Self::new(StatusCode::REQUEST_TIMEOUT, error.to_string()),
            Error::ReadOnly { .. } => Self::new(StatusCode::SERVICE_UNAVAILABLE, error.to_string()),
            _ => Self::internal(with_causes(&error)),
        }
    }
}

impl From<cairn_embed::Error> for ApiError {
    fn from(error: cairn_embed::Error) -> Self {
        use cairn_embed::Error;
        match &error {
            Error::Busy { .. } => Self::new(StatusCode::TOO_MANY_REQUESTS, error.to_string()),
            Error::Cancelled => Self::new(StatusCode::REQUEST_TIMEOUT, error.to_string()),
            Error::Remote { status: Some(429), .. } => {
                Self::new(StatusCode::TOO_MANY_REQUESTS, error.to_string())
            }
            Error::Remote { .. } => Self::new(StatusCode::BAD_GATEWAY, error.to_string()),
            // Other texts may fit, or other models go; a model comes once it can be had.
            Error::DeviceMemory { .. } | Error::AllSources { .. } => {
                Self::new(StatusCode::SERVICE_UNAVAILABLE, error.to_string())
            }
            Error::TooLong { .. } | Error::Labels { .. } | Error::NoHead { .. } => Self::bad_request(error),
            Error::TokenId { .. } | Error::Tokenize { .. } => {
                Self { tokenizer: true, ..Self::bad_request(error) }
            }
            _ => Self::internal(with_causes(&error)),
        }
    }
}

impl From<cairn_rag::Error> for ApiError {
    fn from(error: cairn_rag::Error) -> Self {
        use cairn_rag::Error;
        match error {
            Error::Index(error) => error.into(),
            Error::Embed(error) => error.into(),
            Error::UnknownModel { .. }
            | Error::ModelKind { .. }
            | Error::NotHere { .. }
            | Error::NoReranker
            | Error::Document { .. }
            | Error::DuplicateDocument { .. }
            | Error::Path { .. }
            | Error::ChunkSettings { .. }
            | Error::EmptyText { .. }
            | Error::NoTextModel { .. }
            | Error::NoWords { .. }
            | Error::Judged { .. }
            | Error::ModelDimension { .. } => Self::bad_request(error),
            Error::Option { .. } => Self::validation(error),
            Error::UnknownConversation { .. } => Self::not_found(error),
            Error::Generator { .. } => Self::new(StatusCode::BAD_GATEWAY, error.to_string()),
            error => Self::internal(with_causes(&error)),
        }
    }
}

/// Refuses a limit that asks for nothing.
pub(crate) fn at_least_one(field: &str, value: usize) -> ApiResult<usize> {
    if value == 0 {
        return Err(ApiError::validation(format!("{field}: value 0 invalid, must be 1 or larger")));
    }
    Ok(value)
}

/// An error and what caused it, as one line.
pub(crate) fn with_causes(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text.push_str(": ");
        text.push_str(&cause.to_string());
        source = cause.source();
    }
    text
}
