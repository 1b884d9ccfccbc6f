//! What the processor can do, found once when a model is loaded.

use serde::{Deserialize, Serialize};

use crate::{Error, Result};

/// The vector instructions the native engine may use.
///
/// Each level includes those before it. `auto` is the fastest this processor has;
/// another one is for tests, and for finding out what an instruction set gives.
/// The numbers a model computes differ between levels by rounding only.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Instructions {
    /// The fastest there is.
    #[default]
    Auto,
    /// Matrix products of the `gemm` crate, loops of any processor family.
    Portable,
    /// x86 with AVX2 and FMA.
    Avx2,
    /// x86 with AVX-512 F, BW, DQ and VL.
    Avx512,
    /// AVX-512 with VNNI: products of 8-bit integers.
    Vnni,
    /// AVX-512 with VNNI and BF16: products of bfloat16 as well.
    Bf16,
    /// The same products in tiles: AMX with BF16 and INT8.
    Amx,
}

impl Instructions {
    /// The level to run at: this one, or the processor's for `auto`.
    pub(crate) fn resolve(self) -> Result<Instructions> {
        let highest = Self::detect();
        match self {
            Instructions::Auto => Ok(highest.fastest(pairs_are_fast())),
            asked if asked <= highest => Ok(asked),
            asked => Err(Error::Option {
                option: "instructions",
                value: asked.name().into(),
                want: "`auto`, or a level this processor has",
            }),
        }
    }

    /// The fastest level up to this one; `pairs` says whether products of pairs of
    /// bfloat16 are faster than those of f32.
    fn fastest(self, pairs: bool) -> Instructions {
        if self == Instructions::Bf16 && !pairs { Instructions::Vnni } else { self }
    }

    fn name(self) -> &'static str {
        match self {
            Instructions::Auto => "auto",
            Instructions::Portable => "portable",
            Instructions::Avx2 => "avx2",
            Instructions::Avx512 => "avx512",
            Instructions::Vnni => "vnni",
            Instructions::Bf16 => "bf16",
            Instructions::Amx => "amx",
        }
    }

    #[cfg(target_arch = "x86_64")]
    fn detect() -> Instructions {
        let avx512 = is_x86_feature_detected!("avx512f")
            && is_x86_feature_detected!("avx512bw")
            && is_x86_feature_detected!("avx512dq")
            && is_x86_feature_detected!("avx512vl");
        let vnni = avx512 && is_x86_feature_detected!("avx512vnni");
        let bf16 = vnni && is_x86_feature_detected!("avx512bf16");
        if bf16 && super::amx::available() {
            Instructions::Amx
        } else if bf16 {
            Instructions::Bf16
        } else if vnni {
            Instructions::Vnni
        } else if avx512 {
            Instructions::Avx512
        } else if is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma") {
            Instructions::Avx2
        } else {
            Instructions::Portable
        }
    }

    #[cfg(not(target_arch = "x86_64"))]
    fn detect() -> Instructions {
        Instructions::Portable
    }
}

/// Whether `vdpbf16ps` does more multiplications in a second than `vfmadd`. On AMD's
/// it does. On Intel's, which have AMX for such products, it takes 3.6 times as long
/// as the `vfmadd` it replaces two of (Sapphire Rapids, 24 independent sums in
/// registers: 52 and 95 thousand million multiplications a second).
#[cfg(target_arch = "x86_64")]
#[allow(unsafe_code, unused_unsafe)] // Older compilers want it around the instruction.
fn pairs_are_fast() -> bool {
    // SAFETY: each processor with AVX has the instruction, others are not asked.
    let vendor = unsafe { core::arch::x86_64::__cpuid(0) };
    let letters = [vendor.ebx, vendor.edx, vendor.ecx].map(u32::to_le_bytes);
    letters.as_flattened() != b"GenuineIntel"
}

#[cfg(not(target_arch = "x86_64"))]
fn pairs_are_fast() -> bool {
    false
}

/// How weights are kept and matrix products are computed.
///
/// Sums, norms, softmax and the vectors that come out are f32 in each; on a GPU
/// and with the tensor backend what is between two steps is as short as the
/// weights. The
/// result does not depend on the processor but for rounding: without the
/// instructions for a precision its numbers are computed in f32, which gives
/// no speed.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Precision {
    /// `bf16` where the processor is faster with it, else `f32`. On a GPU
    /// `f16`, or `bf16` for models whose states may be too large for that.
    #[default]
    Auto,
    /// 32-bit floats.
    F32,
    /// Weights and inputs of products in bfloat16.
    Bf16,
    /// All in 16-bit floats, on a GPU only.
    F16,
    /// Weights in 8 bits with a scale for each output, inputs in 8 bits with a
    /// scale and an offset for each token.
    Int8,
}

impl Precision {
    pub(crate) fn resolve(self, level: Instructions) -> Precision {
        match self {
            Precision::Auto if level >= Instructions::Bf16 => Precision::Bf16,
            Precision::Auto => Precision::F32,
            chosen => chosen,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{Instructions, Precision};

    #[test]
    fn auto_is_a_level_of_its_own_accord_and_higher_ones_are_refused() {
        use Instructions::{Amx, Avx2, Avx512, Bf16, Vnni};

        let chosen = Instructions::Auto.resolve().expect("there is always one");
        let highest = Instructions::detect();
        assert!((Instructions::Portable..=highest).contains(&chosen));
        assert_eq!(Instructions::Portable.resolve().expect("everywhere"), Instructions::Portable);
        for level in [Avx2, Avx512, Vnni, Bf16, Amx] {
            assert_eq!(level.resolve().is_ok(), level <= highest, "{level:?}");
        }
    }

    #[test]
    fn pairs_are_left_alone_where_they_are_slow() {
        use Instructions::{Amx, Avx512, Bf16, Vnni};

        for (highest, pairs, want) in [
            (Bf16, false, Vnni),
            (Bf16, true, Bf16),
            (Amx, false, Amx),
            (Amx, true, Amx),
            (Avx512, false, Avx512),
        ] {
            assert_eq!(highest.fastest(pairs), want);
        }
        assert_eq!(Precision::Auto.resolve(Bf16.fastest(false)), Precision::F32);
    }

    #[test]
    fn auto_precision_is_bf16_only_where_it_is_fast() {
        assert_eq!(Precision::Auto.resolve(Instructions::Vnni), Precision::F32);
        assert_eq!(Precision::Auto.resolve(Instructions::Bf16), Precision::Bf16);
        assert_eq!(Precision::Int8.resolve(Instructions::Portable), Precision::Int8);
    }
}
