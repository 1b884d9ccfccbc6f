//! Filters: what is read comes back as it was meant; `must_not` is its opposite;
//! and indexes count the points that reading every payload counts.

use std::sync::LazyLock;

use cairn_index::{
    Collection, CollectionConfig, Condition, Database, Filter, Metric, Options, Point, PointId,
};
use serde_json::{Map, Value, json};
use tempfile::TempDir;

use crate::service::scratch;

/// Small, so that most points are in segments that have indexes.
const SEAL_POINTS: usize = 16;

struct Known {
    points: Vec<(PointId, Map<String, Value>)>,
    indexed: Collection,
    _folder: TempDir,
}

/// Neither texts nor UUIDs have an index here: with one, other spellings match, too.
static KNOWN: LazyLock<Known> = LazyLock::new(|| {
    let folder = scratch();
    let options = Options { seal_points: SEAL_POINTS, ..Options::default() };
    let database = Database::open_with(folder.path(), options).expect("a new folder can be opened");
    let mut config = CollectionConfig::new(1, Metric::Dot);
    for (path, kind) in [
        ("k", "keyword"),
        ("i", "integer"),
        ("f", "float"),
        ("b", "bool"),
        ("d", "datetime"),
        ("g", "geo"),
        ("o.k", "keyword"),
        ("l[].k", "keyword"),
        ("l[].i", "integer"),
    ] {
        let schema = serde_json::from_value(json!(kind)).expect("it is a kind");
        config = config.with_index(path, schema).expect("it is a path");
    }
    let indexed = database.create_collection("c", config).expect("it is new");
    let points = points();
    for chunk in points.chunks(SEAL_POINTS / 2) {
        let chunk = chunk.iter().map(|(id, payload)| {
            let point = Point::new(*id, vec![1.0]);
            point.with_payload(Value::Object(payload.clone())).expect("it is an object")
        });
        indexed.upsert(chunk.collect()).expect("there is room");
    }
    indexed.index_now().expect("there is room");
    Known { points, indexed, _folder: folder }
});

/// Every kind of value, also where it does not belong.
fn points() -> Vec<(PointId, Map<String, Value>)> {
    let values = [
        ("k", json!(["a", "b", "ab", "", "é", ["a", "b"], [], null, 1, [null]])),
        ("i", json!([0, 1, -1, 5, i64::MAX, u64::MAX, [1, 2], 1.0, "1", null, 9_007_199_254_740_993_i64])),
        ("f", json!([0.5, -0.0, 0, 1, 1.5, -2.5, [0.5, 3.5], 1e300, "0.5"])),
        ("b", json!([true, false, [true, false], null, "true"])),
        (
            "d",
            json!([
                "2024-01-01",
                "2024-01-01T00:00:00Z",
                "2024-06-01 12:00",
                "1969-07-20",
                ["2024-01-01"],
                3
            ]),
        ),
        ("u", json!(["936da01f-9abd-4d9d-80c7-02af85c822a8", "936DA01F9ABD4D9D80C702AF85C822A8", "x", null])),
        (
            "g",
            json!([{"lon": 10, "lat": 20}, {"lon": -170.5, "lat": -80}, [{"lon": 0, "lat": 0}], {"lon": 200, "lat": 0}, {}]),
        ),
        ("t", json!(["red fox", "Red", "the quick red fox", ["fox", "the"], 1])),
        ("o", json!([{"k": "a"}, {"k": ["a", "b"], "i": 1}, {}, null, [{"k": "a"}]])),
        (
            "l",
            json!([[{"k": "a", "i": 1}, {"k": "b", "i": 2}], [{"k": "b", "i": 1}], [], [1, {"k": null}], {"k": "a"}]),
        ),
    ];
    (0..60)
        .map(|number: usize| {
            let id = if number.is_multiple_of(7) {
                "936da01f-9abd-4d9d-80c7-02af85c822a8".parse().expect("it is a UUID")
            } else {
                PointId::from(number as u64)
            };
            let mut payload = Map::new();
            for (place, (key, values)) in values.iter().enumerate() {
                // Each key is missing now and then, and goes through its values at its own pace.
                let choice = (number + 3) * (number + 7) * (place + 1) / 3 + number;
                if !(number + place).is_multiple_of(5) {
                    let values = values.as_array().expect("it is a list");
                    payload.insert((*key).to_owned(), values[choice % values.len()].clone());
                }
            }
            (id, payload)
        })
        .collect::<std::collections::BTreeMap<_, _>>()
        .into_iter()
        .collect()
}

pub(crate) fn check(input: &[u8]) {
    let Ok(filter) = serde_json::from_slice::<Filter>(input) else { return };
    let written = serde_json::to_string(&filter).expect("numbers of JSON are finite");
    let again: Filter = match serde_json::from_str(&written) {
        Ok(again) => again,
        // A list of one is written with its brackets, which nest deeper.
        Err(error) => return assert!(error.to_string().contains("recursion limit"), "{written}: {error}"),
    };
    assert_eq!(again, filter, "{written}");

    let has_vector = |name: &str| name.is_empty();
    let not = Filter { must_not: vec![Condition::Filter(Box::new(filter.clone()))], ..Filter::default() };
    let mut matches = 0;
    for (id, payload) in &KNOWN.points {
        let is = filter.matches_with(*id, payload, &has_vector);
        assert_eq!(again.matches_with(*id, payload, &has_vector), is, "{written} of {payload:?}");
        assert_ne!(not.matches_with(*id, payload, &has_vector), is, "{written} and not, of {payload:?}");
        matches += usize::from(is);
    }
    let count = |filter: &Filter| {
        KNOWN.indexed.count(Some(filter)).unwrap_or_else(|error| panic!("{written}: {error}"))
    };
    assert_eq!(count(&filter), matches, "{written} by indexes");
    assert_eq!(count(&not), KNOWN.points.len() - matches, "{written} and not, by indexes");
}
