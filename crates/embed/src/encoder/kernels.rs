//! The loops between the matrix products.
//!
//! They are plain loops over slices; `pulp` compiles each for the vector
//! widths of the processor family and picks one at run time. Blocks have fixed
//! sizes so that the compiler keeps them in registers. Inputs are f32, rows
//! follow each other without gaps.

// A function that is not inlined would be compiled for the smallest width.
#![allow(clippy::inline_always)]

use pulp::{Arch, Simd};

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
    /// x σ(x), with the logistic function.
    Silu,
}

/// Scale and shift of a norm.
pub(super) struct Norm {
    pub(super) weight: Vec<f32>,
    pub(super) bias: Vec<f32>,
    pub(super) eps: f32,
    /// Whether the mean is taken off first; without it the norm is that of the
    /// root mean square.
    pub(super) centred: bool,
}

/// a b + c, in one instruction where there is one. Elsewhere `mul_add` would
/// be a slow function call.
#[inline(always)]
pub(super) fn fused<S: Simd>(a: f32, b: f32, c: f32) -> f32 {
    if S::IS_SCALAR { a * b + c } else { a.mul_add(b, c) }
}

/// Replaces a row by the exponentials of its distances to its maximum, and
/// gives their sum. The length is a multiple of `LANES`.
#[inline(always)]
pub(super) fn exp_sum(row: &mut [f32]) -> f32 {
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
    match activation {
        Activation::Gelu => map(rows, bias, gelu),
        Activation::GeluTanh => map(rows, bias, gelu_tanh),
        Activation::Relu => map(rows, bias, relu),
        Activation::Silu => map(rows, bias, silu),
    }
}

#[inline(always)]
fn gelu(x: f32) -> f32 {
    0.5 * x * (1.0 + erf(x * std::f32::consts::FRAC_1_SQRT_2))
}

#[inline(always)]
fn gelu_tanh(x: f32) -> f32 {
    // x sigmoid(2y) is x (1 + tanh y) / 2.
    let y = 0.797_884_6 * (x + 0.044_715 * x * x * x);
    let y = if y < -40.0 { -40.0 } else { y };
    x / (1.0 + exp(-2.0 * y))
}

#[inline(always)]
fn relu(x: f32) -> f32 {
    if x < 0.0 { 0.0 } else { x }
}

#[inline(always)]
fn silu(x: f32) -> f32 {
    let y = if x < -80.0 { -80.0 } else { x };
    x / (1.0 + exp(-y))
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

/// The activation of the first half of each row times its second half; `out`
/// has `wide` values per row.
pub(super) fn gate(rows: &[f32], wide: usize, activation: Activation, out: &mut [f32]) {
    match activation {
        Activation::Gelu => multiply(rows, wide, out, gelu),
        Activation::GeluTanh => multiply(rows, wide, out, gelu_tanh),
        Activation::Relu => multiply(rows, wide, out, relu),
        Activation::Silu => multiply(rows, wide, out, silu),
    }
}

fn multiply(rows: &[f32], wide: usize, out: &mut [f32], function: impl Fn(f32) -> f32) {
    Arch::new().dispatch(
        #[inline(always)]
        || {
            for (row, out) in rows.chunks_exact(2 * wide).zip(out.chunks_exact_mut(wide)) {
                let (gate, up) = row.split_at(wide);
                for (out, (gate, up)) in out.iter_mut().zip(gate.iter().zip(up)) {
                    *out = function(*gate) * up;
                }
            }
        },
    );
}

/// Adds `other`, value by value.
pub(super) fn add(rows: &mut [f32], other: &[f32]) {
    Arch::new().dispatch(
        #[inline(always)]
        || {
            for (x, o) in rows.iter_mut().zip(other) {
                *x += o;
            }
        },
    );
}

/// Each row normalized; `out` is as long as `rows`.
pub(super) fn norm(rows: &[f32], norm: &Norm, out: &mut [f32]) {
    Arch::new().dispatch(
        #[inline(always)]
        || {
            let hidden = norm.weight.len();
            for (row, out) in rows.chunks_exact(hidden).zip(out.chunks_exact_mut(hidden)) {
                out.copy_from_slice(row);
                norm_row(out, norm);
            }
        },
    );
}

/// Normalizes parts of each row by themselves, in place: as many from the column
/// `from` on as there are in `parts`. A row has `wide` values.
pub(super) fn norm_parts(rows: &mut [f32], wide: usize, from: usize, parts: usize, norm: &Norm) {
    Arch::new().dispatch(
        #[inline(always)]
        || {
            let width = norm.weight.len();
            for row in rows.chunks_exact_mut(wide) {
                for part in row[from..from + parts * width].chunks_exact_mut(width) {
                    norm_row(part, norm);
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
    let mean = if norm.centred { sum(row, |x| x) / count } else { 0.0 };
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

/// Numbers between -2 and 2 from a formula, for tests.
#[cfg(test)]
pub(super) fn numbers(count: usize, seed: usize) -> Vec<f32> {
    (0..count).map(|i| ((i * 7919 + seed * 104_729) % 4001) as f32 / 1000.0 - 2.0).collect()
}

#[cfg(test)]
mod tests {
    use super::{
        Activation, Norm, add, add_norm, bias_activate, exp_sum, gate, norm, norm_parts, normalize, numbers,
    };

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
        check(Activation::Silu, &|x| x / (1.0 + (-x).exp()));
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
            let norm =
                Norm { weight: numbers(hidden, 3), bias: numbers(hidden, 4), eps: 1e-5, centred: true };
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
        for activation in [Activation::Gelu, Activation::GeluTanh, Activation::Relu, Activation::Silu] {
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

    #[test]
    fn a_norm_of_the_root_mean_square_leaves_the_mean() {
        let start = numbers(2 * 24, 6);
        let of = Norm { weight: numbers(24, 7), bias: vec![0.0; 24], eps: 1e-6, centred: false };
        let mut rows = vec![0.0; start.len()];
        norm(&start, &of, &mut rows);
        for (row, found) in start.chunks(24).zip(rows.chunks(24)) {
            let square = row.iter().map(|x| f64::from(*x).powi(2)).sum::<f64>() / 24.0;
            for (at, found) in found.iter().enumerate() {
                let want = f64::from(row[at]) / (square + 1e-6).sqrt() * f64::from(of.weight[at]);
                assert!((f64::from(*found) - want).abs() < 1e-5, "{found} {want}");
            }
        }
    }

    #[test]
    fn parts_of_a_row_are_normalized_by_themselves_and_others_stay() {
        let of = Norm { weight: numbers(4, 7), bias: vec![0.0; 4], eps: 1e-6, centred: false };
        let start = numbers(2 * 14, 6);
        let mut rows = start.clone();
        norm_parts(&mut rows, 14, 2, 2, &of);
        for (row, found) in start.chunks(14).zip(rows.chunks(14)) {
            let mut want = row.to_vec();
            for from in [2, 6] {
                norm(&row[from..from + 4], &of, &mut want[from..from + 4]);
            }
            assert_eq!(found, want);
        }
    }

    #[test]
    fn a_gate_multiplies_what_it_lets_through() {
        let (rows, wide) = (numbers(3 * 2 * 19, 8), 19);
        for activation in [Activation::Gelu, Activation::GeluTanh, Activation::Relu, Activation::Silu] {
            let mut out = vec![f32::NAN; 3 * wide];
            gate(&rows, wide, activation, &mut out);
            for (row, out) in rows.chunks(2 * wide).zip(out.chunks(wide)) {
                let mut want = row[..wide].to_vec();
                bias_activate(&mut want, &[0.0], activation);
                for (at, (out, want)) in out.iter().zip(want).enumerate() {
                    assert!((out - want * row[wide + at]).abs() < 1e-6, "{activation:?}");
                }
            }
        }
        let mut sum = vec![1.0, 2.0];
        add(&mut sum, &[0.5, -2.0]);
        assert_eq!(sum, [1.5, 0.0]);
    }
}
