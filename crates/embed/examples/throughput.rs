//! How fast texts become vectors.
//!
//! ```text
//! cargo run --release -p cairn-embed --example throughput \
//!     [THREADS [BATCH_TOKENS [TEXTS [PRECISION [INSTRUCTIONS]]]]]
//! ```

#![allow(clippy::print_stdout)]

use std::time::{Duration, Instant};

use cairn_embed::{
    DEFAULT_MODEL, Encoder, EncoderOptions, Instructions, ModelStore, Precision, Result, Silent,
    StoreOptions, TextKind,
};

const WORDS: &str = "a cairn is a pile of stones that marks the path over open ground where \
    snow or fog hides it and every traveller who passes adds one more stone to it";

/// Texts of about `words` words; lengths differ by a third either way.
fn texts(count: usize, words: usize) -> Vec<String> {
    let all: Vec<&str> = WORDS.split_whitespace().collect();
    (0..count)
        .map(|i| {
            let length = words * 2 / 3 + (i * 37) % (words * 2 / 3 + 1);
            let words = (0..length).map(|j| all[(i * 13 + j * 7) % all.len()]);
            words.collect::<Vec<_>>().join(" ")
        })
        .collect()
}

/// The best of some runs.
fn best(runs: usize, mut work: impl FnMut() -> Result<()>) -> Result<Duration> {
    let mut best = Duration::MAX;
    for _ in 0..runs {
        let start = Instant::now();
        work()?;
        best = best.min(start.elapsed());
    }
    Ok(best)
}

/// The CPU time of this process so far; the clock on the wall says little on a
/// busy machine.
fn cpu() -> Option<f64> {
    let stat = std::fs::read_to_string("/proc/self/stat").ok()?;
    let fields: Vec<&str> = stat.rsplit_once(')')?.1.split_whitespace().collect();
    let ticks: f64 = fields[11].parse::<f64>().ok()? + fields[12].parse::<f64>().ok()?;
    Some(ticks / 100.0)
}

/// An option by the name it has in the configuration.
fn named<T: serde::de::DeserializeOwned>(name: Option<String>) -> Option<T> {
    serde_json::from_value(name?.into()).ok()
}

fn main() -> Result<()> {
    let mut arguments = std::env::args().skip(1);
    let mut number = |default| {
        let given = arguments.next().and_then(|text| text.parse().ok());
        given.unwrap_or(default)
    };
    let defaults = EncoderOptions::default();
    let (threads, max_batch_tokens) = (number(defaults.threads), number(defaults.max_batch_tokens));
    let count = number(500);
    let options = EncoderOptions {
        threads,
        max_batch_tokens,
        precision: named::<Precision>(arguments.next()).unwrap_or(defaults.precision),
        instructions: named::<Instructions>(arguments.next()).unwrap_or(defaults.instructions),
        ..defaults
    };
    println!("{options:?}");

    let folder = ModelStore::new(StoreOptions::default()).pull(DEFAULT_MODEL, &Silent)?;
    let start = Instant::now();
    let encoder = Encoder::load(&folder, &options)?;
    println!("loaded in {:.2?}", start.elapsed());

    for (count, words) in [(count, 14), (count, 58), (count.div_ceil(8), 240)] {
        let texts = texts(count, words);
        let texts: Vec<&str> = texts.iter().map(|text| &text[..]).collect();
        let tokens = encoder.embed(&texts, TextKind::Passage)?.tokens;
        let before = cpu();
        let time = best(3, || encoder.embed(&texts, TextKind::Passage).map(|_| ()))?;
        println!(
            "{count} texts of {} tokens: {:.0} texts/s, {:.0} tokens/s",
            tokens / count,
            count as f64 / time.as_secs_f64(),
            tokens as f64 / time.as_secs_f64(),
        );
        if let (Some(before), Some(after)) = (before, cpu()) {
            let tokens = 3.0 * tokens as f64 / (after - before);
            println!("  {tokens:.0} tokens for each second of CPU time");
        }
    }
    for words in [6, 60, 240] {
        let text = &texts(1, words)[0];
        let time = best(50, || encoder.embed(&[text], TextKind::Query).map(|_| ()))?;
        println!("one text of {words} words: {time:.2?}");
    }
    Ok(())
}
