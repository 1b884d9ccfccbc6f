//! Rows picked from parts, as the source of a new segment, and how marks set on
//! the old rows carry over to the new ones.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::sync::Arc;

use crate::bits::Bits;
use crate::config::CollectionConfig;
use crate::error::Result;
use crate::id::PointId;
use crate::part::{Marks, Part, VectorUids};
use crate::point::Expiry;
use crate::segment::{ColumnInfo, ColumnSource, SegmentSource};
use crate::vector::Vector;

pub(crate) struct Picked {
    parts: Vec<Part>,
    uids: Arc<VectorUids>,
    /// Index of the part and the slot there, for each new row.
    rows: Vec<(u32, u32)>,
}

impl Picked {
    /// The rows of each part that its marks call live and that `gone`, which gets
    /// the index of the part and the slot, does not rule out.
    pub(crate) fn new(parts: Vec<Part>, uids: Arc<VectorUids>, gone: impl Fn(usize, u32) -> bool) -> Self {
        let mut rows = Vec::new();
        for (index, part) in parts.iter().enumerate() {
            let slots = part.marks.live.iter_from(0).filter(|slot| !gone(index, *slot));
            rows.extend(slots.map(|slot| (index as u32, slot)));
        }
        Self { parts, uids, rows }
    }

    /// The numbers of the parts the rows were picked from.
    pub(crate) fn numbers(&self) -> impl Iterator<Item = u64> + '_ {
        self.parts.iter().map(|part| part.number)
    }

    /// The parts, each with the new row of each of its slots.
    pub(crate) fn parts(&self) -> Vec<(&Part, Vec<Option<u32>>)> {
        let slots = |part: &Part| vec![None; part.len() as usize];
        let mut parts: Vec<_> = self.parts.iter().map(|part| (part, slots(part))).collect();
        for (row, (part, slot)) in (0u32..).zip(&self.rows) {
            parts[*part as usize].1[*slot as usize] = Some(row);
        }
        parts
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }

    /// Marks of the new rows, from marks of the old parts in the same order.
    pub(crate) fn carry(&self, marks: &[&Marks]) -> Marks {
        let mut live = Bits::full(self.rows.len() as u32);
        let mut expiries = BTreeMap::new();
        let any_expiry = marks.iter().any(|marks| !marks.expiries.is_empty());
        for (row, (part, slot)) in (0u32..).zip(&self.rows) {
            let marks = marks[*part as usize];
            if !marks.live.get(*slot) {
                live.set(row, false);
            }
            if any_expiry && let Some(expiry) = marks.expiries.get(slot) {
                expiries.insert(row, *expiry);
            }
        }
        Marks { live: Arc::new(live), expiries: Arc::new(expiries) }
    }

    /// The vectors of the new segment: those of the settings.
    pub(crate) fn vectors(&self, config: &CollectionConfig) -> Vec<ColumnInfo> {
        let uid = |name: &String| self.uids.get(name).copied().unwrap_or(0);
        let dense = config.vectors.iter().map(|(name, vector)| ColumnInfo {
            name: name.clone(),
            uid: uid(name),
            dense: Some(*vector),
        });
        let sparse = config.sparse_vectors.keys().map(|name| ColumnInfo {
            name: name.clone(),
            uid: uid(name),
            dense: None,
        });
        dense.chain(sparse).collect()
    }

    fn at(&self, row: u32) -> (&Part, u32) {
        let (part, slot) = self.rows[row as usize];
        (&self.parts[part as usize], slot)
    }
}

impl ColumnSource for Picked {
    fn rows(&self) -> u32 {
        self.rows.len() as u32
    }

    fn vector(&self, row: u32, name: &str) -> Option<Cow<'_, Vector>> {
        let (part, slot) = self.at(row);
        part.vector(slot, name, &self.uids)
    }
}

impl SegmentSource for Picked {
    fn id(&self, row: u32) -> PointId {
        let (part, slot) = self.at(row);
        part.id(slot)
    }

    fn label(&self, row: u32) -> Option<Arc<str>> {
        let (part, slot) = self.at(row);
        part.label(slot)
    }

    fn version(&self, row: u32) -> u64 {
        let (part, slot) = self.at(row);
        part.version(slot)
    }

    fn expiry(&self, row: u32) -> Option<Expiry> {
        let (part, slot) = self.at(row);
        part.expiry(slot)
    }

    fn payload_json(&self, row: u32) -> Result<Cow<'_, [u8]>> {
        let (part, slot) = self.at(row);
        part.payload_json(slot)
    }
}
