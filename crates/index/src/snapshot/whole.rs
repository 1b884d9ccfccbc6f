//! Copies of everything: all collections and their other names.
//!
//! A folder with a snapshot of each collection, in folders `0`, `1` and so on, and
//! `storage.json`, which says whose they are. Each collection is as it was at one
//! moment; the moments follow each other. Packed, it is one tar file.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{Read, Write};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::{
    INCOMING, MANIFEST, Manifest, incoming, is_partial, partial_of, remove_left, unpack_file, write_json,
};
use crate::database::Database;
use crate::error::{Error, Result};
use crate::point::now_ms;
use crate::store::sync_dir;

const FORMAT: u32 = 1;
const CONTENTS: &str = "storage.json";

/// A snapshot of all collections.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StorageSnapshot {
    /// Its name.
    pub name: String,
    /// Its folder.
    pub path: PathBuf,
    /// When it was begun, milliseconds since 1970.
    pub created_ms: u64,
    /// Bytes of its files, whether or not others share them.
    pub bytes: u64,
}

#[derive(Serialize, Deserialize)]
struct Contents {
    format: u32,
    created_ms: u64,
    /// Whose snapshots are in the folders `0`, `1` and so on.
    collections: Vec<String>,
    aliases: BTreeMap<String, String>,
}

impl Contents {
    fn read(folder: &Path) -> Result<Self> {
        let path = folder.join(CONTENTS);
        let text = fs::read(&path).map_err(Error::io("read", &path))?;
        let read: Self = serde_json::from_slice(&text).map_err(|error| Error::Corrupt {
            what: path.display().to_string(),
            reason: error.to_string(),
        })?;
        if read.format > FORMAT {
            return Err(Error::NewerFormat { path, found: read.format, supported: FORMAT });
        }
        Ok(read)
    }

    fn describe(&self, folder: &Path) -> StorageSnapshot {
        let of = |at: usize| {
            let inside = folder.join(at.to_string());
            Manifest::read(&inside).map_or(0, |manifest| manifest.describe(&inside).bytes)
        };
        StorageSnapshot {
            name: folder.file_name().unwrap_or_default().to_string_lossy().into_owned(),
            path: folder.to_owned(),
            created_ms: self.created_ms,
            bytes: (0..self.collections.len()).map(of).sum(),
        }
    }
}

impl Database {
    /// Keeps all collections as they are now, with their aliases. Writes go on
    /// meanwhile; each collection has all that were acknowledged before the call.
    ///
    /// ```
    /// use cairn_index::{CollectionConfig, Database, Metric};
    ///
    /// # let (dir, elsewhere) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    /// # let db = Database::open(dir.path())?;
    /// db.create_collection("stones", CollectionConfig::new(1, Metric::Dot))?;
    /// db.set_aliases(&[("rocks", Some("stones"))])?;
    /// let kept = db.create_snapshot()?;
    /// let other = Database::open(elsewhere.path())?;
    /// assert_eq!(other.restore_all(&kept.path)?, ["stones"]);
    /// assert_eq!(other.aliases()["rocks"], "stones");
    /// # Ok::<(), cairn_index::Error>(())
    /// ```
    ///
    /// # Errors
    /// When the disk cannot take it.
    pub fn create_snapshot(&self) -> Result<StorageSnapshot> {
        let all = self.inner.storage_snapshots_dir();
        fs::create_dir_all(&all).map_err(Error::io("create folder", &all))?;
        let named = |ms: u64| all.join(format!("storage-{ms}"));
        let is_free = |ms: &u64| !named(*ms).exists() && fs::create_dir(partial_of(&named(*ms))).is_ok();
        let now = now_ms();
        // Who cannot make a folder now will not be able to a little later.
        let created_ms = (now..now + 1000).find(is_free);
        let created_ms = created_ms.ok_or_else(|| {
            Error::io("create folder", &all)(std::io::Error::from(std::io::ErrorKind::PermissionDenied))
        })?;
        let folder = named(created_ms);
        let partial = partial_of(&folder);
        let made = self.fill(&partial, created_ms).and_then(|contents| {
            fs::rename(&partial, &folder).map_err(Error::io("rename", &partial))?;
            sync_dir(&all)?;
            Ok(contents.describe(&folder))
        });
        made.inspect_err(|_| remove_left(&partial))
    }

    fn fill(&self, folder: &Path, created_ms: u64) -> Result<Contents> {
        let mut contents =
            Contents { format: FORMAT, created_ms, collections: Vec::new(), aliases: self.aliases() };
        for name in self.collections() {
            let place = folder.join(contents.collections.len().to_string());
            let collection = match self.collection(&name) {
                Err(Error::UnknownCollection { .. }) => continue,
                found => found?,
            };
            match collection.snapshot_into(created_ms, |ms, _| (ms, place.clone())) {
                // It was dropped meanwhile.
                Err(Error::UnknownCollection { .. }) => continue,
                made => made?,
            };
            fs::rename(partial_of(&place), &place).map_err(Error::io("rename", &place))?;
            contents.collections.push(name);
        }
        let there = |collection: &String| contents.collections.contains(collection);
        let aliases = contents.aliases.iter().filter(|(_, collection)| there(collection));
        contents.aliases = aliases.map(|(alias, of)| (alias.clone(), of.clone())).collect();
        write_json(&folder.join(CONTENTS), &contents)?;
        sync_dir(folder)?;
        Ok(contents)
    }

    /// The snapshots of everything, oldest first.
    ///
    /// # Errors
    /// When their folder cannot be read.
    pub fn snapshots(&self) -> Result<Vec<StorageSnapshot>> {
        let all = self.inner.storage_snapshots_dir();
        if !all.exists() {
            return Ok(Vec::new());
        }
        let mut snapshots = Vec::new();
        for folder in fs::read_dir(&all).map_err(Error::io("read folder", &all))? {
            let folder = folder.map_err(Error::io("read folder", &all))?.path();
            if !is_partial(&folder)
                && let Ok(contents) = Contents::read(&folder)
            {
                snapshots.push(contents.describe(&folder));
            }
        }
        snapshots.sort_by(|a, b| (a.created_ms, &a.name).cmp(&(b.created_ms, &b.name)));
        Ok(snapshots)
    }

    /// Removes a snapshot of everything; false if there was none of this name.
    ///
    /// # Errors
    /// When its files cannot be removed.
    pub fn delete_snapshot(&self, name: &str) -> Result<bool> {
        let Some(snapshot) = self.snapshots()?.into_iter().find(|snapshot| snapshot.name == name) else {
            return Ok(false);
        };
        fs::remove_dir_all(&snapshot.path).map_err(Error::io("remove folder", &snapshot.path))?;
        Ok(true)
    }

    /// Brings back all collections of a snapshot of everything, a folder or a
    /// packed file, with their aliases; says which. Those of the same names are
    /// replaced, each in one moment; others stay.
    ///
    /// # Errors
    /// As for [`Database::restore`]; the collections before the one that failed
    /// are in place then.
    pub fn restore_all(&self, from: &Path) -> Result<Vec<String>> {
        if from.is_dir() {
            return self.restore_all_of(from);
        }
        let file = File::open(from).map_err(Error::io("open", from))?;
        let folder = incoming(&self.inner.storage_snapshots_dir());
        fs::create_dir_all(&folder).map_err(Error::io("create folder", &folder))?;
        let unpacked = unpack(std::io::BufReader::new(file), &folder);
        let restored = unpacked.and_then(|()| self.restore_all_of(&folder));
        let _ = fs::remove_dir_all(&folder);
        restored
    }

    fn restore_all_of(&self, from: &Path) -> Result<Vec<String>> {
        let contents = Contents::read(from)?;
        for (at, name) in contents.collections.iter().enumerate() {
            self.restore(name, &from.join(at.to_string()))?;
        }
        let aliases = contents.aliases.iter().map(|(alias, of)| (alias.as_str(), Some(of.as_str())));
        self.set_aliases(&aliases.collect::<Vec<_>>())?;
        Ok(contents.collections)
    }
}

impl StorageSnapshot {
    /// Writes the snapshot as one tar file, for another machine.
    ///
    /// # Errors
    /// When its files cannot be read or `out` fails.
    pub fn pack(&self, out: impl Write) -> Result<()> {
        let failed = || Error::io("pack", &self.path);
        let contents = Contents::read(&self.path)?;
        let mut tar = tar::Builder::new(out);
        tar.append_path_with_name(self.path.join(CONTENTS), CONTENTS).map_err(failed())?;
        for at in 0..contents.collections.len() {
            let (number, folder) = (at.to_string(), self.path.join(at.to_string()));
            let manifest = Manifest::read(&folder)?;
            for name in std::iter::once(MANIFEST).chain(manifest.files.iter().map(String::as_str)) {
                tar.append_path_with_name(folder.join(name), Path::new(&number).join(name))
                    .map_err(failed())?;
            }
        }
        tar.into_inner().and_then(|mut out| out.flush()).map_err(failed())
    }
}

/// Unpacks a tar file of a snapshot of everything into an empty folder.
fn unpack(tar: impl Read, folder: &Path) -> Result<()> {
    let failed = || Error::io("unpack a snapshot into", folder);
    let mut tar = tar::Archive::new(tar);
    for entry in tar.entries().map_err(failed())? {
        let mut entry = entry.map_err(failed())?;
        let path = entry.path().map_err(failed())?.into_owned();
        let foreign = || Error::Corrupt {
            what: path.display().to_string(),
            reason: "it does not belong into a snapshot of everything".to_owned(),
        };
        let parts: Option<Vec<&str>> = path.iter().map(|part| part.to_str()).collect();
        let target = match parts.as_deref() {
            Some([CONTENTS]) => folder.join(CONTENTS),
            Some([number, name]) if number.parse::<usize>().is_ok() && *name != ".." => {
                let inside = folder.join(number);
                fs::create_dir_all(&inside).map_err(Error::io("create folder", &inside))?;
                inside.join(name)
            }
            _ => return Err(foreign()),
        };
        if !entry.header().entry_type().is_file() {
            return Err(foreign());
        }
        unpack_file(&mut entry, &target)?;
    }
    Ok(())
}

/// Removes what a crash left of snapshots that were being made or received.
pub(crate) fn sweep(all: &Path) {
    for entry in fs::read_dir(all).into_iter().flatten().flatten() {
        let folder = entry.path();
        if is_partial(&folder) || folder.to_string_lossy().ends_with(INCOMING) {
            remove_left(&folder);
        }
    }
}
