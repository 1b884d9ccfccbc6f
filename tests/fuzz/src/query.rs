//! Queries: whatever is asked of a small collection is answered, with an error of
//! the client's or with no more than it asked for; the same twice is answered the
//! same, and so is the same written otherwise; what is found passes the filter.

use std::sync::LazyLock;

use cairn_index::Filter;
use cairn_server::fuzzing::Service;
use serde::de::IgnoredAny;
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::service::{ask, must, open, scratch};

static SERVICE: LazyLock<(Service, TempDir)> = LazyLock::new(|| {
    let folder = scratch();
    let service = open(folder.path(), 16);
    let vectors = json!({
        "": { "size": 2, "distance": "Cosine" },
        "e": { "size": 2, "distance": "Euclid" },
        "m": { "size": 2, "distance": "Dot", "multivector_config": { "comparator": "max_sim" } },
    });
    let settings = json!({ "vectors": vectors, "sparse_vectors": { "s": { "modifier": "idf" } } });
    must(&service, "PUT", "/collections/c", &settings);
    for (field, schema) in
        [("k", json!("keyword")), ("i", json!("integer")), ("t", json!({ "type": "text", "scoring": true }))]
    {
        let index = json!({ "field_name": field, "field_schema": schema });
        must(&service, "PUT", "/collections/c/index?wait=true", &index);
    }
    let points: Vec<Value> = (1..=40u32).map(point).collect();
    for points in points.chunks(10) {
        must(&service, "PUT", "/collections/c/points?wait=true", &json!({ "points": points }));
    }
    (service, folder)
});

fn point(number: u32) -> Value {
    let angle = f64::from(number);
    let mut vector = json!({
        "": [angle.cos(), angle.sin()],
        "e": [number % 7, number % 5],
        "s": { "indices": [number % 9, 10], "values": [1.0, angle] },
    });
    if number.is_multiple_of(3) {
        vector["m"] = json!([[1, number], [0.5, -1]]);
    }
    let of_three = number as usize % 3;
    let payload = json!({
        "k": (["a", "b", "c"][of_three]),
        "i": number % 4,
        "f": angle / 3.0,
        "t": (["red fox", "blue fox", "red"][of_three]),
        "d": format!("2024-01-{:02}", number % 28 + 1),
        "g": { "lon": number, "lat": number },
        "l": [{ "k": "a", "i": number }, { "k": "b" }],
    });
    json!({ "id": number, "vector": vector, "payload": payload })
}

/// The endpoint that a body is for, by its keys.
fn endpoint(body: &Value) -> &'static str {
    let has = |key: &str| body.get(key).is_some();
    match body {
        _ if has("searches") => "query/batch",
        _ if has("group_by") => "query/groups",
        _ if has("positive") || has("negative") => "recommend",
        _ if has("vector") => "search",
        _ if has("target") || has("context") => "discover",
        _ if has("order_by") => "scroll",
        _ if has("sample") => "search/matrix/pairs",
        _ if has("exact") => "count",
        _ if has("explain") => "explain",
        _ => "query",
    }
}

pub(crate) fn check(input: &[u8]) {
    let value: Option<Value> = serde_json::from_slice(input).ok();
    let endpoint = value.as_ref().map_or("query", endpoint);
    let path = format!("/collections/c/points/{endpoint}");
    let service = &SERVICE.0;
    let (status, answer) = ask(service, "POST", &path, input);
    assert!([200, 400, 404, 413, 422, 503].contains(&status), "{path} is answered {status}: {answer}");
    let Some(value) = value else {
        // What nobody asks for may be a number that is too large, or half a character.
        let is_json =
            serde_json::from_slice::<IgnoredAny>(input).is_ok() && std::str::from_utf8(input).is_ok();
        return assert!(status == 400 || is_json, "what is no JSON is answered {status}: {answer}");
    };
    let by_chance =
        ["sample", "random"].iter().any(|word| input.windows(word.len()).any(|at| at == word.as_bytes()));
    if !by_chance {
        let again = ask(service, "POST", &path, input);
        assert_eq!((again.0, &again.1["result"]), (status, &answer["result"]), "{path} asked again");
    }
    // Equal keys are lost where the body is read as a value.
    let anew = value.to_string();
    if !by_chance && count_keys(input) == count_keys(anew.as_bytes()) {
        let anew = ask(service, "POST", &path, anew.as_bytes());
        assert_eq!((anew.0, &anew.1["result"]), (status, &answer["result"]), "{path} written anew");
    }
    if status == 200 && ["query", "search", "recommend", "discover"].contains(&endpoint) {
        let hits = answer["result"].get("points").unwrap_or(&answer["result"]);
        holds(&value, hits.as_array().expect("hits are a list"));
    }
}

/// What must hold of the hits of a query.
fn holds(asked: &Value, hits: &[Value]) {
    let limit = asked.get("limit").or(asked.get("top")).and_then(Value::as_u64).unwrap_or(10);
    assert!(hits.len() as u64 <= limit, "{} hits of at most {limit}", hits.len());
    let mut ids: Vec<u64> =
        hits.iter().map(|hit| hit["id"].as_u64().expect("ids are numbers here")).collect();
    ids.sort_unstable();
    assert!(ids.windows(2).all(|two| two[0] < two[1]), "a point is there twice: {ids:?}");
    for hit in hits {
        assert!(hit["score"].is_number(), "{hit}");
    }
    // With a text index a filter means more than the payload tells.
    let Some(filter) = asked.get("filter").filter(|filter| !filter.to_string().contains("\"t\"")) else {
        return;
    };
    let Ok(filter) = serde_json::from_value::<Filter>(filter.clone()) else { return };
    for id in ids {
        let point = point(id as u32);
        let has_vector = |name: &str| point["vector"].get(name).is_some();
        let payload = point["payload"].as_object().expect("payloads are objects");
        assert!(filter.matches_with(id.into(), payload, &has_vector), "{id} does not pass the filter");
    }
}

/// How many keys a text has, be they equal or not.
fn count_keys(text: &[u8]) -> usize {
    let (mut colons, mut quoted, mut escaped) = (0, false, false);
    for byte in text {
        match byte {
            _ if escaped => escaped = false,
            b'\\' if quoted => escaped = true,
            b'"' => quoted = !quoted,
            b':' if !quoted => colons += 1,
            _ => {}
        }
    }
    colons
}
