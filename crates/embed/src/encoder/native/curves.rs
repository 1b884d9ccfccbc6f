//! Activations and exponentials of sixteen numbers at a time, with AVX-512.
//!
//! NaN stays NaN in each.

use core::arch::x86_64::{
    __m512, _mm512_add_ps, _mm512_div_ps, _mm512_fmadd_ps, _mm512_fnmadd_ps, _mm512_max_ps, _mm512_min_ps,
    _mm512_mul_ps, _mm512_reduce_ps, _mm512_roundscale_ps, _mm512_scalef_ps, _mm512_set1_ps,
    _mm512_setzero_ps, _mm512_sub_ps,
};

/// max(x, 0); the order keeps NaN.
#[inline]
#[target_feature(enable = "avx512f")]
pub(super) fn relu(x: __m512) -> __m512 {
    _mm512_max_ps(_mm512_setzero_ps(), x)
}

/// x Φ(x) within 1e-4, which is less than what the inputs of a product lose in a
/// short format: Φ as a polynomial on [-4.2, 4.2] that is 0 and 1 at the ends.
#[inline]
#[target_feature(enable = "avx512f")]
pub(super) fn gelu_short(v: __m512) -> __m512 {
    const END: f32 = 4.2;
    const SERIES: [f32; 7] = [
        7.941_306e-8,
        -3.037_922_2e-6,
        6.689_055_6e-5,
        -9.506_563_7e-4,
        9.298_224e-3,
        -6.552_819e-2,
        3.984_658_7e-1,
    ];
    // The value is the second operand, so that NaN stays.
    let x = _mm512_max_ps(_mm512_set1_ps(-END), _mm512_min_ps(_mm512_set1_ps(END), v));
    let s = _mm512_mul_ps(x, x);
    let mut p = _mm512_set1_ps(-9.017_485e-10);
    for c in SERIES {
        p = _mm512_fmadd_ps(p, s, _mm512_set1_ps(c));
    }
    _mm512_mul_ps(v, _mm512_fmadd_ps(x, p, _mm512_set1_ps(0.5)))
}

/// x Φ(x), the error function as a quotient of polynomials on [-4, 4].
#[inline]
#[target_feature(enable = "avx512f")]
pub(super) fn gelu(v: __m512) -> __m512 {
    const P: [f32; 6] =
        [2.770_681_4e-8, -2.101_024e-6, -5.692_506_3e-5, -7.349_906_3e-4, -2.954_6e-3, -1.609_603_3e-2];
    const Q: [f32; 4] = [-2.133_740_6e-4, -1.682_827e-3, -7.373_329e-3, -1.426_473_9e-2];
    let x = _mm512_mul_ps(v, _mm512_set1_ps(std::f32::consts::FRAC_1_SQRT_2));
    // The value is the second operand, so that NaN stays.
    let x = _mm512_max_ps(_mm512_set1_ps(-4.0), _mm512_min_ps(_mm512_set1_ps(4.0), x));
    let s = _mm512_mul_ps(x, x);
    let mut p = _mm512_set1_ps(-2.726_142_4e-10);
    for c in P {
        p = _mm512_fmadd_ps(p, s, _mm512_set1_ps(c));
    }
    let mut q = _mm512_set1_ps(-1.456_607_2e-5);
    for c in Q {
        q = _mm512_fmadd_ps(q, s, _mm512_set1_ps(c));
    }
    let erf = _mm512_div_ps(_mm512_mul_ps(x, p), q);
    let half = _mm512_mul_ps(v, _mm512_set1_ps(0.5));
    _mm512_fmadd_ps(half, erf, half)
}

/// x (1 + tanh y) / 2 as x sigmoid(2 y).
#[inline]
#[target_feature(enable = "avx512f")]
pub(super) fn gelu_tanh(x: __m512) -> __m512 {
    let cube = _mm512_mul_ps(_mm512_mul_ps(x, x), x);
    let y = _mm512_fmadd_ps(cube, _mm512_set1_ps(0.044_715), x);
    let y = _mm512_mul_ps(y, _mm512_set1_ps(-2.0 * 0.797_884_6));
    let y = _mm512_min_ps(_mm512_set1_ps(80.0), y);
    _mm512_div_ps(x, _mm512_add_ps(_mm512_set1_ps(1.0), exp(y)))
}

/// x sigmoid(x).
#[inline]
#[target_feature(enable = "avx512f")]
pub(super) fn silu(x: __m512) -> __m512 {
    let y = _mm512_min_ps(_mm512_set1_ps(80.0), _mm512_sub_ps(_mm512_setzero_ps(), x));
    _mm512_div_ps(x, _mm512_add_ps(_mm512_set1_ps(1.0), exp(y)))
}

/// eˣ for x <= 88; smaller than -87 is -87. NaN stays.
#[inline]
#[target_feature(enable = "avx512f")]
pub(super) fn exp(x: __m512) -> __m512 {
    const LN_2_HIGH: f32 = 0.693_359_4;
    const LN_2_LOW: f32 = -2.121_944_4e-4;
    const SERIES: [f32; 6] = [1.0 / 120.0, 1.0 / 24.0, 1.0 / 6.0, 0.5, 1.0, 1.0];
    let x = _mm512_max_ps(_mm512_set1_ps(-87.0), x);
    let whole = _mm512_roundscale_ps::<0>(_mm512_mul_ps(x, _mm512_set1_ps(std::f32::consts::LOG2_E)));
    let r = _mm512_fnmadd_ps(whole, _mm512_set1_ps(LN_2_HIGH), x);
    let r = _mm512_fnmadd_ps(whole, _mm512_set1_ps(LN_2_LOW), r);
    let mut series = _mm512_set1_ps(1.0 / 720.0);
    for c in SERIES {
        series = _mm512_fmadd_ps(series, r, _mm512_set1_ps(c));
    }
    _mm512_scalef_ps(series, whole)
}

/// 2ˣ within three millionths, for exponentials that are rounded to bfloat16; NaN stays.
#[inline]
#[target_feature(enable = "avx512f,avx512dq")]
pub(super) fn exp2_short(x: __m512) -> __m512 {
    const SERIES: [f32; 4] = [5.201_146_4e-2, 2.414_427_5e-1, 6.930_038_3e-1, 1.000_002_6];
    // What is above the whole number below x, by which it then scales.
    let r = _mm512_reduce_ps::<1>(x);
    let mut series = _mm512_set1_ps(1.353_416_7e-2);
    for c in SERIES {
        series = _mm512_fmadd_ps(series, r, _mm512_set1_ps(c));
    }
    _mm512_scalef_ps(series, x)
}
