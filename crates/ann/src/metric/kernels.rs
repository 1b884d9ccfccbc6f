//! The loops over two vectors. SimSIMD picks its instruction set when the
//! program starts; Manhattan, which it lacks, is a loop that the compiler
//! vectorises for the target it was given.

use simsimd::{SpatialSimilarity, capabilities};

const EQUAL_LENGTHS: &str = "both vectors have the dimension of the rows";

#[inline]
pub(super) fn dot(a: &[f32], b: &[f32]) -> f32 {
    f32::dot(a, b).expect(EQUAL_LENGTHS) as f32
}

#[inline]
pub(super) fn squared_euclid(a: &[f32], b: &[f32]) -> f32 {
    f32::l2sq(a, b).expect(EQUAL_LENGTHS) as f32
}

/// Sums per lane, so that no addition waits for the one before it.
const LANES: usize = 32;

pub(super) fn manhattan(a: &[f32], b: &[f32]) -> f32 {
    assert_eq!(a.len(), b.len(), "{EQUAL_LENGTHS}");
    let (a_lanes, a_rest) = a.as_chunks::<LANES>();
    let (b_lanes, b_rest) = b.as_chunks::<LANES>();
    let mut sums = [0f32; LANES];
    for (x, y) in a_lanes.iter().zip(b_lanes) {
        for lane in 0..LANES {
            sums[lane] += (x[lane] - y[lane]).abs();
        }
    }
    let rest: f32 = a_rest.iter().zip(b_rest).map(|(x, y)| (x - y).abs()).sum();
    sums.iter().sum::<f32>() + rest
}

/// Names the instruction sets that the kernels may use on this machine, for
/// the header of a measurement.
///
/// The names are SimSIMD's: `haswell` is AVX2, `skylake` AVX-512, and so on.
pub fn simd_capabilities() -> String {
    let known = [
        ("neon", capabilities::uses_neon()),
        ("sve", capabilities::uses_sve()),
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
