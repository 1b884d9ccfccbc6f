//! Slides, each a page, in the order in which they are shown.

use std::collections::HashMap;

use quick_xml::Reader;
use quick_xml::events::{BytesStart, Event};

use super::office::{Styles, attribute, blocks, unreadable};
use super::{Packed, Parsed, Result, Unreadable, chars};
use crate::document::Format;

/// The text of slides, each a page.
pub(super) fn slides(bytes: &[u8]) -> Result<Parsed> {
    let mut packed = Packed::open(bytes)?;
    let names = in_order(&mut packed)?;
    if names.is_empty() {
        return Err(Unreadable::new("there are no slides in it"));
    }
    let mut parsed = Parsed { format: Format::Markdown, ..Parsed::default() };
    for name in names {
        let text = blocks(&packed.xml(&name)?, &Styles::new())?.join("\n\n");
        if !parsed.text.is_empty() {
            parsed.text.push_str("\n\n");
        }
        parsed.pages.push(chars(&parsed.text));
        parsed.text.push_str(&text);
    }
    Ok(parsed)
}

/// The parts that hold slides, as the presentation lists them; by their numbers
/// where it lists none.
fn in_order(packed: &mut Packed<'_>) -> Result<Vec<String>> {
    let number =
        |name: &str| name.strip_prefix("ppt/slides/slide")?.strip_suffix(".xml")?.parse::<u32>().ok();
    let mut numbered: Vec<(u32, String)> =
        packed.names().into_iter().filter_map(|name| Some((number(&name)?, name))).collect();
    numbered.sort_unstable();
    let listed = listed(packed)?;
    let there = packed.names();
    let listed: Vec<String> = listed.into_iter().filter(|name| there.contains(name)).collect();
    Ok(if listed.is_empty() { numbered.into_iter().map(|(_, name)| name).collect() } else { listed })
}

/// The slides that the presentation lists, as names of parts.
fn listed(packed: &mut Packed<'_>) -> Result<Vec<String>> {
    let mut part = |name: &str| match packed.part(name)? {
        Some(xml) => super::text::decoded(&xml).map(Some),
        None => Ok(None),
    };
    let (Some(presentation), Some(relations)) =
        (part("ppt/presentation.xml")?, part("ppt/_rels/presentation.xml.rels")?)
    else {
        return Ok(Vec::new());
    };
    let mut targets = HashMap::new();
    each_tag(&relations, "Relationship", |tag| {
        if let (Some(id), Some(target)) = (attribute(tag, "Id")?, attribute(tag, "Target")?) {
            targets.insert(id, target);
        }
        Ok(())
    })?;
    let mut names = Vec::new();
    each_tag(&presentation, "sldId", |tag| {
        // Beside `id` there is `r:id`, which names the relation.
        let relation = tag.attributes().flatten().find(|attribute| {
            attribute.key.prefix().is_some() && attribute.key.local_name().as_ref() == "id"
        });
        let target = relation.and_then(|attribute| targets.get(&*attribute.value));
        names.extend(target.map(|target| match target.strip_prefix('/') {
            Some(full) => full.to_owned(),
            None => format!("ppt/{target}"),
        }));
        Ok(())
    })?;
    Ok(names)
}

fn each_tag(xml: &str, name: &str, mut see: impl FnMut(&BytesStart<'_>) -> Result<()>) -> Result<()> {
    let mut reader = Reader::from_str(xml);
    loop {
        match reader.read_event().map_err(unreadable)? {
            Event::Start(tag) | Event::Empty(tag) if tag.local_name().as_ref() == name => see(&tag)?,
            Event::Eof => return Ok(()),
            _ => {}
        }
    }
}
