//! Filters as JSON: the grammar Qdrant clients write. Filters are part of logged
//! operations, so what is read here is also written.

use serde::{Deserialize, Deserializer, Serialize};
use serde_json::Value;

use super::{Condition, Filter, MinShould, Range, Scalar, Test};
use crate::error::Error;
use crate::id::PointId;
use crate::path::Path;

/// A condition as JSON has it: the present keys say which kind it is.
#[derive(Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(super) struct Written {
    #[serde(skip_serializing_if = "Option::is_none")]
    key: Option<Path>,
    #[serde(rename = "match", skip_serializing_if = "Option::is_none")]
    matches: Option<WrittenMatch>,
    #[serde(skip_serializing_if = "Option::is_none")]
    range: Option<Range>,
    #[serde(skip_serializing_if = "Option::is_none")]
    values_count: Option<Range>,
    #[serde(skip_serializing_if = "Option::is_none")]
    is_empty: Option<Keyed>,
    #[serde(skip_serializing_if = "Option::is_none")]
    is_null: Option<Keyed>,
    #[serde(skip_serializing_if = "Option::is_none")]
    has_id: Option<Vec<PointId>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    nested: Option<WrittenNested>,
    #[serde(deserialize_with = "some_one_or_many", skip_serializing_if = "Option::is_none")]
    must: Option<Vec<Condition>>,
    #[serde(deserialize_with = "some_one_or_many", skip_serializing_if = "Option::is_none")]
    should: Option<Vec<Condition>>,
    #[serde(deserialize_with = "some_one_or_many", skip_serializing_if = "Option::is_none")]
    must_not: Option<Vec<Condition>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    min_should: Option<MinShould>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Keyed {
    key: Path,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct WrittenNested {
    key: Path,
    filter: Box<Filter>,
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
enum WrittenMatch {
    Value(Scalar),
    Any(Vec<Scalar>),
    Except(Vec<Scalar>),
    Text(String),
    TextAny(String),
    Phrase(String),
}

impl TryFrom<Written> for Condition {
    type Error = Error;

    fn try_from(written: Written) -> Result<Self, Error> {
        let filter = Filter {
            must: written.must.unwrap_or_default(),
            should: written.should.unwrap_or_default(),
            must_not: written.must_not.unwrap_or_default(),
            min_should: written.min_should,
        };
        let mut tests = Vec::new();
        if let Some(matches) = written.matches {
            tests.push(match matches {
                WrittenMatch::Value(scalar) => Test::Match(scalar),
                WrittenMatch::Any(scalars) => Test::Any(scalars),
                WrittenMatch::Except(scalars) => Test::Except(scalars),
                WrittenMatch::Text(text) | WrittenMatch::Phrase(text) => Test::Text(text),
                WrittenMatch::TextAny(words) => {
                    Test::TextAny(words.split_whitespace().map(str::to_owned).collect())
                }
            });
        }
        tests.extend(written.range.map(Test::Range));
        tests.extend(written.values_count.map(Test::ValuesCount));

        match written.key {
            Some(_) if tests.is_empty() => {
                Err(Error::Filter("At least one field condition must be specified".to_owned()))
            }
            Some(key) => Ok(Self::Field { key, tests }),
            None if !tests.is_empty() => Err(Error::Filter("missing field `key`".to_owned())),
            None => Ok(match (written.is_empty, written.is_null, written.has_id, written.nested) {
                (Some(empty), ..) => Self::IsEmpty(empty.key),
                (_, Some(null), ..) => Self::IsNull(null.key),
                (_, _, Some(ids), _) => Self::HasId(ids.into_iter().collect()),
                (_, _, _, Some(nested)) => {
                    let key = nested.key.as_str();
                    let key = if key.ends_with("[]") { key.to_owned() } else { format!("{key}[]") };
                    Self::Nested { key: key.parse()?, filter: nested.filter }
                }
                _ => Self::Filter(Box::new(filter)),
            }),
        }
    }
}

impl From<Condition> for Written {
    fn from(condition: Condition) -> Self {
        let mut written = Self::default();
        match condition {
            Condition::Field { key, tests } => {
                written.key = Some(key);
                for test in tests {
                    match test {
                        Test::Match(scalar) => written.matches = Some(WrittenMatch::Value(scalar)),
                        Test::Any(scalars) => written.matches = Some(WrittenMatch::Any(scalars)),
                        Test::Except(scalars) => written.matches = Some(WrittenMatch::Except(scalars)),
                        Test::Text(text) => written.matches = Some(WrittenMatch::Text(text)),
                        Test::TextAny(words) => {
                            written.matches = Some(WrittenMatch::TextAny(words.join(" ")));
                        }
                        Test::Range(range) => written.range = Some(range),
                        Test::ValuesCount(range) => written.values_count = Some(range),
                    }
                }
            }
            Condition::IsEmpty(key) => written.is_empty = Some(Keyed { key }),
            Condition::IsNull(key) => written.is_null = Some(Keyed { key }),
            Condition::HasId(ids) => {
                let mut ids: Vec<_> = ids.into_iter().collect();
                ids.sort_unstable();
                written.has_id = Some(ids);
            }
            Condition::Nested { key, filter } => written.nested = Some(WrittenNested { key, filter }),
            Condition::Filter(filter) => {
                written.must = Some(filter.must);
                written.should = Some(filter.should);
                written.must_not = Some(filter.must_not);
                written.min_should = filter.min_should;
            }
        }
        written
    }
}

#[derive(Deserialize)]
#[serde(untagged)]
enum OneOrMany {
    Many(Vec<Value>),
    One(Value),
}

/// A list of conditions, or a single one without its brackets, or null.
pub(super) fn one_or_many<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<Condition>, D::Error> {
    Ok(some_one_or_many(deserializer)?.unwrap_or_default())
}

fn some_one_or_many<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Vec<Condition>>, D::Error> {
    let values = match Option::<OneOrMany>::deserialize(deserializer)? {
        None | Some(OneOrMany::One(Value::Null)) => return Ok(None),
        Some(OneOrMany::Many(values)) => values,
        Some(OneOrMany::One(value)) => vec![value],
    };
    // Reading each from a `Value` keeps the reason of a failure, which an
    // untagged enum would replace by "did not match any variant".
    values
        .into_iter()
        .map(|value| serde_json::from_value(value).map_err(serde::de::Error::custom))
        .collect::<Result<_, _>>()
        .map(Some)
}
