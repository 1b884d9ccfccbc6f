//! Tokens to text as they come.
//!
//! A character can take several tokens, so what ends in half a one is held back;
//! so is what could be the beginning of a stop sequence. What is told is never
//! taken back.

use super::tokens::Tokens;
use crate::Result;

/// What a decoder writes for bytes that are no UTF-8, or not yet.
const BROKEN: char = '\u{FFFD}';

/// Tokens that may be held back before broken bytes are taken for what they are: a
/// character has four bytes at most, and broken ones may come before it.
const LONGEST: usize = 8;

pub(super) struct Text<'t> {
    tokens: &'t Tokens,
    stops: &'t [String],
    /// Tokens whose text is known, kept because the text of what follows can
    /// depend on them, and those behind `read` whose text is not.
    recent: Vec<u32>,
    read: usize,
    whole: String,
    /// Bytes of `whole` that were told.
    told: usize,
    stopped: bool,
}

impl<'t> Text<'t> {
    pub(super) fn new(tokens: &'t Tokens, stops: &'t [String]) -> Text<'t> {
        Text { tokens, stops, recent: Vec::new(), read: 0, whole: String::new(), told: 0, stopped: false }
    }

    /// Takes a token and gives the text that can be told now, perhaps none.
    pub(super) fn push(&mut self, id: u32) -> Result<&str> {
        self.recent.push(id);
        self.take(false)?;
        Ok(self.tell(false))
    }

    /// The rest, when no token follows.
    pub(super) fn finish(&mut self) -> Result<&str> {
        if !self.stopped {
            self.take(true)?;
        }
        Ok(self.tell(true))
    }

    /// Whether a stop sequence was met.
    pub(super) fn stopped(&self) -> bool {
        self.stopped
    }

    /// All that was told.
    pub(super) fn into_whole(mut self) -> String {
        self.whole.truncate(self.told);
        self.whole
    }

    /// Moves the text of new tokens to `whole` unless it ends in half a character.
    fn take(&mut self, last: bool) -> Result<()> {
        let known = self.tokens.text(&self.recent[..self.read])?;
        let all = self.tokens.text(&self.recent)?;
        let pending = self.recent.len() - self.read;
        if all.ends_with(BROKEN) && pending < LONGEST && !last {
            return Ok(());
        }
        // A tokenizer that changes its mind about what it wrote adds nothing.
        let new = all.strip_prefix(known.as_str()).unwrap_or_default();
        self.whole.push_str(new);
        if pending > 0 {
            self.recent.drain(..self.read);
            self.read = self.recent.len();
        }
        Ok(())
    }

    /// What of `whole` can be told: up to a stop sequence, or to what may become
    /// one.
    fn tell(&mut self, last: bool) -> &str {
        let begin = self.told;
        let rest = &self.whole[begin..];
        let found = self.stops.iter().filter_map(|stop| rest.find(stop.as_str())).min();
        let end = match found {
            Some(at) => {
                self.stopped = true;
                at
            }
            None if last => rest.len(),
            None => rest.len() - unsure(rest, self.stops),
        };
        self.told = begin + end;
        if self.stopped {
            self.whole.truncate(self.told);
        }
        &self.whole[begin..self.told]
    }
}

/// Bytes at the end of a text that a stop sequence may begin with.
fn unsure(text: &str, stops: &[String]) -> usize {
    let begins = |stop: &String| {
        let longest = stop.len().saturating_sub(1).min(text.len());
        let lengths = (1..=longest).rev();
        lengths.into_iter().find(|&len| stop.is_char_boundary(len) && text.ends_with(&stop[..len]))
    };
    stops.iter().filter_map(begins).max().unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_may_become_a_stop_sequence_is_held_back() {
        let stops = ["</end>".to_owned(), "—x".to_owned()];
        assert_eq!(unsure("text", &stops), 0);
        assert_eq!(unsure("text <", &stops), 1);
        assert_eq!(unsure("text </en", &stops), 4);
        assert_eq!(unsure("text —", &stops), 3);
        assert_eq!(unsure("", &stops), 0);
    }
}
