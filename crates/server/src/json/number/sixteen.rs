//! Sixteen digits after the point at once, by SSE 4.1.
//!
//! How many digits a number has cannot be foreseen, so nothing branches on it:
//! bytes that are no digits any more are shifted out, and zeros come in front.

// Intrinsics, and loads from arrays that are long enough.
#![allow(unsafe_code)]

use std::arch::x86_64::{
    __m128i, _mm_cmpeq_epi8, _mm_cvtsi128_si64, _mm_loadu_si128, _mm_madd_epi16, _mm_maddubs_epi16,
    _mm_min_epu8, _mm_movemask_epi8, _mm_packus_epi32, _mm_set1_epi8, _mm_set1_epi16, _mm_set1_epi32,
    _mm_shuffle_epi8, _mm_sub_epi8,
};

use super::{POWERS, ROOM, SHIFTS, WINDOW, eight_digits, leading_digits, rounded};

/// The number at the beginning and the length of its text, if it is one digit,
/// a point and at most twenty-three digits, and not next to the middle between
/// two f32; nothing on a processor without the instructions.
#[inline]
pub(super) fn quick(window: &[u8; WINDOW]) -> Option<(f32, usize)> {
    if !is_x86_feature_detected!("sse4.1") {
        return None;
    }
    // SAFETY: the processor has SSE 4.1, and what came before it.
    unsafe { with_sse(window) }
}

/// Digits from the first byte, and then room to shift zeros in from.
const LEFT: [i8; 32] = {
    // A negative index gives a zero byte.
    let mut places = [-1; 32];
    let mut at = 0;
    while at < 16 {
        places[16 + at] = at as i8;
        at += 1;
    }
    places
};

#[target_feature(enable = "sse4.1")]
fn with_sse(window: &[u8; WINDOW]) -> Option<(f32, usize)> {
    let is_negative = window[0] == b'-';
    let start = usize::from(is_negative);
    let whole = window[start].wrapping_sub(b'0');
    if whole > 9 || window[start + 1] != b'.' {
        return None;
    }
    // At most 3 + 16 + 8 bytes are looked at, and one more behind them.
    let places: &[u8; 24] = window[start + 2..].first_chunk()?;
    // SAFETY: there are 16 bytes.
    let text = unsafe { _mm_loadu_si128(places.as_ptr().cast()) };
    let values = _mm_sub_epi8(text, _mm_set1_epi8(b'0' as i8));
    let are_digits = _mm_cmpeq_epi8(_mm_min_epu8(values, _mm_set1_epi8(9)), values);
    let count = (!_mm_movemask_epi8(are_digits)).trailing_zeros() as usize;
    let rest = u64::from_le_bytes(*places.last_chunk()?);
    let more = if count == 16 { leading_digits(rest) } else { 0 };
    if count == 0 || more == 8 {
        return None;
    }
    // SAFETY: `count` is at most 16, and there are 32 bytes.
    let order = unsafe { _mm_loadu_si128(LEFT.as_ptr().add(count).cast()) };
    let first = number(_mm_shuffle_epi8(values, order));
    if first > ROOM[more] {
        return None;
    }
    let padded = rest.checked_shl(64 - 8 * more as u32).unwrap_or(0);
    let mut digits = first * SHIFTS[more] + eight_digits(padded);
    let places = count + more;
    if whole > 0 {
        if places > 17 {
            return None;
        }
        digits += u64::from(whole) * POWERS[places] as u64;
    }
    let length = start + 2 + places;
    if matches!(window[length], b'e' | b'E') {
        return None;
    }
    rounded(is_negative, digits, places).map(|number| (number, length))
}

/// The number that sixteen digits write, the first in the lowest byte.
#[target_feature(enable = "sse4.1")]
fn number(digits: __m128i) -> u64 {
    let pairs = _mm_maddubs_epi16(digits, _mm_set1_epi16(0x010a));
    let fours = _mm_madd_epi16(pairs, _mm_set1_epi32(0x0001_0064));
    let fours = _mm_packus_epi32(fours, fours);
    let eights = _mm_madd_epi16(fours, _mm_set1_epi32(0x0001_2710));
    let both = _mm_cvtsi128_si64(eights) as u64;
    (both & 0xffff_ffff) * 100_000_000 + (both >> 32)
}
