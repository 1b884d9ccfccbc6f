//! The rows of a collection that are in no segment file yet.
//!
//! Rows are only appended; which of them are live is not here. A clone is a
//! picture of the rows at one moment and costs a few counters.

use std::borrow::Cow;
use std::collections::{BTreeMap, HashMap};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};

use cairn_ann::{Row, Rows, f16};

use crate::bits::Bits;
use crate::chunked::Chunked;
use crate::collection::StoredBytes;
use crate::config::{CollectionConfig, Datatype, VectorConfig};
use crate::id::PointId;
use crate::point::{Expiry, Payload};
use crate::segment::floats;
use crate::vector::{Vector, Vectors};

#[derive(Clone)]
pub(crate) struct Growing {
    rows: Chunked<GrowingRow>,
    dense: BTreeMap<String, DenseColumn>,
    /// Multi-vectors and sparse ones, of any length.
    loose: BTreeMap<String, LooseColumn>,
    has_expiry: bool,
    bytes: usize,
    /// Those of them that payloads and labels take.
    payload_bytes: usize,
    /// Slots by id, made when they are asked for often. A picture taken before
    /// a row was appended has its own.
    lookup: Arc<Lookup>,
}

#[derive(Default)]
struct Lookup {
    asked: AtomicUsize,
    slots: OnceLock<HashMap<PointId, u32>>,
}

/// What a row takes besides vectors and payload.
const ROW_BYTES: usize = 64;

/// Ids are looked for one by one so many times before a table is made.
const FEW: usize = 8;

#[derive(Clone)]
struct GrowingRow {
    id: PointId,
    label: Option<Arc<str>>,
    version: u64,
    payload: Arc<Payload>,
    expiry: Option<Expiry>,
}

/// A row on its way into a part.
pub(crate) struct NewRow {
    pub(crate) id: PointId,
    pub(crate) label: Option<Arc<str>>,
    pub(crate) version: u64,
    pub(crate) vectors: Vectors,
    pub(crate) payload: Arc<Payload>,
    pub(crate) expiry: Option<Expiry>,
}

impl Growing {
    pub(crate) fn new(config: &CollectionConfig) -> Self {
        let mut growing = Self {
            rows: Chunked::new(1),
            dense: BTreeMap::new(),
            loose: BTreeMap::new(),
            has_expiry: false,
            bytes: 0,
            payload_bytes: 0,
            lookup: Arc::default(),
        };
        growing.configure(config);
        growing
    }

    /// Brings the columns in line with the settings. A vector that is new has
    /// no value in the rows that are there.
    pub(crate) fn configure(&mut self, config: &CollectionConfig) {
        let len = self.len();
        self.dense.retain(|name, column| config.vectors.get(name) == Some(&column.config));
        self.loose.retain(|name, column| match config.vectors.get(name) {
            Some(vector) => column.config == Some(*vector),
            None => column.config.is_none() && config.sparse_vectors.contains_key(name),
        });
        for (name, vector) in &config.vectors {
            if vector.multivector {
                let new = || LooseColumn::new(Some(*vector), len);
                self.loose.entry(name.clone()).or_insert_with(new);
            } else {
                self.dense.entry(name.clone()).or_insert_with(|| DenseColumn::new(*vector, len));
            }
        }
        for name in config.sparse_vectors.keys() {
            self.loose.entry(name.clone()).or_insert_with(|| LooseColumn::new(None, len));
        }
    }

    /// Appends a row and returns its slot. Its vectors fit the settings; those
    /// of other names are left out.
    pub(crate) fn push(&mut self, row: NewRow) -> u32 {
        let slot = u32::try_from(self.len()).expect("sealing keeps the rows few");
        let NewRow { id, label, version, mut vectors, payload, expiry } = row;
        for (name, column) in &mut self.dense {
            let values = vectors.get(name).and_then(Vector::as_dense);
            self.bytes += column.push(slot, values);
        }
        for (name, column) in &mut self.loose {
            self.bytes += column.push(slot, vectors.remove(name));
        }
        self.has_expiry |= expiry.is_some();
        let payload_bytes = rough_bytes(&payload) + label.as_ref().map_or(0, |label| label.len());
        self.payload_bytes += payload_bytes;
        self.bytes += ROW_BYTES + payload_bytes;
        self.rows.push([GrowingRow { id, label, version, payload, expiry }]);
        self.lookup = Arc::default();
        slot
    }

    pub(crate) fn len(&self) -> usize {
        self.rows.len()
    }

    /// About how much memory the rows take.
    pub(crate) fn bytes(&self) -> usize {
        self.bytes
    }

    /// About how many bytes the vectors, and the payloads with the labels, have.
    pub(crate) fn stored_bytes(&self) -> StoredBytes {
        let payloads = self.payload_bytes as u64;
        let vectors = (self.bytes - self.payload_bytes - self.len() * ROW_BYTES) as u64;
        StoredBytes { vectors, payloads }
    }

    fn row(&self, slot: u32) -> &GrowingRow {
        &self.rows.get(slot as usize)[0]
    }

    pub(crate) fn id(&self, slot: u32) -> PointId {
        self.row(slot).id
    }

    pub(crate) fn label(&self, slot: u32) -> Option<&Arc<str>> {
        self.row(slot).label.as_ref()
    }

    pub(crate) fn version(&self, slot: u32) -> u64 {
        self.row(slot).version
    }

    pub(crate) fn expiry(&self, slot: u32) -> Option<Expiry> {
        self.row(slot).expiry
    }

    pub(crate) fn has_expiry(&self) -> bool {
        self.has_expiry
    }

    pub(crate) fn payload(&self, slot: u32) -> &Arc<Payload> {
        &self.row(slot).payload
    }

    pub(crate) fn vector(&self, slot: u32, name: &str) -> Option<Cow<'_, Vector>> {
        if let Some(column) = self.dense.get(name) {
            return column.present.get(slot).then(|| Cow::Owned(Vector::Dense(floats(column.row(slot)))));
        }
        self.loose.get(name)?.get(slot).map(Cow::Borrowed)
    }

    /// The newest row of an id, live or not.
    pub(crate) fn slot_of(&self, id: &PointId) -> Option<u32> {
        let every = 0..self.len() as u32;
        if self.lookup.slots.get().is_none() && self.lookup.asked.fetch_add(1, Ordering::Relaxed) < FEW {
            return every.rev().find(|slot| self.id(*slot) == *id);
        }
        let slots = self.lookup.slots.get_or_init(|| every.map(|slot| (self.id(slot), slot)).collect());
        slots.get(id).copied()
    }

    /// A dense column to measure distances in.
    pub(crate) fn dense(&self, name: &str) -> Option<&DenseColumn> {
        self.dense.get(name)
    }

    /// Slots that have a vector of this name.
    pub(crate) fn present(&self, name: &str) -> Option<&Bits> {
        match self.dense.get(name) {
            Some(column) => Some(&column.present),
            None => self.loose.get(name).map(|column| &*column.present),
        }
    }
}

fn rough_bytes(payload: &Payload) -> usize {
    payload.iter().map(|(key, value)| 32 + key.len() + value.as_str().map_or(16, str::len)).sum()
}

/// The values of one dense vector by slot; an absent one takes its room.
#[derive(Clone)]
pub(crate) struct DenseColumn {
    config: VectorConfig,
    values: Values,
    present: Arc<Bits>,
}

#[derive(Clone)]
enum Values {
    F32(Chunked<f32>),
    F16(Chunked<f16>),
    U8(Chunked<u8>),
}

impl DenseColumn {
    fn new(config: VectorConfig, len: usize) -> Self {
        let values = match config.datatype {
            Datatype::Float32 => Values::F32(Chunked::new(config.size)),
            Datatype::Float16 => Values::F16(Chunked::new(config.size)),
            Datatype::Uint8 => Values::U8(Chunked::new(config.size)),
        };
        let mut column = Self { config, values, present: Arc::default() };
        for slot in 0..len as u32 {
            column.push(slot, None);
        }
        column
    }

    fn push(&mut self, slot: u32, vector: Option<&[f32]>) -> usize {
        let absent = vec![0.0; if vector.is_some() { 0 } else { self.config.size }];
        let vector_or_room = vector.unwrap_or(&absent);
        match &mut self.values {
            Values::F32(values) => values.push(vector_or_room.iter().copied()),
            Values::F16(values) => values.push(vector_or_room.iter().map(|value| f16::from_f32(*value))),
            Values::U8(values) => values.push(vector_or_room.iter().map(|value| *value as u8)),
        }
        if vector.is_some() {
            Arc::make_mut(&mut self.present).set(slot, true);
        }
        self.config.size * self.config.datatype.bytes()
    }
}

impl Rows for DenseColumn {
    fn dim(&self) -> usize {
        self.config.size
    }

    fn len(&self) -> usize {
        match &self.values {
            Values::F32(values) => values.len(),
            Values::F16(values) => values.len(),
            Values::U8(values) => values.len(),
        }
    }

    fn row(&self, slot: u32) -> Row<'_> {
        match &self.values {
            Values::F32(values) => Row::F32(values.get(slot as usize)),
            Values::F16(values) => Row::F16(values.get(slot as usize)),
            Values::U8(values) => Row::U8(values.get(slot as usize)),
        }
    }
}

/// Multi-vectors or sparse vectors by slot.
#[derive(Clone)]
struct LooseColumn {
    /// `None` for a sparse vector.
    config: Option<VectorConfig>,
    values: Chunked<Option<Arc<Vector>>>,
    present: Arc<Bits>,
}

impl LooseColumn {
    fn new(config: Option<VectorConfig>, len: usize) -> Self {
        let mut column = Self { config, values: Chunked::new(1), present: Arc::default() };
        for slot in 0..len as u32 {
            column.push(slot, None);
        }
        column
    }

    fn push(&mut self, slot: u32, vector: Option<Vector>) -> usize {
        let bytes = match &vector {
            Some(Vector::Multi(rows)) => size_of_val(rows.values()),
            Some(Vector::Sparse(sparse)) => sparse.indices().len() * 8,
            _ => 0,
        };
        if vector.is_some() {
            Arc::make_mut(&mut self.present).set(slot, true);
        }
        self.values.push([vector.map(Arc::new)]);
        bytes
    }

    fn get(&self, slot: u32) -> Option<&Vector> {
        self.values.get(slot as usize)[0].as_deref()
    }
}
