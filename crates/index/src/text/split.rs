//! Cutting a text into pieces, before anything is done to them.

use unicode_normalization::char::is_combining_mark;
use unicode_segmentation::UnicodeSegmentation;

use super::Tokenizer;

/// Calls `each` with the pieces of a text, in order, none of them empty.
pub(super) fn each_piece(tokenizer: Tokenizer, text: &str, mut each: impl FnMut(&str)) {
    match tokenizer {
        Tokenizer::Whitespace => text.split_whitespace().for_each(each),
        Tokenizer::Word | Tokenizer::Prefix => each_run(text, continues_word, each),
        Tokenizer::Multilingual => text.unicode_words().for_each(each),
        Tokenizer::Code => each_run(text, continues_word, |run| each_part(run, &mut each)),
    }
}

/// Whether a character is part of a word. A mark belongs to the letter before
/// it: without this, a decomposed `é` would end its word.
fn continues_word(c: char) -> bool {
    if c.is_ascii() { c.is_ascii_alphanumeric() } else { c.is_alphanumeric() || is_combining_mark(c) }
}

fn each_run(text: &str, belongs: impl Fn(char) -> bool, each: impl FnMut(&str)) {
    text.split(|c| !belongs(c)).filter(|run| !run.is_empty()).for_each(each);
}

/// Cuts `parseHTTPRequest` before `H` and before `R`: at a capital after
/// anything else, and at the last of several capitals when a small letter
/// follows it. Digits stay with what is before them.
fn each_part(run: &str, each: &mut impl FnMut(&str)) {
    let mut start = 0;
    let mut before: Option<char> = None;
    let mut letters = run.char_indices().peekable();
    while let Some((at, c)) = letters.next() {
        let small_follows = letters.peek().is_some_and(|(_, next)| next.is_lowercase());
        let begins = c.is_uppercase() && before.is_some_and(|before| !before.is_uppercase() || small_follows);
        if begins && at > start {
            each(&run[start..at]);
            start = at;
        }
        before = Some(c);
    }
    if start < run.len() {
        each(&run[start..]);
    }
}
