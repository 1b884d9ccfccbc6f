//! What makes vectors of texts, be it in this process or elsewhere.

use std::sync::Arc;

use crate::{Cancel, Embeddings, Encoder, Input, Remote, Result, TextKind};

/// A model that makes vectors of texts: in this process, or behind an address.
///
/// Cloning it gives another handle of the same model.
#[derive(Clone)]
pub enum Embedder {
    /// In this process.
    Local(Arc<Encoder>),
    /// Behind an address.
    Remote(Arc<Remote>),
}

impl Embedder {
    /// The model, if it is in this process; only there are tokens to be had.
    pub fn encoder(&self) -> Option<&Arc<Encoder>> {
        match self {
            Embedder::Local(encoder) => Some(encoder),
            Embedder::Remote(_) => None,
        }
    }

    /// The dimensions of a vector. A service may have to be asked.
    ///
    /// # Errors
    /// Those of [`Remote::dim`].
    pub fn dim(&self) -> Result<usize> {
        match self {
            Embedder::Local(encoder) => Ok(encoder.dim()),
            Embedder::Remote(remote) => remote.dim(),
        }
    }

    /// The tokens of a text the model reads.
    pub fn max_tokens(&self) -> usize {
        match self {
            Embedder::Local(encoder) => encoder.max_tokens(),
            Embedder::Remote(remote) => remote.max_tokens(),
        }
    }

    /// The tokens of a text, without special ones; of a model behind an address
    /// estimated.
    pub fn count_tokens(&self, text: &str) -> usize {
        match self {
            Embedder::Local(encoder) => encoder.count_tokens(text),
            Embedder::Remote(remote) => remote.count_tokens(text),
        }
    }

    /// The tokens an input has before it is cut; of a model behind an address
    /// estimated.
    pub fn input_tokens(&self, input: &Input<'_>, kind: TextKind) -> usize {
        match self {
            Embedder::Local(encoder) => encoder.input_tokens(input, kind),
            Embedder::Remote(remote) => remote.input_tokens(input, kind),
        }
    }

    /// The vectors of any number of texts, in their order.
    ///
    /// # Errors
    /// Those of [`Encoder::embed`] or [`Remote::embed_inputs`].
    pub fn embed(&self, texts: &[&str], kind: TextKind) -> Result<Embeddings> {
        self.embed_until(texts, kind, &Cancel::new())
    }

    /// As [`Embedder::embed`], for a caller that may go away.
    ///
    /// # Errors
    /// Those of [`Embedder::embed`], and [`Error::Cancelled`](crate::Error::Cancelled).
    pub fn embed_until(&self, texts: &[&str], kind: TextKind, cancel: &Cancel) -> Result<Embeddings> {
        match self {
            Embedder::Local(encoder) => encoder.embed_until(texts, kind, cancel),
            Embedder::Remote(remote) => {
                let inputs: Vec<Input<'_>> = texts.iter().copied().map(Input::Text).collect();
                remote.embed_inputs(&inputs, kind, cancel)
            }
        }
    }

    /// As [`Embedder::embed_until`], for texts and token ids.
    ///
    /// # Errors
    /// Those of [`Encoder::embed_inputs`] or [`Remote::embed_inputs`].
    pub fn embed_inputs(&self, inputs: &[Input<'_>], kind: TextKind, cancel: &Cancel) -> Result<Embeddings> {
        match self {
            Embedder::Local(encoder) => encoder.embed_inputs(inputs, kind, cancel),
            Embedder::Remote(remote) => remote.embed_inputs(inputs, kind, cancel),
        }
    }
}
