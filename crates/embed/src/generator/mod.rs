//! A language model from a GGUF file: a prompt in, text out, token by token.
//!
//! [`Generator`] puts together what its files each do: `table` looks a file over,
//! `gguf` reads it, `config` what it says, `decoder` computes over a `cache` of what
//! was read, each `product` by several threads, `slots` says whose turn it is,
//! `template` and `tokens` make ids of a conversation, `sampling` takes the next one
//! and `text` makes text of them. candle, tokenizers and the template engine stay in
//! this folder and the encoder's.

mod cache;
mod config;
mod decoder;
mod gguf;
mod product;
mod rope;
mod sampling;
mod slots;
mod table;
mod template;
mod text;
mod tokens;
mod vocabulary;

use std::ops::ControlFlow;
use std::path::{Path, PathBuf};

use candle_core::Tensor;
use serde::{Deserialize, Serialize};

use self::cache::Cache;
use self::config::Config;
use self::decoder::Decoder;
use self::gguf::Gguf;
use self::product::Threads;
use self::sampling::Sampler;
pub use self::sampling::Sampling;
use self::slots::Slots;
pub use self::template::ChatMessage;
use self::template::Template;
use self::text::Text;
use self::tokens::Tokens;
use crate::encoder::Cancel;
use crate::{Error, Result};

/// Tokens of a prompt that are read in one go; between two of these a call can be
/// cancelled.
const STRETCH: usize = 128;

/// How a [`Generator`] uses the machine.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct GeneratorOptions {
    /// Tokens of a prompt and its answer at most; 0, or more than the model was
    /// made for, is what it was made for. Memory grows with what is used.
    pub context_tokens: usize,
    /// Prompts whose reading is kept, so that one with the same beginning goes on
    /// from there; as many calls run at a time.
    pub prompts: usize,
    /// Calls that may wait for another to end; one more is refused.
    pub max_waiting: usize,
    /// Threads that the calls share; 0 is one for each core that this process may
    /// use. Where candle has threads of its own these are used: it has, unless
    /// `CANDLE_NUM_THREADS` is 1 when it first computes something.
    pub threads: usize,
}

impl Default for GeneratorOptions {
    fn default() -> Self {
        GeneratorOptions { context_tokens: 8192, prompts: 2, max_waiting: 64, threads: 0 }
    }
}

/// What a text begins with.
#[derive(Debug, Clone, Copy)]
pub enum Prompt<'p> {
    /// A conversation, which the model's chat template makes a text of. What
    /// looks like a mark of the template inside a message is ordinary text.
    Chat(&'p [ChatMessage]),
    /// A text as it is, marks included.
    Text(&'p str),
    /// Token ids as they are.
    Tokens(&'p [u32]),
}

/// Why a text ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Finish {
    /// The model ended it, or a stop sequence came.
    Stop,
    /// It reached `max_tokens`, or the context was full.
    Length,
}

/// The result of [`Generator::generate`].
#[derive(Debug, Clone, PartialEq)]
pub struct Generated {
    /// The text that was written.
    pub text: String,
    /// Its tokens, without the one that ended it.
    pub tokens: Vec<u32>,
    /// Why it ended.
    pub finish: Finish,
    /// Tokens of the prompt.
    pub prompt_tokens: usize,
    /// Of these, those that had been read for an earlier prompt.
    pub cached_tokens: usize,
}

/// Hears the pieces of a text as they come. An empty piece means that there is
/// none yet; a break ends the call.
pub type OnPiece<'f> = dyn FnMut(&str) -> ControlFlow<()> + 'f;

/// A language model of the families Llama, Mistral, Qwen, Phi and Gemma.
///
/// It can be shared between threads.
pub struct Generator {
    path: PathBuf,
    decoder: Decoder,
    tokens: Tokens,
    template: Template,
    slots: Slots,
}

impl Generator {
    /// Loads a model from a `.gguf` file; [`ModelStore::find_gguf`] finds one.
    ///
    /// A `tokenizer.json` beside the file is used before the tokenizer in it, the
    /// chat template in the file before those beside it (`chat_template.jinja`,
    /// `tokenizer_config.json`).
    ///
    /// [`ModelStore::find_gguf`]: crate::ModelStore::find_gguf
    ///
    /// # Errors
    /// [`Error::Gguf`], [`Error::GgufField`] and [`Error::Unsupported`] name the
    /// file, and the field where there is one.
    pub fn load(path: &Path, options: &GeneratorOptions) -> Result<Generator> {
        if options.prompts == 0 {
            return Err(Error::Option { option: "prompts", value: "0".into(), want: "1 or more" });
        }
        let mut gguf = Gguf::open(path)?;
        let config = Config::read(&mut gguf, options.context_tokens)?;
        let tokens = Tokens::load(&gguf, config.vocabulary)?;
        let template = Template::load(&gguf, tokens.begin_and_end())?;
        let decoder = Decoder::load(&mut gguf, config, Threads::new(options.threads)?)?;
        let slots = Slots::new(options.prompts, options.max_waiting);
        let path = path.to_owned();
        Ok(Generator { path, decoder, tokens, template, slots })
    }

    /// The file of the model.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The architecture, as the file names it.
    pub fn architecture(&self) -> &str {
        &self.decoder.config.architecture
    }

    /// Tokens of a prompt and its answer at most.
    pub fn context_tokens(&self) -> usize {
        self.decoder.config.context
    }

    /// The text that a conversation becomes.
    ///
    /// # Errors
    /// [`Error::ChatTemplate`] if the model's template refuses it.
    pub fn render(&self, messages: &[ChatMessage]) -> Result<String> {
        let messages: Vec<ChatMessage> = messages
            .iter()
            .map(|message| ChatMessage::new(message.role.as_str(), self.tokens.harmless(&message.content)))
            .collect();
        self.template.render(&messages)
    }

    /// The token ids of a prompt, with the one that texts of the model begin with.
    ///
    /// # Errors
    /// [`Error::ChatTemplate`], [`Error::Tokenize`], or [`Error::TokenId`] for an
    /// id that is none.
    pub fn tokenize(&self, prompt: Prompt<'_>) -> Result<Vec<u32>> {
        match prompt {
            Prompt::Chat(messages) => self.tokens.of_prompt(&self.render(messages)?),
            Prompt::Text(text) => self.tokens.of_prompt(text),
            Prompt::Tokens(ids) => {
                let rows = self.decoder.config.vocabulary;
                match ids.iter().find(|&&id| id as usize >= rows) {
                    Some(&id) => Err(Error::TokenId { text: 0, id, rows }),
                    None => Ok(ids.to_vec()),
                }
            }
        }
    }

    /// Writes what follows a prompt and tells each piece as it comes.
    ///
    /// # Errors
    /// [`Error::PromptTooLong`] if nothing could follow it, [`Error::Busy`],
    /// [`Error::Option`], [`Error::Cancelled`] when `cancel` is set or `on_piece`
    /// breaks, and what [`Generator::tokenize`] says.
    pub fn generate(
        &self,
        prompt: Prompt<'_>,
        sampling: &Sampling,
        cancel: &Cancel,
        on_piece: &mut OnPiece<'_>,
    ) -> Result<Generated> {
        sampling.check()?;
        let prompt = self.tokenize(prompt)?;
        self.check_length(&prompt)?;
        let mut tell = |piece: &str| {
            cancel.check()?;
            if on_piece(piece).is_break() { Err(Error::Cancelled) } else { Ok(()) }
        };
        let mut cache = self.slots.take(&prompt, &mut || tell(""))?;
        let cached_tokens = cache.shared(&prompt).min(prompt.len() - 1);
        let mut scores = self.read_prompt(&prompt, &mut cache, &mut || tell(""))?;

        let mut sampler = Sampler::new(sampling);
        let mut text = Text::new(&self.tokens, &sampling.stop);
        let prompt_tokens = prompt.len();
        let mut all = prompt;
        let finish = loop {
            let id = sampler.next(&scores, &all)?;
            if self.tokens.ends(id) {
                break Finish::Stop;
            }
            all.push(id);
            tell(text.push(id)?)?;
            if text.stopped() {
                break Finish::Stop;
            }
            if all.len() - prompt_tokens >= sampling.max_tokens || all.len() >= self.context_tokens() {
                break Finish::Length;
            }
            let states = self.decoder.read(&[id], &mut cache)?;
            scores = self.last_scores(&states)?;
        };
        tell(text.finish()?)?;
        let finish = if text.stopped() { Finish::Stop } else { finish };
        let tokens = all.split_off(prompt_tokens);
        Ok(Generated { text: text.into_whole(), tokens, finish, prompt_tokens, cached_tokens })
    }

    /// The scores (logits) of all tokens after each of `ids`, as the model gives
    /// them. Nothing of it is kept.
    ///
    /// # Errors
    /// [`Error::PromptTooLong`], [`Error::TokenId`].
    pub fn scores(&self, ids: &[u32]) -> Result<Vec<Vec<f32>>> {
        let ids = self.tokenize(Prompt::Tokens(ids))?;
        self.check_length(&ids)?;
        let mut cache = Cache::default();
        let mut scores = Vec::with_capacity(ids.len());
        for stretch in ids.chunks(STRETCH) {
            let states = self.decoder.read(stretch, &mut cache)?;
            scores.extend(self.decoder.scores(&states)?.to_vec2::<f32>().map_err(compute)?);
        }
        Ok(scores)
    }

    /// Prompts have a token at least, and leave room for one more.
    fn check_length(&self, prompt: &[u32]) -> Result<()> {
        let limit = self.context_tokens();
        if prompt.is_empty() || prompt.len() >= limit {
            let model = self.decoder.config.trained;
            return Err(Error::PromptTooLong { tokens: prompt.len(), limit, model });
        }
        Ok(())
    }

    /// Reads what the cache does not have of a prompt; the scores after it.
    fn read_prompt(
        &self,
        prompt: &[u32],
        cache: &mut Cache,
        going: &mut dyn FnMut() -> Result<()>,
    ) -> Result<Tensor> {
        // The last token is always read, for its scores.
        let (last, before) = prompt.split_last().expect("a prompt has a token at least");
        cache.truncate(cache.shared(before));
        let mut states = None;
        for stretch in prompt[cache.tokens.len()..].chunks(STRETCH) {
            going()?;
            states = Some(self.decoder.read(stretch, cache)?);
        }
        match states {
            Some(states) => self.last_scores(&states),
            None => unreachable!("the token {last} was not in the cache"),
        }
    }

    fn last_scores(&self, states: &Tensor) -> Result<Tensor> {
        let last = states.dim(0).and_then(|rows| states.narrow(0, rows - 1, 1)).map_err(compute)?;
        self.decoder.scores(&last)?.squeeze(0).map_err(compute)
    }
}

#[allow(clippy::needless_pass_by_value)] // As `map_err` gives it.
fn compute(error: candle_core::Error) -> Error {
    Error::Compute { reason: plain(&error) }
}

/// What an error says, without its backtrace.
fn plain(error: &candle_core::Error) -> String {
    match error {
        candle_core::Error::WithBacktrace { inner, .. } => plain(inner),
        candle_core::Error::WithPath { inner, .. } => plain(inner),
        other => other.to_string(),
    }
}
