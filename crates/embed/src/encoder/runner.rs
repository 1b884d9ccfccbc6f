//! A batch of token ids to vectors, on the thread that calls.

use std::path::Path;

use rayon::{ThreadPool, ThreadPoolBuilder};

use super::architecture::Architecture;
use super::classifier::Classifier;
use super::device::{Device, Place};
use super::heads::{Dense, HeadFiles, HeadSet, Heads, Layer, Loading, Maker, SparseVector};
use super::kernels;
use super::native::{Linear, Native, Precision};
use super::pooling::Pooling;
use super::queue::lower_priority;
use super::stock::Stock;
use super::table::Table;
use super::tensors::{Finish, Tensors};
use super::tokens::Sequence;
use super::transformer::Transformer;
use super::weights::Weights;
use super::{Backend, EncoderOptions, TextKind, tensors};
use crate::{Error, Result};

pub(super) enum Model {
    Native(Native),
    Packed(Transformer),
    Stock(Stock),
    /// With heads of its own.
    Tensors(Box<Tensors>),
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
        let weights = body(weights, of);
        Ok(match options.backend {
            // Without a place for tensors the options name another backend.
            Backend::Native | Backend::Tensors => {
                let (precision, instructions) = (options.precision, options.instructions);
                Model::Native(Native::load(&weights, config, names, precision, instructions)?)
            }
            Backend::Packed => Model::Packed(Transformer::load(&weights, config, names)?),
            Backend::Stock => Model::Stock(Stock::load(folder, config, of.family)?),
        })
    }

    /// The same on a device, with its heads.
    pub(super) fn on(
        place: Place,
        weights: Weights,
        of: &Architecture,
        heads: (Head<tensors::Linear>, HeadSet<tensors::Linear>),
        options: &EncoderOptions,
    ) -> Result<Model> {
        let budget = options.batch_tokens(place.is_gpu());
        let finish = Finish::on(heads.0, &place)?;
        let weights = body(weights, of);
        let model = Tensors::load(&weights, &of.config, of.names, place, (finish, heads.1), budget)?;
        Ok(Model::Tensors(Box::new(model)))
    }

    fn hidden(&self) -> usize {
        match self {
            Model::Tensors(model) => model.hidden(),
            Model::Native(model) => model.hidden(),
            Model::Packed(model) => model.hidden(),
            Model::Stock(model) => model.hidden(),
            Model::Static(table) => table.dim(),
        }
    }
}

/// The weights of a model without its heads.
fn body(weights: Weights, of: &Architecture) -> Weights {
    let under = |weights: Weights, prefix: &&str| weights.under(prefix, of.names.word);
    of.family.prefixes().iter().fold(weights, under)
}

/// What becomes of the states of a text.
pub(super) enum Head<L: Layer = Linear> {
    Pool(Pooling),
    /// Layers after the pooling, and whether the vector then gets length 1.
    Project(Pooling, Vec<Dense<L>>, bool),
    Classify(Classifier),
    /// None: the model has other heads.
    Nothing,
}

impl<L: Layer> Head<L> {
    /// What becomes of states by the files of a model, for one vector, and what
    /// else it makes.
    pub(super) fn load<M: Maker<Linear = L>>(
        loading: &Loading<'_, M>,
        files: &HeadFiles,
        mut pooling: Pooling,
    ) -> Result<(Head<L>, HeadSet<L>)> {
        let others = loading.heads(files)?;
        let head = if !files.dense {
            Head::Nothing
        } else if files.layers.is_empty() {
            Head::Pool(pooling)
        } else {
            let layers = loading.layers(files, pooling.dim(loading.of.config.hidden))?;
            let normalize = std::mem::take(&mut pooling.normalize);
            Head::Project(pooling, layers, normalize)
        };
        Ok((head, others))
    }
}

impl Head {
    fn dim(&self, hidden: usize) -> usize {
        match self {
            Head::Pool(pooling) => pooling.dim(hidden),
            Head::Project(pooling, layers, _) => {
                layers.last().map_or_else(|| pooling.dim(hidden), Dense::outputs)
            }
            Head::Classify(classifier) => classifier.labels(),
            Head::Nothing => 0,
        }
    }

    fn apply(&self, rows: &[f32], hidden: usize) -> Vec<f32> {
        match self {
            Head::Pool(pooling) => pooling.apply(rows, hidden),
            Head::Project(pooling, layers, normalize) => {
                let pooled = pooling.apply(rows, hidden);
                let mut vector = layers.iter().fold(pooled, |vector, layer| layer.apply(&vector));
                if *normalize {
                    kernels::normalize(&mut vector);
                }
                vector
            }
            Head::Classify(classifier) => classifier.apply(rows, hidden),
            Head::Nothing => Vec::new(),
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
    /// What several heads make, of texts of this kind.
    Heads(Heads, TextKind),
}

/// What came of a text; what was not asked for is empty.
#[derive(Debug, Clone, Default)]
pub(super) struct Made {
    /// The vector of the head, or the states.
    pub(super) vector: Vec<f32>,
    pub(super) sparse: SparseVector,
    /// The vectors of tokens, one after the other.
    pub(super) rows: Vec<f32>,
}

/// A model with what becomes of its states.
pub(super) struct Runner {
    model: Model,
    head: Head,
    /// The heads beside it.
    others: HeadSet,
    /// All threads, for models whose products use more than one.
    wide: Option<ThreadPool>,
}

impl Runner {
    pub(super) fn new(model: Model, head: Head, threads: usize) -> Result<Runner> {
        let wide = match model {
            Model::Native(_) | Model::Static(_) | Model::Tensors(_) => None,
            Model::Packed(_) | Model::Stock(_) => Some(pool(threads)?),
        };
        Ok(Runner { model, head, others: HeadSet::default(), wide })
    }

    /// The same with more heads.
    pub(super) fn with(self, others: HeadSet) -> Runner {
        Runner { others, ..self }
    }

    /// The dimensions of a token's vector; 0 without a head for those.
    pub(super) fn multi_dim(&self) -> usize {
        match &self.model {
            Model::Tensors(model) => model.multi_dim(),
            model => self.others.multi_dim(model.hidden()),
        }
    }

    /// What the model makes, given whether it pools.
    pub(super) fn heads(&self, dense: bool) -> Heads {
        match &self.model {
            Model::Tensors(model) => model.heads(dense),
            _ => self.others.heads(dense),
        }
    }

    /// Where the model runs.
    pub(super) fn device(&self) -> Device {
        match &self.model {
            Model::Tensors(model) => model.device(),
            _ => Device::Cpu,
        }
    }

    /// The dimensions of a vector.
    pub(super) fn dim(&self) -> usize {
        match &self.model {
            Model::Tensors(model) => model.dim(),
            model => self.head.dim(model.hidden()),
        }
    }

    /// The dimensions of a token's state.
    pub(super) fn hidden(&self) -> usize {
        self.model.hidden()
    }

    pub(super) fn precision(&self) -> Precision {
        match &self.model {
            Model::Native(model) => model.precision(),
            Model::Tensors(model) => model.precision(),
            Model::Packed(_) | Model::Stock(_) | Model::Static(_) => Precision::F32,
        }
    }

    /// Whether the model is in tensors, as on a GPU.
    pub(super) fn is_on_device(&self) -> bool {
        matches!(self.model, Model::Tensors(_))
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

    /// The vectors of a batch. `going` is asked now and then whether to go on.
    ///
    /// # Errors
    /// [`Error::Cancelled`] when `going` says no; [`Error::NotFinite`] with the place
    /// in the batch.
    pub(super) fn vectors(
        &self,
        texts: &[&Sequence],
        output: Output,
        going: &mut dyn FnMut() -> bool,
    ) -> Result<Vec<Made>> {
        // A tokenizer without special tokens makes nothing of an empty text.
        if texts.iter().all(|text| text.is_empty()) {
            return Ok(vec![self.of_nothing(output); texts.len()]);
        }
        let finish =
            |states: &[f32], going: &mut dyn FnMut() -> bool| self.finish(states, texts, output, going);
        match &self.model {
            Model::Native(model) => model.forward(texts, going, finish).unwrap_or(Err(Error::Cancelled)),
            Model::Tensors(model) => self.on_device(model, texts, output, going),
            Model::Packed(model) => finish(&model.forward(texts)?, going),
            Model::Stock(model) => finish(&model.forward(texts)?, going),
            Model::Static(table) => {
                let each = |(text, sequence): (usize, &&Sequence)| {
                    if !going() {
                        return Err(Error::Cancelled);
                    }
                    finite(text, self.look_up(table, sequence, output))
                };
                texts.iter().enumerate().map(each).collect()
            }
        }
    }

    fn on_device(
        &self,
        model: &Tensors,
        texts: &[&Sequence],
        output: Output,
        going: &mut dyn FnMut() -> bool,
    ) -> Result<Vec<Made>> {
        let some: Vec<&Sequence> = texts.iter().copied().filter(|text| !text.is_empty()).collect();
        let mut made = model.run(&some, output, going)?.into_iter();
        let each = |(text, sequence): (usize, &&Sequence)| {
            let found = if sequence.is_empty() { None } else { made.next() };
            found.map_or_else(|| Ok(self.of_nothing(output)), |made| finite(text, made))
        };
        texts.iter().enumerate().map(each).collect()
    }

    fn look_up(&self, table: &Table, text: &Sequence, output: Output) -> Made {
        let vector = match output {
            _ if text.is_empty() => return self.of_nothing(output),
            // The head has one row left to pool.
            Output::Head | Output::Heads(..) => self.head.apply(&table.mean(&text.ids), table.dim()),
            Output::States => table.rows(&text.ids),
        };
        Made { vector, ..Made::default() }
    }

    fn of_nothing(&self, output: Output) -> Made {
        let vector = match output {
            Output::Head | Output::Heads(Heads { dense: true, .. }, _) => vec![0.0; self.dim()],
            Output::States | Output::Heads(..) => Vec::new(),
        };
        Made { vector, ..Made::default() }
    }

    fn finish(
        &self,
        states: &[f32],
        texts: &[&Sequence],
        output: Output,
        going: &mut dyn FnMut() -> bool,
    ) -> Result<Vec<Made>> {
        let hidden = self.model.hidden();
        let mut rest = states;
        let mut vectors = Vec::with_capacity(texts.len());
        for (text, sequence) in texts.iter().enumerate() {
            let (rows, others) = rest.split_at(sequence.len() * hidden);
            rest = others;
            if sequence.is_empty() {
                vectors.push(self.of_nothing(output));
                continue;
            }
            let mut made = Made::default();
            match output {
                Output::Head => made.vector = self.head.apply(rows, hidden),
                Output::States => made.vector = rows.to_vec(),
                Output::Heads(wanted, kind) => {
                    if wanted.dense {
                        made.vector = self.head.apply(rows, hidden);
                    }
                    if !self.others.apply(sequence, rows, (wanted, kind), &mut made, going) {
                        return Err(Error::Cancelled);
                    }
                }
            }
            vectors.push(finite(text, made)?);
        }
        Ok(vectors)
    }
}

fn finite(text: usize, made: Made) -> Result<Made> {
    let mut all = made.vector.iter().chain(&made.sparse.values).chain(&made.rows);
    if all.all(|x| x.is_finite()) { Ok(made) } else { Err(Error::NotFinite { text }) }
}

pub(super) fn pool(threads: usize) -> Result<ThreadPool> {
    ThreadPoolBuilder::new()
        .num_threads(threads)
        .thread_name(|thread| format!("embed-wide-{thread}"))
        .start_handler(|_| lower_priority())
        .build()
        .map_err(|error| Error::Compute { reason: error.to_string() })
}
