//! `cairn import`: points from lines of JSON, or from another server, into a
//! collection.
//!
//! What a line of a point looks like is said in `cairn-index`; a line with a
//! text and no vector is a document. Both are written by batches, and a batch
//! before a bad line is written before the line is told.

use std::fs::File;
use std::io::{BufRead, BufReader, Read};
use std::path::Path;

use cairn_index::{Collection, CollectionConfig, Metric, Point, WrittenId};
use cairn_rag::{Document, Engine, Format};
use flate2::bufread::MultiGzDecoder;
use indicatif::ProgressBar;
use serde::Deserialize;
use serde_json::{Map, Value, json};

use crate::args::Import;
use crate::export::is_packed;
use crate::failure::{Failure, Outcome};
use crate::out;
use crate::progress::{bytes, counting};
use crate::remote::Remote;
use crate::settings::Settings;
use crate::verbs::open;

/// Points are written together up to so many, or so many bytes of lines.
const BATCH: usize = 1000;
const BATCH_BYTES: usize = 8 << 20;
/// Bytes a line may have.
const LINE_BYTES: u64 = 64 << 20;

pub(crate) fn run(settings: &Settings, wanted: &Import, as_json: bool) -> Outcome {
    let engine = open(settings)?;
    let mut intake = Intake::new(&engine, wanted);
    let from = wanted.from.as_str();
    if from.starts_with("http://") || from.starts_with("https://") {
        intake.take_all(&Remote::new(from, wanted.api_key_env.as_deref())?)?;
    } else if from == "-" {
        let bar = bytes("importing", None);
        intake.read(BufReader::new(bar.wrap_read(std::io::stdin().lock())), &bar)?;
    } else {
        intake.read_file(Path::new(from))?;
    }
    intake.sum_up(as_json);
    Ok(())
}

/// What a line holds.
enum Item {
    Point(Point),
    Document(Document),
}

/// Points and documents on their way into a collection.
struct Intake<'e> {
    engine: &'e Engine,
    wanted: &'e Import,
    /// Each with the number of its line, where it has one.
    points: Vec<(Option<usize>, Point)>,
    documents: Vec<Document>,
    done: Done,
}

#[derive(Default)]
struct Done {
    points: usize,
    documents: usize,
    unchanged: usize,
    /// The number of the line, where it has one, and why it is left out.
    skipped: Vec<(Option<usize>, String)>,
}

impl<'e> Intake<'e> {
    fn new(engine: &'e Engine, wanted: &'e Import) -> Self {
        Self { engine, wanted, points: Vec::new(), documents: Vec::new(), done: Done::default() }
    }

    fn read_file(&mut self, path: &Path) -> Outcome {
        let failed = |source| Failure::Read { path: path.to_owned(), source };
        let file = File::open(path).map_err(failed)?;
        let size = file.metadata().map_err(failed)?.len();
        let bar = bytes("importing", Some(size).filter(|size| *size > 0));
        let reader = BufReader::with_capacity(1 << 20, bar.wrap_read(file));
        if is_packed(path) {
            self.read(BufReader::new(MultiGzDecoder::new(reader)), &bar)
        } else {
            self.read(reader, &bar)
        }
    }

    fn read(&mut self, mut reader: impl BufRead, bar: &ProgressBar) -> Outcome {
        let (mut line, mut waiting) = (Vec::new(), 0);
        for number in 1.. {
            line.clear();
            let failed = |source| Failure::Read { path: self.wanted.from.clone().into(), source };
            if reader.by_ref().take(LINE_BYTES).read_until(b'\n', &mut line).map_err(failed)? == 0 {
                break;
            }
            match item(&line) {
                Ok(item) => self.offer(Some(number), item)?,
                Err(reason) => self.bad(Some(number), reason)?,
            }
            waiting += line.len();
            if waiting >= BATCH_BYTES {
                self.flush()?;
                waiting = 0;
            }
        }
        self.flush()?;
        bar.finish_and_clear();
        Ok(())
    }

    /// The points of a collection of another server, and its settings where it
    /// is new here.
    fn take_all(&mut self, remote: &Remote) -> Outcome {
        let (config, points) = remote.describe()?;
        if self.there()?.is_none() {
            self.engine.database().create_collection(&self.wanted.collection, config)?;
        }
        let bar = counting("importing", points);
        let mut from = None;
        loop {
            let page = remote.page(from)?;
            for point in page.points {
                self.offer(None, Some(Item::Point(point)))?;
            }
            bar.set_position(self.done.points as u64);
            from = page.next;
            if from.is_none() {
                break;
            }
        }
        self.flush()?;
        bar.finish_and_clear();
        Ok(())
    }

    fn offer(&mut self, line: Option<usize>, item: Option<Item>) -> Outcome {
        match item {
            Some(Item::Point(point)) => self.points.push((line, point)),
            Some(Item::Document(document)) => {
                // The later one counts, as with points.
                if self.documents.iter().any(|other| other.id == document.id) {
                    self.flush()?;
                }
                self.documents.push(document);
            }
            None => {}
        }
        if self.points.len() + self.documents.len() >= BATCH { self.flush() } else { Ok(()) }
    }

    /// Counts a bad line, or stops there.
    fn bad(&mut self, line: Option<usize>, reason: String) -> Outcome {
        if !self.wanted.skip_bad {
            self.flush()?;
            return Err(self.stop(line, reason).into());
        }
        self.leave_out(line, reason);
        Ok(())
    }

    fn leave_out(&mut self, line: Option<usize>, reason: String) {
        out::note(format!("skipped {}: {reason}", place(line)));
        self.done.skipped.push((line, reason));
    }

    fn stop(&self, line: Option<usize>, reason: String) -> Failure {
        let written = self.done.points + self.done.documents + self.done.unchanged;
        Failure::BadLine { place: place(line), from: self.wanted.from.clone(), reason, written }
    }

    /// Writes what is waiting.
    fn flush(&mut self) -> Outcome {
        if !self.points.is_empty() {
            self.write_points()?;
        }
        let documents = std::mem::take(&mut self.documents);
        if !documents.is_empty() {
            let name = &self.wanted.collection;
            let added = self.engine.add(name, &documents, Format::Text, &mut |_| {})?;
            self.done.documents += added.documents;
            self.done.unchanged += added.unchanged;
        }
        Ok(())
    }

    /// Writes the points that fit; where bad ones are not passed over, those
    /// before the first bad one.
    fn write_points(&mut self) -> Outcome {
        let (lines, points): (Vec<_>, Vec<_>) = std::mem::take(&mut self.points).into_iter().unzip();
        let collection = self.collection_for(&points)?;
        let (mut fitting, mut stopped) = (Vec::with_capacity(points.len()), None);
        for (line, point) in lines.into_iter().zip(points) {
            match collection.check(&point) {
                Ok(()) => fitting.push(point),
                Err(error) if self.wanted.skip_bad => {
                    self.leave_out(line, format!("point {}: {error}", written(&point)));
                }
                Err(error) => {
                    stopped = Some((line, format!("point {}: {error}", written(&point))));
                    break;
                }
            }
        }
        let count = fitting.len();
        if count > 0 {
            collection.upsert(fitting)?;
        }
        self.done.points += count;
        match stopped {
            Some((line, reason)) => Err(self.stop(line, reason).into()),
            None => Ok(()),
        }
    }

    fn there(&self) -> Outcome<Option<Collection>> {
        match self.engine.database().collection(&self.wanted.collection) {
            Err(cairn_index::Error::UnknownCollection { .. }) => Ok(None),
            other => Ok(Some(other?)),
        }
    }

    /// The collection, made to fit these points when it is not there.
    fn collection_for(&self, points: &[Point]) -> Outcome<Collection> {
        if let Some(collection) = self.there()? {
            return Ok(collection);
        }
        let config = CollectionConfig::fitting(points, Metric::from(self.wanted.distance));
        Ok(self.engine.database().create_collection(&self.wanted.collection, config)?)
    }

    fn sum_up(&self, as_json: bool) {
        let Done { points, documents, unchanged, skipped } = &self.done;
        if as_json {
            let skipped: Vec<Value> =
                skipped.iter().map(|(line, reason)| json!({ "line": line, "reason": reason })).collect();
            out::json(&json!({
                "points": points, "documents": documents, "unchanged": unchanged, "skipped": skipped
            }));
            return;
        }
        let texts = match documents + unchanged {
            0 => String::new(),
            _ => format!(", {documents} documents embedded, {unchanged} unchanged"),
        };
        let left_out = match skipped.len() {
            0 => String::new(),
            count => format!(", {count} bad lines skipped"),
        };
        out::line(format!("{points} points imported to `{}`{texts}{left_out}", self.wanted.collection));
    }
}

fn place(line: Option<usize>) -> String {
    line.map_or_else(|| "a point".to_owned(), |line| format!("line {line}"))
}

/// The id of a point as it was written.
fn written(point: &Point) -> WrittenId {
    WrittenId { id: point.id, label: point.label.clone() }
}

/// What is in a line; nothing in a blank one.
fn item(line: &[u8]) -> Result<Option<Item>, String> {
    if line.len() as u64 == LINE_BYTES {
        return Err(format!("it has more than {LINE_BYTES} bytes"));
    }
    let line = std::str::from_utf8(line).map_err(|_| "it is not UTF-8".to_owned())?;
    let line = line.trim_start_matches('\u{feff}').trim();
    if line.is_empty() {
        return Ok(None);
    }
    match serde_json::from_str::<Point>(line) {
        Ok(point) => Ok(Some(Item::Point(point))),
        Err(error) => match serde_json::from_str::<TextLine>(line) {
            Ok(text) if text.has_no_vector() => text.into_document().map(|one| Some(Item::Document(one))),
            _ => Err(in_line(&error)),
        },
    }
}

/// Where in its line something is wrong; the number of the line is told anyway.
fn in_line(error: &serde_json::Error) -> String {
    let told = error.to_string().replace(" at line 1 column ", " at column ");
    match told.starts_with("missing field `vector`") {
        true => "it has no `vector`, no `vectors` and no `text`".to_owned(),
        false => told,
    }
}

/// A line that a model makes vectors of, with the keys of a point or of a corpus.
#[derive(Deserialize)]
struct TextLine {
    #[serde(alias = "_id")]
    id: Value,
    #[serde(default)]
    title: String,
    text: String,
    #[serde(default, alias = "payload")]
    metadata: Option<Map<String, Value>>,
    vector: Option<Value>,
    vectors: Option<Value>,
}

impl TextLine {
    fn has_no_vector(&self) -> bool {
        self.vector.is_none() && self.vectors.is_none()
    }

    fn into_document(self) -> Result<Document, String> {
        let id = match self.id {
            Value::String(id) => id,
            Value::Number(id) => id.to_string(),
            _ => return Err("`id` is neither a string nor a number".to_owned()),
        };
        if id.is_empty() || self.text.trim().is_empty() {
            return Err("`id` and `text` must not be empty".to_owned());
        }
        let metadata = self.metadata.unwrap_or_default();
        Ok(Document { id, title: self.title, text: self.text, metadata, pages: Vec::new() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_is_a_point_or_a_text_or_says_what_it_lacks() {
        let told = |line: &str| match item(line.as_bytes()) {
            Ok(Some(Item::Point(point))) => format!("point {}", written(&point)),
            Ok(Some(Item::Document(document))) => format!("document {}", document.id),
            Ok(None) => "nothing".to_owned(),
            Err(reason) => reason,
        };
        assert_eq!(told("\u{feff}{\"id\": 1, \"vector\": [1]}\n"), "point 1");
        assert_eq!(told(r#"{"id": "quarry/1", "vector": [1], "text": "stones"}"#), "point quarry/1");
        assert_eq!(told("  \n"), "nothing");
        assert_eq!(told(r#"{"id": 1, "text": "stones", "payload": {"a": 1}}"#), "document 1");
        assert_eq!(told(r#"{"_id": "a", "text": "stones"}"#), "document a");
        assert_eq!(told(r#"{"id": 1}"#), "it has no `vector`, no `vectors` and no `text`");
        assert!(told(r#"{"id": 1, "text": " "}"#).contains("must not be empty"));
        assert!(told(r#"{"id": 1, "vector": ["x"], "text": "stones"}"#).contains("at column"));
        assert!(told("broken").contains("expected value at column 1"));
    }
}
