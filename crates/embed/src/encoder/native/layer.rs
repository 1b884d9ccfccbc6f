//! One layer of the transformer, in place over the rows of a batch.

use super::super::kernels::{self, Activation, Attend, Norm};
use super::super::relative::Relative;
use super::super::tokens::Sequence;
use super::super::transformer::{Config, LayerNames, norm};
use super::super::weights::Weights;
use super::level::{Instructions, Precision};
use super::matrix::Matrix;
use super::product::product;
use super::rows::Rows;
use crate::Result;

/// Rows that go through a step together: their values stay in the second cache,
/// and the weights are read once for all of them.
const BLOCK: usize = 96;

pub(super) struct Layer {
    heads: usize,
    level: Instructions,
    /// Products of the attention in bfloat16.
    short: bool,
    qkv: Matrix,
    output: Matrix,
    output_norm: Norm,
    up: Matrix,
    activation: Activation,
    down: Matrix,
    down_norm: Norm,
}

/// Memory of a layer, kept from layer to layer and from batch to batch.
#[derive(Default)]
pub(super) struct Step {
    rows: Rows,
    qkv: Vec<f32>,
    mixed: Vec<f32>,
    rest: Vec<f32>,
    wide: Vec<f32>,
    #[cfg(target_arch = "x86_64")]
    attention: super::attention::Scratch,
    loops: kernels::Scratch,
    zeros: Vec<f32>,
}

impl Step {
    /// Memory for `values` numbers, of any content.
    pub(super) fn rest(&mut self, values: usize) -> &mut [f32] {
        grow(&mut self.rest, values);
        &mut self.rest[..values]
    }
}

pub(super) fn grow(memory: &mut Vec<f32>, values: usize) {
    if memory.len() < values {
        // Not `resize`, which would copy what nobody reads any more.
        *memory = vec![0.0; values];
    }
}

impl Layer {
    pub(super) fn load(
        weights: &Weights,
        config: &Config,
        names: &LayerNames,
        layer: usize,
        precision: Precision,
        level: Instructions,
    ) -> Result<Layer> {
        let (hidden, wide) = (config.hidden, config.intermediate);
        let name = |part: &str| format!("{}.{layer}.{part}", names.layers);
        let values = |part: &str, from: usize, to: usize| {
            Ok((
                weights.values(&format!("{}.weight", name(part)), &[to, from])?,
                weights.values(&format!("{}.bias", name(part)), &[to])?,
            ))
        };
        let linear = |part: &str, from: usize, to: usize| -> Result<Matrix> {
            let (weights, bias) = values(part, from, to)?;
            Ok(Matrix::new(&weights, &bias, precision, level))
        };

        // The scale of the scores is folded into the queries.
        let scale = 1.0 / ((hidden / config.heads) as f32).sqrt();
        let (mut qkv, mut bias) = values(names.query, hidden, hidden)?;
        qkv.iter_mut().chain(&mut bias).for_each(|x| *x *= scale);
        for part in [names.key, names.value] {
            let (weights, more) = values(part, hidden, hidden)?;
            qkv.extend(weights);
            bias.extend(more);
        }
        Ok(Layer {
            heads: config.heads,
            level,
            short: precision != Precision::F32 && level >= Instructions::Bf16,
            qkv: Matrix::new(&qkv, &bias, precision, level),
            output: linear(names.output, hidden, hidden)?,
            output_norm: norm(weights, &name(names.output_norm), config)?,
            up: linear(names.up, hidden, wide)?,
            activation: config.activation,
            down: linear(names.down, wide, hidden)?,
            down_norm: norm(weights, &name(names.down_norm), config)?,
        })
    }

    /// Runs the layer over `state`; stops early, and says `false`, when `pause`
    /// does.
    pub(super) fn run(
        &self,
        texts: &[&Sequence],
        relative: Option<&Relative>,
        state: &mut [f32],
        step: &mut Step,
        pause: &mut dyn FnMut() -> bool,
    ) -> bool {
        let hidden = self.output_norm.weight.len();
        grow(&mut step.qkv, 3 * state.len());
        grow(&mut step.mixed, state.len());
        grow(&mut step.rest, BLOCK * hidden);
        grow(&mut step.wide, BLOCK * self.up.outputs);

        let rows = state.chunks(BLOCK * hidden).zip(step.qkv.chunks_mut(3 * BLOCK * hidden));
        for (state, qkv) in rows {
            product(state, &self.qkv, None, &mut step.rows, qkv);
            if !pause() {
                return false;
            }
        }
        let mut from = 0;
        for text in texts {
            let values = text.len() * hidden;
            self.attend(hidden, relative, from..from + values, text.seen(), step);
            from += values;
            if !pause() {
                return false;
            }
        }
        for (state, mixed) in state.chunks_mut(BLOCK * hidden).zip(step.mixed.chunks(BLOCK * hidden)) {
            let (mixed, rest) = (&mixed[..state.len()], &mut step.rest[..]);
            product(mixed, &self.output, None, &mut step.rows, rest);
            add_norm(state, rest, &self.output_norm, self.level);
            product(state, &self.up, Some(self.activation), &mut step.rows, &mut step.wide);
            let wide = &step.wide[..state.len() / hidden * self.up.outputs];
            product(wide, &self.down, None, &mut step.rows, rest);
            add_norm(state, rest, &self.down_norm, self.level);
            if !pause() {
                return false;
            }
        }
        true
    }

    fn attend(
        &self,
        hidden: usize,
        relative: Option<&Relative>,
        text: std::ops::Range<usize>,
        seen: usize,
        step: &mut Step,
    ) {
        let dim = hidden / self.heads;
        let qkv = &step.qkv[3 * text.start..3 * text.end];
        let out = &mut step.mixed[text];
        #[cfg(target_arch = "x86_64")]
        if self.level >= Instructions::Avx512 && dim.is_multiple_of(super::matrix::WIDTH) {
            return super::attention::attend(
                qkv,
                hidden,
                dim,
                self.short,
                relative,
                seen,
                out,
                &mut step.attention,
            );
        }
        grow(&mut step.zeros, 3 * hidden);
        let bias = &step.zeros[..3 * hidden];
        Attend { qkv, bias, heads: self.heads, dim, relative, seen, out, scratch: &mut step.loops }.run();
    }
}

/// Adds the rows of `other` to each row of `rows`, then normalizes it.
pub(super) fn add_norm(rows: &mut [f32], other: &[f32], norm: &Norm, level: Instructions) {
    #[cfg(target_arch = "x86_64")]
    if level >= Instructions::Avx512 {
        return super::avx512::add_norm(rows, other, norm);
    }
    kernels::add_norm(rows, &vec![0.0; norm.weight.len()], other, norm);
}
