//! Multi-head attention of one text over itself, with AVX-512.
//!
//! The two products run on the kernels of the linear layers: keys are turned
//! into panels as weights are, values are panels already. With bfloat16 both
//! products take pairs; softmax is f32 either way. Other processors, and heads
//! that are no multiple of 32 wide, take the loops of `kernels`.

#![allow(unsafe_code)] // Loads and stores take pointers.

use core::arch::x86_64::{
    __m256i, __m512i, _mm256_storeu_si256, _mm512_add_ps, _mm512_castsi256_si512, _mm512_cvtneps_pbh,
    _mm512_inserti64x4, _mm512_loadu_epi32, _mm512_loadu_ps, _mm512_mask_blend_ps, _mm512_maskz_mov_ps,
    _mm512_max_ps, _mm512_mul_ps, _mm512_reduce_add_ps, _mm512_reduce_max_ps, _mm512_set1_ps,
    _mm512_setzero_ps, _mm512_setzero_si512, _mm512_shuffle_i32x4, _mm512_storeu_epi32, _mm512_storeu_ps,
    _mm512_sub_ps, _mm512_unpackhi_epi32, _mm512_unpackhi_epi64, _mm512_unpacklo_epi32,
    _mm512_unpacklo_epi64,
};

use super::super::relative::Relative;
use super::avx512::{Sums, exp, first, kernel_bf16, kernel_f32};
use super::matrix::{Line, WIDTH, lines};
use super::product::{MOST_ROWS, tiles};

/// Memory the attention reuses from text to text.
#[derive(Default)]
pub(super) struct Scratch {
    queries: Vec<Line>,
    keys: Vec<Line>,
    values: Vec<Line>,
    scores: Vec<Line>,
    weights: Vec<Line>,
}

impl Scratch {
    fn reserve(&mut self, dim: usize, keys: usize) {
        let grow = |memory: &mut Vec<Line>, words: usize| {
            if memory.len() * 16 < words {
                *memory = lines(words);
            }
        };
        grow(&mut self.queries, MOST_ROWS * dim);
        grow(&mut self.keys, dim * keys);
        grow(&mut self.values, dim * keys);
        grow(&mut self.scores, MOST_ROWS * keys);
        grow(&mut self.weights, MOST_ROWS * keys);
    }
}

/// Where a head is in the rows of a text.
#[derive(Clone, Copy)]
struct Head {
    tokens: usize,
    /// The tokens that are seen, from the first on.
    seen: usize,
    dim: usize,
    /// Values from row to row of queries, keys and values.
    wide: usize,
    /// Values from row to row of the result.
    hidden: usize,
    /// Tokens rounded up to whole panels.
    keys: usize,
}

/// What is added to scores for the distance of tokens, and which head it is.
type Bias<'a> = Option<(&'a Relative, usize)>;

/// softmax(Q Kᵀ) V of each head.
///
/// `qkv` has queries (scaled already), keys and values of each token, `hidden`
/// values each; `relative` is added to the scores; the first `seen` tokens are
/// seen; `out` gets `hidden` values for each. Heads are `dim` wide, a
/// multiple of 32. `short` asks for products of bfloat16, which the processor
/// must have; it must have AVX-512 anyway.
#[allow(clippy::too_many_arguments)] // What a text and what a model are, flat for the loop.
pub(super) fn attend(
    qkv: &[f32],
    hidden: usize,
    dim: usize,
    short: bool,
    relative: Option<&Relative>,
    seen: usize,
    out: &mut [f32],
    scratch: &mut Scratch,
) {
    let tokens = out.len() / hidden;
    assert!(dim.is_multiple_of(WIDTH) && hidden.is_multiple_of(dim) && dim > 0);
    assert!(qkv.len() == 3 * out.len() && out.len() == tokens * hidden && seen <= tokens);
    let head = Head { tokens, seen, dim, wide: 3 * hidden, hidden, keys: tokens.next_multiple_of(WIDTH) };
    scratch.reserve(dim, head.keys);
    for (number, at) in (0..hidden).step_by(dim).enumerate() {
        let (qkv, out) = (&qkv[at..], &mut out[at..]);
        let bias = relative.map(|relative| (relative, number));
        // SAFETY: see above for the instructions; the lengths were checked.
        unsafe {
            if short {
                head.bf16(qkv.as_ptr(), bias, out.as_mut_ptr(), scratch);
            } else {
                head.f32(qkv.as_ptr(), bias, out.as_mut_ptr(), scratch);
            }
        }
    }
}

/// Calls a kernel for the rows of a tile, then `each` with the sums.
macro_rules! by_height {
    ($height:expr, $kernel:ident, $arguments:tt, $sums:ident => $each:expr) => {
        match $height {
            1 => by_height!(@ 1, $kernel, $arguments, $sums => $each),
            2 => by_height!(@ 2, $kernel, $arguments, $sums => $each),
            3 => by_height!(@ 3, $kernel, $arguments, $sums => $each),
            4 => by_height!(@ 4, $kernel, $arguments, $sums => $each),
            5 => by_height!(@ 5, $kernel, $arguments, $sums => $each),
            6 => by_height!(@ 6, $kernel, $arguments, $sums => $each),
            7 => by_height!(@ 7, $kernel, $arguments, $sums => $each),
            8 => by_height!(@ 8, $kernel, $arguments, $sums => $each),
            9 => by_height!(@ 9, $kernel, $arguments, $sums => $each),
            10 => by_height!(@ 10, $kernel, $arguments, $sums => $each),
            11 => by_height!(@ 11, $kernel, $arguments, $sums => $each),
            _ => by_height!(@ 12, $kernel, $arguments, $sums => $each),
        }
    };
    (@ $mr:literal, $kernel:ident, ($($argument:expr),*), $sums:ident => $each:expr) => {{
        let $sums: Sums<$mr> = $kernel($($argument),*);
        $each;
    }};
}

impl Head {
    #[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl")]
    unsafe fn f32(self, qkv: *const f32, bias: Bias<'_>, out: *mut f32, scratch: &mut Scratch) {
        let keys = scratch.keys.as_mut_ptr().cast::<u32>();
        let scores = scratch.scores.as_mut_ptr().cast::<f32>();
        // SAFETY: the rows are those of `attend`, the scratch was grown for them.
        unsafe {
            let (query, key, value) = (qkv, qkv.add(self.hidden), qkv.add(2 * self.hidden));
            for block in (0..self.keys).step_by(16) {
                for column in (0..self.dim).step_by(16) {
                    let rows = core::array::from_fn(|row| {
                        let token = block + row;
                        if token >= self.tokens {
                            return _mm512_setzero_si512();
                        }
                        _mm512_loadu_epi32(key.add(token * self.wide + column).cast())
                    });
                    for (row, turned) in turn(rows).into_iter().enumerate() {
                        _mm512_storeu_epi32(keys.add((column + row) * self.keys + block).cast(), turned);
                    }
                }
            }
            for (row, height) in tiles(self.tokens) {
                let queries = query.add(row * self.wide).cast();
                for block in (0..self.keys).step_by(WIDTH) {
                    by_height!(height, kernel_f32, (self.dim, queries, self.wide, keys.add(block), self.keys),
                        sums => store(&sums, scores.add(block), self.keys));
                }
                let mut inverse = [0.0; MOST_ROWS];
                for (at, inverse) in inverse.iter_mut().enumerate().take(height) {
                    let scores = scores.add(at * self.keys);
                    self.add(bias, row + at, scores);
                    *inverse = 1.0 / self.softmax(scores);
                }
                for column in (0..self.dim).step_by(WIDTH) {
                    let (from, into) = (value.add(column), out.add(row * self.hidden + column));
                    by_height!(height, kernel_f32, (self.tokens, scores.cast(), self.keys, from.cast(), self.wide),
                        sums => store_scaled(&sums, &inverse, into, self.hidden));
                }
            }
        }
    }

    #[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512bf16")]
    unsafe fn bf16(self, qkv: *const f32, bias: Bias<'_>, out: *mut f32, scratch: &mut Scratch) {
        let queries = scratch.queries.as_mut_ptr().cast::<u32>();
        let keys = scratch.keys.as_mut_ptr().cast::<u32>();
        let values = scratch.values.as_mut_ptr().cast::<u32>();
        let scores = scratch.scores.as_mut_ptr().cast::<f32>();
        let weights = scratch.weights.as_mut_ptr().cast::<u32>();
        let words = self.dim / 2;
        // SAFETY: the rows are those of `attend`, the scratch was grown for them.
        unsafe {
            let (query, key, value) = (qkv, qkv.add(self.hidden), qkv.add(2 * self.hidden));
            for block in (0..self.keys).step_by(16) {
                for word in (0..words).step_by(16) {
                    let rows = core::array::from_fn(|row| {
                        let token = block + row;
                        if token >= self.tokens {
                            return _mm512_setzero_si512();
                        }
                        let from = key.add(token * self.wide + 2 * word);
                        let (low, high) = (pairs(from), pairs(from.add(16)));
                        _mm512_inserti64x4::<1>(_mm512_castsi256_si512(low), high)
                    });
                    for (row, turned) in turn(rows).into_iter().enumerate() {
                        _mm512_storeu_epi32(keys.add((word + row) * self.keys + block).cast(), turned);
                    }
                }
            }
            self.pair_values(value, values);
            for (row, height) in tiles(self.tokens) {
                for at in 0..height {
                    for column in (0..self.dim).step_by(16) {
                        let from = query.add((row + at) * self.wide + column);
                        _mm256_storeu_si256(queries.add(at * words + column / 2).cast(), pairs(from));
                    }
                }
                for block in (0..self.keys).step_by(WIDTH) {
                    by_height!(height, kernel_bf16, (words, queries, words, keys.add(block), self.keys),
                        sums => store(&sums, scores.add(block), self.keys));
                }
                let mut inverse = [0.0; MOST_ROWS];
                for (at, inverse) in inverse.iter_mut().enumerate().take(height) {
                    let scores = scores.add(at * self.keys);
                    self.add(bias, row + at, scores);
                    *inverse = 1.0 / self.softmax(scores);
                    for block in (0..self.keys).step_by(16) {
                        let into = weights.add(usize::midpoint(at * self.keys, block));
                        _mm256_storeu_si256(into.cast(), pairs(scores.add(block)));
                    }
                }
                let steps = self.tokens.div_ceil(2);
                for column in (0..self.dim).step_by(WIDTH) {
                    let (from, into) = (values.add(column), out.add(row * self.hidden + column));
                    by_height!(height, kernel_bf16, (steps, weights, self.keys / 2, from, self.dim),
                        sums => store_scaled(&sums, &inverse, into, self.hidden));
                }
            }
        }
    }

    /// Values of two tokens side by side: a word for each column.
    #[inline]
    #[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512bf16")]
    unsafe fn pair_values(self, from: *const f32, into: *mut u32) {
        for pair in 0..self.tokens.div_ceil(2) {
            for column in (0..self.dim).step_by(16) {
                // SAFETY: as in `bf16`.
                unsafe {
                    let at = from.add(2 * pair * self.wide + column);
                    let low = core::arch::x86_64::_mm512_cvtepu16_epi32(pairs(at));
                    let high = if 2 * pair + 1 < self.tokens {
                        core::arch::x86_64::_mm512_cvtepu16_epi32(pairs(at.add(self.wide)))
                    } else {
                        _mm512_setzero_si512()
                    };
                    let high = core::arch::x86_64::_mm512_slli_epi32::<16>(high);
                    let both = core::arch::x86_64::_mm512_or_si512(low, high);
                    _mm512_storeu_epi32(into.add(pair * self.dim + column).cast(), both);
                }
            }
        }
    }

    /// Adds the bias of the token `at` to its row of scores.
    #[inline]
    unsafe fn add(self, bias: Bias<'_>, at: usize, row: *mut f32) {
        let Some((relative, head)) = bias else { return };
        // SAFETY: a row has `keys` values, at least as many as there are tokens.
        let row = unsafe { core::slice::from_raw_parts_mut(row, self.tokens) };
        for (score, bias) in row.iter_mut().zip(relative.row(head, at, self.tokens)) {
            *score += bias;
        }
    }

    /// Replaces a row of scores by their exponentials and gives the sum; what is
    /// behind the last token that is seen becomes zero.
    #[inline]
    #[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl")]
    unsafe fn softmax(self, row: *mut f32) -> f32 {
        let lowest = _mm512_set1_ps(f32::NEG_INFINITY);
        let mask = |block: usize| first(self.seen.saturating_sub(block));
        let (mut most, mut sum) = (lowest, _mm512_setzero_ps());
        // SAFETY: a row has `keys` values.
        unsafe {
            for block in (0..self.keys).step_by(16) {
                let x = _mm512_mask_blend_ps(mask(block), lowest, _mm512_loadu_ps(row.add(block)));
                most = _mm512_max_ps(most, x);
            }
            let most = _mm512_set1_ps(_mm512_reduce_max_ps(most));
            for block in (0..self.keys).step_by(16) {
                let x = exp(_mm512_sub_ps(_mm512_loadu_ps(row.add(block)), most));
                let x = _mm512_maskz_mov_ps(mask(block), x);
                sum = _mm512_add_ps(sum, x);
                _mm512_storeu_ps(row.add(block), x);
            }
        }
        _mm512_reduce_add_ps(sum)
    }
}

/// Sixteen values as bfloat16.
#[inline]
#[target_feature(enable = "avx512f,avx512bf16")]
unsafe fn pairs(from: *const f32) -> __m256i {
    // SAFETY: there are sixteen; both types are 32 bytes of any bits.
    unsafe { core::mem::transmute(_mm512_cvtneps_pbh(_mm512_loadu_ps(from))) }
}

#[inline]
#[target_feature(enable = "avx512f")]
unsafe fn store<const MR: usize>(sums: &Sums<MR>, into: *mut f32, width: usize) {
    for (row, sums) in sums.iter().enumerate() {
        // SAFETY: the caller's rows have room for 32 values.
        unsafe {
            _mm512_storeu_ps(into.add(row * width), sums[0]);
            _mm512_storeu_ps(into.add(row * width + 16), sums[1]);
        }
    }
}

#[inline]
#[target_feature(enable = "avx512f")]
unsafe fn store_scaled<const MR: usize>(
    sums: &Sums<MR>,
    by: &[f32; MOST_ROWS],
    into: *mut f32,
    width: usize,
) {
    for (row, (sums, by)) in sums.iter().zip(by).enumerate() {
        let by = _mm512_set1_ps(*by);
        // SAFETY: the caller's rows have room for 32 values.
        unsafe {
            _mm512_storeu_ps(into.add(row * width), _mm512_mul_ps(sums[0], by));
            _mm512_storeu_ps(into.add(row * width + 16), _mm512_mul_ps(sums[1], by));
        }
    }
}

/// Sixteen rows of sixteen words as columns.
#[inline]
#[target_feature(enable = "avx512f")]
#[allow(clippy::large_types_passed_by_value)] // Sixteen registers, inlined.
fn turn(rows: [__m512i; 16]) -> [__m512i; 16] {
    let mut pairs = [_mm512_setzero_si512(); 16];
    for i in 0..8 {
        pairs[2 * i] = _mm512_unpacklo_epi32(rows[2 * i], rows[2 * i + 1]);
        pairs[2 * i + 1] = _mm512_unpackhi_epi32(rows[2 * i], rows[2 * i + 1]);
    }
    // Of four rows, lane l of quarter j has column 4 l + j.
    let mut fours = [_mm512_setzero_si512(); 16];
    for i in 0..4 {
        let [a, b, c, d] = [pairs[4 * i], pairs[4 * i + 1], pairs[4 * i + 2], pairs[4 * i + 3]];
        fours[4 * i] = _mm512_unpacklo_epi64(a, c);
        fours[4 * i + 1] = _mm512_unpackhi_epi64(a, c);
        fours[4 * i + 2] = _mm512_unpacklo_epi64(b, d);
        fours[4 * i + 3] = _mm512_unpackhi_epi64(b, d);
    }
    let mut turned = [_mm512_setzero_si512(); 16];
    for j in 0..4 {
        let [a, b, c, d] = [fours[j], fours[4 + j], fours[8 + j], fours[12 + j]];
        let (even_low, even_high) = (_mm512_shuffle_i32x4::<0x88>(a, b), _mm512_shuffle_i32x4::<0x88>(c, d));
        let (odd_low, odd_high) = (_mm512_shuffle_i32x4::<0xDD>(a, b), _mm512_shuffle_i32x4::<0xDD>(c, d));
        turned[j] = _mm512_shuffle_i32x4::<0x88>(even_low, even_high);
        turned[8 + j] = _mm512_shuffle_i32x4::<0xDD>(even_low, even_high);
        turned[4 + j] = _mm512_shuffle_i32x4::<0x88>(odd_low, odd_high);
        turned[12 + j] = _mm512_shuffle_i32x4::<0xDD>(odd_low, odd_high);
    }
    turned
}

#[cfg(test)]
mod tests {
    use super::super::level::Instructions;
    use super::super::rows::bf16_value;
    use super::{Scratch, attend};

    #[test]
    fn attention_is_that_of_the_paper_for_any_length() {
        for (level, short) in [(Instructions::Avx512, false), (Instructions::Bf16, true)] {
            if level.resolve().is_err() {
                continue;
            }
            let mut scratch = Scratch::default();
            for (tokens, seen, heads, dim) in [
                (70, 70, 2, 64),
                (1, 1, 1, 32),
                (3, 2, 2, 32),
                (31, 31, 3, 32),
                (32, 9, 1, 96),
                (33, 33, 1, 32),
                (40, 33, 1, 32),
            ] {
                let hidden = heads * dim;
                let number = |i: usize| ((i * 7919 + tokens) % 4001) as f32 / 4000.0 - 0.5;
                let qkv: Vec<f32> = (0..tokens * 3 * hidden).map(|i| bf16_value(number(i))).collect();
                let mut out = vec![f32::NAN; tokens * hidden];
                attend(&qkv, hidden, dim, short, None, seen, &mut out, &mut scratch);
                let get = |token: usize, part: usize, at: usize| {
                    f64::from(qkv[token * 3 * hidden + part * hidden + at])
                };
                for token in 0..tokens {
                    for at in 0..hidden {
                        let head = at / dim * dim;
                        let score = |other| -> f64 {
                            (head..head + dim).map(|d| get(token, 0, d) * get(other, 1, d)).sum()
                        };
                        let weights: Vec<f64> = (0..seen).map(|other| score(other).exp()).collect();
                        let total: f64 = weights.iter().sum();
                        let want: f64 = (0..seen).map(|o| weights[o] * get(o, 2, at) / total).sum();
                        let got = f64::from(out[token * hidden + at]);
                        let close = if short { 2e-3 } else { 1e-5 };
                        assert!((got - want).abs() < close, "{tokens} {heads} {dim}: {got} {want}");
                    }
                }
            }
        }
    }
}
