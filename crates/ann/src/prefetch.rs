//! Asks the processor to load a row before it is needed.
//!
//! A graph walk knows its next rows a few distances ahead, while the hardware
//! sees only random addresses. Nothing happens on processors other than x86-64
//! and aarch64.
//!
//! On x86-64 it is asked for into the cache of the second level, which can wait for more
//! lines at once than that of the first. Lines at random places among 64 MiB on
//! Zen 4, 64 of them asked for ahead: 4 ns each, into the first level 7 ns, and past
//! both (as what is read once) 9 ns.

/// Bytes per cache line; those of some aarch64 processors are longer.
#[cfg(any(target_arch = "x86_64", target_arch = "aarch64"))]
const LINE: usize = 64;
/// Bytes asked for. Once a row is being read in order, the hardware follows;
/// asking for all of 1,536 bytes was no faster.
const START: usize = 512;

/// Starts loading the beginning of `values` into the cache.
#[inline]
pub(crate) fn prefetch<T>(values: &[T]) {
    lines(values, START);
}

/// Starts loading all of `values`: for what is read once it is there, however
/// long.
#[inline]
pub(crate) fn prefetch_all<T>(values: &[T]) {
    lines(values, usize::MAX);
}

/// Asks for the first `most` bytes.
#[cfg(any(target_arch = "x86_64", target_arch = "aarch64"))]
#[inline]
fn lines<T>(values: &[T], most: usize) {
    let start = values.as_ptr().cast::<i8>();
    let (mut offset, end) = (0, size_of_val(values).min(most));
    while offset < end {
        line(start.wrapping_add(offset));
        offset += LINE;
    }
}

#[cfg(target_arch = "x86_64")]
#[allow(unsafe_code)] // The instruction takes a raw pointer.
#[inline]
fn line(at: *const i8) {
    use std::arch::x86_64::{_MM_HINT_T1, _mm_prefetch};

    // SAFETY: prefetching reads no value, wherever it is, and every x86-64
    // processor has it.
    unsafe { _mm_prefetch::<_MM_HINT_T1>(at) };
}

#[cfg(target_arch = "aarch64")]
#[allow(unsafe_code, clippy::pointers_in_nomem_asm_block)] // Assembly, which reads no value.
#[inline]
fn line(at: *const i8) {
    use std::arch::asm;

    // SAFETY: prefetching reads no value, wherever it is, and every aarch64
    // processor has it.
    unsafe { asm!("prfm pldl1keep, [{at}]", at = in(reg) at, options(nomem, nostack, preserves_flags)) };
}

#[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
#[inline]
fn lines<T>(_values: &[T], _most: usize) {}
