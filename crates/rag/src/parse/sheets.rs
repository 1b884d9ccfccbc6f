//! Workbooks (XLSX): each sheet a section, each row a paragraph that names its
//! columns.

use std::io::Cursor;

use calamine::{DataRef, Reader, Xlsx};

use super::{Packed, Parsed, Result, Unreadable, one_line};
use crate::document::Format;

pub(super) fn workbook(bytes: &[u8]) -> Result<Parsed> {
    // The reader of workbooks unpacks without a limit, so that is tried first.
    Packed::open(bytes)?.check()?;
    let failed = |error: &dyn std::fmt::Display| {
        Unreadable::new(match error.to_string() {
            told if told.to_lowercase().contains("password") => {
                "it is encrypted: save it without a password first".to_owned()
            }
            told => format!("it cannot be read as a workbook: {told}"),
        })
    };
    let mut book: Xlsx<_> = Xlsx::new(Cursor::new(bytes)).map_err(|error| failed(&error))?;
    let mut blocks = Vec::new();
    for name in book.sheet_names() {
        let rows = match rows(&mut book, &name) {
            Ok(rows) => rows,
            // A sheet that is only a chart.
            Err(calamine::XlsxError::NotAWorksheet(_)) => continue,
            Err(error) => return Err(failed(&error)),
        };
        if !rows.is_empty() {
            blocks.push(format!("# {}", one_line(&name)));
            blocks.extend(table(&rows));
        }
    }
    Ok(Parsed { text: blocks.join("\n\n"), format: Format::Markdown, ..Parsed::default() })
}

/// The cells of a row that hold something, by column.
type Row = Vec<(u32, String)>;

/// The rows that hold something. Cells are read one after the other: a sheet
/// with one cell at its far end is no table of billions.
fn rows(book: &mut Xlsx<Cursor<&[u8]>>, sheet: &str) -> std::result::Result<Vec<Row>, calamine::XlsxError> {
    let mut cells = book.worksheet_cells_reader(sheet)?;
    let (mut rows, mut last): (Vec<Row>, Option<u32>) = (Vec::new(), None);
    while let Some(cell) = cells.next_cell()? {
        let ((row, column), text) = (cell.get_position(), shown(cell.get_value()));
        if text.is_empty() {
            continue;
        }
        if last != Some(row) {
            rows.push(Vec::new());
            last = Some(row);
        }
        rows.last_mut().expect("there is one now").push((column, text));
    }
    Ok(rows)
}

/// Rows as paragraphs. The first row with more than one cell, if they are words,
/// names the columns; what stands above it is a paragraph each.
fn table(rows: &[Row]) -> Vec<String> {
    let is_word = |text: &String| text.parse::<f64>().is_err();
    let names_columns = |row: &Row| row.len() > 1 && row.iter().all(|(_, text)| is_word(text));
    let wide = rows.iter().position(|row| row.len() > 1).unwrap_or(rows.len());
    let header = rows.get(wide).filter(|row| names_columns(row) && wide + 1 < rows.len());
    let names = header.map_or(&[][..], Vec::as_slice);
    let named = |(column, text): &(u32, String)| match names.iter().find(|(at, _)| at == column) {
        Some((_, name)) => format!("{name}: {text}"),
        None => text.clone(),
    };
    let body = rows.iter().enumerate().filter(|(at, _)| header.is_none() || *at != wide);
    body.map(|(at, row)| {
        let cell = |cell: &(u32, String)| if at < wide { cell.1.clone() } else { named(cell) };
        let cells: Vec<String> = row.iter().map(cell).collect();
        super::harmless(&cells.join("; "))
    })
    .collect()
}

fn shown(value: &DataRef<'_>) -> String {
    match value {
        DataRef::Empty | DataRef::Error(_) => String::new(),
        DataRef::Int(number) => number.to_string(),
        DataRef::Float(number) => number.to_string(),
        DataRef::Bool(truth) => truth.to_string(),
        DataRef::String(text) | DataRef::DateTimeIso(text) | DataRef::DurationIso(text) => one_line(text),
        DataRef::SharedString(text) => one_line(text),
        DataRef::DateTime(time) if time.is_duration() => {
            let seconds = (time.as_f64() * 86_400.0).round() as i64;
            format!("{}:{:02}:{:02}", seconds / 3600, seconds / 60 % 60, seconds % 60)
        }
        DataRef::DateTime(time) => {
            let (year, month, day, hour, minute, second, _) = time.to_ymd_hms_milli();
            match (time.as_f64().fract() == 0.0, time.as_f64() < 1.0) {
                (true, _) => format!("{year}-{month:02}-{day:02}"),
                (false, true) => format!("{hour:02}:{minute:02}:{second:02}"),
                (false, false) => {
                    format!("{year}-{month:02}-{day:02} {hour:02}:{minute:02}:{second:02}")
                }
            }
        }
    }
}
