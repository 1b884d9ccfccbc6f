//! One byte a value, or half of one.
//!
//! A row is rotated, so that all its values are of one size, scaled by one factor
//! for all rows, and rounded. By dot the factor suits the longest rows, which are
//! what is mostly looked for. Manhattan distances do not survive a rotation; there
//! the values stay where they are and the mean of each is taken off.
//!
//! Stored is the whole number plus 128, so that the product with a query needs
//! no correction that belongs to the row. A query is rounded by a factor of its
//! own.
//!
//! Half a byte names one of 16 levels that lie around zero, as far apart as suits
//! values of a normal distribution, which those of a rotated row nearly have
//! (Max, Quantizing for minimum distortion, 1960). A line of such codes
//! holds 128 values, the second 64 of them in the upper halves.

#![allow(clippy::inline_always)] // Parts of loops that are compiled per instruction set.

pub(crate) mod signs;

use std::cmp::Reverse;

use rayon::prelude::*;

use super::rotation::Rotation;
use crate::array::{Array, Line};
use crate::pages;
use crate::pool::rank;
use crate::prefetch::prefetch;
use crate::simd::{LINE, Simd, Task, run};
use crate::{Metric, Rows};

/// The largest whole number of a code.
const TOP: f32 = 127.0;
/// Added to it.
pub(crate) const OFFSET: i32 = 128;
/// Levels that half a byte names.
const LEVELS: f32 = 16.0;
/// How far they are apart, in standard deviations.
const APART: f32 = 0.3352;
/// Rows that the factor is taken from.
const SAMPLE: usize = 4096;
/// By dot, one of so many of those, the longest.
const LONGEST: usize = 64;
/// The part of all values that is within the range; the rest is cut to it.
const WITHIN: f64 = 0.9999;

/// Bits a value.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Bits {
    Eight,
    /// Not by Manhattan, where values are of any size.
    Four,
}

impl Bits {
    /// Values in a line of codes.
    const fn per_line(self) -> usize {
        match self {
            Self::Eight => LINE,
            Self::Four => 2 * LINE,
        }
    }
}

/// The codes of some rows.
#[derive(Clone, PartialEq)]
pub(crate) struct Int8 {
    metric: Metric,
    /// How a row becomes what is rounded.
    frame: Frame,
    /// Codes behind each other, each of whole lines.
    lines: Array<Line>,
    /// For Euclid the squared length of what was rounded; else empty.
    squares: Array<f32>,
}

/// Where codes lie: what is done to a vector before it is rounded.
#[derive(Clone, PartialEq)]
struct Frame {
    /// Values per row, as given.
    dim: usize,
    bits: Bits,
    /// Values per code, whole lines of them.
    width: usize,
    /// None for Manhattan.
    rotation: Option<Rotation>,
    /// Taken off rows before the rotation; by cosine and dot, in a byte a value,
    /// none. What it takes off a product is the same for all rows.
    mean: Vec<f32>,
    /// Whole numbers per unit.
    scale: f32,
}

/// What codes are read back with, besides their arrays.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Shape {
    pub(crate) metric: Metric,
    pub(crate) bits: Bits,
    /// Values per row, as given.
    pub(crate) dim: usize,
    pub(crate) scale: f32,
}

impl Shape {
    /// Values per code.
    fn width(self) -> usize {
        self.dim.next_multiple_of(self.bits.per_line())
    }

    /// Bytes per code.
    pub(crate) fn bytes(self) -> usize {
        self.width() / self.bits.per_line() * LINE
    }

    /// Values of the mean.
    pub(crate) fn mean(self) -> usize {
        let of_distance = matches!(self.metric, Metric::Euclid | Metric::Manhattan);
        if of_distance || self.bits == Bits::Four { self.dim } else { 0 }
    }

    /// Squared lengths of `len` codes.
    pub(crate) fn squares(self, len: usize) -> usize {
        if self.metric == Metric::Euclid { len } else { 0 }
    }
}

/// The arrays of codes.
pub(crate) struct Parts<'a> {
    pub(crate) mean: &'a [f32],
    pub(crate) squares: &'a [f32],
    pub(crate) lines: &'a [Line],
}

impl Int8 {
    /// Codes as they were; the arrays have the lengths that the shape says.
    pub(crate) fn from_parts(shape: Shape, mean: &[f32], squares: Array<f32>, lines: Array<Line>) -> Self {
        let width = shape.width();
        let frame = Frame {
            dim: shape.dim,
            bits: shape.bits,
            width,
            rotation: rotation(shape.metric, width),
            mean: mean.to_vec(),
            scale: shape.scale,
        };
        Self { metric: shape.metric, frame, lines, squares }
    }

    pub(crate) fn shape(&self) -> Shape {
        Shape { metric: self.metric, bits: self.frame.bits, dim: self.frame.dim, scale: self.frame.scale }
    }

    pub(crate) fn parts(&self) -> Parts<'_> {
        Parts { mean: &self.frame.mean, squares: &self.squares, lines: &self.lines }
    }

    /// Encodes rows, in the order of `slots`, in a byte a value.
    pub(crate) fn encode<R: Rows>(metric: Metric, rows: &R, slots: &[u32]) -> Self {
        Self::encode_as(metric, Bits::Eight, rows, slots)
    }

    /// Encodes rows, in the order of `slots`.
    pub(crate) fn encode_as<R: Rows>(metric: Metric, bits: Bits, rows: &R, slots: &[u32]) -> Self {
        let encoder = Encoder::of(metric, bits, rows);
        let mut codes = encoder.empty();
        encoder.append(&mut codes, rows, slots);
        codes
    }

    pub(crate) fn metric(&self) -> Metric {
        self.metric
    }

    pub(crate) fn lines_per_code(&self) -> usize {
        self.frame.width / self.frame.bits.per_line()
    }

    pub(crate) fn bits(&self) -> Bits {
        self.frame.bits
    }

    /// All codes, behind each other.
    pub(crate) fn lines(&self) -> &[Line] {
        &self.lines
    }

    /// One code.
    #[inline(always)]
    pub(crate) fn code(&self, position: u32) -> &[u8] {
        let per_code = self.lines_per_code();
        bytemuck::cast_slice(&self.lines[position as usize * per_code..][..per_code])
    }

    /// The share of values that were cut to the range, or just reach its ends.
    pub(crate) fn at_the_ends(&self) -> f64 {
        let bytes: &[u8] = bytemuck::cast_slice(&self.lines);
        let ends = [(OFFSET - TOP as i32) as u8, (OFFSET + TOP as i32) as u8];
        bytes.iter().filter(|byte| ends.contains(byte)).count() as f64 / bytes.len().max(1) as f64
    }

    pub(crate) fn memory_bytes(&self) -> usize {
        size_of_val(&*self.lines) + size_of_val(&*self.squares)
    }

    /// The same codes in another order.
    pub(crate) fn reordered(&self, positions: &[u32]) -> Self {
        let (per_code, lines, squares) = (self.lines_per_code(), &*self.lines, &*self.squares);
        let mut moved = pages::with_capacity(lines.len());
        for &from in positions {
            moved.extend_from_slice(&lines[from as usize * per_code..][..per_code]);
        }
        let squares: Vec<f32> = match squares {
            [] => Vec::new(),
            squares => positions.iter().map(|&from| squares[from as usize]).collect(),
        };
        Self { lines: moved.into(), squares: squares.into(), ..self.clone() }
    }

    /// The values that the code of a position stands for, as rows had them.
    pub(crate) fn decoded(&self, position: u32) -> Vec<f32> {
        let Frame { dim, bits, rotation, mean, scale, .. } = &self.frame;
        let code = self.code(position);
        let mut values: Vec<f32> = match bits {
            Bits::Eight => code.iter().map(|&byte| (i32::from(byte) - OFFSET) as f32 / scale).collect(),
            Bits::Four => {
                let level = |half: u8| (f32::from(half) - (LEVELS - 1.0) / 2.0) / scale;
                let lines = code.chunks_exact(LINE);
                lines
                    .flat_map(|line| {
                        line.iter().map(|byte| byte & 15).chain(line.iter().map(|byte| byte >> 4))
                    })
                    .map(level)
                    .collect()
            }
        };
        if let Some(rotation) = rotation {
            rotation.undo(&mut values);
        }
        // What fills a line ends here.
        values.truncate(*dim);
        values.iter_mut().zip(mean).for_each(|(value, mean)| *value += mean);
        values
    }

    /// Readies a query; it is prepared for the metric.
    ///
    /// # Panics
    /// If it has another length than the rows.
    pub(crate) fn query<'c>(&'c self, query: &[f32], buffer: &'c mut Int8Buffer) -> Int8Query<'c> {
        assert_eq!(query.len(), self.frame.dim, "the query has the dimension of the rows");
        let terms = run(EncodeQuery { codes: self, query, buffer });
        Int8Query {
            lines: &self.lines,
            per_code: self.lines_per_code(),
            squares: &self.squares,
            bits: self.frame.bits,
            placed: &buffer.values,
            query: &buffer.code,
            terms,
            step: self.frame.scale.recip(),
        }
    }
}

/// Manhattan distances do not survive one.
fn rotation(metric: Metric, width: usize) -> Option<Rotation> {
    (metric != Metric::Manhattan).then(|| Rotation::new(width))
}

/// Makes codes of one kind.
#[derive(Clone)]
pub(crate) struct Encoder {
    metric: Metric,
    frame: Frame,
}

impl Encoder {
    /// An encoder that suits rows like these.
    pub(crate) fn of<R: Rows>(metric: Metric, bits: Bits, rows: &R) -> Self {
        let shape = Shape { metric, bits, dim: rows.dim(), scale: 1.0 };
        let width = shape.width();
        let rotation = rotation(metric, width);
        let mut frame = Frame { dim: rows.dim(), bits, width, rotation, mean: Vec::new(), scale: 1.0 };
        let step = (rows.len() / SAMPLE).max(1);
        let mut sample: Vec<u32> = (0..rows.len() as u32).step_by(step).take(SAMPLE).collect();
        if shape.mean() > 0 {
            let mut mean = vec![0f64; shape.mean()];
            for &slot in &sample {
                let row = metric.prepared(rows.row(slot));
                mean.iter_mut().zip(row).for_each(|(mean, value)| *mean += f64::from(value));
            }
            frame.mean = mean.iter().map(|sum| (sum / sample.len().max(1) as f64) as f32).collect();
        }
        if metric == Metric::Dot {
            let by_length = |&slot: &u32| {
                let row = metric.prepared(rows.row(slot));
                Reverse(rank(0.0 - Metric::Dot.distance(&row, &row)))
            };
            sample.sort_by_cached_key(by_length);
            sample.truncate(sample.len().div_ceil(LONGEST));
        }
        let placed = sample.par_iter().flat_map_iter(|&slot| {
            let mut row = metric.prepared(rows.row(slot));
            run(Place { frame: &frame, row: &mut row });
            row
        });
        let mut sizes: Vec<f32> = placed.map(f32::abs).collect();
        if !sizes.is_empty() {
            let at = ((sizes.len() - 1) as f64 * WITHIN) as usize;
            let scale = match bits {
                Bits::Eight => {
                    let (_, &mut within, _) = sizes.select_nth_unstable_by(at, f32::total_cmp);
                    TOP / within
                }
                Bits::Four => {
                    let squares: f64 = sizes.iter().map(|size| f64::from(size * size)).sum();
                    (APART * (squares / sizes.len() as f64).sqrt() as f32).recip()
                }
            };
            frame.scale = if scale.is_finite() { scale } else { 1.0 };
        }
        Self { metric, frame }
    }

    /// No codes yet.
    pub(crate) fn empty(&self) -> Int8 {
        Int8 {
            metric: self.metric,
            frame: self.frame.clone(),
            lines: Array::default(),
            squares: Array::default(),
        }
    }

    /// Encodes rows behind the codes that there are, in the order of `slots`.
    pub(crate) fn append<R: Rows>(&self, codes: &mut Int8, rows: &R, slots: &[u32]) {
        let per_code = self.frame.width / self.frame.bits.per_line();
        let all = codes.lines.make_mut();
        let before = all.len();
        let len = before + slots.len() * per_code;
        if before == 0 {
            *all = pages::with_capacity(len);
        }
        all.resize(len, Line([0; LINE]));
        let encode = |(at, code): (usize, &mut [Line])| {
            let row = self.metric.prepared(rows.row(slots[at]));
            run(Encode { frame: &self.frame, row, code: bytemuck::cast_slice_mut(code) })
        };
        let made = all[before..].par_chunks_exact_mut(per_code).enumerate().with_min_len(64);
        if self.metric == Metric::Euclid {
            let squares: Vec<f32> = made.map(encode).collect();
            codes.squares.make_mut().extend(squares);
        } else {
            made.for_each(|code| {
                encode(code);
            });
        }
    }
}

impl Frame {
    /// Takes the mean off a row and rotates it.
    #[inline(always)]
    fn place<S: Simd>(&self, row: &mut Vec<f32>) {
        row.iter_mut().zip(&self.mean).for_each(|(value, mean)| *value -= mean);
        self.rotate::<S>(row);
    }

    #[inline(always)]
    fn rotate<S: Simd>(&self, row: &mut Vec<f32>) {
        row.resize(self.width, 0.0);
        if let Some(rotation) = &self.rotation {
            rotation.apply::<S>(row);
        }
    }
}

struct Place<'a> {
    frame: &'a Frame,
    row: &'a mut Vec<f32>,
}

impl Task for Place<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self) {
        self.frame.place::<S>(self.row);
    }
}

/// Encodes one row; gives its squared length.
struct Encode<'a> {
    frame: &'a Frame,
    row: Vec<f32>,
    code: &'a mut [u8],
}

impl Task for Encode<'_> {
    type Output = f32;

    #[inline(always)]
    fn run<S: Simd>(mut self) -> f32 {
        self.frame.place::<S>(&mut self.row);
        let scale = self.frame.scale;
        match self.frame.bits {
            Bits::Eight => {
                for (code, value) in self.code.iter_mut().zip(&self.row) {
                    *code = (round(value * scale) + OFFSET) as u8;
                }
            }
            Bits::Four => {
                let level = |value: f32| (value * scale + LEVELS / 2.0).clamp(0.0, LEVELS - 1.0) as u8;
                let lines = self.code.as_chunks_mut::<LINE>().0.iter_mut();
                for (line, values) in lines.zip(self.row.chunks_exact(2 * LINE)) {
                    let (low, high) = values.split_at(LINE);
                    for (code, (&low, &high)) in line.iter_mut().zip(low.iter().zip(high)) {
                        *code = level(low) | level(high) << 4;
                    }
                }
            }
        }
        self.row.iter().map(|value| value * value).sum()
    }
}

/// The largest absolute value; of whole lines.
#[inline(always)]
fn largest(values: &[f32]) -> f32 {
    let mut lanes = [0f32; 16];
    for values in values.as_chunks::<16>().0 {
        for (lane, value) in lanes.iter_mut().zip(values) {
            *lane = if value.abs() > *lane { value.abs() } else { *lane };
        }
    }
    lanes.iter().fold(0f32, |largest, &lane| largest.max(lane))
}

/// Whether a vector has about unit length, as a query by cosine has but for one
/// in whole numbers. A quick look: a part in a thousand orders nothing otherwise.
#[inline(always)]
fn is_unit(values: &[f32]) -> bool {
    let (lanes, rest) = values.as_chunks::<16>();
    let mut sums = [0f32; 16];
    for lane in lanes {
        for (sum, value) in sums.iter_mut().zip(lane) {
            *sum += value * value;
        }
    }
    let square = sums.iter().sum::<f32>() + rest.iter().map(|value| value * value).sum::<f32>();
    (square - 1.0).abs() < 1e-3
}

/// Where numbers are so large that adding to them rounds to whole ones, which
/// then are the lowest bits. A cast takes one at a time.
const TO_WHOLE: f32 = 1.5 * (1 << 23) as f32;

/// The nearest whole number within the range.
#[inline(always)]
fn round(value: f32) -> i32 {
    (value.clamp(-TOP, TOP) + TO_WHOLE).to_bits() as i32 - TO_WHOLE.to_bits() as i32
}

/// The memory of a query, kept from one to the next.
#[derive(Debug, Default)]
pub(crate) struct Int8Buffer {
    values: Vec<f32>,
    /// As `i8`; under Manhattan as a row's code.
    code: Vec<u8>,
}

/// What turns a sum over a code into a distance.
#[derive(Debug, Clone, Copy)]
struct Terms {
    kind: Kind,
    /// What the offset of the code adds to each sum of products.
    offset: i32,
    factor: f32,
    base: f32,
}

#[derive(Debug, Clone, Copy, PartialEq)]
enum Kind {
    Product,
    Square,
    Difference,
}

struct EncodeQuery<'a, 'q> {
    codes: &'a Int8,
    query: &'q [f32],
    buffer: &'q mut Int8Buffer,
}

impl Task for EncodeQuery<'_, '_> {
    type Output = Terms;

    #[inline(always)]
    fn run<S: Simd>(self) -> Terms {
        let Self { codes, query, buffer } = self;
        let (metric, frame) = (codes.metric, &codes.frame);
        let Int8Buffer { values, code } = buffer;
        values.clear();
        values.extend_from_slice(query);
        if metric == Metric::Cosine && !is_unit(values) {
            metric.prepare(values);
        }
        let is_product = matches!(metric, Metric::Cosine | Metric::Dot);
        let with_mean = if is_product {
            let products = values.iter().zip(&frame.mean).map(|(value, mean)| value * mean);
            let with_mean: f32 = products.sum();
            frame.rotate::<S>(values);
            with_mean
        } else {
            frame.place::<S>(values);
            0.0
        };
        code.clear();
        if metric == Metric::Manhattan {
            code.extend(values.iter().map(|value| (round(value * frame.scale) + OFFSET) as u8));
            return Terms { kind: Kind::Difference, offset: 0, factor: frame.scale.recip(), base: 0.0 };
        }
        let largest = largest(values);
        let scale = if largest > 0.0 { TOP / largest } else { 1.0 };
        code.extend(values.iter().map(|value| round(value * scale) as i8 as u8));
        let sum: i32 = code.iter().map(|&value| i32::from(value as i8)).sum();
        let (product, offset) = match frame.bits {
            Bits::Eight => ((scale * frame.scale).recip(), OFFSET),
            Bits::Four => ((2.0 * scale * frame.scale).recip(), LEVELS as i32 - 1),
        };
        let (kind, factor, base) = match metric {
            Metric::Euclid => (Kind::Square, -2.0 * product, values.iter().map(|value| value * value).sum()),
            _ => (Kind::Product, -product, -with_mean),
        };
        Terms { kind, offset: offset * sum, factor, base }
    }
}

/// A query that is measured against codes.
pub(crate) struct Int8Query<'c> {
    lines: &'c [Line],
    per_code: usize,
    squares: &'c [f32],
    bits: Bits,
    /// The query where codes lie, before rounding.
    pub(crate) placed: &'c [f32],
    query: &'c [u8],
    terms: Terms,
    /// What one step of a code is.
    step: f32,
}

impl Int8Query<'_> {
    /// About the distance by the metric; smaller is nearer.
    #[inline(always)]
    pub(crate) fn distance<S: Simd>(&self, position: u32) -> f32 {
        let code = bytemuck::cast_slice(self.code(position));
        let Terms { kind, offset, factor, base } = self.terms;
        match kind {
            Kind::Product => (self.product::<S>(code) - offset) as f32 * factor + base,
            Kind::Square => {
                let product = (self.product::<S>(code) - offset) as f32;
                product * factor + (base + self.squares[position as usize])
            }
            Kind::Difference => S::difference(code, self.query) as f32 * factor,
        }
    }

    /// With a code of half bytes: twice that, because levels lie between whole
    /// numbers.
    #[inline(always)]
    fn product<S: Simd>(&self, code: &[u8]) -> i32 {
        let query = bytemuck::cast_slice(self.query);
        match self.bits {
            Bits::Eight => S::dot(code, query),
            Bits::Four => 2 * S::dot_halves(code, query),
        }
    }

    #[inline(always)]
    pub(crate) fn prefetch(&self, position: u32) {
        prefetch(self.code(position));
    }

    #[inline(always)]
    fn code(&self, position: u32) -> &[Line] {
        &self.lines[position as usize * self.per_code..][..self.per_code]
    }
}
