//! An encoder's other ways in and out: token ids instead of texts, the states
//! of all tokens instead of one vector, and the tokenizer by itself.

use super::queue::{Call, Cancel};
use super::runner::Output;
use super::tokens::Sequence;
use super::{Embeddings, Encoder, Heads, TextKind};
use crate::{Error, Result};

/// What a vector is made of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Input<'a> {
    /// A text; of one beyond the limit of tokens, its start is read.
    Text(&'a str),
    /// A text; of one beyond the limit of tokens, its end is read.
    End(&'a str),
    /// Token ids of the model's own tokenizer. They are fed as they are, up to
    /// the limit: no prompt and no special tokens are added. A static model
    /// leaves special and unknown ones out, as it does in a text.
    Ids(&'a [u32]),
}

/// The result of [`Encoder::embed_all`] and [`Encoder::embed_multi`].
#[derive(Debug, Clone, PartialEq)]
pub struct TokenEmbeddings {
    /// For each input, a vector for each of the tokens the model was fed; for
    /// late interaction, of those that have one.
    pub vectors: Vec<Vec<Vec<f32>>>,
    /// The tokens the model was fed, special ones included, after truncation.
    pub tokens: usize,
}

/// A token of a text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Token {
    /// Its number in the vocabulary.
    pub id: u32,
    /// The part of the text it stands for; the token's own name if it is special.
    pub text: String,
    /// Whether it was added to the text.
    pub special: bool,
    /// Where the part starts and where it stops in the text, in bytes; nothing
    /// for a special token.
    pub span: Option<(usize, usize)>,
}

impl Encoder {
    /// As [`Encoder::embed_until`], for texts and token ids.
    ///
    /// # Errors
    /// Those of [`Encoder::embed_until`], and [`Error::TokenId`].
    pub fn embed_inputs(&self, inputs: &[Input<'_>], kind: TextKind, cancel: &Cancel) -> Result<Embeddings> {
        let text = |input: &Input<'_>| matches!(input, Input::Text(_));
        self.heads.check(Heads::DENSE)?;
        if inputs.iter().all(text) {
            let texts: Vec<&str> = inputs.iter().filter_map(Input::text).collect();
            return self.embed_until(&texts, kind, cancel);
        }
        let (vectors, tokens) = self.compute_inputs(inputs, kind, Output::Head, cancel)?;
        Ok(Embeddings { vectors, tokens })
    }

    /// The vectors of all tokens, as the last layer has them: neither pooled
    /// nor normalized, with as many dimensions as the model has inside. Those
    /// of a static model are its weighted rows.
    ///
    /// # Errors
    /// Those of [`Encoder::embed_inputs`].
    pub fn embed_all(
        &self,
        inputs: &[Input<'_>],
        kind: TextKind,
        cancel: &Cancel,
    ) -> Result<TokenEmbeddings> {
        let hidden = self.queue.runner().hidden();
        let (states, tokens) = self.compute_inputs(inputs, kind, Output::States, cancel)?;
        let rows = |states: Vec<f32>| states.chunks_exact(hidden).map(<[f32]>::to_vec).collect();
        Ok(TokenEmbeddings { vectors: states.into_iter().map(rows).collect(), tokens })
    }

    /// The tokens an input has before it is cut, prompt and special ones
    /// included. More than [`Encoder::max_tokens`] means that a part of it
    /// would not be read.
    pub fn input_tokens(&self, input: &Input<'_>, kind: TextKind) -> usize {
        match input {
            Input::Text(text) | Input::End(text) => {
                let added = self.feed.as_ref().map_or(0, |feed| feed.added(kind));
                self.tokens.count(&self.prepare(text, kind)) + self.tokens.special() + added
            }
            Input::Ids(ids) => ids.iter().filter(|&&id| self.tokens.feeds(id)).count(),
        }
    }

    /// The tokens of a text, not cut; with those that a model adds if `special`.
    ///
    /// # Errors
    /// [`Error::Tokenize`] if the tokenizer refuses the text.
    pub fn tokenize(&self, text: &str, special: bool) -> Result<Vec<Token>> {
        self.tokens.spans(text, special).map_err(|reason| Error::Tokenize { text: 0, reason })
    }

    /// The text that token ids stand for, without special ones if
    /// `skip_special`.
    ///
    /// # Errors
    /// [`Error::TokenId`] if an id is none of the vocabulary.
    pub fn decode(&self, ids: &[u32], skip_special: bool) -> Result<String> {
        self.check_ids(0, ids)?;
        self.tokens.decode(ids, skip_special).map_err(|reason| Error::Tokenize { text: 0, reason })
    }

    fn compute_inputs(
        &self,
        inputs: &[Input<'_>],
        kind: TextKind,
        output: Output,
        cancel: &Cancel,
    ) -> Result<(Vec<Vec<f32>>, usize)> {
        let each = |(at, input): (usize, &Input<'_>)| {
            cancel.check()?;
            self.sequence(at, input, kind)
        };
        let texts: Vec<Sequence> = inputs.iter().enumerate().map(each).collect::<Result<_>>()?;
        let (batches, short, lengths) = self.plan(&texts);
        let vectors = self.queue.run(Call::new(texts, output, batches, cancel.clone()), short)?;
        Ok((vectors, lengths.iter().sum()))
    }

    pub(super) fn sequence(&self, at: usize, input: &Input<'_>, kind: TextKind) -> Result<Sequence> {
        let refused = |reason| Error::Tokenize { text: at, reason };
        match input {
            Input::Text(text) => self.tokens.ids(&self.prepare(text, kind)).map_err(refused),
            Input::End(text) => self.tokens.end(&self.prepare_end(text, kind)).map_err(refused),
            Input::Ids(ids) => {
                self.check_ids(at, ids)?;
                Ok(self.tokens.given(ids))
            }
        }
    }

    fn check_ids(&self, text: usize, ids: &[u32]) -> Result<()> {
        let rows = self.tokens.rows();
        match ids.iter().find(|&&id| id as usize >= rows) {
            Some(&id) => Err(Error::TokenId { text, id, rows }),
            None => Ok(()),
        }
    }
}

impl<'a> Input<'a> {
    /// The text, unless it is of token ids.
    pub fn text(&self) -> Option<&'a str> {
        match self {
            Input::Text(text) | Input::End(text) => Some(text),
            Input::Ids(_) => None,
        }
    }
}
