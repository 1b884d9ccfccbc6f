//! Operations on a collection and their form in the log.
//!
//! An encoded op is `[version u8][crc u32][postcard]`, little-endian, the crc
//! over the postcard bytes. Version 3 differs from 2 by points with labels; an
//! op without any is written as 2, which earlier programs read. Everything uncertain was settled before: an op
//! holds final ids and vectors. What an op *does* is not here; see `state`.

use std::borrow::Cow;

use postcard::experimental::serialized_size;
use serde::{Deserialize, Serialize};
use serde_bytes::ByteBuf;

use crate::config::ConfigChange;
use crate::error::{Error, Result};
use crate::filter::Filter;
use crate::id::PointId;
use crate::path::Path;
use crate::point::{Expiry, Payload, Point};
use crate::vector::{MultiVector, SparseVector, Vector, Vectors};

/// Encoding of an op without labels, and of one with some.
const VERSION: u8 = 2;
const LABELLED: u8 = 3;
const HEADER: usize = 5;

/// Largest encoded op. A request body is smaller; this bounds what replay
/// must hold in memory.
pub(crate) const MAX_OP_BYTES: usize = 256 << 20;

/// Changes that happen together or not at all.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct Op {
    /// The clock when the op was made: what had expired then is not there.
    pub(crate) at_ms: u64,
    pub(crate) changes: Vec<Change>,
}

#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Change {
    Upsert {
        points: Vec<Point>,
        when: When,
    },
    Delete(Selection),
    UpdateVectors {
        points: Vec<(PointId, Vectors)>,
        filter: Option<Filter>,
    },
    DeleteVectors {
        of: Selection,
        names: Vec<String>,
    },
    /// Merges a payload into the one there, at a path or at the top.
    SetPayload {
        of: Selection,
        payload: Payload,
        at: Option<Path>,
    },
    /// Puts a payload in place of the one there.
    ReplacePayload {
        of: Selection,
        payload: Payload,
    },
    DeletePayload {
        of: Selection,
        paths: Vec<Path>,
    },
    SetExpiry {
        ids: Vec<PointId>,
        expiry: Option<Expiry>,
    },
    Configure(ConfigChange),
}

/// Which points of an upsert are written.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct When {
    /// New points, existing points, or both.
    pub mode: WriteMode,
    /// An existing point is replaced only if it matches before the write.
    pub filter: Option<Filter>,
}

/// Which points of an upsert are written, by whether their id is there.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum WriteMode {
    /// All of them.
    #[default]
    Upsert,
    /// Those whose id is new.
    InsertOnly,
    /// Those whose id is there.
    UpdateOnly,
}

/// The points a change is about.
#[derive(Debug, Clone, PartialEq)]
pub enum Selection {
    /// These; what is not there is passed over.
    Ids(Vec<PointId>),
    /// All that match.
    Filter(Filter),
}

impl From<Vec<PointId>> for Selection {
    fn from(ids: Vec<PointId>) -> Self {
        Self::Ids(ids)
    }
}

impl From<Filter> for Selection {
    fn from(filter: Filter) -> Self {
        Self::Filter(filter)
    }
}

/// The same for postcard, which cannot hold JSON values, and in which a list of
/// numbers is faster as bytes.
#[derive(Serialize, Deserialize)]
enum Encoded<'a> {
    Upsert(#[serde(borrow)] Vec<EncodedPoint<'a>>, WriteMode, Option<ByteBuf>),
    Delete(EncodedSelection),
    UpdateVectors(#[serde(borrow)] Vec<(PointId, EncodedVectors<'a>)>, Option<ByteBuf>),
    DeleteVectors(EncodedSelection, Vec<String>),
    SetPayload(EncodedSelection, ByteBuf, Option<String>),
    ReplacePayload(EncodedSelection, ByteBuf),
    DeletePayload(EncodedSelection, Vec<String>),
    SetExpiry(Vec<PointId>, Option<Expiry>),
    Configure(ByteBuf),
    /// As an upsert, with the labels of some of the points by their place.
    UpsertLabelled(
        #[serde(borrow)] Vec<EncodedPoint<'a>>,
        WriteMode,
        Option<ByteBuf>,
        #[serde(borrow)] Vec<(usize, &'a str)>,
    ),
}

#[derive(Serialize, Deserialize)]
enum EncodedSelection {
    Ids(Vec<PointId>),
    Filter(ByteBuf),
}

#[derive(Serialize, Deserialize)]
struct EncodedPoint<'a> {
    id: PointId,
    #[serde(borrow)]
    vectors: EncodedVectors<'a>,
    payload: ByteBuf,
    expiry: Option<Expiry>,
}

type EncodedVectors<'a> = Vec<(Cow<'a, str>, EncodedVector<'a>)>;

/// Numbers are little-endian.
#[derive(Serialize, Deserialize)]
enum EncodedVector<'a> {
    Dense(#[serde(borrow, with = "serde_bytes")] Cow<'a, [u8]>),
    Multi(usize, #[serde(borrow, with = "serde_bytes")] Cow<'a, [u8]>),
    Sparse(
        #[serde(borrow, with = "serde_bytes")] Cow<'a, [u8]>,
        #[serde(borrow, with = "serde_bytes")] Cow<'a, [u8]>,
    ),
}

impl Op {
    pub(crate) fn new(changes: Vec<Change>) -> Self {
        Self { at_ms: crate::point::now_ms(), changes }
    }

    pub(crate) fn one(change: Change) -> Self {
        Self::new(vec![change])
    }

    pub(crate) fn encode(&self) -> Result<Vec<u8>> {
        self.changes.iter().try_for_each(Change::check_kept)?;
        let changes: Vec<Encoded<'_>> = self.changes.iter().map(Encoded::from).collect();
        let encoding = encoding_of(&changes);
        let body = (self.at_ms, changes);
        // A vector that grows would take twice the memory, and copy what it has.
        let size = serialized_size(&body).expect("every size can be counted");
        let mut bytes = Vec::with_capacity(HEADER + size);
        bytes.extend([encoding, 0, 0, 0, 0]);
        bytes = postcard::to_extend(&body, bytes).expect("a vector takes any number of bytes");
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
        if ![VERSION, LABELLED].contains(&header[0]) {
            return Err(format!(
                "operation has encoding {}, this version reads {VERSION} and {LABELLED}",
                header[0]
            ));
        }
        let crc = u32::from_le_bytes(header[1..].try_into().expect("the header has four more bytes"));
        if crc != crc32fast::hash(body) {
            return Err("checksum of the operation does not match".to_owned());
        }
        let (at_ms, changes): (u64, Vec<Encoded<'_>>) =
            postcard::from_bytes(body).map_err(|error| error.to_string())?;
        // The checksum does not cover it.
        if encoding_of(&changes) != header[0] {
            return Err(format!("operation has not the encoding {} that it says", header[0]));
        }
        let changes = changes.into_iter().map(Change::try_from).collect::<Result<_, String>>()?;
        Ok(Self { at_ms, changes })
    }
}

fn encoding_of(changes: &[Encoded<'_>]) -> u8 {
    let labelled = changes.iter().any(|change| matches!(change, Encoded::UpsertLabelled(..)));
    if labelled { LABELLED } else { VERSION }
}

impl Change {
    /// Refuses what would not come back from the log as it is.
    fn check_kept(&self) -> Result<()> {
        let filter = match self {
            Self::Upsert { when: When { filter, .. }, .. } | Self::UpdateVectors { filter, .. } => {
                filter.as_ref()
            }
            Self::Delete(of)
            | Self::DeleteVectors { of, .. }
            | Self::SetPayload { of, .. }
            | Self::ReplacePayload { of, .. }
            | Self::DeletePayload { of, .. } => match of {
                Selection::Filter(filter) => Some(filter),
                Selection::Ids(_) => None,
            },
            Self::SetExpiry { .. } => None,
            Self::Configure(change) => return check_kept(change).map_err(Error::Request),
        };
        filter.map_or(Ok(()), |filter| check_kept(filter).map_err(Error::Filter))
    }
}

/// Checks that a value comes back from JSON as it is: numbers that are not
/// finite do not, nor does what nests deeper than JSON is read.
pub(crate) fn check_kept<T: Serialize + serde::de::DeserializeOwned + PartialEq>(
    value: &T,
) -> Result<(), String> {
    match from_json::<T>(&json(value)) {
        Ok(kept) if kept == *value => Ok(()),
        Ok(_) => Err("it holds a number that is not finite".to_owned()),
        Err(reason) => Err(format!("the log could not keep it: {reason}")),
    }
}

impl<'a> From<&'a Change> for Encoded<'a> {
    fn from(change: &'a Change) -> Self {
        match change {
            Change::Upsert { points, when } => {
                let labels = points.iter().enumerate();
                let labels: Vec<_> =
                    labels.filter_map(|(place, point)| Some((place, point.label.as_deref()?))).collect();
                let points = points.iter().map(EncodedPoint::from).collect();
                let filter = when.filter.as_ref().map(json);
                if labels.is_empty() {
                    Self::Upsert(points, when.mode, filter)
                } else {
                    Self::UpsertLabelled(points, when.mode, filter, labels)
                }
            }
            Change::Delete(of) => Self::Delete(of.into()),
            Change::UpdateVectors { points, filter } => Self::UpdateVectors(
                points.iter().map(|(id, vectors)| (*id, encode_vectors(vectors))).collect(),
                filter.as_ref().map(json),
            ),
            Change::DeleteVectors { of, names } => Self::DeleteVectors(of.into(), names.clone()),
            Change::SetPayload { of, payload, at } => {
                Self::SetPayload(of.into(), json(payload), at.as_ref().map(|at| at.as_str().to_owned()))
            }
            Change::ReplacePayload { of, payload } => Self::ReplacePayload(of.into(), json(payload)),
            Change::DeletePayload { of, paths } => {
                Self::DeletePayload(of.into(), paths.iter().map(|path| path.as_str().to_owned()).collect())
            }
            Change::SetExpiry { ids, expiry } => Self::SetExpiry(ids.clone(), *expiry),
            Change::Configure(change) => Self::Configure(json(change)),
        }
    }
}

impl TryFrom<Encoded<'_>> for Change {
    type Error = String;

    fn try_from(encoded: Encoded<'_>) -> Result<Self, String> {
        let filter = |bytes: Option<ByteBuf>| bytes.map(|bytes| from_json(&bytes)).transpose();
        Ok(match encoded {
            Encoded::Upsert(points, mode, when) => Self::Upsert {
                points: points.into_iter().map(Point::try_from).collect::<Result<_, String>>()?,
                when: When { mode, filter: filter(when)? },
            },
            Encoded::UpsertLabelled(points, mode, when, labels) => {
                let points = points.into_iter().map(Point::try_from);
                let mut points = points.collect::<Result<Vec<_>, String>>()?;
                for (place, label) in labels {
                    let point = points.get_mut(place).ok_or("a label is that of no point")?;
                    point.label = Some(label.into());
                }
                Self::Upsert { points, when: When { mode, filter: filter(when)? } }
            }
            Encoded::Delete(of) => Self::Delete(of.try_into()?),
            Encoded::UpdateVectors(points, when) => {
                let decode = |(id, vectors)| Ok((id, decode_vectors(vectors)?));
                Self::UpdateVectors {
                    points: points.into_iter().map(decode).collect::<Result<_, String>>()?,
                    filter: filter(when)?,
                }
            }
            Encoded::DeleteVectors(of, names) => Self::DeleteVectors { of: of.try_into()?, names },
            Encoded::SetPayload(of, payload, at) => Self::SetPayload {
                of: of.try_into()?,
                payload: from_json(&payload)?,
                at: at.as_deref().map(parse).transpose()?,
            },
            Encoded::ReplacePayload(of, payload) => {
                Self::ReplacePayload { of: of.try_into()?, payload: from_json(&payload)? }
            }
            Encoded::DeletePayload(of, paths) => Self::DeletePayload {
                of: of.try_into()?,
                paths: paths.iter().map(|path| parse(path)).collect::<Result<_, String>>()?,
            },
            Encoded::SetExpiry(ids, expiry) => Self::SetExpiry { ids, expiry },
            Encoded::Configure(change) => Self::Configure(from_json(&change)?),
        })
    }
}

impl From<&Selection> for EncodedSelection {
    fn from(selection: &Selection) -> Self {
        match selection {
            Selection::Ids(ids) => Self::Ids(ids.clone()),
            Selection::Filter(filter) => Self::Filter(json(filter)),
        }
    }
}

impl TryFrom<EncodedSelection> for Selection {
    type Error = String;

    fn try_from(encoded: EncodedSelection) -> Result<Self, String> {
        Ok(match encoded {
            EncodedSelection::Ids(ids) => Self::Ids(ids),
            EncodedSelection::Filter(filter) => Self::Filter(from_json(&filter)?),
        })
    }
}

impl<'a> From<&'a Point> for EncodedPoint<'a> {
    fn from(point: &'a Point) -> Self {
        let payload = if point.payload.is_empty() { ByteBuf::new() } else { json(&point.payload) };
        Self { id: point.id, vectors: encode_vectors(&point.vectors), payload, expiry: point.expiry }
    }
}

impl TryFrom<EncodedPoint<'_>> for Point {
    type Error = String;

    fn try_from(encoded: EncodedPoint<'_>) -> Result<Self, String> {
        let payload = if encoded.payload.is_empty() { Payload::new() } else { from_json(&encoded.payload)? };
        let vectors = decode_vectors(encoded.vectors)?;
        Ok(Self { id: encoded.id, label: None, vectors, payload, expiry: encoded.expiry })
    }
}

fn encode_vectors(vectors: &Vectors) -> EncodedVectors<'_> {
    vectors.iter().map(|(name, vector)| (Cow::Borrowed(name.as_str()), encode_vector(vector))).collect()
}

fn encode_vector(vector: &Vector) -> EncodedVector<'_> {
    match vector {
        Vector::Dense(values) => EncodedVector::Dense(to_bytes(values)),
        Vector::Multi(rows) => EncodedVector::Multi(rows.dim(), to_bytes(rows.values())),
        Vector::Sparse(sparse) => {
            EncodedVector::Sparse(to_bytes(sparse.indices()), to_bytes(sparse.values()))
        }
    }
}

fn decode_vectors(encoded: EncodedVectors<'_>) -> Result<Vectors, String> {
    encoded.into_iter().map(|(name, vector)| Ok((name.into_owned(), decode_vector(&vector)?))).collect()
}

fn decode_vector(encoded: &EncodedVector<'_>) -> Result<Vector, String> {
    Ok(match encoded {
        EncodedVector::Dense(values) => Vector::Dense(from_bytes(values)?),
        EncodedVector::Multi(dim, values) => {
            MultiVector::new(*dim, from_bytes(values)?).map_err(|error| error.to_string())?.into()
        }
        EncodedVector::Sparse(indices, values) => {
            let (indices, values) = (from_bytes::<u32>(indices)?, from_bytes::<f32>(values)?);
            SparseVector::new(indices.into_iter().zip(values)).map_err(|error| error.to_string())?.into()
        }
    })
}

#[cfg(target_endian = "big")]
compile_error!("files and logs hold little-endian numbers as they lie in memory");

fn to_bytes<T: bytemuck::Pod>(numbers: &[T]) -> Cow<'_, [u8]> {
    Cow::Borrowed(bytemuck::cast_slice(numbers))
}

fn from_bytes<T: bytemuck::Pod>(bytes: &[u8]) -> Result<Vec<T>, String> {
    if !bytes.len().is_multiple_of(size_of::<T>()) {
        return Err("a list of numbers is cut".to_owned());
    }
    Ok(bytes.chunks_exact(size_of::<T>()).map(bytemuck::pod_read_unaligned).collect())
}

fn parse(path: &str) -> Result<Path, String> {
    path.parse().map_err(|error: Error| error.to_string())
}

fn from_json<T: serde::de::DeserializeOwned>(bytes: &[u8]) -> Result<T, String> {
    serde_json::from_slice(bytes).map_err(|error| error.to_string())
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
            .with_vector("s", SparseVector::new([(9, 0.5), (2, 1.0)]).unwrap())
            .with_vector("m", MultiVector::new(2, vec![1.0, 2.0, 3.0, 4.0]).unwrap())
            .with_payload(json!({"b": 1, "a": [1.5, null], "big": u64::MAX}))
            .unwrap()
            .with_expiry(Expiry { at_ms: 5, renew_ms: 6 });
        let filter: Filter =
            serde_json::from_value(json!({"must": [{"key": "a", "range": {"lt": 2.0}}]})).unwrap();
        let of = || Selection::Filter(filter.clone());
        let ids = || Selection::Ids(vec![PointId::Num(1)]);
        Op {
            at_ms: 77,
            changes: vec![
                Change::Upsert {
                    points: vec![point.clone(), Point::new("quarry/7", vec![0.5]), Point::new("", vec![0.5])],
                    when: When { mode: WriteMode::InsertOnly, filter: Some(filter.clone()) },
                },
                Change::Delete(of()),
                Change::UpdateVectors { points: vec![(point.id, point.vectors.clone())], filter: None },
                Change::DeleteVectors { of: ids(), names: vec!["s".to_owned()] },
                Change::SetPayload { of: of(), payload: point.payload.clone(), at: "a.b".parse().ok() },
                Change::ReplacePayload { of: ids(), payload: point.payload.clone() },
                Change::DeletePayload { of: ids(), paths: vec!["a[].c".parse().unwrap()] },
                Change::SetExpiry { ids: vec![point.id], expiry: point.expiry },
                Change::Configure(ConfigChange::DropVector("s".to_owned())),
                Change::Configure(ConfigChange::StringIds),
            ],
        }
    }

    #[test]
    fn ops_come_back_from_the_log_as_they_went_in() {
        let op = sample();
        assert_eq!(Op::decode(&op.encode().unwrap()).unwrap(), op);
    }

    #[test]
    fn only_an_op_with_labels_needs_the_newer_encoding() {
        let encoded = |point: Point| {
            let op = Op::one(Change::Upsert { points: vec![point], when: When::default() });
            let bytes = op.encode().unwrap();
            assert_eq!(Op::decode(&bytes).unwrap(), op);
            bytes[0]
        };
        assert_eq!(encoded(Point::new(1, vec![0.5])), VERSION);
        assert_eq!(encoded(Point::new("quarry/7", vec![0.5])), LABELLED);
    }

    #[test]
    fn an_op_that_was_logged_before_there_were_labels_is_read() {
        // An upsert of point 7 with the vector [0.5] and the payload {"a":1}, made at 77.
        let body = [
            77, 1, 0, 1, 0, 7, 1, 0, 0, 4, 0, 0, 0, 0x3f, 7, b'{', b'"', b'a', b'"', b':', b'1', b'}', 0, 0,
            0,
        ];
        let mut bytes = vec![2];
        bytes.extend(crc32fast::hash(&body).to_le_bytes());
        bytes.extend(body);
        let point = Point::new(7, vec![0.5]).with_payload(json!({"a": 1})).unwrap();
        let changes = vec![Change::Upsert { points: vec![point], when: When::default() }];
        assert_eq!(Op::decode(&bytes).unwrap(), Op { at_ms: 77, changes });
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
