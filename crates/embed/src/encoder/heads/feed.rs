//! What a late-interaction model is fed: the text between its special tokens,
//! a marker after the first, and tokens that fill a query up.

use std::path::Path;

use serde_json::{Map, Value};

use super::super::TextKind;
use super::super::files::read_optional;
use super::super::inputs::Input;
use super::super::tokens::{Sequence, Tokens};
use super::files::token_name;
use super::rules::{Expansion, Named, Rules, SideRules};
use crate::{Error, Result};

const TOKENIZER: &str = "tokenizer_config.json";

/// The tokens beside those of a text.
#[derive(Debug)]
pub(in super::super) struct Feed {
    query: Side,
    passage: Side,
    fill: Option<Fill>,
}

#[derive(Debug)]
struct Side {
    marker: Option<u32>,
    /// Tokens at most, special ones and the marker included.
    max: usize,
}

#[derive(Debug)]
struct Fill {
    token: u32,
    length: usize,
    attend: bool,
}

impl Feed {
    /// Looks the tokens up; `most` is what the model has places for.
    pub(super) fn new(rules: &Rules, folder: &Path, tokens: &Tokens, most: usize) -> Result<Feed> {
        let side = |of: &SideRules| -> Result<Side> {
            let marker = of.marker.as_ref().map(|marker| marked(marker, tokens)).transpose()?;
            let max = of.length.unwrap_or(most).min(most);
            if max <= tokens.special() + usize::from(marker.is_some()) {
                return Err(Error::Unsupported {
                    file: of.marker.as_ref().map_or("sentence_bert_config.json", |marker| marker.file).into(),
                    field: "limit of tokens".into(),
                    value: max.to_string(),
                    supported: "more than the special tokens and the marker",
                });
            }
            Ok(Side { marker, max })
        };
        let fill = |expansion: &Expansion| -> Result<Fill> {
            let length = expansion.length.min(most);
            Ok(Fill { token: filler(expansion, folder, tokens)?, length, attend: expansion.attend })
        };
        Ok(Feed {
            query: side(&rules.query)?,
            passage: side(&rules.passage)?,
            fill: rules.expansion.as_ref().map(fill).transpose()?,
        })
    }

    fn side(&self, kind: TextKind) -> &Side {
        match kind {
            TextKind::Query => &self.query,
            TextKind::Passage => &self.passage,
        }
    }

    /// The tokens of a text that are read, special ones and the marker included.
    pub(in super::super) fn max(&self, kind: TextKind) -> usize {
        self.side(kind).max
    }

    /// The tokens that a text gets beside its own and the special ones, but for
    /// those that fill it up.
    pub(in super::super) fn added(&self, kind: TextKind) -> usize {
        usize::from(self.side(kind).marker.is_some())
    }

    /// What is fed for an input, whose `text` has its prompt; token ids go as
    /// they are.
    pub(in super::super) fn sequence(
        &self,
        tokens: &Tokens,
        input: &Input<'_>,
        text: &str,
        kind: TextKind,
    ) -> Result<Sequence, String> {
        let side = self.side(kind);
        let max = side.max - self.added(kind);
        let mut sequence = match input {
            Input::Text(_) => tokens.ids_within(text, max)?,
            Input::End(_) => tokens.end_within(text, max)?,
            Input::Ids(ids) => return Ok(tokens.given(ids)),
        };
        if let Some(marker) = side.marker {
            sequence.ids.insert(sequence.len().min(1), marker);
        }
        if let Some(fill) = self.fill.as_ref().filter(|_| kind == TextKind::Query) {
            let own = sequence.len();
            if own < fill.length {
                sequence.ids.resize(fill.length, fill.token);
                // Something must be seen.
                sequence.unseen = if fill.attend || own == 0 { 0 } else { fill.length - own };
            }
        }
        sequence.second = sequence.len();
        Ok(sequence)
    }
}

/// The id of a marker: PyLate's end in a space, which is part of the token.
fn marked(marker: &Named, tokens: &Tokens) -> Result<u32> {
    let token = &marker.token;
    tokens.id(token).or_else(|| tokens.id(token.trim_end())).ok_or_else(|| Error::Unsupported {
        file: marker.file.into(),
        field: marker.field.into(),
        value: token.clone(),
        supported: "a token of tokenizer.json",
    })
}

fn filler(expansion: &Expansion, folder: &Path, tokens: &Tokens) -> Result<u32> {
    let config: Option<Map<String, Value>> = read_optional(&folder.join(TOKENIZER))?;
    let named = |field: &str| token_name(config.as_ref()?.get(field));
    let asked = expansion.token.clone().or_else(|| named("mask_token"));
    let found = match &asked {
        Some(token) => tokens.id(token),
        // Decoders have no mask, and take the end of a text.
        None => ["[MASK]", "<mask>"]
            .iter()
            .find_map(|token| tokens.id(token))
            .or_else(|| tokens.id(&named("eos_token")?)),
    };
    found.ok_or_else(|| Error::Unsupported {
        file: TOKENIZER.into(),
        field: "mask_token".into(),
        value: asked.unwrap_or_else(|| "null".into()),
        supported: "a token of tokenizer.json",
    })
}
