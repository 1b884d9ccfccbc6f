//! Distances between codes, as a build measures them.
//!
//! In whole numbers, so that a build gives the same graph on every processor:
//! the squared straight line between two codes, for Manhattan the sum of the
//! absolute differences. By dot it is what the product lacks to the largest number:
//! no distance, but what queries are answered by (Morozov and Babenko 2018, ip-NSW).

#![allow(clippy::inline_always)] // Parts of loops that are compiled per instruction set.

use rayon::prelude::*;

use crate::Metric;
use crate::array::Line;
use crate::codes::{Int8, OFFSET};
use crate::prefetch::prefetch;
use crate::simd::Simd;
use crate::walk::Measure;

/// What no product of two codes exceeds; of rows of up to 66,000 values.
const LARGEST: i64 = 1 << 30;

/// What the distances of codes share.
#[derive(Default)]
pub(super) struct Sums {
    /// The sum of each code's values; none for Manhattan.
    sums: Vec<i32>,
    /// The sum of their squares; none for dot either.
    squares: Vec<u32>,
}

impl Sums {
    pub(super) fn of(codes: &Int8) -> Self {
        let mut sums = Self::default();
        sums.append(codes);
        sums
    }

    /// Adds those of the codes that were added.
    pub(super) fn append(&mut self, codes: &Int8) {
        if codes.metric() == Metric::Manhattan {
            return;
        }
        let code = |code: &[Line]| {
            let values =
                bytemuck::cast_slice::<Line, u8>(code).iter().map(|&value| i32::from(value) - OFFSET);
            let (sum, square) =
                values.fold((0, 0), |(sum, square), value| (sum + value, square + value * value));
            (sum, square as u32)
        };
        let fresh = &codes.lines()[self.sums.len() * codes.lines_per_code()..];
        let made = fresh.par_chunks_exact(codes.lines_per_code()).with_min_len(256).map(code);
        if codes.metric() == Metric::Dot {
            self.sums.par_extend(made.map(|(sum, _)| sum));
        } else {
            let (sums, squares): (Vec<i32>, Vec<u32>) = made.unzip();
            self.sums.extend(sums);
            self.squares.extend(squares);
        }
    }
}

/// Codes, and what their distances share.
#[derive(Clone, Copy)]
pub(super) struct BuildCodes<'a> {
    lines: &'a [Line],
    per_code: usize,
    sums: &'a [i32],
    squares: &'a [u32],
}

impl<'a> BuildCodes<'a> {
    pub(super) fn new(codes: &'a Int8, sums: &'a Sums) -> Self {
        let (lines, per_code) = (codes.lines(), codes.lines_per_code());
        Self { lines, per_code, sums: &sums.sums, squares: &sums.squares }
    }

    /// Readies a code to be measured against others, in `buffer`.
    #[inline(always)]
    pub(super) fn turned<'b>(&self, position: u32, buffer: &'b mut Vec<u8>) -> Turned<'b> {
        let code: &[u8] = bytemuck::cast_slice(self.code(position));
        buffer.clear();
        let Some(&sum) = self.sums.get(position as usize) else {
            buffer.extend_from_slice(code);
            return Turned { values: buffer, offset: None, square: 0 };
        };
        buffer.extend(code.iter().map(|value| value ^ OFFSET as u8));
        let square = self.squares.get(position as usize).copied().unwrap_or_default();
        Turned { values: buffer, offset: Some(OFFSET * sum), square }
    }

    /// The distance between a code made ready and another one.
    #[inline(always)]
    pub(super) fn apart<S: Simd>(&self, from: &Turned<'_>, position: u32) -> u32 {
        let code = bytemuck::cast_slice(self.code(position));
        let Some(offset) = from.offset else {
            return S::difference(code, from.values);
        };
        let product = i64::from(S::dot(code, bytemuck::cast_slice(from.values)) - offset);
        match self.squares.get(position as usize) {
            Some(&square) => (i64::from(square) + i64::from(from.square) - 2 * product) as u32,
            None => (LARGEST - product) as u32,
        }
    }

    #[inline(always)]
    pub(super) fn prefetch(&self, position: u32) {
        prefetch(self.code(position));
    }

    #[inline(always)]
    fn code(&self, position: u32) -> &[Line] {
        &self.lines[position as usize * self.per_code..][..self.per_code]
    }
}

/// A code that others are measured against.
pub(super) struct Turned<'b> {
    /// Its values as `i8`; for Manhattan as they are.
    values: &'b [u8],
    /// What the offset of the other code adds to the product; none for Manhattan.
    offset: Option<i32>,
    square: u32,
}

/// The distance from one code.
pub(super) struct From<'a> {
    pub(super) codes: &'a BuildCodes<'a>,
    pub(super) turned: Turned<'a>,
}

impl Measure for From<'_> {
    #[inline(always)]
    fn rank<S: Simd>(&self, position: u32) -> u32 {
        self.codes.apart::<S>(&self.turned, position)
    }

    #[inline(always)]
    fn prefetch(&self, position: u32) {
        self.codes.prefetch(position);
    }
}
