//! The engine over a real database, as far as it goes without a model.

use cairn_embed::{StoreOptions, TextKind};
use cairn_index::Database;
use cairn_rag::{Document, Engine, Error, Format, ModelOptions, RagOptions, TextSearch};

fn engine(dir: &std::path::Path) -> Engine {
    let nowhere = dir.join("no models here");
    let store = StoreOptions {
        cache_dir: Some(nowhere.clone()),
        hub_home: Some(nowhere),
        offline: true,
        ..StoreOptions::default()
    };
    let models = ModelOptions { store, ..ModelOptions::default() };
    Engine::new(Database::open(dir.join("data")).unwrap(), models, RagOptions::default())
}

fn document(id: &str, text: &str) -> Document {
    Document {
        id: id.to_owned(),
        title: String::new(),
        text: text.to_owned(),
        metadata: serde_json::Map::new(),
        pages: Vec::new(),
    }
}

#[test]
fn an_unknown_model_is_named_however_often_it_is_asked_for() {
    // Naming the models there are once waited for the lock that was held.
    let dir = tempfile::tempdir().unwrap();
    let engine = engine(dir.path());
    for _ in 0..3 {
        let error = engine.embed(Some("no/such-model"), &["text"], TextKind::Query).unwrap_err().to_string();
        assert!(error.contains("no/such-model") && error.contains("cairn model pull"), "{error}");
    }
    assert!(!engine.models().contains(&"no/such-model".to_owned()));
}

#[test]
fn documents_that_cannot_be_are_refused_before_a_model_is_needed() {
    let dir = tempfile::tempdir().unwrap();
    let engine = engine(dir.path());
    let add = |documents: &[Document]| engine.add("c", documents, Format::Text, &mut |_| {}).unwrap_err();
    assert!(matches!(add(&[document("", "x")]), Error::Document { .. }));
    assert!(matches!(add(&[document("..", "x")]), Error::Document { .. }));
    assert!(matches!(add(&[document("a", " \n")]), Error::Document { .. }));
    assert!(matches!(add(&[document("a", "x"), document("a", "y")]), Error::DuplicateDocument { .. }));
    assert!(engine.database().collections().is_empty());
}

#[test]
fn a_collection_without_texts_says_so() {
    let dir = tempfile::tempdir().unwrap();
    let engine = engine(dir.path());
    let config = cairn_index::CollectionConfig::new(2, cairn_index::Metric::Dot);
    engine.database().create_collection("raw", config).unwrap();
    assert!(matches!(engine.search("raw", &TextSearch::new("q")), Err(Error::NoTextModel { .. })));
    assert!(matches!(engine.search("raw", &TextSearch::new(" ")), Err(Error::EmptyText { .. })));
    assert!(engine.search("gone", &TextSearch::new("q")).is_err());
}
