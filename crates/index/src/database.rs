//! A directory of collections.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use parking_lot::RwLock;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::collection::Collection;
use crate::config::{CollectionConfig, Options, StoreKind, check_name};
use crate::error::{Error, Result};
use crate::graphs::Indexer;
use crate::journal::Journal;
use crate::op::{Change, Op};
use crate::owner::{self, Ownership, Room};
use crate::point::{Parts, Point};
use crate::shard::Shard;
use crate::state::State;
use crate::store::{self, Record, Store};

/// An open data directory; cheap to clone and to share between threads.
///
/// One process at a time has a directory open. Dropping the last handle closes
/// it; nothing is lost when that does not happen.
#[derive(Clone)]
pub struct Database {
    inner: Arc<Inner>,
}

pub(crate) struct Inner {
    path: PathBuf,
    pub(crate) options: Options,
    shards: RwLock<BTreeMap<String, Arc<Shard>>>,
    // Fields are dropped in this order: the indexer stops before the store
    // closes, and the directory is given up last.
    pub(crate) indexer: Indexer,
    pub(crate) journal: Journal,
    store: Arc<dyn Store>,
    _ownership: Ownership,
}

/// The catalogue's entry of a collection.
#[derive(Serialize, Deserialize)]
struct Entry {
    log: u32,
    /// Seqs below this were used before the log was rewritten.
    next_seq: u64,
    config: CollectionConfig,
}

/// Whether the database takes writes, and if not, why.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Health {
    /// The first disk failure; `None` while all is well.
    pub write_failure: Option<String>,
}

const COLLECTION: &str = "collection/";
const STORE_ID: &str = "store_id";

impl Database {
    /// Opens a data directory, creating it if it is not there.
    ///
    /// Reads the logs back into memory, so the time grows with their size.
    ///
    /// # Errors
    /// [`Error::InUse`] when another process has it open,
    /// [`Error::NewerFormat`] when a newer version wrote it,
    /// [`Error::Corrupt`] and [`Error::LostStore`] when its files are damaged.
    pub fn open(path: impl AsRef<Path>) -> Result<Self> {
        Self::open_with(path, Options::default())
    }

    /// Opens a data directory with other than the usual options.
    ///
    /// # Errors
    /// As for [`Database::open`].
    pub fn open_with(path: impl AsRef<Path>, options: Options) -> Result<Self> {
        let path = path.as_ref().to_owned();
        let ownership = Ownership::take(&path)?;
        let format = owner::read_format(&path)?;
        let kind = format.as_ref().map_or(options.store, |format| format.store);
        let store = store::open(kind, &path.join("log"), options.log_cache_bytes)?;
        identify(&path, format, &*store, kind)?;

        let graphs = path.join("graphs");
        std::fs::create_dir_all(&graphs).map_err(Error::io("create folder", &graphs))?;
        let indexer = Indexer::start(graphs, options.indexing_threshold)?;
        let room = Room { dir: path.clone(), min_free_bytes: options.min_free_bytes };
        let journal = Journal::new(store.clone(), room);
        let shards = load_all(&*store, &indexer)?;
        for shard in shards.values() {
            indexer.consider(shard);
        }
        let inner = Inner {
            path,
            options,
            shards: RwLock::new(shards),
            indexer,
            journal,
            store,
            _ownership: ownership,
        };
        Ok(Self { inner: Arc::new(inner) })
    }

    /// The directory.
    pub fn path(&self) -> &Path {
        &self.inner.path
    }

    /// Creates a collection, durably.
    ///
    /// # Errors
    /// [`Error::CollectionExists`], and [`Error::Name`] or [`Error::Setting`]
    /// for a name or a setting that is not valid.
    pub fn create_collection(&self, name: &str, config: CollectionConfig) -> Result<Collection> {
        check_name("collection", name, 255)?;
        config.check()?;
        self.inner.journal.check_writable()?;
        let mut shards = self.inner.shards.write();
        if shards.contains_key(name) {
            return Err(Error::CollectionExists { name: name.to_owned() });
        }
        let used = shards.values().map(|shard| shard.log).chain(self.inner.store.logs()?);
        let log = used.max().unwrap_or(0) + 1;
        let entry = Entry { log, next_seq: 1, config };
        put_entry(&*self.inner.store, name, &entry)?;
        let state = State::new(&entry.config);
        let shard = Arc::new(Shard::new(name.to_owned(), log, entry.config, state, 1));
        shards.insert(name.to_owned(), shard.clone());
        Ok(self.handle(shard))
    }

    /// A handle to a collection.
    ///
    /// # Errors
    /// [`Error::UnknownCollection`].
    pub fn collection(&self, name: &str) -> Result<Collection> {
        let shards = self.inner.shards.read();
        let shard = shards.get(name).ok_or_else(|| Error::UnknownCollection { name: name.to_owned() })?;
        Ok(self.handle(shard.clone()))
    }

    /// The names of the collections, in order.
    pub fn collections(&self) -> Vec<String> {
        self.inner.shards.read().keys().cloned().collect()
    }

    /// Removes a collection and all its points; false if there was none.
    ///
    /// # Errors
    /// When the disk cannot take the change.
    pub fn drop_collection(&self, name: &str) -> Result<bool> {
        self.inner.journal.check_writable()?;
        let mut shards = self.inner.shards.write();
        let Some(shard) = shards.get(name).cloned() else {
            return Ok(false);
        };
        self.inner.journal.exclusively(|| {
            self.inner.store.remove(&format!("{COLLECTION}{name}"))?;
            shard.mark_dropped();
            self.inner.store.forget(shard.log)
        })?;
        shards.remove(name);
        let logs: Vec<u32> = shards.values().map(|shard| shard.log).collect();
        self.inner.indexer.sweep(&logs);
        Ok(true)
    }

    /// Whether writes are taken.
    pub fn health(&self) -> Health {
        Health { write_failure: self.inner.journal.failure() }
    }

    fn handle(&self, shard: Arc<Shard>) -> Collection {
        Collection { db: self.inner.clone(), shard }
    }
}

/// Checks that log and directory belong together; marks a new pair.
fn identify(path: &Path, format: Option<owner::Format>, store: &dyn Store, kind: StoreKind) -> Result<()> {
    let in_log = store.list(STORE_ID)?.into_iter().next();
    let in_log = in_log.map(|(_, id)| String::from_utf8_lossy(&id).into_owned());
    match (format, in_log) {
        (Some(format), Some(id)) if format.store_id == id => Ok(()),
        (Some(format), _) => Err(Error::LostStore { path: path.to_owned(), store_id: format.store_id }),
        // The id is written to the log first: a crash before the second file
        // leaves a log that says who it is.
        (None, Some(id)) => owner::write_format(path, &id, kind),
        (None, None) => {
            let id = Uuid::new_v4().to_string();
            store.put(STORE_ID, id.as_bytes())?;
            owner::write_format(path, &id, kind)
        }
    }
}

fn put_entry(store: &dyn Store, name: &str, entry: &Entry) -> Result<()> {
    let json = serde_json::to_vec(entry).expect("settings have string keys and finite numbers");
    store.put(&format!("{COLLECTION}{name}"), &json)
}

fn load_all(store: &dyn Store, indexer: &Indexer) -> Result<BTreeMap<String, Arc<Shard>>> {
    let mut shards = BTreeMap::new();
    for (key, json) in store.list(COLLECTION)? {
        let name = key.strip_prefix(COLLECTION).expect("the list has this prefix").to_owned();
        let entry: Entry = serde_json::from_slice(&json).map_err(|error| Error::Corrupt {
            what: format!("catalogue entry of collection `{name}`"),
            reason: error.to_string(),
        })?;
        shards.insert(name.clone(), Arc::new(load(store, indexer, name, entry)?));
    }
    let logs: Vec<u32> = shards.values().map(|shard| shard.log).collect();
    for log in store.logs()? {
        // Left by a crash between two steps of dropping or rewriting.
        if !logs.contains(&log) {
            store.forget(log)?;
        }
    }
    indexer.sweep(&logs);
    Ok(shards)
}

fn load(store: &dyn Store, indexer: &Indexer, name: String, mut entry: Entry) -> Result<Shard> {
    let mut state = replay(store, &name, &entry)?;
    let next_seq = entry.next_seq.max(state.applied + 1);
    if is_mostly_dead(&state) {
        match rewrite(store, &name, &state, &entry, next_seq) {
            Ok(rewritten) => {
                tracing::info!(
                    collection = name,
                    points = state.live.count(),
                    "rewrote a log that was mostly dead"
                );
                let old = std::mem::replace(&mut entry, rewritten);
                store.forget(old.log)?;
                state = replay(store, &name, &entry)?;
            }
            Err(error) => tracing::warn!(collection = name, %error, "leaving a mostly dead log as it is"),
        }
    }
    indexer.load(&name, entry.log, &mut state);
    let next_seq = next_seq.max(state.applied + 1);
    Ok(Shard::new(name, entry.log, entry.config, state, next_seq))
}

fn replay(store: &dyn Store, name: &str, entry: &Entry) -> Result<State> {
    let mut state = State::new(&entry.config);
    store.replay(entry.log, &mut |seq, bytes| {
        let op = Op::decode(&bytes).map_err(|reason| Error::Corrupt {
            what: format!("operation {seq} of collection `{name}`"),
            reason,
        })?;
        state.apply(seq, op);
        Ok(())
    })?;
    Ok(state)
}

/// Rewriting pays when most of a sizeable log is replaced or deleted points.
fn is_mostly_dead(state: &State) -> bool {
    state.slots() > 4096 && state.live.count() * 2 < state.slots()
}

/// Writes the live points into a new log, the versions as they were, and makes
/// the catalogue point to it. Until then the old log is the collection.
fn rewrite(store: &dyn Store, name: &str, state: &State, old: &Entry, next_seq: u64) -> Result<Entry> {
    let log = store.logs()?.into_iter().max().unwrap_or(old.log).max(old.log) + 1;
    let slots: Vec<u32> = state.live.iter_from(0).collect();
    let mut seq = 0;
    for slots in slots.chunks(1024) {
        seq += 1;
        let changes = slots.iter().map(|slot| {
            let record = state.record(*slot, &Parts::all());
            let point = Point {
                id: record.id,
                vectors: record.vectors.unwrap_or_default(),
                payload: record.payload.unwrap_or_default(),
            };
            Change::Keep { version: record.version, point }
        });
        let bytes = Op { changes: changes.collect() }.encode()?;
        store.append(&[Record { log, seq, bytes }])?;
    }
    let entry = Entry { log, next_seq: next_seq.max(seq + 1), config: old.config.clone() };
    put_entry(store, name, &entry)?;
    Ok(entry)
}
