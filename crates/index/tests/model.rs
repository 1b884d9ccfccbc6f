//! Random operations against a map, through sealing, merging, reopening,
//! crashes, snapshots and restoring.

mod common;

use std::collections::BTreeMap;

use cairn_index::{
    CollectionConfig, ConfigChange, Database, Expiry, FieldSchema, Filter, Metric, Modifier, MultiVector,
    Options, Parts, Point, PointId, Scroll, Search, Selection, SparseVector, StoreKind, Vector, VectorConfig,
    When, WriteMode, WrittenId,
};
use common::{copy_folder, rng, scratch, vector};
use rand::Rng;
use rand::rngs::StdRng;
use serde_json::json;
use tempfile::TempDir;

const IDS: u64 = 250;

#[test]
fn random_operations_leave_what_a_map_would_hold_over_sled() {
    for seed in [14, 15] {
        Model::new(StoreKind::Sled, seed).run(400);
    }
}

#[test]
fn random_operations_leave_what_a_map_would_hold_over_redb() {
    for seed in [16, 17] {
        Model::new(StoreKind::Redb, seed).run(400);
    }
}

#[test]
#[ignore = "long: cargo xtask test --long"]
fn random_operations_leave_what_a_map_would_hold_for_long_over_sled() {
    for_long(StoreKind::Sled);
}

#[test]
#[ignore = "long: cargo xtask test --long"]
fn random_operations_leave_what_a_map_would_hold_for_long_over_redb() {
    for_long(StoreKind::Redb);
}

/// 40 seeds from 100 on, or from where `CAIRN_TEST_MODEL_SEED` says.
#[allow(clippy::print_stdout)] // the count that the suite is about
fn for_long(store: StoreKind) {
    const STEPS: usize = 1500;
    let from = std::env::var("CAIRN_TEST_MODEL_SEED").map_or(100, |seed| seed.parse().unwrap());
    let seeds = from..from + 40;
    for seed in seeds.clone() {
        Model::new(store, seed).run(STEPS);
    }
    println!("{store:?}: seeds {seeds:?}, {STEPS} operations each");
}

struct Model {
    rng: StdRng,
    seed: u64,
    step: usize,
    options: Options,
    // Closed before the folder goes away.
    db: Option<Database>,
    dir: TempDir,
    map: BTreeMap<PointId, Point>,
    extra: bool,
}

/// Every third point is called by a string.
fn called(number: u64) -> WrittenId {
    if number.is_multiple_of(3) { format!("stone {number}").into() } else { number.into() }
}

fn filter(json: serde_json::Value) -> Filter {
    serde_json::from_value(json).unwrap()
}

impl Model {
    fn new(store: StoreKind, seed: u64) -> Self {
        let mut rng = rng(seed);
        let options = Options {
            store,
            // Sealed when asked to: a folder that is copied must hold still.
            seal_points: usize::MAX,
            indexing_threshold: if rng.random_bool(0.5) { 50 } else { usize::MAX },
            full_scan_threshold: rng.random_range(0..100),
            max_segment_points: rng.random_range(60..400),
            ..Options::default()
        };
        let dir = scratch();
        let db = Database::open_with(dir.path(), options.clone()).unwrap();
        let config = CollectionConfig::new(4, Metric::Euclid)
            .with_sparse("s", Modifier::None)
            .with_vector("m", VectorConfig { multivector: true, ..VectorConfig::new(2, Metric::Dot) })
            .with_string_ids();
        db.create_collection("c", config).unwrap();
        let map = BTreeMap::new();
        Self { rng, seed, step: 0, options, db: Some(db), dir, map, extra: false }
    }

    fn collection(&self) -> cairn_index::Collection {
        self.db.as_ref().unwrap().collection("c").unwrap()
    }

    /// Nothing may be amiss with the files, whatever was done to them.
    fn check_health(&self) {
        assert_eq!(self.db.as_ref().unwrap().health().damaged, [], "{}", self.at());
    }

    fn at(&self) -> String {
        format!("seed {} step {}", self.seed, self.step)
    }

    fn run(mut self, steps: usize) {
        for step in 0..steps {
            self.step = step;
            match self.rng.random_range(0..27) {
                0..=5 => self.upsert(),
                6 => self.upsert_some(),
                7 => self.delete(),
                8 => self.delete_where(),
                24 => self.delete_having(),
                25..=26 => self.seal(),
                9 => self.set_payload(),
                10 => self.change_vectors(),
                11 => self.expire(),
                12 => self.collection().index_now().unwrap(),
                13 => self.collection().compact().unwrap(),
                14 => self.reopen(),
                15 => self.crash(),
                16 => self.configure(),
                17 => self.snapshot(),
                18..=19 => self.search(),
                20 => self.search_sparse(),
                21 => self.fetch(),
                _ => self.scroll(),
            }
            self.check_health();
            let there = self.map.len();
            assert_eq!(self.collection().count(None).unwrap(), there, "{}", self.at());
        }
        self.reopen();
        self.compare();
    }

    fn point(&mut self) -> Point {
        let id: WrittenId = match self.rng.random_range(0..11) {
            0 => uuid::Uuid::from_u128(self.rng.random_range(0..20)).into(),
            // By its UUID, and not by the string that the UUID was made of.
            1 => called(self.rng.random_range(0..IDS)).id.into(),
            _ => called(self.rng.random_range(0..IDS)),
        };
        let year: u32 = self.rng.random_range(0..100);
        let colour = ["red", "green", "blue"][self.rng.random_range(0..3)];
        let mut point =
            Point::empty(id).with_payload(json!({"year": year, "colour": colour, "n": {"a": year}})).unwrap();
        if self.rng.random_bool(0.9) {
            point = point.with_vector("", vector(&mut self.rng, 4));
        }
        if self.rng.random_bool(0.4) {
            point = point.with_vector("s", self.sparse());
        }
        if self.rng.random_bool(0.3) {
            let rows = self.rng.random_range(1..4);
            point = point.with_vector("m", MultiVector::new(2, vector(&mut self.rng, 2 * rows)).unwrap());
        }
        if self.extra && self.rng.random_bool(0.5) {
            point = point.with_vector("extra", vector(&mut self.rng, 3));
        }
        point
    }

    fn sparse(&mut self) -> SparseVector {
        let count = self.rng.random_range(1..8);
        let entries: BTreeMap<u32, f32> =
            (0..count).map(|_| (self.rng.random_range(0..30), self.rng.random_range(-1.0..2.0))).collect();
        SparseVector::new(entries).unwrap()
    }

    fn ids(&mut self, count: usize) -> Vec<PointId> {
        (0..count).map(|_| called(self.rng.random_range(0..IDS)).id).collect()
    }

    fn known_ids(&mut self, count: usize) -> Vec<PointId> {
        let all: Vec<PointId> = self.map.keys().copied().collect();
        if all.is_empty() {
            return Vec::new();
        }
        (0..count).map(|_| all[self.rng.random_range(0..all.len())]).collect()
    }

    /// In place of the one there, whose string it goes on being called by.
    fn put(&mut self, mut point: Point) {
        let known = self.map.get(&point.id).and_then(|known| known.label.clone());
        point.label = point.label.or(known);
        self.map.insert(point.id, point);
    }

    fn upsert(&mut self) {
        let points: Vec<Point> = (0..self.rng.random_range(1..20)).map(|_| self.point()).collect();
        points.iter().for_each(|point| self.put(point.clone()));
        assert_eq!(self.collection().upsert(points.clone()).unwrap().upserted, points.len());
    }

    fn upsert_some(&mut self) {
        let points: Vec<Point> = (0..10).map(|_| self.point()).collect();
        let mode =
            [WriteMode::InsertOnly, WriteMode::UpdateOnly, WriteMode::Upsert][self.rng.random_range(0..3)];
        let only =
            self.rng.random_bool(0.5).then(|| filter(json!({"must": {"key": "year", "range": {"lt": 50}}})));
        for point in &points {
            let wanted = match (self.map.get(&point.id), mode) {
                (None, mode) => mode != WriteMode::UpdateOnly,
                (Some(_), WriteMode::InsertOnly) => false,
                (Some(old), _) => only.as_ref().is_none_or(|only| only.matches(old.id, &old.payload)),
            };
            if wanted {
                self.put(point.clone());
            }
        }
        self.collection().upsert_when(points, When { mode, filter: only }).unwrap();
    }

    fn delete(&mut self) {
        let ids = self.ids(10);
        let gone = ids.iter().filter(|id| self.map.remove(id).is_some()).count();
        assert_eq!(self.collection().delete(ids).unwrap().deleted, gone, "{}", self.at());
    }

    fn delete_where(&mut self) {
        let bound: u32 = self.rng.random_range(0..8);
        let old = filter(json!({"must": [{"key": "year", "range": {"lt": bound}}]}));
        self.map.retain(|id, point| !old.matches(*id, &point.payload));
        self.collection().delete(old).unwrap();
    }

    fn delete_having(&mut self) {
        let name = ["m", "extra"][self.rng.random_range(0..2)];
        let bound: u32 = self.rng.random_range(0..60);
        let some = filter(json!({"must": [{"has_vector": name}, {"key": "year", "range": {"lt": bound}}]}));
        let young = filter(json!({"must": {"key": "year", "range": {"lt": bound}}}));
        self.map.retain(|id, point| !point.vectors.contains_key(name) || !young.matches(*id, &point.payload));
        self.collection().delete(some).unwrap();
    }

    fn set_payload(&mut self) {
        let add = json!({"added": self.step, "colour": null}).as_object().unwrap().clone();
        let bound: u32 = self.rng.random_range(0..100);
        let some = filter(json!({"must": [{"key": "year", "range": {"gte": bound}}]}));
        let at = self.rng.random_bool(0.5).then(|| "n".parse::<cairn_index::Path>().unwrap());
        for (id, point) in &mut self.map {
            if some.matches(*id, &point.payload) {
                let object = match at {
                    Some(_) => {
                        let n = point.payload.entry("n").or_insert(json!({}));
                        n.as_object_mut().unwrap()
                    }
                    None => &mut point.payload,
                };
                object.insert("added".to_owned(), json!(self.step));
                object.shift_remove("colour");
            }
        }
        self.collection().set_payload(some, add, at).unwrap();
        let ids = self.known_ids(3);
        for id in &ids {
            self.map.get_mut(id).unwrap().payload.shift_remove("year");
        }
        self.collection().delete_payload(ids, vec!["year".parse().unwrap()]).unwrap();
        let ids = self.known_ids(2);
        for id in &ids {
            self.map.get_mut(id).unwrap().payload.clear();
        }
        self.collection().replace_payload(ids, serde_json::Map::new()).unwrap();
    }

    fn change_vectors(&mut self) {
        let mut updates = Vec::new();
        for id in self.known_ids(4) {
            let new = self.point().vectors;
            self.map.get_mut(&id).unwrap().vectors.extend(new.clone());
            updates.push((id, new));
        }
        self.collection().update_vectors(updates, None).unwrap();
        let ids = self.known_ids(3);
        for id in &ids {
            self.map.get_mut(id).unwrap().vectors.remove("s");
        }
        self.collection().delete_vectors(Selection::Ids(ids), vec!["s".to_owned()]).unwrap();
    }

    fn expire(&mut self) {
        let ids = self.known_ids(3);
        self.collection().set_expiry(ids.clone(), Some(Expiry { at_ms: 1, renew_ms: 0 })).unwrap();
        ids.iter().for_each(|id| drop(self.map.remove(id)));
        let ids = self.known_ids(2);
        let far = Some(Expiry { at_ms: u64::MAX / 2, renew_ms: 0 });
        self.collection().set_expiry(ids.clone(), far).unwrap();
        for id in ids {
            self.map.get_mut(&id).unwrap().expiry = far;
        }
    }

    fn configure(&mut self) {
        let change = match self.rng.random_range(0..4) {
            0 => {
                let schema: FieldSchema = serde_json::from_value(json!("integer")).unwrap();
                ConfigChange::CreateIndex("year".parse().unwrap(), schema)
            }
            1 => ConfigChange::DropIndex("year".parse().unwrap()),
            2 => {
                let schema: FieldSchema = serde_json::from_value(json!("keyword")).unwrap();
                ConfigChange::CreateIndex("colour".parse().unwrap(), schema)
            }
            _ if self.extra => {
                self.extra = false;
                self.map.values_mut().for_each(|point| drop(point.vectors.remove("extra")));
                ConfigChange::DropVector("extra".to_owned())
            }
            _ => {
                self.extra = true;
                ConfigChange::AddVector("extra".to_owned(), VectorConfig::new(3, Metric::Dot))
            }
        };
        self.collection().configure(change).unwrap();
    }

    fn open(&mut self) {
        self.db = Some(Database::open_with(self.dir.path(), self.options.clone()).unwrap());
    }

    fn reopen(&mut self) {
        self.db = None;
        self.open();
    }

    /// Goes on with the folder as a killed process would leave it.
    fn crash(&mut self) {
        let copy = scratch();
        // A copy takes time, a crash does not: nothing may change meanwhile.
        while self.collection().info().indexing {
            std::thread::sleep(std::time::Duration::from_millis(1));
        }
        copy_folder(self.dir.path(), copy.path());
        self.db = None;
        self.dir = copy;
        self.open();
        self.compare();
    }

    /// A segment more, and nothing merged: what follows stays in the log while
    /// the background merges.
    fn seal(&mut self) {
        let collection = self.collection();
        let snapshot = collection.create_snapshot().unwrap();
        assert!(collection.delete_snapshot(&snapshot.name).unwrap());
    }

    /// Keeps a snapshot, changes the collection, and goes back to it, sometimes
    /// in another folder, as on another machine.
    fn snapshot(&mut self) {
        let snapshot = self.collection().create_snapshot().unwrap();
        let (map, extra) = (self.map.clone(), self.extra);
        for _ in 0..3 {
            self.upsert();
            self.delete();
        }
        if self.rng.random_bool(0.3) {
            self.collection().compact().unwrap();
        }
        assert_eq!(self.collection().snapshots().unwrap().last(), Some(&snapshot));
        if self.rng.random_bool(0.5) {
            let mut packed = Vec::new();
            snapshot.pack(&mut packed).unwrap();
            self.db = None;
            self.dir = scratch();
            self.open();
            self.db.as_ref().unwrap().restore_from("c", packed.as_slice()).unwrap();
        } else {
            self.db.as_ref().unwrap().restore("c", &snapshot.path).unwrap();
        }
        (self.map, self.extra) = (map, extra);
        self.compare();
    }

    fn search(&mut self) {
        let query = vector(&mut self.rng, 4);
        let some = self.rng.random_bool(0.5).then(|| {
            filter(json!({"must": {"key": "year", "range": {"lt": 70}},
                          "must_not": {"key": "colour", "match": {"value": "red"}}}))
        });
        let mut search = Search::nearest(query.clone()).exact();
        search.filter.clone_from(&some);
        let found = self.collection().search(&search).unwrap();
        let mut want: Vec<(PointId, f32)> = self
            .map
            .values()
            .filter(|point| some.as_ref().is_none_or(|some| some.matches(point.id, &point.payload)))
            .filter_map(|point| {
                let stored = point.vectors.get("")?.as_dense()?;
                let squared: f32 = stored.iter().zip(&query).map(|(x, y)| (x - y).powi(2)).sum();
                Some((point.id, squared.sqrt()))
            })
            .collect();
        want.sort_by(|a, b| a.1.total_cmp(&b.1));
        want.truncate(10);
        let got: Vec<PointId> = found.hits.iter().map(|hit| hit.id).collect();
        assert_eq!(got, want.iter().map(|(id, _)| *id).collect::<Vec<_>>(), "{}", self.at());
    }

    fn search_sparse(&mut self) {
        let query = self.sparse();
        let found = self.collection().search(&Search::nearest(query.clone()).using("s")).unwrap();
        let mut want: Vec<f32> =
            self.map.values().filter_map(|point| query.dot(point.vectors.get("s")?.as_sparse()?)).collect();
        want.sort_by(|a, b| b.total_cmp(a));
        want.truncate(10);
        let got: Vec<f32> = found.hits.iter().map(|hit| hit.score).collect();
        assert_eq!(got.len(), want.len(), "{}", self.at());
        assert!(got.iter().zip(&want).all(|(a, b)| (a - b).abs() < 1e-4), "{}: {got:?} {want:?}", self.at());
    }

    fn fetch(&mut self) {
        let ids = self.ids(20);
        let records = self.collection().get(&ids, &Parts::all()).unwrap();
        let got: Vec<Point> = records.into_iter().map(point_of).collect();
        let want: Vec<Point> = ids.iter().filter_map(|id| self.map.get(id).cloned()).collect();
        assert_eq!(got, want, "{}", self.at());
    }

    fn scroll(&mut self) {
        let from = self.rng.random_bool(0.5).then(|| called(self.rng.random_range(0..IDS)).id);
        let some =
            self.rng.random_bool(0.5).then(|| filter(json!({"must": {"key": "year", "range": {"lt": 40}}})));
        let limit = self.rng.random_range(1..30);
        let scroll = Scroll { from, limit, filter: some.clone(), parts: Parts::all() };
        let page = self.collection().scroll(&scroll).unwrap();
        let mut want = self
            .map
            .values()
            .filter(|point| from.is_none_or(|from| point.id >= from))
            .filter(|point| some.as_ref().is_none_or(|some| some.matches(point.id, &point.payload)))
            .cloned();
        let expected: Vec<Point> = want.by_ref().take(limit).collect();
        let got: Vec<Point> = page.records.into_iter().map(point_of).collect();
        assert_eq!(got, expected, "{}", self.at());
        assert_eq!(page.next, want.next().map(|point| point.id), "{}", self.at());
    }

    fn compare(&self) {
        let all = Scroll { limit: 10_000, parts: Parts::all(), ..Scroll::default() };
        let stored: Vec<Point> =
            self.collection().scroll(&all).unwrap().records.into_iter().map(point_of).collect();
        assert_eq!(stored, self.map.values().cloned().collect::<Vec<_>>(), "{}", self.at());
    }
}

fn point_of(record: cairn_index::Record) -> Point {
    let vectors: BTreeMap<String, Vector> = record.vectors.unwrap();
    let (id, label, expiry) = (record.id, record.label, record.expiry);
    Point { id, label, vectors, payload: record.payload.unwrap(), expiry }
}
