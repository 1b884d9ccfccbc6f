//! Matrix products with AVX2 and FMA: 6 rows times half a panel, whose 12 sums
//! leave room for operands among 16 registers.

#![allow(unsafe_code)] // Loads and stores take pointers.

use core::arch::x86_64::{
    __m256, _mm256_fmadd_ps, _mm256_loadu_ps, _mm256_set1_ps, _mm256_setzero_ps, _mm256_storeu_ps,
};

use super::matrix::{Matrix, WIDTH};
use super::rows::Rows;

const MOST_ROWS: usize = 6;

/// The sums of a product, without scales and bias.
pub(super) fn product(rows: &Rows, count: usize, matrix: &Matrix, out: &mut [f32]) {
    assert!(out.len() >= count * matrix.outputs && rows.words.len() * 16 >= count * rows.stride);
    assert!(matrix.words.len() * 16 >= matrix.outputs.div_ceil(WIDTH) * WIDTH * matrix.steps());
    // SAFETY: the level of the matrix was found on this processor.
    unsafe { product_rows(rows, count, matrix, out) }
}

#[target_feature(enable = "avx2,fma")]
fn product_rows(rows: &Rows, count: usize, matrix: &Matrix, out: &mut [f32]) {
    let steps = matrix.steps();
    for column in (0..matrix.outputs).step_by(16) {
        let (panel, half) = (column / WIDTH, column % WIDTH);
        for row in (0..count).step_by(MOST_ROWS) {
            macro_rules! tile {
                ($mr:literal) => {{
                    // SAFETY: `count` rows were filled for this matrix, whose panels
                    // have `steps` rows of `WIDTH` words.
                    let sums: [[__m256; 2]; $mr] = unsafe {
                        let from = rows.words.as_ptr().cast::<f32>().add(row * rows.stride);
                        let at = panel * steps * WIDTH + half;
                        let columns = matrix.words.as_ptr().cast::<f32>().add(at);
                        kernel(steps, from, rows.stride, columns)
                    };
                    for (at, sums) in sums.iter().enumerate() {
                        let mut values = [0.0; 16];
                        // SAFETY: sixteen values.
                        unsafe {
                            _mm256_storeu_ps(values.as_mut_ptr(), sums[0]);
                            _mm256_storeu_ps(values.as_mut_ptr().add(8), sums[1]);
                        }
                        let take = 16.min(matrix.outputs - column);
                        out[(row + at) * matrix.outputs + column..][..take].copy_from_slice(&values[..take]);
                    }
                }};
            }
            match count - row {
                1 => tile!(1),
                2 => tile!(2),
                3 => tile!(3),
                4 => tile!(4),
                5 => tile!(5),
                _ => tile!(6),
            }
        }
    }
}

#[inline]
#[target_feature(enable = "avx2,fma")]
unsafe fn kernel<const MR: usize>(
    steps: usize,
    rows: *const f32,
    stride: usize,
    columns: *const f32,
) -> [[__m256; 2]; MR] {
    let mut sums = [[_mm256_setzero_ps(); 2]; MR];
    for step in 0..steps {
        // SAFETY: the caller's rows and columns have `steps` words.
        let (left, right) = unsafe {
            let at = columns.add(step * WIDTH);
            (_mm256_loadu_ps(at), _mm256_loadu_ps(at.add(8)))
        };
        for (row, sums) in sums.iter_mut().enumerate() {
            // SAFETY: as above.
            let x = _mm256_set1_ps(unsafe { *rows.add(row * stride + step) });
            sums[0] = _mm256_fmadd_ps(x, left, sums[0]);
            sums[1] = _mm256_fmadd_ps(x, right, sums[1]);
        }
    }
    sums
}
