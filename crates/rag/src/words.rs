//! The words of passages: BM25 vectors beside the embeddings.
//!
//! A text collection made here has a sparse vector for BM25 and keeps in its
//! metadata how it is counted. One that was made without it is searched by
//! meaning alone.

use cairn_index::{Bm25, Bm25Options, CollectionConfig, SparseVector};
use serde_json::Value;

use crate::engine::METADATA_KEY;
use crate::error::Result;

/// The name of the sparse vector.
pub(crate) const WORDS: &str = "bm25";

/// Tokens of an average passage: what is left of 200 model tokens at most
/// without stop words and word pieces, measured on the judged sets.
const AVERAGE_TOKENS: f32 = 70.0;

/// How new collections count words.
pub(crate) fn new_options() -> Bm25Options {
    Bm25Options { avg_len: Some(AVERAGE_TOKENS), ..Bm25Options::default() }
}

/// Counts the words of one collection.
pub(crate) struct Words(Bm25);

impl Words {
    /// As the collection keeps it; nothing for one without BM25 vectors.
    ///
    /// # Errors
    /// When the options in the collection's metadata cannot be read.
    pub(crate) fn of(config: &CollectionConfig) -> Result<Option<Self>> {
        if !config.sparse_vectors.contains_key(WORDS) {
            return Ok(None);
        }
        let kept = config.metadata.get(METADATA_KEY).map_or(&Value::Null, |ours| &ours["bm25"]);
        let options = match kept {
            Value::Null => new_options(),
            kept => serde_json::from_value(kept.clone()).map_err(|error| {
                cairn_index::Error::Request(format!("the collection's bm25 options: {error}"))
            })?,
        };
        Ok(Some(Self(Bm25::new(&options)?)))
    }

    /// As new collections count.
    pub(crate) fn usual() -> Result<Self> {
        Ok(Self(Bm25::new(&new_options())?))
    }

    /// The vector of a text that is stored.
    pub(crate) fn document(&self, text: &str) -> SparseVector {
        self.0.document(text)
    }

    /// The vector of a text that is looked for.
    pub(crate) fn query(&self, text: &str) -> SparseVector {
        self.0.query(text)
    }
}
