//! What every condition means, by hand-written examples.

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
        (json!({"must": [{"is_empty": {"key": "a["}}]}), "Invalid json path: 'a['"),
        (json!({"must": [{"key": "a", "is_empty": 1}]}), "invalid type"),
        (json!({"must": [{"key": "a", "range": {"gte": "soon"}}]}), "`soon` is not a date-time"),
        (json!({"must": [{"key": "a", "range": {"gtee": 1}}]}), "unknown field `gtee`"),
        (json!({"must": [{"slice": {"total": 2, "index": 2}}]}), "must be less than the total"),
        (
            json!({"must": [{"key": "a", "geo_radius": {"center": {"lon": 200, "lat": 0}, "radius": 1}}]}),
            "are no place",
        ),
        (json!({"must": [{"key": "a", "geo_polygon": {"exterior": {"points": []}}}]}), "at least 4 points"),
    ] {
        let error = serde_json::from_value::<Filter>(filter).unwrap_err().to_string();
        assert!(error.contains(part), "{error} should contain {part}");
    }
}

#[test]
fn texts_without_an_index_are_case_sensitive_parts_of_strings() {
    let payload = json!({"t": "The quick Fox", "l": ["red", "green tea", 3], "n": 5});
    for (key, test, value, want) in [
        ("t", "text", "quick Fox", true),
        ("t", "text", "Fox quick", false),
        ("t", "text", "quick fox", false),
        ("t", "text", "", true),
        ("t", "text_any", "dog Fox", true),
        ("t", "text_any", "dog fox", false),
        ("t", "text_any", " ", false),
        ("t", "phrase", "quick F", true),
        ("t", "phrase", "The Fox", false),
        ("t", "prefix", "The q", true),
        ("t", "prefix", "quick", false),
        ("t", "substring", "ick", true),
        ("t", "substring", "ICK", false),
        ("l", "prefix", "green", true),
        ("l", "substring", "een t", true),
        ("n", "substring", "5", false),
        ("gone", "text", "", false),
    ] {
        let got = one(&json!({"key": key, "match": {test: value}}), &payload);
        assert_eq!(got, want, "{key} {test} {value}");
    }
}

#[test]
fn except_counts_other_kinds_as_outside_but_not_null() {
    let payload = json!({"f": 1.5, "i": 1, "l": ["a", "b"], "o": {"a": 1}, "n": null, "ln": [null], "e": []});
    for (key, list, want) in [
        ("f", json!(["a"]), true),
        ("i", json!(["a"]), true),
        ("i", json!([1]), false),
        ("l", json!(["a"]), true),
        ("l", json!(["a", "b"]), false),
        ("o", json!([]), true),
        ("n", json!([]), false),
        ("ln", json!([]), false),
        ("e", json!([]), false),
    ] {
        assert_eq!(one(&json!({"key": key, "match": {"except": list}}), &payload), want, "{key} {list}");
    }
}

#[test]
fn ranges_of_strings_are_ranges_of_time() {
    let payload = json!({"at": "2024-02-29 12:00", "n": 5, "bad": "soon", "l": ["2020-01-01", "2030-01-01"]});
    let within = |key: &str, range: Value| one(&json!({"key": key, "range": range}), &payload);
    assert!(within("at", json!({"gte": "2024-02-29T14:00:00+02:00", "lt": "2024-03-01"})));
    assert!(!within("at", json!({"gt": "2024-02-29T12:00:00Z"})));
    assert!(within("l", json!({"gte": "2029-01-01"})));
    assert!(!within("n", json!({"gte": "1970-01-01"})));
    assert!(!within("bad", json!({"gte": "1970-01-01"})));
    assert!(!within("at", json!({"gte": 0})));
    assert!(within("n", json!({"gte": 0, "lt": null})));
    assert!(within("n", json!({})));
}

#[test]
fn places_are_in_areas() {
    let payload = json!({
        "p": {"lon": 13.4, "lat": 52.5}, "l": [{"lon": 0, "lat": 0}, {"lon": 13.4, "lat": 52.5}],
        "bad": {"lon": 190, "lat": 0}, "half": {"lon": 1.0}
    });
    let around = json!({"top_left": {"lon": 13, "lat": 53}, "bottom_right": {"lon": 14, "lat": 52}});
    let near = json!({"center": {"lon": 13.0, "lat": 52.5}, "radius": 30_000.0});
    let ring = json!([{"lon": 13, "lat": 52}, {"lon": 14, "lat": 52}, {"lon": 13.5, "lat": 53}, {"lon": 13, "lat": 52}]);
    for (kind, area) in [
        ("geo_bounding_box", around),
        ("geo_radius", near),
        ("geo_polygon", json!({"exterior": {"points": ring}})),
    ] {
        for (key, want) in [("p", true), ("l", true), ("bad", false), ("half", false), ("gone", false)] {
            assert_eq!(one(&json!({"key": key, kind: area}), &payload), want, "{kind} {key}");
        }
    }
    assert!(!one(
        &json!({"key": "p", "geo_polygon": {"exterior": {"points": ring}, "interiors": [{"points": ring}]}}),
        &payload
    ));
}

#[test]
fn a_field_can_be_tested_for_being_empty_or_null() {
    let payload = json!({"null": null, "none": [], "some": [null], "x": 1, "l": [{"a": null}, {"a": 1}]});
    for (key, empty, null) in [
        ("null", true, true),
        ("none", true, false),
        ("some", false, false),
        ("missing", true, false),
        ("x", false, false),
        ("l[].a", false, true),
        ("l[0].a", true, true),
    ] {
        for flag in [true, false] {
            assert_eq!(one(&json!({"key": key, "is_empty": flag}), &payload), empty == flag, "{key}");
            assert_eq!(one(&json!({"key": key, "is_null": flag}), &payload), null == flag, "{key}");
        }
    }
}

#[test]
fn points_are_chosen_by_id_vector_and_slice() {
    let payload = json!({"l": [{"a": 1}]});
    let payload = payload.as_object().unwrap();
    let read = |condition: Value| -> Filter { serde_json::from_value(json!({ "must": condition })).unwrap() };
    let id = PointId::Num(5);
    let has_vector = |name: &str| name == "image";
    assert!(read(json!({"has_vector": "image"})).matches_with(id, payload, &has_vector));
    assert!(!read(json!({"has_vector": ""})).matches_with(id, payload, &has_vector));
    assert!(!read(json!({"has_vector": "image"})).matches(id, payload));
    let of: Vec<bool> = (0..3)
        .map(|index| read(json!({"slice": {"total": 3, "index": index}})).matches(id, payload))
        .collect();
    assert_eq!(of.iter().filter(|is| **is).count(), 1);
    // An element of an array is not a point.
    for condition in
        [json!({"has_id": [5]}), json!({"has_vector": "image"}), json!({"slice": {"total": 1, "index": 0}})]
    {
        let nested = json!({"nested": {"key": "l", "filter": {"must": condition}}});
        assert!(read(condition).matches_with(id, payload, &has_vector));
        assert!(!read(nested).matches_with(id, payload, &has_vector));
    }
}

#[test]
fn must_not_inside_nested_asks_for_one_element_that_fails() {
    let payload = json!({"diet": [{"food": "leaves"}, {"food": "meat"}], "bare": [1, 2]});
    let without = |key: &str, food: &str| json!({"nested": {"key": key, "filter": {"must_not": {"key": "food", "match": {"value": food}}}}});
    assert!(one(&without("diet", "meat"), &payload));
    assert!(one(&without("diet[]", "none"), &payload));
    assert!(!one(&without("bare", "none"), &payload));
    assert!(!one(&without("gone", "none"), &payload));
    assert!(!matches(json!({"must_not": without("diet", "meat")}), &payload));
}

#[test]
fn min_should_counts_and_an_empty_list_asks_nothing() {
    let payload = json!({"a": 1, "b": 2});
    let (a, b) = (json!({"key": "a", "match": {"value": 1}}), json!({"key": "b", "match": {"value": 3}}));
    let at_least = |count: usize| json!({"min_should": {"conditions": [a, b, a], "min_count": count}});
    assert!(matches(at_least(0), &payload) && matches(at_least(2), &payload));
    assert!(!matches(at_least(3), &payload));
    assert!(matches(json!({"min_should": {"conditions": [], "min_count": 2}}), &payload));
    assert!(!matches(json!({"should": [b], "must": [a]}), &payload));
}

#[test]
fn a_field_with_a_text_index_is_compared_by_words() {
    let payload = json!({"t": ["The QUICK brown fox", "jumps over"], "l": [{"t": "Red Fox"}, {"t": "Tea"}]});
    let holds = |condition: Value, schema: Value| {
        let filter: Filter = serde_json::from_value(json!({ "must": condition })).unwrap();
        let text: crate::schema::FieldSchema = serde_json::from_value(schema).unwrap();
        let schema = Schema::from([("t".to_owned(), text.clone()), ("l[].t".to_owned(), text)]);
        let subject = Subject { id: None, payload: payload.as_object().unwrap(), has_vector: &|_| false };
        Prepared::new(&filter, &schema).unwrap().matches(&subject)
    };
    for (test, text, plain, in_order) in [
        ("text", "fox Quick", true, true),
        ("text", "fox jumps", true, true),
        ("text", "fox dog", false, false),
        ("text", "", false, false),
        ("text_any", "dog FOX", true, true),
        ("text_any", "dog cat", false, false),
        ("phrase", "quick BROWN", false, true),
        ("phrase", "QUICK brown", true, true),
        ("phrase", "quick fox", false, false),
        ("phrase", "fox jumps", false, false),
        ("substring", "UICK", true, true),
        ("prefix", "jum", true, true),
    ] {
        let condition = json!({"key": "t", "match": {test: text}});
        assert_eq!(holds(condition.clone(), json!("text")), plain, "{test} {text}");
        let schema = json!({"type": "text", "phrase_matching": true});
        assert_eq!(holds(condition, schema), in_order, "{test} {text}, phrases indexed");
    }
    let nested = |text: &str| json!({"nested": {"key": "l", "filter": {"must": {"key": "t", "match": {"text": text}}}}});
    assert!(holds(nested("fox red"), json!("text")) && !holds(nested("red tea"), json!("text")));
}

#[test]
fn spellings_of_a_uuid_are_equal_where_the_field_is_one_of_uuids() {
    let payload = json!({"u": "936DA01F-9ABD-4D9D-80C7-02AF85C822A8"});
    let filter: Filter = serde_json::from_value(json!({"must": {"key": "u", "match":
        {"value": "936da01f9abd4d9d80c702af85c822a8"}}}))
    .unwrap();
    let subject = Subject { id: None, payload: payload.as_object().unwrap(), has_vector: &|_| false };
    let schema = Schema::from([("u".to_owned(), crate::schema::FieldKind::Uuid.into())]);
    assert!(Prepared::new(&filter, &schema).unwrap().matches(&subject));
    assert!(!Prepared::new(&filter, &Schema::new()).unwrap().matches(&subject));
}
