//! ModernBERT: norms first, gated, rotations for positions; of every few layers
//! one sees the whole text, the others a window around each token.
//!
//! The fields are those of `answerdotai/ModernBERT-base`, and those that newer
//! versions of transformers save.

use std::collections::HashMap;
use std::path::Path;

use serde::Deserialize;

use super::architecture::{gate, unsupported};
use super::config::{Biases, Config, LayerNames, Names, Sight, Style};
use super::files::read_required;
use super::reach::{Heads, Reach};
use super::rotary::{Rope, RopeParameters};
use crate::Result;

pub(super) const NAMES: Names = Names {
    word: "embeddings.tok_embeddings.weight",
    embedding_norm: Some("embeddings.norm"),
    final_norm: Some("final_norm"),
    layer: &LayerNames {
        layers: "layers",
        qkv: &["attn.Wqkv"],
        head_norms: None,
        output: "attn.Wo",
        attention_norm: "attn_norm",
        up: &["mlp.Wi"],
        gate_last: false,
        down: "mlp.Wo",
        feed_norm: "mlp_norm",
    },
};

#[derive(Deserialize)]
struct ModernConfig {
    vocab_size: usize,
    hidden_size: usize,
    num_hidden_layers: usize,
    num_attention_heads: usize,
    intermediate_size: usize,
    max_position_embeddings: usize,
    #[serde(default = "gelu")]
    hidden_activation: String,
    #[serde(default = "eps")]
    norm_eps: f64,
    #[serde(default)]
    norm_bias: bool,
    #[serde(default)]
    attention_bias: bool,
    #[serde(default)]
    mlp_bias: bool,
    #[serde(default = "window")]
    local_attention: usize,
    #[serde(default = "every_third")]
    global_attn_every_n_layers: usize,
    global_rope_theta: Option<f32>,
    local_rope_theta: Option<f32>,
    layer_types: Option<Vec<String>>,
    rope_parameters: Option<HashMap<String, RopeParameters>>,
}

fn gelu() -> String {
    "gelu".into()
}

fn eps() -> f64 {
    1e-5
}

fn window() -> usize {
    128
}

fn every_third() -> usize {
    3
}

impl ModernConfig {
    /// What each layer sees.
    fn sights(&self) -> Result<Vec<Sight>> {
        let whole = Sight {
            reach: Reach::ALL,
            rope: Some(self.rope("full_attention", self.global_rope_theta.unwrap_or(160_000.0))?),
        };
        let half = self.local_attention / 2;
        let window = Sight {
            reach: Reach::window(half, half),
            rope: Some(self.rope("sliding_attention", self.local_rope_theta.unwrap_or(10_000.0))?),
        };
        if let Some(types) = &self.layer_types {
            if types.len() != self.num_hidden_layers {
                let count = types.len().to_string();
                return Err(unsupported("number of layer_types", count, "num_hidden_layers of them"));
            }
            let sight = |kind: &String| match &kind[..] {
                "full_attention" => Ok(whole),
                "sliding_attention" => Ok(window),
                other => Err(unsupported("layer_types", other.into(), "full_attention, sliding_attention")),
            };
            return types.iter().map(sight).collect();
        }
        let every = self.global_attn_every_n_layers;
        if every == 0 {
            return Err(unsupported("global_attn_every_n_layers", "0".into(), "1 or more"));
        }
        let sight = |layer: usize| if layer.is_multiple_of(every) { whole } else { window };
        Ok((0..self.num_hidden_layers).map(sight).collect())
    }

    fn rope(&self, kind: &str, theta: f32) -> Result<Rope> {
        let parameters = self.rope_parameters.as_ref().and_then(|parameters| parameters.get(kind));
        let theta = parameters.and_then(|parameters| parameters.rope_theta).unwrap_or(theta);
        let scaling = parameters.map(|parameters| &parameters.scaling);
        Rope::read(theta, scaling, self.max_position_embeddings)
    }
}

pub(super) fn config(folder: &Path) -> Result<Config> {
    let config: ModernConfig = read_required(folder, "config.json")?;
    Ok(Config {
        vocab: config.vocab_size,
        hidden: config.hidden_size,
        layers: config.num_hidden_layers,
        heads: Heads::sharing(config.hidden_size, config.num_attention_heads)?,
        intermediate: config.intermediate_size,
        positions: config.max_position_embeddings,
        first_position: 0,
        types: 0,
        eps: config.norm_eps,
        activation: gate("hidden_activation", &config.hidden_activation)?,
        relative: None,
        style: Style {
            norm_first: true,
            starts_normed: true,
            rms: false,
            gated: true,
            biases: Biases {
                norm: config.norm_bias,
                qkv: config.attention_bias,
                output: config.attention_bias,
                up: config.mlp_bias,
                down: config.mlp_bias,
            },
            sights: config.sights()?,
        },
    })
}
