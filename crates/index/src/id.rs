//! The user's name for a point: an unsigned integer or a UUID.
//!
//! Numbers sort before UUIDs, numbers by value and UUIDs by bytes; scrolling
//! follows this order. Other strings stand for UUIDs, see `label`.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer};
use uuid::Uuid;

use crate::error::Error;

/// The id of a point, chosen by the user.
///
/// ```
/// use cairn_index::PointId;
///
/// let id: PointId = "936DA01F-9ABD-4D9D-80C7-02AF85C822A8".parse()?;
/// assert_eq!(id.to_string(), "936da01f-9abd-4d9d-80c7-02af85c822a8");
/// assert!(PointId::from(u64::MAX) < id);
/// # Ok::<(), cairn_index::Error>(())
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum PointId {
    /// An unsigned integer.
    Num(u64),
    /// A UUID, accepted in any spelling, shown in lower case with hyphens.
    Uuid(Uuid),
}

impl From<u64> for PointId {
    fn from(id: u64) -> Self {
        Self::Num(id)
    }
}

impl From<Uuid> for PointId {
    fn from(id: Uuid) -> Self {
        Self::Uuid(id)
    }
}

impl fmt::Display for PointId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Num(id) => id.fmt(f),
            Self::Uuid(id) => id.hyphenated().fmt(f),
        }
    }
}

impl FromStr for PointId {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        if let Ok(number) = text.parse::<u64>() {
            return Ok(Self::Num(number));
        }
        Uuid::parse_str(text).map(Self::Uuid).map_err(|_| Error::PointId(text.to_owned()))
    }
}

// JSON tells numbers and strings apart; the compact log format cannot, so it
// gets a tagged form.
impl Serialize for PointId {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        if serializer.is_human_readable() {
            match self {
                Self::Num(id) => serializer.serialize_u64(*id),
                Self::Uuid(id) => serializer.collect_str(&id.hyphenated()),
            }
        } else {
            let tagged = match self {
                Self::Num(id) => Tagged::Num(*id),
                Self::Uuid(id) => Tagged::Uuid(id.as_u128()),
            };
            tagged.serialize(serializer)
        }
    }
}

impl<'de> Deserialize<'de> for PointId {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        if deserializer.is_human_readable() {
            crate::label::read_id(deserializer)
        } else {
            Ok(match Tagged::deserialize(deserializer)? {
                Tagged::Num(id) => Self::Num(id),
                Tagged::Uuid(id) => Self::Uuid(Uuid::from_u128(id)),
            })
        }
    }
}

#[derive(Serialize, Deserialize)]
enum Tagged {
    Num(u64),
    Uuid(u128),
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_spelling_of_a_uuid_is_the_same_id() {
        let want: PointId = "936da01f-9abd-4d9d-80c7-02af85c822a8".parse().unwrap();
        for text in [
            "936DA01F-9ABD-4D9D-80C7-02AF85C822A8",
            "936da01f9abd4d9d80c702af85c822a8",
            "{936da01f-9abd-4d9d-80c7-02af85c822a8}",
            "urn:uuid:936da01f-9abd-4d9d-80c7-02af85c822a8",
        ] {
            assert_eq!(text.parse::<PointId>().unwrap(), want);
        }
    }

    #[test]
    fn ids_keep_their_kind_through_json_and_the_log() {
        for id in [PointId::Num(7), PointId::Num(u64::MAX), PointId::Uuid(Uuid::from_u128(9))] {
            let json = serde_json::to_string(&id).unwrap();
            assert_eq!(serde_json::from_str::<PointId>(&json).unwrap(), id);
            let bytes = postcard::to_stdvec(&id).unwrap();
            assert_eq!(postcard::from_bytes::<PointId>(&bytes).unwrap(), id);
        }
    }

    #[test]
    fn what_is_neither_number_nor_uuid_is_refused_by_name() {
        for json in ["-1", "\"x\"", "1.5", "true", "\"12\""] {
            assert!(serde_json::from_str::<PointId>(json).is_err(), "{json}");
        }
    }
}
