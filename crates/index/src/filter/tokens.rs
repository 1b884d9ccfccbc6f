//! Words that a condition looks for in a field with a text index.

use std::borrow::Cow;
use std::collections::HashSet;

use serde_json::Value;

use super::Test;
use super::prepared::flat;
use crate::error::Result;
use crate::text::Analyzer;

/// The words of a text condition on a field with a text index. They are looked
/// for in all strings of the field together; a phrase does not run from one
/// string into the next.
#[derive(Debug)]
pub(crate) struct Tokens<'f> {
    analyzer: Analyzer,
    pub(crate) wanted: Vec<String>,
    pub(crate) how: How<'f>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum How<'f> {
    All,
    Any,
    /// One after the other.
    InOrder,
    /// All of them, in a string that contains this text.
    AllAnd(&'f str),
}

impl<'f> Tokens<'f> {
    /// `None` if the test is not about words.
    pub(super) fn new(
        test: &'f Test,
        in_order: bool,
        analyzer: impl Fn() -> Result<Analyzer>,
    ) -> Result<Option<Self>> {
        let (text, how) = match test {
            Test::Text(text) => (Cow::Borrowed(text.as_str()), How::All),
            Test::TextAny(words) => (Cow::Owned(words.join(" ")), How::Any),
            Test::Phrase(text) if in_order => (Cow::Borrowed(text.as_str()), How::InOrder),
            Test::Phrase(text) => (Cow::Borrowed(text.as_str()), How::AllAnd(text)),
            _ => return Ok(None),
        };
        let analyzer = analyzer()?;
        let mut wanted = analyzer.query_tokens(&text);
        if how != How::InOrder {
            wanted.sort_unstable();
            wanted.dedup();
        }
        Ok(Some(Self { analyzer, wanted, how }))
    }

    pub(super) fn holds(&self, values: &[&Value]) -> bool {
        // A text without words is in no document.
        if self.wanted.is_empty() {
            return false;
        }
        let strings: Vec<&str> = flat(values).filter_map(Value::as_str).collect();
        match self.how {
            How::All => self.all_in(&strings),
            How::AllAnd(text) => strings.iter().any(|stored| stored.contains(text)) && self.all_in(&strings),
            How::Any => strings.iter().any(|stored| {
                self.analyzer
                    .document_tokens(stored)
                    .iter()
                    .any(|token| self.wanted.binary_search(token).is_ok())
            }),
            How::InOrder => strings.iter().any(|stored| {
                let tokens = self.analyzer.document_tokens(stored);
                tokens.windows(self.wanted.len()).any(|window| window == self.wanted)
            }),
        }
    }

    fn all_in(&self, strings: &[&str]) -> bool {
        let tokens: HashSet<String> =
            strings.iter().flat_map(|stored| self.analyzer.document_tokens(stored)).collect();
        self.wanted.iter().all(|token| tokens.contains(token))
    }
}
