//! The sparse head of BGE-M3: a weight for each token that stands in a text.
//!
//! Of a token that comes several times the largest weight counts (Chen et al.,
//! 2024, section 3.2). Special tokens and the unknown one have none.

use std::collections::BTreeMap;
use std::path::Path;

use serde_json::{Map, Value};

use super::super::files::read_optional;
use super::super::tokens::Tokens;
use super::super::weights::Weights;
use super::SparseVector;
use super::files::{SPARSE_LINEAR, token_name};
use crate::Result;

pub(in super::super) struct Lexical {
    pub(in super::super) weight: Vec<f32>,
    pub(in super::super) bias: f32,
    /// Tokens that have no weight.
    unused: Vec<u32>,
}

impl Lexical {
    /// Loads `sparse_linear`.
    pub(super) fn load(root: &Path, folder: &Path, tokens: &Tokens, hidden: usize) -> Result<Lexical> {
        let weights = Weights::first(root, &SPARSE_LINEAR)?;
        let weight = weights.values("weight", &[1, hidden])?;
        let bias = weights.values("bias", &[1])?[0];
        Ok(Lexical { weight, bias, unused: unused(folder, tokens)? })
    }

    /// The sparse vector of a text with these tokens and their states.
    pub(super) fn apply(&self, rows: &[f32], ids: &[u32]) -> SparseVector {
        let weight = |row: &[f32]| {
            let products = row.iter().zip(&self.weight).map(|(x, w)| f64::from(*x) * f64::from(*w));
            products.sum::<f64>() as f32 + self.bias
        };
        self.largest(rows.chunks_exact(self.weight.len()).map(weight), ids)
    }

    /// The sparse vector of a text whose tokens have these weights.
    pub(in super::super) fn largest(&self, of: impl Iterator<Item = f32>, ids: &[u32]) -> SparseVector {
        let mut weights = BTreeMap::new();
        for (weight, &id) in of.zip(ids) {
            if self.unused.contains(&id) {
                continue;
            }
            let most = weights.entry(id).or_insert(0.0f32);
            if weight > *most || weight.is_nan() {
                *most = weight;
            }
        }
        // What is not a number must reach the check at the end.
        let (indices, values) =
            weights.into_iter().filter(|(_, weight)| *weight > 0.0 || weight.is_nan()).unzip();
        SparseVector { indices, values }
    }
}

/// The special tokens the reference leaves out; the mask is not among them.
fn unused(folder: &Path, tokens: &Tokens) -> Result<Vec<u32>> {
    let config: Option<Map<String, Value>> = read_optional(&folder.join("tokenizer_config.json"))?;
    let named = |field: &&str| token_name(config.as_ref()?.get(*field));
    let names: Vec<String> =
        ["cls_token", "eos_token", "pad_token", "unk_token"].iter().filter_map(named).collect();
    if names.is_empty() {
        return Ok(tokens.special_ids().collect());
    }
    Ok(names.iter().filter_map(|name| tokens.id(name)).collect())
}
