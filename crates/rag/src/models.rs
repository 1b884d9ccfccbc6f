//! The models in memory, loaded when first used and then shared.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use cairn_embed::{Encoder, EncoderOptions, ModelStore, Progress, Silent, StoreOptions};
use parking_lot::Mutex;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::error::{Error, Result};

/// Which models are used and where they are kept.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ModelOptions {
    /// The model of new collections: a known name or a folder.
    pub default: String,
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
            auto_pull: true,
            store: StoreOptions::default(),
            encoder: EncoderOptions::default(),
        }
    }
}

pub(crate) struct Models {
    options: ModelOptions,
    store: ModelStore,
    slots: Mutex<HashMap<String, Slot>>,
    digests: Mutex<HashMap<String, Option<String>>>,
}

/// A model that is loaded or about to be. Its own lock, so that loading one
/// model holds up nobody who wants another.
type Slot = Arc<Mutex<Option<Arc<Encoder>>>>;

impl Models {
    pub(crate) fn new(options: ModelOptions) -> Self {
        let store = ModelStore::new(options.store.clone());
        Self { options, store, slots: Mutex::default(), digests: Mutex::default() }
    }

    pub(crate) fn default_name(&self) -> String {
        self.canonical(&self.options.default)
    }

    /// One name per model, so that aliases share what is loaded.
    pub(crate) fn canonical(&self, name: &str) -> String {
        self.store.canonical(name).map_or_else(|| name.to_owned(), |spec| spec.name.clone())
    }

    pub(crate) fn names(&self) -> Vec<String> {
        let mut names: Vec<String> = self.store.known().iter().map(|spec| spec.name.clone()).collect();
        names.extend(self.slots.lock().keys().cloned());
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
        let is_folder =
            Path::new(name).is_absolute() || name.starts_with(['.', '~']) || name.matches('/').count() > 1;
        if is_folder && name != self.options.default {
            return Err(self.unknown(name));
        }
        self.get(name)
    }

    fn unknown(&self, name: &str) -> Error {
        let mut known = self.names();
        known.retain(|known| known != name);
        Error::UnknownModel { name: name.to_owned(), known: known.join(", ") }
    }

    pub(crate) fn get_with(&self, name: &str, progress: &dyn Progress) -> Result<Arc<Encoder>> {
        let name = self.canonical(name);
        let slot = self.slots.lock().entry(name.clone()).or_default().clone();
        // Held while loading, so that a model is loaded once however many ask.
        let mut loaded = slot.lock();
        if let Some(encoder) = &*loaded {
            return Ok(encoder.clone());
        }
        let result = self.folder(&name, progress).and_then(|folder| {
            let encoder = Arc::new(Encoder::load(&folder, &self.options.encoder)?);
            tracing::info!(model = name, dim = encoder.dim(), "loaded a model");
            Ok(encoder)
        });
        match &result {
            Ok(encoder) => *loaded = Some(encoder.clone()),
            // Names that clients make up must not pile up.
            Err(_) => drop(self.slots.lock().remove(&name)),
        }
        result
    }

    /// SHA-256 of the weights of a model that is here, computed once.
    pub(crate) fn digest(&self, name: &str) -> Option<String> {
        let name = self.canonical(name);
        if let Some(known) = self.digests.lock().get(&name) {
            return known.clone();
        }
        let digest = self.folder(&name, &Silent).ok().and_then(|folder| {
            let mut hash = Sha256::new();
            let mut weights = std::fs::File::open(folder.join("model.safetensors")).ok()?;
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
