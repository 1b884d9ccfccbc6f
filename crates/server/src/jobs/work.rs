//! A job being done: entry after entry is read, and added by batches.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::{Duration, Instant};

use cairn_embed::Cancel;
use cairn_rag::parse::{MAX_FILE_BYTES, parse};
use cairn_rag::{Added, Document, Error, Format};

use super::job::{Job, Kind, State};
use super::upload::{Entries, Entry};
use crate::app::App;
use crate::error::with_causes;

/// Documents, and bytes of them, that are added together.
const BATCH_DOCUMENTS: usize = 32;
const BATCH_BYTES: usize = 8 << 20;
/// How long to wait when too many wait for the model already.
const MODEL_IS_BUSY: Duration = Duration::from_millis(200);

/// Why a job goes no further.
enum Stop {
    /// It was cancelled, or the service stops.
    Cancelled,
    Failed(String),
}

impl From<Error> for Stop {
    fn from(error: Error) -> Self {
        match error {
            Error::Embed(cairn_embed::Error::Cancelled) => Self::Cancelled,
            error => Self::Failed(with_causes(&error)),
        }
    }
}

/// Does a job to its end, or until it is cancelled or the service stops.
pub(super) fn work(app: &App, job: Job, cancel: &Cancel) {
    let began = Instant::now();
    let mut working = Working { app, job, cancel, waiting: Vec::new(), bytes: 0, format: Format::default() };
    // What a reader of some format does not expect must not end the others.
    let outcome = catch_unwind(AssertUnwindSafe(|| working.all_entries()));
    let outcome =
        outcome.unwrap_or_else(|_| Err(Stop::Failed("the job hit a bug, see the server's log".to_owned())));
    // Where it goes no further, what counts is how far it was noted to have come.
    let noted = app.jobs.get(&working.job.id).map(|(job, _)| job);
    let mut job = match (&outcome, noted) {
        (Err(_), Some(noted)) => noted,
        _ => working.job,
    };
    match outcome {
        Ok(()) if job.counts.failed > 0 && job.counts.failed == job.counts.files => {
            job.state = State::Failed;
            job.error = Some("none of the files could be added, see `failures`".to_owned());
        }
        Ok(()) => job.state = State::Done,
        Err(Stop::Cancelled) if app.jobs.is_stopping() && !job.cancel_asked => {
            job.state = State::Queued;
        }
        Err(Stop::Cancelled) => job.state = State::Cancelled,
        Err(Stop::Failed(error)) => {
            tracing::warn!(job = job.id, collection = job.about.collection, error, "a job failed");
            job.state = State::Failed;
            job.error = Some(error);
        }
    }
    app.jobs.end(job, began.elapsed().as_secs_f64());
}

struct Working<'a> {
    app: &'a App,
    job: Job,
    cancel: &'a Cancel,
    /// Documents that are read and not added yet, all of one format.
    waiting: Vec<Document>,
    bytes: usize,
    format: Format,
}

impl Working<'_> {
    fn all_entries(&mut self) -> Result<(), Stop> {
        let failed = |error: std::io::Error| Stop::Failed(format!("the upload cannot be read: {error}"));
        let path = self.app.jobs.bytes(&self.job.id);
        let mut entries = Entries::open(&path, self.job.at).map_err(failed)?;
        loop {
            let at = entries.at;
            let Some(entry) = entries.next(MAX_FILE_BYTES).map_err(failed)? else { break };
            if self.cancel.is_cancelled() {
                return Err(Stop::Cancelled);
            }
            let (name, size) = (entry.name.clone(), entry.size);
            match self.document(entry) {
                Ok((document, format)) => self.offer(document, format, at)?,
                Err(reason) => self.job.fail_file(name, reason),
            }
            self.job.counts.files_done += 1;
            self.job.counts.bytes_done += size;
            if self.waiting.len() >= BATCH_DOCUMENTS || self.bytes >= BATCH_BYTES {
                self.add(entries.at)?;
            }
        }
        self.add(entries.at)
    }

    /// What an entry says, or why it cannot be read.
    fn document(&self, entry: Entry) -> Result<(Document, Format), String> {
        let Some(content) = entry.content else {
            return Err(format!(
                "it has {} bytes, more than the {MAX_FILE_BYTES} a file may have; divide it",
                entry.size
            ));
        };
        let (document, format) = match self.job.about.kind {
            Kind::Documents => {
                let document = serde_json::from_slice(&content).map_err(|error| error.to_string())?;
                (document, self.job.about.format)
            }
            Kind::Files => file(entry.name, &content)?,
        };
        document.check().map_err(|error| error.to_string())?;
        Ok((document, format))
    }

    /// Puts a document to those that wait; `at` is where its entry begins.
    fn offer(&mut self, document: Document, format: Format, at: u64) -> Result<(), Stop> {
        // The later one counts, so it comes in a batch of its own.
        let twice = self.waiting.iter().any(|other| other.id == document.id);
        if twice || (format != self.format && !self.waiting.is_empty()) {
            self.add(at)?;
        }
        self.format = format;
        self.bytes += document.text.len();
        self.waiting.push(document);
        Ok(())
    }

    /// Adds what waits; everything before `at` is then done.
    fn add(&mut self, at: u64) -> Result<(), Stop> {
        let documents = std::mem::take(&mut self.waiting);
        self.bytes = 0;
        if !documents.is_empty() {
            let added = self.add_patiently(&documents)?;
            self.job.counts.take(&added);
            self.job.about.was_there = true;
        }
        self.job.at = at;
        self.app.jobs.note(&mut self.job);
        Ok(())
    }

    fn add_patiently(&self, documents: &[Document]) -> Result<Added, Stop> {
        let about = &self.job.about;
        loop {
            if about.was_there {
                // One that was dropped meanwhile must not come back.
                let database = self.app.engine.database();
                database.collection(&about.collection).map_err(|error| Stop::from(Error::from(error)))?;
            }
            let added = self.app.engine.add_until(
                &about.collection,
                documents,
                self.format,
                about.chunk,
                self.cancel,
                &mut |_| {},
            );
            match added {
                Err(Error::Embed(cairn_embed::Error::Busy { .. })) => std::thread::sleep(MODEL_IS_BUSY),
                other => return Ok(other?),
            }
        }
    }
}

/// The document in a file.
fn file(name: String, content: &[u8]) -> Result<(Document, Format), String> {
    let parsed = match catch_unwind(|| parse(&name, content)) {
        Ok(parsed) => parsed.map_err(|error| error.to_string())?,
        Err(_) => return Err("it is broken in a way that its reader does not know".to_owned()),
    };
    let document = Document {
        id: name,
        title: parsed.title,
        text: parsed.text,
        metadata: serde_json::Map::new(),
        pages: parsed.pages,
    };
    Ok((document, parsed.format))
}
