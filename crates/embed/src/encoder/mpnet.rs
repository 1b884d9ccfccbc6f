//! MPNet: BERT without token types, with positions that start after the padding
//! id and a bias for the distance of two tokens.

use std::path::Path;

use serde::Deserialize;

use super::bert::{self, BertConfig};
use super::config::{Config, LayerNames, Names, RelativeBias};
use super::files::read_required;
use crate::Result;

pub(super) const NAMES: Names = Names {
    layer: &LayerNames {
        layers: "encoder.layer",
        qkv: &["attention.attn.q", "attention.attn.k", "attention.attn.v"],
        head_norms: None,
        output: "attention.attn.o",
        attention_norm: "attention.LayerNorm",
        up: &["intermediate.dense"],
        gate_last: false,
        down: "output.dense",
        feed_norm: "output.LayerNorm",
    },
    ..bert::NAMES
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
