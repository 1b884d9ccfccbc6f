//! Multi-head attention of one text over itself, with AVX-512.
//!
//! The two products run on the kernels of the linear layers: keys are turned
//! into panels as weights are, values are panels already. With bfloat16 both
//! products take pairs, in tiles where there is AMX (`tiled_attention`); softmax is f32
//! either way. Other processors, and heads that are no multiple of 32 wide, take
//! the loops of `kernels`.

#![allow(unsafe_code)] // Loads and stores take pointers.

use core::arch::x86_64::{
    __m256i, __m512i, _mm256_storeu_si256, _mm512_add_ps, _mm512_castsi256_si512, _mm512_cvtneps_pbh,
    _mm512_inserti64x4, _mm512_loadu_epi32, _mm512_loadu_ps, _mm512_mask_blend_ps, _mm512_maskz_mov_ps,
    _mm512_max_ps, _mm512_mul_ps, _mm512_reduce_add_ps, _mm512_reduce_max_ps, _mm512_set1_ps,
    _mm512_setzero_ps, _mm512_setzero_si512, _mm512_shuffle_i32x4, _mm512_storeu_epi32, _mm512_storeu_ps,
    _mm512_sub_ps, _mm512_unpackhi_epi32, _mm512_unpackhi_epi64, _mm512_unpacklo_epi32,
    _mm512_unpacklo_epi64,
};

use core::ops::Range;

use super::super::reach::{Heads, Reach};
use super::super::relative::Relative;
use super::amx::{Cut, Tiles};
use super::avx512::{Sums, first, kernel_bf16, kernel_f32, zero};
use super::curves::exp;
use super::level::Instructions;
use super::matrix::{Line, WIDTH, lines};
use super::product::{MOST_ROWS, tiles};

/// How the two products are computed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Products {
    F32,
    /// Pairs of bfloat16.
    Pairs,
    /// The same in tiles of AMX.
    Tiles,
}

impl Products {
    /// The fastest in f32, or in bfloat16 if it may be `short`.
    pub(super) fn of(short: bool, level: Instructions) -> Products {
        match level {
            _ if !short => Products::F32,
            level if level >= Instructions::Amx => Products::Tiles,
            _ => Products::Pairs,
        }
    }
}

/// Memory the attention reuses from text to text.
#[derive(Default)]
pub(super) struct Scratch {
    pub(super) queries: Vec<Line>,
    pub(super) keys: Vec<Line>,
    pub(super) values: Vec<Line>,
    pub(super) scores: Vec<Line>,
    pub(super) weights: Vec<Line>,
}

impl Scratch {
    /// Memory for `rows` queries at a time of `dim` values, and for `keys` keys.
    fn reserve(&mut self, rows: usize, dim: usize, keys: usize) {
        let grow = |memory: &mut Vec<Line>, words: usize| {
            if memory.len() * 16 < words {
                *memory = lines(words);
            }
        };
        // A line more, so that rows may be an odd number of lines apart.
        grow(&mut self.queries, rows.max(keys) * dim);
        grow(&mut self.keys, dim * keys);
        grow(&mut self.values, dim * keys);
        grow(&mut self.scores, rows * (keys + 16));
        grow(&mut self.weights, rows * (keys + 16));
    }
}

/// Which heads there are and what a token sees.
pub(super) struct Sight<'a> {
    pub(super) heads: Heads,
    pub(super) reach: Reach,
    /// Added to the scores, of tokens that see the whole text.
    pub(super) relative: Option<&'a Relative>,
}

/// Where a head is in the rows of a text.
#[derive(Clone, Copy)]
pub(super) struct Head {
    pub(super) tokens: usize,
    pub(super) dim: usize,
    pub(super) reach: Reach,
    /// Values from row to row of queries, keys and values.
    pub(super) wide: usize,
    /// Values from row to row of the result.
    pub(super) hidden: usize,
    /// Tokens rounded up to whole panels.
    pub(super) keys: usize,
    /// Whether keys and values are others than those of the head before.
    pub(super) fresh: bool,
}

/// Where the first row of a head is.
#[derive(Clone, Copy)]
pub(super) struct First {
    pub(super) query: *const f32,
    pub(super) key: *const f32,
    pub(super) value: *const f32,
    pub(super) out: *mut f32,
}

/// What is added to scores for the distance of tokens, and which head it is.
pub(super) type Bias<'a> = Option<(&'a Relative, usize)>;

/// softmax(Q Kᵀ) V of each head.
///
/// `qkv` has queries (scaled already), keys and values of each token, `out` gets
/// the result of each. Heads are a multiple of 32 wide. The processor must have what
/// `products` says; it must have AVX-512 anyway.
pub(super) fn attend(
    qkv: &[f32],
    sight: &Sight<'_>,
    products: Products,
    out: &mut [f32],
    scratch: &mut Scratch,
) {
    let (heads, dim) = (sight.heads, sight.heads.dim);
    let (wide, hidden) = (heads.wide(), heads.out());
    let tokens = out.len() / hidden;
    assert!(dim.is_multiple_of(WIDTH) && dim > 0 && heads.queries.is_multiple_of(heads.keys));
    assert!(qkv.len() == tokens * wide && out.len() == tokens * hidden);
    let keys = tokens.next_multiple_of(WIDTH);
    if tokens == 0 {
        return;
    }
    let cut = Cut::of(tokens);
    scratch.reserve(MOST_ROWS.max(2 * cut.height), dim, keys);
    // SAFETY: the caller says that there are tiles.
    let tiles = (products == Products::Tiles).then(|| unsafe { Tiles::new(cut.height) });
    for number in 0..heads.queries {
        let fresh = number.is_multiple_of(heads.group());
        let head = Head { tokens, dim, reach: sight.reach, wide, hidden, keys, fresh };
        let [query, key, value] = heads.columns(number).map(|column| qkv[column..].as_ptr());
        let first = First { query, key, value, out: out[number * dim..].as_mut_ptr() };
        let bias = sight.relative.map(|relative| (relative, number));
        // SAFETY: see above for the instructions; the lengths were checked.
        unsafe {
            match (products, &tiles) {
                (Products::F32, _) => head.f32(first, bias, scratch),
                (_, None) => head.bf16(first, bias, scratch),
                (_, Some(tiles)) => head.tiled(first, bias, scratch, tiles, cut),
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
        let $sums: Sums<$mr> = $kernel::<$mr, 0>(zero(), $($argument),*);
        $each;
    }};
}

impl Head {
    #[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl")]
    unsafe fn f32(self, first: First, bias: Bias<'_>, scratch: &mut Scratch) {
        let First { query, key, value, out } = first;
        let keys = scratch.keys.as_mut_ptr().cast::<u32>();
        let scores = scratch.scores.as_mut_ptr().cast::<f32>();
        // SAFETY: the rows are those of `attend`, the scratch was grown for them.
        unsafe {
            for block in (0..if self.fresh { self.keys } else { 0 }).step_by(16) {
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
                let blocks = self.blocks(row, height);
                for block in blocks.clone().step_by(WIDTH) {
                    by_height!(height, kernel_f32, (self.dim, queries, self.wide, keys.add(block), self.keys),
                        sums => store(&sums, scores.add(block), self.keys));
                }
                let mut inverse = [0.0; MOST_ROWS];
                for (at, inverse) in inverse.iter_mut().enumerate().take(height) {
                    let scores = scores.add(at * self.keys);
                    self.add(bias, row + at, scores);
                    *inverse = 1.0 / self.softmax(row + at, blocks.clone(), scores);
                }
                let (weights, value) = (scores.add(blocks.start).cast(), value.add(blocks.start * self.wide));
                let steps = blocks.end.min(self.tokens) - blocks.start;
                for column in (0..self.dim).step_by(WIDTH) {
                    let (from, into) = (value.add(column), out.add(row * self.hidden + column));
                    by_height!(height, kernel_f32, (steps, weights, self.keys, from.cast(), self.wide),
                        sums => store_scaled(&sums, &inverse, into, self.hidden));
                }
            }
        }
    }

    #[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512bf16")]
    unsafe fn bf16(self, first: First, bias: Bias<'_>, scratch: &mut Scratch) {
        let First { query, key, value, out } = first;
        let queries = scratch.queries.as_mut_ptr().cast::<u32>();
        let keys = scratch.keys.as_mut_ptr().cast::<u32>();
        let values = scratch.values.as_mut_ptr().cast::<u32>();
        let scores = scratch.scores.as_mut_ptr().cast::<f32>();
        let weights = scratch.weights.as_mut_ptr().cast::<u32>();
        let words = self.dim / 2;
        // SAFETY: the rows are those of `attend`, the scratch was grown for them.
        unsafe {
            for block in (0..if self.fresh { self.keys } else { 0 }).step_by(16) {
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
            if self.fresh {
                self.pair_values(value, values);
            }
            for (row, height) in tiles(self.tokens) {
                for at in 0..height {
                    for column in (0..self.dim).step_by(16) {
                        let from = query.add((row + at) * self.wide + column);
                        _mm256_storeu_si256(queries.add(at * words + column / 2).cast(), pairs(from));
                    }
                }
                let blocks = self.blocks(row, height);
                for block in blocks.clone().step_by(WIDTH) {
                    by_height!(height, kernel_bf16, (words, queries, words, keys.add(block), self.keys),
                        sums => store(&sums, scores.add(block), self.keys));
                }
                let mut inverse = [0.0; MOST_ROWS];
                for (at, inverse) in inverse.iter_mut().enumerate().take(height) {
                    let scores = scores.add(at * self.keys);
                    self.add(bias, row + at, scores);
                    *inverse = 1.0 / self.softmax(row + at, blocks.clone(), scores);
                    for block in blocks.clone().step_by(16) {
                        let into = weights.add(usize::midpoint(at * self.keys, block));
                        _mm256_storeu_si256(into.cast(), pairs(scores.add(block)));
                    }
                }
                let (weights, values) =
                    (weights.add(blocks.start / 2), values.add(blocks.start / 2 * self.dim));
                let steps = (blocks.end.min(self.tokens) - blocks.start).div_ceil(2);
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
    pub(super) unsafe fn pair_values(self, from: *const f32, into: *mut u32) {
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

    /// The panels of keys that the rows of a tile see.
    pub(super) fn blocks(self, row: usize, height: usize) -> Range<usize> {
        self.reach.blocks(row..row + height, self.tokens, WIDTH)
    }

    /// Adds the bias of the token `at` to its row of scores.
    #[inline]
    pub(super) unsafe fn add(self, bias: Bias<'_>, at: usize, row: *mut f32) {
        let Some((relative, head)) = bias else { return };
        // SAFETY: a row has `keys` values, at least as many as there are tokens.
        let row = unsafe { core::slice::from_raw_parts_mut(row, self.tokens) };
        for (score, bias) in row.iter_mut().zip(relative.row(head, at, self.tokens)) {
            *score += bias;
        }
    }

    /// Replaces the scores of some panels in the row of the token `at` by their
    /// exponentials and gives the sum; what the token does not see becomes zero.
    #[inline]
    #[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl")]
    unsafe fn softmax(self, at: usize, blocks: Range<usize>, row: *mut f32) -> f32 {
        let lowest = _mm512_set1_ps(f32::NEG_INFINITY);
        let seen = self.reach.of(at, self.tokens);
        let mask =
            |block: usize| first(seen.end.saturating_sub(block)) & !first(seen.start.saturating_sub(block));
        let (mut most, mut sum) = (lowest, _mm512_setzero_ps());
        // SAFETY: a row has `keys` values.
        unsafe {
            for block in blocks.clone().step_by(16) {
                let x = _mm512_mask_blend_ps(mask(block), lowest, _mm512_loadu_ps(row.add(block)));
                most = _mm512_max_ps(most, x);
            }
            let most = _mm512_set1_ps(_mm512_reduce_max_ps(most));
            for block in blocks.step_by(16) {
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
pub(super) unsafe fn pairs(from: *const f32) -> __m256i {
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
pub(super) fn turn(rows: [__m512i; 16]) -> [__m512i; 16] {
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
    use super::super::super::attend::by_definition;
    use super::super::super::reach::{Heads, Reach};
    use super::super::level::Instructions;
    use super::super::rows::bf16_value;
    use super::{Products, Scratch, Sight, attend};

    #[test]
    fn attention_is_that_of_the_paper_for_any_length_and_reach() {
        let window = Reach::window(9, 9);
        let all = [(Instructions::Avx512, false), (Instructions::Bf16, true), (Instructions::Amx, true)];
        for (level, short) in all {
            if level.resolve().is_err() {
                continue;
            }
            let mut scratch = Scratch::default();
            let products = Products::of(short, level);
            let few = [1, 5, 32, 33].map(|first| Reach::ALL.among(first));
            let more = [Reach::BACK.among(20), window.among(40), Reach::window(4, 0).among(3)];
            let whole = [Reach::ALL, Reach::BACK, window, Reach::window(4, 0)];
            for reach in whole.into_iter().chain(few).chain(more) {
                for (tokens, queries, keys, dim) in [
                    (70, 2, 2, 64),
                    (1, 1, 1, 32),
                    (3, 2, 1, 32),
                    (16, 1, 1, 64),
                    (17, 2, 2, 32),
                    (31, 3, 3, 32),
                    (32, 1, 1, 96),
                    (33, 1, 1, 32),
                    (131, 4, 2, 32),
                ] {
                    let heads = Heads { queries, keys, dim };
                    let number = |i: usize| ((i * 7919 + tokens) % 4001) as f32 / 4000.0 - 0.5;
                    let qkv: Vec<f32> = (0..tokens * heads.wide()).map(|i| bf16_value(number(i))).collect();
                    let mut out = vec![f32::NAN; tokens * heads.out()];
                    let sight = Sight { heads, reach, relative: None };
                    attend(&qkv, &sight, products, &mut out, &mut scratch);
                    let close = if short { 2e-3 } else { 1e-5 };
                    for (got, want) in out.iter().zip(by_definition(&qkv, heads, reach)) {
                        let error = (f64::from(*got) - want).abs();
                        assert!(error < close, "{level:?} {tokens} {heads:?} {reach:?}: {got} {want}");
                    }
                }
            }
        }
    }
}
