//! What every processor of the target has.

// A part that is not inlined is compiled without the instructions of the whole.
#![allow(clippy::inline_always)]

use super::{GROUP, LINE, Simd, place};
use crate::array::Line;
use crate::prefetch::prefetch_all;

/// Written so that the compiler finds the vector instructions of the target.
#[derive(Clone, Copy)]
pub(crate) struct Portable;

impl Simd for Portable {
    #[inline(always)]
    fn dot(code: &[u8], query: &[i8]) -> i32 {
        let pairs = code.iter().zip(query);
        pairs.map(|(&c, &q)| i32::from(i16::from(c) * i16::from(q))).sum()
    }

    #[inline(always)]
    fn dot_halves(code: &[u8], query: &[i8]) -> i32 {
        let lines = code.as_chunks::<LINE>().0.iter().zip(query.chunks_exact(2 * LINE));
        let line = |(code, query): (&[u8; LINE], &[i8])| -> i32 {
            let (low, high) = query.split_at(LINE);
            let halves = code.iter().zip(low.iter().zip(high));
            halves
                .map(|(&c, (&low, &high))| {
                    i32::from(i16::from(c & 15) * i16::from(low) + i16::from(c >> 4) * i16::from(high))
                })
                .sum()
        };
        lines.map(line).sum()
    }

    #[inline(always)]
    fn difference(a: &[u8], b: &[u8]) -> u32 {
        a.iter().zip(b).map(|(&x, &y)| u32::from(x.abs_diff(y))).sum()
    }

    #[inline(always)]
    fn look_up(codes: &[Line], tables: &[Line], later: &[Line]) -> [u16; GROUP] {
        prefetch_all(later);
        let codes = bytemuck::cast_slice::<Line, [u8; 16]>(codes);
        let mut sums = [0; GROUP];
        for (names, table) in codes.iter().zip(bytemuck::cast_slice::<Line, [u8; 16]>(tables)) {
            for (code, sum) in sums.iter_mut().enumerate() {
                let (byte, shift) = place(code);
                *sum += u16::from(table[usize::from(names[byte] >> shift & 15)]);
            }
        }
        sums
    }

    #[inline(always)]
    fn below(values: &[f32; GROUP], limit: f32) -> u32 {
        (0..GROUP).fold(0, |bits, at| bits | u32::from(values[at] < limit) << at)
    }
}
