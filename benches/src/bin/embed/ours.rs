//! Our own encoder, as the script measures the others.

use std::collections::BTreeMap;
use std::error::Error;
use std::fs;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use cairn_benches::timing::Times;
use cairn_embed::{Encoder, EncoderOptions, Precision, TextKind};
use serde_json::{Value, json};

use super::task;

/// How often each query is asked with pauses between: a hundredth of all are some.
const PACED_ROUNDS: usize = 12;

pub(crate) fn measure(work: &Path, system: &str, threads: usize) -> Result<Value, Box<dyn Error>> {
    let task = task(work)?;
    let precision = match system {
        "cairn-bf16" => Precision::Bf16,
        "cairn-int8" => Precision::Int8,
        _ => Precision::F32,
    };
    let started = Instant::now();
    let folder = Path::new(task["model"].as_str().unwrap_or_default());
    let options = EncoderOptions { precision, threads, ..EncoderOptions::default() };
    let encoder = Encoder::load(folder, &options)?;
    encoder.embed(&["warm up"], TextKind::Query)?;
    let loaded = started.elapsed();

    let sets: BTreeMap<String, Vec<String>> = serde_json::from_value(task["sets"].clone())?;
    let rounds = task["rounds"].as_u64().unwrap_or(1);
    let (mut seconds, mut tokens) = (BTreeMap::new(), BTreeMap::new());
    for (name, texts) in &sets {
        tokens.insert(name, embed_all(&encoder, texts)?);
    }
    // Set after set, so that what disturbs the machine for a while disturbs all.
    for (name, texts) in (0..rounds).flat_map(|_| &sets) {
        let started = Instant::now();
        embed_all(&encoder, texts)?;
        let took = started.elapsed().as_secs_f64();
        let best = seconds.entry(name).or_insert(took);
        *best = best.min(took);
    }

    let mut alone = BTreeMap::new();
    let names: Vec<String> = serde_json::from_value(task["alone"].clone())?;
    let count = task["alone_texts"].as_u64().unwrap_or(1) as usize;
    for name in names {
        let texts = &sets[&name][..count.min(sets[&name].len())];
        alone.insert(name, one_by_one(&encoder, texts, 2)?);
    }
    let judged: Vec<String> = serde_json::from_value(task["judged"].clone())?;
    let judged: Vec<&str> = judged.iter().map(String::as_str).collect();
    let vectors = encoder.embed(&judged, TextKind::Passage)?.vectors;
    let peak = peak_bytes();

    let queries = &sets["short"][..count.min(sets["short"].len())];
    let idle = paced(&encoder, queries)?;
    let busy = during_bulk(&encoder, &sets["mixed"], queries)?;
    Ok(json!({ "system": system, "threads": threads, "load_s": loaded.as_secs_f64(), "seconds": seconds,
        "tokens": tokens, "alone_us": alone, "vectors": vectors, "peak_bytes": peak,
        "idle_us": idle, "busy_us": busy }))
}

/// Embeds texts in one call, and tells their tokens.
fn embed_all(encoder: &Encoder, texts: &[String]) -> Result<usize, Box<dyn Error>> {
    let texts: Vec<&str> = texts.iter().map(String::as_str).collect();
    Ok(encoder.embed(&texts, TextKind::Passage)?.tokens)
}

fn micros(times: &Times) -> Vec<f64> {
    let all = times.len();
    (0..all).map(|at| times.micros_at(at as f64 / (all.max(2) - 1) as f64)).collect()
}

fn one_by_one(encoder: &Encoder, texts: &[String], rounds: usize) -> Result<Vec<f64>, Box<dyn Error>> {
    for text in texts.iter().take(10) {
        encoder.embed(&[text], TextKind::Query)?;
    }
    let mut times = Times::default();
    for text in (0..rounds).flat_map(|_| texts) {
        times.time(|| encoder.embed(&[text], TextKind::Query))?;
    }
    Ok(micros(&times))
}

/// Queries as they come to a service: with pauses between them.
fn paced(encoder: &Encoder, texts: &[String]) -> Result<Vec<f64>, Box<dyn Error>> {
    let mut times = Times::default();
    for text in (0..PACED_ROUNDS).flat_map(|_| texts) {
        std::thread::sleep(Duration::from_millis(3));
        times.time(|| encoder.embed(&[text], TextKind::Query))?;
    }
    Ok(micros(&times))
}

/// The same while other threads ask for as many passages as all threads can do.
fn during_bulk(
    encoder: &Encoder,
    passages: &[String],
    queries: &[String],
) -> Result<Vec<f64>, Box<dyn Error>> {
    let passages: Vec<&str> = passages.iter().map(String::as_str).collect();
    let stop = AtomicBool::new(false);
    std::thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                while !stop.load(Ordering::Relaxed) {
                    if encoder.embed(&passages, TextKind::Passage).is_err() {
                        break;
                    }
                }
            });
        }
        std::thread::sleep(Duration::from_millis(100));
        let times = paced(encoder, queries);
        stop.store(true, Ordering::Relaxed);
        times
    })
}

/// The most memory this process ever had.
fn peak_bytes() -> Option<u64> {
    let status = fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find(|line| line.starts_with("VmHWM:"))?;
    Some(line.split_whitespace().nth(1)?.parse::<u64>().ok()? * 1024)
}
