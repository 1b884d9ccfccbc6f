//! What is asked, what is found, and the answer with its citations.

use cairn_index::Filter;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::document::Format;

/// A search by text.
#[derive(Debug, Clone, PartialEq)]
pub struct TextSearch {
    /// What is looked for.
    pub query: String,
    /// Passages at most.
    pub limit: usize,
    /// Which passages may be found; keys are `document_id`, `title` and
    /// `metadata.…`.
    pub filter: Option<Filter>,
}

impl TextSearch {
    /// The ten best passages for a query.
    pub fn new(query: impl Into<String>) -> Self {
        Self { query: query.into(), limit: 10, filter: None }
    }
}

/// A passage that was found, best first.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Retrieved {
    /// The passage's point id.
    pub id: cairn_index::PointId,
    /// Its document.
    pub document_id: String,
    /// The document's title.
    pub title: String,
    /// The headings the passage stands under.
    pub heading: Vec<String>,
    /// First Unicode character of the passage in the document's source text.
    pub start: usize,
    /// One past its last Unicode character.
    pub end: usize,
    /// The source text in between.
    pub text: String,
    /// Similarity to the query, larger is better.
    pub score: f32,
    /// The document's metadata.
    pub metadata: Map<String, Value>,
    #[serde(skip)]
    pub(crate) format: Format,
}

/// A quotation that stands in a document, letter by letter.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Citation {
    /// The document quoted.
    pub document_id: String,
    /// Its title.
    pub title: String,
    /// First Unicode character of the quote in the document's source text.
    pub start: usize,
    /// One past its last Unicode character.
    pub end: usize,
    /// The source text in between.
    pub quote: String,
    /// How well the quote supports the answer, larger is better.
    pub score: f32,
}

/// What came of a question.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Answer {
    /// The answer, or a sentence that says there is none.
    pub answer: String,
    /// What it rests on, in the order of the answer.
    pub citations: Vec<Citation>,
    /// True when nothing in the collection supports an answer.
    pub refused: bool,
    /// Why it was refused.
    pub reason: Option<String>,
    /// Who wrote the answer: `extractive`, or the language model's name.
    pub generator: String,
    /// What did not go as configured.
    #[serde(skip_serializing_if = "Vec::is_empty", default)]
    pub warnings: Vec<String>,
}

/// What is told while an answer comes about.
#[derive(Debug, Clone, PartialEq)]
pub enum Event {
    /// The passages the answer may rest on.
    Retrieval(Vec<Retrieved>),
    /// The next piece of the answer.
    Delta(String),
    /// A citation, checked.
    Citation(Citation),
    /// The whole answer; nothing follows.
    Done(Answer),
}

impl Retrieved {
    /// A citation of bytes of this passage, if they are there to be quoted.
    pub(crate) fn cite(&self, bytes: std::ops::Range<usize>, score: f32) -> Option<Citation> {
        let quote = self.text.get(bytes.clone())?;
        let start = self.start + self.text[..bytes.start].chars().count();
        let citation = Citation {
            document_id: self.document_id.clone(),
            title: self.title.clone(),
            start,
            end: start + quote.chars().count(),
            quote: quote.to_owned(),
            score,
        };
        self.supports(&citation).then_some(citation)
    }

    /// Whether the quote stands in this passage at the offsets it names.
    pub fn supports(&self, citation: &Citation) -> bool {
        if citation.document_id != self.document_id || citation.start < self.start || citation.end > self.end
        {
            return false;
        }
        let skip = citation.start - self.start;
        let mut there = self.text.chars().skip(skip).take(citation.end.saturating_sub(citation.start));
        let mut quoted = citation.quote.chars();
        there.by_ref().eq(quoted.by_ref())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn passage() -> Retrieved {
        Retrieved {
            id: 1.into(),
            document_id: "d".to_owned(),
            title: "D".to_owned(),
            heading: Vec::new(),
            start: 10,
            end: 20,
            text: "Größe 🪨 ab".chars().take(10).collect(),
            score: 0.5,
            metadata: Map::new(),
            format: Format::Markdown,
        }
    }

    #[test]
    fn a_citation_counts_characters_of_the_document() {
        let passage = passage();
        let at = passage.text.find('🪨').unwrap();
        let citation = passage.cite(at..at + '🪨'.len_utf8(), 0.5).unwrap();
        assert_eq!((citation.start, citation.end, citation.quote.as_str()), (16, 17, "🪨"));
    }

    #[test]
    fn a_quote_that_does_not_stand_there_is_not_supported() {
        let passage = passage();
        let good = passage.cite(0..1, 0.5).unwrap();
        assert!(passage.supports(&good));
        for bad in [
            Citation { quote: "H".to_owned(), ..good.clone() },
            Citation { start: good.start + 1, end: good.end + 1, ..good.clone() },
            Citation { start: 0, end: 1, ..good.clone() },
            Citation { end: good.end + 1, ..good.clone() },
            Citation { document_id: "e".to_owned(), ..good.clone() },
        ] {
            assert!(!passage.supports(&bad), "{bad:?}");
        }
        assert!(passage.cite(1..3, 0.5).is_none() || passage.text.is_char_boundary(3));
        assert!(passage.cite(500..600, 0.5).is_none());
    }
}
