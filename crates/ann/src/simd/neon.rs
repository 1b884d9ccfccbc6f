//! NEON, which every aarch64 processor has, and its dot products of bytes, which
//! those from about 2018 on have.

// A part that is not inlined is compiled without the instructions of the whole.
#![allow(clippy::inline_always)]

use std::arch::{aarch64 as arm, asm};

use super::{GROUP, LINE, PLANES, Simd, Task};
use crate::array::Line;
use crate::prefetch::prefetch_all;

/// A line in registers.
const PARTS: usize = LINE / 16;

#[target_feature(enable = "neon")]
pub(super) fn run_neon<T: Task>(task: T) -> T::Output {
    task.run::<Neon>()
}

#[target_feature(enable = "neon,dotprod")]
pub(super) fn run_neon_dot<T: Task>(task: T) -> T::Output {
    task.run::<NeonDot>()
}

/// NEON alone. Used only within [`run_neon`] and [`run_neon_dot`].
#[derive(Clone, Copy)]
pub(crate) struct Neon;

#[allow(unsafe_code)] // The instructions are not in every processor.
impl Simd for Neon {
    #[inline(always)]
    fn dot(code: &[u8], query: &[i8]) -> i32 {
        // SAFETY: this type is used within `run_neon` and `run_neon_dot` only,
        // which run only where the processor has NEON.
        unsafe { dot_neon(code, query) }
    }

    #[inline(always)]
    fn dot_halves(code: &[u8], query: &[i8]) -> i32 {
        // SAFETY: as above.
        unsafe { dot_halves_neon(code, query) }
    }

    #[inline(always)]
    fn difference(a: &[u8], b: &[u8]) -> u32 {
        // SAFETY: as above.
        unsafe { difference_neon(a, b) }
    }

    #[inline(always)]
    fn look_up(codes: &[Line], tables: &[Line], later: &[Line]) -> [u16; GROUP] {
        prefetch_all(later);
        // SAFETY: as above.
        unsafe { look_up_neon(codes, tables) }
    }

    #[inline(always)]
    fn below(values: &[f32; GROUP], limit: f32) -> u32 {
        // SAFETY: as above.
        unsafe { below_neon(values, limit) }
    }

    #[inline(always)]
    fn sum_where(bits: &[u64], query: &[[u64; PLANES]]) -> u32 {
        // SAFETY: as above.
        unsafe { sums_where_neon([bits], query)[0] }
    }

    #[inline(always)]
    fn sums_where(bits: [&[u64]; 4], query: &[[u64; PLANES]]) -> [u32; 4] {
        // SAFETY: as above.
        unsafe { sums_where_neon(bits, query) }
    }

    #[inline(always)]
    fn hadamard_16(values: &mut [f32; 16]) {
        // SAFETY: as above.
        unsafe { hadamard_16_neon(values) }
    }
}

/// NEON with dot products of bytes. Used only within [`run_neon_dot`].
#[derive(Clone, Copy)]
pub(crate) struct NeonDot;

#[allow(unsafe_code)] // The instructions are not in every processor.
impl Simd for NeonDot {
    #[inline(always)]
    fn dot(code: &[u8], query: &[i8]) -> i32 {
        // SAFETY: this type is used within `run_neon_dot` only, which runs only
        // where the processor has these.
        unsafe { dot_by_dots(code, query) }
    }

    #[inline(always)]
    fn dot_halves(code: &[u8], query: &[i8]) -> i32 {
        // SAFETY: as above.
        unsafe { dot_halves_by_dots(code, query) }
    }

    #[inline(always)]
    fn difference(a: &[u8], b: &[u8]) -> u32 {
        // SAFETY: as above.
        unsafe { difference_by_dots(a, b) }
    }

    #[inline(always)]
    fn look_up(codes: &[Line], tables: &[Line], later: &[Line]) -> [u16; GROUP] {
        Neon::look_up(codes, tables, later)
    }

    #[inline(always)]
    fn below(values: &[f32; GROUP], limit: f32) -> u32 {
        Neon::below(values, limit)
    }

    #[inline(always)]
    fn sum_where(bits: &[u64], query: &[[u64; PLANES]]) -> u32 {
        // SAFETY: as above.
        unsafe { sums_where_neon([bits], query)[0] }
    }

    #[inline(always)]
    fn sums_where(bits: [&[u64]; 4], query: &[[u64; PLANES]]) -> [u32; 4] {
        // SAFETY: as above.
        unsafe { sums_where_neon(bits, query) }
    }

    #[inline(always)]
    fn hadamard_16(values: &mut [f32; 16]) {
        Neon::hadamard_16(values);
    }
}

// There are products of two signed numbers, or of two unsigned ones. So the code
// is multiplied less 128, and 128 times the query added at the end.
#[target_feature(enable = "neon")]
#[inline]
fn dot_neon(code: &[u8], query: &[i8]) -> i32 {
    let zero = arm::vdupq_n_s32(0);
    let (mut low, mut high, mut values) = (zero, zero, zero);
    for (c, q) in code.as_chunks::<LINE>().0.iter().zip(query.as_chunks::<LINE>().0) {
        let (c, q) = (load(c), load_signed(q));
        for (c, q) in c.into_iter().map(|c| less_128(c)).zip(q) {
            // A product may be 2^14: two of them are too much for 16 bits.
            low = arm::vpadalq_s16(low, arm::vmull_s8(arm::vget_low_s8(c), arm::vget_low_s8(q)));
            high = arm::vpadalq_s16(high, arm::vmull_high_s8(c, q));
        }
        let [a, b, c, d] = q;
        let line = arm::vpadalq_s8(arm::vpadalq_s8(arm::vpadalq_s8(arm::vpaddlq_s8(a), b), c), d);
        values = arm::vpadalq_s16(values, line);
    }
    arm::vaddvq_s32(arm::vmlaq_n_s32(arm::vaddq_s32(low, high), values, 128))
}

// The codes have 4 bits, so that 16 products fit 16 bits.
#[target_feature(enable = "neon")]
#[inline]
fn dot_halves_neon(code: &[u8], query: &[i8]) -> i32 {
    let mut sum = arm::vdupq_n_s32(0);
    for (c, q) in code.as_chunks::<LINE>().0.iter().zip(query.as_chunks::<{ 2 * LINE }>().0) {
        let (c, q) = (load(c), q.as_chunks::<LINE>().0);
        let (low, high) = (load_signed(&q[0]), load_signed(&q[1]));
        let mut lines = [arm::vdupq_n_s16(0); 2];
        for part in 0..PARTS {
            let halves = halves(c[part]);
            for ((line, half), query) in lines.iter_mut().zip(halves).zip([low[part], high[part]]) {
                *line = arm::vmlal_s8(*line, arm::vget_low_s8(half), arm::vget_low_s8(query));
                *line = arm::vmlal_high_s8(*line, half, query);
            }
        }
        sum = arm::vpadalq_s16(sum, arm::vaddq_s16(lines[0], lines[1]));
    }
    arm::vaddvq_s32(sum)
}

#[target_feature(enable = "neon")]
#[inline]
fn difference_neon(a: &[u8], b: &[u8]) -> u32 {
    let mut sum = arm::vdupq_n_u32(0);
    for (x, y) in a.as_chunks::<LINE>().0.iter().zip(b.as_chunks::<LINE>().0) {
        let (x, y) = (load(x), load(y));
        let mut line = arm::vpaddlq_u8(arm::vabdq_u8(x[0], y[0]));
        for part in 1..PARTS {
            line = arm::vpadalq_u8(line, arm::vabdq_u8(x[part], y[part]));
        }
        sum = arm::vpadalq_u16(sum, line);
    }
    arm::vaddvq_u32(sum)
}

// The lower and the upper eight bytes of what was looked up are summed apart. The
// even of both are the first eight codes, the odd ones the next: see `place`.
#[target_feature(enable = "neon")]
#[inline]
fn look_up_neon(codes: &[Line], tables: &[Line]) -> [u16; GROUP] {
    let mut sums = [[arm::vdupq_n_u16(0); 2]; 2];
    for (names, tables) in codes.iter().zip(tables) {
        let (names, tables) = (load(&names.0), load(&tables.0));
        for (names, table) in names.into_iter().zip(tables) {
            for ([low, high], names) in
                sums.iter_mut().zip([arm::vandq_u8(names, arm::vdupq_n_u8(15)), arm::vshrq_n_u8::<4>(names)])
            {
                let entries = arm::vqtbl1q_u8(table, names);
                *low = arm::vaddw_u8(*low, arm::vget_low_u8(entries));
                *high = arm::vaddw_high_u8(*high, entries);
            }
        }
    }
    bytemuck::cast(sums.map(|[low, high]| [arm::vuzp1q_u16(low, high), arm::vuzp2q_u16(low, high)]))
}

// Eight groups of four are compared; what comes out fills whole lanes, of which
// each shift keeps the bits of the groups before it. Then each lane keeps its own.
#[target_feature(enable = "neon")]
#[inline]
#[allow(unsafe_code)] // Loads take pointers.
fn below_neon(values: &[f32; GROUP], limit: f32) -> u32 {
    let limit = arm::vdupq_n_f32(limit);
    let four = |at: usize| {
        let values: &[f32; 4] = &values.as_chunks().0[at];
        // SAFETY: the 4 values that are read are there.
        arm::vcltq_f32(unsafe { arm::vld1q_f32(values.as_ptr()) }, limit)
    };
    let eight = |at| arm::vsliq_n_u32::<4>(four(at), four(at + 1));
    let sixteen = |at| arm::vsliq_n_u32::<8>(eight(at), eight(at + 2));
    let all = arm::vsliq_n_u32::<16>(sixteen(0), sixteen(4));
    let lanes = bytemuck::cast([0x1111_1111u32, 0x2222_2222, 0x4444_4444, 0x8888_8888]);
    arm::vaddvq_u32(arm::vandq_u32(all, lanes))
}

// Two planes of 64 values are one register. Bits are counted in bytes, which hold
// so many words' sums of 8.
#[target_feature(enable = "neon")]
#[inline]
#[allow(unsafe_code)] // Loads take pointers.
fn sums_where_neon<const N: usize>(bits: [&[u64]; N], query: &[[u64; PLANES]]) -> [u32; N] {
    const WORDS: usize = 31;
    let bits = bits.map(|bits| &bits[..query.len()]);
    let mut all = [[arm::vdupq_n_u64(0); 2]; N];
    for (part, query) in query.chunks(WORDS).enumerate() {
        let mut sums = [[arm::vdupq_n_u8(0); 2]; N];
        for (at, planes) in query.iter().enumerate() {
            // SAFETY: two words from 0 and two from 2 are read of four.
            let planes = [0, 2].map(|first| unsafe { arm::vld1q_u64(planes.as_ptr().add(first)) });
            for (sums, bits) in sums.iter_mut().zip(bits) {
                let word = arm::vdupq_n_u64(bits[WORDS * part + at]);
                for (sum, planes) in sums.iter_mut().zip(planes) {
                    let set = arm::vreinterpretq_u8_u64(arm::vandq_u64(word, planes));
                    *sum = arm::vaddq_u8(*sum, arm::vcntq_u8(set));
                }
            }
        }
        for (all, sums) in all.iter_mut().zip(sums) {
            for (all, sum) in all.iter_mut().zip(sums) {
                *all = arm::vpadalq_u32(*all, arm::vpaddlq_u16(arm::vpaddlq_u8(sum)));
            }
        }
    }
    all.map(|all| {
        let planes: [u64; PLANES] = bytemuck::cast(all);
        planes.iter().enumerate().map(|(plane, &sum)| (sum as u32) << plane).sum()
    })
}

#[target_feature(enable = "neon")]
#[inline]
#[allow(unsafe_code)] // Loads take pointers.
fn hadamard_16_neon(values: &mut [f32; 16]) {
    let step = |a, b| (arm::vaddq_f32(a, b), arm::vsubq_f32(a, b));
    // SAFETY: the 16 values that are read are there.
    let arm::float32x4x4_t(a, b, c, d) = unsafe { arm::vld1q_f32_x4(values.as_ptr()) };
    let ((a, c), (b, d)) = (step(a, c), step(b, d));
    let ((a, b), (c, d)) = (step(a, b), step(c, d));
    // Within two registers at once: the lower against the upper halves, then the
    // even against the odd lanes.
    let within = |a, b| {
        let (a, b) = (arm::vreinterpretq_f64_f32(a), arm::vreinterpretq_f64_f32(b));
        let (low, high) = (arm::vtrn1q_f64(a, b), arm::vtrn2q_f64(a, b));
        let (a, b) = step(arm::vreinterpretq_f32_f64(low), arm::vreinterpretq_f32_f64(high));
        let (a, b) = step(arm::vuzp1q_f32(a, b), arm::vuzp2q_f32(a, b));
        (arm::vtrn1q_f32(a, b), arm::vtrn2q_f32(a, b))
    };
    let ((a, b), (c, d)) = (within(a, b), within(c, d));
    // SAFETY: the 16 values that are written are there.
    unsafe { arm::vst1q_f32_x4(values.as_mut_ptr(), arm::float32x4x4_t(a, b, c, d)) };
}

// As without: the code less 128, and the query 128 times.
#[target_feature(enable = "neon,dotprod")]
#[inline]
fn dot_by_dots(code: &[u8], query: &[i8]) -> i32 {
    let zero = arm::vdupq_n_s32(0);
    let (mut products, mut turned) = ([zero; PARTS], [zero; PARTS]);
    for (c, q) in code.as_chunks::<LINE>().0.iter().zip(query.as_chunks::<LINE>().0) {
        let (c, q) = (load(c), load_signed(q));
        for part in 0..PARTS {
            products[part] = add_dots(products[part], less_128(c[part]), q[part]);
            turned[part] = add_dots(turned[part], arm::vdupq_n_s8(-128), q[part]);
        }
    }
    arm::vaddvq_s32(arm::vsubq_s32(of_all(products), of_all(turned)))
}

#[target_feature(enable = "neon,dotprod")]
#[inline]
fn dot_halves_by_dots(code: &[u8], query: &[i8]) -> i32 {
    let mut sums = [arm::vdupq_n_s32(0); PARTS];
    for (c, q) in code.as_chunks::<LINE>().0.iter().zip(query.as_chunks::<{ 2 * LINE }>().0) {
        let (c, q) = (load(c), q.as_chunks::<LINE>().0);
        let (low, high) = (load_signed(&q[0]), load_signed(&q[1]));
        for (part, sum) in sums.iter_mut().enumerate() {
            let [first, second] = halves(c[part]);
            *sum = add_dots(*sum, first, low[part]);
            *sum = add_dots(*sum, second, high[part]);
        }
    }
    arm::vaddvq_s32(of_all(sums))
}

#[target_feature(enable = "neon,dotprod")]
#[inline]
fn difference_by_dots(a: &[u8], b: &[u8]) -> u32 {
    let mut sums = [arm::vdupq_n_u32(0); PARTS];
    for (x, y) in a.as_chunks::<LINE>().0.iter().zip(b.as_chunks::<LINE>().0) {
        let (x, y) = (load(x), load(y));
        for (part, sum) in sums.iter_mut().enumerate() {
            *sum = add_fours(*sum, arm::vabdq_u8(x[part], y[part]));
        }
    }
    let [a, b, c, d] = sums;
    arm::vaddvq_u32(arm::vaddq_u32(arm::vaddq_u32(a, b), arm::vaddq_u32(c, d)))
}

/// `sum` with four products added to each lane. In std `vdotq_s32`, which is not
/// stable.
#[target_feature(enable = "neon,dotprod")]
#[inline]
#[allow(unsafe_code)] // Assembly.
fn add_dots(mut sum: arm::int32x4_t, a: arm::int8x16_t, b: arm::int8x16_t) -> arm::int32x4_t {
    // SAFETY: the instruction is there by the features of this function, and
    // writes its first register alone.
    unsafe {
        asm!(
            "sdot {sum:v}.4s, {a:v}.16b, {b:v}.16b",
            sum = inlateout(vreg) sum,
            a = in(vreg) a,
            b = in(vreg) b,
            options(pure, nomem, nostack, preserves_flags),
        );
    }
    sum
}

/// `sum` with four values added to each lane.
#[target_feature(enable = "neon,dotprod")]
#[inline]
#[allow(unsafe_code)] // Assembly.
fn add_fours(mut sum: arm::uint32x4_t, values: arm::uint8x16_t) -> arm::uint32x4_t {
    // SAFETY: as with `add_dots`.
    unsafe {
        asm!(
            "udot {sum:v}.4s, {values:v}.16b, {ones:v}.16b",
            sum = inlateout(vreg) sum,
            values = in(vreg) values,
            ones = in(vreg) arm::vdupq_n_u8(1),
            options(pure, nomem, nostack, preserves_flags),
        );
    }
    sum
}

/// Codes as signed numbers, 128 less.
#[target_feature(enable = "neon")]
#[inline]
fn less_128(code: arm::uint8x16_t) -> arm::int8x16_t {
    arm::vreinterpretq_s8_u8(arm::veorq_u8(code, arm::vdupq_n_u8(128)))
}

/// The lower and the upper half of each byte.
#[target_feature(enable = "neon")]
#[inline]
fn halves(code: arm::uint8x16_t) -> [arm::int8x16_t; 2] {
    [arm::vandq_u8(code, arm::vdupq_n_u8(15)), arm::vshrq_n_u8::<4>(code)]
        .map(|half| arm::vreinterpretq_s8_u8(half))
}

#[target_feature(enable = "neon")]
#[inline]
fn of_all([a, b, c, d]: [arm::int32x4_t; PARTS]) -> arm::int32x4_t {
    arm::vaddq_s32(arm::vaddq_s32(a, b), arm::vaddq_s32(c, d))
}

#[target_feature(enable = "neon")]
#[inline]
#[allow(unsafe_code)] // Loads take pointers.
fn load(line: &[u8; LINE]) -> [arm::uint8x16_t; PARTS] {
    // SAFETY: the line has the 64 bytes that are read.
    let arm::uint8x16x4_t(a, b, c, d) = unsafe { arm::vld1q_u8_x4(line.as_ptr()) };
    [a, b, c, d]
}

#[target_feature(enable = "neon")]
#[inline]
#[allow(unsafe_code)] // Loads take pointers.
fn load_signed(line: &[i8; LINE]) -> [arm::int8x16_t; PARTS] {
    // SAFETY: the line has the 64 bytes that are read.
    let arm::int8x16x4_t(a, b, c, d) = unsafe { arm::vld1q_s8_x4(line.as_ptr()) };
    [a, b, c, d]
}
