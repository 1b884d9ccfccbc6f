//! Documents as a collection keeps them.

use std::collections::BTreeMap;

use cairn_index::{Parts, Scroll};
use serde::Serialize;
use serde_json::{Map, Value};

use crate::adding::kept_chunk;
use crate::chunking::ChunkOptions;
use crate::engine::Engine;
use crate::error::Result;
use crate::stored::{of_documents, retrieved};

/// A document as a collection keeps it.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct KeptDocument {
    /// Its id.
    pub id: String,
    /// Its title.
    pub title: String,
    /// The texts of its passages, in the order of the document, with an empty
    /// line between them. What stands between passages in the source is not kept.
    pub text: String,
    /// Its metadata.
    pub metadata: Map<String, Value>,
}

/// What a collection of texts is about.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct TextCollection {
    /// Its name.
    pub name: String,
    /// The model that its passages are embedded with.
    pub model: String,
    /// How many passages there are.
    pub passages: usize,
    /// How its documents are cut.
    pub chunk: ChunkOptions,
}

impl Engine {
    /// A document of a collection; none if it is not there.
    ///
    /// # Errors
    /// When the collection is unknown or a segment of it is damaged.
    pub fn document(&self, collection: &str, id: &str) -> Result<Option<KeptDocument>> {
        let collection = self.database().collection(collection)?;
        let filter = Some(of_documents([id].into_iter())?);
        let scroll = Scroll { filter, limit: usize::MAX - 1, parts: Parts::payload(), from: None };
        let records = collection.scroll(&scroll)?.records;
        let passages = records.into_iter().filter_map(|record| retrieved(record.id, record.payload?));
        let mut ordered = BTreeMap::new();
        for passage in passages {
            ordered.insert((passage.start, passage.end), passage);
        }
        let Some(first) = ordered.values().next() else { return Ok(None) };
        let texts: Vec<&str> = ordered.values().map(|passage| passage.text.trim_end()).collect();
        Ok(Some(KeptDocument {
            id: first.document_id.clone(),
            title: first.title.clone(),
            text: texts.join("\n\n"),
            metadata: first.metadata.clone(),
        }))
    }

    /// A collection of texts.
    ///
    /// # Errors
    /// [`Error::NoTextModel`](crate::Error::NoTextModel) where it is none.
    pub fn about(&self, collection: &str) -> Result<TextCollection> {
        let (collection, model) = self.text_collection(collection)?;
        let passages = collection.info().points;
        let chunk = kept_chunk(&collection.config())?.unwrap_or_else(|| self.options.chunk.clone());
        Ok(TextCollection { name: collection.name().to_owned(), model, passages, chunk })
    }

    /// Tokens of a text by the model of a collection, special ones included.
    ///
    /// # Errors
    /// As for [`Engine::about`], and when the model cannot be loaded.
    pub fn count_tokens(&self, collection: &str, text: &str) -> Result<usize> {
        let (_, model) = self.text_collection(collection)?;
        Ok(self.models.get(&model)?.count_tokens(text))
    }
}
