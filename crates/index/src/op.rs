//! Operations on a collection and their form in the log.
//!
//! An encoded op is `[version u8][crc u32][postcard]`, little-endian, the crc
//! over the postcard bytes. Everything uncertain was settled before: an op
//! holds final ids and vectors. What an op *does* is not here; see `state`.

use serde::{Deserialize, Serialize};
use serde_bytes::ByteBuf;

use crate::error::{Error, Result};
use crate::filter::Filter;
use crate::id::PointId;
use crate::point::{Payload, Point, Vectors};

/// Newest encoding this version writes and reads.
const VERSION: u8 = 1;
const HEADER: usize = 5;

/// Largest encoded op. A request body is smaller; this bounds what replay
/// must hold in memory.
pub(crate) const MAX_OP_BYTES: usize = 256 << 20;

/// Changes that happen together or not at all.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct Op {
    pub(crate) changes: Vec<Change>,
}

#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Change {
    Upsert(Vec<Point>),
    Delete(Vec<PointId>),
    DeleteWhere(Filter),
    /// A point carried over from an older log, with the version it had.
    Keep {
        version: u64,
        point: Point,
    },
}

/// The same for postcard, which cannot hold JSON values.
#[derive(Serialize, Deserialize)]
enum Encoded {
    Upsert(Vec<EncodedPoint>),
    Delete(Vec<PointId>),
    DeleteWhere(ByteBuf),
    Keep(u64, EncodedPoint),
}

#[derive(Serialize, Deserialize)]
struct EncodedPoint {
    id: PointId,
    vectors: Vectors,
    payload: ByteBuf,
}

impl Op {
    pub(crate) fn one(change: Change) -> Self {
        Self { changes: vec![change] }
    }

    pub(crate) fn encode(&self) -> Result<Vec<u8>> {
        let changes: Vec<Encoded> = self.changes.iter().map(Encoded::from).collect();
        let mut bytes = vec![VERSION, 0, 0, 0, 0];
        bytes = postcard::to_extend(&changes, bytes).expect("a vector takes any number of bytes");
        if bytes.len() > MAX_OP_BYTES {
            return Err(Error::TooLarge { bytes: bytes.len(), limit: MAX_OP_BYTES });
        }
        let crc = crc32fast::hash(&bytes[HEADER..]);
        bytes[1..HEADER].copy_from_slice(&crc.to_le_bytes());
        Ok(bytes)
    }

    /// Reads an op back; the error is a reason, the caller knows the place.
    pub(crate) fn decode(bytes: &[u8]) -> Result<Self, String> {
        let Some((header, body)) = bytes.split_at_checked(HEADER) else {
            return Err(format!("{} bytes are too few for an operation", bytes.len()));
        };
        if header[0] != VERSION {
            return Err(format!("operation has encoding {}, this version reads {VERSION}", header[0]));
        }
        let crc = u32::from_le_bytes(header[1..].try_into().expect("the header has four more bytes"));
        if crc != crc32fast::hash(body) {
            return Err("checksum of the operation does not match".to_owned());
        }
        let changes: Vec<Encoded> = postcard::from_bytes(body).map_err(|error| error.to_string())?;
        let changes = changes.into_iter().map(Change::try_from).collect::<Result<_, _>>();
        Ok(Self { changes: changes.map_err(|error| error.to_string())? })
    }
}

impl From<&Change> for Encoded {
    fn from(change: &Change) -> Self {
        match change {
            Change::Upsert(points) => Self::Upsert(points.iter().map(EncodedPoint::from).collect()),
            Change::Delete(ids) => Self::Delete(ids.clone()),
            Change::DeleteWhere(filter) => Self::DeleteWhere(json(filter)),
            Change::Keep { version, point } => Self::Keep(*version, point.into()),
        }
    }
}

impl TryFrom<Encoded> for Change {
    type Error = serde_json::Error;

    fn try_from(encoded: Encoded) -> Result<Self, serde_json::Error> {
        Ok(match encoded {
            Encoded::Upsert(points) => {
                Self::Upsert(points.into_iter().map(Point::try_from).collect::<Result<_, _>>()?)
            }
            Encoded::Delete(ids) => Self::Delete(ids),
            Encoded::DeleteWhere(filter) => Self::DeleteWhere(serde_json::from_slice(&filter)?),
            Encoded::Keep(version, point) => Self::Keep { version, point: point.try_into()? },
        })
    }
}

impl From<&Point> for EncodedPoint {
    fn from(point: &Point) -> Self {
        let payload = if point.payload.is_empty() { ByteBuf::new() } else { json(&point.payload) };
        Self { id: point.id, vectors: point.vectors.clone(), payload }
    }
}

impl TryFrom<EncodedPoint> for Point {
    type Error = serde_json::Error;

    fn try_from(encoded: EncodedPoint) -> Result<Self, serde_json::Error> {
        let payload = if encoded.payload.is_empty() {
            Payload::new()
        } else {
            serde_json::from_slice(&encoded.payload)?
        };
        Ok(Self { id: encoded.id, vectors: encoded.vectors, payload })
    }
}

fn json(value: &impl Serialize) -> ByteBuf {
    ByteBuf::from(serde_json::to_vec(value).expect("keys are strings and numbers finite"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn sample() -> Op {
        let point = Point::new(7, vec![0.25, -1.5])
            .with_payload(json!({"b": 1, "a": [1.5, null], "big": u64::MAX}))
            .unwrap();
        Op {
            changes: vec![
                Change::Upsert(vec![point.clone()]),
                Change::Delete(vec![PointId::Num(1)]),
                Change::DeleteWhere(
                    serde_json::from_value(json!({"must": [{"key": "a", "range": {"lt": 2.0}}]})).unwrap(),
                ),
                Change::Keep { version: 9, point },
            ],
        }
    }

    #[test]
    fn ops_come_back_from_the_log_as_they_went_in() {
        let op = sample();
        assert_eq!(Op::decode(&op.encode().unwrap()).unwrap(), op);
    }

    #[test]
    fn a_cut_or_a_flipped_bit_is_noticed() {
        let bytes = sample().encode().unwrap();
        for end in 0..bytes.len() {
            assert!(Op::decode(&bytes[..end]).is_err(), "cut at {end}");
        }
        for bit in 0..bytes.len() * 8 {
            let mut damaged = bytes.clone();
            damaged[bit / 8] ^= 1 << (bit % 8);
            assert!(Op::decode(&damaged).is_err(), "bit {bit}");
        }
    }
}
