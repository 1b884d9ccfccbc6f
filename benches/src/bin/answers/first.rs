//! How soon the first event of an answer comes.

use std::error::Error;
use std::time::{Duration, Instant};

use cairn_benches::npy;
use cairn_benches::timing::Times;
use cairn_index::{Bm25, Bm25Options, Database, Options, Point};
use cairn_rag::eval::{JudgedSet, Text, read_lines};
use cairn_rag::{Document, Engine, Event, Format, ModelOptions, Question, RagOptions};
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use serde_json::json;

/// Words of a made-up passage.
const WORDS: usize = 60;
const COLLECTION: &str = "passages";

/// The embeddings are real, the texts are not in the set: they are words drawn
/// from another corpus, as often as they stand there.
pub(crate) fn run(wanted: &crate::FirstEvent) -> Result<(), Box<dyn Error>> {
    let vectors = npy::read_f32(&wanted.passages.join("base.f16.npy"))?;
    let folder = wanted.data.join("cranfield");
    let corpus: Vec<Text> = read_lines(&folder.join("corpus.jsonl"))?;
    let words: Vec<&str> = corpus.iter().flat_map(|one| one.text.split_whitespace()).collect();
    let xquad = wanted.data.join("xquad-en");
    let judged = JudgedSet::read(&xquad.join("queries.jsonl"), &xquad.join("qrels.tsv"))?;

    let dir = tempfile::tempdir()?;
    let options = Options { min_free_bytes: 0, ..Options::default() };
    let db = Database::open_with(dir.path(), options)?;
    let engine = Engine::new(db, ModelOptions::default(), RagOptions::default());
    let first = Document {
        id: "first".to_owned(),
        title: String::new(),
        text: "A first text makes the collection.".to_owned(),
        metadata: serde_json::Map::new(),
        pages: Vec::new(),
    };
    engine.add(COLLECTION, &[first], Format::Text, &mut |_| {})?;
    let collection = engine.database().collection(COLLECTION)?;
    let kept = &collection.config().metadata["cairn"]["bm25"];
    let bm25 = Bm25::new(&serde_json::from_value::<Bm25Options>(kept.clone())?)?;
    let mut random = StdRng::seed_from_u64(5);
    let mut points = Vec::new();
    for (number, vector) in vectors.rows().enumerate() {
        let mut text = String::new();
        for at in 0..WORDS {
            text.push_str(words[random.random_range(0..words.len())]);
            text.push_str(if at % 12 == 11 { ". " } else { " " });
        }
        let point = Point::new(number as u64, vector.to_vec()).with_vector("bm25", bm25.document(&text));
        points.push(point.with_payload(json!({
            "document_id": format!("d{number}"), "title": "", "heading": [], "passage": 0, "start": 0,
            "end": text.chars().count(), "format": "text", "text": text, "metadata": {}
        }))?);
        if points.len() == 2000 {
            collection.upsert(std::mem::take(&mut points))?;
        }
    }
    collection.upsert(points)?;
    collection.index_now()?;

    let (mut events, mut answers) = (Times::default(), Times::default());
    for (place, query) in judged.queries.iter().cycle().take(wanted.questions + 20).enumerate() {
        let question = Question::new(query.text.as_str());
        let started = Instant::now();
        let mut told: Option<Duration> = None;
        engine.ask(COLLECTION, &question, &mut |event| {
            if let Event::Retrieval(_) = event {
                told.get_or_insert(started.elapsed());
            }
            Ok(())
        })?;
        // The first ones warm the model and the pages up.
        if place >= 20 {
            events.push(told.ok_or("no event was told")?);
            answers.push(started.elapsed());
        }
    }
    println!(
        "{} passages, {} questions one after the other, in process, ms\n",
        collection.info().points,
        wanted.questions
    );
    println!("| | p50 | p95 | p99 |\n|---|--:|--:|--:|");
    for (name, times) in [("first event (the passages)", &events), ("whole answer", &answers)] {
        let at = |part| times.micros_at(part) / 1e3;
        println!("| {name} | {:.1} | {:.1} | {:.1} |", at(0.5), at(0.95), at(0.99));
    }
    Ok(())
}
