//! SPLADE: what a masked language model would put in the place of each token,
//! as one sparse vector over the vocabulary.
//!
//! A value is log(1 + max(logit, 0)), and of all tokens the largest counts, or
//! their sum (Formal et al., 2021). The vocabulary is wide, so tokens are taken
//! a few at a time.

use std::path::Path;

use serde::Deserialize;

use super::super::architecture::{Architecture, Family, unsupported};
use super::super::files::read_required;
use super::super::kernels::{self, Activation, Norm};
use super::super::native::Linear;
use super::super::weights::Weights;
use super::files::Splade;
use super::{Layer, Maker, SparseVector};
use crate::Result;

/// Tokens whose logits are in memory together.
const ROWS: usize = 24;

/// The head of a masked language model.
pub(in super::super) struct MaskedLm<L: Layer = Linear> {
    pub(in super::super) transform: L,
    pub(in super::super) norm: L::Norm,
    pub(in super::super) decoder: L,
    pub(in super::super) splade: Splade,
    zeros: Vec<f32>,
}

/// What an architecture calls the parts of the head.
struct Names {
    transform: &'static str,
    norm: &'static str,
    decoder: &'static str,
    bias: &'static str,
    /// The function after the first layer; that of the configuration if absent.
    activation: Option<Activation>,
}

/// Nothing for families whose heads are not known here.
fn names(family: Family) -> Option<Names> {
    Some(match family {
        Family::Bert => Names {
            transform: "cls.predictions.transform.dense",
            norm: "cls.predictions.transform.LayerNorm",
            decoder: "cls.predictions.decoder",
            bias: "cls.predictions.bias",
            activation: None,
        },
        Family::Roberta | Family::MpNet => Names {
            transform: "lm_head.dense",
            norm: "lm_head.layer_norm",
            decoder: "lm_head.decoder",
            bias: "lm_head.bias",
            activation: Some(Activation::Gelu),
        },
        Family::DistilBert => Names {
            transform: "vocab_transform",
            norm: "vocab_layer_norm",
            decoder: "vocab_projector",
            bias: "vocab_projector.bias",
            activation: None,
        },
        Family::Nomic | Family::ModernBert | Family::Gte | Family::Qwen => return None,
    })
}

/// Whether these are the weights of a masked language model.
pub(super) fn is_in(weights: &Weights, of: &Architecture) -> bool {
    names(of.family).is_some_and(|names| weights.has(&format!("{}.weight", names.transform)))
}

impl<L: Layer> MaskedLm<L> {
    /// Loads the head. `weights` are those of the whole model.
    pub(super) fn load(
        weights: &Weights,
        folder: &Path,
        of: &Architecture,
        splade: Splade,
        maker: &impl Maker<Linear = L>,
    ) -> Result<MaskedLm<L>> {
        #[derive(Deserialize)]
        struct Tied {
            tie_word_embeddings: Option<bool>,
        }
        let wanted = "bert, roberta, xlm-roberta, distilbert or mpnet, for a masked language model";
        let names =
            names(of.family).ok_or_else(|| unsupported("model_type", of.family.name().to_owned(), wanted))?;
        let config = &of.config;
        let (hidden, vocab) = (config.hidden, config.vocab);
        let values = |part: &str, shape: &[usize]| weights.values(part, shape);
        let part = |part: &str, end: &str| format!("{part}.{end}");

        let matrix = values(&part(names.transform, "weight"), &[hidden, hidden])?;
        let bias = values(&part(names.transform, "bias"), &[hidden])?;
        let activation = names.activation.unwrap_or(config.activation);
        let transform = maker.linear(&matrix, &bias, Some(activation))?;
        let norm = Norm {
            weight: values(&part(names.norm, "weight"), &[hidden])?,
            bias: values(&part(names.norm, "bias"), &[hidden])?,
            eps: config.eps as f32,
            centred: true,
        };
        let norm = maker.norm(norm)?;

        let tied: Tied = read_required(folder, "config.json")?;
        let prefixed = of.family.prefixes().iter().map(|prefix| format!("{prefix}.{}", of.names.word));
        let words = prefixed.into_iter().find(|name| weights.has(name));
        let decoder = match tied.tie_word_embeddings {
            Some(false) => part(names.decoder, "weight"),
            _ => words.unwrap_or_else(|| of.names.word.to_owned()),
        };
        let same = part(names.decoder, "bias");
        let bias = if weights.has(names.bias) || !weights.has(&same) { names.bias } else { &same };
        let (matrix, bias) = (values(&decoder, &[vocab, hidden])?, values(bias, &[vocab])?);
        let decoder = maker.linear(&matrix, &bias, None)?;
        Ok(MaskedLm { transform, norm, decoder, splade, zeros: vec![0.0; ROWS * hidden] })
    }

    /// The values of a sparse vector, most of them zero.
    pub(in super::super) fn outputs(&self) -> usize {
        self.decoder.outputs()
    }
}

impl MaskedLm {
    /// The sparse vector of a text with these states, `hidden` values per token;
    /// nothing if `going` says to stop.
    pub(super) fn apply(
        &self,
        rows: &[f32],
        hidden: usize,
        going: &mut dyn FnMut() -> bool,
    ) -> Option<SparseVector> {
        let mut values = vec![0.0f32; self.decoder.outputs()];
        let (mut states, mut logits) = (Vec::new(), Vec::new());
        for block in rows.chunks(ROWS * hidden) {
            self.transform.apply(block, &mut states);
            kernels::add_norm(&mut states, &self.zeros[..hidden], &self.zeros, &self.norm);
            self.decoder.apply(&states, &mut logits);
            for row in logits.chunks_exact(values.len()) {
                self.pool(row, &mut values);
            }
            if !going() {
                return None;
            }
        }
        if !self.splade.sum {
            // Logarithms keep the order, so they can wait for the end.
            values.iter_mut().for_each(|x| *x = self.value(*x));
        }
        Some(SparseVector::of(&values))
    }

    fn pool(&self, logits: &[f32], values: &mut [f32]) {
        for (value, &logit) in values.iter_mut().zip(logits) {
            if self.splade.sum {
                // `max` would turn what is not a number into 0.
                *value += self.value(if logit < 0.0 { 0.0 } else { logit });
            } else if logit > *value || logit.is_nan() {
                *value = logit;
            }
        }
    }

    fn value(&self, x: f32) -> f32 {
        let value = x.ln_1p();
        if self.splade.twice { value.ln_1p() } else { value }
    }
}
