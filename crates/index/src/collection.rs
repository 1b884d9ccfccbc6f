//! The verbs of a collection.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use crate::config::{CollectionConfig, ConfigChange};
use crate::database::Inner;
use crate::error::{Error, Result};
use crate::filter::Filter;
use crate::id::PointId;
use crate::label;
use crate::op::{Change, Op, Selection, When};
use crate::part::Part;
use crate::path::Path;
use crate::point::{
    Expiry, Parts, Payload, Point, Record, check_depth, check_depth_below, now_ms, settle_vectors,
};
use crate::queried::Queried;
use crate::query::{
    self, FacetHit, FacetRequest, Group, GroupRequest, MatrixRequest, MatrixResult, QueryHit, QueryRequest,
};
use crate::search::{Found, Search, search};
use crate::shard::{Damage, Shard};
use crate::state::Applied;
use crate::vector::Vectors;
use crate::view::{Place, View};

/// A handle to a collection; cheap to clone and to share between threads.
///
/// Writes return when they are on the disk and visible to every reader.
/// Writers on different threads share one trip to the disk.
#[derive(Clone)]
pub struct Collection {
    pub(crate) db: Arc<Inner>,
    pub(crate) shard: Arc<Shard>,
}

/// What is known about a collection.
#[derive(Debug, Clone, PartialEq)]
pub struct Info {
    /// Its settings.
    pub config: CollectionConfig,
    /// Points in it.
    pub points: usize,
    /// Vectors that a graph covers, over all names.
    pub indexed_vectors: usize,
    /// Segment files.
    pub segments: usize,
    /// Points that are in no segment yet.
    pub unsealed: usize,
    /// Bytes of the segment files, without what is derived from them.
    pub segment_bytes: u64,
    /// Whether there is merging or building to be done or going on.
    pub indexing: bool,
    /// The seq of the last operation.
    pub seq: u64,
    /// Segments that cannot be read.
    pub damaged: Vec<Damage>,
}

/// Bytes of what was written, as it is stored.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct StoredBytes {
    /// Of vectors.
    pub vectors: u64,
    /// Of payloads, and of strings as ids.
    pub payloads: u64,
}

/// A request for points in order of id.
#[derive(Debug, Clone, PartialEq)]
pub struct Scroll {
    /// The id to start at; the smallest when absent.
    pub from: Option<PointId>,
    /// Points at most. Default 10.
    pub limit: usize,
    /// Only points that match.
    pub filter: Option<Filter>,
    /// What comes back of each point. Default: the payload.
    pub parts: Parts,
}

impl Default for Scroll {
    fn default() -> Self {
        Self { from: None, limit: 10, filter: None, parts: Parts::payload() }
    }
}

/// A page of points and the id the next page starts at.
#[derive(Debug, Clone, PartialEq)]
pub struct Page {
    /// The points, by id.
    pub records: Vec<Record>,
    /// Where to go on, if there is more.
    pub next: Option<PointId>,
    /// The string that `next` was made of, if it was made of one.
    pub next_label: Option<Arc<str>>,
}

impl Collection {
    /// The collection's name.
    pub fn name(&self) -> &str {
        &self.shard.name
    }

    /// Its settings as they are now.
    pub fn config(&self) -> Arc<CollectionConfig> {
        self.shard.config()
    }

    /// Whether its settings take any string as an id. Never waits for a write.
    pub fn takes_string_ids(&self) -> bool {
        self.shard.takes_string_ids()
    }

    /// Its settings and how much is in it. Looks at every part, not at points,
    /// unless points disappear in time.
    pub fn info(&self) -> Info {
        let view = self.shard.state.read().view();
        let sealed = view.parts.iter().filter(|part| part.is_sealed());
        Info {
            points: view.points(),
            indexed_vectors: view.parts.iter().map(Part::indexed_vectors).sum(),
            segments: sealed.clone().count(),
            unsealed: view
                .parts
                .iter()
                .filter(|part| !part.is_sealed())
                .map(|part| part.marks.live.count())
                .sum(),
            segment_bytes: sealed.map(Part::file_bytes).sum(),
            indexing: self.shard.wants.jobs.load(Ordering::Acquire) > 0 || self.shard.optimizer.is_locked(),
            seq: view.seq,
            damaged: self.shard.damaged.lock().clone(),
            config: (*view.config).clone(),
        }
    }

    /// How much there is of what was written, before indexes. Rows that were
    /// replaced or deleted count until merging removes them.
    pub fn stored_bytes(&self) -> StoredBytes {
        let view = self.shard.state.read().view();
        let parts = view.parts.iter().map(Part::stored_bytes);
        parts.fold(StoredBytes::default(), |sum, part| StoredBytes {
            vectors: sum.vectors + part.vectors,
            payloads: sum.payloads + part.payloads,
        })
    }

    /// Writes points, each replacing any point of the same id as a whole.
    /// All of them are written or none.
    ///
    /// # Errors
    /// [`Error::Dimension`](crate::Error::Dimension),
    /// [`Error::NotFinite`](crate::Error::NotFinite) and
    /// [`Error::UnknownVector`](crate::Error::UnknownVector) for a point that
    /// does not fit the collection; [`Error::DiskFull`](crate::Error::DiskFull)
    /// and [`Error::ReadOnly`](crate::Error::ReadOnly) when the disk cannot
    /// take it. [`Error::Label`] for a string as an id where the collection
    /// takes none, and [`Error::LabelTaken`] for one that stands for the same
    /// UUID as another. Nothing is written then.
    pub fn upsert(&self, points: Vec<Point>) -> Result<Applied> {
        self.upsert_when(points, When::default())
    }

    /// Writes those of the points that the condition lets through: only new
    /// ones, only existing ones, or only where the present point matches a
    /// filter. The conditions are judged one point after the other, at the
    /// moment of the write.
    ///
    /// # Errors
    /// As for [`Collection::upsert`].
    pub fn upsert_when(&self, mut points: Vec<Point>, when: When) -> Result<Applied> {
        self.settle(&mut points)?;
        self.write(Op::one(Change::Upsert { points, when }))
    }

    /// Removes points, by id or by filter; unknown ids are passed over.
    ///
    /// # Errors
    /// When the disk cannot take the write.
    pub fn delete(&self, of: impl Into<Selection>) -> Result<Applied> {
        self.write(Op::one(Change::Delete(of.into())))
    }

    /// Sets some vectors of points and leaves the others as they are; with a
    /// filter, only of points that match it.
    ///
    /// # Errors
    /// [`Error::UnknownPoint`] for an id that is not there, and as for
    /// [`Collection::upsert`].
    pub fn update_vectors(
        &self,
        mut points: Vec<(PointId, Vectors)>,
        filter: Option<Filter>,
    ) -> Result<Applied> {
        let config = self.config();
        points.iter_mut().try_for_each(|(_, vectors)| settle_vectors(&config, vectors))?;
        self.check_known(&points.iter().map(|(id, _)| *id).collect::<Vec<_>>())?;
        self.write(Op::one(Change::UpdateVectors { points, filter }))
    }

    /// Removes vectors of these names from points.
    ///
    /// # Errors
    /// [`Error::UnknownVector`] for a name the collection has not,
    /// [`Error::UnknownPoint`] for an id that is not there.
    pub fn delete_vectors(&self, of: impl Into<Selection>, names: Vec<String>) -> Result<Applied> {
        let (of, config) = (of.into(), self.config());
        let known =
            |name: &String| config.vectors.contains_key(name) || config.sparse_vectors.contains_key(name);
        if let Some(name) = names.iter().find(|name| !known(name)) {
            return Err(Error::UnknownVector { name: name.clone() });
        }
        self.check_selected(&of)?;
        self.write(Op::one(Change::DeleteVectors { of, names }))
    }

    /// Puts the values of `payload` over those that points have, at the top or
    /// into the object at a path, which is made if it is not there. A null
    /// removes its key.
    ///
    /// # Errors
    /// [`Error::UnknownPoint`] for an id that is not there.
    pub fn set_payload(
        &self,
        of: impl Into<Selection>,
        payload: Payload,
        at: Option<Path>,
    ) -> Result<Applied> {
        let of = of.into();
        check_depth_below(&payload, at.as_ref().map_or(0, Path::levels))?;
        self.check_selected(&of)?;
        self.write(Op::one(Change::SetPayload { of, payload, at }))
    }

    /// Puts `payload` in place of what points have; an empty one clears it.
    ///
    /// # Errors
    /// [`Error::UnknownPoint`] for an id that is not there.
    pub fn replace_payload(&self, of: impl Into<Selection>, payload: Payload) -> Result<Applied> {
        let of = of.into();
        check_depth(&payload)?;
        self.check_selected(&of)?;
        self.write(Op::one(Change::ReplacePayload { of, payload }))
    }

    /// Removes what the paths reach from the payloads of points.
    ///
    /// # Errors
    /// [`Error::UnknownPoint`] for an id that is not there.
    pub fn delete_payload(&self, of: impl Into<Selection>, paths: Vec<Path>) -> Result<Applied> {
        let of = of.into();
        self.check_selected(&of)?;
        self.write(Op::one(Change::DeletePayload { of, paths }))
    }

    /// Sets when points disappear, `None` for never; unknown ids are passed
    /// over.
    ///
    /// # Errors
    /// When the disk cannot take the write.
    pub fn set_expiry(&self, ids: Vec<PointId>, expiry: Option<Expiry>) -> Result<Applied> {
        self.write(Op::one(Change::SetExpiry { ids, expiry }))
    }

    /// Changes the settings while the collection is in use. A new index is
    /// built in the background; filters work meanwhile, slower.
    ///
    /// # Errors
    /// [`Error::Request`], [`Error::Setting`], [`Error::Name`] and
    /// [`Error::UnknownVector`] for a change that does not fit.
    pub fn configure(&self, change: ConfigChange) -> Result<Applied> {
        self.config().check_change(&change)?;
        let applied = self.write(Op::one(Change::Configure(change)))?;
        self.db.maintenance.consider(&self.shard);
        Ok(applied)
    }

    /// Removes points, by id or by filter, and writes others, as one change: no
    /// reader and no crash sees the one without the other.
    ///
    /// # Errors
    /// As for [`Collection::upsert`].
    pub fn replace(&self, old: impl Into<Selection>, mut points: Vec<Point>) -> Result<Applied> {
        self.settle(&mut points)?;
        let delete = Change::Delete(old.into());
        self.write(Op::new(vec![delete, Change::Upsert { points, when: When::default() }]))
    }

    /// The points of these ids, in the order asked; missing ones are left out.
    ///
    /// # Errors
    /// When the collection was dropped, or a segment is damaged.
    pub fn get(&self, ids: &[PointId], parts: &Parts) -> Result<Vec<Record>> {
        let (view, places) = self.shard.view_of(ids)?;
        let places: Vec<Place> = places.into_iter().flatten().collect();
        let records = places.iter().map(|place| view.record(*place, parts)).collect::<Result<_>>()?;
        self.renew(&view, &places)?;
        Ok(records)
    }

    /// A page of points in order of id.
    ///
    /// # Errors
    /// When the collection was dropped, or a segment is damaged.
    pub fn scroll(&self, scroll: &Scroll) -> Result<Page> {
        let view = self.shard.view()?;
        let places = view.scroll(scroll.filter.as_ref(), scroll.from, scroll.limit.saturating_add(1))?;
        let (page, rest) = places.split_at(scroll.limit.min(places.len()));
        let records = page.iter().map(|place| view.record(*place, &scroll.parts)).collect::<Result<_>>()?;
        Ok(view.page(records, rest.first()))
    }

    /// How many points match, exactly; all of them without a filter.
    ///
    /// # Errors
    /// When the collection was dropped.
    pub fn count(&self, filter: Option<&Filter>) -> Result<usize> {
        self.shard.view()?.count(filter)
    }

    /// The nearest points to a vector, best first. Sees every write that was
    /// acknowledged.
    ///
    /// # Errors
    /// [`Error::Dimension`](crate::Error::Dimension),
    /// [`Error::NotFinite`](crate::Error::NotFinite) and
    /// [`Error::UnknownVector`](crate::Error::UnknownVector) for a query that
    /// does not fit the collection.
    pub fn search(&self, wanted: &Search) -> Result<Found> {
        let view = self.shard.view()?;
        let (found, places) = search(&view, &self.db.options, wanted)?;
        self.db.maintenance.after_search(&self.shard, &view);
        self.renew(&view, &places)?;
        Ok(found)
    }

    /// Answers a whole query: several searches fused, rescored, recommended
    /// from examples, ordered, or sampled. See [`Query`](crate::Query).
    ///
    /// # Errors
    /// [`Error::Request`] for a query that means nothing, and as for
    /// [`Collection::search`].
    pub fn query(&self, request: &QueryRequest) -> Result<Vec<QueryHit>> {
        let source = self.queried()?;
        let hits = query::run(&source, request, &mut fastrand::Rng::new())?;
        self.db.maintenance.after_search(&self.shard, &source.view);
        self.renew_ids(&source.view, hits.iter().map(|hit| hit.id))?;
        Ok(hits)
    }

    /// The best hits of a query for each value of a payload field.
    ///
    /// # Errors
    /// As for [`Collection::query`].
    pub fn query_groups(&self, request: &GroupRequest) -> Result<Vec<Group>> {
        let source = self.queried()?;
        let groups = query::run_groups(&source, request, &mut fastrand::Rng::new())?;
        let ids = groups.iter().flat_map(|group| group.hits.iter().map(|hit| hit.id));
        self.renew_ids(&source.view, ids)?;
        Ok(groups)
    }

    /// The most frequent values of a payload field, with the number of points
    /// that have each.
    ///
    /// # Errors
    /// [`Error::Request`] for a field without an index of its values.
    pub fn facet(&self, request: &FacetRequest) -> Result<Vec<FacetHit>> {
        query::run_facet(&self.queried()?, request)
    }

    /// How alike the points of a sample are: for each its nearest neighbours
    /// among the others.
    ///
    /// # Errors
    /// As for [`Collection::search`].
    pub fn matrix(&self, request: &MatrixRequest) -> Result<MatrixResult> {
        query::run_matrix(&self.queried()?, request, &mut fastrand::Rng::new())
    }

    pub(crate) fn queried(&self) -> Result<Queried<'_>> {
        Ok(Queried { db: &self.db, name: self.shard.name.clone(), view: self.shard.view()? })
    }

    fn renew_ids(&self, view: &View, ids: impl Iterator<Item = PointId>) -> Result<()> {
        if !view.parts.iter().any(Part::has_expiry) {
            return Ok(());
        }
        let places: Vec<Place> = ids.filter_map(|id| view.find(&id)).collect();
        self.renew(view, &places)
    }

    /// Seals what was written and builds the graphs and indexes that are
    /// missing, now instead of in the background when they are due.
    ///
    /// # Errors
    /// [`Error::Graph`](crate::Error::Graph) when building fails.
    pub fn index_now(&self) -> Result<()> {
        self.shard.check_there()?;
        self.db.maintenance.index_now(&self.shard)
    }

    /// The same, and merges into as few segments as the options allow, without
    /// the rows of points that were deleted or replaced: the least room on disk.
    /// Reads and writes go on meanwhile.
    ///
    /// # Errors
    /// When the disk cannot take it; the collection is as before then.
    pub fn compact(&self) -> Result<()> {
        self.shard.check_there()?;
        self.db.maintenance.compact(&self.shard)
    }

    fn settle(&self, points: &mut [Point]) -> Result<()> {
        let config = self.config();
        points.iter_mut().try_for_each(|point| point.settle(&config))?;
        if points.iter().all(|point| point.label.is_none()) {
            return Ok(());
        }
        let (state, now_ms) = (self.shard.state.read(), now_ms());
        label::check_distinct(points, |id| state.label(id, now_ms))
    }

    fn check_selected(&self, of: &Selection) -> Result<()> {
        match of {
            Selection::Ids(ids) => self.check_known(ids),
            Selection::Filter(_) => Ok(()),
        }
    }

    fn check_known(&self, ids: &[PointId]) -> Result<()> {
        let (_, places) = self.shard.view_of(ids)?;
        match ids.iter().zip(places).find(|(_, place)| place.is_none()) {
            Some((id, _)) => Err(Error::UnknownPoint { id: (*id).into() }),
            None => Ok(()),
        }
    }

    /// Moves the expiry of points that live on by being read.
    pub(crate) fn renew(&self, view: &View, places: &[Place]) -> Result<()> {
        let mut due: Vec<(PointId, Expiry)> = Vec::new();
        for place in places {
            let part = view.part(*place);
            if !part.has_expiry() {
                continue;
            }
            let Some(expiry) = part.expiry(place.slot).filter(|expiry| expiry.renew_ms > 0) else { continue };
            let at_ms = view.now_ms.saturating_add(expiry.renew_ms);
            if at_ms.saturating_sub(expiry.at_ms) >= expiry.renew_ms / 10 && at_ms > expiry.at_ms {
                due.push((part.id(place.slot), Expiry { at_ms, ..expiry }));
            }
        }
        if due.is_empty() {
            return Ok(());
        }
        let changes =
            due.into_iter().map(|(id, expiry)| Change::SetExpiry { ids: vec![id], expiry: Some(expiry) });
        match self.write(Op::new(changes.collect())) {
            // The read is answered all the same.
            Err(Error::ReadOnly { .. } | Error::DiskFull { .. }) => Ok(()),
            other => other.map(drop),
        }
    }

    fn write(&self, op: Op) -> Result<Applied> {
        let applied = self.db.journal.commit(&self.shard, op)?;
        self.db.maintenance.after_write(&self.shard);
        Ok(applied)
    }
}
