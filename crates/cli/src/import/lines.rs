//! Lines of JSON: each a point, or a text that a model makes vectors of.

use std::io::{BufRead, BufReader, Read};
use std::path::Path;

use cairn_index::Point;
use cairn_rag::Document;
use flate2::bufread::MultiGzDecoder;
use indicatif::ProgressBar;
use serde::Deserialize;
use serde_json::{Map, Value};

use super::{BATCH_BYTES, Intake, Item, Unit};
use crate::export::is_packed;
use crate::failure::{Failure, Outcome};
use crate::progress::bytes;

/// Bytes a line may have.
const LINE_BYTES: u64 = 64 << 20;

impl Intake<'_> {
    pub(super) fn read_standard_input(&mut self) -> Outcome {
        self.begin("-", Unit::Line);
        let bar = bytes("importing", None);
        self.read_lines(BufReader::new(bar.wrap_read(std::io::stdin().lock())), &bar)
    }

    pub(super) fn read_file_of_lines(&mut self, path: &Path) -> Outcome {
        self.begin(&path.display().to_string(), Unit::Line);
        let failed = |source| Failure::Read { path: path.to_owned(), source };
        let file = std::fs::File::open(path).map_err(failed)?;
        let size = file.metadata().map_err(failed)?.len();
        let bar = bytes("importing", Some(size).filter(|size| *size > 0));
        let reader = BufReader::with_capacity(1 << 20, bar.wrap_read(file));
        if is_packed(path) {
            self.read_lines(BufReader::new(MultiGzDecoder::new(reader)), &bar)
        } else {
            self.read_lines(reader, &bar)
        }
    }

    fn read_lines(&mut self, mut reader: impl BufRead, bar: &ProgressBar) -> Outcome {
        let (mut line, mut waiting) = (Vec::new(), 0);
        for number in 1.. {
            line.clear();
            let failed = |source| Failure::Read { path: self.from.clone().into(), source };
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
    if told.starts_with("missing field `vector`") {
        "it has no `vector`, no `vectors` and no `text`".to_owned()
    } else {
        told
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
            Ok(Some(Item::Point(point))) => format!("point {}", super::super::written(&point)),
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
