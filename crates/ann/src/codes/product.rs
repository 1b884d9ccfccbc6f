//! One byte for several values: product quantisation (Jegou, Douze and Schmid
//! 2011).
//!
//! A row is cut into sub-vectors of as many values as a byte stands for; the last
//! may have fewer. Each is coded by the nearest of 256 centroids, which are trained
//! on some of the rows. A query is measured against all centroids once, which makes
//! a table for each sub-vector; the distance to a code is the sum of what its
//! bytes name there (asymmetric distances), by every metric.
//!
//! Codes lie behind each other, byte by byte, without gaps.

#![allow(clippy::inline_always)] // Parts of loops that are compiled per instruction set.

mod train;

use rayon::prelude::*;
use serde::{Deserialize, Serialize};

use crate::array::Array;
use crate::pages;
use crate::pool::rank;
use crate::prefetch::prefetch;
use crate::simd::{Simd, Task, run};
use crate::walk::Measure;
use crate::{Metric, Rows};
use train::{Apart, CENTROIDS, Column, Train, fill, picked};

/// Rows that centroids are trained on, evenly from all, at most. Four times as many
/// find 0.01 more of the passages in the README at `X8` and `X32`, and nothing at
/// `X64`.
const SAMPLE: usize = 10_240;
/// The same for each value of a sub-vector: few values need fewer rows.
const SAMPLE_PER_VALUE: usize = 5_120;
/// Decides which rows those are.
const SEED: u64 = 0;
/// Rows that are coded by one thread at a time.
const PER_THREAD: usize = 64;
/// Sums that do not wait for one another.
const SUMS: usize = 8;

/// How many times fewer bytes than `f32` product codes take.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Compression {
    /// A byte for each value.
    X4,
    /// A byte for 2 values.
    X8,
    /// A byte for 4 values.
    X16,
    /// A byte for 8 values.
    X32,
    /// A byte for 16 values.
    X64,
}

impl Compression {
    /// All, the least first.
    pub const ALL: [Self; 5] = [Self::X4, Self::X8, Self::X16, Self::X32, Self::X64];

    /// Values that a byte stands for, 1 to 16.
    #[must_use]
    pub fn values_per_byte(self) -> usize {
        match self {
            Self::X4 => 1,
            Self::X8 => 2,
            Self::X16 => 4,
            Self::X32 => 8,
            Self::X64 => 16,
        }
    }
}

/// What product codes are read back with, besides their arrays.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct ProductShape {
    pub(crate) metric: Metric,
    pub(crate) compression: Compression,
    /// Values per row.
    pub(crate) dim: usize,
}

impl ProductShape {
    /// Bytes per code.
    pub(crate) fn bytes(self) -> usize {
        self.dim.div_ceil(self.compression.values_per_byte())
    }

    /// Numbers of all centroids.
    pub(crate) fn centroids(self) -> usize {
        self.dim * CENTROIDS
    }

    fn apart(self) -> Apart {
        if self.metric == Metric::Manhattan { Apart::Absolute } else { Apart::Squared }
    }
}

/// The codes of some rows.
#[derive(Clone, PartialEq)]
pub(crate) struct Product {
    shape: ProductShape,
    /// For each value of a row that of all centroids of its sub-vector.
    centroids: Array<f32>,
    codes: Array<u8>,
}

impl Product {
    /// Codes as they were; the arrays have the lengths that the shape says.
    pub(crate) fn from_parts(shape: ProductShape, centroids: Array<f32>, codes: Array<u8>) -> Self {
        Self { shape, centroids, codes }
    }

    pub(crate) fn shape(&self) -> ProductShape {
        self.shape
    }

    /// The centroids and the codes.
    pub(crate) fn parts(&self) -> (&[f32], &[u8]) {
        (&self.centroids, &self.codes)
    }

    /// Trains centroids on rows and encodes them, in the order of `slots`.
    pub(crate) fn encode<R: Rows>(metric: Metric, compression: Compression, rows: &R, slots: &[u32]) -> Self {
        let shape = ProductShape { metric, compression, dim: rows.dim() };
        let centroids = train(shape, rows);
        let columns: &[Column] = centroids.as_chunks().0;
        let len = slots.len() * shape.bytes();
        let mut codes = pages::with_capacity(len);
        codes.resize(len, 0);
        let made = codes.par_chunks_exact_mut(shape.bytes()).zip(slots).with_min_len(PER_THREAD);
        made.for_each(|(code, &slot)| {
            run(Encode { shape, row: shape.metric.prepared(rows.row(slot)), centroids: columns, code });
        });
        Self { shape, centroids: centroids.into(), codes: codes.into() }
    }

    pub(crate) fn memory_bytes(&self) -> usize {
        size_of_val(&*self.centroids) + size_of_val(&*self.codes)
    }

    /// The same codes in another order.
    pub(crate) fn reordered(&self, positions: &[u32]) -> Self {
        let codes: &[u8] = &self.codes;
        let mut moved = pages::with_capacity(positions.len() * self.shape.bytes());
        positions.iter().for_each(|&from| moved.extend_from_slice(self.code_of(codes, from)));
        Self { codes: moved.into(), ..self.clone() }
    }

    fn code_of<'a>(&self, codes: &'a [u8], position: u32) -> &'a [u8] {
        let bytes = self.shape.bytes();
        &codes[position as usize * bytes..][..bytes]
    }

    /// The values that the code of a position stands for.
    pub(crate) fn decoded(&self, position: u32) -> Vec<f32> {
        let columns: &[Column] = self.centroids.as_chunks().0;
        let per_byte = self.shape.compression.values_per_byte();
        let code = self.code_of(&self.codes, position);
        columns.iter().enumerate().map(|(at, column)| column[usize::from(code[at / per_byte])]).collect()
    }

    /// Readies a query; it is prepared for the metric.
    ///
    /// # Panics
    /// If it has another length than the rows.
    pub(crate) fn query<'c>(&'c self, query: &[f32], buffer: &'c mut ProductBuffer) -> ProductQuery<'c> {
        assert_eq!(query.len(), self.shape.dim, "the query has the dimension of the rows");
        let ProductBuffer { values, tables } = buffer;
        values.clear();
        values.extend_from_slice(query);
        self.shape.metric.prepare(values);
        tables.resize(self.shape.bytes(), [0.0; CENTROIDS]);
        run(FillTables { shape: self.shape, query: values, centroids: self.centroids.as_chunks().0, tables });
        ProductQuery { codes: &self.codes, bytes: self.shape.bytes(), tables }
    }
}

/// The centroids for some rows; the same with any number of threads.
fn train<R: Rows>(shape: ProductShape, rows: &R) -> Vec<f32> {
    let per_byte = shape.compression.values_per_byte();
    let most = SAMPLE.min(SAMPLE_PER_VALUE * per_byte);
    let picked = picked(rows.len(), most, &mut fastrand::Rng::with_seed(SEED));
    let many = picked.len();
    // Value by value.
    let mut sample = vec![0f32; many * shape.dim];
    for (at, &slot) in picked.iter().enumerate() {
        let row = shape.metric.prepared(rows.row(slot as u32));
        row.into_iter().enumerate().for_each(|(value, x)| sample[value * many + at] = x);
    }
    let mut centroids = vec![0f32; shape.centroids()];
    let columns: &mut [Column] = centroids.as_chunks_mut().0;
    let parts = columns.par_chunks_mut(per_byte).enumerate();
    parts.for_each(|(at, centroids)| {
        let sample = &sample[at * per_byte * many..][..centroids.len() * many];
        run(Train { apart: shape.apart(), sample, rows: many, seed: at as u64, centroids });
    });
    centroids
}

/// Encodes one row.
struct Encode<'a> {
    shape: ProductShape,
    row: Vec<f32>,
    centroids: &'a [Column],
    code: &'a mut [u8],
}

impl Task for Encode<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self) {
        let Self { shape, row, centroids, code } = self;
        let per_byte = shape.compression.values_per_byte();
        let parts = row.chunks(per_byte).zip(centroids.chunks(per_byte));
        for (code, (values, centroids)) in code.iter_mut().zip(parts) {
            *code = shape.apart().nearest::<S>(values, centroids).0;
        }
    }
}

/// The memory of a query, kept from one to the next.
#[derive(Debug, Default)]
pub(crate) struct ProductBuffer {
    values: Vec<f32>,
    tables: Vec<Column>,
}

/// Writes what each centroid adds to the distance from a query.
struct FillTables<'a> {
    shape: ProductShape,
    query: &'a [f32],
    centroids: &'a [Column],
    tables: &'a mut [Column],
}

impl Task for FillTables<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self) {
        let Self { shape, query, centroids, tables } = self;
        let per_byte = shape.compression.values_per_byte();
        let parts = query.chunks(per_byte).zip(centroids.chunks(per_byte));
        for (table, (values, centroids)) in tables.iter_mut().zip(parts) {
            match shape.metric {
                Metric::Cosine | Metric::Dot => fill(table, values, centroids, |q, c| -(q * c)),
                Metric::Euclid => fill(table, values, centroids, |q, c| (q - c) * (q - c)),
                Metric::Manhattan => fill(table, values, centroids, |q, c| (q - c).abs()),
            }
        }
    }
}

/// A query that is measured against codes.
pub(crate) struct ProductQuery<'c> {
    codes: &'c [u8],
    bytes: usize,
    tables: &'c [Column],
}

impl ProductQuery<'_> {
    /// About the distance by the metric; smaller is nearer.
    #[inline(always)]
    pub(crate) fn distance(&self, position: u32) -> f32 {
        let mut sums = [0f32; SUMS];
        let (codes, last_codes) = self.code(position).as_chunks::<SUMS>();
        let (tables, last_tables) = self.tables.as_chunks::<SUMS>();
        for (codes, tables) in codes.iter().zip(tables) {
            for at in 0..SUMS {
                sums[at] += tables[at][usize::from(codes[at])];
            }
        }
        for ((sum, &code), table) in sums.iter_mut().zip(last_codes).zip(last_tables) {
            *sum += table[usize::from(code)];
        }
        ((sums[0] + sums[1]) + (sums[2] + sums[3])) + ((sums[4] + sums[5]) + (sums[6] + sums[7]))
    }

    #[inline(always)]
    fn code(&self, position: u32) -> &[u8] {
        &self.codes[position as usize * self.bytes..][..self.bytes]
    }
}

impl Measure for ProductQuery<'_> {
    #[inline(always)]
    fn rank<S: Simd>(&self, position: u32) -> u32 {
        rank(self.distance(position))
    }

    #[inline(always)]
    fn prefetch(&self, position: u32) {
        prefetch(self.code(position));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::FlatRows;
    use rand::{Rng, SeedableRng, rngs::StdRng};

    const METRICS: [Metric; 4] = [Metric::Cosine, Metric::Dot, Metric::Euclid, Metric::Manhattan];

    fn rows_of(metric: Metric, dim: usize, len: usize) -> Vec<f32> {
        let mut random = StdRng::seed_from_u64(dim as u64);
        let mut values: Vec<f32> = (0..len * dim).map(|_| random.random_range(-1.0..1.0)).collect();
        values.chunks_mut(dim).for_each(|row| metric.prepare(row));
        values
    }

    #[test]
    fn distances_are_those_to_the_decoded_rows() {
        for dim in [16, 17, 31, 32, 47, 100, 384] {
            for metric in METRICS {
                let values = rows_of(metric, dim, 300);
                let rows = FlatRows::new(dim, &values).expect("whole rows");
                let slots: Vec<u32> = (0..300).rev().collect();
                for compression in Compression::ALL {
                    let codes = Product::encode(metric, compression, &rows, &slots);
                    let mut buffer = ProductBuffer::default();
                    let query = codes.query(rows.values(7), &mut buffer);
                    for position in 0..300 {
                        let decoded = codes.decoded(position);
                        assert_eq!(decoded.len(), dim);
                        let want = metric.distance(rows.values(7), &decoded);
                        let got = query.distance(position);
                        assert!(
                            (got - want).abs() < 1e-4 * (1.0 + want.abs()),
                            "{metric:?} {compression:?} {dim}: {got} of {want}"
                        );
                    }
                }
            }
        }
    }

    #[test]
    fn fewer_rows_than_centroids_are_coded_as_they_are() {
        for metric in METRICS {
            for len in [1, 2, 100, 256] {
                let values = rows_of(metric, 20, len);
                let rows = FlatRows::new(20, &values).expect("whole rows");
                let slots: Vec<u32> = (0..len as u32).collect();
                for compression in Compression::ALL {
                    let codes = Product::encode(metric, compression, &rows, &slots);
                    for slot in slots.iter().copied() {
                        let near = |(a, b): (&f32, &f32)| (a - b).abs() < 1e-6;
                        let all = codes.decoded(slot).iter().zip(rows.values(slot)).all(near);
                        assert!(all, "{metric:?} {compression:?} {len}");
                    }
                }
            }
        }
    }

    #[test]
    fn more_bytes_make_a_smaller_error() {
        for metric in METRICS {
            let values = rows_of(metric, 64, 3000);
            let rows = FlatRows::new(64, &values).expect("whole rows");
            let slots: Vec<u32> = (0..3000).collect();
            let errors = Compression::ALL.map(|compression| {
                let codes = Product::encode(metric, compression, &rows, &slots);
                let error = |slot: &u32| Metric::Euclid.distance(&codes.decoded(*slot), rows.values(*slot));
                slots.iter().map(error).sum::<f32>() / 3000.0
            });
            let length = Metric::Euclid.distance(rows.values(0), &[0.0; 64]);
            // Of 16 uniform values 8 bits say nearly half: 2 (1 - 2^(-16 / 16)).
            assert!(errors.is_sorted() && errors[0] < 1e-3 * length, "{metric:?}: {errors:?}");
            assert!(errors[4] < 0.7 * length, "{metric:?}: {errors:?} of {length}");
        }
    }

    #[test]
    fn rows_without_a_difference_or_beyond_measure_are_coded() {
        let largest = [f32::MAX, -f32::MAX, 1e-40, 0.0].repeat(4 * 300);
        for values in [vec![0.0; 16 * 300], vec![3.5; 16 * 300], largest] {
            let rows = FlatRows::new(16, &values).expect("whole rows");
            let slots: Vec<u32> = (0..300).collect();
            for metric in METRICS {
                let codes = Product::encode(metric, Compression::X16, &rows, &slots);
                let mut buffer = ProductBuffer::default();
                let query = codes.query(&[1.0; 16], &mut buffer);
                let first = query.distance(0).to_bits();
                assert!((0..300).all(|position| query.distance(position).to_bits() == first), "{metric:?}");
            }
        }
    }
}
