//! NomicBERT: BERT with rotations for positions, a gated feed-forward part and
//! no biases.
//!
//! The fields are those of `nomic-ai/nomic-embed-text-v1.5`, which come from GPT-2's
//! configuration, and those that transformers gives a model of this type.

use std::path::Path;

use serde::Deserialize;

use super::architecture::{gate, only, unsupported};
use super::config::{Biases, Config, LayerNames, Names, Sight, Style};
use super::files::read_required;
use super::kernels::Activation;
use super::reach::{Heads, Reach};
use super::rotary::{Rope, RopeParameters, Scaling};
use crate::Result;

pub(super) const NAMES: Names = Names {
    word: "embeddings.word_embeddings.weight",
    embedding_norm: Some("emb_ln"),
    final_norm: None,
    layer: &LayerNames {
        layers: "encoder.layers",
        qkv: &["attn.Wqkv"],
        head_norms: None,
        output: "attn.out_proj",
        attention_norm: "norm1",
        up: &["mlp.fc12", "mlp.fc11"],
        gate_last: false,
        down: "mlp.fc2",
        feed_norm: "norm2",
    },
};

/// The text encoders of this type were all trained with a prefix for what a text
/// is. A folder that says nothing of prompts gets these.
pub(super) const QUERY_PROMPT: &str = "search_query: ";
pub(super) const PASSAGE_PROMPT: &str = "search_document: ";

#[derive(Deserialize)]
struct NomicConfig {
    vocab_size: usize,
    pad_vocab_size_multiple: Option<usize>,
    n_embd: usize,
    n_layer: usize,
    n_head: usize,
    n_inner: usize,
    n_positions: usize,
    max_trained_positions: Option<usize>,
    #[serde(default)]
    type_vocab_size: usize,
    layer_norm_epsilon: f64,
    activation_function: String,
    rotary_emb_base: f32,
    rotary_scaling_factor: Option<f32>,
    rotary_emb_fraction: Option<f64>,
    rotary_emb_interleaved: Option<bool>,
    rotary_emb_scale_base: Option<f64>,
    #[serde(default)]
    qkv_proj_bias: bool,
    #[serde(default)]
    mlp_fc1_bias: bool,
    #[serde(default)]
    mlp_fc2_bias: bool,
    prenorm: Option<bool>,
    parallel_block: Option<bool>,
    use_rms_norm: Option<bool>,
    causal: Option<bool>,
    scale_attn_weights: Option<bool>,
    scale_attn_by_inverse_layer_idx: Option<bool>,
    num_experts: Option<usize>,
}

/// The fields of transformers.
#[derive(Deserialize)]
struct NewerConfig {
    vocab_size: usize,
    hidden_size: usize,
    num_hidden_layers: usize,
    num_attention_heads: usize,
    intermediate_size: usize,
    hidden_act: String,
    max_position_embeddings: usize,
    #[serde(default)]
    type_vocab_size: usize,
    layer_norm_eps: f64,
    rope_parameters: Option<RopeParameters>,
}

/// Tells which of the two a file has.
#[derive(Deserialize)]
struct Either {
    n_embd: Option<usize>,
}

pub(super) fn config(folder: &Path) -> Result<Config> {
    let either: Either = read_required(folder, "config.json")?;
    if either.n_embd.is_some() { of_gpt2(folder) } else { of_transformers(folder) }
}

fn of_gpt2(folder: &Path) -> Result<Config> {
    let config: NomicConfig = read_required(folder, "config.json")?;
    config.check()?;
    let trained = config.max_trained_positions.unwrap_or(config.n_positions);
    let mut rope = Rope::read(config.rotary_emb_base, None, trained)?;
    if let Some(factor) = config.rotary_scaling_factor {
        rope.scaling = Scaling::Dynamic { factor, trained };
    }
    // The table of tokens has rows for a vocabulary rounded up.
    let vocab = config.vocab_size.next_multiple_of(config.pad_vocab_size_multiple.unwrap_or(1).max(1));
    Ok(Config {
        vocab,
        hidden: config.n_embd,
        layers: config.n_layer,
        heads: Heads::sharing(config.n_embd, config.n_head)?,
        intermediate: config.n_inner,
        positions: config.n_positions,
        first_position: 0,
        types: config.type_vocab_size,
        eps: config.layer_norm_epsilon,
        activation: config.gate()?,
        relative: None,
        style: style(rope, config.n_layer, &config),
    })
}

fn style(rope: Rope, layers: usize, config: &NomicConfig) -> Style {
    let biases = Biases {
        norm: true,
        qkv: config.qkv_proj_bias,
        output: config.qkv_proj_bias,
        up: config.mlp_fc1_bias,
        down: config.mlp_fc2_bias,
    };
    Style {
        gated: true,
        biases,
        sights: vec![Sight { reach: Reach::ALL, rope: Some(rope) }; layers],
        ..Style::default()
    }
}

fn of_transformers(folder: &Path) -> Result<Config> {
    let config: NewerConfig = read_required(folder, "config.json")?;
    let positions = config.max_position_embeddings;
    let parameters = config.rope_parameters.as_ref();
    let theta = parameters.and_then(|parameters| parameters.rope_theta).unwrap_or(1000.0);
    let rope = Rope::read(theta, parameters.map(|parameters| &parameters.scaling), positions)?;
    Ok(Config {
        vocab: config.vocab_size,
        hidden: config.hidden_size,
        layers: config.num_hidden_layers,
        heads: Heads::sharing(config.hidden_size, config.num_attention_heads)?,
        intermediate: config.intermediate_size,
        positions,
        first_position: 0,
        types: config.type_vocab_size,
        eps: config.layer_norm_eps,
        activation: gate("hidden_act", &config.hidden_act)?,
        relative: None,
        style: Style {
            gated: true,
            biases: Biases { norm: true, ..Biases::NONE },
            sights: vec![Sight { reach: Reach::ALL, rope: Some(rope) }; config.num_hidden_layers],
            ..Style::default()
        },
    })
}

impl NomicConfig {
    fn gate(&self) -> Result<Activation> {
        match &self.activation_function[..] {
            "swiglu" => Ok(Activation::Silu),
            "geglu" => Ok(Activation::Gelu),
            other => Err(unsupported("activation_function", other.into(), "swiglu, geglu")),
        }
    }

    /// Refuses what other models of the same code have.
    fn check(&self) -> Result<()> {
        only("rotary_emb_fraction", self.rotary_emb_fraction.as_ref(), &1.0, "1.0")?;
        only("rotary_emb_interleaved", self.rotary_emb_interleaved.as_ref(), &false, "false")?;
        only("prenorm", self.prenorm.as_ref(), &false, "false")?;
        only("parallel_block", self.parallel_block.as_ref(), &false, "false")?;
        only("use_rms_norm", self.use_rms_norm.as_ref(), &false, "false")?;
        only("causal", self.causal.as_ref(), &false, "false")?;
        only("scale_attn_weights", self.scale_attn_weights.as_ref(), &true, "true")?;
        let by_layer = self.scale_attn_by_inverse_layer_idx.as_ref();
        only("scale_attn_by_inverse_layer_idx", by_layer, &false, "false")?;
        if let Some(base) = self.rotary_emb_scale_base {
            return Err(unsupported("rotary_emb_scale_base", base.to_string(), "null"));
        }
        match self.num_experts {
            Some(experts) if experts > 0 => {
                Err(unsupported("num_experts", experts.to_string(), "none: a single feed-forward part"))
            }
            _ => Ok(()),
        }
    }
}
