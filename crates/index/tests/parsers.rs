//! What clients write is read without a panic, and what was read is written so
//! that it reads as the same.

use cairn_index::{DateTime, Filter, Path};
use proptest::prelude::*;
use serde_json::{Map, Value, json};

/// What paths are made of, in any order.
const PATHLIKE: &str = r#"([a-zA-Z0-9_\-]{0,4}|\.|\[|\]|[0-9]{1,20}|"|\[\]|\[0\]|é| |\\){0,10}"#;

fn path() -> impl Strategy<Value = String> {
    let key = prop_oneof!["[a-z_][a-z0-9_-]{0,3}", r#""[^"\\]{1,4}""#];
    let step = (key, prop_oneof![Just(""), Just("[]"), Just("[3]")]);
    prop::collection::vec(step, 1..4).prop_map(|steps| {
        steps.iter().map(|(key, brackets)| format!("{key}{brackets}")).collect::<Vec<_>>().join(".")
    })
}

fn scalar() -> impl Strategy<Value = Value> {
    prop_oneof![
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        ".{0,5}".prop_map(Value::from)
    ]
}

fn test() -> impl Strategy<Value = Value> {
    let number = -1e6..1e6f64;
    let (lat, lon) = (-90.0..90.0f64, -180.0..180.0f64);
    prop_oneof![
        scalar().prop_map(|value| json!({ "match": { "value": value } })),
        prop::collection::vec("[a-z]{0,4}", 1..4).prop_map(|any| json!({ "match": { "any": any } })),
        prop::collection::vec(any::<i64>(), 1..4).prop_map(|except| json!({ "match": { "except": except } })),
        "[a-z ]{1,9}".prop_map(|text| json!({ "match": { "text": text } })),
        "[a-z ]{1,9}".prop_map(|text| json!({ "match": { "phrase": text } })),
        (number.clone(), number).prop_map(|(gt, lte)| json!({ "range": { "gt": gt, "lte": lte } })),
        (0..4_000_000_000u32).prop_map(|at| {
            json!({ "range": { "gte": DateTime::from_millis(u64::from(at) * 1000).to_string() } })
        }),
        (lat, lon, 0.0..1e7f64).prop_map(|(lat, lon, radius)| {
            json!({ "geo_radius": { "center": { "lat": lat, "lon": lon }, "radius": radius } })
        }),
        (0..9usize).prop_map(|gte| json!({ "values_count": { "gte": gte } })),
        any::<bool>().prop_map(|is| json!({ "is_empty": is })),
        any::<bool>().prop_map(|is| json!({ "is_null": is })),
    ]
}

fn condition() -> impl Strategy<Value = Value> {
    let field = (path(), test()).prop_map(|(path, mut test)| {
        test["key"] = path.into();
        test
    });
    prop_oneof![
        8 => field,
        1 => path().prop_map(|path| json!({ "is_empty": { "key": path } })),
        1 => path().prop_map(|path| json!({ "is_null": { "key": path } })),
        1 => prop::collection::vec(any::<u64>(), 0..4).prop_map(|ids| json!({ "has_id": ids })),
        1 => "[a-z]{0,4}".prop_map(|name| json!({ "has_vector": name })),
    ]
}

fn filter() -> impl Strategy<Value = Value> {
    condition().prop_recursive(3, 12, 3, |inner| {
        let some = prop::collection::vec(inner, 1..3);
        (some.clone(), some.clone(), some, path(), 0..3u8).prop_map(|(must, should, not, path, kind)| {
            let count = should.len();
            let filter = json!({
                "must": must, "must_not": not, "min_should": { "conditions": should, "min_count": count }
            });
            if kind == 0 { json!({ "nested": { "key": path, "filter": filter } }) } else { filter }
        })
    })
}

/// Any JSON, with the keys that filters have more often than others.
fn anything() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![Just(Value::Null), scalar(), any::<f64>().prop_map(Value::from)];
    let key = prop_oneof![
        "must|should|must_not|min_should|conditions|min_count|key|match|range|nested|filter|has_id|has_vector",
        "value|any|except|text|gt|lte|geo_radius|center|lat|lon|is_empty|is_null|values_count|slice",
        ".{0,3}",
    ];
    leaf.prop_recursive(5, 40, 4, move |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
            prop::collection::vec((key.clone(), inner), 0..4)
                .prop_map(|pairs| Value::from(pairs.into_iter().collect::<Map<_, _>>())),
        ]
    })
}

fn comes_back(filter: &Filter) {
    let written = serde_json::to_string(filter).unwrap();
    let again: Filter = serde_json::from_str(&written).unwrap_or_else(|error| panic!("{written}: {error}"));
    assert_eq!(*filter, again, "{written}");
}

proptest! {
    #[test]
    fn a_path_comes_back_as_it_was_written(text in prop_oneof![path(), PATHLIKE.prop_map(String::from), ".{0,12}"]) {
        if let Ok(path) = text.parse::<Path>() {
            prop_assert_eq!(path.as_str(), &text);
            let again: Path = serde_json::from_value(serde_json::to_value(&path).unwrap()).unwrap();
            prop_assert_eq!(&again, &path);
            // Walking needs no more than a path that parsed.
            path.values(&Map::from_iter([("a".to_owned(), json!([{ "b": [1] }]))]));
        }
    }

    #[test]
    fn a_path_that_is_right_is_read(text in path()) {
        prop_assert!(text.parse::<Path>().is_ok(), "{}", text);
    }

    #[test]
    fn a_filter_comes_back_as_it_was_meant(condition in filter()) {
        let filter = serde_json::from_value::<Filter>(json!({ "must": [condition] }));
        comes_back(&filter.unwrap());
    }

    #[test]
    fn whatever_is_read_as_a_filter_comes_back(value in anything()) {
        if let Ok(filter) = serde_json::from_value::<Filter>(value) {
            comes_back(&filter);
        }
    }

    #[test]
    fn a_moment_comes_back(text in "[0-9]{4}-[0-9]{1,2}-[0-9]{1,2}([T ][0-9]{1,2}:[0-9]{2}(:[0-9]{2}(\\.[0-9]{1,9})?)?)?(Z|[+-][0-9]{2}:?[0-9]{2})?") {
        if let Ok(moment) = text.parse::<DateTime>() {
            prop_assert_eq!(moment.to_string().parse::<DateTime>().unwrap(), moment, "{}", text);
        }
    }
}
