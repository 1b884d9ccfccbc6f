//! BERT: what `config.json` and the weights call things.

use std::path::Path;

use serde::Deserialize;

use super::architecture::{absolute, activation};
use super::config::{Config, LayerNames, Names, Style};
use super::files::read_required;
use super::reach::Heads;
use crate::Result;

pub(super) const NAMES: Names = Names {
    word: "embeddings.word_embeddings.weight",
    embedding_norm: Some("embeddings.LayerNorm"),
    final_norm: None,
    layer: &LayerNames {
        layers: "encoder.layer",
        qkv: &["attention.self.query", "attention.self.key", "attention.self.value"],
        head_norms: None,
        output: "attention.output.dense",
        attention_norm: "attention.output.LayerNorm",
        up: &["intermediate.dense"],
        gate_last: false,
        down: "output.dense",
        feed_norm: "output.LayerNorm",
    },
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
            heads: Heads::sharing(self.hidden_size, self.num_attention_heads)?,
            intermediate: self.intermediate_size,
            positions: self.max_position_embeddings,
            first_position,
            types: self.type_vocab_size,
            eps: self.layer_norm_eps,
            activation: activation("hidden_act", &self.hidden_act)?,
            relative: None,
            style: Style::default(),
        })
    }
}

pub(super) fn config(folder: &Path) -> Result<Config> {
    BertConfig::read(folder)?.sizes(0)
}
