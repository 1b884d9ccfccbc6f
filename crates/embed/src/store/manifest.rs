//! The models known by name, compiled in from `models.json`.
//!
//! The manifest pins what most names mean: a revision of the hub and the
//! checksum of every file, so that a name gives the same vectors everywhere. A
//! model without files is not pinned: its main branch is taken, and checked
//! against what the hub says.

use std::path::Path;
use std::sync::LazyLock;

use serde::{Deserialize, Serialize};

use crate::builtin;
use crate::encoder::classifier::classifies;
use crate::encoder::heads::heads_of;

/// The model used when none is named.
pub const DEFAULT_MODEL: &str = "sentence-transformers/all-MiniLM-L6-v2";

/// What a model is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ModelKind {
    /// Texts to vectors: an [`Encoder`](crate::Encoder).
    Embedding,
    /// Scores of pairs of texts: a [`Reranker`](crate::Reranker).
    Rerank,
    /// Texts to sparse vectors: [`Encoder::embed_sparse`](crate::Encoder::embed_sparse).
    Sparse,
    /// Texts to vectors of their tokens, for late interaction:
    /// [`Encoder::embed_multi`](crate::Encoder::embed_multi).
    Multivector,
}

impl ModelKind {
    /// The kind of the model in a folder, the main one of [`ModelKind::all_of`].
    pub fn of(folder: &Path) -> ModelKind {
        ModelKind::all_of(folder)[0]
    }

    /// All that the model in a folder is for, the main kind first, by its
    /// `config.json`, its modules and the heads beside it; embedding if those
    /// cannot be read.
    pub fn all_of(folder: &Path) -> Vec<ModelKind> {
        #[derive(Deserialize)]
        struct Config {
            #[serde(default)]
            architectures: Vec<String>,
        }
        let config = std::fs::read(folder.join("config.json")).ok();
        let config: Option<Config> = config.and_then(|bytes| serde_json::from_slice(&bytes).ok());
        let pools = folder.join("1_Pooling").is_dir();
        match config {
            Some(config) if !pools && config.architectures.iter().any(|name| classifies(name)) => {
                vec![ModelKind::Rerank]
            }
            _ => heads_of(folder).kinds(),
        }
    }

    /// Its name: `embedding`, `rerank`, `sparse` or `multivector`.
    pub fn name(self) -> &'static str {
        match self {
            ModelKind::Embedding => "embedding",
            ModelKind::Rerank => "rerank",
            ModelKind::Sparse => "sparse",
            ModelKind::Multivector => "multivector",
        }
    }
}

/// A model of the manifest.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ModelSpec {
    /// The name on the hub, `organisation/model`.
    pub name: String,
    /// Other names it goes by.
    pub aliases: Vec<String>,
    /// What it is for.
    pub kind: ModelKind,
    /// What else it is for.
    #[serde(default)]
    pub also: Vec<ModelKind>,
    /// The `model_type` of its `config.json`.
    pub architecture: String,
    /// The dimensions of its vectors, or of those of tokens; 0 for a model that
    /// reranks or whose vectors are sparse.
    #[serde(default)]
    pub dim: usize,
    /// The tokens it reads of a text, or of a pair, special ones included.
    pub max_tokens: usize,
    /// The licence of the weights, as an SPDX identifier.
    pub licence: String,
    /// The repository on the hub.
    pub repo: String,
    /// The commit of that repository; a branch if the model is not pinned.
    pub revision: String,
    /// Its files; none if it is not pinned.
    pub files: Vec<SpecFile>,
    /// Whether it is compiled in. Its repository and revision are those of the
    /// model it was made of.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub built_in: bool,
    /// The package that holds the same files, if there is one.
    pub package: Option<PackageSource>,
}

impl ModelSpec {
    /// All that it is for, the main kind first.
    pub fn kinds(&self) -> Vec<ModelKind> {
        std::iter::once(self.kind).chain(self.also.iter().copied()).collect()
    }

    /// Whether the bytes of its files are known beforehand.
    pub fn is_pinned(&self) -> bool {
        !self.files.is_empty()
    }
}

/// A file of a model.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SpecFile {
    /// The path inside the model folder.
    pub path: String,
    /// Its length.
    pub bytes: u64,
    /// Its SHA-256 in hexadecimal.
    pub sha256: String,
}

/// A package of the Python package index that holds a model.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PackageSource {
    /// The name of the package.
    pub name: String,
    /// Its version.
    pub version: String,
    /// The model folder inside the package.
    pub folder: String,
    /// The length of the package file.
    pub bytes: u64,
}

impl PackageSource {
    /// The package as pip wants it: `name==version`.
    pub(super) fn requirement(&self) -> String {
        format!("{}=={}", self.name, self.version)
    }
}

/// The models of the manifest.
pub(super) fn known() -> &'static [ModelSpec] {
    static KNOWN: LazyLock<Vec<ModelSpec>> = LazyLock::new(|| {
        let mut known: Vec<ModelSpec> = serde_json::from_str(include_str!("../../models.json"))
            .expect("a test reads the manifest that is compiled in");
        known.retain(|spec| !spec.built_in || !builtin::FILES.is_empty());
        known
    });
    &KNOWN
}

/// The model a name or alias stands for, whatever its case.
pub(super) fn canonical(name: &str) -> Option<&'static ModelSpec> {
    known().iter().find(|spec| {
        spec.name.eq_ignore_ascii_case(name)
            || spec.aliases.iter().any(|alias| alias.eq_ignore_ascii_case(name))
    })
}

#[cfg(test)]
mod tests {
    use super::{DEFAULT_MODEL, ModelKind, canonical, known};
    use crate::store::REQUIRED;

    #[test]
    fn every_model_of_the_manifest_is_complete_or_not_pinned_at_all() {
        let hex = |text: &str, len| text.len() == len && text.bytes().all(|b| b.is_ascii_hexdigit());
        for spec in known() {
            let flat = matches!(spec.kind, ModelKind::Rerank | ModelKind::Sparse);
            assert_eq!(spec.dim == 0, flat, "{}", spec.name);
            if !spec.is_pinned() {
                assert_eq!((&spec.revision[..], &spec.package), ("main", &None), "{}", spec.name);
                continue;
            }
            assert!(hex(&spec.revision, 40), "{}", spec.name);
            for required in REQUIRED {
                assert!(spec.files.iter().any(|file| file.path == required));
            }
            for file in &spec.files {
                assert!(hex(&file.sha256, 64), "{}", file.path);
            }
        }
    }

    #[cfg(feature = "builtin-model")]
    #[test]
    fn the_model_that_is_compiled_in_has_the_bytes_of_the_manifest() {
        let spec = canonical("minilm-static").expect("known");
        assert_eq!((&spec.name[..], spec.built_in), (crate::BUILTIN_MODEL, true));
        assert_eq!(spec.files.len(), crate::builtin::FILES.len());
        for file in &spec.files {
            let bytes = crate::builtin::file(&file.path).expect("compiled in");
            assert_eq!(bytes.len() as u64, file.bytes, "{}", file.path);
            assert_eq!(crate::store::digest::sha256_of(bytes), file.sha256, "{}", file.path);
        }
    }

    #[test]
    fn names_and_aliases_are_found_in_any_case_and_mean_one_model() {
        for name in ["all-minilm-l6-v2", "MINILM", DEFAULT_MODEL] {
            assert_eq!(canonical(name).expect("known").name, DEFAULT_MODEL);
        }
        assert!(canonical("minilm-l7").is_none());
        let mut names: Vec<String> = known()
            .iter()
            .flat_map(|spec| spec.aliases.iter().chain([&spec.name]))
            .map(|name| name.to_lowercase())
            .collect();
        let all = names.len();
        names.sort();
        names.dedup();
        assert_eq!(names.len(), all);
    }
}
