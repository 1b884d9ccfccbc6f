//! A collection held at one seq: several reads that see the same points.
//!
//! A reading costs a few counters. What it sees stays on the disk and in memory
//! for as long as it is held, also when segments were merged meanwhile.

use std::sync::Arc;

use crate::collection::{Collection, Page, Scroll};
use crate::config::CollectionConfig;
use crate::error::Result;
use crate::filter::Filter;
use crate::id::PointId;
use crate::point::{Parts, Record};
use crate::search::{Found, Search, search, weighted};
use crate::vector::SparseVector;
use crate::view::{Place, View};

/// A collection at one seq. Writes that come later are not seen.
///
/// ```
/// use cairn_index::{CollectionConfig, Database, Metric, Point, PointId, Search};
///
/// let dir = tempfile::tempdir()?;
/// let db = Database::open(dir.path())?;
/// let stones = db.create_collection("stones", CollectionConfig::new(2, Metric::Cosine))?;
/// stones.upsert(vec![Point::new(1, vec![1.0, 0.0])])?;
/// let reading = stones.reading()?;
/// stones.delete(vec![PointId::from(1)])?;
/// assert_eq!(reading.search(&Search::nearest(vec![1.0, 0.0]))?.hits.len(), 1);
/// assert!(reading.seq() < stones.info().seq);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone)]
pub struct Reading {
    collection: Collection,
    view: View,
}

impl Collection {
    /// Holds the collection as it is now.
    ///
    /// # Errors
    /// When the collection was dropped.
    pub fn reading(&self) -> Result<Reading> {
        Ok(Reading { collection: self.clone(), view: self.shard.view()? })
    }
}

impl Reading {
    /// The seq of the last operation that is seen.
    pub fn seq(&self) -> u64 {
        self.view.seq
    }

    /// The collection's settings at that moment.
    pub fn config(&self) -> &Arc<CollectionConfig> {
        &self.view.config
    }

    /// The collection as it is by now.
    pub fn collection(&self) -> &Collection {
        &self.collection
    }

    /// As [`Collection::search`].
    ///
    /// # Errors
    /// As there.
    pub fn search(&self, wanted: &Search) -> Result<Found> {
        let db = &self.collection.db;
        let (found, places) = search(&self.view, &db.options, wanted)?;
        db.maintenance.after_search(&self.collection.shard, &self.view);
        self.collection.renew(&self.view, &places)?;
        Ok(found)
    }

    /// As [`Collection::get`].
    ///
    /// # Errors
    /// As there.
    pub fn get(&self, ids: &[PointId], parts: &Parts) -> Result<Vec<Record>> {
        let places: Vec<Place> = ids.iter().filter_map(|id| self.view.find(id)).collect();
        let records = places.iter().map(|place| self.view.record(*place, parts)).collect::<Result<_>>()?;
        self.collection.renew(&self.view, &places)?;
        Ok(records)
    }

    /// As [`Collection::scroll`].
    ///
    /// # Errors
    /// As there.
    pub fn scroll(&self, scroll: &Scroll) -> Result<Page> {
        let places = self.view.scroll(scroll.filter.as_ref(), scroll.from, scroll.limit.saturating_add(1))?;
        let (page, rest) = places.split_at(scroll.limit.min(places.len()));
        let records =
            page.iter().map(|place| self.view.record(*place, &scroll.parts)).collect::<Result<_>>()?;
        Ok(self.view.page(records, rest.first()))
    }

    /// As [`Collection::count`].
    ///
    /// # Errors
    /// As there.
    pub fn count(&self, filter: Option<&Filter>) -> Result<usize> {
        self.view.count(filter)
    }

    /// The weights that a sparse query is compared with: its values, times the
    /// idf of each position where the vector has the modifier for it.
    ///
    /// # Errors
    /// [`Error::UnknownVector`](crate::Error::UnknownVector) when `using` names
    /// no sparse vector.
    pub fn weights(&self, using: &str, query: &SparseVector) -> Result<Vec<(u32, f32)>> {
        weighted(&self.view, using, query, None)
    }
}

#[cfg(test)]
mod tests {
    use crate::{
        Bm25, Bm25Options, CollectionConfig, Database, Metric, Modifier, Parts, Point, PointId, Search,
    };

    #[test]
    fn a_reading_sees_what_was_there_after_points_are_replaced_sealed_and_merged() {
        let dir = tempfile::tempdir().unwrap();
        let db = Database::open(dir.path()).unwrap();
        let collection = db.create_collection("c", CollectionConfig::new(2, Metric::Cosine)).unwrap();
        let point = |id: u64, tag: &str| {
            Point::new(id, vec![1.0, id as f32]).with_payload(serde_json::json!({ "tag": tag })).unwrap()
        };
        collection.upsert((0..50).map(|id| point(id, "old")).collect()).unwrap();
        let reading = collection.reading().unwrap();
        collection.upsert((0..25).map(|id| point(id, "new")).collect()).unwrap();
        collection.delete((25..50).map(PointId::from).collect::<Vec<_>>()).unwrap();
        collection.compact().unwrap();

        let search = Search::nearest(vec![1.0, 0.0]).limit(100).with(Parts::payload());
        let tags = |hits: Vec<crate::Hit>| -> Vec<String> {
            let tag = |hit: &crate::Hit| hit.payload.as_ref().unwrap()["tag"].as_str().unwrap().to_owned();
            hits.iter().map(tag).collect()
        };
        assert_eq!(tags(reading.search(&search).unwrap().hits), vec!["old"; 50]);
        assert_eq!(tags(collection.search(&search).unwrap().hits), vec!["new"; 25]);
        assert_eq!(reading.get(&[PointId::from(40)], &Parts::payload()).unwrap().len(), 1);
        assert_eq!(reading.count(None).unwrap(), 50);
    }

    #[test]
    fn a_rare_word_weighs_more_than_a_frequent_one() {
        let dir = tempfile::tempdir().unwrap();
        let db = Database::open(dir.path()).unwrap();
        let config = CollectionConfig::default().with_sparse("w", Modifier::Idf);
        let collection = db.create_collection("c", config).unwrap();
        let bm25 = Bm25::new(&Bm25Options::default()).unwrap();
        let texts = ["granite path", "slate path", "sandstone path"];
        let points =
            (0..).zip(texts).map(|(id, text)| Point::empty(id as u64).with_vector("w", bm25.document(text)));
        collection.upsert(points.collect()).unwrap();
        let reading = collection.reading().unwrap();
        let weight = |word: &str| reading.weights("w", &bm25.query(word)).unwrap()[0].1;
        assert!(weight("granite") > weight("path") && weight("absent") > weight("granite"));
    }
}
