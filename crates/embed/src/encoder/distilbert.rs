//! DistilBERT: BERT without token types, and with names of its own.

use std::path::Path;

use serde::Deserialize;

use super::architecture::activation;
use super::bert;
use super::config::{Config, LayerNames, Names, Style};
use super::files::read_required;
use super::reach::Heads;
use crate::Result;

pub(super) const NAMES: Names = Names {
    layer: &LayerNames {
        layers: "transformer.layer",
        qkv: &["attention.q_lin", "attention.k_lin", "attention.v_lin"],
        head_norms: None,
        output: "attention.out_lin",
        attention_norm: "sa_layer_norm",
        up: &["ffn.lin1"],
        gate_last: false,
        down: "ffn.lin2",
        feed_norm: "output_layer_norm",
    },
    ..bert::NAMES
};

#[derive(Deserialize)]
struct DistilConfig {
    vocab_size: usize,
    dim: usize,
    n_layers: usize,
    n_heads: usize,
    hidden_dim: usize,
    activation: String,
    max_position_embeddings: usize,
}

pub(super) fn config(folder: &Path) -> Result<Config> {
    let config: DistilConfig = read_required(folder, "config.json")?;
    Ok(Config {
        vocab: config.vocab_size,
        hidden: config.dim,
        layers: config.n_layers,
        heads: Heads::sharing(config.dim, config.n_heads)?,
        intermediate: config.hidden_dim,
        positions: config.max_position_embeddings,
        first_position: 0,
        types: 0,
        // Fixed in the reference implementation.
        eps: 1e-12,
        activation: activation("activation", &config.activation)?,
        relative: None,
        style: Style::default(),
    })
}
