//! The key-value store below the database: the catalogue and the logs.
//!
//! sled's types stop in this file, redb's in `store/redb`. What stays true: when
//! `append`, `put` or `remove` return, the data is on the disk, not only in the
//! system's cache; the parts of one record are written together or not at all.
//! What the bytes mean is not here; see `op` and `database`.

mod redb;

use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::config::StoreKind;
use crate::error::{Error, Result};

/// One encoded operation on its way to a log.
pub(crate) struct Record {
    pub(crate) log: u32,
    pub(crate) seq: u64,
    pub(crate) bytes: Vec<u8>,
}

/// Opens the store of a directory, creating it if it is not there.
pub(crate) fn open(kind: StoreKind, path: &Path, cache_bytes: u64) -> Result<Arc<dyn Store>> {
    Ok(match kind {
        StoreKind::Sled => Arc::new(Sled::open(path, cache_bytes)?),
        StoreKind::Redb => Arc::new(redb::Redb::open(path, cache_bytes)?),
    })
}

/// What the database needs from a store.
pub(crate) trait Store: Send + Sync {
    /// Writes records durably; all of one log's records together.
    fn append(&self, records: &[Record]) -> Result<()>;
    /// Calls `each` with every record of a log, in order of seq.
    fn replay(&self, log: u32, each: &mut dyn FnMut(u64, Vec<u8>) -> Result<()>) -> Result<()>;
    /// Removes a log.
    fn forget(&self, log: u32) -> Result<()>;
    /// The logs there are.
    fn logs(&self) -> Result<Vec<u32>>;
    /// Sets a catalogue entry durably.
    fn put(&self, key: &str, value: &[u8]) -> Result<()>;
    /// Removes a catalogue entry durably.
    fn remove(&self, key: &str) -> Result<()>;
    /// The catalogue entries whose key starts with `prefix`, by key.
    fn list(&self, prefix: &str) -> Result<Vec<(String, Vec<u8>)>>;
}

// Above a quarter of the segment, sled writes a value into a file of its own,
// which it neither syncs nor removes. A leaf holds up to 16 entries, so with
// 8 MiB segments values must stay under 2 MiB / 16 less some room for keys.
const SEGMENT_BYTES: usize = 8 << 20;
const MAX_VALUE_BYTES: usize = 96 << 10;

/// Each stored value starts with the number of parts its record has.
const PART_HEADER: usize = 4;

pub(crate) struct Sled {
    db: sled::Db,
    catalogue: sled::Tree,
    /// sled's data file, kept open to be synced: `flush` alone hands the bytes
    /// to the system but does not wait for the disk (spacejam/sled#1452).
    data: File,
    path: PathBuf,
}

impl Sled {
    pub(crate) fn open(path: &Path, cache_bytes: u64) -> Result<Self> {
        let config = sled::Config::new()
            .path(path)
            .segment_size(SEGMENT_BYTES)
            .cache_capacity(cache_bytes)
            .flush_every_ms(Some(500))
            .use_compression(false);
        let open = || open_when_released(|| config.open(), is_held);
        let db = match open() {
            // A crash can leave a damaged snapshot, which sled rebuilds from
            // its log once it is out of the way (spacejam/sled#1527).
            Err(sled::Error::Corruption { .. }) if set_snapshots_aside(path)? => open(),
            other => other,
        }
        .map_err(|source| failed("opening the log", &source))?;
        let catalogue =
            db.open_tree("catalogue").map_err(|source| failed("opening the catalogue", &source))?;
        let file = path.join("db");
        let data = File::open(&file).map_err(Error::io("open", &file))?;
        let store = Self { db, catalogue, data, path: path.to_owned() };
        store.sync()?;
        sync_dir(path)?;
        Ok(store)
    }

    fn sync(&self) -> Result<()> {
        self.db.flush().map_err(|source| failed("flushing the log", &source))?;
        self.data.sync_data().map_err(Error::io("sync", self.path.join("db")))
    }

    fn tree(&self, log: u32) -> Result<sled::Tree> {
        self.db.open_tree(log_name(log)).map_err(|source| failed("opening a log", &source))
    }
}

impl Store for Sled {
    fn append(&self, records: &[Record]) -> Result<()> {
        for group in records.chunk_by(|a, b| a.log == b.log) {
            let mut batch = sled::Batch::default();
            for record in group {
                let parts: Vec<&[u8]> = record.bytes.chunks(MAX_VALUE_BYTES).collect();
                for (index, part) in (0u32..).zip(&parts) {
                    let mut value = Vec::with_capacity(PART_HEADER + part.len());
                    value.extend((parts.len() as u32).to_le_bytes());
                    value.extend(*part);
                    batch.insert(&key(record.seq, index)[..], value);
                }
            }
            let tree = self.tree(group[0].log)?;
            tree.apply_batch(batch).map_err(|source| failed("appending to a log", &source))?;
        }
        self.sync()
    }

    fn replay(&self, log: u32, each: &mut dyn FnMut(u64, Vec<u8>) -> Result<()>) -> Result<()> {
        let mut bytes = Vec::new();
        let mut expected = 0;
        for entry in &self.tree(log)? {
            let (key, value) = entry.map_err(|source| failed("reading a log", &source))?;
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

    fn forget(&self, log: u32) -> Result<()> {
        self.db.drop_tree(log_name(log)).map_err(|source| failed("removing a log", &source))?;
        self.sync()
    }

    fn logs(&self) -> Result<Vec<u32>> {
        let names = self.db.tree_names();
        Ok(names.iter().filter_map(|name| parse_log_name(name)).collect())
    }

    fn put(&self, key: &str, value: &[u8]) -> Result<()> {
        self.catalogue.insert(key, value).map_err(|source| failed("writing the catalogue", &source))?;
        self.sync()
    }

    fn remove(&self, key: &str) -> Result<()> {
        self.catalogue.remove(key).map_err(|source| failed("writing the catalogue", &source))?;
        self.sync()
    }

    fn list(&self, prefix: &str) -> Result<Vec<(String, Vec<u8>)>> {
        let entries = self.catalogue.scan_prefix(prefix).map(|entry| {
            let (key, value) = entry.map_err(|source| failed("reading the catalogue", &source))?;
            Ok((String::from_utf8_lossy(&key).into_owned(), value.to_vec()))
        });
        entries.collect()
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

fn log_name(log: u32) -> String {
    format!("log/{log}")
}

fn parse_log_name(name: &[u8]) -> Option<u32> {
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

    fn replayed(store: &dyn Store, log: u32) -> Vec<(u64, Vec<u8>)> {
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
                let store = open(kind, dir.path(), 1 << 20).unwrap();
                for (seq, &size) in (1..).zip(&sizes) {
                    store.append(&[record(1, seq, size), record(2, seq, 3)]).unwrap();
                }
                store.put("collection/a", b"{}").unwrap();
                store.put("other", b"x").unwrap();
                store.put("collection/b", b"{}").unwrap();
                store.remove("collection/b").unwrap();
            }
            let store = open(kind, dir.path(), 1 << 20).unwrap();
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
        let store = Sled::open(dir.path(), 8 << 20).unwrap();
        for seq in 0..40 {
            store.append(&[Record { log: 1, seq, bytes: vec![7; 2 << 20] }]).unwrap();
        }
        let blobs = dir.path().join("blobs");
        assert_eq!(std::fs::read_dir(blobs).map_or(0, Iterator::count), 0);
    }

    #[test]
    fn a_damaged_snapshot_is_rebuilt_from_the_log() {
        let dir = tempfile::tempdir().unwrap();
        drop({
            let store = Sled::open(dir.path(), 1 << 20).unwrap();
            store.append(&[Record { log: 1, seq: 1, bytes: vec![1; 1000] }]).unwrap();
            store
        });
        for entry in std::fs::read_dir(dir.path()).unwrap() {
            let file = entry.unwrap().path();
            if file.file_name().unwrap().to_string_lossy().starts_with("snap.") {
                std::fs::write(&file, b"nonsense nonsense nonsense nonsense").unwrap();
            }
        }
        let store = Sled::open(dir.path(), 1 << 20).unwrap();
        assert_eq!(replayed(&store, 1), [(1, vec![1; 1000])]);
    }
}
