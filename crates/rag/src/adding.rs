//! Documents on their way into one collection: cut, embedded, written.

use std::borrow::Cow;
use std::collections::HashMap;
use std::path::PathBuf;
use std::time::Duration;

use cairn_embed::{Cancel, Embedder, Progress};
use cairn_index::{Collection, CollectionConfig, FieldKind, Metric, Modifier, Point, PointId};
use parking_lot::Mutex;
use serde::Deserialize;
use serde_json::json;

use crate::chunking::{ChunkChange, ChunkOptions};
use crate::document::{Document, Format};
use crate::engine::{Engine, METADATA_KEY};
use crate::error::{Error, Result};
use crate::ingest::Source;
use crate::passages::{Chunk, Passage, passages};
use crate::stored::{
    EmbeddedPoints, Known, Prepared, all_passages, context, embed_passages, known, passage_id,
};
use crate::words::{WORDS, Words, new_options};

/// A collection that documents are added to. It is made when the first of them
/// is written.
pub(crate) struct Target<'e> {
    engine: &'e Engine,
    name: String,
    collection: Mutex<Option<Collection>>,
    pub(crate) model: String,
    pub(crate) chunk: ChunkOptions,
    keep_chunk: bool,
    /// Hears of the model on its way, should it have to be fetched.
    progress: &'e dyn Progress,
}

/// Documents that are embedded and not written yet.
pub(crate) struct Embedded {
    /// Each with the number of its passages.
    documents: Vec<(String, usize)>,
    points: Vec<Point>,
    pub(crate) tokens: usize,
    /// Time that the model took.
    pub(crate) took: Duration,
}

/// What became of a batch.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Committed {
    pub(crate) documents: usize,
    /// Those of them that were there before, in another form.
    pub(crate) replaced: usize,
    pub(crate) passages: usize,
}

impl<'e> Target<'e> {
    /// `chunk` is kept with a collection that is made.
    pub(crate) fn new(
        engine: &'e Engine,
        name: &str,
        chunk: Option<ChunkChange>,
        progress: &'e dyn Progress,
    ) -> Result<Self> {
        let (collection, model) = match engine.text_collection(name) {
            Ok((collection, model)) => (Some(collection), model),
            Err(Error::Index(cairn_index::Error::UnknownCollection { .. })) => {
                (None, engine.models.settled(progress)?)
            }
            Err(error) => return Err(error),
        };
        let has = match &collection {
            Some(collection) => kept_chunk(&collection.config())?,
            None => None,
        };
        let usual = has.clone().unwrap_or_else(|| engine.options.chunk.clone());
        let wanted = usual.with(chunk.unwrap_or_default());
        wanted.check()?;
        if collection.is_some() && wanted != usual {
            return Err(Error::ChunkSettings {
                name: name.to_owned(),
                max_tokens: usual.max_tokens,
                overlap: usual.overlap,
            });
        }
        Ok(Self {
            engine,
            name: name.to_owned(),
            collection: Mutex::new(collection),
            model,
            chunk: wanted,
            keep_chunk: chunk.is_some(),
            progress,
        })
    }

    /// The collection, if it is there already.
    pub(crate) fn collection(&self) -> Option<Collection> {
        self.collection.lock().clone()
    }

    pub(crate) fn collection_or_new(&self) -> Result<Collection> {
        let mut collection = self.collection.lock();
        if let Some(collection) = &*collection {
            return Ok(collection.clone());
        }
        let made = self.make()?;
        Ok(collection.insert(made).clone())
    }

    /// Makes the collection; takes the one that is there if somebody else was
    /// quicker.
    fn make(&self) -> Result<Collection> {
        let mut config = CollectionConfig::new(self.encoder()?.dim()?, Metric::Cosine);
        config = config.with_sparse(WORDS, Modifier::Idf);
        // By its first passage a document is counted and listed.
        config = config.with_index("passage", FieldKind::Integer.into())?;
        let mut ours = json!({ "model": self.model, "bm25": new_options() });
        if self.keep_chunk {
            ours["chunk"] = json!(self.chunk);
        }
        config.metadata.insert(METADATA_KEY.to_owned(), ours);
        match self.engine.db.create_collection(&self.name, config) {
            Err(cairn_index::Error::CollectionExists { .. }) => {
                Ok(self.engine.text_collection(&self.name)?.0)
            }
            made => Ok(made?),
        }
    }

    pub(crate) fn encoder(&self) -> Result<Embedder> {
        self.engine.models.get_with(&self.model, self.progress)
    }

    /// What a passage may have: the settings, and what the model sees.
    fn chunk_for(&self, encoder: &Embedder) -> ChunkOptions {
        self.chunk.within(encoder.max_tokens().saturating_sub(2))
    }

    /// Changes whenever documents are cut or embedded in another way.
    fn recipe(&self, encoder: &Embedder) -> String {
        format!("{} {}", self.model, self.chunk_for(encoder).recipe())
    }

    /// Changes whenever files are read, cut or embedded in another way; known
    /// without the model.
    pub(crate) fn file_recipe(&self, format: Option<Format>) -> String {
        let format = format.map_or(String::new(), |format| format!(" {format:?}"));
        format!("{} {} {}{format}", crate::parse::VERSION, self.model, self.chunk.recipe())
    }

    pub(crate) fn known<'a>(&self, ids: impl Iterator<Item = &'a str>) -> Result<HashMap<String, Known>> {
        self.collection().map_or_else(|| Ok(HashMap::new()), |there| known(&there, ids))
    }

    pub(crate) fn fingerprint(&self, document: &Document, format: Format) -> Result<String> {
        Ok(document.fingerprint(format, &self.recipe(&self.encoder()?)))
    }

    pub(crate) fn passages(&self, document: &Document, format: Format) -> Result<Vec<Passage>> {
        let encoder = self.encoder()?;
        Ok(passages(document, format, &self.chunk_for(&encoder), |text| encoder.count_tokens(text)))
    }

    pub(crate) fn prepare<'d>(
        &self,
        document: Cow<'d, Document>,
        format: Format,
        fingerprint: String,
        source: Option<Source>,
    ) -> Result<Prepared<'d>> {
        let passages = self.passages(&document, format)?;
        Ok(Prepared { document, format, fingerprint, source, passages })
    }

    pub(crate) fn embed(&self, batch: &[Prepared<'_>], cancel: &Cancel) -> Result<Embedded> {
        let words = Words::of(&self.collection_or_new()?.config())?;
        let encoder = self.encoder()?;
        let EmbeddedPoints { points, tokens, took } =
            embed_passages(&encoder, batch, words.as_ref(), cancel)?;
        let documents = batch.iter().map(|one| (one.document.id.clone(), one.passages.len())).collect();
        Ok(Embedded { documents, points, tokens, took })
    }

    /// How a document would be cut.
    pub(crate) fn chunks(&self, document: &Document, format: Format) -> Result<Vec<Chunk>> {
        let encoder = self.encoder()?;
        let passages = self.passages(document, format)?.into_iter();
        let chunk = |passage: Passage| Chunk {
            prefix: context(document, &passage),
            tokens: encoder.count_tokens(&passage.text),
            passage,
        };
        Ok(passages.map(chunk).collect())
    }

    /// Remembers what a document's file is now; the document is as it was.
    pub(crate) fn set_source(&self, id: &str, source: &Source) -> Result<()> {
        let Some(collection) = self.collection() else { return Ok(()) };
        let value = serde_json::to_value(source).expect("a source has string keys");
        let payload = serde_json::Map::from_iter([("source".to_owned(), value)]);
        let _writing = self.engine.writing.lock();
        match collection.set_payload(vec![passage_id(id, 0)], payload, None) {
            // It was deleted meanwhile.
            Err(cairn_index::Error::UnknownPoint { .. }) => Ok(()),
            other => {
                other?;
                Ok(())
            }
        }
    }

    /// Removes documents as one change.
    pub(crate) fn remove(&self, documents: &[Known]) -> Result<()> {
        let Some(collection) = self.collection() else { return Ok(()) };
        let _writing = self.engine.writing.lock();
        let mut passages = Vec::new();
        for known in documents {
            passages.extend(known.passages_from(&collection, 0)?);
        }
        collection.delete(passages)?;
        Ok(())
    }

    /// The folder of the database, which holds no documents.
    pub(crate) fn data_folder(&self) -> PathBuf {
        let path = self.engine.db.path();
        std::fs::canonicalize(path).unwrap_or_else(|_| path.to_owned())
    }

    /// Writes documents in place of what they were before, as one change.
    pub(crate) fn commit(&self, batch: Embedded) -> Result<Committed> {
        let collection = self.collection_or_new()?;
        // What is there must not change before it is replaced.
        let _writing = self.engine.writing.lock();
        let known = known(&collection, batch.documents.iter().map(|(id, _)| id.as_str()))?;
        let mut stale: Vec<PointId> = Vec::new();
        for (id, passages) in &batch.documents {
            stale.extend(match known.get(id) {
                Some(known) => known.passages_from(&collection, *passages)?,
                None => left_over(&collection, id, *passages)?,
            });
        }
        let passages = batch.points.len();
        collection.replace(stale, batch.points)?;
        Ok(Committed { documents: batch.documents.len(), replaced: known.len(), passages })
    }
}

/// The settings that a collection was made with, where it was with its own.
pub(crate) fn kept_chunk(config: &CollectionConfig) -> Result<Option<ChunkOptions>> {
    let kept = config.metadata.get(METADATA_KEY).and_then(|ours| ours.get("chunk"));
    let read = |kept| {
        ChunkOptions::deserialize(kept)
            .map_err(|error| cairn_index::Error::Request(format!("the collection's chunk settings: {error}")))
    };
    Ok(kept.map(read).transpose()?)
}

/// Passages of a document whose first one is gone, deleted as a point.
fn left_over(collection: &Collection, id: &str, from: usize) -> Result<Vec<PointId>> {
    let parts =
        cairn_index::Parts { payload: cairn_index::Selector::None, vectors: cairn_index::Selector::None };
    if collection.get(&[passage_id(id, from)], &parts)?.is_empty() {
        return Ok(Vec::new());
    }
    all_passages(collection, id)
}
