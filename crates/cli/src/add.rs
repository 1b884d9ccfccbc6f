//! `cairn add`: files of folders become documents of a collection.

use std::thread;

use cairn_embed::Cancel;
use cairn_rag::{Chunk, ChunkChange, Format, IngestEvent, IngestOptions, Ingested};
use indicatif::ProgressBar;
use serde_json::{Value, json};

use crate::args::Add;
use crate::failure::{Failure, Outcome};
use crate::out;
use crate::progress::{Download, running};
use crate::settings::Settings;
use crate::verbs::{one_line, open, stop_signal};

pub(crate) fn run(settings: &Settings, wanted: &Add, as_json: bool) -> Outcome {
    let chunk = ChunkChange { max_tokens: wanted.max_tokens, overlap: wanted.overlap };
    let options = IngestOptions {
        chunk: Some(chunk).filter(|chunk| *chunk != ChunkChange::default()),
        format: wanted.format.map(Format::from),
        gitignore: wanted.gitignore,
        prune: wanted.prune,
        dry_run: wanted.dry_run,
        show_chunks: wanted.show_chunks,
        threads: 0,
    };
    if let Some(path) = wanted.paths.iter().find(|path| !path.exists()) {
        let source = std::fs::metadata(path).err().unwrap_or_else(|| std::io::ErrorKind::NotFound.into());
        return Err(cairn_rag::Error::Path { path: path.clone(), source }.into());
    }
    let engine = open(settings)?;
    let cancel = Cancel::new();
    stop_on_signal(&cancel)?;
    let mut told = Told::new(as_json);
    let done =
        engine.ingest(&wanted.collection, &wanted.paths, &options, &Download::new(), &cancel, &mut |event| {
            told.hear(event)
        });
    told.bar.finish_and_clear();
    let done = done?;
    told.sum_up(wanted, &done);
    if done.stopped {
        return Err(Failure::Stopped.into());
    }
    if done.added.documents + done.added.unchanged + done.removed == 0 {
        return Err(if done.skipped == 0 { Failure::NothingToAdd } else { Failure::AllSkipped }.into());
    }
    Ok(())
}

/// Sets the flag on Ctrl-C, so that the run ends behind what it is writing; a
/// second Ctrl-C ends the program at once, which loses nothing that is written.
fn stop_on_signal(cancel: &Cancel) -> Outcome {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let (runtime, cancel) = (runtime.map_err(Failure::Runtime)?, cancel.clone());
    thread::spawn(move || {
        runtime.block_on(async {
            stop_signal().await;
            cancel.cancel();
            stop_signal().await;
            std::process::exit(130);
        });
    });
    Ok(())
}

/// What is shown while files are added, and what JSON keeps of it.
struct Told {
    as_json: bool,
    bar: ProgressBar,
    so_far: Ingested,
    skipped: Vec<Value>,
    would: Vec<Value>,
    removed: Vec<String>,
}

impl Told {
    fn new(as_json: bool) -> Self {
        let bar = running("looking for files");
        Self {
            as_json,
            bar,
            so_far: Ingested::default(),
            skipped: Vec::new(),
            would: Vec::new(),
            removed: Vec::new(),
        }
    }

    fn hear(&mut self, event: &IngestEvent) {
        let now = &mut self.so_far;
        now.take(event);
        match event {
            IngestEvent::Skipped { path, reason } => {
                if self.as_json {
                    self.skipped.push(json!({ "path": path, "reason": reason }));
                }
                self.bar.suspend(|| out::note(format!("skipped {}: {reason}", path.display())));
            }
            IngestEvent::Would { id, replaces, chunks } if self.as_json => {
                self.would.push(json!({ "id": id, "replaces": replaces, "chunks": chunks }));
            }
            IngestEvent::Would { id, replaces, chunks } => {
                let verb = if *replaces { "replace" } else { "add" };
                self.bar.suspend(|| {
                    out::line(format!("would {verb} {id}"));
                    chunks.iter().flatten().for_each(print_chunk);
                });
            }
            IngestEvent::Removed { id } if self.as_json => self.removed.push(id.clone()),
            IngestEvent::Removed { id } => self.bar.suspend(|| out::line(format!("gone: {id}"))),
            IngestEvent::NotPruned { reason } => {
                self.bar.suspend(|| out::note(format!("nothing is removed: {reason}")));
            }
            _ => {}
        }
        let now = &self.so_far;
        self.bar.set_message(format!(
            "{} files found, {} documents written, {} unchanged, {} passages",
            now.files, now.added.documents, now.added.unchanged, now.added.passages
        ));
    }

    fn sum_up(&self, wanted: &Add, done: &Ingested) {
        if self.as_json {
            let mut told = json!({
                "added": done.added,
                "replaced": done.replaced,
                "removed": done.removed,
                "files": done.files,
                "skipped": self.skipped,
                "stopped": done.stopped,
            });
            if wanted.dry_run {
                told["would_write"] = json!(self.would);
                told["would_remove"] = json!(self.removed);
            }
            out::json(&told);
            return;
        }
        let (collection, added) = (&wanted.collection, &done.added);
        let new = added.documents - done.replaced;
        if wanted.dry_run {
            out::line(format!(
                "nothing written: {new} documents would be added to `{collection}`, {} replaced, {} removed; \
                 {} unchanged, {} files skipped",
                done.replaced, done.removed, added.unchanged, done.skipped
            ));
            return;
        }
        let removed = if done.removed > 0 { format!(", {} removed", done.removed) } else { String::new() };
        out::line(format!(
            "{} documents added to `{collection}` ({new} new, {} replaced), {} unchanged{removed}, \
             {} files skipped: {} passages, {} tokens",
            added.documents, done.replaced, added.unchanged, done.skipped, added.passages, added.tokens
        ));
    }
}

fn print_chunk(chunk: &Chunk) {
    let passage = &chunk.passage;
    let page = passage.page.map_or(String::new(), |page| format!(", page {page}"));
    out::line(format!(
        "  {}..{}{page}, {} tokens, under [{}], prefix {:?}",
        passage.start,
        passage.end,
        chunk.tokens,
        passage.heading.join(" > "),
        chunk.prefix
    ));
    out::line(format!("    {}", one_line(&passage.text, 160)));
}
