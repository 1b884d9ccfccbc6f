//! The encoder's own engine: weights packed once, memory used again.
//!
//! A batch is one matrix with a row per token, text after text, without
//! padding. Products go through kernels for the processor at hand, chosen when
//! the model is loaded; bias, activation and scales are applied while the sums
//! are in registers. The layer is worked on in blocks of rows that fit the
//! second cache. A batch runs on one thread.
//!
//! candle reads the weights and is the reference this is tested against.

#[cfg(target_arch = "x86_64")]
mod amx;
#[cfg(target_arch = "x86_64")]
mod attention;
#[cfg(target_arch = "x86_64")]
mod avx2;
#[cfg(target_arch = "x86_64")]
mod avx512;
#[cfg(target_arch = "x86_64")]
mod curves;
mod layer;
mod level;
mod linear;
mod matrix;
mod product;
mod rows;
#[cfg(target_arch = "x86_64")]
mod tiled_attention;
#[cfg(target_arch = "x86_64")]
mod tiled_product;

use std::sync::Mutex;

use self::layer::{Layer, Places, Step};
pub use self::level::{Instructions, Precision};
pub(super) use self::linear::Linear;
use super::config::{Config, Names};
use super::embedding::Embedding;
use super::kernels::{self, Norm};
use super::relative::Relative;
use super::rotary::Rotary;
use super::tokens::Sequence;
use super::transformer::final_norm;
use super::weights::Weights;
use crate::Result;

/// A transformer.
pub(super) struct Native {
    hidden: usize,
    level: Instructions,
    precision: Precision,
    embedding: Embedding,
    relative: Option<Relative>,
    rotary: Rotary,
    layers: Vec<Layer>,
    final_norm: Option<Norm>,
    /// Memory of the forward passes that are not running.
    scratch: Mutex<Vec<Scratch>>,
}

/// Memory of a forward pass.
#[derive(Default)]
struct Scratch {
    state: Vec<f32>,
    step: Step,
}

impl Native {
    pub(super) fn load(
        weights: &Weights,
        config: &Config,
        names: &Names,
        precision: Precision,
        instructions: Instructions,
    ) -> Result<Native> {
        let level = instructions.resolve()?;
        let precision = precision.resolve(level);
        let layers = (0..config.layers)
            .map(|layer| Layer::load(weights, config, names.layer, layer, precision, level))
            .collect::<Result<_>>()?;
        Ok(Native {
            hidden: config.hidden,
            level,
            precision,
            embedding: Embedding::load(weights, config, names)?,
            relative: config.load_relative(weights)?,
            rotary: Rotary::new(config),
            layers,
            final_norm: final_norm(weights, config, names)?,
            scratch: Mutex::default(),
        })
    }

    pub(super) fn hidden(&self) -> usize {
        self.hidden
    }

    pub(super) fn precision(&self) -> Precision {
        self.precision
    }

    /// Computes the states of the last layer, a row for each token of each
    /// text, and gives them to `take`, with `pause` for what takes long there.
    ///
    /// There is at least one token; no text has more than the model has
    /// positions, and no id is outside its vocabulary. `pause` is called every
    /// now and then, some hundred microseconds apart; the pass ends early, with
    /// nothing, when it says `false`. It may run other passes.
    pub(super) fn forward<R>(
        &self,
        texts: &[&Sequence],
        pause: &mut dyn FnMut() -> bool,
        take: impl FnOnce(&[f32], &mut dyn FnMut() -> bool) -> R,
    ) -> Option<R> {
        let mut scratch = self.scratch.lock().expect("a push does not panic").pop().unwrap_or_default();
        let done = self.run(texts, &mut scratch, pause);
        let result = done.then(|| {
            let tokens: usize = texts.iter().map(|text| text.len()).sum();
            take(&scratch.state[..tokens * self.hidden], pause)
        });
        self.scratch.lock().expect("a push does not panic").push(scratch);
        result
    }

    fn run(&self, texts: &[&Sequence], scratch: &mut Scratch, pause: &mut dyn FnMut() -> bool) -> bool {
        let tokens: usize = texts.iter().map(|text| text.len()).sum();
        self.embed(texts, tokens, scratch);
        let state = &mut scratch.state[..tokens * self.hidden];
        let turns = self.rotary.of(texts);
        let done = self.layers.iter().enumerate().all(|(number, layer)| {
            let places = Places { relative: self.relative.as_ref(), turns: turns.layer(number) };
            layer.run(texts, &places, state, &mut scratch.step, pause)
        });
        if let Some(norm) = self.final_norm.as_ref().filter(|_| done) {
            let rest = scratch.step.rest(state.len());
            kernels::norm(state, norm, rest);
            state.copy_from_slice(rest);
        }
        done
    }

    fn embed(&self, texts: &[&Sequence], tokens: usize, scratch: &mut Scratch) {
        let hidden = self.hidden;
        layer::grow(&mut scratch.state, tokens * hidden);
        let state = &mut scratch.state[..tokens * hidden];
        let places = scratch.step.rest(tokens * hidden);
        self.embedding.write(texts, state, places);
        match &self.embedding.norm {
            Some(norm) => layer::add_norm(state, places, norm, self.level),
            None => kernels::add(state, places),
        }
    }
}
