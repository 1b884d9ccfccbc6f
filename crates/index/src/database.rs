//! A directory of collections.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use parking_lot::{Mutex, RwLock};
use uuid::Uuid;

use crate::catalogue::{self, COLLECTION, Entry, SegmentEntry, generation_of, segment_path, uid_of};
use crate::collection::Collection;
use crate::config::{CollectionConfig, Options, StoreKind, check_name};
use crate::error::{Error, Result};
use crate::journal::Journal;
use crate::maintain::{self, Maintenance};
use crate::op::Op;
use crate::owner::{self, Ownership, Room};
use crate::part::{Derived, Part, PartRows};
use crate::segment::Segment;
use crate::shard::{Catalogued, Damage, Shard};
use crate::snapshot;
use crate::state::State;
use crate::store::{self, Store, sync_dir};

/// An open data directory; cheap to clone and to share between threads.
///
/// One process at a time has a directory open. Dropping the last handle closes
/// it; nothing is lost when that does not happen.
#[derive(Clone)]
pub struct Database {
    pub(crate) inner: Arc<Inner>,
}

pub(crate) struct Inner {
    path: PathBuf,
    pub(crate) options: Options,
    shards: RwLock<BTreeMap<String, Arc<Shard>>>,
    aliases: RwLock<BTreeMap<String, String>>,
    /// Held by whoever makes, drops or renames, which takes trips to the disk;
    /// the maps above are locked only to look and to exchange. Holds the last
    /// number given to a collection: what works in the folder of a dropped one
    /// must never meet another there.
    naming: Mutex<u32>,
    // Fields are dropped in this order: the maintenance stops before the store
    // closes, and the directory is given up last.
    pub(crate) maintenance: Maintenance,
    pub(crate) journal: Arc<Journal>,
    store: Arc<dyn Store>,
    _ownership: Ownership,
}

/// Whether the database takes writes, and if not, why.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Health {
    /// The first disk failure; `None` while all is well.
    pub write_failure: Option<String>,
    /// Segments that cannot be read; the rest serves on without them.
    pub damaged: Vec<Damage>,
}

const ALIASES: &str = "aliases";
const DROPPED: &str = "dropped/";
const STORE_ID: &str = "store_id";
const SNAPSHOTS: &str = "snapshots";
/// Not inside that folder, where a collection may have the name.
const STORAGE_SNAPSHOTS: &str = "storage-snapshots";

impl Inner {
    /// The collection of a name or an alias.
    pub(crate) fn shard(&self, name: &str) -> Option<Arc<Shard>> {
        let shards = self.shards.read();
        let aliases = self.aliases.read();
        shards.get(aliases.get(name).map_or(name, String::as_str)).cloned()
    }

    fn is_taken(&self, name: &str) -> bool {
        self.shards.read().contains_key(name) || self.aliases.read().contains_key(name)
    }

    pub(crate) fn snapshots_dir(&self) -> PathBuf {
        self.path.join(SNAPSHOTS)
    }

    pub(crate) fn storage_snapshots_dir(&self) -> PathBuf {
        self.path.join(STORAGE_SNAPSHOTS)
    }
}

impl Database {
    /// Opens a data directory, creating it if it is not there.
    ///
    /// Maps the segment files and reads back what is only in the log, so the time
    /// grows with the number of segments, not of points.
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
        let there = || store::kind_of(&path.join("log")).unwrap_or(options.store);
        let kind = format.as_ref().map_or_else(there, |format| format.store);
        let room = Room { dir: path.clone(), min_free_bytes: options.min_free_bytes };
        // Opening writes a little. What fails on a full disk fails because of it.
        let why = |error| room.check(0).err().unwrap_or(error);
        let store = store::open(kind, &path.join("log"), options.log_cache_bytes, options.durability);
        let store = store.map_err(why)?;
        identify(&path, format, &*store, kind).map_err(why)?;

        let journal = Arc::new(Journal::new(store.clone(), room));
        let shards = load_all(&path, &*store)?;
        let aliases = load_aliases(&*store)?;
        snapshot::sweep(&path.join(SNAPSHOTS));
        snapshot::sweep_whole(&path.join(STORAGE_SNAPSHOTS));
        let maintenance = Maintenance::start(store.clone(), journal.clone(), options.clone())?;
        for shard in shards.values() {
            maintenance.consider(shard);
            maintenance.after_write(shard);
        }
        let inner = Inner {
            path,
            options,
            shards: RwLock::new(shards),
            aliases: RwLock::new(aliases),
            naming: Mutex::default(),
            maintenance,
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
        self.inner.journal.check_room(0)?;
        let mut last_uid = self.inner.naming.lock();
        if self.inner.is_taken(name) {
            return Err(Error::CollectionExists { name: name.to_owned() });
        }
        let entry = Entry::new(self.free_uid(&mut last_uid)?, config);
        let dir = make_collection_dir(&self.inner.path, entry.uid)?;
        self.catalogue(|| entry.put(&*self.inner.store, name))?;
        let (shard, _) = load(&dir, &*self.inner.store, name.to_owned(), entry)?;
        let shard = Arc::new(shard);
        self.inner.shards.write().insert(name.to_owned(), shard.clone());
        Ok(self.handle(shard))
    }

    /// A number no collection has, nor had while its files may still be there.
    fn free_uid(&self, last_uid: &mut u32) -> Result<u32> {
        let shards: Vec<u32> = self.inner.shards.read().values().map(|shard| shard.uid).collect();
        let logs = self.inner.store.logs()?.into_iter().map(uid_of);
        let folders = folders(&self.inner.path).into_iter().map(|(uid, _)| uid);
        let known = shards.into_iter().chain(logs).chain(folders).max().unwrap_or(0);
        *last_uid = known.max(*last_uid) + 1;
        Ok(*last_uid)
    }

    /// Changes the catalogue. A change that fails may have happened on the disk
    /// all the same, so nothing is built on either outcome: no more writes.
    fn catalogue<T>(&self, change: impl FnOnce() -> Result<T>) -> Result<T> {
        change().inspect_err(|error| self.inner.journal.fail(error))
    }

    /// A handle to a collection, by its name or an alias.
    ///
    /// # Errors
    /// [`Error::UnknownCollection`].
    pub fn collection(&self, name: &str) -> Result<Collection> {
        let shard =
            self.inner.shard(name).ok_or_else(|| Error::UnknownCollection { name: name.to_owned() })?;
        Ok(self.handle(shard))
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
        let _naming = self.inner.naming.lock();
        let Some(shard) = self.inner.shards.read().get(name).cloned() else {
            return Ok(false);
        };
        let aliases = self.aliases();
        let mut left = aliases.clone();
        left.retain(|_, collection| collection != name);
        // Whoever seals or merges writes the catalogue with this lock held.
        let catalogued = shard.catalogued.lock();
        self.inner.journal.exclusively(|| {
            self.catalogue(|| {
                if left.len() < aliases.len() {
                    put_aliases(&*self.inner.store, &left)?;
                }
                self.inner.store.put(&dropped_key(shard.uid), b"")?;
                self.inner.store.remove(&format!("{COLLECTION}{name}"))?;
                shard.mark_dropped();
                self.inner.shards.write().remove(name);
                *self.inner.aliases.write() = left;
                self.forget_logs(&shard)
            })
        })?;
        drop(catalogued);
        remove_dropped(&*self.inner.store, shard.uid, &shard.dir);
        Ok(true)
    }

    fn forget_logs(&self, of: &Shard) -> Result<()> {
        let logs = self.inner.store.logs()?;
        let mut own = logs.into_iter().filter(|log| uid_of(*log) == of.uid);
        own.try_for_each(|log| self.inner.store.forget(log))
    }

    /// Points other names at collections, all at once: each name to a
    /// collection, or to `None` to remove the name. Readers see either all of
    /// the names as before or all as after.
    ///
    /// # Errors
    /// [`Error::UnknownCollection`] for a collection that is not there,
    /// [`Error::CollectionExists`] for a name that a collection has.
    pub fn set_aliases(&self, changes: &[(&str, Option<&str>)]) -> Result<()> {
        self.inner.journal.check_writable()?;
        let _naming = self.inner.naming.lock();
        let is_there = |name: &str| self.inner.shards.read().contains_key(name);
        let mut changed = self.aliases();
        for (alias, collection) in changes {
            let Some(collection) = collection else {
                changed.remove(*alias);
                continue;
            };
            check_name("alias", alias, 255)?;
            if is_there(alias) {
                return Err(Error::CollectionExists { name: (*alias).to_owned() });
            }
            if !is_there(collection) {
                return Err(Error::UnknownCollection { name: (*collection).to_owned() });
            }
            changed.insert((*alias).to_owned(), (*collection).to_owned());
        }
        self.catalogue(|| put_aliases(&*self.inner.store, &changed))?;
        *self.inner.aliases.write() = changed;
        Ok(())
    }

    /// The other names of collections, each with its collection.
    pub fn aliases(&self) -> BTreeMap<String, String> {
        self.inner.aliases.read().clone()
    }

    /// Makes a collection of a snapshot: a folder that
    /// [`Collection::create_snapshot`] made, or a file that
    /// [`Snapshot::pack`](crate::Snapshot::pack) wrote, here or on another
    /// machine. A collection of this name is replaced, in one moment. Every
    /// byte is checked first.
    ///
    /// # Errors
    /// [`Error::Corrupt`] for a snapshot that is not whole,
    /// [`Error::NewerFormat`] for one of a newer version.
    pub fn restore(&self, name: &str, from: &Path) -> Result<Collection> {
        if from.is_dir() {
            return self.restore_folder(name, from);
        }
        let file = std::fs::File::open(from).map_err(Error::io("open", from))?;
        self.restore_from(name, std::io::BufReader::new(file))
    }

    /// The same from the bytes of a packed snapshot.
    ///
    /// # Errors
    /// As for [`Database::restore`].
    pub fn restore_from(&self, name: &str, packed: impl std::io::Read) -> Result<Collection> {
        let folder = snapshot::incoming(&self.inner.snapshots_dir());
        std::fs::create_dir_all(&folder).map_err(Error::io("create folder", &folder))?;
        let restored = snapshot::unpack(packed, &folder).and_then(|()| self.restore_folder(name, &folder));
        let _ = std::fs::remove_dir_all(&folder);
        restored
    }

    fn restore_folder(&self, name: &str, from: &Path) -> Result<Collection> {
        check_name("collection", name, 255)?;
        self.inner.journal.check_writable()?;
        let is_alias = || self.inner.aliases.read().contains_key(name);
        let exists = || Error::CollectionExists { name: name.to_owned() };
        if is_alias() {
            return Err(exists());
        }
        let store = &*self.inner.store;
        let (uid, dir) = self.make_dropped_collection_dir()?;
        let clear_away = || remove_dropped(store, uid, &dir);
        // Reading all of it takes long, and nobody waits for it.
        let brought = snapshot::bring(from, &dir, uid)
            .and_then(|entry| Ok((load(&dir, store, name.to_owned(), entry.clone())?.0, entry)));
        let (shard, entry) = brought.inspect_err(|_| clear_away())?;
        let shard = Arc::new(shard);
        let _naming = self.inner.naming.lock();
        if is_alias() {
            clear_away();
            return Err(exists());
        }
        let replaced = self.inner.shards.read().get(name).cloned();
        let catalogued = replaced.as_ref().map(|old| old.catalogued.lock());
        self.inner.journal.exclusively(|| {
            self.catalogue(|| {
                if let Some(old) = &replaced {
                    store.put(&dropped_key(old.uid), b"")?;
                }
                // From here on the old collection is gone, whenever a crash comes.
                entry.put(store, name)?;
                store.remove(&dropped_key(uid))?;
                if let Some(old) = &replaced {
                    old.mark_dropped();
                }
                self.inner.shards.write().insert(name.to_owned(), shard.clone());
                replaced.as_ref().map_or(Ok(()), |old| self.forget_logs(old))
            })
        })?;
        drop(catalogued);
        if let Some(old) = replaced {
            remove_dropped(store, old.uid, &old.dir);
        }
        self.inner.maintenance.consider(&shard);
        Ok(self.handle(shard))
    }

    /// Makes the folder of a collection that counts as dropped until it is whole.
    fn make_dropped_collection_dir(&self) -> Result<(u32, PathBuf)> {
        let mut last_uid = self.inner.naming.lock();
        let uid = self.free_uid(&mut last_uid)?;
        self.catalogue(|| self.inner.store.put(&dropped_key(uid), b""))?;
        Ok((uid, make_collection_dir(&self.inner.path, uid)?))
    }

    /// Whether writes are taken.
    pub fn health(&self) -> Health {
        let shards = self.inner.shards.read();
        let damaged = shards.values().flat_map(|shard| shard.damaged.lock().clone());
        Health { write_failure: self.inner.journal.failure(), damaged: damaged.collect() }
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
        // Collections are made after both.
        (None, None) if !folders(path).is_empty() => Err(Error::Corrupt {
            what: path.display().to_string(),
            reason: "it has collections, but neither `format.json` nor a log".to_owned(),
        }),
        (None, None) => {
            let id = Uuid::new_v4().to_string();
            store.put(STORE_ID, id.as_bytes())?;
            owner::write_format(path, &id, kind)
        }
    }
}

/// Makes the folder of a collection, durably: the catalogue will name files in it.
fn make_collection_dir(path: &Path, uid: u32) -> Result<PathBuf> {
    let dir = collection_dir(path, uid);
    std::fs::create_dir_all(&dir).map_err(Error::io("create folder", &dir))?;
    sync_dir(&path.join("collections"))?;
    sync_dir(path)?;
    Ok(dir)
}

fn collection_dir(path: &Path, uid: u32) -> PathBuf {
    path.join("collections").join(uid.to_string())
}

/// The folders of collections, by number.
fn folders(path: &Path) -> Vec<(u32, PathBuf)> {
    let entries = std::fs::read_dir(path.join("collections")).into_iter().flatten().flatten();
    entries.filter_map(|entry| Some((entry.file_name().to_str()?.parse().ok()?, entry.path()))).collect()
}

/// In the catalogue from the moment a collection is dropped until its folder is
/// gone, and while one is being restored: only such a folder is removed.
fn dropped_key(uid: u32) -> String {
    format!("{DROPPED}{uid}")
}

fn remove_dropped(store: &dyn Store, uid: u32, dir: &Path) {
    // Files that readers have mapped stay readable until they are done.
    let removed = if dir.exists() { std::fs::remove_dir_all(dir) } else { Ok(()) };
    match removed {
        Ok(()) => drop(store.remove(&dropped_key(uid))),
        Err(error) => {
            tracing::warn!(%error, folder = %dir.display(), "a dropped collection's files stay for now");
        }
    }
}

fn put_aliases(store: &dyn Store, aliases: &BTreeMap<String, String>) -> Result<()> {
    store.put(ALIASES, &serde_json::to_vec(aliases).expect("keys are strings"))
}

fn load_aliases(store: &dyn Store) -> Result<BTreeMap<String, String>> {
    let Some((_, json)) = store.list(ALIASES)?.into_iter().find(|(key, _)| key == ALIASES) else {
        return Ok(BTreeMap::new());
    };
    serde_json::from_slice(&json)
        .map_err(|error| Error::Corrupt { what: "the list of aliases".to_owned(), reason: error.to_string() })
}

fn load_all(path: &Path, store: &dyn Store) -> Result<BTreeMap<String, Arc<Shard>>> {
    let mut shards = BTreeMap::new();
    let mut uids = Vec::new();
    for (key, json) in store.list(COLLECTION)? {
        let name = key.strip_prefix(COLLECTION).expect("the list has this prefix").to_owned();
        let entry = Entry::read(&name, &json)?;
        uids.push(entry.uid);
        let dir = collection_dir(path, entry.uid);
        if !dir.exists() {
            make_collection_dir(path, entry.uid)?;
        }
        let (shard, replayed) = load(&dir, store, name.clone(), entry)?;
        tracing::info!(
            collection = name,
            segments = shard.state.read().settled.len(),
            replayed,
            damaged = shard.damaged.lock().len(),
            "opened a collection"
        );
        shards.insert(name, Arc::new(shard));
    }
    for log in store.logs()? {
        // Left by a crash between two steps of dropping.
        if !uids.contains(&uid_of(log)) {
            store.forget(log)?;
        }
    }
    for (key, _) in store.list(DROPPED)? {
        match key[DROPPED.len()..].parse() {
            // A crash came before it was dropped, or after it was restored.
            Ok(uid) if uids.contains(&uid) => store.remove(&key)?,
            Ok(uid) => remove_dropped(store, uid, &collection_dir(path, uid)),
            Err(_) => {}
        }
    }
    for (uid, folder) in folders(path) {
        if uids.contains(&uid) {
            continue;
        }
        // A crash while a collection was made leaves an empty one. Anything else
        // may be all that is left of a collection whose log was damaged.
        if std::fs::remove_dir(&folder).is_err() {
            tracing::warn!(folder = %folder.display(), "no collection has these files; they are left alone");
        }
    }
    Ok(shards)
}

/// Maps the segments of a collection and replays its log; also gives the number
/// of operations replayed.
fn load(dir: &Path, store: &dyn Store, name: String, entry: Entry) -> Result<(Shard, usize)> {
    catalogue::sweep(dir, &entry);
    let mut sealed = Vec::new();
    let mut marks = BTreeMap::new();
    let mut damaged = Vec::new();
    for segment in &entry.segments {
        match load_segment(dir, segment, &entry) {
            Ok(part) => {
                marks.insert(part.number, part.marks.clone());
                sealed.push(part);
            }
            Err(reason) => {
                let file = segment_path(dir, segment.number);
                tracing::error!(collection = name, file = %file.display(), reason, "a damaged segment is left out");
                damaged.push(Damage { collection: name.clone(), file, reason });
            }
        }
    }
    let config = Arc::new(entry.config.clone());
    let mut state = State::new(entry.seq, config, entry.vector_uids.clone(), sealed);
    let mut generation = entry.generation;
    let mut replayed = 0;
    for log in store.logs()?.into_iter().filter(|log| uid_of(*log) == entry.uid) {
        if generation_of(log) < entry.generation {
            store.forget(log)?;
            continue;
        }
        generation = generation.max(generation_of(log));
        store.replay(log, &mut |seq, bytes| {
            let op = Op::decode(&bytes).map_err(|reason| Error::Corrupt {
                what: format!("operation {seq} of collection `{name}`"),
                reason,
            })?;
            state.apply(seq, op);
            replayed += 1;
            Ok(())
        })?;
    }
    let catalogued = Catalogued { entry, marks };
    Ok((Shard::new(name, dir.to_owned(), state, catalogued, generation, damaged), replayed))
}

fn load_segment(dir: &Path, segment: &SegmentEntry, entry: &Entry) -> Result<Part, String> {
    let rows = Segment::open(&segment_path(dir, segment.number))?;
    let marks = catalogue::read_marks(dir, segment, rows.len())?;
    let mut part = Part {
        number: segment.number,
        rows: PartRows::Sealed(Arc::new(rows)),
        marks,
        derived: Derived::default(),
    };
    maintain::load_derived(dir, &mut part, &entry.config, &entry.vector_uids);
    Ok(part)
}

#[cfg(test)]
mod tests;
