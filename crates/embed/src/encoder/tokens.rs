//! Text to token ids, cut at the model's limit.
//!
//! A long text is not tokenized whole only to be cut: a prefix is, ending at
//! white space, and a longer one only if that was not enough. Since words do
//! not span white space the ids are the same. At most [`MAX_READ`] bytes of
//! a text are read. A pair is cut as the reference does: the longer of the two
//! first.
//!
//! A static model is fed bare tokens: none is added, and special and unknown
//! ones are left out.

use std::collections::{BTreeSet, HashSet};
use std::path::Path;

use serde::Deserialize;
use tokenizers::utils::truncation::{TruncationDirection, TruncationParams, truncate_encodings};
use tokenizers::{Encoding, PostProcessor, Token as Piece, Tokenizer};

use super::Token;
use crate::{Error, Result};

const FILE: &str = "tokenizer.json";

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
    /// Tokens at the end that see the others but are seen by none, not even by
    /// themselves.
    pub(super) unseen: usize,
}

impl Sequence {
    /// Tokens of one text.
    pub(super) fn one(ids: Vec<u32>) -> Sequence {
        Sequence { second: ids.len(), ids, unseen: 0 }
    }

    /// The tokens that are seen, from the first on.
    pub(super) fn seen(&self) -> usize {
        self.len() - self.unseen
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
    /// Whether a token is left out, by its id; nothing unless tokens are bare.
    left_out: Option<Vec<bool>>,
}

impl Tokens {
    /// Loads `tokenizer.json` for a model with `rows` token embeddings.
    pub(super) fn load(folder: &Path, rows: usize) -> Result<Tokens> {
        Tokens::read(&folder.join(FILE), &bytes(folder)?, rows)
    }

    /// The same for a model that is fed bare tokens.
    pub(super) fn load_bare(folder: &Path, rows: usize) -> Result<Tokens> {
        Tokens::bare(&folder.join(FILE), &bytes(folder)?, rows)
    }

    /// The same of a file in memory; errors call it `path`.
    pub(super) fn bare(path: &Path, bytes: &[u8], rows: usize) -> Result<Tokens> {
        let mut tokens = Tokens::read(path, bytes, rows)?;
        let mut left_out = vec![false; rows];
        for id in tokens.special_ids().chain(tokens.unknown(path, bytes)?) {
            left_out.get_mut(id as usize).into_iter().for_each(|left_out| *left_out = true);
        }
        (tokens.special, tokens.special_of_pair, tokens.left_out) = (0, 0, Some(left_out));
        Ok(tokens)
    }

    fn read(path: &Path, bytes: &[u8], rows: usize) -> Result<Tokens> {
        let unusable =
            |error: tokenizers::Error| Error::Tokenizer { path: path.into(), reason: error.to_string() };
        let mut tokenizer = Tokenizer::from_bytes(bytes).map_err(unusable)?;
        tokenizer.with_padding(None);
        tokenizer.with_truncation(None).map_err(unusable)?;

        let largest = largest(&tokenizer);
        if largest >= rows {
            return Err(Error::Vocabulary { largest, rows });
        }
        let added = |pair| tokenizer.get_post_processor().map_or(0, |processor| processor.added_tokens(pair));
        let (special, special_of_pair) = (added(false), added(true));
        Ok(Tokens { tokenizer, special, special_of_pair, max: usize::MAX, rows, left_out: None })
    }

    /// The id of a token, by its name.
    pub(super) fn id(&self, name: &str) -> Option<u32> {
        self.tokenizer.token_to_id(name)
    }

    /// The ids of the special tokens.
    pub(super) fn special_ids(&self) -> impl Iterator<Item = u32> {
        let added = self.tokenizer.get_added_tokens_decoder();
        added.into_iter().filter(|(_, token)| token.special).map(|(id, _)| id)
    }

    /// The token that stands for what the vocabulary does not have.
    fn unknown(&self, path: &Path, bytes: &[u8]) -> Result<Option<u32>> {
        #[derive(Deserialize)]
        struct File {
            model: Model,
        }
        #[derive(Deserialize)]
        struct Model {
            unk_token: Option<String>,
            unk_id: Option<u32>,
        }
        let file: File =
            serde_json::from_slice(bytes).map_err(|source| Error::Json { path: path.into(), source })?;
        let by_name = || self.tokenizer.token_to_id(&file.model.unk_token?);
        Ok(file.model.unk_id.or_else(by_name))
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

    /// The limit of tokens, special ones included.
    pub(super) fn max(&self) -> usize {
        self.max
    }

    /// The ids of a text with special tokens, at most the limit.
    pub(super) fn ids(&self, text: &str) -> Result<Sequence, String> {
        self.ids_within(text, self.max)
    }

    /// The same for a limit of the call's own.
    pub(super) fn ids_within(&self, text: &str, max: usize) -> Result<Sequence, String> {
        let room = max.saturating_sub(self.special);
        let mut encoding = self.encode(text, room)?;
        if self.left_out.is_some() {
            return Ok(self.given(encoding.get_ids()));
        }
        encoding.truncate(room, 0, TruncationDirection::Right);
        self.finish(encoding, None)
    }

    /// Ids from outside, as they are fed: at most the limit.
    pub(super) fn given(&self, ids: &[u32]) -> Sequence {
        Sequence::one(self.fed(ids).take(self.max).collect())
    }

    /// The ids that are fed: all, or of bare tokens those not left out.
    pub(super) fn fed(&self, ids: &[u32]) -> impl DoubleEndedIterator<Item = u32> {
        ids.iter().copied().filter(move |&id| self.feeds(id))
    }

    /// Whether a token is fed.
    pub(super) fn feeds(&self, id: u32) -> bool {
        self.left_out.as_ref().is_none_or(|left_out| left_out.get(id as usize) != Some(&true))
    }

    /// The same for a text of which the end counts.
    pub(super) fn end(&self, text: &str) -> Result<Sequence, String> {
        self.end_within(text, self.max)
    }

    /// The same for a limit of the call's own.
    pub(super) fn end_within(&self, text: &str, max: usize) -> Result<Sequence, String> {
        let room = max.saturating_sub(self.special);
        let mut encoding = self.tokenizer.encode_fast(text, false).map_err(|error| error.to_string())?;
        if self.left_out.is_some() {
            let mut ids: Vec<u32> = self.fed(encoding.get_ids()).rev().take(room).collect();
            ids.reverse();
            return Ok(Sequence::one(ids));
        }
        encoding.truncate(room, 0, TruncationDirection::Left);
        self.finish(encoding, None)
    }

    /// A token by itself, with special tokens.
    pub(super) fn alone(&self, id: u32) -> Result<Sequence, String> {
        let name = self.tokenizer.id_to_token(id).unwrap_or_default();
        let span = (0, name.len());
        self.finish(Encoding::from_tokens(vec![Piece::new(id, name, span)], 0), None)
    }

    /// The tokens that texts are made of, by their ids: neither special ones
    /// nor the placeholders of a vocabulary, `[unused7]`.
    pub(super) fn words(&self) -> Vec<u32> {
        let special: HashSet<u32> = self.special_ids().collect();
        let unused = |name: &str| {
            let number = name.strip_prefix("[unused").and_then(|rest| rest.strip_suffix(']'));
            number.is_some_and(|number| number.parse::<u32>().is_ok())
        };
        let vocabulary = self.tokenizer.get_vocab(true);
        let words = vocabulary.into_iter().filter(|(name, id)| !special.contains(id) && !unused(name));
        let words: BTreeSet<u32> = words.map(|(_, id)| id).collect();
        words.into_iter().collect()
    }

    /// One more than the largest id.
    pub(super) fn vocabulary(&self) -> usize {
        largest(&self.tokenizer) + 1
    }

    /// The tokenizer as `tokenizer.json` has it, without padding and truncation.
    pub(super) fn to_json(&self) -> Result<String, String> {
        self.tokenizer.to_string(false).map_err(|error| error.to_string())
    }

    /// The tokens of a text with their places in it.
    pub(super) fn spans(&self, text: &str, special: bool) -> Result<Vec<Token>, String> {
        let special = special && self.left_out.is_none();
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
        Ok(Sequence { ids: whole.get_ids().to_vec(), second, unseen: 0 })
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

    /// The number of tokens of the whole text that are fed, without special ones.
    pub(super) fn count(&self, mut text: &str) -> usize {
        let mut count = 0;
        while !text.is_empty() {
            let part = prefix(text, COUNT_PIECE);
            let found = self.tokenizer.encode_fast(part, false);
            count += found.map_or(0, |encoding| self.fed(encoding.get_ids()).count());
            text = &text[part.len()..];
        }
        count
    }
}

fn bytes(folder: &Path) -> Result<Vec<u8>> {
    let path = folder.join(FILE);
    match std::fs::read(&path) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            Err(Error::MissingFile { folder: folder.into(), file: FILE.into() })
        }
        read => read.map_err(Error::io(path)),
    }
}

fn largest(tokenizer: &Tokenizer) -> usize {
    tokenizer.get_vocab(true).into_values().max().unwrap_or(0) as usize
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
