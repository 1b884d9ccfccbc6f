//! What does not fit is refused, each with its own error, and changes nothing.

mod common;
mod faults;

use std::collections::BTreeSet;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use cairn_index::{
    Collection, CollectionConfig, ConfigChange, Database, Datatype, Error, Expiry, FieldSchema, Metric,
    Modifier, MultiVector, Options, Parts, Point, PointId, Scroll, Search, SparseVector, StoreKind,
    VectorConfig, Vectors, When, WriteMode,
};
use faults::{STORES, child, filter};
use serde_json::{Value, json};
use tempfile::TempDir;

const HOLD: &str = "CAIRN_TEST_REFUSALS_HOLD";

fn open(dir: &Path, store: StoreKind) -> Database {
    Database::open_with(dir, Options { store, ..Options::default() }).unwrap()
}

/// A collection of two dimensions with points 1 and 2.
fn small(store: StoreKind) -> (TempDir, Database, Collection) {
    let dir = tempfile::tempdir().unwrap();
    let db = open(dir.path(), store);
    let collection = db.create_collection("c", CollectionConfig::new(2, Metric::Dot)).unwrap();
    collection.upsert(vec![Point::new(1, vec![1.0, 0.0]), Point::new(2, vec![0.0, 2.0])]).unwrap();
    (dir, db, collection)
}

fn ids_of(collection: &Collection) -> Vec<PointId> {
    let all = Scroll { limit: 1000, ..Scroll::default() };
    collection.scroll(&all).unwrap().records.into_iter().map(|record| record.id).collect()
}

/// Asserts that a call fails with an error of this form.
macro_rules! refused {
    ($call:expr, $error:pat) => {
        match $call {
            Err($error) => {}
            Err(other) => panic!("{}: {other:?}", stringify!($call)),
            Ok(_) => panic!("{} was accepted", stringify!($call)),
        }
    };
}

#[test]
fn vectors_that_do_not_fit_are_refused_and_nothing_of_their_batch_is_written() {
    for store in STORES {
        let dir = tempfile::tempdir().unwrap();
        let db = open(dir.path(), store);
        let typed = |datatype| VectorConfig { datatype, ..VectorConfig::new(2, Metric::Dot) };
        let config = CollectionConfig::new(2, Metric::Dot)
            .with_vector("half", typed(Datatype::Float16))
            .with_vector("byte", typed(Datatype::Uint8))
            .with_vector("many", VectorConfig { multivector: true, ..VectorConfig::new(2, Metric::Dot) })
            .with_sparse("sparse", Modifier::None);
        let collection = db.create_collection("c", config).unwrap();
        let sparse = || SparseVector::new([(1, 1.0)]).unwrap();
        let good = || Point::new(1, vec![1.0, 0.0]);
        let one = |name: &str, vector: cairn_index::Vector| Point::empty(2).with_vector(name, vector);
        let upsert = |bad: Point| collection.upsert(vec![good(), bad]);

        refused!(upsert(Point::new(2, vec![1.0, f32::NAN])), Error::NotFinite { position: 1 });
        refused!(upsert(Point::new(2, vec![f32::INFINITY, 1.0])), Error::NotFinite { position: 0 });
        refused!(upsert(Point::new(2, vec![f32::NEG_INFINITY, 1.0])), Error::NotFinite { position: 0 });
        refused!(upsert(Point::new(2, vec![1.0])), Error::Dimension { want: 2, got: 1 });
        refused!(upsert(Point::new(2, Vec::new())), Error::Dimension { want: 2, got: 0 });
        refused!(upsert(one("half", vec![1.0, 65_520.0].into())), Error::OutOfType { position: 1, .. });
        for value in [-1.0, 256.0, 0.5] {
            refused!(upsert(one("byte", vec![value, 1.0].into())), Error::OutOfType { position: 0, .. });
        }
        refused!(upsert(one("", sparse().into())), Error::VectorKind { want: "dense", .. });
        refused!(upsert(one("sparse", vec![1.0, 1.0].into())), Error::VectorKind { want: "sparse", .. });
        refused!(upsert(one("unknown", vec![1.0].into())), Error::UnknownVector { .. });
        let rows = MultiVector::new(2, vec![1.0; 4]).unwrap();
        refused!(upsert(one("", rows.into())), Error::VectorKind { want: "one dense vector", .. });
        let rows = MultiVector::new(3, vec![1.0; 3]).unwrap();
        refused!(upsert(one("many", rows.into())), Error::Dimension { want: 2, got: 3 });
        refused!(MultiVector::from_rows(&[vec![1.0, 2.0], vec![1.0]]), Error::Request(_));
        refused!(MultiVector::from_rows(&[]), Error::Request(_));
        refused!(MultiVector::new(2, vec![1.0; 3]), Error::Request(_));
        refused!(SparseVector::new([(1, 1.0), (1, 2.0)]), Error::Request(_));
        refused!(SparseVector::new([(1, f32::NAN)]), Error::NotFinite { .. });

        assert_eq!(collection.count(None).unwrap(), 0, "{store:?}");
        collection.upsert(vec![one("half", vec![1.0, 65_504.0].into())]).unwrap();
        collection.upsert(vec![one("byte", vec![0.0, 255.0].into())]).unwrap();

        let search = |vector, name: &str| collection.search(&Search::nearest(vector).using(name));
        refused!(search(vec![1.0], ""), Error::Dimension { .. });
        refused!(search(vec![f32::NAN, 0.0], ""), Error::NotFinite { .. });
        refused!(search(vec![1.0, 1.0], "unknown"), Error::UnknownVector { .. });
        refused!(search(vec![1.0, 1.0], "sparse"), Error::VectorKind { .. });
        refused!(collection.search(&Search::nearest(sparse())), Error::VectorKind { .. });
    }
}

#[test]
fn zero_vectors_under_cosine_score_zero_wherever_they_lie() {
    for store in STORES {
        let dir = tempfile::tempdir().unwrap();
        let db = open(dir.path(), store);
        let collection = db.create_collection("c", CollectionConfig::new(2, Metric::Cosine)).unwrap();
        collection.upsert(vec![Point::new(1, vec![0.0, 0.0]), Point::new(2, vec![1.0, 1.0])]).unwrap();
        for _ in 0..2 {
            let hits = collection.search(&Search::nearest(vec![1.0, 0.0])).unwrap().hits;
            assert_eq!((hits[1].id, hits[1].score), (1.into(), 0.0));
            let hits = collection.search(&Search::nearest(vec![0.0, 0.0])).unwrap().hits;
            assert!(hits.len() == 2 && hits.iter().all(|hit| hit.score == 0.0));
            collection.compact().unwrap();
        }
    }
}

#[test]
fn the_last_of_equal_ids_in_a_batch_wins() {
    for store in STORES {
        let (dir, db, collection) = small(store);
        let points = (0..5).map(|n| Point::new(7, vec![n as f32, 0.0]));
        collection.upsert(points.collect()).unwrap();
        drop((db, collection));
        let db = open(dir.path(), store);
        let collection = db.collection("c").unwrap();
        for _ in 0..2 {
            assert_eq!(collection.count(None).unwrap(), 3);
            let found = collection.search(&Search::nearest(vec![1.0, 0.0])).unwrap().hits;
            assert_eq!((found[0].id, found[0].score), (7.into(), 4.0));
            assert_eq!(found.iter().filter(|hit| hit.id == 7.into()).count(), 1);
            collection.compact().unwrap();
        }
    }
}

#[test]
fn settings_and_names_that_do_not_fit_are_refused() {
    for store in STORES {
        let (_dir, db, collection) = small(store);
        let create = |name: &str, size| db.create_collection(name, CollectionConfig::new(size, Metric::Dot));
        for size in [0, 65_537] {
            refused!(create("d", size), Error::Setting { min: 1, max: 65_536, .. });
            let add = ConfigChange::AddVector("v".to_owned(), VectorConfig::new(size, Metric::Dot));
            refused!(collection.configure(add), Error::Setting { .. });
        }
        create("largest", 65_536).unwrap();
        refused!(create("c", 2), Error::CollectionExists { .. });
        for name in ["", ".", "..", "a/b", "a\\b", "a\0b", "a:b", &"x".repeat(256)] {
            refused!(create(name, 2), Error::Name { what: "collection", .. });
            refused!(db.set_aliases(&[(name, Some("c"))]), Error::Name { what: "alias", .. });
            refused!(db.restore(name, Path::new("nowhere")), Error::Name { .. } | Error::Io { .. });
        }
        refused!(db.collection("d"), Error::UnknownCollection { .. });
        let long = "v".repeat(201);
        for name in ["a/b", "..", &long] {
            let add = ConfigChange::AddVector(name.to_owned(), VectorConfig::new(2, Metric::Dot));
            refused!(collection.configure(add), Error::Name { what: "vector", .. });
        }
        let add = ConfigChange::AddVector(String::new(), VectorConfig::new(2, Metric::Dot));
        refused!(collection.configure(add), Error::Request(_));
        let drop = ConfigChange::DropVector("nope".to_owned());
        refused!(collection.configure(drop), Error::UnknownVector { .. });
        assert_eq!(db.collections(), ["c", "largest"]);
        assert!(!db.drop_collection("nope").unwrap());
    }
}

#[test]
fn payloads_too_deep_and_operations_too_large_are_refused() {
    for store in STORES {
        let (_dir, _db, collection) = small(store);
        let mut deep = json!(1);
        for _ in 0..200 {
            deep = json!([deep]);
        }
        let payload = json!({ "deep": deep });
        let bad = Point::new(3, vec![1.0, 0.0]).with_payload(payload.clone()).unwrap();
        refused!(collection.upsert(vec![bad]), Error::Request(_));
        let payload = payload.as_object().unwrap().clone();
        refused!(collection.set_payload(vec![1.into()], payload.clone(), None), Error::Request(_));
        refused!(collection.replace_payload(vec![1.into()], payload), Error::Request(_));
        let pad = "x".repeat(1 << 20);
        let huge =
            (0..257).map(|id| Point::new(id, vec![1.0, 0.0]).with_payload(json!({ "pad": pad })).unwrap());
        refused!(collection.upsert(huge.collect()), Error::TooLarge { .. });
        assert_eq!(ids_of(&collection), [1.into(), 2.into()]);
        // The largest depth that is taken is one that can be read back.
        let mut deep = json!(1);
        for _ in 0..98 {
            deep = json!([deep]);
        }
        let good = Point::new(3, vec![1.0, 0.0]).with_payload(json!({ "deep": deep })).unwrap();
        collection.upsert(vec![good]).unwrap();
        collection.compact().unwrap();
        assert_eq!(
            collection.get(&[3.into()], &Parts::all()).unwrap()[0].payload.as_ref().unwrap()["deep"],
            deep
        );
    }
}

#[test]
fn merging_into_a_path_does_not_make_a_payload_that_cannot_be_read_back() {
    for store in STORES {
        let (dir, db, collection) = small(store);
        let mut deep = json!(1);
        for _ in 0..98 {
            deep = json!([deep]);
        }
        let payload = json!({ "deep": deep }).as_object().unwrap().clone();
        let path = (0..60).map(|n| format!("k{n}")).collect::<Vec<_>>().join(".");
        // Refused or taken, but what was taken is there later.
        let taken = collection.set_payload(vec![1.into()], payload, Some(path.parse().unwrap())).is_ok();
        let before = collection.get(&[1.into()], &Parts::all()).unwrap();
        let sealed = collection.compact();
        assert!(sealed.is_ok(), "{store:?}, taken: {taken}: {sealed:?}");
        assert_eq!(collection.get(&[1.into()], &Parts::all()).unwrap(), before, "{store:?}, taken: {taken}");
        drop((db, collection));
        let collection = open(dir.path(), store).collection("c").unwrap();
        assert_eq!(collection.get(&[1.into()], &Parts::all()).unwrap(), before);
    }
}

/// Only the keys of the path were counted: an array that was there carried what was
/// merged into its innermost element deeper than a payload may nest, and the point
/// could not be read back.
#[test]
fn merging_into_arrays_within_arrays_counts_them() {
    for store in STORES {
        let (dir, db, collection) = small(store);
        let nest = |inner: Value, levels| (0..levels).fold(inner, |inner, _| json!([inner]));
        let object = |value: Value| value.as_object().unwrap().clone();
        let there = object(json!({ "a": nest(json!({}), 98) }));
        collection.replace_payload(vec![1.into()], there).unwrap();
        for (path, levels) in
            [("[]".repeat(98), 90), ("[0]".repeat(98), 90), ("[]".repeat(98), 1), ("[]".repeat(9), 80)]
        {
            let payload = object(json!({ "deep": nest(json!(1), levels) }));
            let path = format!("a{path}").parse().unwrap();
            let done = collection.set_payload(vec![1.into()], payload, Some(path));
            assert_eq!(done.is_ok(), levels != 90, "{done:?}");
        }
        let before = collection.get(&[1.into()], &Parts::all()).unwrap();
        collection.compact().unwrap();
        assert_eq!(collection.get(&[1.into()], &Parts::all()).unwrap(), before);
        drop((db, collection));
        let collection = open(dir.path(), store).collection("c").unwrap();
        assert_eq!(collection.get(&[1.into()], &Parts::all()).unwrap(), before);
    }
}

#[test]
fn filters_that_contradict_themselves_match_nothing() {
    for store in STORES {
        let (_dir, _db, collection) = small(store);
        collection.set_payload(vec![1.into()], json!({"n": 5}).as_object().unwrap().clone(), None).unwrap();
        let none =
            filter(json!({"must": [{"key": "n", "range": {"lt": 5}}, {"key": "n", "range": {"gt": 5}}]}));
        let both = filter(json!({"must": [{"has_id": [1]}], "must_not": [{"has_id": [1]}]}));
        for _ in 0..2 {
            for none in [&none, &both] {
                let search = Search::nearest(vec![1.0, 1.0]).filter(none.clone());
                assert!(collection.search(&search).unwrap().hits.is_empty());
                assert_eq!(collection.count(Some(none)).unwrap(), 0);
                assert_eq!(collection.delete(none.clone()).unwrap().deleted, 0);
            }
            collection.compact().unwrap();
        }
        assert_eq!(collection.count(None).unwrap(), 2);
    }
}

#[test]
fn points_that_are_not_there_are_named() {
    for store in STORES {
        let (_dir, _db, collection) = small(store);
        let payload = json!({"a": 1}).as_object().unwrap().clone();
        let update = (9.into(), Vectors::from([(String::new(), vec![1.0, 1.0].into())]));
        refused!(collection.set_payload(vec![1.into(), 9.into()], payload, None), Error::UnknownPoint { .. });
        refused!(collection.update_vectors(vec![update], None), Error::UnknownPoint { .. });
        let names = vec!["nope".to_owned()];
        refused!(collection.delete_vectors(vec![1.into()], names), Error::UnknownVector { .. });
        assert_eq!(collection.delete(vec![9.into()]).unwrap().deleted, 0);
        assert!(collection.get(&[9.into()], &Parts::all()).unwrap().is_empty());
        assert!(collection.get(&[1.into()], &Parts::all()).unwrap()[0].payload.as_ref().unwrap().is_empty());
    }
}

#[test]
fn conditional_writes_write_what_their_condition_lets_through() {
    for store in STORES {
        let (_dir, _db, collection) = small(store);
        let both = || vec![Point::new(2, vec![5.0, 5.0]), Point::new(3, vec![5.0, 5.0])];
        let write = |mode, filter| collection.upsert_when(both(), When { mode, filter }).unwrap().upserted;
        let is_odd = filter(json!({"must": {"has_id": [1, 3]}}));
        assert_eq!(write(WriteMode::UpdateOnly, Some(is_odd.clone())), 0);
        assert_eq!(write(WriteMode::Upsert, Some(is_odd)), 1, "3 is new, 2 does not match");
        assert_eq!(write(WriteMode::InsertOnly, None), 0);
        assert_eq!(
            collection.get(&[2.into()], &Parts::all()).unwrap()[0].vectors.as_ref().unwrap()[""],
            vec![0.0, 2.0].into()
        );
        assert_eq!(write(WriteMode::UpdateOnly, None), 2);
    }
}

#[test]
fn stores_of_other_formats_are_refused_and_left_as_they_are() {
    for store in STORES {
        let (dir, db, collection) = small(store);
        drop((db, collection));
        let path = dir.path().join("format.json");
        let text = std::fs::read_to_string(&path).unwrap();
        let with = |format: u32| text.replace("\"format\": 2", &format!("\"format\": {format}"));
        let open_as = |text: &str| {
            std::fs::write(&path, text).unwrap();
            Database::open(dir.path())
        };
        refused!(open_as(&with(3)), Error::NewerFormat { found: 3, supported: 2, .. });
        refused!(open_as(&with(1)), Error::OlderFormat { found: 1, supported: 2, .. });
        refused!(open_as(""), Error::Corrupt { .. });
        refused!(open_as("{\"format\": \"two\"}"), Error::Corrupt { .. });
        let id: serde_json::Value = serde_json::from_str(&text).unwrap();
        let other = text.replace(id["store_id"].as_str().unwrap(), "00000000-0000-4000-8000-000000000000");
        refused!(open_as(&other), Error::LostStore { .. });
        assert_eq!(open_as(&text).unwrap().collection("c").unwrap().count(None).unwrap(), 2);
    }
}

/// Not a test: holds a directory open until it is killed.
#[test]
fn the_process_that_holds_a_directory() {
    let Some(dir) = std::env::var_os(HOLD).map(PathBuf::from) else { return };
    let _db = Database::open(dir).unwrap();
    #[allow(clippy::print_stderr)] // tells the parent
    {
        eprintln!("held");
    }
    std::thread::sleep(Duration::from_secs(60));
}

#[test]
fn a_second_process_is_told_who_holds_the_directory() {
    for store in STORES {
        let (dir, db, collection) = small(store);
        drop((db, collection));
        let mut holder = child("the_process_that_holds_a_directory")
            .env(HOLD, dir.path())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(holder.stderr.take().unwrap()).lines();
        assert!(lines.any(|line| line.unwrap().contains("held")));
        let error = Database::open(dir.path()).err().unwrap();
        assert!(matches!(error, Error::InUse { .. }), "{error:?}");
        let program = std::env::current_exe().unwrap();
        let program = program.file_name().unwrap().to_string_lossy();
        let want = format!("process {} ({program})", holder.id());
        assert!(error.to_string().contains(&want), "{error}, not {want}");
        holder.kill().unwrap();
        holder.wait().unwrap();
        assert_eq!(Database::open(dir.path()).unwrap().collection("c").unwrap().count(None).unwrap(), 2);
    }
}

/// A tar of the files, under these names.
fn tar(files: &[(&str, &[u8])]) -> Vec<u8> {
    let mut tar = tar::Builder::new(Vec::new());
    for (name, bytes) in files {
        let mut header = tar::Header::new_gnu();
        // As `append_data` refuses to, an attacker would not.
        header.as_gnu_mut().unwrap().name[..name.len()].copy_from_slice(name.as_bytes());
        header.set_size(bytes.len() as u64);
        header.set_mode(0o644);
        header.set_cksum();
        tar.append(&header, *bytes).unwrap();
    }
    tar.into_inner().unwrap()
}

#[test]
fn snapshots_that_are_not_whole_or_reach_outside_leave_the_collection_as_it_is() {
    for store in STORES {
        let (dir, db, collection) = small(store);
        let snapshot = collection.create_snapshot().unwrap();
        collection.upsert(vec![Point::new(3, vec![1.0, 1.0])]).unwrap();
        let manifest = std::fs::read_to_string(snapshot.path.join("snapshot.json")).unwrap();
        let changed_in = |manifest: &str, from: &str, to: &str| {
            let copy = tempfile::tempdir().unwrap();
            common::copy_folder(&snapshot.path, copy.path());
            assert!(manifest.contains(from));
            std::fs::write(copy.path().join("snapshot.json"), manifest.replace(from, to)).unwrap();
            copy
        };
        let newer = changed_in(&manifest, "\"format\": 1", "\"format\": 9");
        refused!(db.restore("c", newer.path()), Error::NewerFormat { found: 9, .. });
        refused!(
            db.restore("c", changed_in(&manifest, "\"next_number\": 2", "\"next_number\": 3").path()),
            Error::Corrupt { .. }
        );
        // What follows is what somebody wrote who left the checksum out.
        let (_, crc32) = manifest.rsplit_once(",\n  \"crc32\"").unwrap();
        let manifest = manifest.replace(&format!(",\n  \"crc32\"{crc32}"), "\n}");
        let changed = |from: &str, to: &str| changed_in(&manifest, from, to);
        for outside in ["../../format.json", "/etc/hostname", "..", "."] {
            let outside = changed("\"1.segment\"", &format!("{outside:?}"));
            refused!(db.restore("c", outside.path()), Error::Corrupt { .. });
        }
        for (from, to) in [("\"size\": 2", "\"size\": 3"), ("\"float32\"", "\"float16\"")] {
            refused!(db.restore("c", changed(from, to).path()), Error::Corrupt { .. });
        }
        for seq in ["0", "18446744073709551615"] {
            let other = changed("\"seq\": 1", &format!("\"seq\": {seq}"));
            refused!(db.restore("c", other.path()), Error::Corrupt { .. });
        }
        let reused = changed("\"next_number\": 2", "\"next_number\": 1");
        refused!(db.restore("c", reused.path()), Error::Corrupt { .. });
        let missing = changed("\"1.segment\"", "\"2.segment\"");
        refused!(db.restore("c", missing.path()), Error::Io { .. } | Error::Corrupt { .. });
        let cut = changed("\"format\"", "\"format");
        refused!(db.restore("c", cut.path()), Error::Corrupt { .. });

        let damaged = changed("\"format\": 1", "\"format\": 1");
        let segment = damaged.path().join("1.segment");
        let mut bytes = std::fs::read(&segment).unwrap();
        bytes[64] ^= 1;
        std::fs::remove_file(&segment).unwrap();
        std::fs::write(&segment, &bytes).unwrap();
        refused!(db.restore("c", damaged.path()), Error::Corrupt { .. });
        refused!(db.restore("c", Path::new("/nowhere/at/all")), Error::Io { .. });

        for name in ["../evil", "/tmp/evil-cairn", "a/b", ".."] {
            let packed = tar(&[("snapshot.json", manifest.as_bytes()), (name, b"evil")]);
            refused!(db.restore_from("c", packed.as_slice()), Error::Corrupt { .. } | Error::Io { .. });
        }
        assert!(!dir.path().join("snapshots/evil").exists());
        let mut packed = Vec::new();
        snapshot.pack(&mut packed).unwrap();
        for end in [0, 100, 512, packed.len() / 2] {
            assert!(db.restore_from("c", &packed[..end]).is_err(), "cut at {end}");
        }
        assert!(db.restore_from("c", &b"not a tar at all"[..]).is_err());
        // Nothing is left of all that, neither now nor later.
        assert_eq!(ids_of(&collection), [1.into(), 2.into(), 3.into()]);
        assert_eq!(std::fs::read_dir(dir.path().join("collections")).unwrap().count(), 1);
        assert_eq!(std::fs::read_dir(dir.path().join("snapshots")).unwrap().count(), 1);
        drop((db, collection));
        let db = open(dir.path(), store);
        assert_eq!(ids_of(&db.collection("c").unwrap()).len(), 3);
        assert_eq!(ids_of(&db.restore_from("c", packed.as_slice()).unwrap()).len(), 2);
    }
}

#[test]
fn aliases_that_do_not_fit_are_refused_all_together() {
    for store in STORES {
        let (dir, db, collection) = small(store);
        refused!(db.set_aliases(&[("a", Some("c")), ("c", Some("c"))]), Error::CollectionExists { .. });
        refused!(db.set_aliases(&[("a", Some("c")), ("b", Some("nope"))]), Error::UnknownCollection { .. });
        assert!(db.aliases().is_empty());
        db.set_aliases(&[("a", Some("c")), ("gone", None)]).unwrap();
        let create = db.create_collection("a", CollectionConfig::new(1, Metric::Dot));
        refused!(create, Error::CollectionExists { .. });
        let snapshot = collection.create_snapshot().unwrap();
        refused!(db.restore("a", &snapshot.path), Error::CollectionExists { .. });
        // An alias is no collection, so it cannot be dropped as one.
        assert!(!db.drop_collection("a").unwrap());
        assert_eq!(db.collection("a").unwrap().count(None).unwrap(), 2);
        assert!(db.drop_collection("c").unwrap());
        assert!(db.aliases().is_empty());
        drop((db, collection));
        assert!(open(dir.path(), store).collection("a").is_err());
    }
}

#[test]
fn aliases_change_at_once_for_readers() {
    for store in STORES {
        let (_dir, db, _) = small(store);
        db.create_collection("d", CollectionConfig::new(2, Metric::Dot)).unwrap();
        db.set_aliases(&[("x", Some("c")), ("y", Some("d"))]).unwrap();
        let done = AtomicBool::new(false);
        std::thread::scope(|scope| {
            scope.spawn(|| {
                while !done.load(Ordering::Relaxed) {
                    let aliases = db.aliases();
                    assert_ne!(aliases["x"], aliases["y"]);
                    assert!(["c", "d"].contains(&db.collection("x").unwrap().name()));
                }
            });
            for round in 0..40 {
                let (x, y) = if round % 2 == 0 { ("d", "c") } else { ("c", "d") };
                db.set_aliases(&[("x", Some(x)), ("y", Some(y))]).unwrap();
            }
            done.store(true, Ordering::Relaxed);
        });
    }
}

#[test]
fn expired_points_are_gone_at_once_and_their_room_with_compaction() {
    for store in STORES {
        let (dir, db, collection) = small(store);
        let points = |from: u64, expiry: Option<Expiry>| {
            let point = move |id: u64| {
                let point = Point::new(id, vec![1.0, 1.0]);
                let point = point.with_payload(json!({"pad": "x".repeat(500)})).unwrap();
                if let Some(expiry) = expiry { point.with_expiry(expiry) } else { point }
            };
            (from..from + 500).map(point).collect::<Vec<_>>()
        };
        let soon = Expiry::after(Duration::from_millis(1200));
        collection.upsert(points(1000, Some(soon))).unwrap();
        collection.index_now().unwrap();
        collection.upsert(points(2000, Some(soon))).unwrap();
        assert_eq!(collection.count(None).unwrap(), 1002);
        let before = collection.info().segment_bytes;
        std::thread::sleep(Duration::from_millis(1300));
        let alive = |collection: &Collection| {
            assert_eq!(collection.count(None).unwrap(), 2, "{store:?}");
            assert_eq!(ids_of(collection), [1.into(), 2.into()]);
            assert!(collection.get(&[1001.into(), 2001.into()], &Parts::all()).unwrap().is_empty());
            assert_eq!(collection.search(&Search::nearest(vec![1.0, 1.0])).unwrap().hits.len(), 2);
            // What is gone can neither be changed nor renewed.
            let never = collection.set_expiry(vec![1001.into(), 2001.into()], None).unwrap();
            assert_eq!(never.upserted, 0);
        };
        alive(&collection);
        collection.compact().unwrap();
        alive(&collection);
        let info = collection.info();
        assert!(info.segment_bytes * 20 < before, "{store:?}: {} of {before}", info.segment_bytes);
        assert_eq!(info.points, 2);
        drop((db, collection));
        alive(&open(dir.path(), store).collection("c").unwrap());
    }
}

#[test]
fn points_live_on_by_being_read_even_across_compaction_and_reopening() {
    for store in STORES {
        let (dir, db, collection) = small(store);
        let unused = || Expiry::unused_for(Duration::from_millis(1500));
        let points = (10..20).map(|id| Point::new(id, vec![1.0, 1.0]).with_expiry(unused()));
        collection.upsert(points.collect()).unwrap();
        collection.index_now().unwrap();
        // Reading 10 and finding 11 moves their expiry; nobody looks at the rest.
        for _ in 0..5 {
            std::thread::sleep(Duration::from_millis(400));
            assert_eq!(collection.get(&[10.into()], &Parts::default()).unwrap().len(), 1, "{store:?}");
            let eleven = filter(json!({"must": {"has_id": [11]}}));
            let hits = collection.search(&Search::nearest(vec![1.0, 1.0]).filter(eleven)).unwrap().hits;
            assert_eq!(hits.len(), 1, "{store:?}");
        }
        assert_eq!(ids_of(&collection), [1.into(), 2.into(), 10.into(), 11.into()]);
        collection.compact().unwrap();
        assert_eq!(collection.count(None).unwrap(), 4);
        drop((db, collection));
        let db = open(dir.path(), store);
        assert_eq!(db.collection("c").unwrap().count(None).unwrap(), 4);
        std::thread::sleep(Duration::from_millis(1600));
        assert_eq!(db.collection("c").unwrap().count(None).unwrap(), 2);
    }
}

#[test]
fn a_merge_keeps_points_whose_renewal_is_only_in_the_log() {
    for store in STORES {
        let dir = tempfile::tempdir().unwrap();
        // Segments are written when asked for, and merged when there are four.
        let options = Options { store, seal_points: 100_000, ..Options::default() };
        let db = Database::open_with(dir.path(), options.clone()).unwrap();
        let collection = db.create_collection("c", CollectionConfig::new(2, Metric::Dot)).unwrap();
        let soon = Expiry::after(Duration::from_millis(1500));
        for part in 0..3u64 {
            let points = (0..10).map(|n| Point::new(part * 10 + n, vec![1.0, 1.0]).with_expiry(soon));
            collection.upsert(points.collect()).unwrap();
            collection.index_now().unwrap();
        }
        let late = Expiry::after(Duration::from_secs(3600));
        collection.set_expiry(vec![5.into()], Some(late)).unwrap();
        // Written again, then renewed: the row in the segment is dead.
        collection.set_payload(vec![6.into()], json!({"a": 1}).as_object().unwrap().clone(), None).unwrap();
        collection.set_expiry(vec![6.into()], Some(late)).unwrap();
        std::thread::sleep(Duration::from_millis(1600));
        collection.upsert(vec![Point::new(100, vec![1.0, 1.0])]).unwrap();
        collection.index_now().unwrap();
        collection.compact().unwrap();
        let there = [5.into(), 6.into(), 100.into()];
        assert_eq!(ids_of(&collection), there, "{store:?}");
        drop((db, collection));
        let db = Database::open_with(dir.path(), options).unwrap();
        assert_eq!(ids_of(&db.collection("c").unwrap()), there, "{store:?}");
    }
}

#[test]
fn deletes_that_are_only_in_the_log_do_not_keep_the_optimizer_busy() {
    for store in STORES {
        let (dir, db, collection) = small(store);
        collection.upsert((0..3000).map(|id| Point::new(id, vec![1.0, 1.0])).collect()).unwrap();
        collection.index_now().unwrap();
        collection.delete((0..2000).map(PointId::from).collect::<Vec<_>>()).unwrap();
        drop((db, collection));
        let db = open(dir.path(), store);
        let collection = db.collection("c").unwrap();
        let started = std::time::Instant::now();
        while collection.info().indexing {
            assert!(started.elapsed() < Duration::from_secs(10), "{store:?}: it merges for ever");
            std::thread::sleep(Duration::from_millis(20));
        }
        assert_eq!(collection.count(None).unwrap(), 1000);
        collection.compact().unwrap();
        assert_eq!(collection.count(None).unwrap(), 1000);
    }
}

#[test]
fn named_vectors_come_and_go_while_the_collection_lives() {
    for store in STORES {
        let (dir, db, collection) = small(store);
        let add = |size| ConfigChange::AddVector("v".to_owned(), VectorConfig::new(size, Metric::Dot));
        let set = |size: usize| {
            let vectors = Vectors::from([("v".to_owned(), vec![3.0; size].into())]);
            collection.update_vectors(vec![(1.into(), vectors)], None)
        };
        let find = |collection: &Collection, size: usize| {
            collection.search(&Search::nearest(vec![1.0; size]).using("v")).map(|found| found.hits)
        };
        refused!(set(3), Error::UnknownVector { .. });
        collection.configure(add(3)).unwrap();
        set(3).unwrap();
        assert_eq!(find(&collection, 3).unwrap()[0].score, 9.0);
        collection.compact().unwrap();
        assert_eq!(find(&collection, 3).unwrap()[0].score, 9.0);
        refused!(collection.configure(add(5)), Error::Request(_));
        collection.configure(ConfigChange::DropVector("v".to_owned())).unwrap();
        refused!(find(&collection, 3), Error::UnknownVector { .. });
        refused!(set(3), Error::UnknownVector { .. });
        // The same name with another size: nothing of the old one is seen.
        collection.configure(add(5)).unwrap();
        assert!(find(&collection, 5).unwrap().is_empty());
        refused!(find(&collection, 3), Error::Dimension { want: 5, got: 3 });
        set(5).unwrap();
        drop((db, collection));
        let db = open(dir.path(), store);
        let collection = db.collection("c").unwrap();
        for _ in 0..2 {
            assert_eq!(find(&collection, 5).unwrap().len(), 1);
            assert_eq!(find(&collection, 5).unwrap()[0].score, 15.0);
            collection.compact().unwrap();
        }
        // And as a sparse one.
        collection.configure(ConfigChange::DropVector("v".to_owned())).unwrap();
        collection
            .configure(ConfigChange::AddSparse("v".to_owned(), cairn_index::SparseConfig::default()))
            .unwrap();
        refused!(find(&collection, 5), Error::VectorKind { .. });
        collection.compact().unwrap();
        let vectors = collection.get(&[1.into()], &Parts::all()).unwrap()[0].vectors.clone().unwrap();
        assert_eq!(vectors.keys().collect::<Vec<_>>(), [""]);
    }
}

#[test]
fn indexes_come_and_go_and_filters_say_the_same() {
    for store in STORES {
        let (dir, db, collection) = small(store);
        let points = (0..600u64).map(|id| {
            let payload = json!({"n": id % 10, "word": format!("w{}", id % 7)});
            Point::new(id, vec![1.0, 1.0]).with_payload(payload).unwrap()
        });
        collection.upsert(points.collect()).unwrap();
        let wanted = filter(json!({"must": [{"key": "n", "match": {"value": 3}},
                                            {"key": "word", "match": {"value": "w3"}}]}));
        let expected = (0..600u64).filter(|id| id % 10 == 3 && id % 7 == 3).count();
        let same = |collection: &Collection| {
            assert_eq!(collection.count(Some(&wanted)).unwrap(), expected, "{store:?}");
            let search = Search::nearest(vec![1.0, 1.0]).filter(wanted.clone()).limit(1000);
            let hits = collection.search(&search).unwrap().hits;
            assert_eq!(hits.iter().map(|hit| hit.id).collect::<BTreeSet<_>>().len(), expected);
        };
        let schema = |kind: &str| -> FieldSchema { serde_json::from_value(json!(kind)).unwrap() };
        same(&collection);
        for (kind, seal) in [("integer", false), ("float", true), ("integer", true)] {
            let create = ConfigChange::CreateIndex("n".parse().unwrap(), schema(kind));
            collection.configure(create).unwrap();
            same(&collection);
            if seal {
                collection.compact().unwrap();
            }
            collection
                .configure(ConfigChange::CreateIndex("word".parse().unwrap(), schema("keyword")))
                .unwrap();
            same(&collection);
            collection.index_now().unwrap();
            same(&collection);
            collection.configure(ConfigChange::DropIndex("word".parse().unwrap())).unwrap();
            same(&collection);
        }
        collection.configure(ConfigChange::DropIndex("nope".parse().unwrap())).unwrap();
        refused!("a[".parse::<cairn_index::Path>(), Error::Filter(_));
        drop((db, collection));
        same(&open(dir.path(), store).collection("c").unwrap());
    }
}

#[test]
fn what_was_dropped_refuses_everything() {
    for store in STORES {
        let (_dir, db, collection) = small(store);
        let held = collection.get(&[1.into()], &Parts::all()).unwrap();
        assert_eq!(held.len(), 1);
        assert!(db.drop_collection("c").unwrap());
        refused!(collection.upsert(vec![Point::new(1, vec![1.0, 1.0])]), Error::UnknownCollection { .. });
        refused!(collection.get(&[1.into()], &Parts::all()), Error::UnknownCollection { .. });
        refused!(collection.search(&Search::nearest(vec![1.0, 1.0])), Error::UnknownCollection { .. });
        refused!(collection.count(None), Error::UnknownCollection { .. });
        refused!(collection.compact(), Error::UnknownCollection { .. });
        refused!(collection.create_snapshot(), Error::UnknownCollection { .. });
        // A new one of the name has nothing of it.
        let new = db.create_collection("c", CollectionConfig::new(3, Metric::Dot)).unwrap();
        assert_eq!(new.count(None).unwrap(), 0);
        refused!(collection.count(None), Error::UnknownCollection { .. });
    }
}
