//! Disk: bytes for each byte of live points, after everything was overwritten
//! three times, and after compacting.
//!
//! Live bytes are those of the vectors and of the payloads as JSON. What the
//! disk gave is counted in blocks, as `du` does. The goal is below 1.3 after
//! compacting.

use std::path::Path;

use cairn_benches::{disk, points};
use cairn_index::{Database, Options, StoreKind};

use crate::{Args, COLLECTION, Outcome, STORES, prepared};

const KINDS: [&str; 5] = ["segment", "derived", "marks", "log", "other"];

pub(crate) fn run(args: &Args) -> Outcome {
    println!(
        "Disk, MiB: {} points, all overwritten three times, then compacted\n\n\
         | store | when | {} | all | live | all to live |\n|---|---|{}",
        args.disk_points,
        KINDS.join(" | "),
        "--:|".repeat(KINDS.len() + 3)
    );
    for store in STORES {
        let work = tempfile::tempdir_in(&args.dir)?;
        measure(args, store, work.path())?;
    }
    Ok(())
}

fn measure(args: &Args, store: StoreKind, folder: &Path) -> Outcome {
    let line = |when: &str| -> Outcome {
        let kinds = disk::by_kind(folder)?;
        let all: u64 = kinds.values().sum();
        let live = (args.disk_points * (4 * points::DIM + points::payload_bytes())) as u64;
        let mib = |bytes: u64| bytes as f64 / f64::from(1 << 20);
        let cells = KINDS.map(|kind| format!("{:.1}", mib(kinds.get(kind).copied().unwrap_or(0))));
        println!(
            "| {store:?} | {when} | {} | {:.1} | {:.1} | {:.3} |",
            cells.join(" | "),
            mib(all),
            mib(live),
            all as f64 / live as f64
        );
        Ok(())
    };
    {
        let db = Database::open_with(folder, Options { store, ..Options::default() })?;
        let collection = db.create_collection(COLLECTION, prepared::config())?;
        for round in 0..4 {
            for batch in points::batches(0..args.disk_points, 500, round) {
                collection.upsert(batch)?;
            }
        }
        line("written")?;
        collection.compact()?;
        line("compacted")?;
    }
    line("closed")?;
    let db = Database::open(folder)?;
    prepared::check(&db.collection(COLLECTION)?, args.disk_points)
}
