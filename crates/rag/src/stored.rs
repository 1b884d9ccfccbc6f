//! Passages as points: what is stored of them, and reading it back.
//!
//! A passage's payload holds its document, its place and its text. The point's
//! id follows from the document's id and the passage's number, so the first
//! passage of a document tells whether the document has changed.

use std::borrow::Cow;
use std::collections::HashMap;
use std::time::{Duration, Instant};

use cairn_embed::{Cancel, Embedder, TextKind};
use cairn_index::{
    Collection, Condition, Filter, Parts, Point, PointId, Record, Scalar, Scroll, Selector, Test,
};
use serde::Deserialize;
use serde_json::{Map, Value, json};
use uuid::Uuid;

use crate::answer::{Retrieved, Scores};
use crate::document::{Document, Format};
use crate::error::Result;
use crate::ingest::Source;
use crate::passages::Passage;
use crate::words::{WORDS, Words};

/// A document on its way in.
pub(crate) struct Prepared<'d> {
    pub(crate) document: Cow<'d, Document>,
    pub(crate) format: Format,
    pub(crate) fingerprint: String,
    /// The file it comes from, if it comes from one.
    pub(crate) source: Option<Source>,
    pub(crate) passages: Vec<Passage>,
}

/// What a collection knows of a document: its first passage says it.
#[derive(Debug, Clone)]
pub(crate) struct Known {
    pub(crate) id: String,
    pub(crate) fingerprint: String,
    /// How many passages it has; absent where an older version wrote it.
    pub(crate) passages: Option<usize>,
    /// The file it was made from, where it was.
    pub(crate) source: Option<Source>,
}

const KNOWN: [&str; 4] = ["document_id", "document_hash", "passages", "source"];

impl Known {
    pub(crate) fn of(record: Record) -> Option<Self> {
        let payload = record.payload?;
        Some(Self {
            id: text_at(&payload, "document_id"),
            fingerprint: text_at(&payload, "document_hash"),
            passages: payload.get("passages").and_then(Value::as_u64).map(|count| count as usize),
            source: payload.get("source").and_then(|source| Source::deserialize(source).ok()),
        })
    }

    /// What has to be read of a first passage.
    pub(crate) fn parts() -> Parts {
        Parts { payload: Selector::Only(KNOWN.map(str::to_owned).to_vec()), vectors: Selector::None }
    }

    /// The ids of its passages from a number on.
    pub(crate) fn passages_from(&self, collection: &Collection, first: usize) -> Result<Vec<PointId>> {
        match self.passages {
            Some(count) => Ok((first..count).map(|number| passage_id(&self.id, number)).collect()),
            None => all_passages(collection, &self.id),
        }
    }
}

/// Those of the documents that are there, by id.
pub(crate) fn known<'a>(
    collection: &Collection,
    ids: impl Iterator<Item = &'a str>,
) -> Result<HashMap<String, Known>> {
    // The first passage of a document has an id that follows from the document's.
    let ids: Vec<PointId> = ids.map(|id| passage_id(id, 0)).collect();
    let records = collection.get(&ids, &Known::parts())?;
    Ok(records.into_iter().filter_map(Known::of).map(|known| (known.id.clone(), known)).collect())
}

/// The ids of all passages of a document, by looking at each payload.
pub(crate) fn all_passages(collection: &Collection, id: &str) -> Result<Vec<PointId>> {
    let parts = Parts { payload: Selector::None, vectors: Selector::None };
    let filter = Some(of_documents([id].into_iter())?);
    let page = collection.scroll(&Scroll { filter, limit: usize::MAX - 1, parts, from: None })?;
    Ok(page.records.into_iter().map(|record| record.id).collect())
}

/// A filter for the passages of these documents.
pub(crate) fn of_documents<'a>(ids: impl Iterator<Item = &'a str>) -> Result<Filter> {
    let ids = ids.map(|id| Scalar::Keyword(id.to_owned())).collect();
    Ok(Filter::must(Condition::Field { key: "document_id".parse()?, tests: vec![Test::Any(ids)] }))
}

pub(crate) fn passage_id(document: &str, number: usize) -> PointId {
    Uuid::new_v5(&Uuid::NAMESPACE_URL, format!("{document}\0{number}").as_bytes()).into()
}

/// Texts given to the encoder at once: enough to keep its threads busy, few
/// enough that a stop does not wait long.
const TEXTS_AT_ONCE: usize = 512;

/// Points of documents, and what embedding them took.
#[derive(Default)]
pub(crate) struct EmbeddedPoints {
    pub(crate) points: Vec<Point>,
    pub(crate) tokens: usize,
    /// Time in which texts were in the model.
    pub(crate) took: Duration,
}

pub(crate) fn embed_passages(
    encoder: &Embedder,
    prepared: &[Prepared<'_>],
    words: Option<&Words>,
    cancel: &Cancel,
) -> Result<EmbeddedPoints> {
    let numbered = prepared
        .iter()
        .flat_map(|one| one.passages.iter().enumerate().map(move |(number, passage)| (one, number, passage)));
    let numbered: Vec<(&Prepared<'_>, usize, &Passage)> = numbered.collect();
    let mut done = EmbeddedPoints { points: Vec::with_capacity(numbered.len()), ..EmbeddedPoints::default() };
    for some in numbered.chunks(TEXTS_AT_ONCE) {
        let texts: Vec<String> =
            some.iter().map(|(one, _, passage)| with_context(&one.document, passage)).collect();
        let texts: Vec<&str> = texts.iter().map(String::as_str).collect();
        let began = Instant::now();
        let embedded = encoder.embed_until(&texts, TextKind::Passage, cancel)?;
        done.took += began.elapsed();
        done.tokens += embedded.tokens;
        for (((one, number, passage), text), vector) in some.iter().zip(texts).zip(embedded.vectors) {
            let mut point = Point::new(passage_id(&one.document.id, *number), vector);
            if let Some(words) = words {
                point = point.with_vector(WORDS, words.document(text));
            }
            point.payload = payload(one, *number, passage);
            done.points.push(point);
        }
    }
    Ok(done)
}

/// What is embedded: a passage alone may not say what it is about.
fn with_context(document: &Document, passage: &Passage) -> String {
    let mut text = context(document, passage);
    if !text.is_empty() {
        text.push(' ');
    }
    text + &passage.text
}

/// What is embedded before a passage: the document's title, the headings, and
/// the end of the passage before where passages overlap.
pub(crate) fn context(document: &Document, passage: &Passage) -> String {
    let title = document.title.trim();
    let headings = passage.heading.iter().map(String::as_str).filter(|heading| *heading != title);
    let before = Some(passage.before.as_str()).filter(|before| !before.is_empty());
    let parts: Vec<&str> =
        Some(title).filter(|title| !title.is_empty()).into_iter().chain(headings).chain(before).collect();
    parts.join(" ")
}

fn payload(prepared: &Prepared<'_>, number: usize, passage: &Passage) -> Map<String, Value> {
    let first = number == 0;
    let fields = [
        ("document_id", json!(prepared.document.id)),
        ("document_hash", json!(prepared.fingerprint)),
        ("title", json!(prepared.document.shown_title())),
        ("heading", json!(passage.heading)),
        ("passage", json!(number)),
        ("start", json!(passage.start)),
        ("end", json!(passage.end)),
        ("format", json!(prepared.format)),
        ("page", json!(passage.page)),
        ("text", json!(passage.text)),
        ("metadata", Value::Object(prepared.document.metadata.clone())),
        ("passages", if first { json!(prepared.passages.len()) } else { Value::Null }),
        ("source", if first { json!(prepared.source) } else { Value::Null }),
    ];
    let there = fields.into_iter().filter(|(_, value)| !value.is_null());
    there.map(|(key, value)| (key.to_owned(), value)).collect()
}

/// A passage as it is stored; nothing for a point without a text, which came
/// from elsewhere and cannot be quoted.
pub(crate) fn retrieved(id: PointId, mut payload: Map<String, Value>) -> Option<Retrieved> {
    let text = payload.get("text")?.as_str()?.to_owned();
    let document_id = text_at(&payload, "document_id");
    let number = |key: &str| payload.get(key).and_then(Value::as_u64).unwrap_or(0);
    let start = number("start") as usize;
    Some(Retrieved {
        id,
        document_id: if document_id.is_empty() { id.to_string() } else { document_id },
        title: text_at(&payload, "title"),
        heading: payload
            .get("heading")
            .and_then(|list| Deserialize::deserialize(list).ok())
            .unwrap_or_default(),
        start,
        end: start + text.chars().count(),
        text,
        score: 0.0,
        scores: Scores::default(),
        expanded_from: None,
        path: Vec::new(),
        number: number("passage") as u32,
        page: payload.get("page").and_then(Value::as_u64).map(|page| page as u32),
        format: payload.get("format").and_then(|name| Format::deserialize(name).ok()).unwrap_or_default(),
        metadata: match payload.remove("metadata") {
            Some(Value::Object(metadata)) => metadata,
            _ => Map::new(),
        },
    })
}

pub(crate) fn text_at(payload: &Map<String, Value>, key: &str) -> String {
    payload.get(key).and_then(Value::as_str).unwrap_or_default().to_owned()
}
