//! The sums with NEON, which every aarch64 processor has. The compiler does not
//! find it: of lanes in arrays it makes single numbers.

// A part that is not inlined is compiled without the instructions of the whole.
#![allow(clippy::inline_always)]

use std::arch::{aarch64 as arm, asm};

use bytemuck::cast;
use half::f16;

use super::sums::{Instructions, Kind, LANES, Term};

/// The lanes as they lie in two registers.
type Registers = [arm::float32x4_t; 2];

pub(super) struct Neon;

#[allow(unsafe_code)] // The compiler asks for it, whatever the target has.
impl Instructions for Neon {
    #[inline(always)]
    fn multiply_add(x: f32, y: f32, sum: f32) -> f32 {
        x.mul_add(y, sum)
    }

    #[inline(always)]
    fn add<T: Term>(sums: &mut [f32; LANES], x: &[f32; LANES], y: &[f32; LANES]) {
        let (sum, x, y): (Registers, Registers, Registers) = (cast(*sums), cast(*x), cast(*y));
        // SAFETY: every aarch64 processor that std runs on has NEON.
        let add = |at: usize| unsafe {
            match T::KIND {
                Kind::Product => arm::vfmaq_f32(sum[at], x[at], y[at]),
                Kind::SquaredDifference => {
                    let difference = arm::vsubq_f32(x[at], y[at]);
                    arm::vfmaq_f32(sum[at], difference, difference)
                }
                Kind::Difference => arm::vaddq_f32(sum[at], arm::vabdq_f32(x[at], y[at])),
            }
        };
        *sums = cast([add(0), add(1)]);
    }

    #[inline(always)]
    fn widen_halves(halves: [f16; LANES]) -> [f32; LANES] {
        let [low, high]: [[f16; 4]; 2] = cast(halves);
        cast([widen_four(low), widen_four(high)])
    }

    #[inline(always)]
    fn widen_bytes(bytes: [u8; LANES]) -> [f32; LANES] {
        // SAFETY: as above.
        cast(unsafe {
            let words = arm::vmovl_u8(cast(bytes));
            let (low, high) = (arm::vmovl_u16(arm::vget_low_u16(words)), arm::vmovl_high_u16(words));
            [arm::vcvtq_f32_u32(low), arm::vcvtq_f32_u32(high)]
        })
    }
}

/// In std `vcvt_f32_f16`, whose type is newer than the oldest compiler that this
/// is built with.
#[inline(always)]
#[allow(unsafe_code)] // Assembly.
fn widen_four(halves: [f16; 4]) -> arm::float32x4_t {
    let halves: arm::uint16x4_t = cast(halves);
    let wide;
    // SAFETY: every aarch64 processor that std runs on has the instruction. It
    // writes one register, and the status flags of floats.
    unsafe {
        asm!(
            "fcvtl {wide:v}.4s, {halves:v}.4h",
            wide = lateout(vreg) wide,
            halves = in(vreg) halves,
            options(pure, nomem, nostack),
        );
    }
    wide
}
