//! Sparse vectors, vectors of tokens and layers after the pooling against
//! numbers of the reference, and folders whose heads are broken.

mod common;

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use cairn_embed::{
    Backend, Cancel, Encoder, EncoderOptions, Error, Heads, Input, Instructions, ModelKind, Precision,
    SparseVector, TextKind,
};
use common::{Case, values, write};
use safetensors::Dtype;
use safetensors::tensor::TensorView;
use serde::Deserialize;
use serde_json::{Map, Value, json};
use tempfile::TempDir;

#[derive(Deserialize)]
struct Golden {
    texts: Vec<String>,
    sparse: Vec<Sparse>,
    late: Vec<Late>,
    m3: M3,
    projected: Layered,
}

#[derive(Deserialize)]
struct Sparse {
    #[serde(flatten)]
    model: Case,
    indices: Vec<Vec<u32>>,
    values: Vec<Vec<f32>>,
}

/// A model with the weights of modules of its own.
#[derive(Deserialize, Clone)]
struct Layered {
    #[serde(flatten)]
    model: Case,
    /// Folders, and the tensors in each.
    layers: BTreeMap<String, BTreeMap<String, Vec<usize>>>,
}

#[derive(Deserialize)]
struct Late {
    #[serde(flatten)]
    model: Layered,
    queries: Vec<Vec<Vec<f32>>>,
    passages: Vec<Vec<Vec<f32>>>,
}

#[derive(Deserialize)]
struct M3 {
    files: Map<String, Value>,
    /// Files that torch saved.
    torch: BTreeMap<String, String>,
    dense: Vec<Vec<f32>>,
    indices: Vec<Vec<u32>>,
    values: Vec<Vec<f32>>,
    multi: Vec<Vec<Vec<f32>>>,
}

impl Layered {
    fn folder(&self) -> TempDir {
        let folder = self.model.folder();
        for (path, tensors) in &self.layers {
            let bytes: Vec<(String, Vec<usize>, Vec<u8>)> = tensors
                .iter()
                .map(|(name, shape)| {
                    let numbers = values(&format!("{path}.{name}"), shape.iter().product());
                    (name.clone(), shape.clone(), numbers.iter().flat_map(|x| x.to_le_bytes()).collect())
                })
                .collect();
            let views = bytes.iter().map(|(name, shape, bytes)| {
                (name, TensorView::new(Dtype::F32, shape.clone(), bytes).expect("the length fits"))
            });
            let bytes = safetensors::serialize(views, None).expect("serializable");
            write(folder.path(), &format!("{path}/model.safetensors"), &bytes);
        }
        folder
    }
}

impl M3 {
    fn folder(&self) -> TempDir {
        let folder = tempfile::tempdir().expect("a temporary folder");
        for (path, content) in &self.files {
            write(folder.path(), path, content.to_string().as_bytes());
        }
        for (path, content) in &self.torch {
            write(folder.path(), path, &BASE64_STANDARD.decode(content).expect("the fixture is base64"));
        }
        folder
    }
}

fn golden() -> Golden {
    serde_json::from_str(include_str!("../golden/heads.json")).expect("the fixture is JSON")
}

fn sparse(name: &str) -> Case {
    let found = golden().sparse.into_iter().find(|case| case.model.name == name);
    found.expect("the fixture has the case").model
}

fn late(name: &str) -> Layered {
    let found = golden().late.into_iter().find(|case| case.model.model.name == name);
    found.expect("the fixture has the case").model
}

fn exact() -> EncoderOptions {
    EncoderOptions { threads: 2, precision: Precision::F32, ..EncoderOptions::default() }
}

fn load(folder: &Path) -> Encoder {
    Encoder::load(folder, &exact()).expect("the tiny model loads")
}

fn refused(folder: &Path) -> String {
    match Encoder::load(folder, &exact()) {
        Ok(_) => panic!("a broken folder was loaded"),
        Err(error) => error.to_string(),
    }
}

/// Every implementation and level there is on this machine, all exact.
fn ways() -> Vec<EncoderOptions> {
    use Instructions::{Auto, Avx2, Avx512, Bf16, Portable, Vnni};
    let folder = sparse("bert").folder();
    let native = [Portable, Avx2, Avx512, Vnni, Bf16]
        .into_iter()
        .map(|instructions| EncoderOptions { instructions, ..exact() })
        .filter(|options| Encoder::load(folder.path(), options).is_ok());
    let others = [Backend::Packed, Backend::Tensors, Backend::Stock].map(|backend| EncoderOptions {
        backend,
        instructions: Auto,
        ..exact()
    });
    native.chain(others).collect()
}

fn assert_near(got: &[f32], want: &[f32], what: &str) {
    assert_eq!(got.len(), want.len(), "{what}");
    for (got, want) in got.iter().zip(want) {
        assert!((got - want).abs() < 1e-4, "{what}: {got}, not {want}");
    }
}

/// As whole vectors: a value next to zero may be on either side of it.
fn assert_sparse(got: &SparseVector, indices: &[u32], values: &[f32], what: &str) {
    assert!(got.indices.is_sorted_by(|a, b| a < b), "{what}");
    assert!(got.values.iter().all(|value| *value > 0.0), "{what}");
    let whole = |indices: &[u32], values: &[f32]| {
        let mut whole = vec![0.0; 128];
        for (&index, &value) in indices.iter().zip(values) {
            whole[index as usize] = value;
        }
        whole
    };
    assert_near(&whole(&got.indices, &got.values), &whole(indices, values), what);
}

fn assert_rows(got: &[Vec<f32>], want: &[Vec<f32>], what: &str) {
    assert_eq!(got.len(), want.len(), "{what}: so many vectors");
    for (got, want) in got.iter().zip(want) {
        assert_near(got, want, what);
    }
}

fn texts(golden: &Golden) -> Vec<&str> {
    golden.texts.iter().map(String::as_str).collect()
}

#[test]
fn sparse_vectors_are_those_of_the_reference_in_every_implementation() {
    let golden = golden();
    let ways = ways();
    for case in &golden.sparse {
        let folder = case.model.folder();
        let mut ran = 0;
        for options in &ways {
            let encoder = match Encoder::load(folder.path(), options) {
                Ok(encoder) => encoder,
                Err(Error::Unsupported { .. }) if options.backend == Backend::Stock => continue,
                Err(error) => panic!("{}: {error}", case.model.name),
            };
            let found = encoder.embed_sparse(&texts(&golden), TextKind::Passage).expect("it runs");
            for (at, got) in found.vectors.iter().enumerate() {
                let what = format!("{} {options:?} text {at}", case.model.name);
                assert_sparse(got, &case.indices[at], &case.values[at], &what);
            }
            ran += 1;
        }
        assert!(ran >= 2, "{}", case.model.name);
    }
}

#[test]
fn vectors_of_tokens_are_those_of_the_reference_in_every_implementation() {
    let golden = golden();
    let ways = ways();
    for case in &golden.late {
        let folder = case.model.folder();
        let name = &case.model.model.name;
        let mut ran = 0;
        for options in &ways {
            let encoder = match Encoder::load(folder.path(), options) {
                Ok(encoder) => encoder,
                Err(Error::Unsupported { .. }) if options.backend == Backend::Stock => continue,
                Err(error) => panic!("{name}: {error}"),
            };
            for (kind, want) in [(TextKind::Query, &case.queries), (TextKind::Passage, &case.passages)] {
                let found = encoder.embed_multi(&texts(&golden), kind).expect("it runs");
                for (at, got) in found.vectors.iter().enumerate() {
                    assert_rows(got, &want[at], &format!("{name} {options:?} {kind:?} text {at}"));
                }
            }
            assert_eq!(encoder.multi_dim(), case.queries[0][0].len());
            ran += 1;
        }
        assert!(ran >= 2, "{name}");
    }
}

#[test]
fn m3_makes_all_three_in_one_pass_of_files_by_torch() {
    let golden = golden();
    let folder = golden.m3.folder();
    let encoder = load(folder.path());
    let all = Heads { dense: true, sparse: true, multi: true };
    assert_eq!(encoder.heads(), all);
    assert_eq!((encoder.dim(), encoder.multi_dim(), encoder.pooling()), (24, 24, "cls"));
    let texts = texts(&golden);
    let inputs: Vec<Input<'_>> = texts.iter().map(|&text| Input::Text(text)).collect();
    let found = encoder.embed_heads(&inputs, all, TextKind::Passage, &Cancel::new()).expect("it runs");
    for at in 0..texts.len() {
        let what = format!("text {at}");
        assert_near(&found.dense[at], &golden.m3.dense[at], &what);
        assert_sparse(&found.sparse[at], &golden.m3.indices[at], &golden.m3.values[at], &what);
        assert_rows(&found.multi[at], &golden.m3.multi[at], &what);
    }
    // One by one they are the same, and what was not wanted is not there.
    assert_eq!(encoder.embed(&texts, TextKind::Passage).expect("it runs").vectors, found.dense);
    assert_eq!(encoder.embed_sparse(&texts, TextKind::Passage).expect("it runs").vectors, found.sparse);
    assert_eq!(encoder.embed_multi(&texts, TextKind::Query).expect("it runs").vectors, found.multi);
    let some = encoder.embed_heads(&inputs, Heads::SPARSE, TextKind::Query, &Cancel::new()).expect("it runs");
    assert!(some.dense.is_empty() && some.multi.is_empty());
    assert_eq!(some.tokens, found.tokens);
    // Without its modules it pools the same way.
    fs::remove_file(folder.path().join("modules.json")).expect("it is there");
    let bare = load(folder.path()).embed(&texts, TextKind::Passage).expect("it runs");
    assert_eq!(bare.vectors, found.dense);
}

#[test]
fn a_layer_after_the_pooling_is_part_of_the_vector() {
    let golden = golden();
    let folder = golden.projected.folder();
    let encoder = load(folder.path());
    assert_eq!((encoder.dim(), encoder.heads()), (10, Heads::DENSE));
    let found = encoder.embed(&texts(&golden), TextKind::Passage).expect("it runs");
    for (at, (got, want)) in found.vectors.iter().zip(&golden.projected.model.vectors).enumerate() {
        assert_near(got, want, &format!("text {at}"));
    }
}

#[test]
fn shorter_numbers_keep_the_large_values_of_a_sparse_vector() {
    let folder = sparse("bert").folder();
    let of = |precision| {
        let encoder = Encoder::load(folder.path(), &EncoderOptions { precision, ..exact() });
        let encoder = encoder.expect("the tiny model loads");
        let text = "the stone marks the path";
        encoder.embed_sparse(&[text], TextKind::Passage).expect("it runs").vectors.remove(0)
    };
    let want = of(Precision::F32);
    let weight = |vector: &SparseVector, index: u32| {
        vector.indices.binary_search(&index).map_or(0.0, |at| vector.values[at])
    };
    for precision in [Precision::Bf16, Precision::Int8] {
        let got = of(precision);
        for (&index, &value) in want.indices.iter().zip(&want.values) {
            assert!((weight(&got, index) - value).abs() < 0.2, "{precision:?} {index}");
        }
    }
}

#[test]
fn what_a_model_does_not_make_is_refused_and_what_it_makes_is_named() {
    let splade = load(sparse("bert").folder().path());
    assert_eq!((splade.heads(), splade.dim(), splade.pooling()), (Heads::SPARSE, 0, "splade"));
    let error = splade.embed(&["a"], TextKind::Query).expect_err("it makes none").to_string();
    assert!(error.contains("makes sparse vectors, no dense vectors"), "{error}");
    let error = splade.embed_multi(&["a"], TextKind::Query).expect_err("it makes none").to_string();
    assert!(error.contains("no vectors of tokens"), "{error}");

    let colbert = load(late("artifact").folder().path());
    assert_eq!((colbert.heads(), colbert.pooling()), (Heads::MULTI, "none"));
    assert!(matches!(colbert.embed(&["a"], TextKind::Query), Err(Error::NoHead { .. })));
    assert_eq!(colbert.max_tokens_of(TextKind::Query), 12);
    assert_eq!((colbert.max_tokens_of(TextKind::Passage), colbert.max_tokens()), (20, 20));

    let dense = load(common::case("bert mean").folder().path());
    let error = dense.embed_sparse(&["a"], TextKind::Query).expect_err("it makes none").to_string();
    assert!(error.contains("makes dense vectors, no sparse vectors"), "{error}");
}

#[test]
fn a_masked_language_model_without_modules_makes_both_kinds_of_vectors() {
    let folder = sparse("xlm-roberta plain").folder();
    let encoder = load(folder.path());
    assert_eq!(encoder.heads(), Heads::DENSE.and(Heads::SPARSE));
    assert_eq!(encoder.embed(&["a"], TextKind::Query).expect("it runs").vectors[0].len(), 24);
    // The name alone is not enough: many a body was saved with it.
    let body = sparse("xlm-roberta plain").folder_with(|name, values| {
        if name.starts_with("lm_head") {
            name.insert_str(0, "gone.");
        }
        values
    });
    assert_eq!(load(body.path()).heads(), Heads::DENSE);
}

#[test]
fn the_kind_of_a_folder_is_told_by_its_files() {
    let of = |folder: &TempDir| ModelKind::all_of(folder.path());
    assert_eq!(of(&sparse("bert").folder()), [ModelKind::Sparse]);
    assert_eq!(of(&sparse("mpnet plain").folder()), [ModelKind::Embedding, ModelKind::Sparse]);
    for name in ["artifact", "pylate", "modules"] {
        assert_eq!(of(&late(name).folder()), [ModelKind::Multivector], "{name}");
    }
    let all = [ModelKind::Embedding, ModelKind::Sparse, ModelKind::Multivector];
    assert_eq!(of(&golden().m3.folder()), all);
    assert_eq!(of(&golden().projected.folder()), [ModelKind::Embedding]);
    assert_eq!(ModelKind::of(Path::new("nowhere")), ModelKind::Embedding);
}

#[test]
fn tokens_that_fill_a_query_up_are_not_seen_by_its_text() {
    // Of a text alone and of one filled up, the tokens of the text are the same.
    let filled = late("artifact");
    let mut bare = filled.clone();
    bare.model.files["artifact.metadata"]["query_maxlen"] = json!(7);
    let rows = |model: &Layered| {
        let encoder = load(model.folder().path());
        encoder.embed_multi(&["the stone marks"], TextKind::Query).expect("it runs").vectors.remove(0)
    };
    let (long, short) = (rows(&filled), rows(&bare));
    assert_eq!((long.len(), short.len()), (12, 7));
    // Marker, first and last token, and three words: the seventh fills up in both.
    assert_rows(&long[..7], &short, "the text's own");
}

#[test]
fn token_ids_are_fed_as_they_are() {
    let encoder = load(late("artifact").folder().path());
    let ids: Vec<u32> = (5..9).collect();
    let found = encoder.embed_heads(&[Input::Ids(&ids)], Heads::MULTI, TextKind::Query, &Cancel::new());
    assert_eq!(found.expect("it runs").multi[0].len(), 4);
    let error = encoder.embed_heads(&[Input::Ids(&[9999])], Heads::MULTI, TextKind::Query, &Cancel::new());
    assert!(matches!(error, Err(Error::TokenId { id: 9999, .. })));
}

#[test]
fn a_long_sparse_embedding_ends_when_its_caller_goes() {
    let encoder = load(sparse("bert").folder().path());
    let cancel = Cancel::new();
    cancel.cancel();
    let found = encoder.embed_heads(&[Input::Text("a")], Heads::SPARSE, TextKind::Query, &cancel);
    assert!(matches!(found, Err(Error::Cancelled)));
}

#[test]
fn files_that_ask_for_something_else_are_refused_by_name_of_file_and_field() {
    let splade = |field: &str, value: Value| {
        refused(sparse("bert").set("1_SpladePooling/config.json", field, value).folder().path())
    };
    let error = splade("pooling_strategy", json!("mean"));
    assert!(error.contains("1_SpladePooling/config.json") && error.contains("pooling_strategy"), "{error}");
    let error = splade("activation_function", json!("silu"));
    assert!(error.contains("activation_function") && error.contains("log1p_relu"), "{error}");

    let colbert = |file: &str, field: &str, value: Value| {
        let mut model = late(if file == "artifact.metadata" { "artifact" } else { "modules" });
        model.model = model.model.set(file, field, value);
        refused(model.folder().path())
    };
    let error = colbert("artifact.metadata", "query_token_id", json!("[nothing]"));
    assert!(error.contains("artifact.metadata") && error.contains("query_token_id"), "{error}");
    let error = colbert("artifact.metadata", "doc_maxlen", json!(3));
    assert!(error.contains("limit of tokens"), "{error}");
    let error = colbert("3_MultiVectorMask/config.json", "keep_only_token_ids", json!([7]));
    assert!(
        error.contains("3_MultiVectorMask/config.json") && error.contains("keep_only_token_ids"),
        "{error}"
    );
    let error = colbert("3_MultiVectorMask/config.json", "skiplist_tasks", json!(["title"]));
    assert!(error.contains("skiplist_tasks"), "{error}");
    let error =
        colbert("sentence_bert_config.json", "query_expansion", json!({ "strategy": "most", "length": 8 }));
    assert!(error.contains("query_expansion.strategy"), "{error}");
    let error = colbert("1_Dense/config.json", "activation_function", json!("torch.nn.SiLU"));
    assert!(error.contains("1_Dense/config.json") && error.contains("activation_function"), "{error}");
    let error = colbert("2_Dense/config.json", "in_features", json!(9));
    assert!(error.contains("2_Dense/config.json") && error.contains("in_features"), "{error}");
    let error = colbert("2_Dense/config.json", "out_features", json!(0));
    assert!(error.contains("out_features"), "{error}");

    let router = json!([{ "path": "", "type": "sentence_transformers.models.Router" }]);
    let mut model = sparse("bert");
    model.files["modules.json"] = router;
    let error = refused(model.folder().path());
    assert!(error.contains("modules.json") && error.contains("Router"), "{error}");
}

#[test]
fn heads_without_their_weights_are_refused_by_name() {
    let folder = sparse("bert").folder_with(|name, values| {
        if name.contains("transform.dense.weight") {
            name.push_str(".gone");
        }
        values
    });
    let error = refused(folder.path());
    assert!(error.contains("cls.predictions.transform.dense.weight"), "{error}");

    let folder = late("artifact").model.folder_with(|name, values| {
        if name == "linear.weight" {
            name.insert_str(0, "other.");
        }
        values
    });
    let error = refused(folder.path());
    assert!(error.contains("`linear.weight`"), "{error}");

    let folder = late("modules").folder();
    fs::remove_file(folder.path().join("2_Dense/model.safetensors")).expect("it is there");
    let error = refused(folder.path());
    assert!(error.contains("2_Dense") && error.contains("model.safetensors"), "{error}");

    let folder = golden().m3.folder();
    for file in ["sparse_linear.pt", "colbert_linear.pt", "pytorch_model.bin"] {
        let path = folder.path().join(file);
        let whole = fs::read(&path).expect("it is there");
        fs::write(&path, &whole[..whole.len() / 2]).expect("written");
        let error = refused(folder.path());
        assert!(error.contains(file), "{error}");
        fs::write(&path, whole).expect("written");
    }
    load(folder.path());
}

#[test]
fn damaged_weights_of_a_head_are_found() {
    let folder = sparse("bert").folder_with(|name, mut values| {
        if name == "cls.predictions.bias" {
            values[3] = f32::NAN;
        }
        values
    });
    let found = load(folder.path()).embed_sparse(&["a"], TextKind::Passage);
    assert!(matches!(found, Err(Error::NotFinite { text: 0 })));
}
