//! The verbs of text: add documents, search them, ask them.

use std::borrow::Cow;
use std::collections::{HashSet, VecDeque};
use std::sync::Arc;

use cairn_embed::{Cancel, Embedder, Embeddings, Encoder, Progress, Reranker, Silent, TextKind};
use cairn_index::{Collection, ConfigChange, Database, Reading};
use parking_lot::{Mutex, RwLock};
use serde::{Deserialize, Serialize};

use crate::adding::Target;
use crate::answer::TextSearch;
use crate::ask::used;
use crate::chunking::{ChunkChange, ChunkOptions};
use crate::conversation::{Conversation, ConversationOptions, Conversations, now_ms};
use crate::document::{Document, Format};
use crate::error::{Error, Result};
use crate::extract::ExtractOptions;
use crate::generate::{Generator, GeneratorOptions};
use crate::models::{CrossEncoder, ModelOptions, Models};
use crate::passages::Chunk;
use crate::provenance::{ModelUsed, Provenance, Replayed};
use crate::retrieval::{Rerank, Retrieval, RetrievalChange, RetrievalOptions, Retriever, SharedRerank};
use crate::stored::of_documents;
use crate::verify::VerifyOptions;

/// How documents are cut, found and answered from.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct RagOptions {
    /// How documents are cut.
    pub chunk: ChunkOptions,
    /// How passages are found.
    pub retrieval: RetrievalOptions,
    /// How extractive answers are made.
    pub extract: ExtractOptions,
    /// When a sentence of a language model counts as supported.
    pub verify: VerifyOptions,
    /// Which language model answers, if any.
    pub generator: GeneratorOptions,
    /// How much of a conversation is remembered.
    pub conversation: ConversationOptions,
    /// States of collections that are held so that answers made from them can
    /// be replayed; each may keep replaced passages on the disk.
    pub held_readings: usize,
}

impl Default for RagOptions {
    fn default() -> Self {
        Self {
            chunk: ChunkOptions::default(),
            retrieval: RetrievalOptions::default(),
            extract: ExtractOptions::default(),
            verify: VerifyOptions::default(),
            generator: GeneratorOptions::default(),
            conversation: ConversationOptions::default(),
            held_readings: 4,
        }
    }
}

/// Texts over a database: cuts, embeds, finds and answers.
///
/// Blocking and safe to share between threads.
pub struct Engine {
    pub(crate) db: Database,
    pub(crate) models: Arc<Models>,
    pub(crate) generator: Option<Generator>,
    pub(crate) options: RagOptions,
    pub(crate) conversations: Conversations,
    reranker: RwLock<Option<SharedRerank>>,
    /// Held from looking at what a document has to replacing it.
    pub(crate) writing: Mutex<()>,
    /// What the last answers were made from, newest first.
    held: Mutex<VecDeque<Reading>>,
}

/// What became of documents that were added.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Added {
    /// Documents written.
    pub documents: usize,
    /// Documents that were there already, letter by letter.
    pub unchanged: usize,
    /// Passages written.
    pub passages: usize,
    /// Tokens embedded.
    pub tokens: usize,
}

/// How a document would be cut.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Preview {
    /// The model whose tokens count.
    pub model: String,
    /// The settings.
    pub chunk: ChunkOptions,
    /// The chunks, in the order of the document.
    pub chunks: Vec<Chunk>,
}

/// Documents whose passages are written as one change.
const BATCH_DOCUMENTS: usize = 32;

/// The key under which a collection's metadata holds what this crate needs.
pub(crate) const METADATA_KEY: &str = "cairn";

impl Engine {
    /// An engine over an open database.
    pub fn new(db: Database, models: ModelOptions, options: RagOptions) -> Self {
        Self::with_models(db, Arc::new(Models::new(models)), options)
    }

    /// The same with models that others use, too, or that outlive it: what is
    /// loaded stays loaded.
    pub fn with_models(db: Database, models: Arc<Models>, options: RagOptions) -> Self {
        let conversations = Conversations::new(db.path(), options.conversation.clone());
        let generator = Generator::new(options.generator.clone(), &models);
        let reranker = models.rerank_name().map(|name| {
            let models = models.clone();
            Arc::new(CrossEncoder { models, name }) as SharedRerank
        });
        Self {
            models,
            generator,
            conversations,
            reranker: RwLock::new(reranker),
            writing: Mutex::default(),
            held: Mutex::default(),
            db,
            options,
        }
    }

    /// The database below.
    pub fn database(&self) -> &Database {
        &self.db
    }

    /// The models that can be named.
    pub fn models(&self) -> Vec<String> {
        self.models.names()
    }

    /// The model of new collections: that of the settings, or what took its place
    /// where it could not be had.
    pub fn default_model(&self) -> String {
        self.models.default_name()
    }

    /// Loads a model, fetching it if it is known and not here yet.
    ///
    /// # Errors
    /// [`Error::UnknownModel`], or what went wrong fetching or loading it.
    pub fn load_model(&self, name: &str, progress: &dyn Progress) -> Result<()> {
        self.models.get_with(name, progress).map(drop)
    }

    /// Loads the model of a collection; of one that is not there, the model that
    /// it would get, fetching it if it is not here yet. Returns its name.
    ///
    /// # Errors
    /// [`Error::NoTextModel`], or what went wrong fetching or loading it.
    pub fn load_model_of(&self, collection: &str, progress: &dyn Progress) -> Result<String> {
        let model = match self.text_collection(collection) {
            Ok((_, model)) => Some(model),
            Err(Error::Index(cairn_index::Error::UnknownCollection { .. })) => None,
            Err(error) => return Err(error),
        };
        Ok(self.models.named(model.as_deref(), progress)?.0)
    }

    /// Vectors of texts; the default model when none is named.
    ///
    /// # Errors
    /// [`Error::UnknownModel`], [`Error::EmptyText`], or a failure of the model.
    pub fn embed(&self, model: Option<&str>, texts: &[&str], kind: TextKind) -> Result<Embeddings> {
        if texts.iter().any(|text| text.trim().is_empty()) {
            return Err(Error::EmptyText { field: "text" });
        }
        Ok(self.embedder(model)?.1.embed(texts, kind)?)
    }

    /// The name of a model and the model, loaded, or behind an address; the
    /// default one when none is named.
    ///
    /// # Errors
    /// [`Error::UnknownModel`], [`Error::ModelKind`], or a failure of loading.
    pub fn embedder(&self, model: Option<&str>) -> Result<(String, Embedder)> {
        let name = match model {
            Some(name) => self.models.canonical(name),
            None => self.models.settled(&Silent)?,
        };
        let embedder = self.models.get_by_name(&name)?;
        Ok((name, embedder))
    }

    /// As [`Engine::embedder`], for what needs the model itself, such as its
    /// tokens; its vectors may be of any kind, which [`Encoder::heads`] tells.
    ///
    /// # Errors
    /// Those of [`Engine::embedder`], and [`Error::NotHere`] for a model behind
    /// an address.
    pub fn any_encoder(&self, model: Option<&str>) -> Result<(String, Arc<Encoder>)> {
        let name = match model {
            Some(name) => self.models.canonical(name),
            None => self.models.settled(&Silent)?,
        };
        let encoder = self.models.any_by_name(&name)?;
        Ok((name, encoder))
    }

    /// The name of a model that reranks and the model, loaded; that of the
    /// settings when none is named.
    ///
    /// # Errors
    /// [`Error::NoReranker`], [`Error::UnknownModel`], [`Error::ModelKind`], or
    /// a failure of loading.
    pub fn rerank_model(&self, model: Option<&str>) -> Result<(String, Arc<Reranker>)> {
        let name = match model {
            Some(name) => self.models.canonical(name),
            None => self.models.rerank_name().ok_or(Error::NoReranker)?,
        };
        let reranker = self.models.reranker_by_name(&name)?;
        Ok((name, reranker))
    }

    /// The model that reranks by the settings, if one is set.
    pub fn default_reranker(&self) -> Option<String> {
        self.models.rerank_name()
    }

    /// The tokens a batch of texts has at most on its way through a model.
    pub fn max_batch_tokens(&self) -> usize {
        self.models.max_batch_tokens()
    }

    /// What a model is for, if it is known or on this machine; `name` may be
    /// short.
    pub fn model_kind(&self, name: &str) -> Option<cairn_embed::ModelKind> {
        self.models.kind(name)
    }

    /// Adds documents to a collection, creating it with the default model when
    /// it is not there. A document whose id is there already is replaced; one
    /// that has not changed is left alone. `progress` is told how many
    /// documents are done.
    ///
    /// # Errors
    /// [`Error::Document`] and [`Error::DuplicateDocument`] before anything is
    /// written; failures of the model or the disk afterwards, when the batches
    /// before are in place.
    pub fn add(
        &self,
        collection: &str,
        documents: &[Document],
        format: Format,
        progress: &mut dyn FnMut(usize),
    ) -> Result<Added> {
        self.add_chunked(collection, documents, format, None, progress)
    }

    /// As [`Engine::add`], with settings of its own for a collection that is made
    /// now. They are kept with it, and every later document is cut by them.
    ///
    /// # Errors
    /// Those of [`Engine::add`]; [`Error::Option`] for settings out of range, and
    /// [`Error::ChunkSettings`] for a collection that is there with others.
    pub fn add_chunked(
        &self,
        collection: &str,
        documents: &[Document],
        format: Format,
        chunk: Option<ChunkChange>,
        progress: &mut dyn FnMut(usize),
    ) -> Result<Added> {
        self.add_until(collection, documents, format, chunk, &Cancel::new(), progress)
    }

    /// Whether documents could be added with these settings: nothing is stored and
    /// no model is loaded.
    ///
    /// # Errors
    /// Those of [`Engine::add_chunked`] that come before anything is written.
    pub fn check_documents(
        &self,
        collection: &str,
        documents: &[Document],
        chunk: Option<ChunkChange>,
    ) -> Result<()> {
        check_documents(documents)?;
        Target::new(self, collection, chunk, &Silent).map(drop)
    }

    /// As [`Engine::add_chunked`], until `cancel` is set: then it ends within a
    /// batch, and what was written stays.
    ///
    /// # Errors
    /// Those of [`Engine::add_chunked`]; [`Error::Embed`] of a cancelled call once
    /// `cancel` is set.
    pub fn add_until(
        &self,
        collection: &str,
        documents: &[Document],
        format: Format,
        chunk: Option<ChunkChange>,
        cancel: &Cancel,
        progress: &mut dyn FnMut(usize),
    ) -> Result<Added> {
        check_documents(documents)?;
        let target = Target::new(self, collection, chunk, &Silent)?;
        add_to(&target, documents, format, cancel, progress)
    }

    /// As [`Engine::add_until`] to a collection that is there, with these
    /// documents cut otherwise than its others: `chunk` changes its settings for
    /// them alone. A document that is there and was cut in another way is
    /// replaced.
    ///
    /// # Errors
    /// Those of [`Engine::add_until`], and an unknown collection.
    pub fn add_cut(
        &self,
        collection: &str,
        documents: &[Document],
        format: Format,
        chunk: ChunkChange,
        cancel: &Cancel,
    ) -> Result<Added> {
        check_documents(documents)?;
        self.text_collection(collection)?;
        let mut target = Target::new(self, collection, None, &Silent)?;
        target.chunk = target.chunk.with(chunk);
        target.chunk.check()?;
        add_to(&target, documents, format, cancel, &mut |_| {})
    }

    /// Makes a collection of texts for the default model, unless it is there;
    /// `chunk` are settings of its own, which it keeps.
    ///
    /// # Errors
    /// Those of [`Engine::add_chunked`] that are about settings;
    /// [`Error::NoTextModel`] where it is a collection of something else, and when
    /// the model cannot be loaded or the disk cannot take the change.
    pub fn make_text_collection(&self, name: &str, chunk: Option<ChunkChange>) -> Result<()> {
        Target::new(self, name, chunk, &Silent)?.collection_or_new().map(drop)
    }

    /// How a document would be cut: nothing is stored. The settings are those of
    /// the collection, or of a new one, and what `chunk` changes about them.
    ///
    /// # Errors
    /// [`Error::Document`], [`Error::Option`], [`Error::NoTextModel`], or when the
    /// model cannot be loaded.
    pub fn preview(
        &self,
        collection: &str,
        document: &Document,
        format: Format,
        chunk: Option<ChunkChange>,
    ) -> Result<Preview> {
        document.check()?;
        let mut target = Target::new(self, collection, None, &Silent)?;
        target.chunk = target.chunk.with(chunk.unwrap_or_default());
        target.chunk.check()?;
        let chunks = target.chunks(document, format)?;
        Ok(Preview { model: target.model, chunk: target.chunk, chunks })
    }

    /// Removes a document; returns how many passages it had.
    ///
    /// # Errors
    /// When the collection is unknown or the disk cannot take the change.
    pub fn delete_document(&self, collection: &str, id: &str) -> Result<usize> {
        let collection = self.db.collection(collection)?;
        Ok(collection.delete(of_documents([id].into_iter())?)?.deleted)
    }

    /// The passages that answer a query best, and how they were found.
    ///
    /// # Errors
    /// [`Error::EmptyText`], [`Error::NoTextModel`], [`Error::NoWords`],
    /// [`Error::Option`], or an unknown collection.
    pub fn search(&self, collection: &str, wanted: &TextSearch) -> Result<Retrieval> {
        if wanted.query.trim().is_empty() {
            return Err(Error::EmptyText { field: "query" });
        }
        let (collection, model) = self.text_collection(collection)?;
        let encoder = self.models.get(&model)?;
        let now = now_ms() as i64 * 1000;
        self.retriever(&collection.reading()?, &encoder, wanted, now, false)?.run(wanted)
    }

    /// Retrieves again what an answer was made from, at the seq it was made at
    /// where that is still held: the last few readings that answers were made
    /// from are. Otherwise from the collection as it is, and says so.
    ///
    /// # Errors
    /// As for [`Engine::search`].
    pub fn replay(&self, record: &Provenance) -> Result<Replayed> {
        let (collection, model) = self.text_collection(&record.collection)?;
        let mut reasons = Vec::new();
        let digest = self.models.digest(&model);
        if record.embedder != (ModelUsed { name: model.clone(), sha256: digest }) {
            reasons.push(format!("the collection's model is `{model}` by now, or has other weights"));
        }
        let held =
            self.held.lock().iter().find(|held| held.seq() == record.seq && same(held, &collection)).cloned();
        let reading = match held {
            Some(held) => held,
            None => collection.reading()?,
        };
        if reading.seq() != record.seq {
            reasons.push(format!(
                "the collection is at seq {}, and what it held at seq {} is no longer kept",
                reading.seq(),
                record.seq
            ));
        }
        let encoder = self.models.get(&model)?;
        let wanted = TextSearch {
            limit: record.limit,
            filter: record.filter.clone(),
            ..TextSearch::new(record.query.as_str())
        };
        let retriever = Retriever {
            options: record.retrieval.clone(),
            ..self.retriever(&reading, &encoder, &wanted, record.asked_at, true)?
        };
        let mut found = retriever.run(&wanted)?;
        reasons.append(&mut found.warnings);
        let same = used(&found.passages) == record.passages;
        if !same && reasons.is_empty() {
            reasons.push("the search found other passages, as an approximate one may".to_owned());
        }
        Ok(Replayed { same, reasons, seq: found.seq, passages: found.passages })
    }

    /// Starts a conversation about a collection.
    ///
    /// # Errors
    /// An unknown collection, or when the disk cannot take it.
    pub fn start_conversation(&self, collection: &str) -> Result<Conversation> {
        let collection = self.db.collection(collection)?;
        self.conversations.start(collection.name())
    }

    /// What was said in a conversation so far.
    ///
    /// # Errors
    /// [`Error::UnknownConversation`], or an unknown collection.
    pub fn conversation(&self, collection: &str, id: &str) -> Result<Conversation> {
        let collection = self.db.collection(collection)?;
        self.conversations.get(collection.name(), id)
    }

    /// Deletes a conversation.
    ///
    /// # Errors
    /// [`Error::UnknownConversation`], or an unknown collection.
    pub fn delete_conversation(&self, collection: &str, id: &str) -> Result<()> {
        let collection = self.db.collection(collection)?;
        self.conversations.delete(collection.name(), id)
    }

    /// The model that reranks from now on; at first that of the settings, if
    /// one is set.
    pub fn set_reranker(&self, reranker: Option<Arc<dyn Rerank>>) {
        *self.reranker.write() = reranker;
    }

    pub(crate) fn reranker(&self) -> Option<SharedRerank> {
        self.reranker.read().clone()
    }

    /// Sets how passages of a collection are found, where it differs from the
    /// settings.
    ///
    /// # Errors
    /// [`Error::Option`], [`Error::NoTextModel`], or an unknown collection.
    pub fn set_retrieval(&self, collection: &str, change: &RetrievalChange) -> Result<()> {
        self.options.retrieval.with(change).check()?;
        let (collection, _) = self.text_collection(collection)?;
        let mut metadata = collection.config().metadata.clone();
        metadata[METADATA_KEY]["retrieval"] = serde_json::to_value(change).expect("options have string keys");
        collection.configure(ConfigChange::Metadata(metadata))?;
        Ok(())
    }

    /// What finds passages: the settings, with what the collection and then the
    /// request change about them.
    pub(crate) fn retriever<'e>(
        &'e self,
        reading: &'e Reading,
        encoder: &'e Embedder,
        wanted: &TextSearch,
        now: i64,
        for_answer: bool,
    ) -> Result<Retriever<'e>> {
        let kept = reading.config().metadata.get(METADATA_KEY).and_then(|ours| ours.get("retrieval"));
        let kept: RetrievalChange = match kept {
            Some(kept) => RetrievalChange::deserialize(kept).map_err(|error| {
                cairn_index::Error::Request(format!("the collection's retrieval options: {error}"))
            })?,
            None => RetrievalChange::default(),
        };
        let options = self.options.retrieval.with(&kept).with(&wanted.retrieval);
        let reranker = self.reranker();
        let generator = self.generator.as_ref();
        Ok(Retriever { reading, encoder, options, generator, reranker, now, for_answer })
    }

    /// Keeps what an answer was made from, so that it can be replayed.
    pub(crate) fn hold(&self, reading: &Reading) {
        let mut held = self.held.lock();
        if held.iter().any(|old| old.seq() == reading.seq() && same(old, reading.collection())) {
            return;
        }
        held.push_front(reading.clone());
        held.truncate(self.options.held_readings);
    }

    /// A collection and the name of its model.
    pub(crate) fn text_collection(&self, name: &str) -> Result<(Collection, String)> {
        let collection = self.db.collection(name)?;
        let config = collection.config();
        let model = config.metadata.get(METADATA_KEY).and_then(|ours| ours["model"].as_str());
        let model = model.ok_or_else(|| Error::NoTextModel { name: name.to_owned() })?.to_owned();
        Ok((collection, model))
    }
}

/// Adds documents to an open target, batch by batch.
fn add_to(
    target: &Target<'_>,
    documents: &[Document],
    format: Format,
    cancel: &Cancel,
    progress: &mut dyn FnMut(usize),
) -> Result<Added> {
    let mut added = Added::default();
    let mut done = 0;
    for batch in documents.chunks(BATCH_DOCUMENTS) {
        if cancel.is_cancelled() {
            return Err(cairn_embed::Error::Cancelled.into());
        }
        let known = target.known(batch.iter().map(|document| document.id.as_str()))?;
        let mut fresh = Vec::new();
        for document in batch {
            let fingerprint = target.fingerprint(document, format)?;
            if known.get(&document.id).is_some_and(|known| known.fingerprint == fingerprint) {
                added.unchanged += 1;
                continue;
            }
            fresh.push(target.prepare(Cow::Borrowed(document), format, fingerprint, None)?);
        }
        if !fresh.is_empty() {
            let embedded = target.embed(&fresh, cancel)?;
            added.tokens += embedded.tokens;
            let written = target.commit(embedded)?;
            added.documents += written.documents;
            added.passages += written.passages;
        }
        done += batch.len();
        progress(done);
    }
    Ok(added)
}

/// Whether a reading is of this collection.
fn same(reading: &Reading, collection: &Collection) -> bool {
    reading.collection().name() == collection.name()
}

fn check_documents(documents: &[Document]) -> Result<()> {
    let mut ids = HashSet::new();
    for document in documents {
        document.check()?;
        if !ids.insert(&document.id) {
            return Err(Error::DuplicateDocument { id: document.id.clone() });
        }
    }
    Ok(())
}
