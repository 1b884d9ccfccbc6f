//! One bit a value, in as few lines of the cache as hold them.
//!
//! What is left of a row x when the mean of all is taken off it, r, is stored as
//! the signs w of its values, turned at random as they are. Its product with a
//! query q is about <q, r> = A <q, w> with A = |r|^2 / <w, r> (RaBitQ, Gao and
//! Long 2024). The error is normal, with the variance (pi / 2 - 1) / d times
//! |q|^2 |r|^2 - <q, r>^2.
//!
//! A query has four bits a value, in four planes: the sum of its values where a
//! bit is set is a matter of counting bits. Against the error of the signs, that
//! of such a query is small.
//!
//! A record holds, little-endian:
//!
//! ```text
//! signs     a bit a value, u64
//! A         f32
//! A n       f32, with n how many bits are set
//! |r|^2     f32
//! ```
//!
//! and zeros to the end of its last line. All of it is made from the code of the
//! row, of one byte a value.

#![allow(clippy::inline_always)] // Parts of loops that are compiled per instruction set.

use std::f32::consts::FRAC_PI_2;

use rayon::prelude::*;

use super::{Int8, Int8Query, Kind, OFFSET, Shape, TO_WHOLE};
use crate::Metric;
use crate::array::{Array, Line};
use crate::pages;
use crate::pool::rank;
use crate::prefetch::prefetch_all;
use crate::simd::{GROUP, LINE, PLANES, Simd, Task, run};
use crate::walk::Measure;

/// Codes of fewer lines are measured as fast.
const LEAST_LINES: usize = 3;
/// Standard deviations that chance explains: it hides one of 80 rows that lie just
/// within the distance, and far fewer of those that lie well within.
const CHANCE: f32 = 2.25;
/// The largest number that a value of a query is rounded to.
const TOP: f32 = ((1 << PLANES) - 1) as f32;
/// Numbers behind the signs.
const TERMS: usize = 3;

/// Rows that are looked at together.
pub(crate) const BLOCK: usize = 128;

/// The signs of rows, by position.
#[derive(Clone, PartialEq)]
pub(crate) struct Signs {
    lines: Array<Line>,
    /// What was taken off codes, in steps of them; empty for none.
    mean: Array<f32>,
    shape: SignsShape,
}

/// How large records are.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct SignsShape {
    /// Words of signs.
    words: usize,
    /// Values of the mean.
    pub(crate) mean: usize,
}

impl SignsShape {
    /// None where signs say nothing, or little less than codes do.
    pub(crate) fn of(codes: Shape) -> Option<Self> {
        let words = codes.bytes() / LINE;
        let suits = codes.metric != Metric::Manhattan && codes.bits == super::Bits::Eight;
        // By Euclid codes have no mean.
        let mean = if codes.metric == Metric::Euclid { 0 } else { words * LINE };
        (suits && words >= LEAST_LINES).then_some(Self { words, mean })
    }

    /// Lines of a record.
    pub(crate) fn lines(self) -> usize {
        (self.words * 8 + TERMS * 4).div_ceil(LINE)
    }
}

impl Signs {
    /// None where [`SignsShape::of`] has none.
    pub(crate) fn of(codes: &Int8) -> Option<Self> {
        let shape = SignsShape::of(codes.shape())?;
        let (all, width) = (codes.lines(), shape.words * LINE);
        let sums = all.par_chunks(1024 * shape.words).fold(
            || vec![0i64; shape.mean],
            |mut sums, codes| {
                for code in codes.chunks_exact(shape.words) {
                    let values = bytemuck::cast_slice::<Line, u8>(code);
                    sums.iter_mut().zip(values).for_each(|(sum, &value)| *sum += i64::from(value));
                }
                sums
            },
        );
        let sums = sums.reduce(
            || vec![0; shape.mean],
            |mut sums, others| {
                sums.iter_mut().zip(others).for_each(|(sum, other)| *sum += other);
                sums
            },
        );
        let len = (all.len() / shape.words).max(1) as f64;
        let mean: Vec<f32> = sums.iter().map(|&sum| (sum as f64 / len) as f32 - OFFSET as f32).collect();
        let taken_off = if mean.is_empty() { vec![0.0; width] } else { mean.clone() };
        let step = codes.shape().scale.recip();
        let mut lines = pages::with_capacity(all.len() / shape.words * shape.lines());
        lines.resize(all.len() / shape.words * shape.lines(), Line([0; LINE]));
        let records = lines.par_chunks_exact_mut(shape.lines()).zip(all.par_chunks_exact(shape.words));
        records.with_min_len(256).for_each(|(record, code)| {
            let code = bytemuck::cast_slice(code);
            run(Encode { code, mean: &taken_off, step, record: bytemuck::cast_slice_mut(record) });
        });
        Some(Self { lines: lines.into(), mean: mean.into(), shape })
    }

    /// Signs as they were; the arrays have the lengths that the shape says.
    pub(crate) fn from_parts(shape: SignsShape, mean: Array<f32>, lines: Array<Line>) -> Self {
        Self { lines, mean, shape }
    }

    pub(crate) fn mean(&self) -> &[f32] {
        &self.mean
    }

    pub(crate) fn lines(&self) -> &[Line] {
        &self.lines
    }

    pub(crate) fn memory_bytes(&self) -> usize {
        size_of_val(&*self.lines)
    }
}

/// Writes one record.
struct Encode<'a> {
    code: &'a [u8],
    mean: &'a [f32],
    step: f32,
    record: &'a mut [u8],
}

impl Task for Encode<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self) {
        let Self { code, mean, step, record } = self;
        // Lanes of one's own: sums do not depend on the instruction set.
        let (mut squares, mut sizes, mut bits) = ([0f32; 16], [0f32; 16], 0);
        let sixteens = code.as_chunks::<16>().0.iter().zip(mean.as_chunks::<16>().0);
        let (signs, terms) = record.split_at_mut(code.len() / 8);
        for ((values, mean), signs) in sixteens.zip(signs.as_chunks_mut::<2>().0) {
            let mut set = 0u16;
            for at in 0..16 {
                let left = (i32::from(values[at]) - OFFSET) as f32 - mean[at];
                squares[at] += left * left;
                sizes[at] += left.abs();
                set |= u16::from(left >= 0.0) << at;
            }
            bits += set.count_ones();
            *signs = set.to_le_bytes();
        }
        let (square, size) = (squares.iter().sum::<f32>(), sizes.iter().sum::<f32>());
        let share = if size > 0.0 { square / size * step } else { 0.0 };
        let numbers = [share, share * bits as f32, square * step * step];
        for (place, number) in terms.as_chunks_mut::<4>().0.iter_mut().zip(numbers) {
            *place = number.to_le_bytes();
        }
    }
}

/// The memory of a query's planes, kept from one to the next.
#[derive(Debug, Default)]
pub(crate) struct Planes(Vec<[u64; PLANES]>);

/// A query that is held against signs.
pub(crate) struct BySigns<'c> {
    signs: &'c [Line],
    shape: SignsShape,
    /// Of a record.
    lines: usize,
    planes: &'c [[u64; PLANES]],
    /// A distance is about `origin + flat |r|^2 + A (one sum + all) + A n each`.
    origin: f32,
    flat: f32,
    one: f32,
    all: f32,
    each: f32,
    /// What a distance changes by with a product, and one part in it.
    times: f32,
    part: f32,
    /// |q|^2
    square: f32,
    noise: f32,
    /// What rounding the query adds to the noise, of |r|^2.
    rounding: f32,
}

impl Int8Query<'_> {
    /// Readies estimates by the signs of the same codes.
    #[inline]
    pub(crate) fn by_signs<'c>(&self, signs: &'c Signs, buffer: &'c mut Planes) -> BySigns<'c> {
        run(Ready { query: self, signs, buffer })
    }
}

struct Ready<'a, 'q, 'c> {
    query: &'a Int8Query<'q>,
    signs: &'c Signs,
    buffer: &'c mut Planes,
}

impl<'c> Task for Ready<'_, '_, 'c> {
    type Output = BySigns<'c>;

    #[inline(always)]
    fn run<S: Simd>(self) -> BySigns<'c> {
        let Self { query, signs, buffer: Planes(planes) } = self;
        let placed = query.placed;
        let largest = super::largest(placed);
        let step = if largest > 0.0 { 2.0 * largest / TOP } else { 1.0 };
        let per_step = step.recip();
        let mut sum = 0u32;
        planes.clear();
        for values in placed.as_chunks::<LINE>().0 {
            let whole = values.map(|value| ((value + largest) * per_step + TO_WHOLE).to_bits() as u8);
            sum += whole.iter().map(|&whole| u32::from(whole)).sum::<u32>();
            // As the signs lie in a record.
            planes.push(std::array::from_fn(|plane| lowest_bits(&whole.map(|x| x >> plane)).to_le()));
        }
        let (origin, flat, times) =
            if query.terms.kind == Kind::Square { (query.terms.base, 1.0, 2.0) } else { (0.0, 0.0, 1.0) };
        let width = placed.len() as f32;
        let of_mean = if signs.mean.is_empty() { 0.0 } else { product(placed, &signs.mean) * query.step };
        let spread = (FRAC_PI_2 - 1.0) / width;
        BySigns {
            signs: &signs.lines,
            shape: signs.shape,
            lines: signs.shape.lines(),
            planes,
            origin: origin - of_mean,
            flat,
            one: -2.0 * times * step,
            all: -times * step * (TOP / 2.0 * width - sum as f32),
            each: times * TOP * step,
            times,
            part: times.recip(),
            square: product(placed, placed),
            noise: CHANCE * spread.sqrt(),
            rounding: FRAC_PI_2 * step * step / 12.0 / spread,
        }
    }
}

impl<'c> BySigns<'c> {
    #[inline(always)]
    fn record(&self, position: u32) -> (&'c [u64], [f32; TERMS]) {
        let record = &self.signs[position as usize * self.lines..][..self.lines];
        let words: &[u64] = bytemuck::cast_slice(record);
        let (signs, rest) = words.split_at(self.shape.words);
        let terms: &[f32; TERMS] = bytemuck::cast_slice(rest).first_chunk().expect("terms follow the signs");
        (signs, terms.map(|term| f32::from_bits(u32::from_le(term.to_bits()))))
    }

    #[inline(always)]
    fn about(&self, sum: u32, [share, with_bits, square]: [f32; TERMS]) -> f32 {
        self.origin + self.flat * square + share * (self.one * sum as f32 + self.all) + with_bits * self.each
    }

    /// About the distance by the metric; smaller is nearer.
    #[inline(always)]
    pub(crate) fn estimate<S: Simd>(&self, position: u32) -> f32 {
        let (signs, terms) = self.record(position);
        self.about(S::sum_where(signs, self.planes), terms)
    }

    /// The same for four positions at once.
    #[inline(always)]
    pub(crate) fn estimates<S: Simd>(&self, positions: &[u32; 4]) -> [f32; 4] {
        self.with_squares::<S>(positions).0
    }

    /// The same, and the squared length of what is left of each row.
    #[inline(always)]
    fn with_squares<S: Simd>(&self, positions: &[u32; 4]) -> ([f32; 4], [f32; 4]) {
        let [a, b, c, d] = *positions;
        let [a, b, c, d] = [self.record(a), self.record(b), self.record(c), self.record(d)];
        let sums = S::sums_where([a.0, b.0, c.0, d.0], self.planes);
        let estimates = [
            self.about(sums[0], a.1),
            self.about(sums[1], b.1),
            self.about(sums[2], c.1),
            self.about(sums[3], d.1),
        ];
        (estimates, [a.1[2], b.1[2], c.1[2], d.1[2]])
    }

    /// The same for up to [`GROUP`] positions; the rest is infinite.
    #[inline(always)]
    pub(crate) fn group<S: Simd>(&self, positions: &[u32]) -> [f32; GROUP] {
        let mut estimates = [f32::INFINITY; GROUP];
        let (fours, rest) = positions.as_chunks::<4>();
        for (estimates, positions) in estimates.as_chunks_mut::<4>().0.iter_mut().zip(fours) {
            *estimates = self.estimates::<S>(positions);
        }
        for (estimate, &position) in estimates[4 * fours.len()..].iter_mut().zip(rest) {
            *estimate = self.estimate::<S>(position);
        }
        estimates
    }

    /// For each of up to [`BLOCK`] positions the least that its distance may be,
    /// for telling whether it may be within `worst`.
    #[inline(always)]
    pub(crate) fn least<S: Simd>(&self, positions: &[u32], worst: f32, least: &mut [f32; BLOCK]) {
        let mut squares = [0f32; BLOCK];
        let (fours, rest) = positions[..positions.len().min(BLOCK)].as_chunks::<4>();
        let chunks = least.as_chunks_mut::<4>().0.iter_mut().zip(squares.as_chunks_mut::<4>().0);
        for (positions, (least, squares)) in fours.iter().zip(chunks) {
            (*least, *squares) = self.with_squares::<S>(positions);
        }
        let done = 4 * fours.len();
        for (&position, (least, square)) in
            rest.iter().zip(least[done..].iter_mut().zip(&mut squares[done..]))
        {
            (*least, *square) = (self.estimate::<S>(position), self.record(position).1[2]);
        }
        for (least, &square) in least.iter_mut().zip(&squares) {
            let needed = ((self.origin + self.flat * square - worst) * self.part).max(0.0);
            let beside = (self.square * square - needed * needed).max(0.0) + self.rounding * square;
            *least -= self.times * self.noise * beside.sqrt();
        }
    }

    #[inline(always)]
    pub(crate) fn prefetch(&self, position: u32) {
        prefetch_all(&self.signs[position as usize * self.lines..][..self.lines]);
    }
}

impl Measure for BySigns<'_> {
    #[inline(always)]
    fn rank<S: Simd>(&self, position: u32) -> u32 {
        rank(self.estimate::<S>(position))
    }

    #[inline(always)]
    fn prefetch(&self, position: u32) {
        self.prefetch(position);
    }
}

/// The lowest bit of each byte.
#[inline(always)]
fn lowest_bits(bytes: &[u8; LINE]) -> u64 {
    let eights = bytes.as_chunks::<8>().0.iter().enumerate();
    eights.fold(0, |bits, (at, &eight)| {
        let lowest = u64::from_le_bytes(eight) & 0x0101_0101_0101_0101;
        bits | (lowest.wrapping_mul(0x0102_0408_1020_4080) >> 56) << (8 * at)
    })
}

/// Of whole lines.
#[inline(always)]
fn product(a: &[f32], b: &[f32]) -> f32 {
    let mut lanes = [0f32; 16];
    for (a, b) in a.as_chunks::<16>().0.iter().zip(b.as_chunks::<16>().0) {
        lanes.iter_mut().zip(a.iter().zip(b)).for_each(|(lane, (a, b))| *lane += a * b);
    }
    lanes.iter().sum()
}

#[cfg(test)]
mod tests {
    use super::super::Int8Buffer;
    use super::*;
    use crate::FlatRows;
    use crate::simd::{Level, run_with};
    use rand::{Rng, SeedableRng, rngs::StdRng};

    struct Both<'a>(&'a BySigns<'a>, f32);

    impl Task for Both<'_> {
        /// Estimates of the first eight positions, and the least they may be.
        type Output = ([f32; 8], [f32; 8]);

        #[inline(always)]
        fn run<S: Simd>(self) -> Self::Output {
            let Self(by, worst) = self;
            let (mut estimates, mut least) = ([0.0; 8], [0.0; BLOCK]);
            by.least::<S>(&[0, 1, 2, 3, 4, 5, 6, 7], worst, &mut least);
            for (at, estimate) in estimates.iter_mut().enumerate() {
                let four = std::array::from_fn(|next| ((at + next) % 8) as u32);
                *estimate = by.estimate::<S>(at as u32);
                assert_eq!(by.estimates::<S>(&four)[0], *estimate);
            }
            (estimates, *least.first_chunk().expect("128 hold 8"))
        }
    }

    #[test]
    fn estimates_are_near_the_distance_whatever_the_mean_and_the_instructions() {
        let mut random = StdRng::seed_from_u64(31);
        let (mut beyond, mut all) = (0, 0);
        for dim in (130..=1100).step_by(37) {
            for metric in [Metric::Cosine, Metric::Dot, Metric::Euclid] {
                // Rows around a place that is three lengths away from zero.
                let mut row = |far: f32| -> Vec<f32> {
                    let values =
                        (0..dim).map(|at| far * ((at % 5) as f32 - 1.0) + random.random_range(-1.0..1.0));
                    let mut row: Vec<f32> = values.collect();
                    metric.prepare(&mut row);
                    row
                };
                let values: Vec<f32> = (0..64).flat_map(|_| row(1.0)).collect();
                let query = row(1.0);
                let rows = FlatRows::new(dim, &values).expect("whole rows");
                let codes = Int8::encode(metric, &rows, &(0..64).collect::<Vec<_>>());
                let signs = Signs::of(&codes).expect("of enough values");
                let (mut buffer, mut planes) = (Int8Buffer::default(), Planes::default());
                let coded = codes.query(&query, &mut buffer);
                let by = coded.by_signs(&signs, &mut planes);
                let worst = metric.distance(&query, rows.values(0));
                let portable = run_with(Level::Portable, Both(&by, worst));
                for level in Level::all() {
                    assert_eq!(
                        run_with(level, Both(&by, worst)),
                        portable,
                        "{metric:?} {dim} {}",
                        level.name()
                    );
                }
                for at in 0..8 {
                    let distance = metric.distance(&query, rows.values(at as u32));
                    let (estimate, least) = (portable.0[at], portable.1[at]);
                    all += 1;
                    beyond += u32::from(least > distance.max(worst));
                    assert!(least < estimate, "chance has a share");
                    // Five standard deviations, of which `least` takes off 2.25.
                    let bound = (estimate - least) / CHANCE * 5.0 + 1e-3 * distance.abs();
                    let off = (estimate - distance).abs();
                    assert!(off < 2.0 * bound, "{metric:?} {dim}: {estimate} of {distance}");
                }
            }
        }
        assert!(all > 600 && beyond * 20 < all, "{beyond} of {all}");
    }
}
