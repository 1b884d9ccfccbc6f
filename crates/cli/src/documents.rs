//! Files on their way to becoming documents.

use std::fs::{self, File};
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};

use cairn_rag::parse::{MAX_FILE_BYTES, is_known, parse};
use cairn_rag::{Document, Format};
use serde::Deserialize;
use serde_json::{Map, Value};

use crate::failure::Failure;

/// Documents read from files, and the files that could not be.
#[derive(Default)]
pub(crate) struct Found {
    pub(crate) markdown: Vec<Document>,
    pub(crate) text: Vec<Document>,
    pub(crate) skipped: Vec<Skipped>,
}

pub(crate) struct Skipped {
    pub(crate) path: PathBuf,
    pub(crate) reason: String,
}

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

impl Found {
    /// Reads files, and those of known kinds below folders.
    pub(crate) fn read(paths: &[PathBuf], format: Option<Format>) -> Result<Self, Failure> {
        let mut found = Self::default();
        for path in paths {
            let metadata =
                fs::metadata(path).map_err(|source| Failure::Read { path: path.clone(), source })?;
            if metadata.is_dir() {
                found.read_folder(path, path, format);
            } else {
                found.read_file(path, &path.display().to_string(), format);
            }
        }
        Ok(found)
    }

    pub(crate) fn count(&self) -> usize {
        self.markdown.len() + self.text.len()
    }

    fn read_folder(&mut self, root: &Path, folder: &Path, format: Option<Format>) {
        let mut entries = match fs::read_dir(folder).and_then(Iterator::collect::<Result<Vec<_>, _>>) {
            Ok(entries) => entries,
            Err(error) => return self.skip(folder, &error),
        };
        entries.sort_by_key(fs::DirEntry::file_name);
        for entry in entries {
            let path = entry.path();
            let hidden = entry.file_name().to_string_lossy().starts_with('.');
            // Links are not followed, so a cycle cannot catch us.
            let Ok(kind) = entry.file_type() else { continue };
            if hidden {
                continue;
            }
            if kind.is_dir() {
                self.read_folder(root, &path, format);
            } else if kind.is_file() && (is_corpus(&path) || is_known(&entry.file_name().to_string_lossy())) {
                let id = path.strip_prefix(root).unwrap_or(&path).display().to_string();
                self.read_file(&path, &id, format);
            } else if kind.is_file() {
                self.skip(&path, &"files of this kind are not read from folders");
            }
        }
    }

    fn skip(&mut self, path: &Path, reason: &dyn std::fmt::Display) {
        self.skipped.push(Skipped { path: path.to_owned(), reason: reason.to_string() });
    }

    fn read_file(&mut self, path: &Path, id: &str, format: Option<Format>) {
        let read =
            if is_corpus(path) { self.read_corpus(path) } else { self.read_document(path, id, format) };
        if let Err(reason) = read {
            self.skip(path, &reason);
        }
    }

    fn read_document(&mut self, path: &Path, id: &str, format: Option<Format>) -> Result<(), String> {
        let bytes = fs::metadata(path).map_err(|error| error.to_string())?.len();
        if bytes > MAX_FILE_BYTES {
            return Err(format!("it has {bytes} bytes, more than the {MAX_FILE_BYTES} a file may have"));
        }
        let bytes = fs::read(path).map_err(|error| error.to_string())?;
        let parsed = parse(&path.to_string_lossy(), &bytes).map_err(|error| error.to_string())?;
        let document = Document {
            id: id.to_owned(),
            title: parsed.title,
            text: parsed.text,
            metadata: Map::new(),
            pages: parsed.pages,
        };
        self.of(format.unwrap_or(parsed.format)).push(document);
        Ok(())
    }

    fn of(&mut self, format: Format) -> &mut Vec<Document> {
        match format {
            Format::Markdown => &mut self.markdown,
            Format::Text => &mut self.text,
        }
    }

    fn read_corpus(&mut self, path: &Path) -> Result<(), String> {
        let file = File::open(path).map_err(|error| error.to_string())?;
        let mut documents = Vec::new();
        for (number, line) in (1..).zip(BufReader::new(file).lines()) {
            let line = line.map_err(|error| format!("line {number}: {error}"))?;
            documents.extend(corpus_line(&line).map_err(|error| format!("line {number}: {error}"))?);
        }
        self.text.extend(documents);
        Ok(())
    }
}

/// The document of a corpus line; none for a blank line or an empty text.
pub(crate) fn corpus_line(line: &str) -> Result<Option<Document>, serde_json::Error> {
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

/// A file of many documents, a line each.
fn is_corpus(path: &Path) -> bool {
    path.extension()
        .is_some_and(|end| end.eq_ignore_ascii_case("jsonl") || end.eq_ignore_ascii_case("ndjson"))
}
