//! GTE's own encoders: BERT with rotations for positions and a gated feed-forward
//! part.
//!
//! The fields are those of `Alibaba-NLP/gte-multilingual-base`, whose model type
//! is `new`, and of relatives with the type `gte`.

use std::path::Path;

use serde::Deserialize;

use super::architecture::{gate, only};
use super::config::{Biases, Config, LayerNames, Names, Sight, Style};
use super::files::read_required;
use super::reach::{Heads, Reach};
use super::rotary::{Rope, RopeParameters, RopeScaling};
use crate::Result;

pub(super) const NAMES: Names = Names {
    word: "embeddings.word_embeddings.weight",
    embedding_norm: Some("embeddings.LayerNorm"),
    final_norm: None,
    layer: &LayerNames {
        layers: "encoder.layer",
        qkv: &["attention.qkv_proj"],
        head_norms: None,
        output: "attention.o_proj",
        attention_norm: "attn_ln",
        up: &["mlp.up_gate_proj"],
        gate_last: true,
        down: "mlp.down_proj",
        feed_norm: "mlp_ln",
    },
};

#[derive(Deserialize)]
struct GteConfig {
    vocab_size: usize,
    hidden_size: usize,
    num_hidden_layers: usize,
    num_attention_heads: usize,
    intermediate_size: usize,
    hidden_act: String,
    max_position_embeddings: usize,
    #[serde(default)]
    type_vocab_size: usize,
    #[serde(default = "eps")]
    layer_norm_eps: f64,
    layer_norm_type: Option<String>,
    position_embedding_type: Option<String>,
    rope_theta: Option<f32>,
    rope_scaling: Option<RopeScaling>,
    rope_parameters: Option<RopeParameters>,
    pack_qkv: Option<bool>,
    logn_attention_scale: Option<bool>,
}

fn eps() -> f64 {
    1e-12
}

impl GteConfig {
    fn rope(&self) -> Result<Rope> {
        let newer = self.rope_parameters.as_ref();
        let theta = newer.and_then(|newer| newer.rope_theta).or(self.rope_theta).unwrap_or(10_000.0);
        let scaling = newer.map(|newer| &newer.scaling).or(self.rope_scaling.as_ref());
        Rope::read(theta, scaling, self.max_position_embeddings)
    }

    fn check(&self) -> Result<()> {
        let layer_norm = "layer_norm".to_string();
        only("layer_norm_type", self.layer_norm_type.as_ref(), &layer_norm, "layer_norm")?;
        only("position_embedding_type", self.position_embedding_type.as_ref(), &"rope".to_string(), "rope")?;
        only("pack_qkv", self.pack_qkv.as_ref(), &true, "true")?;
        only("logn_attention_scale", self.logn_attention_scale.as_ref(), &false, "false")
    }
}

pub(super) fn config(folder: &Path) -> Result<Config> {
    let config: GteConfig = read_required(folder, "config.json")?;
    config.check()?;
    let sight = Sight { reach: Reach::ALL, rope: Some(config.rope()?) };
    Ok(Config {
        vocab: config.vocab_size,
        hidden: config.hidden_size,
        layers: config.num_hidden_layers,
        heads: Heads::sharing(config.hidden_size, config.num_attention_heads)?,
        intermediate: config.intermediate_size,
        positions: config.max_position_embeddings,
        first_position: 0,
        types: config.type_vocab_size,
        eps: config.layer_norm_eps,
        activation: gate("hidden_act", &config.hidden_act)?,
        relative: None,
        style: Style {
            gated: true,
            biases: Biases { up: false, ..Biases::default() },
            sights: vec![sight; config.num_hidden_layers],
            ..Style::default()
        },
    })
}
