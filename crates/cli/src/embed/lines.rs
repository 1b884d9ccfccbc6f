//! Texts out of lines: a text a line, or a JSON object a line with the text in
//! one of its fields.
//!
//! Of plain lines each one counts, an empty one too, so that rows are lines; of
//! lines of JSON, empty ones are left out.

use std::io::{BufRead, BufReader, Read};
use std::path::{Path, PathBuf};

use serde_json::{Map, Value};

use super::source::{Record, Texts};
use crate::args::LinesArg;
use crate::failure::Failure;

/// Bytes a line may have.
const LINE_BYTES: u64 = 64 << 20;

pub(super) struct Lines<R> {
    reader: BufReader<R>,
    path: PathBuf,
    format: LinesArg,
    field: String,
    /// Lines read so far.
    number: usize,
    line: Vec<u8>,
}

impl<R: Read> Lines<R> {
    pub(super) fn new(reader: BufReader<R>, path: &Path, format: LinesArg, field: &str) -> Lines<R> {
        let (path, field) = (path.to_owned(), field.to_owned());
        Lines { reader, path, format, field, number: 0, line: Vec::new() }
    }

    fn object(&self, text: &str) -> Result<Record, String> {
        let object: Map<String, Value> =
            serde_json::from_str(text).map_err(|error| format!("it is no JSON object: {error}"))?;
        let Some(text) = object.get(&self.field).and_then(Value::as_str) else {
            let has: Vec<&str> = object.keys().map(String::as_str).collect();
            let what = if object.contains_key(&self.field) { "is no text" } else { "is not there" };
            return Err(format!(
                "its field `{}` {what}; name the one that holds the text with --field, it has: {}",
                self.field,
                has.join(", ")
            ));
        };
        Ok(Record::Object { text: text.to_owned(), object })
    }

    fn bad(&self, reason: String) -> Failure {
        Failure::BadText { line: self.number, path: self.path.clone(), reason }
    }
}

impl<R: Read> Texts for Lines<R> {
    fn next(&mut self) -> Result<Option<Record>, Failure> {
        loop {
            self.line.clear();
            let failed = |source| Failure::Read { path: self.path.clone(), source };
            let read =
                self.reader.by_ref().take(LINE_BYTES).read_until(b'\n', &mut self.line).map_err(failed)?;
            if read == 0 {
                return Ok(None);
            }
            self.number += 1;
            if read as u64 == LINE_BYTES {
                return Err(self.bad(format!("it is longer than {} MiB", LINE_BYTES >> 20)));
            }
            let text = std::str::from_utf8(&self.line)
                .map_err(|error| self.bad(format!("it is not UTF-8: {error}")))?;
            let text = if self.number == 1 { text.trim_start_matches('\u{feff}') } else { text };
            let text = text.strip_suffix('\n').unwrap_or(text);
            let text = text.strip_suffix('\r').unwrap_or(text);
            match self.format {
                LinesArg::Jsonl if text.trim().is_empty() => {}
                LinesArg::Jsonl => return self.object(text).map(Some).map_err(|reason| self.bad(reason)),
                _ => return Ok(Some(Record::Plain(text.to_owned()))),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::BufReader;
    use std::path::Path;

    use super::super::source::{Record, Texts};
    use super::Lines;
    use crate::args::LinesArg;

    fn read(text: &[u8], format: LinesArg) -> Vec<Result<Record, String>> {
        let mut lines = Lines::new(BufReader::new(text), Path::new("texts"), format, "text");
        std::iter::from_fn(|| lines.next().map_err(|error| error.to_string()).transpose()).take(9).collect()
    }

    #[test]
    fn each_plain_line_is_a_text_and_empty_ones_count() {
        let texts: Vec<String> = read("\u{feff}one\r\n\n two \nthree".as_bytes(), LinesArg::Txt)
            .into_iter()
            .map(|record| record.unwrap().text().to_owned())
            .collect();
        assert_eq!(texts, ["one", "", " two ", "three"]);
        assert!(read(b"", LinesArg::Txt).is_empty());
    }

    #[test]
    fn an_object_keeps_what_it_has_and_a_bad_line_is_named() {
        let records = read(b"{\"id\": 7, \"text\": \"one\"}\n\n{\"body\": 1}\n", LinesArg::Jsonl);
        let Ok(Record::Object { text, object }) = &records[0] else { panic!("{records:?}") };
        assert_eq!((&text[..], &object["id"]), ("one", &7.into()));
        let error = records[1].as_ref().unwrap_err();
        for part in ["line 3", "`text` is not there", "--field", "body"] {
            assert!(error.contains(part), "{error}");
        }
        assert!(read(b"[1]", LinesArg::Jsonl)[0].as_ref().unwrap_err().contains("no JSON object"));
        assert!(read(b"a\xff", LinesArg::Txt)[0].as_ref().unwrap_err().contains("not UTF-8"));
    }
}
