//! Judged retrieval sets and the measures taken on them.
//!
//! A set is a folder in the BEIR layout: `corpus.jsonl` {_id, title, text},
//! `queries.jsonl` {_id, text}, `qrels.tsv` with a header line. Any grade above
//! zero is relevant. Documents and queries go by their place in the files.

use std::collections::{HashMap, HashSet};
use std::path::Path;
use std::{fs, io};

use serde_json::Value;

/// A judged set.
#[derive(Debug)]
pub struct JudgedSet {
    /// Title, space, text of each document.
    pub documents: Vec<String>,
    /// The queries that have a judgement.
    pub queries: Vec<String>,
    /// The relevant documents of each query.
    pub relevant: Vec<HashSet<usize>>,
}

/// Measures averaged over the queries, with binary gains as in `trec_eval`.
#[derive(Debug, Clone, Copy)]
pub struct Quality {
    /// Normalised discounted cumulative gain of the first ten.
    pub ndcg_10: f64,
    /// Share of the relevant documents among the first hundred.
    pub recall_100: f64,
}

impl JudgedSet {
    /// Reads a set.
    ///
    /// # Errors
    /// If a file cannot be read or holds something else.
    pub fn read(folder: &Path) -> io::Result<Self> {
        let corpus = lines(&folder.join("corpus.jsonl"))?;
        let asked = lines(&folder.join("queries.jsonl"))?;
        let place: HashMap<&str, usize> =
            corpus.iter().zip(0..).map(|(line, at)| (text(line, "_id"), at)).collect();
        let mut judged: HashMap<String, HashSet<usize>> = HashMap::new();
        for line in fs::read_to_string(folder.join("qrels.tsv"))?.lines().skip(1) {
            let fields: Vec<&str> = line.split('\t').collect();
            let [query, document, grade] = fields[..] else {
                return Err(io::Error::other(format!("qrels line `{line}` has not three fields")));
            };
            if grade.trim().parse().is_ok_and(|grade: i32| grade > 0)
                && let Some(at) = place.get(document)
            {
                judged.entry(query.to_owned()).or_default().insert(*at);
            }
        }
        let (mut queries, mut relevant) = (Vec::new(), Vec::new());
        for line in &asked {
            if let Some(of) = judged.remove(text(line, "_id")) {
                queries.push(text(line, "text").to_owned());
                relevant.push(of);
            }
        }
        let document = |line: &Value| format!("{} {}", text(line, "title"), text(line, "text"));
        Ok(Self { documents: corpus.iter().map(document).collect(), queries, relevant })
    }

    /// Measures the ranked documents found for each query. Only documents that
    /// `counts` accepts can be relevant; queries without any are left out.
    pub fn measure(&self, found: &[Vec<usize>], counts: impl Fn(usize) -> bool) -> Quality {
        let (mut ndcg, mut recall, mut measured) = (0.0, 0.0, 0);
        for (relevant, ranked) in self.relevant.iter().zip(found) {
            let count = relevant.iter().filter(|document| counts(**document)).count();
            if count == 0 {
                continue;
            }
            let hits = |depth| {
                let ranks = ranked.iter().take(depth).enumerate();
                ranks.filter(|(_, document)| relevant.contains(*document)).map(|(rank, _)| rank)
            };
            ndcg += hits(10).map(gain).sum::<f64>() / (0..count.min(10)).map(gain).sum::<f64>();
            recall += hits(100).count() as f64 / count as f64;
            measured += 1;
        }
        let measured = f64::from(measured.max(1));
        Quality { ndcg_10: ndcg / measured, recall_100: recall / measured }
    }
}

fn gain(rank: usize) -> f64 {
    1.0 / (rank as f64 + 2.0).log2()
}

fn lines(path: &Path) -> io::Result<Vec<Value>> {
    let file = fs::read_to_string(path)?;
    let lines = file.lines().filter(|line| !line.trim().is_empty());
    lines.map(|line| serde_json::from_str(line).map_err(io::Error::from)).collect()
}

fn text<'v>(line: &'v Value, field: &str) -> &'v str {
    line[field].as_str().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_perfect_ranking_measures_one_and_an_empty_one_nothing() {
        let relevant = vec![HashSet::from([3, 5]), HashSet::from([1])];
        let set = JudgedSet { documents: Vec::new(), queries: Vec::new(), relevant };
        let all = set.measure(&[vec![5, 3, 0], vec![1]], |_| true);
        assert!((all.ndcg_10 - 1.0).abs() < 1e-9 && (all.recall_100 - 1.0).abs() < 1e-9);
        let half = set.measure(&[vec![], vec![0, 1]], |_| true);
        assert!((half.ndcg_10 - 0.5 / 3f64.log2()).abs() < 1e-9 && (half.recall_100 - 0.5).abs() < 1e-9);
        // Of the first query only document 3 counts, of the second none does.
        let filtered = set.measure(&[vec![3], vec![]], |document| document == 3);
        assert!((filtered.ndcg_10 - 1.0).abs() < 1e-9);
    }
}
