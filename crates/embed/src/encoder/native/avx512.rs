//! Matrix products with AVX-512: up to 12 rows times 32 columns at a time.
//!
//! A tile keeps its sums in 24 registers; each step loads two registers of a
//! panel and broadcasts a word of each row. What follows a product (scales,
//! bias, activation) is done before the sums leave the registers.
//!
//! Each function says in `target_feature` what it needs; it is called for a
//! matrix whose level was found on this processor.

#![allow(unsafe_code)] // Loads and stores take pointers.

use core::arch::x86_64::{
    __m256bh, __m256i, __m512, __m512bh, __m512i, __mmask16, _CMP_UNORD_Q, _MM_HINT_T0, _mm_prefetch,
    _mm256_storeu_si256, _mm512_add_ps, _mm512_castps_si512, _mm512_castsi512_ps, _mm512_cmp_ps_mask,
    _mm512_cvtepi32_ps, _mm512_cvtneps_pbh, _mm512_cvtps_epi32, _mm512_dpbf16_ps, _mm512_dpbusd_epi32,
    _mm512_fmadd_ps, _mm512_fnmadd_ps, _mm512_loadu_epi32, _mm512_loadu_ps, _mm512_mask_storeu_ps,
    _mm512_maskz_loadu_ps, _mm512_maskz_sub_ps, _mm512_max_ps, _mm512_min_ps, _mm512_mul_ps,
    _mm512_packs_epi32, _mm512_packus_epi16, _mm512_permutexvar_epi32, _mm512_reduce_add_ps,
    _mm512_reduce_max_ps, _mm512_reduce_min_ps, _mm512_set1_epi32, _mm512_set1_ps, _mm512_setr_epi32,
    _mm512_setzero_ps, _mm512_storeu_epi32, _mm512_sub_ps,
};

use super::super::kernels::{Activation, Norm};
use super::curves::{gelu, gelu_short, gelu_tanh, relu, silu};
use super::level::Instructions;
use super::matrix::{Matrix, WIDTH};
use super::product::{MOST_ROWS, tiles};
use super::rows::{CHUNK, CHUNK_STRIDE, Format, Rows, scale_of};
use super::tiled_product::Outputs;

/// The sums of a tile: two registers for each row.
pub(super) type Sums<const MR: usize> = [[__m512; 2]; MR];

/// The first `count` of sixteen lanes.
pub(super) fn first(count: usize) -> __mmask16 {
    if count >= 16 { u16::MAX } else { (1 << count) - 1 }
}

/// Sums to begin with.
#[inline]
#[target_feature(enable = "avx512f")]
pub(super) fn zero<const MR: usize>() -> Sums<MR> {
    [[_mm512_setzero_ps(); 2]; MR]
}

/// Adds `steps` words of `MR` rows times as many rows of 32 columns to sums. Columns are
/// asked for `AHEAD` steps before, if that is not 0.
macro_rules! kernel {
    ($name:ident, $features:literal, $add:expr) => {
        #[inline]
        #[target_feature(enable = $features)]
        pub(super) unsafe fn $name<const MR: usize, const AHEAD: usize>(
            mut sums: Sums<MR>,
            steps: usize,
            rows: *const u32,
            stride: usize,
            columns: *const u32,
            width: usize,
        ) -> Sums<MR> {
            for step in 0..steps {
                if AHEAD > 0 {
                    let ahead = columns.wrapping_add((step + AHEAD) * width);
                    _mm_prefetch::<_MM_HINT_T0>(ahead.cast());
                    _mm_prefetch::<_MM_HINT_T0>(ahead.wrapping_add(16).cast());
                }
                // SAFETY: the caller's rows and columns have `steps` words.
                let (left, right) = unsafe {
                    let at = columns.add(step * width);
                    (_mm512_loadu_epi32(at.cast()), _mm512_loadu_epi32(at.add(16).cast()))
                };
                for row in 0..MR {
                    // SAFETY: as above.
                    let word = _mm512_set1_epi32(unsafe { *rows.add(row * stride + step) } as i32);
                    sums[row][0] = $add(sums[row][0], word, left);
                    sums[row][1] = $add(sums[row][1], word, right);
                }
            }
            sums
        }
    };
}

#[inline]
#[target_feature(enable = "avx512f")]
fn add_f32(sum: __m512, row: __m512i, column: __m512i) -> __m512 {
    _mm512_fmadd_ps(_mm512_castsi512_ps(row), _mm512_castsi512_ps(column), sum)
}

#[inline]
#[target_feature(enable = "avx512f,avx512bf16")]
fn add_bf16(sum: __m512, row: __m512i, column: __m512i) -> __m512 {
    // SAFETY: both types are 64 bytes of any bits.
    let bf16 = |words| unsafe { core::mem::transmute::<__m512i, __m512bh>(words) };
    let (row, column) = (bf16(row), bf16(column));
    _mm512_dpbf16_ps(sum, row, column)
}

#[inline]
#[target_feature(enable = "avx512f,avx512vnni")]
fn add_int8(sum: __m512, row: __m512i, column: __m512i) -> __m512 {
    _mm512_castsi512_ps(_mm512_dpbusd_epi32(_mm512_castps_si512(sum), row, column))
}

kernel!(kernel_f32, "avx512f,avx512bw,avx512dq,avx512vl", add_f32);
kernel!(kernel_bf16, "avx512f,avx512bw,avx512dq,avx512vl,avx512bf16", add_bf16);
kernel!(kernel_int8, "avx512f,avx512bw,avx512dq,avx512vl,avx512vnni", add_int8);

/// Steps by which columns are asked for ahead where they come from the second cache.
const AHEAD: usize = 16;

/// The sums of `MR` rows that lie in chunks, of `count` rows.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl")]
unsafe fn chunks_f32<const MR: usize>(
    steps: usize,
    (rows, row): (&Rows, usize),
    count: usize,
    columns: *const u32,
) -> Sums<MR> {
    let mut sums = zero();
    for (number, first) in (0..steps).step_by(CHUNK).enumerate() {
        let words = CHUNK.min(steps - first);
        // SAFETY: `count` rows were filled with `steps` words, the columns have as many.
        unsafe {
            let from = rows.words.as_ptr().cast::<u32>().add((number * count + row) * CHUNK_STRIDE);
            let columns = columns.add(first * WIDTH);
            sums = kernel_f32::<MR, AHEAD>(sums, words, from, CHUNK_STRIDE, columns, WIDTH);
        }
    }
    sums
}

/// The sums of `MR` rows, each of which lies in one piece.
macro_rules! rows {
    ($name:ident, $features:literal, $kernel:ident) => {
        #[inline]
        #[target_feature(enable = $features)]
        unsafe fn $name<const MR: usize>(
            steps: usize,
            (rows, row): (&Rows, usize),
            _count: usize,
            columns: *const u32,
        ) -> Sums<MR> {
            // SAFETY: the rows were filled with `steps` words, the columns have as many.
            unsafe {
                let from = rows.words.as_ptr().cast::<u32>().add(row * rows.stride);
                $kernel::<MR, 0>(zero(), steps, from, rows.stride, columns, WIDTH)
            }
        }
    };
}

rows!(rows_bf16, "avx512f,avx512bw,avx512dq,avx512vl,avx512bf16", kernel_bf16);
rows!(rows_int8, "avx512f,avx512bw,avx512dq,avx512vl,avx512vnni", kernel_int8);

/// The product of `count` rows with a matrix, into rows of its outputs.
macro_rules! product {
    ($name:ident, $features:literal, $sums:ident) => {
        #[target_feature(enable = $features)]
        fn $name(
            rows: &Rows,
            count: usize,
            matrix: &Matrix,
            activation: Option<Activation>,
            out: &mut [f32],
        ) {
            let steps = matrix.steps();
            for panel in 0..matrix.outputs.div_ceil(WIDTH) {
                for (row, height) in tiles(count) {
                    macro_rules! tile {
                        ($mr:literal) => {{
                            // SAFETY: `count` rows were filled for this matrix, whose
                            // panels have `steps` rows of `WIDTH` words.
                            let sums: Sums<$mr> = unsafe {
                                let columns = matrix.words.as_ptr().cast::<u32>().add(panel * steps * WIDTH);
                                $sums(steps, (rows, row), count, columns)
                            };
                            finish(&sums, rows, row, matrix, panel, activation, out);
                        }};
                    }
                    match height {
                        1 => tile!(1),
                        2 => tile!(2),
                        3 => tile!(3),
                        4 => tile!(4),
                        5 => tile!(5),
                        6 => tile!(6),
                        7 => tile!(7),
                        8 => tile!(8),
                        9 => tile!(9),
                        10 => tile!(10),
                        11 => tile!(11),
                        _ => tile!(12),
                    }
                }
            }
        }
    };
}

product!(product_f32, "avx512f,avx512bw,avx512dq,avx512vl", chunks_f32);
product!(product_bf16, "avx512f,avx512bw,avx512dq,avx512vl,avx512bf16", rows_bf16);
product!(product_int8, "avx512f,avx512bw,avx512dq,avx512vl,avx512vnni", rows_int8);

/// See [`super::product::product`]; the level of the matrix has AVX-512.
pub(super) fn product(
    rows: &Rows,
    count: usize,
    matrix: &Matrix,
    activation: Option<Activation>,
    out: &mut [f32],
) {
    const { assert!(MOST_ROWS == 12) };
    assert!(out.len() >= count * matrix.outputs && rows.words.len() * 16 >= count * rows.stride);
    assert!(matrix.words.len() * 16 >= matrix.outputs.div_ceil(WIDTH) * WIDTH * matrix.steps());
    // SAFETY: the matrix has a format only at a level this processor has.
    unsafe {
        match matrix.format {
            Format::Bf16 | Format::Int8 if matrix.level >= Instructions::Amx => {
                super::tiled_product::product(rows, count, matrix, activation, Outputs::Values(out));
            }
            Format::F32 => product_f32(rows, count, matrix, activation, out),
            Format::Bf16 => product_bf16(rows, count, matrix, activation, out),
            Format::Int8 => product_int8(rows, count, matrix, activation, out),
        }
    }
}

/// Scales, bias, activation, and the way into memory.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl")]
fn finish<const MR: usize>(
    sums: &Sums<MR>,
    rows: &Rows,
    first_row: usize,
    matrix: &Matrix,
    panel: usize,
    activation: Option<Activation>,
    out: &mut [f32],
) {
    for half in 0..2 {
        let column = panel * WIDTH + half * 16;
        if column >= matrix.outputs {
            break;
        }
        let columns = Columns::of(matrix, column);
        for (row, sums) in sums.iter().enumerate() {
            let at = first_row + row;
            let x = match matrix.format {
                Format::Int8 => columns.whole(sums[half], rows.scale[at], rows.zero[at]),
                Format::F32 | Format::Bf16 => columns.float(sums[half], rows.scale[at]),
            };
            let x = match activation {
                None => x,
                Some(Activation::Gelu) if matrix.format == Format::F32 => gelu(x),
                Some(Activation::Gelu) => gelu_short(x),
                Some(Activation::GeluTanh) => gelu_tanh(x),
                Some(Activation::Relu) => relu(x),
                Some(Activation::Silu) => silu(x),
            };
            let into = &mut out[at * matrix.outputs + column..];
            // SAFETY: the mask leaves the columns the row has.
            unsafe { columns.store(x, into.as_mut_ptr()) };
        }
    }
}

/// What turns the sums of sixteen columns into outputs.
#[derive(Clone, Copy)]
pub(super) struct Columns {
    mask: __mmask16,
    bias: __m512,
    scale: __m512,
    /// What the integer weights stand for, added up.
    whole: __m512,
}

impl Columns {
    /// Those from `column` on; there may be fewer than sixteen, or none.
    #[inline]
    #[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl")]
    pub(super) fn of(matrix: &Matrix, column: usize) -> Columns {
        let end = column + 16;
        assert!(matrix.bias.len() >= end && matrix.scale.len() >= end && matrix.sums.len() >= end);
        // SAFETY: these have a value for each column of each panel.
        let (bias, scale, whole) = unsafe {
            (
                _mm512_loadu_ps(matrix.bias.as_ptr().add(column)),
                _mm512_loadu_ps(matrix.scale.as_ptr().add(column)),
                _mm512_loadu_epi32(matrix.sums.as_ptr().add(column)),
            )
        };
        let whole = _mm512_mul_ps(_mm512_cvtepi32_ps(whole), scale);
        Columns { mask: first(matrix.outputs.saturating_sub(column)), bias, scale, whole }
    }

    /// The outputs of bfloat16, which have no scale.
    #[inline]
    #[target_feature(enable = "avx512f")]
    pub(super) fn plain(&self, sums: __m512) -> __m512 {
        _mm512_add_ps(sums, self.bias)
    }

    /// The outputs of a row with a scale.
    #[inline]
    #[target_feature(enable = "avx512f")]
    pub(super) fn float(&self, sums: __m512, scale: f32) -> __m512 {
        _mm512_fmadd_ps(sums, _mm512_mul_ps(self.scale, _mm512_set1_ps(scale)), self.bias)
    }

    /// The same for sums of integers, of a row whose zero is the integer `zero`.
    #[inline]
    #[target_feature(enable = "avx512f")]
    pub(super) fn whole(&self, sums: __m512, scale: f32, zero: i32) -> __m512 {
        // Each sum has the row's zero times the weights too much.
        let base = _mm512_fnmadd_ps(_mm512_set1_ps(scale * zero as f32), self.whole, self.bias);
        let sums = _mm512_cvtepi32_ps(_mm512_castps_si512(sums));
        _mm512_fmadd_ps(sums, _mm512_mul_ps(self.scale, _mm512_set1_ps(scale)), base)
    }

    /// # Safety
    /// As many values can be written as there are columns.
    #[inline]
    #[target_feature(enable = "avx512f")]
    pub(super) unsafe fn store(&self, values: __m512, into: *mut f32) {
        // SAFETY: the mask leaves the columns there are.
        unsafe { _mm512_mask_storeu_ps(into, self.mask, values) };
    }
}

pub(super) fn fill_bf16(into: &mut Rows, values: &[f32], matrix: &Matrix) {
    assert!(into.stride >= matrix.steps());
    // SAFETY: the matrix has this format only where the processor has BF16.
    unsafe { fill_bf16_rows(into, values, matrix.inputs) }
}

#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512bf16")]
fn fill_bf16_rows(into: &mut Rows, values: &[f32], inputs: usize) {
    for (at, row) in values.chunks_exact(inputs).enumerate() {
        let words = &mut into.words[at * into.stride / 16..][..into.stride / 16];
        // Up to the end of a line, since tiles read whole ones.
        for half in 0..inputs.div_ceil(32) * 2 {
            let part = row.get(half * 16..).unwrap_or_default();
            // SAFETY: the mask ends where the row does; a row of words has room
            // for a whole line.
            unsafe {
                let x = _mm512_maskz_loadu_ps(first(part.len()), part.as_ptr());
                let short = core::mem::transmute::<__m256bh, __m256i>(_mm512_cvtneps_pbh(x));
                let line = words[half / 2].0.as_mut_ptr().add(half % 2 * 8);
                _mm256_storeu_si256(line.cast(), short);
            }
        }
    }
}

pub(super) fn fill_int8(into: &mut Rows, values: &[f32], matrix: &Matrix) {
    assert!(into.stride >= matrix.steps());
    // SAFETY: the matrix has this format only where the processor has AVX-512.
    unsafe { fill_int8_rows(into, values, matrix.inputs) }
}

#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl")]
fn fill_int8_rows(into: &mut Rows, values: &[f32], inputs: usize) {
    // Packing goes within lanes of 16 bytes; this brings all back into order.
    let order = _mm512_setr_epi32(0, 4, 8, 12, 1, 5, 9, 13, 2, 6, 10, 14, 3, 7, 11, 15);
    for (at, row) in values.chunks_exact(inputs).enumerate() {
        let (mut low, mut high) = ([_mm512_setzero_ps(); 4], [_mm512_setzero_ps(); 4]);
        let mut broken = 0;
        for part in row.chunks(64) {
            let four = load(part);
            for (x, (low, high)) in four.iter().zip(low.iter_mut().zip(&mut high)) {
                *low = _mm512_min_ps(*low, *x);
                *high = _mm512_max_ps(*high, *x);
            }
            broken |= _mm512_cmp_ps_mask::<_CMP_UNORD_Q>(four[0], four[1]);
            broken |= _mm512_cmp_ps_mask::<_CMP_UNORD_Q>(four[2], four[3]);
        }
        let low = _mm512_min_ps(_mm512_min_ps(low[0], low[1]), _mm512_min_ps(low[2], low[3]));
        let high = _mm512_max_ps(_mm512_max_ps(high[0], high[1]), _mm512_max_ps(high[2], high[3]));
        let (scale, zero) = scale_of(_mm512_reduce_min_ps(low), _mm512_reduce_max_ps(high), broken != 0);
        into.scale[at] = scale;
        into.zero[at] = zero as i32;
        let (inverse, zero) = (_mm512_set1_ps(1.0 / scale), _mm512_set1_ps(zero));
        let words = &mut into.words[at * into.stride / 16..][..into.stride / 16];
        for (part, line) in row.chunks(64).zip(words) {
            let [a, b, c, d] = load(part).map(|x| _mm512_cvtps_epi32(_mm512_fmadd_ps(x, inverse, zero)));
            let bytes = _mm512_packus_epi16(_mm512_packs_epi32(a, b), _mm512_packs_epi32(c, d));
            // SAFETY: a line is 64 bytes.
            unsafe {
                _mm512_storeu_epi32(line.0.as_mut_ptr().cast(), _mm512_permutexvar_epi32(order, bytes));
            }
        }
    }
}

/// Lanes of four registers that at most 64 values fill.
#[inline]
#[target_feature(enable = "avx512f")]
fn lanes(values: usize) -> [__mmask16; 4] {
    if values == 64 {
        return [u16::MAX; 4];
    }
    core::array::from_fn(|quarter| first(values.saturating_sub(16 * quarter)))
}

/// At most 64 values; what is missing is zero.
#[inline]
#[target_feature(enable = "avx512f")]
fn load(from: &[f32]) -> [__m512; 4] {
    let lanes = lanes(from.len());
    core::array::from_fn(|quarter| {
        // SAFETY: the mask ends where the slice does.
        unsafe { _mm512_maskz_loadu_ps(lanes[quarter], from.as_ptr().wrapping_add(16 * quarter)) }
    })
}

/// As many values as there is room for.
#[inline]
#[target_feature(enable = "avx512f")]
#[allow(clippy::large_types_passed_by_value)] // Four registers, inlined.
fn store(values: [__m512; 4], into: &mut [f32]) {
    let lanes = lanes(into.len());
    for (quarter, values) in values.into_iter().enumerate() {
        // SAFETY: the mask ends where the slice does.
        unsafe {
            _mm512_mask_storeu_ps(into.as_mut_ptr().wrapping_add(16 * quarter), lanes[quarter], values);
        }
    }
}

/// Adds the rows of `other` to each row, then normalizes the row.
pub(super) fn add_norm(rows: &mut [f32], other: &[f32], norm: &Norm) {
    // SAFETY: called at a level that has AVX-512.
    unsafe { add_norm_rows(rows, other, norm) }
}

#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl")]
fn add_norm_rows(rows: &mut [f32], other: &[f32], norm: &Norm) {
    let hidden = norm.weight.len();
    let count = hidden as f32;
    for (row, other) in rows.chunks_exact_mut(hidden).zip(other.chunks_exact(hidden)) {
        let mut sums = [_mm512_setzero_ps(); 4];
        for (x, other) in row.chunks_mut(64).zip(other.chunks(64)) {
            let (mut both, other) = (load(x), load(other));
            for (x, (other, sum)) in both.iter_mut().zip(other.iter().zip(&mut sums)) {
                *x = _mm512_add_ps(*x, *other);
                *sum = _mm512_add_ps(*sum, *x);
            }
            store(both, x);
        }
        let mean = _mm512_set1_ps(total(sums) / count);
        let mut squares = [_mm512_setzero_ps(); 4];
        for x in row.chunks(64) {
            // Lanes behind the end count nothing.
            let lanes = lanes(x.len());
            for (x, (lanes, sum)) in load(x).into_iter().zip(lanes.into_iter().zip(&mut squares)) {
                let away = _mm512_maskz_sub_ps(lanes, x, mean);
                *sum = _mm512_fmadd_ps(away, away, *sum);
            }
        }
        let scale = _mm512_set1_ps(1.0 / (total(squares) / count + norm.eps).sqrt());
        let parts = row.chunks_mut(64).zip(norm.weight.chunks(64)).zip(norm.bias.chunks(64));
        for ((x, weight), bias) in parts {
            let (mut y, weight, bias) = (load(x), load(weight), load(bias));
            for (y, (weight, bias)) in y.iter_mut().zip(weight.iter().zip(&bias)) {
                *y = _mm512_fmadd_ps(_mm512_mul_ps(_mm512_sub_ps(*y, mean), scale), *weight, *bias);
            }
            store(y, x);
        }
    }
}

#[inline]
#[target_feature(enable = "avx512f")]
fn total(sums: [__m512; 4]) -> f32 {
    _mm512_reduce_add_ps(_mm512_add_ps(_mm512_add_ps(sums[0], sums[1]), _mm512_add_ps(sums[2], sums[3])))
}
