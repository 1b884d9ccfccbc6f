//! Late interaction: a vector for each token, projected and, as a rule, of
//! length 1 (ColBERT; Khattab and Zaharia, 2020).

use super::super::TextKind;
use super::super::kernels;
use super::super::tokens::Tokens;
use super::dense::Dense;
use super::files::MultiFiles;
use super::rules::Rules;

pub(in super::super) struct Late {
    layers: Vec<Dense>,
    normalize: bool,
    /// Whether the first token has a vector.
    first: bool,
    /// Tokens without a vector, and of which texts.
    skip: Vec<u32>,
    skips_queries: bool,
    skips_passages: bool,
}

impl Late {
    pub(super) fn new(files: &MultiFiles, layers: Vec<Dense>, tokens: &Tokens) -> Late {
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

    /// The vectors of a text with these tokens and their states, one after the
    /// other.
    pub(super) fn apply(&self, rows: &[f32], ids: &[u32], hidden: usize, kind: TextKind) -> Vec<f32> {
        let skips = match kind {
            TextKind::Query => self.skips_queries,
            TextKind::Passage => self.skips_passages,
        };
        let mut vectors = Vec::with_capacity(rows.len());
        for ((at, row), id) in rows.chunks_exact(hidden).enumerate().zip(ids) {
            if (at > 0 || self.first) && !(skips && self.skip.contains(id)) {
                vectors.extend_from_slice(row);
            }
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
