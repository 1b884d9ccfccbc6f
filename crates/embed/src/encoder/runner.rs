//! A batch of token ids to vectors, on the thread that calls.

use std::path::Path;

use rayon::{ThreadPool, ThreadPoolBuilder};

use super::architecture::Architecture;
use super::classifier::Classifier;
use super::native::{Native, Precision};
use super::pooling::Pooling;
use super::stock::Stock;
use super::table::Table;
use super::tokens::Sequence;
use super::transformer::Transformer;
use super::weights::Weights;
use super::{Backend, EncoderOptions};
use crate::{Error, Result};

pub(super) enum Model {
    Native(Native),
    Packed(Transformer),
    Stock(Stock),
    /// No transformer: a vector for each token.
    Static(Table),
}

impl Model {
    /// Loads the transformer of a folder, with or without a head.
    pub(super) fn load(
        weights: Weights,
        folder: &Path,
        of: &Architecture,
        options: &EncoderOptions,
    ) -> Result<Model> {
        let (config, names) = (&of.config, of.names);
        let under = |weights: Weights, prefix: &&str| weights.under(prefix, names.word);
        let weights = of.family.prefixes().iter().fold(weights, under);
        Ok(match options.backend {
            Backend::Native => {
                let (precision, instructions) = (options.precision, options.instructions);
                Model::Native(Native::load(&weights, config, names, precision, instructions)?)
            }
            Backend::Packed => Model::Packed(Transformer::load(&weights, config, names)?),
            Backend::Stock => Model::Stock(Stock::load(folder, config, of.family)?),
        })
    }

    fn hidden(&self) -> usize {
        match self {
            Model::Native(model) => model.hidden(),
            Model::Packed(model) => model.hidden(),
            Model::Stock(model) => model.hidden(),
            Model::Static(table) => table.dim(),
        }
    }
}

/// What becomes of the states of a text.
pub(super) enum Head {
    Pool(Pooling),
    Classify(Classifier),
}

impl Head {
    fn dim(&self, hidden: usize) -> usize {
        match self {
            Head::Pool(pooling) => pooling.dim(hidden),
            Head::Classify(classifier) => classifier.labels(),
        }
    }

    fn apply(&self, rows: &[f32], hidden: usize) -> Vec<f32> {
        match self {
            Head::Pool(pooling) => pooling.apply(rows, hidden),
            Head::Classify(classifier) => classifier.apply(rows, hidden),
        }
    }
}

/// What a call wants of a text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Output {
    /// The vector the head makes.
    Head,
    /// The states of all tokens, one after the other.
    States,
}

/// A model with what becomes of its states.
pub(super) struct Runner {
    model: Model,
    head: Head,
    /// All threads, for models whose products use more than one.
    wide: Option<ThreadPool>,
}

impl Runner {
    pub(super) fn new(model: Model, head: Head, threads: usize) -> Result<Runner> {
        let wide = match model {
            Model::Native(_) | Model::Static(_) => None,
            Model::Packed(_) | Model::Stock(_) => Some(pool(threads)?),
        };
        Ok(Runner { model, head, wide })
    }

    /// The dimensions of a vector.
    pub(super) fn dim(&self) -> usize {
        self.head.dim(self.model.hidden())
    }

    /// The dimensions of a token's state.
    pub(super) fn hidden(&self) -> usize {
        self.model.hidden()
    }

    pub(super) fn precision(&self) -> Precision {
        match &self.model {
            Model::Native(model) => model.precision(),
            Model::Packed(_) | Model::Stock(_) | Model::Static(_) => Precision::F32,
        }
    }

    pub(super) fn is_static(&self) -> bool {
        matches!(self.model, Model::Static(_))
    }

    /// Runs what would spread its products over all threads on one.
    pub(super) fn on_one_thread(&self, work: impl FnOnce() + Send) {
        match self.wide.as_ref().and_then(|_| pool(1).ok()) {
            Some(one) => one.install(work),
            None => work(),
        }
    }

    /// Lets products spread over all threads, if the model's can.
    pub(super) fn on_all_threads(&self, work: impl FnOnce() + Send) {
        match &self.wide {
            Some(all) => all.install(work),
            None => work(),
        }
    }

    /// The vectors of a batch: positions in `texts`. `going` is asked now and
    /// then whether to go on.
    ///
    /// # Errors
    /// [`Error::Cancelled`] when `going` says no; [`Error::NotFinite`].
    pub(super) fn vectors(
        &self,
        texts: &[Sequence],
        batch: &[usize],
        output: Output,
        going: &mut dyn FnMut() -> bool,
    ) -> Result<Vec<Vec<f32>>> {
        let texts: Vec<&Sequence> = batch.iter().map(|&text| &texts[text]).collect();
        // A tokenizer without special tokens makes nothing of an empty text.
        if texts.iter().all(|text| text.is_empty()) {
            return Ok(vec![self.of_nothing(output); batch.len()]);
        }
        let pool = |states: &[f32]| self.finish(states, batch, &texts, output);
        match &self.model {
            Model::Native(model) => model.forward(&texts, going, pool).unwrap_or(Err(Error::Cancelled)),
            Model::Packed(model) => pool(&model.forward(&texts)?),
            Model::Stock(model) => pool(&model.forward(&texts)?),
            Model::Static(table) => {
                let each = |(&text, sequence): (&usize, &&Sequence)| {
                    if !going() {
                        return Err(Error::Cancelled);
                    }
                    finite(text, self.look_up(table, sequence, output))
                };
                batch.iter().zip(&texts).map(each).collect()
            }
        }
    }

    fn look_up(&self, table: &Table, text: &Sequence, output: Output) -> Vec<f32> {
        match output {
            _ if text.is_empty() => self.of_nothing(output),
            // The head has one row left to pool.
            Output::Head => self.head.apply(&table.mean(&text.ids), table.dim()),
            Output::States => table.rows(&text.ids),
        }
    }

    fn of_nothing(&self, output: Output) -> Vec<f32> {
        match output {
            Output::Head => vec![0.0; self.dim()],
            Output::States => Vec::new(),
        }
    }

    fn finish(
        &self,
        states: &[f32],
        batch: &[usize],
        texts: &[&Sequence],
        output: Output,
    ) -> Result<Vec<Vec<f32>>> {
        let hidden = self.model.hidden();
        let mut rest = states;
        let mut vectors = Vec::with_capacity(batch.len());
        for (&text, sequence) in batch.iter().zip(texts) {
            let (rows, others) = rest.split_at(sequence.len() * hidden);
            rest = others;
            if sequence.is_empty() {
                vectors.push(self.of_nothing(output));
                continue;
            }
            let vector = match output {
                Output::Head => self.head.apply(rows, hidden),
                Output::States => rows.to_vec(),
            };
            vectors.push(finite(text, vector)?);
        }
        Ok(vectors)
    }
}

fn finite(text: usize, vector: Vec<f32>) -> Result<Vec<f32>> {
    if vector.iter().all(|x| x.is_finite()) { Ok(vector) } else { Err(Error::NotFinite { text }) }
}

pub(super) fn pool(threads: usize) -> Result<ThreadPool> {
    ThreadPoolBuilder::new()
        .num_threads(threads)
        .thread_name(|thread| format!("embed-wide-{thread}"))
        .build()
        .map_err(|error| Error::Compute { reason: error.to_string() })
}
