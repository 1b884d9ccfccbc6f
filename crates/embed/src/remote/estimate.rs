//! About how many tokens a text has, where its tokenizer is elsewhere.
//!
//! A word has one for every four bytes begun, so that scripts other than Latin,
//! whose letters have more bytes, count more; every other sign has one. The
//! vocabularies of today's models need fewer for English prose, about as many
//! for other languages.

/// Bytes of a word that a token has.
const BYTES: usize = 4;

/// Counts a text sign by sign, from either end.
#[derive(Default)]
struct Count {
    before: usize,
    word: usize,
}

impl Count {
    fn add(&mut self, sign: char) {
        if sign.is_alphanumeric() {
            self.word += sign.len_utf8();
            return;
        }
        self.before = self.tokens() + usize::from(!sign.is_whitespace());
        self.word = 0;
    }

    fn tokens(&self) -> usize {
        self.before + self.word.div_ceil(BYTES)
    }
}

/// The tokens of a text.
pub(super) fn tokens(text: &str) -> usize {
    let mut count = Count::default();
    text.chars().for_each(|sign| count.add(sign));
    count.tokens()
}

/// The start of a text that has at most `max` tokens.
pub(super) fn start(text: &str, max: usize) -> &str {
    let mut count = Count::default();
    let over = text.char_indices().find(|&(_, sign)| {
        count.add(sign);
        count.tokens() > max
    });
    over.map_or(text, |(at, _)| text[..at].trim_end())
}

/// The end of a text that has at most `max` tokens.
pub(super) fn end(text: &str, max: usize) -> &str {
    let mut count = Count::default();
    let over = text.char_indices().rev().find(|&(_, sign)| {
        count.add(sign);
        count.tokens() > max
    });
    over.map_or(text, |(at, sign)| text[at + sign.len_utf8()..].trim_start())
}

#[cfg(test)]
mod tests {
    use super::{end, start, tokens};

    #[test]
    fn words_count_by_their_bytes_and_signs_by_themselves() {
        assert_eq!(tokens(""), 0);
        assert_eq!(tokens("  a cairn, of stones. "), 1 + 2 + 1 + 1 + 2 + 1);
        // Eight bytes, and nine.
        assert_eq!((tokens("камн"), tokens("三个字")), (2, 3));
        assert_eq!(tokens("x-y"), 3);
    }

    #[test]
    fn what_is_cut_has_as_many_tokens_as_it_may_and_is_an_end_of_the_text() {
        let text = "The камни mark, more or less, the way — 三个字 and so on.";
        let all = tokens(text);
        for max in 1..=all + 1 {
            for (cut, other_side) in [
                (start(text, max), text.starts_with(start(text, max))),
                (end(text, max), text.ends_with(end(text, max))),
            ] {
                assert!(other_side);
                assert!(tokens(cut) <= max, "{cut} {max}");
            }
        }
        assert_eq!((start(text, all), end(text, all)), (text, text));
        assert_eq!((start("one two three", 2), end("one two three", 2)), ("one two", "three"));
    }
}
