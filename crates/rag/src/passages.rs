//! Passages: the stretches of a document that are embedded, found and quoted.
//!
//! A passage lies in one section and within a token budget; its text is the
//! source text at its offsets, letter by letter.

use serde::Serialize;
use text_splitter::{ChunkConfig, ChunkSizer, MarkdownSplitter, TextSplitter};

use crate::chunking::ChunkOptions;
use crate::document::{Document, Format};
use crate::sections::{Section, sections};
use crate::sentences::sentences;

/// A stretch of a document's source text.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Passage {
    /// The headings it stands under, outermost first.
    pub heading: Vec<String>,
    /// First Unicode character of the source text.
    pub start: usize,
    /// One past its last Unicode character.
    pub end: usize,
    /// The source text in between.
    pub text: String,
    /// The page it stands on, from 1, where the document has pages.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub page: Option<u32>,
    /// The last sentences of the passage before, where passages overlap. Embedded
    /// with the text, not stored and never quoted.
    #[serde(skip)]
    pub before: String,
}

/// A passage that is not stored, and what the model would be given.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Chunk {
    /// Its place and text.
    #[serde(flatten)]
    pub passage: Passage,
    /// Tokens of its text.
    pub tokens: usize,
    /// What is embedded before the text: the document's title, the headings, and
    /// the end of the chunk before where chunks overlap.
    pub prefix: String,
}

/// Measures text in tokens of the model that will embed it.
pub(crate) struct Tokens<F>(pub(crate) F);

impl<F: Fn(&str) -> usize> ChunkSizer for Tokens<F> {
    fn size(&self, chunk: &str) -> usize {
        (self.0)(chunk)
    }
}

/// Cuts a document into passages of at most `max_tokens`, less what the overlap
/// takes, along headings, paragraphs, list items and sentences, the largest that
/// fit.
pub(crate) fn passages(
    document: &Document,
    format: Format,
    options: &ChunkOptions,
    count_tokens: impl Fn(&str) -> usize,
) -> Vec<Passage> {
    let text = &document.text;
    let config = || ChunkConfig::new(options.max_tokens - options.overlap).with_sizer(Tokens(&count_tokens));
    let mut offsets = CharOffsets::new(text);
    let mut found = Vec::new();
    let ends = page_ends(document);
    let whole = sections(text, format).into_iter().flat_map(|section| divided(section, &ends));
    for (section, page) in whole {
        let body = &text[section.range.clone()];
        let chunks: Vec<(usize, &str)> = match format {
            Format::Markdown => MarkdownSplitter::new(config()).chunk_indices(body).collect(),
            Format::Text => TextSplitter::new(config()).chunk_indices(body).collect(),
        };
        let mut last = "";
        for (at, chunk) in chunks {
            let before = end_of(last, format, options.overlap, &count_tokens);
            last = chunk;
            let start = offsets.at(section.range.start + at);
            found.push(Passage {
                heading: section.heading.clone(),
                start,
                end: start + chunk.chars().count(),
                text: chunk.to_owned(),
                page,
                before,
            });
        }
    }
    found
}

/// The last whole sentences of a text that have at most `max_tokens`.
fn end_of(text: &str, format: Format, max_tokens: usize, count: &impl Fn(&str) -> usize) -> String {
    if max_tokens == 0 || text.is_empty() {
        return String::new();
    }
    let (mut kept, mut left) = (Vec::new(), max_tokens);
    for range in sentences(text, format).into_iter().rev() {
        let Some(rest) = left.checked_sub(count(&text[range.clone()])) else { break };
        left = rest;
        kept.push(&text[range]);
    }
    kept.reverse();
    kept.join(" ")
}

/// The byte at which each page ends, the last at the end of the text.
fn page_ends(document: &Document) -> Vec<usize> {
    let mut ends = Vec::new();
    let (mut chars, mut starts) = (0, document.pages.iter().skip(1).peekable());
    for (byte, _) in document.text.char_indices() {
        while starts.next_if(|start| **start <= chars).is_some() {
            ends.push(byte);
        }
        chars += 1;
    }
    ends.resize(document.pages.len(), document.text.len());
    ends
}

/// A section cut where pages end, each piece with its page.
fn divided(section: Section, ends: &[usize]) -> Vec<(Section, Option<u32>)> {
    let mut pieces = Vec::new();
    let mut from = section.range.start;
    let first = ends.partition_point(|end| *end <= from);
    for (page, end) in (1..).zip(ends).skip(first) {
        let to = section.range.end.min(*end);
        pieces.push((Section { range: from..to, ..section.clone() }, Some(page)));
        from = to;
        if from == section.range.end {
            return pieces;
        }
    }
    pieces.push((Section { range: from..section.range.end, ..section }, None));
    pieces
}

/// Turns byte offsets into character offsets, going forward through a text.
struct CharOffsets<'t> {
    text: &'t str,
    byte: usize,
    chars: usize,
}

impl<'t> CharOffsets<'t> {
    fn new(text: &'t str) -> Self {
        Self { text, byte: 0, chars: 0 }
    }

    fn at(&mut self, byte: usize) -> usize {
        if byte < self.byte {
            (self.byte, self.chars) = (0, 0);
        }
        self.chars += self.text[self.byte..byte].chars().count();
        self.byte = byte;
        self.chars
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(text: &str) -> usize {
        text.split_whitespace().count()
    }

    fn cut(text: &str, format: Format, max: usize) -> Vec<Passage> {
        overlapping(text, format, max, 0)
    }

    fn overlapping(text: &str, format: Format, max_tokens: usize, overlap: usize) -> Vec<Passage> {
        let document = Document {
            id: "d".to_owned(),
            title: String::new(),
            text: text.to_owned(),
            metadata: serde_json::Map::new(),
            pages: Vec::new(),
        };
        passages(&document, format, &ChunkOptions { max_tokens, overlap }, words)
    }

    #[test]
    fn a_passage_is_the_source_at_its_offsets_in_characters() {
        let text = "# Größe 🪨\n\nÄpfel sind rot. Birnen nicht 🍐.\n\n- eins\n- zwei 🥈 und mehr\n\n## Ende\n\nSchluß.";
        let chars: Vec<char> = text.chars().collect();
        for format in [Format::Markdown, Format::Text] {
            for max in 1..12 {
                let found = cut(text, format, max);
                assert!(!found.is_empty());
                for passage in found {
                    let source: String = chars[passage.start..passage.end].iter().collect();
                    assert_eq!(source, passage.text);
                }
            }
        }
    }

    #[test]
    fn passages_keep_to_the_budget_and_lose_no_word() {
        let text = (0..400).map(|n| format!("word{n}{}", if n % 9 == 8 { "." } else { "" }));
        let text = text.collect::<Vec<_>>().join(" ");
        let found = cut(&text, Format::Text, 25);
        assert!(found.iter().all(|passage| words(&passage.text) <= 25));
        let again: Vec<&str> = found.iter().flat_map(|passage| passage.text.split_whitespace()).collect();
        assert_eq!(again, text.split_whitespace().collect::<Vec<_>>());
    }

    #[test]
    fn a_passage_never_spans_two_sections() {
        let found = cut("# A\n\none\n\n# B\n\ntwo", Format::Markdown, 100);
        assert_eq!(found.len(), 2);
        assert_eq!(found[1].heading, ["B"]);
    }

    #[test]
    fn an_overlap_is_whole_sentences_of_the_passage_before_and_no_text_of_the_next() {
        let text: String = (0..40).map(|n| format!("Stone {n} lies in the field. ")).collect();
        let (plain, found) = (cut(&text, Format::Text, 30), overlapping(&text, Format::Text, 36, 14));
        assert!(plain.iter().all(|passage| passage.before.is_empty()));
        assert!(found[0].before.is_empty());
        for pair in found.windows(2) {
            let [before, passage] = pair else { unreachable!("windows have two") };
            assert!(before.end <= passage.start);
            assert_eq!(words(&passage.before), 12);
            assert!(before.text.ends_with(&passage.before), "{:?}", passage.before);
            assert!(words(&passage.before) + words(&passage.text) <= 36);
        }
        let sections = overlapping("# A\n\nOne stone. Two.\n\n# B\n\nThree.", Format::Markdown, 20, 8);
        assert!(sections.iter().all(|passage| passage.before.is_empty()));
    }
}
