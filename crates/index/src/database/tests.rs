//! Crashes between two steps of changing the catalogue.

use super::*;
use crate::{Metric, Point};

fn three_points(dir: &Path) -> Database {
    let db = Database::open(dir).unwrap();
    let collection = db.create_collection("c", CollectionConfig::new(1, Metric::Dot)).unwrap();
    collection.upsert((0..3).map(|id| Point::new(id, vec![1.0])).collect()).unwrap();
    collection.index_now().unwrap();
    db
}

#[test]
fn a_drop_that_a_crash_cut_off_in_the_middle_leaves_the_collection_whole() {
    let dir = tempfile::tempdir().unwrap();
    let db = three_points(dir.path());
    let uid = db.inner.shard("c").unwrap().uid;
    db.inner.store.put(&dropped_key(uid), b"").unwrap();
    drop(db);
    for _ in 0..2 {
        let db = Database::open(dir.path()).unwrap();
        assert_eq!(db.collection("c").unwrap().count(None).unwrap(), 3);
        assert_eq!(db.health().damaged, []);
    }
}

#[test]
fn a_restore_that_a_crash_cut_off_leaves_nothing_behind() {
    let dir = tempfile::tempdir().unwrap();
    let db = three_points(dir.path());
    let snapshot = db.collection("c").unwrap().create_snapshot().unwrap();
    let (uid, folder) = db.make_dropped_collection_dir().unwrap();
    snapshot::bring(&snapshot.path, &folder, uid).unwrap();
    drop(db);
    let db = Database::open(dir.path()).unwrap();
    assert!(!folder.exists());
    assert_eq!(db.inner.store.list(DROPPED).unwrap(), []);
    assert_eq!(db.restore("d", &snapshot.path).unwrap().count(None).unwrap(), 3);
    assert_eq!(db.inner.store.list(DROPPED).unwrap(), []);
}
