//! The encoder in plain operations of candle, which every device it knows has: the
//! way a model runs on a GPU.
//!
//! A batch is one matrix with a row per token, text after text, as in the native
//! engine; only the attention puts texts of about the same length side by side
//! (see `packing`), unless there is one that knows where texts begin (`flash`). Its
//! heads are computed where the states are, in f32 from the pooling on, and what
//! comes back is what was asked for. On the processor it gives the numbers of the
//! other backends, by which it is tested.

mod attention;
mod classify;
mod embedding;
#[cfg(feature = "flash-attn")]
mod flash;
mod head;
mod layer;
mod linear;
mod packing;
mod retry;
mod sparse;

use candle_core::{DType, Tensor};

use self::attention::Attention;
use self::embedding::Embedding;
pub(super) use self::head::Finish;
use self::layer::Layer;
pub(super) use self::linear::Linear;
use self::linear::Norm;
use self::packing::Packing;
use self::retry::Fits;
use super::config::{Config, Names};
use super::device::{Device, Place};
use super::heads::{HeadSet, Heads};
use super::native::Precision;
use super::rotary::Rotary;
use super::runner::{Made, Output};
use super::tokens::Sequence;
use super::transformer::final_norm;
use super::weights::Weights;
use crate::{Error, Result};

/// A transformer with its heads, on a device.
pub(super) struct Tensors {
    place: Place,
    hidden: usize,
    rotary: Rotary,
    embedding: Embedding,
    attention: Attention,
    layers: Vec<Layer>,
    final_norm: Option<Norm>,
    finish: Finish,
    others: HeadSet<Linear>,
    fits: Fits,
}

impl Tensors {
    pub(super) fn load(
        weights: &Weights,
        config: &Config,
        names: &Names,
        place: Place,
        (finish, others): (Finish, HeadSet<Linear>),
        batch_tokens: usize,
    ) -> Result<Tensors> {
        let relative = config.load_relative(weights)?;
        let final_norm = final_norm(weights, config, names)?;
        let layers = (0..config.layers)
            .map(|layer| Layer::load(weights, config, names.layer, layer, &place))
            .collect::<Result<_>>()?;
        Ok(Tensors {
            hidden: config.hidden,
            rotary: Rotary::new(config),
            embedding: Embedding::load(weights, config, names, &place)?,
            attention: Attention::new(config.heads, relative.as_ref(), &place)?,
            layers,
            final_norm: final_norm.map(|norm| Norm::on(&norm, &place)).transpose()?,
            finish,
            others,
            fits: Fits::new(batch_tokens),
            place,
        })
    }

    pub(super) fn hidden(&self) -> usize {
        self.hidden
    }

    pub(super) fn dim(&self) -> usize {
        self.finish.dim(self.hidden)
    }

    pub(super) fn multi_dim(&self) -> usize {
        self.others.multi_dim(self.hidden)
    }

    pub(super) fn heads(&self, dense: bool) -> Heads {
        self.others.heads(dense)
    }

    pub(super) fn precision(&self) -> Precision {
        self.place.precision()
    }

    pub(super) fn device(&self) -> Device {
        self.place.name
    }

    /// What is wanted of each text; none is empty. A batch that the device has no
    /// memory for is halved, and so are later ones of its size.
    ///
    /// # Errors
    /// [`Error::Cancelled`] when `going` says no; [`Error::DeviceMemory`].
    pub(super) fn run(
        &self,
        texts: &[&Sequence],
        output: Output,
        going: &mut dyn FnMut() -> bool,
    ) -> Result<Vec<Made>> {
        self.fits.run(texts, &mut |texts| {
            let packing = Packing::new(texts);
            let failed = |error| {
                self.place.error(error, || {
                    let (count, tokens) = (texts.len(), packing.tokens);
                    let budget = self.fits.budget();
                    format!("a batch of {count} texts with {tokens} tokens (gpu_batch_tokens is {budget})")
                })
            };
            let states = self.forward(texts, &packing, going).map_err(failed)?;
            let states = states.ok_or(Error::Cancelled)?;
            self.made(&states, texts, &packing, output).map_err(failed)
        })
    }

    /// The states of the last layer, a row for each token; nothing if `going` says
    /// to stop.
    fn forward(
        &self,
        texts: &[&Sequence],
        packing: &Packing,
        going: &mut dyn FnMut() -> bool,
    ) -> candle_core::Result<Option<Tensor>> {
        let mut state = self.embedding.forward(texts, &self.place)?;
        let turns = self.attention.turns(&self.rotary.of(texts), self.layers.len(), texts, &self.place)?;
        let masks = self.attention.masks(packing, texts, &self.place)?;
        for (number, layer) in self.layers.iter().enumerate() {
            if !going() {
                return Ok(None);
            }
            state = layer.forward(&state, &self.attention, turns.layer(number), &masks)?;
        }
        self.final_norm.as_ref().map_or(Ok(state.clone()), |norm| norm.forward(&state)).map(Some)
    }

    fn made(
        &self,
        states: &Tensor,
        texts: &[&Sequence],
        packing: &Packing,
        output: Output,
    ) -> candle_core::Result<Vec<Made>> {
        let vectors = |vector: Vec<f32>| Made { vector, ..Made::default() };
        match output {
            Output::Head => Ok(self.finish.apply(states, packing)?.into_iter().map(vectors).collect()),
            Output::States => {
                let all = states.to_dtype(DType::F32)?.flatten_all()?.to_vec1::<f32>()?;
                let rows = |range: std::ops::Range<usize>| {
                    all[range.start * self.hidden..range.end * self.hidden].to_vec()
                };
                Ok(packing.ranges().map(rows).map(vectors).collect())
            }
            Output::Heads(wanted, kind) => {
                let mut made = vec![Made::default(); texts.len()];
                if wanted.dense {
                    for (made, vector) in made.iter_mut().zip(self.finish.apply(states, packing)?) {
                        made.vector = vector;
                    }
                }
                if let Some(sparse) = self.others.sparse.as_ref().filter(|_| wanted.sparse) {
                    sparse::apply(sparse, states, texts, packing, &mut made)?;
                }
                if let Some(late) = self.others.multi.as_ref().filter(|_| wanted.multi) {
                    head::late(late, states, texts, packing, kind, &mut made)?;
                }
                Ok(made)
            }
        }
    }
}
