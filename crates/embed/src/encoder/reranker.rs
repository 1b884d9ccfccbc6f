//! A cross-encoder: query and text are read together, and a head on top of the
//! transformer says how well they fit.

use std::path::Path;

use rayon::ThreadPool;
use rayon::prelude::*;

use super::architecture::Architecture;
use super::classifier::{Classifier, labels};
use super::device::{Device, Place};
use super::files::Folder;
use super::heads::HeadSet;
use super::queue::{Call, Cancel, Queue};
use super::runner::{self, Head, Model, Output, Runner};
use super::tokens::{Sequence, Tokens};
use super::weights::Weights;
use super::{EncoderOptions, Precision, SHORT_TOKENS, batch};
use crate::{Error, Result};

/// Scores how well texts answer a query, with a model for sequence
/// classification of the BERT family that has one label; also gives the labels
/// of models that have several.
///
/// It can be shared between threads; calls at the same time share its threads.
///
/// ```no_run
/// use cairn_embed::{EncoderOptions, Reranker};
///
/// let reranker = Reranker::load("models/ms-marco".as_ref(), &EncoderOptions::default())?;
/// let found = reranker.score("what marks a path?", &["a cairn does", "it rains"])?;
/// assert!(found.raw[0] > found.raw[1]);
/// # Ok::<(), cairn_embed::Error>(())
/// ```
pub struct Reranker {
    queue: Queue,
    tokens: Tokens,
    token_types: bool,
    labels: Vec<String>,
    max_tokens: usize,
    max_batch_tokens: usize,
    threads: usize,
    tokenizing: ThreadPool,
}

/// The result of [`Reranker::score`].
#[derive(Debug, Clone, PartialEq)]
pub struct Scores {
    /// What the model gives each text, in the order of the texts: any number,
    /// larger is better.
    pub raw: Vec<f32>,
    /// The tokens the model was fed, special ones included, after truncation.
    pub tokens: usize,
}

impl Scores {
    /// The scores between 0 and 1, in the same order: the logistic function of
    /// the raw ones.
    pub fn sigmoid(&self) -> Vec<f32> {
        self.raw.iter().map(|&raw| sigmoid(raw)).collect()
    }
}

/// The result of [`Reranker::predict`].
#[derive(Debug, Clone, PartialEq)]
pub struct Predictions {
    /// A number for each label of the model, for each input: the logits.
    pub raw: Vec<Vec<f32>>,
    /// The tokens the model was fed, special ones included, after truncation.
    pub tokens: usize,
}

impl Predictions {
    /// The probabilities of the labels: the softmax of the logits, or the
    /// logistic function where the model has one label.
    pub fn probabilities(&self) -> Vec<Vec<f32>> {
        self.raw.iter().map(|raw| probabilities(raw)).collect()
    }
}

fn sigmoid(x: f32) -> f32 {
    1.0 / (1.0 + (-x).exp())
}

fn probabilities(raw: &[f32]) -> Vec<f32> {
    if let [one] = raw {
        return vec![sigmoid(*one)];
    }
    let most = raw.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    let powers: Vec<f32> = raw.iter().map(|x| (x - most).exp()).collect();
    let sum: f32 = powers.iter().sum();
    powers.iter().map(|power| power / sum).collect()
}

impl Reranker {
    /// Loads a model from a local folder with `config.json`, `tokenizer.json`
    /// and `model.safetensors`, and perhaps `tokenizer_config.json`.
    ///
    /// [`EncoderOptions::cache_bytes`] has no effect.
    ///
    /// # Errors
    /// One that names the file and the mend, when the folder is incomplete,
    /// damaged, or holds a model of another kind.
    pub fn load(dir: &Path, options: &EncoderOptions) -> Result<Reranker> {
        options.check()?;
        let folder = Folder::read_classifier(dir)?;
        let architecture = Architecture::read(&folder.transformer)?;
        let labels = labels(&folder.transformer)?;
        let tokens = Tokens::load(&folder.transformer, architecture.config.vocab)?;
        let weights = Weights::open(&folder.transformer)?;
        let head = Classifier::load(&weights, &architecture, labels.len())?;
        let (model, head) = match Place::choose(options, &architecture.config)? {
            None => {
                let model = Model::load(weights, &folder.transformer, &architecture, options)?;
                (model, Head::Classify(head))
            }
            Some(place) => {
                let heads = (Head::Classify(head), HeadSet::default());
                (Model::on(place, weights, &architecture, heads, options)?, Head::Nothing)
            }
        };
        let limits = [folder.max_seq_length, folder.model_max_length];
        let special = tokens.special_of_pair().max(tokens.special());
        let max_tokens = architecture.max_tokens(&limits, special)?;
        let threads = options.threads();
        let runner = Runner::new(model, head, threads)?;
        let gpu = runner.device() != Device::Cpu;
        let workers = if gpu { 1 } else { threads };
        Ok(Reranker {
            queue: Queue::start(runner, workers, options.max_waiting)?,
            token_types: folder.token_types && architecture.config.types > 1,
            tokens: tokens.limit(max_tokens),
            labels,
            max_tokens,
            max_batch_tokens: options.batch_tokens(gpu),
            threads: workers,
            tokenizing: runner::pool(threads)?,
        })
    }

    /// The names of the labels, by their number; a model that reranks has one.
    pub fn labels(&self) -> &[String] {
        &self.labels
    }

    /// The precision the model runs in: never [`Precision::Auto`].
    pub fn precision(&self) -> Precision {
        self.queue.runner().precision()
    }

    /// Where the model runs: never [`Device::Auto`].
    pub fn device(&self) -> Device {
        self.queue.runner().device()
    }

    /// The tokens of a pair that the model sees, special ones included. A
    /// longer pair is cut: the longer of the two texts first, then both alike.
    pub fn max_tokens(&self) -> usize {
        self.max_tokens
    }

    /// The tokens of a pair before it is cut, special ones included.
    pub fn count_tokens(&self, query: &str, text: &str) -> usize {
        self.tokens.count(query) + self.tokens.count(text) + self.tokens.special_of_pair()
    }

    /// Whether each input would be read whole.
    ///
    /// # Errors
    /// [`Error::TooLong`] for the first one that would be cut.
    pub fn check_lengths(&self, inputs: &[(&str, Option<&str>)]) -> Result<()> {
        let limit = self.max_tokens;
        for (text, (one, other)) in inputs.iter().enumerate() {
            // No text has more tokens than bytes, but for those that are added.
            if one.len() + other.map_or(0, str::len) + 16 < limit {
                continue;
            }
            let tokens = match other {
                Some(other) => self.count_tokens(one, other),
                None => self.tokens.count(one) + self.tokens.special(),
            };
            if tokens > limit {
                return Err(Error::TooLong { text, tokens, limit });
            }
        }
        Ok(())
    }

    /// The first `tokens` tokens of a text, or all of it.
    ///
    /// # Errors
    /// [`Error::Tokenize`] if the tokenizer refuses the text.
    pub fn start_of<'t>(&self, text: &'t str, tokens: usize) -> Result<&'t str> {
        if text.len() <= tokens {
            return Ok(text);
        }
        let found = self.tokens.spans(text, false);
        let found = found.map_err(|reason| Error::Tokenize { text: 0, reason })?;
        let end = found.get(tokens).and_then(|token| token.span).map_or(text.len(), |span| span.0);
        Ok(&text[..end])
    }

    /// A score for each text, in their order.
    ///
    /// # Errors
    /// [`Error::Labels`] if the model has several labels;
    /// [`Error::NotFinite`] if its weights are damaged; [`Error::Busy`] if
    /// [`EncoderOptions::max_waiting`] calls wait already.
    pub fn score(&self, query: &str, texts: &[&str]) -> Result<Scores> {
        self.score_until(query, texts, &Cancel::new())
    }

    /// As [`Reranker::score`], for a caller that may go away: once `cancel` is
    /// set, no more is computed than what is under way.
    ///
    /// # Errors
    /// Those of [`Reranker::score`], and [`Error::Cancelled`].
    pub fn score_until(&self, query: &str, texts: &[&str], cancel: &Cancel) -> Result<Scores> {
        if self.labels.len() != 1 {
            return Err(Error::Labels { labels: self.labels.join(", ") });
        }
        let refused = |text| move |reason| Error::Tokenize { text, reason };
        let first = self.tokens.first(query).map_err(refused(0))?;
        let pair = |(at, text): (usize, &&str)| self.tokens.pair(&first, text).map_err(refused(at));
        let (raw, tokens) = self.run(self.each(texts, pair)?, cancel)?;
        Ok(Scores { raw: raw.concat(), tokens })
    }

    /// The numbers of all labels for each input: a text, or a pair of them.
    ///
    /// # Errors
    /// [`Error::NotFinite`], [`Error::Busy`].
    pub fn predict(&self, inputs: &[(&str, Option<&str>)]) -> Result<Predictions> {
        self.predict_until(inputs, &Cancel::new())
    }

    /// As [`Reranker::predict`], for a caller that may go away.
    ///
    /// # Errors
    /// Those of [`Reranker::predict`], and [`Error::Cancelled`].
    pub fn predict_until(&self, inputs: &[(&str, Option<&str>)], cancel: &Cancel) -> Result<Predictions> {
        let tokens = |(text, input): (usize, &(&str, Option<&str>))| {
            let found = match input {
                (one, None) => self.tokens.ids(one),
                (one, Some(other)) => self.tokens.first(one).and_then(|one| self.tokens.pair(&one, other)),
            };
            found.map_err(|reason| Error::Tokenize { text, reason })
        };
        let (raw, tokens) = self.run(self.each(inputs, tokens)?, cancel)?;
        Ok(Predictions { raw, tokens })
    }

    fn each<T: Sync>(
        &self,
        inputs: &[T],
        tokens: impl Fn((usize, &T)) -> Result<Sequence> + Send + Sync,
    ) -> Result<Vec<Sequence>> {
        // Other threads are worth waking for some hundred microseconds of work.
        if inputs.len() <= 16 {
            return inputs.iter().enumerate().map(tokens).collect();
        }
        self.tokenizing.install(|| inputs.par_iter().enumerate().with_min_len(8).map(tokens).collect())
    }

    fn run(&self, mut texts: Vec<Sequence>, cancel: &Cancel) -> Result<(Vec<Vec<f32>>, usize)> {
        if !self.token_types {
            texts.iter_mut().for_each(|text| text.second = text.len());
        }
        let lengths: Vec<usize> = texts.iter().map(Sequence::len).collect();
        let total = lengths.iter().sum();
        let short = total <= SHORT_TOKENS;
        let batches = batch::plan(&lengths, self.max_batch_tokens, if short { 1 } else { self.threads });
        let call = Call::new(texts, Output::Head, batches, cancel.clone());
        Ok((self.queue.run(call, short)?, total))
    }
}

#[cfg(test)]
mod tests {
    use super::{probabilities, sigmoid};

    #[test]
    fn probabilities_of_labels_sum_to_one_and_large_logits_do_not_overflow() {
        let found = probabilities(&[1000.0, 999.0, -1000.0]);
        assert!((found.iter().sum::<f32>() - 1.0).abs() < 1e-6);
        assert!((found[0] - 0.731_058_6).abs() < 1e-6);
        assert_eq!(probabilities(&[0.0]), [0.5]);
        assert_eq!((sigmoid(-1000.0), sigmoid(1000.0)), (0.0, 1.0));
    }
}
