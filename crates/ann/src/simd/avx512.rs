//! AVX-512 with VNNI, and with VPOPCNTDQ where the processor has it.

// A part that is not inlined is compiled without the instructions of the whole.
#![allow(clippy::inline_always)]

use std::arch::x86_64 as x86;

use super::avx2::sums_where_avx2;
use super::{GROUP, LINE, PLANES, Simd, Task};
use crate::array::Line;
use crate::prefetch::prefetch_all;

#[target_feature(enable = "avx2,fma,bmi1,bmi2,popcnt,f16c,avx512f,avx512bw,avx512dq,avx512vl,avx512vnni")]
pub(super) fn run_avx512<T: Task>(task: T) -> T::Output {
    task.run::<Avx512<false>>()
}

#[target_feature(
    enable = "avx2,fma,bmi1,bmi2,popcnt,f16c,avx512f,avx512bw,avx512dq,avx512vl,avx512vnni,avx512vpopcntdq"
)]
pub(super) fn run_avx512_counting<T: Task>(task: T) -> T::Output {
    task.run::<Avx512<true>>()
}

/// AVX-512 with VNNI. Used only within [`run_avx512`], or, where it counts bits,
/// within [`run_avx512_counting`].
#[derive(Clone, Copy)]
pub(crate) struct Avx512<const COUNTS: bool>;

#[allow(unsafe_code)] // The instructions are not in every processor.
impl<const COUNTS: bool> Simd for Avx512<COUNTS> {
    #[inline(always)]
    fn dot(code: &[u8], query: &[i8]) -> i32 {
        // SAFETY: this type is used within `run_avx512` and `run_avx512_counting`
        // only, which run only where the processor has these.
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
    fn look_up(codes: &[Line], tables: &[Line], later: &[Line]) -> [u16; GROUP] {
        // SAFETY: as above.
        unsafe { look_up_avx512(codes, tables, later) }
    }

    #[inline(always)]
    fn below(values: &[f32; GROUP], limit: f32) -> u32 {
        // SAFETY: as above.
        unsafe { below_avx512(values, limit) }
    }

    #[inline(always)]
    fn sum_where(bits: &[u64], query: &[[u64; PLANES]]) -> u32 {
        // SAFETY: as above, and AVX2 is among them.
        unsafe { if COUNTS { sum_where_counting(bits, query) } else { sums_where_avx2([bits], query)[0] } }
    }

    #[inline(always)]
    fn sums_where(bits: [&[u64]; 4], query: &[[u64; PLANES]]) -> [u32; 4] {
        // SAFETY: as above.
        unsafe { if COUNTS { sums_where_counting(bits, query) } else { sums_where_avx2(bits, query) } }
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
#[target_feature(enable = "avx512f,avx512bw")]
#[inline]
fn look_up_avx512(codes: &[Line], tables: &[Line], later: &[Line]) -> [u16; GROUP] {
    let nibble = x86::_mm512_set1_epi8(15);
    let zero = x86::_mm512_setzero_si512();
    let (mut low, mut low_odd, mut high, mut high_odd) = (zero, zero, zero, zero);
    for (at, (names, table)) in codes.iter().zip(tables).enumerate() {
        prefetch_all(later.get(at).map_or(&[], std::slice::from_ref));
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

/// For each of the sets of bits how many of a plane are set, times its weight:
/// the sum of the lanes is the sum of the values.
#[target_feature(enable = "avx512f,avx512vl,avx512vpopcntdq")]
#[inline]
#[allow(unsafe_code)] // Loads take pointers.
fn weighed_counts<const N: usize>(mut bits: [&[u64]; N], query: &[[u64; PLANES]]) -> [x86::__m256i; N] {
    for bits in &mut bits {
        *bits = &bits[..query.len()];
    }
    let mut sums = [x86::_mm512_setzero_si512(); N];
    // Two words, each beside its four planes.
    let twice = x86::_mm512_setr_epi64(0, 0, 0, 0, 1, 1, 1, 1);
    let (pairs, rest) = query.as_chunks::<2>();
    for (at, planes) in pairs.iter().enumerate() {
        // SAFETY: 64 bytes are read from eight words.
        let planes = unsafe { x86::_mm512_loadu_si512(planes.as_ptr().cast()) };
        for (sum, bits) in sums.iter_mut().zip(bits) {
            let words: &[u64; 2] = bits[2 * at..].first_chunk().expect("a word for each of the query's");
            // SAFETY: 16 bytes are read from two words.
            let words = unsafe { x86::_mm_loadu_si128(words.as_ptr().cast()) };
            let words = x86::_mm512_permutexvar_epi64(twice, x86::_mm512_castsi128_si512(words));
            let both = x86::_mm512_and_si512(words, planes);
            *sum = x86::_mm512_add_epi64(*sum, x86::_mm512_popcnt_epi64(both));
        }
    }
    let mut halves = [x86::_mm256_setzero_si256(); N];
    for (half, sum) in halves.iter_mut().zip(sums) {
        let upper = x86::_mm512_extracti64x4_epi64::<1>(sum);
        *half = x86::_mm256_add_epi64(x86::_mm512_castsi512_si256(sum), upper);
    }
    if let [planes] = rest {
        // SAFETY: 32 bytes are read from four words.
        let planes = unsafe { x86::_mm256_loadu_si256(planes.as_ptr().cast()) };
        for (sum, bits) in halves.iter_mut().zip(bits) {
            let word = x86::_mm256_set1_epi64x(bits[query.len() - 1] as i64);
            let counted = x86::_mm256_popcnt_epi64(x86::_mm256_and_si256(word, planes));
            *sum = x86::_mm256_add_epi64(*sum, counted);
        }
    }
    let weights = x86::_mm256_setr_epi64x(0, 1, 2, 3);
    for half in &mut halves {
        *half = x86::_mm256_sllv_epi64(*half, weights);
    }
    halves
}

#[target_feature(enable = "avx512f,avx512vl,avx512vpopcntdq")]
#[inline]
fn sum_where_counting(bits: &[u64], query: &[[u64; PLANES]]) -> u32 {
    let [sums] = weighed_counts([bits], query);
    let pairs =
        x86::_mm_add_epi64(x86::_mm256_castsi256_si128(sums), x86::_mm256_extracti128_si256::<1>(sums));
    x86::_mm_cvtsi128_si32(x86::_mm_add_epi64(pairs, x86::_mm_unpackhi_epi64(pairs, pairs))) as u32
}

#[target_feature(enable = "avx512f,avx512vl,avx512vpopcntdq")]
#[inline]
fn sums_where_counting(bits: [&[u64]; 4], query: &[[u64; PLANES]]) -> [u32; 4] {
    let [a, b, c, d] = weighed_counts(bits, query);
    // The lanes of four sums become those of one.
    let ab = x86::_mm256_add_epi64(x86::_mm256_unpacklo_epi64(a, b), x86::_mm256_unpackhi_epi64(a, b));
    let cd = x86::_mm256_add_epi64(x86::_mm256_unpacklo_epi64(c, d), x86::_mm256_unpackhi_epi64(c, d));
    let low = x86::_mm256_permute2x128_si256::<0x20>(ab, cd);
    let sums = x86::_mm256_add_epi64(low, x86::_mm256_permute2x128_si256::<0x31>(ab, cd));
    bytemuck::cast(x86::_mm256_cvtepi64_epi32(sums))
}

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

#[target_feature(enable = "avx512f")]
#[inline]
#[allow(unsafe_code)] // Loads take pointers.
fn load(line: &[u8; LINE]) -> x86::__m512i {
    // SAFETY: the line has the 64 bytes that are read.
    unsafe { x86::_mm512_loadu_si512(line.as_ptr().cast()) }
}

#[target_feature(enable = "avx512f")]
#[inline]
#[allow(unsafe_code)] // Loads take pointers.
fn load_signed(line: &[i8; LINE]) -> x86::__m512i {
    // SAFETY: the line has the 64 bytes that are read.
    unsafe { x86::_mm512_loadu_si512(line.as_ptr().cast()) }
}
