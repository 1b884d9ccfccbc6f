//! How sure it is that what was found answers a question.
//!
//! The score of a fused rank says which passage is best, not whether it is any
//! good, so it has no part in this. Cosines, and the share of the question's
//! words that were found, do.

use serde::{Deserialize, Serialize};

/// What is known when it has to be decided whether to answer.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
pub struct Evidence {
    /// The largest cosine of a passage with the question.
    pub passage: f32,
    /// The largest cosine of a sentence with the question.
    pub sentence: f32,
    /// The largest share of the question's words in one passage, by idf.
    pub words: f32,
    /// The largest share of them around one sentence, by idf.
    pub words_around: f32,
}

impl Evidence {
    /// The chance that the question is answered, 0 to 1.
    ///
    /// The weights were set by hand. A logistic regression over questions of the
    /// judged sets, each asked of its own and of another set's documents, gives
    /// nearly the same. `cargo xtask bench answers quality` prints what is
    /// refused at each confidence.
    pub fn confidence(&self) -> f32 {
        let sum =
            -6.0 + 6.0 * self.passage + 4.0 * self.sentence + 3.0 * self.words + 2.0 * self.words_around;
        1.0 / (1.0 + (-sum).exp())
    }
}

#[cfg(test)]
mod tests {
    use super::Evidence;

    #[test]
    fn more_evidence_is_more_confidence() {
        let little = Evidence { passage: 0.1, sentence: 0.1, words: 0.1, words_around: 0.0 };
        let much = Evidence { passage: 0.7, sentence: 0.7, words: 0.9, words_around: 0.8 };
        assert!(little.confidence() < 0.2 && much.confidence() > 0.9);
        assert!(Evidence::default().confidence() > 0.0 && much.confidence() < 1.0);
    }
}
