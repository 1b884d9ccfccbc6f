//! The sums of the metrics over two `f32` vectors. SimSIMD picks its
//! instruction set when the program starts; Manhattan, which it lacks, is one
//! of our own sums. On aarch64 all are: SimSIMD's add into a single register
//! there, so that each addition waits for the one before it.

#[cfg(not(target_arch = "aarch64"))]
use simsimd::{SpatialSimilarity, capabilities};

use super::sums::{Difference, sum};
#[cfg(target_arch = "aarch64")]
use super::sums::{Product, SquaredDifference};

#[cfg(not(target_arch = "aarch64"))]
const EQUAL_LENGTHS: &str = "both vectors have the dimension of the rows";

#[cfg(not(target_arch = "aarch64"))]
#[inline]
pub(super) fn dot(a: &[f32], b: &[f32]) -> f32 {
    f32::dot(a, b).expect(EQUAL_LENGTHS) as f32
}

#[cfg(target_arch = "aarch64")]
#[inline]
pub(super) fn dot(a: &[f32], b: &[f32]) -> f32 {
    sum::<Product, f32, f32>(a, b)
}

#[cfg(not(target_arch = "aarch64"))]
#[inline]
pub(super) fn squared_euclid(a: &[f32], b: &[f32]) -> f32 {
    f32::l2sq(a, b).expect(EQUAL_LENGTHS) as f32
}

#[cfg(target_arch = "aarch64")]
#[inline]
pub(super) fn squared_euclid(a: &[f32], b: &[f32]) -> f32 {
    sum::<SquaredDifference, f32, f32>(a, b)
}

#[inline]
pub(super) fn manhattan(a: &[f32], b: &[f32]) -> f32 {
    sum::<Difference, f32, f32>(a, b)
}

/// Names the instruction sets that the kernels may use on this machine, for
/// the header of a measurement.
///
/// The names are SimSIMD's: `haswell` is AVX2, `skylake` AVX-512, and so on. On
/// aarch64 it is `neon`, or `neon-dotprod` with dot products of bytes.
#[cfg(not(target_arch = "aarch64"))]
pub fn simd_capabilities() -> String {
    let known = [
        ("haswell", capabilities::uses_haswell()),
        ("skylake", capabilities::uses_skylake()),
        ("ice", capabilities::uses_ice()),
        ("genoa", capabilities::uses_genoa()),
        ("sapphire", capabilities::uses_sapphire()),
        ("turin", capabilities::uses_turin()),
        ("sierra", capabilities::uses_sierra()),
    ];
    let found = known.iter().filter(|(_, used)| *used);
    let names: Vec<&str> = found.map(|(name, _)| *name).collect();
    if names.is_empty() {
        return "serial".to_owned();
    }
    names.join(", ")
}

/// Names the instruction set that the kernels use on this machine, for the header
/// of a measurement: `neon`, or `neon-dotprod` with dot products of bytes.
#[cfg(target_arch = "aarch64")]
pub fn simd_capabilities() -> String {
    crate::simd::Level::best().name().to_owned()
}
