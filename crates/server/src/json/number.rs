//! Numbers as JSON writes them, and the f32 nearest to them.
//!
//! Digits are read eight at a time, in arrays more where the processor can, and
//! what is left by the standard library.

#[cfg(target_arch = "x86_64")]
mod array;

/// How far the number at the beginning of `bytes` goes, and whether it has
/// neither point nor exponent; nothing if what stands there is none.
pub(super) fn extent(bytes: &[u8]) -> Option<(usize, bool)> {
    let digits = |from: usize| bytes[from..].iter().take_while(|byte| byte.is_ascii_digit()).count();
    let mut at = usize::from(bytes.first() == Some(&b'-'));
    match digits(at) {
        0 => return None,
        1 => at += 1,
        _ if bytes[at] == b'0' => return None,
        more => at += more,
    }
    let whole = at;
    if bytes.get(at) == Some(&b'.') {
        let places = digits(at + 1);
        if places == 0 {
            return None;
        }
        at += 1 + places;
    }
    if let Some(b'e' | b'E') = bytes.get(at) {
        at += 1 + usize::from(matches!(bytes.get(at + 1), Some(b'+' | b'-')));
        let exponent = digits(at);
        if exponent == 0 {
            return None;
        }
        at += exponent;
    }
    Some((at, at == whole))
}

/// The f32 nearest to the number at the beginning of `bytes`, and how long its
/// text is; nothing for what is no number or out of range.
#[inline]
pub(crate) fn nearest_f32(bytes: &[u8]) -> Option<(f32, usize)> {
    match bytes.first_chunk().and_then(quick) {
        Some(found) => Some(found),
        None => slow(bytes),
    }
}

/// Adds the numbers of an array that begin at `at` and are followed by a comma, as
/// many of them as are quickly read, and says where the next one begins.
#[inline]
pub(super) fn take_several(text: &[u8], at: usize, numbers: &mut Vec<f32>) -> usize {
    #[cfg(target_arch = "x86_64")]
    let at = array::take(text, at, numbers);
    #[cfg(not(target_arch = "x86_64"))]
    let _ = (text, numbers);
    at
}

/// How many bytes in front are white.
#[inline]
pub(super) fn white(bytes: &[u8]) -> usize {
    bytes.iter().take_while(|byte| matches!(byte, b' ' | b'\n' | b'\t' | b'\r')).count()
}

#[cold]
fn slow(bytes: &[u8]) -> Option<(f32, usize)> {
    let (length, _) = extent(bytes)?;
    let number: f32 = std::str::from_utf8(&bytes[..length]).ok()?.parse().ok()?;
    number.is_finite().then_some((number, length))
}

/// Most numbers are shorter.
const WINDOW: usize = 40;

/// The same for most numbers: without an exponent, of eighteen digits or a few
/// more, and not next to the middle between two f32.
// A third slower as a function of its own.
#[allow(clippy::inline_always)]
#[inline(always)]
fn quick(window: &[u8; WINDOW]) -> Option<(f32, usize)> {
    let is_negative = window[0] == b'-';
    let start = usize::from(is_negative);
    let (mut digits, mut at) = (0, start);
    loop {
        let digit = window[at].wrapping_sub(b'0');
        if digit > 9 || at == 10 {
            break;
        }
        digits = digits * 10 + u64::from(digit);
        at += 1;
    }
    if at != start + 1 && (at == start || window[start] == b'0') {
        return None;
    }
    let mut places = 0;
    if window[at] == b'.' {
        let point = at + 1;
        for eights in 0..3 {
            // Counted from the point, so that the next eight bytes can be read
            // before it is known how many of these are digits.
            at = point + 8 * eights;
            let chunk = u64::from_le_bytes(*window[at..].first_chunk()?);
            let count = leading_digits(chunk);
            if digits > ROOM[count] {
                return None;
            }
            if count == 8 {
                digits = digits * SHIFTS[8] + eight_digits(chunk);
                at += 8;
            } else {
                // How many are left is hard to foresee, so there is no branch
                // for it: zeros come in front of them.
                let padded = chunk.checked_shl(64 - 8 * count as u32).unwrap_or(0);
                digits = digits * SHIFTS[count] + eight_digits(padded);
                at += count;
                break;
            }
        }
        places = at - point;
        if places == 0 {
            return None;
        }
    }
    if matches!(window[at], b'e' | b'E' | b'0'..=b'9') {
        return None;
    }
    rounded(is_negative, digits, places).map(|number| (number, at))
}

/// The f32 nearest to `digits` with so many of them after the point; nothing if
/// that takes more precision than a f64 has. `digits` is less than 2^63.
#[allow(clippy::inline_always)]
#[inline(always)]
fn rounded(is_negative: bool, digits: u64, places: usize) -> Option<f32> {
    // The digits are rounded to a f64 and so is the quotient, each by at most a
    // part in 2^53: together less than two steps of a f64.
    let near = digits as i64 as f64 / *POWERS.get(places)?;
    // Between two f32 are 2^29 steps. Unless the middle between them is within
    // reach of the error, `near` rounds to where the number does.
    let from_middle = (near.to_bits() & 0x1fff_ffff).abs_diff(0x1000_0000);
    if from_middle <= 2 || (near < f64::from(f32::MIN_POSITIVE) && digits > 0) {
        return None;
    }
    let sign = u32::from(is_negative) << 31;
    Some(f32::from_bits((near as f32).to_bits() | sign))
}

/// The powers of ten that a f64 holds exactly.
const POWERS: [f64; 23] = [
    1e0, 1e1, 1e2, 1e3, 1e4, 1e5, 1e6, 1e7, 1e8, 1e9, 1e10, 1e11, 1e12, 1e13, 1e14, 1e15, 1e16, 1e17, 1e18,
    1e19, 1e20, 1e21, 1e22,
];

/// The powers of ten that make room for so many digits.
const SHIFTS: [u64; 9] = [1, 10, 100, 1_000, 10_000, 100_000, 1_000_000, 10_000_000, 100_000_000];

/// What stays an i64 when as many digits follow.
const ROOM: [u64; 9] = {
    let mut room = [0; 9];
    let mut count = 0;
    while count < 9 {
        room[count] = i64::MAX as u64 / SHIFTS[count] - 1;
        count += 1;
    }
    room
};

/// How many of eight bytes, from the lowest, are digits until one is not.
#[inline]
fn leading_digits(chunk: u64) -> usize {
    const HIGH: u64 = 0xf0f0_f0f0_f0f0_f0f0;
    const ROW: u64 = 0x3030_3030_3030_3030;
    // Digits are 0x30 to 0x39: six more do not reach the next row. A carry
    // comes from a byte that is no digit, into one that does not count.
    let others = ((chunk & HIGH) ^ ROW) | ((chunk.wrapping_add(0x0606_0606_0606_0606) & HIGH) ^ ROW);
    others.trailing_zeros() as usize / 8
}

/// The number that eight digits write, the first in the lowest byte: from
/// digits to pairs, to fours, to all of them. A zero byte counts as the digit 0.
#[inline]
fn eight_digits(chunk: u64) -> u64 {
    let ones = chunk & 0x0f0f_0f0f_0f0f_0f0f;
    let pairs = (ones.wrapping_mul(1 + (10 << 8)) >> 8) & 0x00ff_00ff_00ff_00ff;
    let fours = (pairs.wrapping_mul(1 + (100 << 16)) >> 16) & 0x0000_ffff_0000_ffff;
    fours.wrapping_mul(1 + (10_000 << 32)) >> 32
}
