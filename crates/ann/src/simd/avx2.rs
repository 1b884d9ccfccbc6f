//! AVX2, which most x86-64 processors have.

// A part that is not inlined is compiled without the instructions of the whole.
#![allow(clippy::inline_always)]

use std::arch::x86_64 as x86;

use super::{GROUP, LINE, PLANES, Simd, Task};
use crate::array::Line;
use crate::prefetch::prefetch_all;

#[target_feature(enable = "avx2,fma,bmi1,bmi2,popcnt,f16c")]
pub(super) fn run_avx2<T: Task>(task: T) -> T::Output {
    task.run::<Avx2>()
}

/// AVX2. Used only within [`run_avx2`].
#[derive(Clone, Copy)]
pub(crate) struct Avx2;

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
    fn look_up(codes: &[Line], tables: &[Line], later: &[Line]) -> [u16; GROUP] {
        // SAFETY: as above.
        unsafe { look_up_avx2(codes, tables, later) }
    }

    #[inline(always)]
    fn below(values: &[f32; GROUP], limit: f32) -> u32 {
        // SAFETY: as above.
        unsafe { below_avx2(values, limit) }
    }

    #[inline(always)]
    fn sum_where(bits: &[u64], query: &[[u64; PLANES]]) -> u32 {
        // SAFETY: as above.
        unsafe { sums_where_avx2([bits], query)[0] }
    }

    #[inline(always)]
    fn sums_where(bits: [&[u64]; 4], query: &[[u64; PLANES]]) -> [u32; 4] {
        // SAFETY: as above.
        unsafe { sums_where_avx2(bits, query) }
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
#[target_feature(enable = "avx2")]
#[inline]
#[allow(unsafe_code)] // Loads take pointers.
fn look_up_avx2(codes: &[Line], tables: &[Line], later: &[Line]) -> [u16; GROUP] {
    let nibble = x86::_mm256_set1_epi8(15);
    let zero = x86::_mm256_setzero_si256();
    let (mut low, mut low_odd, mut high, mut high_odd) = (zero, zero, zero, zero);
    for (at, (names, table)) in codes.iter().zip(tables).enumerate() {
        prefetch_all(later.get(at).map_or(&[], std::slice::from_ref));
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

// The four planes of 64 values are one register. A half byte's bits are looked up
// and summed in bytes, which hold so many words' sums of 8.
#[target_feature(enable = "avx2")]
#[inline]
#[allow(unsafe_code)] // Loads take pointers.
pub(super) fn sums_where_avx2<const N: usize>(mut bits: [&[u64]; N], query: &[[u64; PLANES]]) -> [u32; N] {
    const WORDS: usize = 31;
    let (zero, nibble) = (x86::_mm256_setzero_si256(), x86::_mm256_set1_epi8(15));
    let set =
        x86::_mm256_broadcastsi128_si256(x86::_mm_setr_epi8(0, 1, 1, 2, 1, 2, 2, 3, 1, 2, 2, 3, 2, 3, 3, 4));
    for bits in &mut bits {
        *bits = &bits[..query.len()];
    }
    let mut all = [zero; N];
    for (part, query) in query.chunks(WORDS).enumerate() {
        let mut sums = [zero; N];
        for (at, planes) in query.iter().enumerate() {
            // SAFETY: 32 bytes are read from four words.
            let planes = unsafe { x86::_mm256_loadu_si256(planes.as_ptr().cast()) };
            for (sum, bits) in sums.iter_mut().zip(bits) {
                let word = bits[WORDS * part + at] as i64;
                let both = x86::_mm256_and_si256(x86::_mm256_set1_epi64x(word), planes);
                let low = x86::_mm256_shuffle_epi8(set, x86::_mm256_and_si256(both, nibble));
                let high = x86::_mm256_and_si256(x86::_mm256_srli_epi16::<4>(both), nibble);
                let counted = x86::_mm256_add_epi8(low, x86::_mm256_shuffle_epi8(set, high));
                *sum = x86::_mm256_add_epi8(*sum, counted);
            }
        }
        for (all, sum) in all.iter_mut().zip(sums) {
            *all = x86::_mm256_add_epi64(*all, x86::_mm256_sad_epu8(sum, zero));
        }
    }
    let weights = x86::_mm256_setr_epi64x(0, 1, 2, 3);
    let mut out = [0; N];
    for (out, all) in out.iter_mut().zip(all) {
        let weighted = x86::_mm256_sllv_epi64(all, weights);
        let pairs = x86::_mm_add_epi64(
            x86::_mm256_castsi256_si128(weighted),
            x86::_mm256_extracti128_si256::<1>(weighted),
        );
        let other = x86::_mm_unpackhi_epi64(pairs, pairs);
        *out = x86::_mm_cvtsi128_si32(x86::_mm_add_epi64(pairs, other)) as u32;
    }
    out
}

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
#[inline(always)]
fn sign(bit: i32) -> f32 {
    if bit == 0 { 0.0 } else { -0.0 }
}
