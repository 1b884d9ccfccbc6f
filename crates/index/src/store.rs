//! The key-value store below the database: the catalogue and the logs.
//!
//! sled's types stop in this file, redb's in `store/redb`. What stays true: when
//! `append`, `put` or `remove` return, the data is on the disk, not only in the
//! system's cache; the parts of one record are written together or not at all.
//! What the bytes mean is not here; see `op` and `database`.

mod nudge;
mod redb;

use std::cell::Cell;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::{MappedRwLockReadGuard, RwLock, RwLockReadGuard};

use self::nudge::Nudge;
use crate::config::{Durability, StoreKind};
use crate::error::{Error, Result};

/// One encoded operation on its way to a log.
pub(crate) struct Record {
    pub(crate) log: u64,
    pub(crate) seq: u64,
    pub(crate) bytes: Vec<u8>,
}

/// The kind of the store that is in a folder, by its files.
pub(crate) fn kind_of(path: &Path) -> Option<StoreKind> {
    let has = |file: &str| path.join(file).exists();
    if has(redb::FILE) {
        return Some(StoreKind::Redb);
    }
    has("db").then_some(StoreKind::Sled)
}

/// Opens the store of a directory, creating it if it is not there.
pub(crate) fn open(
    kind: StoreKind,
    path: &Path,
    cache_bytes: u64,
    durability: Durability,
) -> Result<Arc<dyn Store>> {
    Ok(match kind {
        StoreKind::Sled => Arc::new(Sled::open(path, cache_bytes, durability)?),
        StoreKind::Redb => Arc::new(redb::Redb::open(path, cache_bytes)?),
    })
}

/// What the database needs from a store.
pub(crate) trait Store: Send + Sync {
    /// Writes records durably; all of one log's records together.
    fn append(&self, records: &[Record]) -> Result<()>;
    /// Calls `each` with every record of a log, in order of seq.
    fn replay(&self, log: u64, each: &mut dyn FnMut(u64, Vec<u8>) -> Result<()>) -> Result<()>;
    /// Removes a log.
    fn forget(&self, log: u64) -> Result<()>;
    /// Gives space back to the system, as far as the store can.
    fn shrink(&self) -> Result<()>;
    /// The same, if it is large and mostly free.
    fn shrink_if_mostly_free(&self) -> Result<()>;
    /// The logs there are, in order.
    fn logs(&self) -> Result<Vec<u64>>;
    /// Sets a catalogue entry durably.
    fn put(&self, key: &str, value: &[u8]) -> Result<()>;
    /// Removes a catalogue entry durably.
    fn remove(&self, key: &str) -> Result<()>;
    /// The catalogue entries whose key starts with `prefix`, by key.
    fn list(&self, prefix: &str) -> Result<Vec<(String, Vec<u8>)>>;
}

// Above a quarter of the segment, sled writes a value into a file of its own,
// which it neither syncs nor removes. A leaf holds up to 16 entries, so with
// 1 MiB segments values must stay under 256 KiB / 16 less some room for keys.
// Larger segments take more disk and are slower: with 8 MiB, a durable upsert took
// 1.5 to 1.9 times as long, and an empty log 8 MiB.
const SEGMENT_BYTES: usize = 1 << 20;
const MAX_VALUE_BYTES: usize = 12 << 10;

/// Each stored value starts with the number of parts its record has.
const PART_HEADER: usize = 4;

pub(crate) struct Sled {
    /// Taken for writing only while the files are exchanged for smaller ones.
    files: RwLock<Option<Files>>,
    path: PathBuf,
    cache_bytes: u64,
    durability: Durability,
}

struct Files {
    nudge: Nudge,
    db: sled::Db,
    catalogue: sled::Tree,
    /// sled's data file, kept open to be synced: `flush` alone hands the bytes
    /// to the system but does not wait for the disk (spacejam/sled#1452).
    data: File,
}

/// sled reuses space but never gives it back. Its files are written anew, with
/// what is live in them, once they are this large and mostly free.
const SHRINK_BYTES: u64 = 64 << 20;
const SHRINK_SHARE: u64 = 4;

impl Sled {
    pub(crate) fn open(path: &Path, cache_bytes: u64, durability: Durability) -> Result<Self> {
        // Left by a crash while the files were exchanged; not yet, or no
        // longer, the store.
        let left = path.with_extension("smaller");
        remove_if_there(&left)?;
        // sled writes its settings before anything else, and does not open with
        // settings that a crash cut off.
        let settings = path.join("conf");
        if settings.exists() && !path.join("db").exists() {
            std::fs::remove_file(&settings).map_err(Error::io("remove", &settings))?;
        }
        let files = Files::open(path, cache_bytes)?;
        Ok(Self { files: RwLock::new(Some(files)), path: path.to_owned(), cache_bytes, durability })
    }

    fn files(&self) -> Result<MappedRwLockReadGuard<'_, Files>> {
        RwLockReadGuard::try_map(self.files.read(), Option::as_ref)
            .map_err(|_| failed("reopening the log", &sled::Error::Unsupported("it is closed".to_owned())))
    }

    /// Copies what is live into new files and puts them in place of the old.
    /// Both are closed meanwhile, because sled finds some of its files by path.
    fn rewrite(&self) -> Result<()> {
        let mut files = self.files.write();
        let Some(old) = &*files else { return Ok(()) };
        let smaller = self.path.with_extension("smaller");
        // What an attempt that failed left there must not come back to life.
        remove_if_there(&smaller)?;
        contain("rewriting the log", || copy(&old.db, &Files::open(&smaller, self.cache_bytes)?))?;
        close(files.take());
        let exchanged = exchange(&smaller, &self.path);
        *files = Some(Files::open(&self.path, self.cache_bytes)?);
        exchanged?;
        sync_dir(self.path.parent().expect("the log is in a data directory"))?;
        std::fs::remove_dir_all(&smaller).map_err(Error::io("remove folder", &smaller))
    }

    fn free_share(&self) -> Result<(u64, u64)> {
        let files = self.files()?;
        let size = files.db.size_on_disk().map_err(|source| failed("measuring the log", &source))?;
        let mut live = 0;
        for name in files.db.tree_names() {
            let tree = files.db.open_tree(&name).map_err(|source| failed("measuring the log", &source))?;
            for entry in &tree {
                let (key, value) = entry.map_err(|source| failed("measuring the log", &source))?;
                live += (key.len() + value.len()) as u64;
            }
        }
        Ok((size, live))
    }
}

fn remove_if_there(folder: &Path) -> Result<()> {
    if folder.exists() {
        std::fs::remove_dir_all(folder).map_err(Error::io("remove folder", folder))?;
    }
    Ok(())
}

fn copy(old: &sled::Db, new: &Files) -> Result<()> {
    let failed = |source| failed("rewriting the log", &source);
    for name in old.tree_names() {
        let (old, new) = (old.open_tree(&name).map_err(failed)?, new.db.open_tree(&name).map_err(failed)?);
        for entry in &old {
            let (key, value) = entry.map_err(failed)?;
            new.insert(key, value).map_err(failed)?;
        }
    }
    new.sync()
}

/// Gives two folders each other's name, at once where the system can.
fn exchange(a: &Path, b: &Path) -> Result<()> {
    use rustix::fs::{CWD, RenameFlags, renameat_with};
    renameat_with(CWD, a, CWD, b, RenameFlags::EXCHANGE)
        .map_err(|errno| Error::io("exchange", a)(errno.into()))
}

impl Drop for Sled {
    fn drop(&mut self) {
        close(self.files.get_mut().take());
    }
}

/// Closes sled, which panics when the disk fails in that moment. Nothing is lost
/// by it: what was acknowledged was synced before.
fn close(files: Option<Files>) {
    let close = || {
        drop(files);
        Ok(())
    };
    if contain("closing the log", close).is_err() {
        tracing::warn!("the disk failed while the log was closed");
    }
}

/// Runs what sled does. It panics in places when files are damaged or the disk
/// fails, also when it is dropped, and has no other way to tell; whoever embeds
/// the database must get an error instead.
fn contain<T>(action: &'static str, run: impl FnOnce() -> Result<T>) -> Result<T> {
    std::panic::catch_unwind(std::panic::AssertUnwindSafe(run)).unwrap_or_else(|panic| {
        let text = panic.downcast_ref::<String>().map(String::as_str);
        let text = text.or_else(|| panic.downcast_ref::<&str>().copied());
        Err(Error::Store { action, reason: text.unwrap_or("it panicked").to_owned() })
    })
}

/// The same for one call of sled's.
fn call<T>(action: &'static str, run: impl FnOnce() -> sled::Result<T>) -> Result<T> {
    contain(action, || run().map_err(|source| failed(action, &source)))
}

impl Files {
    fn open(path: &Path, cache_bytes: u64) -> Result<Self> {
        contain("opening the log", || Self::open_uncontained(path, cache_bytes))
    }

    fn open_uncontained(path: &Path, cache_bytes: u64) -> Result<Self> {
        let config = sled::Config::new()
            .path(path)
            .segment_size(SEGMENT_BYTES)
            .cache_capacity(cache_bytes)
            .flush_every_ms(Some(500))
            .use_compression(false);
        let disk_failed = Cell::new(false);
        let attempt = || {
            let opened = open_when_released(|| config.open(), is_held);
            disk_failed.set(matches!(opened, Err(sled::Error::Io(_))));
            opened
        };
        let open = || call("opening the log", attempt);
        let db = match open() {
            // A crash can leave a damaged snapshot, which sled rebuilds from
            // its log once it is out of the way (spacejam/sled#1527).
            Err(_) if !disk_failed.get() && set_snapshots_aside(path)? => open(),
            other => other,
        }?;
        let catalogue = call("opening the catalogue", || db.open_tree("catalogue"))?;
        let file = path.join("db");
        let data = File::open(&file).map_err(Error::io("open", &file))?;
        let files = Self { nudge: Nudge::start(db.clone())?, db, catalogue, data };
        files.sync()?;
        sync_dir(path)?;
        Ok(files)
    }

    fn flush(&self) -> Result<()> {
        self.nudge.watch(|| call("flushing the log", || self.db.flush())).map(drop)
    }

    fn sync(&self) -> Result<()> {
        self.flush()?;
        self.data.sync_data().map_err(Error::io("sync", "log/db"))
    }

    fn tree(&self, log: u64) -> Result<sled::Tree> {
        call("opening a log", || self.db.open_tree(log_name(log)))
    }
}

impl Store for Sled {
    fn append(&self, records: &[Record]) -> Result<()> {
        let files = self.files()?;
        for group in records.chunk_by(|a, b| a.log == b.log) {
            let mut batch = sled::Batch::default();
            let mut value = Vec::new();
            for record in group {
                let parts = record.bytes.chunks(MAX_VALUE_BYTES);
                let count = parts.len() as u32;
                for (index, part) in (0u32..).zip(parts) {
                    value.clear();
                    value.extend(count.to_le_bytes());
                    value.extend(part);
                    // Copied, whatever it is given.
                    batch.insert(&key(record.seq, index)[..], &value[..]);
                }
            }
            let tree = files.tree(group[0].log)?;
            call("appending to a log", || tree.apply_batch(batch))?;
        }
        match self.durability {
            Durability::Power => files.sync(),
            Durability::Process => files.flush(),
        }
    }

    fn replay(&self, log: u64, each: &mut dyn FnMut(u64, Vec<u8>) -> Result<()>) -> Result<()> {
        let mut bytes = Vec::new();
        let mut expected = 0;
        let mut entries = self.files()?.tree(log)?.iter();
        while let Some((key, value)) = call("reading a log", || entries.next().transpose())? {
            let damaged =
                |reason: &str| Error::Corrupt { what: format!("log {log}"), reason: reason.to_owned() };
            let (seq, index) = parse_key(&key).ok_or_else(|| damaged("a key has the wrong length"))?;
            let (header, part) =
                value.split_at_checked(PART_HEADER).ok_or_else(|| damaged("a record is too short"))?;
            if index != expected {
                return Err(damaged(&format!(
                    "part {expected} before part {index} of record {seq} is missing"
                )));
            }
            bytes.extend_from_slice(part);
            let parts = u32::from_le_bytes(header.try_into().expect("the header was split to four bytes"));
            if index + 1 < parts {
                expected += 1;
            } else {
                expected = 0;
                each(seq, std::mem::take(&mut bytes))?;
            }
        }
        Ok(())
    }

    fn forget(&self, log: u64) -> Result<()> {
        let files = self.files()?;
        call("removing a log", || files.db.drop_tree(log_name(log)))?;
        files.sync()
    }

    fn shrink(&self) -> Result<()> {
        let (size, live) = self.free_share()?;
        if size > 2 * SEGMENT_BYTES as u64 && size > live * SHRINK_SHARE { self.rewrite() } else { Ok(()) }
    }

    fn shrink_if_mostly_free(&self) -> Result<()> {
        let size = self.files()?.db.size_on_disk();
        if size.map_err(|source| failed("measuring the log", &source))? < SHRINK_BYTES {
            return Ok(());
        }
        self.shrink()
    }

    fn logs(&self) -> Result<Vec<u64>> {
        let names = self.files()?.db.tree_names();
        let mut logs: Vec<u64> = names.iter().filter_map(|name| parse_log_name(name)).collect();
        logs.sort_unstable();
        Ok(logs)
    }

    fn put(&self, key: &str, value: &[u8]) -> Result<()> {
        let files = self.files()?;
        call("writing the catalogue", || files.catalogue.insert(key, value))?;
        files.sync()
    }

    fn remove(&self, key: &str) -> Result<()> {
        let files = self.files()?;
        call("writing the catalogue", || files.catalogue.remove(key))?;
        files.sync()
    }

    fn list(&self, prefix: &str) -> Result<Vec<(String, Vec<u8>)>> {
        let files = self.files()?;
        let read = || files.catalogue.scan_prefix(prefix).collect::<sled::Result<Vec<_>>>();
        let entries = call("reading the catalogue", read)?.into_iter();
        Ok(entries.map(|(key, value)| (String::from_utf8_lossy(&key).into_owned(), value.to_vec())).collect())
    }
}

/// Opens a store, waiting a while for one that is letting go of it.
///
/// sled gives its lock up a moment after its last handle is dropped, by a
/// thread of its own. The directory is ours by the lock of `owner`, so whoever
/// still holds the store's own lock is on its way out.
fn open_when_released<T, E>(
    mut open: impl FnMut() -> Result<T, E>,
    is_held: impl Fn(&E) -> bool,
) -> Result<T, E> {
    let give_up = Instant::now() + Duration::from_secs(10);
    loop {
        match open() {
            Err(error) if is_held(&error) && Instant::now() < give_up => {
                std::thread::sleep(Duration::from_millis(5));
            }
            other => return other,
        }
    }
}

fn is_held(error: &sled::Error) -> bool {
    matches!(error, sled::Error::Io(error) if error.to_string().contains("could not acquire lock"))
}

fn failed(action: &'static str, source: &sled::Error) -> Error {
    Error::Store { action, reason: source.to_string() }
}

fn log_name(log: u64) -> String {
    format!("log/{log}")
}

fn parse_log_name(name: &[u8]) -> Option<u64> {
    std::str::from_utf8(name).ok()?.strip_prefix("log/")?.parse().ok()
}

/// Keys sort as numbers do, so a scan meets records and their parts in order.
fn key(seq: u64, part: u32) -> [u8; 12] {
    let mut key = [0; 12];
    key[..8].copy_from_slice(&seq.to_be_bytes());
    key[8..].copy_from_slice(&part.to_be_bytes());
    key
}

fn parse_key(key: &[u8]) -> Option<(u64, u32)> {
    let (seq, part) = key.split_at_checked(8)?;
    Some((u64::from_be_bytes(seq.try_into().ok()?), u32::from_be_bytes(part.try_into().ok()?)))
}

/// Renames sled's snapshots so that it rebuilds them; true if there were any.
fn set_snapshots_aside(path: &Path) -> Result<bool> {
    let mut found = false;
    for entry in std::fs::read_dir(path).map_err(Error::io("read folder", path))? {
        let file = entry.map_err(Error::io("read folder", path))?.path();
        let name = file.file_name().unwrap_or_default().to_string_lossy().into_owned();
        if name.starts_with("snap.") {
            let aside = path.join(format!("damaged-{name}"));
            std::fs::rename(&file, &aside).map_err(Error::io("rename", &file))?;
            tracing::warn!(file = %file.display(), "set a damaged snapshot of the log aside");
            found = true;
        }
    }
    Ok(found)
}

/// Makes renames and new files in a folder durable.
pub(crate) fn sync_dir(path: &Path) -> Result<()> {
    File::open(path).and_then(|dir| dir.sync_all()).map_err(Error::io("sync folder", path))
}

#[cfg(test)]
mod tests {
    use super::*;

    const KINDS: [StoreKind; 2] = [StoreKind::Sled, StoreKind::Redb];

    fn replayed(store: &dyn Store, log: u64) -> Vec<(u64, Vec<u8>)> {
        let mut records = Vec::new();
        store
            .replay(log, &mut |seq, bytes| {
                records.push((seq, bytes));
                Ok(())
            })
            .unwrap();
        records
    }

    #[test]
    fn records_of_any_size_come_back_in_order_after_reopening() {
        for kind in KINDS {
            let dir = tempfile::tempdir().unwrap();
            let sizes = [1, 100, MAX_VALUE_BYTES, MAX_VALUE_BYTES + 1, 3 << 20];
            let record = |log, seq, size| Record { log, seq, bytes: vec![seq as u8; size] };
            {
                let store = open(kind, dir.path(), 1 << 20, Durability::Power).unwrap();
                for (seq, &size) in (1..).zip(&sizes) {
                    store.append(&[record(1, seq, size), record(2, seq, 3)]).unwrap();
                }
                store.put("collection/a", b"{}").unwrap();
                store.put("other", b"x").unwrap();
                store.put("collection/b", b"{}").unwrap();
                store.remove("collection/b").unwrap();
            }
            let store = open(kind, dir.path(), 1 << 20, Durability::Power).unwrap();
            let want: Vec<_> = (1..).zip(&sizes).map(|(seq, &size)| (seq, vec![seq as u8; size])).collect();
            assert_eq!(replayed(&*store, 1), want, "{kind:?}");
            assert_eq!(replayed(&*store, 2).len(), sizes.len());
            assert_eq!(store.list("collection/").unwrap(), [("collection/a".to_owned(), b"{}".to_vec())]);

            store.forget(1).unwrap();
            assert_eq!(store.logs().unwrap(), [2], "{kind:?}");
            assert!(replayed(&*store, 1).is_empty());
        }
    }

    #[test]
    fn no_value_is_written_into_a_file_of_its_own() {
        let dir = tempfile::tempdir().unwrap();
        let store = Sled::open(&dir.path().join("log"), 8 << 20, Durability::Power).unwrap();
        for seq in 0..40 {
            store.append(&[Record { log: 1, seq, bytes: vec![7; 2 << 20] }]).unwrap();
        }
        let blobs = dir.path().join("log/blobs");
        assert_eq!(std::fs::read_dir(blobs).map_or(0, Iterator::count), 0);
    }

    #[test]
    fn space_of_forgotten_logs_is_given_back_and_the_rest_stays() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("log");
        let on_disk = || std::fs::metadata(path.join("db")).unwrap().len();
        let store = Sled::open(&path, 8 << 20, Durability::Power).unwrap();
        for seq in 0..40 {
            store.append(&[Record { log: 1, seq, bytes: vec![7; 3 << 20] }]).unwrap();
        }
        store.append(&[Record { log: 2, seq: 1, bytes: vec![8; 100] }]).unwrap();
        store.put("key", b"value").unwrap();
        let before = on_disk();
        store.forget(1).unwrap();
        store.shrink_if_mostly_free().unwrap();
        assert!(on_disk() * 4 < before, "{} of {before}", on_disk());
        store.append(&[Record { log: 2, seq: 2, bytes: vec![9; 100] }]).unwrap();
        drop(store);
        let store = Sled::open(&path, 8 << 20, Durability::Power).unwrap();
        assert_eq!(replayed(&store, 2), [(1, vec![8; 100]), (2, vec![9; 100])]);
        assert_eq!(store.list("key").unwrap().len(), 1);
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 1);
    }

    #[test]
    fn a_damaged_snapshot_is_rebuilt_from_the_log() {
        let dir = tempfile::tempdir().unwrap();
        drop({
            let store = Sled::open(&dir.path().join("log"), 1 << 20, Durability::Power).unwrap();
            store.append(&[Record { log: 1, seq: 1, bytes: vec![1; 1000] }]).unwrap();
            store
        });
        for entry in std::fs::read_dir(dir.path().join("log")).unwrap() {
            let file = entry.unwrap().path();
            if file.file_name().unwrap().to_string_lossy().starts_with("snap.") {
                std::fs::write(&file, b"nonsense nonsense nonsense nonsense").unwrap();
            }
        }
        let store = Sled::open(&dir.path().join("log"), 1 << 20, Durability::Power).unwrap();
        assert_eq!(replayed(&store, 1), [(1, vec![1; 1000])]);
    }
}
