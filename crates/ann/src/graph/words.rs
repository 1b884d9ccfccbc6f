//! The arrays of a graph: its own, or lying in the bytes of a file.
//!
//! A clone shares the numbers. Only an array of one's own is changed in place;
//! another is copied first.

use std::ops::{Deref, Range};
use std::sync::Arc;

/// Whatever holds the bytes of a file, a mapping or a buffer.
pub(super) type Owner = Arc<dyn AsRef<[u8]> + Send + Sync>;

/// An array of `u32`.
///
/// Looking into lent bytes asks their owner for them; a loop does it once.
#[derive(Clone)]
pub(super) enum Words {
    Own(Arc<Vec<u32>>),
    /// `range` is whole, in order and aligned, as `lent` has checked.
    Lent {
        owner: Owner,
        range: Range<usize>,
    },
}

impl Words {
    /// The little-endian numbers at `range` of the owner's bytes, where they
    /// are if this machine can read them there, else copied.
    ///
    /// # Panics
    /// If the range is not within the bytes.
    pub(super) fn lent(owner: &Owner, range: Range<usize>) -> Self {
        let bytes = &(**owner).as_ref()[range.clone()];
        if cfg!(target_endian = "little") && bytemuck::try_cast_slice::<u8, u32>(bytes).is_ok() {
            return Self::Lent { owner: Arc::clone(owner), range };
        }
        bytes.as_chunks().0.iter().map(|&word| u32::from_le_bytes(word)).collect::<Vec<u32>>().into()
    }

    /// The numbers, to be changed.
    pub(super) fn make_mut(&mut self) -> &mut Vec<u32> {
        if let Self::Lent { .. } = self {
            *self = self.to_vec().into();
        }
        match self {
            Self::Own(words) => Arc::make_mut(words),
            Self::Lent { .. } => unreachable!("it was copied above"),
        }
    }
}

impl Deref for Words {
    type Target = [u32];

    fn deref(&self) -> &[u32] {
        match self {
            Self::Own(words) => words,
            Self::Lent { owner, range } => bytemuck::cast_slice(&(**owner).as_ref()[range.clone()]),
        }
    }
}

impl From<Vec<u32>> for Words {
    fn from(words: Vec<u32>) -> Self {
        Self::Own(Arc::new(words))
    }
}

impl Default for Words {
    fn default() -> Self {
        Vec::new().into()
    }
}

impl PartialEq for Words {
    fn eq(&self, other: &Self) -> bool {
        **self == **other
    }
}

impl Eq for Words {}

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
