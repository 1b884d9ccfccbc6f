//! The tiles of AMX, and what multiplies 32 rows with 32 columns in them.
//!
//! There are eight of up to 16 rows of 64 bytes. Four hold sums, two a piece of as
//! many rows, two a piece of a panel: the words of a panel, packed for AVX-512, are
//! in the order a tile wants. Sums go through memory that is in the first cache.
//!
//! A system must be asked before a process may use tiles; see [`available`].

#![allow(unsafe_code)] // Assembly, since there are no stable intrinsics.

use core::arch::asm;
use core::arch::x86_64::{
    __m512, _mm512_add_epi32, _mm512_add_ps, _mm512_castps_si512, _mm512_castsi512_ps, _mm512_setzero_ps,
};
use std::sync::LazyLock;

use super::matrix::PIECE;
use super::rows::Format;

/// Rows of a tile at most.
const HIGH: usize = 16;

/// Whether this process may use tiles of bfloat16 and of bytes.
///
/// The processor must have them, the system must save them when it switches
/// threads, and it must grant them to the process, which is asked once and holds
/// for all its threads. Where one is missing the answer is no, and nothing else
/// happens.
pub(super) fn available() -> bool {
    static AVAILABLE: LazyLock<bool> = LazyLock::new(|| processor_has_tiles() && granted());
    *AVAILABLE
}

#[allow(unused_unsafe)] // Only newer toolchains call it safe to ask what there is.
fn processor_has_tiles() -> bool {
    const BF16: u32 = 1 << 22;
    const TILE: u32 = 1 << 24;
    const INT8: u32 = 1 << 25;
    /// The states of the configuration and of the tiles.
    const STATES: u64 = 1 << 17 | 1 << 18;
    // SAFETY: every processor of this family can be asked; leaf 7 is asked for only
    // where there is one.
    let found = unsafe {
        match core::arch::x86_64::__cpuid(0).eax {
            7.. => core::arch::x86_64::__cpuid_count(7, 0).edx,
            _ => 0,
        }
    };
    if !is_x86_feature_detected!("xsave") {
        return false;
    }
    // SAFETY: XSAVE was found above, switched on by the system.
    let saved = unsafe { saved_states() };
    found & (BF16 | TILE | INT8) == BF16 | TILE | INT8 && saved & STATES == STATES
}

/// The states of registers that the system saves.
#[target_feature(enable = "xsave")]
fn saved_states() -> u64 {
    // SAFETY: register 0 exists wherever there is XSAVE.
    unsafe { core::arch::x86_64::_xgetbv(0) }
}

/// Asks Linux, which makes room for tiles in a thread when it first uses them.
#[cfg(target_os = "linux")]
fn granted() -> bool {
    const ARCH_REQ_XCOMP_PERM: libc::c_ulong = 0x1023;
    const XFEATURE_XTILEDATA: libc::c_ulong = 18;
    // SAFETY: the call takes two numbers and no pointers. An older system, or one
    // that filters calls, answers with an error.
    unsafe { libc::syscall(libc::SYS_arch_prctl, ARCH_REQ_XCOMP_PERM, XFEATURE_XTILEDATA) == 0 }
}

#[cfg(not(target_os = "linux"))]
fn granted() -> bool {
    false
}

/// Rows cut into tiles of one height. Where the rows are no multiple of it the last
/// tile begins earlier, and some rows are computed twice.
#[derive(Debug, Clone, Copy)]
pub(super) struct Cut {
    rows: usize,
    tiles: usize,
    pub(super) height: usize,
}

impl Cut {
    /// Of at least one row.
    pub(super) fn of(rows: usize) -> Cut {
        let tiles = rows.div_ceil(HIGH).max(1);
        Cut { rows, tiles, height: rows.div_ceil(tiles) }
    }

    /// The first rows of two tiles each, and of the last one if their number is odd.
    pub(super) fn pairs(self) -> impl Iterator<Item = (usize, Option<usize>)> {
        let start = move |tile: usize| (tile * self.height).min(self.rows - self.height);
        (0..self.tiles)
            .step_by(2)
            .map(move |tile| (start(tile), (tile + 1 < self.tiles).then(|| start(tile + 1))))
    }
}

/// The tiles of this thread, set up until this is dropped.
pub(super) struct Tiles {
    /// They stay with the thread.
    _thread: core::marker::PhantomData<*const ()>,
}

impl Tiles {
    /// Tiles of sums and of rows are `height` high, those of weights 16.
    ///
    /// # Safety
    /// [`available`] said yes. A thread has one of these at a time.
    pub(super) unsafe fn new(height: usize) -> Tiles {
        #[repr(C, align(64))]
        struct Shape {
            palette: u8,
            start: u8,
            reserved: [u8; 14],
            row_bytes: [u16; 16],
            rows: [u8; 16],
        }
        assert!((1..=HIGH).contains(&height));
        let mut shape = Shape { palette: 1, start: 0, reserved: [0; 14], row_bytes: [0; 16], rows: [0; 16] };
        shape.row_bytes[..8].fill(64);
        shape.rows[..6].fill(height as u8);
        shape.rows[6..8].fill(PIECE as u8);
        // SAFETY: 64 bytes in the layout of palette 1, which the caller says exists.
        unsafe {
            asm!(
                "ldtilecfg [{}]", in(reg) &raw const shape,
                out("tmm0") _, out("tmm1") _, out("tmm2") _, out("tmm3") _,
                out("tmm4") _, out("tmm5") _, out("tmm6") _, out("tmm7") _,
                options(nostack, preserves_flags, readonly)
            );
        }
        Tiles { _thread: core::marker::PhantomData }
    }
}

impl Drop for Tiles {
    fn drop(&mut self) {
        // SAFETY: they were set up, so the instruction exists. Released, they cost
        // nothing when the system switches threads.
        unsafe {
            asm!(
                "tilerelease",
                out("tmm0") _, out("tmm1") _, out("tmm2") _, out("tmm3") _,
                out("tmm4") _, out("tmm5") _, out("tmm6") _, out("tmm7") _,
                options(nostack, preserves_flags, nomem)
            );
        }
    }
}

/// What a kernel multiplies: `pieces` times 16 words of each row with as many rows
/// of 32 words. Strides are in bytes.
#[derive(Clone, Copy)]
pub(super) struct Piece {
    pub(super) pieces: usize,
    /// The first row of each tile.
    pub(super) rows: [*const u32; 2],
    pub(super) row_stride: usize,
    pub(super) columns: *const u32,
    pub(super) column_stride: usize,
    /// Where the sums of each tile go, 32 columns wide.
    pub(super) sums: [*mut u32; 2],
    pub(super) sum_stride: usize,
    /// What will be read after this and may be far away: [`AHEAD`] bytes for each
    /// piece are brought into the second cache. It is a hint, any address will do.
    pub(super) ahead: *const u32,
}

/// Bytes of [`Piece::ahead`] for each piece.
pub(super) const AHEAD: usize = 6 * 64;

/// Two kernels for a format: of two tiles of rows, and of one.
///
/// That of one tile adds up even and odd pieces apart, `sums` having both, because
/// a sum can be added to again only after some fifty cycles.
macro_rules! kernels {
    ($two:ident, $one:ident, $dot:literal) => {
        /// # Safety
        /// Tiles are set up. There is at least one piece, and `piece` says truly
        /// what can be read and written.
        #[inline]
        pub(super) unsafe fn $two(_: &Tiles, piece: &Piece) {
            // SAFETY: as the caller says.
            unsafe {
                asm!(
                    "tilezero tmm0",
                    "tilezero tmm1",
                    "tilezero tmm2",
                    "tilezero tmm3",
                    "2:",
                    "tileloadd tmm6, [{columns} + {column_stride}]",
                    "prefetcht1 [{ahead}]",
                    "tileloadd tmm4, [{first} + {row_stride}]",
                    "prefetcht1 [{ahead} + 64]",
                    "tileloadd tmm7, [{columns} + {column_stride} + 64]",
                    "prefetcht1 [{ahead} + 128]",
                    "tileloadd tmm5, [{second} + {row_stride}]",
                    "prefetcht1 [{ahead} + 192]",
                    concat!($dot, " tmm0, tmm4, tmm6"),
                    "prefetcht1 [{ahead} + 256]",
                    concat!($dot, " tmm1, tmm4, tmm7"),
                    "prefetcht1 [{ahead} + 320]",
                    concat!($dot, " tmm2, tmm5, tmm6"),
                    concat!($dot, " tmm3, tmm5, tmm7"),
                    "add {ahead}, 384",
                    "add {first}, 64",
                    "add {second}, 64",
                    "add {columns}, {next}",
                    "dec {pieces}",
                    "jnz 2b",
                    "tilestored [{sums} + {sum_stride}], tmm0",
                    "tilestored [{sums} + {sum_stride} + 64], tmm1",
                    "tilestored [{more} + {sum_stride}], tmm2",
                    "tilestored [{more} + {sum_stride} + 64], tmm3",
                    pieces = inout(reg) piece.pieces => _,
                    first = inout(reg) piece.rows[0] => _,
                    second = inout(reg) piece.rows[1] => _,
                    row_stride = in(reg) piece.row_stride,
                    columns = inout(reg) piece.columns => _,
                    column_stride = in(reg) piece.column_stride,
                    next = in(reg) PIECE * piece.column_stride,
                    sums = in(reg) piece.sums[0],
                    more = in(reg) piece.sums[1],
                    sum_stride = in(reg) piece.sum_stride,
                    ahead = inout(reg) piece.ahead => _,
                    out("tmm0") _, out("tmm1") _, out("tmm2") _, out("tmm3") _,
                    out("tmm4") _, out("tmm5") _, out("tmm6") _, out("tmm7") _,
                    options(nostack)
                );
            }
        }

        /// # Safety
        /// As the other.
        #[inline]
        pub(super) unsafe fn $one(_: &Tiles, piece: &Piece) {
            // SAFETY: as the caller says.
            unsafe {
                asm!(
                    "tilezero tmm0",
                    "tilezero tmm1",
                    "tilezero tmm2",
                    "tilezero tmm3",
                    "2:",
                    "tileloadd tmm4, [{rows} + {row_stride}]",
                    "tileloadd tmm6, [{columns} + {column_stride}]",
                    "tileloadd tmm7, [{columns} + {column_stride} + 64]",
                    concat!($dot, " tmm0, tmm4, tmm6"),
                    concat!($dot, " tmm1, tmm4, tmm7"),
                    "add {rows}, 64",
                    "add {columns}, {next}",
                    "dec {pieces}",
                    "jz 3f",
                    "tileloadd tmm5, [{rows} + {row_stride}]",
                    "tileloadd tmm6, [{columns} + {column_stride}]",
                    "tileloadd tmm7, [{columns} + {column_stride} + 64]",
                    concat!($dot, " tmm2, tmm5, tmm6"),
                    concat!($dot, " tmm3, tmm5, tmm7"),
                    "add {rows}, 64",
                    "add {columns}, {next}",
                    "dec {pieces}",
                    "jnz 2b",
                    "3:",
                    "tilestored [{sums} + {sum_stride}], tmm0",
                    "tilestored [{sums} + {sum_stride} + 64], tmm1",
                    "tilestored [{more} + {sum_stride}], tmm2",
                    "tilestored [{more} + {sum_stride} + 64], tmm3",
                    pieces = inout(reg) piece.pieces => _,
                    rows = inout(reg) piece.rows[0] => _,
                    row_stride = in(reg) piece.row_stride,
                    columns = inout(reg) piece.columns => _,
                    column_stride = in(reg) piece.column_stride,
                    next = in(reg) PIECE * piece.column_stride,
                    sums = in(reg) piece.sums[0],
                    more = in(reg) piece.sums[1],
                    sum_stride = in(reg) piece.sum_stride,
                    out("tmm0") _, out("tmm1") _, out("tmm2") _, out("tmm3") _,
                    out("tmm4") _, out("tmm5") _, out("tmm6") _, out("tmm7") _,
                    options(nostack)
                );
            }
        }
    };
}

kernels!(two_bf16, one_bf16, "tdpbf16ps");
kernels!(two_int8, one_int8, "tdpbusd");

/// The sums of two tiles of rows, as kernels write them.
pub(super) type Sums = [[__m512; 2]; 2 * HIGH];

/// No sums yet.
#[inline]
#[target_feature(enable = "avx512f")]
pub(super) fn no_sums() -> Sums {
    [[_mm512_setzero_ps(); 2]; 2 * HIGH]
}

/// Adds the sums of odd pieces to those of even ones.
#[inline]
#[target_feature(enable = "avx512f")]
pub(super) fn join(sums: &mut [[__m512; 2]], more: &[[__m512; 2]], format: Format) {
    for (sum, more) in sums.iter_mut().flatten().zip(more.iter().flatten()) {
        *sum = if format == Format::Int8 {
            let (sum, more) = (_mm512_castps_si512(*sum), _mm512_castps_si512(*more));
            _mm512_castsi512_ps(_mm512_add_epi32(sum, more))
        } else {
            _mm512_add_ps(*sum, *more)
        };
    }
}

#[cfg(test)]
mod tests {
    use super::super::level::{Instructions, Precision};
    use super::super::matrix::Matrix;
    use super::super::product::product;
    use super::super::rows::Rows;
    use super::{Cut, HIGH};

    #[test]
    fn tiles_of_one_height_cover_all_rows() {
        for rows in 1..200 {
            let cut = Cut::of(rows);
            assert!((1..=HIGH).contains(&cut.height) && cut.height <= rows);
            let starts: Vec<usize> = cut.pairs().flat_map(|(one, two)| [Some(one), two]).flatten().collect();
            assert_eq!(starts.len(), rows.div_ceil(HIGH), "{rows}");
            let mut next = 0;
            for start in starts {
                assert!(start <= next, "{rows}: a gap before {start}");
                next = next.max(start + cut.height);
            }
            assert_eq!(next, rows);
        }
    }

    #[test]
    fn what_one_thread_asked_for_holds_in_each() {
        if Instructions::Amx.resolve().is_err() {
            return;
        }
        let values: Vec<f32> = (0..40 * 96).map(|i| (i % 13) as f32 - 6.0).collect();
        for precision in [Precision::Bf16, Precision::Int8] {
            let matrix = Matrix::new(&values[..33 * 96], &[0.5; 33], precision, Instructions::Amx);
            let run = || {
                let mut out = vec![f32::NAN; 40 * 33];
                product(&values, &matrix, None, &mut Rows::default(), &mut out);
                out
            };
            let here = run();
            std::thread::scope(|scope| {
                let threads: Vec<_> = (0..4).map(|_| scope.spawn(|| [run(), run()])).collect();
                for thread in threads {
                    assert_eq!(thread.join().expect("no panic"), [here.clone(), here.clone()]);
                }
            });
        }
    }

    /// A filter on system calls holds for the thread that sets it.
    #[cfg(target_os = "linux")]
    #[test]
    fn a_system_that_refuses_tiles_means_no() {
        /// Lets all calls through but `arch_prctl`, which is not permitted.
        fn refuse() -> bool {
            let part = |code, jf, k| libc::sock_filter { code, jt: 0, jf, k };
            let mut parts = [
                part(0x20, 0, 0),                                // the number of the call
                part(0x15, 1, libc::SYS_arch_prctl as u32),      // is another: skip one
                part(0x06, 0, 0x0005_0000 | libc::EPERM as u32), // an error
                part(0x06, 0, 0x7FFF_0000),                      // allowed
            ];
            let filter = libc::sock_fprog { len: 4, filter: parts.as_mut_ptr() };
            // SAFETY: both calls read what they are given and affect this thread alone.
            unsafe {
                libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0
                    && libc::prctl(libc::PR_SET_SECCOMP, 2, &raw const filter) == 0
            }
        }
        let answer = std::thread::spawn(|| refuse().then(super::granted)).join().expect("no panic");
        assert_ne!(answer, Some(true));
    }
}
