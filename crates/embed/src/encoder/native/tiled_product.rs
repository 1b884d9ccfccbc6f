//! Matrix products with AMX; see [`super::product::product`].
//!
//! The panels are those of AVX-512, in whole pieces of [`PIECE`] words. What follows
//! a product is done to the sums of each pair of tiles while they are in the first
//! cache.

#![allow(unsafe_code)] // Loads and stores take pointers.

use core::arch::x86_64::{__m512, __m512bh, __m512i, _mm512_cvtne2ps_pbh, _mm512_storeu_epi32};

use super::super::kernels::Activation;
use super::amx::{Cut, Piece, Tiles, join, no_sums, one_bf16, one_int8, two_bf16, two_int8};
use super::avx512::{Columns, gelu_short, gelu_tanh, relu};
use super::matrix::{Matrix, PIECE, WIDTH};
use super::rows::{Format, Rows};

/// Where the outputs of a product go.
pub(super) enum Outputs<'a> {
    /// Row after row.
    Values(&'a mut [f32]),
    /// As bfloat16, to be the inputs of the next product.
    Rows(&'a mut Rows),
}

/// See [`super::product::product`]; the level of the matrix has AMX, its format is
/// not f32.
pub(super) fn product(
    rows: &Rows,
    count: usize,
    matrix: &Matrix,
    activation: Option<Activation>,
    out: Outputs<'_>,
) {
    assert!(matrix.steps().is_multiple_of(PIECE) && matrix.format != Format::F32);
    assert!(rows.words.len() * 16 >= count * rows.stride);
    let to = match out {
        Outputs::Values(out) => {
            assert!(out.len() >= count * matrix.outputs);
            To::Values(out.as_mut_ptr())
        }
        Outputs::Rows(rows) => {
            assert!(rows.stride >= matrix.outputs.div_ceil(WIDTH) * 16);
            assert!(rows.words.len() * 16 >= count * rows.stride);
            To::Words(rows.words.as_mut_ptr().cast(), rows.stride)
        }
    };
    assert!(matrix.words.len() * 16 >= matrix.outputs.div_ceil(WIDTH) * WIDTH * matrix.steps());
    assert!(rows.stride >= matrix.steps() && rows.scale.len() >= count && rows.zero.len() >= count);
    if count == 0 || matrix.steps() == 0 {
        return;
    }
    // SAFETY: the level of the matrix was found on this processor and granted; the
    // lengths were checked above.
    unsafe { product_rows(rows, count, matrix, activation, to) }
}

#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512bf16")]
unsafe fn product_rows(rows: &Rows, count: usize, matrix: &Matrix, activation: Option<Activation>, to: To) {
    let (steps, cut) = (matrix.steps(), Cut::of(count));
    // SAFETY: see `product`.
    let tiles = unsafe { Tiles::new(cut.height) };
    let mut sums = no_sums();
    for panel in 0..matrix.outputs.div_ceil(WIDTH) {
        // SAFETY: `count` rows were filled for this matrix, whose panels have `steps`
        // rows of `WIDTH` words; `sums` has the rows of two tiles.
        unsafe {
            let columns = matrix.words.as_ptr().cast::<u32>().add(panel * steps * WIDTH);
            for (first, second) in cut.pairs() {
                let from = |row: usize| rows.words.as_ptr().cast::<u32>().add(row * rows.stride);
                let into = sums.as_mut_ptr();
                let piece = Piece {
                    pieces: steps / PIECE,
                    rows: [from(first), from(second.unwrap_or(first))],
                    row_stride: 4 * rows.stride,
                    columns,
                    column_stride: 4 * WIDTH,
                    sums: [into.cast(), into.add(cut.height).cast()],
                    sum_stride: size_of::<[__m512; 2]>(),
                };
                match (matrix.format, second) {
                    (Format::Int8, Some(_)) => two_int8(&tiles, &piece),
                    (Format::Int8, None) => one_int8(&tiles, &piece),
                    (_, Some(_)) => two_bf16(&tiles, &piece),
                    (_, None) => one_bf16(&tiles, &piece),
                }
                let (sums, more) = sums.split_at_mut(cut.height);
                let more = &mut more[..cut.height];
                let finish = |sums: &[[__m512; 2]], first| {
                    finish(sums, first, rows, matrix, panel, activation, to);
                };
                match second {
                    Some(second) => {
                        finish(sums, first);
                        finish(more, second);
                    }
                    None => {
                        join(sums, more, matrix.format);
                        finish(sums, first);
                    }
                }
            }
        }
    }
}

/// [`Outputs`], which were found to have room.
#[derive(Clone, Copy)]
enum To {
    Values(*mut f32),
    /// And words from row to row.
    Words(*mut u32, usize),
}

/// Scales, bias, activation, and the way into memory.
///
/// # Safety
/// `to` has room for the rows.
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512bf16")]
unsafe fn finish(
    sums: &[[__m512; 2]],
    first: usize,
    rows: &Rows,
    matrix: &Matrix,
    panel: usize,
    activation: Option<Activation>,
    to: To,
) {
    let job = Finish { sums, first, rows, matrix, panel, to };
    // SAFETY: as the caller says.
    unsafe {
        match activation {
            None => job.run(|x| x),
            Some(Activation::Gelu) => job.run(|x| gelu_short(x)),
            Some(Activation::GeluTanh) => job.run(|x| gelu_tanh(x)),
            Some(Activation::Relu) => job.run(|x| relu(x)),
        }
    }
}

struct Finish<'a> {
    sums: &'a [[__m512; 2]],
    first: usize,
    rows: &'a Rows,
    matrix: &'a Matrix,
    panel: usize,
    to: To,
}

impl Finish<'_> {
    #[inline]
    #[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512bf16")]
    unsafe fn run(self, activate: impl Fn(__m512) -> __m512) {
        let outputs = self.matrix.outputs;
        let column = self.panel * WIDTH;
        let columns = [Columns::of(self.matrix, column), Columns::of(self.matrix, column + 16)];
        let whole = self.matrix.format == Format::Int8;
        for (row, sums) in self.sums.iter().enumerate() {
            let at = self.first + row;
            let (scale, zero) = (self.rows.scale[at], self.rows.zero[at]);
            let values = [0, 1].map(|half| {
                activate(if whole {
                    columns[half].whole(sums[half], scale, zero)
                } else {
                    columns[half].float(sums[half], scale)
                })
            });
            // SAFETY: there is room for the row. Of values the mask leaves the columns it
            // has, and with none the pointer is not used; words of a row end with a line.
            unsafe {
                match self.to {
                    To::Values(out) => {
                        let out = out.wrapping_add(at * outputs + column);
                        columns[0].store(values[0], out);
                        columns[1].store(values[1], out.wrapping_add(16));
                    }
                    To::Words(out, stride) => {
                        let short = _mm512_cvtne2ps_pbh(values[1], values[0]);
                        let into = out.add(at * stride + column / 2);
                        _mm512_storeu_epi32(into.cast(), core::mem::transmute::<__m512bh, __m512i>(short));
                    }
                }
            }
        }
    }
}
