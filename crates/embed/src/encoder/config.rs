//! What a model is made of, as its architecture and its configuration say.

use super::kernels::Activation;
use super::reach::{Heads, Reach};
use super::relative::Relative;
use super::rotary::Rope;
use super::weights::Weights;
use crate::Result;

/// The sizes of a model, as its configuration gives them.
pub(super) struct Config {
    pub(super) vocab: usize,
    pub(super) hidden: usize,
    pub(super) layers: usize,
    pub(super) heads: Heads,
    pub(super) intermediate: usize,
    /// The tokens of a text at most; rows of the position table, if there is one.
    pub(super) positions: usize,
    /// The row of a text's first token.
    pub(super) first_position: usize,
    /// Rows of the token type table; 0 if there is none.
    pub(super) types: usize,
    pub(super) eps: f64,
    pub(super) activation: Activation,
    pub(super) relative: Option<RelativeBias>,
    pub(super) style: Style,
}

/// In what a model differs from BERT, whose style is the default.
#[derive(Default)]
pub(super) struct Style {
    /// Norms come before the attention and the feed-forward part, and one at the
    /// end; otherwise after each, on the sum with what went in.
    pub(super) norm_first: bool,
    /// What goes into the first layer is normed already.
    pub(super) starts_normed: bool,
    /// Norms divide by the root mean square.
    pub(super) rms: bool,
    /// The activation of one half of the wide layer multiplies the other half.
    pub(super) gated: bool,
    pub(super) biases: Biases,
    /// What each layer sees; nothing if all see everything.
    pub(super) sights: Vec<Sight>,
}

/// Which parts of a layer have a bias.
pub(super) struct Biases {
    pub(super) norm: bool,
    pub(super) qkv: bool,
    pub(super) output: bool,
    pub(super) up: bool,
    pub(super) down: bool,
}

impl Biases {
    pub(super) const NONE: Biases = Biases { norm: false, qkv: false, output: false, up: false, down: false };
}

impl Default for Biases {
    fn default() -> Self {
        Biases { norm: true, qkv: true, output: true, up: true, down: true }
    }
}

/// What the tokens of a layer see, and how they know where they are.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Sight {
    pub(super) reach: Reach,
    pub(super) rope: Option<Rope>,
}

impl Style {
    /// Whether positions are rotations, not rows of a table.
    pub(super) fn turned(&self) -> bool {
        self.sights.iter().any(|sight| sight.rope.is_some())
    }
}

/// A bias of the attention for the distance of two tokens.
pub(super) struct RelativeBias {
    /// The tensor with a row for each bucket of distances.
    pub(super) table: &'static str,
    pub(super) buckets: usize,
}

impl Config {
    /// What a layer sees.
    pub(super) fn sight(&self, layer: usize) -> Sight {
        self.style.sights.get(layer).copied().unwrap_or(Sight { reach: Reach::ALL, rope: None })
    }

    /// The bias for distances, if the model has one.
    pub(super) fn load_relative(&self, weights: &Weights) -> Result<Option<Relative>> {
        let load = |bias: &RelativeBias| Relative::load(weights, bias.table, bias.buckets, self);
        self.relative.as_ref().map(load).transpose()
    }
}

/// What an architecture calls the parts of a model.
pub(super) struct Names {
    /// The embeddings of tokens; every model has them, so they tell where the
    /// other tensors are.
    pub(super) word: &'static str,
    pub(super) embedding_norm: Option<&'static str>,
    /// The norm after the last layer, where norms come first.
    pub(super) final_norm: Option<&'static str>,
    pub(super) layer: &'static LayerNames,
}

/// What an architecture calls the parts of a layer.
pub(super) struct LayerNames {
    /// The layer `N` is under `{layers}.N.`.
    pub(super) layers: &'static str,
    /// Queries, keys and values: a tensor for each, or one with all.
    pub(super) qkv: &'static [&'static str],
    /// Norms of each head of queries and of keys.
    pub(super) head_norms: Option<[&'static str; 2]>,
    pub(super) output: &'static str,
    pub(super) attention_norm: &'static str,
    /// The wide layer; of a gated one the gate, then what it multiplies, or one
    /// tensor with both.
    pub(super) up: &'static [&'static str],
    /// Whether the gate is the second half of that tensor.
    pub(super) gate_last: bool,
    pub(super) down: &'static str,
    pub(super) feed_norm: &'static str,
}
