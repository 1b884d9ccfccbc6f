//! A language model in this process, from a GGUF file.
//!
//! It is loaded when it is first asked, once, and shared by all calls; each of
//! them computes on the thread that asks.

use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use cairn_embed::{Cancel, ChatMessage, Prompt, Sampling};
use parking_lot::Mutex;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::{GeneratorOptions, Model, OnPiece};
use crate::error::{Error, Result};
use crate::models::{Models, sha256_of};

/// How a language model in this process runs.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct LocalOptions {
    /// Tokens of a prompt and its answer at most; 0, or more than the model was
    /// made for, is what it was made for.
    pub context_tokens: usize,
    /// Prompts whose reading is kept for those with the same beginning; as many
    /// answers are written at a time.
    pub prompts: usize,
    /// Questions that may wait for another's answer; one more gets an extractive
    /// one.
    pub max_waiting: usize,
    /// Threads that write answers, all of them together; 0 is one for each core.
    pub threads: usize,
    /// Draw among the likeliest tokens that together have this probability. Above
    /// 0, at most 1.
    pub top_p: f32,
    /// Draw among so many of the likeliest tokens; 0 is all.
    pub top_k: usize,
    /// What makes tokens less likely that were just written; 1 does nothing.
    pub repetition_penalty: f32,
    /// Where chance begins, if `temperature` is not 0.
    pub seed: u64,
}

impl Default for LocalOptions {
    fn default() -> Self {
        let (run, draw) = (cairn_embed::GeneratorOptions::default(), Sampling::default());
        Self {
            context_tokens: run.context_tokens,
            prompts: run.prompts,
            max_waiting: run.max_waiting,
            threads: run.threads,
            top_p: draw.top_p,
            top_k: draw.top_k,
            repetition_penalty: draw.repetition_penalty,
            seed: draw.seed,
        }
    }
}

pub(super) struct Local {
    options: GeneratorOptions,
    models: Arc<Models>,
    loaded: Mutex<Option<Loaded>>,
}

#[derive(Clone)]
struct Loaded {
    model: Model,
    generator: Arc<cairn_embed::Generator>,
}

impl Local {
    pub(super) fn new(options: GeneratorOptions, models: Arc<Models>) -> Self {
        Self { options, models, loaded: Mutex::default() }
    }

    pub(super) fn model(&self) -> Result<Model> {
        Ok(self.loaded()?.model)
    }

    /// The model, loaded if need be. Whoever asks meanwhile waits for it.
    fn loaded(&self) -> Result<Loaded> {
        let mut loaded = self.loaded.lock();
        if let Some(loaded) = &*loaded {
            return Ok(loaded.clone());
        }
        let failed = |reason: String| Error::Generator { url: self.options.gguf.clone(), reason };
        let path = self.models.gguf(&self.options.gguf).map_err(|error| failed(error.to_string()))?;
        let local = &self.options.local;
        let options = cairn_embed::GeneratorOptions {
            context_tokens: local.context_tokens,
            prompts: local.prompts,
            max_waiting: local.max_waiting,
            threads: local.threads,
        };
        let generator =
            cairn_embed::Generator::load(&path, &options).map_err(|error| failed(error.to_string()))?;
        let model =
            Model { url: path.display().to_string(), name: self.name(&path), sha256: sha256_of(&path) };
        tracing::info!(
            model = model.name,
            architecture = generator.architecture(),
            context_tokens = generator.context_tokens(),
            "loaded a language model"
        );
        Ok(loaded.insert(Loaded { model, generator: Arc::new(generator) }).clone())
    }

    /// What the model is called: as configured, or by its file.
    fn name(&self, path: &Path) -> String {
        match (&self.options.model, PathBuf::from(path).file_stem()) {
            (name, _) if !name.is_empty() => name.clone(),
            (_, Some(stem)) => stem.to_string_lossy().into_owned(),
            _ => self.options.gguf.clone(),
        }
    }

    /// Asks the model and hands on each piece as it comes. Returns the whole.
    pub(super) fn write(
        &self,
        messages: &[Value],
        max_tokens: usize,
        on_piece: &mut OnPiece<'_>,
    ) -> Result<String> {
        let started = Instant::now();
        let limit = Duration::from_millis(self.options.timeout_ms);
        let loaded = self.loaded()?;
        let failed = |reason: String| Error::Generator { url: loaded.model.url.clone(), reason };
        let text = |message: &Value, field: &str| message[field].as_str().unwrap_or_default().to_owned();
        let messages: Vec<ChatMessage> = messages
            .iter()
            .map(|message| ChatMessage::new(text(message, "role"), text(message, "content")))
            .collect();
        let local = &self.options.local;
        let sampling = Sampling {
            max_tokens,
            temperature: self.options.temperature,
            top_p: local.top_p,
            top_k: local.top_k,
            repetition_penalty: local.repetition_penalty,
            seed: local.seed,
            stop: Vec::new(),
        };
        // Why it was broken off, if it was.
        let mut broken = None;
        let prompt = Prompt::Chat(&messages);
        let written = loaded.generator.generate(prompt, &sampling, &Cancel::new(), &mut |piece| {
            let told = if started.elapsed() < limit {
                on_piece(piece)
            } else {
                Err(failed(format!("it was not done after {} ms (timeout_ms)", limit.as_millis())))
            };
            match told {
                Ok(()) => ControlFlow::Continue(()),
                Err(error) => {
                    broken = Some(error);
                    ControlFlow::Break(())
                }
            }
        });
        match (written, broken) {
            (_, Some(error)) => Err(error),
            (Ok(written), None) => Ok(written.text),
            (Err(error), None) => Err(failed(error.to_string())),
        }
    }
}
