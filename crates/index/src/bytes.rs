//! Bytes that are mapped from a file, shared and sliced without copying. They
//! begin at an address that suits any number.

use std::fs::File;
use std::ops::{Deref, Range};
use std::sync::Arc;

use bytemuck::Pod;

/// A shared piece of a file or of memory.
#[derive(Clone)]
pub(crate) struct Bytes {
    owner: Arc<Owner>,
    range: Range<usize>,
}

enum Owner {
    Mapped(memmap2::Mmap),
    /// Words, so that the start is aligned.
    #[cfg(test)]
    Held(Vec<u64>),
}

impl Owner {
    fn all(&self) -> &[u8] {
        match self {
            Self::Mapped(map) => map,
            #[cfg(test)]
            Self::Held(words) => bytemuck::cast_slice(words),
        }
    }
}

impl Bytes {
    /// Maps a whole file, which nobody changes from here on.
    pub(crate) fn map(file: &File) -> std::io::Result<Self> {
        // SAFETY: files that are mapped are complete when they get their name
        // and are never written again, only unlinked, which keeps the pages.
        // The directory is ours by its lock.
        #[allow(unsafe_code)]
        let map = unsafe { memmap2::Mmap::map(file)? };
        let range = 0..map.len();
        Ok(Self { owner: Arc::new(Owner::Mapped(map)), range })
    }

    /// A copy of bytes in memory, where a test has no file.
    #[cfg(test)]
    pub(crate) fn copy_of(bytes: &[u8]) -> Self {
        let mut words = vec![0u64; bytes.len().div_ceil(8)];
        bytemuck::cast_slice_mut(&mut words)[..bytes.len()].copy_from_slice(bytes);
        Self { owner: Arc::new(Owner::Held(words)), range: 0..bytes.len() }
    }

    /// A piece of these bytes; `None` if they are shorter.
    pub(crate) fn slice(&self, range: Range<usize>) -> Option<Self> {
        if range.start > range.end || range.end > self.range.len() {
            return None;
        }
        let start = self.range.start + range.start;
        Some(Self { owner: self.owner.clone(), range: start..self.range.start + range.end })
    }

    /// The bytes as numbers of the machine's order; `None` if they do not
    /// divide into such numbers or do not start at one's address.
    pub(crate) fn numbers<T: Pod>(&self) -> Option<&[T]> {
        bytemuck::try_cast_slice(self).ok()
    }
}

impl Deref for Bytes {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.owner.all()[self.range.clone()]
    }
}

impl AsRef<[u8]> for Bytes {
    fn as_ref(&self) -> &[u8] {
        self
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pieces_of_a_mapped_file_outlive_its_name() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("file");
        let numbers: Vec<u8> = (0u32..100).flat_map(u32::to_le_bytes).collect();
        std::fs::write(&path, &numbers).unwrap();
        for bytes in [Bytes::map(&File::open(&path).unwrap()).unwrap(), Bytes::copy_of(&numbers)] {
            let piece = bytes.slice(40..48).unwrap();
            drop(bytes);
            let _ = std::fs::remove_file(&path);
            assert_eq!(piece.numbers::<u32>().unwrap(), [10, 11]);
            assert!(piece.slice(4..9).is_none());
            assert!(piece.slice(1..5).unwrap().numbers::<u32>().is_none());
        }
    }
}
