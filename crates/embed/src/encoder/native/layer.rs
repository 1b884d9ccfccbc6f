//! One layer of the transformer, in place over the rows of a batch.

use std::sync::Arc;

use super::super::attend::{self, Attend};
use super::super::config::{Config, LayerNames};
use super::super::kernels::{self, Activation, Norm};
use super::super::parts::{HeadNorms, Linear, Norms, Parts};
use super::super::reach::{Heads, Reach};
use super::super::relative::Relative;
use super::super::rotary::Turns;
use super::super::tokens::Sequence;
use super::super::weights::Weights;
use super::level::{Instructions, Precision};
use super::matrix::Matrix;
use super::product::{multiply, product, widen};
use super::rows::Rows;
use crate::Result;

/// Rows that go through a step together: their values stay in the second cache,
/// and the weights are read once for all of them.
const BLOCK: usize = 96;

/// The same for bfloat16 in tiles, which are done with values sooner than weights
/// come, and which keep no wide rows of f32.
const TILED_BLOCK: usize = 192;

/// How many of `rows` to take at a time, so that all steps have as many of about so
/// many.
fn even(rows: usize, about: usize) -> usize {
    let steps = ((rows + about / 2) / about).max(1);
    rows.div_ceil(steps).next_multiple_of(32).max(32)
}

pub(super) struct Layer {
    hidden: usize,
    heads: Heads,
    reach: Reach,
    level: Instructions,
    /// Rows that go through a step together, about.
    block: usize,
    /// Products of the attention in bfloat16.
    short: bool,
    qkv: Matrix,
    head_norms: Option<HeadNorms>,
    output: Matrix,
    up: Matrix,
    activation: Activation,
    gated: bool,
    down: Matrix,
    norms: Norms,
}

/// What the attention knows of where tokens are.
pub(super) struct Places<'a> {
    pub(super) relative: Option<&'a Relative>,
    /// The rotations of each text.
    pub(super) turns: Option<&'a [Arc<Turns>]>,
}

/// Memory of a layer, kept from layer to layer and from batch to batch.
#[derive(Default)]
pub(super) struct Step {
    rows: [Rows; 2],
    qkv: Vec<f32>,
    mixed: Vec<f32>,
    rest: Vec<f32>,
    wide: Vec<f32>,
    gated: Vec<f32>,
    #[cfg(target_arch = "x86_64")]
    attention: super::attention::Scratch,
    loops: attend::Scratch,
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
        let parts = Parts::load(weights, config, names, layer)?;
        let packed = |linear: &Linear| Matrix::new(&linear.weight, &linear.bias, precision, level);
        let tiled = precision == Precision::Bf16 && level >= Instructions::Amx;
        Ok(Layer {
            hidden: config.hidden,
            heads: config.heads,
            reach: config.sight(layer).reach,
            level,
            block: if tiled && !config.style.gated { TILED_BLOCK } else { BLOCK },
            short: precision != Precision::F32 && level >= Instructions::Bf16,
            qkv: packed(&parts.qkv),
            head_norms: parts.heads,
            output: packed(&parts.output),
            up: packed(&parts.up),
            activation: config.activation,
            gated: config.style.gated,
            down: packed(&parts.down),
            norms: parts.norms,
        })
    }

    /// Runs the layer over `state`; stops early, and says `false`, when `pause`
    /// does.
    pub(super) fn run(
        &self,
        texts: &[&Sequence],
        places: &Places<'_>,
        state: &mut [f32],
        step: &mut Step,
        pause: &mut dyn FnMut() -> bool,
    ) -> bool {
        let (hidden, wide, out) = (self.hidden, self.heads.wide(), self.heads.out());
        let tokens = state.len() / hidden;
        let block = even(tokens, self.block);
        grow(&mut step.qkv, tokens * wide);
        grow(&mut step.mixed, tokens * out);
        grow(&mut step.rest, block * hidden);
        grow(&mut step.wide, block * self.up.outputs);
        grow(&mut step.gated, if self.gated { block * self.down.inputs } else { 0 });

        let rows = state.chunks(block * hidden).zip(step.qkv.chunks_mut(block * wide));
        for (state, qkv) in rows {
            let mut input = state;
            if let Norms::Before { attention: Some(norm), .. } = &self.norms {
                let rest = &mut step.rest[..state.len()];
                kernels::norm(state, norm, rest);
                input = rest;
            }
            product(input, &self.qkv, None, &mut step.rows[0], qkv);
            if !pause() {
                return false;
            }
        }
        let mut from = 0;
        for (number, text) in texts.iter().enumerate() {
            let to = from + text.len();
            let turns = places.turns.map(|turns| &*turns[number]);
            self.attend(places.relative, turns, from..to, text.seen(), step);
            from = to;
            if !pause() {
                return false;
            }
        }
        for (state, mixed) in state.chunks_mut(block * hidden).zip(step.mixed.chunks(block * out)) {
            let rows = state.len() / hidden;
            let rest = &mut step.rest[..state.len()];
            product(&mixed[..rows * out], &self.output, None, &mut step.rows[0], rest);
            let input = self.between(state, rest);
            if self.gated {
                let wide = &mut step.wide[..rows * self.up.outputs];
                product(input, &self.up, None, &mut step.rows[0], wide);
                let gated = &mut step.gated[..rows * self.down.inputs];
                kernels::gate(wide, self.down.inputs, self.activation, gated);
                product(gated, &self.down, None, &mut step.rows[0], rest);
            } else {
                let linear = (&self.up, self.activation, &self.down);
                widen(input, linear, &mut step.rows, &mut step.wide);
                multiply(&step.rows[1], rows, &self.down, None, rest);
            }
            match &self.norms {
                Norms::After { feed, .. } => add_norm(state, rest, feed, self.level),
                Norms::Before { .. } => kernels::add(state, rest),
            }
            if !pause() {
                return false;
            }
        }
        true
    }

    /// Adds what came out of the attention, and gives what goes into the
    /// feed-forward part.
    fn between<'a>(&self, state: &'a mut [f32], rest: &'a mut [f32]) -> &'a [f32] {
        match &self.norms {
            Norms::After { attention, .. } => {
                add_norm(state, rest, attention, self.level);
                state
            }
            Norms::Before { feed, .. } => {
                kernels::add(state, rest);
                kernels::norm(state, feed, rest);
                rest
            }
        }
    }

    fn attend(
        &self,
        relative: Option<&Relative>,
        turns: Option<&Turns>,
        text: std::ops::Range<usize>,
        seen: usize,
        step: &mut Step,
    ) {
        if text.is_empty() {
            return;
        }
        let (heads, wide) = (self.heads, self.heads.wide());
        let qkv = &mut step.qkv[wide * text.start..wide * text.end];
        if let Some(norms) = &self.head_norms {
            norms.apply(qkv, heads);
        }
        if let Some(turns) = turns {
            turns.apply(qkv, heads);
        }
        let out = &mut step.mixed[heads.out() * text.start..heads.out() * text.end];
        let reach = self.reach.among(seen);
        #[cfg(target_arch = "x86_64")]
        if self.level >= Instructions::Avx512 && heads.dim.is_multiple_of(super::matrix::WIDTH) {
            let sight = super::attention::Sight { heads, reach, relative };
            let products = super::attention::Products::of(self.short, self.level);
            return super::attention::attend(qkv, &sight, products, out, &mut step.attention);
        }
        grow(&mut step.zeros, wide);
        let bias = &step.zeros[..wide];
        Attend { qkv, bias, heads, reach, relative, out, scratch: &mut step.loops }.run();
    }
}

/// Adds the rows of `other` to each row of `rows`, then normalizes it.
pub(super) fn add_norm(rows: &mut [f32], other: &[f32], norm: &Norm, level: Instructions) {
    #[cfg(target_arch = "x86_64")]
    if level >= Instructions::Avx512 && norm.centred {
        return super::avx512::add_norm(rows, other, norm);
    }
    kernels::add_norm(rows, &vec![0.0; norm.weight.len()], other, norm);
}
