//! Sentences of a passage that can stand in an answer.
//!
//! Boundaries are those of Unicode Annex 29. In Markdown only prose counts:
//! code, tables and rules are not sentences, and a list item's marker is not
//! part of one.

use std::ops::Range;

use pulldown_cmark::{Event, Tag, TagEnd};
use unicode_segmentation::UnicodeSegmentation;

use crate::document::Format;
use crate::sections::parser;

/// Byte ranges of the sentences of a passage, in reading order.
pub(crate) fn sentences(text: &str, format: Format) -> Vec<Range<usize>> {
    let blocks = match format {
        Format::Markdown => prose(text),
        Format::Text => paragraphs(text),
    };
    blocks.into_iter().flat_map(|block| split(text, block)).collect()
}

fn split(text: &str, block: Range<usize>) -> Vec<Range<usize>> {
    let mut found: Vec<Range<usize>> = Vec::new();
    // The annex ends a sentence at every line break, but a wrapped line does not.
    // Both are one byte, so offsets stay.
    let unwrapped = text[block.clone()].replace(['\n', '\r'], " ");
    for (at, sentence) in unwrapped.split_sentence_bound_indices() {
        let start = block.start + at + (sentence.len() - sentence.trim_start().len());
        let end = block.start + at + sentence.trim_end().len();
        if start >= end {
            continue;
        }
        match found.last_mut() {
            // The annex breaks after "Dr." and "e.g."; a piece so short is not
            // a sentence, so it is joined to what follows.
            Some(last) if is_cut_short(&text[last.clone()]) => last.end = end,
            _ => found.push(start..end),
        }
    }
    found
}

fn is_cut_short(sentence: &str) -> bool {
    const ABBREVIATIONS: [&str; 16] = [
        "Mr.", "Mrs.", "Ms.", "Dr.", "Prof.", "St.", "Jr.", "Sr.", "e.g.", "i.e.", "cf.", "vs.", "No.",
        "Fig.", "approx.", "etc.",
    ];
    let last = sentence.rsplit(char::is_whitespace).next().unwrap_or_default();
    let last = last.trim_start_matches(['(', '[', '"', '\'', '“']);
    ABBREVIATIONS.contains(&last) || is_initial(last)
}

/// "J." in "J. Smith"; a sentence rarely ends in a single capital.
fn is_initial(word: &str) -> bool {
    let mut chars = word.chars();
    matches!((chars.next(), chars.next(), chars.next()), (Some(c), Some('.'), None) if c.is_uppercase())
}

/// Stretches between blank lines.
fn paragraphs(text: &str) -> Vec<Range<usize>> {
    let mut found = Vec::new();
    let mut start = 0;
    let mut at = 0;
    for line in text.split_inclusive('\n') {
        if line.trim().is_empty() {
            if !text[start..at].trim().is_empty() {
                found.push(start..at);
            }
            start = at + line.len();
        }
        at += line.len();
    }
    if !text[start..].trim().is_empty() {
        found.push(start..text.len());
    }
    found
}

/// The running text of Markdown, block by block: from the first inline of a
/// paragraph, heading or tight list item to its last.
fn prose(text: &str) -> Vec<Range<usize>> {
    let mut found = Vec::new();
    let mut current: Option<Range<usize>> = None;
    let mut skipping = 0usize;
    for (event, range) in parser(text).into_offset_iter() {
        match event {
            Event::Start(Tag::CodeBlock(_) | Tag::Table(_) | Tag::HtmlBlock) => {
                found.extend(current.take());
                skipping += 1;
            }
            Event::End(TagEnd::CodeBlock | TagEnd::Table | TagEnd::HtmlBlock) => skipping -= 1,
            // Blocks end what came before; inline markup belongs to the text.
            Event::Start(
                Tag::Paragraph | Tag::Heading { .. } | Tag::Item | Tag::List(_) | Tag::BlockQuote(_),
            )
            | Event::End(
                TagEnd::Paragraph
                | TagEnd::Heading(_)
                | TagEnd::Item
                | TagEnd::List(_)
                | TagEnd::BlockQuote(_),
            )
            | Event::Rule => found.extend(current.take()),
            _ if skipping == 0 => {
                let block = current.get_or_insert_with(|| range.clone());
                block.start = block.start.min(range.start);
                block.end = block.end.max(range.end);
            }
            _ => {}
        }
    }
    found.extend(current);
    found.retain(|block| !text[block.clone()].trim().is_empty());
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(text: &str, format: Format) -> Vec<&str> {
        sentences(text, format).into_iter().map(|range| &text[range]).collect()
    }

    #[test]
    fn sentences_are_verbatim_and_in_order() {
        let text = "A cairn is a pile of stones. It marks the way!\n\nIs that all? Yes.";
        let want = ["A cairn is a pile of stones.", "It marks the way!", "Is that all?", "Yes."];
        assert_eq!(of(text, Format::Text), want);
        assert_eq!(of(text, Format::Markdown), want);
    }

    #[test]
    fn abbreviations_and_initials_do_not_end_a_sentence() {
        let text = "Dr. Smith met J. Doe. They spoke, e.g. about stones.";
        assert_eq!(of(text, Format::Text), ["Dr. Smith met J. Doe.", "They spoke, e.g. about stones."]);
    }

    #[test]
    fn code_tables_and_markers_are_not_sentences() {
        let text = "Run **this** now:\n\n```sh\ncargo demo. Really.\n```\n\n| a | b |\n|---|---|\n| 1. | 2. |\n\n- First item. Second.\n- Third `item`.\n";
        assert_eq!(
            of(text, Format::Markdown),
            ["Run **this** now:", "First item.", "Second.", "Third `item`."]
        );
    }

    #[test]
    fn a_wrapped_line_stays_one_sentence() {
        let text = "A cairn is a pile\nof stones.";
        assert_eq!(of(text, Format::Markdown), [text]);
    }
}
