//! What is particular to graphs with product codes: how many rows decide, and the
//! scan, which measures every code.

#![allow(clippy::inline_always)] // Parts of loops that are compiled per instruction set.

use crate::codes::{Compression, ProductQuery};
use crate::pool::Pool;
use crate::simd::{Simd, Task, run};
use crate::walk::Measure;

/// Codes asked for ahead.
const AHEAD: usize = 12;

/// Candidates of a beam whose rows are measured, for `k` results.
pub(super) fn rescored(compression: Compression, k: usize, ef: usize) -> usize {
    match compression {
        Compression::X4 => (k + k / 8 + 2).max(ef / 8),
        Compression::X8 => (k + k / 2 + 6).max(ef / 2),
        _ => k.max(ef),
    }
}

/// The same for a scan.
pub(super) fn rescored_of_scan(compression: Compression, k: usize) -> usize {
    let (times, more) = match compression {
        Compression::X4 => (1, 6),
        Compression::X8 => (2, 32),
        Compression::X16 => (8, 64),
        Compression::X32 => (32, 128),
        Compression::X64 => (128, 512),
    };
    k.saturating_mul(times).saturating_add(more)
}

/// Puts the nearest positions into the pool.
pub(super) fn scan(query: &ProductQuery<'_>, positions: &[u32], pool: &mut Pool) {
    run(Scan { query, positions, pool });
}

struct Scan<'a> {
    query: &'a ProductQuery<'a>,
    positions: &'a [u32],
    pool: &'a mut Pool,
}

impl Task for Scan<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self) {
        let Self { query, positions, pool } = self;
        for (at, &position) in positions.iter().enumerate() {
            if let Some(&ahead) = positions.get(at + AHEAD) {
                query.prefetch(ahead);
            }
            pool.offer(query.rank::<S>(position), position);
        }
    }
}
