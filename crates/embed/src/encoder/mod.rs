//! A sentence encoder: texts in, one vector each out.
//!
//! Texts are tokenized on the caller's threads and packed into batches; each
//! batch runs on one thread, all threads sharing one copy of the weights. Short
//! calls, such as queries, overtake the others (see `queue`). Static models, a
//! vector for each token, go the same ways. candle and tokenizers appear only in
//! this folder.

mod architecture;
mod attend;
mod batch;
mod bert;
mod cache;
pub(crate) mod classifier;
mod config;
mod device;
mod distilbert;
mod distill;
mod embedding;
mod files;
mod gte;
pub(crate) mod heads;
mod inputs;
mod kernels;
mod model2vec;
mod modernbert;
mod mpnet;
mod native;
mod nomic;
mod ops;
mod parts;
mod pca;
mod pickle;
mod pieces;
mod pooling;
mod queue;
mod qwen;
mod reach;
mod relative;
mod reranker;
mod roberta;
mod rotary;
mod runner;
mod safe;
mod stock;
mod table;
mod tensors;
mod tokens;
mod torch;
mod transformer;
pub(crate) mod weights;

use std::path::Path;

use rayon::ThreadPool;
use rayon::prelude::*;
use serde::{Deserialize, Serialize};

use self::architecture::Architecture;
use self::cache::{Cache, Known};
pub use self::device::Device;
use self::device::Place;
pub use self::distill::{DistillOptions, Distilled};
use self::files::Folder;
use self::heads::{Feed, HeadSet, Loading, Numbers};
pub use self::heads::{HeadEmbeddings, Heads, SparseEmbeddings, SparseVector};
pub use self::inputs::{Input, Token, TokenEmbeddings};
use self::model2vec::Static;
pub use self::native::{Instructions, Precision};
pub use self::queue::Cancel;
use self::queue::{Call, Queue};
pub use self::reranker::{Predictions, Reranker, Scores};
use self::runner::{Head, Model, Output, Runner};
use self::tokens::{Sequence, Tokens};
use self::weights::Weights;
use crate::builtin::{self, BUILTIN_MODEL};
use crate::{Error, Result};

/// How an [`Encoder`] uses the machine.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct EncoderOptions {
    /// Where models run.
    pub device: Device,
    /// A batch is closed before it exceeds this many tokens. Larger batches
    /// need more memory and gain nothing once the caches are full.
    pub max_batch_tokens: usize,
    /// The same on a GPU, which has more to do at once.
    pub gpu_batch_tokens: usize,
    /// Threads that compute; 0 is one for each core.
    pub threads: usize,
    /// Which implementation of the transformer runs; on a GPU it is the one of
    /// tensors.
    pub backend: Backend,
    /// How weights are kept and products computed; the native backend's, and on
    /// a GPU.
    pub precision: Precision,
    /// The vector instructions used; the native backend's.
    pub instructions: Instructions,
    /// Calls that may wait for a thread; one more is refused.
    pub max_waiting: usize,
    /// Memory for the vectors of texts embedded before, by the hash of the
    /// text; 0 keeps none. It pays where the same queries come again.
    pub cache_bytes: usize,
}

/// A call with at most this many tokens is short: it overtakes others.
const SHORT_TOKENS: usize = 256;

/// The same for a static model, to which a token costs next to nothing.
const SHORT_STATIC_TOKENS: usize = 4096;

/// Tokens of a static model's batch, some milliseconds of work.
const STATIC_BATCH_TOKENS: usize = 1 << 16;

/// An implementation of the transformer. All give the same vectors, but for
/// what their precision rounds away.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Backend {
    /// Kernels of our own over weights packed once, in the precision asked for.
    #[default]
    Native,
    /// Texts packed without padding as in the native one, matrix products by
    /// candle, all in f32.
    Packed,
    /// Plain operations of candle, which every device has, in f32, bf16 or f16:
    /// what runs on a GPU.
    Tensors,
    /// The ready-made model of candle-transformers, for BERT itself: the
    /// reference the others are tested against.
    Stock,
}

impl Default for EncoderOptions {
    fn default() -> Self {
        EncoderOptions {
            device: Device::Auto,
            max_batch_tokens: 1024,
            gpu_batch_tokens: 16_384,
            threads: 0,
            backend: Backend::Native,
            precision: Precision::Auto,
            instructions: Instructions::Auto,
            max_waiting: 1024,
            cache_bytes: 0,
        }
    }
}

impl EncoderOptions {
    fn check(&self) -> Result<()> {
        if self.max_batch_tokens == 0 {
            return Err(Error::Option { option: "max_batch_tokens", value: "0".into(), want: "1 or more" });
        }
        if self.gpu_batch_tokens == 0 {
            return Err(Error::Option { option: "gpu_batch_tokens", value: "0".into(), want: "1 or more" });
        }
        Ok(())
    }

    /// The tokens of a batch, on a GPU or not.
    fn batch_tokens(&self, gpu: bool) -> usize {
        if gpu { self.gpu_batch_tokens } else { self.max_batch_tokens }
    }

    fn threads(&self) -> usize {
        match self.threads {
            0 => std::thread::available_parallelism().map_or(1, Into::into),
            threads => threads,
        }
    }
}

/// What a text is: some models want a different prompt before each.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum TextKind {
    /// Something to look for.
    Query,
    /// Something to be found.
    Passage,
}

/// The result of [`Encoder::embed`].
#[derive(Debug, Clone, PartialEq)]
pub struct Embeddings {
    /// A vector for each text, in the order of the texts.
    pub vectors: Vec<Vec<f32>>,
    /// The tokens the model was fed, special ones included, after truncation.
    pub tokens: usize,
}

/// A sentence encoder, or a static model.
///
/// It can be shared between threads; calls at the same time share its threads.
pub struct Encoder {
    queue: Queue,
    cache: Option<Cache>,
    tokens: Tokens,
    max_tokens: usize,
    batch_tokens: usize,
    /// A call with at most this many tokens is short.
    short_tokens: usize,
    threads: usize,
    lower_case: bool,
    query_prompt: String,
    passage_prompt: String,
    pooling: String,
    heads: Heads,
    /// How texts are fed to a late-interaction model.
    feed: Option<Feed>,
    /// Tokenization of calls with many texts.
    tokenizing: ThreadPool,
}

impl Encoder {
    /// Loads an encoder from a local folder.
    ///
    /// The folder has `config.json`, `tokenizer.json` and `model.safetensors`,
    /// and may have the files of sentence-transformers: `modules.json`,
    /// `1_Pooling/config.json`, `sentence_bert_config.json`,
    /// `tokenizer_config.json`, `config_sentence_transformers.json`. Pooling,
    /// normalization, limits and prompts are what these say. Without
    /// `modules.json` the vector is the mean of all tokens, not normalized.
    /// Models for sparse vectors and late interaction are told by their modules,
    /// their architecture or the files beside them; see [`Encoder::heads`].
    ///
    /// A static model is a folder in the layout of model2vec: `config.json` with
    /// that as its `model_type`, and in `model.safetensors` a tensor
    /// `embeddings`. A vector is the weighted mean of the rows of a text's
    /// tokens, without special and unknown ones; of a text that has no others it
    /// is zero. The backend and the precision do not matter.
    ///
    /// # Errors
    /// One that names the file and the mend, when the folder is incomplete,
    /// damaged, or holds a model of another kind.
    pub fn load(dir: &Path, options: &EncoderOptions) -> Result<Encoder> {
        options.check()?;
        if let Some(model) = model2vec::open(dir)? {
            return Encoder::load_static(dir, model, options);
        }
        let folder = Folder::read(dir)?;
        let architecture = Architecture::read(&folder.transformer)?;
        let folder = folder.or_prompts(architecture.family.prompts());
        let tokens = Tokens::load(&folder.transformer, architecture.config.vocab)?;
        let weights = Weights::open(&folder.transformer)?;
        let limits = [folder.max_seq_length, folder.model_max_length];
        let mut max_tokens = architecture.max_tokens(&limits, tokens.special())?;
        let place = Place::choose(options, &architecture.config)?;
        let loading = Loading {
            root: dir,
            folder: &folder.transformer,
            weights: &weights,
            of: &architecture,
            tokens: &tokens,
            maker: (),
        };
        let feed = loading.feed(&folder.heads, max_tokens)?;
        if let Some(feed) = &feed {
            max_tokens = feed.max(TextKind::Passage);
        }
        let (files, pooling) = (&folder.heads, folder.pooling.clone());
        let parts = match place {
            None => {
                let (head, others) = Head::load(&loading.with(Numbers::of(options)?), files, pooling)?;
                (Model::load(weights, &folder.transformer, &architecture, options)?, head, others)
            }
            Some(place) => {
                let heads = Head::load(&loading.with(place.clone()), files, pooling)?;
                let model = Model::on(place, weights, &architecture, heads, options)?;
                (model, Head::Nothing, HeadSet::default())
            }
        };
        let tokens = tokens.limit(max_tokens);
        Ok(Encoder { feed, ..Encoder::start(folder, parts, tokens, options)? })
    }

    /// The model that is compiled in, by its name or another one it goes by;
    /// nothing for any other name, and if it was left out.
    ///
    /// # Errors
    /// [`Error::Option`] for options that cannot be used.
    ///
    /// ```
    /// use cairn_embed::{BUILTIN_MODEL, Encoder, EncoderOptions, TextKind};
    ///
    /// if let Some(encoder) = Encoder::built_in(BUILTIN_MODEL, &EncoderOptions::default())? {
    ///     let found = encoder.embed(&["no download"], TextKind::Passage)?;
    ///     assert_eq!(found.vectors[0].len(), 256);
    /// }
    /// # Ok::<(), cairn_embed::Error>(())
    /// ```
    pub fn built_in(name: &str, options: &EncoderOptions) -> Result<Option<Encoder>> {
        options.check()?;
        if !crate::store::is_built_in(name) {
            return Ok(None);
        }
        let file = |path: &str| {
            let missing = || Error::MissingFile { folder: BUILTIN_MODEL.into(), file: path.into() };
            builtin::file(path).ok_or_else(missing)
        };
        let within = |path: &str| Path::new(BUILTIN_MODEL).join(path);
        let config = serde_json::from_slice(file("config.json")?)
            .map_err(|source| Error::Json { path: within("config.json"), source })?;
        let model = model2vec::read(&config, file(weights::FILE)?, &within(weights::FILE))?;
        let tokenizer = "tokenizer.json";
        let tokens = Tokens::bare(&within(tokenizer), file(tokenizer)?, model.table.tokens())?;
        Encoder::start_static(Folder::none(model.normalize), tokens, model, options).map(Some)
    }

    fn load_static(dir: &Path, model: Static, options: &EncoderOptions) -> Result<Encoder> {
        let folder = Folder::read_static(dir, model.normalize)?;
        let tokens = Tokens::load_bare(dir, model.table.tokens())?;
        Encoder::start_static(folder, tokens, model, options)
    }

    fn start_static(
        folder: Folder,
        tokens: Tokens,
        model: Static,
        options: &EncoderOptions,
    ) -> Result<Encoder> {
        // A token is of a byte or more: what is read of a text is a limit, too.
        let max_tokens = folder.model_max_length.unwrap_or(tokens::MAX_READ).min(tokens::MAX_READ);
        let head = Head::Pool(folder.pooling.clone());
        let parts = (Model::Static(model.table), head, HeadSet::default());
        let encoder = Encoder::start(folder, parts, tokens.limit(max_tokens), options)?;
        let batch_tokens = options.max_batch_tokens.max(STATIC_BATCH_TOKENS);
        Ok(Encoder { batch_tokens, short_tokens: SHORT_STATIC_TOKENS, ..encoder })
    }

    fn start(
        folder: Folder,
        (model, head, others): (Model, Head, HeadSet),
        tokens: Tokens,
        options: &EncoderOptions,
    ) -> Result<Encoder> {
        let threads = options.threads();
        let runner = Runner::new(model, head, threads)?.with(others);
        let heads = runner.heads(folder.heads.dense);
        let pooling = match heads {
            Heads { dense: true, .. } => folder.pooling.name(),
            Heads { sparse: true, .. } => "splade".to_owned(),
            Heads { .. } => "none".to_owned(),
        };
        let gpu = runner.device() != Device::Cpu;
        // A GPU has one queue of its own; batches in turn leave no gaps there.
        let workers = if gpu { 1 } else { threads };
        Ok(Encoder {
            queue: Queue::start(runner, workers, options.max_waiting)?,
            cache: Cache::new(options.cache_bytes),
            threads: workers,
            max_tokens: tokens.max(),
            tokens,
            batch_tokens: options.batch_tokens(gpu),
            short_tokens: SHORT_TOKENS,
            lower_case: folder.lower_case,
            query_prompt: folder.query_prompt,
            passage_prompt: folder.passage_prompt,
            pooling,
            heads,
            feed: None,
            tokenizing: runner::pool(threads)?,
        })
    }

    /// The dimensions of a vector; 0 if the model makes no dense ones.
    pub fn dim(&self) -> usize {
        self.queue.runner().dim()
    }

    /// The precision the model runs in: never [`Precision::Auto`].
    pub fn precision(&self) -> Precision {
        self.queue.runner().precision()
    }

    /// Where the model runs: never [`Device::Auto`].
    pub fn device(&self) -> Device {
        self.queue.runner().device()
    }

    /// How the vectors of tokens become that of a text: `cls`, `max`, `mean`,
    /// `mean_sqrt_len_tokens`, `weightedmean`, `lasttoken`, or several of them joined by `+`.
    /// Of a model without dense vectors `splade`, or `none`.
    pub fn pooling(&self) -> &str {
        &self.pooling
    }

    /// The tokens of a text the model sees, special ones included. The rest of
    /// a longer text is not read.
    pub fn max_tokens(&self) -> usize {
        self.max_tokens
    }

    /// The vectors of any number of texts, in their order.
    ///
    /// A text longer than [`Encoder::max_tokens`] is cut there; of a text the
    /// first 1 MiB is looked at. White space around a text does not count. An
    /// empty text has a vector too, of its special tokens.
    ///
    /// Calls at the same time share the encoder's threads; a short one, such as
    /// a query, overtakes the others.
    ///
    /// # Errors
    /// [`Error::NotFinite`] if the model's weights are damaged; [`Error::Busy`]
    /// if [`EncoderOptions::max_waiting`] calls wait already; [`Error::NoHead`]
    /// if the model makes other vectors than dense ones (see [`Encoder::heads`]).
    pub fn embed(&self, texts: &[&str], kind: TextKind) -> Result<Embeddings> {
        self.embed_until(texts, kind, &Cancel::new())
    }

    /// As [`Encoder::embed`], for a caller that may go away: once `cancel` is
    /// set, no more is computed than what is under way.
    ///
    /// # Errors
    /// Those of [`Encoder::embed`], and [`Error::Cancelled`].
    ///
    /// ```no_run
    /// # use cairn_embed::{Cancel, Encoder, Error, TextKind};
    /// # fn run(encoder: &Encoder, texts: &[&str]) {
    /// let cancel = Cancel::new();
    /// let other = cancel.clone();
    /// std::thread::scope(|scope| {
    ///     scope.spawn(move || other.cancel());
    ///     let found = encoder.embed_until(texts, TextKind::Passage, &cancel);
    ///     assert!(found.is_ok() || matches!(found, Err(Error::Cancelled)));
    /// });
    /// # }
    /// ```
    pub fn embed_until(&self, texts: &[&str], kind: TextKind, cancel: &Cancel) -> Result<Embeddings> {
        let Some(cache) = &self.cache else {
            return self
                .compute(texts, kind, cancel)
                .map(|(vectors, lengths)| Embeddings { vectors, tokens: lengths.iter().sum() });
        };
        let keys: Vec<_> = texts.iter().map(|text| Cache::key(text, kind)).collect();
        let mut known: Vec<_> = keys.iter().map(|key| cache.get(key)).collect();
        let missing: Vec<usize> = (0..texts.len()).filter(|&text| known[text].is_none()).collect();
        let unknown: Vec<&str> = missing.iter().map(|&text| texts[text]).collect();
        let (vectors, lengths) = self.compute(&unknown, kind, cancel)?;
        for ((&text, vector), tokens) in missing.iter().zip(vectors).zip(lengths) {
            let found = Known { vector, tokens };
            cache.put(keys[text], found.clone());
            known[text] = Some(found);
        }
        let known: Vec<Known> = known.into_iter().flatten().collect();
        Ok(Embeddings {
            tokens: known.iter().map(|known| known.tokens).sum(),
            vectors: known.into_iter().map(|known| known.vector).collect(),
        })
    }

    /// The vectors of the texts, and the tokens of each.
    fn compute(
        &self,
        texts: &[&str],
        kind: TextKind,
        cancel: &Cancel,
    ) -> Result<(Vec<Vec<f32>>, Vec<usize>)> {
        self.heads.check(Heads::DENSE)?;
        if texts.len() > pieces::PIECE && self.queue.runner().is_on_device() {
            return self.compute_in_pieces(texts, kind, cancel);
        }
        let ids = self.ids(texts, kind, cancel)?;
        let (batches, short, lengths) = self.plan(&ids);
        let vectors = self.queue.run(Call::new(ids, Output::Head, batches, cancel.clone()), short)?;
        Ok((vectors, lengths))
    }

    /// How texts are put into batches, whether together they are short, and
    /// the tokens of each.
    fn plan(&self, texts: &[Sequence]) -> (Vec<Vec<usize>>, bool, Vec<usize>) {
        let lengths: Vec<usize> = texts.iter().map(Sequence::len).collect();
        let short = lengths.iter().sum::<usize>() <= self.short_tokens;
        // A short call is one batch, on one thread.
        let threads = if short { 1 } else { self.threads };
        (batch::plan(&lengths, self.batch_tokens, threads), short, lengths)
    }

    fn ids(&self, texts: &[&str], kind: TextKind, cancel: &Cancel) -> Result<Vec<Sequence>> {
        let each = |(text, content): (usize, &&str)| {
            cancel.check()?;
            let ids = self.tokens.ids(&self.prepare(content, kind));
            ids.map_err(|reason| Error::Tokenize { text, reason })
        };
        // Other threads are worth waking for some hundred microseconds of work.
        if texts.len() <= 16 {
            return texts.iter().enumerate().map(each).collect();
        }
        self.tokenizing.install(|| texts.par_iter().enumerate().with_min_len(8).map(each).collect())
    }

    /// The tokens of the whole text, without special ones and not truncated.
    pub fn count_tokens(&self, text: &str) -> usize {
        self.tokens.count(text.trim())
    }

    fn prompt(&self, kind: TextKind) -> &str {
        match kind {
            TextKind::Query => &self.query_prompt,
            TextKind::Passage => &self.passage_prompt,
        }
    }

    /// The end of a text that may be too long.
    fn prepare_end(&self, text: &str, kind: TextKind) -> String {
        let mut start = text.len().saturating_sub(tokens::MAX_READ);
        while !text.is_char_boundary(start) {
            start += 1;
        }
        self.prepare(&text[start..], kind)
    }

    fn prepare(&self, text: &str, kind: TextKind) -> String {
        let prompt = self.prompt(kind);
        // More than this is never tokenized, so it need not be copied.
        let mut end = text.len().min(tokens::MAX_READ + prompt.len());
        while !text.is_char_boundary(end) {
            end += 1;
        }
        let text = format!("{prompt}{}", &text[..end]);
        let text = text.trim();
        if self.lower_case { text.to_lowercase() } else { text.to_owned() }
    }
}
