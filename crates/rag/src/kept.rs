//! Documents as a collection keeps them.

use std::collections::BTreeMap;

use cairn_index::{Condition, Filter, Parts, Record, Scalar, Scroll, Selector, Test};
use serde::Serialize;
use serde_json::{Map, Value};

use crate::adding::kept_chunk;
use crate::chunking::ChunkOptions;
use crate::engine::Engine;
use crate::error::Result;
use crate::stored::{known, of_documents, passage_id, retrieved, text_at};

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

/// A document of a collection without its text.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct DocumentEntry {
    /// Its id.
    pub id: String,
    /// Its title.
    pub title: String,
    /// Its metadata.
    pub metadata: Map<String, Value>,
}

impl DocumentEntry {
    fn of(record: Record) -> Option<Self> {
        let mut payload = record.payload?;
        Some(Self {
            id: payload.get("document_id")?.as_str()?.to_owned(),
            title: text_at(&payload, "title"),
            metadata: match payload.remove("metadata") {
                Some(Value::Object(metadata)) => metadata,
                _ => Map::new(),
            },
        })
    }

    /// What has to be read of a first passage.
    fn parts() -> Parts {
        let keys = ["document_id", "title", "metadata"].map(str::to_owned).to_vec();
        Parts { payload: Selector::Only(keys), vectors: Selector::None }
    }
}

/// A filter for the first passage of every document.
fn first_passages() -> Result<Filter> {
    let tests = vec![Test::Match(Scalar::Integer(0))];
    Ok(Filter::must(Condition::Field { key: "passage".parse()?, tests }))
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

    /// The documents of a collection, in no order.
    ///
    /// # Errors
    /// When the collection is unknown or a segment of it is damaged.
    pub fn documents(&self, collection: &str) -> Result<Vec<DocumentEntry>> {
        let collection = self.database().collection(collection)?;
        let (filter, parts) = (Some(first_passages()?), DocumentEntry::parts());
        let page = collection.scroll(&Scroll { filter, limit: usize::MAX - 1, parts, from: None })?;
        Ok(page.records.into_iter().filter_map(DocumentEntry::of).collect())
    }

    /// How many documents a collection has.
    ///
    /// # Errors
    /// As for [`Engine::documents`].
    pub fn count_documents(&self, collection: &str) -> Result<usize> {
        Ok(self.database().collection(collection)?.count(Some(&first_passages()?))?)
    }

    /// A document of a collection without its text; none if it is not there.
    ///
    /// # Errors
    /// As for [`Engine::documents`].
    pub fn document_entry(&self, collection: &str, id: &str) -> Result<Option<DocumentEntry>> {
        let collection = self.database().collection(collection)?;
        let first = collection.get(&[passage_id(id, 0)], &DocumentEntry::parts())?;
        Ok(first.into_iter().find_map(DocumentEntry::of))
    }

    /// Replaces the metadata of a document; false if it is not there.
    ///
    /// # Errors
    /// As for [`Engine::documents`], and when the disk cannot take the change.
    pub fn set_document_metadata(
        &self,
        collection: &str,
        id: &str,
        metadata: Map<String, Value>,
    ) -> Result<bool> {
        let collection = self.database().collection(collection)?;
        let _writing = self.writing.lock();
        let Some(known) = known(&collection, [id].into_iter())?.remove(id) else { return Ok(false) };
        let payload = Map::from_iter([("metadata".to_owned(), Value::Object(metadata))]);
        collection.set_payload(known.passages_from(&collection, 0)?, payload, None)?;
        Ok(true)
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
