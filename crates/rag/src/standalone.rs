//! How a question of a conversation is searched: as it is, or with what it
//! leaves unsaid.
//!
//! A language model rewrites it where there is one. Without one its words tell
//! whether it points back; where they do not, both readings are searched. The
//! words of the question before are then taken in only where the passage that
//! they lead to speaks to this question as well as the one it finds by itself.

use cairn_embed::Embedder;
use cairn_index::Reading;

use crate::answer::{Retrieved, TextSearch};
use crate::ask::whole;
use crate::conversation::{Turn, remembered, transcript};
use crate::engine::Engine;
use crate::error::Result;
use crate::follow_up::{Standing, asked_before, joined};
use crate::generate::Generator;
use crate::overlap::Overlap;
use crate::retrieval::Retrieval;
use crate::similarity::cosine;

/// What a question is searched with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Query {
    Settled(String),
    /// With what was said before or without it, whichever finds more.
    Either {
        alone: String,
        joined: String,
    },
}

/// So much less may speak for the passage of the joined question: what was
/// talked about is likelier meant.
const LIKELIER: f32 = 0.1;

impl Engine {
    /// The question so that it can be understood without the conversation.
    pub(crate) fn standalone(
        &self,
        generator: Option<&Generator>,
        question: &str,
        history: &[Turn],
        warnings: &mut Vec<String>,
    ) -> Query {
        let Some(before) = asked_before(history) else { return Query::Settled(question.to_owned()) };
        if let Some(generator) = generator {
            let told = remembered(history, self.options.conversation.max_chars);
            match generator.standalone(&transcript(told, question)) {
                Ok(query) if !query.is_empty() => return Query::Settled(query),
                Ok(_) => {}
                Err(error) => {
                    warnings.push(format!("{error}; the question was completed from the one before"));
                }
            }
        }
        let joined = joined(question, &before);
        match Standing::of(question) {
            Standing::Dependent => Query::Settled(joined),
            Standing::Unsure if joined != question => Query::Either { alone: question.to_owned(), joined },
            _ => Query::Settled(question.to_owned()),
        }
    }
}

/// Finds the passages for a question.
pub(crate) struct Finding<'a> {
    pub(crate) engine: &'a Engine,
    pub(crate) reading: &'a Reading,
    pub(crate) encoder: &'a Embedder,
    pub(crate) search: &'a TextSearch,
    /// Microseconds since 1970.
    pub(crate) asked_at: i64,
}

/// What was searched, and what was found.
pub(crate) type Found = (TextSearch, Retrieval);

impl Finding<'_> {
    pub(crate) fn find(&self, query: Query) -> Result<Found> {
        let (alone, joined) = match query {
            Query::Settled(query) => return self.run(query),
            Query::Either { alone, joined } => (self.run(alone)?, self.run(joined)?),
        };
        let is_meant = match (alone.1.passages.first(), joined.1.passages.first()) {
            (_, None) => false,
            (None, Some(_)) => true,
            (Some(by_itself), Some(together)) => {
                by_itself.id != together.id
                    && self.support(&alone, together)? + LIKELIER >= self.support(&alone, by_itself)?
            }
        };
        Ok(if is_meant { joined } else { alone })
    }

    fn run(&self, query: String) -> Result<Found> {
        let wanted = TextSearch { query, ..self.search.clone() };
        let retriever = self.engine.retriever(self.reading, self.encoder, &wanted, self.asked_at, true)?;
        let found = retriever.run(&wanted)?;
        Ok((wanted, found))
    }

    /// How much a passage speaks to the question alone: the mean of the share of
    /// its words and the cosine.
    fn support(&self, (wanted, found): &Found, passage: &Retrieved) -> Result<f32> {
        let words = Overlap::new(&wanted.query, self.reading)?.share(&whole(passage));
        let retriever = self.engine.retriever(self.reading, self.encoder, wanted, self.asked_at, true)?;
        let vector = retriever.vectors([passage.id].into_iter())?.remove(&passage.id);
        Ok(words.midpoint(vector.map_or(0.0, |vector| cosine(&found.vector, &vector))))
    }
}
