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
mod attention;
#[cfg(target_arch = "x86_64")]
mod avx2;
#[cfg(target_arch = "x86_64")]
mod avx512;
mod layer;
mod level;
mod linear;
mod matrix;
mod product;
mod rows;

use std::sync::Mutex;

use self::layer::{Layer, Step};
pub use self::level::{Instructions, Precision};
pub(super) use self::linear::Linear;
use super::kernels::Norm;
use super::relative::Relative;
use super::tokens::Sequence;
use super::transformer::{Config, LayerNames, PROBE, Places, norm};
use super::weights::Weights;
use crate::Result;

/// A transformer of the BERT family.
pub(super) struct Native {
    hidden: usize,
    level: Instructions,
    precision: Precision,
    word: Vec<f32>,
    places: Places,
    embedding_norm: Norm,
    relative: Option<Relative>,
    layers: Vec<Layer>,
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
        names: &LayerNames,
        precision: Precision,
        instructions: Instructions,
    ) -> Result<Native> {
        let level = instructions.resolve()?;
        let precision = precision.resolve(level);
        let hidden = config.hidden;
        let word = weights.values(PROBE, &[config.vocab, hidden])?;
        let layers = (0..config.layers)
            .map(|layer| Layer::load(weights, config, names, layer, precision, level))
            .collect::<Result<_>>()?;
        Ok(Native {
            hidden,
            level,
            precision,
            word,
            places: Places::load(weights, config)?,
            embedding_norm: norm(weights, "embeddings.LayerNorm", config)?,
            relative: config.load_relative(weights)?,
            layers,
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
        self.layers
            .iter()
            .all(|layer| layer.run(texts, self.relative.as_ref(), state, &mut scratch.step, pause))
    }

    fn embed(&self, texts: &[&Sequence], tokens: usize, scratch: &mut Scratch) {
        let hidden = self.hidden;
        layer::grow(&mut scratch.state, tokens * hidden);
        let state = &mut scratch.state[..tokens * hidden];
        let places = scratch.step.rest(tokens * hidden);
        let mut rows = state.chunks_exact_mut(hidden).zip(places.chunks_exact_mut(hidden));
        for text in texts {
            for ((at, &id), (state, place)) in text.ids.iter().enumerate().zip(&mut rows) {
                state.copy_from_slice(&self.word[id as usize * hidden..][..hidden]);
                self.places.write(at, at >= text.second, place);
            }
        }
        layer::add_norm(state, places, &self.embedding_norm, self.level);
    }
}
