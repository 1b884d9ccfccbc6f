//! Answers without a language model: the sentences that support one best.
//!
//! Each sentence of the best passages is scored against the question; the best
//! ones are given verbatim, in reading order. When even the best is too far
//! from the question, there is no answer.

use std::collections::HashSet;
use std::ops::Range;

use serde::{Deserialize, Serialize};
use unicode_segmentation::UnicodeSegmentation;

use crate::answer::{Citation, Retrieved};
use crate::sentences::sentences;

/// When an answer is given and how long it may be.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ExtractOptions {
    /// Sentences in an answer at most.
    pub max_sentences: usize,
    /// Passages whose sentences are considered.
    pub max_passages: usize,
    /// Support, 0 to 1, below which a sentence is not an answer. Larger refuses
    /// more.
    pub min_support: f32,
    /// A further sentence must reach this share of the best one's support.
    pub min_share: f32,
}

impl Default for ExtractOptions {
    fn default() -> Self {
        Self { max_sentences: 3, max_passages: 5, min_support: 0.4, min_share: 0.8 }
    }
}

/// A sentence that could be part of an answer.
pub(crate) struct Candidate {
    /// Index of its passage among those retrieved.
    pub(crate) passage: usize,
    pub(crate) bytes: Range<usize>,
    pub(crate) text: String,
    /// The sentence after the one before it: what its pronouns point to.
    pub(crate) in_context: String,
}

/// The sentences of the best passages, each once.
pub(crate) fn candidates(passages: &[Retrieved], options: &ExtractOptions) -> Vec<Candidate> {
    let mut seen = HashSet::new();
    let mut found = Vec::new();
    for (index, passage) in passages.iter().enumerate().take(options.max_passages) {
        let mut before = "";
        for bytes in sentences(&passage.text, passage.format) {
            let text = passage.text[bytes.clone()].to_owned();
            let in_context = format!("{before} {text}");
            before = &passage.text[bytes.clone()];
            // One word is a label, and what is asked is not an answer.
            if text.unicode_words().nth(1).is_some() && !text.ends_with('?') && seen.insert(text.clone()) {
                found.push(Candidate { passage: index, bytes, text, in_context });
            }
        }
    }
    found
}

/// How well a sentence answers: mostly its own similarity to the question,
/// partly that of its passage (a pronoun hides the subject), partly the
/// question's words it shares.
pub(crate) fn support(question: &HashSet<String>, similarity: f32, passage: f32, sentence: &str) -> f32 {
    let shared = question_words(sentence).intersection(question).count();
    let overlap = if question.is_empty() { 0.0 } else { shared as f32 / question.len() as f32 };
    0.6 * similarity + 0.25 * passage + 0.15 * overlap
}

/// The words of a text that carry its subject, in lower case, with the plain
/// plural and past endings cut so that "cairns" meets "cairn".
pub(crate) fn question_words(text: &str) -> HashSet<String> {
    text.unicode_words()
        .map(str::to_lowercase)
        .filter(|word| word.chars().count() > 2 && !STOP_WORDS.contains(&word.as_str()))
        .map(|word| {
            let stem = word
                .strip_suffix("es")
                .or_else(|| word.strip_suffix('s'))
                .or_else(|| word.strip_suffix("ed"));
            stem.filter(|stem| stem.chars().count() > 2).unwrap_or(&word).to_owned()
        })
        .collect()
}

const STOP_WORDS: [&str; 48] = [
    "the", "and", "are", "was", "were", "for", "from", "with", "what", "which", "who", "whom", "whose",
    "when", "where", "why", "how", "does", "did", "has", "had", "have", "that", "this", "these", "those",
    "its", "their", "there", "can", "could", "would", "should", "will", "may", "might", "been", "being",
    "into", "onto", "than", "then", "many", "much", "about", "between", "after", "before",
];

/// Picks the answer from scored candidates; empty when nothing supports one.
pub(crate) fn choose(
    passages: &[Retrieved],
    candidates: &[Candidate],
    scores: &[f32],
    options: &ExtractOptions,
) -> Vec<Citation> {
    let mut best: Vec<usize> = (0..candidates.len()).collect();
    best.sort_by(|a, b| scores[*b].total_cmp(&scores[*a]));
    let Some(top) = best.first().map(|index| scores[*index]) else {
        return Vec::new();
    };
    let floor = options.min_support.max(top * options.min_share);
    best.retain(|index| scores[*index] >= floor);
    best.truncate(options.max_sentences);
    // Reading order: the better document first, then as it is written.
    best.sort_by_key(|index| (candidates[*index].passage, candidates[*index].bytes.start));
    let cited = best.into_iter().filter_map(|index| {
        let candidate = &candidates[index];
        passages[candidate.passage].cite(candidate.bytes.clone(), scores[index])
    });
    in_document_order(cited.collect())
}

/// Sentences of one document follow each other as they do in it.
fn in_document_order(citations: Vec<Citation>) -> Vec<Citation> {
    let mut documents: Vec<String> = Vec::new();
    for citation in &citations {
        if !documents.contains(&citation.document_id) {
            documents.push(citation.document_id.clone());
        }
    }
    let mut citations = citations;
    citations.sort_by_key(|citation| {
        let rank = documents.iter().position(|id| *id == citation.document_id);
        (rank, citation.start)
    });
    citations
}
