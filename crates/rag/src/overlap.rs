//! How much of a question's words a text has, rare words counting more.

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
}

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
        Ok(Self { words, weights, total })
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
