//! Durable upserts into a searchable collection, and what reopening costs.
//!
//! `cargo run --release -p cairn-benches --bin upsert -- [--points N]`

#![allow(clippy::print_stdout)]

use std::path::Path;
use std::time::Instant;

use cairn_index::{CollectionConfig, Database, Metric, Options, Point, Search, StoreKind};
use clap::Parser;
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

const DIM: usize = 384;
const SEED: u64 = 7;

/// Durable upserts of 384-d vectors with a payload of about 200 bytes.
#[derive(Parser)]
struct Args {
    /// Points written
    #[arg(long, default_value_t = 50_000)]
    points: usize,
    /// Points in one call
    #[arg(long, default_value_t = 500)]
    batch: usize,
    /// Threads that write
    #[arg(long, default_value_t = 1)]
    writers: usize,
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let args = Args::parse();
    println!("{} points of {DIM}-d, batches of {}, {} writers", args.points, args.batch, args.writers);
    println!("\n| store | upserts/s | disk, MiB | reopen, s | points |\n|---|--:|--:|--:|--:|");
    for store in [StoreKind::Sled, StoreKind::Redb] {
        let dir = tempfile::tempdir()?;
        // Only writing is measured, so no graph is built beside it.
        let options = Options { store, indexing_threshold: usize::MAX, ..Options::default() };
        let batches = batches(&args);
        let seconds = {
            let db = Database::open_with(dir.path(), options.clone())?;
            let collection = db.create_collection("c", CollectionConfig::new(DIM, Metric::Cosine))?;
            let shares: Vec<Vec<Vec<Point>>> = share(batches, args.writers);
            let started = Instant::now();
            std::thread::scope(|scope| {
                for share in shares {
                    let collection = collection.clone();
                    scope.spawn(move || {
                        for batch in share {
                            collection.upsert(batch).expect("the disk takes it");
                        }
                    });
                }
            });
            started.elapsed().as_secs_f64()
        };
        let started = Instant::now();
        let db = Database::open_with(dir.path(), options)?;
        let collection = db.collection("c")?;
        collection.search(&Search::nearest(vec![1.0; DIM]))?;
        println!(
            "| {store:?} | {:.0} | {} | {:.2} | {} |",
            args.points as f64 / seconds,
            bytes(dir.path())? >> 20,
            started.elapsed().as_secs_f64(),
            collection.count(None)?
        );
    }
    Ok(())
}

fn batches(args: &Args) -> Vec<Vec<Point>> {
    let mut rng = StdRng::seed_from_u64(SEED);
    let text = "A payload of the length that a short passage with its source has. ".repeat(3);
    let points: Vec<Point> = (0..args.points)
        .map(|number| {
            let vector = (0..DIM).map(|_| rng.random_range(-1.0..1.0)).collect();
            let payload = serde_json::json!({ "text": text, "number": number });
            Point::new(number as u64, vector).with_payload(payload).expect("it is an object")
        })
        .collect();
    points.chunks(args.batch.max(1)).map(<[Point]>::to_vec).collect()
}

fn share(batches: Vec<Vec<Point>>, writers: usize) -> Vec<Vec<Vec<Point>>> {
    let mut shares = vec![Vec::new(); writers.max(1)];
    let count = shares.len();
    for (index, batch) in batches.into_iter().enumerate() {
        shares[index % count].push(batch);
    }
    shares
}

fn bytes(path: &Path) -> std::io::Result<u64> {
    let mut total = 0;
    for entry in std::fs::read_dir(path)? {
        let entry = entry?;
        let metadata = entry.metadata()?;
        total += if metadata.is_dir() { bytes(&entry.path())? } else { metadata.len() };
    }
    Ok(total)
}
