//! Filters as JSON: the grammar Qdrant clients write. Filters are part of logged
//! operations, so what is read here is also written.

use serde::{Deserialize, Deserializer, Serialize};
use serde_json::Value;

use super::geo::{GeoBox, GeoPolygon, GeoRadius};
use super::slice::Slice;
use super::time::DateTime;
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
    range: Option<WrittenRange>,
    #[serde(skip_serializing_if = "Option::is_none")]
    geo_bounding_box: Option<GeoBox>,
    #[serde(skip_serializing_if = "Option::is_none")]
    geo_radius: Option<GeoRadius>,
    #[serde(skip_serializing_if = "Option::is_none")]
    geo_polygon: Option<GeoPolygon>,
    #[serde(skip_serializing_if = "Option::is_none")]
    values_count: Option<Range>,
    #[serde(skip_serializing_if = "Option::is_none")]
    is_empty: Option<KeyOrFlag>,
    #[serde(skip_serializing_if = "Option::is_none")]
    is_null: Option<KeyOrFlag>,
    #[serde(skip_serializing_if = "Option::is_none")]
    has_id: Option<Vec<PointId>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    has_vector: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    slice: Option<Slice>,
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

/// `{"is_empty": {"key": ..}}` is a condition of its own, `true` and `false`
/// are tests of a field.
#[derive(Serialize, Deserialize)]
#[serde(try_from = "Value", untagged)]
enum KeyOrFlag {
    Flag(bool),
    Key(Keyed),
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Keyed {
    key: Path,
}

// Which variant is meant is plain from the value, and reading that one alone
// keeps the reason of a failure.
impl TryFrom<Value> for KeyOrFlag {
    type Error = serde_json::Error;

    fn try_from(value: Value) -> Result<Self, serde_json::Error> {
        match value {
            Value::Bool(flag) => Ok(Self::Flag(flag)),
            value => serde_json::from_value(value).map(Self::Key),
        }
    }
}

/// A range of date-times if a bound is a string, else of numbers.
#[derive(Serialize, Deserialize)]
#[serde(try_from = "Value", untagged)]
enum WrittenRange {
    Numbers(Range),
    Times(Range<DateTime>),
}

impl TryFrom<Value> for WrittenRange {
    type Error = serde_json::Error;

    fn try_from(value: Value) -> Result<Self, serde_json::Error> {
        if value.as_object().is_some_and(|bounds| bounds.values().any(Value::is_string)) {
            serde_json::from_value(value).map(Self::Times)
        } else {
            serde_json::from_value(value).map(Self::Numbers)
        }
    }
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
    Prefix(String),
    Substring(String),
}

impl From<WrittenMatch> for Test {
    fn from(written: WrittenMatch) -> Self {
        match written {
            WrittenMatch::Value(scalar) => Self::Match(scalar),
            WrittenMatch::Any(scalars) => Self::Any(scalars),
            WrittenMatch::Except(scalars) => Self::Except(scalars),
            WrittenMatch::Text(text) => Self::Text(text),
            WrittenMatch::TextAny(words) => {
                Self::TextAny(words.split_whitespace().map(str::to_owned).collect())
            }
            WrittenMatch::Phrase(text) => Self::Phrase(text),
            WrittenMatch::Prefix(text) => Self::Prefix(text),
            WrittenMatch::Substring(text) => Self::Substring(text),
        }
    }
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
        let mut tests: Vec<Test> = Vec::new();
        tests.extend(written.matches.map(Test::from));
        tests.extend(written.range.map(|range| match range {
            WrittenRange::Numbers(range) => Test::Range(range),
            WrittenRange::Times(range) => Test::DateRange(range),
        }));
        tests.extend(written.geo_bounding_box.map(Test::GeoBox));
        tests.extend(written.geo_radius.map(Test::GeoRadius));
        tests.extend(written.geo_polygon.map(Test::GeoPolygon));
        tests.extend(written.values_count.map(Test::ValuesCount));
        let (empty_key, empty) = key_or_flag(written.is_empty);
        let (null_key, null) = key_or_flag(written.is_null);
        tests.extend(empty.map(Test::IsEmpty));
        tests.extend(null.map(Test::IsNull));

        match written.key {
            Some(_) if tests.is_empty() => {
                Err(Error::Filter("At least one field condition must be specified".to_owned()))
            }
            Some(key) => Ok(Self::Field { key, tests }),
            None if !tests.is_empty() => Err(Error::Filter("missing field `key`".to_owned())),
            None => Ok(if let Some(key) = empty_key {
                Self::IsEmpty(key)
            } else if let Some(key) = null_key {
                Self::IsNull(key)
            } else if let Some(ids) = written.has_id {
                Self::HasId(ids.into_iter().collect())
            } else if let Some(name) = written.has_vector {
                Self::HasVector(name)
            } else if let Some(slice) = written.slice {
                Self::Slice(slice)
            } else if let Some(nested) = written.nested {
                let key = nested.key.as_str();
                let key = if key.ends_with("[]") { key.to_owned() } else { format!("{key}[]") };
                Self::Nested { key: key.parse()?, filter: nested.filter }
            } else {
                Self::Filter(Box::new(filter))
            }),
        }
    }
}

fn key_or_flag(written: Option<KeyOrFlag>) -> (Option<Path>, Option<bool>) {
    match written {
        None => (None, None),
        Some(KeyOrFlag::Key(Keyed { key })) => (Some(key), None),
        Some(KeyOrFlag::Flag(flag)) => (None, Some(flag)),
    }
}

impl From<Condition> for Written {
    fn from(condition: Condition) -> Self {
        let mut written = Self::default();
        match condition {
            Condition::Field { key, tests } => {
                written.key = Some(key);
                for test in tests {
                    written.take(test);
                }
            }
            Condition::IsEmpty(key) => written.is_empty = Some(KeyOrFlag::Key(Keyed { key })),
            Condition::IsNull(key) => written.is_null = Some(KeyOrFlag::Key(Keyed { key })),
            Condition::HasId(ids) => {
                let mut ids: Vec<_> = ids.into_iter().collect();
                ids.sort_unstable();
                written.has_id = Some(ids);
            }
            Condition::HasVector(name) => written.has_vector = Some(name),
            Condition::Slice(slice) => written.slice = Some(slice),
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

impl Written {
    fn take(&mut self, test: Test) {
        match test {
            Test::Match(scalar) => self.matches = Some(WrittenMatch::Value(scalar)),
            Test::Any(scalars) => self.matches = Some(WrittenMatch::Any(scalars)),
            Test::Except(scalars) => self.matches = Some(WrittenMatch::Except(scalars)),
            Test::Text(text) => self.matches = Some(WrittenMatch::Text(text)),
            Test::TextAny(words) => self.matches = Some(WrittenMatch::TextAny(words.join(" "))),
            Test::Phrase(text) => self.matches = Some(WrittenMatch::Phrase(text)),
            Test::Prefix(text) => self.matches = Some(WrittenMatch::Prefix(text)),
            Test::Substring(text) => self.matches = Some(WrittenMatch::Substring(text)),
            Test::Range(range) => self.range = Some(WrittenRange::Numbers(range)),
            Test::DateRange(range) => self.range = Some(WrittenRange::Times(range)),
            Test::ValuesCount(range) => self.values_count = Some(range),
            Test::GeoBox(area) => self.geo_bounding_box = Some(area),
            Test::GeoRadius(area) => self.geo_radius = Some(area),
            Test::GeoPolygon(area) => self.geo_polygon = Some(area),
            Test::IsEmpty(flag) => self.is_empty = Some(KeyOrFlag::Flag(flag)),
            Test::IsNull(flag) => self.is_null = Some(KeyOrFlag::Flag(flag)),
        }
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
