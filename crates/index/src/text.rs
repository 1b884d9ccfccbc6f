//! Text analysis: from a text to the tokens that are indexed and looked up.
//!
//! Steps, in this order: split ([`Tokenizer`]), lowercase, fold to ASCII, drop
//! tokens that are too short or too long, drop stop words, stem. Documents and
//! queries go through the same steps; only [`Tokenizer::Prefix`] treats them
//! differently. Every step is a function of the text and the options alone, so
//! an index made today answers tomorrow's queries.
//!
//! How a text is split is in `split`, names of languages are in `language`.
//! What tokens are good for is not here; see `bm25` and the payload indexes.

mod language;
mod split;

use std::collections::HashSet;

use rust_stemmers::Stemmer as Snowball;
use serde::{Deserialize, Serialize};
use unicode_normalization::UnicodeNormalization;
use unicode_normalization::char::is_combining_mark;

use crate::error::{Error, Result};

pub(crate) use language::{stemmer_of, stop_words_of};

/// Longest prefix that [`Tokenizer::Prefix`] indexes, in characters, so that
/// one endless word does not cost the square of its length.
const LONGEST_PREFIX: usize = 128;

/// How a text field is analysed. An option that is absent has its default and
/// stays absent when written.
///
/// ```
/// use cairn_index::{TextOptions, Tokenizer};
///
/// let options: TextOptions = serde_json::from_value(serde_json::json!({
///     "tokenizer": "word",
///     "min_token_len": 2,
///     "stopwords": "english",
///     "stemmer": {"type": "snowball", "language": "english"},
/// }))?;
/// assert_eq!(options.tokenizer, Tokenizer::Word);
/// # Ok::<(), serde_json::Error>(())
/// ```
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct TextOptions {
    /// How the text is split into tokens.
    pub tokenizer: Tokenizer,
    /// Tokens of fewer characters are dropped.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub min_token_len: Option<usize>,
    /// Tokens of more characters are dropped; prefixes end here.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_token_len: Option<usize>,
    /// Whether case is ignored. Default true.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub lowercase: Option<bool>,
    /// Whether accented Latin letters count as their plain ones. Default false.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ascii_folding: Option<bool>,
    /// Whether the order of tokens is kept for phrases. Default false.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub phrase_matching: Option<bool>,
    /// Words that are neither indexed nor looked up. Default none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub stopwords: Option<Stopwords>,
    /// How words are reduced to their stems. Default not at all.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub stemmer: Option<Stemmer>,
    /// Whether points can be ranked by this field. Default no.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub scoring: Option<Scoring>,
}

impl TextOptions {
    /// Whether points can be ranked by the field.
    pub fn is_scored(&self) -> bool {
        self.scoring.as_ref().is_some_and(|scoring| *scoring != Scoring::Enabled(false))
    }

    /// Whether every occurrence of a word is kept.
    pub(crate) fn keeps_positions(&self) -> bool {
        self.phrase_matching == Some(true) || self.is_scored()
    }
}

/// How a text is split into tokens.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Tokenizer {
    /// Like [`Word`](Self::Word); a document is found by every beginning of
    /// its words. Words are not stemmed, and compared by at most their first
    /// 128 characters.
    Prefix,
    /// What stands between white space.
    Whitespace,
    /// Runs of letters and digits.
    #[default]
    Word,
    /// Words by the rules of Unicode (UAX 29). Scripts written without spaces
    /// (Chinese, Japanese kana, Thai, Lao, Khmer, Burmese) are split into
    /// single characters, so a longer word is found as a phrase.
    Multilingual,
    /// Identifiers of programs, split where case changes and at underscores:
    /// `parseHTTPRequest` and `parse_http_request` are three tokens each.
    Code,
}

/// Which words carry no meaning.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Stopwords {
    /// The list of a language, by its English name or ISO 639-1 code.
    Language(String),
    /// The lists of several languages, and words of one's own.
    Set {
        /// English names or ISO 639-1 codes.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        languages: Option<Vec<String>>,
        /// Further words.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        custom: Option<Vec<String>>,
    },
}

/// How words are reduced to their stems.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "lowercase")]
pub enum Stemmer {
    /// By the Snowball algorithm of a language.
    Snowball {
        /// English name or ISO 639-1 code.
        language: String,
    },
    /// Not at all.
    None,
}

/// Whether and how points are ranked by a text field.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Scoring {
    /// By the default ranking, or not at all.
    Enabled(bool),
    /// By the one that is named.
    By {
        /// Its name.
        #[serde(rename = "type")]
        kind: ScoringKind,
    },
}

/// The rankings there are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ScoringKind {
    /// Okapi BM25.
    Bm25,
}

/// Turns texts into tokens as some [`TextOptions`] say.
pub(crate) struct Analyzer {
    tokenizer: Tokenizer,
    min_len: usize,
    max_len: usize,
    lowercase: bool,
    ascii_folding: bool,
    stop_words: HashSet<String>,
    stemmer: Option<Snowball>,
}

impl std::fmt::Debug for Analyzer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Analyzer").field("tokenizer", &self.tokenizer).finish_non_exhaustive()
    }
}

impl Analyzer {
    /// Fails with [`Error::Request`] for a language that is not known and for
    /// lengths that leave no token.
    pub(crate) fn new(options: &TextOptions) -> Result<Self> {
        let (min_len, max_len) = lengths(options)?;
        let stemmer = match &options.stemmer {
            Some(Stemmer::Snowball { language }) => Some(stemmer_of(language)?),
            Some(Stemmer::None) | None => None,
        };
        let mut analyzer = Self {
            tokenizer: options.tokenizer,
            min_len,
            max_len,
            lowercase: options.lowercase.unwrap_or(true),
            ascii_folding: options.ascii_folding.unwrap_or(false),
            stop_words: HashSet::new(),
            stemmer: stemmer.map(Snowball::create),
        };
        let mut buffer = String::new();
        for word in listed(options.stopwords.as_ref())? {
            // Words meet the list after case and accents are gone.
            analyzer.stop_words.insert(analyzer.normalized(&word, &mut buffer).to_owned());
        }
        Ok(analyzer)
    }

    /// The tokens a document is indexed under, in order, repeated as they come.
    pub(crate) fn document_tokens(&self, text: &str) -> Vec<String> {
        let mut tokens = Vec::new();
        self.each_document_token(text, |token| tokens.push(token.to_owned()));
        tokens
    }

    /// The tokens a query looks up, in order, repeated as they come.
    pub(crate) fn query_tokens(&self, text: &str) -> Vec<String> {
        let mut tokens = Vec::new();
        self.each_query_token(text, |token| tokens.push(token.to_owned()));
        tokens
    }

    /// As [`document_tokens`](Self::document_tokens), without a `String` each.
    pub(crate) fn each_document_token(&self, text: &str, mut each: impl FnMut(&str)) {
        if self.tokenizer != Tokenizer::Prefix {
            return self.each_token(text, each);
        }
        self.each_whole_word(text, |word| {
            let ends = word.char_indices().map(|(start, c)| start + c.len_utf8());
            for end in ends.take(self.max_len).skip(self.min_len.max(1) - 1) {
                each(&word[..end]);
            }
        });
    }

    /// As [`query_tokens`](Self::query_tokens), without a `String` each.
    pub(crate) fn each_query_token(&self, text: &str, mut each: impl FnMut(&str)) {
        if self.tokenizer != Tokenizer::Prefix {
            return self.each_token(text, each);
        }
        self.each_whole_word(text, |word| {
            let cut = word.char_indices().nth(self.max_len).map_or(word.len(), |(end, _)| end);
            if longer_or_equal(&word[..cut], self.min_len) {
                each(&word[..cut]);
            }
        });
    }

    fn each_token(&self, text: &str, mut each: impl FnMut(&str)) {
        let mut buffer = String::new();
        split::each_piece(self.tokenizer, text, |piece| {
            let word = self.normalized(piece, &mut buffer);
            if word.is_empty() || !self.fits(word) || self.stop_words.contains(word) {
                return;
            }
            match &self.stemmer {
                Some(stemmer) => each(&stemmer.stem(word)),
                None => each(word),
            }
        });
    }

    /// Words before they are cut into prefixes.
    fn each_whole_word(&self, text: &str, mut each: impl FnMut(&str)) {
        let mut buffer = String::new();
        split::each_piece(self.tokenizer, text, |piece| {
            let word = self.normalized(piece, &mut buffer);
            if !word.is_empty() && !self.stop_words.contains(word) {
                each(word);
            }
        });
    }

    fn fits(&self, word: &str) -> bool {
        longer_or_equal(word, self.min_len)
            && (word.len() <= self.max_len || word.chars().count() <= self.max_len)
    }

    /// The word in lower case and without accents, where that is asked for.
    fn normalized<'a>(&self, word: &'a str, buffer: &'a mut String) -> &'a str {
        if word.is_ascii() {
            if !self.lowercase || !word.bytes().any(|byte| byte.is_ascii_uppercase()) {
                return word;
            }
            buffer.clear();
            buffer.push_str(word);
            buffer.make_ascii_lowercase();
            return buffer;
        }
        *buffer = if self.lowercase { word.to_lowercase() } else { word.to_owned() };
        if self.ascii_folding {
            *buffer = folded(buffer);
        }
        buffer
    }
}

/// Bytes are never fewer than characters, which spares most words the count.
fn longer_or_equal(word: &str, min_len: usize) -> bool {
    word.len() >= min_len && (min_len <= 1 || word.chars().nth(min_len - 1).is_some())
}

fn lengths(options: &TextOptions) -> Result<(usize, usize)> {
    let min_len = options.min_token_len.unwrap_or(0);
    let mut max_len = options.max_token_len.unwrap_or(usize::MAX);
    if max_len == 0 || min_len > max_len {
        return Err(Error::Request(format!(
            "no token has from {min_len} to {max_len} characters, set max_token_len to at least min_token_len and 1"
        )));
    }
    if options.tokenizer == Tokenizer::Prefix {
        max_len = max_len.min(LONGEST_PREFIX);
        if min_len > max_len {
            return Err(Error::Request(format!(
                "prefixes are indexed up to {LONGEST_PREFIX} characters, min_token_len is {min_len}"
            )));
        }
    }
    Ok((min_len, max_len))
}

fn listed(stopwords: Option<&Stopwords>) -> Result<Vec<String>> {
    let (languages, custom) = match stopwords {
        None => return Ok(Vec::new()),
        Some(Stopwords::Language(language)) => (std::slice::from_ref(language), &[][..]),
        Some(Stopwords::Set { languages, custom }) => {
            (languages.as_deref().unwrap_or_default(), custom.as_deref().unwrap_or_default())
        }
    };
    let mut words = custom.to_vec();
    for language in languages {
        words.extend(stop_words_of(language)?.iter().map(|&word| word.to_owned()));
    }
    Ok(words)
}

/// Latin letters without their marks and ligatures; other scripts as they are,
/// because there a mark makes another letter.
fn folded(word: &str) -> String {
    let mut folded = String::with_capacity(word.len());
    let mut latin = false;
    for c in word.nfkd() {
        if is_combining_mark(c) {
            if !latin {
                folded.push(c);
            }
            continue;
        }
        let plain = without_stroke(c);
        latin = c.is_ascii() || plain.is_some();
        match plain {
            Some(plain) => folded.push_str(plain),
            None => folded.push(c),
        }
    }
    if folded.is_ascii() { folded } else { folded.nfc().collect() }
}

/// Latin letters that do not decompose into an ASCII letter and a mark.
fn without_stroke(letter: char) -> Option<&'static str> {
    Some(match letter {
        'ß' => "ss",
        'ẞ' => "SS",
        'æ' => "ae",
        'Æ' => "AE",
        'œ' => "oe",
        'Œ' => "OE",
        'ø' => "o",
        'Ø' => "O",
        'ł' => "l",
        'Ł' => "L",
        'đ' | 'ð' => "d",
        'Đ' | 'Ð' => "D",
        'þ' => "th",
        'Þ' => "TH",
        'ħ' => "h",
        'Ħ' => "H",
        'ı' => "i",
        'ŧ' => "t",
        'Ŧ' => "T",
        _ => return None,
    })
}

#[cfg(test)]
mod tests;
