//! Sets of other geometry than passages have, the same on every machine.

use std::f32::consts::TAU;

use cairn_ann::Metric;
use cairn_benches::npy::Matrix;
use clap::ValueEnum;
use rand::{Rng, SeedableRng, rngs::StdRng};
use rayon::prelude::*;

/// Rows that share a generator, so that blocks can be made side by side and a
/// smaller set is the beginning of a larger one.
const BLOCK: usize = 1_000;

const QUERIES: usize = 1_000;

/// Rows of the sets that have one size.
pub(crate) const ROWS: usize = 100_000;

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Made {
    /// 100,000 x 128, Euclid, 1,000 Gaussian clusters, some wide and some tight
    Clustered,
    /// 100,000 x 128, Euclid, uniform in the cube: nothing to be found quickly
    Uniform,
    /// 100,000 x 768, inner product, lengths that vary, few true dimensions
    Dot,
    /// Like embedded passages, 384-d, cosine, in several sizes
    Growth,
}

impl Made {
    pub(crate) fn name(self, rows: usize) -> String {
        let name = format!("{self:?}").to_lowercase();
        if self == Self::Growth { format!("{name}-{rows}") } else { name }
    }

    pub(crate) fn metric(self) -> Metric {
        match self {
            Self::Clustered | Self::Uniform => Metric::Euclid,
            Self::Dot => Metric::Dot,
            Self::Growth => Metric::Cosine,
        }
    }

    pub(crate) fn rows_and_queries(self, rows: usize) -> (Matrix<f32>, Matrix<f32>) {
        match self {
            Self::Clustered => clustered(rows),
            Self::Uniform => {
                both(128, rows, |random, row| row.fill_with(|| random.random_range(-1.0f32..1.0)))
            }
            Self::Dot => dot(rows),
            Self::Growth => passages(rows),
        }
    }
}

fn clustered(rows: usize) -> (Matrix<f32>, Matrix<f32>) {
    let mut random = StdRng::seed_from_u64(1);
    let mut centre = || {
        // Spreads between 0.3 and 1, as many below 0.55 as above.
        let spread = 0.3 * (1.0f32 / 0.3).powf(random.random());
        (spread, (0..128).map(|_| gaussian(&mut random)).collect::<Vec<f32>>())
    };
    let centres: Vec<_> = (0..1_000).map(|_| centre()).collect();
    both(128, rows, |random, row| {
        let (spread, centre) = &centres[random.random_range(0..centres.len())];
        row.iter_mut().zip(centre).for_each(|(x, centre)| *x = centre + spread * gaussian(random));
    })
}

/// 48 true dimensions of falling weight, some noise, a length of its own.
fn dot(rows: usize) -> (Matrix<f32>, Matrix<f32>) {
    let space = Space::new(48, 768);
    both(768, rows, |random, row| {
        let inner: Vec<f32> = (0..48).map(|at| gaussian(random) / (1.0 + at as f32).sqrt()).collect();
        space.place(&inner, 0.02, random, row);
        let length = (0.25 * gaussian(random)).exp();
        Metric::Cosine.prepare(row);
        row.iter_mut().for_each(|x| *x *= length);
    })
}

/// Subjects within fields, and what a passage alone says about its subject.
fn passages(rows: usize) -> (Matrix<f32>, Matrix<f32>) {
    const INNER: usize = 64;
    let space = Space::new(INNER, 384);
    let mut random = StdRng::seed_from_u64(2);
    let mut direction = || (0..INNER).map(|_| gaussian(&mut random)).collect::<Vec<f32>>();
    let fields: Vec<_> = (0..50).map(|_| direction()).collect();
    let subjects: Vec<_> = (0..3_000).map(|_| direction()).collect();
    both(384, rows, |random, row| {
        // Few subjects have many passages.
        let subject = (subjects.len() as f32 * random.random::<f32>().powi(2)) as usize;
        let (subject, field) = (&subjects[subject], &fields[subject % fields.len()]);
        let inner = (0..INNER).map(|at| {
            let weight = 1.0 / (1.0 + at as f32 / 16.0);
            weight * (0.6 * field[at] + 0.6 * subject[at] + gaussian(random))
        });
        let inner: Vec<f32> = inner.collect();
        space.place(&inner, 0.015, random, row);
        Metric::Cosine.prepare(row);
    })
}

/// Few dimensions within many.
struct Space {
    /// For each of the many, its weights of the few.
    weights: Vec<Vec<f32>>,
}

impl Space {
    fn new(inner: usize, outer: usize) -> Self {
        let mut random = StdRng::seed_from_u64(3);
        let scale = (outer as f32).sqrt().recip();
        let mut row = || (0..inner).map(|_| scale * gaussian(&mut random)).collect();
        Self { weights: (0..outer).map(|_| row()).collect() }
    }

    fn place(&self, inner: &[f32], noise: f32, random: &mut StdRng, row: &mut [f32]) {
        for (x, weights) in row.iter_mut().zip(&self.weights) {
            let at: f32 = weights.iter().zip(inner).map(|(weight, x)| weight * x).sum();
            *x = at + noise * gaussian(random);
        }
    }
}

/// Rows, and queries of the same kind that are none of them.
fn both(
    dim: usize,
    rows: usize,
    make: impl Fn(&mut StdRng, &mut [f32]) + Sync,
) -> (Matrix<f32>, Matrix<f32>) {
    let all = |len: usize, seed: u64| {
        let mut values = vec![0.0; len * dim];
        values.par_chunks_mut(BLOCK * dim).enumerate().for_each(|(block, rows)| {
            let mut random = StdRng::seed_from_u64(seed << 32 | block as u64);
            rows.chunks_mut(dim).for_each(|row| make(&mut random, row));
        });
        Matrix { columns: dim, values }
    };
    (all(rows, 4), all(QUERIES, 5))
}

/// One value of the standard normal distribution, by Box and Muller.
fn gaussian(random: &mut StdRng) -> f32 {
    let (radius, angle) = (1.0 - random.random::<f32>(), random.random::<f32>());
    (-2.0 * radius.ln()).sqrt() * (TAU * angle).cos()
}
