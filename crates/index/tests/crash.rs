//! A process that writes is killed, again and again, on the same folder: what
//! it acknowledged is there afterwards, all of it.

mod faults;

use std::path::PathBuf;
use std::time::Duration;

use cairn_index::{Database, StoreKind};
use faults::{Ledger, Points, STORES, Scribe, Writer, child, config, options, rng, store_named};
use rand::Rng;
use rand::rngs::StdRng;

const HOME: &str = "CAIRN_TEST_CRASH_HOME";
const THREADS: u64 = 3;

#[test]
fn acknowledged_points_survive_kill_over_and_over() {
    for (store, seed) in STORES.into_iter().zip(500..) {
        Rounds::new(store, seed).run(12);
    }
}

#[test]
#[ignore = "long: cargo xtask test --long"]
fn acknowledged_points_survive_hundreds_of_kills_over_sled() {
    hundreds(StoreKind::Sled, 600);
}

#[test]
#[ignore = "long: cargo xtask test --long"]
fn acknowledged_points_survive_hundreds_of_kills_over_redb() {
    hundreds(StoreKind::Redb, 650);
}

/// 500 kills, with a new folder now and then, so that young ones are killed too.
fn hundreds(store: StoreKind, from: u64) {
    for seed in from..from + 20 {
        Rounds::new(store, seed).run(25);
    }
}

/// Not a test: what the killed process does.
#[test]
fn the_process_that_is_killed() {
    let Some(home) = std::env::var_os(HOME).map(PathBuf::from) else { return };
    let var = |name: &str| std::env::var(format!("CAIRN_TEST_CRASH_{name}")).unwrap();
    let seed: u64 = var("SEED").parse().unwrap();
    let ledger = home.join("ledger");
    Scribe::listen(&ledger);
    let db = Database::open_with(home.join("data"), options(store_named(&var("STORE")))).unwrap();
    let collection = db.collection("c").or_else(|_| db.create_collection("c", config())).unwrap();
    let writers: Vec<Writer> =
        (0..THREADS).map(|thread| Writer::new(collection.clone(), &ledger, thread, seed)).collect();
    std::thread::scope(|scope| {
        for (thread, mut writer) in (0..).zip(writers) {
            let suicide = thread == 0 && var("HOW") == "compact";
            scope.spawn(move || write_for_ever(&mut writer, thread, suicide));
        }
    });
}

fn write_for_ever(writer: &mut Writer, thread: u64, suicide: bool) {
    for step in 1u32.. {
        writer.act().unwrap();
        match writer.rng.random_range(0..60) {
            0 if thread == 1 => writer.collection.index_now().unwrap(),
            1 if thread == 2 => writer.collection.compact().unwrap(),
            2 if thread == 2 => {
                let snapshot = writer.collection.create_snapshot().unwrap();
                writer.collection.delete_snapshot(&snapshot.name).unwrap();
            }
            _ => {}
        }
        if suicide && step == 15 {
            writer.collection.compact().unwrap();
            let this = rustix::process::getpid();
            rustix::process::kill_process(this, rustix::process::Signal::KILL).unwrap();
        }
    }
}

struct Rounds {
    rng: StdRng,
    seed: u64,
    store: StoreKind,
    home: tempfile::TempDir,
    points: Points,
    acked: usize,
}

impl Rounds {
    fn new(store: StoreKind, seed: u64) -> Self {
        let home = tempfile::tempdir().unwrap();
        Self { rng: rng(seed), seed, store, home, points: Points::new(), acked: 0 }
    }

    #[allow(clippy::print_stdout)] // the count that the suite is about
    fn run(mut self, rounds: usize) {
        for round in 0..rounds {
            if let Err(reason) = self.round() {
                let home = self.home.keep();
                panic!("{:?} seed {} round {round} in {}: {reason}", self.store, self.seed, home.display());
            }
        }
        println!("{:?} seed {}: {rounds} rounds, {} acknowledged, 0 lost", self.store, self.seed, self.acked);
    }

    fn round(&mut self) -> Result<(), String> {
        let ledger = self.home.path().join("ledger");
        let _ = std::fs::remove_file(&ledger);
        let how = if self.rng.random_bool(0.15) { "compact" } else { "time" };
        let wait = if self.rng.random_bool(0.15) { 2..30 } else { 20..400 };
        let wait = Duration::from_millis(self.rng.random_range(wait));
        let seed: u64 = self.rng.random_range(0..1 << 30);
        self.kill_a_writer(seed, how, wait);

        let ledger = Ledger::read(&ledger, &self.points);
        self.acked += ledger.acked;
        if let Some(line) = ledger.panics.first().or(ledger.logged.first()) {
            return Err(format!("{how}: {line}"));
        }
        let data = self.home.path().join("data");
        let db = Database::open_with(&data, options(self.store)).map_err(|error| error.to_string())?;
        match db.collection("c") {
            Ok(collection) => self.points = ledger.check(&db, &collection)?,
            Err(_) if !ledger.expects_points() => {}
            Err(error) => return Err(error.to_string()),
        }
        Ok(())
    }

    fn kill_a_writer(&self, seed: u64, how: &str, wait: Duration) {
        let mut process = child("the_process_that_is_killed")
            .env(HOME, self.home.path())
            .env("CAIRN_TEST_CRASH_SEED", seed.to_string())
            .env("CAIRN_TEST_CRASH_STORE", format!("{:?}", self.store))
            .env("CAIRN_TEST_CRASH_HOW", how)
            .spawn()
            .unwrap();
        let started = std::time::Instant::now();
        let limit = if how == "compact" { Duration::from_secs(10) } else { wait };
        while started.elapsed() < limit && process.try_wait().unwrap().is_none() {
            std::thread::sleep(Duration::from_millis(1));
        }
        let _ = process.kill();
        process.wait().unwrap();
    }
}
