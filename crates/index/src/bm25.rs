//! BM25: texts as sparse vectors whose inner product ranks them.
//!
//! The ranking function of Robertson and Zaragoza ("The Probabilistic Relevance
//! Framework: BM25 and Beyond", 2009) gives a document, for each term of the
//! query,
//!
//! ```text
//! idf(term) * tf * (k + 1) / (tf + k * (1 - b + b * length / average length))
//! ```
//!
//! Everything but the idf depends on the document alone and is the value of a
//! sparse vector at the position of the term; the query has weight 1 at each of
//! its terms, and [`idf`] multiplies these weights when the query is run,
//! because it changes with every document that comes or goes. Lengths are
//! counted in tokens, after stop words are gone.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};
use crate::text::{Analyzer, Stemmer, Stopwords, TextOptions, Tokenizer, stemmer_of, stop_words_of};
use crate::vector::SparseVector;

/// The language of texts whose options name none.
const DEFAULT_LANGUAGE: &str = "english";

/// How texts become sparse vectors.
///
/// `k` and `b` shape the values; the rest says what counts as a term, as in
/// [`TextOptions`], where stop words and stemmer follow the language unless
/// they are given. An option that is absent stays absent when written.
///
/// ```
/// use cairn_index::{Bm25, Bm25Options};
///
/// let options: Bm25Options = serde_json::from_value(serde_json::json!({"avg_len": 3.0}))?;
/// let bm25 = Bm25::new(&options)?;
/// let cairn = bm25.document("The cairns of the Highlands");
/// let score = bm25.query("cairn").dot(&cairn).unwrap();
/// // Once, in a document of 2 tokens: `cairn` and `highland`.
/// let by_hand = 1.0 * 2.2 / (1.0 + 1.2 * (1.0 - 0.75 + 0.75 * 2.0 / 3.0));
/// assert!((score - by_hand).abs() < 1e-6);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Bm25Options {
    /// How soon a term that is repeated adds nothing more; from 0, which
    /// ignores repetition. Default 1.2.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub k: Option<f32>,
    /// How much longer documents are discounted, from 0 to 1. Default 0.75.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub b: Option<f32>,
    /// Tokens in a document of average length. Default 256; the nearer it is
    /// to the truth, the better the ranking.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub avg_len: Option<f32>,
    /// How the text is split. Default [`Tokenizer::Word`].
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tokenizer: Option<Tokenizer>,
    /// Whose stop words and stemmer are used where there are any, or `none`.
    /// Default `english`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub language: Option<String>,
    /// Whether case is ignored. Default true.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub lowercase: Option<bool>,
    /// Whether accented Latin letters count as their plain ones. Default false.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ascii_folding: Option<bool>,
    /// Words that do not count. Default those of the language.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub stopwords: Option<Stopwords>,
    /// How words are reduced to their stems. Default as the language has it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub stemmer: Option<Stemmer>,
    /// Tokens of fewer characters do not count.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub min_token_len: Option<usize>,
    /// Tokens of more characters do not count.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_token_len: Option<usize>,
}

impl Bm25Options {
    fn text(&self) -> Result<TextOptions> {
        let (stopwords, stemmer) = self.of_language()?;
        Ok(TextOptions {
            tokenizer: self.tokenizer.unwrap_or_default(),
            min_token_len: self.min_token_len,
            max_token_len: self.max_token_len,
            lowercase: self.lowercase,
            ascii_folding: self.ascii_folding,
            stopwords: self.stopwords.clone().or(stopwords),
            stemmer: self.stemmer.clone().or(stemmer),
            ..TextOptions::default()
        })
    }

    /// What the language brings, which may be only one of the two.
    fn of_language(&self) -> Result<(Option<Stopwords>, Option<Stemmer>)> {
        let language = self.language.as_deref().unwrap_or(DEFAULT_LANGUAGE);
        if language.eq_ignore_ascii_case("none") {
            return Ok((None, None));
        }
        let stemmer = stemmer_of(language).ok().map(|_| Stemmer::Snowball { language: language.to_owned() });
        match stop_words_of(language) {
            Ok(_) => Ok((Some(Stopwords::Language(language.to_owned())), stemmer)),
            Err(_) if stemmer.is_some() => Ok((None, stemmer)),
            Err(error) => Err(error),
        }
    }
}

/// Turns texts into sparse vectors as some [`Bm25Options`] say.
///
/// The position of a term is the 32-bit MurmurHash3 of its UTF-8 bytes with
/// seed 0, as a signed number without its sign. Vectors made by other programs
/// that count terms this way (FastEmbed's `Qdrant/bm25` does) can be mixed with
/// these. Terms that meet at one position add up.
#[derive(Debug)]
pub struct Bm25 {
    k: f32,
    b: f32,
    avg_len: f32,
    analyzer: Analyzer,
}

impl Bm25 {
    /// # Errors
    /// [`Error::Request`] for a language that is not known and for a number
    /// out of range.
    pub fn new(options: &Bm25Options) -> Result<Self> {
        let [k, b, avg_len] =
            [options.k.unwrap_or(1.2), options.b.unwrap_or(0.75), options.avg_len.unwrap_or(256.0)];
        check("k", k, k >= 0.0, "0 or larger")?;
        check("b", b, (0.0..=1.0).contains(&b), "from 0 to 1")?;
        check("avg_len", avg_len, avg_len > 0.0, "larger than 0")?;
        Ok(Self { k, b, avg_len, analyzer: Analyzer::new(&options.text()?)? })
    }

    /// The vector of a text that is stored; empty for a text without terms.
    pub fn document(&self, text: &str) -> SparseVector {
        let (mut counts, mut len) = (BTreeMap::<u32, u32>::new(), 0u32);
        self.analyzer.each_document_token(text, |token| {
            *counts.entry(position(token)).or_default() += 1;
            len += 1;
        });
        let damping = self.k * (1.0 - self.b + self.b * len as f32 / self.avg_len);
        let value = |count: u32| count as f32 * (self.k + 1.0) / (count as f32 + damping);
        sparse(counts.into_iter().map(|(position, count)| (position, value(count))))
    }

    /// The vector of a text that is looked for: 1 at each of its terms.
    pub fn query(&self, text: &str) -> SparseVector {
        let mut terms = BTreeMap::new();
        self.analyzer.each_query_token(text, |token| {
            terms.insert(position(token), 1.0);
        });
        sparse(terms)
    }

    /// How many tokens of a text count.
    pub fn count(&self, text: &str) -> usize {
        let mut count = 0;
        self.analyzer.each_document_token(text, |_| count += 1);
        count
    }
}

/// What a term in `df` of `n` documents weighs: the form that is never
/// negative, as in Lucene.
pub(crate) fn idf(n: usize, df: usize) -> f32 {
    // Rows that were deleted may still be counted in `df`.
    let (n, df) = (n.max(df) as f64, df as f64);
    (((n - df + 0.5) / (df + 0.5)) + 1.0).ln() as f32
}

pub(crate) fn check(field: &str, value: f32, is_right: bool, range: &str) -> Result<()> {
    if is_right && value.is_finite() {
        return Ok(());
    }
    Err(Error::Request(format!("bm25 option {field}: value {value} invalid, must be {range}")))
}

fn sparse(entries: impl IntoIterator<Item = (u32, f32)>) -> SparseVector {
    SparseVector::new(entries).expect("keys of a map are unique and the values are finite")
}

fn position(token: &str) -> u32 {
    (murmur3(token.as_bytes()) as i32).unsigned_abs()
}

/// MurmurHash3, x86, 32 bits, seed 0 (Austin Appleby, public domain).
fn murmur3(bytes: &[u8]) -> u32 {
    fn mixed(block: u32) -> u32 {
        block.wrapping_mul(0xcc9e_2d51).rotate_left(15).wrapping_mul(0x1b87_3593)
    }
    let blocks = bytes.chunks_exact(4);
    let tail = blocks.remainder();
    let mut hash = 0u32;
    for block in blocks {
        hash ^= mixed(u32::from_le_bytes(block.try_into().expect("chunks of four")));
        hash = hash.rotate_left(13).wrapping_mul(5).wrapping_add(0xe654_6b64);
    }
    hash ^= mixed(tail.iter().rev().fold(0, |word, &byte| word << 8 | u32::from(byte)));
    hash ^= bytes.len() as u32;
    hash = (hash ^ hash >> 16).wrapping_mul(0x85eb_ca6b);
    hash = (hash ^ hash >> 13).wrapping_mul(0xc2b2_ae35);
    hash ^ hash >> 16
}

#[cfg(test)]
mod tests;
