//! Texts to vectors: speed, memory and exactness, beside sentence-transformers, ONNX
//! Runtime and OpenVINO; and what the way through HTTP costs.
//!
//!     cargo xtask bench embed
//!
//! All systems run the default model on the same texts, in a process of their own
//! for each number of threads. The texts are paragraphs of the pages that come with
//! the Rust toolchain: about 16 tokens (short), 62 (medium), 242 (long), and all
//! lengths mixed, in the order they come and sorted by length. The others pad
//! batches of 32 texts; ours gets the texts in one call. Timed from text to vector.
//!
//! One run measures all. Where it must not take so long, `--systems` and `--threads`
//! choose a part, and `--into FILE` adds it to those measured before; the tables then
//! show all of them.
#![allow(clippy::print_stdout)] // A table is what this program is for.

mod http;
mod ours;
mod table;

use std::collections::BTreeMap;
use std::error::Error;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use cairn_benches::{machine, peers};
use cairn_embed::{DEFAULT_MODEL, ModelStore, Silent, StoreOptions};
use clap::Parser;
use serde_json::{Value, json};

const PACKAGES: [&str; 7] = [
    "numpy==2.4.6",
    "tokenizers==0.23.3",
    "safetensors==0.8.0",
    "onnx==1.23.2",
    "onnxruntime==1.32.0",
    "openvino==2026.4.1",
    "nncf==3.4.0",
];
/// As much again and more, so only where it is measured.
const SENTENCE_TRANSFORMERS: [&str; 3] =
    ["torch==2.15.0", "transformers==5.24.0", "sentence-transformers==6.2.0"];
const OURS: [&str; 3] = ["cairn-f32", "cairn-bf16", "cairn-int8"];
const OTHERS: [&str; 7] = [
    "sentence-transformers-f32",
    "onnxruntime-f32",
    "openvino-f32",
    "sentence-transformers-bf16",
    "openvino-bf16",
    "onnxruntime-int8",
    "openvino-int8",
];
/// The way through HTTP.
const HTTP: &str = "http";
const SETS: [&str; 5] = ["short", "medium", "long", "mixed", "mixed sorted"];
const ALONE: [&str; 3] = ["short", "medium", "long"];

/// Measures text embedding beside sentence-transformers, ONNX Runtime and OpenVINO.
#[derive(Parser)]
struct Args {
    /// The systems to measure, of those in the tables; `http` is the way through HTTP.
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
    /// Adds what is measured to what this file has, and shows all of it.
    #[arg(long)]
    into: Option<PathBuf>,
    /// The binary that serves, for the way through HTTP.
    #[arg(long, default_value = "target/release/cairn")]
    binary: PathBuf,
    #[arg(long, default_value_t = 7334)]
    port: u16,
    /// Seconds for each case of the way through HTTP.
    #[arg(long, default_value_t = 8)]
    seconds: u64,
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
    let known = |name: &String| OURS.iter().chain(&OTHERS).chain(&[HTTP]).any(|other| name == other);
    if let Some(name) = args.systems.iter().find(|name| !known(name)) {
        let all = [&OURS[..], &OTHERS[..], &[HTTP]].concat().join(", ");
        return Err(format!("there is no system `{name}`, there are {all}").into());
    }
    fs::create_dir_all(&work)?;
    let model = ModelStore::new(StoreOptions::default()).pull(DEFAULT_MODEL, &Silent)?;
    let chosen = |system: &&&str| args.systems.is_empty() || args.systems.iter().any(|name| name == **system);
    let others: Vec<&str> = OTHERS.iter().filter(chosen).filter(|_| !args.no_peer).copied().collect();
    let mut packages = PACKAGES.to_vec();
    if others.iter().any(|system| system.starts_with("sentence-transformers")) {
        packages.extend(SENTENCE_TRANSFORMERS);
    }
    let python = peers::python(&packages)?;
    write_task(&args, &work, &model, &python)?;

    let mut found = Found::read(args.into.as_deref())?;
    for &threads in &args.threads {
        for system in OURS.iter().filter(chosen) {
            let mut program = Command::new(std::env::current_exe()?);
            program.args(["--one", system, "--threads", &threads.to_string()]);
            found.put(answer(&mut program)?);
        }
        for system in &others {
            let script = |what: &str| {
                let mut program = Command::new(&python);
                program.arg(peers::script("embed.py")).arg(what).arg(&work).arg(system);
                program
            };
            let made = script("prepare").stdout(Stdio::null()).status()?;
            let answer = if made.success() {
                answer(script("run").arg(threads.to_string()))
            } else {
                Err(format!("its files could not be made: {made}").into())
            };
            match answer {
                Ok(answer) => found.put(answer),
                Err(reason) => println!("{system} is left out: {reason}"),
            }
        }
        found.write(args.into.as_deref())?;
    }
    if [HTTP].iter().any(|system| chosen(&system)) {
        match http::measure(&args, &task(&work)?) {
            Ok(answer) => found.put(answer),
            Err(reason) => println!("the way through HTTP is left out: {reason}"),
        }
        found.write(args.into.as_deref())?;
    }
    let texts: BTreeMap<String, Vec<String>> = serde_json::from_value(task(&work)?["sets"].clone())?;
    println!("{}", table::all(&found.0, &texts));
    Ok(())
}

/// What was measured, of a system with so many threads once.
struct Found(Vec<Value>);

impl Found {
    fn read(file: Option<&Path>) -> Result<Found, Box<dyn Error>> {
        match file.filter(|file| file.exists()) {
            Some(file) => Ok(Found(serde_json::from_slice(&fs::read(file)?)?)),
            None => Ok(Found(Vec::new())),
        }
    }

    fn put(&mut self, one: Value) {
        let is_same = |other: &Value| ["system", "threads"].iter().all(|field| other[field] == one[field]);
        self.0.retain(|other| !is_same(other));
        self.0.push(one);
    }

    fn write(&self, file: Option<&Path>) -> Result<(), Box<dyn Error>> {
        match file {
            Some(file) => Ok(fs::write(file, serde_json::to_vec(&self.0)?)?),
            None => Ok(()),
        }
    }
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
