//! What else than one vector a model makes of a text: a sparse vector, a vector
//! for each token, or all of them in one pass.
//!
//! A head is a few layers over the states of a text's tokens. Which a model has
//! is what its folder says (`files`). SPLADE's is in `masked`, the sparse one of
//! BGE-M3 in `lexical`; `late` has the vectors of tokens, and `feed` what models
//! with those are fed.

mod dense;
mod feed;
mod files;
mod late;
mod lexical;
mod masked;
mod rules;

use std::path::Path;

use rayon::prelude::*;

pub(super) use self::dense::Dense;
pub(super) use self::dense::Residual;
pub(super) use self::feed::Feed;
use self::files::{COLBERT_LINEAR, Layers, SparseFiles};
pub(super) use self::files::{HeadFiles, Splade, splade};
pub(super) use self::late::Late;
pub(super) use self::lexical::Lexical;
pub(super) use self::masked::MaskedLm;
use super::architecture::Architecture;
use super::kernels::{Activation, Norm};
use super::native::{Instructions, Linear, Precision};
use super::queue::{Call, Cancel};
use super::runner::{Made, Output};
use super::tokens::{Sequence, Tokens};
use super::weights::Weights;
use super::{Backend, Encoder, EncoderOptions, Input, TextKind, TokenEmbeddings};
use crate::store::ModelKind;
use crate::{Error, Result};

/// What a model makes of a text, or what is wanted of it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
pub struct Heads {
    /// A vector for the whole text.
    pub dense: bool,
    /// A sparse vector.
    pub sparse: bool,
    /// A vector for each token, for late interaction.
    pub multi: bool,
}

impl Heads {
    /// One vector for each text, as most models make it.
    pub const DENSE: Heads = Heads { dense: true, sparse: false, multi: false };
    /// Sparse vectors alone.
    pub const SPARSE: Heads = Heads { dense: false, sparse: true, multi: false };
    /// Vectors of tokens alone.
    pub const MULTI: Heads = Heads { dense: false, sparse: false, multi: true };

    /// What either makes.
    #[must_use]
    pub fn and(self, other: Heads) -> Heads {
        Heads {
            dense: self.dense || other.dense,
            sparse: self.sparse || other.sparse,
            multi: self.multi || other.multi,
        }
    }

    /// The kinds of a model that has these heads, the main one first.
    pub(crate) fn kinds(self) -> Vec<ModelKind> {
        let all = [
            (self.dense, ModelKind::Embedding),
            (self.sparse, ModelKind::Sparse),
            (self.multi, ModelKind::Multivector),
        ];
        all.into_iter().filter(|(has, _)| *has).map(|(_, kind)| kind).collect()
    }

    /// The first head that is wanted and not there.
    fn lacks(self, wanted: Heads) -> Option<&'static str> {
        match wanted {
            Heads { dense: true, .. } if !self.dense => Some(DENSE),
            Heads { sparse: true, .. } if !self.sparse => Some(SPARSE),
            Heads { multi: true, .. } if !self.multi => Some(MULTI),
            _ => None,
        }
    }

    /// An error, unless all that is wanted is there.
    pub(super) fn check(self, wanted: Heads) -> Result<()> {
        let Some(want) = self.lacks(wanted) else { return Ok(()) };
        let has = [(self.dense, DENSE), (self.sparse, SPARSE), (self.multi, MULTI)];
        let has: Vec<&str> = has.into_iter().filter(|(has, _)| *has).map(|(_, name)| name).collect();
        Err(Error::NoHead { want, has: has.join(" and ") })
    }
}

const DENSE: &str = "dense vectors";
const SPARSE: &str = "sparse vectors";
const MULTI: &str = "vectors of tokens";

/// The heads of the model in a folder, as far as its files tell; dense where
/// they cannot be read.
pub(crate) fn heads_of(folder: &Path) -> Heads {
    super::files::heads(folder).map_or(Heads::DENSE, |files| files.heads())
}

/// A vector of which most values are zero.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct SparseVector {
    /// The positions of the values that are not, ascending: numbers of tokens in
    /// the model's vocabulary.
    pub indices: Vec<u32>,
    /// Those values, all above zero.
    pub values: Vec<f32>,
}

impl SparseVector {
    /// What is not zero of a whole vector.
    pub(super) fn of(values: &[f32]) -> SparseVector {
        // What is not a number must reach the check at the end.
        let some = (0..).zip(values).filter(|(_, value)| **value != 0.0);
        let (indices, values) = some.map(|(index, value): (u32, &f32)| (index, *value)).unzip();
        SparseVector { indices, values }
    }
}

/// The result of [`Encoder::embed_sparse`].
#[derive(Debug, Clone, PartialEq)]
pub struct SparseEmbeddings {
    /// A sparse vector for each text, in the order of the texts.
    pub vectors: Vec<SparseVector>,
    /// The tokens the model was fed, special ones included, after truncation.
    pub tokens: usize,
}

/// The result of [`Encoder::embed_heads`]; lists that were not wanted are empty.
#[derive(Debug, Clone, PartialEq)]
pub struct HeadEmbeddings {
    /// A vector for each input.
    pub dense: Vec<Vec<f32>>,
    /// A sparse vector for each input.
    pub sparse: Vec<SparseVector>,
    /// For each input, a vector for each of its tokens that has one.
    pub multi: Vec<Vec<Vec<f32>>>,
    /// The tokens the model was fed, special ones included, after truncation.
    pub tokens: usize,
}

/// How the products of the heads are computed: as those of the model.
#[derive(Debug, Clone, Copy)]
pub(super) struct Numbers {
    precision: Precision,
    level: Instructions,
}

impl Numbers {
    pub(super) fn of(options: &EncoderOptions) -> Result<Numbers> {
        let level = options.instructions.resolve()?;
        let precision = match options.backend {
            Backend::Native => options.precision.resolve(level),
            Backend::Packed | Backend::Stock | Backend::Tensors => Precision::F32,
        };
        Ok(Numbers { precision, level })
    }
}

/// What makes the linear layers of heads: for the processor's kernels, or on a
/// device.
pub(super) trait Maker {
    type Linear: Layer;

    /// A layer of `weights`, a row for each output; `bias` has a value for each.
    fn linear(&self, weights: &[f32], bias: &[f32], activation: Option<Activation>) -> Result<Self::Linear>;

    /// A norm beside such layers.
    fn norm(&self, norm: Norm) -> Result<<Self::Linear as Layer>::Norm>;
}

/// A linear layer, wherever it is computed.
pub(super) trait Layer {
    /// A norm that is computed there.
    type Norm;

    /// Values of a row that comes out.
    fn outputs(&self) -> usize;
}

impl Maker for Numbers {
    type Linear = Linear;

    fn linear(&self, weights: &[f32], bias: &[f32], activation: Option<Activation>) -> Result<Linear> {
        Ok(Linear::new(weights, bias, activation, self.precision, self.level))
    }

    fn norm(&self, norm: Norm) -> Result<Norm> {
        Ok(norm)
    }
}

impl Layer for Linear {
    type Norm = Norm;

    fn outputs(&self) -> usize {
        Linear::outputs(self)
    }
}

/// The heads of a model beside that for one vector.
pub(super) struct HeadSet<L: Layer = Linear> {
    pub(super) sparse: Option<Sparse<L>>,
    pub(super) multi: Option<Late<L>>,
}

impl<L: Layer> Default for HeadSet<L> {
    fn default() -> Self {
        HeadSet { sparse: None, multi: None }
    }
}

pub(super) enum Sparse<L: Layer> {
    Masked(Box<MaskedLm<L>>),
    Lexical(Lexical),
}

/// A model that is about to be loaded.
pub(super) struct Loading<'a, M> {
    pub(super) root: &'a Path,
    pub(super) folder: &'a Path,
    pub(super) weights: &'a Weights,
    pub(super) of: &'a Architecture,
    pub(super) tokens: &'a Tokens,
    pub(super) maker: M,
}

impl<M: Maker> Loading<'_, M> {
    /// The layers after the pooling.
    pub(super) fn layers(&self, files: &HeadFiles, mut inputs: usize) -> Result<Vec<Dense<M::Linear>>> {
        let mut layers = Vec::with_capacity(files.layers.len());
        for path in &files.layers {
            let layer = Dense::load(self.root, path, inputs, &self.maker)?;
            inputs = layer.outputs();
            layers.push(layer);
        }
        Ok(layers)
    }

    /// The heads for sparse vectors and vectors of tokens.
    pub(super) fn heads(&self, files: &HeadFiles) -> Result<HeadSet<M::Linear>> {
        let hidden = self.of.config.hidden;
        let masked = |splade: Splade| {
            let head = MaskedLm::load(self.weights, self.folder, self.of, splade, &self.maker);
            head.map(|head| Some(Sparse::Masked(Box::new(head))))
        };
        let sparse = match files.sparse {
            Some(SparseFiles::Masked(splade)) => masked(splade)?,
            Some(SparseFiles::Perhaps) if masked::is_in(self.weights, self.of) => masked(Splade::default())?,
            Some(SparseFiles::Lexical) => {
                let head = Lexical::load(self.root, self.folder, self.tokens, hidden)?;
                Some(Sparse::Lexical(head))
            }
            Some(SparseFiles::Perhaps) | None => None,
        };
        let multi = match &files.multi {
            None => None,
            Some(multi) => {
                let layers = match multi.layers {
                    Layers::Inline => {
                        vec![Dense::projection(self.weights, "linear.", hidden, &self.maker)?]
                    }
                    Layers::Beside => {
                        let weights = Weights::first(self.root, &COLBERT_LINEAR)?;
                        vec![Dense::projection(&weights, "", hidden, &self.maker)?]
                    }
                    Layers::Modules => self.layers(files, hidden)?,
                };
                Some(Late::new(multi, layers, self.tokens))
            }
        };
        Ok(HeadSet { sparse, multi })
    }
}

impl<'a> Loading<'a, ()> {
    /// The same with what makes linear layers.
    pub(super) fn with<M: Maker>(&self, maker: M) -> Loading<'a, M> {
        let Loading { root, folder, weights, of, tokens, maker: () } = *self;
        Loading { root, folder, weights, of, tokens, maker }
    }

    /// How texts are fed, if not as for a single vector; `most` is what the
    /// model has places for.
    pub(super) fn feed(&self, files: &HeadFiles, most: usize) -> Result<Option<Feed>> {
        let rules = files.multi.as_ref().and_then(|multi| multi.rules.as_ref());
        rules.map(|rules| Feed::new(rules, self.folder, self.tokens, most)).transpose()
    }
}

impl<L: Layer> HeadSet<L> {
    /// What the model makes, given whether it pools.
    pub(super) fn heads(&self, dense: bool) -> Heads {
        Heads { dense, sparse: self.sparse.is_some(), multi: self.multi.is_some() }
    }

    /// The dimensions of a token's vector; 0 without a head for those.
    pub(super) fn multi_dim(&self, hidden: usize) -> usize {
        self.multi.as_ref().map_or(0, |late| late.dim(hidden))
    }
}

impl HeadSet {
    /// Adds to what is `made` of a text with these states; says whether `going`
    /// did not stop it.
    pub(super) fn apply(
        &self,
        text: &Sequence,
        rows: &[f32],
        wanted: (Heads, TextKind),
        made: &mut Made,
        going: &mut dyn FnMut() -> bool,
    ) -> bool {
        let (wanted, kind) = wanted;
        let hidden = rows.len() / text.len();
        match self.sparse.as_ref().filter(|_| wanted.sparse) {
            None => {}
            Some(Sparse::Lexical(head)) => made.sparse = head.apply(rows, &text.ids),
            Some(Sparse::Masked(head)) => match head.apply(rows, hidden, going) {
                Some(sparse) => made.sparse = sparse,
                None => return false,
            },
        }
        if let Some(late) = self.multi.as_ref().filter(|_| wanted.multi) {
            made.rows = late.apply(rows, &text.ids, hidden, kind);
        }
        true
    }
}

impl Encoder {
    /// What the model makes of a text.
    pub fn heads(&self) -> Heads {
        self.heads
    }

    /// The dimensions of a token's vector; 0 if the model makes none.
    pub fn multi_dim(&self) -> usize {
        self.queue.runner().multi_dim()
    }

    /// The tokens of a text of this kind that the model sees, special ones
    /// included: models with vectors of tokens see less of a query.
    pub fn max_tokens_of(&self, kind: TextKind) -> usize {
        self.feed.as_ref().map_or(self.max_tokens, |feed| feed.max(kind))
    }

    /// The sparse vectors of any number of texts, in their order.
    ///
    /// # Errors
    /// [`Error::NoHead`] if the model makes none, and those of
    /// [`Encoder::embed`].
    ///
    /// ```no_run
    /// # use cairn_embed::{Encoder, EncoderOptions, TextKind};
    /// let encoder = Encoder::load("models/splade".as_ref(), &EncoderOptions::default())?;
    /// let found = encoder.embed_sparse(&["a cairn marks the path"], TextKind::Passage)?;
    /// assert_eq!(found.vectors[0].indices.len(), found.vectors[0].values.len());
    /// # Ok::<(), cairn_embed::Error>(())
    /// ```
    pub fn embed_sparse(&self, texts: &[&str], kind: TextKind) -> Result<SparseEmbeddings> {
        let inputs: Vec<Input<'_>> = texts.iter().map(|&text| Input::Text(text)).collect();
        let found = self.embed_heads(&inputs, Heads::SPARSE, kind, &Cancel::new())?;
        Ok(SparseEmbeddings { vectors: found.sparse, tokens: found.tokens })
    }

    /// The vectors of the tokens of any number of texts, for late interaction:
    /// projected, of length 1 where the model wants that, without those the
    /// model leaves out. Queries and passages differ.
    ///
    /// # Errors
    /// [`Error::NoHead`] if the model makes none, and those of
    /// [`Encoder::embed`].
    pub fn embed_multi(&self, texts: &[&str], kind: TextKind) -> Result<TokenEmbeddings> {
        let inputs: Vec<Input<'_>> = texts.iter().map(|&text| Input::Text(text)).collect();
        let found = self.embed_heads(&inputs, Heads::MULTI, kind, &Cancel::new())?;
        Ok(TokenEmbeddings { vectors: found.multi, tokens: found.tokens })
    }

    /// All that is wanted of texts or token ids, in one pass through the model.
    /// Token ids are fed as they are, without a marker.
    ///
    /// # Errors
    /// [`Error::NoHead`] if the model does not make all of it, and those of
    /// [`Encoder::embed_inputs`].
    pub fn embed_heads(
        &self,
        inputs: &[Input<'_>],
        wanted: Heads,
        kind: TextKind,
        cancel: &Cancel,
    ) -> Result<HeadEmbeddings> {
        self.heads.check(wanted)?;
        let each = |(at, input): (usize, &Input<'_>)| {
            cancel.check()?;
            self.fed(at, input, kind)
        };
        // Other threads are worth waking for some hundred microseconds of work.
        let texts: Vec<Sequence> = if inputs.len() <= 16 {
            inputs.iter().enumerate().map(each).collect::<Result<_>>()?
        } else {
            let all = || inputs.par_iter().enumerate().with_min_len(8).map(each).collect::<Result<_>>();
            self.tokenizing.install(all)?
        };
        let (batches, short, lengths) = self.plan(&texts);
        let call = Call::new(texts, Output::Heads(wanted, kind), batches, cancel.clone());
        let made = self.queue.made(call, short)?;

        let mut found = HeadEmbeddings {
            dense: Vec::new(),
            sparse: Vec::new(),
            multi: Vec::new(),
            tokens: lengths.iter().sum(),
        };
        let dim = self.multi_dim();
        for Made { vector, sparse, rows } in made {
            if wanted.dense {
                found.dense.push(vector);
            }
            if wanted.sparse {
                found.sparse.push(sparse);
            }
            if wanted.multi {
                found.multi.push(rows.chunks_exact(dim).map(<[f32]>::to_vec).collect());
            }
        }
        Ok(found)
    }

    /// What the model is fed of an input.
    fn fed(&self, at: usize, input: &Input<'_>, kind: TextKind) -> Result<Sequence> {
        let Some(feed) = &self.feed else {
            return self.sequence(at, input, kind);
        };
        let text = match input {
            // The space at the end of a marker that is a prompt is part of the token.
            Input::Text(text) | Input::End(text) if text.trim().is_empty() => self.prompt(kind).to_owned(),
            Input::Text(text) => self.prepare(text, kind),
            Input::End(text) => self.prepare_end(text, kind),
            Input::Ids(_) => return self.sequence(at, input, kind),
        };
        let fed = feed.sequence(&self.tokens, input, &text, kind);
        fed.map_err(|reason| Error::Tokenize { text: at, reason })
    }
}
