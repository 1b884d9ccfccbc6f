//! Instruction sets: which there are, and running a whole loop with one.
//!
//! A call per distance costs as much as the distance when the codes are short.
//! So a loop that measures is written once, generic over [`Simd`], compiled for
//! every instruction set, and the choice is made once per loop, in [`run`].
//! Sums are of whole numbers and exact: every set gives the same results.

// A part that is not inlined is compiled without the instructions of the whole.
#![allow(clippy::inline_always)]

#[cfg(target_arch = "x86_64")]
use std::arch::x86_64 as x86;

/// Codes come in whole lines of this many bytes.
pub(crate) const LINE: usize = 64;

/// What differs between instruction sets. Both arguments have the same length,
/// a multiple of [`LINE`].
pub(crate) trait Simd: Copy + Send + Sync {
    /// The sum of the products of a code and a query, each value of the code
    /// being 128 too large.
    fn dot(code: &[u8], query: &[i8]) -> i32;

    /// The sum of the absolute differences of two codes.
    fn difference(a: &[u8], b: &[u8]) -> u32;
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
}

impl Level {
    /// The best that this processor has.
    #[inline]
    pub(crate) fn best() -> Self {
        #[cfg(target_arch = "x86_64")]
        {
            if has_avx512() {
                return Self::Avx512;
            }
            if has_avx2() {
                return Self::Avx2;
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

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2,fma,bmi1,bmi2,popcnt,f16c")]
fn run_avx2<T: Task>(task: T) -> T::Output {
    task.run::<Avx2>()
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2,fma,bmi1,bmi2,popcnt,f16c,avx512f,avx512bw,avx512dq,avx512vl,avx512vnni")]
fn run_avx512<T: Task>(task: T) -> T::Output {
    task.run::<Avx512>()
}

/// Written so that the compiler finds the vector instructions of the target.
#[derive(Clone, Copy)]
pub(crate) struct Portable;

impl Simd for Portable {
    #[inline(always)]
    fn dot(code: &[u8], query: &[i8]) -> i32 {
        let pairs = code.iter().zip(query);
        pairs.map(|(&c, &q)| i32::from(i16::from(c) * i16::from(q))).sum()
    }

    #[inline(always)]
    fn difference(a: &[u8], b: &[u8]) -> u32 {
        a.iter().zip(b).map(|(&x, &y)| u32::from(x.abs_diff(y))).sum()
    }
}

/// AVX2. Used only within [`run_avx2`].
#[cfg(target_arch = "x86_64")]
#[derive(Clone, Copy)]
pub(crate) struct Avx2;

#[cfg(target_arch = "x86_64")]
#[allow(unsafe_code)] // The instructions are not in every processor.
impl Simd for Avx2 {
    #[inline(always)]
    fn dot(code: &[u8], query: &[i8]) -> i32 {
        // SAFETY: this type is used within `run_avx2` only, which runs only
        // where the processor has AVX2.
        unsafe { dot_avx2(code, query) }
    }

    #[inline(always)]
    fn difference(a: &[u8], b: &[u8]) -> u32 {
        // SAFETY: as above.
        unsafe { difference_avx2(a, b) }
    }
}

// vpmaddubsw would saturate; 16 bits hold each product, 32 each sum.
#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2")]
#[inline]
#[allow(unsafe_code)] // Loads take pointers.
fn dot_avx2(code: &[u8], query: &[i8]) -> i32 {
    let mut sum = x86::_mm256_setzero_si256();
    for (c, q) in code.as_chunks::<16>().0.iter().zip(query.as_chunks::<16>().0) {
        // SAFETY: 16 bytes are read from chunks of 16.
        let (c, q) =
            unsafe { (x86::_mm_loadu_si128(c.as_ptr().cast()), x86::_mm_loadu_si128(q.as_ptr().cast())) };
        let products = x86::_mm256_madd_epi16(x86::_mm256_cvtepu8_epi16(c), x86::_mm256_cvtepi8_epi16(q));
        sum = x86::_mm256_add_epi32(sum, products);
    }
    let lanes: [i32; 8] = bytemuck::cast(sum);
    lanes.iter().sum()
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2")]
#[inline]
#[allow(unsafe_code)] // Loads take pointers.
fn difference_avx2(a: &[u8], b: &[u8]) -> u32 {
    let mut sum = x86::_mm256_setzero_si256();
    for (x, y) in a.as_chunks::<32>().0.iter().zip(b.as_chunks::<32>().0) {
        // SAFETY: 32 bytes are read from chunks of 32.
        let (x, y) = unsafe {
            (x86::_mm256_loadu_si256(x.as_ptr().cast()), x86::_mm256_loadu_si256(y.as_ptr().cast()))
        };
        sum = x86::_mm256_add_epi64(sum, x86::_mm256_sad_epu8(x, y));
    }
    let lanes: [u64; 4] = bytemuck::cast(sum);
    lanes.iter().sum::<u64>() as u32
}

/// AVX-512 with VNNI. Used only within [`run_avx512`].
#[cfg(target_arch = "x86_64")]
#[derive(Clone, Copy)]
pub(crate) struct Avx512;

#[cfg(target_arch = "x86_64")]
#[allow(unsafe_code)] // The instructions are not in every processor.
impl Simd for Avx512 {
    #[inline(always)]
    fn dot(code: &[u8], query: &[i8]) -> i32 {
        // SAFETY: this type is used within `run_avx512` only, which runs only
        // where the processor has these.
        unsafe { dot_avx512(code, query) }
    }

    #[inline(always)]
    fn difference(a: &[u8], b: &[u8]) -> u32 {
        // SAFETY: as above.
        unsafe { difference_avx512(a, b) }
    }
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx512f,avx512bw,avx512vnni")]
#[inline]
#[allow(unsafe_code)] // Loads take pointers.
fn dot_avx512(code: &[u8], query: &[i8]) -> i32 {
    let (code, query) = (code.as_chunks::<LINE>().0, query.as_chunks::<LINE>().0);
    // Two sums, so that no addition waits for the one before it.
    let (mut even, mut odd) = (x86::_mm512_setzero_si512(), x86::_mm512_setzero_si512());
    let (code_pairs, code_rest) = code.as_chunks::<2>();
    let (query_pairs, query_rest) = query.as_chunks::<2>();
    for (c, q) in code_pairs.iter().zip(query_pairs) {
        even = x86::_mm512_dpbusd_epi32(even, load(&c[0]), load_signed(&q[0]));
        odd = x86::_mm512_dpbusd_epi32(odd, load(&c[1]), load_signed(&q[1]));
    }
    for (c, q) in code_rest.iter().zip(query_rest) {
        even = x86::_mm512_dpbusd_epi32(even, load(c), load_signed(q));
    }
    x86::_mm512_reduce_add_epi32(x86::_mm512_add_epi32(even, odd))
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx512f,avx512bw")]
#[inline]
fn difference_avx512(a: &[u8], b: &[u8]) -> u32 {
    let mut sum = x86::_mm512_setzero_si512();
    for (x, y) in a.as_chunks::<LINE>().0.iter().zip(b.as_chunks::<LINE>().0) {
        sum = x86::_mm512_add_epi64(sum, x86::_mm512_sad_epu8(load(x), load(y)));
    }
    x86::_mm512_reduce_add_epi64(sum) as u32
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx512f")]
#[inline]
#[allow(unsafe_code)] // Loads take pointers.
fn load(line: &[u8; LINE]) -> x86::__m512i {
    // SAFETY: the line has the 64 bytes that are read.
    unsafe { x86::_mm512_loadu_si512(line.as_ptr().cast()) }
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx512f")]
#[inline]
#[allow(unsafe_code)] // Loads take pointers.
fn load_signed(line: &[i8; LINE]) -> x86::__m512i {
    // SAFETY: the line has the 64 bytes that are read.
    unsafe { x86::_mm512_loadu_si512(line.as_ptr().cast()) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rand::{Rng, SeedableRng, rngs::StdRng};

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
            let query: Vec<i8> = (0..lines * LINE).map(|_| random.random_range(-127..=127)).collect();
            for level in Level::all() {
                let got = run_with(level, Both(&code, &query, &other));
                assert_eq!(got, naive(&code, &query, &other), "{} with {lines} lines", level.name());
            }
        }
    }

    #[test]
    fn the_largest_dimension_does_not_overflow() {
        let lines = 65_536 / LINE + 1;
        let (ends, zeros) = (vec![255u8; lines * LINE], vec![0u8; lines * LINE]);
        for query in [vec![127i8; lines * LINE], vec![-127i8; lines * LINE]] {
            for level in Level::all() {
                let got = run_with(level, Both(&ends, &query, &zeros));
                assert_eq!(got, naive(&ends, &query, &zeros), "{}", level.name());
            }
        }
    }
}
