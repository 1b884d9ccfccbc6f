//! Stories of how a database was not the same after a crash as before it, and of
//! damage that went on living.

mod common;
mod faults;

use std::path::Path;
use std::time::{Duration, Instant};

use cairn_index::{
    Collection, CollectionConfig, ConfigChange, Database, Error, Expiry, Metric, Options, Parts, Point,
    PointId, Scroll, StoreKind, VectorConfig, When, WriteMode,
};
use common::copy_folder;
use faults::{STORES, filter};
use serde_json::json;
use tempfile::TempDir;

/// Sealed and merged only when it is asked for.
fn options(store: StoreKind) -> Options {
    Options { store, seal_points: usize::MAX, ..Options::default() }
}

fn open(dir: &Path, store: StoreKind) -> Database {
    Database::open_with(dir, options(store)).unwrap()
}

fn wait_until_idle(collection: &Collection) {
    while collection.info().indexing {
        std::thread::sleep(Duration::from_millis(1));
    }
}

/// Opens the folder as a process that was killed now would leave it.
fn crashed(dir: &Path, store: StoreKind) -> (TempDir, Database) {
    let copy = tempfile::tempdir().unwrap();
    copy_folder(dir, copy.path());
    let db = open(copy.path(), store);
    (copy, db)
}

fn ids_of(collection: &Collection) -> Vec<PointId> {
    let all = Scroll { limit: 1000, ..Scroll::default() };
    collection.scroll(&all).unwrap().records.into_iter().map(|record| record.id).collect()
}

/// Four segments, which is when a merge is due: points 0 to 9 in the first, one
/// more in each of the others. Nothing merges them yet.
fn four_segments(dir: &Path, store: StoreKind, first: Vec<Point>) -> (Database, Collection) {
    let db = open(dir, store);
    let config =
        CollectionConfig::new(2, Metric::Dot).with_vector("extra", VectorConfig::new(1, Metric::Dot));
    let collection = db.create_collection("c", config).unwrap();
    collection.upsert(first).unwrap();
    for id in 100..103 {
        collection.create_snapshot().unwrap();
        collection.upsert(vec![Point::new(id, vec![1.0, 1.0])]).unwrap();
    }
    collection.create_snapshot().unwrap();
    assert_eq!(collection.info().segments, 4);
    (db, collection)
}

/// A merge in the background: what was written since stays in the log.
fn merge(collection: &Collection, change: ConfigChange) {
    collection.configure(change).unwrap();
    wait_until_idle(collection);
    assert_eq!(collection.info().segments, 1);
}

#[test]
fn a_merge_keeps_a_dropped_vector_that_a_filter_in_the_log_asks_for() {
    for store in STORES {
        let dir = tempfile::tempdir().unwrap();
        let first = (0..10).map(|id| {
            let point = Point::new(id, vec![1.0, 1.0]);
            if id < 5 { point.with_vector("extra", vec![1.0]) } else { point }
        });
        let (_db, collection) = four_segments(dir.path(), store, first.collect());
        let extra = filter(json!({"must": {"has_vector": "extra"}}));
        assert_eq!(collection.delete(extra).unwrap().deleted, 5);
        merge(&collection, ConfigChange::DropVector("extra".to_owned()));
        let before = ids_of(&collection);
        assert_eq!(before.len(), 8);
        let (_copy, db) = crashed(dir.path(), store);
        assert_eq!(ids_of(&db.collection("c").unwrap()), before, "{store:?}");
    }
}

#[test]
fn an_insert_that_was_refused_is_refused_again_when_the_log_is_replayed() {
    for store in STORES {
        let dir = tempfile::tempdir().unwrap();
        let soon = Expiry::after(Duration::from_millis(600));
        let first = (0..10).map(|id| Point::new(id, vec![1.0, 1.0]).with_expiry(soon));
        let (_db, collection) = four_segments(dir.path(), store, first.collect());
        // There is a point 3 now, so it is not new.
        let when = When { mode: WriteMode::InsertOnly, filter: None };
        let applied = collection.upsert_when(vec![Point::new(3, vec![2.0, 2.0])], when).unwrap();
        assert_eq!(applied.upserted, 0, "{store:?}");
        std::thread::sleep(Duration::from_millis(700));
        merge(&collection, ConfigChange::Metadata(serde_json::Map::new()));
        let before = ids_of(&collection);
        assert_eq!(before, [100.into(), 101.into(), 102.into()]);
        let (_copy, db) = crashed(dir.path(), store);
        assert_eq!(ids_of(&db.collection("c").unwrap()), before, "{store:?}");
        // Sealed, the log asks for nothing any more, and the room is given back.
        collection.compact().unwrap();
        let all = collection.get(&ids_of(&collection), &Parts::all()).unwrap();
        assert_eq!((all.len(), collection.info().points), (3, 3));
    }
}

#[test]
fn a_merge_does_not_give_damaged_rows_a_checksum_that_holds() {
    for store in STORES {
        let dir = tempfile::tempdir().unwrap();
        let first = (0..10).map(|id| Point::new(id, vec![1.0, 1.0]));
        let (db, collection) = four_segments(dir.path(), store, first.collect());
        wait_until_idle(&collection);
        // A bit turns while the segment is in use.
        let file = dir.path().join("collections/1/1.segment");
        turn_a_bit(&file, &1f32.to_le_bytes().repeat(20));
        let merged = collection.compact();
        assert!(merged.is_ok(), "{store:?}: {merged:?}");
        let damaged = db.health().damaged;
        assert_eq!(damaged.len(), 1, "{store:?}");
        assert!(damaged[0].file.ends_with("1.segment") && file.exists());
        assert_eq!(ids_of(&collection), [100.into(), 101.into(), 102.into()]);
        drop((db, collection));
        // Until it is read through again, it is served again.
        let db = open(dir.path(), store);
        let started = Instant::now();
        while db.health().damaged.is_empty() {
            assert!(started.elapsed() < Duration::from_secs(20), "{store:?}: no damage is told of");
            std::thread::sleep(Duration::from_millis(1));
        }
        assert_eq!(db.collection("c").unwrap().count(None).unwrap(), 3);
    }
}

/// Changes a file in place where it holds these bytes.
fn turn_a_bit(file: &Path, of: &[u8]) {
    use std::os::unix::fs::FileExt;
    let bytes = std::fs::read(file).unwrap();
    let at = bytes.windows(of.len()).position(|window| window == of).unwrap();
    let open = std::fs::OpenOptions::new().write(true).open(file).unwrap();
    open.write_all_at(&[bytes[at] ^ 1], at as u64).unwrap();
}

#[test]
fn what_a_crash_left_of_a_snapshot_is_cleared_away() {
    for store in STORES {
        let dir = tempfile::tempdir().unwrap();
        let first = (0..10).map(|id| Point::new(id, vec![1.0, 1.0]));
        let (db, collection) = four_segments(dir.path(), store, first.collect());
        let whole = collection.snapshots().unwrap();
        drop((db, collection));
        let snapshots = dir.path().join("snapshots");
        // Killed before the last step of making one, and of receiving one.
        let name = whole[0].path.file_name().unwrap().to_string_lossy();
        let half = snapshots.join(format!("c/{name}.partial"));
        copy_folder(&whole[0].path, &half);
        let incoming = snapshots.join("6fbd6a1c-52f5-4f5c-8a2e-3f1b0f3ce0a1.incoming");
        copy_folder(&whole[0].path, &incoming);
        let db = open(dir.path(), store);
        assert_eq!(db.collection("c").unwrap().snapshots().unwrap(), whole, "{store:?}");
        assert!(!half.exists() && !incoming.exists(), "{store:?}: they hold room for ever");
    }
}

#[test]
fn snapshots_made_at_once_are_all_whole() {
    let dir = tempfile::tempdir().unwrap();
    let first = (0..10).map(|id| Point::new(id, vec![1.0, 1.0]));
    let (_db, collection) = four_segments(dir.path(), StoreKind::Redb, first.collect());
    let before = collection.snapshots().unwrap().len();
    std::thread::scope(|scope| {
        for _ in 0..8 {
            scope.spawn(|| {
                for _ in 0..10 {
                    let snapshot = collection.create_snapshot().unwrap();
                    assert!(snapshot.path.join("1.segment").exists());
                }
            });
        }
    });
    assert_eq!(collection.snapshots().unwrap().len(), before + 80);
}

#[test]
fn a_directory_that_lost_its_format_file_is_not_taken_for_an_empty_one() {
    for (store, other) in [(StoreKind::Sled, StoreKind::Redb), (StoreKind::Redb, StoreKind::Sled)] {
        let dir = tempfile::tempdir().unwrap();
        let first = (0..10).map(|id| Point::new(id, vec![1.0, 1.0]));
        drop(four_segments(dir.path(), store, first.collect()));
        std::fs::remove_file(dir.path().join("format.json")).unwrap();
        // The store that is there is used, whatever a new one would be.
        let db = open(dir.path(), other);
        assert_eq!(db.collection("c").unwrap().count(None).unwrap(), 13, "{store:?}");
        drop(db);
        std::fs::remove_file(dir.path().join("format.json")).unwrap();
        std::fs::remove_dir_all(dir.path().join("log")).unwrap();
        let error = Database::open_with(dir.path(), options(store)).err();
        assert!(matches!(error, Some(Error::Corrupt { .. })), "{store:?}: {error:?}");
        assert!(dir.path().join("collections/1/1.segment").exists());
    }
}

/// A pipe that nobody writes into stands in for a file that takes long to read.
#[test]
fn collections_are_served_while_another_one_is_restored() {
    let dir = tempfile::tempdir().unwrap();
    let first = (0..10).map(|id| Point::new(id, vec![1.0, 1.0]));
    let (db, collection) = four_segments(dir.path(), StoreKind::Redb, first.collect());
    let snapshot = collection.create_snapshot().unwrap();
    let slow = tempfile::tempdir().unwrap();
    copy_folder(&snapshot.path, slow.path());
    let pipe = slow.path().join("1.segment");
    std::fs::remove_file(&pipe).unwrap();
    let mode = rustix::fs::Mode::from_raw_mode(0o600);
    rustix::fs::mknodat(rustix::fs::CWD, &pipe, rustix::fs::FileType::Fifo, mode, 0).unwrap();
    std::thread::scope(|scope| {
        let restoring = scope.spawn(|| db.restore("copy", slow.path()).err());
        while !dir.path().join("collections/2/1.segment").exists() {
            std::thread::sleep(Duration::from_millis(1));
        }
        let (done, answer) = std::sync::mpsc::channel();
        scope.spawn(|| {
            let done = done;
            db.create_collection("other", CollectionConfig::new(1, Metric::Dot)).unwrap();
            db.set_aliases(&[("alias", Some("other"))]).unwrap();
            done.send(db.collection("alias").unwrap().count(None)).unwrap();
        });
        let served = answer.recv_timeout(Duration::from_secs(10));
        // Opening the other end lets the restoring thread go on.
        drop(std::fs::OpenOptions::new().write(true).open(&pipe).unwrap());
        assert!(matches!(restoring.join().unwrap(), Some(Error::Corrupt { .. })));
        assert_eq!(served.unwrap().unwrap(), 0);
    });
    assert_eq!(db.collections(), ["c", "other"]);
}
