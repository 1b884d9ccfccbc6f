//! Keys and tokens: what each allows.
//!
//! Keys are compared by their digests in constant time, so that neither their
//! length nor how much of a guess is right shows.

use std::sync::Arc;

use cairn_index::{Condition, Database, Filter, Scalar, Test};
use jsonwebtoken::{Algorithm, DecodingKey, Validation};
use serde::Deserialize;
use serde_json::Value;
use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;

use super::access::{Access, Grant};
use crate::error::{ApiError, ApiResult};
use crate::options::ServerOptions;

/// The keys that are taken; without any, whoever reaches the service may do
/// everything.
pub(crate) struct Keys {
    full: Option<[u8; 32]>,
    read_only: Option<[u8; 32]>,
    tokens: Option<DecodingKey>,
}

/// Who asks.
pub(crate) enum Identity {
    Key(Access),
    Token(Claims),
}

/// Why nobody is let in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Refusal {
    NoKey,
    WrongKey,
}

/// What a token says.
pub(crate) struct Claims {
    pub(crate) access: Access,
    /// The token holds as long as such a point is there.
    pub(crate) value_exists: Option<ValueExists>,
}

#[derive(Debug, Deserialize)]
struct WrittenClaims {
    #[serde(default)]
    access: Option<WrittenAccess>,
    #[serde(default)]
    value_exists: Option<ValueExists>,
}

#[derive(Debug, Deserialize)]
#[serde(untagged)]
enum WrittenAccess {
    Global(Global),
    Collections(Vec<Grant>),
}

#[derive(Debug, Clone, Copy, Deserialize)]
enum Global {
    #[serde(rename = "r")]
    Read,
    #[serde(rename = "m")]
    Manage,
}

/// A condition on the points of a collection.
#[derive(Debug, Deserialize)]
pub(crate) struct ValueExists {
    collection: String,
    matches: Vec<KeyValue>,
}

#[derive(Debug, Deserialize)]
struct KeyValue {
    key: String,
    value: Value,
}

impl Keys {
    pub(crate) fn new(options: &ServerOptions) -> Self {
        let digest = |key: &crate::options::Secret| digest(key.reveal());
        let full = options.api_key.as_ref();
        Self {
            full: full.map(digest),
            read_only: options.read_only_api_key.as_ref().map(digest),
            tokens: full
                .filter(|_| options.tokens)
                .map(|key| DecodingKey::from_secret(key.reveal().as_bytes())),
        }
    }

    /// Whether there is anything to know before one is let in.
    pub(crate) fn are_set(&self) -> bool {
        self.full.is_some() || self.read_only.is_some()
    }

    pub(crate) fn identify(&self, given: Option<&str>) -> Result<Identity, Refusal> {
        if !self.are_set() {
            return Ok(Identity::Key(Access::Manage));
        }
        let given = given.ok_or(Refusal::NoKey)?;
        let hashed = digest(given);
        let is = |key: Option<[u8; 32]>| key.is_some_and(|key| bool::from(key.ct_eq(&hashed)));
        if is(self.full) {
            return Ok(Identity::Key(Access::Manage));
        }
        if is(self.read_only) {
            return Ok(Identity::Key(Access::Read));
        }
        let tokens = self.tokens.as_ref().ok_or(Refusal::WrongKey)?;
        claims(given, tokens).map(Identity::Token).ok_or(Refusal::WrongKey)
    }
}

fn digest(key: &str) -> [u8; 32] {
    Sha256::digest(key.as_bytes()).into()
}

fn claims(token: &str, key: &DecodingKey) -> Option<Claims> {
    let mut validation = Validation::new(Algorithm::HS256);
    // A token without `exp` does not end.
    validation.required_spec_claims.clear();
    validation.validate_aud = false;
    validation.leeway = 0;
    let claims = jsonwebtoken::decode::<WrittenClaims>(token, key, &validation).ok()?.claims;
    let access = match claims.access {
        None | Some(WrittenAccess::Global(Global::Manage)) => Access::Manage,
        Some(WrittenAccess::Global(Global::Read)) => Access::Read,
        Some(WrittenAccess::Collections(grants)) => Access::Collections(Arc::new(grants)),
    };
    Some(Claims { access, value_exists: claims.value_exists })
}

impl ValueExists {
    /// Whether a point of the collection has all the values.
    pub(crate) fn holds(&self, db: &Database) -> ApiResult<bool> {
        let mut must = Vec::with_capacity(self.matches.len());
        for KeyValue { key, value } in &self.matches {
            let value: Scalar =
                serde_json::from_value(value.clone()).map_err(|error| ApiError::from_json(&error))?;
            must.push(Condition::Field { key: key.parse()?, tests: vec![Test::Match(value)] });
        }
        let filter = Filter { must, ..Filter::default() };
        Ok(db.collection(&self.collection)?.count(Some(&filter))? > 0)
    }
}

#[cfg(test)]
mod tests {
    use jsonwebtoken::{EncodingKey, Header, encode};
    use serde_json::json;

    use super::*;

    fn keys() -> Keys {
        Keys::new(&ServerOptions {
            api_key: Some("full".to_owned().into()),
            read_only_api_key: Some("reading".to_owned().into()),
            ..ServerOptions::default()
        })
    }

    fn token(claims: &Value, key: &str) -> String {
        encode(&Header::default(), claims, &EncodingKey::from_secret(key.as_bytes())).unwrap()
    }

    fn access(given: Option<&str>) -> Result<Access, Refusal> {
        keys().identify(given).map(|identity| match identity {
            Identity::Key(access) => access,
            Identity::Token(claims) => claims.access,
        })
    }

    #[test]
    fn each_key_allows_what_it_is_for() {
        assert_eq!(access(Some("full")), Ok(Access::Manage));
        assert_eq!(access(Some("reading")), Ok(Access::Read));
        assert_eq!(access(None), Err(Refusal::NoKey));
        for wrong in ["", "ful", "fulll", "read"] {
            assert_eq!(access(Some(wrong)), Err(Refusal::WrongKey));
        }
        let open = Keys::new(&ServerOptions::default());
        assert!(matches!(open.identify(None), Ok(Identity::Key(Access::Manage))));
    }

    #[test]
    fn a_token_allows_what_it_says_while_it_holds() {
        let of = |claims: Value| access(Some(&token(&claims, "full")));
        assert_eq!(of(json!({})), Ok(Access::Manage));
        assert_eq!(of(json!({"access": "r", "exp": 4_000_000_000u64})), Ok(Access::Read));
        assert!(
            of(json!({"access": [{"collection": "a", "access": "rw"}]}))
                .unwrap()
                .allows("a", super::super::Level::Write)
        );
        assert_eq!(of(json!({"access": "r", "exp": 1})), Err(Refusal::WrongKey));
        assert_eq!(of(json!({"access": "w"})), Err(Refusal::WrongKey));
        // Restrictions that are not known here must not be left aside.
        let rows = json!({"access": [{"collection": "a", "access": "r", "payload": {"user": 1}}]});
        assert_eq!(of(rows), Err(Refusal::WrongKey));
        assert_eq!(access(Some(&token(&json!({"access": "m"}), "other"))), Err(Refusal::WrongKey));
        assert_eq!(access(Some("e30.e30.")), Err(Refusal::WrongKey));
    }

    #[test]
    fn a_token_signed_by_another_algorithm_is_not_taken() {
        let none = "eyJhbGciOiJub25lIiwidHlwIjoiSldUIn0.eyJhY2Nlc3MiOiJtIn0.";
        assert_eq!(access(Some(none)), Err(Refusal::WrongKey));
        let header = Header::new(Algorithm::HS512);
        let signed = encode(&header, &json!({"access": "m"}), &EncodingKey::from_secret(b"full")).unwrap();
        assert_eq!(access(Some(&signed)), Err(Refusal::WrongKey));
    }
}
