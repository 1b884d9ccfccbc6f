//! Data directories that take long to make: made once, kept, opened by others.
//!
//! A directory's name says what is in it; a file beside it says that it is
//! whole. Those without graphs are opened with a threshold that no segment
//! reaches, so that none is built while something is measured.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use cairn_benches::points;
use cairn_index::{Collection, CollectionConfig, Database, Durability, Metric, Options};

use crate::{Args, COLLECTION, Outcome};

/// The end of the names of directories with graphs.
const GRAPH: &str = "graph";

/// How a directory is opened.
pub(crate) fn options(folder: &Path) -> Options {
    let has_graph = folder.to_string_lossy().ends_with(GRAPH);
    let indexing_threshold = if has_graph { Options::default().indexing_threshold } else { usize::MAX };
    Options { indexing_threshold, ..Options::default() }
}

/// The settings of all collections here.
pub(crate) fn config() -> CollectionConfig {
    CollectionConfig::new(points::DIM, Metric::Cosine)
}

/// The directories that opening and memory are measured on.
pub(crate) fn large(args: &Args) -> Outcome<Vec<PathBuf>> {
    let mut folders = Vec::new();
    if args.points > 0 {
        folders.push(directory(args, args.points, false)?);
    }
    if args.graph_points > 0 {
        folders.push(directory(args, args.graph_points, true)?);
    }
    Ok(folders)
}

/// A directory with so many points, as the background leaves it; with a graph,
/// in one segment.
pub(crate) fn directory(args: &Args, points: usize, graph: bool) -> Outcome<PathBuf> {
    let name = format!("{points}-{}", if graph { GRAPH } else { "plain" });
    let folder = args.dir.join(&name);
    let whole = args.dir.join(format!("{name}.whole"));
    if whole.exists() {
        return Ok(folder);
    }
    println!("making {} once", folder.display());
    let _ = fs::remove_dir_all(&folder);
    let writing =
        Options { indexing_threshold: usize::MAX, durability: Durability::Process, ..Options::default() };
    {
        let db = Database::open_with(&folder, writing)?;
        let collection = db.create_collection(COLLECTION, config())?;
        for batch in points::batches(0..points, 1000, 0) {
            collection.upsert(batch)?;
        }
        collection.index_now()?;
    }
    let (_db, collection) = open(&folder)?;
    if graph {
        collection.compact()?;
    }
    check(&collection, points)?;
    fs::write(whole, "")?;
    Ok(folder)
}

/// Fails when there are not as many points as were written: nothing measured on
/// such a directory means anything.
pub(crate) fn check(collection: &Collection, points: usize) -> Outcome {
    let count = collection.count(None)?;
    if count == points {
        return Ok(());
    }
    let damaged: Vec<String> = collection
        .info()
        .damaged
        .iter()
        .map(|one| format!("{}: {}", one.file.display(), one.reason))
        .collect();
    Err(format!("{points} points were written, {count} are there; damaged: {damaged:?}").into())
}

/// Opens a directory.
pub(crate) fn open(folder: &Path) -> Outcome<(Database, Collection)> {
    let db = Database::open_with(folder, options(folder))?;
    let collection = db.collection(COLLECTION)?;
    Ok((db, collection))
}

/// This program once more, for a directory. Returns what it tells.
pub(crate) fn child(folder: &Path, flags: &[&str]) -> Outcome<serde_json::Value> {
    let mut command = Command::new(std::env::current_exe()?);
    let output =
        command.arg("--child").arg(folder).args(flags).stderr(std::process::Stdio::inherit()).output()?;
    if !output.status.success() {
        return Err(
            format!("the process that opens {} ended with {}", folder.display(), output.status).into()
        );
    }
    Ok(serde_json::from_slice(&output.stdout)?)
}

/// A copy of a directory that may be written to.
pub(crate) fn copy(from: &Path, to: &Path) -> std::io::Result<()> {
    fs::create_dir_all(to)?;
    for entry in fs::read_dir(from)? {
        let entry = entry?;
        let to = to.join(entry.file_name());
        if entry.file_type()?.is_dir() {
            copy(&entry.path(), &to)?;
        } else {
            fs::copy(entry.path(), to)?;
        }
    }
    Ok(())
}

/// Points of each segment, from how a search went.
pub(crate) fn segments(collection: &Collection) -> Outcome<Vec<usize>> {
    let nowhere = cairn_index::Search::nearest(vec![1.0; points::DIM]).limit(1).explain();
    let steps = collection.search(&nowhere)?.steps;
    Ok(steps.iter().filter(|step| step.segment.is_some()).map(|step| step.points).collect())
}
