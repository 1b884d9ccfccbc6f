//! Conditions on payload and id, and what they mean.
//!
//! How filters are written is in `filter/written`; which plan uses one is in
//! `search`.

mod written;

use std::collections::HashSet;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::error::Error;
use crate::id::PointId;
use crate::path::Path;

use self::written::{Written, one_or_many};

/// A filter over points.
///
/// A point matches when every `must` holds, no `must_not` holds, at least one
/// `should` holds (if any is given), and at least `min_count` of the
/// `min_should` conditions hold. Empty lists are ignored.
///
/// ```
/// use cairn_index::Filter;
///
/// let filter: Filter = serde_json::from_str(
///     r#"{"must": [{"key": "lang", "match": {"value": "en"}},
///                  {"key": "year", "range": {"gte": 2020}}]}"#,
/// )?;
/// # Ok::<(), serde_json::Error>(())
/// ```
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Filter {
    /// All of these hold.
    #[serde(deserialize_with = "one_or_many", skip_serializing_if = "Vec::is_empty")]
    pub must: Vec<Condition>,
    /// At least one of these holds.
    #[serde(deserialize_with = "one_or_many", skip_serializing_if = "Vec::is_empty")]
    pub should: Vec<Condition>,
    /// None of these holds.
    #[serde(deserialize_with = "one_or_many", skip_serializing_if = "Vec::is_empty")]
    pub must_not: Vec<Condition>,
    /// At least `min_count` of these hold.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub min_should: Option<MinShould>,
}

/// A number of conditions of which enough must hold.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct MinShould {
    /// The conditions.
    pub conditions: Vec<Condition>,
    /// How many of them must hold.
    pub min_count: usize,
}

/// One condition of a [`Filter`].
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(try_from = "Written", into = "Written")]
pub enum Condition {
    /// Some value at `key` passes one of the tests.
    Field {
        /// Where the values are.
        key: Path,
        /// What they are tested for.
        tests: Vec<Test>,
    },
    /// The value is missing, null or an empty array.
    IsEmpty(Path),
    /// Some value is literally null.
    IsNull(Path),
    /// The id is one of these.
    HasId(HashSet<PointId>),
    /// Some element of the array at the path is an object that matches alone.
    Nested {
        /// The array of objects; `[]` is understood at its end.
        key: Path,
        /// What one element must match.
        filter: Box<Filter>,
    },
    /// A filter within the filter.
    Filter(Box<Filter>),
}

/// What a value is tested for.
#[derive(Debug, Clone, PartialEq)]
pub enum Test {
    /// Equals a bool, an integer or a string.
    Match(Scalar),
    /// Equals one of these; an empty list matches nothing.
    Any(Vec<Scalar>),
    /// Equals none of these.
    Except(Vec<Scalar>),
    /// Contains this text, case-sensitively.
    Text(String),
    /// Contains one of these words.
    TextAny(Vec<String>),
    /// A number between bounds.
    Range(Range),
    /// The count of values between bounds.
    ValuesCount(Range),
}

/// A value a keyword condition compares with; kinds never match each other.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Scalar {
    /// true or false.
    Bool(bool),
    /// An integer; a stored float never equals it.
    Integer(i64),
    /// A string.
    Keyword(String),
}

/// Bounds of a number; an absent bound is open.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Range {
    /// Less than.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub lt: Option<f64>,
    /// Greater than.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub gt: Option<f64>,
    /// Greater or equal.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub gte: Option<f64>,
    /// Less or equal.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub lte: Option<f64>,
}

impl Range {
    fn contains(&self, number: f64) -> bool {
        self.lt.is_none_or(|bound| number < bound)
            && self.gt.is_none_or(|bound| number > bound)
            && self.gte.is_none_or(|bound| number >= bound)
            && self.lte.is_none_or(|bound| number <= bound)
    }
}

impl Filter {
    /// A filter that holds when `condition` does.
    pub fn must(condition: Condition) -> Self {
        Self { must: vec![condition], ..Self::default() }
    }

    /// Whether the filter has no condition and so matches every point.
    pub fn is_empty(&self) -> bool {
        self.must.is_empty()
            && self.should.is_empty()
            && self.must_not.is_empty()
            && self.min_should.as_ref().is_none_or(|some| some.conditions.is_empty())
    }

    /// Whether a point of this id and payload matches.
    pub fn matches(&self, id: PointId, payload: &Map<String, Value>) -> bool {
        self.holds(&Subject { id: Some(id), payload })
    }

    fn holds(&self, subject: &Subject<'_>) -> bool {
        self.must.iter().all(|condition| condition.holds(subject))
            && !self.must_not.iter().any(|condition| condition.holds(subject))
            && (self.should.is_empty() || self.should.iter().any(|condition| condition.holds(subject)))
            && self.min_should.as_ref().is_none_or(|some| some.holds(subject))
    }
}

impl MinShould {
    fn holds(&self, subject: &Subject<'_>) -> bool {
        self.conditions.is_empty()
            || self.conditions.iter().filter(|condition| condition.holds(subject)).count() >= self.min_count
    }
}

/// What a condition looks at. An element of a nested array has no id.
struct Subject<'s> {
    id: Option<PointId>,
    payload: &'s Map<String, Value>,
}

impl Condition {
    /// A condition that the value at `key` equals `value`.
    ///
    /// # Errors
    /// [`Error::Filter`] when `key` is not a payload path.
    pub fn matches_keyword(key: &str, value: &str) -> Result<Self, Error> {
        let tests = vec![Test::Match(Scalar::Keyword(value.to_owned()))];
        Ok(Self::Field { key: key.parse()?, tests })
    }

    fn holds(&self, subject: &Subject<'_>) -> bool {
        match self {
            Self::Field { key, tests } => {
                let values = key.values(subject.payload);
                tests.iter().any(|test| values.iter().any(|value| test.passes(value)))
            }
            Self::IsEmpty(key) => key.values(subject.payload).into_iter().all(is_empty),
            Self::IsNull(key) => key.values(subject.payload).into_iter().any(Value::is_null),
            Self::HasId(ids) => subject.id.is_some_and(|id| ids.contains(&id)),
            Self::Nested { key, filter } => key
                .values(subject.payload)
                .into_iter()
                .filter_map(Value::as_object)
                .any(|payload| filter.holds(&Subject { id: None, payload })),
            Self::Filter(filter) => filter.holds(subject),
        }
    }
}

fn is_empty(value: &Value) -> bool {
    value.is_null() || value.as_array().is_some_and(Vec::is_empty)
}

impl Test {
    fn passes(&self, value: &Value) -> bool {
        if let Self::ValuesCount(range) = self {
            return range.contains(count(value) as f64);
        }
        // The last array of a path is opened one level: any element will do.
        match value {
            Value::Array(items) => items.iter().any(|item| self.passes_one(item)),
            one => self.passes_one(one),
        }
    }

    fn passes_one(&self, value: &Value) -> bool {
        match self {
            Self::Match(scalar) => scalar.equals(value),
            Self::Any(scalars) => scalars.iter().any(|scalar| scalar.equals(value)),
            Self::Except(scalars) => !value.is_null() && !scalars.iter().any(|scalar| scalar.equals(value)),
            Self::Text(text) => value.as_str().is_some_and(|stored| stored.contains(text.as_str())),
            Self::TextAny(words) => {
                value.as_str().is_some_and(|stored| words.iter().any(|word| stored.contains(word.as_str())))
            }
            Self::Range(range) => value.as_f64().is_some_and(|number| range.contains(number)),
            Self::ValuesCount(_) => false,
        }
    }
}

fn count(value: &Value) -> usize {
    match value {
        Value::Null => 0,
        Value::Array(items) => items.len(),
        _ => 1,
    }
}

impl Scalar {
    fn equals(&self, value: &Value) -> bool {
        match (self, value) {
            (Self::Bool(want), Value::Bool(got)) => want == got,
            (Self::Integer(want), Value::Number(got)) => got.as_i64() == Some(*want),
            (Self::Keyword(want), Value::String(got)) => want == got,
            _ => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn matches(filter: Value, payload: &Value) -> bool {
        let filter: Filter = serde_json::from_value(filter).unwrap();
        // What was read must survive being written and read again.
        let again: Filter = serde_json::from_value(serde_json::to_value(&filter).unwrap()).unwrap();
        assert_eq!(filter, again);
        filter.matches(PointId::Num(1), payload.as_object().unwrap())
    }

    fn one(condition: &Value, payload: &Value) -> bool {
        matches(json!({ "must": condition }), payload)
    }

    #[test]
    fn values_match_only_their_own_kind() {
        let payload = json!({"s": "1", "i": 1, "f": 1.0, "b": true, "l": ["x", 2]});
        assert!(one(&json!({"key": "s", "match": {"value": "1"}}), &payload));
        assert!(!one(&json!({"key": "s", "match": {"value": 1}}), &payload));
        assert!(one(&json!({"key": "i", "match": {"value": 1}}), &payload));
        assert!(!one(&json!({"key": "f", "match": {"value": 1}}), &payload));
        assert!(one(&json!({"key": "b", "match": {"value": true}}), &payload));
        assert!(one(&json!({"key": "l", "match": {"value": 2}}), &payload));
        assert!(one(&json!({"key": "l", "match": {"any": ["y", "x"]}}), &payload));
    }

    #[test]
    fn any_of_nothing_matches_nothing_and_except_nothing_matches_all_present() {
        let payload = json!({"k": "x", "n": null});
        assert!(!one(&json!({"key": "k", "match": {"any": []}}), &payload));
        assert!(one(&json!({"key": "k", "match": {"except": []}}), &payload));
        assert!(!one(&json!({"key": "n", "match": {"except": ["x"]}}), &payload));
        assert!(!one(&json!({"key": "gone", "match": {"except": ["x"]}}), &payload));
    }

    #[test]
    fn ranges_compare_numbers_and_ignore_the_rest() {
        let payload = json!({"n": 5, "s": "5", "l": [1, 9]});
        assert!(one(&json!({"key": "n", "range": {"gte": 5, "lt": 6}}), &payload));
        assert!(!one(&json!({"key": "n", "range": {"gt": 5}}), &payload));
        assert!(!one(&json!({"key": "s", "range": {"gte": 0}}), &payload));
        assert!(one(&json!({"key": "l", "range": {"gt": 8}}), &payload));
    }

    #[test]
    fn empty_and_null_differ_as_clients_expect() {
        let payload = json!({"null": null, "none": [], "some": [null], "x": 1});
        for (key, empty, null) in [
            ("null", true, true),
            ("none", true, false),
            ("some", false, false),
            ("missing", true, false),
            ("x", false, false),
        ] {
            assert_eq!(one(&json!({"is_empty": {"key": key}}), &payload), empty, "{key}");
            assert_eq!(one(&json!({"is_null": {"key": key}}), &payload), null, "{key}");
        }
    }

    #[test]
    fn clauses_combine_and_empty_ones_are_ignored() {
        let payload = json!({"a": 1, "b": 2});
        let (a, b) = (json!({"key": "a", "match": {"value": 1}}), json!({"key": "b", "match": {"value": 3}}));
        assert!(matches(json!({}), &payload));
        assert!(matches(json!({"should": []}), &payload));
        assert!(matches(json!({"should": [a, b]}), &payload));
        assert!(!matches(json!({"should": [b]}), &payload));
        assert!(matches(json!({"must_not": [b]}), &payload));
        assert!(!matches(json!({"must": [a], "must_not": a}), &payload));
        assert!(!matches(json!({"min_should": {"conditions": [a, b], "min_count": 2}}), &payload));
        assert!(matches(json!({"must": [{"should": [a, b]}, {"has_id": [1, 2]}]}), &payload));
    }

    #[test]
    fn nested_tests_each_element_alone() {
        let payload = json!({"diet": [{"food": "leaves", "likes": false}, {"food": "meat", "likes": true}]});
        let both = |food: &str, likes: bool| {
            json!({"nested": {"key": "diet", "filter": {"must": [
                {"key": "food", "match": {"value": food}},
                {"key": "likes", "match": {"value": likes}}]}}})
        };
        assert!(one(&both("meat", true), &payload));
        assert!(!one(&both("meat", false), &payload));
    }

    #[test]
    fn counts_follow_the_kind_of_the_value() {
        let payload = json!({"l": [1, 2, 3], "s": "x", "n": null});
        let counted =
            |key: &str, n: u32| one(&json!({"key": key, "values_count": {"gte": n, "lte": n}}), &payload);
        assert!(counted("l", 3) && counted("s", 1) && counted("n", 0));
        assert!(!counted("gone", 0));
    }

    #[test]
    fn mistakes_are_named() {
        for (filter, part) in [
            (json!({"must": [{"key": "a"}]}), "At least one field condition"),
            (json!({"musst": []}), "unknown field `musst`"),
            (json!({"must": [{"key": "a", "match": {"valeu": 1}}]}), "unknown variant `valeu`"),
            (json!({"must": [{"key": "a[", "match": {"value": 1}}]}), "Invalid json path: 'a['"),
            (json!({"must": [{"match": {"value": 1}}]}), "missing field `key`"),
            (json!({"must": [{"has_id": ["x"]}]}), "not a valid point ID"),
        ] {
            let error = serde_json::from_value::<Filter>(filter).unwrap_err().to_string();
            assert!(error.contains(part), "{error} should contain {part}");
        }
    }
}
