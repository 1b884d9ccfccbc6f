//! From token ids to the rows that go into the first layer, on a device.

use candle_core::{Device, Tensor};

use super::super::config::{Config, Names};
use super::super::device::Place;
use super::super::embedding::Places;
use super::super::parts::norm;
use super::super::safe::Values;
use super::super::tokens::Sequence;
use super::super::weights::Weights;
use super::linear::{Norm, failed, indices, put};
use crate::Result;

pub(super) struct Embedding {
    /// A row for each token.
    words: Tensor,
    first_position: usize,
    /// Rows of the position table plus token type 0; a single one if positions are
    /// not added.
    positions: Tensor,
    /// What token types 0 and 1 add to that; nothing for a model without them.
    types: Option<Tensor>,
    norm: Option<Norm>,
}

impl Embedding {
    pub(super) fn load(
        weights: &Weights,
        config: &Config,
        names: &Names,
        place: &Place,
    ) -> Result<Embedding> {
        let hidden = config.hidden;
        let shape = [config.vocab, hidden];
        // No more than the file has goes to the device.
        let words = match weights.as_kept(names.word, &shape)? {
            Values::F32(words) => Tensor::from_vec(words, &shape, &Device::Cpu),
            Values::Bf16(words) => Tensor::from_vec(words, &shape, &Device::Cpu),
            Values::F16(words) => Tensor::from_vec(words, &shape, &Device::Cpu),
        };
        let words = words.and_then(|words| words.to_dtype(place.dtype)?.to_device(&place.device));
        let places = Places::load(weights, config)?;
        let rows = |values: &[f32]| {
            put(values, place, place.dtype)
                .and_then(|rows| rows.reshape(((), hidden)))
                .map_err(|error| failed(error, place))
        };
        let types = (!places.second.is_empty()).then(|| {
            let mut both = vec![0.0; hidden];
            both.extend_from_slice(&places.second);
            rows(&both)
        });
        let norm = names.embedding_norm.map(|name| norm(weights, name, hidden, config)).transpose()?;
        Ok(Embedding {
            words: words.map_err(|error| failed(error, place))?,
            first_position: places.first_position,
            positions: rows(&places.position)?,
            types: types.transpose()?,
            norm: norm.map(|norm| Norm::on(&norm, place)).transpose()?,
        })
    }

    /// A row for each token of each text.
    pub(super) fn forward(&self, texts: &[&Sequence], place: &Place) -> candle_core::Result<Tensor> {
        let of_each = |make: &dyn Fn(&Sequence, usize) -> u32| {
            let text = |text: &&Sequence| (0..text.len()).map(|at| make(text, at)).collect::<Vec<_>>();
            indices(texts.iter().flat_map(text).collect(), &place.device)
        };
        let mut rows = self.words.index_select(&of_each(&|text, at| text.ids[at])?, 0)?;
        rows = if self.positions.dim(0)? == 1 {
            rows.broadcast_add(&self.positions)?
        } else {
            let at = of_each(&|_, at| (self.first_position + at) as u32)?;
            (rows + self.positions.index_select(&at, 0)?)?
        };
        if let Some(types) = &self.types
            && texts.iter().any(|text| text.second < text.len())
        {
            let second = of_each(&|text, at| u32::from(at >= text.second))?;
            rows = (rows + types.index_select(&second, 0)?)?;
        }
        self.norm.as_ref().map_or(Ok(rows.clone()), |norm| norm.forward(&rows))
    }
}
