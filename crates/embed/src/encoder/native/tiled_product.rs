//! Matrix products with AMX; see [`super::product::product`].
//!
//! The panels are those of AVX-512, in whole pieces of [`PIECE`] words. What follows
//! a product is done to the sums of each pair of tiles while they are in the first
//! cache.

#![allow(unsafe_code)] // Loads and stores take pointers.

use core::arch::x86_64::{__m512, __m512bh, __m512i, _mm512_cvtne2ps_pbh, _mm512_storeu_epi32};

use super::super::kernels::Activation;
use super::amx::{AHEAD, Cut, Piece, Sums, Tiles, join, no_sums, one_bf16, one_int8, two_bf16, two_int8};
use super::avx512::Columns;
use super::curves::{gelu_short, gelu_tanh, relu, silu};
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
    // Sums are finished while tiles are busy with the next ones.
    let mut sums = [no_sums(), no_sums()];
    let mut last: Option<Done<'_>> = None;
    let mut turn = 0;
    let from = |row: usize| rows.words.as_ptr().cast::<u32>().wrapping_add(row * rows.stride);
    for panel in 0..matrix.outputs.div_ceil(WIDTH) {
        let columns = matrix.words.as_ptr().cast::<u32>().wrapping_add(panel * steps * WIDTH);
        for (pair, (first, second)) in cut.pairs().enumerate() {
            let into = sums[turn].as_mut_ptr();
            let ahead = steps * WIDTH + pair * steps / PIECE * AHEAD / 4;
            let piece = Piece {
                pieces: steps / PIECE,
                rows: [from(first), from(second.unwrap_or(first))],
                row_stride: 4 * rows.stride,
                columns,
                column_stride: 4 * WIDTH,
                sums: [into.cast(), into.wrapping_add(cut.height).cast()],
                sum_stride: size_of::<[__m512; 2]>(),
                // The panel that comes next, a part of it for each pair of tiles.
                ahead: columns.wrapping_add(if ahead < 2 * steps * WIDTH { ahead } else { 0 }),
            };
            // SAFETY: `count` rows were filled for this matrix, whose panels have `steps`
            // rows of `WIDTH` words; sums have the rows of two tiles; see `product` for
            // the outputs.
            unsafe {
                match (matrix.format, second) {
                    (Format::Int8, Some(_)) => two_int8(&tiles, &piece),
                    (Format::Int8, None) => one_int8(&tiles, &piece),
                    (_, Some(_)) => two_bf16(&tiles, &piece),
                    (_, None) => one_bf16(&tiles, &piece),
                }
                let done = Done { rows, matrix, panel, height: cut.height, first, second, to };
                if let Some(last) = last.replace(done) {
                    last.finish(&mut sums[1 - turn], activation);
                }
            }
            turn = 1 - turn;
        }
    }
    if let Some(last) = last {
        // SAFETY: as above.
        unsafe { last.finish(&mut sums[1 - turn], activation) };
    }
}

/// [`Outputs`], which were found to have room.
#[derive(Clone, Copy)]
enum To {
    Values(*mut f32),
    /// And words from row to row.
    Words(*mut u32, usize),
}

/// Rows of a panel whose sums are there.
#[derive(Clone, Copy)]
struct Done<'a> {
    rows: &'a Rows,
    matrix: &'a Matrix,
    panel: usize,
    height: usize,
    /// The first row of one tile, and of the other.
    first: usize,
    second: Option<usize>,
    to: To,
}

impl Done<'_> {
    /// Scales, bias, activation, and the way into memory.
    ///
    /// # Safety
    /// There is room for the rows.
    #[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512bf16")]
    unsafe fn finish(self, sums: &mut Sums, activation: Option<Activation>) {
        // SAFETY: as the caller says.
        unsafe {
            match activation {
                None => self.run(sums, |x| x),
                Some(Activation::Gelu) => self.run(sums, |x| gelu_short(x)),
                Some(Activation::GeluTanh) => self.run(sums, |x| gelu_tanh(x)),
                Some(Activation::Relu) => self.run(sums, |x| relu(x)),
                Some(Activation::Silu) => self.run(sums, |x| silu(x)),
            }
        }
    }

    #[inline]
    #[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512bf16")]
    unsafe fn run(self, sums: &mut Sums, activate: impl Fn(__m512) -> __m512) {
        let (sums, more) = sums.split_at_mut(self.height);
        let more = &mut more[..self.height];
        let whole = self.matrix.format == Format::Int8;
        if self.second.is_none() && self.matrix.steps() > PIECE {
            join(sums, more, self.matrix.format);
        }
        let column = self.panel * WIDTH;
        let columns = [Columns::of(self.matrix, column), Columns::of(self.matrix, column + 16)];
        let tiles = [(Some(self.first), &*sums), (self.second, &*more)];
        for (first, sums) in tiles.into_iter().filter_map(|(first, sums)| Some((first?, sums))) {
            for (at, sums) in (first..).zip(sums) {
                let values = if whole {
                    let (scale, zero) = (self.rows.scale[at], self.rows.zero[at]);
                    [0, 1].map(|half| activate(columns[half].whole(sums[half], scale, zero)))
                } else {
                    [0, 1].map(|half| activate(columns[half].plain(sums[half])))
                };
                // SAFETY: there is room for the row.
                unsafe { self.write(at, column, &columns, values) };
            }
        }
    }

    /// Writes the outputs of a row from `column` on.
    #[inline]
    #[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512bf16")]
    unsafe fn write(self, row: usize, column: usize, columns: &[Columns; 2], values: [__m512; 2]) {
        // SAFETY: of values the mask leaves the columns there are, and with none the
        // pointer is not used; words of a row end with a line.
        unsafe {
            match self.to {
                To::Values(out) => {
                    let out = out.wrapping_add(row * self.matrix.outputs + column);
                    columns[0].store(values[0], out);
                    columns[1].store(values[1], out.wrapping_add(16));
                }
                To::Words(out, stride) => {
                    let short = _mm512_cvtne2ps_pbh(values[1], values[0]);
                    let out = out.add(row * stride + column / 2);
                    _mm512_storeu_epi32(out.cast(), core::mem::transmute::<__m512bh, __m512i>(short));
                }
            }
        }
    }
}
