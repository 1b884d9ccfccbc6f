//! Files of stores, added by the model in this program.

use std::sync::Arc;
use std::time::{Duration, Instant};

use cairn_embed::StoreOptions;
use cairn_index::Database;
use cairn_rag::{Engine, ModelOptions, RagOptions, TextSearch};
use serde_json::{Map, Value, json};

use super::adding::{resume, start};
use super::pending::{State, Use, Wanted};
use super::{Anchor, ExpiresAfter, Store, has_expired, in_use, used};
use crate::app::App;
use crate::files::now;
use crate::options::ServerOptions;

/// With the model that is part of the program.
fn app(dir: &tempfile::TempDir) -> App {
    let nowhere = dir.path().join("no models here");
    let store = StoreOptions {
        cache_dir: Some(nowhere.clone()),
        hub_home: Some(nowhere),
        offline: true,
        ..StoreOptions::default()
    };
    let models = ModelOptions { store, ..ModelOptions::default() };
    let db = Database::open(dir.path().join("data")).unwrap();
    App::new(Arc::new(Engine::new(db, models, RagOptions::default())), ServerOptions::default()).unwrap()
}

fn made(app: &App, id: &str, days: Option<u64>) {
    app.engine.make_text_collection(id, None).unwrap();
    let expires_after = days.map(|days| ExpiresAfter { anchor: Anchor::LastActiveAt, days });
    Store { created_at: 1, expires_after, ..Store::default() }.keep(&app.engine, id).unwrap();
}

fn uploaded(app: &App, name: &str, text: &str) -> String {
    app.files.keep(name.to_owned(), "assistants".to_owned(), text.as_bytes(), None).unwrap().id
}

fn wanted(file: &str, attributes: Value, chunking_strategy: Option<Value>) -> Wanted {
    let Value::Object(attributes) = attributes else { panic!("attributes are an object") };
    Wanted { file_id: file.to_owned(), attributes: Some(attributes), chunking_strategy }
}

fn settled(app: &App, store: &str) {
    let end = Instant::now() + Duration::from_secs(60);
    while app.attaching.counts(store).in_progress > 0 || !app.attaching.waiting().is_empty() {
        assert!(Instant::now() < end, "files of the store are still in progress");
        std::thread::sleep(Duration::from_millis(5));
    }
}

fn seq(app: &App, store: &str) -> u64 {
    app.engine.database().collection(store).unwrap().reading().unwrap().seq()
}

fn attributes(app: &App, store: &str, file: &str) -> Map<String, Value> {
    let mut metadata = app.engine.document_entry(store, file).unwrap().unwrap().metadata;
    metadata.remove(super::FILE).unwrap();
    metadata
}

#[test]
fn a_file_that_is_added_again_as_it_is_is_not_embedded_again() {
    let dir = tempfile::tempdir().unwrap();
    let app = app(&dir);
    made(&app, "store", None);
    let text: String = (0..60).map(|n| format!("Stone number {n} lies in the field. ")).collect();
    let file = uploaded(&app, "stones.md", &text);
    let passages = || app.engine.about("store").unwrap().passages;
    let add = |attributes: Value, chunk: Option<Value>| {
        start(&app, "store", vec![wanted(&file, attributes, chunk)], None).unwrap();
        settled(&app, "store");
        assert!(app.attaching.get("store", &file).is_none());
        (seq(&app, "store"), passages())
    };
    let usual = add(json!({ "year": 1 }), None);
    assert_eq!(add(json!({ "year": 1 }), Some(json!({ "type": "auto" }))), usual, "nothing is written");
    // New attributes are one change of what is there, and the same passages.
    assert_eq!(add(json!({ "year": 2 }), None), (usual.0 + 1, usual.1));
    assert_eq!(attributes(&app, "store", &file)["year"], 2);
    let sizes = |size: usize| {
        let sizes = json!({ "max_chunk_size_tokens": size, "chunk_overlap_tokens": size / 4 });
        Some(json!({ "type": "static", "static": sizes }))
    };
    let small = add(json!({}), sizes(100));
    assert!(small.1 > usual.1, "{} and {} passages", small.1, usual.1);
    assert_eq!(add(json!({}), sizes(100)), small);
    assert_eq!(add(json!({}), None).1, usual.1);
}

#[test]
fn what_failed_is_known_after_a_restart_and_what_was_in_progress_is_added() {
    let dir = tempfile::tempdir().unwrap();
    let first = app(&dir);
    made(&first, "store", None);
    let broken = uploaded(&first, "broken.pdf", "%PDF-1.7 nothing");
    start(&first, "store", vec![wanted(&broken, json!({}), None)], Some("vsfb_broken")).unwrap();
    settled(&first, "store");
    let good = uploaded(&first, "good.md", "Soup is served until nine.");
    // As a process that ends before the thread has added it.
    first.attaching.stop();
    start(&first, "store", vec![wanted(&good, json!({ "n": 1 }), None)], None).unwrap();
    std::thread::sleep(Duration::from_millis(50));
    assert!(first.engine.document_entry("store", &good).unwrap().is_none());
    drop(first);

    let again = reopened(&dir);
    assert!(matches!(again.attaching.get("store", &good).unwrap().state, State::InProgress));
    let State::Failed { code, message } = again.attaching.get("store", &broken).unwrap().state else {
        panic!("it failed")
    };
    assert!(code == "invalid_file" && !message.is_empty());
    assert_eq!(again.attaching.batch("vsfb_broken").unwrap().files, [broken]);
    resume(&again);
    settled(&again, "store");
    assert_eq!(attributes(&again, "store", &good)["n"], 1);
}

/// The database is free once the threads of the app before have let it go.
fn reopened(dir: &tempfile::TempDir) -> App {
    let end = Instant::now() + Duration::from_secs(10);
    loop {
        match Database::open(dir.path().join("data")) {
            Ok(db) => drop(db),
            Err(error) => {
                assert!(Instant::now() < end, "{error}");
                std::thread::sleep(Duration::from_millis(10));
                continue;
            }
        }
        return app(dir);
    }
}

#[test]
fn an_expired_store_is_refused_wherever_it_is_asked_until_it_is_given_more_time() {
    let dir = tempfile::tempdir().unwrap();
    let app = app(&dir);
    made(&app, "store", Some(2));
    made(&app, "plain", None);
    app.engine.database().set_aliases(&[("other name", Some("store"))]).unwrap();
    used(&app, "store").unwrap();
    let three_days_ago = Use { store: "store".to_owned(), at: now() - 3 * 86_400 };
    app.attaching.was_used(&three_days_ago);
    assert!(has_expired(&app, "store") && !has_expired(&app, "plain") && !has_expired(&app, "nothing"));
    for name in ["store", "other name"] {
        let error = in_use(&app, name).unwrap_err();
        assert!(error.status.as_u16() == 404 && error.text.contains("expires_after"), "{}", error.text);
    }
    assert!(used(&app, "store").is_err());
    in_use(&app, "plain").unwrap();
    in_use(&app, "nothing").unwrap();
    let mut store = Store::of(&app.engine, "store").unwrap();
    store.expires_after = Some(ExpiresAfter { anchor: Anchor::LastActiveAt, days: 4 });
    store.keep(&app.engine, "store").unwrap();
    in_use(&app, "other name").unwrap();
    assert!(app.attaching.last_active("store", true) >= now() - 5);
}

#[test]
fn a_list_is_read_again_once_the_store_has_changed() {
    let dir = tempfile::tempdir().unwrap();
    let app = app(&dir);
    made(&app, "store", None);
    let count = || (app.listed.count(&app, "store").unwrap(), app.listed.documents(&app, "store").unwrap());
    assert_eq!(count().0, 0);
    let file = uploaded(&app, "a.md", "Soup is served until nine.");
    start(&app, "store", vec![wanted(&file, json!({}), None)], None).unwrap();
    settled(&app, "store");
    let (one, list) = count();
    assert_eq!((one, list[0].id.as_str()), (1, file.as_str()));
    assert!(Arc::ptr_eq(&list, &count().1), "it is not read again");
    assert_eq!(app.engine.search("store", &TextSearch::new("soup")).unwrap().passages.len(), 1);
    app.engine.delete_document("store", &file).unwrap();
    assert_eq!((count().0, count().1.len()), (0, 0));
    app.engine.database().drop_collection("store").unwrap();
    made(&app, "store", None);
    assert_eq!(count().0, 0);
}
