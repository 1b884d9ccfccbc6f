//! Word documents: headings by what their styles say, paragraphs, tables.

use std::collections::HashMap;

use quick_xml::Reader;
use quick_xml::events::Event;

use super::office::{Styles, attribute, blocks, unreadable};
use super::text::first_heading;
use super::{Packed, Parsed, Result};
use crate::document::Format;

/// The text of a Word document: headings, paragraphs, and rows of tables.
pub(super) fn word(bytes: &[u8]) -> Result<Parsed> {
    let mut packed = Packed::open(bytes)?;
    let styles = match packed.part("word/styles.xml")? {
        Some(xml) => heading_styles(&super::text::decoded(&xml)?)?,
        None => Styles::new(),
    };
    let text = blocks(&packed.xml("word/document.xml")?, &styles)?.join("\n\n");
    Ok(Parsed { title: first_heading(&text), text, format: Format::Markdown, pages: Vec::new() })
}

/// What a style says of itself.
#[derive(Default)]
struct Style {
    /// In English whatever the language of the program, for styles it brings.
    name: String,
    /// From 0; 9 is no heading.
    outline: Option<usize>,
    based_on: Option<String>,
}

/// The level of each style of headings, from 1; 0 for others.
fn heading_styles(xml: &str) -> Result<Styles> {
    let (mut reader, mut styles) = (Reader::from_str(xml), HashMap::<String, Style>::new());
    let mut open = None;
    loop {
        match reader.read_event().map_err(unreadable)? {
            Event::Start(tag) | Event::Empty(tag) => {
                let kind = tag.local_name();
                if kind.as_ref() == "style" {
                    open = attribute(&tag, "styleId")?;
                    open.iter().for_each(|id| drop(styles.insert(id.clone(), Style::default())));
                    continue;
                }
                let Some(style) = open.as_ref().and_then(|id| styles.get_mut(id)) else { continue };
                match kind.as_ref() {
                    "name" => style.name = attribute(&tag, "val")?.unwrap_or_default(),
                    "basedOn" => style.based_on = attribute(&tag, "val")?,
                    "outlineLvl" => {
                        style.outline = attribute(&tag, "val")?.and_then(|level| level.parse().ok());
                    }
                    _ => {}
                }
            }
            Event::End(tag) if tag.local_name().as_ref() == "style" => open = None,
            Event::Eof => break,
            _ => {}
        }
    }
    Ok(styles.keys().map(|id| (id.clone(), level(&styles, id))).collect())
}

/// The level of a style, or of the one it is based on.
fn level(styles: &HashMap<String, Style>, id: &str) -> usize {
    let mut next = styles.get(id);
    // A circle of styles that are based on each other ends too.
    for _ in 0..styles.len() {
        let Some(style) = next else { return 0 };
        let name = style.name.to_ascii_lowercase();
        match (style.outline, name.strip_prefix("heading "), name.as_str()) {
            (Some(outline), ..) => return if outline < 9 { outline + 1 } else { 0 },
            (None, Some(level), _) => return level.trim().parse().unwrap_or(1),
            (None, None, "title") => return 1,
            _ => next = style.based_on.as_ref().and_then(|id| styles.get(id)),
        }
    }
    0
}
