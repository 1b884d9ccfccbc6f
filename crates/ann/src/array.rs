//! The arrays of a graph: its own, or lying in the bytes of a file.
//!
//! A clone shares the numbers. Only an array of one's own is changed in place;
//! another is copied first.

use std::ops::{Deref, Range};
use std::sync::Arc;

use bytemuck::{Pod, Zeroable};

use crate::simd::LINE;

/// Whatever holds the bytes of a file, a mapping or a buffer.
pub(crate) type Owner = Arc<dyn AsRef<[u8]> + Send + Sync>;

/// Bytes that begin where a cache line does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Pod, Zeroable)]
#[repr(C, align(64))]
pub(crate) struct Line(pub(crate) [u8; LINE]);

/// What arrays hold.
pub(crate) trait Item: Pod + Send + Sync {
    /// The item whose bytes a little-endian machine would read as this one.
    fn in_order(self) -> Self;
}

impl Item for u8 {
    fn in_order(self) -> Self {
        self
    }
}

impl Item for u32 {
    fn in_order(self) -> Self {
        Self::from_le(self)
    }
}

impl Item for f32 {
    fn in_order(self) -> Self {
        Self::from_bits(u32::from_le(self.to_bits()))
    }
}

impl Item for Line {
    fn in_order(self) -> Self {
        self
    }
}

/// An array of numbers.
///
/// Looking into lent bytes asks their owner for them; a loop does it once.
#[derive(Clone)]
pub(crate) enum Array<T: Item> {
    Own(Arc<Vec<T>>),
    /// `range` is whole, in order and aligned, as `lent` has checked.
    Lent {
        owner: Owner,
        range: Range<usize>,
    },
}

/// Links, slots and counts.
pub(crate) type Words = Array<u32>;

impl<T: Item> Array<T> {
    /// The little-endian numbers at `range` of the owner's bytes, where they
    /// are if this machine can read them there, else copied.
    ///
    /// # Panics
    /// If the range is not within the bytes, or does not hold whole numbers.
    pub(crate) fn lent(owner: &Owner, range: Range<usize>) -> Self {
        let bytes = &(**owner).as_ref()[range.clone()];
        if cfg!(target_endian = "little") && bytemuck::try_cast_slice::<u8, T>(bytes).is_ok() {
            return Self::Lent { owner: Arc::clone(owner), range };
        }
        let items = bytes.chunks_exact(size_of::<T>());
        items.map(|item| bytemuck::pod_read_unaligned::<T>(item).in_order()).collect::<Vec<T>>().into()
    }

    /// The numbers, to be changed.
    pub(crate) fn make_mut(&mut self) -> &mut Vec<T> {
        if let Self::Lent { .. } = self {
            *self = self.to_vec().into();
        }
        match self {
            Self::Own(items) => Arc::make_mut(items),
            Self::Lent { .. } => unreachable!("it was copied above"),
        }
    }
}

impl<T: Item> Deref for Array<T> {
    type Target = [T];

    fn deref(&self) -> &[T] {
        match self {
            Self::Own(items) => items,
            Self::Lent { owner, range } => bytemuck::cast_slice(&(**owner).as_ref()[range.clone()]),
        }
    }
}

impl<T: Item> From<Vec<T>> for Array<T> {
    fn from(items: Vec<T>) -> Self {
        Self::Own(Arc::new(items))
    }
}

impl<T: Item> Default for Array<T> {
    fn default() -> Self {
        Vec::new().into()
    }
}

impl<T: Item + PartialEq> PartialEq for Array<T> {
    fn eq(&self, other: &Self) -> bool {
        **self == **other
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lent_numbers_are_those_of_the_bytes_from_any_start() {
        for start in 0..8 {
            let mut bytes = vec![9; start];
            bytes.extend((1..=5u32).flat_map(u32::to_le_bytes));
            let owner: Owner = Arc::new(bytes);
            let words = Words::lent(&owner, start..start + 20);
            assert_eq!(*words, [1, 2, 3, 4, 5], "from {start}");
        }
    }

    #[test]
    fn changing_numbers_leaves_their_clones_and_their_owner_alone() {
        let owner: Owner = Arc::new(bytemuck::cast_slice::<u32, u8>(&[1, 2, 3]).to_vec());
        let lent = Words::lent(&owner, 0..12);
        let mut changed = lent.clone();
        changed.make_mut()[0] = 7;
        let mut again = changed.clone();
        again.make_mut().push(8);
        assert_eq!((&*lent, &*changed, &*again), (&[1, 2, 3][..], &[7, 2, 3][..], &[7, 2, 3, 8][..]));
    }
}
