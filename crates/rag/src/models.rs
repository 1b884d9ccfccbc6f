//! The models in memory, loaded when first used and then shared.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use cairn_embed::{Encoder, EncoderOptions, ModelKind, ModelStore, Progress, Reranker, Silent, StoreOptions};
use parking_lot::Mutex;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::error::{Error, Result};
use crate::retrieval::Rerank;

/// Which models are used and where they are kept.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ModelOptions {
    /// The model of new collections: a known name or a folder.
    pub default: String,
    /// The model that reranks: a known name or a folder with a cross-encoder;
    /// none reranks when unset.
    pub rerank: Option<String>,
    /// Fetch a known model when it is first asked for.
    pub auto_pull: bool,
    /// Where models come from.
    pub store: StoreOptions,
    /// How they are run.
    pub encoder: EncoderOptions,
}

impl Default for ModelOptions {
    fn default() -> Self {
        Self {
            default: cairn_embed::DEFAULT_MODEL.to_owned(),
            rerank: None,
            auto_pull: true,
            store: StoreOptions::default(),
            encoder: EncoderOptions::default(),
        }
    }
}

pub(crate) struct Models {
    options: ModelOptions,
    store: ModelStore,
    encoders: Slots<Encoder>,
    rerankers: Slots<Reranker>,
    digests: Mutex<HashMap<String, Option<String>>>,
}

/// Models that are loaded or about to be, by name. Each has its own lock, so
/// that loading one model holds up nobody who wants another.
struct Slots<T>(Mutex<HashMap<String, Slot<T>>>);

type Slot<T> = Arc<Mutex<Option<Arc<T>>>>;

impl<T> Default for Slots<T> {
    fn default() -> Self {
        Self(Mutex::default())
    }
}

impl<T> Slots<T> {
    fn get(&self, name: &str, load: impl FnOnce() -> Result<T>) -> Result<Arc<T>> {
        let slot = self.0.lock().entry(name.to_owned()).or_default().clone();
        // Held while loading, so that a model is loaded once however many ask.
        let mut loaded = slot.lock();
        if let Some(model) = &*loaded {
            return Ok(model.clone());
        }
        let result = load().map(Arc::new);
        match &result {
            Ok(model) => *loaded = Some(model.clone()),
            // Names that clients make up must not pile up.
            Err(_) => drop(self.0.lock().remove(name)),
        }
        result
    }

    fn names(&self) -> Vec<String> {
        self.0.lock().keys().cloned().collect()
    }
}

impl Models {
    pub(crate) fn new(options: ModelOptions) -> Self {
        let store = ModelStore::new(options.store.clone());
        let (encoders, rerankers) = (Slots::default(), Slots::default());
        Self { options, store, encoders, rerankers, digests: Mutex::default() }
    }

    pub(crate) fn default_name(&self) -> String {
        self.canonical(&self.options.default)
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
        self.store.canonical(name).map_or_else(|| name.to_owned(), |spec| spec.name.clone())
    }

    /// What a model of the manifest or of this machine is for.
    pub(crate) fn kind(&self, name: &str) -> Option<ModelKind> {
        if let Some(spec) = self.store.canonical(name) {
            return Some(spec.kind);
        }
        self.check_outside(name).ok()?;
        self.store.find(name).ok().flatten().map(|folder| ModelKind::of(&folder))
    }

    pub(crate) fn names(&self) -> Vec<String> {
        let mut names: Vec<String> = self.store.known().iter().map(|spec| spec.name.clone()).collect();
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
    pub(crate) fn get(&self, name: &str) -> Result<Arc<Encoder>> {
        self.get_with(name, &Silent)
    }

    /// The same for a name that came from outside, which may not be a folder:
    /// clients choose among models, not among the files of the machine.
    pub(crate) fn get_by_name(&self, name: &str) -> Result<Arc<Encoder>> {
        self.of_kind_by_name(name, ModelKind::Embedding)
    }

    pub(crate) fn get_with(&self, name: &str, progress: &dyn Progress) -> Result<Arc<Encoder>> {
        let encoder = self.of_kind(name, ModelKind::Embedding, progress)?;
        if encoder.heads().dense {
            return Ok(encoder);
        }
        // Loaded for what else it makes.
        let name = self.canonical(name);
        let kind = self.kind(&name).unwrap_or(ModelKind::Sparse);
        Err(Error::ModelKind { name, kind, want: ModelKind::Embedding })
    }

    /// The model of this name from outside, for vectors of any kind but scores.
    pub(crate) fn of_kind_by_name(&self, name: &str, want: ModelKind) -> Result<Arc<Encoder>> {
        self.check_outside(name)?;
        match want {
            ModelKind::Embedding => self.get(name),
            want => self.of_kind(name, want, &Silent),
        }
    }

    /// The model of this name from outside, whatever vectors it makes.
    pub(crate) fn any_by_name(&self, name: &str) -> Result<Arc<Encoder>> {
        let want = self.kind(name).filter(|kind| *kind != ModelKind::Rerank);
        self.of_kind_by_name(name, want.unwrap_or(ModelKind::Embedding))
    }

    fn of_kind(&self, name: &str, want: ModelKind, progress: &dyn Progress) -> Result<Arc<Encoder>> {
        let name = self.canonical(name);
        self.encoders.get(&name, || {
            let folder = self.folder_of(&name, want, progress)?;
            let encoder = Encoder::load(&folder, &self.options.encoder)?;
            tracing::info!(model = name, dim = encoder.dim(), "loaded a model");
            Ok(encoder)
        })
    }

    /// The model that reranks, by the name of the settings.
    pub(crate) fn reranker(&self, name: &str, progress: &dyn Progress) -> Result<Arc<Reranker>> {
        let name = self.canonical(name);
        self.rerankers.get(&name, || {
            let folder = self.folder_of(&name, ModelKind::Rerank, progress)?;
            let reranker = Reranker::load(&folder, &self.options.encoder)?;
            tracing::info!(model = name, labels = reranker.labels().len(), "loaded a rerank model");
            Ok(reranker)
        })
    }

    /// The same for a name that came from outside.
    pub(crate) fn reranker_by_name(&self, name: &str) -> Result<Arc<Reranker>> {
        self.check_outside(name)?;
        self.reranker(name, &Silent)
    }

    fn check_outside(&self, name: &str) -> Result<()> {
        let is_folder =
            Path::new(name).is_absolute() || name.starts_with(['.', '~']) || name.matches('/').count() > 1;
        if is_folder && name != self.options.default && Some(name) != self.options.rerank.as_deref() {
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

    /// SHA-256 of the weights of a model that is here, computed once.
    pub(crate) fn digest(&self, name: &str) -> Option<String> {
        let name = self.canonical(name);
        if let Some(known) = self.digests.lock().get(&name) {
            return known.clone();
        }
        let digest = self.folder(&name, &Silent).ok().and_then(|folder| {
            let mut hash = Sha256::new();
            let open = |file: &str| std::fs::File::open(folder.join(file));
            let mut weights = open("model.safetensors").or_else(|_| open("pytorch_model.bin")).ok()?;
            std::io::copy(&mut weights, &mut hash).ok()?;
            Some(crate::provenance::hex(&hash.finalize()))
        });
        self.digests.lock().insert(name, digest.clone());
        digest
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
