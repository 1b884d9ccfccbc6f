//! The centroids of sub-vectors, by k-means.
//!
//! They begin where rows lie, each drawn by how far it is from those drawn before
//! it (k-means++, Arthur and Vassilvitskii 2007), and then move to the middle of
//! the rows that are nearest to them, until that gains next to nothing (Lloyd).
//! By Manhattan the nearest is by the sum of the differences, and the middle is
//! the median. Sub-vectors have nothing to do with one another, so each is trained
//! by one thread, from a seed of its own.

#![allow(clippy::inline_always)] // Parts of loops that are compiled per instruction set.

use crate::simd::{GROUP, Simd, Task};

/// Centroids of a sub-vector: a byte names one.
pub(crate) const CENTROIDS: usize = 256;
/// Times that centroids move at most.
const ROUNDS: usize = 12;
/// They rest when a round gains less than this part.
const LITTLE: f64 = 2e-3;
/// Centroids that a row is compared with at once: their sums stay in registers.
const AT_ONCE: usize = 64;
/// Rows that centroids are drawn from at most.
const DRAWN_FROM: usize = 2048;
/// Rows whose weights are summed for drawing.
const PIECE: usize = 64;

/// One value of all centroids.
pub(crate) type Column = [f32; CENTROIDS];

/// How far a row is from a centroid.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Apart {
    /// The squared straight line.
    Squared,
    /// The sum of the absolute differences.
    Absolute,
}

impl Apart {
    /// What one value adds.
    #[inline(always)]
    fn of(self, a: f32, b: f32) -> f32 {
        let step = a - b;
        match self {
            Self::Squared => step * step,
            Self::Absolute => step.abs(),
        }
    }

    /// The centroid that values are nearest to, the first of equals, and how far it
    /// is.
    #[inline(always)]
    pub(super) fn nearest<S: Simd>(self, values: &[f32], centroids: &[Column]) -> (u8, f32) {
        let mut far = [0f32; CENTROIDS];
        // The choice is made outside of the loops.
        match self {
            Self::Squared => fill(&mut far, values, centroids, |a, b| Self::Squared.of(a, b)),
            Self::Absolute => fill(&mut far, values, centroids, |a, b| Self::Absolute.of(a, b)),
        }
        least::<S>(&far)
    }
}

/// What values add up to for each centroid.
#[inline(always)]
pub(super) fn fill(far: &mut Column, values: &[f32], centroids: &[Column], apart: impl Fn(f32, f32) -> f32) {
    for (part, far) in far.as_chunks_mut::<AT_ONCE>().0.iter_mut().enumerate() {
        let mut sums = [0f32; AT_ONCE];
        for (&value, column) in values.iter().zip(centroids) {
            for (sum, &centre) in sums.iter_mut().zip(&column.as_chunks::<AT_ONCE>().0[part]) {
                *sum += apart(value, centre);
            }
        }
        *far = sums;
    }
}

/// Where the least is, the first of equals, and what it is.
#[inline(always)]
fn least<S: Simd>(far: &Column) -> (u8, f32) {
    let groups = far.as_chunks::<GROUP>().0;
    let mut lanes = [f32::INFINITY; GROUP];
    for group in groups {
        for (lane, &far) in lanes.iter_mut().zip(group) {
            *lane = if far < *lane { far } else { *lane };
        }
    }
    let mut half = GROUP / 2;
    while half > 0 {
        for at in 0..half {
            lanes[at] = if lanes[at + half] < lanes[at] { lanes[at + half] } else { lanes[at] };
        }
        half /= 2;
    }
    for (at, group) in groups.iter().enumerate() {
        let below = S::below(group, lanes[0].next_up());
        if below != 0 {
            return ((at * GROUP) as u8 + below.trailing_zeros() as u8, lanes[0]);
        }
    }
    // All are too far to be told apart.
    (0, lanes[0])
}

/// Trains the centroids of one sub-vector.
pub(super) struct Train<'a> {
    pub(super) apart: Apart,
    /// The sub-vectors of some rows, value by value: the first of all rows, then the
    /// second.
    pub(super) sample: &'a [f32],
    pub(super) rows: usize,
    pub(super) seed: u64,
    /// For each value that of all centroids.
    pub(super) centroids: &'a mut [Column],
}

impl Task for Train<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self) {
        let Self { apart, sample, rows, seed, centroids } = self;
        if rows == 0 {
            return;
        }
        let mut random = fastrand::Rng::with_seed(seed);
        let few = picked(rows, DRAWN_FROM, &mut random);
        let values = sample.chunks_exact(rows).flat_map(|values| few.iter().map(|&row| values[row]));
        draw(apart, &values.collect::<Vec<f32>>(), few.len(), &mut random, centroids);
        let (mut nearest, mut row) = (vec![0u8; rows], vec![0f32; centroids.len()]);
        let mut last = f64::INFINITY;
        for _ in 0..ROUNDS {
            let mut error = 0f64;
            for (at, nearest) in nearest.iter_mut().enumerate() {
                row.iter_mut().zip(sample.chunks_exact(rows)).for_each(|(value, column)| *value = column[at]);
                let (centroid, far) = apart.nearest::<S>(&row, centroids);
                *nearest = centroid;
                error += f64::from(far);
            }
            // What is not a number gains nothing either.
            let gains = last - error > LITTLE * error;
            if !gains {
                break;
            }
            last = error;
            for (values, column) in sample.chunks_exact(rows).zip(centroids.iter_mut()) {
                match apart {
                    Apart::Squared => to_means(values, &nearest, column),
                    Apart::Absolute => to_medians(values, &nearest, column),
                }
            }
        }
    }
}

/// At most `most` of `len` rows, evenly from all; any of those that each stands for,
/// so that rows in a rhythm are no trap.
pub(super) fn picked(len: usize, most: usize, random: &mut fastrand::Rng) -> Vec<usize> {
    let many = len.min(most);
    (0..many).map(|at| random.usize(at * len / many..(at + 1) * len / many)).collect()
}

/// Draws rows to begin with. Where there are fewer different ones than centroids,
/// the rest are as the last, and never the first of the nearest.
#[inline(always)]
fn draw(apart: Apart, sample: &[f32], rows: usize, random: &mut fastrand::Rng, centroids: &mut [Column]) {
    let (mut weights, mut far) = (vec![f32::INFINITY; rows], vec![0f32; rows]);
    let mut sums = vec![0f64; rows.div_ceil(PIECE)];
    let mut chosen = random.usize(0..rows);
    for centroid in 0..CENTROIDS {
        far.fill(0.0);
        for (values, column) in sample.chunks_exact(rows).zip(centroids.iter_mut()) {
            let centre = values[chosen];
            column[centroid..].fill(centre);
            match apart {
                Apart::Squared => {
                    far.iter_mut().zip(values).for_each(|(far, &x)| *far += Apart::Squared.of(x, centre));
                }
                Apart::Absolute => {
                    far.iter_mut().zip(values).for_each(|(far, &x)| *far += Apart::Absolute.of(x, centre));
                }
            }
        }
        for (weight, &far) in weights.iter_mut().zip(&far) {
            *weight = if far < *weight { far } else { *weight };
        }
        for (sum, weights) in sums.iter_mut().zip(weights.chunks(PIECE)) {
            *sum = weights.iter().map(|&weight| f64::from(weight)).sum();
        }
        let all: f64 = sums.iter().sum();
        if all <= 0.0 {
            break;
        }
        chosen = drawn(&weights, &sums, all * random.f64());
    }
}

/// The row at which the weights of it and those before it exceed `left`.
fn drawn(weights: &[f32], sums: &[f64], mut left: f64) -> usize {
    let piece = sums.iter().position(|&sum| {
        let is_here = left < sum;
        left -= if is_here { 0.0 } else { sum };
        is_here
    });
    // Rounding can leave a little; what is too large to be summed ends here as well.
    let first = piece.unwrap_or(sums.len() - 1) * PIECE;
    let of_piece = weights[first..].iter().take(PIECE);
    let at = of_piece.clone().position(|&weight| {
        left -= f64::from(weight);
        left < 0.0
    });
    first + at.unwrap_or(of_piece.len() - 1)
}

/// Moves centroids to the mean of the rows that are nearest to them; one that has
/// none stays.
fn to_means(values: &[f32], nearest: &[u8], column: &mut Column) {
    let (mut sums, mut counts) = ([0f64; CENTROIDS], [0u32; CENTROIDS]);
    for (&value, &nearest) in values.iter().zip(nearest) {
        sums[usize::from(nearest)] += f64::from(value);
        counts[usize::from(nearest)] += 1;
    }
    for ((centre, sum), count) in column.iter_mut().zip(sums).zip(counts) {
        if count > 0 {
            *centre = (sum / f64::from(count)) as f32;
        }
    }
}

/// The same with the median.
fn to_medians(values: &[f32], nearest: &[u8], column: &mut Column) {
    let mut groups: Vec<Vec<f32>> = vec![Vec::new(); CENTROIDS];
    for (&value, &nearest) in values.iter().zip(nearest) {
        groups[usize::from(nearest)].push(value);
    }
    for (centre, group) in column.iter_mut().zip(&mut groups) {
        if !group.is_empty() {
            let middle = group.len() / 2;
            *centre = *group.select_nth_unstable_by(middle, f32::total_cmp).1;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::simd::{Level, run_with};
    use rand::{Rng, SeedableRng, rngs::StdRng};

    const BOTH: [Apart; 2] = [Apart::Squared, Apart::Absolute];

    struct Nearest<'a>(Apart, &'a [f32], &'a [Column]);

    impl Task for Nearest<'_> {
        type Output = (u8, f32);

        #[inline(always)]
        fn run<S: Simd>(self) -> Self::Output {
            self.0.nearest::<S>(self.1, self.2)
        }
    }

    #[test]
    fn the_nearest_is_that_of_naive_lines_at_every_level() {
        let mut random = StdRng::seed_from_u64(3);
        for width in 1..=16 {
            // Few different values, so that there are equals.
            let mut draw = || random.random_range(-20..20) as f32 / 4.0;
            let centroids: Vec<Column> = (0..width).map(|_| std::array::from_fn(|_| draw())).collect();
            for apart in BOTH {
                let values: Vec<f32> = (0..width).map(|_| draw()).collect();
                let mut want = (0, f32::INFINITY);
                for at in 0..CENTROIDS {
                    let steps = values.iter().zip(&centroids).map(|(x, column)| apart.of(*x, column[at]));
                    let far = steps.fold(0.0, |sum, step| sum + step);
                    if far < want.1 {
                        want = (at as u8, far);
                    }
                }
                for level in Level::all() {
                    let got = run_with(level, Nearest(apart, &values, &centroids));
                    assert_eq!(got, want, "{apart:?} {width} {}", level.name());
                }
            }
        }
    }

    fn trained(level: Level, apart: Apart, sample: &[f32], rows: usize) -> Vec<Column> {
        let mut centroids = vec![[0.0; CENTROIDS]; sample.len() / rows];
        run_with(level, Train { apart, sample, rows, seed: 5, centroids: &mut centroids });
        centroids
    }

    #[test]
    fn centroids_are_the_same_at_every_level() {
        let mut random = StdRng::seed_from_u64(4);
        let sample: Vec<f32> = (0..3 * 3000).map(|_| random.random_range(-1.0..1.0)).collect();
        for apart in BOTH {
            let want = trained(Level::Portable, apart, &sample, 3000);
            for level in Level::all() {
                assert!(trained(level, apart, &sample, 3000) == want, "{apart:?} {}", level.name());
            }
        }
    }

    #[test]
    fn centroids_go_to_the_middle_of_groups() {
        // 200 groups of 50 rows, each of the rows a little off its middle.
        let mut random = StdRng::seed_from_u64(5);
        let middles: Vec<[f32; 2]> = (0..200).map(|at| [(at % 20) as f32, (at / 20) as f32]).collect();
        let rows = 200 * 50;
        let mut off = || random.random_range(-0.1..0.1f32);
        let placed: Vec<[f32; 2]> =
            (0..rows).map(|at| middles[at % 200].map(|middle| middle + off())).collect();
        let sample: Vec<f32> =
            placed.iter().map(|row| row[0]).chain(placed.iter().map(|row| row[1])).collect();
        for apart in BOTH {
            let centroids = trained(Level::best(), apart, &sample, rows);
            let far = placed.iter().map(|row| run_with(Level::best(), Nearest(apart, row, &centroids)).1);
            let mean = far.sum::<f32>() / rows as f32;
            // Middles are 0.0067 squared and 0.1 absolute away in the mean; every group
            // of 200 that has no centroid adds 0.005.
            let most = if apart == Apart::Squared { 0.0117 } else { 0.115 };
            assert!(mean < most, "{apart:?}: {mean}");
        }
    }
}
