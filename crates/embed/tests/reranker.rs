//! Cross-encoders against numbers of transformers, and against folders that
//! are not cross-encoders.

mod common;

use cairn_embed::{Backend, EncoderOptions, Error, Instructions, Precision, Reranker};
use common::Case;
use serde::Deserialize;
use serde_json::json;

#[derive(Deserialize)]
struct Golden {
    pairs: Vec<(String, String)>,
    texts: Vec<String>,
    cases: Vec<Judged>,
}

#[derive(Deserialize)]
struct Judged {
    #[serde(flatten)]
    model: Case,
    /// The logits of each pair.
    pairs: Vec<Vec<f32>>,
    pair_tokens: Vec<usize>,
    /// The logits of each text alone.
    single: Vec<Vec<f32>>,
}

fn golden() -> Golden {
    serde_json::from_str(include_str!("../golden/rerank.json")).expect("the fixture is JSON")
}

fn case(name: &str) -> Judged {
    let found = golden().cases.into_iter().find(|case| case.model.name == name);
    found.expect("the fixture has the case")
}

fn exact() -> EncoderOptions {
    EncoderOptions { threads: 2, precision: Precision::F32, ..EncoderOptions::default() }
}

fn load(case: &Case) -> Result<Reranker, Error> {
    Reranker::load(case.folder().path(), &exact())
}

fn reranker(name: &str) -> Reranker {
    load(&case(name).model).expect("the tiny model loads")
}

fn refused(case: &Case) -> String {
    match load(case) {
        Ok(_) => panic!("a broken folder was loaded"),
        Err(error) => error.to_string(),
    }
}

fn assert_near(got: &[f32], want: &[f32], what: &str) {
    assert_eq!(got.len(), want.len(), "{what}");
    for (got, want) in got.iter().zip(want) {
        assert!((got - want).abs() < 2e-5, "{what}: {got}, not {want}");
    }
}

#[test]
fn pairs_and_texts_of_every_architecture_have_the_logits_of_the_reference() {
    let golden = golden();
    let pairs: Vec<(&str, Option<&str>)> = golden.pairs.iter().map(|(a, b)| (&a[..], Some(&b[..]))).collect();
    let texts: Vec<(&str, Option<&str>)> = golden.texts.iter().map(|text| (&text[..], None)).collect();
    let native = [Instructions::Auto, Instructions::Portable]
        .map(|instructions| EncoderOptions { instructions, ..exact() });
    let others = [Backend::Packed, Backend::Tensors].map(|backend| EncoderOptions { backend, ..exact() });
    for options in native.into_iter().chain(others) {
        for case in &golden.cases {
            let name = &case.model.name;
            let reranker = Reranker::load(case.model.folder().path(), &options).expect("loads");
            let found = reranker.predict(&pairs).expect("runs");
            assert_eq!(found.tokens, case.pair_tokens.iter().sum::<usize>(), "{name}");
            for (at, got) in found.raw.iter().enumerate() {
                assert_near(got, &case.pairs[at], &format!("{options:?}, {name}, pair {at}"));
            }
            for (at, got) in reranker.predict(&texts).expect("runs").raw.iter().enumerate() {
                assert_near(got, &case.single[at], &format!("{options:?}, {name}, text {at}"));
            }
        }
    }
}

#[test]
fn the_ready_made_model_of_the_engine_reads_token_types_alike() {
    let golden = golden();
    let pairs: Vec<(&str, Option<&str>)> = golden.pairs.iter().map(|(a, b)| (&a[..], Some(&b[..]))).collect();
    for name in ["bert", "bert without token types", "bert with labels"] {
        let case = case(name);
        let options = EncoderOptions { backend: Backend::Stock, ..exact() };
        let reranker = Reranker::load(case.model.folder().path(), &options).expect("loads");
        for (at, got) in reranker.predict(&pairs).expect("runs").raw.iter().enumerate() {
            assert_near(got, &case.pairs[at], &format!("{name}, pair {at}"));
        }
    }
}

#[test]
fn token_types_change_what_the_reference_gives() {
    let (with, without) = (case("bert"), case("bert without token types"));
    let differ = with.pairs.iter().zip(&without.pairs).filter(|(a, b)| (a[0] - b[0]).abs() > 1e-3).count();
    assert!(differ > 10, "{differ} of {} pairs differ", with.pairs.len());
}

#[test]
fn scores_are_the_logits_of_the_single_label_and_their_sigmoid() {
    let golden = golden();
    let case = case("xlm-roberta");
    let reranker = load(&case.model).expect("loads");
    assert_eq!(reranker.labels(), ["LABEL_0"]);
    assert_eq!(reranker.max_tokens(), 30);
    let query = &golden.pairs[0].0;
    let texts: Vec<&str> = golden.texts.iter().map(|text| &text[..]).collect();
    let found = reranker.score(query, &texts).expect("runs");
    let want: Vec<f32> = case.pairs[..texts.len()].iter().map(|logits| logits[0]).collect();
    assert_near(&found.raw, &want, "raw");
    let sigmoid: Vec<f32> = want.iter().map(|x| 1.0 / (1.0 + (-x).exp())).collect();
    assert_near(&found.sigmoid(), &sigmoid, "sigmoid");
    assert_eq!(found.tokens, case.pair_tokens[..texts.len()].iter().sum::<usize>());
}

#[test]
fn a_score_does_not_depend_on_the_batch_it_is_in() {
    let reranker = reranker("bert");
    let texts: Vec<String> = (0..60).map(|at| "stone path snow ".repeat(at % 9) + "rain").collect();
    let texts: Vec<&str> = texts.iter().map(|text| &text[..]).collect();
    let together = reranker.score("what marks the path?", &texts).expect("runs");
    let alone: Vec<f32> = texts
        .iter()
        .map(|text| reranker.score("what marks the path?", &[text]).expect("runs").raw[0])
        .collect();
    assert_near(&together.raw, &alone, "in a batch");
    let none = reranker.score("what marks the path?", &[]).expect("nothing to do");
    assert!(none.raw.is_empty());
}

#[test]
fn tokens_of_a_pair_are_counted_before_it_is_cut() {
    let reranker = reranker("bert");
    assert_eq!(reranker.count_tokens("the path", "a stone"), 7);
    assert_eq!(reranker.count_tokens("the path", &"stone ".repeat(500)), 505);
    let found = reranker.score("the path", &[&"stone ".repeat(500)]).expect("runs");
    assert_eq!(found.tokens, 30);
}

#[test]
fn a_model_with_several_labels_gives_probabilities_but_no_score() {
    let reranker = reranker("bert with labels");
    assert_eq!(reranker.labels(), ["contradiction", "entailment", "neutral"]);
    let error = reranker.score("a", &["b"]).expect_err("refused");
    assert!(matches!(&error, Error::Labels { .. }));
    assert!(error.to_string().contains("entailment"), "{error}");
    let found = reranker.predict(&[("a", Some("b"))]).expect("runs").probabilities();
    assert!((found[0].iter().sum::<f32>() - 1.0).abs() < 1e-6);
}

#[test]
fn what_is_no_cross_encoder_is_refused_by_name() {
    let body = case("bert").model.set("config.json", "architectures", json!(["BertModel"]));
    let error = refused(&body);
    assert!(error.contains("BertModel") && error.contains("ForSequenceClassification"), "{error}");

    let mut headless = case("roberta").model;
    headless.tensors.remove("classifier.out_proj.weight");
    assert!(refused(&headless).contains("classifier.out_proj.weight"));

    let wide = case("bert").model.set("config.json", "id2label", json!({"0": "no", "1": "yes"}));
    let error = refused(&wide);
    assert!(error.contains("classifier.weight") && error.contains("[1, 24]"), "{error}");

    let gap = case("bert").model.set("config.json", "id2label", json!({"0": "no", "2": "yes"}));
    assert!(refused(&gap).contains("id2label"));
}

#[test]
fn modules_of_newer_files_do_not_matter() {
    let mut newer = case("roberta").model;
    newer.files.insert("modules.json".into(), json!([{"path": "", "type": "some.CrossEncoderModule"}]));
    let found = load(&newer).expect("loads").score("a", &["b"]).expect("runs");
    assert_eq!(found, reranker("roberta").score("a", &["b"]).expect("runs"));
}

#[test]
fn weights_that_give_no_number_are_found_out() {
    let case = case("distilbert").model;
    let broken = case.folder_with(|name, mut values| {
        if name == "pre_classifier.bias" {
            values[0] = f32::NAN;
        }
        values
    });
    let reranker = Reranker::load(broken.path(), &exact()).expect("loads");
    let error = reranker.score("a", &["b"]).expect_err("refused");
    assert!(matches!(error, Error::NotFinite { text: 0 }), "{error}");
}

#[test]
fn calls_from_many_threads_at_the_same_time_agree() {
    fn shared<T: Send + Sync>() {}
    shared::<Reranker>();
    let reranker = reranker("roberta");
    let want = reranker.score("the path", &["stone", "snow and rain"]).expect("runs");
    std::thread::scope(|scope| {
        for _ in 0..8 {
            scope.spawn(|| {
                for _ in 0..20 {
                    assert_eq!(reranker.score("the path", &["stone", "snow and rain"]).expect("runs"), want);
                }
            });
        }
    });
}
