//! What it takes to get the same answer again.

use cairn_index::{Filter, PointId};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::extract::ExtractOptions;
use crate::retrieval::RetrievalOptions;

/// A model that took part.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ModelUsed {
    /// Its name.
    pub name: String,
    /// SHA-256 of its weights, in hexadecimal; absent for one behind an address.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub sha256: Option<String>,
}

/// A passage that an answer was made from.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Used {
    /// Its point id.
    pub id: PointId,
    /// SHA-256 of its text, in hexadecimal.
    pub sha256: String,
}

/// What it takes to get the same answer again: hand it to
/// [`Engine::replay`](crate::Engine::replay).
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Provenance {
    /// The version of this program.
    pub version: String,
    /// The collection.
    pub collection: String,
    /// Its seq when it was searched.
    pub seq: u64,
    /// The question as it was searched.
    pub query: String,
    /// Passages at most.
    pub limit: usize,
    /// Which passages could be found.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub filter: Option<Filter>,
    /// Microseconds since 1970 when it was asked; the age of passages counts
    /// from there.
    pub asked_at: i64,
    /// How passages were found.
    pub retrieval: RetrievalOptions,
    /// How the answer was extracted.
    pub extract: ExtractOptions,
    /// The model of the embeddings.
    pub embedder: ModelUsed,
    /// The model that reranked, if any.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub reranker: Option<ModelUsed>,
    /// The language model, if one wrote the answer.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub generator: Option<ModelUsed>,
    /// SHA-256 of the messages that the language model was sent.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub prompt_sha256: Option<String>,
    /// The passages found, best first.
    pub passages: Vec<Used>,
}

/// What came of a retrieval that was done again.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Replayed {
    /// Whether the same passages were found, letter by letter, in the same order.
    pub same: bool,
    /// Why not, or why that was not to be expected.
    #[serde(skip_serializing_if = "Vec::is_empty", default)]
    pub reasons: Vec<String>,
    /// The seq that was searched now.
    pub seq: u64,
    /// The passages found now.
    pub passages: Vec<crate::Retrieved>,
}

/// SHA-256 of a text, in hexadecimal.
pub(crate) fn sha256(text: &str) -> String {
    hex(&Sha256::digest(text.as_bytes()))
}

pub(crate) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
