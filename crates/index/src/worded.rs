//! Points ranked by the words of a text field: BM25 over a text index that was
//! asked to keep what that takes (`scoring`).
//!
//! The formula stands in `bm25`. Here a document is all strings of the field of
//! one point together, its length the number of its tokens. Average length and
//! document frequencies are those of the points that have a token in the field,
//! or of those of them that a filter lets through. Where a part has no index yet,
//! its payloads are read.

use std::collections::HashMap;

use crate::bits::Bits;
use crate::bm25::{self, idf};
use crate::cancel;
use crate::error::Result;
use crate::fields::{FieldIndex, Texts};
use crate::part::Part;
use crate::path::Path;
use crate::query::source::{Place, Worded, flat_values, no_scored_index};
use crate::schema::{FieldOptions, FieldSchema};
use crate::search::keep_best;
use crate::text::Analyzer;
use crate::view::View;

/// The points that have a word of the text, best first.
pub(crate) fn by_words(
    view: &View,
    schema: Option<&FieldSchema>,
    ask: &Worded<'_>,
) -> Result<Vec<(Place, f32)>> {
    let refuse = || no_scored_index(ask.key);
    let schema = schema.ok_or_else(refuse)?;
    let FieldOptions::Text(options) = &schema.options else { return Err(refuse()) };
    if !options.is_scored() {
        return Err(refuse());
    }
    let analyzer = Analyzer::new(options)?;
    let mut wanted = analyzer.query_tokens(ask.text);
    wanted.sort_unstable();
    wanted.dedup();
    if wanted.is_empty() {
        return Ok(Vec::new());
    }
    let read = Read { key: ask.key, analyzer: &analyzer, wanted: &wanted };
    let parts: Vec<Counted<'_>> =
        view.parts.iter().map(|part| Counted::new(part, schema, &read)).collect::<Result<_>>()?;
    let mut totals = Totals { having: vec![0; wanted.len()], ..Totals::default() };
    let corpus = view.prepare(ask.corpus)?;
    for (part, counted) in view.parts.iter().zip(&parts) {
        counted.add_to(&mut totals, &view.slots(part, corpus.as_ref())?);
    }
    let weigh = Weigh::new(&totals, ask);
    let prepared = view.prepare(ask.scope.filter)?;
    let mut found = Vec::new();
    match ask.scope.among {
        Some(places) => {
            let scored =
                places.iter().map(|place| (*place, parts[place.part as usize].score(place.slot, &weigh)));
            found.extend(scored.filter_map(|(place, score)| Some((place, score?))));
        }
        None => {
            for ((number, part), counted) in view.numbered().zip(&parts) {
                let accepted = view.slots(part, prepared.as_ref())?;
                let scored = counted.scores(&weigh).into_iter().filter(|(slot, _)| accepted.get(*slot));
                found.extend(scored.map(|(slot, score)| (Place { part: number, slot }, score)));
                keep_best(&mut found, ask.limit);
            }
        }
    }
    cancel::current().check()?;
    keep_best(&mut found, ask.limit);
    Ok(found)
}

/// What is looked for where there is no index.
struct Read<'a> {
    key: &'a Path,
    analyzer: &'a Analyzer,
    wanted: &'a [String],
}

/// The words of one part.
enum Counted<'p> {
    Indexed {
        lengths: &'p [u32],
        /// For each word, its slots: one for every occurrence, ascending.
        occurrences: Vec<&'p [u32]>,
    },
    Scanned(HashMap<u32, Document>),
}

/// What the formula needs to know of all documents together.
#[derive(Default)]
struct Totals {
    documents: usize,
    tokens: u64,
    /// Documents that have each word.
    having: Vec<usize>,
}

struct Document {
    frequencies: Vec<u32>,
    length: u32,
}

impl<'p> Counted<'p> {
    fn new(part: &'p Part, schema: &FieldSchema, read: &Read<'_>) -> Result<Self> {
        let index = part.derived.field(read.key.as_str(), schema);
        if let Some((index, texts)) = index.and_then(|index| Some((index, index.texts()?))) {
            return Ok(Self::indexed(index, texts, read.wanted));
        }
        let mut documents = HashMap::new();
        let cancel = cancel::current();
        for slot in cancel.until(part.marks.live.iter()) {
            let payload = part.payload(slot)?;
            let document = read.document(&payload);
            if document.length > 0 {
                documents.insert(slot, document);
            }
        }
        cancel.check()?;
        Ok(Self::Scanned(documents))
    }

    fn indexed(index: &'p FieldIndex, texts: &'p Texts, wanted: &[String]) -> Self {
        let occurrences = wanted.iter().map(|word| texts.slots_of(word)).collect();
        Self::Indexed { lengths: texts.lengths(index.rows()), occurrences }
    }

    /// Counts the documents of these slots.
    fn add_to(&self, totals: &mut Totals, slots: &Bits) {
        match self {
            Self::Indexed { lengths, occurrences } => {
                for slot in slots.iter() {
                    let length = lengths.get(slot as usize).copied().unwrap_or(0);
                    totals.documents += usize::from(length > 0);
                    totals.tokens += u64::from(length);
                }
                for (having, occurrences) in totals.having.iter_mut().zip(occurrences) {
                    *having += runs(occurrences).filter(|(slot, _)| slots.get(*slot)).count();
                }
            }
            Self::Scanned(documents) => {
                for (_, document) in documents.iter().filter(|(slot, _)| slots.get(**slot)) {
                    totals.documents += 1;
                    totals.tokens += u64::from(document.length);
                    for (having, count) in totals.having.iter_mut().zip(&document.frequencies) {
                        *having += usize::from(*count > 0);
                    }
                }
            }
        }
    }

    /// What each document that has a word scores, in any order.
    fn scores(&self, weigh: &Weigh) -> Vec<(u32, f32)> {
        match self {
            Self::Indexed { lengths, occurrences } => {
                let mut sums = vec![0.0f64; lengths.len()];
                let mut met = Vec::new();
                for (word, slots) in occurrences.iter().enumerate() {
                    for (slot, count) in runs(slots) {
                        let Some(sum) = sums.get_mut(slot as usize) else { continue };
                        if *sum == 0.0 {
                            met.push(slot);
                        }
                        *sum += weigh.part(word, count, lengths[slot as usize]);
                    }
                }
                met.into_iter().map(|slot| (slot, sums[slot as usize] as f32)).collect()
            }
            Self::Scanned(documents) => {
                let scored = documents.iter().filter(|(_, document)| document.is_met());
                scored.map(|(slot, document)| (*slot, weigh.document(document))).collect()
            }
        }
    }

    /// What one document scores; `None` if it has none of the words.
    fn score(&self, slot: u32, weigh: &Weigh) -> Option<f32> {
        match self {
            Self::Indexed { lengths, occurrences } => {
                let count = |slots: &&[u32]| {
                    let from = slots.partition_point(|other| *other < slot);
                    slots[from..].partition_point(|other| *other == slot) as u32
                };
                let document = Document {
                    frequencies: occurrences.iter().map(count).collect(),
                    length: *lengths.get(slot as usize)?,
                };
                document.is_met().then(|| weigh.document(&document))
            }
            Self::Scanned(documents) => {
                let document = documents.get(&slot).filter(|document| document.is_met());
                document.map(|document| weigh.document(document))
            }
        }
    }
}

impl Document {
    /// Whether it has one of the words.
    fn is_met(&self) -> bool {
        self.frequencies.iter().any(|count| *count > 0)
    }
}

impl Read<'_> {
    fn document(&self, payload: &crate::Payload) -> Document {
        let mut document = Document { frequencies: vec![0; self.wanted.len()], length: 0 };
        for text in flat_values(self.key, payload).into_iter().filter_map(serde_json::Value::as_str) {
            self.analyzer.each_document_token(text, |token| {
                document.length += 1;
                if let Ok(word) = self.wanted.binary_search_by(|wanted| wanted.as_str().cmp(token)) {
                    document.frequencies[word] += 1;
                }
            });
        }
        document
    }
}

/// Each slot of an ascending list with how often it is there.
fn runs(slots: &[u32]) -> impl Iterator<Item = (u32, u32)> + '_ {
    slots.chunk_by(|a, b| a == b).map(|run| (run[0], run.len() as u32))
}

/// The formula with the numbers of the collection put in.
struct Weigh {
    idf: Vec<f64>,
    k: f64,
    b: f64,
    average: f64,
}

impl Weigh {
    fn new(totals: &Totals, ask: &Worded<'_>) -> Self {
        let idf = |having: &usize| f64::from(idf(totals.documents, *having));
        Self {
            idf: totals.having.iter().map(idf).collect(),
            k: f64::from(ask.k),
            b: f64::from(ask.b),
            // One that filters out every document leaves no average.
            average: (totals.tokens as f64 / totals.documents.max(1) as f64).max(1.0),
        }
    }

    fn part(&self, word: usize, count: u32, length: u32) -> f64 {
        let (count, long) = (f64::from(count), f64::from(length) / self.average);
        self.idf[word] * count * (self.k + 1.0) / (count + self.k * (1.0 - self.b + self.b * long))
    }

    fn document(&self, document: &Document) -> f32 {
        let counted = document.frequencies.iter().enumerate().filter(|(_, count)| **count > 0);
        counted.map(|(word, count)| self.part(word, *count, document.length)).sum::<f64>() as f32
    }
}

/// Whether the numbers of the formula are in range.
pub(crate) fn check(k: f32, b: f32) -> Result<()> {
    bm25::check("k", k, k >= 0.0, "0 or larger")?;
    bm25::check("b", b, (0.0..=1.0).contains(&b), "from 0 to 1")
}
