//! Ranking by words: a text field, and the points that frequencies are counted
//! over.

mod common;

use std::collections::{BTreeMap, BTreeSet};

use cairn_index::{
    Collection, CollectionConfig, ConfigChange, Database, Error, Filter, Metric, Modifier, Point, PointId,
    Prefetch, Query, QueryRequest, SearchParams, SparseConfig, SparseVector, Vectors, WordsQuery,
};
use common::rng;
use rand::Rng;
use rand::rngs::StdRng;
use serde_json::json;

const WORDS: [&str; 8] = ["cairn", "stone", "path", "hill", "mist", "rain", "sheep", "gate"];

/// The points as a map, beside the collection that is asked.
struct Both {
    collection: Collection,
    texts: BTreeMap<u64, (Vec<String>, bool)>,
    /// The field that is asked: all texts of a point together, or each alone.
    key: &'static str,
    _dir: tempfile::TempDir,
    _db: Database,
}

impl Both {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let db = Database::open(dir.path()).unwrap();
        let mut config = CollectionConfig::new(2, Metric::Dot);
        config.sparse_vectors.insert("words".into(), SparseConfig { modifier: Modifier::Idf });
        let collection = db.create_collection("c", config).unwrap();
        Self { collection, texts: BTreeMap::new(), key: "text", _dir: dir, _db: db }
    }

    fn index(&self, options: serde_json::Value) {
        let schema = serde_json::from_value(options).unwrap();
        self.collection.configure(ConfigChange::CreateIndex(self.key.parse().unwrap(), schema)).unwrap();
    }

    fn write(&mut self, rng: &mut StdRng, ids: std::ops::Range<u64>) {
        let mut points = Vec::new();
        for id in ids {
            let texts: Vec<String> = (0..rng.random_range(0..3)).map(|_| text(rng)).collect();
            let new = rng.random_bool(0.3);
            let mut vectors = Vectors::from([(String::new(), vec![1.0, 0.0].into())]);
            vectors.insert("words".into(), counted(&texts).into());
            let parts: Vec<_> = texts.iter().map(|text| json!({"text": text})).collect();
            let payload = json!({"text": texts, "new": new, "parts": parts});
            points.push(Point { vectors, ..Point::new(id, vec![]).with_payload(payload).unwrap() });
            self.texts.insert(id, (texts, new));
        }
        self.collection.upsert(points).unwrap();
    }

    fn delete(&mut self, ids: &[u64]) {
        ids.iter().for_each(|id| drop(self.texts.remove(id)));
        self.collection.delete(ids.iter().map(|id| PointId::from(*id)).collect::<Vec<_>>()).unwrap();
    }

    /// Okapi BM25 as it is written in the books, best first.
    fn bm25(&self, words: &str, corpus: impl Fn(bool) -> bool) -> Vec<(u64, f32)> {
        let (k, b) = (1.2, 0.75);
        let tokens = |texts: &[String]| -> Vec<String> {
            texts.iter().flat_map(|text| text.split(' ').map(str::to_lowercase)).collect()
        };
        let mut documents: Vec<(u64, Vec<String>)> = Vec::new();
        for (id, (texts, _)) in &self.texts {
            match self.key {
                "text" => documents.push((*id, tokens(texts))),
                _ => documents.extend(texts.iter().map(|text| (*id, tokens(std::slice::from_ref(text))))),
            }
        }
        documents.retain(|(_, tokens)| !tokens.is_empty());
        let counted: Vec<&Vec<String>> =
            documents.iter().filter(|(id, _)| corpus(self.texts[id].1)).map(|(_, tokens)| tokens).collect();
        let n = counted.len() as f64;
        let average = counted.iter().map(|tokens| tokens.len()).sum::<usize>() as f64 / n;
        let mut best: BTreeMap<u64, f32> = BTreeMap::new();
        for (id, tokens) in &documents {
            let mut score = 0.0;
            for word in words.split(' ').collect::<BTreeSet<_>>() {
                let df =
                    counted.iter().filter(|tokens| tokens.iter().any(|token| token == word)).count() as f64;
                let tf = tokens.iter().filter(|token| *token == word).count() as f64;
                let idf = ((n - df + 0.5) / (df + 0.5)).ln_1p();
                let norm = k * (1.0 - b + b * tokens.len() as f64 / average);
                score += if tf > 0.0 { idf * tf * (k + 1.0) / (tf + norm) } else { 0.0 };
            }
            if score > 0.0 {
                let best = best.entry(*id).or_insert(0.0);
                *best = best.max(score as f32);
            }
        }
        let mut scored: Vec<(u64, f32)> = best.into_iter().collect();
        scored.sort_by(|a, b| b.1.total_cmp(&a.1).then(a.0.cmp(&b.0)));
        scored
    }

    fn ask(&self, request: &QueryRequest) -> Vec<(u64, f32)> {
        let hits = self.collection.query(request).unwrap();
        let number = |id| if let PointId::Num(number) = id { number } else { panic!("{id:?}") };
        hits.into_iter().map(|hit| (number(hit.id), hit.score)).collect()
    }

    fn check(&self, rng: &mut StdRng) {
        for _ in 0..30 {
            let words = text(rng).to_lowercase();
            let query = Query::Words(WordsQuery::new(words.clone()));
            let mut request =
                QueryRequest { using: self.key.into(), limit: 1000, ..QueryRequest::new(query) };
            same(&self.ask(&request), &self.bm25(&words, |_| true));

            request.filter = Some(only_new());
            let mut wanted = self.bm25(&words, |_| true);
            wanted.retain(|(id, _)| self.texts[id].1);
            same(&self.ask(&request), &wanted);

            request.params.idf_corpus = Some(only_new());
            let mut wanted = self.bm25(&words, |new| new);
            wanted.retain(|(id, _)| self.texts[id].1);
            same(&self.ask(&request), &wanted);

            // Rescoring what a prefetch found.
            let nearest = Prefetch { limit: 1000, ..Prefetch::new(Query::nearest(vec![1.0, 0.0])) };
            request.prefetch = vec![nearest];
            same(&self.ask(&request), &wanted);
        }
    }
}

fn only_new() -> Filter {
    serde_json::from_value(json!({"must": [{"key": "new", "match": {"value": true}}]})).unwrap()
}

fn text(rng: &mut StdRng) -> String {
    let words = (0..rng.random_range(1..6))
        .map(|_| WORDS[rng.random_range(0..WORDS.len()).min(rng.random_range(0..8))]);
    let text = words.collect::<Vec<_>>().join(" ");
    if rng.random_bool(0.2) { text.to_uppercase() } else { text }
}

/// How often each word is in the texts, at a position of its own.
fn counted(texts: &[String]) -> SparseVector {
    let mut counts = BTreeMap::new();
    for word in texts.iter().flat_map(|text| text.split(' ').map(str::to_lowercase).collect::<Vec<_>>()) {
        let at = WORDS.iter().position(|known| *known == word).unwrap() as u32;
        *counts.entry(at).or_insert(0.0) += 1.0;
    }
    SparseVector::new(counts).unwrap()
}

fn same(found: &[(u64, f32)], wanted: &[(u64, f32)]) {
    let scores = |list: &[(u64, f32)]| list.iter().copied().collect::<BTreeMap<_, _>>();
    let (of, wanted_of) = (scores(found), scores(wanted));
    assert_eq!(of.keys().collect::<Vec<_>>(), wanted_of.keys().collect::<Vec<_>>());
    for (id, score) in &wanted_of {
        assert!((of[id] - score).abs() <= 1e-5 * score.max(1.0), "{id}: {} instead of {score}", of[id]);
    }
    assert!(found.is_sorted_by(|a, b| a.1 >= b.1));
}

#[test]
fn a_text_field_ranks_as_bm25_does_in_every_state_of_a_collection() {
    let mut rng = rng(31);
    let mut both = Both::new();
    both.index(json!({"type": "text", "scoring": true}));
    both.write(&mut rng, 0..150);
    both.check(&mut rng);
    both.collection.compact().unwrap();
    both.collection.index_now().unwrap();
    both.check(&mut rng);
    both.delete(&[3, 5, 8, 13, 21]);
    both.write(&mut rng, 100..250);
    both.check(&mut rng);
    // An index that is made anew keeps what it did not before.
    both.index(json!({"type": "text"}));
    both.collection.index_now().unwrap();
    both.index(json!({"type": "text", "scoring": {"type": "bm25"}}));
    both.check(&mut rng);
    both.collection.index_now().unwrap();
    both.check(&mut rng);
}

#[test]
fn each_object_of_an_array_is_a_document_where_it_counts_for_itself() {
    let mut rng = rng(33);
    let mut both = Both { key: "parts[].text", ..Both::new() };
    both.index(json!({"type": "text", "scoring": true, "nested": "parts"}));
    both.write(&mut rng, 0..150);
    both.check(&mut rng);
    both.collection.compact().unwrap();
    both.collection.index_now().unwrap();
    both.check(&mut rng);
    both.delete(&[3, 5, 8, 13, 21]);
    both.write(&mut rng, 100..250);
    both.check(&mut rng);
    both.collection.index_now().unwrap();
    both.check(&mut rng);
}

#[test]
fn what_cannot_rank_says_what_is_missing() {
    let both = Both::new();
    let ask = |using: &str, words: WordsQuery| {
        let request = QueryRequest { using: using.into(), ..QueryRequest::new(Query::Words(words)) };
        both.collection.query(&request).unwrap_err()
    };
    for schema in [
        None,
        Some(json!("keyword")),
        Some(json!({"type": "text"})),
        Some(json!({"type": "text", "scoring": false})),
    ] {
        schema.into_iter().for_each(|schema| both.index(schema));
        let error = ask("text", WordsQuery::new("a"));
        assert!(matches!(&error, Error::Request(told) if told.contains("\"scoring\": true")), "{error}");
    }
    both.index(json!({"type": "text", "scoring": true}));
    assert!(ask("", WordsQuery::new("a")).to_string().contains("`using`"));
    for (k, b) in [(-1.0, 0.5), (f32::NAN, 0.5), (1.0, 1.5)] {
        let words = WordsQuery { k, b, ..WordsQuery::new("a") };
        assert!(ask("text", words).to_string().contains("invalid, must be"));
    }
}

#[test]
fn frequencies_are_counted_over_the_points_asked_for() {
    let mut rng = rng(32);
    let mut both = Both::new();
    both.write(&mut rng, 0..200);
    for round in 0..3 {
        if round == 1 {
            both.collection.compact().unwrap();
            both.collection.index_now().unwrap();
        } else if round == 2 {
            both.delete(&[1, 2, 3, 4, 5, 6, 7]);
            both.write(&mut rng, 190..230);
        }
        let counted_in: Vec<SparseVector> =
            both.texts.values().filter(|(_, new)| *new).map(|(texts, _)| counted(texts)).collect();
        for at in 0..WORDS.len() as u32 {
            let (n, df) = (
                counted_in.len() as f32,
                counted_in.iter().filter(|of| of.indices().contains(&at)).count() as f32,
            );
            let idf = ((n - df + 0.5) / (df + 0.5)).ln_1p();
            let query = SparseVector::new([(at, 2.0)]).unwrap();
            let params = SearchParams { idf_corpus: Some(only_new()), ..SearchParams::default() };
            let request = QueryRequest {
                using: "words".into(),
                limit: 1000,
                params,
                ..QueryRequest::new(Query::nearest(query))
            };
            let wanted = both.texts.iter().filter_map(|(id, (texts, _))| {
                let counted = counted(texts);
                let place = counted.indices().iter().position(|other| *other == at)?;
                Some((*id, 2.0 * idf * counted.values()[place]))
            });
            let mut wanted: Vec<_> = wanted.collect();
            wanted.sort_by(|a, b| b.1.total_cmp(&a.1));
            same(&both.ask(&request), &wanted);
        }
    }
}
