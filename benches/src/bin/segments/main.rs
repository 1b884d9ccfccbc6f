//! What segments cost and save: opening, searching while writing, disk, memory,
//! and durable writing.
//!
//!     cargo run --release -p cairn-benches --bin segments -- [PART]...
//!
//! Points are of 384-d with a payload of about 200 bytes; see `points`. Each
//! part says in its file what it measures and how. Directories that take long
//! to make are kept below `--dir` and used again.
#![allow(clippy::print_stdout)] // Tables are what this program is for.

mod disk;
mod load;
mod memory;
mod open;
mod prepared;
mod upsert;

use std::path::PathBuf;

use cairn_benches::{machine, points};
use cairn_index::StoreKind;
use clap::{Parser, ValueEnum};

/// Whatever went wrong, with its reason.
pub(crate) type Outcome<T = ()> = Result<T, Box<dyn std::error::Error + Send + Sync>>;

/// The name of the collection everywhere.
pub(crate) const COLLECTION: &str = "points";

/// Measures opening, searching while writing, disk, memory and durable writing.
#[derive(Parser)]
pub(crate) struct Args {
    /// What to measure; all of it when nothing is named
    #[arg(value_enum)]
    parts: Vec<Part>,
    /// Where directories are made; those that take long are kept
    #[arg(long, default_value = "target/bench-data")]
    dir: PathBuf,
    /// open, memory: points without a graph
    #[arg(long, default_value_t = 1_000_000)]
    points: usize,
    /// open, memory: points of a second directory, with graphs; 0 for none
    #[arg(long, default_value_t = 0)]
    graph_points: usize,
    /// open: processes one after the other
    #[arg(long, default_value_t = 5)]
    repeats: usize,
    /// open: let the system remember the files from one process to the next
    #[arg(long)]
    warm: bool,
    /// load: points with a graph before the writing begins
    #[arg(long, default_value_t = 100_000)]
    load_points: usize,
    /// load: seconds of searching without and with writing
    #[arg(long, default_value_t = 30)]
    seconds: u64,
    /// load: points written per second, in batches of 50
    #[arg(long, default_value_t = 5_000)]
    rate: usize,
    /// disk: points that are written, and overwritten three times
    #[arg(long, default_value_t = 100_000)]
    disk_points: usize,
    /// upsert: points written, in batches of 500
    #[arg(long, default_value_t = 100_000)]
    upsert_points: usize,
    /// upsert: threads that write
    #[arg(long, default_value_t = 1)]
    writers: usize,
    /// Become a process that opens a directory and tells how that went
    #[arg(long, hide = true)]
    child: Option<PathBuf>,
    /// The child measures memory
    #[arg(long, hide = true)]
    child_memory: bool,
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Part {
    /// Opening a large directory and its first answer
    Open,
    /// Searching while points are written, sealed and merged
    Load,
    /// Bytes on disk for each byte of live points
    Disk,
    /// Resident memory per point
    Memory,
    /// Durable writing until everything is indexed
    Upsert,
}

/// The stores that are measured.
pub(crate) const STORES: [StoreKind; 2] = [StoreKind::Sled, StoreKind::Redb];

fn main() -> Outcome {
    let mut args = Args::parse();
    if let Some(folder) = &args.child {
        return if args.child_memory { memory::child(folder) } else { open::child(folder) };
    }
    std::fs::create_dir_all(&args.dir)?;
    args.dir = args.dir.canonicalize()?;
    println!("{}", machine::header());
    println!("points {}-d, a payload of {} bytes as JSON\n", points::DIM, points::payload_bytes());
    let all = [Part::Open, Part::Load, Part::Disk, Part::Memory, Part::Upsert];
    for part in all.into_iter().filter(|part| args.parts.is_empty() || args.parts.contains(part)) {
        match part {
            Part::Open => open::run(&args)?,
            Part::Load => load::run(&args)?,
            Part::Disk => disk::run(&args)?,
            Part::Memory => memory::run(&args)?,
            Part::Upsert => upsert::run(&args)?,
        }
        println!();
    }
    Ok(())
}
