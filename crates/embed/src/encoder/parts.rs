//! The weights of one layer, in the form the backends take them, whatever their
//! names are and whether the file has them joined or apart.

use super::config::{Config, LayerNames};
use super::kernels::{self, Norm};
use super::reach::Heads;
use super::weights::Weights;
use crate::Result;

pub(super) struct Parts {
    /// Queries, whose scale is that of the scores, then keys, then values.
    pub(super) qkv: Linear,
    pub(super) output: Linear,
    /// Of a gated layer the gate, then what it multiplies.
    pub(super) up: Linear,
    pub(super) down: Linear,
    pub(super) norms: Norms,
    pub(super) heads: Option<HeadNorms>,
}

pub(super) struct Linear {
    /// A row for each output.
    pub(super) weight: Vec<f32>,
    /// Zeros if the model has none.
    pub(super) bias: Vec<f32>,
}

/// The norms of a layer and their places.
pub(super) enum Norms {
    /// Of the sum of what goes into the attention, or into the feed-forward part,
    /// and what comes out of it.
    After { attention: Norm, feed: Norm },
    /// Of what goes in, which is added to what comes out as it was.
    Before { attention: Option<Norm>, feed: Norm },
}

/// Norms of each head of the queries and of the keys by itself.
pub(super) struct HeadNorms {
    pub(super) query: Norm,
    pub(super) key: Norm,
}

impl Norms {
    /// The norms of sums, of the attention and of the feed-forward part.
    pub(super) fn after(&self) -> (Option<&Norm>, Option<&Norm>) {
        match self {
            Norms::After { attention, feed } => (Some(attention), Some(feed)),
            Norms::Before { .. } => (None, None),
        }
    }
}

impl HeadNorms {
    /// Norms the queries and keys of some rows.
    pub(super) fn apply(&self, rows: &mut [f32], heads: Heads) {
        kernels::norm_parts(rows, heads.wide(), 0, heads.queries, &self.query);
        kernels::norm_parts(rows, heads.wide(), heads.out(), heads.keys, &self.key);
    }
}

impl Parts {
    pub(super) fn load(
        weights: &Weights,
        config: &Config,
        names: &LayerNames,
        layer: usize,
    ) -> Result<Parts> {
        let (hidden, wide, heads, style) = (config.hidden, config.intermediate, config.heads, &config.style);
        let name = |part: &str| format!("{}.{layer}.{part}", names.layers);
        let joined = |parts: &[&str], outputs: &[usize], bias| {
            let parts: Vec<String> = parts.iter().map(|part| name(part)).collect();
            Linear::load(weights, &parts, outputs, hidden, bias)
        };
        let one = |part: &str, inputs, outputs, bias| {
            Linear::load(weights, &[name(part)], &[outputs], inputs, bias)
        };
        let normed = |part: &str| norm(weights, &name(part), hidden, config);

        let mut qkv = joined(
            names.qkv,
            &[heads.out(), heads.keys * heads.dim, heads.keys * heads.dim],
            style.biases.qkv,
        )?;
        let gate_and_up = [wide, wide];
        let outputs = if style.gated { &gate_and_up[..] } else { &gate_and_up[..1] };
        let mut up = joined(names.up, outputs, style.biases.up)?;
        if names.gate_last {
            up.weight.rotate_left(wide * hidden);
            up.bias.rotate_left(wide);
        }
        let scale = 1.0 / (heads.dim as f32).sqrt();
        let mut head_norms = None;
        if let Some([query, key]) = names.head_norms {
            let load = |part: &str| norm(weights, &name(part), heads.dim, config);
            let mut norms = HeadNorms { query: load(query)?, key: load(key)? };
            // They would undo a scale of the queries.
            norms.query.weight.iter_mut().for_each(|x| *x *= scale);
            head_norms = Some(norms);
        } else {
            let (rows, out) = (heads.out() * hidden, heads.out());
            qkv.weight[..rows].iter_mut().chain(&mut qkv.bias[..out]).for_each(|x| *x *= scale);
        }
        let feed = normed(names.feed_norm)?;
        let norms = if style.norm_first {
            let normed_already = layer == 0 && style.starts_normed;
            let attention = (!normed_already).then(|| normed(names.attention_norm)).transpose()?;
            Norms::Before { attention, feed }
        } else {
            Norms::After { attention: normed(names.attention_norm)?, feed }
        };
        Ok(Parts {
            qkv,
            output: one(names.output, heads.out(), hidden, style.biases.output)?,
            up,
            down: one(names.down, wide, hidden, style.biases.down)?,
            norms,
            heads: head_norms,
        })
    }
}

impl Linear {
    /// Loads `names`: one tensor with all `outputs`, or one for each of them.
    fn load(
        weights: &Weights,
        names: &[String],
        outputs: &[usize],
        inputs: usize,
        bias: bool,
    ) -> Result<Linear> {
        let all = [outputs.iter().sum()];
        let outputs = if names.len() == 1 { &all[..] } else { outputs };
        let mut found = Linear { weight: Vec::new(), bias: Vec::new() };
        for (name, &outputs) in names.iter().zip(outputs) {
            append(&mut found.weight, weights.values(&format!("{name}.weight"), &[outputs, inputs])?);
            if bias {
                append(&mut found.bias, weights.values(&format!("{name}.bias"), &[outputs])?);
            }
        }
        found.bias.resize(all[0], 0.0);
        Ok(found)
    }
}

/// The first values are taken over, not copied.
fn append(to: &mut Vec<f32>, values: Vec<f32>) {
    if to.is_empty() {
        *to = values;
    } else {
        to.extend(values);
    }
}

/// A norm of `width` values.
pub(super) fn norm(weights: &Weights, name: &str, width: usize, config: &Config) -> Result<Norm> {
    let values = |part: &str| weights.values(&format!("{name}.{part}"), &[width]);
    Ok(Norm {
        weight: values("weight")?,
        bias: if config.style.biases.norm { values("bias")? } else { vec![0.0; width] },
        eps: config.eps as f32,
        centred: !config.style.rms,
    })
}
