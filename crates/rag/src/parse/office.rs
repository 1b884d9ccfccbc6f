//! Documents and slides of office programs (Office Open XML, ECMA-376).

use quick_xml::events::{BytesStart, Event};
use quick_xml::{Reader, XmlVersion};

use super::text::first_heading;
use super::{Packed, Parsed, Result, Unreadable, chars};
use crate::document::Format;

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

/// The text of a Word document: headings, paragraphs, and rows of tables.
pub(super) fn word(bytes: &[u8]) -> Result<Parsed> {
    let xml = Packed::open(bytes)?.xml("word/document.xml")?;
    let text = blocks(&xml)?.join("\n\n");
    Ok(Parsed { title: first_heading(&text), text, format: Format::Markdown, pages: Vec::new() })
}

/// The text of slides, each a page.
pub(super) fn slides(bytes: &[u8]) -> Result<Parsed> {
    let mut packed = Packed::open(bytes)?;
    let number =
        |name: &str| name.strip_prefix("ppt/slides/slide")?.strip_suffix(".xml")?.parse::<u32>().ok();
    let mut numbers: Vec<u32> = packed.names().iter().filter_map(|name| number(name)).collect();
    numbers.sort_unstable();
    if numbers.is_empty() {
        return Err(Unreadable::new("there are no slides in it"));
    }
    let mut parsed = Parsed { format: Format::Markdown, ..Parsed::default() };
    for number in numbers {
        let text = blocks(&packed.xml(&format!("ppt/slides/slide{number}.xml"))?)?.join("\n\n");
        if !parsed.text.is_empty() {
            parsed.text.push_str("\n\n");
        }
        parsed.pages.push(chars(&parsed.text));
        parsed.text.push_str(&text);
    }
    Ok(parsed)
}

/// Paragraphs in the order of the document; those of a table's row are one.
fn blocks(xml: &str) -> Result<Vec<String>> {
    let mut reader = Reader::from_str(xml);
    let (mut blocks, mut open) = (Vec::new(), Open::default());
    loop {
        match reader.read_event().map_err(unreadable)? {
            Event::Start(tag) => open.begin(&tag, false)?,
            Event::Empty(tag) => open.begin(&tag, true)?,
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
    /// Of a heading, 1 to 9.
    level: usize,
    in_text: bool,
    /// Of the row, where a table is open.
    cells: Vec<String>,
    cell: Option<String>,
}

impl Open {
    fn begin(&mut self, tag: &BytesStart<'_>, empty: bool) -> Result<()> {
        match tag.local_name().as_ref() {
            "t" => self.in_text = !empty,
            "tab" if !self.paragraph.is_empty() => self.paragraph.push('\t'),
            "br" => self.paragraph.push('\n'),
            "tc" => self.cell = Some(String::new()),
            "pStyle" => {
                let style = attribute(tag, "val")?.unwrap_or_default();
                self.level = match style.to_ascii_lowercase().strip_prefix("heading") {
                    Some(level) => level.trim().parse().unwrap_or(1),
                    None if style.eq_ignore_ascii_case("title") => 1,
                    None => 0,
                };
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
        if let Some(cell) = &mut self.cell {
            if !cell.is_empty() {
                cell.push(' ');
            }
            cell.push_str(text);
            return None;
        }
        let marks = "#".repeat(level.min(6));
        // A paragraph must not look like a heading to whoever reads it as Markdown.
        let hidden = if level == 0 && text.starts_with('#') { "\\" } else { "" };
        Some(if level > 0 { format!("{marks} {text}") } else { format!("{hidden}{text}") })
    }

    fn end_cell(&mut self) {
        self.cells.extend(self.cell.take());
    }

    fn end_row(&mut self) -> Option<String> {
        let cells = std::mem::take(&mut self.cells);
        cells.iter().any(|cell| !cell.is_empty()).then(|| cells.join(" | "))
    }
}
