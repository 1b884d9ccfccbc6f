//! What is asked, what is found, and the answer with its citations.

use cairn_index::Filter;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::confidence::Evidence;
use crate::document::Format;
use crate::provenance::Provenance;
use crate::retrieval::{RetrievalChange, Step};

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
    /// How they are found, where it differs from the collection's way.
    pub retrieval: RetrievalChange,
    /// Tell each passage's path through the stages.
    pub explain: bool,
}

impl TextSearch {
    /// The ten best passages for a query.
    pub fn new(query: impl Into<String>) -> Self {
        Self {
            query: query.into(),
            limit: 10,
            filter: None,
            retrieval: RetrievalChange::default(),
            explain: false,
        }
    }
}

/// What the stages of a retrieval gave a passage; absent where one did not see
/// it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
pub struct Scores {
    /// Cosine of the embeddings, -1 to 1.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub dense: Option<f32>,
    /// BM25, from 0 without an upper bound.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub sparse: Option<f32>,
    /// What [`Fusion`](crate::Fusion) made of both, 0 to 1.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub fused: Option<f32>,
    /// The rerank model's, 0 to 1.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub rerank: Option<f32>,
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
    /// The page it stands on, from 1, where the document has pages.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub page: Option<u32>,
    /// Score of the last stage that put passages in order, larger is better. It
    /// compares passages of one search and nothing else: see
    /// [`scores`](Self::scores) for what each stage means.
    pub score: f32,
    /// What each stage gave it.
    #[serde(default)]
    pub scores: Scores,
    /// The document's metadata.
    pub metadata: Map<String, Value>,
    /// The hit that this passage stands around, when it is no hit itself.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub expanded_from: Option<cairn_index::PointId>,
    /// Where it stood after each stage, if the search asked to explain itself.
    #[serde(skip_serializing_if = "Vec::is_empty", default)]
    pub path: Vec<Step>,
    #[serde(skip)]
    pub(crate) number: u32,
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
    /// The page it stands on, from 1, where the document has pages.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub page: Option<u32>,
    /// How well the quote supports the answer, 0 to 1, larger is better.
    pub score: f32,
}

/// A sentence of an answer and what it rests on.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Sentence {
    /// As it stands in the answer, without source numbers.
    pub text: String,
    /// Places in [`Answer::citations`].
    pub citations: Vec<usize>,
    /// How well the best citation supports it, 0 to 1; for a verbatim sentence
    /// how well it answers the question.
    pub support: f32,
    /// Whether that is enough.
    pub supported: bool,
}

/// What was looked through for a question.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Searched {
    /// The question as it was searched: on its own, without the conversation.
    pub query: String,
    /// Passages in the collection.
    pub passages: usize,
    /// Passages that were read for the answer.
    pub read: usize,
    /// How sure it is that what was read answers the question, 0 to 1.
    pub confidence: f32,
    /// What an extractive answer's confidence comes from.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub evidence: Option<Evidence>,
    /// Words of the question that no passage read has.
    pub missing: Vec<String>,
}

/// What came of a question.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Answer {
    /// The answer, or a sentence that says there is none.
    pub answer: String,
    /// What it rests on, in the order of the answer.
    pub citations: Vec<Citation>,
    /// The sentences of the answer with their support; none in a refusal.
    #[serde(default)]
    pub sentences: Vec<Sentence>,
    /// True when nothing in the collection supports an answer.
    pub refused: bool,
    /// Why it was refused.
    pub reason: Option<String>,
    /// Who wrote the answer: `extractive`, or the language model's name.
    pub generator: String,
    /// What was looked through.
    #[serde(default)]
    pub searched: Searched,
    /// What it takes to get the same answer again.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub provenance: Option<Provenance>,
    /// The conversation it belongs to.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub conversation_id: Option<String>,
    /// What did not go as configured.
    #[serde(skip_serializing_if = "Vec::is_empty", default)]
    pub warnings: Vec<String>,
}

/// What is told while an answer comes about.
#[derive(Debug, Clone, PartialEq)]
pub enum Event {
    /// The passages the answer may rest on.
    Retrieval(Vec<Retrieved>),
    /// Nothing yet; a language model is at work. Told a few times a second, so
    /// that whoever asked can say that it has gone.
    Waiting,
    /// The next piece of the answer.
    Delta(String),
    /// A citation, checked.
    Citation(Citation),
    /// The whole answer; nothing follows.
    Done(Box<Answer>),
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
            page: self.page,
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
            scores: Scores::default(),
            metadata: Map::new(),
            expanded_from: None,
            path: Vec::new(),
            number: 0,
            page: None,
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
