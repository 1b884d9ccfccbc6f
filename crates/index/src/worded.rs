//! Points ranked by the words of a text field: BM25 over a text index that was
//! asked to keep what that takes (`scoring`).
//!
//! The formula stands in `bm25`. Here a document is all strings of the field of
//! one point together, its length the number of its tokens. Average length and
//! document frequencies are those of the points that have a token in the field,
//! or of those of them that a filter lets through. Where each object of an array
//! counts for itself (`elements`), each is a document, and a point scores what its
//! best one does. Where a part has no index yet, its payloads are read.

use std::collections::HashMap;

use crate::bits::Bits;
use crate::bm25::{self, idf};
use crate::cancel;
use crate::elements::Elements;
use crate::error::Result;
use crate::fields::{FieldIndex, Texts};
use crate::filter::prepared::flat;
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
    let elements = Elements::of(schema, ask.key);
    let read = Read { key: ask.key, elements, analyzer: &analyzer, wanted: &wanted };
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
    elements: Option<Elements>,
    analyzer: &'a Analyzer,
    wanted: &'a [String],
}

/// The words of one part.
enum Counted<'p> {
    Indexed {
        /// Of each document.
        lengths: &'p [u32],
        /// For each word, its documents: one for every occurrence, ascending.
        occurrences: Vec<&'p [u32]>,
        /// The slot of each document, ascending, where that is not its number.
        owners: Option<&'p [u32]>,
    },
    /// The documents of each slot that has some.
    Scanned(HashMap<u32, Vec<Document>>),
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
            let of_slot = read.documents(&payload);
            if !of_slot.is_empty() {
                documents.insert(slot, of_slot);
            }
        }
        cancel.check()?;
        Ok(Self::Scanned(documents))
    }

    fn indexed(index: &'p FieldIndex, texts: &'p Texts, wanted: &[String]) -> Self {
        let occurrences = wanted.iter().map(|word| texts.slots_of(word)).collect();
        Self::Indexed { lengths: texts.lengths(index.entries()), occurrences, owners: index.owners() }
    }

    /// Counts the documents of these slots.
    fn add_to(&self, totals: &mut Totals, slots: &Bits) {
        match self {
            Self::Indexed { lengths, occurrences, owners } => {
                for (document, length) in (0u32..).zip(*lengths) {
                    if *length > 0 && slots.get(owner(*owners, document)) {
                        totals.documents += 1;
                        totals.tokens += u64::from(*length);
                    }
                }
                for (having, occurrences) in totals.having.iter_mut().zip(occurrences) {
                    let wanted = |document: u32| slots.get(owner(*owners, document));
                    *having += runs(occurrences).filter(|(document, _)| wanted(*document)).count();
                }
            }
            Self::Scanned(documents) => {
                let wanted = documents.iter().filter(|(slot, _)| slots.get(**slot));
                for document in wanted.flat_map(|(_, documents)| documents) {
                    totals.documents += 1;
                    totals.tokens += u64::from(document.length);
                    for (having, count) in totals.having.iter_mut().zip(&document.frequencies) {
                        *having += usize::from(*count > 0);
                    }
                }
            }
        }
    }

    /// What each slot with a document that has a word scores, in any order.
    fn scores(&self, weigh: &Weigh) -> Vec<(u32, f32)> {
        match self {
            Self::Indexed { lengths, occurrences, owners } => {
                let mut sums = vec![0.0f64; lengths.len()];
                let mut met = Vec::new();
                for (word, slots) in occurrences.iter().enumerate() {
                    for (document, count) in runs(slots) {
                        let Some(sum) = sums.get_mut(document as usize) else { continue };
                        if *sum == 0.0 {
                            met.push(document);
                        }
                        *sum += weigh.part(word, count, lengths[document as usize]);
                    }
                }
                let scored = |document: u32| (owner(*owners, document), sums[document as usize] as f32);
                if owners.is_none() {
                    return met.into_iter().map(scored).collect();
                }
                // Documents of one slot are neighbours.
                met.sort_unstable();
                let scored: Vec<_> = met.into_iter().map(scored).collect();
                let of_slots = scored.chunk_by(|a, b| a.0 == b.0);
                of_slots
                    .filter_map(|of_slot| of_slot.iter().copied().max_by(|a, b| a.1.total_cmp(&b.1)))
                    .collect()
            }
            Self::Scanned(documents) => {
                let scored = documents.iter();
                scored.filter_map(|(slot, documents)| Some((*slot, weigh.best(documents)?))).collect()
            }
        }
    }

    /// What one slot scores; `None` if no document of it has one of the words.
    fn score(&self, slot: u32, weigh: &Weigh) -> Option<f32> {
        match self {
            Self::Indexed { lengths, occurrences, owners } => {
                let numbers = match owners {
                    None => slot as usize..slot as usize + 1,
                    Some(owners) => {
                        let from = owners.partition_point(|owner| *owner < slot);
                        from..from + owners[from..].partition_point(|owner| *owner == slot)
                    }
                };
                let document = |number: usize| {
                    let count = |documents: &&[u32]| {
                        let from = documents.partition_point(|other| (*other as usize) < number);
                        documents[from..].partition_point(|other| *other as usize == number) as u32
                    };
                    let frequencies = occurrences.iter().map(count).collect();
                    Some(Document { frequencies, length: *lengths.get(number)? })
                };
                weigh.best(&numbers.filter_map(document).collect::<Vec<_>>())
            }
            Self::Scanned(documents) => weigh.best(documents.get(&slot)?),
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
    /// The documents of a point that have a token.
    fn documents(&self, payload: &crate::Payload) -> Vec<Document> {
        let mut documents = match &self.elements {
            Some(elements) => elements.each(payload).map(|values| self.document(flat(&values))).collect(),
            None => vec![self.document(flat_values(self.key, payload).into_iter())],
        };
        documents.retain(|document| document.length > 0);
        documents
    }

    fn document<'v>(&self, values: impl Iterator<Item = &'v serde_json::Value>) -> Document {
        let mut document = Document { frequencies: vec![0; self.wanted.len()], length: 0 };
        for text in values.filter_map(serde_json::Value::as_str) {
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

/// The slot of a document.
fn owner(owners: Option<&[u32]>, document: u32) -> u32 {
    owners.map_or(document, |owners| owners.get(document as usize).copied().unwrap_or(u32::MAX))
}

/// Each number of an ascending list with how often it is there.
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

    /// The best score of the documents that have one of the words.
    fn best(&self, documents: &[Document]) -> Option<f32> {
        let met = documents.iter().filter(|document| document.is_met());
        met.map(|document| self.document(document)).max_by(f32::total_cmp)
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
