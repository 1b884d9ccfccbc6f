//! How much of a question's words a text has, rare words counting more.

use std::collections::HashSet;

use cairn_index::Reading;
use unicode_segmentation::UnicodeSegmentation;

use crate::error::Result;
use crate::words::{WORDS, Words};

/// The words of a question, each with its idf in the collection.
pub(crate) struct Overlap {
    words: Words,
    /// By position in ascending order.
    weights: Vec<(u32, f32)>,
    total: f32,
    /// The beginnings of the words, each with the weight of its word.
    beginnings: Vec<(String, f32)>,
}

/// Letters of a word that are its beginning: "Nationals" meets "national" by it,
/// whose stems may differ.
const BEGINNING: usize = 5;

impl Overlap {
    /// In a collection without BM25 vectors all words weigh the same.
    pub(crate) fn new(question: &str, reading: &Reading) -> Result<Self> {
        let (words, weights) = match Words::of(reading.config())? {
            Some(words) => {
                let weights = reading.weights(WORDS, &words.query(question))?;
                (words, weights)
            }
            None => {
                let words = Words::usual()?;
                let weights = words.query(question).entries().collect();
                (words, weights)
            }
        };
        let total = weights.iter().map(|(_, weight)| weight).sum();
        let mut beginnings: Vec<(String, f32)> = Vec::new();
        for word in question.unicode_words() {
            for position in words.query(word).indices() {
                let weight = weights.iter().find(|(at, _)| at == position).map_or(0.0, |(_, weight)| *weight);
                beginnings.push((beginning(word), weight));
            }
        }
        beginnings.sort_by(|a, b| a.0.cmp(&b.0));
        beginnings.dedup_by(|a, b| a.0 == b.0);
        Ok(Self { words, weights, total, beginnings })
    }

    /// The share of the question's words whose beginning some word of a text
    /// has, 0 to 1.
    pub(crate) fn share_of_beginnings(&self, text: &str) -> f32 {
        let total: f32 = self.beginnings.iter().map(|(_, weight)| weight).sum();
        if total <= 0.0 {
            return 0.0;
        }
        let there: HashSet<String> = text.unicode_words().map(beginning).collect();
        let shared = self.beginnings.iter().filter(|(word, _)| there.contains(word));
        shared.map(|(_, weight)| weight).sum::<f32>() / total
    }

    /// The share of the question's words that a text has, 0 to 1.
    pub(crate) fn share(&self, text: &str) -> f32 {
        if self.total <= 0.0 {
            return 0.0;
        }
        let there = self.words.document(text);
        let has = |position: u32| there.indices().binary_search(&position).is_ok();
        self.weights.iter().filter(|(at, _)| has(*at)).map(|(_, weight)| weight).sum::<f32>() / self.total
    }

    /// Words of the question that are in none of the texts.
    pub(crate) fn missing(&self, question: &str, texts: &[String]) -> Vec<String> {
        let there: Vec<_> = texts.iter().map(|text| self.words.document(text)).collect();
        let mut missing: Vec<String> = Vec::new();
        for word in question.unicode_words() {
            let absent =
                |position: &u32| there.iter().all(|one| one.indices().binary_search(position).is_err());
            let is_new = missing.iter().all(|known| known != word);
            if self.words.query(word).indices().iter().any(absent) && is_new {
                missing.push(word.to_owned());
            }
        }
        missing
    }
}

fn beginning(word: &str) -> String {
    word.to_lowercase().chars().take(BEGINNING).collect()
}
