//! Arrays of numbers by AVX2: first where the commas are, then what is between.
//!
//! How long a number is cannot be foreseen, and one after the other each would
//! have to wait for the length of the one before. The commas tell where all of
//! them begin, so the processor is at work on several at once.

// Intrinsics, and loads from arrays that are long enough.
#![allow(unsafe_code)]

use std::arch::x86_64::{
    __m256i, _mm_cvtsi128_si64, _mm_extract_epi32, _mm256_and_si256, _mm256_castsi256_si128,
    _mm256_cmpeq_epi8, _mm256_extracti128_si256, _mm256_loadu_si256, _mm256_madd_epi16, _mm256_maddubs_epi16,
    _mm256_movemask_epi8, _mm256_packus_epi32, _mm256_set1_epi8, _mm256_set1_epi16, _mm256_set1_epi32,
    _mm256_sub_epi8, _mm256_subs_epu8, _mm256_testz_si256,
};

use super::{nearest_f32, rounded, white};

/// Bytes that are looked at together, and how often before numbers are read.
const BLOCK: usize = 64;
const BLOCKS: usize = 8;

/// Takes numbers that begin at `at`, as long as a comma follows, and says where
/// the next one would begin. Nothing is taken on a processor without AVX2.
pub(super) fn take(text: &[u8], at: usize, numbers: &mut Vec<f32>) -> usize {
    if !is_x86_feature_detected!("avx2") {
        return at;
    }
    // SAFETY: the processor has AVX2, and what came before it.
    unsafe { with_avx2(text, at, numbers) }
}

#[target_feature(enable = "avx2")]
fn with_avx2(text: &[u8], mut at: usize, numbers: &mut Vec<f32>) -> usize {
    // A comma can be at every byte, and some are written past the last one.
    let mut commas = [0u16; BLOCK * BLOCKS + FEW];
    loop {
        let blocks = text[at..].chunks_exact(BLOCK).take(BLOCKS);
        let found = find_commas(blocks, &mut commas);
        if found == 0 {
            return at;
        }
        let from = at;
        for comma in &commas[..found] {
            let end = from + usize::from(*comma);
            let start = at + white(&text[at..end]);
            let Some(number) = plain(text, start, end).or_else(|| other(text, start, end)) else { return at };
            numbers.push(number);
            at = end + 1;
        }
    }
}

/// How many commas of a block are written down whether they are there or not,
/// which is faster than to ask for each of them.
const FEW: usize = 4;

/// Writes down where the commas are and says how many.
#[target_feature(enable = "avx2")]
fn find_commas<'t>(
    blocks: impl Iterator<Item = &'t [u8]>,
    commas: &mut [u16; BLOCK * BLOCKS + FEW],
) -> usize {
    let (mut found, mut base) = (0, 0);
    for block in blocks {
        let Some((low, high)) = block.split_first_chunk() else { break };
        let Some(high) = high.first_chunk() else { break };
        let mut mask = u64::from(commas_of(low)) | u64::from(commas_of(high)) << 32;
        let count = mask.count_ones() as usize;
        let mut write = |place: usize| {
            commas[place] = base + mask.trailing_zeros() as u16;
            mask &= mask.wrapping_sub(1);
        };
        for place in found..found + FEW {
            write(place);
        }
        for place in found + FEW..found + count {
            write(place);
        }
        found += count;
        base += BLOCK as u16;
    }
    found
}

#[target_feature(enable = "avx2")]
fn commas_of(bytes: &[u8; 32]) -> u32 {
    _mm256_movemask_epi8(_mm256_cmpeq_epi8(load(bytes), _mm256_set1_epi8(b',' as i8))) as u32
}

#[target_feature(enable = "avx2")]
fn load(bytes: &[u8; 32]) -> __m256i {
    // SAFETY: there are 32 bytes.
    unsafe { _mm256_loadu_si256(bytes.as_ptr().cast()) }
}

/// Nothing, and then all of as many bytes as are to be kept.
const KEPT: [u8; 64] = {
    let mut kept = [0; 64];
    let mut at = 32;
    while at < 64 {
        kept[at] = 0xff;
        at += 1;
    }
    kept
};

/// The powers of ten by which a digit before the point counts; with more
/// places there must be none but zero.
const WHOLE: [u64; 23] = {
    let mut powers = [0; 23];
    let (mut places, mut power) = (0, 1);
    while places <= 17 {
        powers[places] = power;
        power *= 10;
        places += 1;
    }
    powers
};

/// The number that is the whole text from `start` to the comma at `end`, if it is
/// one digit, a point and at most twenty-two digits.
#[target_feature(enable = "avx2")]
fn plain(text: &[u8], start: usize, end: usize) -> Option<f32> {
    let is_negative = text[start] == b'-';
    let first = start + usize::from(is_negative);
    let whole = text[first].wrapping_sub(b'0');
    let places = (end - first).wrapping_sub(2);
    if whole > 9 || text[first + 1] != b'.' || places.wrapping_sub(1) > 21 {
        return None;
    }
    let values = _mm256_sub_epi8(load(text[..end].last_chunk()?), _mm256_set1_epi8(b'0' as i8));
    let digits = _mm256_and_si256(values, load(KEPT[places..].first_chunk()?));
    let others = _mm256_subs_epu8(digits, _mm256_set1_epi8(9));
    let [high, low] = number(digits);
    // All of it must stay below 2^63.
    if _mm256_testz_si256(others, others) == 0 || high > 920 || (whole > 0 && places > 17) {
        return None;
    }
    let digits = high * 10_000_000_000_000_000 + low + u64::from(whole) * WHOLE[places];
    rounded(is_negative, digits, places)
}

/// The number that the last twenty-four of 32 digits write: of its digits
/// before the last sixteen, and of those.
#[target_feature(enable = "avx2")]
fn number(digits: __m256i) -> [u64; 2] {
    let pairs = _mm256_maddubs_epi16(digits, _mm256_set1_epi16(0x010a));
    let fours = _mm256_madd_epi16(pairs, _mm256_set1_epi32(0x0001_0064));
    let fours = _mm256_packus_epi32(fours, fours);
    let eights = _mm256_madd_epi16(fours, _mm256_set1_epi32(0x0001_2710));
    let high = _mm_extract_epi32::<1>(_mm256_castsi256_si128(eights)) as u64;
    let low = _mm_cvtsi128_si64(_mm256_extracti128_si256::<1>(eights)) as u64;
    [high, (low & 0xffff_ffff) * 100_000_000 + (low >> 32)]
}

/// The same for any number, and white space behind it.
#[cold]
fn other(text: &[u8], start: usize, end: usize) -> Option<f32> {
    let (number, length) = nearest_f32(&text[start..])?;
    let rest = text.get(start + length..end)?;
    (white(rest) == rest.len()).then_some(number)
}
