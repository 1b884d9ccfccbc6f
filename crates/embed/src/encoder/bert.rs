//! BERT: what `config.json` and the weights call things.

use std::path::Path;

use serde::Deserialize;

use super::architecture::{absolute, activation};
use super::files::read_required;
use super::transformer::{Config, LayerNames};
use crate::Result;

pub(super) const LAYER: LayerNames = LayerNames {
    layers: "encoder.layer",
    query: "attention.self.query",
    key: "attention.self.key",
    value: "attention.self.value",
    output: "attention.output.dense",
    output_norm: "attention.output.LayerNorm",
    up: "intermediate.dense",
    down: "output.dense",
    down_norm: "output.LayerNorm",
};

/// The fields of `config.json` that BERT and its relatives share.
#[derive(Deserialize)]
pub(super) struct BertConfig {
    vocab_size: usize,
    hidden_size: usize,
    num_hidden_layers: usize,
    num_attention_heads: usize,
    intermediate_size: usize,
    hidden_act: String,
    pub(super) max_position_embeddings: usize,
    #[serde(default = "two")]
    type_vocab_size: usize,
    #[serde(default = "default_eps")]
    layer_norm_eps: f64,
    pub(super) pad_token_id: Option<usize>,
    position_embedding_type: Option<String>,
}

fn two() -> usize {
    2
}

fn default_eps() -> f64 {
    1e-12
}

impl BertConfig {
    pub(super) fn read(folder: &Path) -> Result<BertConfig> {
        read_required(folder, "config.json")
    }

    /// The sizes, with texts starting at row `first_position`.
    pub(super) fn sizes(&self, first_position: usize) -> Result<Config> {
        absolute(self.position_embedding_type.as_deref())?;
        Ok(Config {
            vocab: self.vocab_size,
            hidden: self.hidden_size,
            layers: self.num_hidden_layers,
            heads: self.num_attention_heads,
            intermediate: self.intermediate_size,
            positions: self.max_position_embeddings,
            first_position,
            types: self.type_vocab_size,
            eps: self.layer_norm_eps,
            activation: activation("hidden_act", &self.hidden_act)?,
            relative: None,
        })
    }
}

pub(super) fn config(folder: &Path) -> Result<Config> {
    BertConfig::read(folder)?.sizes(0)
}
