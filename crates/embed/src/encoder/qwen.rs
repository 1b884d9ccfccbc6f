//! Qwen2 and Qwen3, decoders whose last token's state is the vector of a text:
//! norms of the root mean square first, gated, rotations for positions, fewer
//! keys than queries. Qwen3 norms each head of queries and keys as well.
//!
//! The fields are those of `Alibaba-NLP/gte-Qwen2-1.5B-instruct` and
//! `Qwen/Qwen3-Embedding-0.6B`.

use std::path::Path;

use serde::Deserialize;

use super::architecture::{gate, unsupported};
use super::config::{Biases, Config, LayerNames, Names, Sight, Style};
use super::files::read_required;
use super::reach::{Heads, Reach};
use super::rotary::{Rope, RopeParameters, RopeScaling};
use crate::Result;

const LAYER: LayerNames = LayerNames {
    layers: "layers",
    qkv: &["self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj"],
    head_norms: None,
    output: "self_attn.o_proj",
    attention_norm: "input_layernorm",
    up: &["mlp.gate_proj", "mlp.up_proj"],
    gate_last: false,
    down: "mlp.down_proj",
    feed_norm: "post_attention_layernorm",
};

pub(super) const NAMES_2: Names =
    Names { word: "embed_tokens.weight", embedding_norm: None, final_norm: Some("norm"), layer: &LAYER };

pub(super) const NAMES_3: Names = Names {
    layer: &LayerNames { head_norms: Some(["self_attn.q_norm", "self_attn.k_norm"]), ..LAYER },
    ..NAMES_2
};

#[derive(Deserialize)]
struct QwenConfig {
    vocab_size: usize,
    hidden_size: usize,
    num_hidden_layers: usize,
    num_attention_heads: usize,
    num_key_value_heads: Option<usize>,
    head_dim: Option<usize>,
    intermediate_size: usize,
    hidden_act: String,
    max_position_embeddings: usize,
    rms_norm_eps: f64,
    rope_theta: Option<f32>,
    rope_scaling: Option<RopeScaling>,
    rope_parameters: Option<RopeParameters>,
    attention_bias: Option<bool>,
    #[serde(default)]
    use_sliding_window: bool,
    sliding_window: Option<usize>,
    max_window_layers: Option<usize>,
    layer_types: Option<Vec<String>>,
    is_causal: Option<bool>,
}

pub(super) fn config_2(folder: &Path) -> Result<Config> {
    let config: QwenConfig = read_required(folder, "config.json")?;
    let heads = Heads::sharing(config.hidden_size, config.num_attention_heads)?;
    config.sizes(heads, Biases { qkv: true, ..Biases::NONE })
}

pub(super) fn config_3(folder: &Path) -> Result<Config> {
    let config: QwenConfig = read_required(folder, "config.json")?;
    let (queries, dim) = (config.num_attention_heads, config.head_dim.unwrap_or(128));
    if queries == 0 || dim == 0 {
        let supported = "1 or more, and so with head_dim";
        return Err(unsupported("num_attention_heads", queries.to_string(), supported));
    }
    let bias = config.attention_bias.unwrap_or(false);
    let heads = Heads { queries, keys: queries, dim };
    config.sizes(heads, Biases { qkv: bias, output: bias, ..Biases::NONE })
}

impl QwenConfig {
    fn sizes(&self, heads: Heads, biases: Biases) -> Result<Config> {
        Ok(Config {
            vocab: self.vocab_size,
            hidden: self.hidden_size,
            layers: self.num_hidden_layers,
            heads: heads.with_keys(self.num_key_value_heads.unwrap_or(heads.queries))?,
            intermediate: self.intermediate_size,
            positions: self.max_position_embeddings,
            first_position: 0,
            types: 0,
            eps: self.rms_norm_eps,
            activation: gate("hidden_act", &self.hidden_act)?,
            relative: None,
            style: Style {
                norm_first: true,
                starts_normed: false,
                rms: true,
                gated: true,
                biases,
                sights: self.sights()?,
            },
        })
    }

    /// What each layer sees.
    fn sights(&self) -> Result<Vec<Sight>> {
        let newer = self.rope_parameters.as_ref();
        let theta = newer.and_then(|newer| newer.rope_theta).or(self.rope_theta).unwrap_or(10_000.0);
        let scaling = newer.map(|newer| &newer.scaling).or(self.rope_scaling.as_ref());
        let rope = Some(Rope::read(theta, scaling, self.max_position_embeddings)?);
        let sight = |layer: usize| Ok(Sight { reach: self.reach(layer)?, rope });
        (0..self.num_hidden_layers).map(sight).collect()
    }

    fn reach(&self, layer: usize) -> Result<Reach> {
        let causal = self.is_causal.unwrap_or(true);
        let whole = if causal { Reach::BACK } else { Reach::ALL };
        let Some(window) = self.sliding_window.filter(|_| self.use_sliding_window) else {
            return Ok(whole);
        };
        let slides = match self.layer_types.as_ref().and_then(|types| types.get(layer)) {
            Some(kind) => kind == "sliding_attention",
            None => layer >= self.max_window_layers.unwrap_or(28),
        };
        if !slides {
            return Ok(whole);
        }
        if !causal || window == 0 {
            let supported = "false, or true with is_causal and a sliding_window of 1 or more";
            return Err(unsupported("use_sliding_window", "true".into(), supported));
        }
        Ok(Reach::window(window - 1, 0))
    }
}
