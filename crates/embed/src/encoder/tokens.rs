//! Text to token ids, cut at the model's limit.
//!
//! A long text is not tokenized whole only to be cut: a prefix is, ending at
//! white space, and a longer one only if that was not enough. Since words do
//! not span white space the ids are the same. At most [`MAX_READ`] bytes of
//! a text are read. A pair is cut as the reference does: the longer of the two
//! first.

use std::path::Path;

use tokenizers::utils::truncation::{TruncationDirection, TruncationParams, truncate_encodings};
use tokenizers::{Encoding, PostProcessor, Tokenizer};

use super::Token;
use crate::{Error, Result};

/// No more bytes of a text are looked at, far beyond any model's limit.
pub(super) const MAX_READ: usize = 1 << 20;

/// Bytes of text per token of the limit in the first prefix; prose has 4 to 5.
const BYTES_PER_TOKEN: usize = 16;

/// Pieces a text is counted in.
const COUNT_PIECE: usize = 64 << 10;

/// What a model is fed of one text, or of two.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Sequence {
    pub(super) ids: Vec<u32>,
    /// The token from which on the token type is 1; the number of tokens if
    /// all have type 0.
    pub(super) second: usize,
}

impl Sequence {
    /// Tokens of one text.
    pub(super) fn one(ids: Vec<u32>) -> Sequence {
        Sequence { second: ids.len(), ids }
    }

    pub(super) fn len(&self) -> usize {
        self.ids.len()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.ids.is_empty()
    }
}

/// A text that is the first of many pairs, tokenized once.
pub(super) struct First(Encoding);

pub(super) struct Tokens {
    tokenizer: Tokenizer,
    special: usize,
    special_of_pair: usize,
    max: usize,
    rows: usize,
}

impl Tokens {
    /// Loads `tokenizer.json` for a model with `rows` token embeddings.
    pub(super) fn load(folder: &Path, rows: usize) -> Result<Tokens> {
        let path = folder.join("tokenizer.json");
        let bytes = match std::fs::read(&path) {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                return Err(Error::MissingFile { folder: folder.into(), file: "tokenizer.json".into() });
            }
            Err(error) => return Err(Error::io(path)(error)),
        };
        let unusable =
            |error: tokenizers::Error| Error::Tokenizer { path: path.clone(), reason: error.to_string() };
        let mut tokenizer = Tokenizer::from_bytes(&bytes).map_err(unusable)?;
        tokenizer.with_padding(None);
        tokenizer.with_truncation(None).map_err(unusable)?;

        let largest = tokenizer.get_vocab(true).into_values().max().unwrap_or(0) as usize;
        if largest >= rows {
            return Err(Error::Vocabulary { largest, rows });
        }
        let added = |pair| tokenizer.get_post_processor().map_or(0, |processor| processor.added_tokens(pair));
        let (special, special_of_pair) = (added(false), added(true));
        Ok(Tokens { tokenizer, special, special_of_pair, max: usize::MAX, rows })
    }

    /// The special tokens a text gets.
    pub(super) fn special(&self) -> usize {
        self.special
    }

    /// The special tokens a pair of texts gets.
    pub(super) fn special_of_pair(&self) -> usize {
        self.special_of_pair
    }

    /// Sets the limit of tokens, special ones included.
    pub(super) fn limit(mut self, max: usize) -> Tokens {
        self.max = max;
        self
    }

    /// The ids of a text with special tokens, at most the limit.
    pub(super) fn ids(&self, text: &str) -> Result<Sequence, String> {
        let room = self.max.saturating_sub(self.special);
        let mut encoding = self.encode(text, room)?;
        encoding.truncate(room, 0, TruncationDirection::Right);
        self.finish(encoding, None)
    }

    /// The same for a text of which the end counts.
    pub(super) fn end(&self, text: &str) -> Result<Sequence, String> {
        let room = self.max.saturating_sub(self.special);
        let mut encoding = self.tokenizer.encode_fast(text, false).map_err(|error| error.to_string())?;
        encoding.truncate(room, 0, TruncationDirection::Left);
        self.finish(encoding, None)
    }

    /// The tokens of a text with their places in it.
    pub(super) fn spans(&self, text: &str, special: bool) -> Result<Vec<Token>, String> {
        let found = self.tokenizer.encode(text, special).map_err(|error| error.to_string())?;
        let (ids, names) = (found.get_ids(), found.get_tokens());
        let (spans, added) = (found.get_offsets(), found.get_special_tokens_mask());
        let token = |at: usize| {
            let (start, stop) = spans[at];
            let special = added[at] == 1;
            // Some tokenizers count a piece they put before the text.
            let part = text.get(start..stop).filter(|_| !special);
            let span = part.map(|_| (start, stop));
            Token { id: ids[at], text: part.unwrap_or(&names[at]).to_owned(), special, span }
        };
        Ok((0..ids.len()).map(token).collect())
    }

    pub(super) fn decode(&self, ids: &[u32], skip_special: bool) -> Result<String, String> {
        self.tokenizer.decode(ids, skip_special).map_err(|error| error.to_string())
    }

    /// The first id that the model does not know.
    pub(super) fn rows(&self) -> usize {
        self.rows
    }

    /// The first text of pairs.
    pub(super) fn first(&self, text: &str) -> Result<First, String> {
        self.encode(text, self.room_of_pair()).map(First)
    }

    /// A pair with special tokens, at most the limit: the longer text is cut
    /// first, then both alike.
    pub(super) fn pair(&self, first: &First, text: &str) -> Result<Sequence, String> {
        let room = self.room_of_pair();
        let second = self.encode(text, room)?;
        let limit = TruncationParams { max_length: room, ..TruncationParams::default() };
        let (first, second) = if first.0.len() + second.len() > room {
            truncate_encodings(first.0.clone(), Some(second), &limit).map_err(|error| error.to_string())?
        } else {
            (first.0.clone(), Some(second))
        };
        self.finish(first, second)
    }

    fn room_of_pair(&self) -> usize {
        self.max.saturating_sub(self.special_of_pair)
    }

    fn finish(&self, first: Encoding, second: Option<Encoding>) -> Result<Sequence, String> {
        let whole = self.tokenizer.post_process(first, second, true).map_err(|error| error.to_string())?;
        let types = whole.get_type_ids();
        let second = types.iter().position(|&kind| kind == 1).unwrap_or(types.len());
        Ok(Sequence { ids: whole.get_ids().to_vec(), second })
    }

    /// All tokens of a text, or at least `room` of them, without special ones.
    fn encode(&self, text: &str, room: usize) -> Result<Encoding, String> {
        let mut bytes = room.saturating_mul(BYTES_PER_TOKEN).min(MAX_READ);
        loop {
            let part = prefix(text, bytes);
            let encoding = self.tokenizer.encode_fast(part, false).map_err(|error| error.to_string())?;
            let all = part.len() == text.len() || bytes >= MAX_READ;
            if encoding.len() < room && !all {
                bytes = bytes.saturating_mul(8).min(MAX_READ);
                continue;
            }
            return Ok(encoding);
        }
    }

    /// The number of tokens of the whole text, without special ones.
    pub(super) fn count(&self, mut text: &str) -> usize {
        let mut count = 0;
        while !text.is_empty() {
            let part = prefix(text, COUNT_PIECE);
            count += self.tokenizer.encode_fast(part, false).map_or(0, |encoding| encoding.len());
            text = &text[part.len()..];
        }
        count
    }
}

/// The start of a text, at most `bytes` long, ending before white space where
/// there is any, otherwise between two characters.
fn prefix(text: &str, bytes: usize) -> &str {
    if text.len() <= bytes {
        return text;
    }
    let end = (0..=bytes).rev().find(|&at| text.is_char_boundary(at));
    let part = &text[..end.expect("0 is a boundary")];
    match part.char_indices().rev().find(|(_, c)| c.is_whitespace()) {
        Some((at, _)) if at > 0 => &part[..at],
        // One word longer than the prefix; an empty part would never end.
        _ if part.is_empty() => &text[..text.chars().next().map_or(0, char::len_utf8)],
        _ => part,
    }
}

#[cfg(test)]
mod tests {
    use super::prefix;

    #[test]
    fn a_prefix_ends_before_white_space_or_between_characters() {
        assert_eq!(prefix("one two three", 9), "one two");
        assert_eq!(prefix("one two", 7), "one two");
        assert_eq!(prefix("äöü", 3), "ä");
        assert_eq!(prefix("äöü", 1), "ä");
        assert_eq!(prefix("   x", 2), " ");
    }

    #[test]
    fn pieces_cover_the_text() {
        let text = "a bb  ccc\n dddd äöü ".repeat(50);
        for bytes in 1..40 {
            let mut rest = &text[..];
            while !rest.is_empty() {
                let part = prefix(rest, bytes);
                assert!(!part.is_empty());
                rest = &rest[part.len()..];
            }
        }
    }
}
