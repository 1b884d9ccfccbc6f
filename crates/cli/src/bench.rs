//! `cairn model bench`: how fast a model is on this machine.
//!
//! Texts of three lengths, made of real sentences, go through it for some
//! seconds each, then queries one by one. What is kept of earlier texts is off.

use std::time::{Duration, Instant};

use cairn_embed::{Cancel, Embedder, Input, TextKind};
use cairn_rag::Models;
use serde::Serialize;
use serde_json::Value;

use crate::args::Bench;
use crate::failure::Outcome;
use crate::out;
use crate::progress::{Download, running};
use crate::settings::Settings;

const HANDBOOK: &str = include_str!("../../../tests/data/handbook/corpus.jsonl");

/// The lengths of texts: their name and their tokens, special ones included.
const LENGTHS: [(&str, usize); 3] = [("short", 16), ("medium", 62), ("long", 242)];

/// Texts of one call.
const TEXTS: usize = 256;

/// Queries that are measured at least, and at most.
const QUERIES: (usize, usize) = (20, 5000);

#[derive(Debug, Serialize)]
struct Report {
    model: String,
    dim: usize,
    /// Nothing for a model behind an address.
    precision: Option<String>,
    device: Option<String>,
    threads: usize,
    load_ms: f64,
    lengths: Vec<Rate>,
    query: Query,
    /// The most memory the process had, and what it had before the model.
    peak_bytes: Option<u64>,
    bytes_before: Option<u64>,
}

#[derive(Debug, Serialize)]
struct Rate {
    name: &'static str,
    /// Tokens of a text, on average, as the model counts them.
    tokens: f64,
    texts_per_s: f64,
    tokens_per_s: f64,
}

#[derive(Debug, Serialize)]
struct Query {
    count: usize,
    p50_ms: f64,
    p99_ms: f64,
}

pub(crate) fn run(settings: &Settings, wanted: &Bench, as_json: bool) -> Outcome {
    let mut options = settings.models.clone();
    options.encoder.cache_bytes = 0;
    if let Some(device) = wanted.device {
        options.encoder.device = device;
        options.local.iter_mut().for_each(|local| local.device = None);
    }
    let threads = match options.encoder.threads {
        0 => std::thread::available_parallelism().map_or(1, std::num::NonZero::get),
        threads => threads,
    };
    let bytes_before = peak_bytes();
    let models = Models::new(options);
    let download = Download::new();
    let began = Instant::now();
    let (model, embedder) = models.named(Some(&wanted.name), &download)?;
    let dim = embedder.dim()?;
    let load_ms = millis(began.elapsed());
    drop(download);

    let words = words();
    let seconds = Duration::from_secs(wanted.seconds);
    let bar = running("measuring");
    let mut lengths = Vec::new();
    for (name, tokens) in LENGTHS {
        bar.set_message(format!("measuring {name} texts"));
        lengths.push(rate(&embedder, name, &texts(&embedder, &words, tokens), seconds)?);
    }
    bar.set_message("measuring queries");
    let query = query(&embedder, &texts(&embedder, &words, LENGTHS[0].1), seconds)?;
    bar.finish_and_clear();
    let precision = embedder.encoder().map(|encoder| name_of(&encoder.precision()));
    let device = embedder.encoder().map(|encoder| encoder.device().to_string());
    let peak_bytes = peak_bytes();
    let report =
        Report { model, dim, precision, device, threads, load_ms, lengths, query, peak_bytes, bytes_before };
    if as_json {
        out::json(&report);
    } else {
        print(&report);
    }
    Ok(())
}

fn name_of(precision: &impl Serialize) -> String {
    let named = serde_json::to_value(precision).ok();
    named.as_ref().and_then(Value::as_str).unwrap_or_default().to_owned()
}

fn print(report: &Report) {
    let how = match (&report.precision, report.device.as_deref()) {
        (Some(precision), Some("cpu")) => format!("{precision}, {} threads", report.threads),
        (Some(precision), Some(device)) => format!("{precision} on {device}"),
        _ => "behind an address".to_owned(),
    };
    out::line(format!(
        "{}: {} dimensions, {how}, loaded in {:.0} ms",
        report.model, report.dim, report.load_ms
    ));
    for rate in &report.lengths {
        out::line(format!(
            "  {:<8} {:>6.1} tokens {:>10.1} texts/s {:>12.0} tokens/s",
            rate.name, rate.tokens, rate.texts_per_s, rate.tokens_per_s
        ));
    }
    let Query { count, p50_ms, p99_ms } = report.query;
    out::line(format!(
        "  query    p50 {p50_ms:.3} ms, p99 {p99_ms:.3} ms ({count} of {} tokens)",
        LENGTHS[0].1
    ));
    if let Some(peak) = report.peak_bytes {
        let before = report.bytes_before.unwrap_or(0) as f64 / 1e6;
        out::line(format!(
            "  memory   {:.1} MB at most, {before:.1} MB of it before the model",
            peak as f64 / 1e6
        ));
    }
}

/// The words of the corpus, in their order.
fn words() -> Vec<String> {
    let texts = HANDBOOK.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
    let texts: Vec<String> = texts.filter_map(|line| line["text"].as_str().map(str::to_owned)).collect();
    texts.iter().flat_map(|text| text.split_whitespace()).map(str::to_owned).collect()
}

/// Texts that have so many tokens, each from another place of the corpus, or a
/// few less where a word would be too much.
fn texts(embedder: &Embedder, words: &[String], tokens: usize) -> Vec<String> {
    let step = words.len() / TEXTS + 1;
    let text = |at: usize| {
        let of = |count: usize| -> String {
            let words = words.iter().cycle().skip(at * step).take(count).map(String::as_str);
            words.collect::<Vec<_>>().join(" ")
        };
        // The more words, the more tokens.
        let (mut fits, mut over) = (1, tokens + 1);
        while over - fits > 1 {
            let count = usize::midpoint(fits, over);
            if embedder.input_tokens(&Input::Text(&of(count)), TextKind::Passage) <= tokens {
                fits = count;
            } else {
                over = count;
            }
        }
        of(fits)
    };
    (0..TEXTS).map(text).collect()
}

fn rate(embedder: &Embedder, name: &'static str, texts: &[String], time: Duration) -> Outcome<Rate> {
    let texts: Vec<&str> = texts.iter().map(String::as_str).collect();
    // The first call makes room that later ones use again.
    embedder.embed(&texts[..texts.len() / 8], TextKind::Passage)?;
    let (mut done, mut tokens) = (0, 0);
    let began = Instant::now();
    while done == 0 || began.elapsed() < time {
        let found = embedder.embed_until(&texts, TextKind::Passage, &Cancel::new())?;
        done += texts.len();
        tokens += found.tokens;
    }
    let seconds = began.elapsed().as_secs_f64();
    Ok(Rate {
        name,
        tokens: tokens as f64 / done as f64,
        texts_per_s: done as f64 / seconds,
        tokens_per_s: tokens as f64 / seconds,
    })
}

fn query(embedder: &Embedder, texts: &[String], time: Duration) -> Outcome<Query> {
    let mut times = Vec::new();
    let began = Instant::now();
    for text in texts.iter().cycle().take(QUERIES.1) {
        if times.len() >= QUERIES.0 && began.elapsed() >= time {
            break;
        }
        let asked = Instant::now();
        embedder.embed(&[text], TextKind::Query)?;
        times.push(millis(asked.elapsed()));
    }
    times.sort_by(f64::total_cmp);
    Ok(Query { count: times.len(), p50_ms: part(&times, 0.5), p99_ms: part(&times, 0.99) })
}

/// The value that a part of all is not above.
fn part(sorted: &[f64], part: f64) -> f64 {
    let at = (sorted.len() as f64 * part).ceil() as usize;
    sorted[at.clamp(1, sorted.len()) - 1]
}

fn millis(time: Duration) -> f64 {
    time.as_secs_f64() * 1e3
}

/// The most memory this process has had, where the system tells it.
fn peak_bytes() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
    let kilobytes: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kilobytes << 10)
}

#[cfg(test)]
mod tests {
    use super::{part, words};

    #[test]
    fn a_part_of_the_times_is_not_above_its_value() {
        let times: Vec<f64> = (1..=100).map(f64::from).collect();
        assert_eq!((part(&times, 0.5), part(&times, 0.99), part(&times, 1.0)), (50.0, 99.0, 100.0));
        assert_eq!(part(&[7.0], 0.99), 7.0);
    }

    #[test]
    fn the_corpus_has_words_enough_for_many_texts() {
        assert!(words().len() > 2000, "{}", words().len());
    }
}
