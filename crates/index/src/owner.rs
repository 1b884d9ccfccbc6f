//! Who owns a data directory, and which format it has.
//!
//! `owner.json` is locked while a process has the directory open and says who
//! that is; `format.json` names the store and the format it was written in.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{Read, Seek, Write};
use std::path::Path;

use serde::{Deserialize, Serialize};

use crate::config::StoreKind;
use crate::error::{Error, Result};
use crate::store::sync_dir;

/// The newest format this version reads and the one it writes.
pub(crate) const FORMAT: u32 = 2;

#[derive(Debug, Serialize, Deserialize)]
#[allow(clippy::struct_field_names)] // `format` is the file's own name for it
pub(crate) struct Format {
    pub(crate) format: u32,
    pub(crate) store_id: String,
    pub(crate) store: StoreKind,
    pub(crate) written_by: String,
}

#[derive(Serialize, Deserialize)]
struct Owner {
    pid: u32,
    program: String,
}

/// Held while the directory is open; dropping it lets the next owner in.
#[derive(Debug)]
pub(crate) struct Ownership {
    _file: File,
}

impl Ownership {
    pub(crate) fn take(dir: &Path) -> Result<Self> {
        fs::create_dir_all(dir).map_err(Error::io("create folder", dir))?;
        let path = dir.join("owner.json");
        let mut file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .open(&path)
            .map_err(Error::io("open", &path))?;
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                let mut text = String::new();
                let _ = file.read_to_string(&mut text);
                let owner = serde_json::from_str(&text).map_or_else(
                    |_| "another process".to_owned(),
                    |owner: Owner| format!("process {} ({})", owner.pid, owner.program),
                );
                return Err(Error::InUse { path: dir.to_owned(), owner });
            }
            Err(TryLockError::Error(source)) => return Err(Error::io("lock", &path)(source)),
        }
        let program = std::env::args_os()
            .next()
            .and_then(|arg| Path::new(&arg).file_name().map(|name| name.to_string_lossy().into_owned()))
            .unwrap_or_default();
        let owner = Owner { pid: std::process::id(), program };
        let text = serde_json::to_string(&owner).expect("a struct of plain fields");
        // Only told to whoever comes second, so a full disk is no reason to fail.
        let _ = file.set_len(0).and_then(|()| file.rewind()).and_then(|()| file.write_all(text.as_bytes()));
        Ok(Self { _file: file })
    }
}

/// The directory's format, or `None` for a directory without a store.
pub(crate) fn read_format(dir: &Path) -> Result<Option<Format>> {
    let path = dir.join("format.json");
    let text = match fs::read_to_string(&path) {
        Ok(text) => text,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(Error::io("read", &path)(error)),
    };
    let damaged = |reason: String| Error::Corrupt { what: path.display().to_string(), reason };
    let value: serde_json::Value = serde_json::from_str(&text).map_err(|error| damaged(error.to_string()))?;
    // The number is read first: a newer format may have other fields.
    let found = value["format"].as_u64().ok_or_else(|| damaged("field `format` is missing".to_owned()))?;
    if found > u64::from(FORMAT) {
        let found = u32::try_from(found).unwrap_or(u32::MAX);
        return Err(Error::NewerFormat { path: dir.to_owned(), found, supported: FORMAT });
    }
    if found < u64::from(FORMAT) {
        return Err(Error::OlderFormat { path: dir.to_owned(), found: found as u32, supported: FORMAT });
    }
    serde_json::from_value(value).map(Some).map_err(|error| damaged(error.to_string()))
}

pub(crate) fn write_format(dir: &Path, store_id: &str, store: StoreKind) -> Result<()> {
    let format = Format {
        format: FORMAT,
        store_id: store_id.to_owned(),
        store,
        written_by: format!("cairn {}", env!("CARGO_PKG_VERSION")),
    };
    let text = serde_json::to_string_pretty(&format).expect("a struct of plain fields");
    replace_file(&dir.join("format.json"), |file| file.write_all(text.as_bytes()))
}

/// Writes a file so that a crash leaves either the old one or the new one.
pub(crate) fn replace_file(path: &Path, write: impl FnOnce(&mut File) -> std::io::Result<()>) -> Result<()> {
    let partial = path.with_extension("partial");
    let mut file = File::create(&partial).map_err(Error::io("create", &partial))?;
    write(&mut file).and_then(|()| file.sync_all()).map_err(Error::io("write", &partial))?;
    fs::rename(&partial, path).map_err(Error::io("rename", &partial))?;
    sync_dir(path.parent().expect("a file in a data directory has a folder"))
}

/// How much room the disk of a directory must keep.
#[derive(Debug, Clone)]
pub(crate) struct Room {
    pub(crate) dir: std::path::PathBuf,
    pub(crate) min_free_bytes: u64,
}

impl Room {
    /// Checks that `bytes` more fit and the reserve stays.
    pub(crate) fn check(&self, bytes: u64) -> Result<()> {
        let disk = rustix::fs::statvfs(&self.dir)
            .map_err(|errno| Error::io("measure the disk of", &self.dir)(errno.into()))?;
        let free_bytes = disk.f_bavail.saturating_mul(disk.f_frsize);
        // The log writes pages besides the records; twice has been enough.
        let needed_bytes = self.min_free_bytes.saturating_add(bytes.saturating_mul(2));
        if free_bytes >= needed_bytes {
            return Ok(());
        }
        Err(Error::DiskFull { path: self.dir.clone(), free_bytes, needed_bytes })
    }
}
