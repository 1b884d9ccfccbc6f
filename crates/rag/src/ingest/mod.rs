//! Files on their way into a collection: found, read, cut, embedded, written, each
//! step in threads of its own.
//!
//! What is between the steps is bounded, so memory does not grow with the folder,
//! but for 16 bytes a document that tell which ids have come. A file whose
//! size and time are those of the document that is there is not opened. A batch of
//! documents is written as one change; what is written when a run is stopped
//! stays, and the next run goes on behind it.

mod budget;
mod prune;
mod read;
mod source;
mod stages;
mod walk;

use std::collections::HashSet;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use cairn_embed::{Cancel, Progress};
use crossbeam_channel::Sender;
use parking_lot::Mutex;

use self::budget::Budget;
use self::walk::Root;
use crate::adding::Target;
use crate::chunking::ChunkChange;
use crate::document::Format;
use crate::engine::{Added, Engine};
use crate::error::{Error, Result};
use crate::passages::Chunk;
use crate::stored::{Prepared, passage_id};

pub use self::read::corpus_line;
pub(crate) use self::source::Source;

/// How files are added.
#[derive(Debug, Clone, Default)]
pub struct IngestOptions {
    /// Read every file as this instead of by its name.
    pub format: Option<Format>,
    /// Settings of a collection that is made; see
    /// [`Engine::add_chunked`](crate::Engine::add_chunked).
    pub chunk: Option<ChunkChange>,
    /// Leave out what `.gitignore` files say.
    pub gitignore: bool,
    /// Remove documents from below a given folder whose file was not found
    /// there any more.
    pub prune: bool,
    /// Write nothing, tell what would become of each file.
    pub dry_run: bool,
    /// With `dry_run`: tell the chunks too.
    pub show_chunks: bool,
    /// Threads that read files; 0 is one for each core, at most 8.
    pub threads: usize,
}

/// What happens while files are added.
#[derive(Debug, Clone, PartialEq)]
pub enum Event {
    /// A file was found.
    Found,
    /// A file, or a part of it, is left out.
    Skipped {
        /// The file.
        path: PathBuf,
        /// Why.
        reason: String,
    },
    /// So many documents are there already as they are.
    Unchanged(usize),
    /// A batch was written.
    Written {
        /// Documents, passages and tokens of the batch.
        added: Added,
        /// Documents of it that were there in another form.
        replaced: usize,
    },
    /// In a dry run: a document would be written.
    Would {
        /// Its id.
        id: String,
        /// Whether it is there in another form.
        replaces: bool,
        /// Its chunks, where they were asked for.
        chunks: Option<Vec<Chunk>>,
    },
    /// A document was removed, or in a dry run would be.
    Removed {
        /// Its id.
        id: String,
    },
    /// Nothing is removed, because not all files could be looked at.
    NotPruned {
        /// What could not be looked at.
        reason: String,
    },
}

/// What became of a run.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Ingested {
    /// Documents, passages and tokens; in a dry run, documents alone.
    pub added: Added,
    /// Documents of those added that were there in another form.
    pub replaced: usize,
    /// Documents that were removed.
    pub removed: usize,
    /// Files found.
    pub files: usize,
    /// Files, or parts of them, that were left out.
    pub skipped: usize,
    /// Time in which texts were in the model.
    pub embedding: Duration,
    /// Whether the run was stopped before its end.
    pub stopped: bool,
}

/// Bytes of text that may be read and not written yet.
const TEXT_ON_ITS_WAY: usize = 64 << 20;

/// What the threads of a run share.
pub(super) struct Run<'e> {
    options: &'e IngestOptions,
    target: Target<'e>,
    recipe: String,
    cancel: Cancel,
    budget: Budget,
    /// The ids that have come.
    seen: Mutex<HashSet<u128>>,
    /// Why what was seen is not all there is.
    lost: Mutex<Option<String>>,
    failed: Mutex<Option<Error>>,
    ended: AtomicBool,
    told: Sender<Event>,
    ready: Sender<Prepared<'static>>,
    embedding: Mutex<Duration>,
}

impl Engine {
    /// Adds files, and those of known kinds below folders, to a collection. It is
    /// created with the default model when it is not there. A document's id is the
    /// path below the folder. A file that cannot be read is told and left out, the
    /// rest goes on. Once `cancel` is set the run ends within a batch; what was
    /// written stays.
    ///
    /// # Errors
    /// [`Error::Path`] before anything is done; failures of the model or the disk
    /// afterwards, when what was written before is in place.
    ///
    /// ```no_run
    /// # use cairn_rag::{Engine, IngestOptions};
    /// # fn run(engine: &Engine) -> cairn_rag::Result<()> {
    /// let options = IngestOptions { prune: true, ..IngestOptions::default() };
    /// let cancel = cairn_embed::Cancel::new();
    /// let silent = cairn_embed::Silent;
    /// let done = engine.ingest("notes", &["notes".into()], &options, &silent, &cancel, &mut |_| {})?;
    /// println!("{} added, {} removed", done.added.documents, done.removed);
    /// # Ok(())
    /// # }
    /// ```
    pub fn ingest(
        &self,
        collection: &str,
        paths: &[PathBuf],
        options: &IngestOptions,
        progress: &dyn Progress,
        cancel: &Cancel,
        observe: &mut dyn FnMut(&Event),
    ) -> Result<Ingested> {
        let roots = paths.iter().map(|path| Root::new(path)).collect::<Result<Vec<_>>>()?;
        if options.prune && roots.iter().all(|root| root.folder().is_none()) {
            return Err(Error::Option {
                field: "prune",
                value: "true".to_owned(),
                range: "used with a folder, whose missing files it removes".to_owned(),
            });
        }
        let target = Target::new(self, collection, options.chunk, progress)?;
        stages::run(&roots, options, target, cancel, observe)
    }
}

impl Run<'_> {
    /// `false` when nobody listens any more.
    fn tell(&self, event: Event) -> bool {
        event == Event::Unchanged(0) || self.told.send(event).is_ok()
    }

    fn skip(&self, path: &Path, reason: String) -> bool {
        self.tell(Event::Skipped { path: path.to_owned(), reason })
    }

    /// As `skip`, for what may hold documents that nobody has seen now.
    fn lose(&self, path: &Path, reason: String) -> bool {
        self.lost.lock().get_or_insert_with(|| format!("{}: {reason}", path.display()));
        self.skip(path, reason)
    }

    /// Whether this id has not come before.
    fn is_first(&self, id: &str) -> bool {
        self.seen.lock().insert(key(id))
    }

    fn has_seen(&self, id: &str) -> bool {
        self.seen.lock().contains(&key(id))
    }

    /// Sends a document to the model once there is room for it.
    fn offer(&self, prepared: Prepared<'static>) -> bool {
        self.budget.take(prepared.document.text.len());
        self.ready.send(prepared).is_ok()
    }

    fn is_over(&self) -> bool {
        self.cancel.is_cancelled() || self.ended.load(Ordering::Relaxed)
    }

    /// Ends the run with an error, the first that comes.
    fn fail(&self, error: Error) {
        self.failed.lock().get_or_insert(error);
        self.ended.store(true, Ordering::Relaxed);
    }
}

fn key(id: &str) -> u128 {
    match passage_id(id, 0) {
        cairn_index::PointId::Uuid(uuid) => uuid.as_u128(),
        cairn_index::PointId::Num(number) => u128::from(number),
    }
}
