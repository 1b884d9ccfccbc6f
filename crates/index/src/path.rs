//! Paths into a payload: `a.b`, `a[].b`, `a[0]`, `"quoted.key"`.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};
use serde_json::{Map, Value};

use crate::error::Error;

/// A path into a payload, as used by filters.
///
/// Keys are letters, digits, `_` and `-`; any other key is written in double
/// quotes. `[n]` picks one element of an array, `[]` walks all of them. An
/// array in the middle of a path is entered only by `[]` or `[n]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Path {
    text: String,
    steps: Vec<Step>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Step {
    Key(String),
    Index(usize),
    Each,
}

impl Path {
    /// The path as it was written.
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// The keys of the path in order, without its brackets.
    pub(crate) fn keys(&self) -> Vec<&str> {
        let mut keys = Vec::new();
        for step in &self.steps {
            if let Step::Key(key) = step {
                keys.push(key.as_str());
            }
        }
        keys
    }

    /// How many levels below the top what the path reaches may lie: a bracket is one,
    /// as a key is.
    pub(crate) fn levels(&self) -> usize {
        self.steps.len()
    }

    /// The same path, written anew.
    pub(crate) fn anew(&self) -> Self {
        Self::of(&self.steps)
    }

    /// The path of what `inner` reaches from each value this path reaches.
    pub(crate) fn join(&self, inner: &Self) -> Result<Self, Error> {
        format!("{}.{}", self.text, inner.text).parse()
    }

    /// The path of the elements of the array that this one reaches.
    pub(crate) fn each(&self) -> Self {
        match self.steps.last() {
            Some(Step::Each) => self.clone(),
            _ => Self {
                text: format!("{}[]", self.text),
                steps: self.steps.iter().cloned().chain([Step::Each]).collect(),
            },
        }
    }

    /// Whether both reach the same, however they are written.
    pub(crate) fn reaches_as(&self, other: &Self) -> bool {
        self.steps == other.steps
    }

    /// What is left of the path behind another one that it begins with; `None`
    /// where it goes on without a key.
    pub(crate) fn within(&self, outer: &Self) -> Option<Self> {
        let steps = self.steps.strip_prefix(outer.steps.as_slice())?;
        matches!(steps.first(), Some(Step::Key(_))).then(|| Self::of(steps))
    }

    fn of(steps: &[Step]) -> Self {
        let mut text = String::new();
        for step in steps {
            match step {
                Step::Key(key) => {
                    let dot = if text.is_empty() { "" } else { "." };
                    let quote = if key.is_empty() || key.contains(|c| !is_bare(c)) { "\"" } else { "" };
                    text.push_str(&format!("{dot}{quote}{key}{quote}"));
                }
                Step::Index(index) => text.push_str(&format!("[{index}]")),
                Step::Each => text.push_str("[]"),
            }
        }
        Self { text, steps: steps.to_vec() }
    }

    /// The values the path reaches, in document order. Arrays at the end are
    /// not opened here: callers that match elements open them once.
    pub fn values<'v>(&self, object: &'v Map<String, Value>) -> Vec<&'v Value> {
        let mut reached = Vec::new();
        let Some((Step::Key(first), rest)) = self.steps.split_first() else {
            return reached;
        };
        if let Some(value) = object.get(first) {
            walk(value, rest, &mut reached);
        }
        reached
    }
}

impl Path {
    /// Removes what the path reaches; true if there was something. Elements of
    /// arrays that an index names stay, with what the path removes inside them.
    pub(crate) fn remove(&self, object: &mut Map<String, Value>) -> bool {
        let [Step::Key(first), rest @ ..] = &self.steps[..] else { return false };
        if rest.is_empty() {
            return object.shift_remove(first).is_some();
        }
        object.get_mut(first).is_some_and(|value| remove(value, rest))
    }

    /// Merges `payload` into each object the path names, making objects where
    /// there is something else or nothing; an index past the end is passed over.
    pub(crate) fn merge(&self, object: &mut Map<String, Value>, payload: &Map<String, Value>) {
        let [Step::Key(first), rest @ ..] = &self.steps[..] else { return };
        let value = object.entry(first.clone()).or_insert(Value::Null);
        merge_at(value, rest, payload);
    }
}

fn remove(value: &mut Value, steps: &[Step]) -> bool {
    match (steps, value) {
        ([Step::Key(key)], Value::Object(object)) => object.shift_remove(key).is_some(),
        ([Step::Key(key), rest @ ..], Value::Object(object)) => {
            object.get_mut(key).is_some_and(|inner| remove(inner, rest))
        }
        ([Step::Each], Value::Array(items)) => !std::mem::take(items).is_empty(),
        ([Step::Each, rest @ ..], Value::Array(items)) => {
            items.iter_mut().filter_map(|item| remove(item, rest).then_some(())).count() > 0
        }
        ([Step::Index(index), rest @ ..], Value::Array(items)) if !rest.is_empty() => {
            items.get_mut(*index).is_some_and(|item| remove(item, rest))
        }
        _ => false,
    }
}

fn merge_at(value: &mut Value, steps: &[Step], payload: &Map<String, Value>) {
    match steps {
        [] => {
            if !value.is_object() {
                *value = Value::Object(Map::new());
            }
            merge(value.as_object_mut().expect("it was just made one"), payload);
        }
        [Step::Key(key), rest @ ..] => {
            if !value.is_object() {
                *value = Value::Object(Map::new());
            }
            let object = value.as_object_mut().expect("it was just made one");
            merge_at(object.entry(key.clone()).or_insert(Value::Null), rest, payload);
        }
        [Step::Index(index), rest @ ..] => {
            if let Some(item) = value.as_array_mut().and_then(|items| items.get_mut(*index)) {
                merge_at(item, rest, payload);
            }
        }
        [Step::Each, rest @ ..] => {
            if !value.is_array() {
                *value = Value::Array(Vec::new());
            }
            for item in value.as_array_mut().expect("it was just made one") {
                merge_at(item, rest, payload);
            }
        }
    }
}

/// Puts the values of `payload` over those of `object`; null removes a key.
pub(crate) fn merge(object: &mut Map<String, Value>, payload: &Map<String, Value>) {
    for (key, value) in payload {
        if value.is_null() {
            object.shift_remove(key);
        } else {
            object.insert(key.clone(), value.clone());
        }
    }
}

fn walk<'v>(value: &'v Value, steps: &[Step], reached: &mut Vec<&'v Value>) {
    let Some((step, rest)) = steps.split_first() else {
        reached.push(value);
        return;
    };
    match (step, value) {
        (Step::Key(key), Value::Object(object)) => {
            if let Some(inner) = object.get(key) {
                walk(inner, rest, reached);
            }
        }
        (Step::Index(index), Value::Array(items)) => {
            if let Some(inner) = items.get(*index) {
                walk(inner, rest, reached);
            }
        }
        (Step::Each, Value::Array(items)) => {
            for inner in items {
                walk(inner, rest, reached);
            }
        }
        _ => {}
    }
}

impl FromStr for Path {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        let invalid = || Error::Filter(format!("Invalid json path: '{text}'"));
        let mut steps = Vec::new();
        let mut rest = text;
        loop {
            rest = key(rest, &mut steps).ok_or_else(invalid)?;
            while let Some(inner) = rest.strip_prefix('[') {
                let (index, after) = inner.split_once(']').ok_or_else(invalid)?;
                steps.push(if index.is_empty() {
                    Step::Each
                } else {
                    Step::Index(index.parse().map_err(|_| invalid())?)
                });
                rest = after;
            }
            if rest.is_empty() {
                return Ok(Self { text: text.to_owned(), steps });
            }
            rest = rest.strip_prefix('.').ok_or_else(invalid)?;
        }
    }
}

/// Whether a character is part of a key without quotes.
fn is_bare(c: char) -> bool {
    c.is_alphanumeric() || c == '_' || c == '-'
}

/// Reads one key from the front and returns what follows it.
fn key<'t>(text: &'t str, steps: &mut Vec<Step>) -> Option<&'t str> {
    if let Some(quoted) = text.strip_prefix('"') {
        let (key, rest) = quoted.split_once('"')?;
        steps.push(Step::Key(key.to_owned()));
        return Some(rest);
    }
    let end = text.find(|c| !is_bare(c)).unwrap_or(text.len());
    if end == 0 {
        return None;
    }
    steps.push(Step::Key(text[..end].to_owned()));
    Some(&text[end..])
}

impl fmt::Display for Path {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl Serialize for Path {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.text)
    }
}

impl<'de> Deserialize<'de> for Path {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn at(path: &str, payload: &Value) -> Vec<Value> {
        let path: Path = path.parse().unwrap();
        path.values(payload.as_object().unwrap()).into_iter().cloned().collect()
    }

    #[test]
    fn paths_reach_what_they_name_and_nothing_else() {
        let payload = json!({"a": {"b": 1}, "l": [{"x": 1}, {"x": 2}, 3], "d.e": 4, "n": [[1], [2]]});
        assert_eq!(at("a.b", &payload), [json!(1)]);
        assert_eq!(at("l[].x", &payload), [json!(1), json!(2)]);
        assert_eq!(at("l[1].x", &payload), [json!(2)]);
        assert_eq!(at("\"d.e\"", &payload), [json!(4)]);
        assert_eq!(at("n[][]", &payload), [json!(1), json!(2)]);
        // An array in the middle is not entered without brackets.
        assert!(at("l.x", &payload).is_empty());
        assert!(at("a.c", &payload).is_empty());
    }

    #[test]
    fn paths_change_what_they_reach() {
        let object = |value: Value| value.as_object().unwrap().clone();
        let path = |text: &str| text.parse::<Path>().unwrap();
        let start = object(json!({"a": {"b": 1, "c": 2}, "l": [{"x": 1, "y": 2}, {"x": 3}], "s": 4}));
        for (text, want) in [
            ("a.b", json!({"a": {"c": 2}, "l": [{"x": 1, "y": 2}, {"x": 3}], "s": 4})),
            ("l[].x", json!({"a": {"b": 1, "c": 2}, "l": [{"y": 2}, {}], "s": 4})),
            ("l[0].x", json!({"a": {"b": 1, "c": 2}, "l": [{"y": 2}, {"x": 3}], "s": 4})),
            ("gone.b", Value::Object(start.clone())),
        ] {
            let mut payload = start.clone();
            assert_eq!(path(text).remove(&mut payload), Value::Object(start.clone()) != want, "{text}");
            assert_eq!(Value::Object(payload), want, "{text}");
        }
        let new = object(json!({"n": 1, "b": null}));
        for (text, want) in [
            ("a", json!({"a": {"c": 2, "n": 1}, "l": [{"x": 1, "y": 2}, {"x": 3}], "s": 4})),
            ("s.t", json!({"a": {"b": 1, "c": 2}, "l": [{"x": 1, "y": 2}, {"x": 3}], "s": {"t": {"n": 1}}})),
            ("l[1]", json!({"a": {"b": 1, "c": 2}, "l": [{"x": 1, "y": 2}, {"x": 3, "n": 1}], "s": 4})),
            ("l[7]", Value::Object(start.clone())),
            ("s[]", json!({"a": {"b": 1, "c": 2}, "l": [{"x": 1, "y": 2}, {"x": 3}], "s": []})),
        ] {
            let mut payload = start.clone();
            path(text).merge(&mut payload, &new);
            assert_eq!(Value::Object(payload), want, "{text}");
        }
    }

    #[test]
    fn what_is_behind_a_path_is_a_path() {
        let path = |text: &str| text.parse::<Path>().unwrap();
        for (whole, outer, rest) in [
            ("a.b", "a", Some("b")),
            ("a[].b.c[]", "a[]", Some("b.c[]")),
            ("a[].\"b c\"[2].d", "a[]", Some("\"b c\"[2].d")),
            ("\"a\".b", "a", Some("b")),
            ("a[].b", "a", None),
            ("a", "a", None),
            ("a.b", "b", None),
        ] {
            let found = path(whole).within(&path(outer));
            assert_eq!(found, rest.map(path), "{whole} behind {outer}");
            assert_eq!(found.as_ref().map(Path::as_str), rest);
        }
        assert_eq!(path("a.b").each(), path("a.b[]"));
        assert_eq!(path("a.b[]").each(), path("a.b[]"));
    }

    #[test]
    fn malformed_paths_are_refused() {
        for text in ["", ".", "a.", "a..b", "a[", "a[x]", "a b", "\"a", "a]"] {
            assert!(text.parse::<Path>().is_err(), "{text:?}");
        }
    }
}
