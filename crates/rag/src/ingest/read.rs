//! A file becomes the documents in it.

use std::borrow::Cow;
use std::fs::{self, File};
use std::io::{BufRead, BufReader, Read};
use std::path::Path;

use serde::Deserialize;
use serde_json::{Map, Value};
use sha2::{Digest, Sha256};

use super::source::{Source, Stamp};
use super::walk::{Entry, is_corpus};
use super::{Event, Run};
use crate::document::{Document, Format};
use crate::error::Result;
use crate::parse::{MAX_FILE_BYTES, parse};
use crate::provenance::hex;
use crate::stored::Known;

/// A line of a corpus in the BEIR layout.
#[derive(Deserialize)]
struct CorpusLine {
    #[serde(rename = "_id", alias = "id")]
    id: String,
    #[serde(default)]
    title: String,
    text: String,
    #[serde(default)]
    metadata: Map<String, Value>,
}

/// Documents of a corpus that are looked up together, and the bytes of them.
const LINES: usize = 256;
const LINE_BYTES: usize = 4 << 20;

/// The document of a corpus line; none for a blank line or an empty text.
///
/// # Errors
/// When the line is not JSON, or has no `_id` or no `text`.
pub fn corpus_line(line: &str) -> std::result::Result<Option<Document>, serde_json::Error> {
    if line.trim().is_empty() {
        return Ok(None);
    }
    let line: CorpusLine = serde_json::from_str(line)?;
    let document = Document {
        id: line.id,
        title: line.title,
        text: line.text,
        metadata: line.metadata,
        pages: Vec::new(),
    };
    Ok(Some(document).filter(|document| !document.text.trim().is_empty()))
}

/// A file whose stamp is not that of a document that is there.
pub(super) struct Task {
    pub(super) entry: Entry,
    pub(super) known: Option<Known>,
}

impl Run<'_> {
    /// Reads a file and hands on what is in it. `Ok(false)` when nobody takes it
    /// any more.
    pub(super) fn read_file(&self, task: Task) -> Result<bool> {
        if !is_corpus(&task.entry.path) {
            return self.read_document(task);
        }
        if is_corpus_layout(&task.entry.path) {
            return self.read_corpus(&task.entry);
        }
        if !self.is_first(&task.entry.id) {
            return Ok(self.skip(&task.entry.path, twice(&task.entry.id)));
        }
        let known = self.target.known([task.entry.id.as_str()].into_iter())?.remove(&task.entry.id);
        self.read_document(Task { known, ..task })
    }

    /// Reads a file of one document.
    fn read_document(&self, task: Task) -> Result<bool> {
        let Task { entry, known } = task;
        let (bytes, stamp) = match read(&entry.path) {
            Ok(read) => read,
            Err(reason) => return Ok(self.skip(&entry.path, reason)),
        };
        let source = Source {
            root: entry.root,
            size: stamp.size,
            modified_ns: stamp.modified_ns,
            sha256: hex(&Sha256::digest(&bytes)),
            recipe: self.recipe.clone(),
        };
        let before = known.as_ref().and_then(|known| known.source.as_ref());
        if before.is_some_and(|before| before.has_bytes(&source.sha256, &source.recipe)) {
            return self.touch(&entry.id, &source, before);
        }
        let name = entry.path.to_string_lossy();
        // What a reader of some format does not expect must not end the rest.
        let parsed = std::panic::catch_unwind(|| parse(&name, &bytes));
        drop(bytes);
        let parsed = match parsed {
            Ok(Ok(parsed)) => parsed,
            Ok(Err(error)) => return Ok(self.skip(&entry.path, error.to_string())),
            Err(_) => {
                let reason = "it is broken in a way that its reader does not know".to_owned();
                return Ok(self.skip(&entry.path, reason));
            }
        };
        let document = Document {
            id: entry.id,
            title: parsed.title,
            text: parsed.text,
            metadata: Map::new(),
            pages: parsed.pages,
        };
        if let Err(error) = document.check() {
            return Ok(self.skip(&entry.path, error.to_string()));
        }
        let format = self.options.format.unwrap_or(parsed.format);
        let fingerprint = self.target.fingerprint(&document, format)?;
        if let Some(known) = known.as_ref().filter(|known| known.fingerprint == fingerprint) {
            return self.touch(&document.id, &source, known.source.as_ref());
        }
        self.hand_on(document, format, fingerprint, Some(source), known.is_some())
    }

    /// Reads a file of many documents and hands them on, as they come.
    fn read_corpus(&self, entry: &Entry) -> Result<bool> {
        let file = match File::open(&entry.path) {
            Ok(file) => file,
            Err(error) => return Ok(self.skip(&entry.path, error.to_string())),
        };
        let mut reader = BufReader::new(file);
        let (mut batch, mut bytes, mut line) = (Vec::new(), 0, Vec::new());
        let (mut bad, mut first_bad) = (0usize, None);
        for number in 1.. {
            line.clear();
            let read = reader.by_ref().take(MAX_FILE_BYTES).read_until(b'\n', &mut line);
            match read {
                Ok(0) => break,
                Ok(_) => {}
                Err(error) => {
                    self.lose(&entry.path, format!("line {number}: {error}"));
                    break;
                }
            }
            match document_of(&line) {
                Ok(document) => {
                    bytes += line.len();
                    batch.extend(document);
                }
                Err(error) => {
                    bad += 1;
                    first_bad.get_or_insert_with(|| format!("line {number}: {error}"));
                }
            }
            if (batch.len() >= LINES || bytes >= LINE_BYTES)
                && !self.lines(entry, std::mem::take(&mut batch))?
            {
                return Ok(false);
            }
            bytes = if batch.is_empty() { 0 } else { bytes };
        }
        if let Some(first) = first_bad {
            let more = if bad > 1 { format!(", and {} more lines like it", bad - 1) } else { String::new() };
            self.lose(&entry.path, format!("{first}{more}; each line needs \"_id\" and \"text\""));
        }
        self.lines(entry, batch)
    }

    fn lines(&self, entry: &Entry, documents: Vec<Document>) -> Result<bool> {
        let known = self.target.known(documents.iter().map(|document| document.id.as_str()))?;
        let mut unchanged = 0;
        for document in documents {
            if let Err(error) = document.check() {
                self.skip(&entry.path, error.to_string());
                continue;
            }
            if !self.is_first(&document.id) {
                self.skip(&entry.path, twice(&document.id));
                continue;
            }
            let format = self.options.format.unwrap_or(Format::Text);
            let fingerprint = self.target.fingerprint(&document, format)?;
            let before = known.get(&document.id);
            let source = Source { root: entry.root.clone(), ..Source::default() };
            if before.is_some_and(|before| {
                before.fingerprint == fingerprint && before.source.as_ref() == Some(&source)
            }) {
                unchanged += 1;
                continue;
            }
            if let Some(before) = before.filter(|before| before.fingerprint == fingerprint) {
                self.touch(&document.id, &source, before.source.as_ref())?;
            } else if !self.hand_on(document, format, fingerprint, Some(source), before.is_some())? {
                return Ok(false);
            }
        }
        Ok(self.tell(Event::Unchanged(unchanged)))
    }

    /// Cuts a document and sends it to the model.
    fn hand_on(
        &self,
        document: Document,
        format: Format,
        fingerprint: String,
        source: Option<Source>,
        known: bool,
    ) -> Result<bool> {
        if self.options.dry_run {
            let shown = self.options.show_chunks.then(|| self.target.chunks(&document, format));
            let chunks = shown.transpose()?;
            return Ok(self.tell(Event::Would { id: document.id, replaces: known, chunks }));
        }
        let prepared = self.target.prepare(Cow::Owned(document), format, fingerprint, source)?;
        Ok(self.offer(prepared))
    }

    /// The document is as it was; only what is known of its file may be new.
    fn touch(&self, id: &str, source: &Source, before: Option<&Source>) -> Result<bool> {
        if !self.options.dry_run && before != Some(source) {
            self.target.set_source(id, source)?;
        }
        Ok(self.tell(Event::Unchanged(1)))
    }
}

/// Whether the lines of a JSON Lines file are documents: not where the first is a
/// value without a text.
fn is_corpus_layout(path: &Path) -> bool {
    let Ok(file) = File::open(path) else { return true };
    let lines = BufReader::new(file.take(LINE_BYTES as u64)).lines();
    let first = lines.map_while(std::result::Result::ok).find(|line| !line.trim().is_empty());
    let value = first.and_then(|line| serde_json::from_str::<Value>(&line).ok());
    value.is_none_or(|value| value.get("text").is_some_and(Value::is_string))
}

pub(super) fn twice(id: &str) -> String {
    format!("document id `{id}` comes twice, the first one counts; add the folders to two collections")
}

fn document_of(line: &[u8]) -> std::result::Result<Option<Document>, String> {
    if line.len() as u64 == MAX_FILE_BYTES {
        return Err(format!("it has more than {MAX_FILE_BYTES} bytes"));
    }
    let line = std::str::from_utf8(line).map_err(|_| "it is not UTF-8".to_owned())?;
    corpus_line(line.trim_start_matches('\u{feff}')).map_err(|error| error.to_string())
}

/// The bytes of a file, and its stamp from before it was read.
fn read(path: &Path) -> std::result::Result<(Vec<u8>, Stamp), String> {
    let told = |error: std::io::Error| match error.kind() {
        std::io::ErrorKind::NotFound => "it went away while files were read".to_owned(),
        _ => error.to_string(),
    };
    let file = File::open(path).map_err(told)?;
    let stamp = Stamp::of(&file.metadata().map_err(told)?);
    let mut bytes = Vec::with_capacity(stamp.size.min(MAX_FILE_BYTES) as usize);
    // Of a file that grows, and of a pipe, no more than a file may have.
    file.take(MAX_FILE_BYTES + 1).read_to_end(&mut bytes).map_err(told)?;
    if bytes.len() as u64 > MAX_FILE_BYTES {
        return Err(format!("it has more than the {MAX_FILE_BYTES} bytes a file may have; divide it"));
    }
    Ok((bytes, stamp))
}

/// The stamp of a file that is there.
pub(super) fn stamp(path: &Path) -> Option<Stamp> {
    fs::metadata(path).ok().map(|metadata| Stamp::of(&metadata))
}
