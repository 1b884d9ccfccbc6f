//! Text to token ids and back.
//!
//! Marks that steer a model ("the turn of the user ends here") are tokens of
//! their own. The chat template puts them in; the same letters inside a message
//! are ordinary text and must not become one, or a passage could pretend to be a
//! turn. So each is cut in two there by a character that no text has, and the
//! prompt is tokenized piece by piece between these.

use std::path::Path;

use tokenizers::Tokenizer;

use super::gguf::Gguf;
use super::vocabulary::{self, Vocabulary};
use crate::{Error, Result};

/// Stands where a mark inside a message was cut: a character for private use.
const CUT: char = '\u{F8FE}';

pub(super) struct Tokens {
    tokenizer: Tokenizer,
    vocabulary: Vocabulary,
    /// The marks, as they are written.
    marks: Vec<String>,
}

impl Tokens {
    /// The tokenizer in `tokenizer.json` beside the file if there is one,
    /// otherwise that of the file itself, for a model with `rows` embeddings.
    pub(super) fn load(gguf: &Gguf, rows: usize) -> Result<Tokens> {
        let beside = gguf.path().with_file_name("tokenizer.json");
        let tokenizer = if beside.is_file() { read(&beside)? } else { vocabulary::tokenizer(gguf)? };
        let largest = tokenizer.get_vocab(true).into_values().max().unwrap_or(0) as usize;
        if largest >= rows {
            return Err(Error::Vocabulary { largest, rows });
        }
        let added = tokenizer.get_added_tokens_decoder();
        let mut marks: Vec<String> =
            added.into_values().filter(|token| token.special).map(|token| token.content).collect();
        // A single character cannot be cut in two, and no text has the cut itself.
        marks.retain(|mark| mark.chars().nth(1).is_some() && !mark.contains(CUT));
        marks.sort_unstable();
        Ok(Tokens { tokenizer, vocabulary: Vocabulary::read(gguf)?, marks })
    }

    /// The text of a message, with its marks cut.
    pub(super) fn harmless(&self, text: &str) -> String {
        let mut text = text.replace(CUT, "");
        for mark in &self.marks {
            let first = mark.chars().next().map_or(0, char::len_utf8);
            let (begin, end) = mark.split_at(first);
            while text.contains(mark) {
                text = text.replace(mark, &format!("{begin}{CUT}{end}"));
            }
        }
        text
    }

    /// The tokens of a prompt, with the one that texts of the model begin with.
    pub(super) fn of_prompt(&self, prompt: &str) -> Result<Vec<u32>> {
        let mut ids = Vec::new();
        for piece in prompt.split(CUT).filter(|piece| !piece.is_empty()) {
            let encoding = self.tokenizer.encode_fast(piece, false);
            let encoding =
                encoding.map_err(|error| Error::Tokenize { text: 0, reason: error.to_string() })?;
            ids.extend_from_slice(encoding.get_ids());
        }
        match self.vocabulary.begin {
            Some(begin) if self.vocabulary.begins && ids.first() != Some(&begin) => ids.insert(0, begin),
            _ => {}
        }
        Ok(ids)
    }

    /// The text of tokens, marks left out. Bytes that are no UTF-8 become U+FFFD.
    pub(super) fn text(&self, ids: &[u32]) -> Result<String> {
        self.tokenizer.decode(ids, true).map_err(|error| Error::Compute { reason: error.to_string() })
    }

    /// Whether a token ends the text.
    pub(super) fn ends(&self, id: u32) -> bool {
        self.vocabulary.stops.contains(&id)
    }

    /// How the tokens that begin and end a text are written, for templates.
    pub(super) fn begin_and_end(&self) -> (String, String) {
        let written = |id: Option<u32>| id.and_then(|id| self.tokenizer.id_to_token(id)).unwrap_or_default();
        (written(self.vocabulary.begin), written(self.vocabulary.end))
    }
}

fn read(path: &Path) -> Result<Tokenizer> {
    let bytes = std::fs::read(path).map_err(Error::io(path))?;
    let unusable =
        |error: tokenizers::Error| Error::Tokenizer { path: path.into(), reason: error.to_string() };
    let mut tokenizer = Tokenizer::from_bytes(bytes).map_err(unusable)?;
    tokenizer.with_padding(None);
    tokenizer.with_truncation(None).map_err(unusable)?;
    Ok(tokenizer)
}
