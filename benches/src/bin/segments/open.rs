//! Opening: from nothing to the first answer, in a process of its own each time.
//!
//! The system forgets the files before each process where it lets us, so that
//! they come from the disk. Without a graph the first search compares with
//! every vector and so reads them all; the first point by its id reads little.
//! The goal is to open a million points and answer in less than a second.

use std::path::Path;
use std::time::Instant;

use cairn_benches::{disk, points};
use cairn_index::{Database, Parts, PointId, Search};
use serde_json::json;

use crate::{Args, COLLECTION, Outcome, prepared};

pub(crate) fn run(args: &Args) -> Outcome {
    let mut rows = Vec::new();
    for folder in prepared::large(args)? {
        let mut runs = Vec::new();
        let mut cache = "warm";
        for _ in 0..args.repeats.max(1) {
            if !args.warm {
                cache = disk::forget(&folder);
            }
            runs.push(prepared::child(&folder, &[])?);
        }
        let median = |field: &str| at(&runs, field, 0.5);
        rows.push(format!(
            "| {} | {} | {} | {} | {cache} | {:.3} | {:.3} | {:.3} | {:.3} | {:.3} |",
            runs[0]["points"],
            if runs[0]["indexed"] == 0 { "none" } else { "whole" },
            runs[0]["segments"],
            disk::bytes(&folder)? >> 20,
            median("open"),
            median("point"),
            median("search"),
            median("all"),
            at(&runs, "all", 1.0),
        ));
    }
    println!(
        "Opening, seconds, {} processes: the middle one, and the slowest of all\n\n\
         | points | graph | segments | MiB | files | open | first point by id | first search | together | \
         slowest |\n|--:|---|--:|--:|---|--:|--:|--:|--:|--:|",
        args.repeats.max(1)
    );
    rows.iter().for_each(|row| println!("{row}"));
    Ok(())
}

fn at(runs: &[serde_json::Value], field: &str, part: f64) -> f64 {
    let mut values: Vec<f64> = runs.iter().filter_map(|run| run[field].as_f64()).collect();
    values.sort_unstable_by(f64::total_cmp);
    let last = values.len().saturating_sub(1);
    values.get((last as f64 * part) as usize).copied().unwrap_or(f64::NAN)
}

/// Opens a directory, asks once, and tells the seconds.
pub(crate) fn child(folder: &Path) -> Outcome {
    let options = prepared::options(folder);
    let query = points::queries(1).swap_remove(0);
    let started = Instant::now();
    let db = Database::open_with(folder, options)?;
    let collection = db.collection(COLLECTION)?;
    let open = started.elapsed().as_secs_f64();
    let found = collection.get(&[PointId::Num(1)], &Parts::payload())?;
    let point = started.elapsed().as_secs_f64() - open;
    let hits = collection.search(&Search::nearest(query))?.hits;
    let all = started.elapsed().as_secs_f64();
    if found.is_empty() || hits.is_empty() {
        return Err("nothing was found".into());
    }
    let info = collection.info();
    println!(
        "{}",
        json!({ "open": open, "point": point, "search": all - open - point, "all": all,
            "points": info.points, "segments": info.segments, "indexed": info.indexed_vectors })
    );
    Ok(())
}
