//! Files to documents: text, title, and where pages begin.
//!
//! Of Markdown, text and source code the text is the file's, letter by letter. Of
//! other formats it is what was taken out of them, as Markdown; citations then
//! count characters of that. What a file cannot give is an error with the reason,
//! never a panic.

mod office;
mod pages;
mod sheets;
mod slides;
mod structured;
mod table;
mod text;
mod web;
mod word;

use std::io::{Cursor, Read};
use std::path::Path;

use zip::ZipArchive;

use crate::document::Format;

/// Goes up whenever a reader reads some file otherwise, so that files are read
/// again that were read before.
pub const VERSION: u32 = 3;

/// A file larger than this is not prose.
pub const MAX_FILE_BYTES: u64 = 64 << 20;
/// What the parts of a packed file may come to.
const MAX_UNPACKED_BYTES: u64 = 256 << 20;

/// What was read of a file.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Parsed {
    /// The title it gives itself; empty where it gives none.
    pub title: String,
    /// Its text.
    pub text: String,
    /// How the text is written.
    pub format: Format,
    /// The character that each page begins with, where it has pages.
    pub pages: Vec<usize>,
}

/// Why a file cannot be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct Unreadable(String);

impl Unreadable {
    fn new(reason: impl std::fmt::Display) -> Self {
        Self(reason.to_string())
    }
}

type Result<T> = std::result::Result<T, Unreadable>;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Markdown,
    Text,
    Html,
    Pdf,
    Docx,
    Pptx,
    Xlsx,
    Epub,
    Csv(u8),
    Json,
    JsonLines,
}

fn kind_of(name: &str) -> Option<Kind> {
    let extension = Path::new(name).extension()?.to_str()?.to_ascii_lowercase();
    Some(match extension.as_str() {
        "md" | "markdown" | "mdx" => Kind::Markdown,
        "html" | "htm" | "xhtml" => Kind::Html,
        "pdf" => Kind::Pdf,
        "docx" => Kind::Docx,
        "pptx" => Kind::Pptx,
        "xlsx" | "xlsm" => Kind::Xlsx,
        "json" => Kind::Json,
        "jsonl" | "ndjson" => Kind::JsonLines,
        "epub" => Kind::Epub,
        "csv" => Kind::Csv(b','),
        "tsv" => Kind::Csv(b'\t'),
        "txt" | "text" | "rst" | "org" | "adoc" | "tex" | "log" | "yaml" | "yml" | "toml" | "xml" | "ini"
        | "cfg" | "sql" | "rs" | "py" | "js" | "mjs" | "ts" | "tsx" | "jsx" | "go" | "c" | "h" | "cc"
        | "cpp" | "hpp" | "java" | "kt" | "swift" | "rb" | "php" | "cs" | "scala" | "sh" | "lua" | "r"
        | "jl" | "hs" | "ml" | "ex" | "erl" | "clj" | "dart" | "zig" | "proto" | "css" => Kind::Text,
        _ => return None,
    })
}

/// Whether files of such a name are read.
pub fn is_known(name: &str) -> bool {
    kind_of(name).is_some()
}

/// Reads a file by what its name says it is; one of an unknown kind as text.
///
/// # Errors
/// [`Unreadable`] with the reason: broken, encrypted, too large, empty, not text.
pub fn parse(name: &str, bytes: &[u8]) -> Result<Parsed> {
    if bytes.len() as u64 > MAX_FILE_BYTES {
        return Err(Unreadable::new(format!(
            "it has {} bytes, more than the {MAX_FILE_BYTES} a file may have; divide it",
            bytes.len()
        )));
    }
    let parsed = match kind_of(name) {
        Some(Kind::Markdown) => text::markdown(bytes)?,
        Some(Kind::Html) => web::page(&text::decoded(bytes)?)?,
        Some(Kind::Pdf) => pages::pdf(bytes)?,
        Some(Kind::Docx) => word::word(bytes)?,
        Some(Kind::Pptx) => slides::slides(bytes)?,
        Some(Kind::Xlsx) => sheets::workbook(bytes)?,
        Some(Kind::Json) => structured::json(bytes)?,
        Some(Kind::JsonLines) => structured::json_lines(bytes)?,
        Some(Kind::Epub) => web::book(bytes)?,
        Some(Kind::Csv(delimiter)) => table::rows(&text::decoded(bytes)?, delimiter)?,
        Some(Kind::Text) | None => text::plain(bytes)?,
    };
    if parsed.text.trim().is_empty() {
        return Err(Unreadable::new("there is no text in it"));
    }
    Ok(parsed)
}

/// A packed file, whose parts together may not grow beyond a limit.
struct Packed<'b> {
    archive: ZipArchive<Cursor<&'b [u8]>>,
    left: u64,
}

impl<'b> Packed<'b> {
    fn open(bytes: &'b [u8]) -> Result<Self> {
        let archive = ZipArchive::new(Cursor::new(bytes));
        let archive = archive.map_err(|error| Unreadable::new(format!("it cannot be unpacked: {error}")))?;
        Ok(Self { archive, left: MAX_UNPACKED_BYTES })
    }

    fn names(&self) -> Vec<String> {
        self.archive.file_names().filter_map(|name| Some(name.ok()?.into_owned())).collect()
    }

    /// The bytes of a part; none if it is not there.
    fn part(&mut self, name: &str) -> Result<Option<Vec<u8>>> {
        let part = match self.archive.by_name(name) {
            Err(zip::result::ZipError::FileNotFound) => return Ok(None),
            part => part.map_err(|error| Unreadable::new(format!("`{name}` cannot be unpacked: {error}")))?,
        };
        let mut bytes = Vec::new();
        // What a part says of its length need not be true.
        let read = part.take(self.left + 1).read_to_end(&mut bytes);
        read.map_err(|error| Unreadable::new(format!("`{name}` cannot be unpacked: {error}")))?;
        if bytes.len() as u64 > self.left {
            return Err(Unreadable::new(format!("it unpacks to more than {MAX_UNPACKED_BYTES} bytes")));
        }
        self.left -= bytes.len() as u64;
        Ok(Some(bytes))
    }

    /// Whether all parts together keep to the limit.
    fn check(mut self) -> Result<()> {
        for at in 0..self.archive.len() {
            let part = self.archive.by_index(at);
            let part = part.map_err(|error| Unreadable::new(format!("it cannot be unpacked: {error}")))?;
            let read = std::io::copy(&mut part.take(self.left + 1), &mut std::io::sink());
            let read = read.map_err(|error| Unreadable::new(format!("it cannot be unpacked: {error}")))?;
            if read > self.left {
                return Err(Unreadable::new(format!("it unpacks to more than {MAX_UNPACKED_BYTES} bytes")));
            }
            self.left -= read;
        }
        Ok(())
    }

    /// The text of a part that must be there.
    fn xml(&mut self, name: &str) -> Result<String> {
        let bytes = self.part(name)?.ok_or_else(|| Unreadable::new(format!("`{name}` is missing in it")))?;
        text::decoded(&bytes)
    }
}

/// A text without line breaks and runs of spaces.
fn one_line(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

/// A text none of whose lines Markdown takes for a heading, a fence or a rule.
fn harmless(text: &str) -> String {
    let line = |line: &str| {
        let marked = line.trim_start();
        let rule = |mark: char| !marked.is_empty() && marked.trim_end().chars().all(|one| one == mark);
        let fence = marked.starts_with("```") || marked.starts_with("~~~");
        let looks = marked.starts_with('#') || fence || rule('=') || rule('-');
        if looks { format!("\\{marked}") } else { line.to_owned() }
    };
    text.lines().map(line).collect::<Vec<_>>().join("\n")
}

/// Characters of a text.
fn chars(text: &str) -> usize {
    text.chars().count()
}

#[cfg(test)]
mod tests;
#[cfg(test)]
mod tests_structure;
