//! The points of one collection, and what an operation does to them.
//!
//! `apply(seq, op)` looks at nothing but the state, seq and op: the same log
//! gives the same points. Applying again what was applied changes nothing. A
//! point is live in one part; writing it again puts a new row into the growing
//! part and marks the old one dead.

use std::collections::BTreeMap;
use std::sync::Arc;

use cairn_ann::Graph;

use crate::bits::Bits;
use crate::clocks::Clocks;
use crate::config::{CollectionConfig, ConfigChange};
use crate::filter::Filter;
use crate::filter::prepared::Prepared;
use crate::growing::{Growing, NewRow};
use crate::id::PointId;
use crate::op::{Change, Op, Selection, When, WriteMode};
use crate::part::{Derived, Filtered, Marks, Part, PartRows, VectorUids};
use crate::path::{Path, merge};
use crate::plan::Matcher;
use crate::point::{Expiry, Payload, Point};
use crate::vector::{Vector, Vectors};
use crate::view::{Place, View};

pub(crate) struct State {
    /// The seq of the last operation applied.
    pub(crate) applied: u64,
    pub(crate) config: Arc<CollectionConfig>,
    pub(crate) uids: Arc<VectorUids>,
    /// Segments and frozen parts, oldest first.
    pub(crate) settled: Vec<Part>,
    growing: Part,
    /// Slots of the growing part's live rows by id.
    recent: BTreeMap<PointId, u32>,
    next_frozen: u64,
    /// Of the operations since the catalogue's.
    pub(crate) clocks: Clocks,
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

/// Where a point is: the place of its part, and its slot there.
#[derive(Clone, Copy, PartialEq, Eq)]
struct At {
    /// Index into `settled`; past its end for the growing part.
    part: usize,
    slot: u32,
}

/// Parts in memory are numbered from here, segments below.
const FIRST_FROZEN: u64 = 1 << 63;

impl State {
    pub(crate) fn new(
        applied: u64,
        config: Arc<CollectionConfig>,
        uids: VectorUids,
        sealed: Vec<Part>,
    ) -> Self {
        let growing = growing(FIRST_FROZEN, &config);
        Self {
            applied,
            config,
            uids: Arc::new(uids),
            settled: sealed,
            growing,
            recent: BTreeMap::new(),
            next_frozen: FIRST_FROZEN + 1,
            clocks: Clocks::default(),
        }
    }

    /// Where points are, in the view of this moment.
    pub(crate) fn find(&self, ids: &[PointId], now_ms: u64) -> Vec<Option<Place>> {
        let find = |id: &PointId| {
            let at = self.locate(id).filter(|at| self.part(*at).is_there(at.slot, now_ms))?;
            Some(Place { part: at.part as u32, slot: at.slot })
        };
        ids.iter().map(find).collect()
    }

    /// The label of a point that is there.
    pub(crate) fn label(&self, id: PointId, now_ms: u64) -> Option<Arc<str>> {
        let at = self.locate(&id).filter(|at| self.part(*at).is_there(at.slot, now_ms))?;
        self.part(at).label(at.slot)
    }

    /// A picture of everything at this moment.
    pub(crate) fn view(&self) -> View {
        let parts = self.settled.iter().chain(std::iter::once(&self.growing)).cloned().collect();
        View::new(self.applied, self.config.clone(), self.uids.clone(), parts)
    }

    pub(crate) fn growing_points(&self) -> usize {
        self.rows().len()
    }

    pub(crate) fn growing_bytes(&self) -> usize {
        self.rows().bytes()
    }

    /// Points and bytes that are in no segment.
    pub(crate) fn unsealed(&self) -> (usize, usize) {
        let parts = self.settled.iter().chain(std::iter::once(&self.growing));
        parts.fold((0, 0), |(points, bytes), part| match &part.rows {
            PartRows::Growing(growing) => (points + growing.len(), bytes + growing.bytes()),
            PartRows::Sealed(_) => (points, bytes),
        })
    }

    /// Shows searches a graph over the first rows of a part in memory; gives back
    /// the one it had.
    pub(crate) fn set_graph(
        &mut self,
        part: u64,
        name: &str,
        uid: u64,
        graph: Arc<Graph>,
    ) -> Option<Arc<Graph>> {
        let mut parts = self.settled.iter_mut().chain(std::iter::once(&mut self.growing));
        parts.find(|known| known.number == part)?.derived.set_graph(name, uid, graph)
    }

    /// Makes the growing part one that no longer grows, and begins a new one.
    pub(crate) fn freeze(&mut self) {
        if self.growing.len() > 0 {
            let fresh = growing(self.next_frozen, &self.config);
            self.next_frozen += 1;
            self.settled.push(std::mem::replace(&mut self.growing, fresh));
            self.recent.clear();
        }
    }

    pub(crate) fn apply(&mut self, seq: u64, op: Op) -> Applied {
        let mut applied = Applied { seq, ..Applied::default() };
        if seq <= self.applied {
            return applied;
        }
        self.applied = seq;
        self.clocks.note(seq, op.at_ms);
        for change in op.changes {
            self.change(seq, op.at_ms, change, &mut applied);
        }
        applied
    }

    fn change(&mut self, seq: u64, at_ms: u64, change: Change, applied: &mut Applied) {
        match change {
            Change::Upsert { points, when } => {
                for point in points {
                    applied.upserted += usize::from(self.upsert(seq, at_ms, point, &when));
                }
            }
            Change::Delete(of) => {
                let ids = self.selected(&of, at_ms);
                applied.deleted += ids.into_iter().filter(|id| self.remove(id, at_ms)).count();
            }
            Change::UpdateVectors { points, filter } => {
                for (id, vectors) in points {
                    let fits = |state: &Self, at: At| state.matches(at, filter.as_ref());
                    let written = self.rewrite(seq, at_ms, id, fits, |row| row.vectors.extend(vectors));
                    applied.upserted += usize::from(written);
                }
            }
            Change::DeleteVectors { of, names } => {
                applied.upserted += self.rewrite_all(seq, at_ms, &of, |row| {
                    row.vectors.retain(|name, _| !names.contains(name));
                });
            }
            Change::SetPayload { of, payload, at } => {
                applied.upserted += self.rewrite_all(seq, at_ms, &of, |row| {
                    set_payload(Arc::make_mut(&mut row.payload), &payload, at.as_ref());
                });
            }
            Change::ReplacePayload { of, payload } => {
                let payload = Arc::new(payload);
                applied.upserted += self.rewrite_all(seq, at_ms, &of, |row| row.payload = payload.clone());
            }
            Change::DeletePayload { of, paths } => {
                applied.upserted += self.rewrite_all(seq, at_ms, &of, |row| {
                    let payload = Arc::make_mut(&mut row.payload);
                    for path in &paths {
                        path.remove(payload);
                    }
                });
            }
            Change::SetExpiry { ids, expiry } => {
                applied.upserted += ids.iter().filter(|id| self.set_expiry(id, at_ms, expiry)).count();
            }
            Change::Configure(change) => self.configure(seq, &change),
        }
    }

    fn upsert(&mut self, seq: u64, at_ms: u64, point: Point, when: &When) -> bool {
        let old = self.locate(&point.id);
        let there = old.filter(|at| self.part(*at).is_there(at.slot, at_ms));
        let wanted = match (there, when.mode) {
            (None, mode) => mode != WriteMode::UpdateOnly,
            (Some(_), WriteMode::InsertOnly) => false,
            (Some(at), _) => self.matches(at, when.filter.as_ref()),
        };
        if wanted {
            let known = there.and_then(|at| self.part(at).label(at.slot));
            if let (Some(known), Some(label)) = (&known, &point.label)
                && known != label
            {
                // The caller was checked, so both came at the same moment.
                tracing::error!(%known, %label, id = %point.id, "a point is not written: another has its id");
                return false;
            }
            let row = NewRow {
                id: point.id,
                // Called by its UUID it still has its label.
                label: point.label.or(known),
                version: seq,
                vectors: point.vectors,
                payload: Arc::new(point.payload),
                expiry: point.expiry,
            };
            self.put(row, old);
        }
        wanted
    }

    /// Appends a row in place of the one at `old`.
    fn put(&mut self, mut row: NewRow, old: Option<At>) {
        // A vector may have been dropped, or made anew, since the caller was
        // checked against the settings.
        let config = self.config.clone();
        row.vectors.retain(|name, vector| fits(&config, name, vector));
        if let Some(old) = old {
            self.bury(&row.id, old);
        }
        let id = row.id;
        let slot = self.rows_mut().push(row);
        Arc::make_mut(&mut self.growing.marks.live).set(slot, true);
        self.recent.insert(id, slot);
    }

    /// Marks the row of an id dead.
    fn bury(&mut self, id: &PointId, at: At) {
        if at.part == self.settled.len() {
            self.recent.remove(id);
        }
        Arc::make_mut(&mut self.part_mut(at).marks.live).set(at.slot, false);
    }

    /// Removes a point; true if it was there and had not disappeared.
    fn remove(&mut self, id: &PointId, at_ms: u64) -> bool {
        let Some(at) = self.locate(id) else { return false };
        let there = self.part(at).is_there(at.slot, at_ms);
        self.bury(id, at);
        there
    }

    fn set_expiry(&mut self, id: &PointId, at_ms: u64, expiry: Option<Expiry>) -> bool {
        let Some(at) = self.locate(id).filter(|at| self.part(*at).is_there(at.slot, at_ms)) else {
            return false;
        };
        Arc::make_mut(&mut self.part_mut(at).marks.expiries).insert(at.slot, expiry);
        true
    }

    fn rewrite_all(&mut self, seq: u64, at_ms: u64, of: &Selection, change: impl Fn(&mut NewRow)) -> usize {
        let ids = self.selected(of, at_ms);
        ids.into_iter().filter(|id| self.rewrite(seq, at_ms, *id, |_, _| true, &change)).count()
    }

    /// Writes a point again with something changed.
    fn rewrite(
        &mut self,
        seq: u64,
        at_ms: u64,
        id: PointId,
        wanted: impl Fn(&Self, At) -> bool,
        change: impl FnOnce(&mut NewRow),
    ) -> bool {
        let there = self.locate(&id).filter(|at| self.part(*at).is_there(at.slot, at_ms));
        let Some(at) = there.filter(|at| wanted(self, *at)) else { return false };
        let part = self.part(at);
        let payload = match &part.rows {
            PartRows::Growing(growing) => growing.payload(at.slot).clone(),
            PartRows::Sealed(_) => match part.payload(at.slot) {
                Ok(payload) => Arc::new(payload.into_owned()),
                Err(error) => {
                    tracing::error!(%error, %id, "a damaged point is left as it is");
                    return false;
                }
            },
        };
        let mut row = NewRow {
            id,
            label: part.label(at.slot),
            version: seq,
            vectors: self.vectors(at),
            payload,
            expiry: part.expiry(at.slot),
        };
        change(&mut row);
        self.put(row, Some(at));
        true
    }

    fn vectors(&self, at: At) -> Vectors {
        let part = self.part(at);
        let vector = |name: &String| {
            part.vector(at.slot, name, &self.uids).map(|vector| (name.clone(), vector.into_owned()))
        };
        self.uids.keys().filter_map(vector).collect()
    }

    /// Ids of the points a change is about, those of a filter in order of rows.
    fn selected(&self, of: &Selection, at_ms: u64) -> Vec<PointId> {
        let filter = match of {
            Selection::Ids(ids) => return ids.clone(),
            Selection::Filter(filter) => filter,
        };
        let mut ids = Vec::new();
        let schema = &self.config.payload_indexes;
        // Schemas are checked when they are set.
        let Ok(prepared) = Prepared::new(filter, schema) else { return ids };
        for part in self.settled.iter().chain(std::iter::once(&self.growing)) {
            let filtered = Filtered { part, uids: &self.uids, schema };
            let matcher = Matcher::new(&prepared, &filtered);
            let slots = part.marks.live.iter_from(0);
            let slots = slots.filter(|slot| !part.is_expired(*slot, at_ms) && matcher.check(*slot));
            ids.extend(slots.map(|slot| part.id(slot)));
        }
        ids
    }

    fn matches(&self, at: At, filter: Option<&Filter>) -> bool {
        let Some(filter) = filter else { return true };
        let schema = &self.config.payload_indexes;
        let filtered = Filtered { part: self.part(at), uids: &self.uids, schema };
        Prepared::new(filter, schema).is_ok_and(|prepared| Matcher::new(&prepared, &filtered).check(at.slot))
    }

    fn configure(&mut self, seq: u64, change: &ConfigChange) {
        // Two changes can have been checked against the same settings; the
        // second is refused here, on every replica.
        if let Err(error) = self.config.check_change(change) {
            tracing::warn!(%error, "passing over a change of settings that came too late");
            return;
        }
        self.config = Arc::new(self.config.changed(change));
        let uids = Arc::make_mut(&mut self.uids);
        match change {
            ConfigChange::AddVector(name, _) | ConfigChange::AddSparse(name, _) => {
                uids.insert(name.clone(), seq);
            }
            ConfigChange::DropVector(name) => {
                uids.remove(name);
            }
            _ => {}
        }
        let config = self.config.clone();
        let frozen = self.settled.iter_mut().chain(std::iter::once(&mut self.growing));
        for part in frozen {
            if let PartRows::Growing(growing) = &mut part.rows {
                growing.configure(&config);
            }
        }
    }

    fn locate(&self, id: &PointId) -> Option<At> {
        if let Some(slot) = self.recent.get(id) {
            return Some(At { part: self.settled.len(), slot: *slot });
        }
        let mut parts = self.settled.iter().enumerate().rev();
        parts.find_map(|(part, rows)| rows.find(id).map(|slot| At { part, slot }))
    }

    fn part(&self, at: At) -> &Part {
        self.settled.get(at.part).unwrap_or(&self.growing)
    }

    fn part_mut(&mut self, at: At) -> &mut Part {
        self.settled.get_mut(at.part).unwrap_or(&mut self.growing)
    }

    fn rows(&self) -> &Growing {
        match &self.growing.rows {
            PartRows::Growing(growing) => growing,
            PartRows::Sealed(_) => unreachable!("the growing part is in memory"),
        }
    }

    fn rows_mut(&mut self) -> &mut Growing {
        match &mut self.growing.rows {
            PartRows::Growing(growing) => growing,
            PartRows::Sealed(_) => unreachable!("the growing part is in memory"),
        }
    }
}

fn growing(number: u64, config: &CollectionConfig) -> Part {
    Part {
        number,
        rows: PartRows::Growing(Growing::new(config)),
        marks: Marks { live: Arc::new(Bits::default()), ..Marks::default() },
        derived: Derived::default(),
    }
}

fn fits(config: &CollectionConfig, name: &str, vector: &Vector) -> bool {
    match vector {
        Vector::Sparse(_) => config.sparse_vectors.contains_key(name),
        Vector::Dense(values) => {
            config.vectors.get(name).is_some_and(|want| !want.multivector && want.size == values.len())
        }
        Vector::Multi(rows) => {
            config.vectors.get(name).is_some_and(|want| want.multivector && want.size == rows.dim())
        }
    }
}

fn set_payload(there: &mut Payload, payload: &Payload, at: Option<&Path>) {
    match at {
        None => merge(there, payload),
        Some(path) => path.merge(there, payload),
    }
}
