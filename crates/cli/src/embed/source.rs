//! Where the texts come from: lines or rows of a file, read once or again.

use std::fs::File;
use std::io::{BufReader, Read};
use std::path::{Path, PathBuf};

use indicatif::ProgressBar;
use serde_json::{Map, Value, json};

use super::lines::Lines;
use super::parquet::Table;
use crate::args::{Embed, LinesArg};
use crate::failure::{Failure, Outcome};
use crate::progress::{bytes, counting};

/// A text and what came with it.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Record {
    Plain(String),
    Object { text: String, object: Map<String, Value> },
}

impl Record {
    pub(super) fn text(&self) -> &str {
        match self {
            Record::Plain(text) | Record::Object { text, .. } => text,
        }
    }

    /// What came with the text, or of a plain one its number and itself.
    pub(super) fn into_object(self, number: usize) -> Map<String, Value> {
        match self {
            Record::Object { object, .. } => object,
            Record::Plain(text) => {
                Map::from_iter([("id".to_owned(), json!(number)), ("text".to_owned(), json!(text))])
            }
        }
    }
}

/// Texts, one after the other.
pub(super) trait Texts {
    /// The next text; nothing behind the last.
    fn next(&mut self) -> Result<Option<Record>, Failure>;
}

/// What of a row is wanted beside its text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Part {
    Text,
    Whole,
}

/// A file of texts, or standard input.
#[derive(Debug, Clone)]
pub(super) struct Source {
    pub(super) path: PathBuf,
    pub(super) format: LinesArg,
    pub(super) field: String,
}

impl Source {
    /// # Errors
    /// [`Failure::ParquetOfPipe`].
    pub(super) fn of(wanted: &Embed) -> Result<Source, Failure> {
        let path = wanted.file.clone();
        let end = path.extension().and_then(|end| end.to_str()).map(str::to_ascii_lowercase);
        let format = wanted.format.unwrap_or(match end.as_deref() {
            Some("jsonl" | "ndjson") => LinesArg::Jsonl,
            Some("parquet") => LinesArg::Parquet,
            _ => LinesArg::Txt,
        });
        let source = Source { path, format, field: wanted.field.clone() };
        if source.is_pipe() && format == LinesArg::Parquet {
            return Err(Failure::ParquetOfPipe);
        }
        Ok(source)
    }

    /// Whether it can be read only once.
    pub(super) fn is_pipe(&self) -> bool {
        self.path == Path::new("-") || self.path.metadata().is_ok_and(|there| !there.is_file())
    }

    pub(super) fn format_name(&self) -> &'static str {
        match self.format {
            LinesArg::Jsonl => "jsonl",
            LinesArg::Txt => "txt",
            LinesArg::Parquet => "parquet",
        }
    }

    /// Its texts from the first on, and a bar that follows how far they are read.
    pub(super) fn open(&self, part: Part, doing: &'static str) -> Outcome<(Box<dyn Texts>, ProgressBar)> {
        if self.format == LinesArg::Parquet {
            let table = Table::open(&self.path)?;
            let bar = counting(doing, table.rows());
            return Ok((Box::new(table.texts(&self.field, part, bar.clone())?), bar));
        }
        let (reader, bar): (Box<dyn Read>, _) = if self.path == Path::new("-") {
            let bar = bytes(doing, None);
            (Box::new(bar.wrap_read(std::io::stdin())), bar)
        } else {
            let failed = |source| Failure::Read { path: self.path.clone(), source };
            let file = File::open(&self.path).map_err(failed)?;
            let size = file.metadata().map_err(failed)?.len();
            let bar = bytes(doing, Some(size).filter(|size| *size > 0));
            (Box::new(bar.wrap_read(file)), bar)
        };
        let reader = BufReader::with_capacity(1 << 16, reader);
        Ok((Box::new(Lines::new(reader, &self.path, self.format, &self.field)), bar))
    }
}
