//! Passages as points: what is stored of them, and reading it back.
//!
//! A passage's payload holds its document, its place and its text. The point's
//! id follows from the document's id and the passage's number, so the first
//! passage of a document tells whether the document has changed.

use std::collections::HashMap;

use cairn_embed::{Encoder, TextKind};
use cairn_index::{Collection, Condition, Filter, Parts, Point, PointId, Scalar, Selector, Test};
use serde::Deserialize;
use serde_json::{Map, Value, json};
use uuid::Uuid;

use crate::answer::{Retrieved, Scores};
use crate::document::{Document, Format};
use crate::error::Result;
use crate::passages::Passage;
use crate::words::{WORDS, Words};

/// A document on its way in.
pub(crate) struct Prepared<'d> {
    pub(crate) document: &'d Document,
    pub(crate) fingerprint: String,
    pub(crate) passages: Vec<Passage>,
}

/// A filter for the passages of these documents.
pub(crate) fn of_documents<'a>(ids: impl Iterator<Item = &'a str>) -> Result<Filter> {
    let ids = ids.map(|id| Scalar::Keyword(id.to_owned())).collect();
    Ok(Filter::must(Condition::Field { key: "document_id".parse()?, tests: vec![Test::Any(ids)] }))
}

/// The fingerprints of those documents that are there, by id.
pub(crate) fn fingerprints(
    collection: &Collection,
    documents: &[Document],
) -> Result<HashMap<String, String>> {
    // The first passage of a document has an id that follows from the document's.
    let ids: Vec<PointId> = documents.iter().map(|document| passage_id(&document.id, 0)).collect();
    let keys = ["document_id", "document_hash"].map(str::to_owned).to_vec();
    let parts = Parts { payload: Selector::Only(keys), vectors: Selector::None };
    let records = collection.get(&ids, &parts)?;
    let known = records.into_iter().filter_map(|record| {
        let payload = record.payload?;
        Some((text_at(&payload, "document_id"), text_at(&payload, "document_hash")))
    });
    Ok(known.collect())
}

pub(crate) fn passage_id(document: &str, number: usize) -> PointId {
    Uuid::new_v5(&Uuid::NAMESPACE_URL, format!("{document}\0{number}").as_bytes()).into()
}

pub(crate) fn embed_passages(
    encoder: &Encoder,
    prepared: &[Prepared<'_>],
    format: Format,
    words: Option<&Words>,
) -> Result<(Vec<Point>, usize)> {
    let texts: Vec<String> = prepared
        .iter()
        .flat_map(|one| one.passages.iter().map(|passage| with_context(one.document, passage)))
        .collect();
    let texts: Vec<&str> = texts.iter().map(String::as_str).collect();
    let embedded = encoder.embed(&texts, TextKind::Passage)?;
    let mut vectors = texts.into_iter().zip(embedded.vectors);
    let mut points = Vec::new();
    for one in prepared {
        for (number, passage) in one.passages.iter().enumerate() {
            let (text, vector) = vectors.next().expect("there is a vector for each text");
            let mut point = Point::new(passage_id(&one.document.id, number), vector);
            if let Some(words) = words {
                point = point.with_vector(WORDS, words.document(text));
            }
            point.payload = payload(one, number, passage, format);
            points.push(point);
        }
    }
    Ok((points, embedded.tokens))
}

/// What is embedded: a passage alone may not say what it is about.
fn with_context(document: &Document, passage: &Passage) -> String {
    let title = document.title.trim();
    let mut parts: Vec<&str> = Vec::new();
    if !title.is_empty() {
        parts.push(title);
    }
    parts.extend(passage.heading.iter().map(String::as_str).filter(|heading| *heading != title));
    parts.push(&passage.text);
    parts.join(" ")
}

fn payload(prepared: &Prepared<'_>, number: usize, passage: &Passage, format: Format) -> Map<String, Value> {
    let fields = [
        ("document_id", json!(prepared.document.id)),
        ("document_hash", json!(prepared.fingerprint)),
        ("title", json!(prepared.document.shown_title())),
        ("heading", json!(passage.heading)),
        ("passage", json!(number)),
        ("start", json!(passage.start)),
        ("end", json!(passage.end)),
        ("format", json!(format)),
        ("page", json!(passage.page)),
        ("text", json!(passage.text)),
        ("metadata", Value::Object(prepared.document.metadata.clone())),
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

fn text_at(payload: &Map<String, Value>, key: &str) -> String {
    payload.get(key).and_then(Value::as_str).unwrap_or_default().to_owned()
}
