//! The verbs of a collection.

use std::ops::Bound;
use std::sync::Arc;

use std::sync::atomic::Ordering;

use crate::config::CollectionConfig;
use crate::database::Inner;
use crate::error::Result;
use crate::filter::Filter;
use crate::id::PointId;
use crate::op::{Change, Op};
use crate::point::{Parts, Point, Record};
use crate::search::{Found, Search, search};
use crate::shard::Shard;
use crate::state::Applied;

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
    /// Whether a graph is being built.
    pub indexing: bool,
    /// The seq of the last operation.
    pub seq: u64,
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
}

impl Collection {
    /// The collection's name.
    pub fn name(&self) -> &str {
        &self.shard.name
    }

    /// The settings it was created with.
    pub fn config(&self) -> &CollectionConfig {
        &self.shard.config
    }

    /// Its settings and how much is in it.
    pub fn info(&self) -> Info {
        let state = self.shard.state.read();
        Info {
            config: self.shard.config.clone(),
            points: state.live.count(),
            indexed_vectors: state.columns.values().map(|column| column.covers() as usize).sum(),
            indexing: self.shard.indexing.load(Ordering::Acquire),
            seq: state.applied,
        }
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
    /// take it. Nothing is written then.
    pub fn upsert(&self, mut points: Vec<Point>) -> Result<Applied> {
        self.settle(&mut points)?;
        self.write(Op::one(Change::Upsert(points)))
    }

    /// Removes points by id; unknown ids are passed over.
    ///
    /// # Errors
    /// When the disk cannot take the write.
    pub fn delete(&self, ids: Vec<PointId>) -> Result<Applied> {
        self.write(Op::one(Change::Delete(ids)))
    }

    /// Removes the points that match.
    ///
    /// # Errors
    /// When the disk cannot take the write.
    pub fn delete_where(&self, filter: Filter) -> Result<Applied> {
        self.write(Op::one(Change::DeleteWhere(filter)))
    }

    /// Removes the points that match and writes others, as one change: no
    /// reader and no crash sees the one without the other.
    ///
    /// # Errors
    /// As for [`Collection::upsert`].
    pub fn replace(&self, filter: Filter, mut points: Vec<Point>) -> Result<Applied> {
        self.settle(&mut points)?;
        self.write(Op { changes: vec![Change::DeleteWhere(filter), Change::Upsert(points)] })
    }

    /// The points of these ids, in the order asked; missing ones are left out.
    ///
    /// # Errors
    /// When the collection was dropped.
    pub fn get(&self, ids: &[PointId], parts: &Parts) -> Result<Vec<Record>> {
        self.shard.check_there()?;
        let state = self.shard.state.read();
        let slots = ids.iter().filter_map(|id| state.by_id.get(id));
        Ok(slots.map(|slot| state.record(*slot, parts)).collect())
    }

    /// A page of points in order of id.
    ///
    /// # Errors
    /// When the collection was dropped.
    pub fn scroll(&self, scroll: &Scroll) -> Result<Page> {
        self.shard.check_there()?;
        let state = self.shard.state.read();
        let from = scroll.from.map_or(Bound::Unbounded, Bound::Included);
        let mut slots = state
            .by_id
            .range((from, Bound::Unbounded))
            .map(|(_, slot)| *slot)
            .filter(|slot| scroll.filter.as_ref().is_none_or(|filter| state.matches(*slot, filter)));
        let records =
            slots.by_ref().take(scroll.limit).map(|slot| state.record(slot, &scroll.parts)).collect();
        let next = slots.next().map(|slot| state.id(slot));
        Ok(Page { records, next })
    }

    /// How many points match, exactly; all of them without a filter.
    ///
    /// # Errors
    /// When the collection was dropped.
    pub fn count(&self, filter: Option<&Filter>) -> Result<usize> {
        self.shard.check_there()?;
        let state = self.shard.state.read();
        Ok(match filter {
            None => state.live.count(),
            Some(filter) => state.matching(filter).count(),
        })
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
        self.shard.check_there()?;
        search(&self.shard.state.read(), &self.shard.config, &self.db.options, wanted)
    }

    /// Builds the graphs now instead of in the background when they are due.
    ///
    /// # Errors
    /// [`Error::Graph`](crate::Error::Graph) when building fails.
    pub fn index_now(&self) -> Result<()> {
        self.shard.check_there()?;
        self.db.indexer.index_now(&self.shard)
    }

    fn settle(&self, points: &mut [Point]) -> Result<()> {
        points.iter_mut().try_for_each(|point| point.settle(&self.shard.config))
    }

    fn write(&self, op: Op) -> Result<Applied> {
        let applied = self.db.journal.commit(&self.shard, op)?;
        self.db.indexer.consider(&self.shard);
        Ok(applied)
    }
}
