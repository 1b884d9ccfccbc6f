//! `cairn embed`: the texts of a file to vectors, without a collection.
//!
//! Texts are read, embedded and written by batches, so memory does not grow
//! with the file. What is written is noted now and then beside it (`partial`),
//! and a run that was cut goes on from there.

mod columns;
mod lines;
mod npy;
mod parquet;
mod partial;
mod rows;
mod source;

use std::path::Path;
use std::time::Instant;

use cairn_embed::{Cancel, Embedder, TextKind};
use cairn_rag::Models;
use indicatif::ProgressBar;
use serde_json::json;

use self::partial::{Made, Partial};
use self::rows::{Rows, Shape};
use self::source::{Part, Record, Source, Texts};
use crate::add::stop_on_signal;
use crate::args::{Embed, KindArg};
use crate::failure::{Failure, Outcome};
use crate::out;
use crate::progress::Download;
use crate::settings::Settings;

/// Bytes of text in a batch at most, however many texts it may have.
const BATCH_BYTES: usize = 16 << 20;

pub(crate) fn run(settings: &Settings, wanted: &Embed, as_json: bool) -> Outcome {
    let shape = Shape::of(&wanted.out)?;
    let source = Source::of(wanted)?;
    if shape == Shape::Parquet && source.is_pipe() {
        return Err(Failure::ParquetOfPipe.into());
    }
    // A table takes the rest over from the file itself.
    let part = if shape == Shape::Jsonl { Part::Whole } else { Part::Text };
    let (mut texts, bar) = source.open(part, "embedding")?;
    let models = Models::new(settings.models.clone());
    let (model, embedder) = models.named(wanted.model.as_deref(), &Download::new())?;
    let cancel = Cancel::new();
    stop_on_signal(&cancel)?;
    let run = Run { wanted, embedder, cancel, bar };

    let began = Instant::now();
    if wanted.out == Path::new("-") {
        run.pump(&mut *texts, &mut Rows::to_stdout())?;
        run.bar.finish_and_clear();
        return Ok(());
    }
    let made = Made {
        weights: models.digest(&model),
        model,
        dim: run.embedder.dim()?,
        kind: if wanted.kind == KindArg::Query { "query" } else { "passage" }.to_owned(),
        format: source.format_name().to_owned(),
        field: wanted.field.clone(),
    };
    let mut partial = Partial::open(&wanted.out, shape, made, wanted.resume)?;
    let before = partial.skip(&mut *texts)?;
    if let Err(error) = run.pump(&mut *texts, &mut partial) {
        run.bar.finish_and_clear();
        return Err(partial.leave(error));
    }
    run.bar.finish_and_clear();
    let done = partial.finish(&source, &run.cancel)?;
    let seconds = began.elapsed().as_secs_f64();
    let rate = (done.texts - before) as f64 / seconds.max(1e-9);
    if as_json {
        out::json(&json!({
            "file": wanted.out, "model": done.made.model, "texts": done.texts, "resumed_after": before,
            "dim": done.made.dim, "tokens": done.tokens, "seconds": seconds,
        }));
    } else {
        out::line(format!(
            "{}: {} texts, {} dimensions, {} tokens, by {}, {rate:.0} texts/s",
            wanted.out.display(),
            done.texts,
            done.made.dim,
            done.tokens,
            done.made.model
        ));
    }
    Ok(())
}

/// Where texts and their vectors go.
trait Sink {
    fn put(&mut self, records: Vec<Record>, vectors: &[Vec<f32>], tokens: usize) -> Outcome;
}

impl Sink for Rows<out::Stdout> {
    fn put(&mut self, records: Vec<Record>, vectors: &[Vec<f32>], _tokens: usize) -> Outcome {
        Ok(self.write(records, vectors)?)
    }
}

impl Sink for Partial {
    fn put(&mut self, records: Vec<Record>, vectors: &[Vec<f32>], tokens: usize) -> Outcome {
        self.write(records, vectors, tokens)
    }
}

struct Run<'w> {
    wanted: &'w Embed,
    embedder: Embedder,
    cancel: Cancel,
    bar: ProgressBar,
}

impl Run<'_> {
    /// Embeds all that is left of the texts.
    fn pump(&self, texts: &mut dyn Texts, sink: &mut dyn Sink) -> Outcome {
        let kind = TextKind::from(self.wanted.kind);
        loop {
            let (batch, bad) = self.batch(texts);
            if !batch.is_empty() {
                let batched: Vec<&str> = batch.iter().map(Record::text).collect();
                let found = self.embedder.embed_until(&batched, kind, &self.cancel);
                let found = found.map_err(|error| -> Box<dyn std::error::Error> {
                    if error.is_cancelled() { Failure::EmbedStopped.into() } else { error.into() }
                })?;
                self.bar.tick();
                sink.put(batch, &found.vectors, found.tokens)?;
            } else if bad.is_none() {
                return Ok(());
            }
            // What stands before a bad text is written.
            if let Some(bad) = bad {
                return Err(bad);
            }
            if self.cancel.is_cancelled() {
                return Err(Failure::EmbedStopped.into());
            }
        }
    }

    /// The next texts, and why there are no more, if that is a failure.
    fn batch(&self, texts: &mut dyn Texts) -> (Vec<Record>, Option<Box<dyn std::error::Error>>) {
        let (mut batch, mut bytes) = (Vec::new(), 0);
        while batch.len() < self.wanted.batch as usize && bytes < BATCH_BYTES {
            match texts.next() {
                Ok(Some(record)) => {
                    bytes += record.text().len();
                    batch.push(record);
                }
                Ok(None) => break,
                Err(error) => return (batch, Some(error.into())),
            }
        }
        (batch, None)
    }
}
