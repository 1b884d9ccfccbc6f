//! Answers without a language model: the sentences that support one best.
//!
//! Each sentence of the best passages is scored against the question; the best
//! ones are given verbatim, in reading order. How sure it is that they answer
//! at all is judged in `confidence`.

use std::collections::HashSet;
use std::ops::Range;

use serde::{Deserialize, Serialize};
use unicode_segmentation::UnicodeSegmentation;

use crate::answer::{Citation, Retrieved};
use crate::cues::Wanted;
use crate::sentences::sentences;

/// When an answer is given and how long it may be.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ExtractOptions {
    /// Sentences in an answer at most.
    pub max_sentences: usize,
    /// Passages whose sentences are considered.
    pub max_passages: usize,
    /// Confidence, 0 to 1, below which there is no answer. Larger refuses more.
    pub min_confidence: f32,
    /// A further sentence must reach this share of the best one's support.
    pub min_share: f32,
}

impl Default for ExtractOptions {
    fn default() -> Self {
        Self { max_sentences: 3, max_passages: 8, min_confidence: 0.5, min_share: 0.8 }
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
    /// With the sentences on both sides.
    pub(crate) around: String,
}

/// The sentences of the best passages, each once.
pub(crate) fn candidates(passages: &[Retrieved], max_passages: usize) -> Vec<Candidate> {
    let mut seen = HashSet::new();
    let mut found = Vec::new();
    for (index, passage) in passages.iter().enumerate().take(max_passages) {
        let ranges = sentences(&passage.text, passage.format);
        let at = |place: Option<usize>| {
            place.and_then(|place| ranges.get(place)).map_or("", |bytes| &passage.text[bytes.clone()])
        };
        for (place, bytes) in ranges.iter().enumerate() {
            let text = passage.text[bytes.clone()].to_owned();
            // One word is a label, and what is asked is not an answer.
            if text.unicode_words().nth(1).is_none() || text.ends_with('?') || !seen.insert(text.clone()) {
                continue;
            }
            let (before, after) = (at(place.checked_sub(1)), at(Some(place + 1)));
            found.push(Candidate {
                passage: index,
                bytes: bytes.clone(),
                in_context: format!("{before} {text}").trim().to_owned(),
                around: format!("{before} {text} {after}"),
                text,
            });
        }
    }
    found
}

/// What is known of a sentence beside the question, each from 0 to 1.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub(crate) struct Signals {
    /// Cosine with the question.
    pub(crate) alone: f32,
    /// The same together with the sentence before it.
    pub(crate) in_context: f32,
    /// Cosine of its passage with the question.
    pub(crate) passage: f32,
    /// The share of the question's words that it has, each by its idf.
    pub(crate) words: f32,
    /// The same of their first letters.
    pub(crate) beginnings: f32,
    /// The share of the words that are there with the sentences on both sides.
    pub(crate) words_around: f32,
    /// The share of the words that its passage has.
    pub(crate) words_of_passage: f32,
    /// Whether it has what the question asks for: a date, a number, a name.
    pub(crate) cue: f32,
    /// Whether its passage is the first.
    pub(crate) first: f32,
}

impl Signals {
    /// How well the sentence answers, 0 to 1: the mean of the signals, each
    /// weighing what a listwise logistic regression gave it on half of the
    /// questions of xquad-en, with the sentences that hold an answer as truth
    /// (`cargo xtask bench answers` reports the other half).
    pub(crate) fn support(&self) -> f32 {
        let weighed = [
            (3.1, self.alone),
            (3.2, self.in_context),
            (1.9, self.passage),
            (2.1, self.words),
            (2.1, self.beginnings),
            (2.9, self.words_around),
            (2.6, self.words_of_passage),
            (1.8, self.cue),
            (1.6, self.first),
        ];
        let sum: f32 = weighed.iter().map(|(weight, signal)| weight * signal).sum();
        let all: f32 = weighed.iter().map(|(weight, _)| weight).sum();
        (sum / all).clamp(0.0, 1.0)
    }
}

/// What a question asks for.
pub(crate) struct Cue {
    wanted: Wanted,
    words: HashSet<String>,
}

impl Cue {
    pub(crate) fn of(question: &str) -> Self {
        Self {
            wanted: Wanted::by(question),
            words: question.unicode_words().map(str::to_lowercase).collect(),
        }
    }

    pub(crate) fn signal(&self, sentence: &str) -> f32 {
        f32::from(self.wanted.is_in(sentence, &self.words))
    }
}

/// Picks the answer from scored candidates, best ones in reading order.
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
    let floor = top * options.min_share;
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
