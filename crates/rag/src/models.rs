//! The models that can be named: loaded when first used, or behind an address.
//!
//! A name means one model. What is done where the default model cannot be had
//! is here too: another one takes its place for collections that are made from
//! then on, and a warning says so. A collection keeps the model it was made
//! with.

use std::collections::{HashMap, HashSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use cairn_embed::{
    BUILTIN_MODEL, Embedder, Encoder, EncoderOptions, ModelKind, ModelStore, Progress, Remote, RemoteOptions,
    Reranker, Silent, StoreOptions,
};
use parking_lot::Mutex;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::error::{Error, Result};
use crate::loaded::{Slots, make_room};
use crate::local::LocalModel;
use crate::retrieval::Rerank;

/// Which models are used and where they are kept.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ModelOptions {
    /// The model of new collections: a known name or a folder.
    pub default: String,
    /// The model of new collections where a known default model cannot be had;
    /// empty: then nothing can be embedded.
    pub fallback: String,
    /// The model that reranks: a known name or a folder with a cross-encoder;
    /// none reranks when unset.
    pub rerank: Option<String>,
    /// Fetch a known model when it is first asked for.
    pub auto_pull: bool,
    /// Bytes of weights that may be loaded; 0 is no limit. The model that was
    /// not used longest goes first.
    pub memory_bytes: u64,
    /// Models that run otherwise than `encoder` says.
    pub local: Vec<LocalModel>,
    /// Models behind addresses.
    pub remote: Vec<RemoteOptions>,
    /// Where models come from.
    pub store: StoreOptions,
    /// How they are run.
    pub encoder: EncoderOptions,
}

impl Default for ModelOptions {
    fn default() -> Self {
        Self {
            default: cairn_embed::DEFAULT_MODEL.to_owned(),
            fallback: BUILTIN_MODEL.to_owned(),
            rerank: None,
            auto_pull: true,
            memory_bytes: 0,
            local: Vec::new(),
            remote: Vec::new(),
            store: StoreOptions::default(),
            encoder: EncoderOptions::default(),
        }
    }
}

impl ModelOptions {
    /// Whether the models behind addresses can be used, and each has its own name,
    /// as have those with options of their own.
    ///
    /// # Errors
    /// [`Error::Option`], or that of a model.
    pub fn check(&self) -> Result<()> {
        let mut locals = HashSet::new();
        for local in &self.local {
            if local.name.is_empty() || !locals.insert(&local.name) {
                return Err(Error::Option {
                    field: "models.local.name",
                    value: local.name.clone(),
                    range: "a name, another one for each model".to_owned(),
                });
            }
        }
        let mut names = HashSet::new();
        for remote in &self.remote {
            remote.check()?;
            if !names.insert(&remote.name) {
                return Err(Error::Option {
                    field: "models.remote.name",
                    value: remote.name.clone(),
                    range: "another one for each model".to_owned(),
                });
            }
        }
        Ok(())
    }
}

/// The models that can be named.
///
/// They can be shared between threads.
pub struct Models {
    options: ModelOptions,
    store: ModelStore,
    encoders: Slots<Encoder>,
    rerankers: Slots<Reranker>,
    remotes: Slots<Remote>,
    digests: Mutex<HashMap<String, Option<String>>>,
    /// What took the place of the default model, until the next start.
    instead: Mutex<Option<String>>,
}

impl Models {
    /// Models by these options. Nothing is loaded yet.
    pub fn new(options: ModelOptions) -> Self {
        let store = ModelStore::new(options.store.clone());
        Self {
            options,
            store,
            encoders: Slots::default(),
            rerankers: Slots::default(),
            remotes: Slots::default(),
            digests: Mutex::default(),
            instead: Mutex::default(),
        }
    }

    /// The name of a model and the model, loaded, fetched if it is known and not
    /// here; the default one when none is named.
    ///
    /// # Errors
    /// [`Error::UnknownModel`], [`Error::ModelKind`], or what went wrong fetching
    /// or loading it.
    pub fn named(&self, name: Option<&str>, progress: &dyn Progress) -> Result<(String, Embedder)> {
        let name = match name {
            Some(name) => self.canonical(name),
            None => self.settled(progress)?,
        };
        let embedder = self.get_with(&name, progress)?;
        Ok((name, embedder))
    }

    /// The name of the default model, or of what took its place.
    pub(crate) fn default_name(&self) -> String {
        let instead = self.instead.lock().clone();
        instead.unwrap_or_else(|| self.canonical(&self.options.default))
    }

    /// As [`Models::default_name`], once it is sure that the model can be had:
    /// it is fetched if need be. If that fails the fallback takes its place, and
    /// keeps it until the next start, so that what is embedded without naming a
    /// model does not change on the way.
    pub(crate) fn settled(&self, progress: &dyn Progress) -> Result<String> {
        let name = self.default_name();
        if self.remote(&name).is_some() || self.is_built_in(&name) || self.encoders.has(&name) {
            return Ok(name);
        }
        let Err(error) = self.folder(&name, progress) else { return Ok(name) };
        let fallback = self.canonical(&self.options.fallback);
        let known = self.store.canonical(&name).is_some();
        let Some(reason) = absent(&error).filter(|_| known && !fallback.is_empty() && fallback != name)
        else {
            return Err(error);
        };
        if self.get_with(&fallback, progress).is_err() {
            return Err(error);
        }
        let mut instead = self.instead.lock();
        if instead.is_none() {
            tracing::warn!(
                "model `{name}` cannot be had ({reason}): until the next start new collections get `{fallback}`, \
                 which finds less; `cairn model pull {name}` gets it, models.fallback = \"\" makes this an error"
            );
        }
        Ok(instead.get_or_insert(fallback).clone())
    }

    pub(crate) fn max_batch_tokens(&self) -> usize {
        self.options.encoder.max_batch_tokens
    }

    /// The name of the model that reranks, if one is set.
    pub(crate) fn rerank_name(&self) -> Option<String> {
        self.options.rerank.as_deref().filter(|name| !name.is_empty()).map(|name| self.canonical(name))
    }

    /// One name per model, so that aliases share what is loaded.
    pub(crate) fn canonical(&self, name: &str) -> String {
        if self.remote(name).is_some() {
            return name.to_owned();
        }
        self.store.canonical(name).map_or_else(|| name.to_owned(), |spec| spec.name.clone())
    }

    /// What a model of the manifest or of this machine is for.
    pub(crate) fn kind(&self, name: &str) -> Option<ModelKind> {
        if self.remote(name).is_some() {
            return Some(ModelKind::Embedding);
        }
        if let Some(spec) = self.store.canonical(name) {
            return Some(spec.kind);
        }
        self.check_outside(name).ok()?;
        self.store.find(name).ok().flatten().map(|folder| ModelKind::of(&folder))
    }

    pub(crate) fn names(&self) -> Vec<String> {
        let mut names: Vec<String> = self.store.known().iter().map(|spec| spec.name.clone()).collect();
        names.extend(self.options.remote.iter().map(|remote| remote.name.clone()));
        names.extend(self.encoders.names());
        names.extend(self.rerankers.names());
        names.extend(self.rerank_name());
        names.sort();
        names.dedup();
        names
    }

    /// The model of this name, loaded if need be. Names that are not in the
    /// manifest must be on the machine already: a request never makes the
    /// service fetch something nobody vouched for.
    pub(crate) fn get(&self, name: &str) -> Result<Embedder> {
        self.get_with(name, &Silent)
    }

    /// The same for a name that came from outside, which may not be a folder:
    /// clients choose among models, not among the files of the machine.
    pub(crate) fn get_by_name(&self, name: &str) -> Result<Embedder> {
        self.check_outside(name)?;
        self.get(name)
    }

    pub(crate) fn get_with(&self, name: &str, progress: &dyn Progress) -> Result<Embedder> {
        let name = self.canonical(name);
        if let Some(options) = self.remote(&name) {
            let remote = self.remotes.get(&name, || Ok((Remote::new(options.clone())?, 0)))?;
            return Ok(Embedder::Remote(remote));
        }
        let encoder = self.of_kind(&name, ModelKind::Embedding, progress)?;
        if encoder.heads().dense {
            return Ok(Embedder::Local(encoder));
        }
        // Loaded for what else it makes.
        let kind = self.kind(&name).unwrap_or(ModelKind::Sparse);
        Err(Error::ModelKind { name, kind, want: ModelKind::Embedding })
    }

    /// The model of this name from outside, whatever vectors it makes; it must be
    /// here.
    pub(crate) fn any_by_name(&self, name: &str) -> Result<Arc<Encoder>> {
        self.check_outside(name)?;
        if let Some(kind @ (ModelKind::Sparse | ModelKind::Multivector)) = self.kind(name) {
            return self.of_kind(name, kind, &Silent);
        }
        match self.get(name)?.encoder() {
            Some(encoder) => Ok(encoder.clone()),
            None => Err(Error::NotHere { name: self.canonical(name) }),
        }
    }

    /// A model that is here, or is fetched, and makes vectors of this kind.
    fn of_kind(&self, name: &str, want: ModelKind, progress: &dyn Progress) -> Result<Arc<Encoder>> {
        let name = self.canonical(name);
        let loaded = self.encoders.get(&name, || {
            let spec = self.store.canonical(&name).filter(|spec| spec.built_in);
            let (encoder, bytes) = if let Some(spec) = spec {
                let bytes = spec.files.iter().map(|file| file.bytes).sum();
                self.make_room(bytes);
                let encoder = Encoder::built_in(&name, &self.options_of(&name))?;
                (encoder.ok_or_else(|| self.unknown(&name))?, bytes)
            } else {
                let folder = self.folder_of(&name, want, progress)?;
                let bytes = weights_bytes(&folder);
                self.make_room(bytes);
                (Encoder::load(&folder, &self.options_of(&name))?, bytes)
            };
            let device = encoder.device();
            tracing::info!(model = name, dim = encoder.dim(), bytes, %device, "loaded a model");
            Ok((encoder, bytes))
        })?;
        self.make_room(0);
        Ok(loaded)
    }

    /// The model that reranks, by the name of the settings.
    pub(crate) fn reranker(&self, name: &str, progress: &dyn Progress) -> Result<Arc<Reranker>> {
        let name = self.canonical(name);
        if self.remote(&name).is_some() {
            return Err(Error::ModelKind { name, kind: ModelKind::Embedding, want: ModelKind::Rerank });
        }
        let loaded = self.rerankers.get(&name, || {
            let folder = self.folder_of(&name, ModelKind::Rerank, progress)?;
            let bytes = weights_bytes(&folder);
            self.make_room(bytes);
            let reranker = Reranker::load(&folder, &self.options_of(&name))?;
            let (labels, device) = (reranker.labels().len(), reranker.device());
            tracing::info!(model = name, labels, bytes, %device, "loaded a rerank model");
            Ok((reranker, bytes))
        })?;
        self.make_room(0);
        Ok(loaded)
    }

    /// The same for a name that came from outside.
    pub(crate) fn reranker_by_name(&self, name: &str) -> Result<Arc<Reranker>> {
        self.check_outside(name)?;
        self.reranker(name, &Silent)
    }

    /// How the model of this name runs.
    fn options_of(&self, name: &str) -> EncoderOptions {
        let all = &self.options.encoder;
        let local = self.options.local.iter().find(|local| self.canonical(&local.name) == name);
        local.map_or_else(|| all.clone(), |local| local.over(all))
    }

    /// Unloads what was not used longest, if the weights would be too many.
    fn make_room(&self, bytes: u64) {
        for model in make_room(&[&self.encoders, &self.rerankers], self.options.memory_bytes, bytes) {
            tracing::info!(model, "unloaded a model to make room");
        }
    }

    fn remote(&self, name: &str) -> Option<&RemoteOptions> {
        self.options.remote.iter().find(|remote| remote.name == name)
    }

    fn is_built_in(&self, name: &str) -> bool {
        self.store.canonical(name).is_some_and(|spec| spec.built_in)
    }

    fn check_outside(&self, name: &str) -> Result<()> {
        let is_folder =
            Path::new(name).is_absolute() || name.starts_with(['.', '~']) || name.matches('/').count() > 1;
        let ours = [Some(&self.options.default), self.options.rerank.as_ref(), Some(&self.options.fallback)];
        let is_ours = ours.into_iter().flatten().any(|ours| ours == name) || self.remote(name).is_some();
        if is_folder && !is_ours {
            return Err(self.unknown(name));
        }
        Ok(())
    }

    fn unknown(&self, name: &str) -> Error {
        let mut known = self.names();
        known.retain(|known| known != name);
        Error::UnknownModel { name: name.to_owned(), known: known.join(", ") }
    }

    /// The folder of a model of this kind.
    fn folder_of(&self, name: &str, want: ModelKind, progress: &dyn Progress) -> Result<PathBuf> {
        let mismatch = |kind: ModelKind| Error::ModelKind { name: name.to_owned(), kind, want };
        if let Some(spec) = self.store.canonical(name)
            && !spec.kinds().contains(&want)
        {
            return Err(mismatch(spec.kind));
        }
        let folder = self.folder(name, progress)?;
        let kinds = ModelKind::all_of(&folder);
        if kinds.contains(&want) { Ok(folder) } else { Err(mismatch(kinds[0])) }
    }

    /// SHA-256 of the weights of a model that is here, computed once; nothing for
    /// one behind an address.
    pub fn digest(&self, name: &str) -> Option<String> {
        const WEIGHTS: &str = "model.safetensors";
        let name = self.canonical(name);
        if self.remote(&name).is_some() {
            return None;
        }
        if let Some(spec) = self.store.canonical(&name).filter(|spec| spec.built_in) {
            let weights = spec.files.iter().find(|file| file.path == WEIGHTS);
            return weights.map(|file| file.sha256.clone());
        }
        if let Some(known) = self.digests.lock().get(&name) {
            return known.clone();
        }
        let digest = self.folder(&name, &Silent).ok().and_then(|folder| {
            sha256_of(&folder.join(WEIGHTS)).or_else(|| sha256_of(&folder.join("pytorch_model.bin")))
        });
        self.digests.lock().insert(name, digest.clone());
        digest
    }

    /// The GGUF file that a name of the settings stands for.
    pub(crate) fn gguf(&self, name: &str) -> Result<PathBuf> {
        Ok(self.store.find_gguf(name)?)
    }

    fn folder(&self, name: &str, progress: &dyn Progress) -> Result<PathBuf> {
        match self.store.find(name) {
            Ok(Some(folder)) => return Ok(folder),
            Ok(None) | Err(cairn_embed::Error::UnknownModel { .. }) => {}
            Err(error) => return Err(error.into()),
        }
        if self.options.auto_pull && self.store.canonical(name).is_some() {
            return Ok(self.store.pull(name, progress)?);
        }
        Err(self.unknown(name))
    }
}

/// SHA-256 of a file, if it can be read.
pub(crate) fn sha256_of(file: &Path) -> Option<String> {
    let mut hash = Sha256::new();
    std::io::copy(&mut std::fs::File::open(file).ok()?, &mut hash).ok()?;
    Some(crate::provenance::hex(&hash.finalize()))
}

/// Why a model is not on this machine and did not come, in a line; nothing for
/// other failures.
fn absent(error: &Error) -> Option<String> {
    match error {
        Error::UnknownModel { .. } => Some("not on this machine, and models.auto_pull is off".to_owned()),
        Error::Embed(cairn_embed::Error::AllSources { tried, .. }) => {
            let first = |text: String| text.lines().next().unwrap_or_default().to_owned();
            let tried: Vec<String> = tried.iter().map(|attempt| first(attempt.to_string())).collect();
            Some(tried.join("; "))
        }
        _ => None,
    }
}

/// The length of the weights in a folder, or in one inside it.
fn weights_bytes(folder: &Path) -> u64 {
    let entries = |folder: &Path| std::fs::read_dir(folder).into_iter().flatten().flatten();
    let weights = |path: PathBuf| {
        let is_weights = path.extension().is_some_and(|end| end == "safetensors" || end == "bin");
        path.metadata().ok().filter(|data| is_weights && data.is_file()).map_or(0, |data| data.len())
    };
    let below = |path: PathBuf| {
        if path.is_dir() { entries(&path).map(|entry| weights(entry.path())).sum() } else { weights(path) }
    };
    entries(folder).map(|entry| below(entry.path())).sum()
}

/// The cross-encoder of the settings, loaded when first needed.
pub(crate) struct CrossEncoder {
    pub(crate) models: Arc<Models>,
    pub(crate) name: String,
}

impl Rerank for CrossEncoder {
    fn name(&self) -> &str {
        &self.name
    }

    fn score(&self, query: &str, passages: &[&str]) -> Result<Vec<f32>> {
        Ok(self.models.reranker(&self.name, &Silent)?.score(query, passages)?.sigmoid())
    }
}
