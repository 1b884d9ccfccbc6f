//! One layer of the transformer, on a device.

use candle_core::{D, Tensor};

use super::super::config::{Config, LayerNames};
use super::super::device::Place;
use super::super::kernels::{self, Activation};
use super::super::parts::{self, Parts};
use super::super::reach::{Heads, Reach};
use super::super::weights::Weights;
use super::attention::{Attention, Masks, Turned};
use super::linear::{Linear, Norm, activate};
use crate::Result;

pub(super) struct Layer {
    heads: Heads,
    reach: Reach,
    qkv: Linear,
    /// Norms of each head of queries and of keys.
    head_norms: Option<[Norm; 2]>,
    output: Linear,
    up: Linear,
    /// Of a gated layer, for the first half of what `up` gives.
    gate: Option<Activation>,
    down: Linear,
    norms: Norms,
}

/// As `parts::Norms`, on the device.
enum Norms {
    After { attention: Norm, feed: Norm },
    Before { attention: Option<Norm>, feed: Norm },
}

impl Layer {
    pub(super) fn load(
        weights: &Weights,
        config: &Config,
        names: &LayerNames,
        layer: usize,
        place: &Place,
    ) -> Result<Layer> {
        let parts = Parts::load(weights, config, names, layer)?;
        let linear =
            |linear: &parts::Linear, activation| Linear::on(&linear.weight, &linear.bias, activation, place);
        let norm = |norm: &kernels::Norm| Norm::on(norm, place);
        let gated = config.style.gated;
        Ok(Layer {
            heads: config.heads,
            reach: config.sight(layer).reach,
            qkv: linear(&parts.qkv, None)?,
            head_norms: match &parts.heads {
                Some(norms) => Some([norm(&norms.query)?, norm(&norms.key)?]),
                None => None,
            },
            output: linear(&parts.output, None)?,
            up: linear(&parts.up, (!gated).then_some(config.activation))?,
            gate: gated.then_some(config.activation),
            down: linear(&parts.down, None)?,
            norms: match &parts.norms {
                parts::Norms::After { attention, feed } => {
                    Norms::After { attention: norm(attention)?, feed: norm(feed)? }
                }
                parts::Norms::Before { attention, feed } => {
                    Norms::Before { attention: attention.as_ref().map(norm).transpose()?, feed: norm(feed)? }
                }
            },
        })
    }

    pub(super) fn forward(
        &self,
        state: &Tensor,
        attention: &Attention,
        turned: Option<&Turned>,
        masks: &Masks<'_>,
    ) -> candle_core::Result<Tensor> {
        let attend = |input: &Tensor| {
            let qkv = self.settled(self.qkv.forward(input)?, turned)?;
            self.output.forward(&attention.forward(&qkv, self.reach, masks)?)
        };
        match &self.norms {
            Norms::After { attention, feed } => {
                let state = attention.forward(&(attend(state)? + state)?)?;
                feed.forward(&(self.feed(&state)? + &state)?)
            }
            Norms::Before { attention, feed } => {
                let mixed = match attention {
                    Some(norm) => attend(&norm.forward(state)?)?,
                    None => attend(state)?,
                };
                let state = (mixed + state)?;
                self.feed(&feed.forward(&state)?)? + &state
            }
        }
    }

    /// Queries and keys normed and turned, where the model does that.
    fn settled(&self, qkv: Tensor, turned: Option<&Turned>) -> candle_core::Result<Tensor> {
        if turned.is_none() && self.head_norms.is_none() {
            return Ok(qkv);
        }
        let Heads { queries, keys, dim } = self.heads;
        let tokens = qkv.dim(0)?;
        let heads = qkv.reshape((tokens, queries + 2 * keys, dim))?;
        let mut turning = heads.narrow(1, 0, queries + keys)?;
        if let Some([query, key]) = &self.head_norms {
            let normed = |norm: &Norm, from, count| norm.forward(&heads.narrow(1, from, count)?);
            turning = Tensor::cat(&[normed(query, 0, queries)?, normed(key, queries, keys)?], 1)?;
        }
        if let Some(turned) = turned {
            turning = turned.apply(&turning)?;
        }
        Tensor::cat(&[turning, heads.narrow(1, queries + keys, keys)?], 1)?.flatten_from(1)
    }

    fn feed(&self, state: &Tensor) -> candle_core::Result<Tensor> {
        let wide = self.up.forward(state)?;
        let Some(gate) = self.gate else {
            return self.down.forward(&wide);
        };
        let half = wide.dim(D::Minus1)? / 2;
        let gate = activate(&wide.narrow(1, 0, half)?.contiguous()?, gate)?;
        self.down.forward(&(gate * wide.narrow(1, half, half)?)?)
    }
}
