//! The model that is compiled in, with no file and no network.

#![cfg(feature = "builtin-model")]

use cairn_embed::{
    BUILTIN_MODEL, Encoder, EncoderOptions, ModelStore, Silent, Source, StoreOptions, TextKind,
};

fn built_in(name: &str) -> Option<Encoder> {
    Encoder::built_in(name, &EncoderOptions::default()).expect("it loads")
}

fn vectors(encoder: &Encoder, texts: &[&str]) -> Vec<Vec<f32>> {
    encoder.embed(texts, TextKind::Passage).expect("it runs").vectors
}

fn dot(a: &[f32], b: &[f32]) -> f32 {
    a.iter().zip(b).map(|(x, y)| x * y).sum()
}

#[test]
fn it_goes_by_its_names_and_no_others() {
    for name in [BUILTIN_MODEL, "Minilm-Static", "all-MiniLM-L6-v2-static-256"] {
        assert_eq!(built_in(name).expect("built in").dim(), 256, "{name}");
    }
    for name in ["all-MiniLM-L6-v2", "cairn/other", ""] {
        assert!(built_in(name).is_none(), "{name}");
    }
}

#[test]
fn texts_of_like_meaning_are_nearer_than_others() {
    let encoder = built_in(BUILTIN_MODEL).expect("built in");
    for [text, like, unlike] in [
        ["a car drives on the road", "an automobile on the highway", "soup with carrots and onions"],
        ["the doctor treats a patient", "a physician in the hospital", "the stock market fell"],
        ["snow and ice in winter", "a cold and frosty morning", "programming a computer"],
    ] {
        let found = vectors(&encoder, &[text, like, unlike]);
        let (near, far) = (dot(&found[0], &found[1]), dot(&found[0], &found[2]));
        assert!(near > far + 0.1, "{text}: {near} {far}");
        assert!((dot(&found[0], &found[0]) - 1.0).abs() < 1e-5);
    }
}

#[test]
fn pulled_it_is_a_folder_that_gives_the_same_vectors() {
    let dir = tempfile::tempdir().expect("a temporary folder");
    let store = ModelStore::new(StoreOptions {
        cache_dir: Some(dir.path().join("cache")),
        hub_home: Some(dir.path().join("hub")),
        offline: true,
        ..StoreOptions::default()
    });
    assert_eq!(store.find(BUILTIN_MODEL).expect("a name"), None);
    let folder = store.pull("minilm-static", &Silent).expect("it needs no network");
    assert_eq!(store.pull(BUILTIN_MODEL, &Silent).expect("there"), folder);
    assert_eq!(store.find(BUILTIN_MODEL).expect("a name"), Some(folder.clone()));
    let installed = store.installed().expect("a cache");
    assert_eq!((&installed[0].name[..], installed[0].source), (BUILTIN_MODEL, Source::Cache));

    let loaded = Encoder::load(&folder, &EncoderOptions::default()).expect("a model");
    let texts = ["stones mark the way", "", "Ünïcödé 三个字", "a\nlonger text, with signs; and more words"];
    let own = built_in(BUILTIN_MODEL).expect("built in");
    assert_eq!(vectors(&loaded, &texts), vectors(&own, &texts));
    assert_eq!(loaded.max_tokens(), own.max_tokens());

    assert_eq!(store.remove(BUILTIN_MODEL).expect("removed").len(), 1);
    assert_eq!(store.find(BUILTIN_MODEL).expect("a name"), None);
}
