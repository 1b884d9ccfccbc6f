//! Tables as text: each row a paragraph that names its columns.

use super::{Parsed, Result, Unreadable};
use crate::document::Format;

pub(super) fn rows(text: &str, delimiter: u8) -> Result<Parsed> {
    let mut reader =
        csv::ReaderBuilder::new().delimiter(delimiter).flexible(true).from_reader(text.as_bytes());
    let failed = |error: csv::Error| Unreadable::new(format!("it cannot be read as a table: {error}"));
    let columns = reader.headers().map_err(failed)?.clone();
    let mut rows = Vec::new();
    for record in reader.records() {
        let record = record.map_err(failed)?;
        let fields = record.iter().enumerate().filter(|(_, value)| !value.trim().is_empty());
        let named = fields.map(|(at, value)| match columns.get(at).map(str::trim) {
            Some(column) if !column.is_empty() => format!("{column}: {}", value.trim()),
            _ => value.trim().to_owned(),
        });
        let row = named.collect::<Vec<_>>().join("; ");
        if !row.is_empty() {
            rows.push(row);
        }
    }
    Ok(Parsed { text: rows.join("\n\n"), format: Format::Text, ..Parsed::default() })
}
