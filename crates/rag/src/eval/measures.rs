//! The measures of ranking and of answers.

use std::collections::HashMap;
use std::hash::Hash;

use serde::{Deserialize, Serialize};
use unicode_segmentation::UnicodeSegmentation;

/// How good one ranking is, as `trec_eval` defines it; each from 0 to 1.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
pub struct Measures {
    /// Normalised discounted cumulative gain of the first ten; the grade is the
    /// gain.
    pub ndcg_10: f64,
    /// Share of the relevant documents among the first hundred.
    pub recall_100: f64,
    /// One over the rank of the first relevant document among the first ten.
    pub mrr_10: f64,
    /// Average precision over the ranks at which relevant documents stand, of
    /// the first hundred.
    pub map: f64,
}

impl Measures {
    /// Measures a ranking, best first and each document once, against the
    /// grades of the relevant documents, which there must be some of.
    ///
    /// ```
    /// use std::collections::HashMap;
    /// use cairn_rag::eval::Measures;
    ///
    /// let measures = Measures::of(&["b", "a"], &HashMap::from([("a", 1)]));
    /// assert_eq!((measures.mrr_10, measures.recall_100), (0.5, 1.0));
    /// ```
    pub fn of<D: Eq + Hash>(ranked: &[D], relevant: &HashMap<D, u32>) -> Self {
        let discount = |rank: usize| 1.0 / (rank as f64 + 2.0).log2();
        let grade = |document: &D| f64::from(relevant.get(document).copied().unwrap_or(0));
        let gained: f64 = ranked.iter().take(10).enumerate().map(|(at, one)| grade(one) * discount(at)).sum();
        let mut grades: Vec<u32> = relevant.values().copied().collect();
        grades.sort_unstable_by(|a, b| b.cmp(a));
        let ideal: f64 =
            grades.iter().take(10).enumerate().map(|(at, grade)| f64::from(*grade) * discount(at)).sum();

        let (mut hits, mut precisions, mut first) = (0usize, 0.0, None);
        for (rank, document) in (1..).zip(ranked.iter().take(100)) {
            if grade(document) > 0.0 {
                hits += 1;
                precisions += hits as f64 / f64::from(rank);
                first = first.or(Some(rank));
            }
        }
        let count = relevant.values().filter(|grade| **grade > 0).count().max(1) as f64;
        Self {
            ndcg_10: if ideal > 0.0 { gained / ideal } else { 0.0 },
            recall_100: hits as f64 / count,
            mrr_10: first.filter(|rank| *rank <= 10).map_or(0.0, |rank| 1.0 / f64::from(rank)),
            map: precisions / count,
        }
    }

    /// The mean over several rankings.
    pub fn mean(all: &[Self]) -> Self {
        let mean = |of: fn(&Self) -> f64| all.iter().map(of).sum::<f64>() / all.len().max(1) as f64;
        Self {
            ndcg_10: mean(|one| one.ndcg_10),
            recall_100: mean(|one| one.recall_100),
            mrr_10: mean(|one| one.mrr_10),
            map: mean(|one| one.map),
        }
    }
}

/// Whether an answer holds one of the strings that answer its question,
/// whatever the case.
pub fn contains(answer: &str, gold: &[String]) -> bool {
    let answer = answer.to_lowercase();
    gold.iter().any(|gold| answer.contains(&gold.trim().to_lowercase()))
}

/// The harmonic mean of precision and recall of an answer's words, for the best
/// of the given answers (Rajpurkar et al. 2016); articles do not count.
pub fn token_f1(answer: &str, gold: &[String]) -> f64 {
    let answer = words(answer);
    gold.iter().map(|gold| f1(&answer, &words(gold))).fold(0.0, f64::max)
}

fn words(text: &str) -> Vec<String> {
    let words = text.unicode_words().map(str::to_lowercase);
    words.filter(|word| !["a", "an", "the"].contains(&word.as_str())).collect()
}

fn f1(answer: &[String], gold: &[String]) -> f64 {
    let mut left: HashMap<&str, usize> = HashMap::new();
    for word in gold {
        *left.entry(word).or_default() += 1;
    }
    let mut same = 0usize;
    for word in answer {
        if let Some(count) = left.get_mut(word.as_str()).filter(|count| **count > 0) {
            *count -= 1;
            same += 1;
        }
    }
    if same == 0 { 0.0 } else { 2.0 * same as f64 / (answer.len() + gold.len()) as f64 }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn measures_are_those_worked_out_by_hand() {
        let relevant = HashMap::from([(1, 1), (2, 1), (9, 1)]);
        let got = Measures::of(&[5, 1, 6, 2], &relevant);
        let ideal = 1.0 + 1.0 / 3f64.log2() + 0.5;
        assert!((got.ndcg_10 - (1.0 / 3f64.log2() + 1.0 / 5f64.log2()) / ideal).abs() < 1e-12);
        assert!((got.recall_100 - 2.0 / 3.0).abs() < 1e-12);
        assert!((got.mrr_10 - 0.5).abs() < 1e-12);
        assert!((got.map - (0.5 + 0.5) / 3.0).abs() < 1e-12);
        // A grade of two gains twice as much.
        let graded = HashMap::from([(1, 2), (2, 1)]);
        let got = Measures::of(&[2, 1], &graded);
        let want = (1.0 + 2.0 / 3f64.log2()) / (2.0 + 1.0 / 3f64.log2());
        assert!((got.ndcg_10 - want).abs() < 1e-12);
        assert_eq!(Measures::of(&[], &graded), Measures::default());
    }

    #[test]
    fn answers_are_compared_by_words_without_articles() {
        let gold = ["the Kawann Short".to_owned(), "Short".to_owned()];
        assert!((token_f1("Kawann Short", &gold) - 1.0).abs() < 1e-12);
        assert!((token_f1("a tall Short man", &gold) - 0.5).abs() < 1e-12);
        assert_eq!(token_f1("nobody", &gold), 0.0);
        assert!(contains("It was KAWANN SHORT.", &gold) && !contains("Nobody.", &gold));
    }
}
