//! Tiny models out of `golden/tiny.json`, `golden/rerank.json` and
//! `golden/rotary.json`, written to temporary folders.

// Each test uses a part of it.
#![allow(dead_code)]

use std::collections::BTreeMap;
use std::path::Path;

use safetensors::Dtype;
use safetensors::tensor::TensorView;
use serde::Deserialize;
use serde_json::{Map, Value};
use tempfile::TempDir;

#[derive(Deserialize)]
pub(crate) struct Tiny {
    pub(crate) texts: Vec<String>,
    /// The first values of the formula, as the script computed them.
    pub(crate) sample: Vec<f32>,
    pub(crate) cases: Vec<Case>,
}

#[derive(Deserialize, Clone)]
pub(crate) struct Case {
    pub(crate) name: String,
    pub(crate) files: Map<String, Value>,
    pub(crate) tensors: BTreeMap<String, Vec<usize>>,
    #[serde(default)]
    pub(crate) vectors: Vec<Vec<f32>>,
    /// The vectors of the texts as queries.
    #[serde(default)]
    pub(crate) queries: Vec<Vec<f32>>,
    #[serde(default)]
    pub(crate) max_tokens: usize,
}

pub(crate) fn tiny() -> Tiny {
    serde_json::from_str(include_str!("../../golden/tiny.json")).expect("the fixture is JSON")
}

pub(crate) fn case(name: &str) -> Case {
    let found = tiny().cases.into_iter().find(|case| case.name == name);
    found.expect("the fixture has the case")
}

/// The weights of the script's formula.
pub(crate) fn values(name: &str, count: usize) -> Vec<f32> {
    let seed = name
        .bytes()
        .fold(0xCBF2_9CE4_8422_2325u64, |seed, byte| (seed ^ u64::from(byte)).wrapping_mul(0x0100_0000_01B3));
    let norm = name.to_lowercase().contains("norm") && name.ends_with("weight");
    (1..=count as u64)
        .map(|i| {
            let mut x = i.wrapping_mul(0x9E37_79B9_7F4A_7C15).wrapping_add(seed);
            x ^= x >> 31;
            x = x.wrapping_mul(0xBF58_476D_1CE4_E5B9);
            x ^= x >> 29;
            let unit = (x >> 40) as f32 / (1u64 << 24) as f32 - 0.5;
            if norm { unit + 1.0 } else { unit }
        })
        .collect()
}

impl Case {
    /// The folder of the model.
    pub(crate) fn folder(&self) -> TempDir {
        self.folder_with(|_, values| values)
    }

    /// The same with tensors changed: `change` gets their names.
    pub(crate) fn folder_with(&self, change: impl Fn(&mut String, Vec<f32>) -> Vec<f32>) -> TempDir {
        let folder = tempfile::tempdir().expect("a temporary folder");
        for (path, content) in &self.files {
            write(folder.path(), path, content.to_string().as_bytes());
        }
        let tensors: Vec<(String, Vec<usize>, Vec<u8>)> = self
            .tensors
            .iter()
            .map(|(name, shape)| {
                let mut saved = name.clone();
                let numbers = change(&mut saved, values(name, shape.iter().product()));
                let bytes = numbers.iter().flat_map(|x| x.to_le_bytes()).collect();
                (saved, shape.clone(), bytes)
            })
            .collect();
        let views = tensors.iter().map(|(name, shape, bytes)| {
            let view = TensorView::new(Dtype::F32, shape.clone(), bytes);
            (name, view.expect("the length fits the shape"))
        });
        let bytes = safetensors::serialize(views, None).expect("serializable");
        write(folder.path(), "model.safetensors", &bytes);
        folder
    }

    /// Sets a field of one of the files.
    pub(crate) fn set(mut self, file: &str, field: &str, value: impl Into<Value>) -> Case {
        self.files[file][field] = value.into();
        self
    }
}

pub(crate) fn write(folder: &Path, path: &str, bytes: &[u8]) {
    let path = folder.join(path);
    let parent = path.parent().expect("a file in a folder");
    std::fs::create_dir_all(parent).expect("a folder");
    std::fs::write(path, bytes).expect("written");
}
