//! `cairn add`: files of folders become documents of a collection.

use std::collections::HashSet;
use std::path::{Path, PathBuf};
use std::thread;

use cairn_embed::Cancel;
use cairn_rag::{Chunk, ChunkChange, Engine, Format, IngestEvent, IngestOptions, Ingested};
use indicatif::ProgressBar;
use serde_json::{Value, json};

use crate::args::Add;
use crate::failure::{Failure, Outcome};
use crate::out;
use crate::progress::{Download, running};
use crate::settings::Settings;
use crate::verbs::{one_line, open, stop_signal};
use crate::watch;

pub(crate) fn run(settings: &Settings, wanted: &Add, as_json: bool) -> Outcome {
    check_paths(wanted)?;
    let options = options(wanted);
    if wanted.watch {
        return watch::run(settings, wanted, &options, as_json);
    }
    let engine = open(settings)?;
    let cancel = Cancel::new();
    stop_on_signal(&cancel)?;
    let mut told = Told::new(as_json);
    let done = told.ingest(&engine, wanted, &options, &cancel)?;
    told.sum_up(wanted, &done);
    if done.stopped {
        return Err(Failure::Stopped.into());
    }
    if done.added.documents + done.added.unchanged + done.removed == 0 {
        return Err(if done.skipped == 0 { Failure::NothingToAdd } else { Failure::AllSkipped }.into());
    }
    Ok(())
}

/// Before anything is opened: all of the paths are there.
pub(crate) fn check_paths(wanted: &Add) -> Outcome {
    let Some(path) = wanted.paths.iter().find(|path| !path.exists()) else { return Ok(()) };
    let source = std::fs::metadata(path).err().unwrap_or_else(|| std::io::ErrorKind::NotFound.into());
    Err(cairn_rag::Error::Path { path: path.clone(), source }.into())
}

fn options(wanted: &Add) -> IngestOptions {
    let chunk = ChunkChange { max_tokens: wanted.max_tokens, overlap: wanted.overlap };
    IngestOptions {
        chunk: Some(chunk).filter(|chunk| *chunk != ChunkChange::default()),
        format: wanted.format.map(Format::from),
        gitignore: wanted.gitignore,
        prune: wanted.prune,
        dry_run: wanted.dry_run,
        show_chunks: wanted.show_chunks,
        threads: 0,
    }
}

/// Sets the flag on Ctrl-C, so that the run ends behind what it is writing; a
/// second Ctrl-C ends the program at once, which loses nothing that is written.
pub(crate) fn stop_on_signal(cancel: &Cancel) -> Outcome {
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

/// Files that were left out, each with the reason.
pub(crate) type LeftOut = HashSet<(PathBuf, String)>;

/// What is shown while files are added, and what JSON keeps of it.
pub(crate) struct Told {
    as_json: bool,
    bar: ProgressBar,
    so_far: Ingested,
    /// What need not be told, for it was.
    pub(crate) known: LeftOut,
    pub(crate) left_out: LeftOut,
    skipped: Vec<Value>,
    would: Vec<Value>,
    removed: Vec<String>,
}

impl Told {
    pub(crate) fn new(as_json: bool) -> Self {
        let bar = running("looking for files");
        Self {
            as_json,
            bar,
            so_far: Ingested::default(),
            known: LeftOut::new(),
            left_out: LeftOut::new(),
            skipped: Vec::new(),
            would: Vec::new(),
            removed: Vec::new(),
        }
    }

    /// Adds the files and shows how far it is.
    pub(crate) fn ingest(
        &mut self,
        engine: &Engine,
        wanted: &Add,
        options: &IngestOptions,
        cancel: &Cancel,
    ) -> Outcome<Ingested> {
        let download = Download::new();
        let hear = &mut |event: &IngestEvent| self.hear(event);
        let done = engine.ingest(&wanted.collection, &wanted.paths, options, &download, cancel, hear);
        self.bar.finish_and_clear();
        Ok(done?)
    }

    /// Whether something was written or removed, or left out for the first time.
    pub(crate) fn has_news(&self) -> bool {
        let now = &self.so_far;
        now.added.documents + now.removed > 0 || self.left_out.iter().any(|one| !self.known.contains(one))
    }

    /// Whether this was not told before.
    fn is_new(&mut self, path: &Path, reason: &str) -> bool {
        let one = (path.to_owned(), reason.to_owned());
        let is_new = !self.known.contains(&one);
        self.left_out.insert(one);
        is_new
    }

    fn hear(&mut self, event: &IngestEvent) {
        let now = &mut self.so_far;
        now.take(event);
        match event {
            IngestEvent::Skipped { path, reason } => {
                if !self.is_new(path, reason) {
                    return;
                }
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
            IngestEvent::NotPruned { reason } if self.is_new(Path::new(""), reason) => {
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

    pub(crate) fn sum_up(&self, wanted: &Add, done: &Ingested) {
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
