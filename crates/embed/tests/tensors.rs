//! The way models run on a GPU, on the processor: every architecture and head, the
//! precisions of GPUs, and what is said where there is none.
//!
//! In f32 the other tests hold it against the reference, beside the native engine.

mod common;

use cairn_embed::{
    Backend, Cancel, Device, Encoder, EncoderOptions, Error, Heads, Input, Precision, Reranker, TextKind,
};
use common::{Case, Tiny, case, tiny};
use serde_json::json;

fn rotary() -> Tiny {
    serde_json::from_str(include_str!("../golden/rotary.json")).expect("the fixture is JSON")
}

fn on_processor(precision: Precision) -> EncoderOptions {
    EncoderOptions {
        device: Device::Cpu,
        backend: Backend::Tensors,
        precision,
        threads: 2,
        ..EncoderOptions::default()
    }
}

fn native() -> EncoderOptions {
    EncoderOptions { backend: Backend::Native, ..on_processor(Precision::F32) }
}

fn cosine(a: &[f32], b: &[f32]) -> f32 {
    let dot = |a: &[f32], b: &[f32]| a.iter().zip(b).map(|(a, b)| a * b).sum::<f32>();
    dot(a, b) / (dot(a, a) * dot(b, b)).sqrt()
}

fn distance(a: &[f32], b: &[f32]) -> f32 {
    assert_eq!(a.len(), b.len());
    a.iter().zip(b).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max)
}

#[test]
fn shorter_floats_stay_close_to_the_reference() {
    for golden in [tiny(), rotary()] {
        let texts: Vec<&str> = golden.texts.iter().map(|text| &text[..]).collect();
        // The tiny models are random and narrow: what a real one loses is less.
        for (precision, least) in [(Precision::F16, 0.9995), (Precision::Bf16, 0.98)] {
            for case in &golden.cases {
                let encoder = Encoder::load(case.folder().path(), &on_processor(precision)).expect("loads");
                assert_eq!((encoder.precision(), encoder.device()), (precision, Device::Cpu));
                let found = encoder.embed(&texts, TextKind::Passage).expect("runs");
                for (at, vector) in found.vectors.iter().enumerate() {
                    let found = cosine(vector, &case.vectors[at]);
                    assert!(found > least, "{precision:?} {}, text {at}: {found}", case.name);
                }
            }
        }
    }
}

#[test]
fn pooled_vectors_have_length_1_in_every_precision() {
    let folder = case("bert mean normalized").folder();
    for precision in [Precision::F32, Precision::F16, Precision::Bf16] {
        let encoder = Encoder::load(folder.path(), &on_processor(precision)).expect("loads");
        for vector in encoder.embed(&["the stone", "", "path"], TextKind::Query).expect("runs").vectors {
            let length = vector.iter().map(|x| x * x).sum::<f32>().sqrt();
            assert!((length - 1.0).abs() < 1e-6, "{precision:?}: {length}");
        }
    }
}

#[test]
fn states_of_all_tokens_are_those_of_the_native_engine() {
    let golden = rotary();
    let inputs: Vec<Input<'_>> = golden.texts.iter().map(|text| Input::Text(text)).collect();
    for case in golden.cases.iter().chain(&tiny().cases) {
        let folder = case.folder();
        let states = |options: &EncoderOptions| {
            let encoder = Encoder::load(folder.path(), options).expect("loads");
            encoder.embed_all(&inputs, TextKind::Passage, &Cancel::new()).expect("runs").vectors
        };
        let (ours, want) = (states(&on_processor(Precision::F32)), states(&native()));
        for (ours, want) in ours.iter().zip(&want) {
            assert_eq!(ours.len(), want.len(), "{}", case.name);
            let worst = ours.iter().zip(want).map(|(a, b)| distance(a, b)).fold(0.0, f32::max);
            assert!(worst < 1e-4, "{}: {worst}", case.name);
        }
    }
}

#[test]
fn neighbours_and_padding_do_not_change_a_vector() {
    let words = ["stone", "path", "snow and rain", "the old key is", "z", ""];
    let texts: Vec<String> = (0..60).map(|i| words[i % 6].repeat(1 + i / 6) + words[i * 7 % 6]).collect();
    let texts: Vec<&str> = texts.iter().map(|text| &text[..]).collect();
    for name in ["bert mean normalized", "mpnet mean", "bert max", "bert weighted mean"] {
        let folder = case(name).folder();
        let alone = Encoder::load(folder.path(), &native()).expect("loads");
        let want = alone.embed(&texts, TextKind::Passage).expect("runs").vectors;
        for max_batch_tokens in [1, 64, 16_384] {
            let options = EncoderOptions { max_batch_tokens, ..on_processor(Precision::F32) };
            let encoder = Encoder::load(folder.path(), &options).expect("loads");
            let found = encoder.embed(&texts, TextKind::Passage).expect("runs").vectors;
            let worst = found.iter().zip(&want).map(|(a, b)| distance(a, b)).fold(0.0, f32::max);
            assert!(worst < 1e-5, "{name}, {max_batch_tokens}: {worst}");
        }
    }
}

#[test]
fn windows_and_decoders_see_in_a_batch_what_they_see_alone() {
    let golden = rotary();
    let mut texts: Vec<&str> = golden.texts.iter().map(|text| &text[..]).collect();
    texts.extend(["stone path snow", "the old key is a stone and snow", "stone"]);
    for case in &golden.cases {
        let encoder = Encoder::load(case.folder().path(), &on_processor(Precision::F32)).expect("loads");
        let together = encoder.embed(&texts, TextKind::Passage).expect("runs").vectors;
        for (text, want) in texts.iter().zip(&together) {
            let alone = encoder.embed(&[text], TextKind::Passage).expect("runs").vectors.remove(0);
            assert!(distance(&alone, want) < 1e-5, "{}, {text}", case.name);
        }
    }
}

#[test]
fn calls_with_many_texts_give_the_vectors_of_each_in_their_order() {
    let words = ["stone", "path", "snow", "rain", "the", "old", "key", "is"];
    let text = |at: usize| (0..=at % 7).map(|i| words[(at * 5 + i * 3) % 8]).collect::<Vec<_>>().join(" ");
    let texts: Vec<String> = (0..5000).map(text).collect();
    let texts: Vec<&str> = texts.iter().map(|text| &text[..]).collect();
    let case = case("bert mean");
    let [ours, want] = [on_processor(Precision::F32), native()]
        .map(|options| Encoder::load(case.folder().path(), &options).expect("loads"));
    let [ours, want] = [ours, want].map(|encoder| encoder.embed(&texts, TextKind::Passage).expect("runs"));
    assert_eq!((ours.vectors.len(), ours.tokens), (5000, want.tokens));
    let worst = ours.vectors.iter().zip(&want.vectors).map(|(a, b)| distance(a, b)).fold(0.0, f32::max);
    assert!(worst < 1e-5, "{worst}");

    let broken = case.folder_with(|name, mut values| {
        if name.ends_with("word_embeddings.weight") {
            // The row of `!`.
            values[49 * 24..50 * 24].fill(f32::NAN);
        }
        values
    });
    let encoder = Encoder::load(broken.path(), &on_processor(Precision::F32)).expect("loads");
    let mut texts = texts;
    texts[4321] = "!";
    let found = encoder.embed(&texts, TextKind::Passage);
    assert!(matches!(found, Err(Error::NotFinite { text: 4321 })), "{found:?}");
}

#[test]
fn what_is_no_number_is_an_error_and_the_next_call_runs() {
    let case = case("bert mean");
    let broken = case.folder_with(|name, mut values| {
        if name.ends_with("word_embeddings.weight") {
            values[5 * 24..6 * 24].fill(f32::NAN);
        }
        values
    });
    let encoder = Encoder::load(broken.path(), &on_processor(Precision::F32)).expect("loads");
    let ids: [&[u32]; 2] = [&[5, 6], &[6, 7]];
    let embed = |ids| encoder.embed_inputs(&[Input::Ids(ids)], TextKind::Query, &Cancel::new());
    assert!(matches!(embed(ids[0]), Err(Error::NotFinite { text: 0 })));
    assert!(embed(ids[1]).is_ok());
}

#[test]
fn a_call_that_was_cancelled_ends() {
    let encoder =
        Encoder::load(case("bert mean").folder().path(), &on_processor(Precision::F32)).expect("loads");
    let cancel = Cancel::new();
    cancel.cancel();
    let found = encoder.embed_inputs(&[Input::Ids(&[5, 6])], TextKind::Query, &cancel);
    assert!(found.is_err_and(|error| error.is_cancelled()));
}

/// A GPU that this build cannot use, and one that it could and that is not there.
fn absent() -> Vec<Device> {
    let none = |device: &Device| {
        let options = EncoderOptions { device: *device, ..EncoderOptions::default() };
        Encoder::load(case("bert mean").folder().path(), &options).is_err()
    };
    [Device::Cuda(0), Device::Cuda(99), Device::Metal].into_iter().filter(none).collect()
}

#[test]
fn a_gpu_that_is_asked_for_and_absent_is_an_error_that_says_how_to_mend_it() {
    let folder = case("bert mean").folder();
    let absent = absent();
    assert!(absent.contains(&Device::Cuda(99)), "no machine has so many");
    for device in absent {
        let options = EncoderOptions { device, ..EncoderOptions::default() };
        let error = Encoder::load(folder.path(), &options).err().expect("it is absent");
        assert!(matches!(error, Error::Device { .. }), "{error}");
        let error = error.to_string();
        let (built, feature) = match device {
            Device::Metal => (cfg!(feature = "metal"), "--features metal"),
            _ => (cfg!(feature = "cuda"), "--features cuda"),
        };
        assert!(error.contains(&device.to_string()) && error.contains("`auto` or `cpu`"), "{error}");
        assert_eq!(error.contains(feature), !built, "{error}");
        assert_eq!(error.contains("its driver says: "), built, "{error}");
    }
    let auto = Encoder::load(folder.path(), &EncoderOptions::default()).expect("it runs where it can");
    assert!(!auto.embed(&["stone"], TextKind::Query).expect("runs").vectors.is_empty());
}

#[test]
fn auto_is_the_processor_where_there_is_no_gpu() {
    if !absent().contains(&Device::Cuda(0)) || !absent().contains(&Device::Metal) {
        return; // There is one, and `auto` takes it.
    }
    let folder = case("bert mean").folder();
    let auto = Encoder::load(folder.path(), &EncoderOptions::default()).expect("loads");
    assert_eq!(auto.device(), Device::Cpu);
}

#[test]
fn options_that_do_not_go_together_are_refused() {
    let folder = case("bert mean").folder();
    let refused = |options: EncoderOptions| {
        let error = Encoder::load(folder.path(), &options).err().expect("refused");
        assert!(matches!(error, Error::Option { .. }), "{error}");
        error.to_string()
    };
    let cuda = EncoderOptions { device: Device::Cuda(0), ..EncoderOptions::default() };
    for (options, says) in [
        (EncoderOptions { backend: Backend::Packed, ..cuda.clone() }, "packed"),
        (EncoderOptions { backend: Backend::Stock, ..cuda }, "stock"),
        (on_processor(Precision::Int8), "int8"),
        (EncoderOptions { precision: Precision::F16, ..native() }, "f16"),
        (EncoderOptions { gpu_batch_tokens: 0, ..native() }, "gpu_batch_tokens"),
    ] {
        let error = refused(options);
        assert!(error.contains(says), "{error}");
    }
    let device: Result<EncoderOptions, _> = serde_json::from_value(json!({ "device": "gpu" }));
    assert!(device.expect_err("refused").to_string().contains("cuda:N"));
    let device: EncoderOptions = serde_json::from_value(json!({ "device": "cuda" })).expect("known");
    assert_eq!(device.device, Device::Cuda(0));
}

#[test]
fn a_cross_encoder_gives_the_logits_of_the_native_one() {
    let golden: serde_json::Value =
        serde_json::from_str(include_str!("../golden/rerank.json")).expect("the fixture is JSON");
    let cases: Vec<Case> = serde_json::from_value(golden["cases"].clone()).expect("cases");
    let pairs: Vec<(String, String)> = serde_json::from_value(golden["pairs"].clone()).expect("pairs");
    let pairs: Vec<(&str, Option<&str>)> = pairs.iter().map(|(a, b)| (&a[..], Some(&b[..]))).collect();
    for case in &cases {
        let folder = case.folder();
        let logits = |options: &EncoderOptions| {
            Reranker::load(folder.path(), options).expect("loads").predict(&pairs).expect("runs").raw
        };
        let want = logits(&native());
        for (precision, most) in [(Precision::F32, 1e-4), (Precision::F16, 0.02), (Precision::Bf16, 0.15)] {
            for (ours, want) in logits(&on_processor(precision)).iter().zip(&want) {
                let worst = distance(ours, want);
                assert!(worst < most, "{precision:?} {}: {worst}", case.name);
            }
        }
    }
}

#[test]
fn heads_come_in_shorter_floats_too() {
    let golden: serde_json::Value =
        serde_json::from_str(include_str!("../golden/heads.json")).expect("the fixture is JSON");
    let cases: Vec<Case> = serde_json::from_value(golden["sparse"].clone()).expect("sparse cases");
    let texts: Vec<String> = serde_json::from_value(golden["texts"].clone()).expect("texts");
    let texts: Vec<Input<'_>> = texts.iter().map(|text| Input::Text(text)).collect();
    for case in &cases {
        let folder = case.folder();
        let whole = |options: &EncoderOptions| -> Vec<Vec<f32>> {
            let encoder = Encoder::load(folder.path(), options).expect("loads");
            let found = encoder.embed_heads(&texts, Heads::SPARSE, TextKind::Passage, &Cancel::new());
            let whole = |sparse: &cairn_embed::SparseVector| {
                let mut whole = vec![0.0; 128];
                for (&index, &value) in sparse.indices.iter().zip(&sparse.values) {
                    whole[index as usize] = value;
                }
                whole
            };
            found.expect("runs").sparse.iter().map(whole).collect()
        };
        let want = whole(&native());
        for (precision, least) in [(Precision::F16, 0.9999), (Precision::Bf16, 0.995)] {
            for (ours, want) in whole(&on_processor(precision)).iter().zip(&want) {
                let found = cosine(ours, want);
                assert!(found > least, "{precision:?} {}: {found}", case.name);
            }
        }
    }
}
