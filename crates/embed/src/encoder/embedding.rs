//! From token ids to the rows that go into the first layer: the embedding of the
//! token, and what is added to it for its place.

use half::slice::HalfFloatSliceExt;
use half::{bf16, f16};

use super::config::{Config, Names};
use super::kernels::Norm;
use super::parts::norm;
use super::safe::Values;
use super::tokens::Sequence;
use super::weights::Weights;
use crate::Result;

pub(super) struct Embedding {
    hidden: usize,
    /// A row for each token.
    word: Table,
    places: Places,
    /// The norm of the sum, if there is one.
    pub(super) norm: Option<Norm>,
}

impl Embedding {
    pub(super) fn load(weights: &Weights, config: &Config, names: &Names) -> Result<Embedding> {
        let hidden = config.hidden;
        Ok(Embedding {
            hidden,
            word: Table::load(weights, names.word, &[config.vocab, hidden])?,
            places: Places::load(weights, config)?,
            norm: names.embedding_norm.map(|name| norm(weights, name, hidden, config)).transpose()?,
        })
    }

    /// Writes the embeddings of all tokens to `state`, and to `places` what is to
    /// be added to them before the norm.
    pub(super) fn write(&self, texts: &[&Sequence], state: &mut [f32], places: &mut [f32]) {
        let hidden = self.hidden;
        let mut rows = state.chunks_exact_mut(hidden).zip(places.chunks_exact_mut(hidden));
        for text in texts {
            for ((at, &id), (state, place)) in text.ids.iter().enumerate().zip(&mut rows) {
                self.word.copy(id as usize * hidden, state);
                self.places.write(at, at >= text.second, place);
            }
        }
    }
}

/// Numbers as the file has them: of a decoder with many tokens they are the
/// greater part of what stays in memory.
enum Table {
    F32(Vec<f32>),
    Bf16(Vec<bf16>),
    F16(Vec<f16>),
}

impl Table {
    fn load(weights: &Weights, name: &str, shape: &[usize]) -> Result<Table> {
        Ok(match weights.as_kept(name, shape)? {
            Values::F32(numbers) => Table::F32(numbers),
            Values::Bf16(numbers) => Table::Bf16(numbers),
            Values::F16(numbers) => Table::F16(numbers),
        })
    }

    /// Copies the numbers from `at` on.
    fn copy(&self, at: usize, into: &mut [f32]) {
        match self {
            Table::F32(numbers) => into.copy_from_slice(&numbers[at..][..into.len()]),
            Table::Bf16(numbers) => numbers[at..][..into.len()].convert_to_f32_slice(into),
            Table::F16(numbers) => numbers[at..][..into.len()].convert_to_f32_slice(into),
        }
    }
}

/// What is added to a token for where it stands.
pub(super) struct Places {
    pub(super) first_position: usize,
    /// Rows of the position table plus token type 0; a single row if positions
    /// are not added.
    pub(super) position: Vec<f32>,
    /// What token type 1 adds to that; empty for a model without it.
    pub(super) second: Vec<f32>,
}

impl Places {
    pub(super) fn load(weights: &Weights, config: &Config) -> Result<Places> {
        let hidden = config.hidden;
        let mut position = if config.style.turned() {
            vec![0.0; hidden]
        } else {
            weights.values("embeddings.position_embeddings.weight", &[config.positions, hidden])?
        };
        let mut second = Vec::new();
        if config.types > 0 {
            let types = weights.values("embeddings.token_type_embeddings.weight", &[config.types, hidden])?;
            for row in position.chunks_exact_mut(hidden) {
                for (x, t) in row.iter_mut().zip(&types) {
                    *x += t;
                }
            }
            let (zero, others) = types.split_at(hidden);
            second.extend(others.iter().zip(zero).map(|(one, zero)| one - zero));
            second.truncate(hidden);
        }
        Ok(Places { first_position: config.first_position, position, second })
    }

    /// Writes what is added to the token `at` of a text; `second` says that its
    /// token type is 1.
    fn write(&self, at: usize, second: bool, into: &mut [f32]) {
        let row = if self.position.len() == into.len() { 0 } else { self.first_position + at };
        into.copy_from_slice(&self.position[row * into.len()..][..into.len()]);
        if second {
            for (x, more) in into.iter_mut().zip(&self.second) {
                *x += more;
            }
        }
    }
}
