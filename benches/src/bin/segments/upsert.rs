//! Durable writing from end to end: batches of 500 into a collection that seals,
//! merges and builds graphs while it is written to, with the usual options.
//!
//! Each batch is on the disk and searchable before the next. Beside the rate
//! stands the time until everything is in segments with their graphs. The goal
//! is 40,000 points a second.

use std::path::Path;
use std::thread;
use std::time::Instant;

use cairn_benches::{disk, points};
use cairn_index::{Database, Options, Point, Search, StoreKind};

use crate::{Args, COLLECTION, Outcome, STORES, prepared};

const BATCH: usize = 500;

pub(crate) fn run(args: &Args) -> Outcome {
    println!(
        "Durable writing: {} points in batches of {BATCH}, {} writing, synced\n\n\
         | store | points/s | then until indexed, s | segments | disk, MiB | reopen and first answer, s |\n\
         |---|--:|--:|--:|--:|--:|",
        args.upsert_points, args.writers
    );
    for store in STORES {
        let work = tempfile::tempdir_in(&args.dir)?;
        measure(args, store, work.path())?;
    }
    Ok(())
}

fn measure(args: &Args, store: StoreKind, folder: &Path) -> Outcome {
    let options = Options { store, ..Options::default() };
    let shares = shares(args);
    let (seconds, indexed, segments) = {
        let db = Database::open_with(folder, options.clone())?;
        let collection = db.create_collection(COLLECTION, prepared::config())?;
        let started = Instant::now();
        thread::scope(|scope| -> Outcome {
            let write = |share: Vec<Vec<Point>>| -> Outcome {
                share.into_iter().try_for_each(|batch| collection.upsert(batch).map(drop))?;
                Ok(())
            };
            let writers: Vec<_> = shares.into_iter().map(|share| scope.spawn(move || write(share))).collect();
            writers.into_iter().try_for_each(|writer| writer.join().expect("writers do not panic"))
        })?;
        let seconds = started.elapsed().as_secs_f64();
        let started = Instant::now();
        collection.index_now()?;
        (seconds, started.elapsed().as_secs_f64(), collection.info().segments)
    };
    let started = Instant::now();
    let db = Database::open_with(folder, options)?;
    let collection = db.collection(COLLECTION)?;
    collection.search(&Search::nearest(points::queries(1).swap_remove(0)))?;
    let reopened = started.elapsed().as_secs_f64();
    println!(
        "| {store:?} | {:.0} | {indexed:.1} | {segments} | {} | {reopened:.2} |",
        args.upsert_points as f64 / seconds,
        disk::bytes(folder)? >> 20,
    );
    prepared::check(&collection, args.upsert_points)
}

/// The batches of each writer.
fn shares(args: &Args) -> Vec<Vec<Vec<Point>>> {
    let mut shares = vec![Vec::new(); args.writers.max(1)];
    let count = shares.len();
    for (number, batch) in points::batches(0..args.upsert_points, BATCH, 0).enumerate() {
        shares[number % count].push(batch);
    }
    shares
}
