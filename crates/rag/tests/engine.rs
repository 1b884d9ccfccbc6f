//! The engine over a real database, as far as it goes without a model.

use std::sync::Arc;

use cairn_embed::{BUILTIN_MODEL, DEFAULT_MODEL, ModelStore, Silent, StoreOptions, TextKind};
use cairn_index::Database;
use cairn_rag::{
    Document, Engine, Error, Format, ModelOptions, Models, Question, RagOptions, TextSearch, Turn,
};

/// Models that are nowhere and cannot be fetched.
fn nowhere(dir: &std::path::Path) -> ModelOptions {
    let nowhere = dir.join("no models here");
    let store = StoreOptions {
        cache_dir: Some(nowhere.clone()),
        hub_home: Some(nowhere),
        offline: true,
        ..StoreOptions::default()
    };
    ModelOptions { store, ..ModelOptions::default() }
}

fn engine(dir: &std::path::Path) -> Engine {
    engine_with(dir, nowhere(dir))
}

fn engine_with(dir: &std::path::Path, models: ModelOptions) -> Engine {
    Engine::new(Database::open(dir.join("data")).unwrap(), models, RagOptions::default())
}

fn model_of(engine: &Engine, collection: &str) -> String {
    let config = engine.database().collection(collection).unwrap().config();
    config.metadata["cairn"]["model"].as_str().unwrap().to_owned()
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

#[test]
fn where_the_default_model_cannot_be_had_new_collections_get_the_one_that_is_compiled_in() {
    let dir = tempfile::tempdir().unwrap();
    let engine = engine(dir.path());
    assert_eq!(engine.default_model(), DEFAULT_MODEL);
    let documents = [document("a", "A cairn is a pile of stones."), document("b", "Soup has carrots in it.")];
    engine.add("stones", &documents, Format::Text, &mut |_| {}).unwrap();
    assert_eq!(model_of(&engine, "stones"), BUILTIN_MODEL);
    let found = engine.search("stones", &TextSearch::new("a pile of rocks")).unwrap();
    assert_eq!(found.passages[0].document_id, "a");
    // It stays so until the next start, also for texts alone.
    assert_eq!(engine.default_model(), BUILTIN_MODEL);
    assert_eq!(engine.embed(None, &["text"], TextKind::Query).unwrap().vectors[0].len(), 256);
    assert_eq!(engine.load_model_of("another", &Silent).unwrap(), BUILTIN_MODEL);
}

#[test]
fn no_model_stands_in_for_one_that_was_named_or_that_a_collection_was_made_with() {
    let dir = tempfile::tempdir().unwrap();
    let engine = engine(dir.path());
    assert!(engine.embed(Some(DEFAULT_MODEL), &["text"], TextKind::Query).is_err());
    let mut config = cairn_index::CollectionConfig::new(384, cairn_index::Metric::Cosine);
    config.metadata.insert("cairn".to_owned(), serde_json::json!({ "model": DEFAULT_MODEL }));
    engine.database().create_collection("earlier", config).unwrap();
    engine.add("new", &[document("a", "text")], Format::Text, &mut |_| {}).unwrap();
    assert_eq!(model_of(&engine, "new"), BUILTIN_MODEL);
    let error = engine.search("earlier", &TextSearch::new("q")).unwrap_err().to_string();
    assert!(error.contains(DEFAULT_MODEL) && error.contains("could not be had"), "{error}");
    assert!(engine.add("earlier", &[document("a", "text")], Format::Text, &mut |_| {}).is_err());
    assert!(engine.load_model_of("earlier", &Silent).is_err());
}

#[test]
fn without_a_fallback_and_for_a_default_that_nobody_knows_it_is_an_error() {
    let dir = tempfile::tempdir().unwrap();
    let models = ModelOptions { fallback: String::new(), ..nowhere(dir.path()) };
    let error = engine_with(dir.path(), models).embed(None, &["text"], TextKind::Query).unwrap_err();
    assert!(error.to_string().contains("could not be had"), "{error}");
    let dir = tempfile::tempdir().unwrap();
    let models = ModelOptions { default: "some/mistake".to_owned(), ..nowhere(dir.path()) };
    let error = engine_with(dir.path(), models).embed(None, &["text"], TextKind::Query).unwrap_err();
    assert!(error.to_string().contains("some/mistake"), "{error}");
    let dir = tempfile::tempdir().unwrap();
    let models = ModelOptions { auto_pull: false, ..nowhere(dir.path()) };
    let engine = engine_with(dir.path(), models);
    assert_eq!(engine.embed(None, &["text"], TextKind::Query).unwrap().vectors[0].len(), 256);
}

#[test]
fn models_are_unloaded_when_their_weights_exceed_the_budget_and_loaded_again() {
    let dir = tempfile::tempdir().unwrap();
    let place = ModelStore::new(StoreOptions {
        cache_dir: Some(dir.path().join("models")),
        offline: true,
        ..StoreOptions::default()
    });
    let folder = place.pull(BUILTIN_MODEL, &Silent).unwrap().display().to_string();
    // Room for one of them, each having 8 MB.
    let models = ModelOptions { default: folder.clone(), memory_bytes: 10_000_000, ..nowhere(dir.path()) };
    let engine = engine_with(dir.path(), models);
    let embed = |model| engine.embed(model, &["text"], TextKind::Query).unwrap().vectors;
    let is_loaded = || engine.models().contains(&folder);
    for _ in 0..2 {
        let here = embed(None);
        assert!(is_loaded());
        assert_eq!(here, embed(Some(BUILTIN_MODEL)));
        assert!(!is_loaded());
    }
}

#[test]
fn a_question_is_joined_to_what_was_said_before_only_where_that_is_meant() {
    let dir = tempfile::tempdir().unwrap();
    let engine = engine(dir.path());
    let notes = [
        document("tapes", "Backup tapes are rotated every Friday. The tapes are kept in a vault."),
        document("canteen", "Soup is served on Mondays. Fish is served on Fridays."),
        document("cordouan", "The lighthouse of Cordouan got its lens in 1823. The lens was lit by oil."),
        document("jument", "The lighthouse of La Jument got its lens in 1911. The lens was lit by gas."),
    ];
    engine.add("notes", &notes, Format::Text, &mut |_| {}).unwrap();
    for (before, question, document) in [
        ("When are the backup tapes rotated?", "What is served on Mondays?", "canteen"),
        ("When are the backup tapes rotated?", "Where are they kept?", "tapes"),
        ("What is served on Mondays?", "And on Fridays?", "canteen"),
        ("When did Cordouan get a lens?", "How was the lens lit?", "cordouan"),
        ("When did La Jument get a lens?", "How was the lens lit?", "jument"),
        ("When did La Jument get a lens?", "When did Cordouan get a lens?", "cordouan"),
    ] {
        let turn =
            Turn { question: before.to_owned(), query: String::new(), answer: String::new(), at_ms: 0 };
        let question = Question { history: vec![turn], ..Question::new(question) };
        let answer = engine.ask("notes", &question, &mut |_| Ok(())).unwrap();
        let searched = &answer.searched.query;
        assert_eq!(answer.citations[0].document_id, document, "{searched}: {}", answer.answer);
    }
}

#[test]
fn models_that_were_loaded_stay_so_when_the_database_is_opened_again() {
    let dir = tempfile::tempdir().unwrap();
    let place = ModelStore::new(StoreOptions {
        cache_dir: Some(dir.path().join("pulled")),
        offline: true,
        ..StoreOptions::default()
    });
    let folder = place.pull(BUILTIN_MODEL, &Silent).unwrap().display().to_string();
    let models = Arc::new(Models::new(ModelOptions { default: folder.clone(), ..nowhere(dir.path()) }));
    let opened = || {
        let db = Database::open(dir.path().join("data")).unwrap();
        Engine::with_models(db, models.clone(), RagOptions::default())
    };
    // Names of folders are those of models that are loaded.
    let is_loaded = |engine: &Engine| engine.models().contains(&folder);
    let first = opened();
    assert!(!is_loaded(&first));
    first.add("c", &[document("a", "A cairn is a pile of stones.")], Format::Text, &mut |_| {}).unwrap();
    drop(first);
    let again = opened();
    assert!(is_loaded(&again));
    assert_eq!(again.search("c", &TextSearch::new("stones")).unwrap().passages.len(), 1);
}
