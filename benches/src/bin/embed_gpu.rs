//! Texts to vectors on a GPU, beside sentence-transformers on the same one.
//!
//!     cargo run --release -p cairn-benches --features cuda --bin embed_gpu -- --device cuda
//!
//! Both run the same model on the same texts, of about 16, 62 and 242 tokens and of
//! all lengths mixed, made of the sentences of the handbook. Ours gets a set in one
//! call; timed from texts to vectors that are back. Where the device cannot be used
//! a line says why, and nothing is measured.
#![allow(clippy::print_stdout)] // A table is what this program is for.

use std::collections::BTreeMap;
use std::error::Error;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Instant;

use cairn_benches::timing::Times;
use cairn_benches::{machine, peers};
use cairn_embed::{
    Backend, DEFAULT_MODEL, Device, Encoder, EncoderOptions, ModelStore, Precision, Silent, StoreOptions,
    TextKind,
};
use clap::Parser;
use serde_json::{Value, json};

const HANDBOOK: &str = include_str!("../../../tests/data/handbook/corpus.jsonl");
const PACKAGES: [&str; 2] = ["torch==2.15.0", "sentence-transformers==6.2.0"];

/// Words that make about so many tokens with a WordPiece tokenizer, by name.
const SETS: [(&str, usize); 3] = [("short", 11), ("medium", 46), ("long", 184)];

/// Measures text embedding on a GPU beside sentence-transformers.
#[derive(Parser)]
struct Args {
    /// Where it runs: cuda, cuda:N, metal; cpu measures the same path there.
    #[arg(long, default_value = "cuda")]
    device: Device,
    /// The model: a known name or a folder.
    #[arg(long, default_value = DEFAULT_MODEL)]
    model: String,
    /// Texts of each set.
    #[arg(long, default_value_t = 4096)]
    texts: usize,
    /// Tokens of a batch of ours; else as by default.
    #[arg(long)]
    batch_tokens: Option<usize>,
    /// How often each set is embedded; the best time counts.
    #[arg(long, default_value_t = 3)]
    rounds: usize,
    /// Measure only ours.
    #[arg(long)]
    no_peer: bool,
}

/// What a system did.
struct Found {
    system: String,
    load_s: f64,
    seconds: BTreeMap<String, f64>,
    query: Times,
    vectors: Vec<Vec<f32>>,
}

fn main() -> Result<(), Box<dyn Error>> {
    let args = Args::parse();
    println!("{}\n", machine::header());
    let store = ModelStore::new(StoreOptions::default());
    let folder = match store.find(&args.model)? {
        Some(folder) => folder,
        None => store.pull(&args.model, &Silent)?,
    };
    let sets = sets(args.texts);
    let judged: Vec<String> =
        SETS.iter().flat_map(|(name, _)| sets[*name].iter().take(40).cloned()).collect();

    let mut found = Vec::new();
    for precision in [Precision::Auto, Precision::F32, Precision::F16, Precision::Bf16] {
        match ours(&args, &folder, precision, &sets, &judged) {
            Ok(ours) => found.push(ours),
            Err(error) if found.is_empty() => {
                println!("skipped: {error}");
                return Ok(());
            }
            Err(error) => println!("cairn {precision:?} is left out: {error}"),
        }
    }
    if !args.no_peer && args.device != Device::Cpu {
        match theirs(&args, &folder, &sets, &judged) {
            Ok(theirs) => found.extend(theirs),
            Err(reason) => println!("sentence-transformers is left out: {reason}"),
        }
    }
    print(&found, &sets);
    Ok(())
}

/// The texts, each from another place of the handbook.
fn sets(count: usize) -> BTreeMap<String, Vec<String>> {
    let lines = HANDBOOK.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
    let texts: Vec<String> = lines.filter_map(|line| line["text"].as_str().map(str::to_owned)).collect();
    let words: Vec<&str> = texts.iter().flat_map(|text| text.split_whitespace()).collect();
    let text = |at: usize, length: usize| {
        let words = words.iter().cycle().skip(at * 37 % words.len()).take(length);
        words.copied().collect::<Vec<_>>().join(" ")
    };
    // A third either way, so that there is something to pad.
    let around = |at: usize, length: usize| length * 2 / 3 + at * 13 % (length * 2 / 3 + 1);
    let set = |length: usize| (0..count).map(|at| text(at, around(at, length))).collect();
    let mut sets: BTreeMap<String, Vec<String>> =
        SETS.iter().map(|(name, length)| ((*name).to_owned(), set(*length))).collect();
    let mixed = (0..count).map(|at| text(at, around(at, SETS[at % 3].1))).collect();
    sets.insert("mixed".to_owned(), mixed);
    sets
}

fn ours(
    args: &Args,
    folder: &Path,
    precision: Precision,
    sets: &BTreeMap<String, Vec<String>>,
    judged: &[String],
) -> Result<Found, Box<dyn Error>> {
    let defaults = EncoderOptions::default();
    let gpu_batch_tokens = args.batch_tokens.unwrap_or(defaults.gpu_batch_tokens);
    // On a GPU it is these anyway; on the processor they show the same path.
    let backend = Backend::Tensors;
    let options = EncoderOptions { device: args.device, backend, precision, gpu_batch_tokens, ..defaults };
    let began = Instant::now();
    let encoder = Encoder::load(folder, &options)?;
    encoder.embed(&["warm up"], TextKind::Passage)?;
    let load_s = began.elapsed().as_secs_f64();
    let mut seconds = BTreeMap::new();
    for (name, texts) in sets {
        let texts: Vec<&str> = texts.iter().map(String::as_str).collect();
        encoder.embed(&texts, TextKind::Passage)?;
        let mut best = f64::MAX;
        for _ in 0..args.rounds {
            let began = Instant::now();
            encoder.embed(&texts, TextKind::Passage)?;
            best = best.min(began.elapsed().as_secs_f64());
        }
        seconds.insert(name.clone(), best);
    }
    let mut query = Times::default();
    for text in sets["short"].iter().take(200) {
        query.time(|| encoder.embed(&[text], TextKind::Passage))?;
    }
    let judged: Vec<&str> = judged.iter().map(String::as_str).collect();
    let vectors = encoder.embed(&judged, TextKind::Passage)?.vectors;
    let asked = if precision == Precision::Auto { "auto: " } else { "" };
    let system = format!("cairn {asked}{:?} on {}", encoder.precision(), encoder.device());
    Ok(Found { system, load_s, seconds, query, vectors })
}

fn theirs(
    args: &Args,
    folder: &Path,
    sets: &BTreeMap<String, Vec<String>>,
    judged: &[String],
) -> Result<Vec<Found>, Box<dyn Error>> {
    let work = Path::new(env!("CARGO_MANIFEST_DIR")).join("../target/bench-data/embed");
    fs::create_dir_all(&work)?;
    let queries: Vec<&String> = sets["short"].iter().take(200).collect();
    let task = json!({ "model": folder, "sets": sets, "queries": queries, "judged": judged,
        "rounds": args.rounds, "batch": 256 });
    fs::write(work.join("gpu.json"), serde_json::to_vec(&task)?)?;
    let python: PathBuf = peers::python(&PACKAGES)?;
    let mut program = Command::new(python);
    program.arg(peers::script("embed_gpu.py")).arg(&work).arg(args.device.to_string());
    let out = program.stderr(Stdio::inherit()).output()?;
    if !out.status.success() {
        return Err(format!("it ended with {}", out.status).into());
    }
    let text = String::from_utf8(out.stdout)?;
    let all: Vec<Value> = serde_json::from_str(text.lines().last().unwrap_or_default())?;
    let one = |one: &Value| -> Result<Found, Box<dyn Error>> {
        Ok(Found {
            system: one["system"].as_str().unwrap_or("unknown").to_owned(),
            load_s: one["load_s"].as_f64().unwrap_or(f64::NAN),
            seconds: serde_json::from_value(one["seconds"].clone())?,
            query: Times::of_micros(serde_json::from_value(one["query_us"].clone())?),
            vectors: serde_json::from_value(one["vectors"].clone())?,
        })
    };
    all.iter().map(one).collect()
}

fn print(found: &[Found], sets: &BTreeMap<String, Vec<String>>) {
    println!(
        "| texts/s | short | medium | long | mixed | one short p50 ms | p99 ms | load s | cosine, lowest | mean |\n\
         |---|--:|--:|--:|--:|--:|--:|--:|--:|--:|"
    );
    // In f32 the numbers are those of the reference; theirs are it.
    let exact = found.iter().rev().find(|one| one.system.to_lowercase().contains("f32"));
    let theirs = found.iter().find(|one| one.system.ends_with("float32"));
    let exact = theirs.or(exact).map(|one| &one.vectors);
    for one in found {
        let rate = |set: &str| sets[set].len() as f64 / one.seconds[set];
        let cosines: Vec<f64> =
            exact.into_iter().flat_map(|exact| one.vectors.iter().zip(exact).map(cosine)).collect();
        println!(
            "| {} | {:.0} | {:.0} | {:.0} | {:.0} | {:.2} | {:.2} | {:.2} | {:.6} | {:.6} |",
            one.system,
            rate("short"),
            rate("medium"),
            rate("long"),
            rate("mixed"),
            one.query.micros_at(0.5) / 1e3,
            one.query.micros_at(0.99) / 1e3,
            one.load_s,
            cosines.iter().copied().fold(1.0, f64::min),
            cosines.iter().sum::<f64>() / cosines.len() as f64,
        );
    }
}

fn cosine((a, b): (&Vec<f32>, &Vec<f32>)) -> f64 {
    let dot = |a: &[f32], b: &[f32]| -> f64 { a.iter().zip(b).map(|(a, b)| f64::from(a * b)).sum() };
    dot(a, b) / (dot(a, a) * dot(b, b)).sqrt()
}
