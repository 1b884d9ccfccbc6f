//! A segment: rows that no longer change, in a mapped file.
//!
//! The file is a container of the kind `segment` with the sections of `ids`,
//! `labels` and `columns`, and: `versions`, u64 a row; `expiry`, two u64 a row, missing when
//! no row disappears; `payload_ends`, u64, where each payload ends in
//! `payloads`, which holds crc32 and JSON of each, nothing for an empty one.
//!
//! Which rows are live is not here; it is in the catalogue's `marks`.

mod columns;
mod container;
mod ids;
mod labels;

use std::borrow::Cow;
use std::path::Path;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

pub(crate) use self::columns::{Column, ColumnInfo, ColumnSource, MappedRows, floats};
pub(crate) use self::container::{Container, Writer};
use self::ids::Ids;
use self::labels::Labels;
use crate::bytes::Bytes;
use crate::collection::StoredBytes;
use crate::error::Result;
use crate::id::PointId;
use crate::point::{Expiry, Payload};
use crate::vector::Vector;

const KIND: &str = "segment";

#[derive(Serialize, Deserialize)]
struct Info {
    rows: u32,
    vectors: Vec<ColumnInfo>,
}

/// Rows to be written, in the order they get their slots.
pub(crate) trait SegmentSource: ColumnSource {
    fn id(&self, row: u32) -> PointId;
    fn label(&self, row: u32) -> Option<Arc<str>>;
    fn version(&self, row: u32) -> u64;
    fn expiry(&self, row: u32) -> Option<Expiry>;
    /// JSON, or nothing for an empty payload.
    fn payload_json(&self, row: u32) -> Result<Cow<'_, [u8]>>;
}

/// Writes a segment file.
pub(crate) fn write(path: &Path, vectors: Vec<ColumnInfo>, source: &dyn SegmentSource) -> Result<()> {
    let mut writer = Writer::create(path)?;
    let rows = source.rows();
    let every = || 0..rows;
    ids::write(&mut writer, &every().map(|row| source.id(row)).collect::<Vec<_>>())?;
    labels::write(&mut writer, rows, &|row| source.label(row))?;
    let versions: Vec<u64> = every().map(|row| source.version(row)).collect();
    writer.section("versions", bytemuck::cast_slice(&versions))?;
    if every().any(|row| source.expiry(row).is_some()) {
        writer.begin("expiry")?;
        for row in every() {
            // 0 means never, so who disappeared at the start of 1970 did so later.
            let expiry = source.expiry(row).map(|expiry| (expiry.at_ms.max(1), expiry.renew_ms));
            let (at_ms, renew_ms) = expiry.unwrap_or((0, 0));
            writer.write(&at_ms.to_le_bytes())?;
            writer.write(&renew_ms.to_le_bytes())?;
        }
    }
    let mut ends = Vec::with_capacity(rows as usize);
    let mut end = 0u64;
    writer.begin("payloads")?;
    for row in every() {
        let json = source.payload_json(row)?;
        if !json.is_empty() {
            writer.write(&crc32fast::hash(&json).to_le_bytes())?;
            writer.write(&json)?;
            end += 4 + json.len() as u64;
        }
        ends.push(end);
    }
    writer.section("payload_ends", bytemuck::cast_slice(&ends))?;
    for (number, info) in vectors.iter().enumerate() {
        columns::write(&mut writer, number, info, source)?;
    }
    let info = serde_json::to_value(Info { rows, vectors }).expect("plain fields");
    writer.finish(KIND, info)
}

/// A mapped segment. Reading it never fails but for payloads, each of which has
/// its own checksum; the values of vectors are checked by [`Segment::verify`].
pub(crate) struct Segment {
    container: Container,
    rows: u32,
    ids: Ids,
    labels: Option<Labels>,
    versions: Bytes,
    expiry: Option<Bytes>,
    payload_ends: Bytes,
    payloads: Bytes,
    columns: Vec<Column>,
}

impl Segment {
    /// Maps a segment; the error is the reason it cannot be used. Reads what
    /// is small and checks it; vectors and payloads are left where they are.
    pub(crate) fn open(path: &Path) -> Result<Self, String> {
        let container = Container::open(path, KIND)?;
        let info: Info =
            serde_json::from_value(container.info().clone()).map_err(|error| error.to_string())?;
        let rows = info.rows as usize;
        let expiry = if container.has("expiry") { Some(container.section("expiry")?) } else { None };
        let columns = info.vectors.into_iter().enumerate();
        let columns = columns.map(|(number, info)| Column::open(&container, number, info, rows));
        let segment = Self {
            rows: info.rows,
            ids: Ids::open(&container, rows)?,
            labels: Labels::open(&container, rows)?,
            versions: container.section("versions")?,
            expiry,
            payload_ends: container.section("payload_ends")?,
            payloads: container.unverified("payloads")?,
            columns: columns.collect::<Result<_, String>>()?,
            container,
        };
        let words =
            |bytes: &Bytes, len: usize| bytes.numbers::<u64>().is_some_and(|words| words.len() == len);
        let ends = segment.payload_ends.numbers::<u64>().unwrap_or_default();
        let fits = words(&segment.versions, rows)
            && segment.expiry.as_ref().is_none_or(|expiry| words(expiry, rows * 2))
            && ends.len() == rows
            && ends.is_sorted()
            && ends.last().copied().unwrap_or(0) == segment.payloads.len() as u64;
        if fits { Ok(segment) } else { Err("its sections do not fit its rows".to_owned()) }
    }

    /// Reads the whole file and compares all checksums, calling `pace` after
    /// every so many bytes; stops without a verdict when that gives false.
    pub(crate) fn verify(&self, pace: &mut dyn FnMut(usize) -> bool) -> Result<(), String> {
        self.container.verify(pace)
    }

    /// Size of the file.
    pub(crate) fn bytes(&self) -> u64 {
        self.container.bytes()
    }

    /// Bytes of its vectors and payloads.
    pub(crate) fn stored_bytes(&self) -> StoredBytes {
        let vectors = self.columns.iter().map(Column::bytes).sum();
        let labels = self.labels.as_ref().map_or(0, Labels::bytes);
        StoredBytes { vectors, payloads: self.payloads.len() as u64 + labels }
    }

    pub(crate) fn len(&self) -> u32 {
        self.rows
    }

    pub(crate) fn id(&self, slot: u32) -> PointId {
        self.ids.id(slot)
    }

    /// The string that the id was made of.
    pub(crate) fn label(&self, slot: u32) -> Option<&str> {
        self.labels.as_ref()?.label(slot)
    }

    pub(crate) fn slot_of(&self, id: &PointId) -> Option<u32> {
        self.ids.slot_of(id)
    }

    /// The slots in order of id, from the first that is not below `from`.
    pub(crate) fn ordered(&self, from: Option<PointId>) -> &[u32] {
        self.ids.ordered(from)
    }

    pub(crate) fn version(&self, slot: u32) -> u64 {
        self.versions.numbers::<u64>().expect("checked when opened")[slot as usize]
    }

    pub(crate) fn has_expiry(&self) -> bool {
        self.expiry.is_some()
    }

    pub(crate) fn expiry(&self, slot: u32) -> Option<Expiry> {
        let words = self.expiry.as_ref()?.numbers::<u64>().expect("checked when opened");
        let (at_ms, renew_ms) = (words[slot as usize * 2], words[slot as usize * 2 + 1]);
        (at_ms != 0).then_some(Expiry { at_ms, renew_ms })
    }

    /// The payload as JSON, empty for an empty one.
    pub(crate) fn payload_json(&self, slot: u32) -> Result<&[u8], String> {
        let ends = self.payload_ends.numbers::<u64>().expect("checked when opened");
        let start = if slot == 0 { 0 } else { ends[slot as usize - 1] };
        let bytes = &self.payloads[start as usize..ends[slot as usize] as usize];
        let Some((crc, json)) = bytes.split_first_chunk::<4>() else { return Ok(&[]) };
        if crc32fast::hash(json) != u32::from_le_bytes(*crc) {
            return Err(format!("the checksum of payload {slot} does not match"));
        }
        Ok(json)
    }

    pub(crate) fn payload(&self, slot: u32) -> Result<Payload, String> {
        let json = self.payload_json(slot)?;
        if json.is_empty() {
            return Ok(Payload::new());
        }
        serde_json::from_slice(json).map_err(|error| error.to_string())
    }

    /// The vector of this name that the collection means now.
    pub(crate) fn column(&self, name: &str, uid: u64) -> Option<&Column> {
        self.columns.iter().find(|column| column.info.name == name && column.info.uid == uid)
    }

    pub(crate) fn vector(&self, slot: u32, name: &str, uid: u64) -> Option<Vector> {
        self.column(name, uid)?.vector(slot)
    }
}
