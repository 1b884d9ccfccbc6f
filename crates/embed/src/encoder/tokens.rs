//! Text to token ids, cut at the model's limit.
//!
//! A long text is not tokenized whole only to be cut: a prefix is, ending at
//! white space, and a longer one only if that was not enough. Since words do
//! not span white space the ids are the same. At most [`MAX_READ`] bytes of
//! a text are read.

use std::path::Path;

use tokenizers::utils::truncation::TruncationDirection;
use tokenizers::{PostProcessor, Tokenizer};

use crate::{Error, Result};

/// No more bytes of a text are looked at, far beyond any model's limit.
pub(super) const MAX_READ: usize = 1 << 20;

/// Bytes of text per token of the limit in the first prefix; prose has 4 to 5.
const BYTES_PER_TOKEN: usize = 16;

/// Pieces a text is counted in.
const COUNT_PIECE: usize = 64 << 10;

pub(super) struct Tokens {
    tokenizer: Tokenizer,
    special: usize,
    max: usize,
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
        let special = tokenizer.get_post_processor().map_or(0, |processor| processor.added_tokens(false));
        Ok(Tokens { tokenizer, special, max: usize::MAX })
    }

    /// The special tokens a text gets.
    pub(super) fn special(&self) -> usize {
        self.special
    }

    /// Sets the limit of [`Tokens::ids`], special tokens included.
    pub(super) fn limit(mut self, max: usize) -> Tokens {
        self.max = max;
        self
    }

    /// The ids of a text with special tokens, at most the limit.
    pub(super) fn ids(&self, text: &str) -> Result<Vec<u32>, String> {
        let room = self.max.saturating_sub(self.special);
        let mut bytes = room.saturating_mul(BYTES_PER_TOKEN).min(MAX_READ);
        loop {
            let part = prefix(text, bytes);
            let mut encoding = self.tokenizer.encode_fast(part, false).map_err(|error| error.to_string())?;
            let all = part.len() == text.len() || bytes >= MAX_READ;
            if encoding.len() < room && !all {
                bytes = bytes.saturating_mul(8).min(MAX_READ);
                continue;
            }
            encoding.truncate(room, 0, TruncationDirection::Right);
            let encoding =
                self.tokenizer.post_process(encoding, None, true).map_err(|error| error.to_string())?;
            return Ok(encoding.get_ids().to_vec());
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
