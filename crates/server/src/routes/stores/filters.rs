//! Filters over the attributes of files, as conditions on passages.

use cairn_index::Filter;
use serde::Deserialize;
use serde_json::{Map, Value, json};

use crate::error::{ApiError, ApiResult};

/// A comparison, or several joined.
#[derive(Debug, Clone, Deserialize)]
#[serde(untagged, expecting = "a filter is {type, key, value} or {type: and | or, filters}")]
pub(crate) enum AttributeFilter {
    Joined {
        #[serde(rename = "type")]
        kind: Join,
        filters: Vec<AttributeFilter>,
    },
    Compared {
        #[serde(rename = "type")]
        kind: Comparison,
        key: String,
        value: Value,
    },
}

#[derive(Debug, Clone, Copy, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Join {
    And,
    Or,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Comparison {
    Eq,
    Ne,
    Gt,
    Gte,
    Lt,
    Lte,
    In,
    Nin,
}

const MAX_DEPTH: usize = 16;

impl AttributeFilter {
    pub(crate) fn filter(&self) -> ApiResult<Filter> {
        let condition = self.condition(0)?;
        serde_json::from_value(json!({ "must": [condition] })).map_err(|error| ApiError::from_json(&error))
    }

    fn condition(&self, depth: usize) -> ApiResult<Value> {
        if depth > MAX_DEPTH {
            return Err(ApiError::bad_request(format!("filters may be {MAX_DEPTH} deep, and no deeper")));
        }
        match self {
            Self::Joined { kind, filters } => {
                let filters = filters
                    .iter()
                    .map(|filter| filter.condition(depth + 1))
                    .collect::<ApiResult<Vec<_>>>()?;
                if filters.is_empty() {
                    return Err(ApiError::bad_request("filters of `and` and `or` must not be empty"));
                }
                Ok(match kind {
                    Join::And => json!({ "must": filters }),
                    Join::Or => json!({ "should": filters }),
                })
            }
            Self::Compared { kind, key, value } => compared(*kind, key, value),
        }
    }
}

fn compared(kind: Comparison, key: &str, value: &Value) -> ApiResult<Value> {
    let key = format!("metadata.{}", quoted(key));
    match kind {
        Comparison::Eq => equal(&key, value),
        Comparison::Ne => Ok(json!({ "must_not": [equal(&key, value)?] })),
        Comparison::In | Comparison::Nin => {
            let values = value.as_array().ok_or_else(|| {
                ApiError::bad_request(format!("`in` and `nin` compare with a list, not with {value}"))
            })?;
            let any = values.iter().map(|value| equal(&key, value)).collect::<ApiResult<Vec<_>>>()?;
            let list = if kind == Comparison::In { "should" } else { "must_not" };
            Ok(json!({ list: any }))
        }
        Comparison::Gt | Comparison::Gte | Comparison::Lt | Comparison::Lte => {
            if !value.is_number() {
                return Err(ApiError::bad_request(format!(
                    "{kind:?} compares with a number, not with {value}"
                )));
            }
            let bound = format!("{kind:?}").to_lowercase();
            Ok(json!({ "key": key, "range": { bound: value } }))
        }
    }
}

/// Numbers are compared as such, so that 2 equals 2.0.
fn equal(key: &str, value: &Value) -> ApiResult<Value> {
    match value {
        Value::Number(_) => Ok(json!({ "key": key, "range": { "gte": value, "lte": value } })),
        Value::String(_) | Value::Bool(_) => Ok(json!({ "key": key, "match": { "value": value } })),
        _ => Err(ApiError::bad_request(format!(
            "attributes are strings, numbers and booleans, and not compared with {value}"
        ))),
    }
}

/// A key with dots and brackets is one key all the same.
fn quoted(key: &str) -> String {
    let plain = !key.is_empty() && key.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_');
    if plain { key.to_owned() } else { format!("\"{}\"", key.replace('"', "")) }
}

const MAX_ATTRIBUTES: usize = 16;
const MAX_KEY: usize = 64;
const MAX_VALUE: usize = 512;

/// Checks the attributes of a file.
pub(crate) fn attributes(given: Option<Map<String, Value>>) -> ApiResult<Map<String, Value>> {
    let given = given.unwrap_or_default();
    if given.len() > MAX_ATTRIBUTES {
        return Err(ApiError::bad_request(format!(
            "attributes has {} keys, at most {MAX_ATTRIBUTES} are kept",
            given.len()
        )));
    }
    for (key, value) in &given {
        if key.is_empty() || key.chars().count() > MAX_KEY || key.contains('"') || key == super::FILE {
            return Err(ApiError::bad_request(format!(
                "attributes: `{key}` is no key: it has 1 to {MAX_KEY} characters, none of them a quote, and is not `{}`",
                super::FILE
            )));
        }
        let fits = match value {
            Value::String(text) => text.chars().count() <= MAX_VALUE,
            Value::Number(_) | Value::Bool(_) => true,
            _ => false,
        };
        if !fits {
            return Err(ApiError::bad_request(format!(
                "attributes: the value of `{key}` must be a string of at most {MAX_VALUE} characters, a number or a boolean"
            )));
        }
    }
    Ok(given)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn matches(filter: &Value, attributes: &Value) -> bool {
        let filter: AttributeFilter = serde_json::from_value(filter.clone()).unwrap();
        let payload = json!({ "metadata": attributes });
        filter.filter().unwrap().matches(1u64.into(), payload.as_object().unwrap())
    }

    #[test]
    fn comparisons_choose_by_attributes() {
        let file = json!({"lang": "en", "year": 2020, "price": 2.5, "draft": false, "a.b": "x"});
        for (kind, key, value, want) in [
            ("eq", "lang", json!("en"), true),
            ("eq", "year", json!(2020.0), true),
            ("eq", "draft", json!(false), true),
            ("eq", "a.b", json!("x"), true),
            ("ne", "lang", json!("en"), false),
            ("ne", "none", json!("en"), true),
            ("gt", "year", json!(2020), false),
            ("gte", "year", json!(2020), true),
            ("lt", "price", json!(2.6), true),
            ("lte", "price", json!(2.4), false),
            ("in", "lang", json!(["de", "en"]), true),
            ("in", "year", json!([1, 2]), false),
            ("nin", "lang", json!(["de", "fr"]), true),
            ("nin", "lang", json!(["de", "en"]), false),
        ] {
            assert_eq!(
                matches(&json!({"type": kind, "key": key, "value": value}), &file),
                want,
                "{kind} {key}"
            );
        }
        let year = json!({"type": "gt", "key": "year", "value": 2000});
        let german = json!({"type": "eq", "key": "lang", "value": "de"});
        assert!(!matches(&json!({"type": "and", "filters": [year, german]}), &file));
        assert!(matches(&json!({"type": "or", "filters": [year, german]}), &file));
    }

    #[test]
    fn what_cannot_be_compared_is_refused() {
        for wrong in [
            json!({"type": "and", "filters": []}),
            json!({"type": "gt", "key": "a", "value": "x"}),
            json!({"type": "in", "key": "a", "value": "x"}),
            json!({"type": "eq", "key": "a", "value": null}),
        ] {
            let filter: AttributeFilter = serde_json::from_value(wrong).unwrap();
            assert!(filter.filter().is_err());
        }
        let deep = (0..20).fold(
            json!({"type": "eq", "key": "a", "value": 1}),
            |filter, _| json!({"type": "and", "filters": [filter]}),
        );
        assert!(serde_json::from_value::<AttributeFilter>(deep).unwrap().filter().is_err());
    }

    #[test]
    fn attributes_are_few_and_plain() {
        let check = |value: Value| attributes(value.as_object().cloned());
        assert!(check(json!({"a": 1, "b": "x", "c": true})).is_ok());
        for wrong in [json!({"a": null}), json!({"a": [1]}), json!({"": 1}), json!({"a": "x".repeat(513)})] {
            assert!(check(wrong).is_err());
        }
        let many: Map<String, Value> = (0..17).map(|n| (n.to_string(), json!(1))).collect();
        assert!(attributes(Some(many)).is_err());
    }
}
