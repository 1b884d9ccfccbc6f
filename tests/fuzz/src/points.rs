//! Writes: what is answered with success is there and can be read; what is refused
//! changed nothing; and all of it is there after the data were closed and opened.

use std::sync::{LazyLock, Mutex};

use cairn_server::fuzzing::Service;
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::service::{ask, must, open, scratch};

/// Small, so that what is written is sealed and merged as well.
const SEAL_POINTS: usize = 8;

/// Writes after which the data are closed and opened.
const REOPEN: usize = 64;

struct State {
    service: Option<Service>,
    writes: usize,
    folder: TempDir,
}

static STATE: LazyLock<Mutex<State>> = LazyLock::new(|| {
    let folder = scratch();
    let service = open(folder.path(), SEAL_POINTS);
    Mutex::new(State { service: Some(service), writes: 0, folder })
});

fn begin(service: &Service) {
    must(service, "DELETE", "/collections/c", &json!({}));
    let settings = json!({
        "vectors": { "": { "size": 2, "distance": "Dot" }, "h": { "size": 1, "distance": "Euclid", "datatype": "float16" } },
        "sparse_vectors": { "s": {} },
    });
    must(service, "PUT", "/collections/c", &settings);
    let index = json!({ "field_name": "a.b", "field_schema": "keyword" });
    must(service, "PUT", "/collections/c/index?wait=true", &index);
    let points = json!([
        { "id": 1, "vector": [1, 2], "payload": { "a": { "b": "x" }, "l": [[{ "x": 1 }], 2] } },
        { "id": 2, "vector": { "": [0.5, -1], "h": [3] } },
        { "id": "936da01f-9abd-4d9d-80c7-02af85c822a8", "vector": { "s": { "indices": [3], "values": [0.5] } } },
    ]);
    must(service, "PUT", "/collections/c/points?wait=true", &json!({ "points": points }));
}

/// Every point with all that it has.
fn all(service: &Service) -> Value {
    let everything = json!({ "limit": 100_000, "with_payload": true, "with_vector": true });
    must(service, "POST", "/collections/c/points/scroll", &everything)["points"].take()
}

/// The method and the end of the address that a body is for, by its keys.
fn endpoint(body: &Value) -> (&'static str, &'static str) {
    let has = |key: &str| body.get(key).is_some();
    match body {
        _ if has("operations") => ("POST", "points/batch"),
        _ if has("payload") => ("POST", "points/payload"),
        _ if has("keys") => ("POST", "points/payload/delete"),
        _ if has("vector") => ("POST", "points/vectors/delete"),
        _ if has("update_vectors") => ("PUT", "points/vectors"),
        _ if has("filter") => ("POST", "points/delete"),
        _ => ("PUT", "points"),
    }
}

pub(crate) fn check(input: &[u8]) {
    let mut state = STATE.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
    let State { service, writes, folder } = &mut *state;
    let data = || open(folder.path(), SEAL_POINTS);
    let known = service.get_or_insert_with(data);
    let value: Option<Value> = serde_json::from_slice(input).ok();
    let (method, end) = value.as_ref().map_or(("PUT", "points"), endpoint);
    if *writes == 0 {
        begin(known);
        *writes = 1;
    }
    let before = all(known);
    let (status, answer) = ask(known, method, &format!("/collections/c/{end}?wait=true"), input);
    assert!([200, 400, 404, 413, 422].contains(&status), "{end} is answered {status}: {answer}");
    let after = all(known);
    if status != 200 {
        // Of a batch, what came before the wrong part is done.
        assert!(
            end == "points/batch" || before == after,
            "{end} was refused and changed something: {answer}"
        );
        if before == after {
            return;
        }
    } else if end == "points" {
        is_there(value.as_ref().expect("only JSON is taken"), &after);
    }
    *writes += 1;
    if writes.is_multiple_of(REOPEN) {
        drop(service.take());
        let known = service.insert(data());
        assert_eq!(all(known), after, "after the data were opened again");
    }
    begin(service.as_ref().expect("it was just opened"));
}

/// A plain upsert put its points there: the last one of each id.
fn is_there(asked: &Value, points: &Value) {
    if ["update_filter", "update_mode"].iter().any(|key| asked.get(key).is_some_and(|value| !value.is_null()))
    {
        return;
    }
    let Some(asked) = asked["points"].as_array() else { return };
    let points = points.as_array().expect("points are a list");
    for (place, point) in asked.iter().enumerate() {
        let Some(id) = point["id"].as_u64() else { continue };
        if asked[place + 1..].iter().any(|later| later["id"] == point["id"]) {
            continue;
        }
        let kept = points.iter().find(|kept| kept["id"].as_u64() == Some(id));
        let kept = kept.unwrap_or_else(|| panic!("{id} was written and is not there"));
        let empty = json!({});
        let payload = point.get("payload").filter(|payload| !payload.is_null()).unwrap_or(&empty);
        let kept = kept.get("payload").filter(|payload| !payload.is_null()).unwrap_or(&empty);
        assert_eq!(kept, payload, "the payload of {id}");
    }
}
