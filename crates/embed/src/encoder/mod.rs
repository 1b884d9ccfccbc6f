//! A sentence encoder: texts in, one vector each out.
//!
//! Texts are tokenized in parallel, sorted by length and packed into batches;
//! each batch runs on one thread of the encoder's own, all threads sharing one
//! copy of the weights. A call with one batch, such as a query, runs its matrix
//! products on all threads instead. candle and tokenizers appear only in this
//! folder.

mod batch;
mod bert;
mod distilbert;
mod files;
mod kernels;
mod native;
mod pooling;
mod roberta;
mod stock;
mod tokens;
mod transformer;
mod weights;

use std::path::Path;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use rayon::prelude::*;
use rayon::{ThreadPool, ThreadPoolBuilder};
use serde::{Deserialize, Serialize};

use self::files::Folder;
use self::kernels::Activation;
use self::native::Native;
pub use self::native::{Instructions, Precision};
use self::pooling::Pooling;
use self::stock::Stock;
use self::tokens::Tokens;
use self::transformer::{Config, PROBE, Transformer};
use self::weights::Weights;
use crate::{Error, Result};

/// How an [`Encoder`] uses the machine.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct EncoderOptions {
    /// A batch is closed before it exceeds this many tokens. Larger batches
    /// need more memory and gain nothing once the caches are full.
    pub max_batch_tokens: usize,
    /// Threads that compute; 0 is one for each core.
    pub threads: usize,
    /// Which implementation of the transformer runs.
    pub backend: Backend,
    /// How weights are kept and products computed; the native backend's.
    pub precision: Precision,
    /// The vector instructions used; the native backend's.
    pub instructions: Instructions,
}

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
    /// The ready-made model of candle-transformers, for BERT itself: the
    /// reference the others are tested against.
    Stock,
}

impl Default for EncoderOptions {
    fn default() -> Self {
        EncoderOptions {
            max_batch_tokens: 1024,
            threads: 0,
            backend: Backend::Native,
            precision: Precision::Auto,
            instructions: Instructions::Auto,
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

enum Model {
    Native(Native),
    Packed(Transformer),
    Stock(Stock),
}

impl Model {
    fn hidden(&self) -> usize {
        match self {
            Model::Native(model) => model.hidden(),
            Model::Packed(model) => model.hidden(),
            Model::Stock(model) => model.hidden(),
        }
    }

    fn forward(&self, texts: &[&[u32]]) -> Result<Vec<f32>> {
        match self {
            Model::Native(model) => {
                Ok(model.forward(texts, &mut || true, <[f32]>::to_vec).expect("nothing stops it"))
            }
            Model::Packed(model) => model.forward(texts),
            Model::Stock(model) => model.forward(texts),
        }
    }
}

/// A sentence encoder of the BERT family.
///
/// It can be shared between threads; calls at the same time share its threads.
pub struct Encoder {
    model: Model,
    tokens: Tokens,
    pooling: Pooling,
    max_tokens: usize,
    max_batch_tokens: usize,
    lower_case: bool,
    query_prompt: String,
    passage_prompt: String,
    /// One thread each: a batch runs on one of them.
    workers: Vec<ThreadPool>,
    /// All threads: tokenization, and a call with a single batch.
    wide: ThreadPool,
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
    ///
    /// # Errors
    /// One that names the file and the mend, when the folder is incomplete,
    /// damaged, or holds a model of another kind.
    pub fn load(dir: &Path, options: &EncoderOptions) -> Result<Encoder> {
        if options.max_batch_tokens == 0 {
            return Err(Error::Option { option: "max_batch_tokens", value: "0".into(), want: "1 or more" });
        }
        let folder = Folder::read(dir)?;
        let (config, names, prefix) = architecture(&folder.transformer)?;
        let tokens = Tokens::load(&folder.transformer, config.vocab)?;
        let model = match options.backend {
            Backend::Native => {
                let weights = Weights::open(&folder.transformer)?.under(prefix, PROBE);
                let (precision, instructions) = (options.precision, options.instructions);
                Model::Native(Native::load(&weights, &config, names, precision, instructions)?)
            }
            Backend::Packed => {
                let weights = Weights::open(&folder.transformer)?.under(prefix, PROBE);
                Model::Packed(Transformer::load(&weights, &config, names)?)
            }
            Backend::Stock => Model::Stock(Stock::load(&folder.transformer, &config, prefix)?),
        };

        let positions = config.positions.saturating_sub(config.first_position);
        let limits = [folder.max_seq_length, folder.model_max_length];
        let max_tokens = limits.into_iter().flatten().fold(positions, usize::min);
        if max_tokens <= tokens.special() {
            return Err(unsupported(
                "limit of tokens",
                max_tokens.to_string(),
                "more than the special tokens of the tokenizer",
            ));
        }

        let threads = match options.threads {
            0 => std::thread::available_parallelism().map_or(1, Into::into),
            threads => threads,
        };
        Ok(Encoder {
            model,
            tokens: tokens.limit(max_tokens),
            pooling: folder.pooling,
            max_tokens,
            max_batch_tokens: options.max_batch_tokens,
            lower_case: folder.lower_case,
            query_prompt: folder.query_prompt,
            passage_prompt: folder.passage_prompt,
            workers: (0..threads).map(|_| pool(1)).collect::<Result<_>>()?,
            wide: pool(threads)?,
        })
    }

    /// The dimensions of a vector.
    pub fn dim(&self) -> usize {
        self.pooling.dim(self.model.hidden())
    }

    /// The precision the model runs in: never [`Precision::Auto`].
    pub fn precision(&self) -> Precision {
        match &self.model {
            Model::Native(model) => model.precision(),
            Model::Packed(_) | Model::Stock(_) => Precision::F32,
        }
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
    /// # Errors
    /// [`Error::NotFinite`] if the model's weights are damaged.
    pub fn embed(&self, texts: &[&str], kind: TextKind) -> Result<Embeddings> {
        let ids = self.wide.install(|| {
            let each = texts.par_iter().enumerate().with_min_len(8);
            each.map(|(text, content)| {
                self.tokens
                    .ids(&self.prepare(content, kind))
                    .map_err(|reason| Error::Tokenize { text, reason })
            })
            .collect::<Result<Vec<_>>>()
        })?;
        let lengths: Vec<usize> = ids.iter().map(Vec::len).collect();
        let batches = batch::plan(&lengths, self.max_batch_tokens, self.workers.len());

        let mut vectors = vec![Vec::new(); texts.len()];
        for (batch, found) in batches.iter().zip(self.run(&ids, &batches)?) {
            for (&text, vector) in batch.iter().zip(found) {
                vectors[text] = vector;
            }
        }
        Ok(Embeddings { vectors, tokens: lengths.iter().sum() })
    }

    /// The tokens of the whole text, without special ones and not truncated.
    pub fn count_tokens(&self, text: &str) -> usize {
        self.tokens.count(text.trim())
    }

    fn prepare(&self, text: &str, kind: TextKind) -> String {
        let prompt = match kind {
            TextKind::Query => &self.query_prompt,
            TextKind::Passage => &self.passage_prompt,
        };
        // More than this is never tokenized, so it need not be copied.
        let mut end = text.len().min(tokens::MAX_READ + prompt.len());
        while !text.is_char_boundary(end) {
            end += 1;
        }
        let text = format!("{prompt}{}", &text[..end]);
        let text = text.trim();
        if self.lower_case { text.to_lowercase() } else { text.to_owned() }
    }

    /// The vectors of each batch.
    fn run(&self, ids: &[Vec<u32>], batches: &[Vec<usize>]) -> Result<Vec<Vec<Vec<f32>>>> {
        if let [only] = batches {
            return Ok(vec![self.wide.install(|| self.run_batch(ids, only))?]);
        }
        let next = AtomicUsize::new(0);
        let done = Mutex::new(Vec::with_capacity(batches.len()));
        let work = || {
            loop {
                let at = next.fetch_add(1, Ordering::Relaxed);
                let Some(batch) = batches.get(at) else { break };
                let found = self.run_batch(ids, batch);
                let failed = found.is_err();
                done.lock().expect("a push does not panic").push((at, found));
                if failed {
                    next.store(batches.len(), Ordering::Relaxed);
                }
            }
        };
        std::thread::scope(|scope| {
            for worker in self.workers.iter().take(batches.len()) {
                scope.spawn(|| worker.install(work));
            }
        });
        let mut done = done.into_inner().expect("no worker panicked");
        done.sort_unstable_by_key(|(at, _)| *at);
        done.into_iter().map(|(_, found)| found).collect()
    }

    fn run_batch(&self, ids: &[Vec<u32>], batch: &[usize]) -> Result<Vec<Vec<f32>>> {
        let texts: Vec<&[u32]> = batch.iter().map(|&text| &ids[text][..]).collect();
        let hidden = self.model.hidden();
        // A tokenizer without special tokens makes nothing of an empty text.
        if texts.iter().all(|ids| ids.is_empty()) {
            return Ok(vec![vec![0.0; self.dim()]; batch.len()]);
        }
        let states = self.model.forward(&texts)?;
        let mut rest = &states[..];
        let mut vectors = Vec::with_capacity(batch.len());
        for (&text, ids) in batch.iter().zip(&texts) {
            let (rows, others) = rest.split_at(ids.len() * hidden);
            rest = others;
            if ids.is_empty() {
                vectors.push(vec![0.0; self.dim()]);
                continue;
            }
            let vector = self.pooling.apply(rows, hidden);
            if !vector.iter().all(|x| x.is_finite()) {
                return Err(Error::NotFinite { text });
            }
            vectors.push(vector);
        }
        Ok(vectors)
    }
}

fn pool(threads: usize) -> Result<ThreadPool> {
    ThreadPoolBuilder::new()
        .num_threads(threads)
        .thread_name(|thread| format!("embed-{thread}"))
        .build()
        .map_err(|error| Error::Compute { reason: error.to_string() })
}

type Architecture = (Config, &'static transformer::LayerNames, &'static str);

/// The configuration, the names of the layers, and the name a body has inside
/// a model with a head.
fn architecture(folder: &Path) -> Result<Architecture> {
    #[derive(Deserialize)]
    struct Kind {
        model_type: Option<String>,
    }
    let kind: Kind = files::read_required(folder, "config.json")?;
    let kind = kind.model_type.unwrap_or_default();
    let found = match kind.as_str() {
        "bert" => (bert::config(folder)?, &bert::LAYER, "bert"),
        "roberta" | "xlm-roberta" | "camembert" => (roberta::config(folder)?, &bert::LAYER, "roberta"),
        "distilbert" => (distilbert::config(folder)?, &distilbert::LAYER, "distilbert"),
        _ => {
            return Err(unsupported("model_type", kind, "bert, roberta, xlm-roberta, camembert, distilbert"));
        }
    };
    let (hidden, heads) = (found.0.hidden, found.0.heads);
    if heads == 0 || hidden == 0 || hidden % heads != 0 {
        return Err(unsupported(
            "number of attention heads",
            heads.to_string(),
            "a divisor of the hidden size",
        ));
    }
    Ok(found)
}

fn activation(field: &str, name: &str) -> Result<Activation> {
    match name {
        "gelu" => Ok(Activation::Gelu),
        "gelu_new" | "gelu_fast" | "gelu_pytorch_tanh" => Ok(Activation::GeluTanh),
        "relu" => Ok(Activation::Relu),
        other => Err(unsupported(field, other.into(), "gelu, gelu_new, gelu_fast, gelu_pytorch_tanh, relu")),
    }
}

fn absolute(kind: Option<&str>) -> Result<()> {
    match kind {
        None | Some("absolute") => Ok(()),
        Some(other) => Err(unsupported("position_embedding_type", other.into(), "absolute")),
    }
}

fn unsupported(field: &str, value: String, supported: &'static str) -> Error {
    Error::Unsupported { file: "config.json".into(), field: field.into(), value, supported }
}
