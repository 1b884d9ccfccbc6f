//! The points of one collection in memory, and what an operation does to them.
//!
//! `apply(seq, op)` looks at nothing but the state, seq and op: the same log
//! gives the same state, slot by slot. Applying again what was applied changes
//! nothing. Slots are never reused, a replaced or deleted point leaves its slot
//! dead; opening a database rewrites a log that has become mostly dead.

use std::collections::BTreeMap;

use cairn_ann::Rows;

use crate::bits::Bits;
use crate::column::Column;
use crate::config::CollectionConfig;
use crate::filter::Filter;
use crate::id::PointId;
use crate::op::{Change, Op};
use crate::point::{Parts, Payload, Point, Record, Vectors};

pub(crate) struct State {
    /// The seq of the last operation applied.
    pub(crate) applied: u64,
    pub(crate) columns: BTreeMap<String, Column>,
    pub(crate) live: Bits,
    pub(crate) by_id: BTreeMap<PointId, u32>,
    rows: Vec<Row>,
}

struct Row {
    id: PointId,
    version: u64,
    payload: Payload,
}

/// What an operation changed.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Applied {
    /// The operation's place in the collection's log.
    pub seq: u64,
    /// Points written.
    pub upserted: usize,
    /// Points removed.
    pub deleted: usize,
}

impl State {
    pub(crate) fn new(config: &CollectionConfig) -> Self {
        let columns = config.vectors.iter().map(|(name, vector)| (name.clone(), Column::new(*vector)));
        Self {
            applied: 0,
            columns: columns.collect(),
            live: Bits::default(),
            by_id: BTreeMap::new(),
            rows: Vec::new(),
        }
    }

    pub(crate) fn apply(&mut self, seq: u64, op: Op) -> Applied {
        let mut applied = Applied { seq, ..Applied::default() };
        if seq <= self.applied {
            return applied;
        }
        self.applied = seq;
        for change in op.changes {
            match change {
                Change::Upsert(points) => {
                    applied.upserted += points.len();
                    for point in points {
                        self.put(seq, point);
                    }
                }
                Change::Keep { version, point } => {
                    applied.upserted += 1;
                    self.put(version, point);
                }
                Change::Delete(ids) => {
                    applied.deleted += ids.into_iter().filter(|id| self.remove(*id)).count();
                }
                Change::DeleteWhere(filter) => {
                    let ids: Vec<PointId> = self.matching(&filter).map(|slot| self.id(slot)).collect();
                    applied.deleted += ids.into_iter().filter(|id| self.remove(*id)).count();
                }
            }
        }
        applied
    }

    fn put(&mut self, version: u64, point: Point) {
        self.remove(point.id);
        let slot = u32::try_from(self.rows.len()).expect("a collection is full at 2^32 writes");
        for (name, column) in &mut self.columns {
            column.push(slot, point.vectors.get(name).map(Vec::as_slice));
        }
        self.live.set(slot, true);
        self.by_id.insert(point.id, slot);
        self.rows.push(Row { id: point.id, version, payload: point.payload });
    }

    fn remove(&mut self, id: PointId) -> bool {
        let Some(slot) = self.by_id.remove(&id) else {
            return false;
        };
        self.live.set(slot, false);
        for column in self.columns.values_mut() {
            column.live.set(slot, false);
        }
        self.rows[slot as usize].payload = Payload::new();
        true
    }

    /// Slots written so far, live and dead.
    pub(crate) fn slots(&self) -> usize {
        self.rows.len()
    }

    pub(crate) fn id(&self, slot: u32) -> PointId {
        self.rows[slot as usize].id
    }

    pub(crate) fn version(&self, slot: u32) -> u64 {
        self.rows[slot as usize].version
    }

    pub(crate) fn matches(&self, slot: u32, filter: &Filter) -> bool {
        let row = &self.rows[slot as usize];
        filter.matches(row.id, &row.payload)
    }

    /// The live slots that a filter holds for.
    pub(crate) fn matching<'s>(&'s self, filter: &'s Filter) -> impl Iterator<Item = u32> + 's {
        self.live.iter_from(0).filter(|slot| self.matches(*slot, filter))
    }

    pub(crate) fn payload(&self, slot: u32, parts: &Parts) -> Option<Payload> {
        parts.payload.pick(&self.rows[slot as usize].payload)
    }

    pub(crate) fn vectors(&self, slot: u32, parts: &Parts) -> Option<Vectors> {
        if parts.vectors == crate::Selector::None {
            return None;
        }
        let present =
            self.columns.iter().filter(|(name, column)| column.live.get(slot) && parts.vectors.wants(name));
        Some(present.map(|(name, column)| (name.clone(), column.row(slot).to_vec())).collect())
    }

    pub(crate) fn record(&self, slot: u32, parts: &Parts) -> Record {
        Record {
            id: self.id(slot),
            version: self.version(slot),
            payload: self.payload(slot, parts),
            vectors: self.vectors(slot, parts),
        }
    }

    /// A checksum over the ids of the first slots, which tells whether a graph
    /// file belongs to them.
    pub(crate) fn fingerprint(&self, slots: u32) -> u32 {
        let mut crc = crc32fast::Hasher::new();
        for row in &self.rows[..slots as usize] {
            crc.update(&row.version.to_le_bytes());
            match row.id {
                PointId::Num(id) => crc.update(&id.to_le_bytes()),
                PointId::Uuid(id) => crc.update(id.as_bytes()),
            }
        }
        crc.finalize()
    }
}
