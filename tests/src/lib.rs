//! Judged retrieval sets and the measures taken on them.
//!
//! A set is a folder in the BEIR layout: `corpus.jsonl` {_id, title, text},
//! `queries.jsonl` {_id, text}, `qrels.tsv` with a header line. Any grade above
//! zero is relevant. Measures as in trec_eval with binary gains.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::fs;
use std::path::{Path, PathBuf};

use serde::Deserialize;

/// A document or a query.
#[derive(Debug, Clone, Deserialize)]
pub struct Text {
    /// Its id.
    #[serde(rename = "_id")]
    pub id: String,
    /// Its title; queries have none.
    #[serde(default)]
    pub title: String,
    /// Its text.
    pub text: String,
    /// Strings that answer a query.
    #[serde(default)]
    pub answers: Vec<String>,
}

/// A judged set.
#[derive(Debug)]
pub struct JudgedSet {
    /// The documents.
    pub corpus: Vec<Text>,
    /// The queries that have a judgement.
    pub queries: Vec<Text>,
    /// Relevant documents by query.
    pub relevant: HashMap<String, HashSet<String>>,
}

/// Measures averaged over the queries.
#[derive(Debug, Clone, Copy)]
pub struct Quality {
    /// Normalised discounted cumulative gain of the first ten.
    pub ndcg_10: f64,
    /// Share of the relevant documents among the first hundred.
    pub recall_100: f64,
    /// Reciprocal rank of the first relevant document among the first ten.
    pub mrr_10: f64,
}

impl JudgedSet {
    /// Reads a set; panics with the file's name when it is not as it should be.
    pub fn read(folder: &Path) -> Self {
        let mut relevant: HashMap<String, HashSet<String>> = HashMap::new();
        for line in read(&folder.join("qrels.tsv")).lines().skip(1) {
            let fields: Vec<&str> = line.split('\t').collect();
            let [query, document, grade] = fields[..] else {
                panic!("qrels line `{line}` has not three fields")
            };
            if grade.trim().parse::<i32>().expect("a grade is a number") > 0 {
                relevant.entry(query.to_owned()).or_default().insert(document.to_owned());
            }
        }
        let mut queries = lines(&folder.join("queries.jsonl"));
        queries.retain(|query| relevant.contains_key(&query.id));
        Self { corpus: lines(&folder.join("corpus.jsonl")), queries, relevant }
    }

    /// Measures the ranked documents found for each query.
    pub fn measure(&self, found: &BTreeMap<String, Vec<String>>) -> Quality {
        let mut sums = [0.0; 3];
        for query in &self.queries {
            let relevant = &self.relevant[&query.id];
            let ranked = found.get(&query.id).map_or(&[][..], Vec::as_slice);
            let gains = |rank: usize| 1.0 / (rank as f64 + 2.0).log2();
            let hits =
                |depth: usize| ranked.iter().take(depth).enumerate().filter(|(_, id)| relevant.contains(*id));
            let gained: f64 = hits(10).map(|(rank, _)| gains(rank)).sum();
            let ideal: f64 = (0..relevant.len().min(10)).map(gains).sum();
            sums[0] += gained / ideal;
            sums[1] += hits(100).count() as f64 / relevant.len() as f64;
            sums[2] += hits(10).next().map_or(0.0, |(rank, _)| 1.0 / (rank as f64 + 1.0));
        }
        let [ndcg_10, recall_100, mrr_10] = sums.map(|sum| sum / self.queries.len() as f64);
        Quality { ndcg_10, recall_100, mrr_10 }
    }
}

/// The judged set that is part of the project.
pub fn handbook() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("data/handbook")
}

/// A larger judged set beside the project or in the folder that `CAIRN_DATA`
/// names; `None` where there is none.
pub fn larger_set(name: &str) -> Option<PathBuf> {
    let beside = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../shared/data");
    let folder = std::env::var_os("CAIRN_DATA").map_or(beside, PathBuf::from).join(name);
    folder.join("corpus.jsonl").exists().then_some(folder)
}

fn read(path: &Path) -> String {
    fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

fn lines(path: &Path) -> Vec<Text> {
    let text = read(path);
    let lines = text.lines().filter(|line| !line.trim().is_empty());
    lines.map(|line| serde_json::from_str(line).unwrap_or_else(|error| panic!("{line}: {error}"))).collect()
}
