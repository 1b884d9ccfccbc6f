//! Late interaction: a vector for each token, projected and, as a rule, of
//! length 1 (ColBERT; Khattab and Zaharia, 2020).

use super::super::TextKind;
use super::super::kernels;
use super::super::native::Linear;
use super::super::tokens::Tokens;
use super::Layer;
use super::dense::Dense;
use super::files::MultiFiles;
use super::rules::Rules;

pub(in super::super) struct Late<L = Linear> {
    pub(in super::super) layers: Vec<Dense<L>>,
    pub(in super::super) normalize: bool,
    /// Whether the first token has a vector.
    first: bool,
    /// Tokens without a vector, and of which texts.
    skip: Vec<u32>,
    skips_queries: bool,
    skips_passages: bool,
}

impl<L: Layer> Late<L> {
    pub(super) fn new(files: &MultiFiles, layers: Vec<Dense<L>>, tokens: &Tokens) -> Late<L> {
        let rules = files.rules.as_ref();
        // A word that is no single token cannot be told from what is unknown.
        let ids = |rules: &Rules| rules.skip.iter().filter_map(|word| tokens.id(word)).collect();
        Late {
            layers,
            normalize: files.normalize,
            first: files.first,
            skip: rules.map(ids).unwrap_or_default(),
            skips_queries: rules.is_some_and(|rules| rules.query.skips),
            skips_passages: rules.is_some_and(|rules| rules.passage.skips),
        }
    }

    /// The dimensions of a vector for a model with `hidden` of them.
    pub(super) fn dim(&self, hidden: usize) -> usize {
        self.layers.last().map_or(hidden, Dense::outputs)
    }

    /// The positions of the tokens that have a vector.
    pub(in super::super) fn kept(&self, ids: &[u32], kind: TextKind) -> impl Iterator<Item = usize> {
        let skips = match kind {
            TextKind::Query => self.skips_queries,
            TextKind::Passage => self.skips_passages,
        };
        let kept =
            move |(at, id): &(usize, &u32)| (*at > 0 || self.first) && !(skips && self.skip.contains(id));
        ids.iter().enumerate().filter(kept).map(|(at, _)| at)
    }
}

impl Late {
    /// The vectors of a text with these tokens and their states, one after the
    /// other.
    pub(super) fn apply(&self, rows: &[f32], ids: &[u32], hidden: usize, kind: TextKind) -> Vec<f32> {
        let mut vectors = Vec::with_capacity(rows.len());
        for at in self.kept(ids, kind) {
            vectors.extend_from_slice(&rows[at * hidden..][..hidden]);
        }
        if vectors.is_empty() {
            return vectors;
        }
        for layer in &self.layers {
            vectors = layer.apply(&vectors);
        }
        if self.normalize {
            vectors.chunks_exact_mut(self.dim(hidden)).for_each(kernels::normalize);
        }
        vectors
    }
}
