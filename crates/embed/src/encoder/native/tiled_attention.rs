//! Multi-head attention of one text over itself, with AMX.
//!
//! Queries are rows, keys and values panels of pairs, so that both products are
//! those of the linear layers. What is behind the last token weighs zero.

#![allow(unsafe_code)] // Loads and stores take pointers.

use core::arch::x86_64::{
    __m256bh, __m256i, __m512, _mm256_storeu_si256, _mm512_add_ps, _mm512_castsi256_si512,
    _mm512_cvtneps_pbh, _mm512_fmsub_ps, _mm512_inserti64x4, _mm512_loadu_ps, _mm512_mask_blend_ps,
    _mm512_maskz_mov_ps, _mm512_max_ps, _mm512_mul_ps, _mm512_reduce_add_ps, _mm512_reduce_max_ps,
    _mm512_set1_ps, _mm512_setzero_ps, _mm512_setzero_si512, _mm512_storeu_epi32, _mm512_storeu_ps,
};

use core::ops::Range;

use super::amx::{Cut, Piece, Sums, Tiles, join, no_sums, one_bf16, two_bf16};
use super::attention::{Bias, First, Head, Scratch, pairs, turn};
use super::avx512::first;
use super::curves::exp2_short;
use super::matrix::{PIECE, WIDTH};
use super::rows::Format;

/// A head and where its numbers are on the way.
struct Work<'a> {
    head: Head,
    tiles: &'a Tiles,
    cut: Cut,
    queries: *mut u32,
    keys: *mut u32,
    values: *mut u32,
    scores: *mut f32,
    weights: *mut u32,
    /// Words from row to row of the last two: an odd number of lines, so that rows do
    /// not fall into the same places of the cache.
    score_stride: usize,
    weight_stride: usize,
}

impl Head {
    /// softmax(Q Kᵀ) V of one head.
    ///
    /// # Safety
    /// The rows are those of `attend`, the scratch was grown for them; `tiles` are as
    /// high as those of `cut`, the tokens.
    #[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512bf16")]
    pub(super) unsafe fn tiled(
        self,
        first: First,
        bias: Bias<'_>,
        scratch: &mut Scratch,
        tiles: &Tiles,
        cut: Cut,
    ) {
        let work = Work {
            head: self,
            tiles,
            cut,
            queries: scratch.queries.as_mut_ptr().cast(),
            keys: scratch.keys.as_mut_ptr().cast(),
            values: scratch.values.as_mut_ptr().cast(),
            scores: scratch.scores.as_mut_ptr().cast(),
            weights: scratch.weights.as_mut_ptr().cast(),
            score_stride: self.keys + 16,
            weight_stride: ((self.keys / 32) | 1) * 16,
        };
        // SAFETY: as the caller says.
        unsafe {
            work.take(first);
            let mut sums = no_sums();
            for rows in cut.pairs() {
                work.score(rows);
                let inverse = work.softmax(rows, bias);
                work.mix(rows, &inverse, &mut sums, first.out);
            }
        }
    }
}

impl Work<'_> {
    /// The panels of keys that the rows of two tiles, or one, see.
    fn blocks(&self, (one, two): (usize, Option<usize>)) -> Range<usize> {
        self.head.blocks(one, two.unwrap_or(one) + self.cut.height - one)
    }

    /// Brings queries, keys and values into the order of tiles.
    #[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512bf16")]
    unsafe fn take(&self, First { query, key, value, .. }: First) {
        let Head { tokens, dim, wide, keys, fresh, .. } = self.head;
        let words = dim / 2;
        // SAFETY: see `tiled`.
        unsafe {
            for token in 0..tokens {
                for column in (0..dim).step_by(16) {
                    let into = self.queries.add(token * words + column / 2);
                    _mm256_storeu_si256(into.cast(), pairs(query.add(token * wide + column)));
                }
            }
            if !fresh {
                return;
            }
            for block in (0..keys).step_by(16) {
                let panel = self.keys.add(block / WIDTH * words * WIDTH + block % WIDTH);
                for word in (0..words).step_by(16) {
                    let rows = core::array::from_fn(|row| {
                        let token = block + row;
                        if token >= tokens {
                            return _mm512_setzero_si512();
                        }
                        let from = key.add(token * wide + 2 * word);
                        let (low, high) = (pairs(from), pairs(from.add(16)));
                        _mm512_inserti64x4::<1>(_mm512_castsi256_si512(low), high)
                    });
                    for (row, turned) in turn(rows).into_iter().enumerate() {
                        _mm512_storeu_epi32(panel.add((word + row) * WIDTH).cast(), turned);
                    }
                }
            }
            self.head.pair_values(value, self.values);
            // Memory may have anything, and zero times infinity is no zero.
            for at in (tokens.div_ceil(2) * dim..keys / 2 * dim).step_by(16) {
                _mm512_storeu_epi32(self.values.add(at).cast(), _mm512_setzero_si512());
            }
        }
    }

    /// Q Kᵀ of two tiles of tokens, or one.
    #[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512bf16")]
    unsafe fn score(&self, (one, two): (usize, Option<usize>)) {
        let blocks = self.blocks((one, two));
        let words = self.head.dim / 2;
        // SAFETY: see `tiled`.
        unsafe {
            let more = self.scores.add(self.cut.height * self.score_stride);
            for column in blocks.step_by(WIDTH) {
                let piece = Piece {
                    pieces: words / PIECE,
                    rows: [one, two.unwrap_or(one)].map(|row| self.queries.add(row * words).cast_const()),
                    row_stride: 4 * words,
                    columns: self.keys.add(column * words),
                    column_stride: 4 * WIDTH,
                    sums: [self.scores, more].map(|scores| scores.add(column).cast()),
                    sum_stride: 4 * self.score_stride,
                    ahead: self.keys,
                };
                if two.is_some() {
                    two_bf16(self.tiles, &piece);
                    continue;
                }
                one_bf16(self.tiles, &piece);
                if piece.pieces == 1 {
                    continue; // There are no odd ones.
                }
                for row in 0..self.cut.height {
                    for at in [column, column + 16] {
                        let at = row * self.score_stride + at;
                        let sum = _mm512_add_ps(
                            _mm512_loadu_ps(self.scores.add(at)),
                            _mm512_loadu_ps(more.add(at)),
                        );
                        _mm512_storeu_ps(self.scores.add(at), sum);
                    }
                }
            }
        }
    }

    /// Turns scores into weights, whose inverse sums it gives.
    #[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512bf16")]
    unsafe fn softmax(&self, (one, two): (usize, Option<usize>), bias: Bias<'_>) -> [[f32; PIECE]; 2] {
        let mut inverse = [[0.0; PIECE]; 2];
        let blocks = self.blocks((one, two));
        let tiles = [Some(one), two].into_iter().flatten().zip(&mut inverse);
        for (tile, (token, inverse)) in tiles.enumerate() {
            for (row, inverse) in inverse.iter_mut().enumerate().take(self.cut.height) {
                let line = tile * self.cut.height + row;
                // SAFETY: see `tiled`.
                unsafe {
                    let scores = self.scores.add(line * self.score_stride);
                    self.head.add(bias, token + row, scores);
                    let weights = self.weights.add(line * self.weight_stride);
                    *inverse = 1.0 / self.weigh(token + row, blocks.clone(), scores, weights);
                }
            }
        }
        inverse
    }

    /// Writes the exponentials of the scores of some panels in the row of the token
    /// `at` as bfloat16, and gives their sum; what the token does not see becomes zero.
    #[inline]
    #[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512bf16")]
    unsafe fn weigh(&self, at: usize, blocks: Range<usize>, scores: *const f32, into: *mut u32) -> f32 {
        let seen = self.head.reach.of(at, self.head.tokens);
        let lowest = _mm512_set1_ps(f32::NEG_INFINITY);
        let mask = |at: usize| first(seen.end.saturating_sub(at)) & !first(seen.start.saturating_sub(at));
        let (mut most, mut sums) = ([lowest; 2], [_mm512_setzero_ps(); 2]);
        // SAFETY: a row has `keys` values, a multiple of 32.
        unsafe {
            for block in blocks.clone().step_by(WIDTH) {
                for (half, most) in most.iter_mut().enumerate() {
                    let at = block + 16 * half;
                    let x = _mm512_mask_blend_ps(mask(at), lowest, _mm512_loadu_ps(scores.add(at)));
                    *most = _mm512_max_ps(*most, x);
                }
            }
            let log2 = _mm512_set1_ps(std::f32::consts::LOG2_E);
            let most = _mm512_set1_ps(_mm512_reduce_max_ps(_mm512_max_ps(most[0], most[1])));
            let most = _mm512_mul_ps(most, log2);
            for block in blocks.step_by(WIDTH) {
                for (half, sum) in sums.iter_mut().enumerate() {
                    let at = block + 16 * half;
                    let x = _mm512_fmsub_ps(_mm512_loadu_ps(scores.add(at)), log2, most);
                    let x = _mm512_maskz_mov_ps(mask(at), exp2_short(x));
                    *sum = _mm512_add_ps(*sum, x);
                    let short = core::mem::transmute::<__m256bh, __m256i>(_mm512_cvtneps_pbh(x));
                    _mm256_storeu_si256(into.add(at / 2).cast(), short);
                }
            }
        }
        _mm512_reduce_add_ps(_mm512_add_ps(sums[0], sums[1]))
    }

    /// Weights times values, divided by the sums of the weights.
    #[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512bf16")]
    unsafe fn mix(
        &self,
        (one, two): (usize, Option<usize>),
        inverse: &[[f32; PIECE]; 2],
        sums: &mut Sums,
        out: *mut f32,
    ) {
        let Head { dim, hidden, .. } = self.head;
        let blocks = self.blocks((one, two));
        let height = self.cut.height;
        // SAFETY: see `tiled`.
        unsafe {
            for column in (0..dim).step_by(WIDTH) {
                let into = sums.as_mut_ptr();
                let piece = Piece {
                    pieces: blocks.len() / 2 / PIECE,
                    rows: [0, height].map(|row| {
                        self.weights.add(row * self.weight_stride + blocks.start / 2).cast_const()
                    }),
                    row_stride: 4 * self.weight_stride,
                    columns: self.values.add(blocks.start / 2 * dim + column),
                    column_stride: 4 * dim,
                    sums: [into.cast(), into.add(height).cast()],
                    sum_stride: size_of::<[__m512; 2]>(),
                    ahead: self.values,
                };
                if two.is_some() {
                    two_bf16(self.tiles, &piece);
                } else {
                    one_bf16(self.tiles, &piece);
                }
                let (sums, more) = sums.split_at_mut(height);
                let more = &mut more[..height];
                if two.is_none() && piece.pieces > 1 {
                    join(sums, more, Format::Bf16);
                }
                store(sums, &inverse[0], out.add(one * hidden + column), hidden);
                if let Some(two) = two {
                    store(more, &inverse[1], out.add(two * hidden + column), hidden);
                }
            }
        }
    }
}

/// Stores rows of 32 sums, each times a number.
#[inline]
#[target_feature(enable = "avx512f")]
unsafe fn store(sums: &[[__m512; 2]], by: &[f32; PIECE], into: *mut f32, width: usize) {
    for (row, (sums, by)) in sums.iter().zip(by).enumerate() {
        let by = _mm512_set1_ps(*by);
        // SAFETY: the caller's rows have room for 32 values.
        unsafe {
            _mm512_storeu_ps(into.add(row * width), _mm512_mul_ps(sums[0], by));
            _mm512_storeu_ps(into.add(row * width + 16), _mm512_mul_ps(sums[1], by));
        }
    }
}
