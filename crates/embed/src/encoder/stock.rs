//! The ready-made BERT of candle-transformers, over padded batches.
//!
//! Slower on a processor than the packed transformer, which is held against it
//! by the tests. Its operations exist for every device candle knows.

use std::collections::HashMap;
use std::path::Path;

use candle_core::{DType, Device, IndexOp, Tensor};
use candle_nn::VarBuilder;
use candle_transformers::models::bert::{BertModel, Config as BertConfig, HiddenAct};

use super::architecture::{Family, unsupported};
use super::config::Config;
use super::kernels::Activation;
use super::tokens::Sequence;
use super::weights::{Weights, compute};
use crate::{Error, Result};

pub(super) struct Stock {
    model: BertModel,
    hidden: usize,
}

impl Stock {
    /// Loads a model of the BERT architecture itself; its relatives differ in
    /// the names of their parts and in their positions.
    pub(super) fn load(folder: &Path, config: &Config, family: Family) -> Result<Stock> {
        if family != Family::Bert {
            return Err(unsupported("model_type", family.name().into(), "bert, with the stock backend"));
        }
        let weights = Weights::open(folder)?;
        let damaged = |reason: String| Error::Weights { path: weights.path().into(), reason };
        let tensors: HashMap<String, Tensor> =
            weights.all()?.into_iter().map(|(name, tensor)| (plain_name(&name), tensor)).collect();
        let of_candle = VarBuilder::from_tensors(tensors, DType::F32, &Device::Cpu);
        let config_of_model = bert_config(config)?;
        let model =
            BertModel::load(of_candle, &config_of_model).map_err(|error| damaged(error.to_string()))?;
        Ok(Stock { model, hidden: config.hidden })
    }

    pub(super) fn hidden(&self) -> usize {
        self.hidden
    }

    /// As the packed transformer's: a row for each token of each text.
    pub(super) fn forward(&self, texts: &[&Sequence]) -> Result<Vec<f32>> {
        self.run(texts).map_err(compute)
    }

    fn run(&self, texts: &[&Sequence]) -> candle_core::Result<Vec<f32>> {
        let longest = texts.iter().map(|text| text.len()).max().unwrap_or(0);
        let mut ids = vec![0u32; texts.len() * longest];
        let mut types = vec![0u32; texts.len() * longest];
        let mut mask = vec![0u32; texts.len() * longest];
        for (row, text) in texts.iter().enumerate() {
            ids[row * longest..][..text.len()].copy_from_slice(&text.ids);
            types[row * longest..][text.second..text.len()].fill(1);
            mask[row * longest..][..text.seen()].fill(1);
        }
        let shape = (texts.len(), longest);
        let ids = Tensor::from_vec(ids, shape, &self.model.device)?;
        let mask = Tensor::from_vec(mask, shape, &self.model.device)?;
        let types = Tensor::from_vec(types, shape, &self.model.device)?;
        let states = self.model.forward(&ids, &types, Some(&mask))?;
        let mut rows = Vec::with_capacity(texts.iter().map(|text| text.len()).sum::<usize>() * self.hidden);
        for (row, text) in texts.iter().enumerate() {
            rows.extend(states.i((row, ..text.len()))?.flatten_all()?.to_vec1::<f32>()?);
        }
        Ok(rows)
    }
}

/// Without the name a body has inside a model with a head, and with today's
/// names for the parts of a norm.
fn plain_name(name: &str) -> String {
    let name = name.strip_prefix("bert.").unwrap_or(name);
    name.replace("LayerNorm.gamma", "LayerNorm.weight").replace("LayerNorm.beta", "LayerNorm.bias")
}

fn bert_config(config: &Config) -> Result<BertConfig> {
    Ok(BertConfig {
        vocab_size: config.vocab,
        hidden_size: config.hidden,
        num_hidden_layers: config.layers,
        num_attention_heads: config.heads.queries,
        intermediate_size: config.intermediate,
        hidden_act: match config.activation {
            Activation::Gelu => HiddenAct::Gelu,
            Activation::GeluTanh => HiddenAct::GeluApproximate,
            Activation::Relu => HiddenAct::Relu,
            Activation::Silu => {
                return Err(unsupported("hidden_act", "silu".into(), "gelu, relu, with the stock backend"));
            }
        },
        max_position_embeddings: config.positions,
        type_vocab_size: config.types,
        layer_norm_eps: config.eps,
        ..BertConfig::default()
    })
}
