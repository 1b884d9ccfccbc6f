//! Which architectures there are, and what all their configurations share.

use std::path::Path;

use serde::Deserialize;

use super::files::read_required;
use super::kernels::Activation;
use super::transformer::{Config, LayerNames};
use super::{bert, distilbert, mpnet, roberta};
use crate::{Error, Result};

/// A transformer, as `config.json` describes it.
pub(super) struct Architecture {
    pub(super) family: Family,
    pub(super) config: Config,
    pub(super) names: &'static LayerNames,
}

/// Models that differ in their numbers only.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Family {
    Bert,
    Roberta,
    DistilBert,
    MpNet,
}

impl Family {
    /// The name a body has inside a model with a head.
    pub(super) fn prefix(self) -> &'static str {
        match self {
            Family::Bert => "bert",
            Family::Roberta => "roberta",
            Family::DistilBert => "distilbert",
            Family::MpNet => "mpnet",
        }
    }
}

impl Architecture {
    pub(super) fn read(folder: &Path) -> Result<Architecture> {
        #[derive(Deserialize)]
        struct Kind {
            model_type: Option<String>,
        }
        let kind: Kind = read_required(folder, "config.json")?;
        let kind = kind.model_type.unwrap_or_default();
        let (family, config, names) = match kind.as_str() {
            "bert" => (Family::Bert, bert::config(folder)?, &bert::LAYER),
            "roberta" | "xlm-roberta" | "camembert" => {
                (Family::Roberta, roberta::config(folder)?, &bert::LAYER)
            }
            "distilbert" => (Family::DistilBert, distilbert::config(folder)?, &distilbert::LAYER),
            "mpnet" => (Family::MpNet, mpnet::config(folder)?, &mpnet::LAYER),
            _ => {
                let supported = "bert, roberta, xlm-roberta, camembert, distilbert, mpnet";
                return Err(unsupported("model_type", kind, supported));
            }
        };
        let (hidden, heads) = (config.hidden, config.heads);
        if heads == 0 || hidden == 0 || hidden % heads != 0 {
            return Err(unsupported(
                "number of attention heads",
                heads.to_string(),
                "a divisor of the hidden size",
            ));
        }
        if config.positions <= config.first_position {
            return Err(unsupported(
                "max_position_embeddings",
                config.positions.to_string(),
                "more than the positions before a text's first token",
            ));
        }
        Ok(Architecture { family, config, names })
    }

    /// The tokens a text may have: the least of what the model has places for
    /// and the `limits` its other files set.
    pub(super) fn max_tokens(&self, limits: &[Option<usize>], special: usize) -> Result<usize> {
        let positions = self.config.positions.saturating_sub(self.config.first_position);
        let max_tokens = limits.iter().copied().flatten().fold(positions, usize::min);
        if max_tokens <= special {
            return Err(unsupported(
                "limit of tokens",
                max_tokens.to_string(),
                "more than the special tokens of the tokenizer",
            ));
        }
        Ok(max_tokens)
    }
}

pub(super) fn activation(field: &str, name: &str) -> Result<Activation> {
    match name {
        "gelu" => Ok(Activation::Gelu),
        "gelu_new" | "gelu_fast" | "gelu_pytorch_tanh" => Ok(Activation::GeluTanh),
        "relu" => Ok(Activation::Relu),
        other => Err(unsupported(field, other.into(), "gelu, gelu_new, gelu_fast, gelu_pytorch_tanh, relu")),
    }
}

pub(super) fn absolute(kind: Option<&str>) -> Result<()> {
    match kind {
        None | Some("absolute") => Ok(()),
        Some(other) => Err(unsupported("position_embedding_type", other.into(), "absolute")),
    }
}

pub(super) fn unsupported(field: &str, value: String, supported: &'static str) -> Error {
    Error::Unsupported { file: "config.json".into(), field: field.into(), value, supported }
}
