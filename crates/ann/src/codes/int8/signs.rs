//! One bit a value, for telling which of many rows are surely not near.
//!
//! The signs w of a row x, turned at random as it is, give its product with a
//! query q as <q, x> = p, about A <q, w> with A = |x|^2 / <w, x> (RaBitQ, Gao and
//! Long 2024). The error is normal, with the variance (pi / 2 - 1) / d times
//! |q|^2 |x|^2 - p^2. A row whose estimate falls short of what is looked for by
//! more than chance explains need not be measured.
//!
//! Signs lie in the order of slots: of rows that are looked at in this order an
//! eighth of the bytes of a code is read, and neighbouring rows share them.

use super::{Bits, Int8, Int8Query, Kind, OFFSET, Terms};
use crate::simd::{LINE, Simd, Task, run};

/// Codes of fewer lines are measured as fast.
const LEAST_LINES: usize = 3;
/// Standard deviations that chance explains: it hides one of 80 rows that lie just
/// within the distance, and far fewer of those that lie well within.
const CHANCE: f32 = 2.25;

/// Rows that are looked at together.
pub(crate) const BLOCK: usize = 128;

/// The signs of rows, by slot.
pub(crate) struct Signs {
    bits: Vec<u64>,
    /// A in steps of codes, and |x|^2.
    terms: Vec<[f32; 2]>,
    per_row: usize,
}

impl Signs {
    /// None if signs say nothing, or little less than codes do.
    pub(crate) fn of(codes: &Int8, slots: &[u32]) -> Option<Self> {
        let per_row = codes.lines_per_code();
        if codes.frame.rotation.is_none() || per_row < LEAST_LINES || codes.bits() != Bits::Eight {
            return None;
        }
        let mut signs =
            Self { bits: vec![0; slots.len() * per_row], terms: vec![[0.0; 2]; slots.len()], per_row };
        run(Encode { codes, slots, signs: &mut signs });
        Some(signs)
    }

    pub(crate) fn memory_bytes(&self) -> usize {
        size_of_val(&*self.bits) + size_of_val(&*self.terms)
    }

    #[inline(always)]
    fn of_row(&self, slot: u32) -> &[u64] {
        &self.bits[slot as usize * self.per_row..][..self.per_row]
    }
}

struct Encode<'a> {
    codes: &'a Int8,
    slots: &'a [u32],
    signs: &'a mut Signs,
}

impl Task for Encode<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self) {
        let Self { codes, slots, signs } = self;
        let per_row = signs.per_row;
        let step = codes.frame.scale.recip();
        for (lines, &slot) in codes.lines.chunks_exact(per_row).zip(slots) {
            let (mut square, mut sizes) = (0f32, 0f32);
            for (line, bits) in lines.iter().zip(&mut signs.bits[slot as usize * per_row..]) {
                let (mut products, mut sum) = (0, 0);
                for &value in &line.0 {
                    let value = i32::from(value) - OFFSET;
                    products += value * value;
                    sum += value.abs();
                }
                square += products as f32;
                sizes += sum as f32;
                *bits = top_bits(&line.0);
            }
            let share = if sizes > 0.0 { square / sizes } else { 0.0 };
            signs.terms[slot as usize] = [share, square * step * step];
        }
    }
}

/// The highest bit of each byte.
#[inline(always)]
fn top_bits(bytes: &[u8; LINE]) -> u64 {
    let eights = bytes.as_chunks::<8>().0.iter().enumerate();
    eights.fold(0, |bits, (at, &eight)| {
        let tops = u64::from_le_bytes(eight) >> 7 & 0x0101_0101_0101_0101;
        bits | (tops.wrapping_mul(0x0102_0408_1020_4080) >> 56) << (8 * at)
    })
}

/// What estimates of a query are made with.
#[derive(Debug, Clone, Copy)]
pub(crate) struct BySigns {
    /// The sum of the query's code.
    all: i32,
    /// The product that one in a sum is, for A of one step.
    unit: f32,
    /// A distance is `origin + flat |x|^2 - times p`.
    origin: f32,
    flat: f32,
    times: f32,
    /// One part in `times`.
    part: f32,
    /// |q|^2
    square: f32,
    noise: f32,
}

impl Int8Query<'_> {
    /// Readies estimates.
    pub(crate) fn by_signs(&self) -> BySigns {
        let Terms { kind, offset, factor, base } = self.terms;
        let (origin, flat, times) = if kind == Kind::Square { (base, 1.0, 2.0) } else { (0.0, 0.0, 1.0) };
        let spread = (std::f32::consts::FRAC_PI_2 - 1.0) / self.placed.len() as f32;
        BySigns {
            all: offset / OFFSET,
            unit: -factor / times,
            origin,
            flat,
            times,
            part: times.recip(),
            square: squared(self.placed),
            noise: CHANCE * spread.sqrt(),
        }
    }

    /// For each of up to [`BLOCK`] slots the least that its distance may be, for
    /// telling whether it may be within `worst`.
    #[inline(always)]
    pub(crate) fn least<S: Simd>(
        &self,
        by: BySigns,
        signs: &Signs,
        slots: &[u32],
        worst: f32,
        least: &mut [f32; BLOCK],
    ) {
        let query: &[i8] = bytemuck::cast_slice(self.query);
        // What is looked up goes by itself, so that the rest is done for many at
        // once.
        let (mut sums, mut shares, mut squares) = ([0; BLOCK], [0f32; BLOCK], [0f32; BLOCK]);
        let (fours, rest) = slots[..slots.len().min(BLOCK)].as_chunks::<4>();
        for (sums, slots) in sums.as_chunks_mut::<4>().0.iter_mut().zip(fours) {
            *sums = S::sums_where(slots.map(|slot| signs.of_row(slot)), query);
        }
        for (sum, &slot) in sums[4 * fours.len()..].iter_mut().zip(rest) {
            *sum = S::sum_where(signs.of_row(slot), query);
        }
        for (at, &slot) in slots.iter().enumerate().take(BLOCK) {
            [shares[at], squares[at]] = signs.terms[slot as usize];
        }
        for (at, least) in least.iter_mut().enumerate() {
            let sum = (2 * sums[at] - by.all) as f32;
            let far = by.origin + by.flat * squares[at];
            let needed = ((far - worst) * by.part).max(0.0);
            let beside = (by.square * squares[at] - needed * needed).max(0.0);
            *least = far - by.times * (sum * by.unit * shares[at] + by.noise * beside.sqrt());
        }
    }
}

#[inline(always)]
fn squared(values: &[f32]) -> f32 {
    let mut lanes = [0f32; 16];
    for values in values.as_chunks::<16>().0 {
        lanes.iter_mut().zip(values).for_each(|(lane, value)| *lane += value * value);
    }
    lanes.iter().sum()
}
