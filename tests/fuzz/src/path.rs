//! Paths into payloads: what is read of one reaches what a naive walk reaches, and
//! comes back as it was written; removing and merging change what it reaches and
//! nothing deeper than was promised.

use cairn_index::{Path, fuzzing};
use serde_json::{Map, Value, json};

#[derive(Debug, Clone)]
enum Step {
    Key(String),
    Index(usize),
    Each,
}

pub(crate) fn check(input: &[u8]) {
    let Ok(text) = std::str::from_utf8(input) else { return };
    let path = match (text.parse::<Path>(), read(text)) {
        (Ok(path), Some(steps)) => (path, steps),
        (Err(error), None) => return assert!(error.to_string().contains("Invalid json path")),
        (read, known) => panic!("{text:?} is read as {read:?}, and means {known:?}"),
    };
    let (path, steps) = path;
    assert_eq!(path.as_str(), text);
    let again: Path = serde_json::from_value(json!(path)).expect("what was read is written");
    assert_eq!(again, path);
    let anew = fuzzing::written_anew(&path);
    let read_anew: Path = anew.as_str().parse().unwrap_or_else(|error| panic!("{text:?} anew: {error}"));
    assert!(fuzzing::reach_the_same(&path, &read_anew), "{text:?} anew is {:?}", anew.as_str());

    for payload in [sample(), made_for(&steps)] {
        let reached = path.values(&payload);
        let known = walk(&payload, &steps);
        assert_eq!(reached, known, "{text:?} in {payload:?}");
        removes(&path, &steps, &payload);
        merges(&path, &steps, &payload);
    }
}

/// The grammar, letter by letter.
fn read(text: &str) -> Option<Vec<Step>> {
    let letters: Vec<char> = text.chars().collect();
    let (mut steps, mut at) = (Vec::new(), 0);
    loop {
        let mut key = String::new();
        if letters.get(at) == Some(&'"') {
            at += 1;
            while *letters.get(at)? != '"' {
                key.push(letters[at]);
                at += 1;
            }
            at += 1;
        } else {
            while letters.get(at).is_some_and(|c| c.is_alphanumeric() || matches!(c, '_' | '-')) {
                key.push(letters[at]);
                at += 1;
            }
            if key.is_empty() {
                return None;
            }
        }
        steps.push(Step::Key(key));
        while letters.get(at) == Some(&'[') {
            let digits: String = letters[at + 1..].iter().take_while(|c| **c != ']').collect();
            at += digits.chars().count() + 1;
            if letters.get(at) != Some(&']') {
                return None;
            }
            at += 1;
            steps.push(if digits.is_empty() { Step::Each } else { Step::Index(digits.parse().ok()?) });
        }
        match letters.get(at) {
            None => return Some(steps),
            Some('.') => at += 1,
            Some(_) => return None,
        }
    }
}

fn walk<'v>(payload: &'v Map<String, Value>, steps: &[Step]) -> Vec<&'v Value> {
    let Some((Step::Key(first), rest)) = steps.split_first() else { return Vec::new() };
    let mut here: Vec<&Value> = payload.get(first).into_iter().collect();
    for step in rest {
        here = here
            .into_iter()
            .flat_map(|value| match (step, value) {
                (Step::Key(key), Value::Object(object)) => object.get(key).into_iter().collect(),
                (Step::Index(index), Value::Array(items)) => items.get(*index).into_iter().collect(),
                (Step::Each, Value::Array(items)) => items.iter().collect::<Vec<_>>(),
                _ => Vec::new(),
            })
            .collect();
    }
    here
}

fn sample() -> Map<String, Value> {
    let payload = json!({
        "a": { "b": [1, { "c": null }], "c": [[1], [[2]], []], "": 0 },
        "b": [{ "b": 1 }, { "b": [2, 3] }, 4, null],
        "é": { "a b": { "b": true } },
    });
    payload.as_object().cloned().unwrap_or_default()
}

/// A payload in which the path reaches something, unless it is a long way.
fn made_for(steps: &[Step]) -> Map<String, Value> {
    let mut value = json!({ "b": 1 });
    for step in steps.iter().take(90).rev() {
        value = match step {
            Step::Key(key) => {
                Value::Object(Map::from_iter([(key.clone(), value), ("z".to_owned(), json!(1))]))
            }
            Step::Index(index) => {
                let mut items = vec![Value::Null; (*index).min(5)];
                items.push(value);
                Value::Array(items)
            }
            Step::Each => json!([value, 1]),
        };
    }
    value.as_object().cloned().unwrap_or_default()
}

fn removes(path: &Path, steps: &[Step], payload: &Map<String, Value>) {
    let mut left = payload.clone();
    let removed = fuzzing::remove(path, &mut left);
    assert_eq!(removed, left != *payload, "{path} in {payload:?}");
    if matches!(steps.last(), Some(Step::Index(_))) {
        // Elements that an index names stay.
        assert!(!removed);
    } else {
        assert!(path.values(&left).is_empty(), "{path} is left in {left:?}");
    }
}

fn merges(path: &Path, steps: &[Step], payload: &Map<String, Value>) {
    // Nobody may ask for more levels.
    if steps.len() > 98 {
        return;
    }
    let merged = Map::from_iter([("merged".to_owned(), json!([1]))]);
    let mut made = payload.clone();
    fuzzing::merge(path, &mut made, &merged);
    for value in path.values(&made) {
        assert_eq!(value.get("merged"), Some(&json!([1])), "{path} in {made:?}");
    }
    let promised = fuzzing::levels(path) + depth(&Value::Object(merged));
    let before = depth(&Value::Object(payload.clone()));
    let after = depth(&Value::Object(made));
    assert!(after <= before.max(promised), "{path} makes {after} levels of {before}");
}

fn depth(value: &Value) -> usize {
    match value {
        Value::Array(items) => 1 + items.iter().map(depth).max().unwrap_or(0),
        Value::Object(fields) => 1 + fields.values().map(depth).max().unwrap_or(0),
        _ => 0,
    }
}
