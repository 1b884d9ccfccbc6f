//! Static models: folders written by hand, whose vectors are sums in the head;
//! folders that are broken; and models distilled from a tiny transformer.

mod common;

use std::fs;
use std::path::Path;

use cairn_embed::{
    Cancel, DistillOptions, Distilled, Encoder, EncoderOptions, Error, Input, ModelKind, Precision, TextKind,
};
use common::{case, write};
use safetensors::tensor::TensorView;
use safetensors::{Dtype, SafeTensors};
use serde_json::{Value, json};
use tempfile::TempDir;

/// The tokens of the tiny vocabulary.
const TOKENS: usize = 55;

const THE: usize = 31;
const STONE: usize = 32;
const PATH: usize = 33;

struct Saved {
    name: &'static str,
    kind: Dtype,
    shape: Vec<usize>,
    bytes: Vec<u8>,
}

fn saved<const N: usize>(
    name: &'static str,
    kind: Dtype,
    shape: &[usize],
    bytes: impl Iterator<Item = [u8; N]>,
) -> Saved {
    Saved { name, kind, shape: shape.to_vec(), bytes: bytes.flatten().collect() }
}

fn floats(name: &'static str, shape: &[usize], values: &[f32]) -> Saved {
    saved(name, Dtype::F32, shape, values.iter().map(|x| x.to_le_bytes()))
}

fn bytes(name: &'static str, shape: &[usize], values: &[i8]) -> Saved {
    saved(name, Dtype::I8, shape, values.iter().map(|x| x.to_le_bytes()))
}

/// Rows of whole numbers between -4 and 4.
fn row(id: usize) -> [i8; 3] {
    [(id % 9) as i8 - 4, (id % 7) as i8 - 3, (id % 5) as i8 - 2]
}

fn whole() -> Vec<i8> {
    (0..TOKENS).flat_map(row).collect()
}

fn config() -> Value {
    json!({ "model_type": "model2vec", "architectures": ["StaticModel"], "hidden_dim": 3, "normalize": false })
}

fn folder(config: &Value, tensors: &[Saved]) -> TempDir {
    let folder = tempfile::tempdir().expect("a temporary folder");
    write(folder.path(), "config.json", config.to_string().as_bytes());
    let tokenizer = case("bert mean").files["tokenizer.json"].to_string();
    write(folder.path(), "tokenizer.json", tokenizer.as_bytes());
    let views = tensors.iter().map(|saved| {
        let view = TensorView::new(saved.kind, saved.shape.clone(), &saved.bytes);
        (saved.name, view.expect("the length fits the shape"))
    });
    let bytes = safetensors::serialize(views, None).expect("serializable");
    write(folder.path(), "model.safetensors", &bytes);
    folder
}

fn exact() -> EncoderOptions {
    EncoderOptions { threads: 2, precision: Precision::F32, ..EncoderOptions::default() }
}

fn load(folder: &Path) -> Result<Encoder, Error> {
    Encoder::load(folder, &exact())
}

fn encoder(config: &Value, tensors: &[Saved]) -> Encoder {
    load(folder(config, tensors).path()).expect("the model loads")
}

fn plain() -> Encoder {
    encoder(&config(), &[bytes("embeddings", &[TOKENS, 3], &whole())])
}

fn embed(encoder: &Encoder, texts: &[&str]) -> Vec<Vec<f32>> {
    encoder.embed(texts, TextKind::Passage).expect("the model runs").vectors
}

/// The mean of rows, added up by hand.
fn mean(ids: &[usize]) -> Vec<f32> {
    let sum = |at: usize| ids.iter().map(|&id| f32::from(row(id)[at])).sum::<f32>();
    (0..3).map(|at| sum(at) / ids.len() as f32).collect()
}

fn distance(a: &[f32], b: &[f32]) -> f32 {
    assert_eq!(a.len(), b.len());
    a.iter().zip(b).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max)
}

fn refused(folder: &Path) -> String {
    match load(folder) {
        Ok(_) => panic!("a broken folder was loaded"),
        Err(error) => error.to_string(),
    }
}

#[test]
fn a_vector_is_the_mean_of_the_rows_of_a_texts_tokens() {
    let encoder = plain();
    assert_eq!((encoder.dim(), encoder.pooling(), encoder.precision()), (3, "mean", Precision::F32));
    let texts = ["the", "The stone PATH", "path path the", "stones"];
    let want = [mean(&[THE]), mean(&[THE, STONE, PATH]), mean(&[PATH, PATH, THE]), mean(&[STONE, 42])];
    assert_eq!(embed(&encoder, &texts), want);
    assert_eq!(encoder.embed(&texts, TextKind::Query).expect("runs").tokens, 1 + 3 + 3 + 2);
}

#[test]
fn unknown_and_special_tokens_are_left_out_and_nothing_is_a_zero() {
    let encoder = plain();
    let texts = ["the 石 stone", "石", "", "[SEP] path [UNK]"];
    let want = [mean(&[THE, STONE]), vec![0.0; 3], vec![0.0; 3], mean(&[PATH])];
    assert_eq!(embed(&encoder, &texts), want);
    assert_eq!(encoder.count_tokens("the 石 stone"), 2);
}

#[test]
fn numbers_of_every_type_give_the_same_vectors() {
    let floats: Vec<f32> = whole().iter().map(|&x| f32::from(x)).collect();
    let shape = [TOKENS, 3];
    let text = ["the stone path of snow"];
    let want = embed(&plain(), &text);
    for tensor in [
        saved("embeddings", Dtype::F64, &shape, floats.iter().map(|&x| f64::from(x).to_le_bytes())),
        saved("embeddings", Dtype::F32, &shape, floats.iter().map(|x| x.to_le_bytes())),
        saved("embeddings", Dtype::F16, &shape, floats.iter().map(|&x| half::f16::from_f32(x).to_le_bytes())),
        saved(
            "embeddings",
            Dtype::BF16,
            &shape,
            floats.iter().map(|&x| half::bf16::from_f32(x).to_le_bytes()),
        ),
    ] {
        assert_eq!(embed(&encoder(&config(), &[tensor]), &text), want);
    }
}

#[test]
fn weights_and_mapping_are_honoured() {
    // Four rows; the row of a token and its weight follow from its id.
    let rows = [1.0, 2.0, -3.0, 4.0, 5.0, -6.0, 7.0, 8.0];
    let weights: Vec<f32> = (0..TOKENS).map(|id| id as f32 / 8.0).collect();
    let mapping: Vec<i64> = (0..TOKENS as i64).map(|id| (id + 1) % 4).collect();
    let want = |ids: &[usize]| -> Vec<f32> {
        let part = |at: usize, id: usize| weights[id] * rows[2 * ((id + 1) % 4) + at];
        let sum = |at: usize| ids.iter().map(|&id| part(at, id)).sum::<f32>();
        (0..2).map(|at| sum(at) / ids.len() as f32).collect()
    };
    let mappings = [
        saved("mapping", Dtype::I64, &[TOKENS], mapping.iter().map(|x| x.to_le_bytes())),
        saved("mapping", Dtype::I32, &[TOKENS], mapping.iter().map(|&x| (x as i32).to_le_bytes())),
    ];
    for mapping in mappings {
        let tensors = [floats("embeddings", &[4, 2], &rows), floats("weights", &[TOKENS], &weights), mapping];
        let encoder = encoder(&config(), &tensors);
        let texts = ["the", "path", "stone the path path"];
        let want = [want(&[THE]), want(&[PATH]), want(&[STONE, THE, PATH, PATH])];
        assert_eq!(embed(&encoder, &texts), want);
    }
}

#[test]
fn vectors_have_length_one_if_the_configuration_says_so() {
    let mut config = config();
    config["normalize"] = true.into();
    // The architecture alone says what it is, too.
    config["model_type"] = Value::Null;
    let encoder = encoder(&config, &[bytes("embeddings", &[TOKENS, 3], &whole())]);
    let mut want = mean(&[THE, STONE]);
    let length = want.iter().map(|x| x * x).sum::<f32>().sqrt();
    want.iter_mut().for_each(|x| *x /= length);
    let found = embed(&encoder, &["the stone", "石"]);
    assert!(distance(&found[0], &want) < 1e-6);
    assert_eq!(found[1], [0.0; 3]);
}

#[test]
fn token_ids_are_embedded_as_their_text_and_each_token_has_its_row() {
    let encoder = plain();
    let (kind, cancel) = (TextKind::Passage, Cancel::new());
    let tokens = encoder.tokenize("The stone", true).expect("tokens");
    let ids: Vec<u32> = tokens.iter().map(|token| token.id).collect();
    assert_eq!(ids, [THE as u32, STONE as u32]);
    assert_eq!(encoder.decode(&ids, true).expect("text"), "the stone");

    // What another tokenizer put around the text is left out.
    let around = [2, ids[0], 1, ids[1], 3];
    let inputs = [Input::Ids(&around), Input::Text("石 the stone"), Input::End("the stone")];
    let found = encoder.embed_inputs(&inputs, kind, &cancel).expect("runs");
    assert_eq!((found.vectors, found.tokens), (vec![mean(&[THE, STONE]); 3], 6));
    let all = encoder.embed_all(&inputs, kind, &cancel).expect("runs");
    assert_eq!(all.vectors, vec![vec![mean(&[THE]), mean(&[STONE])]; 3]);
    assert_eq!(inputs.map(|input| encoder.input_tokens(&input, kind)), [2, 2, 2]);
    assert_eq!(encoder.input_tokens(&Input::Ids(&[9999]), kind), 1);
    let unknown = encoder.embed_inputs(&[Input::Ids(&[9999])], kind, &cancel);
    assert!(matches!(unknown, Err(Error::TokenId { id: 9999, .. })));
}

#[test]
fn a_text_is_cut_only_where_the_tokenizer_says_so() {
    let tensor = || [bytes("embeddings", &[TOKENS, 3], &whole())];
    let long = "the ".repeat(5000) + &"stone ".repeat(5000);
    let half = mean(&[THE, STONE]);
    assert_eq!(embed(&plain(), &[&long]), [half]);

    let folder = folder(&config(), &tensor());
    write(folder.path(), "tokenizer_config.json", br#"{ "model_max_length": 40 }"#);
    let limited = load(folder.path()).expect("loads");
    assert_eq!(limited.max_tokens(), 40);
    assert_eq!(embed(&limited, &[&long]), [mean(&[THE])]);
    let end = limited.embed_inputs(&[Input::End(&long)], TextKind::Passage, &Cancel::new()).expect("runs");
    assert_eq!((end.vectors, end.tokens), (vec![mean(&[STONE])], 40));
    assert_eq!(limited.count_tokens(&long), 10_000);
}

#[test]
fn many_texts_have_the_vectors_they_have_alone_and_a_cancelled_call_ends() {
    let encoder = plain();
    let words = ["the", "stone", "path", "snow", "rain", "old"];
    let texts: Vec<String> =
        (0..9000).map(|i| format!("{} {}", words[i % 6].repeat(1 + i % 4), words[i / 6 % 6])).collect();
    let texts: Vec<&str> = texts.iter().map(|text| &text[..]).collect();
    let found = embed(&encoder, &texts);
    for (text, vector) in texts.iter().zip(&found).step_by(97) {
        assert_eq!(embed(&encoder, &[text])[0], *vector);
    }
    let cancel = Cancel::new();
    cancel.cancel();
    let ended = encoder.embed_until(&texts, TextKind::Passage, &cancel);
    assert!(matches!(ended, Err(Error::Cancelled)));
}

#[test]
fn a_static_model_is_for_embedding() {
    let folder = folder(&config(), &[bytes("embeddings", &[TOKENS, 3], &whole())]);
    assert_eq!(ModelKind::of(folder.path()), ModelKind::Embedding);
    // Its modules are those of another reader.
    write(folder.path(), "modules.json", br#"[{ "path": ".", "type": "models.StaticEmbedding" }]"#);
    load(folder.path()).expect("loads");
}

#[test]
fn a_missing_file_is_named() {
    for file in ["tokenizer.json", "model.safetensors"] {
        let folder = folder(&config(), &[bytes("embeddings", &[TOKENS, 3], &whole())]);
        fs::remove_file(folder.path().join(file)).expect("it was there");
        assert!(refused(folder.path()).contains(&format!("has no `{file}`")));
    }
}

#[test]
fn a_broken_folder_is_refused_by_file_and_field() {
    let rows = || bytes("embeddings", &[TOKENS, 3], &whole());
    let zeros = |count| vec![0.0; count];
    let broken: [(&[Saved], &str); 10] = [
        (&[floats("embedding", &[TOKENS, 3], &zeros(3 * TOKENS))], "has no tensor `embeddings`"),
        (&[floats("embeddings", &[3 * TOKENS], &zeros(3 * TOKENS))], "tensor `embeddings` has shape [165]"),
        (&[floats("embeddings", &[TOKENS, 0], &[])], "tensor `embeddings` has no rows or no columns"),
        (&[floats("embeddings", &[0, 3], &[])], "tensor `embeddings` has no rows or no columns"),
        (&[floats("embeddings", &[9, 3], &zeros(27))], "ids up to 54, the model has 9 token rows"),
        (
            &[saved("embeddings", Dtype::U8, &[1, 1], [[0u8]].into_iter())],
            "`embeddings` has numbers of type U8",
        ),
        (&[rows(), floats("weights", &[7], &zeros(7))], "tensor `weights` has 7 values, there are 55"),
        (&[rows(), floats("weights", &[TOKENS, 1], &zeros(TOKENS))], "tensor `weights` has shape [55, 1]"),
        (&[rows(), floats("mapping", &[TOKENS], &zeros(TOKENS))], "`mapping` has numbers of type F32"),
        (
            &[rows(), saved("mapping", Dtype::I32, &[TOKENS], (0..TOKENS).map(|_| (-1i32).to_le_bytes()))],
            "tensor `mapping` gives token 0 the row",
        ),
    ];
    for (tensors, want) in broken {
        let error = refused(folder(&config(), tensors).path());
        assert!(error.contains(want), "{error}");
        assert!(error.contains("model.safetensors") || error.contains("tokenizer.json"), "{error}");
    }

    let mut config = config();
    config["normalize"] = "yes".into();
    let error = refused(folder(&config, &[rows()]).path());
    assert!(error.contains("config.json") && error.contains("normalize") && error.contains("yes"), "{error}");
}

#[test]
fn weights_cut_at_any_place_are_refused() {
    let folder = folder(&config(), &[bytes("embeddings", &[TOKENS, 3], &whole())]);
    let path = folder.path().join("model.safetensors");
    let bytes = fs::read(&path).expect("written");
    for cut in (0..bytes.len()).step_by(7) {
        fs::write(&path, &bytes[..cut]).expect("written");
        assert!(refused(folder.path()).contains("damaged or cut short"));
    }
}

#[test]
fn rows_that_are_no_numbers_are_found_out() {
    let mut rows = vec![0.0; 3 * TOKENS];
    rows[3 * STONE] = f32::NAN;
    let encoder = encoder(&config(), &[floats("embeddings", &[TOKENS, 3], &rows)]);
    let found = encoder.embed(&["path", "the stone"], TextKind::Passage);
    assert!(matches!(found, Err(Error::NotFinite { text: 1 })));
}

fn options(dim: usize) -> DistillOptions {
    DistillOptions { dim, name: "tiny/bert".into(), licence: Some("Apache-2.0".into()) }
}

fn distil(encoder: &Encoder, folder: &Path, dim: usize) -> Result<Distilled, Error> {
    encoder.distill(folder, &options(dim), &mut |_, _| (), &Cancel::new())
}

/// The weighted rows of a distilled folder, as any reader of the layout has them.
fn stored(folder: &Path, dim: usize) -> Vec<Vec<f32>> {
    let bytes = fs::read(folder.join("model.safetensors")).expect("written");
    let file = SafeTensors::deserialize(&bytes).expect("whole");
    let rows = file.tensor("embeddings").expect("there");
    assert_eq!((rows.dtype(), rows.shape()), (Dtype::I8, &[TOKENS, dim][..]));
    let weights = file.tensor("weights").expect("there");
    let weights = weights.data().as_chunks::<4>().0.iter().map(|bytes| f32::from_le_bytes(*bytes));
    let row = |(row, weight): (&[u8], f32)| {
        row.iter().map(|byte| f32::from(byte.cast_signed()) * weight).collect::<Vec<f32>>()
    };
    rows.data().chunks_exact(dim).zip(weights).map(row).collect()
}

#[test]
fn a_distilled_model_gives_the_weighted_mean_of_what_it_stores() {
    let teacher = load(case("bert cls").folder().path()).expect("the tiny model loads");
    let home = tempfile::tempdir().expect("a temporary folder");
    let out = home.path().join("static");
    let mut heard = Vec::new();
    let mut hear = |done, total| heard.push((done, total));
    let made = teacher.distill(&out, &options(8), &mut hear, &Cancel::new()).expect("distilled");
    assert_eq!((made.dim, made.tokens), (8, TOKENS - 5));
    assert!(made.explained > 0.3 && made.explained < 1.0, "{}", made.explained);
    assert_eq!(heard, [(0, 50), (50, 50)]);

    let encoder = load(&out).expect("what was written loads");
    assert_eq!(encoder.dim(), 8);
    let rows = stored(&out, 8);
    for special in &rows[..5] {
        assert_eq!(special, &[0.0; 8]);
    }
    let ids = [THE, STONE, PATH, 35, 42];
    let mut want: Vec<f32> = (0..8).map(|at| ids.iter().map(|&id| rows[id][at]).sum()).collect();
    let length = want.iter().map(|x| x * x).sum::<f32>().sqrt();
    want.iter_mut().for_each(|x| *x /= length);
    assert!(distance(&embed(&encoder, &["the stone path 石 snows"])[0], &want) < 1e-6);

    let config: Value =
        serde_json::from_slice(&fs::read(out.join("config.json")).expect("written")).expect("JSON");
    let fields = ["model_type", "tokenizer_name", "hidden_dim", "normalize", "embedding_dtype"];
    let want = [json!("model2vec"), json!("tiny/bert"), json!(8), json!(true), json!("int8")];
    assert_eq!(fields.map(|field| config[field].clone()), want);
    let readme = fs::read_to_string(out.join("README.md")).expect("written");
    assert!(readme.contains("license: apache-2.0\n") && readme.contains("base_model: tiny/bert\n"));
}

#[test]
fn all_components_keep_the_products_of_what_the_transformer_says() {
    let teacher = load(case("bert mean").folder().path()).expect("the tiny model loads");
    let home = tempfile::tempdir().expect("a temporary folder");
    let made = distil(&teacher, home.path(), 24).expect("an empty folder will do");
    assert!(made.explained > 0.999_999);

    // Each word between [CLS] and [SEP], the mean of its states, without that of all.
    let words: Vec<usize> = (5..TOKENS).collect();
    let ids: Vec<[u32; 3]> = words.iter().map(|&id| [2, id as u32, 3]).collect();
    let inputs: Vec<Input<'_>> = ids.iter().map(|ids| Input::Ids(ids)).collect();
    let states = teacher.embed_all(&inputs, TextKind::Passage, &Cancel::new()).expect("runs").vectors;
    let add = |rows: &[Vec<f32>]| -> Vec<f64> {
        (0..24).map(|at| rows.iter().map(|row| f64::from(row[at])).sum::<f64>() / rows.len() as f64).collect()
    };
    let means: Vec<Vec<f64>> = states.iter().map(|rows| add(rows)).collect();
    let centre: Vec<f64> =
        (0..24).map(|at| means.iter().map(|mean| mean[at]).sum::<f64>() / means.len() as f64).collect();
    let total: f64 = (0..words.len()).map(|rank| 1.0 / (rank + 2) as f64).sum();
    let rows = stored(home.path(), 24);
    for (a, &one) in words.iter().enumerate() {
        for (b, &other) in words.iter().enumerate() {
            let count = |rank: usize| 1e-4 / (1e-4 + 1.0 / (rank + 2) as f64 / total);
            let part = |at: usize| (means[a][at] - centre[at]) * (means[b][at] - centre[at]);
            let want: f64 = (0..24).map(part).sum();
            let found: f64 = (0..24).map(|at| f64::from(rows[one][at]) * f64::from(rows[other][at])).sum();
            let found = found / count(a) / count(b);
            // Bytes round each value to a part in 254 of the greatest one.
            assert!((found - want).abs() < 0.1, "{one} {other}: {found} {want}");
        }
    }
}

#[test]
fn what_cannot_be_distilled_is_refused_and_leaves_nothing() {
    let teacher = load(case("bert mean").folder().path()).expect("the tiny model loads");
    let home = tempfile::tempdir().expect("a temporary folder");
    let out = home.path().join("static");
    for dim in [0, 25] {
        let error = distil(&teacher, &out, dim).expect_err("refused");
        assert!(matches!(error, Error::Option { option: "dim", .. }), "{error}");
    }
    let cancel = Cancel::new();
    cancel.cancel();
    let ended = teacher.distill(&out, &options(8), &mut |_, _| (), &cancel);
    assert!(matches!(ended, Err(Error::Cancelled)));
    let error = distil(&plain(), &out, 2).expect_err("refused").to_string();
    assert!(error.contains("model2vec") && error.contains("static already"), "{error}");
    assert!(!out.exists());

    write(home.path(), "note.txt", b"mine");
    let error = distil(&teacher, home.path(), 8).expect_err("refused").to_string();
    assert!(error.contains("is not empty: give a new folder"), "{error}");
    assert_eq!(fs::read_dir(home.path()).expect("a folder").count(), 1);
}
