//! Points that are called by strings: each string is there wherever its point is,
//! whatever became of the row since.

mod common;
mod faults;

use std::collections::BTreeMap;
use std::path::Path;

use cairn_index::{
    Collection, CollectionConfig, ConfigChange, Database, Error, FieldKind, Filter, GroupRequest,
    MatrixRequest, Metric, Options, Parts, Point, PointId, Query, QueryRequest, Record, Scroll, Search,
    StoreKind, Target, WithLookup, WrittenId, with_labels,
};
use common::copy_folder;
use faults::STORES;
use rand::Rng;
use serde_json::json;

/// Sealed and merged only when it is asked for.
fn open(dir: &Path, store: StoreKind) -> Database {
    let options = Options { store, seal_points: usize::MAX, indexing_threshold: 20, ..Options::default() };
    Database::open_with(dir, options).unwrap()
}

fn config() -> CollectionConfig {
    CollectionConfig::new(2, Metric::Dot).with_string_ids()
}

/// Strings and numbers, as somebody might call points.
fn called(number: u64) -> WrittenId {
    match number % 4 {
        0 => number.into(),
        1 => format!("quarry/{number}").into(),
        2 => format!("{number}").into(),
        _ => format!("\"Stein\" {number} ü\n").into(),
    }
}

fn point(number: u64) -> Point {
    let payload = json!({"n": number, "of": format!("quarry/{}", number % 2 * 4 + 1)});
    Point::new(called(number), vec![1.0, number as f32]).with_payload(payload).unwrap()
}

fn written(record: &Record) -> WrittenId {
    WrittenId { id: record.id, label: record.label.clone() }
}

/// What each number's point is called.
fn names(collection: &Collection) -> BTreeMap<u64, WrittenId> {
    let all = Scroll { limit: 10_000, ..Scroll::default() };
    let records = collection.scroll(&all).unwrap().records;
    let number = |record: &Record| record.payload.as_ref().unwrap()["n"].as_u64().unwrap();
    records.iter().map(|record| (number(record), written(record))).collect()
}

fn expected(numbers: impl Iterator<Item = u64>) -> BTreeMap<u64, WrittenId> {
    numbers.map(|number| (number, called(number))).collect()
}

#[test]
fn a_string_is_given_back_by_every_kind_of_read() {
    let dir = tempfile::tempdir().unwrap();
    let db = open(dir.path(), StoreKind::Sled);
    let config = config().with_index("of", FieldKind::Keyword.into()).unwrap();
    let stones = db.create_collection("stones", config).unwrap();
    stones.upsert((0..40).map(point).collect()).unwrap();
    // From memory, from a segment, and from one that was merged.
    for round in 0..3 {
        match round {
            0 => {}
            1 => stones.index_now().unwrap(),
            _ => {
                stones.upsert((40..80).map(point).collect()).unwrap();
                stones.compact().unwrap();
            }
        }
        let ids: Vec<PointId> = [5, 2, 0, 7].map(|number| called(number).id).into();
        let records = stones.get(&ids, &Parts::payload()).unwrap();
        assert_eq!(records.iter().map(written).collect::<Vec<_>>(), [5, 2, 0, 7].map(called));

        let hit = &stones.search(&Search::nearest(vec![0.0, -1.0]).limit(2).exact()).unwrap().hits[1];
        assert_eq!((hit.id, hit.label.clone()), (called(1).id, called(1).label), "round {round}");
        let near = QueryRequest::new(Query::nearest(Target::Id(called(3)))).limit(1).exact();
        let hit = &stones.query(&near).unwrap()[0];
        let last = if round < 2 { 39 } else { 79 };
        assert_eq!(hit.label, called(last).label, "round {round}");

        let filter = r#"{"must": [{"has_id": ["quarry/9", "2", "gone"]}]}"#;
        let filter: Filter = with_labels(|| serde_json::from_str(filter)).unwrap();
        assert_eq!(stones.count(Some(&filter)).unwrap(), 2);

        let near =
            QueryRequest { parts: Parts::payload(), ..QueryRequest::new(Query::nearest(vec![0.0, 1.0])) };
        let mut request = GroupRequest::new(near, "of".parse().unwrap());
        request.with_lookup = Some(WithLookup { collection: "stones".to_owned(), parts: Parts::payload() });
        for group in stones.query_groups(&request).unwrap() {
            let looked_up = group.lookup.unwrap();
            assert!(["quarry/1", "quarry/5"].contains(&&*looked_up.label.unwrap()));
            assert!(group.hits.iter().all(|hit| hit.label == called_by_payload(hit.payload.as_ref())));
        }

        let matrix = stones.matrix(&MatrixRequest { sample: 100, ..MatrixRequest::default() }).unwrap();
        let names: Vec<WrittenId> = names(&stones).into_values().collect();
        assert_eq!(matrix.ids.len(), names.len());
        for (id, label) in matrix.ids.iter().zip(&matrix.labels) {
            assert!(names.contains(&WrittenId { id: *id, label: label.clone() }));
        }
    }
    assert_eq!(names(&stones), expected(0..80));
}

fn called_by_payload(payload: Option<&cairn_index::Payload>) -> Option<std::sync::Arc<str>> {
    called(payload?["n"].as_u64()?).label
}

#[test]
fn pages_are_in_the_order_of_uuids_and_begin_where_they_say() {
    let dir = tempfile::tempdir().unwrap();
    let db = open(dir.path(), StoreKind::Redb);
    let stones = db.create_collection("stones", config()).unwrap();
    stones.upsert((0..50).map(point).collect()).unwrap();
    stones.index_now().unwrap();
    stones.upsert((50..60).map(point).collect()).unwrap();
    let (mut met, mut scroll) = (Vec::new(), Scroll { limit: 7, ..Scroll::default() });
    loop {
        let page = stones.scroll(&scroll).unwrap();
        let next = page.next.map(|id| WrittenId { id, label: page.next_label });
        if let Some(first) = met.last().filter(|_| scroll.from.is_some()) {
            assert!(*first < page.records[0].id);
        }
        met.extend(page.records.iter().map(|record| record.id));
        // Who only has the string goes on from there.
        let Some(next) = next else { break };
        scroll.from = Some(next.label.as_deref().map_or(next.id, PointId::labelled));
        assert_eq!(scroll.from, Some(next.id));
    }
    assert_eq!(met.len(), 60);
    assert!(met.is_sorted());
}

#[test]
fn a_point_keeps_its_string_through_every_change() {
    for store in STORES {
        let dir = tempfile::tempdir().unwrap();
        let db = open(dir.path(), store);
        let stones = db.create_collection("stones", config()).unwrap();
        let id = called(1).id;
        let label = |collection: &Collection| {
            let records = collection.get(&[id], &Parts::payload()).unwrap();
            records[0].label.as_deref().map(str::to_owned)
        };
        let quarry = || Some("quarry/1".to_owned());
        // By the UUID first: nobody knows yet what it was made of.
        stones.upsert(vec![Point::new(id, vec![0.1, 0.2])]).unwrap();
        assert_eq!(label(&stones), None);
        stones.upsert(vec![point(1)]).unwrap();
        assert_eq!(label(&stones), quarry());
        for sealed in [false, true] {
            if sealed {
                stones.compact().unwrap();
            }
            let payload = json!({"a": 1}).as_object().unwrap().clone();
            stones.set_payload(vec![id], payload.clone(), None).unwrap();
            stones.replace_payload(vec![id], payload).unwrap();
            stones.update_vectors(vec![(id, Point::new(id, vec![3.0, 4.0]).vectors)], None).unwrap();
            stones.set_expiry(vec![id], None).unwrap();
            assert_eq!(label(&stones), quarry(), "{store:?}");
            stones.upsert(vec![Point::new(id, vec![0.1, 0.2])]).unwrap();
            assert_eq!(label(&stones), quarry(), "{store:?}");
        }
        stones.delete(vec![id]).unwrap();
        stones.upsert(vec![Point::new(id, vec![0.1, 0.2])]).unwrap();
        assert_eq!(label(&stones), None, "{store:?}: the point was another");
    }
}

#[test]
fn strings_survive_a_crash_wherever_they_are() {
    for store in STORES {
        let dir = tempfile::tempdir().unwrap();
        let db = open(dir.path(), store);
        let stones = db.create_collection("stones", config()).unwrap();
        let crashed = |want: u64| {
            while stones.info().indexing {
                std::thread::sleep(std::time::Duration::from_millis(1));
            }
            let copy = tempfile::tempdir().unwrap();
            copy_folder(dir.path(), copy.path());
            let db = open(copy.path(), store);
            let stones = db.collection("stones").unwrap();
            assert!(stones.takes_string_ids());
            assert_eq!(names(&stones), expected(0..want), "{store:?}");
            stones.upsert(vec![point(1000)]).unwrap();
            stones.compact().unwrap();
            assert_eq!(names(&stones).len() as u64, want + 1);
        };
        stones.upsert((0..30).map(point).collect()).unwrap();
        crashed(30);
        stones.index_now().unwrap();
        stones.upsert((30..60).map(point).collect()).unwrap();
        crashed(60);
        stones.compact().unwrap();
        crashed(60);
    }
}

#[test]
fn a_log_cut_anywhere_has_whole_strings_or_is_refused() {
    for (store, seed) in STORES.into_iter().zip(900..) {
        let mut rng = common::rng(seed);
        let dir = tempfile::tempdir().unwrap();
        let db = open(dir.path(), store);
        let stones = db.create_collection("stones", config()).unwrap();
        for number in 0..40 {
            stones.upsert(vec![point(number)]).unwrap();
        }
        let whole = tempfile::tempdir().unwrap();
        copy_folder(dir.path(), whole.path());
        let name = if store == StoreKind::Redb { "log/log.redb" } else { "log/db" };
        let bytes = std::fs::read(whole.path().join(name)).unwrap();
        let used = bytes.iter().rposition(|byte| *byte != 0).unwrap() + 1;
        let mut ends: Vec<usize> = (0..12).map(|_| rng.random_range(0..used)).collect();
        ends.push(bytes.len());
        for end in ends {
            let cut = tempfile::tempdir().unwrap();
            copy_folder(whole.path(), cut.path());
            std::fs::write(cut.path().join(name), &bytes[..end]).unwrap();
            let options = Options { store, seal_points: usize::MAX, ..Options::default() };
            let Ok(db) = Database::open_with(cut.path(), options) else {
                assert!(end < bytes.len(), "{store:?}: the whole log is refused");
                continue;
            };
            let found = names(&db.collection("stones").unwrap());
            let count = found.len() as u64;
            assert_eq!(found, expected(0..count), "{store:?} seed {seed} cut at {end}");
            assert!(end < bytes.len() || count == 40);
        }
    }
}

#[test]
fn snapshots_and_lines_carry_strings_to_another_machine() {
    let (dir, elsewhere) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let (db, other) = (open(dir.path(), StoreKind::Sled), open(elsewhere.path(), StoreKind::Redb));
    let stones = db.create_collection("stones", config()).unwrap();
    stones.upsert((0..40).map(point).collect()).unwrap();
    let mut packed = Vec::new();
    stones.create_snapshot().unwrap().pack(&mut packed).unwrap();
    let restored = other.restore_from("stones", packed.as_slice()).unwrap();
    assert_eq!(names(&restored), expected(0..40));
    assert!(restored.takes_string_ids() && restored.config().string_ids);

    let mut lines = Vec::new();
    assert_eq!(stones.export(&mut lines).unwrap(), 40);
    let text = String::from_utf8(lines.clone()).unwrap();
    let points: Vec<Point> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let fitting = CollectionConfig::fitting(&points, Metric::Dot);
    assert_eq!(fitting, config());
    let imported = other.create_collection("imported", fitting).unwrap();
    imported.upsert(points).unwrap();
    assert_eq!(names(&imported), expected(0..40));
    let mut again = Vec::new();
    imported.export(&mut again).unwrap();
    assert_eq!(again, lines);
}

#[test]
fn a_collection_takes_strings_only_when_it_was_told_to() {
    for store in STORES {
        let dir = tempfile::tempdir().unwrap();
        let db = open(dir.path(), store);
        let stones = db.create_collection("stones", CollectionConfig::new(2, Metric::Dot)).unwrap();
        stones.upsert(vec![Point::new(4, vec![1.0, 0.0])]).unwrap();
        let refused = stones.upsert(vec![Point::new(8, vec![1.0, 0.0]), point(1)]);
        assert!(matches!(&refused, Err(Error::Label { label }) if label == "quarry/1"), "{refused:?}");
        let refused = stones.replace(Vec::<PointId>::new(), vec![point(1)]);
        assert!(matches!(refused, Err(Error::Label { .. })));
        assert!(stones.check(&point(1)).is_err() && stones.check(&point(4)).is_ok());
        assert_eq!(stones.count(None).unwrap(), 1);

        assert!(!stones.takes_string_ids());
        stones.configure(ConfigChange::StringIds).unwrap();
        assert!(stones.takes_string_ids());
        stones.upsert(vec![point(1)]).unwrap();
        drop((stones, db));
        let db = open(dir.path(), store);
        let stones = db.collection("stones").unwrap();
        assert!(stones.takes_string_ids() && stones.config().string_ids);
        assert_eq!(
            stones.get(&[called(1).id], &Parts::payload()).unwrap()[0].label.as_deref(),
            Some("quarry/1")
        );
        let long = Point::new("x".repeat(5000), vec![1.0, 0.0]);
        assert!(matches!(stones.upsert(vec![long]), Err(Error::Request(_))));
    }
}
