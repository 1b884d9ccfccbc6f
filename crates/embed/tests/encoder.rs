//! The encoder against numbers of sentence-transformers, and against folders
//! that are broken in every way we know.

mod common;

use std::fs;
use std::path::Path;

use cairn_embed::{
    Backend, Cancel, Encoder, EncoderOptions, Error, Input, Instructions, Precision, TextKind,
};
use common::{Case, case, tiny, values, write};
use serde_json::json;

/// Exact, as the reference is.
fn exact() -> EncoderOptions {
    EncoderOptions { threads: 2, precision: Precision::F32, ..EncoderOptions::default() }
}

fn load(folder: &Path) -> Result<Encoder, Error> {
    Encoder::load(folder, &exact())
}

/// The levels of instructions this processor has.
fn levels() -> Vec<Instructions> {
    use Instructions::{Amx, Avx2, Avx512, Bf16, Portable, Vnni};
    let folder = case("bert mean").folder();
    let runs = |&instructions: &Instructions| {
        Encoder::load(folder.path(), &EncoderOptions { instructions, ..exact() }).is_ok()
    };
    [Portable, Avx2, Avx512, Vnni, Bf16, Amx].into_iter().filter(runs).collect()
}

fn cosine(a: &[f32], b: &[f32]) -> f32 {
    let dot = |a: &[f32], b: &[f32]| a.iter().zip(b).map(|(a, b)| a * b).sum::<f32>();
    dot(a, b) / (dot(a, a) * dot(b, b)).sqrt()
}

fn encoder(case: &Case) -> Encoder {
    load(case.folder().path()).expect("the tiny model loads")
}

fn embed(encoder: &Encoder, texts: &[&str]) -> Vec<Vec<f32>> {
    let found = encoder.embed(texts, TextKind::Passage);
    found.expect("the tiny model runs").vectors
}

fn refused(folder: &Path) -> String {
    match load(folder) {
        Ok(_) => panic!("a broken folder was loaded"),
        Err(error) => error.to_string(),
    }
}

fn distance(a: &[f32], b: &[f32]) -> f32 {
    assert_eq!(a.len(), b.len());
    a.iter().zip(b).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max)
}

#[test]
fn the_formula_gives_the_weights_of_the_script() {
    let name = "encoder.layer.0.output.LayerNorm.weight";
    assert_eq!(values(name, 3), tiny().sample);
}

#[test]
fn the_ready_made_model_of_the_engine_gives_the_same_vectors() {
    let tiny = tiny();
    let texts: Vec<&str> = tiny.texts.iter().map(|text| &text[..]).collect();
    let mut compared = 0;
    for case in &tiny.cases {
        let folder = case.folder();
        let options = EncoderOptions { backend: Backend::Stock, ..exact() };
        let stock = match Encoder::load(folder.path(), &options) {
            Ok(stock) => stock,
            Err(Error::Unsupported { .. }) => continue,
            Err(error) => panic!("{}: {error}", case.name),
        };
        let packed = embed(&encoder(case), &texts);
        for (at, (a, b)) in embed(&stock, &texts).iter().zip(&packed).enumerate() {
            let worst = distance(a, b);
            assert!(worst < 2e-5, "{}, text {at}: {worst}", case.name);
        }
        compared += 1;
    }
    assert!(compared >= 2, "{compared} cases are BERT itself");
}

#[test]
fn every_architecture_and_pooling_gives_the_numbers_of_the_reference() {
    let tiny = tiny();
    let texts: Vec<&str> = tiny.texts.iter().map(|text| &text[..]).collect();
    for case in &tiny.cases {
        let encoder = encoder(case);
        assert_eq!(encoder.max_tokens(), case.max_tokens, "{}", case.name);
        assert_eq!(encoder.dim(), case.vectors[0].len(), "{}", case.name);
        for (at, vector) in embed(&encoder, &texts).iter().enumerate() {
            let worst = distance(vector, &case.vectors[at]);
            assert!(worst < 2e-5, "{}, text {at}: {worst}", case.name);
        }
    }
}

#[test]
fn each_backend_and_level_of_instructions_gives_the_numbers_of_the_reference() {
    let tiny = tiny();
    let texts: Vec<&str> = tiny.texts.iter().map(|text| &text[..]).collect();
    let levels = levels();
    assert!(levels.contains(&Instructions::Portable));
    let native = levels.into_iter().map(|instructions| EncoderOptions { instructions, ..exact() });
    let others = [Backend::Packed, Backend::Tensors].map(|backend| EncoderOptions { backend, ..exact() });
    for options in native.chain(others) {
        for case in &tiny.cases {
            let encoder = Encoder::load(case.folder().path(), &options).expect("loads");
            assert_eq!(encoder.precision(), Precision::F32);
            for (at, vector) in embed(&encoder, &texts).iter().enumerate() {
                let worst = distance(vector, &case.vectors[at]);
                assert!(worst < 2e-5, "{options:?} {}, text {at}: {worst}", case.name);
            }
        }
    }
}

#[test]
fn shorter_precisions_stay_close_at_each_level_of_instructions() {
    let tiny = tiny();
    let texts: Vec<&str> = tiny.texts.iter().map(|text| &text[..]).collect();
    for instructions in levels() {
        // The tiny models are random and 24 wide: what a real one loses is less.
        for (precision, least) in [(Precision::Bf16, 0.9995), (Precision::Int8, 0.995)] {
            for case in &tiny.cases {
                let options = EncoderOptions { precision, instructions, ..exact() };
                let encoder = Encoder::load(case.folder().path(), &options).expect("loads");
                assert_eq!(encoder.precision(), precision);
                for (at, vector) in embed(&encoder, &texts).iter().enumerate() {
                    let found = cosine(vector, &case.vectors[at]);
                    assert!(found > least, "{options:?} {}, text {at}: {found}", case.name);
                }
            }
        }
    }
}

#[test]
fn neighbours_in_a_batch_do_not_change_a_vector() {
    let words = ["stone", "path", "snow and rain", "the old key is", "z", ""];
    let texts: Vec<String> = (0..60).map(|i| words[i % 6].repeat(1 + i / 6) + words[i * 7 % 6]).collect();
    let texts: Vec<&str> = texts.iter().map(|text| &text[..]).collect();
    let case = case("bert mean normalized");
    let folder = case.folder();
    let alone = encoder(&case);
    let alone: Vec<Vec<f32>> = texts.iter().map(|text| embed(&alone, &[text]).remove(0)).collect();
    for (max_batch_tokens, threads) in [(1, 1), (7, 2), (64, 3), (16_384, 1), (16_384, 2)] {
        let options = EncoderOptions { max_batch_tokens, threads, ..exact() };
        let encoder = Encoder::load(folder.path(), &options).expect("loads");
        for (one, other) in embed(&encoder, &texts).iter().zip(&alone) {
            assert!(distance(one, other) < 1e-5);
        }
        let backwards: Vec<&str> = texts.iter().rev().copied().collect();
        for (one, other) in embed(&encoder, &backwards).iter().rev().zip(&alone) {
            assert!(distance(one, other) < 1e-5);
        }
    }
}

#[test]
fn no_texts_give_no_vectors() {
    let found = encoder(&case("bert mean")).embed(&[], TextKind::Query);
    let found = found.expect("nothing to do");
    assert!(found.vectors.is_empty());
    assert_eq!(found.tokens, 0);
}

#[test]
fn an_empty_text_has_the_vector_of_its_special_tokens() {
    let encoder = encoder(&case("bert mean normalized"));
    let found = encoder.embed(&["", "  \n"], TextKind::Query).expect("runs");
    assert_eq!(found.tokens, 4);
    assert_eq!(found.vectors[0], found.vectors[1]);
    let length: f32 = found.vectors[0].iter().map(|x| x * x).sum();
    assert!((length - 1.0).abs() < 1e-5);
}

#[test]
fn a_text_is_cut_at_the_limit_and_tokens_are_counted_as_fed() {
    let encoder = encoder(&case("bert mean normalized"));
    assert_eq!(encoder.max_tokens(), 16);
    let long = "stone ".repeat(100);
    let short = "stone ".repeat(14);
    let found = encoder.embed(&[&long, &short, "path"], TextKind::Passage);
    let found = found.expect("runs");
    assert_eq!(found.tokens, 16 + 16 + 3);
    assert_eq!(found.vectors[0], found.vectors[1]);
    assert_eq!(encoder.count_tokens(&long), 100);
    assert_eq!(encoder.count_tokens(""), 0);
}

#[test]
fn a_long_start_without_words_does_not_hide_the_words() {
    let encoder = encoder(&case("bert mean normalized"));
    let hidden = format!("the {}stone path", " ".repeat(5000));
    let plain = embed(&encoder, &["the stone path"]);
    assert!(distance(&embed(&encoder, &[&hidden])[0], &plain[0]) < 1e-6);
}

#[test]
fn texts_of_ten_megabytes_are_read_only_as_far_as_needed() {
    let encoder = encoder(&case("bert mean normalized"));
    let words = "stone path ".repeat(1_000_000);
    let letters = "é".repeat(5_000_000);
    let blank = " ".repeat(10_000_000) + "stone";
    let start = std::time::Instant::now();
    let found = encoder.embed(&[&words, &letters, &blank], TextKind::Passage);
    assert_eq!(found.expect("runs").vectors.len(), 3);
    assert!(start.elapsed().as_secs() < 20);
    assert_eq!(encoder.count_tokens(&words), 2_000_000);
}

#[test]
fn queries_and_passages_get_their_prompts() {
    let mut case = case("bert mean");
    let prompts = json!({"prompts": {"query": "the key ", "document": "snow "}});
    case.files.insert("config_sentence_transformers.json".into(), prompts);
    let encoder = encoder(&case);
    let plain = embed(&self::encoder(&self::case("bert mean")), &["the key stone", "snow stone"]);
    let query = encoder.embed(&["stone"], TextKind::Query).expect("runs");
    let passage = encoder.embed(&["stone"], TextKind::Passage).expect("runs");
    assert!(distance(&query.vectors[0], &plain[0]) < 1e-6);
    assert!(distance(&passage.vectors[0], &plain[1]) < 1e-6);
}

#[test]
fn without_modules_the_vector_is_the_plain_mean() {
    let mut plain = case("bert mean");
    let want = embed(&encoder(&plain), &["the stone"]);
    plain.files.remove("modules.json");
    plain.files.remove("1_Pooling/config.json");
    assert_eq!(embed(&encoder(&plain), &["the stone"]), want);
}

#[test]
fn the_newer_way_to_name_the_pooling_is_read_too() {
    let mut newer = case("bert cls");
    let want = embed(&encoder(&newer), &["the stone"]);
    newer.files["1_Pooling/config.json"] = json!({"embedding_dimension": 24, "pooling_mode": "cls"});
    assert_eq!(embed(&encoder(&newer), &["the stone"]), want);
}

#[test]
fn names_under_a_prefix_and_older_names_of_norms_are_found() {
    let case = case("bert mean");
    let want = embed(&encoder(&case), &["the stone"]);
    let renamed = case.folder_with(|name, values| {
        let older =
            name.replace("LayerNorm.weight", "LayerNorm.gamma").replace("LayerNorm.bias", "LayerNorm.beta");
        *name = format!("bert.{older}");
        values
    });
    let encoder = load(renamed.path()).expect("loads");
    assert_eq!(embed(&encoder, &["the stone"]), want);
}

#[test]
fn a_transformer_in_a_folder_of_its_own_is_found() {
    let mut case = case("bert mean");
    case.files["modules.json"][0]["path"] = json!("0_Transformer");
    let folder = case.folder();
    let want = embed(&encoder(&self::case("bert mean")), &["the stone"]);
    let inner = folder.path().join("0_Transformer");
    fs::create_dir(&inner).expect("a folder");
    for file in ["config.json", "tokenizer.json", "tokenizer_config.json", "model.safetensors"] {
        fs::rename(folder.path().join(file), inner.join(file)).expect("moved");
    }
    let encoder = load(folder.path()).expect("loads");
    assert_eq!(embed(&encoder, &["the stone"]), want);
}

#[test]
fn a_missing_file_is_named() {
    for file in ["config.json", "tokenizer.json", "model.safetensors", "1_Pooling/config.json"] {
        let folder = case("bert mean").folder();
        fs::remove_file(folder.path().join(file)).expect("removed");
        let error = load(folder.path()).err().expect("refused");
        assert!(matches!(&error, Error::MissingFile { file: named, .. } if named == file));
        assert!(error.to_string().contains(file));
    }
    let error = refused(Path::new("no-such-folder"));
    assert!(error.contains("no-such-folder"), "{error}");
}

#[test]
fn broken_json_is_named_with_its_place() {
    for file in ["config.json", "modules.json", "1_Pooling/config.json", "sentence_bert_config.json"] {
        let folder = case("bert mean").folder();
        write(folder.path(), file, b"\n,");
        let error = refused(folder.path());
        assert!(error.contains(file) && error.contains("line 2"), "{error}");
    }
    let folder = case("bert mean").folder();
    write(folder.path(), "config.json", br#"{"model_type": "bert"}"#);
    let error = refused(folder.path());
    assert!(error.contains("vocab_size"), "{error}");
}

#[test]
fn a_broken_tokenizer_is_named() {
    let folder = case("bert mean").folder();
    write(folder.path(), "tokenizer.json", b"{}");
    let error = refused(folder.path());
    assert!(error.contains("tokenizer.json"), "{error}");
}

#[test]
fn weights_cut_at_any_place_are_refused() {
    let folder = case("bert mean").folder();
    let path = folder.path().join("model.safetensors");
    let whole = fs::read(&path).expect("read");
    for length in [0, 4, 8, 100, 2000, whole.len() / 2, whole.len() - 1] {
        fs::write(&path, &whole[..length]).expect("written");
        let error = refused(folder.path());
        assert!(error.contains("damaged or cut short"), "{length}: {error}");
    }
}

#[test]
fn a_missing_tensor_and_a_wrong_shape_are_named() {
    let mut lacking = case("bert mean");
    lacking.tensors.remove("encoder.layer.1.output.dense.bias");
    let error = refused(lacking.folder().path());
    assert!(error.contains("encoder.layer.1.output.dense.bias"), "{error}");

    let mut narrow = case("bert mean");
    let shape = vec![24, 23];
    let name = "encoder.layer.0.attention.self.key.weight";
    narrow.tensors.insert(name.into(), shape);
    let error = refused(narrow.folder().path());
    assert!(error.contains(name) && error.contains("[24, 23]"), "{error}");
    assert!(error.contains("[24, 24]"), "{error}");
}

#[test]
fn a_tokenizer_with_more_ids_than_the_model_has_rows_is_refused() {
    let mut case = case("bert mean");
    case.files["tokenizer.json"]["model"]["vocab"]["extra"] = json!(500);
    let error = load(case.folder().path()).err().expect("refused");
    assert!(matches!(error, Error::Vocabulary { largest: 500, .. }), "{error}");
}

#[test]
fn what_is_not_supported_is_named_with_what_is() {
    let bert = || case("bert mean");
    for (broken, field, value) in [
        (bert().set("config.json", "model_type", "gpt2"), "model_type", "gpt2"),
        (bert().set("config.json", "hidden_act", "silu"), "hidden_act", "silu"),
        (
            bert().set("config.json", "position_embedding_type", "relative_key"),
            "position_embedding_type",
            "relative_key",
        ),
        (bert().set("config.json", "num_attention_heads", 5), "heads", "5"),
        (bert().set("config.json", "num_attention_heads", 0), "heads", "0"),
        (bert().set("sentence_bert_config.json", "max_seq_length", 2), "limit", "2"),
        (bert().set("1_Pooling/config.json", "pooling_mode", "odd"), "pooling_mode", "odd"),
        (bert().set("1_Pooling/config.json", "include_prompt", false), "include_prompt", "false"),
    ] {
        let error = load(broken.folder().path()).err().expect("refused");
        assert!(matches!(error, Error::Unsupported { .. }), "{error}");
        let error = error.to_string();
        assert!(error.contains(field) && error.contains(value), "{error}");
        assert!(error.contains("supported: "), "{error}");
    }
}

#[test]
fn modules_that_are_unknown_or_leave_the_folder_are_refused() {
    let mut other = case("bert mean normalized");
    other.files["modules.json"][2]["type"] = json!("sentence_transformers.models.LSTM");
    assert!(refused(other.folder().path()).contains("LSTM"));
    for path in ["../elsewhere", "/etc", "a/../../b"] {
        let mut outside = case("bert mean");
        outside.files["modules.json"][1]["path"] = json!(path);
        assert!(refused(outside.folder().path()).contains(path));
    }
}

#[test]
fn weights_that_give_no_number_are_found_out() {
    let case = case("bert mean normalized");
    let broken = case.folder_with(|name, mut values| {
        if name.ends_with("1.output.dense.weight") {
            values[0] = f32::NAN;
        }
        values
    });
    for precision in [Precision::F32, Precision::Bf16, Precision::Int8] {
        for instructions in levels() {
            let options = EncoderOptions { precision, instructions, ..exact() };
            let encoder = Encoder::load(broken.path(), &options).expect("loads");
            let error = encoder.embed(&["stone"], TextKind::Query).err();
            assert!(matches!(error, Some(Error::NotFinite { text: 0 })), "{options:?}");
        }
    }
}

#[test]
fn a_batch_of_no_tokens_is_refused_as_an_option() {
    let options = EncoderOptions { max_batch_tokens: 0, ..exact() };
    let error = Encoder::load(case("bert mean").folder().path(), &options).err();
    assert!(error.expect("refused").to_string().contains("max_batch_tokens"));
}

#[test]
fn calls_from_many_threads_at_the_same_time_agree() {
    fn shared<T: Send + Sync>() {}
    shared::<Encoder>();
    let encoder = encoder(&case("bert mean"));
    let texts = ["stone", "the path", "snow and rain"];
    let want = embed(&encoder, &texts);
    std::thread::scope(|scope| {
        for _ in 0..8 {
            scope.spawn(|| {
                for _ in 0..20 {
                    assert_eq!(embed(&encoder, &texts), want);
                }
            });
        }
    });
}

#[test]
fn token_ids_have_the_vector_of_their_text() {
    let encoder = encoder(&case("bert mean normalized"));
    let text = "the stone marks, snowing";
    let ids: Vec<u32> = encoder.tokenize(text, true).expect("tokens").iter().map(|token| token.id).collect();
    let inputs = [Input::Ids(&ids), Input::Text(text)];
    let found = encoder.embed_inputs(&inputs, TextKind::Passage, &Cancel::new()).expect("runs");
    assert_eq!(found.vectors[0], found.vectors[1]);
    assert_eq!(found.tokens, 2 * ids.len());
    assert!(distance(&found.vectors[0], &embed(&encoder, &[text])[0]) < 1e-6);
    let unknown = encoder.embed_inputs(&[Input::Ids(&[9999])], TextKind::Passage, &Cancel::new());
    assert!(matches!(unknown, Err(Error::TokenId { id: 9999, .. })));
}

#[test]
fn the_vectors_of_all_tokens_have_the_mean_that_the_text_has() {
    let encoder = encoder(&case("bert mean"));
    let texts = ["the stone path", ""];
    let inputs = texts.map(Input::Text);
    let found = encoder.embed_all(&inputs, TextKind::Passage, &Cancel::new()).expect("runs");
    assert_eq!((found.vectors[0].len(), found.vectors[1].len(), found.tokens), (5, 2, 7));
    for (rows, want) in found.vectors.iter().zip(embed(&encoder, &texts)) {
        let mean: Vec<f32> =
            (0..24).map(|at| rows.iter().map(|row| row[at]).sum::<f32>() / rows.len() as f32).collect();
        assert!(distance(&mean, &want) < 1e-5);
    }
}

#[test]
fn the_end_of_a_long_text_is_read_when_it_is_asked_for() {
    let encoder = encoder(&case("bert mean normalized"));
    let long = "snow ".repeat(400_000) + &"stone ".repeat(14);
    let found = encoder.embed_inputs(&[Input::End(&long)], TextKind::Passage, &Cancel::new()).expect("runs");
    assert!(distance(&found.vectors[0], &embed(&encoder, &[&"stone ".repeat(14)])[0]) < 1e-6);
    assert_eq!(encoder.input_tokens(&Input::Text("the stone"), TextKind::Passage), 4);
    assert!(encoder.input_tokens(&Input::Text(&long), TextKind::Passage) > encoder.max_tokens());
}

#[test]
fn tokens_name_their_places_and_decode_to_their_text() {
    let encoder = encoder(&case("bert mean"));
    let tokens = encoder.tokenize("The stones", true).expect("tokens");
    let parts: Vec<(&str, Option<(usize, usize)>)> = tokens.iter().map(|t| (&t.text[..], t.span)).collect();
    let want = [("[CLS]", None), ("The", Some((0, 3))), ("stone", Some((4, 9))), ("s", Some((9, 10)))];
    assert_eq!(parts[..4], want);
    assert!(tokens[4].special && tokens.len() == 5);
    let ids: Vec<u32> = tokens.iter().map(|token| token.id).collect();
    assert_eq!(encoder.decode(&ids, true).expect("text"), "the stones");
    assert_eq!(encoder.tokenize("The stones", false).expect("tokens").len(), 3);
    assert!(matches!(encoder.decode(&[123_456], true), Err(Error::TokenId { .. })));
}
