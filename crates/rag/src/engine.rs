//! The verbs of text: add documents, search them, ask them.

use std::collections::HashSet;

use cairn_embed::{Embeddings, Encoder, Progress, TextKind};
use cairn_index::{Collection, CollectionConfig, Database, Metric};
use serde::{Deserialize, Serialize};
use serde_json::json;

use crate::answer::{Answer, Citation, Event, Retrieved, TextSearch};
use crate::document::{Document, Format};
use crate::error::{Error, Result};
use crate::extract::{self, ExtractOptions};
use crate::generate::{self, Generator, GeneratorOptions};
use crate::models::{ModelOptions, Models};
use crate::passages::passages;
use crate::stored::{Prepared, embed_passages, fingerprints, of_documents, retrieve};

/// How documents are cut, found and answered from.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct RagOptions {
    /// How documents are cut.
    pub chunk: ChunkOptions,
    /// How extractive answers are made.
    pub extract: ExtractOptions,
    /// Which language model answers, if any.
    pub generator: GeneratorOptions,
}

/// How documents are cut.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ChunkOptions {
    /// Length of a passage at most, in tokens of the model. The model's own
    /// limit holds besides.
    pub max_tokens: usize,
}

impl Default for ChunkOptions {
    fn default() -> Self {
        Self { max_tokens: 200 }
    }
}

/// Texts over a database: cuts, embeds, finds and answers.
///
/// Blocking and safe to share between threads.
pub struct Engine {
    db: Database,
    models: Models,
    generator: Option<Generator>,
    options: RagOptions,
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

/// Documents whose passages are written as one change.
const BATCH_DOCUMENTS: usize = 32;

/// The key under which a collection's metadata holds what this crate needs.
const METADATA_KEY: &str = "cairn";

impl Engine {
    /// An engine over an open database.
    pub fn new(db: Database, models: ModelOptions, options: RagOptions) -> Self {
        let generator = Generator::new(options.generator.clone());
        Self { db, models: Models::new(models), generator, options }
    }

    /// The database below.
    pub fn database(&self) -> &Database {
        &self.db
    }

    /// The models that can be named.
    pub fn models(&self) -> Vec<String> {
        self.models.names()
    }

    /// The model of new collections.
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

    /// Vectors of texts; the default model when none is named.
    ///
    /// # Errors
    /// [`Error::UnknownModel`], [`Error::EmptyText`], or a failure of the model.
    pub fn embed(&self, model: Option<&str>, texts: &[&str], kind: TextKind) -> Result<Embeddings> {
        if texts.iter().any(|text| text.trim().is_empty()) {
            return Err(Error::EmptyText { field: "text" });
        }
        let model = model.map_or_else(|| self.models.default_name(), str::to_owned);
        Ok(self.models.get_by_name(&model)?.embed(texts, kind)?)
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
        check_documents(documents)?;
        let (collection, model) = self.text_collection_or_new(collection)?;
        let encoder = self.models.get(&model)?;
        let max_tokens = self.options.chunk.max_tokens.min(encoder.max_tokens().saturating_sub(2)).max(1);
        let recipe = format!("{model} {max_tokens}");

        let mut added = Added::default();
        let mut done = 0;
        for batch in documents.chunks(BATCH_DOCUMENTS) {
            let known = fingerprints(&collection, batch)?;
            let mut fresh = Vec::new();
            for document in batch {
                let fingerprint = document.fingerprint(format, &recipe);
                if known.get(&document.id) == Some(&fingerprint) {
                    added.unchanged += 1;
                    continue;
                }
                let found = passages(document, format, max_tokens, |text| encoder.count_tokens(text));
                fresh.push(Prepared { document, fingerprint, passages: found });
            }
            if !fresh.is_empty() {
                let (points, tokens) = embed_passages(&encoder, &fresh, format)?;
                added.documents += fresh.len();
                added.passages += points.len();
                added.tokens += tokens;
                collection
                    .replace(of_documents(fresh.iter().map(|one| one.document.id.as_str()))?, points)?;
            }
            done += batch.len();
            progress(done);
        }
        Ok(added)
    }

    /// Removes a document; returns how many passages it had.
    ///
    /// # Errors
    /// When the collection is unknown or the disk cannot take the change.
    pub fn delete_document(&self, collection: &str, id: &str) -> Result<usize> {
        let collection = self.db.collection(collection)?;
        Ok(collection.delete(of_documents([id].into_iter())?)?.deleted)
    }

    /// The passages nearest in meaning to a query, best first.
    ///
    /// # Errors
    /// [`Error::EmptyText`], [`Error::NoTextModel`], or an unknown collection.
    pub fn search(&self, collection: &str, wanted: &TextSearch) -> Result<Vec<Retrieved>> {
        if wanted.query.trim().is_empty() {
            return Err(Error::EmptyText { field: "query" });
        }
        let (collection, model) = self.text_collection(collection)?;
        let embedded = self.models.get(&model)?.embed(&[&wanted.query], TextKind::Query)?;
        retrieve(&collection, first(embedded), wanted)
    }

    /// Answers a question from a collection, telling `on_event` as it goes; an
    /// error from `on_event` ends the work.
    ///
    /// # Errors
    /// [`Error::EmptyText`], [`Error::NoTextModel`], an unknown collection. A
    /// generator that fails is not an error: the answer is then extractive and
    /// carries a warning.
    pub fn ask(
        &self,
        collection: &str,
        wanted: &TextSearch,
        on_event: &mut dyn FnMut(Event) -> Result<()>,
    ) -> Result<Answer> {
        if wanted.query.trim().is_empty() {
            return Err(Error::EmptyText { field: "question" });
        }
        let (collection, model) = self.text_collection(collection)?;
        let encoder = self.models.get(&model)?;
        let question = first(encoder.embed(&[&wanted.query], TextKind::Query)?);
        let passages = retrieve(&collection, question.clone(), wanted)?;
        on_event(Event::Retrieval(passages.clone()))?;

        let mut asked =
            Asked { encoder: &encoder, text: &wanted.query, vector: &question, passages: &passages };
        let answer = match &self.generator {
            None => self.extract(&asked, on_event)?,
            Some(_) if passages.is_empty() => refusal("extractive", NOTHING_FOUND),
            Some(generator) => match self.generate(generator, &mut asked, on_event) {
                Err(error @ Error::Generator { .. }) => {
                    tracing::warn!(%error, "answering from the passages instead");
                    let mut answer = self.extract(&asked, on_event)?;
                    answer.warnings.push(format!("{error}; this answer is extractive"));
                    answer
                }
                other => other?,
            },
        };
        on_event(Event::Done(answer.clone()))?;
        Ok(answer)
    }

    fn extract(&self, asked: &Asked<'_>, on_event: &mut dyn FnMut(Event) -> Result<()>) -> Result<Answer> {
        let options = &self.options.extract;
        let candidates = extract::candidates(asked.passages, options);
        if candidates.is_empty() {
            return Ok(refusal("extractive", NOTHING_FOUND));
        }
        let alone = candidates.iter().map(|candidate| candidate.text.as_str());
        let in_context = candidates.iter().map(|candidate| candidate.in_context.as_str());
        let texts: Vec<&str> = alone.chain(in_context).collect();
        let vectors = asked.encoder.embed(&texts, TextKind::Passage)?.vectors;
        let (alone, in_context) = vectors.split_at(candidates.len());
        let words = extract::question_words(asked.text);
        let scores: Vec<f32> = candidates
            .iter()
            .zip(alone.iter().zip(in_context))
            .map(|(candidate, (alone, in_context))| {
                let similarity = 0.5 * (cosine(asked.vector, alone) + cosine(asked.vector, in_context));
                let passage = asked.passages[candidate.passage].score;
                extract::support(&words, similarity, passage, &candidate.text)
            })
            .collect();
        let citations = extract::choose(asked.passages, &candidates, &scores, options);
        if citations.is_empty() {
            return Ok(refusal("extractive", NOT_SUPPORTED));
        }
        let mut answer = String::new();
        for citation in &citations {
            let gap = if answer.is_empty() { "" } else { " " };
            let piece = format!("{gap}{}", citation.quote);
            answer.push_str(&piece);
            on_event(Event::Delta(piece))?;
            on_event(Event::Citation(citation.clone()))?;
        }
        Ok(answered(answer, citations, "extractive"))
    }

    fn generate(
        &self,
        generator: &Generator,
        asked: &mut Asked<'_>,
        on_event: &mut dyn FnMut(Event) -> Result<()>,
    ) -> Result<Answer> {
        // Held back while it could still be the word for "no answer".
        let mut held = String::new();
        let mut told = false;
        let text = generator.answer(asked.text, asked.passages, &mut |piece| {
            held.push_str(piece);
            if told || !generate::NO_ANSWER.starts_with(held.trim()) {
                told = true;
                on_event(Event::Delta(std::mem::take(&mut held)))?;
            }
            Ok(())
        })?;
        let text = text.trim().to_owned();
        if text.is_empty() || text.contains(generate::NO_ANSWER) {
            return Ok(refusal(generator.name(), NOT_SUPPORTED));
        }
        let (citations, unsupported) = self.verify(asked, &text)?;
        for citation in &citations {
            on_event(Event::Citation(citation.clone()))?;
        }
        let mut answer = answered(text, citations, generator.name());
        if unsupported > 0 {
            answer
                .warnings
                .push(format!("{unsupported} sentences of the answer cite nothing that supports them"));
        }
        Ok(answer)
    }

    /// Finds, for each sentence the model wrote, the sentence of a cited
    /// passage that supports it best. Returns the citations and how many
    /// sentences have none.
    fn verify(&self, asked: &Asked<'_>, answer: &str) -> Result<(Vec<Citation>, usize)> {
        let options = ExtractOptions { max_passages: asked.passages.len(), ..self.options.extract.clone() };
        let candidates = extract::candidates(asked.passages, &options);
        let sentences = generate::cited(answer, asked.passages.len());
        let mut texts: Vec<&str> = candidates.iter().map(|candidate| candidate.text.as_str()).collect();
        let spoken: Vec<&str> =
            sentences.iter().map(|(text, _)| if text.is_empty() { "-" } else { text }).collect();
        texts.extend(&spoken);
        let vectors = asked.encoder.embed(&texts, TextKind::Passage)?.vectors;
        let (sources, claims) = vectors.split_at(candidates.len());

        let mut citations: Vec<Citation> = Vec::new();
        let mut unsupported = 0;
        for ((_, numbers), claim) in sentences.iter().zip(claims) {
            let mut supported = false;
            for number in numbers {
                let best = candidates
                    .iter()
                    .zip(sources)
                    .filter(|(candidate, _)| candidate.passage == *number)
                    .map(|(candidate, vector)| (candidate, cosine(claim, vector)))
                    .max_by(|(_, a), (_, b)| a.total_cmp(b));
                let Some((candidate, score)) = best.filter(|(_, score)| *score >= options.min_support) else {
                    continue;
                };
                supported = true;
                let citation = asked.passages[*number].cite(candidate.bytes.clone(), score);
                citations.extend(citation.filter(|new| {
                    citations.iter().all(|old| (&old.document_id, old.start) != (&new.document_id, new.start))
                }));
            }
            unsupported += usize::from(!supported);
        }
        Ok((citations, unsupported))
    }

    /// A collection and the name of its model.
    fn text_collection(&self, name: &str) -> Result<(Collection, String)> {
        let collection = self.db.collection(name)?;
        let config = collection.config();
        let model = config.metadata.get(METADATA_KEY).and_then(|ours| ours["model"].as_str());
        let model = model.ok_or_else(|| Error::NoTextModel { name: name.to_owned() })?.to_owned();
        Ok((collection, model))
    }

    fn text_collection_or_new(&self, name: &str) -> Result<(Collection, String)> {
        match self.text_collection(name) {
            Err(Error::Index(cairn_index::Error::UnknownCollection { .. })) => {}
            other => return other,
        }
        let model = self.models.default_name();
        let mut config = CollectionConfig::new(self.models.get(&model)?.dim(), Metric::Cosine);
        config.metadata.insert(METADATA_KEY.to_owned(), json!({ "model": model }));
        match self.db.create_collection(name, config) {
            // Somebody else was quicker.
            Err(cairn_index::Error::CollectionExists { .. }) => self.text_collection(name),
            other => Ok((other?, model)),
        }
    }
}

const NOTHING_FOUND: &str = "nothing was found that could answer the question";
const NOT_SUPPORTED: &str = "nothing that was found supports an answer";

/// A question on its way to an answer.
struct Asked<'a> {
    encoder: &'a Encoder,
    text: &'a str,
    vector: &'a [f32],
    passages: &'a [Retrieved],
}

fn answered(answer: String, citations: Vec<Citation>, generator: &str) -> Answer {
    Answer {
        answer,
        citations,
        refused: false,
        reason: None,
        generator: generator.to_owned(),
        warnings: Vec::new(),
    }
}

fn refusal(generator: &str, reason: &str) -> Answer {
    Answer {
        answer: "The documents do not answer this question.".to_owned(),
        citations: Vec::new(),
        refused: true,
        reason: Some(reason.to_owned()),
        generator: generator.to_owned(),
        warnings: Vec::new(),
    }
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

fn first(embedded: Embeddings) -> Vec<f32> {
    embedded.vectors.into_iter().next().expect("one text gives one vector")
}

fn cosine(a: &[f32], b: &[f32]) -> f32 {
    let dot = |a: &[f32], b: &[f32]| a.iter().zip(b).map(|(x, y)| x * y).sum::<f32>();
    let norms = dot(a, a).sqrt() * dot(b, b).sqrt();
    if norms > 0.0 { dot(a, b) / norms } else { 0.0 }
}
