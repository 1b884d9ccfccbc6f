//! What whoever asks may do: read, write or manage, everywhere or in some
//! collections.

use std::sync::Arc;

use axum::extract::FromRequestParts;
use axum::http::request::Parts;
use serde::Deserialize;

use crate::error::{ApiError, ApiResult};

/// What whoever asks may do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Access {
    /// Everything.
    Manage,
    /// Reading everything.
    Read,
    /// What each grant says of its collection, and nothing else.
    Collections(Arc<Vec<Grant>>),
}

/// Access to one collection. A token with further restrictions is not taken,
/// because leaving them aside would allow more than it says.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Grant {
    collection: String,
    access: GrantLevel,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
enum GrantLevel {
    #[serde(rename = "r")]
    Read,
    #[serde(rename = "rw", alias = "prw")]
    Write,
}

/// What a request needs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Level {
    Read,
    Write,
    Manage,
}

impl Access {
    /// Whether a collection may be used so.
    pub(crate) fn allows(&self, collection: &str, level: Level) -> bool {
        match self {
            Self::Manage => true,
            Self::Read => level == Level::Read,
            Self::Collections(grants) => grants.iter().any(|grant| {
                grant.collection == collection
                    && match grant.access {
                        GrantLevel::Read => level == Level::Read,
                        GrantLevel::Write => level <= Level::Write,
                    }
            }),
        }
    }

    /// Whether anything may be written.
    pub(crate) fn can_write_somewhere(&self) -> bool {
        match self {
            Self::Manage => true,
            Self::Read => false,
            Self::Collections(grants) => grants.iter().any(|grant| grant.access == GrantLevel::Write),
        }
    }

    /// Fails unless a collection may be used so.
    pub(crate) fn check(&self, collection: &str, level: Level) -> ApiResult<()> {
        if self.allows(collection, level) {
            return Ok(());
        }
        let what = match level {
            Level::Read => format!("Access to collection `{collection}` is required"),
            Level::Write => format!("Write access to collection `{collection}` is required"),
            Level::Manage => "Global manage access is required".to_owned(),
        };
        Err(ApiError::forbidden(what))
    }

    /// Fails unless everything may be used so.
    pub(crate) fn check_global(&self, level: Level) -> ApiResult<()> {
        match (self, level) {
            (Self::Manage, _) | (Self::Read, Level::Read) => Ok(()),
            (_, Level::Read) => Err(ApiError::forbidden("Global access is required")),
            (_, Level::Write) => Err(ApiError::forbidden("Global write access is required")),
            (_, Level::Manage) => Err(ApiError::forbidden("Global manage access is required")),
        }
    }
}

// The middleware puts it there; a request that it did not see may do nothing.
impl<S: Sync> FromRequestParts<S> for Access {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, ApiError> {
        parts.extensions.get::<Self>().cloned().ok_or_else(|| ApiError::forbidden("Access is required"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_grant_holds_for_its_collection_and_level_alone() {
        let grants: Vec<Grant> = serde_json::from_str(
            r#"[{"collection": "a", "access": "r"}, {"collection": "b", "access": "rw"}, {"collection": "c", "access": "prw"}]"#,
        )
        .unwrap();
        let access = Access::Collections(Arc::new(grants));
        for (collection, level, want) in [
            ("a", Level::Read, true),
            ("a", Level::Write, false),
            ("b", Level::Write, true),
            ("b", Level::Manage, false),
            ("c", Level::Write, true),
            ("d", Level::Read, false),
        ] {
            assert_eq!(access.allows(collection, level), want, "{collection} {level:?}");
        }
        assert!(access.check_global(Level::Read).is_err());
        assert!(Access::Read.check_global(Level::Read).is_ok());
        assert!(!Access::Read.allows("a", Level::Write));
        assert!(Access::Manage.allows("a", Level::Manage));
    }
}
