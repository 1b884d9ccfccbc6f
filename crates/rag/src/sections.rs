//! The structure of a document: which stretch stands under which headings.

use std::ops::Range;

use pulldown_cmark::{Event, Options, Parser, Tag, TagEnd};

use crate::document::Format;

/// A stretch of a document under one heading, the heading line left out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Section {
    /// The headings above, outermost first, without markup.
    pub(crate) heading: Vec<String>,
    /// Bytes of the source text.
    pub(crate) range: Range<usize>,
}

pub(crate) fn parser(text: &str) -> Parser<'_> {
    Parser::new_ext(text, Options::ENABLE_TABLES | Options::ENABLE_FOOTNOTES | Options::ENABLE_STRIKETHROUGH)
}

/// Splits a document at its headings. The sections follow each other; a
/// heading with nothing under it gives none.
pub(crate) fn sections(text: &str, format: Format) -> Vec<Section> {
    if format == Format::Text {
        return vec![Section { heading: Vec::new(), range: 0..text.len() }];
    }
    let mut sections = Vec::new();
    let mut path: Vec<(u8, String)> = Vec::new();
    let mut body_start = 0;
    let mut title: Option<String> = None;
    // Only headings of the document itself count, not those in a quote.
    let mut depth = 0usize;
    for (event, range) in parser(text).into_offset_iter() {
        match event {
            Event::Start(Tag::Heading { level, .. }) if depth == 0 => {
                push_section(&mut sections, &path, body_start..range.start, text);
                path.retain(|(above, _)| *above < level as u8);
                path.push((level as u8, String::new()));
                title = Some(String::new());
            }
            Event::End(TagEnd::Heading(_)) if depth == 0 => {
                if let (Some(title), Some((_, heading))) = (title.take(), path.last_mut()) {
                    title.trim().clone_into(heading);
                }
                body_start = range.end;
            }
            Event::Text(part) | Event::Code(part) => {
                if let Some(title) = &mut title {
                    title.push_str(&part);
                }
            }
            Event::Start(Tag::Heading { .. }) | Event::End(TagEnd::Heading(_)) => {}
            Event::Start(Tag::BlockQuote(_)) => depth += 1,
            Event::End(TagEnd::BlockQuote(_)) => depth -= 1,
            _ => {}
        }
    }
    push_section(&mut sections, &path, body_start..text.len(), text);
    sections
}

fn push_section(sections: &mut Vec<Section>, path: &[(u8, String)], range: Range<usize>, text: &str) {
    if !text[range.clone()].trim().is_empty() {
        let heading = path.iter().map(|(_, title)| title.clone()).collect();
        sections.push(Section { heading, range });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn split(text: &str) -> Vec<(Vec<String>, String)> {
        let found = sections(text, Format::Markdown);
        found.into_iter().map(|s| (s.heading, text[s.range].trim().to_owned())).collect()
    }

    fn path(titles: &[&str]) -> Vec<String> {
        titles.iter().map(|title| (*title).to_owned()).collect()
    }

    #[test]
    fn each_section_knows_the_headings_above_it() {
        let text = "intro\n\n# A\n\none\n\n## B `c`\n\ntwo\n\n# D\n\nthree\n\n## empty\n";
        assert_eq!(
            split(text),
            [
                (path(&[]), "intro".to_owned()),
                (path(&["A"]), "one".to_owned()),
                (path(&["A", "B c"]), "two".to_owned()),
                (path(&["D"]), "three".to_owned()),
            ]
        );
    }

    #[test]
    fn a_hash_in_code_or_in_a_quote_is_no_heading() {
        let text = "# A\n\n```sh\n# not one\n```\n\n> # nor this\n\nend";
        let found = split(text);
        assert_eq!(found.len(), 1);
        assert!(found[0].1.ends_with("end"));
    }

    #[test]
    fn plain_text_is_one_section_whatever_it_looks_like() {
        assert_eq!(sections("# A\n\nb", Format::Text).len(), 1);
    }
}
