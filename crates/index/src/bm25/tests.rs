use std::collections::HashSet;
use std::path::{Path, PathBuf};
use std::time::Instant;

use serde_json::{Value, json};

use super::*;
use crate::bytes::Bytes;
use crate::sparse::Inverted;
use crate::sparse::search::Scratch;

fn bm25(options: Value) -> Bm25 {
    Bm25::new(&serde_json::from_value(options).unwrap()).unwrap()
}

#[test]
fn positions_are_those_that_other_programs_compute() {
    let known = [
        ("", 0),
        ("a", 1_009_084_850),
        ("ab", 1_681_926_305),
        ("cat", 1_751_422_759),
        ("cairn", 1_306_585_408),
        ("retriev", 1_839_534_477),
        ("übermäßig", 253_402_437),
    ];
    for (token, want) in known {
        assert_eq!(position(token), want, "{token}");
    }
}

#[test]
fn values_follow_the_formula() {
    let bm25 = bm25(json!({"k": 2.0, "b": 0.5, "avg_len": 4.0}));
    let document = bm25.document("The cat, the CATS and a dog!");
    let damping = 2.0 * (0.5 + 0.5 * 3.0 / 4.0);
    let want = [("cat", 2.0 * 3.0 / (2.0 + damping)), ("dog", 3.0 / (1.0 + damping))];
    let want = SparseVector::new(want.map(|(token, value)| (position(token), value))).unwrap();
    assert_eq!(document, want);
    assert_eq!(bm25.count("The cat, the CATS and a dog!"), 3);
    assert_eq!(bm25.query("cats cat the mouse").values(), [1.0, 1.0]);
    assert!(bm25.document("and the").indices().is_empty());
    assert!(bm25.query("").indices().is_empty());
}

#[test]
fn the_language_brings_stop_words_and_a_stemmer_unless_they_are_given() {
    let found = |options: Value, text: &str| bm25(options).query(text).indices().len();
    assert_eq!(found(json!({}), "the houses house"), 1);
    assert_eq!(found(json!({"language": "none"}), "the houses house"), 3);
    assert_eq!(found(json!({"stemmer": {"type": "none"}}), "the houses house"), 2);
    assert_eq!(found(json!({"stopwords": {"custom": ["houses"]}}), "the houses house"), 2);
    assert_eq!(found(json!({"language": "de"}), "der Häuser, die Hauses"), 1);
    assert_eq!(found(json!({"language": "tamil"}), "the"), 1);
}

#[test]
fn options_come_back_as_they_were_written_and_bad_ones_are_refused() {
    let written =
        json!({"k": 1.5, "avg_len": 80.0, "language": "french", "stopwords": "english", "max_token_len": 40});
    let options: Bm25Options = serde_json::from_value(written.clone()).unwrap();
    assert_eq!(serde_json::to_value(&options).unwrap(), written);
    for (options, part) in [
        (json!({"k": -1.0}), "k: value -1 invalid"),
        (json!({"b": 1.5}), "b: value 1.5 invalid"),
        (json!({"avg_len": 0.0}), "avg_len: value 0 invalid"),
        (json!({"language": "klingon"}), "`klingon`"),
    ] {
        let error = Bm25::new(&serde_json::from_value(options).unwrap()).unwrap_err().to_string();
        assert!(error.contains(part), "{error}");
    }
}

#[test]
fn idf_falls_with_frequency_and_is_never_negative() {
    assert!((idf(1_000, 10) - (990.5f32 / 10.5 + 1.0).ln()).abs() < 1e-6);
    assert!(idf(10, 10) > 0.0 && idf(10, 9) > idf(10, 10));
    // An empty collection, and rows counted that are deleted by now.
    assert!(idf(0, 0) > 0.0 && idf(3, 5) > 0.0);
}

/// A judged set beside the project or where `CAIRN_DATA` says, indexed.
struct Judged {
    ids: Vec<String>,
    relevant: HashSet<(String, String)>,
    queries: Vec<(String, String)>,
    bm25: Bm25,
    index: Inverted,
    indexing_s: f64,
}

impl Judged {
    /// With the true average length, or with the default.
    fn read(name: &str, knows_avg_len: bool) -> Option<Self> {
        let beside = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../shared/data");
        let folder = std::env::var_os("CAIRN_DATA").map_or(beside, PathBuf::from).join(name);
        let documents = texts(&std::fs::read_to_string(folder.join("corpus.jsonl")).ok()?);
        let qrels = std::fs::read_to_string(folder.join("qrels.tsv")).unwrap();
        let grades = qrels.lines().skip(1).map(|line| line.split('\t').collect::<Vec<_>>());
        let relevant: HashSet<(String, String)> = grades
            .filter(|fields| fields[2].trim().parse::<i32>().unwrap() > 0)
            .map(|fields| (fields[0].to_owned(), fields[1].to_owned()))
            .collect();
        let mut queries = texts(&std::fs::read_to_string(folder.join("queries.jsonl")).unwrap());
        queries.retain(|query| relevant.iter().any(|pair| pair.0 == query.0));
        let counting = bm25(json!({}));
        let tokens: usize = documents.iter().map(|(_, text)| counting.count(text)).sum();
        let avg_len = if knows_avg_len { tokens as f32 / documents.len() as f32 } else { 256.0 };
        let bm25 = bm25(json!({"avg_len": avg_len}));
        let started = Instant::now();
        let vectors: Vec<SparseVector> = documents.iter().map(|(_, text)| bm25.document(text)).collect();
        let bytes = Inverted::encode((0..).zip(&vectors).map(|(slot, vector)| (slot, vector.entries())));
        let indexing_s = started.elapsed().as_secs_f64();
        let index = Inverted::open(&Bytes::copy_of(&bytes)).unwrap();
        let ids = documents.into_iter().map(|(id, _)| id).collect();
        Some(Self { ids, relevant, queries, bm25, index, indexing_s })
    }

    fn search(&self, text: &str, k: usize, scratch: &mut Scratch) -> Vec<(u32, f32)> {
        let query = self.bm25.query(text);
        let n = self.index.rows() as usize;
        let weigh = |(term, weight)| (term, weight * idf(n, self.index.df(term) as usize));
        let weighed: Vec<(u32, f32)> = query.entries().map(weigh).collect();
        self.index.search(&weighed, k, None, |_| true, scratch)
    }

    fn ndcg_10(&self) -> f64 {
        let mut scratch = Scratch::default();
        let gain = |rank: usize| 1.0 / (rank as f64 + 2.0).log2();
        let of_query = |(query, text): &(String, String)| {
            let found = self.search(text, 10, &mut scratch);
            let is_relevant =
                |slot: u32| self.relevant.contains(&(query.clone(), self.ids[slot as usize].clone()));
            let hits = found.iter().enumerate().filter(|(_, hit)| is_relevant(hit.0));
            let gained: f64 = hits.map(|(rank, _)| gain(rank)).sum();
            let judged = self.relevant.iter().filter(|pair| &pair.0 == query).count();
            gained / (0..judged.min(10)).map(gain).sum::<f64>()
        };
        self.queries.iter().map(of_query).sum::<f64>() / self.queries.len() as f64
    }
}

/// Ids with title, space, text.
fn texts(lines: &str) -> Vec<(String, String)> {
    let parsed = lines.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
    let text =
        |line: &Value| format!("{} {}", line["title"].as_str().unwrap_or(""), line["text"].as_str().unwrap());
    parsed.map(|line| (line["_id"].as_str().unwrap().to_owned(), text(&line))).collect()
}

#[test]
#[allow(clippy::print_stdout)]
fn ranking_is_as_good_as_the_reference() {
    // Measured with bm25s, k 1.2, b 0.75, English stop words and stemmer.
    for (name, reference) in [("cranfield", 0.3758), ("xquad-en", 0.9700)] {
        let Some(set) = Judged::read(name, true) else {
            println!("{name} is not beside the project (CAIRN_DATA), not measured");
            continue;
        };
        let measured = set.ndcg_10();
        let by_default = Judged::read(name, false).unwrap().ndcg_10();
        println!(
            "{name:<10} nDCG@10 {measured:.4} ({by_default:.4} with avg_len 256), reference {reference:.4}"
        );
        assert!(measured >= reference, "{name}: nDCG@10 {measured:.4}, the reference is {reference:.4}");
    }
}

#[test]
#[ignore = "measures"]
#[allow(clippy::print_stdout)]
fn speed() {
    for name in ["cranfield", "xquad-en"] {
        let Some(set) = Judged::read(name, true) else { continue };
        let mut scratch = Scratch::default();
        for k in [10, 100] {
            let started = Instant::now();
            for (_, text) in set.queries.iter().cycle().take(20_000) {
                std::hint::black_box(set.search(text, k, &mut scratch));
            }
            let rate = 20_000.0 / started.elapsed().as_secs_f64();
            println!(
                "{name:<10} k {k}: {rate:.0} queries/s from text to hits, indexed in {:.3} s",
                set.indexing_s
            );
        }
        let started = Instant::now();
        for (_, text) in set.queries.iter().cycle().take(20_000) {
            std::hint::black_box(set.bm25.query(text));
        }
        let each_us = started.elapsed().as_secs_f64() / 20_000.0 * 1e6;
        println!("{name:<10} {each_us:.2} us of each for the analysis of the query");
    }
}
