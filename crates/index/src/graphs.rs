//! Graphs on disk and the thread that builds them.
//!
//! A graph is a cache of the rows: its file may be missing, old or damaged,
//! and is then built again. A file is `CAIRNGRF`, format u32, covered slots
//! u32, fingerprint of those slots u32 (little-endian), then the graph as
//! `cairn_ann` writes it, with its own checksum.

use std::fs::{self, File};
use std::io::{BufReader, BufWriter, Read, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{self, Sender};
use std::thread::JoinHandle;

use cairn_ann::{Graph, GraphBuilder, HnswRsBuilder, Rows};
use parking_lot::Mutex;
use uuid::Uuid;

use crate::column::{Column, CoveringGraph};
use crate::error::{Error, Result};
use crate::owner::replace_file;
use crate::shard::Shard;
use crate::state::State;

const MAGIC: &[u8; 8] = b"CAIRNGRF";
const FORMAT: u32 = 1;

/// Builds graphs in the background until it is dropped.
pub(crate) struct Indexer {
    shared: Arc<Shared>,
    jobs: Mutex<Option<Sender<Arc<Shard>>>>,
    thread: Mutex<Option<JoinHandle<()>>>,
}

struct Shared {
    dir: PathBuf,
    threshold: usize,
    stopping: AtomicBool,
}

impl Indexer {
    pub(crate) fn start(dir: PathBuf, threshold: usize) -> Result<Self> {
        let shared = Arc::new(Shared { dir, threshold, stopping: AtomicBool::new(false) });
        let (sender, receiver) = mpsc::channel::<Arc<Shard>>();
        let worker = shared.clone();
        let thread = std::thread::Builder::new()
            .name("cairn-indexer".to_owned())
            .spawn(move || {
                for shard in receiver {
                    worker.index(&shard);
                }
            })
            .map_err(Error::io("start the indexing thread for", &shared.dir))?;
        Ok(Self { shared, jobs: Mutex::new(Some(sender)), thread: Mutex::new(Some(thread)) })
    }

    /// Asks for a graph if enough points are in none.
    pub(crate) fn consider(&self, shard: &Arc<Shard>) {
        let due = shard.state.read().columns.values().any(|column| self.shared.is_due(column));
        if due
            && !shard.indexing.swap(true, Ordering::AcqRel)
            && let Some(jobs) = &*self.jobs.lock()
        {
            // The receiver lives as long as the sender is not taken.
            let _ = jobs.send(shard.clone());
        }
    }

    /// Builds the graphs of a collection now, whatever their size.
    pub(crate) fn index_now(&self, shard: &Shard) -> Result<()> {
        let names: Vec<String> = shard.config.vectors.keys().cloned().collect();
        names.iter().try_for_each(|name| self.shared.build(shard, name))
    }

    /// Gives the columns of a collection the graphs found on disk.
    pub(crate) fn load(&self, name: &str, log: u32, state: &mut State) {
        let names: Vec<String> = state.columns.keys().cloned().collect();
        for vector in names {
            let path = self.shared.path(log, &vector);
            match read(&path, state) {
                Ok(Some(graph)) => {
                    let column = state.columns.get_mut(&vector).expect("its name was just listed");
                    column.graph = Some(Arc::new(graph));
                }
                Ok(None) => {}
                Err(reason) => {
                    tracing::warn!(collection = name, %reason, "graph file is not usable and will be built again");
                    let _ = fs::remove_file(&path);
                }
            }
        }
    }

    /// Removes the graph files whose log is not among these.
    pub(crate) fn sweep(&self, logs: &[u32]) {
        for entry in fs::read_dir(&self.shared.dir).into_iter().flatten().flatten() {
            let name = entry.file_name().to_string_lossy().into_owned();
            let log = name.split_once('-').and_then(|(log, _)| log.parse::<u32>().ok());
            if log.is_none_or(|log| !logs.contains(&log)) {
                let _ = fs::remove_file(entry.path());
            }
        }
    }
}

impl Drop for Indexer {
    fn drop(&mut self) {
        self.shared.stopping.store(true, Ordering::Release);
        self.jobs.lock().take();
        if let Some(thread) = self.thread.lock().take() {
            // A panic of the builder was printed; it must not become a second one.
            let _ = thread.join();
        }
    }
}

impl Shared {
    /// Growing by a third keeps the work of rebuilding proportional to the
    /// points, and the exact scan of the rest short.
    fn is_due(&self, column: &Column) -> bool {
        let uncovered = column.uncovered();
        uncovered >= self.threshold.max(crate::column::CHUNK_ROWS)
            && uncovered >= column.covers() as usize / 3
    }

    fn index(&self, shard: &Shard) {
        loop {
            let due = {
                let state = shard.state.read();
                let mut columns = state.columns.iter();
                columns.find(|(_, column)| self.is_due(column)).map(|(name, _)| name.clone())
            };
            let Some(vector) = due else { break };
            if let Err(error) = self.build(shard, &vector) {
                if !self.is_cancelled(shard) {
                    tracing::error!(collection = shard.name, %error, "building a graph failed, searches scan instead");
                }
                break;
            }
        }
        shard.indexing.store(false, Ordering::Release);
    }

    fn is_cancelled(&self, shard: &Shard) -> bool {
        self.stopping.load(Ordering::Acquire) || shard.is_dropped()
    }

    fn build(&self, shard: &Shard, vector: &str) -> Result<()> {
        let (settled, metric) = {
            let state = shard.state.read();
            let column = &state.columns[vector];
            (column.settled(), column.config.distance)
        };
        if settled.is_empty() {
            return Ok(());
        }
        let covers = settled.len() as u32;
        let builder =
            HnswRsBuilder { m: shard.config.hnsw.m, ef_construction: shard.config.hnsw.ef_construct };
        let failed = |source| Error::Graph { collection: shard.name.clone(), source };
        let graph = builder.build(metric, &settled, &|| self.is_cancelled(shard)).map_err(failed)?;

        let fingerprint = shard.state.read().fingerprint(covers);
        if let Err(error) = write(&self.path(shard.log, vector), &graph, covers, fingerprint) {
            // The graph still serves; after a restart it is built again.
            tracing::warn!(collection = shard.name, %error, "keeping the graph in memory only");
        }
        let covering = Arc::new(CoveringGraph { graph, covers });
        let mut state = shard.state.write();
        let column = state.columns.get_mut(vector).expect("columns are fixed");
        column.graph = Some(covering);
        Ok(())
    }

    fn path(&self, log: u32, vector: &str) -> PathBuf {
        let name = Uuid::new_v5(&Uuid::NAMESPACE_OID, vector.as_bytes());
        self.dir.join(format!("{log}-{}.graph", name.simple()))
    }
}

fn write(path: &Path, graph: &Graph, covers: u32, fingerprint: u32) -> Result<()> {
    replace_file(path, |file| {
        let mut out = BufWriter::new(file);
        out.write_all(MAGIC)?;
        for number in [FORMAT, covers, fingerprint] {
            out.write_all(&number.to_le_bytes())?;
        }
        graph.write_to(&mut out).map_err(std::io::Error::other)?;
        out.flush()
    })
}

/// Reads a graph file; the error is the reason it cannot be used.
fn read(path: &Path, state: &State) -> Result<Option<CoveringGraph>, String> {
    let file = match File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error.to_string()),
    };
    let mut input = BufReader::new(file);
    let mut header = [0; 20];
    input.read_exact(&mut header).map_err(|error| error.to_string())?;
    let number = |at: usize| u32::from_le_bytes(header[at..at + 4].try_into().expect("four bytes"));
    let (format, covers, fingerprint) = (number(8), number(12), number(16));
    if &header[..8] != MAGIC || format != FORMAT {
        return Err("it is not a graph file of this version".to_owned());
    }
    if covers as usize > state.slots() || state.fingerprint(covers) != fingerprint {
        return Err("it belongs to other points".to_owned());
    }
    let graph = Graph::read_from(&mut input).map_err(|error| error.to_string())?;
    if graph.len() != covers as usize {
        return Err("it covers another number of points than it says".to_owned());
    }
    Ok(Some(CoveringGraph { graph, covers }))
}
