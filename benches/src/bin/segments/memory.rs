//! Memory: resident bytes per point in a process of its own, beside what the
//! layout of the files predicts.
//!
//! Opening reads what is small and compares its checksums: ids (16 bytes a
//! point), their hash table (4 for each of a power of two of places, at least
//! twice the points), their order (4), versions (8), payload ends (8), a bit for
//! the kind of the id, and whole graphs. All of it stays in the mapped file. The
//! heap has three bits a point: live, kind of id, vector present. A little
//! later the background has read every file through once, and searches that
//! touch everything find vectors and payloads (with 4 bytes for a checksum)
//! mapped. Mapped pages are the system's to take back.

use std::path::Path;
use std::thread;
use std::time::Duration;

use cairn_benches::machine::{Resident, resident};
use cairn_benches::{disk, points};
use cairn_index::{Condition, Database, Filter, Range, Search, Test};
use serde_json::{Value, json};

use crate::{Args, COLLECTION, Outcome, prepared};

pub(crate) fn run(args: &Args) -> Outcome {
    let folders = prepared::large(args)?;
    println!(
        "Memory, bytes per point\n\n\
         | points | graph | when | heap | heap, predicted | mapped | mapped, predicted |\n\
         |--:|---|---|--:|--:|--:|--:|"
    );
    for folder in folders {
        let told = prepared::child(&folder, &["--child-memory"])?;
        let count = told["points"].as_f64().unwrap_or(f64::NAN);
        let graph = disk::by_kind(&folder)?.get("derived").copied().unwrap_or(0) as f64 / count;
        let segments: Vec<usize> = serde_json::from_value(told["segments"].clone())?;
        for (when, touched) in [("opened", false), ("checked in the background", false), ("searched", true)] {
            let bytes = |kind: &str| told[when][kind].as_f64().unwrap_or(f64::NAN) / count;
            println!(
                "| {count} | {} | {when} | {:.1} | {:.1} | {:.1} | {:.1} |",
                if graph > 0.0 { "whole" } else { "none" },
                bytes("anonymous"),
                3.0 / 8.0,
                bytes("file"),
                graph + mapped(&segments, touched) / count,
            );
        }
    }
    println!("\nTaken off: the memory of the process before it opens. Not predicted: the cache of the log,");
    println!("of which no more than `log_cache_bytes` is used, and what threads keep for their next search.");
    Ok(())
}

/// Bytes of segment files that are in memory, by the layout of the files.
fn mapped(segments: &[usize], touched: bool) -> f64 {
    let of = |rows: usize| {
        let small = rows * (16 + 4 + 8 + 8) + 4 * (rows * 2).next_power_of_two() + rows / 8;
        let large = rows * (4 * points::DIM + 4 + points::payload_bytes());
        small + if touched { large } else { 0 }
    };
    segments.iter().map(|rows| of(*rows)).sum::<usize>() as f64
}

/// Opens a directory, searches it, and tells the memory at each step.
pub(crate) fn child(folder: &Path) -> Outcome {
    let queries = points::queries(50);
    warm_up()?;
    let before = resident().ok_or("the system does not tell the memory of a process")?;
    let (_db, collection) = prepared::open(folder)?;
    let opened = told(before);
    wait_for_background();
    let checked = told(before);
    for query in queries {
        collection.search(&Search::nearest(query.clone()))?;
        collection.search(&Search::nearest(query).exact())?;
    }
    // No index: every payload is read.
    let tests = vec![Test::Range(Range { lt: Some(0.0), ..Range::default() })];
    collection.count(Some(&Filter::must(Condition::Field { key: "number".parse()?, tests })))?;
    let searched = told(before);
    let all = json!({ "points": collection.info().points, "segments": prepared::segments(&collection)?,
        "opened": opened, "checked in the background": checked, "searched": searched });
    println!("{all}");
    Ok(())
}

/// Waits until no more of the files comes into memory: the background has
/// compared the checksums of all of them.
fn wait_for_background() {
    let mut last = 0;
    loop {
        thread::sleep(Duration::from_secs(2));
        let file = resident().unwrap_or_default().file;
        if file <= last {
            return;
        }
        last = file;
    }
}

/// Has the program's own pages and its threads in memory before it is measured.
fn warm_up() -> Outcome {
    let work = tempfile::tempdir()?;
    let db = Database::open(work.path())?;
    let collection = db.create_collection(COLLECTION, prepared::config())?;
    points::batches(0..1000, 500, 0).try_for_each(|batch| collection.upsert(batch).map(drop))?;
    collection.index_now()?;
    for query in points::queries(10) {
        collection.search(&Search::nearest(query))?;
    }
    Ok(())
}

fn told(before: Resident) -> Value {
    let now = resident().unwrap_or_default();
    json!({ "anonymous": now.anonymous.saturating_sub(before.anonymous),
        "file": now.file.saturating_sub(before.file) })
}
