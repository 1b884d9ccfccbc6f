//! What the log takes it gives back: values that JSON or a file cannot hold are
//! refused at the door, not found when the database is opened again.

mod faults;

use std::path::Path;
use std::time::Duration;

use cairn_index::{
    Collection, CollectionConfig, Condition, ConfigChange, Database, Error, Expiry, Filter, Metric, Options,
    Point, StoreKind, Vectors, When, WriteMode,
};
use faults::STORES;
use serde_json::{Map, Value, json};

fn open(dir: &Path, store: StoreKind) -> Database {
    Database::open_with(dir, Options { store, ..Options::default() }).unwrap()
}

fn small(dir: &Path, store: StoreKind) -> (Database, Collection) {
    let db = open(dir, store);
    let collection = db.create_collection("c", CollectionConfig::new(1, Metric::Dot)).unwrap();
    let point = |id| Point::new(id, vec![1.0]).with_payload(json!({"n": id})).unwrap();
    collection.upsert((0..3).map(point).collect()).unwrap();
    (db, collection)
}

/// A filter in which nothing is unusual but its depth: of an object each, not of
/// a list, it nests half as deep as it is kept.
fn nested(levels: usize) -> Option<Filter> {
    let mut condition = json!({"key": "n", "match": {"value": 99}});
    for _ in 0..levels {
        condition = json!({ "must": condition });
    }
    serde_json::from_str(&json!({ "must": condition }).to_string()).ok()
}

#[test]
fn filters_that_nest_too_deep_for_the_log_are_refused() {
    for store in STORES {
        let dir = tempfile::tempdir().unwrap();
        let (mut refused, mut taken) = (0, 0);
        for levels in [1, 20, 40, 60, 62, 64, 80, 100, 120] {
            let Some(filter) = nested(levels) else { continue };
            let db = open(dir.path(), store);
            let collection = match db.collection("c") {
                Ok(collection) => collection,
                Err(_) => db.create_collection("c", CollectionConfig::new(1, Metric::Dot)).unwrap(),
            };
            collection.upsert(vec![Point::new(1, vec![1.0])]).unwrap();
            let when = When { mode: WriteMode::Upsert, filter: Some(filter.clone()) };
            let update = vec![(1.into(), Vectors::from([(String::new(), vec![2.0].into())]))];
            let done = [
                collection.delete(filter.clone()),
                collection.upsert_when(vec![Point::new(1, vec![2.0])], when),
                collection.update_vectors(update, Some(filter.clone())),
                collection.set_payload(filter.clone(), Map::new(), None),
                collection.delete_payload(filter, vec!["n".parse().unwrap()]),
            ];
            for done in done {
                match done {
                    Ok(_) => taken += 1,
                    Err(Error::Filter(_)) => refused += 1,
                    Err(other) => panic!("{levels}: {other:?}"),
                }
            }
        }
        assert!(refused > 0 && taken > 0, "{refused} and {taken}");
        assert_eq!(open(dir.path(), store).collection("c").unwrap().count(None).unwrap(), 1, "{store:?}");
    }
}

#[test]
fn a_filter_with_a_number_that_is_not_one_deletes_nothing_when_it_is_replayed() {
    for store in STORES {
        let dir = tempfile::tempdir().unwrap();
        let (db, collection) = small(dir.path(), store);
        for bound in [f64::NAN, f64::INFINITY, f64::NEG_INFINITY] {
            let mut filter: Filter =
                serde_json::from_value(json!({"must": {"key": "n", "range": {"gte": 0.0}}})).unwrap();
            let Condition::Field { tests, .. } = &mut filter.must[0] else { panic!("it is a field") };
            let cairn_index::Test::Range(range) = &mut tests[0] else { panic!("it is a range") };
            range.gte = Some(bound);
            let done = collection.delete(filter);
            assert!(matches!(done, Err(Error::Filter(_))), "{bound}: {done:?}");
        }
        drop((db, collection));
        assert_eq!(open(dir.path(), store).collection("c").unwrap().count(None).unwrap(), 3, "{store:?}");
    }
}

#[test]
fn metadata_that_nests_too_deep_for_the_catalogue_is_refused() {
    let metadata = |levels: usize| -> Map<String, Value> {
        let deep = (0..levels).fold(json!(1), |inner, _| json!([inner]));
        json!({ "deep": deep }).as_object().unwrap().clone()
    };
    for store in STORES {
        let dir = tempfile::tempdir().unwrap();
        let (db, collection) = small(dir.path(), store);
        for levels in [101, 123, 125, 126, 200] {
            let config =
                CollectionConfig { metadata: metadata(levels), ..CollectionConfig::new(1, Metric::Dot) };
            assert!(matches!(db.create_collection("d", config), Err(Error::Request(_))), "{levels}");
            let change = ConfigChange::Metadata(metadata(levels));
            assert!(matches!(collection.configure(change), Err(Error::Request(_))), "{levels}");
        }
        collection.configure(ConfigChange::Metadata(metadata(100))).unwrap();
        drop((db, collection));
        let collection = open(dir.path(), store).collection("c").unwrap();
        collection.compact().unwrap();
        assert_eq!(collection.config().metadata, metadata(100), "{store:?}");
    }
}

#[test]
fn who_disappeared_in_1970_does_not_come_back() {
    for store in STORES {
        let dir = tempfile::tempdir().unwrap();
        let (db, collection) = small(dir.path(), store);
        let gone = Expiry { at_ms: 0, renew_ms: 0 };
        let late = Expiry::after(Duration::from_secs(3600));
        let points =
            [(10, gone), (11, late)].map(|(id, expiry)| Point::new(id, vec![1.0]).with_expiry(expiry));
        collection.upsert(points.to_vec()).unwrap();
        assert_eq!(collection.count(None).unwrap(), 4);
        collection.index_now().unwrap();
        assert_eq!(collection.count(None).unwrap(), 4, "{store:?}");
        drop((db, collection));
        assert_eq!(open(dir.path(), store).collection("c").unwrap().count(None).unwrap(), 4, "{store:?}");
    }
}
