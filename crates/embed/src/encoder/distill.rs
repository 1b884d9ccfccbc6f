//! A static model out of a transformer: what each token means by itself.
//!
//! The recipe is model2vec's. Each token goes alone, between its special
//! tokens, through the transformer; the mean of the states is its row. Rows
//! are turned along their principal components, the first of which stay, and
//! each token counts by the smooth inverse frequency that Zipf's law gives for
//! its rank in the vocabulary, which is in the order of frequency. Special
//! tokens and placeholders get no row, and no rank.
//!
//! A row is stored as bytes, -127 to 127 at its greatest value. What it is to
//! be multiplied by goes, with the frequency, into its weight: were the
//! frequency in the row, all bytes of the common words would be 0.

use std::path::Path;

use super::model2vec::{MODEL_TYPE, Made, check_empty};
use super::pca::Pca;
use super::queue::{Call, Cancel};
use super::runner::Output;
use super::tokens::Sequence;
use super::{Encoder, batch};
use crate::{Error, Result};

/// The coefficient of the smooth inverse frequency: a token of probability `p`
/// counts `SIF / (SIF + p)`.
const SIF: f64 = 1e-4;

/// Tokens that go through the transformer in one call.
const PIECE: usize = 2048;

/// What [`Encoder::distill`] is to make.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DistillOptions {
    /// The dimensions of the vectors, at most those the model has inside.
    pub dim: usize,
    /// The name of the model that is distilled, for the README.
    pub name: String,
    /// The licence of its weights, where it is known.
    pub licence: Option<String>,
}

/// What [`Encoder::distill`] has made.
#[derive(Debug, Clone, PartialEq)]
pub struct Distilled {
    /// The dimensions of the vectors.
    pub dim: usize,
    /// The tokens that have a vector.
    pub tokens: usize,
    /// The part of the variance of the tokens' vectors that is in these
    /// dimensions, 0 to 1.
    pub explained: f64,
}

impl Encoder {
    /// Makes a static model of this one and writes it into `folder`, which is
    /// new or empty: each token of the vocabulary gets a vector, and the vector
    /// of a text is their weighted mean. It is many times as fast and finds
    /// less.
    ///
    /// The folder has the layout of model2vec, with bytes, and a README with
    /// the recipe; [`Encoder::load`] loads it. `progress` hears how many tokens
    /// are done, and of how many.
    ///
    /// # Errors
    /// [`Error::NotEmpty`] if the folder holds something; [`Error::Option`] if
    /// the dimensions are none, or more than the model has;
    /// [`Error::Unsupported`] if the model is static already;
    /// [`Error::Cancelled`], and what the model and the disk say.
    pub fn distill(
        &self,
        folder: &Path,
        options: &DistillOptions,
        progress: &mut dyn FnMut(usize, usize),
        cancel: &Cancel,
    ) -> Result<Distilled> {
        let dim = options.dim;
        self.check_distill(dim)?;
        check_empty(folder)?;
        let words = self.tokens.words();
        let states = self.states_of(&words, progress, cancel)?;
        let pca = Pca::fit(&states, self.queue.runner().hidden(), dim)?;
        let rows = pca.project(&states)?;
        let (embeddings, weights) = quantized(&rows, dim, &words, self.tokens.vocabulary());
        let made = Distilled { dim, tokens: words.len(), explained: pca.explained };
        let tokenizer = self.tokens.to_json().map_err(|reason| Error::Compute { reason })?;
        let written = Made {
            dim,
            embeddings,
            weights,
            sif: SIF,
            tokenizer,
            lower_case: self.lower_case,
            readme: readme(options, &made),
            origin: options.name.clone(),
        };
        written.write(folder)?;
        Ok(made)
    }

    fn check_distill(&self, dim: usize) -> Result<()> {
        if self.queue.runner().is_static() {
            return Err(Error::Unsupported {
                file: "config.json".into(),
                field: "model_type".into(),
                value: MODEL_TYPE.into(),
                supported: "for distilling, a transformer: this model is static already",
            });
        }
        if dim == 0 || dim > self.queue.runner().hidden() {
            let want = "1 or more, and no more than the model has inside";
            return Err(Error::Option { option: "dim", value: dim.to_string(), want });
        }
        Ok(())
    }

    /// The mean of the states of each token, one after the other.
    fn states_of(
        &self,
        words: &[u32],
        progress: &mut dyn FnMut(usize, usize),
        cancel: &Cancel,
    ) -> Result<Vec<f32>> {
        let hidden = self.queue.runner().hidden();
        let mut means = Vec::with_capacity(words.len() * hidden);
        for piece in words.chunks(PIECE) {
            progress(means.len() / hidden, words.len());
            let alone = |(at, &id): (usize, &u32)| {
                self.tokens.alone(id).map_err(|reason| Error::Tokenize { text: at, reason })
            };
            let texts: Vec<Sequence> = piece.iter().enumerate().map(alone).collect::<Result<_>>()?;
            let lengths: Vec<usize> = texts.iter().map(Sequence::len).collect();
            let batches = batch::plan(&lengths, self.batch_tokens, self.threads);
            let call = Call::new(texts, Output::States, batches, cancel.clone());
            for states in self.queue.run(call, false)? {
                means.extend(mean(&states, hidden));
            }
        }
        progress(words.len(), words.len());
        Ok(means)
    }
}

fn mean(states: &[f32], hidden: usize) -> Vec<f32> {
    let count = (states.len() / hidden) as f32;
    let mut sum = vec![0.0; hidden];
    for row in states.chunks_exact(hidden) {
        for (into, value) in sum.iter_mut().zip(row) {
            *into += value / count;
        }
    }
    sum
}

/// Rows of bytes for the whole vocabulary and the weight of each; nothing for
/// tokens that are not among the `words`, whose rows these are.
fn quantized(rows: &[f32], dim: usize, words: &[u32], vocabulary: usize) -> (Vec<i8>, Vec<f32>) {
    let mut bytes = vec![0; vocabulary * dim];
    let mut weights = vec![0.0; vocabulary];
    for ((&id, row), sif) in words.iter().zip(rows.chunks_exact(dim)).zip(sif(words.len())) {
        let id = id as usize;
        let greatest = row.iter().fold(0.0f32, |greatest, x| greatest.max(x.abs()));
        if greatest == 0.0 {
            continue;
        }
        let step = greatest / 127.0;
        for (byte, value) in bytes[id * dim..][..dim].iter_mut().zip(row) {
            *byte = (value / step).round() as i8;
        }
        weights[id] = (f64::from(step) * sif) as f32;
    }
    (bytes, weights)
}

/// What the token of each rank counts. By Zipf's law its probability falls
/// with its rank, counted from 2 as model2vec does.
fn sif(count: usize) -> impl Iterator<Item = f64> {
    let inverse = |rank: usize| 1.0 / (rank + 2) as f64;
    let sum: f64 = (0..count).map(inverse).sum();
    (0..count).map(move |rank| SIF / (SIF + inverse(rank) / sum))
}

fn readme(options: &DistillOptions, made: &Distilled) -> String {
    let (name, Distilled { dim, tokens, explained }) = (&options.name, made);
    let percent = 100.0 * explained;
    let (tag, licence) = match &options.licence {
        Some(licence) => {
            (format!("license: {}\n", licence.to_lowercase()), format!("{licence}, as {name} itself."))
        }
        None => (String::new(), format!("That of {name}, which its files do not tell: look it up there.")),
    };
    format!(
        "---\nlibrary_name: model2vec\nbase_model: {name}\n{tag}tags:\n- embeddings\n- static-embeddings\n---\n\n\
         # {name}, static, {dim} dimensions\n\n\
         A static embedding model in the layout of model2vec, distilled from `{name}`: a vector for each \
         of {tokens} tokens. The vector of a text is the weighted mean of those of its tokens, \
         normalized.\n\n\
         ## Recipe\n\n\
         1. Each token of the vocabulary, but for special ones and placeholders, went alone between its \
         special tokens through `{name}`; the mean of the last states is its vector.\n\
         2. The first {dim} principal components of these vectors were kept, with {percent:.1} % of the \
         variance.\n\
         3. A token counts `a / (a + p)`, smooth inverse frequency with a = {SIF}, p by Zipf's law from its \
         rank in the vocabulary.\n\
         4. `embeddings` has the vectors in 8 bits, each at its own scale; `weights` has that scale times \
         what the token counts.\n\n\
         ## Licence\n\n\
         {licence}\n"
    )
}

#[cfg(test)]
mod tests {
    use super::{SIF, quantized, sif};

    #[test]
    fn common_tokens_count_less_and_probabilities_sum_to_one() {
        let found: Vec<f64> = sif(1000).collect();
        assert!(found.windows(2).all(|pair| pair[0] < pair[1]));
        let probability: f64 = found.iter().map(|weight| SIF / weight - SIF).sum();
        assert!((probability - 1.0).abs() < 1e-9);
        assert_eq!(sif(0).count(), 0);
    }

    #[test]
    fn a_row_of_bytes_times_its_weight_is_the_row_by_its_frequency() {
        let rows = [0.5f32, -1.0, 0.25, 0.0, 0.0, 0.0, 3.0, 2.0, 1.0];
        let (bytes, weights) = quantized(&rows, 3, &[1, 2, 4], 5);
        let counts: Vec<f64> = sif(3).collect();
        for (id, row, rank) in [(1, &rows[..3], 0), (2, &rows[3..6], 1), (4, &rows[6..], 2)] {
            // Half a step, of which the greatest value has 127.
            let error = row.iter().fold(0.0f64, |greatest, x| greatest.max(f64::from(*x).abs())) / 253.0;
            for (byte, value) in bytes[id * 3..][..3].iter().zip(row) {
                let found = f64::from(f32::from(*byte) * weights[id]);
                assert!((found - f64::from(*value) * counts[rank]).abs() <= error * counts[rank]);
            }
        }
        assert_eq!((&bytes[..3], weights[0], weights[3]), (&[0, 0, 0][..], 0.0, 0.0));
        assert_eq!(bytes[4], -127);
    }
}
