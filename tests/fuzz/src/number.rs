//! Numbers, read sixteen digits at a time, are those that the standard library
//! reads.

use cairn_server::fuzzing::nearest_f32;

/// Room behind a number, as a body has it: without, it is read the slow way.
const ROOM: usize = 48;

pub(crate) fn check(input: &[u8]) {
    let mut text = input.to_vec();
    text.extend([b' '; ROOM]);
    // A number may begin anywhere; each is read with what follows it, and at the
    // end of a text.
    for start in 0..input.len().min(256) {
        let known = number(&input[start..]);
        let quick = nearest_f32(&text[start..]);
        same(quick, known, &input[start..]);
        same(nearest_f32(&input[start..]), known, &input[start..]);
    }
}

fn same(read: Option<(f32, usize)>, known: Option<(f32, usize)>, text: &[u8]) {
    let bits = |found: Option<(f32, usize)>| found.map(|(number, length)| (number.to_bits(), length));
    assert_eq!(bits(read), bits(known), "{}", String::from_utf8_lossy(text));
}

/// The longest number that JSON allows at the beginning.
fn number(text: &[u8]) -> Option<(f32, usize)> {
    let digit = |at: usize| text.get(at).is_some_and(u8::is_ascii_digit);
    let digits = |mut at: usize| {
        while digit(at) {
            at += 1;
        }
        at
    };
    let first = usize::from(text.first() == Some(&b'-'));
    let mut end = digits(first);
    if end == first || (text[first] == b'0' && end > first + 1) {
        return None;
    }
    if text.get(end) == Some(&b'.') {
        if !digit(end + 1) {
            return None;
        }
        end = digits(end + 1);
    }
    if matches!(text.get(end), Some(b'e' | b'E')) {
        let exponent = end + 1 + usize::from(matches!(text.get(end + 1), Some(b'+' | b'-')));
        if !digit(exponent) {
            return None;
        }
        end = digits(exponent);
    }
    let number: f32 = std::str::from_utf8(&text[..end]).ok()?.parse().ok()?;
    number.is_finite().then_some((number, end))
}
