//! Payloads, schemas and filters by chance: every kind of value and condition,
//! also where it does not belong.

use rand::seq::IndexedRandom;
use rand::{Rng, rngs::StdRng};
use serde_json::{Value, json};

use crate::point::Payload;
use crate::schema::Schema;

const UUIDS: [&str; 3] = [
    "936da01f-9abd-4d9d-80c7-02af85c822a8",
    "936DA01F9ABD4D9D80C702AF85C822A8",
    "00000000-0000-0000-0000-000000000001",
];
const TIMES: [&str; 5] =
    ["2024-01-01", "2024-01-01T00:00:00Z", "2024-06-01 12:00", "1969-07-20", "2024-13-01"];
const WORDS: [&str; 5] = ["red fox", "Red", "red", "the quick red fox", "fox the"];

fn word(rng: &mut StdRng) -> String {
    ["a", "b", "ab", "abc", "é", ""].choose(rng).unwrap().to_string()
}

fn place(rng: &mut StdRng) -> Value {
    json!({"lon": rng.random_range(-18..=18) * 10, "lat": rng.random_range(-9..=9) * 10})
}

/// One value, mostly of the kind its key is named for.
fn scalar(rng: &mut StdRng, key: &str) -> Value {
    let kinds = ["k", "i", "f", "b", "d", "u", "g", "t"];
    let kind = if rng.random_bool(0.15) { kinds.choose(rng).unwrap() } else { key };
    match kind {
        "i" => match rng.random_range(0..12) {
            0 => json!(i64::MAX),
            1 => json!(u64::MAX),
            2 => json!(9_007_199_254_740_993_i64),
            _ => json!(rng.random_range(-3..6)),
        },
        "f" => match rng.random_range(0..8) {
            0 => json!(-0.0),
            1 => json!(rng.random_range(-3..4)),
            _ => json!(f64::from(rng.random_range(-6..7)) / 2.0),
        },
        "b" => json!(rng.random_bool(0.5)),
        "d" => json!(TIMES.choose(rng).unwrap()),
        "u" => json!(UUIDS.choose(rng).unwrap()),
        "g" => place(rng),
        "t" => json!(WORDS.choose(rng).unwrap()),
        _ => json!(word(rng)),
    }
}

fn value(rng: &mut StdRng, key: &str) -> Value {
    match rng.random_range(0..20) {
        0..4 => {
            let count = rng.random_range(0..4);
            Value::Array(
                (0..count)
                    .map(|_| if rng.random_bool(0.1) { Value::Null } else { scalar(rng, key) })
                    .collect(),
            )
        }
        4 => json!([[scalar(rng, key)]]),
        5 | 6 => Value::Null,
        7 => json!({}),
        _ => scalar(rng, key),
    }
}

fn object(rng: &mut StdRng, keys: &[&str]) -> Payload {
    let mut object = Payload::new();
    for key in keys {
        if rng.random_bool(0.85) {
            object.insert((*key).to_owned(), value(rng, key));
        }
    }
    object
}

pub(super) fn payload(rng: &mut StdRng) -> Payload {
    let mut payload = object(rng, &["k", "i", "f", "b", "d", "u", "g", "t"]);
    if rng.random_bool(0.7) {
        payload.insert("o".to_owned(), Value::Object(object(rng, &["k", "i"])));
    }
    if rng.random_bool(0.8) {
        let count = rng.random_range(0..4);
        let items = (0..count).map(|_| {
            if rng.random_bool(0.1) { json!(1) } else { Value::Object(object(rng, &["k", "i", "t", "g"])) }
        });
        payload.insert("l".to_owned(), items.collect());
    }
    payload
}

pub(super) const PATHS: [&str; 14] =
    ["k", "i", "f", "b", "d", "u", "g", "t", "o.k", "o.i", "l[].k", "l[].i", "l[].t", "l[].g"];

pub(super) fn schema(rng: &mut StdRng) -> Schema {
    let of = |key: &str, rng: &mut StdRng| match key {
        "k" => json!("keyword"),
        "i" => json!("integer"),
        "f" => json!("float"),
        "b" => json!("bool"),
        "d" => json!("datetime"),
        "u" => json!("uuid"),
        "g" => json!("geo"),
        _ => {
            json!({"type": "text", "phrase_matching": rng.random_bool(0.5), "stopwords": {"custom": ["the"]}})
        }
    };
    let mut schema = Schema::new();
    for path in PATHS {
        if rng.random_bool(0.6) {
            // Some fields have an index of a kind that most values are not.
            let key =
                if rng.random_bool(0.1) { *["k", "i", "f", "t"].choose(rng).unwrap() } else { key_of(path) };
            let mut of_field = of(key, rng);
            if path.starts_with("l[]") && rng.random_bool(0.7) {
                if of_field.is_string() {
                    of_field = json!({ "type": of_field });
                }
                of_field["nested"] = json!("l");
            }
            schema.insert(path.to_owned(), serde_json::from_value(of_field).unwrap());
        }
    }
    schema
}

fn key_of(path: &str) -> &str {
    &path[path.len() - 1..]
}

fn range(rng: &mut StdRng, mut bound: impl FnMut(&mut StdRng) -> Value) -> Value {
    let mut range = Payload::new();
    for name in ["gt", "gte", "lt", "lte"] {
        if rng.random_bool(0.4) {
            range.insert(name.to_owned(), bound(rng));
        }
    }
    if range.is_empty() {
        range.insert("gte".to_owned(), bound(rng));
    }
    Value::Object(range)
}

fn text(rng: &mut StdRng) -> String {
    (*["red", "fox red", "red fox", "THE fox", "quick fox", "the", "", "blue fox", "e"].choose(rng).unwrap())
        .to_owned()
}

/// A value that `match` can compare with.
fn wanted(rng: &mut StdRng, key: &str) -> Value {
    loop {
        let value = scalar(rng, key);
        if value.is_string() || value.is_boolean() || value.as_i64().is_some() {
            return value;
        }
    }
}

fn area(rng: &mut StdRng) -> (&'static str, Value) {
    match rng.random_range(0..3) {
        0 => ("geo_bounding_box", json!({"top_left": place(rng), "bottom_right": place(rng)})),
        1 => ("geo_radius", json!({"center": place(rng), "radius": rng.random_range(0..9_000_000)})),
        _ => {
            let mut points: Vec<Value> = (0..rng.random_range(3..6)).map(|_| place(rng)).collect();
            points.push(points[0].clone());
            let hole = json!({"points": [points[0], points[1], points[2], points[0]]});
            let interiors = if rng.random_bool(0.3) { json!([hole]) } else { Value::Null };
            ("geo_polygon", json!({"exterior": {"points": points}, "interiors": interiors}))
        }
    }
}

fn test(rng: &mut StdRng, key: &str) -> (&'static str, Value) {
    let list =
        |rng: &mut StdRng| -> Value { (0..rng.random_range(0..4)).map(|_| wanted(rng, key)).collect() };
    match rng.random_range(0..16) {
        0 | 1 => ("match", json!({"value": wanted(rng, key)})),
        2 => ("match", json!({"any": list(rng)})),
        3 | 4 => ("match", json!({"except": list(rng)})),
        5 => ("match", json!({"prefix": word(rng)})),
        6 => ("match", json!({"substring": text(rng)})),
        7 => ("match", json!({"text": text(rng)})),
        8 => ("match", json!({"text_any": text(rng)})),
        9 => ("match", json!({"phrase": text(rng)})),
        10 => ("values_count", range(rng, |rng| json!(rng.random_range(0..4)))),
        11 => ("is_empty", json!(rng.random_bool(0.5))),
        12 => ("is_null", json!(rng.random_bool(0.5))),
        13 => ("range", range(rng, |rng| json!(TIMES[..4].choose(rng).unwrap()))),
        14 => area(rng),
        _ => ("range", range(rng, |rng| json!(f64::from(rng.random_range(-8..9)) / 2.0))),
    }
}

fn field(rng: &mut StdRng, paths: &[&str]) -> Value {
    let path = *paths.choose(rng).unwrap();
    let mut condition = Payload::from_iter([("key".to_owned(), json!(path))]);
    for _ in 0..if rng.random_bool(0.1) { 2 } else { 1 } {
        let (name, value) =
            if key_of(path) == "g" && rng.random_bool(0.5) { area(rng) } else { test(rng, key_of(path)) };
        condition.insert(name.to_owned(), value);
    }
    Value::Object(condition)
}

fn condition(rng: &mut StdRng, paths: &[&str], depth: u32) -> Value {
    match rng.random_range(0..20) {
        0 => json!({"is_empty": {"key": paths.choose(rng).unwrap()}}),
        1 => json!({"is_null": {"key": paths.choose(rng).unwrap()}}),
        2 => json!({"has_id": [1, 5, 7, 900, UUIDS[2]]}),
        3 => json!({"has_vector": if rng.random_bool(0.8) { "image" } else { "" }}),
        4 => json!({"slice": {"total": 3, "index": rng.random_range(0..3)}}),
        5 | 6 if depth > 0 => {
            let filter = filter(rng, &["k", "i", "t", "g"], depth - 1);
            json!({"nested": {"key": if rng.random_bool(0.5) { "l" } else { "l[]" }, "filter": filter}})
        }
        7..10 if depth > 0 => filter(rng, paths, depth - 1),
        _ => field(rng, paths),
    }
}

pub(super) fn filter(rng: &mut StdRng, paths: &[&str], depth: u32) -> Value {
    let list = |rng: &mut StdRng| -> Value {
        (0..rng.random_range(0..3)).map(|_| condition(rng, paths, depth)).collect()
    };
    let mut filter = Payload::new();
    for clause in ["must", "should", "must_not"] {
        if rng.random_bool(0.5) {
            filter.insert(clause.to_owned(), list(rng));
        }
    }
    if rng.random_bool(0.15) {
        let (conditions, min_count) = (list(rng), rng.random_range(0..4));
        filter.insert("min_should".to_owned(), json!({"conditions": conditions, "min_count": min_count}));
    }
    Value::Object(filter)
}
