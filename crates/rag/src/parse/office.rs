//! What documents and slides of office programs have in common (Office Open XML,
//! ECMA-376): paragraphs and tables.

use std::collections::HashMap;

use quick_xml::events::{BytesStart, Event};
use quick_xml::{Reader, XmlVersion};

use super::{Result, Unreadable, harmless};

pub(super) fn unreadable(error: impl std::fmt::Display) -> Unreadable {
    Unreadable::new(format!("its XML cannot be read: {error}"))
}

/// An attribute by its local name.
pub(super) fn attribute(tag: &BytesStart<'_>, name: &str) -> Result<Option<String>> {
    for attribute in tag.attributes() {
        let attribute = attribute.map_err(unreadable)?;
        if attribute.key.local_name().as_ref() == name {
            return Ok(Some(quick_xml::escape::unescape(&attribute.value).map_err(unreadable)?.into_owned()));
        }
    }
    Ok(None)
}

/// The level of headings, from 1, by the style of a paragraph.
pub(super) type Styles = HashMap<String, usize>;

/// Paragraphs in the order of the document; a table's row is one, and a table
/// within a cell belongs to its text.
pub(super) fn blocks(xml: &str, styles: &Styles) -> Result<Vec<String>> {
    let mut reader = Reader::from_str(xml);
    let (mut blocks, mut open) = (Vec::new(), Open::default());
    loop {
        match reader.read_event().map_err(unreadable)? {
            Event::Start(tag) => open.begin(&tag, false, styles)?,
            Event::Empty(tag) => open.begin(&tag, true, styles)?,
            Event::Text(text) if open.in_text => {
                open.paragraph.push_str(&text.xml_content(XmlVersion::Implicit1_0));
            }
            Event::GeneralRef(entity) if open.in_text => {
                let name = entity.xml_content(XmlVersion::Implicit1_0);
                let text =
                    quick_xml::escape::unescape(&format!("&{name};")).map_err(unreadable)?.into_owned();
                open.paragraph.push_str(&text);
            }
            Event::End(tag) => match tag.local_name().as_ref() {
                "t" => open.in_text = false,
                "p" => blocks.extend(open.end_paragraph()),
                "tc" => open.end_cell(),
                "tr" => blocks.extend(open.end_row()),
                "tbl" => drop(open.tables.pop()),
                _ => {}
            },
            Event::Eof => break,
            _ => {}
        }
    }
    if open.in_text {
        return Err(Unreadable::new("its XML ends in the middle of a text"));
    }
    Ok(blocks)
}

/// What is being read.
#[derive(Default)]
struct Open {
    paragraph: String,
    /// Of a heading, from 1.
    level: usize,
    in_text: bool,
    /// The innermost last.
    tables: Vec<Table>,
}

#[derive(Default)]
struct Table {
    cells: Vec<String>,
    cell: Option<String>,
}

impl Open {
    fn begin(&mut self, tag: &BytesStart<'_>, empty: bool, styles: &Styles) -> Result<()> {
        match tag.local_name().as_ref() {
            "t" => self.in_text = !empty,
            "tab" if !self.paragraph.is_empty() => self.paragraph.push('\t'),
            "br" => self.paragraph.push('\n'),
            "tbl" if !empty => self.tables.push(Table::default()),
            "tc" => self.tables.iter_mut().last().into_iter().for_each(|table| {
                table.cell = Some(String::new());
            }),
            "pStyle" => self.level = level(&attribute(tag, "val")?.unwrap_or_default(), styles),
            // Of the paragraph itself, which counts more than its style.
            "outlineLvl" => {
                let level = attribute(tag, "val")?.and_then(|level| level.parse::<usize>().ok());
                self.level = level.filter(|level| *level < 9).map_or(0, |level| level + 1);
            }
            _ => {}
        }
        Ok(())
    }

    fn end_paragraph(&mut self) -> Option<String> {
        let text = std::mem::take(&mut self.paragraph);
        let (text, level) = (text.trim(), std::mem::take(&mut self.level));
        if text.is_empty() {
            return None;
        }
        if let Some(cell) = self.tables.last_mut().and_then(|table| table.cell.as_mut()) {
            join(cell, " ", text);
            return None;
        }
        // A paragraph must not look like a heading to whoever reads it as Markdown.
        Some(match level {
            0 => harmless(text),
            level => format!("{} {}", "#".repeat(level.min(6)), super::one_line(text)),
        })
    }

    fn end_cell(&mut self) {
        if let Some(table) = self.tables.last_mut() {
            table.cells.extend(table.cell.take());
        }
    }

    fn end_row(&mut self) -> Option<String> {
        let cells = std::mem::take(&mut self.tables.last_mut()?.cells);
        if cells.iter().all(String::is_empty) {
            return None;
        }
        let around = self.tables.iter_mut().rev().nth(1);
        match around.and_then(|table| table.cell.as_mut()) {
            Some(cell) => {
                join(cell, "; ", &cells.join(", "));
                None
            }
            None => Some(cells.join(" | ")),
        }
    }
}

fn join(text: &mut String, between: &str, more: &str) {
    if !text.is_empty() {
        text.push_str(between);
    }
    text.push_str(more);
}

/// The level of a style: what the document's styles say, or else its name.
fn level(style: &str, styles: &Styles) -> usize {
    if let Some(level) = styles.get(style) {
        return *level;
    }
    match style.to_ascii_lowercase().strip_prefix("heading") {
        Some(level) => level.trim().parse().unwrap_or(1),
        None => usize::from(style.eq_ignore_ascii_case("title")),
    }
}
