//! Instruction sets: which there are, and running a whole loop with one.
//!
//! A call per distance costs as much as the distance when the codes are short.
//! So a loop that measures is written once, generic over [`Simd`], compiled for
//! every instruction set, and the choice is made once per loop, in [`run`].
//! Sums are of whole numbers and exact: every set gives the same results.

// A part that is not inlined is compiled without the instructions of the whole.
#![allow(clippy::inline_always)]

#[cfg(target_arch = "aarch64")]
use std::arch::is_aarch64_feature_detected;

#[cfg(target_arch = "x86_64")]
mod avx2;
#[cfg(target_arch = "x86_64")]
mod avx512;
#[cfg(target_arch = "aarch64")]
mod neon;
mod portable;

#[cfg(target_arch = "aarch64")]
use self::neon::{run_neon, run_neon_dot};
#[cfg(target_arch = "x86_64")]
use self::{
    avx2::run_avx2,
    avx512::{run_avx512, run_avx512_counting},
};
use crate::array::Line;
pub(crate) use portable::Portable;

/// Codes come in whole lines of this many bytes.
pub(crate) const LINE: usize = 64;

/// Bits of a value of a query that is held against signs.
pub(crate) const PLANES: usize = 4;

/// Codes that are looked up at once.
pub(crate) const GROUP: usize = 32;
/// Lines of which the sums of the entries fit 16 bits: 256 entries of 255.
const LINES_SUMMED: usize = 64;

/// What differs between instruction sets. Two slices have the same length; of
/// bytes it is a multiple of [`LINE`].
pub(crate) trait Simd: Copy + Send + Sync {
    /// The sum of the products of a code and a query, each value of the code
    /// being 128 too large.
    fn dot(code: &[u8], query: &[i8]) -> i32;

    /// The sum of the products of a code of half bytes and a query, which is twice
    /// as long: the first 64 values of each 128 are in the lower halves.
    fn dot_halves(code: &[u8], query: &[i8]) -> i32;

    /// The sum of the absolute differences of two codes.
    fn difference(a: &[u8], b: &[u8]) -> u32;

    /// For each of 32 codes the sum of the table entries that it names.
    ///
    /// Every 16 bytes of `tables` are a table, and the 16 bytes of `codes` at the
    /// same place name an entry of it for each code: [`place`] says where. At
    /// most [`LINES_SUMMED`] lines. On the way the lines of `later` are asked for, at
    /// most as many as of codes.
    fn look_up(codes: &[Line], tables: &[Line], later: &[Line]) -> [u16; GROUP];

    /// A bit for each value that is below `limit`.
    fn below(values: &[f32; GROUP], limit: f32) -> u32;

    /// The sum of the query's values where a bit is set, 64 of them to a word. The
    /// values are below 16; each plane has a bit of each, the first the lowest.
    #[inline(always)]
    fn sum_where(bits: &[u64], query: &[[u64; PLANES]]) -> u32 {
        let mut sum = 0;
        for (bits, planes) in bits.iter().zip(query) {
            for (at, plane) in planes.iter().enumerate() {
                sum += (bits & plane).count_ones() << at;
            }
        }
        sum
    }

    /// The same for four sets of bits at once.
    #[inline(always)]
    fn sums_where(bits: [&[u64]; 4], query: &[[u64; PLANES]]) -> [u32; 4] {
        bits.map(|bits| Self::sum_where(bits, query))
    }

    /// For each choice of signs the sum of four values, and of `middle`, which
    /// makes it positive: bit `i` of the place is set where value `i` counts as
    /// it is. Cut to whole numbers, which are below 256.
    #[inline(always)]
    fn table(values: [f32; 4], middle: f32) -> [u8; 16] {
        std::array::from_fn(|name| {
            let signed = |at: usize| if name >> at & 1 == 1 { values[at] } else { -values[at] };
            ((signed(0) + signed(1)) + (signed(2) + signed(3)) + middle) as u8
        })
    }

    /// The Walsh-Hadamard transform of 16 values, not normalised.
    #[inline(always)]
    fn hadamard_16(values: &mut [f32; 16]) {
        for step in [8, 4, 2, 1] {
            let last = *values;
            for (at, value) in values.iter_mut().enumerate() {
                let other = last[at ^ step];
                *value = if at & step == 0 { other + last[at] } else { other - last[at] };
            }
        }
    }

    /// For each of 32 codes the sum of the table entries that it names, of any
    /// number of lines.
    #[inline(always)]
    fn look_up_all(codes: &[Line], tables: &[Line], later: &[Line]) -> [f32; GROUP] {
        if codes.len() <= LINES_SUMMED {
            return Self::look_up(codes, tables, later).map(f32::from);
        }
        let (mut sums, mut later) = ([0.0; GROUP], later.chunks(LINES_SUMMED));
        for (codes, tables) in codes.chunks(LINES_SUMMED).zip(tables.chunks(LINES_SUMMED)) {
            let part = Self::look_up(codes, tables, later.next().unwrap_or_default());
            sums.iter_mut().zip(part).for_each(|(sum, part)| *sum += f32::from(part));
        }
        sums
    }
}

/// Where in the 16 bytes for a table the code of a group names its entry: the
/// byte, and by how many bits it is shifted there. So the even and odd bytes of
/// what was looked up, summed apart, come out in the order of the codes.
pub(crate) const fn place(code: usize) -> (usize, u32) {
    (code % 8 * 2 + code / 8 % 2, (code / 16) as u32 * 4)
}

/// A loop that is compiled for each instruction set.
pub(crate) trait Task {
    type Output;

    /// Does it. `#[inline(always)]` in every implementation, and in what it
    /// calls as far as that is hot.
    fn run<S: Simd>(self) -> Self::Output;
}

/// Runs a task with the best instructions of this processor.
#[inline]
pub(crate) fn run<T: Task>(task: T) -> T::Output {
    run_with(Level::best(), task)
}

/// The instruction sets that loops are compiled for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Level {
    /// What every processor of the target has.
    Portable,
    #[cfg(target_arch = "x86_64")]
    Avx2,
    #[cfg(target_arch = "x86_64")]
    Avx512,
    #[cfg(target_arch = "x86_64")]
    Avx512Counting,
    #[cfg(target_arch = "aarch64")]
    Neon,
    #[cfg(target_arch = "aarch64")]
    NeonDot,
}

impl Level {
    /// The best that this processor has.
    #[inline]
    pub(crate) fn best() -> Self {
        #[cfg(target_arch = "x86_64")]
        {
            if has_avx512() && is_x86_feature_detected!("avx512vpopcntdq") {
                return Self::Avx512Counting;
            }
            if has_avx512() {
                return Self::Avx512;
            }
            if has_avx2() {
                return Self::Avx2;
            }
        }
        #[cfg(target_arch = "aarch64")]
        {
            if is_aarch64_feature_detected!("neon") && is_aarch64_feature_detected!("dotprod") {
                return Self::NeonDot;
            }
            if is_aarch64_feature_detected!("neon") {
                return Self::Neon;
            }
        }
        Self::Portable
    }

    /// All that this processor has.
    #[cfg(test)]
    pub(crate) fn all() -> Vec<Self> {
        let levels = [
            Self::Portable,
            #[cfg(target_arch = "x86_64")]
            Self::Avx2,
            #[cfg(target_arch = "x86_64")]
            Self::Avx512,
            #[cfg(target_arch = "x86_64")]
            Self::Avx512Counting,
            #[cfg(target_arch = "aarch64")]
            Self::Neon,
            #[cfg(target_arch = "aarch64")]
            Self::NeonDot,
        ];
        levels.into_iter().filter(|level| *level <= Self::best()).collect()
    }

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Portable => "portable",
            #[cfg(target_arch = "x86_64")]
            Self::Avx2 => "avx2",
            #[cfg(target_arch = "x86_64")]
            Self::Avx512 => "avx512-vnni",
            #[cfg(target_arch = "x86_64")]
            Self::Avx512Counting => "avx512-vnni-vpopcntdq",
            #[cfg(target_arch = "aarch64")]
            Self::Neon => "neon",
            #[cfg(target_arch = "aarch64")]
            Self::NeonDot => "neon-dotprod",
        }
    }
}

/// Runs a task with the instructions of a level.
#[inline]
#[allow(unsafe_code)] // The instructions are not in every processor.
pub(crate) fn run_with<T: Task>(level: Level, task: T) -> T::Output {
    assert!(level <= Level::best(), "this processor lacks {}", level.name());
    match level {
        Level::Portable => task.run::<Portable>(),
        // SAFETY: the processor has them, by the assertion.
        #[cfg(target_arch = "x86_64")]
        Level::Avx2 => unsafe { run_avx2(task) },
        // SAFETY: the processor has them, by the assertion.
        #[cfg(target_arch = "x86_64")]
        Level::Avx512 => unsafe { run_avx512(task) },
        // SAFETY: the processor has them, by the assertion.
        #[cfg(target_arch = "x86_64")]
        Level::Avx512Counting => unsafe { run_avx512_counting(task) },
        // SAFETY: the processor has them, by the assertion.
        #[cfg(target_arch = "aarch64")]
        Level::Neon => unsafe { run_neon(task) },
        // SAFETY: the processor has them, by the assertion.
        #[cfg(target_arch = "aarch64")]
        Level::NeonDot => unsafe { run_neon_dot(task) },
    }
}

#[cfg(target_arch = "x86_64")]
#[inline]
fn has_avx2() -> bool {
    is_x86_feature_detected!("avx2")
        && is_x86_feature_detected!("fma")
        && is_x86_feature_detected!("bmi1")
        && is_x86_feature_detected!("bmi2")
        && is_x86_feature_detected!("popcnt")
        && is_x86_feature_detected!("f16c")
}

#[cfg(target_arch = "x86_64")]
#[inline]
fn has_avx512() -> bool {
    has_avx2()
        && is_x86_feature_detected!("avx512f")
        && is_x86_feature_detected!("avx512bw")
        && is_x86_feature_detected!("avx512dq")
        && is_x86_feature_detected!("avx512vl")
        && is_x86_feature_detected!("avx512vnni")
}

#[cfg(test)]
mod tests {
    use super::*;
    use rand::{Rng, SeedableRng, rngs::StdRng};

    struct SumWhere<'a>(&'a [u64], &'a [[u64; PLANES]]);

    impl Task for SumWhere<'_> {
        type Output = (u32, [u32; 4]);

        #[inline(always)]
        fn run<S: Simd>(self) -> Self::Output {
            let Self(bits, query) = self;
            let turned: Vec<u64> = bits.iter().map(|bits| !bits).collect();
            let none = vec![0; bits.len()];
            (S::sum_where(bits, query), S::sums_where([bits, &turned, &none, bits], query))
        }
    }

    #[test]
    fn every_instruction_set_sums_the_values_whose_bit_is_set() {
        let mut random = StdRng::seed_from_u64(7);
        for words in (1..=20).chain([1025]) {
            let bits: Vec<u64> =
                (0..words).map(|at| if at % 7 == 3 { !0 } else { random.random() }).collect();
            let query: Vec<[u64; PLANES]> =
                (0..words).map(|at| if at % 5 == 3 { [!0; PLANES] } else { random.random() }).collect();
            let set = |bits: u64, at: usize| (bits >> (at % LINE) & 1) as u32;
            let value =
                |at: usize| (0..PLANES).map(|plane| set(query[at / LINE][plane], at) << plane).sum::<u32>();
            let all: u32 = (0..words * LINE).map(value).sum();
            let sum: u32 = (0..words * LINE).map(|at| set(bits[at / LINE], at) * value(at)).sum();
            let want = (sum, [sum, all - sum, 0, sum]);
            for level in Level::all() {
                assert_eq!(run_with(level, SumWhere(&bits, &query)), want, "{} words {words}", level.name());
            }
        }
    }

    struct Both<'a>(&'a [u8], &'a [i8], &'a [u8]);

    impl Task for Both<'_> {
        type Output = (i32, u32);

        #[inline(always)]
        fn run<S: Simd>(self) -> (i32, u32) {
            (S::dot(self.0, self.1), S::difference(self.0, self.2))
        }
    }

    fn naive(code: &[u8], query: &[i8], other: &[u8]) -> (i32, u32) {
        let dot = code.iter().zip(query).map(|(&c, &q)| i32::from(c) * i32::from(q)).sum();
        let difference = code.iter().zip(other).map(|(&x, &y)| u32::from(x.abs_diff(y))).sum();
        (dot, difference)
    }

    #[test]
    fn every_instruction_set_gives_the_naive_sums() {
        let mut random = StdRng::seed_from_u64(3);
        for lines in 1..=20 {
            let code: Vec<u8> = (0..lines * LINE).map(|_| random.random()).collect();
            let other: Vec<u8> = (0..lines * LINE).map(|_| random.random()).collect();
            let query: Vec<i8> = (0..lines * LINE).map(|_| random.random()).collect();
            for level in Level::all() {
                let got = run_with(level, Both(&code, &query, &other));
                assert_eq!(got, naive(&code, &query, &other), "{} with {lines} lines", level.name());
            }
        }
    }

    struct Halves<'a>(&'a [u8], &'a [i8]);

    impl Task for Halves<'_> {
        type Output = i32;

        #[inline(always)]
        fn run<S: Simd>(self) -> i32 {
            S::dot_halves(self.0, self.1)
        }
    }

    #[test]
    fn every_instruction_set_multiplies_half_bytes() {
        let mut random = StdRng::seed_from_u64(5);
        for lines in 1..=20 {
            let values: Vec<u8> = (0..2 * lines * LINE).map(|_| random.random_range(0..16)).collect();
            let query: Vec<i8> = (0..2 * lines * LINE).map(|_| random.random_range(-127..=127)).collect();
            let code: Vec<u8> = (0..lines * LINE)
                .map(|at| {
                    let low = at / LINE * 2 * LINE + at % LINE;
                    values[low] | values[low + LINE] << 4
                })
                .collect();
            let want: i32 = values.iter().zip(&query).map(|(&c, &q)| i32::from(c) * i32::from(q)).sum();
            for level in Level::all() {
                assert_eq!(run_with(level, Halves(&code, &query)), want, "{} {lines}", level.name());
            }
        }
    }

    struct LookUp<'a>(&'a [Line], &'a [Line], f32);

    impl Task for LookUp<'_> {
        type Output = ([f32; GROUP], u32);

        #[inline(always)]
        fn run<S: Simd>(self) -> Self::Output {
            let sums = S::look_up_all(self.0, self.1, self.0);
            (sums, S::below(&sums, self.2))
        }
    }

    #[test]
    fn every_instruction_set_looks_up_what_the_codes_name() {
        let mut random = StdRng::seed_from_u64(4);
        for lines in (1..=70).chain([128, 200]) {
            let mut codes = vec![Line([0; LINE]); lines];
            let mut tables = vec![Line([255; LINE]); lines];
            if lines % 3 > 0 {
                tables.iter_mut().flat_map(|line| &mut line.0).for_each(|entry| *entry = random.random());
            }
            let mut want = [0f32; GROUP];
            for at in 0..4 * lines {
                for (code, want) in want.iter_mut().enumerate() {
                    let (name, (byte, shift)) = (random.random_range(0..16), place(code));
                    codes[at / 4].0[at % 4 * 16 + byte] |= (name as u8) << shift;
                    *want += f32::from(tables[at / 4].0[at % 4 * 16 + name]);
                }
            }
            let limit = want[random.random_range(0..GROUP)];
            let below = (0..GROUP).map(|at| u32::from(want[at] < limit) << at).sum();
            for level in Level::all() {
                let got = run_with(level, LookUp(&codes, &tables, limit));
                assert_eq!(got, (want, below), "{} with {lines} lines", level.name());
            }
        }
    }

    struct Hadamard(Vec<f32>);

    impl Task for Hadamard {
        type Output = Vec<f32>;

        #[inline(always)]
        fn run<S: Simd>(mut self) -> Vec<f32> {
            self.0.as_chunks_mut().0.iter_mut().for_each(S::hadamard_16);
            self.0
        }
    }

    #[test]
    fn every_instruction_set_transforms_alike_and_as_the_matrix_says() {
        let mut random = StdRng::seed_from_u64(5);
        for _ in 0..50 {
            let values: Vec<f32> = (0..16).map(|_| random.random_range(-1.0..1.0)).collect();
            let sign =
                |row: usize, at: usize| if (row & at).count_ones().is_multiple_of(2) { 1.0 } else { -1.0 };
            let want = |row| (0..16).map(|at| sign(row, at) * values[at]).sum::<f32>();
            let portable = run_with(Level::Portable, Hadamard(values.clone()));
            assert!((0..16).all(|row| (portable[row] - want(row)).abs() < 1e-5));
            for level in Level::all() {
                assert_eq!(run_with(level, Hadamard(values.clone())), portable, "{}", level.name());
            }
        }
    }

    struct Table([f32; 4], f32);

    impl Task for Table {
        type Output = [u8; 16];

        #[inline(always)]
        fn run<S: Simd>(self) -> [u8; 16] {
            S::table(self.0, self.1)
        }
    }

    #[test]
    fn every_instruction_set_sums_all_choices_of_signs() {
        let mut random = StdRng::seed_from_u64(6);
        for _ in 0..200 {
            let values: [f32; 4] = std::array::from_fn(|_| random.random_range(-31.0..31.0));
            let middle = values.iter().map(|value| value.abs()).sum::<f32>() + 0.5;
            let want: [u8; 16] = std::array::from_fn(|name| {
                let signed = (0..4).map(|at| if name & 1 << at > 0 { values[at] } else { -values[at] });
                (signed.map(f64::from).sum::<f64>() + f64::from(middle)) as u8
            });
            let portable = run_with(Level::Portable, Table(values, middle));
            assert!(portable.iter().zip(want).all(|(got, want)| got.abs_diff(want) <= 1));
            for level in Level::all() {
                assert_eq!(run_with(level, Table(values, middle)), portable, "{}", level.name());
            }
        }
    }

    #[test]
    fn what_is_not_a_number_is_below_nothing() {
        let line = [Line([0; LINE])];
        for level in Level::all() {
            let (_, below) = run_with(level, LookUp(&line, &line, f32::NAN));
            assert_eq!(below, 0, "{}", level.name());
        }
    }

    #[test]
    fn the_largest_dimension_does_not_overflow() {
        let lines = 65_536 / LINE + 1;
        let (ends, zeros) = (vec![255u8; lines * LINE], vec![0u8; lines * LINE]);
        for query in [vec![127i8; lines * LINE], vec![-128i8; lines * LINE]] {
            for (code, other) in [(&ends, &zeros), (&zeros, &ends)] {
                for level in Level::all() {
                    let got = run_with(level, Both(code, &query, other));
                    assert_eq!(got, naive(code, &query, other), "{}", level.name());
                }
            }
        }
    }
}
