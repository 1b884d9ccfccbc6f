//! The threads of a run and what flows between them.

use std::num::NonZero;
use std::sync::atomic::AtomicBool;
use std::thread;
use std::time::Duration;

use cairn_embed::Cancel;
use crossbeam_channel::{Receiver, RecvTimeoutError, Sender, bounded};
use parking_lot::Mutex;

use super::budget::Budget;
use super::read::{Task, stamp, twice};
use super::walk::{Entry, Root, Step, is_corpus};
use super::{Event, IngestOptions, Ingested, Run, TEXT_ON_ITS_WAY};
use crate::adding::{Embedded, Target};
use crate::engine::Added;
use crate::error::{Error, Result};
use crate::stored::Prepared;

/// Files that are looked up together.
const LOOKED_UP: usize = 256;
/// A batch is written once it has so many passages or documents.
const BATCH_PASSAGES: usize = 512;
const BATCH_DOCUMENTS: usize = 256;
/// How long a batch waits for more.
const PATIENCE: Duration = Duration::from_millis(100);
/// Readers of nested formats go deep.
const STACK: usize = 256 << 20;

pub(super) fn run(
    roots: &[Root],
    options: &IngestOptions,
    target: Target<'_>,
    cancel: &Cancel,
    observe: &mut dyn FnMut(&Event),
) -> Result<Ingested> {
    let (told, events) = bounded(1024);
    let (ready, prepared) = bounded(BATCH_DOCUMENTS);
    let recipe = target.file_recipe(options.format);
    let run = Run {
        options,
        target,
        recipe,
        cancel: cancel.clone(),
        budget: Budget::new(TEXT_ON_ITS_WAY),
        seen: Mutex::default(),
        lost: Mutex::default(),
        failed: Mutex::default(),
        ended: AtomicBool::default(),
        told,
        ready,
        embedding: Mutex::default(),
    };
    let mut done = Ingested::default();
    thread::scope(|scope| {
        let all = scope.spawn(|| run.all_stages(roots, prepared));
        // Until all stages are over: then there is nothing more to come.
        while !all.is_finished() || !events.is_empty() {
            if let Ok(event) = events.recv_timeout(Duration::from_millis(20)) {
                done.take(&event);
                observe(&event);
            }
        }
    });
    done.embedding = *run.embedding.lock();
    done.stopped = cancel.is_cancelled();
    match run.failed.into_inner() {
        Some(Error::Embed(cairn_embed::Error::Cancelled)) | None => Ok(done),
        Some(error) => Err(error),
    }
}

impl Ingested {
    /// Counts an event.
    pub fn take(&mut self, event: &Event) {
        match event {
            Event::Found => self.files += 1,
            Event::Skipped { .. } => self.skipped += 1,
            Event::Unchanged(documents) => self.added.unchanged += documents,
            Event::Written { added, replaced } => {
                self.added.documents += added.documents;
                self.added.passages += added.passages;
                self.added.tokens += added.tokens;
                self.replaced += replaced;
            }
            Event::Would { replaces, .. } => {
                self.added.documents += 1;
                self.replaced += usize::from(*replaces);
            }
            Event::Removed { .. } => self.removed += 1,
            Event::NotPruned { .. } => {}
        }
    }
}

// A stage owns its ends of the channels, so that its neighbours see it end.
#[allow(clippy::needless_pass_by_value)]
impl Run<'_> {
    fn all_stages(&self, roots: &[Root], prepared: Receiver<Prepared<'static>>) {
        let (found, entries) = bounded(LOOKED_UP * 4);
        let readers = match self.options.threads {
            0 => thread::available_parallelism().map_or(1, NonZero::get).min(8),
            threads => threads,
        };
        let (given, tasks) = bounded(readers * 2);
        let (embedded, batches) = bounded(1);
        thread::scope(|scope| {
            // Each stage ends when the one before has, or the one behind.
            let reading = scope.spawn(move || {
                thread::scope(|scope| {
                    scope.spawn(move || self.find(roots, found));
                    scope.spawn(move || self.guarded(|| self.look_up(entries, given)));
                    for _ in 0..readers {
                        let tasks = tasks.clone();
                        let reader = thread::Builder::new().stack_size(STACK);
                        let work = move || self.guarded(|| self.read(tasks));
                        if let Err(error) = reader.spawn_scoped(scope, work) {
                            self.fail(Error::Threads(error));
                        }
                    }
                    drop(tasks);
                });
            });
            scope.spawn(move || self.embed(&prepared, embedded, &|| reading.is_finished()));
            self.guarded(|| self.write(batches));
        });
        self.guarded(|| self.prune(roots));
    }

    fn guarded(&self, stage: impl FnOnce() -> Result<()>) {
        if let Err(error) = stage() {
            self.fail(error);
        }
    }

    fn find(&self, roots: &[Root], found: Sender<Entry>) {
        let data = self.target.data_folder();
        for root in roots {
            let went_on = root.walk(self.options.gitignore, &data, &mut |step| {
                !self.is_over()
                    && match step {
                        Step::File(entry) => self.tell(Event::Found) && found.send(entry).is_ok(),
                        Step::Skipped(path, reason) => self.skip(&path, reason),
                        Step::Lost(path, reason) => self.lose(&path, reason),
                    }
            });
            if !went_on {
                return;
            }
        }
    }

    /// Passes on the files that are not as they were.
    fn look_up(&self, entries: Receiver<Entry>, given: Sender<Task>) -> Result<()> {
        while let Ok(first) = entries.recv() {
            let mut some = vec![first];
            some.extend(entries.try_iter().take(LOOKED_UP - 1));
            let known = self.target.known(some.iter().map(|entry| entry.id.as_str()))?;
            let mut unchanged = 0;
            for entry in some {
                if is_corpus(&entry.path) {
                    if given.send(Task { entry, known: None }).is_err() {
                        return Ok(());
                    }
                    continue;
                }
                if !self.is_first(&entry.id) {
                    self.skip(&entry.path, twice(&entry.id));
                    continue;
                }
                let known = known.get(&entry.id).cloned();
                let source = known.as_ref().and_then(|known| known.source.as_ref());
                let is_same = source
                    .zip(stamp(&entry.path))
                    .is_some_and(|(source, stamp)| source.is_same(&entry.root, stamp, &self.recipe));
                if is_same {
                    unchanged += 1;
                } else if given.send(Task { entry, known }).is_err() {
                    return Ok(());
                }
            }
            self.tell(Event::Unchanged(unchanged));
        }
        Ok(())
    }

    fn read(&self, tasks: Receiver<Task>) -> Result<()> {
        while let Ok(task) = tasks.recv() {
            // What comes after the end is taken and left, so that nobody waits.
            if self.is_over() {
                continue;
            }
            self.read_file(task)?;
        }
        Ok(())
    }

    fn embed(
        &self,
        prepared: &Receiver<Prepared<'static>>,
        embedded: Sender<(Embedded, usize)>,
        all_read: &dyn Fn() -> bool,
    ) {
        let embed_all = || -> Result<()> {
            loop {
                let (batch, over) = next_batch(prepared, all_read);
                if !batch.is_empty() && !self.is_over() {
                    let bytes = batch.iter().map(|one| one.document.text.len()).sum();
                    let done = self.target.embed(&batch, &self.cancel)?;
                    *self.embedding.lock() += done.took;
                    if embedded.send((done, bytes)).is_err() {
                        return Ok(());
                    }
                }
                if over || self.is_over() {
                    return Ok(());
                }
            }
        };
        self.guarded(embed_all);
        // Whoever still waits for room may go: what they bring is left.
        self.budget.give(usize::MAX >> 2);
        while !all_read() {
            let _ = prepared.recv_timeout(Duration::from_millis(20));
        }
    }

    fn write(&self, batches: Receiver<(Embedded, usize)>) -> Result<()> {
        while let Ok((batch, bytes)) = batches.recv() {
            let tokens = batch.tokens;
            let written = self.target.commit(batch)?;
            self.budget.give(bytes);
            let added =
                Added { documents: written.documents, unchanged: 0, passages: written.passages, tokens };
            self.tell(Event::Written { added, replaced: written.replaced });
        }
        Ok(())
    }
}

/// What comes until a batch is full or nothing comes for a while; and whether
/// that was the last.
fn next_batch(
    prepared: &Receiver<Prepared<'static>>,
    all_read: &dyn Fn() -> bool,
) -> (Vec<Prepared<'static>>, bool) {
    let (mut batch, mut passages) = (Vec::new(), 0);
    while passages < BATCH_PASSAGES && batch.len() < BATCH_DOCUMENTS {
        // Asked before looking: who has ended sends nothing more.
        let over = all_read();
        match prepared.recv_timeout(if over { Duration::ZERO } else { PATIENCE }) {
            Ok(one) => {
                passages += one.passages.len();
                batch.push(one);
            }
            Err(RecvTimeoutError::Timeout) if !over && batch.is_empty() => {}
            Err(RecvTimeoutError::Timeout) => return (batch, over),
            Err(RecvTimeoutError::Disconnected) => return (batch, true),
        }
    }
    (batch, false)
}
