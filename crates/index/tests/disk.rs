//! A disk that fails, at every step of a script: nothing acknowledged is lost,
//! reads go on, and later writes are refused with a reason.

#![cfg(target_os = "linux")]

mod common;
mod faults;

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use cairn_index::{Database, Error, Options, Parts, Point, StoreKind};
use faults::{Ledger, Points, STORES, Scribe, Writer, child, config, options, store_named, vector_of};
use tempfile::TempDir;

const HOME: &str = "CAIRN_TEST_DISK_HOME";
const STORE: &str = "CAIRN_TEST_DISK_STORE";
const STEPS: usize = 60;
/// A run takes a twentieth of a second.
const LIMIT: Duration = Duration::from_secs(60);
const WORKERS: usize = 2;

const EIO: i32 = 5;
const ENOSPC: i32 = 28;

/// How the disk fails from a call on.
#[derive(Debug, Clone, Copy)]
struct Failure {
    errno: i32,
    once: bool,
}

const FAILURES: [Failure; 3] = [
    Failure { errno: EIO, once: false },
    Failure { errno: ENOSPC, once: false },
    Failure { errno: EIO, once: true },
];

#[test]
fn a_disk_that_fails_at_some_steps_loses_nothing_acknowledged() {
    let Some(shim) = Shim::build() else { return };
    for store in STORES {
        let calls = shim.calls(store);
        for part in 0..20 {
            // Steps of the beginning, where much is made, and of all the rest.
            let at = if part < 7 { 1 + part * 5 } else { 36 + (part - 7) * calls / 13 };
            shim.check(store, at, FAILURES[part % 3]);
        }
    }
}

#[test]
#[ignore = "long: cargo xtask test --long"]
#[allow(clippy::print_stdout)] // the count that the suite is about
fn a_disk_that_fails_at_any_step_loses_nothing_acknowledged() {
    let Some(shim) = Shim::build() else { return };
    for store in STORES {
        let (next, over) = (AtomicUsize::new(0), AtomicBool::new(false));
        std::thread::scope(|scope| {
            for _ in 0..WORKERS {
                scope.spawn(|| {
                    while !over.load(Ordering::Relaxed) {
                        // Each kind of failure comes to each call.
                        let number = next.fetch_add(1, Ordering::Relaxed);
                        let (at, failure) = (1 + number / FAILURES.len(), FAILURES[number % FAILURES.len()]);
                        if !shim.check(store, at, failure) {
                            over.store(true, Ordering::Relaxed);
                        }
                    }
                });
            }
        });
        println!("{store:?}: {} runs, 0 lost", next.into_inner());
    }
}

/// Not a test: what the process with the failing disk does.
#[test]
fn the_process_whose_disk_fails() {
    let Some(home) = std::env::var_os(HOME).map(PathBuf::from) else { return };
    let ledger = home.join("ledger");
    Scribe::listen(&ledger);
    let mut scribe = Scribe::open(&ledger);
    let store = store_named(&std::env::var(STORE).unwrap());
    if let Err(error) = script(&home, store, &mut scribe) {
        scribe.line(&format!("E {error}"));
        check_kind(&error);
    }
    scribe.line("D");
}

fn script(home: &Path, store: StoreKind, scribe: &mut Scribe) -> Result<(), Error> {
    // Room is what the shim says, not what the real disk has.
    let options = Options { min_free_bytes: 0, ..options(store) };
    let db = Database::open_with(home.join("data"), options)?;
    let collection = db.create_collection("c", config())?;
    let mut writer = Writer::new(collection.clone(), &home.join("ledger"), 0, 77);
    for step in 0..STEPS {
        let (stopped, acked) = (db.health().write_failure.is_some(), writer.acked);
        let done = match step {
            12 | 40 => collection.index_now(),
            20 | 52 => collection.compact(),
            26 => collection.create_snapshot().map(drop),
            30 => db.create_collection("d", config()).map(drop),
            32 => db.drop_collection("d").map(drop),
            34 => db.set_aliases(&[("alias", Some("c"))]),
            // The second one takes the place of the first.
            45 | 55 => copy_by_snapshot(&db, &collection),
            _ => writer.act(),
        };
        match done {
            Err(error) => {
                scribe.line(&format!("E step {step}: {error}"));
                check_kind(&error);
                writer.reads_back().unwrap();
            }
            Ok(()) => assert!(!stopped || writer.acked == acked, "step {step} was taken"),
        }
    }
    writer.reads_back().unwrap();
    Ok(())
}

fn copy_by_snapshot(db: &Database, collection: &cairn_index::Collection) -> Result<(), Error> {
    let snapshot = collection.create_snapshot()?;
    let copy = db.restore("copy", &snapshot.path)?;
    assert_eq!(copy.count(None)?, collection.count(None)?);
    Ok(())
}

fn check_kind(error: &Error) {
    let expected = matches!(
        error,
        Error::ReadOnly { .. } | Error::DiskFull { .. } | Error::Io { .. } | Error::Store { .. }
    );
    assert!(expected, "{error}: {error:?}");
}

struct Shim {
    dir: TempDir,
}

impl Shim {
    /// Compiles the shim; `None` where there is no compiler.
    #[allow(clippy::print_stdout)] // why nothing is tested
    fn build() -> Option<Self> {
        let dir = tempfile::tempdir().unwrap();
        let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/disk/shim.c");
        let built = Command::new("cc")
            .args(["-shared", "-fPIC", "-O2", "-o"])
            .arg(dir.path().join("shim.so"))
            .arg(source)
            .arg("-ldl")
            .status();
        if !built.is_ok_and(|status| status.success()) {
            println!("skipped: no C compiler");
            return None;
        }
        Some(Self { dir })
    }

    /// Runs the script with a disk that fails from call `at`; returns its home.
    fn run(&self, store: StoreKind, at: usize, failure: Failure) -> TempDir {
        let home = common::scratch();
        let mut process = child("the_process_whose_disk_fails")
            .env("LD_PRELOAD", self.dir.path().join("shim.so"))
            .env("CAIRN_SHIM_DIR", home.path().join("data"))
            .env("CAIRN_SHIM_AT", at.to_string())
            .env("CAIRN_SHIM_ERRNO", failure.errno.to_string())
            .env("CAIRN_SHIM_ONCE", if failure.once { "1" } else { "0" })
            .env("CAIRN_SHIM_MARK", home.path().join("failed"))
            .env("CAIRN_SHIM_COUNT", home.path().join("calls"))
            .env(HOME, home.path())
            .env(STORE, format!("{store:?}"))
            .spawn()
            .unwrap();
        let started = Instant::now();
        while process.try_wait().unwrap().is_none() {
            if started.elapsed() > LIMIT {
                process.kill().unwrap();
                panic!("{store:?} {failure:?} at {at}: it hangs, see {}", home.keep().display());
            }
            std::thread::sleep(Duration::from_millis(2));
        }
        home
    }

    fn calls(&self, store: StoreKind) -> usize {
        let home = self.run(store, usize::MAX / 2, FAILURES[0]);
        std::fs::read_to_string(home.path().join("calls")).unwrap().parse().unwrap()
    }

    /// Runs and checks; false if the script ended before anything failed.
    fn check(&self, store: StoreKind, at: usize, failure: Failure) -> bool {
        let home = self.run(store, at, failure);
        if let Err(reason) = check_home(home.path(), store) {
            panic!("{store:?} {failure:?} at {at} in {}: {reason}", home.keep().display());
        }
        home.path().join("failed").exists()
    }
}

fn check_home(home: &Path, store: StoreKind) -> Result<(), String> {
    let ledger = Ledger::read(&home.join("ledger"), &Points::new());
    // sled's own panics become errors; the hook that notes them runs before.
    if let Some(panic) = ledger.panics.iter().find(|panic| !panic.contains("/sled-")) {
        return Err(panic.clone());
    }
    if ledger.other.last().map(String::as_str) != Some("D") {
        return Err("it ended early".to_owned());
    }
    let db = Database::open_with(home.join("data"), options(store)).map_err(|error| error.to_string())?;
    match db.collection("c") {
        Ok(collection) => drop(ledger.check(&db, &collection)?),
        Err(_) if !ledger.expects_points() => {}
        Err(error) => return Err(error.to_string()),
    }
    // It is as good as any other: it takes writes.
    let collection = db.collection("c").or_else(|_| db.create_collection("c", config()));
    let written = collection.and_then(|collection| {
        collection.upsert(vec![faults::point(1, faults::State { vector: 1, value: 1 })])?;
        collection.compact()
    });
    written.map_err(|error| error.to_string())
}

/// A small disk of our own; gone when dropped.
struct Disk {
    dir: TempDir,
}

impl Disk {
    /// `None` where mounting is not allowed.
    #[allow(clippy::print_stdout)] // why nothing is tested
    fn mount(megabytes: u64) -> Option<Self> {
        let dir = tempfile::tempdir().unwrap();
        let options = format!("size={megabytes}m");
        let mounted =
            Command::new("mount").args(["-t", "tmpfs", "-o", &options, "tmpfs"]).arg(dir.path()).output();
        if !mounted.is_ok_and(|done| done.status.success()) {
            println!("skipped: mounting a small disk is not allowed");
            return None;
        }
        Some(Self { dir })
    }

    fn data(&self) -> PathBuf {
        self.dir.path().join("data")
    }

    fn fill(&self) -> PathBuf {
        let path = self.dir.path().join("filler");
        let mut file = std::fs::File::create(&path).unwrap();
        while std::io::Write::write_all(&mut file, &[7; 4096]).is_ok() {}
        path
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(self.dir.path()).status();
    }
}

fn large(id: u64) -> Point {
    let payload = serde_json::json!({"pad": "y".repeat(20_000)});
    Point::new(id, vector_of(id, id)).with_payload(payload).unwrap()
}

#[test]
fn a_full_disk_refuses_writes_until_there_is_room_again() {
    for store in STORES {
        let Some(disk) = Disk::mount(96) else { return };
        let options = Options { min_free_bytes: 8 << 20, ..options(store) };
        let db = Database::open_with(disk.data(), options.clone()).unwrap();
        let collection = db.create_collection("c", config()).unwrap();
        collection.upsert((0..50).map(large).collect()).unwrap();
        let filler = disk.fill();
        let error = collection.upsert(vec![large(50)]).unwrap_err();
        assert!(matches!(error, Error::DiskFull { .. }), "{store:?}: {error}");
        let error = db.create_collection("d", config()).err().unwrap();
        assert!(matches!(error, Error::DiskFull { .. }), "{store:?}: {error}");
        assert_eq!(db.health().write_failure, None);
        assert_eq!(collection.get(&[49.into()], &Parts::all()).unwrap().len(), 1);
        assert_eq!(collection.count(None).unwrap(), 50);
        std::fs::remove_file(filler).unwrap();
        collection.upsert(vec![large(50)]).unwrap();

        // Opening may need a little room itself, and says so then.
        drop((db, collection));
        let filler = disk.fill();
        match Database::open_with(disk.data(), options.clone()) {
            Ok(db) => assert_eq!(db.collection("c").unwrap().count(None).unwrap(), 51),
            Err(error) => assert!(matches!(error, Error::DiskFull { .. }), "{store:?}: {error}"),
        }
        std::fs::remove_file(filler).unwrap();
        let db = Database::open_with(disk.data(), options).unwrap();
        let collection = db.collection("c").unwrap();
        collection.upsert(vec![large(51)]).unwrap();
        collection.compact().unwrap();
        assert_eq!(collection.count(None).unwrap(), 52);
    }
}

#[test]
fn a_disk_filled_to_the_last_byte_loses_nothing_acknowledged() {
    for store in STORES {
        let Some(disk) = Disk::mount(64) else { return };
        // No reserve: the system itself says that there is no room.
        let options = Options { min_free_bytes: 0, ..options(store) };
        let mut acked = 0;
        {
            let db = Database::open_with(disk.data(), options.clone()).unwrap();
            let collection = db.create_collection("c", config()).unwrap();
            while acked < 20_000 && collection.upsert(vec![large(acked), large(acked + 1)]).is_ok() {
                acked += 2;
            }
            assert!(acked > 100 && acked < 20_000, "{store:?}: {acked}");
            assert_eq!(collection.count(None).unwrap() as u64, acked, "{store:?}");
            // A smaller write may still have room.
            match collection.upsert(vec![large(acked)]) {
                Ok(_) => acked += 1,
                Err(error) => check_kind(&error),
            }
        }
        // The same folder on a larger disk.
        let roomy = tempfile::tempdir().unwrap();
        common::copy_folder(&disk.data(), roomy.path());
        let db = Database::open_with(roomy.path(), options).unwrap();
        let collection = db.collection("c").unwrap();
        let ids: Vec<_> = (0..acked).map(Into::into).collect();
        assert_eq!(collection.get(&ids, &Parts::all()).unwrap().len(), ids.len(), "{store:?}");
        collection.upsert(vec![large(acked)]).unwrap();
    }
}
