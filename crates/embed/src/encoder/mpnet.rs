//! MPNet: BERT without token types, with positions that start after the padding
//! id and a bias for the distance of two tokens.

use std::path::Path;

use serde::Deserialize;

use super::bert::BertConfig;
use super::files::read_required;
use super::transformer::{Config, LayerNames, RelativeBias};
use crate::Result;

pub(super) const LAYER: LayerNames = LayerNames {
    layers: "encoder.layer",
    query: "attention.attn.q",
    key: "attention.attn.k",
    value: "attention.attn.v",
    output: "attention.attn.o",
    output_norm: "attention.LayerNorm",
    up: "intermediate.dense",
    down: "output.dense",
    down_norm: "output.LayerNorm",
};

#[derive(Deserialize)]
struct Buckets {
    #[serde(default = "thirty_two")]
    relative_attention_num_buckets: usize,
}

fn thirty_two() -> usize {
    32
}

pub(super) fn config(folder: &Path) -> Result<Config> {
    let config = BertConfig::read(folder)?;
    let buckets: Buckets = read_required(folder, "config.json")?;
    // Fixed in the reference implementation, whatever `pad_token_id` says.
    let mut sizes = config.sizes(2)?;
    sizes.types = 0;
    sizes.relative = Some(RelativeBias {
        table: "encoder.relative_attention_bias.weight",
        buckets: buckets.relative_attention_num_buckets,
    });
    Ok(sizes)
}
