//! The inputs of a matrix product, in the form the kernels read.
//!
//! Rows stay rows: the kernels broadcast one word of each at a time, or take a line
//! of each as a tile. Only the distance between them is chosen, so that the rows of a
//! tile do not fall into the same lines of the first cache.

use super::level::{Instructions, Precision};
use super::matrix::{Line, Matrix, lines, pair, words_mut};

/// Words of a row that lie together where f32 are multiplied with AVX-512. Then come those
/// of the next row, and behind all rows the next words of the first.
pub(super) const CHUNK: usize = 128;
/// Words from a row to the next there. It is a number the compiler knows, so that the
/// rows of a tile need no addresses of their own; an odd number of lines.
pub(super) const CHUNK_STRIDE: usize = CHUNK + 16;

/// What a word holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Format {
    /// One f32, perhaps rounded to a shorter format.
    F32,
    /// Two bfloat16.
    Bf16,
    /// Four integers: 0..=255 in rows, -127..=127 in weights.
    Int8,
}

impl Format {
    /// The format for a precision: f32 without the instructions for it.
    pub(super) fn of(precision: Precision, level: Instructions) -> Format {
        match precision {
            Precision::Bf16 if level >= Instructions::Bf16 => Format::Bf16,
            Precision::Int8 if level >= Instructions::Vnni => Format::Int8,
            _ => Format::F32,
        }
    }

    pub(super) fn per_word(self) -> usize {
        match self {
            Format::F32 => 1,
            Format::Bf16 => 2,
            Format::Int8 => 4,
        }
    }

    /// One word of weights; what is missing at the end is zero.
    pub(super) fn word(self, values: &[f32]) -> u32 {
        let at = |at: usize| values.get(at).copied().unwrap_or(0.0);
        match self {
            Format::F32 => at(0).to_bits(),
            Format::Bf16 => pair(at(0), at(1)),
            Format::Int8 => u32::from_le_bytes([0, 1, 2, 3].map(|i| at(i) as i8 as u8)),
        }
    }
}

/// To the nearest bfloat16, ties to even.
pub(super) fn bf16(x: f32) -> u16 {
    let bits = x.to_bits();
    if x.is_nan() {
        return (bits >> 16) as u16 | 0x40;
    }
    (bits.wrapping_add(0x7FFF + (bits >> 16 & 1)) >> 16) as u16
}

pub(super) fn bf16_value(x: f32) -> f32 {
    f32::from_bits(u32::from(bf16(x)) << 16)
}

/// Some rows; memory is kept from product to product.
#[derive(Default)]
pub(super) struct Rows {
    pub(super) words: Vec<Line>,
    /// Words from row to row; words of a row where it lies in chunks.
    pub(super) stride: usize,
    /// What an integer of the row stands for, and the integer of zero.
    pub(super) scale: Vec<f32>,
    pub(super) zero: Vec<i32>,
}

impl Rows {
    /// Makes room for `rows` rows of the inputs of `matrix`.
    pub(super) fn reserve(&mut self, rows: usize, matrix: &Matrix) {
        self.stride = if in_chunks(matrix) {
            matrix.steps().div_ceil(CHUNK) * CHUNK_STRIDE
        } else {
            // A line more than rows need, if their number of lines is even.
            (matrix.steps().div_ceil(16) | 1) * 16
        };
        let want = rows * self.stride / 16;
        if self.words.len() < want {
            self.words = lines(want * 16);
        }
        if self.scale.len() < rows {
            self.scale.resize(rows, 1.0);
            self.zero.resize(rows, 0);
        }
    }

    /// Takes up `values`, rows of the inputs of `matrix`.
    pub(super) fn fill(&mut self, values: &[f32], matrix: &Matrix) {
        let inputs = matrix.inputs;
        self.reserve(values.len() / inputs, matrix);
        #[cfg(target_arch = "x86_64")]
        if matrix.level >= Instructions::Avx512 {
            match matrix.format {
                Format::Bf16 => return super::avx512::fill_bf16(self, values, matrix),
                Format::Int8 => return super::avx512::fill_int8(self, values, matrix),
                Format::F32 => {}
            }
        }
        self.fill_f32(values, matrix);
    }

    /// Rounded as the precision says, in words of f32.
    fn fill_f32(&mut self, values: &[f32], matrix: &Matrix) {
        let (inputs, count) = (matrix.inputs, values.len() / matrix.inputs);
        let (piece, apart) = if in_chunks(matrix) { (CHUNK, CHUNK_STRIDE) } else { (inputs, self.stride) };
        let words = words_mut(&mut self.words);
        for (at, row) in values.chunks_exact(inputs).enumerate() {
            let (scale, zero) = match matrix.precision {
                Precision::Int8 => range(row),
                _ => (1.0, 0.0),
            };
            self.scale[at] = scale;
            for (number, row) in row.chunks(piece).enumerate() {
                let into = &mut words[(number * count + at) * apart..][..row.len()];
                match matrix.precision {
                    Precision::Auto | Precision::F32 | Precision::F16 => {
                        for (into, x) in into.iter_mut().zip(row) {
                            *into = x.to_bits();
                        }
                    }
                    Precision::Bf16 => {
                        for (into, x) in into.iter_mut().zip(row) {
                            *into = bf16_value(*x).to_bits();
                        }
                    }
                    Precision::Int8 => {
                        for (into, x) in into.iter_mut().zip(row) {
                            let whole = (x / scale).round_ties_even() + zero;
                            *into = (whole.clamp(0.0, 255.0) - zero).to_bits();
                        }
                    }
                }
            }
        }
    }
}

/// Whether rows for this matrix lie in chunks.
fn in_chunks(matrix: &Matrix) -> bool {
    cfg!(target_arch = "x86_64") && matrix.format == Format::F32 && matrix.level >= Instructions::Avx512
}

/// The scale of a row and the integer of zero, so that its smallest and
/// largest values are 0 and 255.
pub(super) fn range(row: &[f32]) -> (f32, f32) {
    let low = row.iter().fold(0.0f32, |low, x| low.min(*x));
    let high = row.iter().fold(0.0f32, |high, x| high.max(*x));
    scale_of(low, high, row.iter().any(|x| x.is_nan()))
}

/// As [`range`], of the ends; NaN must reach the check of the vector.
pub(super) fn scale_of(low: f32, high: f32, broken: bool) -> (f32, f32) {
    if broken {
        return (f32::NAN, 0.0);
    }
    let scale = ((high - low) / 255.0).max(1e-30);
    (scale, (-low / scale).round_ties_even())
}
