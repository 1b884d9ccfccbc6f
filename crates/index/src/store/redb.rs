//! The same over redb: copy-on-write B-trees in one file, every commit synced.

use std::path::{Path, PathBuf};

use parking_lot::RwLock;
use redb::{
    Database, DatabaseError, ReadableDatabase, ReadableTable, TableDefinition, TableError, TableHandle,
};

use super::{Record, Store, log_name, open_when_released, parse_log_name, sync_dir};
use crate::error::{Error, Result};

/// The name of the store's file in its folder.
pub(super) const FILE: &str = "log.redb";

const CATALOGUE: TableDefinition<'static, &str, &[u8]> = TableDefinition::new("catalogue");

type Log<'n> = TableDefinition<'n, u64, &'static [u8]>;

pub(crate) struct Redb {
    /// Taken for writing only to compact, which bears no transaction beside it:
    /// each holds the lock from its beginning to its end.
    db: RwLock<Database>,
    path: PathBuf,
}

impl Redb {
    pub(crate) fn open(path: &Path, cache_bytes: u64) -> Result<Self> {
        std::fs::create_dir_all(path).map_err(Error::io("create folder", path))?;
        let file = path.join(FILE);
        if !file.exists() {
            make(path, &file)?;
        }
        let cache_bytes = usize::try_from(cache_bytes).unwrap_or(usize::MAX);
        let open = || Database::builder().set_cache_size(cache_bytes).create(&file);
        let is_held = |error: &DatabaseError| matches!(error, DatabaseError::DatabaseAlreadyOpen);
        let db = open_when_released(open, is_held).map_err(failed("opening the log"))?;
        sync_dir(path)?;
        Ok(Self { db: RwLock::new(db), path: file })
    }
}

/// Makes an empty file. redb does not open one whose making was cut off, so it
/// gets its name when it is whole.
fn make(folder: &Path, file: &Path) -> Result<()> {
    let partial = folder.join("log.partial");
    if partial.exists() {
        std::fs::remove_file(&partial).map_err(Error::io("remove", &partial))?;
    }
    drop(Database::builder().create(&partial).map_err(failed("making the log"))?);
    std::fs::rename(&partial, file).map_err(Error::io("rename", &partial))?;
    sync_dir(folder)
}

impl Store for Redb {
    fn append(&self, records: &[Record]) -> Result<()> {
        let action = "appending to a log";
        let db = self.db.read();
        let transaction = db.begin_write().map_err(failed(action))?;
        for group in records.chunk_by(|a, b| a.log == b.log) {
            let name = log_name(group[0].log);
            let mut log = transaction.open_table(Log::new(&name)).map_err(failed(action))?;
            for record in group {
                log.insert(record.seq, record.bytes.as_slice()).map_err(failed(action))?;
            }
        }
        transaction.commit().map_err(failed(action))
    }

    fn replay(&self, log: u64, each: &mut dyn FnMut(u64, Vec<u8>) -> Result<()>) -> Result<()> {
        let action = "reading a log";
        let db = self.db.read();
        let transaction = db.begin_read().map_err(failed(action))?;
        let name = log_name(log);
        let table = match transaction.open_table(Log::new(&name)) {
            Err(TableError::TableDoesNotExist(_)) => return Ok(()),
            other => other.map_err(failed(action))?,
        };
        for entry in table.iter().map_err(failed(action))? {
            let (seq, bytes) = entry.map_err(failed(action))?;
            each(seq.value(), bytes.value().to_vec())?;
        }
        Ok(())
    }

    fn forget(&self, log: u64) -> Result<()> {
        let action = "removing a log";
        let db = self.db.read();
        let transaction = db.begin_write().map_err(failed(action))?;
        transaction.delete_table(Log::new(&log_name(log))).map_err(failed(action))?;
        transaction.commit().map_err(failed(action))
    }

    fn shrink(&self) -> Result<()> {
        self.db.write().compact().map_err(failed("compacting the log")).map(drop)
    }

    fn shrink_if_mostly_free(&self) -> Result<()> {
        let file = std::fs::metadata(&self.path).map_err(Error::io("measure", &self.path))?;
        if file.len() < super::SHRINK_BYTES {
            return Ok(());
        }
        let stats = {
            let db = self.db.read();
            let transaction = db.begin_write().map_err(failed("measuring the log"))?;
            transaction.stats().map_err(failed("measuring the log"))?
        };
        if stats.stored_bytes() * super::SHRINK_SHARE < file.len() { self.shrink() } else { Ok(()) }
    }

    fn logs(&self) -> Result<Vec<u64>> {
        let action = "listing the logs";
        let db = self.db.read();
        let transaction = db.begin_read().map_err(failed(action))?;
        let tables = transaction.list_tables().map_err(failed(action))?;
        let mut logs: Vec<u64> = tables.filter_map(|table| parse_log_name(table.name().as_bytes())).collect();
        logs.sort_unstable();
        Ok(logs)
    }

    fn put(&self, key: &str, value: &[u8]) -> Result<()> {
        let action = "writing the catalogue";
        let db = self.db.read();
        let transaction = db.begin_write().map_err(failed(action))?;
        transaction
            .open_table(CATALOGUE)
            .map_err(failed(action))?
            .insert(key, value)
            .map_err(failed(action))?;
        transaction.commit().map_err(failed(action))
    }

    fn remove(&self, key: &str) -> Result<()> {
        let action = "writing the catalogue";
        let db = self.db.read();
        let transaction = db.begin_write().map_err(failed(action))?;
        transaction.open_table(CATALOGUE).map_err(failed(action))?.remove(key).map_err(failed(action))?;
        transaction.commit().map_err(failed(action))
    }

    fn list(&self, prefix: &str) -> Result<Vec<(String, Vec<u8>)>> {
        let action = "reading the catalogue";
        let db = self.db.read();
        let transaction = db.begin_read().map_err(failed(action))?;
        let table = match transaction.open_table(CATALOGUE) {
            Err(TableError::TableDoesNotExist(_)) => return Ok(Vec::new()),
            other => other.map_err(failed(action))?,
        };
        let mut found = Vec::new();
        for entry in table.range(prefix..).map_err(failed(action))? {
            let (key, value) = entry.map_err(failed(action))?;
            if !key.value().starts_with(prefix) {
                break;
            }
            found.push((key.value().to_owned(), value.value().to_vec()));
        }
        Ok(found)
    }
}

fn failed<E: std::fmt::Display>(action: &'static str) -> impl FnOnce(E) -> Error {
    move |source| Error::Store { action, reason: source.to_string() }
}
