//! Nearest neighbours: recall beside speed, here and in other libraries, in one run.
//!
//!     cargo run --release -p cairn-benches --bin ann -- --data DIR
//!
//! The folder holds `base.f16.npy` or `base.f32.npy`, `queries.f32.npy` and
//! `gt100.i32.npy`, the exact nearest by cosine; `--made` makes sets of other
//! geometry. Each system is a process of its own, so that its memory is its own,
//! and is asked in the same words: `ours` answers for this project and for
//! hnsw_rs, `benches/peers/ann.py` for the libraries of the Python package index.
//! What they found is judged here.
//!
//! All build first. Then there are two passes over all systems, the second in
//! reverse, so that what disturbs the machine meets everyone; the better counts
//! and the difference is told.
#![allow(clippy::print_stdout)] // Tables are what this program is for.

mod curve;
mod growth;
mod judge;
mod made;
mod measure;
mod ours;
mod plot;
mod process;
mod promises;
mod report;
mod sets;
mod shares;
mod systems;

use std::fs;
use std::path::{Path, PathBuf};

use cairn_benches::machine;
use clap::{Parser, ValueEnum};
use serde_json::json;

use made::Made;
use measure::Measured;
use sets::Set;

/// Whatever went wrong, with its reason.
pub(crate) type Outcome<T = ()> = Result<T, Box<dyn std::error::Error + Send + Sync>>;

/// Neighbours asked for.
pub(crate) const K: usize = 10;

/// Measures nearest neighbours, with their recall, beside other libraries.
#[derive(Parser)]
pub(crate) struct Args {
    /// Folder with vectors, queries and true neighbours by cosine
    #[arg(long)]
    data: Option<PathBuf>,
    /// Sets to make, besides or instead
    #[arg(long, value_enum, value_delimiter = ',')]
    made: Vec<Made>,
    /// Sizes of the growing set
    #[arg(long, value_delimiter = ',', default_value = "10000,100000")]
    sizes: Vec<usize>,
    /// Systems beside ours
    #[arg(long, value_enum, default_value = "all")]
    peers: Peers,
    /// Just these systems, ours too; their names are the first column
    #[arg(long, value_delimiter = ',')]
    systems: Vec<String>,
    /// Take only the first queries
    #[arg(long, default_value_t = 1_000)]
    limit_queries: usize,
    /// Threads that build
    #[arg(long, default_value_t = 2)]
    threads: usize,
    /// Write all points of all curves into a file
    #[arg(long)]
    json: Option<PathBuf>,
    /// Draw recall against speed into a file; of several sets, each into its own
    #[arg(long)]
    plot: Option<PathBuf>,
    /// Measure, of `--data` and ours alone, searches that accept these shares of the slots
    #[arg(long, value_delimiter = ',')]
    shares: Vec<f32>,
    /// Measure, of ours alone, the recall that is reached where one is asked for
    #[arg(long)]
    promises: bool,
    /// Become a process that is one of the systems
    #[arg(long, hide = true, requires = "work")]
    serve: Option<String>,
    /// The folder of that process
    #[arg(long, hide = true)]
    work: Option<PathBuf>,
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Peers {
    /// Ours alone
    None,
    /// The fastest of their kind
    Fast,
    /// Every library that can be installed, but ngt-onng, which builds for many minutes and is
    /// measured when --systems names it
    All,
}

fn main() -> Outcome {
    let args = Args::parse();
    if let (Some(name), Some(work)) = (&args.serve, &args.work) {
        return ours::serve(name, work);
    }
    if args.data.is_none() && args.made.is_empty() {
        return Err("nothing to measure: give --data or --made".into());
    }
    println!("{}", machine::header());
    let mut all = Vec::new();
    if let Some(folder) = &args.data {
        let set = Set::load(folder, args.limit_queries)?;
        if args.promises {
            promises::measure(&set)?;
        } else if args.shares.is_empty() {
            all.push(measured(&args, set)?);
        } else {
            shares::measure(&set, &args.shares)?;
        }
    }
    for &made in &args.made {
        if made == Made::Growth {
            all.extend(growth::measured(&args)?);
        } else if args.promises {
            promises::measure(&Set::made(made, made::ROWS, args.limit_queries)?)?;
        } else {
            all.push(measured(&args, Set::made(made, made::ROWS, args.limit_queries)?)?);
        }
    }
    if let Some(path) = &args.json {
        let header = machine::header();
        let sets: Vec<_> = all.iter().map(|(set, systems)| report::json(set, systems)).collect();
        fs::write(path, serde_json::to_vec_pretty(&json!({ "machine": header, "sets": sets }))?)?;
    }
    Ok(())
}

/// Measures one set, and prints and draws what came out.
fn measured(args: &Args, set: Set) -> Outcome<(Set, Vec<Measured>)> {
    let chosen = systems::chosen(args)?;
    let systems = measure::all(args, &set, &chosen)?;
    report::print(&set, &systems);
    if let Some(path) = &args.plot {
        let alone = args.made.len() + usize::from(args.data.is_some()) == 1;
        let path = if alone { path.clone() } else { of_set(path, &set.name) };
        plot::draw(&path, &set, &systems)?;
    }
    Ok((set, systems))
}

/// `speed.svg` becomes `speed-clustered.svg`.
fn of_set(path: &Path, set: &str) -> PathBuf {
    let stem = path.file_stem().unwrap_or_default().to_string_lossy();
    path.with_file_name(format!("{stem}-{set}.svg"))
}
