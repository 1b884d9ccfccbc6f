//! A part of a collection: rows, which of them are live, and what was derived
//! from them. A clone is a picture of the part at one moment.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::sync::Arc;

use cairn_ann::{Graph, Rows};

use crate::bits::Bits;
use crate::collection::StoredBytes;
use crate::error::{Error, Result};
use crate::fields::FieldIndex;
use crate::growing::{DenseColumn, Growing};
use crate::id::PointId;
use crate::path::Path;
use crate::plan::FilterPart;
use crate::point::{Expiry, Payload};
use crate::schema::{FieldSchema, Schema};
use crate::segment::{MappedRows, Segment};
use crate::sparse::Inverted;
use crate::vector::Vector;

/// Which vector of a name is meant: one that was dropped and added again is
/// another one, and segments may still hold the first.
pub(crate) type VectorUids = BTreeMap<String, u64>;

#[derive(Clone)]
pub(crate) struct Part {
    /// Names the part, also when its place among the others changes. That of a
    /// segment is the number of its file.
    pub(crate) number: u64,
    pub(crate) rows: PartRows,
    pub(crate) marks: Marks,
    pub(crate) derived: Derived,
}

#[derive(Clone)]
pub(crate) enum PartRows {
    Growing(Growing),
    Sealed(Arc<Segment>),
}

/// What changes about rows that do not change.
#[derive(Clone, Default)]
pub(crate) struct Marks {
    /// Rows that were neither deleted nor replaced.
    pub(crate) live: Arc<Bits>,
    /// Expiries set after the row was written.
    pub(crate) expiries: Arc<BTreeMap<u32, Option<Expiry>>>,
}

impl Marks {
    pub(crate) fn same(&self, other: &Self) -> bool {
        (Arc::ptr_eq(&self.live, &other.live) || *self.live == *other.live)
            && (Arc::ptr_eq(&self.expiries, &other.expiries) || self.expiries == other.expiries)
    }
}

/// Caches of the rows of a segment, by the name of the vector or the path of
/// the field, each with what it was made for: what was made for other settings
/// counts as missing. What is missing is being built; searches do without.
#[derive(Clone, Default)]
pub(crate) struct Derived {
    graphs: Arc<BTreeMap<String, (u64, Arc<Graph>)>>,
    sparse: Arc<BTreeMap<String, (u64, Arc<Inverted>)>>,
    fields: Arc<BTreeMap<String, (FieldSchema, Arc<FieldIndex>)>>,
}

impl Derived {
    pub(crate) fn graph(&self, name: &str, uid: u64) -> Option<&Graph> {
        self.graphs.get(name).filter(|(made_for, _)| *made_for == uid).map(|(_, graph)| &**graph)
    }

    pub(crate) fn sparse(&self, name: &str, uid: u64) -> Option<&Inverted> {
        self.sparse.get(name).filter(|(made_for, _)| *made_for == uid).map(|(_, index)| &**index)
    }

    pub(crate) fn field(&self, path: &str, schema: &FieldSchema) -> Option<&FieldIndex> {
        self.fields.get(path).filter(|(made_for, _)| made_for == schema).map(|(_, index)| &**index)
    }

    pub(crate) fn has_graphs(&self) -> bool {
        !self.graphs.is_empty()
    }

    /// Gives back the one it had.
    pub(crate) fn set_graph(&mut self, name: &str, uid: u64, graph: Arc<Graph>) -> Option<Arc<Graph>> {
        let before = Arc::make_mut(&mut self.graphs).insert(name.to_owned(), (uid, graph));
        before.map(|(_, graph)| graph)
    }

    pub(crate) fn set_sparse(&mut self, name: &str, uid: u64, index: Arc<Inverted>) {
        Arc::make_mut(&mut self.sparse).insert(name.to_owned(), (uid, index));
    }

    pub(crate) fn set_field(&mut self, path: &str, schema: &FieldSchema, index: Arc<FieldIndex>) {
        Arc::make_mut(&mut self.fields).insert(path.to_owned(), (schema.clone(), index));
    }
}

impl Part {
    pub(crate) fn len(&self) -> u32 {
        match &self.rows {
            PartRows::Growing(growing) => growing.len() as u32,
            PartRows::Sealed(segment) => segment.len(),
        }
    }

    /// Live vectors of a segment that a graph covers.
    pub(crate) fn indexed_vectors(&self) -> usize {
        if self.is_sealed() { self.derived.graphs.len() * self.marks.live.count() } else { 0 }
    }

    /// Bytes of its segment file.
    pub(crate) fn file_bytes(&self) -> u64 {
        match &self.rows {
            PartRows::Growing(_) => 0,
            PartRows::Sealed(segment) => segment.bytes(),
        }
    }

    /// Bytes of its vectors and payloads, those of deleted rows too.
    pub(crate) fn stored_bytes(&self) -> StoredBytes {
        match &self.rows {
            PartRows::Growing(growing) => growing.stored_bytes(),
            PartRows::Sealed(segment) => segment.stored_bytes(),
        }
    }

    pub(crate) fn is_sealed(&self) -> bool {
        matches!(self.rows, PartRows::Sealed(_))
    }

    pub(crate) fn id(&self, slot: u32) -> PointId {
        match &self.rows {
            PartRows::Growing(growing) => growing.id(slot),
            PartRows::Sealed(segment) => segment.id(slot),
        }
    }

    /// The string that the id was made of.
    pub(crate) fn label(&self, slot: u32) -> Option<Arc<str>> {
        match &self.rows {
            PartRows::Growing(growing) => growing.label(slot).cloned(),
            PartRows::Sealed(segment) => segment.label(slot).map(Arc::from),
        }
    }

    pub(crate) fn version(&self, slot: u32) -> u64 {
        match &self.rows {
            PartRows::Growing(growing) => growing.version(slot),
            PartRows::Sealed(segment) => segment.version(slot),
        }
    }

    /// The live row of an id.
    pub(crate) fn find(&self, id: &PointId) -> Option<u32> {
        let slot = match &self.rows {
            PartRows::Growing(growing) => growing.slot_of(id),
            PartRows::Sealed(segment) => segment.slot_of(id),
        };
        slot.filter(|slot| self.marks.live.get(*slot))
    }

    pub(crate) fn has_expiry(&self) -> bool {
        !self.marks.expiries.is_empty()
            || match &self.rows {
                PartRows::Growing(growing) => growing.has_expiry(),
                PartRows::Sealed(segment) => segment.has_expiry(),
            }
    }

    pub(crate) fn expiry(&self, slot: u32) -> Option<Expiry> {
        if let Some(set) = self.marks.expiries.get(&slot) {
            return *set;
        }
        match &self.rows {
            PartRows::Growing(growing) => growing.expiry(slot),
            PartRows::Sealed(segment) => segment.expiry(slot),
        }
    }

    /// Whether the row is live and has not disappeared at `now_ms`.
    pub(crate) fn is_there(&self, slot: u32, now_ms: u64) -> bool {
        self.marks.live.get(slot) && !self.is_expired(slot, now_ms)
    }

    pub(crate) fn is_expired(&self, slot: u32, now_ms: u64) -> bool {
        self.has_expiry() && self.expiry(slot).is_some_and(|expiry| expiry.at_ms <= now_ms)
    }

    pub(crate) fn payload(&self, slot: u32) -> Result<Cow<'_, Payload>> {
        match &self.rows {
            PartRows::Growing(growing) => Ok(Cow::Borrowed(growing.payload(slot))),
            PartRows::Sealed(segment) => segment.payload(slot).map(Cow::Owned).map_err(|r| self.damaged(r)),
        }
    }

    /// The payload as JSON, nothing for an empty one.
    pub(crate) fn payload_json(&self, slot: u32) -> Result<Cow<'_, [u8]>> {
        match &self.rows {
            PartRows::Growing(growing) => {
                let payload = growing.payload(slot);
                if payload.is_empty() {
                    return Ok(Cow::Borrowed(&[]));
                }
                let json = serde_json::to_vec(&**payload);
                Ok(Cow::Owned(json.expect("keys are strings and numbers finite")))
            }
            PartRows::Sealed(segment) => {
                segment.payload_json(slot).map(Cow::Borrowed).map_err(|reason| self.damaged(reason))
            }
        }
    }

    pub(crate) fn vector(&self, slot: u32, name: &str, uids: &VectorUids) -> Option<Cow<'_, Vector>> {
        match &self.rows {
            PartRows::Growing(growing) => growing.vector(slot, name),
            PartRows::Sealed(segment) => segment.vector(slot, name, *uids.get(name)?).map(Cow::Owned),
        }
    }

    /// Slots that have the vector, live or not.
    pub(crate) fn present(&self, name: &str, uids: &VectorUids) -> Option<&Bits> {
        match &self.rows {
            PartRows::Growing(growing) => growing.present(name),
            PartRows::Sealed(segment) => Some(&segment.column(name, *uids.get(name)?)?.present),
        }
    }

    /// The rows of a dense vector that a point has at most once.
    pub(crate) fn dense(&self, name: &str, uids: &VectorUids) -> Option<DenseRows<'_>> {
        match &self.rows {
            PartRows::Growing(growing) => growing.dense(name).map(DenseRows::Growing),
            PartRows::Sealed(segment) => {
                segment.column(name, *uids.get(name)?)?.dense().map(DenseRows::Sealed)
            }
        }
    }

    /// Calls `each` with the slots whose id is at least `from`, in order of id.
    pub(crate) fn ordered(&self, from: Option<PointId>) -> Cow<'_, [u32]> {
        match &self.rows {
            PartRows::Growing(growing) => {
                let live = self.marks.live.iter_from(0);
                let mut ids: Vec<(PointId, u32)> = live
                    .map(|slot| (growing.id(slot), slot))
                    .filter(|(id, _)| from.is_none_or(|from| *id >= from))
                    .collect();
                ids.sort_unstable();
                Cow::Owned(ids.into_iter().map(|(_, slot)| slot).collect())
            }
            PartRows::Sealed(segment) => Cow::Borrowed(segment.ordered(from)),
        }
    }

    fn damaged(&self, reason: String) -> Error {
        Error::Corrupt { what: format!("segment {}", self.number), reason }
    }
}

/// Where dense vectors lie.
#[derive(Clone, Copy)]
pub(crate) enum DenseRows<'p> {
    Growing(&'p DenseColumn),
    Sealed(MappedRows<'p>),
}

impl Rows for DenseRows<'_> {
    fn dim(&self) -> usize {
        match self {
            Self::Growing(rows) => rows.dim(),
            Self::Sealed(rows) => rows.dim(),
        }
    }

    fn len(&self) -> usize {
        match self {
            Self::Growing(rows) => rows.len(),
            Self::Sealed(rows) => rows.len(),
        }
    }

    fn row(&self, slot: u32) -> cairn_ann::Row<'_> {
        match self {
            Self::Growing(rows) => rows.row(slot),
            Self::Sealed(rows) => rows.row(slot),
        }
    }
}

/// A part together with what the collection's names mean, for filters.
#[derive(Clone, Copy)]
pub(crate) struct Filtered<'p> {
    pub(crate) part: &'p Part,
    pub(crate) uids: &'p VectorUids,
    pub(crate) schema: &'p Schema,
}

impl FilterPart for Filtered<'_> {
    fn len(&self) -> u32 {
        self.part.len()
    }

    fn field_index(&self, key: &Path) -> Option<&FieldIndex> {
        self.part.derived.field(key.as_str(), self.schema.get(key.as_str())?)
    }

    fn slot_of(&self, id: &PointId) -> Option<u32> {
        self.part.find(id)
    }

    fn id(&self, slot: u32) -> PointId {
        self.part.id(slot)
    }

    fn payload(&self, slot: u32) -> Cow<'_, Payload> {
        self.part.payload(slot).unwrap_or_else(|error| {
            tracing::error!(%error, slot, "a filter passes over a payload it cannot read");
            Cow::Owned(Payload::new())
        })
    }

    fn vector_slots(&self, name: &str) -> Option<&Bits> {
        self.part.present(name, self.uids)
    }
}
