//! Texts to vectors: speed, memory and exactness, beside ONNX Runtime and OpenVINO.
//!
//!     cargo run --release -p cairn-benches --bin embed
//!
//! All systems run the default model on the same texts, in a process of their own
//! for each number of threads. The texts are paragraphs of the pages that come with
//! the Rust toolchain: about 16 tokens (short), 62 (medium), 242 (long), and all
//! lengths mixed, in the order they come and sorted by length. The others pad
//! batches of 32 texts; ours gets the texts in one call. Timed from text to vector.
#![allow(clippy::print_stdout)] // A table is what this program is for.

mod ours;

use std::collections::BTreeMap;
use std::error::Error;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use cairn_benches::timing::Times;
use cairn_benches::{machine, peers};
use cairn_embed::{DEFAULT_MODEL, ModelStore, Silent, StoreOptions};
use clap::Parser;
use serde_json::{Value, json};

const PACKAGES: [&str; 7] = [
    "numpy==2.4.6",
    "tokenizers==0.22.2",
    "safetensors==0.8.0",
    "onnx==1.23.2",
    "onnxruntime==1.32.0",
    "openvino==2026.4.1",
    "nncf==3.4.0",
];
const OURS: [&str; 3] = ["cairn-f32", "cairn-bf16", "cairn-int8"];
const OTHERS: [&str; 5] =
    ["onnxruntime-f32", "openvino-f32", "openvino-bf16", "onnxruntime-int8", "openvino-int8"];
const SETS: [&str; 5] = ["short", "medium", "long", "mixed", "mixed sorted"];
const ALONE: [&str; 3] = ["short", "medium", "long"];

/// Measures text embedding beside ONNX Runtime and OpenVINO.
#[derive(Parser)]
struct Args {
    /// The systems to measure, of those in the table.
    #[arg(long, value_delimiter = ',')]
    systems: Vec<String>,
    /// Numbers of threads.
    #[arg(long, value_delimiter = ',', default_value = "1,2")]
    threads: Vec<usize>,
    /// How often each set is embedded; the best time counts.
    #[arg(long, default_value_t = 2)]
    rounds: usize,
    /// Measure only ours.
    #[arg(long)]
    no_peer: bool,
    /// The `html` folder of the toolchain's pages; else that of `rustc`.
    #[arg(long)]
    docs: Option<PathBuf>,
    /// Measures one of ours and prints JSON: for the program itself.
    #[arg(long, hide = true)]
    one: Option<String>,
}

fn main() -> Result<(), Box<dyn Error>> {
    let args = Args::parse();
    let work = Path::new(env!("CARGO_MANIFEST_DIR")).join("../target/bench-data/embed");
    if let Some(system) = &args.one {
        println!("{}", ours::measure(&work, system, args.threads[0])?);
        return Ok(());
    }
    println!("{}\n", machine::header());
    fs::create_dir_all(&work)?;
    let model = ModelStore::new(StoreOptions::default()).pull(DEFAULT_MODEL, &Silent)?;
    let python = peers::python(&PACKAGES)?;
    write_task(&args, &work, &model, &python)?;

    let chosen = |system: &&&str| args.systems.is_empty() || args.systems.iter().any(|name| name == **system);
    let mut found = Vec::new();
    for &threads in &args.threads {
        for system in OURS.iter().filter(chosen) {
            let mut program = Command::new(std::env::current_exe()?);
            program.args(["--one", system, "--threads", &threads.to_string()]);
            found.push(answer(&mut program)?);
        }
        for system in OTHERS.iter().filter(chosen).filter(|_| !args.no_peer) {
            let mut program = Command::new(&python);
            program.arg(peers::script("embed.py")).arg("run").arg(&work);
            match answer(program.args([system, &threads.to_string()[..]])) {
                Ok(answer) => found.push(answer),
                Err(reason) => println!("{system} is left out: {reason}"),
            }
        }
    }
    let texts: BTreeMap<String, Vec<String>> = serde_json::from_value(task(&work)?["sets"].clone())?;
    println!("{}\n{}\n{}", speed(&found, &texts), alone(&found), exactness(&found));
    println!("{}", busy(&found));
    Ok(())
}

/// Makes the texts, unless they are there, and says what to do with them.
fn write_task(args: &Args, work: &Path, model: &Path, python: &Path) -> Result<(), Box<dyn Error>> {
    let file = work.join("texts.json");
    if !file.exists() {
        let docs = match &args.docs {
            Some(docs) => docs.clone(),
            None => {
                let root = Command::new("rustc").args(["--print", "sysroot"]).output()?.stdout;
                Path::new(String::from_utf8(root)?.trim()).join("share/doc/rust/html")
            }
        };
        if !docs.join("book").is_dir() {
            let mend = "add it with `rustup component add rust-docs`, or give --docs DIR";
            return Err(format!("{} has no book of Rust: {mend}", docs.display()).into());
        }
        let made = Command::new(python)
            .arg(peers::script("embed.py"))
            .arg("texts")
            .args([work, &docs, model])
            .status()?;
        if !made.success() {
            return Err("the texts could not be made".into());
        }
    }
    let texts: BTreeMap<String, Vec<String>> = serde_json::from_slice(&fs::read(file)?)?;
    let mut sets: BTreeMap<&str, Vec<String>> =
        SETS.iter().filter_map(|&name| Some((name, texts.get(name)?.clone()))).collect();
    let mut sorted = texts["mixed"].clone();
    sorted.sort_by_key(String::len);
    sets.insert("mixed sorted", sorted);
    let judged: Vec<&String> =
        ALONE.iter().zip([40, 40, 20]).flat_map(|(&name, count)| texts[name].iter().take(count)).collect();
    let task = json!({ "model": model, "sets": sets, "rounds": args.rounds, "alone": ALONE,
        "alone_texts": 60, "judged": judged });
    Ok(fs::write(work.join("task.json"), serde_json::to_vec(&task)?)?)
}

fn task(work: &Path) -> Result<Value, Box<dyn Error>> {
    Ok(serde_json::from_slice(&fs::read(work.join("task.json"))?)?)
}

/// What a program prints on its last line.
fn answer(program: &mut Command) -> Result<Value, Box<dyn Error>> {
    let out = program.stderr(Stdio::inherit()).output()?;
    if !out.status.success() {
        return Err(format!("it ended with {}", out.status).into());
    }
    let text = String::from_utf8(out.stdout)?;
    Ok(serde_json::from_str(text.lines().last().unwrap_or_default())?)
}

fn name(found: &Value) -> &str {
    found["system"].as_str().unwrap_or("unknown")
}

/// Texts per second, and the tokens that makes.
fn speed(found: &[Value], texts: &BTreeMap<String, Vec<String>>) -> String {
    let mut table = "| texts/s | threads | short | medium | long | mixed | mixed sorted | medium tokens/s | peak MB | load s |\n\
         |---|--:|--:|--:|--:|--:|--:|--:|--:|--:|\n"
        .to_owned();
    for one in found {
        let rate = |set: &str| texts[set].len() as f64 / one["seconds"][set].as_f64().unwrap_or(f64::NAN);
        let rates: Vec<String> = SETS.iter().map(|set| format!("{:.0}", rate(set))).collect();
        let tokens = found.iter().find_map(|ours| ours["tokens"]["medium"].as_f64()).unwrap_or(f64::NAN);
        table += &format!(
            "| {} | {} | {} | {:.0} | {:.0} | {:.2} |\n",
            name(one),
            one["threads"],
            rates.join(" | "),
            tokens / one["seconds"]["medium"].as_f64().unwrap_or(f64::NAN),
            one["peak_bytes"].as_f64().unwrap_or(f64::NAN) / 1e6,
            one["load_s"].as_f64().unwrap_or(f64::NAN),
        );
    }
    table
}

fn times(micros: &Value) -> Times {
    Times::of_micros(micros.as_array().into_iter().flatten().filter_map(Value::as_f64).collect())
}

/// One text at a time.
fn alone(found: &[Value]) -> String {
    let mut table =
        "| one text, p50 / p99 ms | threads | short | medium | long |\n|---|--:|--:|--:|--:|\n".to_owned();
    for one in found {
        let cells = ALONE.map(|set| {
            let times = times(&one["alone_us"][set]);
            format!("{:.2} / {:.2}", times.micros_at(0.5) / 1e3, times.micros_at(0.99) / 1e3)
        });
        table += &format!("| {} | {} | {} |\n", name(one), one["threads"], cells.join(" | "));
    }
    table
}

/// The cosine of each vector with ours in f32, which the tests hold against the
/// reference.
fn exactness(found: &[Value]) -> String {
    let vectors =
        |one: &Value| -> Vec<Vec<f64>> { serde_json::from_value(one["vectors"].clone()).unwrap_or_default() };
    let Some(exact) = found.iter().find(|one| name(one) == OURS[0]).map(vectors) else {
        return String::new();
    };
    let mut table = "| cosine with f32 | lowest | mean |\n|---|--:|--:|\n".to_owned();
    for one in found.iter().filter(|one| one["threads"] == found[0]["threads"]) {
        let cosine = |(a, b): (&Vec<f64>, &Vec<f64>)| -> f64 {
            let dot = |a: &[f64], b: &[f64]| a.iter().zip(b).map(|(a, b)| a * b).sum::<f64>();
            dot(a, b) / (dot(a, a) * dot(b, b)).sqrt()
        };
        let all: Vec<f64> = vectors(one).iter().zip(&exact).map(cosine).collect();
        let (lowest, sum) = all.iter().fold((1.0, 0.0), |(low, sum), x| (f64::min(low, *x), sum + x));
        table += &format!("| {} | {lowest:.6} | {:.6} |\n", name(one), sum / all.len() as f64);
    }
    table
}

/// Queries while all threads embed passages.
fn busy(found: &[Value]) -> String {
    let mut table = "| one short text, ms | threads | idle p50 / p99 | during bulk p50 / p99 | p99 ratio |\n\
         |---|--:|--:|--:|--:|\n"
        .to_owned();
    for one in found.iter().filter(|one| one["busy_us"].is_array()) {
        let (idle, busy) = (times(&one["idle_us"]), times(&one["busy_us"]));
        table += &format!(
            "| {} | {} | {:.2} / {:.2} | {:.2} / {:.2} | {:.1} |\n",
            name(one),
            one["threads"],
            idle.micros_at(0.5) / 1e3,
            idle.micros_at(0.99) / 1e3,
            busy.micros_at(0.5) / 1e3,
            busy.micros_at(0.99) / 1e3,
            busy.micros_at(0.99) / idle.micros_at(0.99),
        );
    }
    table
}
