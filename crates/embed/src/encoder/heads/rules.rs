//! How late-interaction models want their texts fed, as their files say: the
//! marker of queries and passages, the lengths, the tokens a query is filled up
//! with, and what of a passage has no vector.

use std::path::Path;

use serde::Deserialize;

use super::super::files::{read_optional, read_required};
use super::files::ARTIFACT;
use crate::{Error, Result};

/// The words that ColBERT leaves out of passages.
const PUNCTUATION: &str = "!\"#$%&'()*+,-./:;<=>?@[\\]^_`{|}~";

/// Tokens of a query, unless its files say otherwise.
const QUERY_LENGTH: usize = 32;

/// Tokens of a passage for PyLate, unless its files say otherwise.
const PASSAGE_LENGTH: usize = 180;

#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Rules {
    pub(super) query: SideRules,
    pub(super) passage: SideRules,
    pub(super) expansion: Option<Expansion>,
    /// Tokens without a vector.
    pub(super) skip: Vec<String>,
}

#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct SideRules {
    /// The file and field that name it, and the token after the first.
    pub(super) marker: Option<Named>,
    /// Tokens at most, special ones and the marker included.
    pub(super) length: Option<usize>,
    /// Whether [`Rules::skip`] is for these texts.
    pub(super) skips: bool,
}

/// A token and who says so.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Named {
    pub(super) file: &'static str,
    pub(super) field: &'static str,
    pub(super) token: String,
}

/// What a query is filled up with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Expansion {
    pub(super) length: usize,
    /// Whether the tokens of the text see those that were added.
    pub(super) attend: bool,
    /// The mask token if absent.
    pub(super) token: Option<String>,
}

impl Rules {
    /// Those of `artifact.metadata`, or ColBERT's own if there is none.
    pub(super) fn of_artifact(root: &Path) -> Result<Rules> {
        #[derive(Deserialize, Default)]
        #[serde(default)]
        struct Artifact {
            query_token_id: Option<String>,
            doc_token_id: Option<String>,
            query_maxlen: Option<usize>,
            doc_maxlen: Option<usize>,
            mask_punctuation: Option<bool>,
            attend_to_mask_tokens: Option<bool>,
        }
        let artifact: Artifact = read_optional(&root.join(ARTIFACT))?.unwrap_or_default();
        let length = artifact.query_maxlen.unwrap_or(QUERY_LENGTH);
        let marker = |field, token: Option<String>, or: &str| {
            let token = token.unwrap_or_else(|| or.to_owned());
            Some(Named { file: ARTIFACT, field, token })
        };
        Ok(Rules {
            query: SideRules {
                marker: marker("query_token_id", artifact.query_token_id, "[unused0]"),
                length: Some(length),
                skips: false,
            },
            passage: SideRules {
                marker: marker("doc_token_id", artifact.doc_token_id, "[unused1]"),
                length: artifact.doc_maxlen,
                skips: true,
            },
            expansion: Some(Expansion {
                length,
                attend: artifact.attend_to_mask_tokens.unwrap_or(false),
                token: None,
            }),
            skip: if artifact.mask_punctuation.unwrap_or(true) { punctuation() } else { Vec::new() },
        })
    }

    /// Those PyLate writes into `config_sentence_transformers.json`.
    pub(super) fn of_pylate(root: &Path) -> Result<Rules> {
        const FILE: &str = "config_sentence_transformers.json";
        #[derive(Deserialize, Default)]
        #[serde(default)]
        struct Config {
            query_prefix: Option<String>,
            document_prefix: Option<String>,
            query_length: Option<usize>,
            document_length: Option<usize>,
            do_query_expansion: Option<bool>,
            attend_to_expansion_tokens: Option<bool>,
            skiplist_words: Option<Vec<String>>,
        }
        let config: Config = read_optional(&root.join(FILE))?.unwrap_or_default();
        let length = config.query_length.unwrap_or(QUERY_LENGTH);
        let marker = |field, token: Option<String>, or: &str| {
            let token = token.unwrap_or_else(|| or.to_owned());
            (!token.is_empty()).then_some(Named { file: FILE, field, token })
        };
        let attend = config.attend_to_expansion_tokens.unwrap_or(false);
        Ok(Rules {
            query: SideRules {
                marker: marker("query_prefix", config.query_prefix, "[Q] "),
                length: Some(length),
                skips: false,
            },
            passage: SideRules {
                marker: marker("document_prefix", config.document_prefix, "[D] "),
                length: Some(config.document_length.unwrap_or(PASSAGE_LENGTH)),
                skips: true,
            },
            expansion: config.do_query_expansion.unwrap_or(true).then_some(Expansion {
                length,
                attend,
                token: None,
            }),
            skip: config.skiplist_words.unwrap_or_else(punctuation),
        })
    }

    /// Those of the modules of sentence-transformers, whose markers are prompts.
    pub(super) fn of_modules(root: &Path, transformer: &Path, mask: &Path) -> Result<Rules> {
        #[derive(Deserialize, Default)]
        #[serde(default)]
        struct Transformer {
            query_length: Option<usize>,
            document_length: Option<usize>,
            query_expansion: Option<Expand>,
        }
        #[derive(Deserialize)]
        struct Expand {
            strategy: String,
            length: usize,
            #[serde(default)]
            attend: bool,
            token: Option<String>,
        }
        #[derive(Deserialize)]
        struct Mask {
            #[serde(default)]
            skiplist_words: Vec<String>,
            skiplist_tasks: Option<Vec<String>>,
            keep_only_token_ids: Option<Vec<u32>>,
        }
        const FILE: &str = "sentence_bert_config.json";
        let config: Transformer = read_optional(&transformer.join(FILE))?.unwrap_or_default();
        let file = mask.join("config.json").display().to_string();
        let mask: Mask = read_required(root, &file)?;
        let refuse = |file: &str, field: &str, value: String, supported| Error::Unsupported {
            file: file.into(),
            field: field.into(),
            value,
            supported,
        };
        if let Some(ids) = mask.keep_only_token_ids.filter(|ids| !ids.is_empty()) {
            return Err(refuse(&file, "keep_only_token_ids", format!("{ids:?}"), "null"));
        }
        let tasks = mask.skiplist_tasks.unwrap_or_else(|| vec!["document".into()]);
        if let Some(task) = tasks.iter().find(|task| !["query", "document"].contains(&&task[..])) {
            return Err(refuse(&file, "skiplist_tasks", task.clone(), "query, document"));
        }
        let skips = |task: &str| tasks.iter().any(|one| one == task);
        let mut query_length = config.query_length;
        let expansion = match config.query_expansion {
            None => None,
            Some(Expand { strategy, length, attend, token }) => {
                match strategy.as_str() {
                    "fixed" => query_length = Some(length),
                    "min" => query_length = query_length.map(|most| most.max(length)),
                    _ => return Err(refuse(FILE, "query_expansion.strategy", strategy, "fixed, min")),
                }
                Some(Expansion { length, attend, token })
            }
        };
        Ok(Rules {
            query: SideRules { marker: None, length: query_length, skips: skips("query") },
            passage: SideRules { marker: None, length: config.document_length, skips: skips("document") },
            expansion,
            skip: mask.skiplist_words,
        })
    }
}

fn punctuation() -> Vec<String> {
    PUNCTUATION.chars().map(String::from).collect()
}
