//! The heads of an attention, and how far from a token they look.

use std::ops::Range;

use super::architecture::unsupported;
use crate::Result;

/// How many heads there are, and where they are in a row: queries of each head,
/// then keys, then values.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Heads {
    pub(super) queries: usize,
    /// Heads of keys, and as many of values: each serves several neighbouring
    /// heads of queries, or one.
    pub(super) keys: usize,
    /// Values of a head.
    pub(super) dim: usize,
}

impl Heads {
    /// So many heads that share `hidden` values evenly.
    pub(super) fn sharing(hidden: usize, count: usize) -> Result<Heads> {
        if count == 0 || hidden == 0 || !hidden.is_multiple_of(count) {
            return Err(unsupported(
                "number of attention heads",
                count.to_string(),
                "a divisor of the hidden size",
            ));
        }
        Ok(Heads { queries: count, keys: count, dim: hidden / count })
    }

    /// The same queries with fewer heads of keys and values.
    pub(super) fn with_keys(self, keys: usize) -> Result<Heads> {
        if keys == 0 || !self.queries.is_multiple_of(keys) {
            return Err(unsupported(
                "num_key_value_heads",
                keys.to_string(),
                "a divisor of num_attention_heads",
            ));
        }
        Ok(Heads { keys, ..self })
    }

    /// The values of a row.
    pub(super) fn wide(self) -> usize {
        (self.queries + 2 * self.keys) * self.dim
    }

    /// The values of a row of the result.
    pub(super) fn out(self) -> usize {
        self.queries * self.dim
    }

    /// Heads of queries for each head of keys.
    pub(super) fn group(self) -> usize {
        self.queries / self.keys
    }

    /// The columns where the query, the key and the value of a head begin.
    pub(super) fn columns(self, head: usize) -> [usize; 3] {
        let key = head / self.group();
        [head, self.queries + key, self.queries + self.keys + key].map(|part| part * self.dim)
    }
}

/// How many tokens before and after itself a token sees, and how many of the
/// first tokens of the text are seen at all.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Reach {
    pub(super) before: usize,
    pub(super) after: usize,
    /// At least one; `usize::MAX` for all.
    pub(super) first: usize,
}

impl Reach {
    /// The whole text.
    pub(super) const ALL: Reach = Reach { before: usize::MAX, after: usize::MAX, first: usize::MAX };

    /// What came before, as decoders do.
    pub(super) const BACK: Reach = Reach { before: usize::MAX, after: 0, first: usize::MAX };

    /// A window of so many tokens to each side.
    pub(super) const fn window(before: usize, after: usize) -> Reach {
        Reach { before, after, first: usize::MAX }
    }

    /// The same in a text of which only the first tokens are seen.
    pub(super) fn among(self, first: usize) -> Reach {
        Reach { first: first.max(1), ..self }
    }

    /// The tokens that the one at `at` sees, of so many; at least one.
    pub(super) fn of(self, at: usize, tokens: usize) -> Range<usize> {
        let end = at.saturating_add(self.after).saturating_add(1).min(tokens).min(self.first);
        at.saturating_sub(self.before).min(end.saturating_sub(1))..end
    }

    /// The tokens that any of `rows` sees, and some more: both ends are multiples
    /// of `block`, the last may be behind the text.
    pub(super) fn blocks(self, rows: Range<usize>, tokens: usize, block: usize) -> Range<usize> {
        let last = self.of(rows.end - 1, tokens);
        let start = self.of(rows.start, tokens).start;
        start / block * block..last.end.next_multiple_of(block)
    }
}

#[cfg(test)]
mod tests {
    use super::{Heads, Reach};

    #[test]
    fn a_token_sees_the_text_what_came_before_or_a_window() {
        assert_eq!(Reach::ALL.of(3, 9), 0..9);
        assert_eq!(Reach::BACK.of(3, 9), 0..4);
        let window = Reach::window(2, 2);
        assert_eq!([window.of(0, 9), window.of(4, 9), window.of(8, 9)], [0..3, 2..7, 6..9]);
    }

    #[test]
    fn nobody_sees_what_is_not_to_be_seen() {
        let few = Reach::ALL.among(4);
        assert_eq!([few.of(0, 9), few.of(8, 9)], [0..4, 0..4]);
        assert_eq!(few.blocks(3..9, 9, 2), 0..4);
        // A token that would see nothing sees the last one that is seen.
        assert_eq!(Reach::window(1, 1).among(4).of(8, 9), 3..4);
    }

    #[test]
    fn blocks_cover_what_their_rows_see() {
        for reach in [Reach::ALL, Reach::BACK, Reach::window(40, 40), Reach::window(7, 0)] {
            for tokens in [1, 32, 33, 150] {
                for start in 0..tokens {
                    let rows = start..(start + 12).min(tokens);
                    let blocks = reach.blocks(rows.clone(), tokens, 32);
                    assert!(blocks.start % 32 == 0 && blocks.end % 32 == 0 && blocks.end < tokens + 32);
                    for at in rows {
                        let seen = reach.of(at, tokens);
                        assert!(seen.contains(&at));
                        assert!(blocks.start <= seen.start && seen.end <= blocks.end);
                    }
                }
            }
        }
    }

    #[test]
    fn neighbouring_queries_share_a_key() {
        let heads = Heads::sharing(48, 6).expect("divides").with_keys(2).expect("divides");
        assert_eq!((heads.wide(), heads.out(), heads.group()), (80, 48, 3));
        assert_eq!(heads.columns(2), [16, 48, 64]);
        assert_eq!(heads.columns(3), [24, 56, 72]);
        for (hidden, count) in [(24, 5), (24, 0), (0, 3)] {
            assert!(Heads::sharing(hidden, count).is_err());
        }
        assert!(heads.with_keys(4).is_err() && heads.with_keys(0).is_err());
    }
}
