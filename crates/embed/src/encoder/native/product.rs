//! A matrix product at the level its matrix was packed for.

use super::super::kernels::{self, Activation};
use super::level::Instructions;
use super::matrix::{Matrix, words};
use super::rows::Rows;

/// Rows of a tile of the AVX-512 kernels.
pub(super) const MOST_ROWS: usize = 12;

/// Cuts rows into tiles of about the same height: `(first, height)` of each.
pub(super) fn tiles(rows: usize) -> impl Iterator<Item = (usize, usize)> {
    let count = rows.div_ceil(MOST_ROWS).max(1);
    let (height, higher) = (rows / count, rows % count);
    (0..count).filter_map(move |tile| {
        let first = tile * height + tile.min(higher);
        let height = height + usize::from(tile < higher);
        (height > 0).then_some((first, height))
    })
}

/// activation(values Wᵀ + bias): a row of outputs for each row of inputs.
///
/// `values` holds rows of the inputs of the matrix; `out` has room for as many
/// rows of its outputs.
pub(super) fn product(
    values: &[f32],
    matrix: &Matrix,
    activation: Option<Activation>,
    rows: &mut Rows,
    out: &mut [f32],
) {
    rows.fill(values, matrix);
    multiply(rows, values.len() / matrix.inputs, matrix, activation, out);
}

/// The same with `count` rows that were filled for the matrix.
pub(super) fn multiply(
    rows: &Rows,
    count: usize,
    matrix: &Matrix,
    activation: Option<Activation>,
    out: &mut [f32],
) {
    let out = &mut out[..count * matrix.outputs];
    match matrix.level {
        #[cfg(target_arch = "x86_64")]
        level if level >= Instructions::Avx512 => {
            super::avx512::product(rows, count, matrix, activation, out);
        }
        #[cfg(target_arch = "x86_64")]
        Instructions::Avx2 => {
            super::avx2::product(rows, count, matrix, out);
            finish(rows, matrix, activation, out);
        }
        _ => {
            portable(rows, count, matrix, out);
            finish(rows, matrix, activation, out);
        }
    }
}

/// Fills the second of `rows` with activation(up(values)), for the product with
/// `down` that follows.
///
/// `wide` has room for as many outputs of `up`.
pub(super) fn widen(
    values: &[f32],
    (up, activation, down): (&Matrix, Activation, &Matrix),
    [rows, next]: &mut [Rows; 2],
    wide: &mut [f32],
) {
    let count = values.len() / up.inputs;
    #[cfg(target_arch = "x86_64")]
    if up.level >= Instructions::Amx && [up.format, down.format] == [super::rows::Format::Bf16; 2] {
        use super::tiled_product::{Outputs, product};
        rows.fill(values, up);
        next.reserve(count, down);
        return product(rows, count, up, Some(activation), Outputs::Rows(next));
    }
    product(values, up, Some(activation), rows, wide);
    next.fill(&wide[..count * up.outputs], down);
}

/// The sums by the `gemm` crate, which has kernels for most processors.
#[allow(unsafe_code)] // It takes pointers and strides.
fn portable(rows: &Rows, count: usize, matrix: &Matrix, out: &mut [f32]) {
    let (inputs, outputs) = (matrix.inputs, matrix.outputs);
    assert!(out.len() == count * outputs && words(&rows.words).len() >= count * rows.stride);
    assert!(words(&matrix.words).len() >= outputs * inputs);
    // SAFETY: the lengths were checked above; words of the portable level are
    // f32, row by row.
    unsafe {
        gemm::gemm(
            count,
            outputs,
            inputs,
            out.as_mut_ptr(),
            1,
            outputs as isize,
            false,
            rows.words.as_ptr().cast::<f32>(),
            1,
            rows.stride as isize,
            matrix.words.as_ptr().cast::<f32>(),
            inputs as isize,
            1,
            0.0,
            1.0,
            false,
            false,
            false,
            gemm::Parallelism::None,
        );
    }
}

/// Scales, bias and activation over sums in memory.
fn finish(rows: &Rows, matrix: &Matrix, activation: Option<Activation>, out: &mut [f32]) {
    use super::level::Precision;
    let outputs = matrix.outputs;
    if matrix.precision == Precision::Int8 {
        for (row, scale) in out.chunks_exact_mut(outputs).zip(&rows.scale) {
            for (x, by) in row.iter_mut().zip(&matrix.scale) {
                *x *= scale * by;
            }
        }
    }
    let bias = &matrix.bias[..outputs];
    match activation {
        Some(activation) => kernels::bias_activate(out, bias, activation),
        None => kernels::bias_only(out, bias),
    }
}

#[cfg(test)]
mod tests {
    use super::super::level::{Instructions, Precision};
    use super::super::matrix::Matrix;
    use super::super::rows::{Rows, bf16_value, range};
    use super::{MOST_ROWS, product, tiles};
    use crate::encoder::kernels::{Activation, numbers};

    fn levels() -> impl Iterator<Item = Instructions> {
        use Instructions::{Amx, Avx2, Avx512, Bf16, Portable, Vnni};
        [Portable, Avx2, Avx512, Vnni, Bf16, Amx].into_iter().filter(|level| level.resolve().is_ok())
    }

    /// What the weights and a row are worth in a precision.
    fn as_kept(values: &[f32], precision: Precision) -> Vec<f32> {
        values.iter().map(|&x| if precision == Precision::Bf16 { bf16_value(x) } else { x }).collect()
    }

    #[test]
    fn tiles_cover_all_rows_once_and_differ_by_one_at_most() {
        for rows in 0..200 {
            let all: Vec<(usize, usize)> = tiles(rows).collect();
            let mut next = 0;
            for &(first, height) in &all {
                assert_eq!(first, next);
                assert!((1..=MOST_ROWS).contains(&height));
                next += height;
            }
            assert_eq!(next, rows);
        }
    }

    #[test]
    fn products_are_those_of_five_lines_at_every_level_and_size() {
        let sizes = [
            (1, 1, 1),
            (2, 3, 5),
            (7, 31, 33),
            (12, 64, 32),
            (13, 65, 40),
            (26, 384, 70),
            (5, 17, 96),
            (33, 96, 64),
            (65, 200, 33),
        ];
        for level in levels() {
            for precision in [Precision::F32, Precision::Bf16] {
                for (rows, inputs, outputs) in sizes {
                    let (x, w) = (numbers(rows * inputs, 1), numbers(outputs * inputs, 2));
                    let bias = numbers(outputs, 3);
                    let matrix = Matrix::new(&w, &bias, precision, level);
                    let mut out = vec![f32::NAN; rows * outputs];
                    product(&x, &matrix, None, &mut Rows::default(), &mut out);
                    let (x, w) = (as_kept(&x, precision), as_kept(&w, precision));
                    for row in 0..rows {
                        for output in 0..outputs {
                            let pairs =
                                x[row * inputs..][..inputs].iter().zip(&w[output * inputs..][..inputs]);
                            let sum: f64 = pairs.map(|(a, b)| f64::from(*a) * f64::from(*b)).sum();
                            let want = sum + f64::from(bias[output]);
                            let got = f64::from(out[row * outputs + output]);
                            let error = (got - want).abs();
                            assert!(
                                error < 1e-4 * inputs as f64,
                                "{level:?} {precision:?} {rows}x{inputs}x{outputs}: {got} {want}"
                            );
                        }
                    }
                }
            }
        }
    }

    #[test]
    fn integer_products_are_exact_before_they_are_scaled() {
        for level in levels() {
            for (rows, inputs, outputs) in [(1, 1, 1), (3, 7, 5), (13, 66, 33), (12, 1536, 40)] {
                let (x, w) = (numbers(rows * inputs, 4), numbers(outputs * inputs, 5));
                let bias = numbers(outputs, 6);
                let matrix = Matrix::new(&w, &bias, Precision::Int8, level);
                let mut out = vec![f32::NAN; rows * outputs];
                product(&x, &matrix, None, &mut Rows::default(), &mut out);
                for row in 0..rows {
                    let row_values = &x[row * inputs..][..inputs];
                    let (scale, zero) = range(row_values);
                    for output in 0..outputs {
                        let by = matrix.scale[output];
                        let sum: f64 = row_values
                            .iter()
                            .zip(&w[output * inputs..][..inputs])
                            .map(|(a, b)| {
                                let a = ((a / scale).round_ties_even() + zero).clamp(0.0, 255.0) - zero;
                                f64::from(a) * f64::from((b / by).round().clamp(-127.0, 127.0))
                            })
                            .sum();
                        let want = sum * f64::from(scale) * f64::from(by) + f64::from(bias[output]);
                        let got = f64::from(out[row * outputs + output]);
                        // One step more or less where a value lies between two integers.
                        let step = f64::from(scale) * f64::from(by) * 127.0;
                        assert!(
                            (got - want).abs() < 3.0 * step + 1e-3 * want.abs(),
                            "{level:?} {rows}x{inputs}x{outputs}: {got} {want}"
                        );
                    }
                }
            }
        }
    }

    #[test]
    fn integers_lose_less_than_a_hundredth_of_the_length_of_a_product() {
        for level in levels() {
            let (rows, inputs, outputs) = (9, 384, 48);
            let (x, w) = (numbers(rows * inputs, 7), numbers(outputs * inputs, 8));
            let of = |precision| {
                let matrix = Matrix::new(&w, &vec![0.0; outputs], precision, level);
                let mut out = vec![0.0; rows * outputs];
                product(&x, &matrix, None, &mut Rows::default(), &mut out);
                out
            };
            let (exact, short) = (of(Precision::F32), of(Precision::Int8));
            let lost: f32 = exact.iter().zip(&short).map(|(a, b)| (a - b) * (a - b)).sum();
            let all: f32 = exact.iter().map(|x| x * x).sum();
            assert!((lost / all).sqrt() < 0.01, "{level:?}: {}", (lost / all).sqrt());
        }
    }

    #[test]
    fn activations_after_a_product_are_those_of_the_loops() {
        let xs: Vec<f32> = (-2000..2000).map(|i| i as f32 / 250.0).chain([-50.0, 50.0, f32::NAN]).collect();
        for level in levels() {
            for activation in [Activation::Gelu, Activation::GeluTanh, Activation::Relu, Activation::Silu] {
                for (precision, close) in [(Precision::F32, 2e-6), (Precision::Bf16, 1e-4)] {
                    let xs = as_kept(&xs, precision);
                    let matrix = Matrix::new(&[1.0], &[0.0], precision, level);
                    let mut got = vec![0.0; xs.len()];
                    product(&xs, &matrix, Some(activation), &mut Rows::default(), &mut got);
                    let mut want = xs.clone();
                    crate::encoder::kernels::bias_activate(&mut want, &[0.0], activation);
                    for (x, (got, want)) in xs.iter().zip(got.iter().zip(&want)) {
                        let same = (got - want).abs() < close * want.abs().max(1.0);
                        assert!(
                            same || got.is_nan() && want.is_nan(),
                            "{level:?} {precision:?} {activation:?} {x}: {got} {want}"
                        );
                    }
                }
            }
        }
    }

    #[test]
    fn what_is_not_a_number_stays_so_in_each_precision() {
        for level in levels() {
            for precision in [Precision::F32, Precision::Bf16, Precision::Int8] {
                for (x, w) in [(f32::NAN, 1.0), (1.0, f32::NAN)] {
                    let matrix = Matrix::new(&[1.0, w, 1.0], &[0.0], precision, level);
                    let mut out = [0.0];
                    product(&[1.0, x, 1.0], &matrix, None, &mut Rows::default(), &mut out);
                    assert!(out[0].is_nan(), "{level:?} {precision:?}: {out:?}");
                }
            }
        }
    }
}
