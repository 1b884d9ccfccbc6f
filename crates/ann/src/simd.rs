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

use crate::array::Line;

/// Codes come in whole lines of this many bytes.
pub(crate) const LINE: usize = 64;

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
    /// most [`LINES_SUMMED`] lines.
    fn look_up(codes: &[Line], tables: &[Line]) -> [u16; GROUP];

    /// A bit for each value that is below `limit`.
    fn below(values: &[f32; GROUP], limit: f32) -> u32;

    /// The sum of the query's values where a bit is set, 64 of them to a word.
    #[inline(always)]
    fn sum_where(bits: &[u64], query: &[i8]) -> i32 {
        let mut sum = 0;
        for (bits, query) in bits.iter().zip(query.as_chunks::<LINE>().0) {
            for (at, &value) in query.iter().enumerate() {
                sum += i32::from(value) & -((bits >> at & 1) as i32);
            }
        }
        sum
    }

    /// The same for four sets of bits at once.
    #[inline(always)]
    fn sums_where(bits: [&[u64]; 4], query: &[i8]) -> [i32; 4] {
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
    fn look_up_all(codes: &[Line], tables: &[Line]) -> [f32; GROUP] {
        if codes.len() <= LINES_SUMMED {
            return Self::look_up(codes, tables).map(f32::from);
        }
        let mut sums = [0.0; GROUP];
        for (codes, tables) in codes.chunks(LINES_SUMMED).zip(tables.chunks(LINES_SUMMED)) {
            let part = Self::look_up(codes, tables);
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
    fn dot_halves(code: &[u8], query: &[i8]) -> i32 {
        let lines = code.as_chunks::<LINE>().0.iter().zip(query.chunks_exact(2 * LINE));
        let line = |(code, query): (&[u8; LINE], &[i8])| -> i32 {
            let (low, high) = query.split_at(LINE);
            let halves = code.iter().zip(low.iter().zip(high));
            halves
                .map(|(&c, (&low, &high))| {
                    i32::from(i16::from(c & 15) * i16::from(low) + i16::from(c >> 4) * i16::from(high))
                })
                .sum()
        };
        lines.map(line).sum()
    }

    #[inline(always)]
    fn difference(a: &[u8], b: &[u8]) -> u32 {
        a.iter().zip(b).map(|(&x, &y)| u32::from(x.abs_diff(y))).sum()
    }

    #[inline(always)]
    fn look_up(codes: &[Line], tables: &[Line]) -> [u16; GROUP] {
        let codes = bytemuck::cast_slice::<Line, [u8; 16]>(codes);
        let mut sums = [0; GROUP];
        for (names, table) in codes.iter().zip(bytemuck::cast_slice::<Line, [u8; 16]>(tables)) {
            for (code, sum) in sums.iter_mut().enumerate() {
                let (byte, shift) = place(code);
                *sum += u16::from(table[usize::from(names[byte] >> shift & 15)]);
            }
        }
        sums
    }

    #[inline(always)]
    fn below(values: &[f32; GROUP], limit: f32) -> u32 {
        (0..GROUP).fold(0, |bits, at| bits | u32::from(values[at] < limit) << at)
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
    fn dot_halves(code: &[u8], query: &[i8]) -> i32 {
        // SAFETY: as above.
        unsafe { dot_halves_avx2(code, query) }
    }

    #[inline(always)]
    fn difference(a: &[u8], b: &[u8]) -> u32 {
        // SAFETY: as above.
        unsafe { difference_avx2(a, b) }
    }

    #[inline(always)]
    fn look_up(codes: &[Line], tables: &[Line]) -> [u16; GROUP] {
        // SAFETY: as above.
        unsafe { look_up_avx2(codes, tables) }
    }

    #[inline(always)]
    fn below(values: &[f32; GROUP], limit: f32) -> u32 {
        // SAFETY: as above.
        unsafe { below_avx2(values, limit) }
    }

    #[inline(always)]
    fn sum_where(bits: &[u64], query: &[i8]) -> i32 {
        // SAFETY: as above.
        unsafe { sum_where_avx2(bits, query) }
    }

    #[inline(always)]
    fn table(values: [f32; 4], middle: f32) -> [u8; 16] {
        // SAFETY: as above.
        unsafe { table_avx2(values, middle) }
    }

    #[inline(always)]
    fn hadamard_16(values: &mut [f32; 16]) {
        // SAFETY: as above.
        unsafe { hadamard_16_avx2(values) }
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

// Two products of 15 and 127 are far within 16 bits: vpmaddubsw serves here.
#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2")]
#[inline]
#[allow(unsafe_code)] // Loads take pointers.
fn dot_halves_avx2(code: &[u8], query: &[i8]) -> i32 {
    let (half, ones) = (x86::_mm256_set1_epi8(15), x86::_mm256_set1_epi16(1));
    let mut sum = x86::_mm256_setzero_si256();
    for (c, q) in code.as_chunks::<LINE>().0.iter().zip(query.as_chunks::<{ 2 * LINE }>().0) {
        for at in [0, 32] {
            // SAFETY: 32 bytes from 0 and 32 lie within the line, and from there
            // and 64 further on within the two lines of the query.
            let (c, low, high) = unsafe {
                (
                    x86::_mm256_loadu_si256(c.as_ptr().add(at).cast()),
                    x86::_mm256_loadu_si256(q.as_ptr().add(at).cast()),
                    x86::_mm256_loadu_si256(q.as_ptr().add(LINE + at).cast()),
                )
            };
            let first = x86::_mm256_maddubs_epi16(x86::_mm256_and_si256(c, half), low);
            let c = x86::_mm256_and_si256(x86::_mm256_srli_epi16::<4>(c), half);
            let both = x86::_mm256_add_epi16(first, x86::_mm256_maddubs_epi16(c, high));
            sum = x86::_mm256_add_epi32(sum, x86::_mm256_madd_epi16(both, ones));
        }
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

// Entries have 8 bits and sums 16. What is looked up is summed as it is, two
// entries to a number, and once more with the odd ones alone: without them the
// first sum is that of the even ones.
#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2")]
#[inline]
#[allow(unsafe_code)] // Loads take pointers.
fn look_up_avx2(codes: &[Line], tables: &[Line]) -> [u16; GROUP] {
    let nibble = x86::_mm256_set1_epi8(15);
    let zero = x86::_mm256_setzero_si256();
    let (mut low, mut low_odd, mut high, mut high_odd) = (zero, zero, zero, zero);
    for (names, table) in codes.iter().zip(tables) {
        for half in [0, 32] {
            // SAFETY: 32 bytes from 0 and from 32 lie within the line.
            let (names, table) = unsafe {
                (
                    x86::_mm256_load_si256(names.0.as_ptr().add(half).cast()),
                    x86::_mm256_load_si256(table.0.as_ptr().add(half).cast()),
                )
            };
            let first = x86::_mm256_shuffle_epi8(table, x86::_mm256_and_si256(names, nibble));
            let names = x86::_mm256_and_si256(x86::_mm256_srli_epi16::<4>(names), nibble);
            let second = x86::_mm256_shuffle_epi8(table, names);
            low = x86::_mm256_add_epi16(low, first);
            low_odd = x86::_mm256_add_epi16(low_odd, x86::_mm256_srli_epi16::<8>(first));
            high = x86::_mm256_add_epi16(high, second);
            high_odd = x86::_mm256_add_epi16(high_odd, x86::_mm256_srli_epi16::<8>(second));
        }
    }
    let even = |all, odd| x86::_mm256_sub_epi16(all, x86::_mm256_slli_epi16::<8>(odd));
    let folded = |sums| {
        x86::_mm_add_epi16(x86::_mm256_castsi256_si128(sums), x86::_mm256_extracti128_si256::<1>(sums))
    };
    bytemuck::cast([
        folded(even(low, low_odd)),
        folded(low_odd),
        folded(even(high, high_odd)),
        folded(high_odd),
    ])
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2")]
#[inline]
fn below_avx2(values: &[f32; GROUP], limit: f32) -> u32 {
    let limit = x86::_mm256_set1_ps(limit);
    let part = |at: usize| {
        let values: [f32; 8] = values.as_chunks().0[at];
        let below = x86::_mm256_cmp_ps::<{ x86::_CMP_LT_OQ }>(bytemuck::cast(values), limit);
        (x86::_mm256_movemask_ps(below) as u32) << (8 * at)
    };
    part(0) | part(1) | part(2) | part(3)
}

// Each byte of 32 bits goes to the eight values it is for, of which each looks at
// its bit.
#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2")]
#[inline]
#[allow(unsafe_code)] // Loads take pointers.
fn sum_where_avx2(bits: &[u64], query: &[i8]) -> i32 {
    let byte =
        x86::_mm256_setr_epi64x(0, 0x0101_0101_0101_0101, 0x0202_0202_0202_0202, 0x0303_0303_0303_0303);
    let bit = x86::_mm256_set1_epi64x(0x8040_2010_0804_0201_u64 as i64);
    let (ones, wide_ones) = (x86::_mm256_set1_epi8(1), x86::_mm256_set1_epi16(1));
    let mut sum = x86::_mm256_setzero_si256();
    for (bits, query) in bits.iter().zip(query.as_chunks::<LINE>().0) {
        for (half, query) in query.as_chunks::<32>().0.iter().enumerate() {
            // SAFETY: 32 bytes are read from chunks of 32.
            let query = unsafe { x86::_mm256_loadu_si256(query.as_ptr().cast()) };
            let spread = x86::_mm256_shuffle_epi8(x86::_mm256_set1_epi32((bits >> (32 * half)) as i32), byte);
            let set = x86::_mm256_cmpeq_epi8(x86::_mm256_and_si256(spread, bit), bit);
            let pairs = x86::_mm256_maddubs_epi16(ones, x86::_mm256_and_si256(query, set));
            sum = x86::_mm256_add_epi32(sum, x86::_mm256_madd_epi16(pairs, wide_ones));
        }
    }
    let lanes: [i32; 8] = bytemuck::cast(sum);
    lanes.iter().sum()
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2")]
#[inline]
fn table_avx2(values: [f32; 4], middle: f32) -> [u8; 16] {
    let half = |first: i32| {
        let signed = |at: usize| {
            let sign = |name: i32| sign(!(first + name) >> at & 1);
            let signs =
                x86::_mm256_setr_ps(sign(0), sign(1), sign(2), sign(3), sign(4), sign(5), sign(6), sign(7));
            x86::_mm256_xor_ps(x86::_mm256_set1_ps(values[at]), signs)
        };
        let sum = x86::_mm256_add_ps(
            x86::_mm256_add_ps(signed(0), signed(1)),
            x86::_mm256_add_ps(signed(2), signed(3)),
        );
        x86::_mm256_cvttps_epi32(x86::_mm256_add_ps(sum, x86::_mm256_set1_ps(middle)))
    };
    // Packing goes by halves of 128 bits: 0-3, 8-11, 4-7, 12-15.
    let words = x86::_mm256_permute4x64_epi64::<0b11_01_10_00>(x86::_mm256_packs_epi32(half(0), half(8)));
    let bytes =
        x86::_mm_packus_epi16(x86::_mm256_castsi256_si128(words), x86::_mm256_extracti128_si256::<1>(words));
    bytemuck::cast(bytes)
}

// Each step adds to every value its partner's, after turning the sign of the
// second of both; the compiler does not find this by itself.
#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2")]
#[inline]
#[allow(unsafe_code)] // Loads take pointers.
fn hadamard_16_avx2(values: &mut [f32; 16]) {
    // SAFETY: the 16 values that are read are there.
    let (low, high) =
        unsafe { (x86::_mm256_loadu_ps(values.as_ptr()), x86::_mm256_loadu_ps(values.as_ptr().add(8))) };
    let turned = |half: i32| {
        x86::_mm256_setr_ps(
            0.0,
            sign(1 & half),
            sign(2 & half),
            sign(3 & half),
            sign(4 & half),
            sign(5 & half),
            sign(6 & half),
            sign(7 & half),
        )
    };
    let step = |values, others, half| x86::_mm256_add_ps(others, x86::_mm256_xor_ps(values, turned(half)));
    let part = |values| {
        let values = step(values, x86::_mm256_permute2f128_ps::<1>(values, values), 4);
        let values = step(values, x86::_mm256_permute_ps::<0x4e>(values), 2);
        step(values, x86::_mm256_permute_ps::<0xb1>(values), 1)
    };
    let (low, high) = (part(x86::_mm256_add_ps(low, high)), part(x86::_mm256_sub_ps(low, high)));
    // SAFETY: the 16 values that are written are there.
    unsafe {
        x86::_mm256_storeu_ps(values.as_mut_ptr(), low);
        x86::_mm256_storeu_ps(values.as_mut_ptr().add(8), high);
    }
}

/// What turns a sign, if there is a bit.
#[cfg(target_arch = "x86_64")]
#[inline(always)]
fn sign(bit: i32) -> f32 {
    if bit == 0 { 0.0 } else { -0.0 }
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
    fn dot_halves(code: &[u8], query: &[i8]) -> i32 {
        // SAFETY: as above.
        unsafe { dot_halves_avx512(code, query) }
    }

    #[inline(always)]
    fn difference(a: &[u8], b: &[u8]) -> u32 {
        // SAFETY: as above.
        unsafe { difference_avx512(a, b) }
    }

    #[inline(always)]
    fn look_up(codes: &[Line], tables: &[Line]) -> [u16; GROUP] {
        // SAFETY: as above.
        unsafe { look_up_avx512(codes, tables) }
    }

    #[inline(always)]
    fn below(values: &[f32; GROUP], limit: f32) -> u32 {
        // SAFETY: as above.
        unsafe { below_avx512(values, limit) }
    }

    #[inline(always)]
    fn sum_where(bits: &[u64], query: &[i8]) -> i32 {
        // SAFETY: as above.
        unsafe { sum_where_avx512(bits, query) }
    }

    #[inline(always)]
    fn sums_where(bits: [&[u64]; 4], query: &[i8]) -> [i32; 4] {
        // SAFETY: as above.
        unsafe { sums_where_avx512(bits, query) }
    }

    #[inline(always)]
    fn table(values: [f32; 4], middle: f32) -> [u8; 16] {
        // SAFETY: as above.
        unsafe { table_avx512(values, middle) }
    }

    #[inline(always)]
    fn hadamard_16(values: &mut [f32; 16]) {
        // SAFETY: as above.
        unsafe { hadamard_16_avx512(values) }
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
#[target_feature(enable = "avx512f,avx512bw,avx512vnni")]
#[inline]
fn dot_halves_avx512(code: &[u8], query: &[i8]) -> i32 {
    let half = x86::_mm512_set1_epi8(15);
    let (mut first, mut second) = (x86::_mm512_setzero_si512(), x86::_mm512_setzero_si512());
    let lines = code.as_chunks::<LINE>().0.iter().zip(query.as_chunks::<LINE>().0.as_chunks::<2>().0);
    for (c, [low, high]) in lines {
        let c = load(c);
        let above = x86::_mm512_and_si512(x86::_mm512_srli_epi16::<4>(c), half);
        first = x86::_mm512_dpbusd_epi32(first, x86::_mm512_and_si512(c, half), load_signed(low));
        second = x86::_mm512_dpbusd_epi32(second, above, load_signed(high));
    }
    x86::_mm512_reduce_add_epi32(x86::_mm512_add_epi32(first, second))
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

// As with AVX2.
#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx512f,avx512bw")]
#[inline]
fn look_up_avx512(codes: &[Line], tables: &[Line]) -> [u16; GROUP] {
    let nibble = x86::_mm512_set1_epi8(15);
    let zero = x86::_mm512_setzero_si512();
    let (mut low, mut low_odd, mut high, mut high_odd) = (zero, zero, zero, zero);
    for (names, table) in codes.iter().zip(tables) {
        let (names, table) = (load(&names.0), load(&table.0));
        let first = x86::_mm512_shuffle_epi8(table, x86::_mm512_and_si512(names, nibble));
        let names = x86::_mm512_and_si512(x86::_mm512_srli_epi16::<4>(names), nibble);
        let second = x86::_mm512_shuffle_epi8(table, names);
        low = x86::_mm512_add_epi16(low, first);
        low_odd = x86::_mm512_add_epi16(low_odd, x86::_mm512_srli_epi16::<8>(first));
        high = x86::_mm512_add_epi16(high, second);
        high_odd = x86::_mm512_add_epi16(high_odd, x86::_mm512_srli_epi16::<8>(second));
    }
    let even = |all, odd| x86::_mm512_sub_epi16(all, x86::_mm512_slli_epi16::<8>(odd));
    let folded = |sums| {
        let half = x86::_mm256_add_epi16(
            x86::_mm512_castsi512_si256(sums),
            x86::_mm512_extracti64x4_epi64::<1>(sums),
        );
        x86::_mm_add_epi16(x86::_mm256_castsi256_si128(half), x86::_mm256_extracti128_si256::<1>(half))
    };
    bytemuck::cast([
        folded(even(low, low_odd)),
        folded(low_odd),
        folded(even(high, high_odd)),
        folded(high_odd),
    ])
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx512f")]
#[inline]
#[allow(unsafe_code)] // Loads take pointers.
fn below_avx512(values: &[f32; GROUP], limit: f32) -> u32 {
    let limit = x86::_mm512_set1_ps(limit);
    let part = |values: &[f32; 16]| {
        // SAFETY: the 16 values that are read are there.
        let values = unsafe { x86::_mm512_loadu_ps(values.as_ptr()) };
        u32::from(x86::_mm512_cmp_ps_mask::<{ x86::_CMP_LT_OQ }>(values, limit))
    };
    let parts = values.as_chunks().0;
    part(&parts[0]) | part(&parts[1]) << 16
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx512f,avx512bw,avx512vnni")]
#[inline]
fn sum_where_avx512(bits: &[u64], query: &[i8]) -> i32 {
    let ones = x86::_mm512_set1_epi8(1);
    let (mut even, mut odd) = (x86::_mm512_setzero_si512(), x86::_mm512_setzero_si512());
    let (bit_pairs, bit_rest) = bits.as_chunks::<2>();
    let (query_pairs, query_rest) = query.as_chunks::<LINE>().0.as_chunks::<2>();
    let masked = |bits: u64, query: &[i8; LINE]| x86::_mm512_maskz_mov_epi8(bits, load_signed(query));
    for (bits, query) in bit_pairs.iter().zip(query_pairs) {
        even = x86::_mm512_dpbusd_epi32(even, ones, masked(bits[0], &query[0]));
        odd = x86::_mm512_dpbusd_epi32(odd, ones, masked(bits[1], &query[1]));
    }
    for (bits, query) in bit_rest.iter().zip(query_rest) {
        even = x86::_mm512_dpbusd_epi32(even, ones, masked(*bits, query));
    }
    x86::_mm512_reduce_add_epi32(x86::_mm512_add_epi32(even, odd))
}

// Adding up the lanes of one sum takes as long as the sum; of four it is done at
// once.
#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx512f,avx512bw,avx512vnni")]
#[inline]
fn sums_where_avx512(bits: [&[u64]; 4], query: &[i8]) -> [i32; 4] {
    let ones = x86::_mm512_set1_epi8(1);
    let query = query.as_chunks::<LINE>().0;
    let [a, b, c, d] = bits.map(|bits| &bits[..query.len()]);
    let mut sums = [x86::_mm512_setzero_si512(); 4];
    for (at, query) in query.iter().enumerate() {
        let query = load_signed(query);
        for (sum, bits) in sums.iter_mut().zip([a[at], b[at], c[at], d[at]]) {
            *sum = x86::_mm512_dpbusd_epi32(*sum, ones, x86::_mm512_maskz_mov_epi8(bits, query));
        }
    }
    let [a, b, c, d] = sums;
    let ab = x86::_mm512_add_epi32(x86::_mm512_unpacklo_epi32(a, b), x86::_mm512_unpackhi_epi32(a, b));
    let cd = x86::_mm512_add_epi32(x86::_mm512_unpacklo_epi32(c, d), x86::_mm512_unpackhi_epi32(c, d));
    let all = x86::_mm512_add_epi32(x86::_mm512_unpacklo_epi64(ab, cd), x86::_mm512_unpackhi_epi64(ab, cd));
    let half =
        x86::_mm256_add_epi32(x86::_mm512_castsi512_si256(all), x86::_mm512_extracti64x4_epi64::<1>(all));
    let sums =
        x86::_mm_add_epi32(x86::_mm256_castsi256_si128(half), x86::_mm256_extracti128_si256::<1>(half));
    bytemuck::cast(sums)
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx512f,avx512dq")]
#[inline]
fn table_avx512(values: [f32; 4], middle: f32) -> [u8; 16] {
    let names = x86::_mm512_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15);
    let signed = |at: usize| {
        let turned = x86::_mm512_testn_epi32_mask(names, x86::_mm512_set1_epi32(1 << at));
        let signs = x86::_mm512_maskz_mov_ps(turned, x86::_mm512_set1_ps(-0.0));
        x86::_mm512_xor_ps(x86::_mm512_set1_ps(values[at]), signs)
    };
    let sum = x86::_mm512_add_ps(
        x86::_mm512_add_ps(signed(0), signed(1)),
        x86::_mm512_add_ps(signed(2), signed(3)),
    );
    let whole = x86::_mm512_cvttps_epi32(x86::_mm512_add_ps(sum, x86::_mm512_set1_ps(middle)));
    bytemuck::cast(x86::_mm512_cvtepi32_epi8(whole))
}

// As with AVX2.
#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx512f,avx512dq")]
#[inline]
#[allow(unsafe_code)] // Loads take pointers.
fn hadamard_16_avx512(values: &mut [f32; 16]) {
    let lanes = x86::_mm512_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15);
    let turned = |half| {
        let second = x86::_mm512_test_epi32_mask(lanes, x86::_mm512_set1_epi32(half));
        x86::_mm512_maskz_mov_ps(second, x86::_mm512_set1_ps(-0.0))
    };
    let step = |values, others, half| x86::_mm512_add_ps(others, x86::_mm512_xor_ps(values, turned(half)));
    // SAFETY: the 16 values that are read are there.
    let all = unsafe { x86::_mm512_loadu_ps(values.as_ptr()) };
    let all = step(all, x86::_mm512_shuffle_f32x4::<0x4e>(all, all), 8);
    let all = step(all, x86::_mm512_shuffle_f32x4::<0xb1>(all, all), 4);
    let all = step(all, x86::_mm512_permute_ps::<0x4e>(all), 2);
    let all = step(all, x86::_mm512_permute_ps::<0xb1>(all), 1);
    // SAFETY: the 16 values that are written are there.
    unsafe { x86::_mm512_storeu_ps(values.as_mut_ptr(), all) };
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

    struct SumWhere<'a>(&'a [u64], &'a [i8]);

    impl Task for SumWhere<'_> {
        type Output = (i32, [i32; 4]);

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
            let query: Vec<i8> = (0..words * LINE).map(|_| random.random_range(-127..=127)).collect();
            let set = |at: usize| bits[at / LINE] >> (at % LINE) & 1 == 1;
            let sum: i32 = (0..query.len()).filter(|&at| set(at)).map(|at| i32::from(query[at])).sum();
            let all: i32 = query.iter().map(|&value| i32::from(value)).sum();
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
            let query: Vec<i8> = (0..lines * LINE).map(|_| random.random_range(-127..=127)).collect();
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
            let sums = S::look_up_all(self.0, self.1);
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
        for query in [vec![127i8; lines * LINE], vec![-127i8; lines * LINE]] {
            for level in Level::all() {
                let got = run_with(level, Both(&ends, &query, &zeros));
                assert_eq!(got, naive(&ends, &query, &zeros), "{}", level.name());
            }
        }
    }
}
