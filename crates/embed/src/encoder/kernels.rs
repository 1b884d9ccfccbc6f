//! The loops between the matrix products.
//!
//! They are plain loops over slices; `pulp` compiles each for the vector
//! widths of the processor family and picks one at run time. Blocks have fixed
//! sizes so that the compiler keeps them in registers. Inputs are f32, rows
//! follow each other without gaps.

// A function that is not inlined would be compiled for the smallest width.
#![allow(clippy::inline_always)]

use pulp::{Arch, Simd, WithSimd};

use super::relative::Relative;

/// Columns of a block of the attention: two registers of 16 lanes.
const COLS: usize = 32;
/// Rows of a block: 4 x 2 accumulators leave room for operands.
const ROWS: usize = 4;
/// Partial sums; a float sum in one variable cannot be vectorised.
const LANES: usize = 16;

/// The function between the two layers of the feed-forward part.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Activation {
    /// x Φ(x), with the error function.
    Gelu,
    /// Its approximation with a hyperbolic tangent.
    GeluTanh,
    /// max(x, 0).
    Relu,
}

/// Scale and shift of a layer norm.
pub(super) struct Norm {
    pub(super) weight: Vec<f32>,
    pub(super) bias: Vec<f32>,
    pub(super) eps: f32,
}

/// Memory the attention reuses from text to text.
#[derive(Default)]
pub(super) struct Scratch {
    query: Vec<f32>,
    key: Vec<f32>,
    value: Vec<f32>,
    scores: Vec<f32>,
}

/// Multi-head attention of one text over itself.
///
/// `qkv` has three times `heads * dim` values per token: query, key, value;
/// `bias` is added to each, and `relative` to the scores. Queries are scaled
/// already; the first `seen` tokens are seen. `out` has `heads * dim`
/// values per token.
pub(super) struct Attend<'a> {
    pub(super) qkv: &'a [f32],
    pub(super) bias: &'a [f32],
    pub(super) heads: usize,
    pub(super) dim: usize,
    pub(super) relative: Option<&'a Relative>,
    pub(super) seen: usize,
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
        let hidden = self.heads * self.dim;
        let tokens = self.out.len() / hidden;
        let cols = tokens.next_multiple_of(COLS);
        let width = self.dim.next_multiple_of(COLS);
        self.scratch.query.resize(tokens * self.dim, 0.0);
        self.scratch.scores.resize(ROWS * cols, 0.0);
        // The padding must read as zero whatever the text before left there.
        self.scratch.key.clear();
        self.scratch.key.resize(self.dim * cols, 0.0);
        self.scratch.value.clear();
        self.scratch.value.resize(tokens * width, 0.0);
        for head in 0..self.heads {
            self.unpack(head, hidden, cols, width);
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
    /// `width`.
    #[inline(always)]
    fn unpack(&mut self, head: usize, hidden: usize, cols: usize, width: usize) {
        let dim = self.dim;
        let at = head * dim;
        let bias = |part: usize| &self.bias[part * hidden + at..][..dim];
        for (token, row) in self.qkv.chunks_exact(3 * hidden).enumerate() {
            let part = |part: usize| row[part * hidden + at..][..dim].iter().zip(bias(part));
            let query = &mut self.scratch.query[token * dim..][..dim];
            for (into, (x, b)) in query.iter_mut().zip(part(0)) {
                *into = x + b;
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
        let (dim, hidden) = (self.dim, self.heads * self.dim);
        let scratch = &mut *self.scratch;
        let queries: [&[f32]; ROWS] = rows.map(|row| &scratch.query[row * dim..][..dim]);
        for col in (0..cols).step_by(COLS) {
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
        for (row, scale) in scratch.scores.chunks_exact_mut(cols).zip(&mut scale) {
            row[self.seen..].fill(f32::NEG_INFINITY);
            *scale = 1.0 / exp_sum(row);
        }
        let weights: [&[f32]; ROWS] = std::array::from_fn(|row| &scratch.scores[row * cols..][..tokens]);
        for col in (0..width).step_by(COLS) {
            let sums = product::<S>(weights, &scratch.value[col..], width, tokens);
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

/// a b + c, in one instruction where there is one. Elsewhere `mul_add` would
/// be a slow function call.
#[inline(always)]
fn fused<S: Simd>(a: f32, b: f32, c: f32) -> f32 {
    if S::IS_SCALAR { a * b + c } else { a.mul_add(b, c) }
}

/// Replaces a row by the exponentials of its distances to its maximum, and
/// gives their sum. The length is a multiple of `LANES`.
#[inline(always)]
fn exp_sum(row: &mut [f32]) -> f32 {
    let mut most = [f32::NEG_INFINITY; LANES];
    for chunk in row.chunks_exact(LANES) {
        for (most, x) in most.iter_mut().zip(chunk) {
            *most = if *x > *most { *x } else { *most };
        }
    }
    let most = most.into_iter().fold(f32::NEG_INFINITY, f32::max);
    let mut sums = [0.0; LANES];
    for chunk in row.chunks_exact_mut(LANES) {
        for (sum, x) in sums.iter_mut().zip(chunk) {
            *x = exp(*x - most);
            *sum += *x;
        }
    }
    sums.into_iter().sum()
}

/// eˣ for x <= 88, to 2 units in the last place; tiny results become 1e-38.
#[inline(always)]
fn exp(x: f32) -> f32 {
    // Adding 1.5 * 2^23 rounds to an integer, which then stands in the low bits.
    const ROUND: f32 = 12_582_912.0;
    const LN_2_HIGH: f32 = 0.693_359_4;
    const LN_2_LOW: f32 = -2.121_944_4e-4;
    // Written so that NaN stays NaN: it must reach the check at the end.
    let x = if x < -87.0 { -87.0 } else { x };
    let shifted = x * std::f32::consts::LOG2_E + ROUND;
    let whole = shifted - ROUND;
    let r = (x - whole * LN_2_HIGH) - whole * LN_2_LOW;
    let series = 1.0 / 720.0;
    let series = series * r + 1.0 / 120.0;
    let series = series * r + 1.0 / 24.0;
    let series = series * r + 1.0 / 6.0;
    let series = series * r + 0.5;
    let series = series * r + 1.0;
    let series = series * r + 1.0;
    let power = f32::from_bits((shifted.to_bits() << 23).wrapping_add(1.0f32.to_bits()));
    series * power
}

/// The error function, as a quotient of polynomials on [-4, 4].
#[inline(always)]
fn erf(x: f32) -> f32 {
    let x = if x < -4.0 { -4.0 } else { x };
    let x = if x > 4.0 { 4.0 } else { x };
    let s = x * x;
    let p = -2.726_142_4e-10;
    let p = p * s + 2.770_681_4e-8;
    let p = p * s - 2.101_024e-6;
    let p = p * s - 5.692_506_3e-5;
    let p = p * s - 7.349_906_3e-4;
    let p = p * s - 2.954_6e-3;
    let p = p * s - 1.609_603_3e-2;
    let q = -1.456_607_2e-5;
    let q = q * s - 2.133_740_6e-4;
    let q = q * s - 1.682_827e-3;
    let q = q * s - 7.373_329e-3;
    let q = q * s - 1.426_473_9e-2;
    x * p / q
}

/// Adds a bias to each row, then applies the activation.
pub(super) fn bias_activate(rows: &mut [f32], bias: &[f32], activation: Activation) {
    const HALF_ROOT: f32 = std::f32::consts::FRAC_1_SQRT_2;
    match activation {
        Activation::Gelu => map(rows, bias, |x| 0.5 * x * (1.0 + erf(x * HALF_ROOT))),
        Activation::GeluTanh => map(rows, bias, |x| {
            // x sigmoid(2y) is x (1 + tanh y) / 2.
            let y = 0.797_884_6 * (x + 0.044_715 * x * x * x);
            let y = if y < -40.0 { -40.0 } else { y };
            x / (1.0 + exp(-2.0 * y))
        }),
        Activation::Relu => map(rows, bias, |x| if x < 0.0 { 0.0 } else { x }),
    }
}

/// Adds a bias to each row.
pub(super) fn bias_only(rows: &mut [f32], bias: &[f32]) {
    map(rows, bias, |x| x);
}

fn map(rows: &mut [f32], bias: &[f32], function: impl Fn(f32) -> f32) {
    Arch::new().dispatch(
        #[inline(always)]
        || {
            for row in rows.chunks_exact_mut(bias.len()) {
                for (x, b) in row.iter_mut().zip(bias) {
                    *x = function(*x + *b);
                }
            }
        },
    );
}

/// Adds a bias and the rows of `other` to each row, then normalizes the row.
pub(super) fn add_norm(rows: &mut [f32], bias: &[f32], other: &[f32], norm: &Norm) {
    Arch::new().dispatch(
        #[inline(always)]
        || {
            let hidden = norm.weight.len();
            let pairs = rows.chunks_exact_mut(hidden).zip(other.chunks_exact(hidden));
            for (row, other) in pairs {
                for ((x, b), o) in row.iter_mut().zip(bias).zip(other) {
                    *x += b + o;
                }
                norm_row(row, norm);
            }
        },
    );
}

#[inline(always)]
fn norm_row(row: &mut [f32], norm: &Norm) {
    let count = row.len() as f32;
    let mean = sum(row, |x| x) / count;
    let variance = sum(row, |x| (x - mean) * (x - mean)) / count;
    let scale = 1.0 / (variance + norm.eps).sqrt();
    for ((x, w), b) in row.iter_mut().zip(&norm.weight).zip(&norm.bias) {
        *x = (*x - mean) * scale * w + b;
    }
}

/// Gives a vector length 1; one shorter than 1e-12 is divided by that.
pub(super) fn normalize(vector: &mut [f32]) {
    let length = sum(vector, |x| x * x).sqrt().max(1e-12);
    for x in vector {
        *x /= length;
    }
}

#[inline(always)]
fn sum(values: &[f32], term: impl Fn(f32) -> f32) -> f32 {
    let mut sums = [0.0; LANES];
    let chunks = values.chunks_exact(LANES);
    let rest: f32 = chunks.remainder().iter().map(|&x| term(x)).sum();
    for chunk in chunks {
        for (sum, x) in sums.iter_mut().zip(chunk) {
            *sum += term(*x);
        }
    }
    sums.into_iter().sum::<f32>() + rest
}

#[cfg(test)]
mod tests {
    use super::{Activation, Attend, Norm, Scratch, add_norm, bias_activate, exp_sum, normalize};

    /// Numbers between -2 and 2 from a formula.
    fn numbers(count: usize, seed: usize) -> Vec<f32> {
        (0..count).map(|i| ((i * 7919 + seed * 104_729) % 4001) as f32 / 1000.0 - 2.0).collect()
    }

    /// The error function by its power series.
    fn erf(x: f64) -> f64 {
        let (mut sum, mut term) = (0.0, x);
        for n in 0..200 {
            sum += term / f64::from(2 * n + 1);
            term *= -x * x / f64::from(n + 1);
        }
        sum * std::f64::consts::FRAC_2_SQRT_PI
    }

    #[test]
    fn attention_is_that_of_the_paper_for_any_size() {
        let sizes =
            [(1, 1, 1, 1), (3, 2, 2, 8), (5, 5, 3, 33), (31, 31, 1, 32), (40, 7, 1, 32), (70, 70, 2, 64)];
        for (tokens, seen, heads, dim) in sizes {
            let hidden = heads * dim;
            let qkv = numbers(tokens * 3 * hidden, tokens);
            let bias = numbers(3 * hidden, 77);
            let mut out = vec![0.0; tokens * hidden];
            let mut scratch = Scratch::default();
            // Left-overs of another text must not matter.
            for _ in 0..2 {
                let (relative, out) = (None, &mut out[..]);
                Attend { qkv: &qkv, bias: &bias, heads, dim, relative, seen, out, scratch: &mut scratch }
                    .run();
                scratch.key.fill(f32::NAN);
                scratch.value.fill(f32::NAN);
            }
            let get = |token: usize, part: usize, at: usize| {
                f64::from(qkv[token * 3 * hidden + part * hidden + at]) + f64::from(bias[part * hidden + at])
            };
            for token in 0..tokens {
                for at in 0..hidden {
                    let head = at / dim * dim;
                    let weights: Vec<f64> = (0..seen)
                        .map(|other| {
                            (head..head + dim).map(|d| get(token, 0, d) * get(other, 1, d)).sum::<f64>()
                        })
                        .collect();
                    let most = weights.iter().copied().fold(f64::MIN, f64::max);
                    let weights: Vec<f64> = weights.iter().map(|w| (w - most).exp()).collect();
                    let total: f64 = weights.iter().sum();
                    let want: f64 = (0..seen).map(|o| weights[o] * get(o, 2, at) / total).sum();
                    let got = f64::from(out[token * hidden + at]);
                    assert!((got - want).abs() < 2e-4, "{tokens} {heads} {dim}: {got} {want}");
                }
            }
        }
    }

    #[test]
    fn activations_are_exact_to_two_millionths() {
        let xs: Vec<f32> = (-12_000..=12_000).map(|i| i as f32 / 1000.0).collect();
        let check = |activation, want: &dyn Fn(f64) -> f64| {
            let mut got = xs.clone();
            bias_activate(&mut got, &[0.0], activation);
            for (x, got) in xs.iter().zip(got) {
                let want = want(f64::from(*x));
                let error = (f64::from(got) - want).abs();
                assert!(error < 2e-6 * want.abs().max(1.0), "{activation:?} {x}: {got} {want}");
            }
        };
        check(Activation::Relu, &|x| x.max(0.0));
        check(Activation::Gelu, &|x| {
            let inner = x / std::f64::consts::SQRT_2;
            // The series loses its digits where the function is 1 already.
            let erf = if inner.abs() > 4.5 { inner.signum() } else { erf(inner) };
            0.5 * x * (1.0 + erf)
        });
        check(Activation::GeluTanh, &|x| {
            let inner = (2.0 / std::f64::consts::PI).sqrt() * (x + 0.044_715 * x.powi(3));
            0.5 * x * (1.0 + inner.tanh())
        });
    }

    #[test]
    fn exponentials_are_those_of_the_standard_library() {
        let xs: Vec<f32> = (0..8000).map(|i| -(i as f32) / 100.0).collect();
        let mut got = xs.clone();
        exp_sum(&mut got);
        for (x, got) in xs.iter().zip(got) {
            assert!((got - x.exp()).abs() <= 4e-7 * x.exp(), "{x}: {got}");
        }
    }

    #[test]
    fn a_normed_row_has_mean_zero_and_variance_one_before_scale_and_shift() {
        for hidden in [1, 7, 16, 40, 384] {
            let (other, bias) = (numbers(2 * hidden, 1), numbers(hidden, 2));
            let norm = Norm { weight: numbers(hidden, 3), bias: numbers(hidden, 4), eps: 1e-5 };
            let start = numbers(2 * hidden, 5);
            let mut rows = start.clone();
            add_norm(&mut rows, &bias, &other, &norm);
            for row in 0..2 {
                let x: Vec<f64> = (0..hidden)
                    .map(|i| {
                        f64::from(start[row * hidden + i])
                            + f64::from(bias[i])
                            + f64::from(other[row * hidden + i])
                    })
                    .collect();
                let mean = x.iter().sum::<f64>() / hidden as f64;
                let variance = x.iter().map(|x| (x - mean).powi(2)).sum::<f64>() / hidden as f64;
                for i in 0..hidden {
                    let want = (x[i] - mean) / (variance + 1e-5).sqrt() * f64::from(norm.weight[i])
                        + f64::from(norm.bias[i]);
                    assert!((f64::from(rows[row * hidden + i]) - want).abs() < 1e-4);
                }
            }
        }
    }

    #[test]
    fn what_is_not_a_number_stays_so() {
        let mut rows = vec![f32::NAN; 32];
        exp_sum(&mut rows);
        assert!(rows.iter().all(|x| x.is_nan()));
        for activation in [Activation::Gelu, Activation::GeluTanh, Activation::Relu] {
            let mut rows = vec![f32::NAN; 3];
            bias_activate(&mut rows, &[0.0], activation);
            assert!(rows.iter().all(|x| x.is_nan()), "{activation:?}");
        }
    }

    #[test]
    fn a_zero_vector_is_left_as_it_is() {
        let mut vector = vec![0.0; 3];
        normalize(&mut vector);
        assert_eq!(vector, [0.0; 3]);
    }
}
