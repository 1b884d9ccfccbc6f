//! Multi-head attention of one text over itself, for any processor.
//!
//! As in `kernels`, plain loops that `pulp` compiles for each family. Blocks of
//! keys that no row of a tile sees are not computed.

// A function that is not inlined would be compiled for the smallest width.
#![allow(clippy::inline_always)]

use pulp::{Arch, Simd, WithSimd};

use super::kernels::{exp_sum, fused};
use super::reach::{Heads, Reach};
use super::relative::Relative;

/// Columns of a block: two registers of 16 lanes.
const COLS: usize = 32;
/// Rows of a block: 4 x 2 accumulators leave room for operands.
const ROWS: usize = 4;

/// Memory the attention reuses from text to text.
#[derive(Default)]
pub(super) struct Scratch {
    query: Vec<f32>,
    key: Vec<f32>,
    value: Vec<f32>,
    scores: Vec<f32>,
}

/// softmax(Q Kᵀ) V of each head.
///
/// `qkv` has a row of the heads' inputs per token; `bias` is added to each, and
/// `relative` to the scores of a token that sees all others. Queries are scaled
/// already. `out` has a row of the heads' results per token.
pub(super) struct Attend<'a> {
    pub(super) qkv: &'a [f32],
    pub(super) bias: &'a [f32],
    pub(super) heads: Heads,
    pub(super) reach: Reach,
    pub(super) relative: Option<&'a Relative>,
    pub(super) out: &'a mut [f32],
    pub(super) scratch: &'a mut Scratch,
}

impl Attend<'_> {
    pub(super) fn run(self) {
        Arch::new().dispatch(self);
    }
}

impl WithSimd for Attend<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(mut self, _: S) {
        let dim = self.heads.dim;
        let tokens = self.out.len() / self.heads.out();
        let cols = tokens.next_multiple_of(COLS);
        let width = dim.next_multiple_of(COLS);
        self.scratch.query.resize(tokens * dim, 0.0);
        self.scratch.scores.resize(ROWS * cols, 0.0);
        // The padding must read as zero whatever the text before left there.
        self.scratch.key.clear();
        self.scratch.key.resize(dim * cols, 0.0);
        self.scratch.value.clear();
        self.scratch.value.resize(tokens * width, 0.0);
        for head in 0..self.heads.queries {
            self.unpack(head, cols, width);
            for first in (0..tokens).step_by(ROWS) {
                // A last block that is not full does its last row again.
                let rows = std::array::from_fn(|row| (first + row).min(tokens - 1));
                self.head_rows::<S>(head, rows, tokens, cols, width);
            }
        }
    }
}

impl Attend<'_> {
    /// Copies one head: queries as rows, keys as columns, values as rows of
    /// `width`. Keys and values that the head before had too are there already.
    #[inline(always)]
    fn unpack(&mut self, head: usize, cols: usize, width: usize) {
        let dim = self.heads.dim;
        let columns = self.heads.columns(head);
        let fresh = head.is_multiple_of(self.heads.group());
        for (token, row) in self.qkv.chunks_exact(self.heads.wide()).enumerate() {
            let part = |part: usize| {
                let at = columns[part];
                row[at..][..dim].iter().zip(&self.bias[at..][..dim])
            };
            let query = &mut self.scratch.query[token * dim..][..dim];
            for (into, (x, b)) in query.iter_mut().zip(part(0)) {
                *into = x + b;
            }
            if !fresh {
                continue;
            }
            for (d, (x, b)) in part(1).enumerate() {
                self.scratch.key[d * cols + token] = x + b;
            }
            let value = &mut self.scratch.value[token * width..][..dim];
            for (into, (x, b)) in value.iter_mut().zip(part(2)) {
                *into = x + b;
            }
        }
    }

    /// softmax(Q Kᵀ) V for some rows of one head.
    #[inline(always)]
    fn head_rows<S: Simd>(
        &mut self,
        head: usize,
        rows: [usize; ROWS],
        tokens: usize,
        cols: usize,
        width: usize,
    ) {
        let (dim, hidden) = (self.heads.dim, self.heads.out());
        let blocks = self.reach.blocks(rows[0]..rows[ROWS - 1] + 1, tokens, COLS);
        let scratch = &mut *self.scratch;
        let queries: [&[f32]; ROWS] = rows.map(|row| &scratch.query[row * dim..][..dim]);
        for col in blocks.clone().step_by(COLS) {
            let sums = product::<S>(queries, &scratch.key[col..], cols, dim);
            for (row, sum) in sums.iter().enumerate() {
                scratch.scores[row * cols + col..][..COLS].copy_from_slice(sum);
            }
        }
        if let Some(relative) = self.relative {
            for (&at, scores) in rows.iter().zip(scratch.scores.chunks_exact_mut(cols)) {
                for (score, bias) in scores.iter_mut().zip(relative.row(head, at, tokens)) {
                    *score += bias;
                }
            }
        }
        let mut scale = [0.0; ROWS];
        for ((&at, row), scale) in rows.iter().zip(scratch.scores.chunks_exact_mut(cols)).zip(&mut scale) {
            let seen = self.reach.of(at, tokens);
            row[blocks.start..seen.start].fill(f32::NEG_INFINITY);
            row[seen.end..blocks.end].fill(f32::NEG_INFINITY);
            *scale = 1.0 / exp_sum(&mut row[blocks.clone()]);
        }
        let (first, steps) = (blocks.start, blocks.end.min(tokens) - blocks.start);
        let weights: [&[f32]; ROWS] =
            std::array::from_fn(|row| &scratch.scores[row * cols + first..][..steps]);
        for col in (0..width).step_by(COLS) {
            let sums = product::<S>(weights, &scratch.value[first * width + col..], width, steps);
            let take = COLS.min(dim - col);
            for ((row, sum), scale) in rows.iter().zip(&sums).zip(scale) {
                let out = &mut self.out[row * hidden + head * dim + col..][..take];
                for (into, x) in out.iter_mut().zip(sum) {
                    *into = x * scale;
                }
            }
        }
    }
}

/// A block of a matrix product: `ROWS` rows of `depth` values times `COLS`
/// columns of a matrix with `stride` values per row.
#[inline(always)]
fn product<S: Simd>(left: [&[f32]; ROWS], right: &[f32], stride: usize, depth: usize) -> [[f32; COLS]; ROWS] {
    let mut sums = [[0.0; COLS]; ROWS];
    let left = left.map(|row| &row[..depth]);
    for k in 0..depth {
        let right: &[f32; COLS] = right[k * stride..][..COLS].try_into().expect("the slice has COLS values");
        for row in 0..ROWS {
            let x = left[row][k];
            for col in 0..COLS {
                sums[row][col] = fused::<S>(x, right[col], sums[row][col]);
            }
        }
    }
    sums
}

/// Attention by its definition, for tests: the result of each token and head.
#[cfg(test)]
pub(super) fn by_definition(qkv: &[f32], heads: Heads, reach: Reach) -> Vec<f64> {
    let tokens = qkv.len() / heads.wide();
    let get = |token: usize, column: usize| f64::from(qkv[token * heads.wide() + column]);
    let mut out = Vec::new();
    for token in 0..tokens {
        for head in 0..heads.queries {
            let [query, key, value] = heads.columns(head);
            let seen = reach.of(token, tokens);
            let score = |other: usize| -> f64 {
                (0..heads.dim).map(|d| get(token, query + d) * get(other, key + d)).sum()
            };
            let scores: Vec<f64> = seen.clone().map(score).collect();
            let most = scores.iter().copied().fold(f64::MIN, f64::max);
            let weights: Vec<f64> = scores.iter().map(|score| (score - most).exp()).collect();
            let total: f64 = weights.iter().sum();
            for d in 0..heads.dim {
                let sum: f64 =
                    weights.iter().zip(seen.clone()).map(|(w, other)| w * get(other, value + d)).sum();
                out.push(sum / total);
            }
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::super::kernels::numbers;
    use super::super::reach::{Heads, Reach};
    use super::{Attend, Scratch, by_definition};

    #[test]
    fn attention_is_that_of_the_paper_for_any_size_and_reach() {
        let window = Reach::window(5, 5);
        let few = [1, 5, 32, 33].map(|first| Reach::ALL.among(first));
        let more = [Reach::BACK.among(20), window.among(40), Reach::window(4, 0).among(3)];
        let whole = [Reach::ALL, Reach::BACK, window, Reach::window(3, 0)];
        for reach in whole.into_iter().chain(few).chain(more) {
            for (tokens, queries, keys, dim) in
                [(1, 1, 1, 1), (3, 2, 2, 8), (5, 3, 1, 33), (31, 1, 1, 32), (70, 4, 2, 64), (99, 2, 2, 6)]
            {
                let heads = Heads { queries, keys, dim };
                let qkv = numbers(tokens * heads.wide(), tokens);
                let bias = numbers(heads.wide(), 77);
                let mut found = vec![0.0; tokens * heads.out()];
                let mut scratch = Scratch::default();
                // Left-overs of another text must not matter.
                for _ in 0..2 {
                    let (relative, out) = (None, &mut found[..]);
                    Attend { qkv: &qkv, bias: &bias, heads, reach, relative, out, scratch: &mut scratch }
                        .run();
                    scratch.key.fill(f32::NAN);
                    scratch.value.fill(f32::NAN);
                    scratch.scores.fill(f32::NAN);
                }
                let whole: Vec<f32> = qkv.iter().zip(bias.iter().cycle()).map(|(x, b)| x + b).collect();
                for (got, want) in found.iter().zip(by_definition(&whole, heads, reach)) {
                    let error = (f64::from(*got) - want).abs();
                    assert!(error < 2e-4, "{tokens} {heads:?} {reach:?}: {got} {want}");
                }
            }
        }
    }
}
