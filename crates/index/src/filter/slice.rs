//! One of equal parts of all ids, cut by a hash that every implementation of
//! the protocol shares, so that readers can divide a collection among them.

use std::hash::Hasher;

use serde::{Deserialize, Serialize};
use siphasher::sip::SipHasher24;

use crate::error::Error;
use crate::id::PointId;

/// The ids whose hash leaves `index` when divided by `total`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "WrittenSlice")]
pub struct Slice {
    total: u32,
    index: u32,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct WrittenSlice {
    total: u32,
    index: u32,
}

impl TryFrom<WrittenSlice> for Slice {
    type Error = Error;

    fn try_from(slice: WrittenSlice) -> Result<Self, Error> {
        Self::new(slice.total, slice.index)
    }
}

impl Slice {
    /// Part `index`, from 0, of `total` parts.
    ///
    /// # Errors
    /// [`Error::Filter`] unless `index` is less than `total`.
    pub fn new(total: u32, index: u32) -> Result<Self, Error> {
        if index >= total {
            let reason = format!("slice index {index} must be less than the total of {total} slices");
            return Err(Error::Filter(reason));
        }
        Ok(Self { total, index })
    }

    /// In how many parts the ids are cut.
    pub(crate) fn total(self) -> u32 {
        self.total
    }

    /// Whether an id belongs to this part.
    pub fn contains(self, id: PointId) -> bool {
        let mut hasher = SipHasher24::new();
        match id {
            PointId::Num(number) => hasher.write(&number.to_le_bytes()),
            PointId::Uuid(uuid) => hasher.write(uuid.as_bytes()),
        }
        hasher.finish() % u64::from(self.total) == u64::from(self.index)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slices_part_the_ids_evenly_and_none_is_in_two() {
        let mut counts = [0; 4];
        for number in 0..4_000u64 {
            let uuid = PointId::Uuid(uuid::Uuid::from_u128(u128::from(number) << 64));
            for id in [PointId::Num(number), uuid] {
                let of: Vec<u32> =
                    (0..4).filter(|index| Slice::new(4, *index).unwrap().contains(id)).collect();
                assert_eq!(of.len(), 1);
                counts[of[0] as usize] += 1;
            }
        }
        assert!(counts.iter().all(|count| (1_800..2_200).contains(count)), "{counts:?}");
        assert!(Slice::new(4, 4).is_err() && Slice::new(0, 0).is_err());
    }

    #[test]
    fn the_hash_is_siphash_2_4_with_a_zero_key() {
        // The published vector of the hash for an empty message and this key
        // is 0x1e924b9d737700d7; the rest follows from the definition.
        assert_eq!(SipHasher24::new().finish(), 0x1e92_4b9d_7377_00d7);
    }
}
