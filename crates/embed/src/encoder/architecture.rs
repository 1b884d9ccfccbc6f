//! Which architectures there are, and what all their configurations share.

use std::path::Path;

use serde::{Deserialize, Serialize};

use super::config::{Config, Names};
use super::files::read_required;
use super::kernels::Activation;
use super::{bert, distilbert, gte, modernbert, mpnet, nomic, qwen, roberta};
use crate::{Error, Result};

/// A transformer, as `config.json` describes it.
pub(super) struct Architecture {
    pub(super) family: Family,
    pub(super) config: Config,
    pub(super) names: &'static Names,
}

/// Models that differ in their numbers only.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Family {
    Bert,
    Roberta,
    DistilBert,
    MpNet,
    Nomic,
    ModernBert,
    Gte,
    Qwen,
}

impl Family {
    /// A name for messages.
    pub(super) fn name(self) -> &'static str {
        match self {
            Family::Bert => "bert",
            Family::Roberta => "roberta",
            Family::DistilBert => "distilbert",
            Family::MpNet => "mpnet",
            Family::Nomic => "nomic_bert",
            Family::ModernBert => "modernbert",
            Family::Gte => "gte",
            Family::Qwen => "qwen",
        }
    }

    /// The prompts for queries and passages of models that do not say any.
    pub(super) fn prompts(self) -> Option<[&'static str; 2]> {
        (self == Family::Nomic).then_some([nomic::QUERY_PROMPT, nomic::PASSAGE_PROMPT])
    }

    /// The names a body has inside a model with a head.
    pub(super) fn prefixes(self) -> &'static [&'static str] {
        match self {
            Family::Bert => &["bert"],
            Family::Roberta => &["roberta"],
            Family::DistilBert => &["distilbert"],
            Family::MpNet => &["mpnet"],
            Family::Nomic => &["bert", "nomic_bert", "model"],
            Family::Gte => &["new", "gte", "model"],
            Family::ModernBert | Family::Qwen => &["model"],
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
            "bert" => (Family::Bert, bert::config(folder)?, &bert::NAMES),
            "roberta" | "xlm-roberta" | "camembert" => {
                (Family::Roberta, roberta::config(folder)?, &bert::NAMES)
            }
            "distilbert" => (Family::DistilBert, distilbert::config(folder)?, &distilbert::NAMES),
            "mpnet" => (Family::MpNet, mpnet::config(folder)?, &mpnet::NAMES),
            "nomic_bert" => (Family::Nomic, nomic::config(folder)?, &nomic::NAMES),
            "modernbert" => (Family::ModernBert, modernbert::config(folder)?, &modernbert::NAMES),
            "new" | "gte" => (Family::Gte, gte::config(folder)?, &gte::NAMES),
            "qwen2" => (Family::Qwen, qwen::config_2(folder)?, &qwen::NAMES_2),
            "qwen3" => (Family::Qwen, qwen::config_3(folder)?, &qwen::NAMES_3),
            _ => {
                let supported = "bert, roberta, xlm-roberta, camembert, distilbert, mpnet, nomic_bert, \
                                 modernbert, new, gte, qwen2, qwen3";
                return Err(unsupported("model_type", kind, supported));
            }
        };
        if config.style.turned() && !config.heads.dim.is_multiple_of(2) {
            let dim = config.heads.dim.to_string();
            return Err(unsupported("size of an attention head", dim, "an even number"));
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

/// The same of a gated layer.
pub(super) fn gate(field: &str, name: &str) -> Result<Activation> {
    match name {
        "silu" | "swish" => Ok(Activation::Silu),
        "gelu" | "gelu_new" | "gelu_fast" | "gelu_pytorch_tanh" | "relu" => activation(field, name),
        other => {
            let supported = "silu, swish, gelu, gelu_new, gelu_fast, gelu_pytorch_tanh, relu";
            Err(unsupported(field, other.into(), supported))
        }
    }
}

/// Refuses `field` if it is there with another value than the one supported.
pub(super) fn only<T: PartialEq + Serialize>(
    field: &str,
    value: Option<&T>,
    want: &T,
    supported: &'static str,
) -> Result<()> {
    match value {
        Some(value) if value != want => {
            let value = serde_json::to_string(value).unwrap_or_default();
            Err(unsupported(field, value.trim_matches('"').into(), supported))
        }
        _ => Ok(()),
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
