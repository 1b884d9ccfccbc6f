//! DistilBERT: BERT without token types, and with names of its own.

use std::path::Path;

use serde::Deserialize;

use super::architecture::activation;
use super::files::read_required;
use super::transformer::{Config, LayerNames};
use crate::Result;

pub(super) const LAYER: LayerNames = LayerNames {
    layers: "transformer.layer",
    query: "attention.q_lin",
    key: "attention.k_lin",
    value: "attention.v_lin",
    output: "attention.out_lin",
    output_norm: "sa_layer_norm",
    up: "ffn.lin1",
    down: "ffn.lin2",
    down_norm: "output_layer_norm",
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
        heads: config.n_heads,
        intermediate: config.hidden_dim,
        positions: config.max_position_embeddings,
        first_position: 0,
        types: 0,
        // Fixed in the reference implementation.
        eps: 1e-12,
        activation: activation("activation", &config.activation)?,
        relative: None,
    })
}
