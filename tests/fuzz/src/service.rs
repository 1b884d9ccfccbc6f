//! The service that targets ask, over data in a folder of its own.

use std::path::Path;

use cairn_index::{Database, Durability, Options};
use cairn_rag::{Engine, ModelOptions, RagOptions};
use cairn_server::fuzzing::Service;
use serde_json::Value;
use tempfile::TempDir;

/// A folder in memory where the system has one: waiting for the disk would take
/// most of the time.
pub(crate) fn scratch() -> TempDir {
    let made = tempfile::tempdir_in("/dev/shm").or_else(|_| tempfile::tempdir());
    made.expect("there is room for a folder")
}

/// Opens the service over a folder.
pub(crate) fn open(folder: &Path, seal_points: usize) -> Service {
    let options = Options { seal_points, durability: Durability::Process, ..Options::default() };
    let database = Database::open_with(folder, options).expect("what was written is opened");
    let mut models = ModelOptions::default();
    // A text that is to be embedded is answered at once, without a look for models.
    models.store.offline = true;
    models.store.cache_dir = Some(folder.join("no models"));
    models.store.hub_home = Some(folder.join("no models"));
    Service::new(Engine::new(database, models, RagOptions::default())).expect("there are threads")
}

/// What the service says of its model, which is not there.
const NO_MODEL: &str = "could not be had";

/// An answer, which is never an error of the service, but that it has no model, and
/// always in its envelope.
pub(crate) fn ask(service: &Service, method: &str, path: &str, body: &[u8]) -> (u16, Value) {
    let (status, answer) = service.answer(method, path, body);
    let shown = String::from_utf8_lossy(&answer);
    let expected = status < 500 || status == 503 && shown.contains(NO_MODEL);
    assert!(expected, "{method} {path} is answered {status}: {shown}");
    let answer: Value = serde_json::from_slice(&answer).unwrap_or_else(|error| {
        panic!("{method} {path} is answered {status}, which is no JSON ({error}): {shown}")
    });
    assert!(answer["time"].is_number(), "{answer}");
    if status < 300 {
        assert_eq!(answer["status"], "ok", "{answer}");
    } else {
        let text = answer["status"]["error"].as_str().unwrap_or_default();
        assert!(!text.is_empty(), "{method} {path} is answered {status} without a reason: {answer}");
    }
    (status, answer)
}

/// The same where it must succeed.
pub(crate) fn must(service: &Service, method: &str, path: &str, body: &Value) -> Value {
    let (status, answer) = ask(service, method, path, body.to_string().as_bytes());
    assert_eq!(status, 200, "{method} {path}: {answer}");
    answer["result"].clone()
}
