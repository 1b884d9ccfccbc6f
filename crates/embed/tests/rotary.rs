//! Encoders and decoders whose positions are rotations, against numbers of
//! sentence-transformers: NomicBERT, ModernBERT, GTE, Qwen2 and Qwen3.

mod common;

use std::fs;

use cairn_embed::{Backend, Encoder, EncoderOptions, Error, Instructions, Precision, TextKind};
use common::{Case, Tiny};
use serde_json::{Value, json};

fn golden() -> Tiny {
    serde_json::from_str(include_str!("../golden/rotary.json")).expect("the fixture is JSON")
}

fn case(name: &str) -> Case {
    golden().cases.into_iter().find(|case| case.name == name).expect("the fixture has the case")
}

fn texts(golden: &Tiny) -> Vec<&str> {
    golden.texts.iter().map(|text| &text[..]).collect()
}

/// Exact, as the reference is.
fn exact() -> EncoderOptions {
    EncoderOptions { threads: 2, precision: Precision::F32, ..EncoderOptions::default() }
}

fn load(case: &Case) -> Result<Encoder, Error> {
    Encoder::load(case.folder().path(), &exact())
}

fn embed(encoder: &Encoder, texts: &[&str], kind: TextKind) -> Vec<Vec<f32>> {
    encoder.embed(texts, kind).expect("the tiny model runs").vectors
}

/// The levels of instructions this processor has.
fn levels() -> Vec<Instructions> {
    use Instructions::{Avx2, Avx512, Bf16, Portable, Vnni};
    let folder = case("nomic mean").folder();
    let runs = |&instructions: &Instructions| {
        Encoder::load(folder.path(), &EncoderOptions { instructions, ..exact() }).is_ok()
    };
    [Portable, Avx2, Avx512, Vnni, Bf16].into_iter().filter(runs).collect()
}

fn distance(a: &[f32], b: &[f32]) -> f32 {
    assert_eq!(a.len(), b.len());
    a.iter().zip(b).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max)
}

fn cosine(a: &[f32], b: &[f32]) -> f32 {
    let dot = |a: &[f32], b: &[f32]| a.iter().zip(b).map(|(a, b)| a * b).sum::<f32>();
    dot(a, b) / (dot(a, a) * dot(b, b)).sqrt()
}

#[test]
fn each_backend_and_level_of_instructions_gives_the_numbers_of_the_reference() {
    let golden = golden();
    let texts = texts(&golden);
    let native = levels().into_iter().map(|instructions| EncoderOptions { instructions, ..exact() });
    let others = [Backend::Packed, Backend::Tensors].map(|backend| EncoderOptions { backend, ..exact() });
    for options in native.chain(others) {
        for case in &golden.cases {
            let encoder = Encoder::load(case.folder().path(), &options).expect("loads");
            assert_eq!(encoder.precision(), Precision::F32);
            assert_eq!(encoder.max_tokens(), case.max_tokens, "{}", case.name);
            for (kind, want) in [(TextKind::Passage, &case.vectors), (TextKind::Query, &case.queries)] {
                for (at, vector) in embed(&encoder, &texts, kind).iter().enumerate() {
                    let worst = distance(vector, &want[at]);
                    assert!(worst < 1e-4, "{options:?} {}, text {at} as {kind:?}: {worst}", case.name);
                }
            }
        }
    }
}

#[test]
fn shorter_precisions_stay_close_at_each_level_of_instructions() {
    let golden = golden();
    let texts = texts(&golden);
    for instructions in levels() {
        // The tiny models are random and narrow: what a real one loses is less.
        for (precision, least) in [(Precision::Bf16, 0.998), (Precision::Int8, 0.98)] {
            for case in &golden.cases {
                let options = EncoderOptions { precision, instructions, ..exact() };
                let encoder = Encoder::load(case.folder().path(), &options).expect("loads");
                assert_eq!(encoder.precision(), precision);
                for (at, vector) in embed(&encoder, &texts, TextKind::Passage).iter().enumerate() {
                    let found = cosine(vector, &case.vectors[at]);
                    assert!(found > least, "{options:?} {}, text {at}: {found}", case.name);
                }
            }
        }
    }
}

#[test]
fn a_text_has_the_same_vector_alone_and_among_others() {
    let golden = golden();
    let texts = texts(&golden);
    for case in &golden.cases {
        let encoder = load(case).expect("loads");
        let together = embed(&encoder, &texts, TextKind::Passage);
        for (text, want) in texts.iter().zip(&together).rev() {
            let worst = distance(&embed(&encoder, &[text], TextKind::Passage)[0], want);
            assert!(worst < 1e-5, "{}, {text}: {worst}", case.name);
        }
    }
}

#[test]
fn tensors_under_the_name_of_a_body_are_found() {
    for (name, prefix) in [
        ("nomic mean", "bert."),
        ("modernbert cls", "model."),
        ("gte cls", "new."),
        ("qwen2 last token", "model."),
        ("qwen3 last token", "model."),
    ] {
        let case = case(name);
        let text = ["the stone marks the path"];
        let want = embed(&load(&case).expect("loads"), &text, TextKind::Passage);
        for prefix in ["", prefix] {
            let folder = case.folder_with(|name, values| {
                *name = format!("{prefix}{}", name.strip_prefix("new.").unwrap_or(name));
                values
            });
            let encoder = Encoder::load(folder.path(), &exact()).expect("loads");
            assert_eq!(embed(&encoder, &text, TextKind::Passage), want, "{name} {prefix}");
        }
    }
}

#[test]
fn configurations_with_newer_fields_mean_the_same() {
    let text = ["the path of stones and snow, old and rained"];
    let changed = |name: &str, config: Value| {
        let (older, mut newer) = (case(name), case(name));
        newer.files["config.json"] = config;
        let [older, newer] = [older, newer].map(|case| load(&case).expect("loads"));
        assert_eq!(
            embed(&older, &text, TextKind::Passage),
            embed(&newer, &text, TextKind::Passage),
            "{name}"
        );
    };
    let mut modern = case("modernbert cls").files["config.json"].clone();
    for field in ["global_attn_every_n_layers", "global_rope_theta", "local_rope_theta"] {
        modern.as_object_mut().expect("an object").remove(field);
    }
    let (whole, window) = ("full_attention", "sliding_attention");
    modern["layer_types"] = json!([whole, window, window, whole, window]);
    modern["rope_parameters"] = json!({
        whole: {"rope_type": "default", "rope_theta": 160_000.0},
        window: {"rope_type": "default", "rope_theta": 100.0},
    });
    changed("modernbert cls", modern);

    let nomic = &case("nomic mean").files["config.json"];
    changed(
        "nomic mean",
        json!({
            "model_type": "nomic_bert", "vocab_size": nomic["vocab_size"], "hidden_size": 24,
            "num_hidden_layers": 2, "num_attention_heads": 3, "intermediate_size": 40, "hidden_act": "silu",
            "max_position_embeddings": 128, "type_vocab_size": 2, "layer_norm_eps": 1e-12,
            "rope_parameters": {"rope_type": "default", "rope_theta": 1000.0},
        }),
    );

    let mut qwen = case("qwen3 last token").files["config.json"].clone();
    qwen.as_object_mut().expect("an object").remove("rope_theta");
    qwen["rope_parameters"] = json!({"rope_type": "default", "type": "default", "rope_theta": 500.0});
    changed("qwen3 last token", qwen);
}

#[test]
fn a_decoder_does_not_look_ahead_and_an_encoder_does() {
    let first = |name: &str, text: &str| {
        let mut case = case(name);
        case.files["1_Pooling/config.json"] = json!({"pooling_mode": "cls"});
        embed(&load(&case).expect("loads"), &[text], TextKind::Passage).remove(0)
    };
    for (name, same) in [("qwen2 last token", true), ("qwen3 wide heads", true), ("qwen2 both ways", false)] {
        let worst = distance(&first(name, "stone"), &first(name, "stone and snow"));
        assert_eq!(worst < 1e-6, same, "{name}: {worst}");
    }
}

#[test]
fn a_nomic_model_that_says_no_prompts_has_those_of_its_training() {
    let given = case("nomic mean");
    let text = "the stone";
    let plain = load(&given).expect("loads");
    let folder = given.folder();
    fs::remove_file(folder.path().join("config_sentence_transformers.json")).expect("removed");
    let encoder = Encoder::load(folder.path(), &exact()).expect("loads");
    for (kind, prompt) in [(TextKind::Query, "search_query: "), (TextKind::Passage, "search_document: ")] {
        let want = embed(&plain, &[&format!("{prompt}{text}")], TextKind::Passage);
        assert_eq!(embed(&encoder, &[text], kind), want, "{prompt}");
    }
    // An empty list of prompts is a list.
    let mut none = given.clone();
    none.files["config_sentence_transformers.json"] = json!({"prompts": {}});
    let none = load(&none).expect("loads");
    assert_eq!(embed(&none, &[text], TextKind::Query), embed(&plain, &[text], TextKind::Passage));
}

#[test]
fn what_is_not_supported_is_named_with_what_is() {
    let config = |name: &str, field: &str, value: Value| {
        let case = case(name).set("config.json", field, value.clone());
        let error = load(&case).err().unwrap_or_else(|| panic!("{field} {value} was loaded"));
        assert!(matches!(error, Error::Unsupported { .. }), "{error}");
        error.to_string()
    };
    for (name, field, value, says) in [
        ("nomic mean", "activation_function", json!("relu"), "swiglu"),
        ("nomic mean", "rotary_emb_fraction", json!(0.5), "0.5"),
        ("nomic mean", "rotary_emb_interleaved", json!(true), "true"),
        ("nomic mean", "rotary_emb_scale_base", json!(512), "512"),
        ("nomic mean", "prenorm", json!(true), "true"),
        ("nomic mean", "num_experts", json!(8), "8"),
        ("nomic mean", "causal", json!(true), "true"),
        ("modernbert cls", "hidden_activation", json!("tanh"), "tanh"),
        ("modernbert cls", "global_attn_every_n_layers", json!(0), "0"),
        ("modernbert cls", "layer_types", json!(["full_attention"]), "1"),
        ("gte cls", "position_embedding_type", json!("absolute"), "absolute"),
        ("gte cls", "layer_norm_type", json!("rms_norm"), "rms_norm"),
        ("gte cls", "pack_qkv", json!(false), "false"),
        ("gte cls", "logn_attention_scale", json!(true), "true"),
        ("gte cls", "rope_scaling", json!({"type": "yarn", "factor": 4}), "yarn"),
        ("qwen2 last token", "num_key_value_heads", json!(3), "3"),
        ("qwen2 last token", "hidden_act", json!("quick_gelu"), "quick_gelu"),
        ("qwen2 last token", "rope_theta", json!(0), "0"),
        ("qwen2 windows", "is_causal", json!(false), "causal"),
        ("qwen3 last token", "rope_scaling", json!({"rope_type": "llama3", "factor": 4}), "llama3"),
    ] {
        let error = config(name, field, value);
        assert!(error.contains(field) && error.contains(says), "{error}");
        assert!(error.contains("supported: "), "{error}");
    }
    assert!(config("qwen3 last token", "head_dim", json!(15)).contains("an even number"));
    assert!(config("qwen2 last token", "num_attention_heads", json!(5)).contains("a divisor"));
}

#[test]
fn the_ready_made_model_of_the_engine_is_not_for_these() {
    let folder = case("qwen3 last token").folder();
    let options = EncoderOptions { backend: Backend::Stock, ..exact() };
    let error = Encoder::load(folder.path(), &options).err().expect("refused").to_string();
    assert!(error.contains("qwen") && error.contains("stock"), "{error}");
}

#[test]
fn a_missing_tensor_and_a_wrong_shape_are_named() {
    for (name, tensor) in [
        ("nomic mean", "encoder.layers.1.attn.Wqkv.weight"),
        ("modernbert cls", "layers.1.attn_norm.weight"),
        ("qwen3 last token", "layers.2.self_attn.k_norm.weight"),
    ] {
        let mut lacking = case(name);
        assert!(lacking.tensors.remove(tensor).is_some(), "{name} has {tensor}");
        let error = load(&lacking).err().expect("refused").to_string();
        assert!(error.contains(tensor), "{error}");
        let mut narrow = case(name);
        narrow.tensors.insert(tensor.into(), vec![5]);
        let error = load(&narrow).err().expect("refused").to_string();
        assert!(error.contains(tensor) && error.contains("[5]"), "{error}");
    }
}
