//! Conditions on payload, id and vectors: the types.
//!
//! How filters are written is in `filter/written`, what they mean in
//! `filter/prepared`, how indexes answer them in `plan`.

pub(crate) mod geo;
pub(crate) mod prepared;
pub(crate) mod scalars;
pub(crate) mod slice;
pub(crate) mod time;
pub(crate) mod tokens;
mod written;

use std::collections::HashSet;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::error::Error;
use crate::id::PointId;
use crate::path::Path;
use crate::schema::Schema;

use self::geo::{GeoBox, GeoPolygon, GeoRadius};
use self::prepared::{Prepared, Subject};
use self::slice::Slice;
use self::time::DateTime;
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
///                  {"key": "year", "range": {"gte": 2020}}],
///         "must_not": {"nested": {"key": "reviews", "filter": {
///             "must": [{"key": "stars", "range": {"lt": 2}},
///                      {"key": "at", "range": {"gte": "2024-01-01"}}]}}}}"#,
/// )?;
/// let book = serde_json::json!({
///     "lang": "en", "year": 2021,
///     "reviews": [{"stars": 1, "at": "2022-05-01T10:00:00Z"}, {"stars": 5, "at": "2024-02-01"}],
/// });
/// assert!(filter.matches(1.into(), book.as_object().unwrap()));
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
    /// The values at `key` pass one of the tests.
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
    /// The point has the vector of this name; the unnamed one is `""`.
    HasVector(String),
    /// The id belongs to a slice of all ids.
    Slice(Slice),
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

/// What the values at a path are tested for. One value is enough, and a value
/// that is an array passes when one of its elements does.
#[derive(Debug, Clone, PartialEq)]
pub enum Test {
    /// Equals a bool, an integer or a string.
    Match(Scalar),
    /// Equals one of these; an empty list matches nothing.
    Any(Vec<Scalar>),
    /// Equals none of these and is not null.
    Except(Vec<Scalar>),
    /// Has all words of this text, where the field has a text index;
    /// contains the text, case-sensitively, where not.
    Text(String),
    /// Has, or contains, one of these words.
    TextAny(Vec<String>),
    /// Has the words of this text one after the other, or contains the text.
    Phrase(String),
    /// Begins with this text, case-sensitively.
    Prefix(String),
    /// Contains this text, case-sensitively.
    Substring(String),
    /// A number between bounds.
    Range(Range),
    /// A date-time between bounds.
    DateRange(Range<DateTime>),
    /// The count of values between bounds; arrays are not opened.
    ValuesCount(Range),
    /// A place in a box.
    GeoBox(GeoBox),
    /// A place near another.
    GeoRadius(GeoRadius),
    /// A place in a polygon.
    GeoPolygon(GeoPolygon),
    /// Whether all values are missing, null or empty arrays.
    IsEmpty(bool),
    /// Whether some value is literally null.
    IsNull(bool),
}

/// A value a keyword condition compares with; kinds never match each other.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Scalar {
    /// true or false.
    Bool(bool),
    /// An integer; a stored float never equals it.
    Integer(i64),
    /// A string.
    Keyword(String),
}

/// Bounds of a number or a date-time; an absent bound is open.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Range<T = f64> {
    /// Less than.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub lt: Option<T>,
    /// Greater than.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub gt: Option<T>,
    /// Greater or equal.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub gte: Option<T>,
    /// Less or equal.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub lte: Option<T>,
}

impl<T> Default for Range<T> {
    fn default() -> Self {
        Self { lt: None, gt: None, gte: None, lte: None }
    }
}

impl<T: PartialOrd> Range<T> {
    pub(crate) fn contains(&self, value: &T) -> bool {
        !self.ends_before(value) && !self.starts_after(value)
    }

    /// Whether the value is beyond the upper bounds.
    pub(crate) fn ends_before(&self, value: &T) -> bool {
        !(self.lt.as_ref().is_none_or(|bound| value < bound)
            && self.lte.as_ref().is_none_or(|bound| value <= bound))
    }

    /// Whether the value is below the lower bounds.
    pub(crate) fn starts_after(&self, value: &T) -> bool {
        !(self.gt.as_ref().is_none_or(|bound| value > bound)
            && self.gte.as_ref().is_none_or(|bound| value >= bound))
    }
}

impl Range<DateTime> {
    /// The same bounds in microseconds.
    pub(crate) fn micros(&self) -> Range<i64> {
        let micros = |bound: &Option<DateTime>| bound.as_ref().map(DateTime::micros);
        Range { lt: micros(&self.lt), gt: micros(&self.gt), gte: micros(&self.gte), lte: micros(&self.lte) }
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

    /// Whether a point of this id and payload, without vectors, matches in a
    /// collection without payload indexes.
    pub fn matches(&self, id: PointId, payload: &Map<String, Value>) -> bool {
        self.matches_with(id, payload, &|_| false)
    }

    /// As [`matches`](Self::matches) for a point that has the vectors of which
    /// `has_vector` says so.
    pub fn matches_with(
        &self,
        id: PointId,
        payload: &Map<String, Value>,
        has_vector: &dyn Fn(&str) -> bool,
    ) -> bool {
        // Without a schema there is no text analysis that could be unknown.
        Prepared::new(self, &Schema::new())
            .is_ok_and(|prepared| prepared.matches(&Subject { id: Some(id), payload, has_vector }))
    }
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
}

#[cfg(test)]
mod tests;
