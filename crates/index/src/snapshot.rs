//! Copies of a collection at one moment.
//!
//! A snapshot is a folder of hard links to the segments of a collection, which
//! never change, and `snapshot.json`, which says what they are. It costs next to
//! no room until the collection moves on. Packed, it is one tar file, which
//! opens on another machine.

use std::fs::{self, File};
use std::io::{Read, Write};
use std::path::{Component, Path, PathBuf};

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::catalogue::{self, Entry};
use crate::collection::Collection;
use crate::error::{Error, Result};
use crate::point::now_ms;
use crate::segment::Segment;
use crate::store::sync_dir;

mod whole;

pub use whole::StorageSnapshot;
pub(crate) use whole::sweep as sweep_whole;

const FORMAT: u32 = 1;
const MANIFEST: &str = "snapshot.json";
const PARTIAL: &str = ".partial";
const INCOMING: &str = ".incoming";

/// A snapshot of a collection.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Snapshot {
    /// Its name among those of the collection.
    pub name: String,
    /// Its folder.
    pub path: PathBuf,
    /// The last operation it contains.
    pub seq: u64,
    /// When it was made, milliseconds since 1970.
    pub created_ms: u64,
    /// Bytes of its files, whether or not others share them.
    pub bytes: u64,
}

#[derive(Serialize, Deserialize)]
struct Manifest {
    format: u32,
    collection: String,
    created_ms: u64,
    entry: Entry,
    files: Vec<String>,
    /// Of the rest. Snapshots made before it was there have none.
    crc32: Option<u32>,
}

impl Manifest {
    fn new(collection: &str, created_ms: u64, entry: Entry, files: Vec<String>) -> Self {
        let collection = collection.to_owned();
        let manifest = Self { format: FORMAT, collection, created_ms, entry, files, crc32: None };
        Self { crc32: Some(manifest.hash()), ..manifest }
    }

    fn hash(&self) -> u32 {
        let rest = (self.format, &self.collection, self.created_ms, &self.entry, &self.files);
        crc32fast::hash(&serde_json::to_vec(&rest).expect("settings have string keys and finite numbers"))
    }

    fn read(folder: &Path) -> Result<Self> {
        let path = folder.join(MANIFEST);
        let text = fs::read(&path).map_err(Error::io("read", &path))?;
        let damaged = |reason: String| Error::Corrupt { what: path.display().to_string(), reason };
        let value: serde_json::Value =
            serde_json::from_slice(&text).map_err(|error| damaged(error.to_string()))?;
        let found =
            value["format"].as_u64().ok_or_else(|| damaged("field `format` is missing".to_owned()))?;
        if found > u64::from(FORMAT) {
            let found = u32::try_from(found).unwrap_or(u32::MAX);
            return Err(Error::NewerFormat { path, found, supported: FORMAT });
        }
        let read: Self = serde_json::from_value(value).map_err(|error| damaged(error.to_string()))?;
        if read.crc32.is_some_and(|crc32| crc32 != read.hash()) {
            return Err(damaged("its checksum does not match".to_owned()));
        }
        Ok(read)
    }

    fn describe(&self, folder: &Path) -> Snapshot {
        let size = |name: &String| fs::metadata(folder.join(name)).map_or(0, |file| file.len());
        Snapshot {
            name: folder.file_name().unwrap_or_default().to_string_lossy().into_owned(),
            path: folder.to_owned(),
            seq: self.entry.seq,
            created_ms: self.created_ms,
            bytes: self.files.iter().map(size).sum(),
        }
    }
}

impl Collection {
    /// Keeps the collection as it is now, under a name of its own. Writes go on
    /// meanwhile; the snapshot has all that were acknowledged before the call.
    ///
    /// # Errors
    /// When the disk cannot take it.
    pub fn create_snapshot(&self) -> Result<Snapshot> {
        let all = self.snapshots_dir();
        fs::create_dir_all(&all).map_err(Error::io("create folder", &all))?;
        let (folder, manifest) = self.snapshot_into(now_ms(), |created_ms, entry| {
            // Several may be asked for within a millisecond. One gets its final name
            // without the collection's lock, so the other name is looked at first.
            let named = |ms: u64| all.join(format!("{}-{ms}-{}", self.name(), entry.seq));
            let is_free = |ms| !partial_of(&named(ms)).exists() && !named(ms).exists();
            let mut free = created_ms;
            while !is_free(free) {
                free += 1;
            }
            (free, named(free))
        })?;
        let partial = partial_of(&folder);
        fs::rename(&partial, &folder).map_err(Error::io("rename", &partial))?;
        sync_dir(&all)?;
        Ok(manifest.describe(&folder))
    }

    /// Fills a folder with the files of the collection as it is now, beside the one
    /// that `named` says and that it is to be renamed to.
    fn snapshot_into(
        &self,
        created_ms: u64,
        named: impl FnOnce(u64, &Entry) -> (u64, PathBuf),
    ) -> Result<(PathBuf, Manifest)> {
        self.db.maintenance.seal(&self.shard)?;
        // While this lock is held no segment file goes away.
        let catalogued = self.shard.catalogued.lock();
        self.shard.check_there()?;
        let entry = catalogued.entry.clone();
        let (created_ms, folder) = named(created_ms, &entry);
        let partial = partial_of(&folder);
        fs::create_dir(&partial).map_err(Error::io("create folder", &partial))?;
        let files = catalogue::files(&self.shard.dir, &entry)?;
        for file in &files {
            link_or_copy(&self.shard.dir.join(file), &partial.join(file))?;
        }
        drop(catalogued);
        let manifest = Manifest::new(self.name(), created_ms, entry, files);
        write_json(&partial.join(MANIFEST), &manifest)?;
        sync_dir(&partial)?;
        Ok((folder, manifest))
    }

    /// The snapshots of this collection, oldest first.
    ///
    /// # Errors
    /// When their folder cannot be read.
    pub fn snapshots(&self) -> Result<Vec<Snapshot>> {
        let all = self.snapshots_dir();
        if !all.exists() {
            return Ok(Vec::new());
        }
        let mut snapshots = Vec::new();
        for folder in fs::read_dir(&all).map_err(Error::io("read folder", &all))? {
            let folder = folder.map_err(Error::io("read folder", &all))?.path();
            if is_partial(&folder) {
                continue;
            }
            if let Ok(manifest) = Manifest::read(&folder) {
                snapshots.push(manifest.describe(&folder));
            }
        }
        snapshots.sort_by(|a, b| (a.created_ms, &a.name).cmp(&(b.created_ms, &b.name)));
        Ok(snapshots)
    }

    /// Removes a snapshot; false if there was none of this name.
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

    fn snapshots_dir(&self) -> PathBuf {
        self.db.snapshots_dir().join(self.name())
    }
}

impl Snapshot {
    /// Writes the snapshot as one tar file, for another machine.
    ///
    /// # Errors
    /// When its files cannot be read or `out` fails.
    pub fn pack(&self, out: impl Write) -> Result<()> {
        let failed = || Error::io("pack", &self.path);
        let manifest = Manifest::read(&self.path)?;
        let mut tar = tar::Builder::new(out);
        for name in std::iter::once(MANIFEST).chain(manifest.files.iter().map(String::as_str)) {
            tar.append_path_with_name(self.path.join(name), name).map_err(failed())?;
        }
        tar.into_inner().and_then(|mut out| out.flush()).map_err(failed())
    }
}

fn write_json(path: &Path, value: &impl Serialize) -> Result<()> {
    let text = serde_json::to_vec_pretty(value).expect("settings have string keys and finite numbers");
    let mut file = File::create(path).map_err(Error::io("create", path))?;
    file.write_all(&text).and_then(|()| file.sync_all()).map_err(Error::io("write", path))
}

/// What a snapshot is called while it is being made.
fn partial_of(folder: &Path) -> PathBuf {
    let mut name = folder.as_os_str().to_owned();
    name.push(PARTIAL);
    name.into()
}

fn is_partial(folder: &Path) -> bool {
    folder.to_string_lossy().ends_with(PARTIAL)
}

/// A new folder to receive a packed snapshot in.
pub(crate) fn incoming(all: &Path) -> PathBuf {
    all.join(format!("{}{INCOMING}", Uuid::new_v4()))
}

/// Removes what a crash left of snapshots that were being made or received: its
/// links keep the room of segments that are long gone. For the time before the
/// database is open.
pub(crate) fn sweep(all: &Path) {
    let inside =
        |folder: &Path| fs::read_dir(folder).into_iter().flatten().flatten().map(|entry| entry.path());
    let is_incoming = |folder: &Path| {
        let name = folder.file_name().unwrap_or_default().to_string_lossy();
        let id = name.strip_suffix(INCOMING).and_then(|id| id.parse::<Uuid>().ok());
        // That of a collection of such a name has folders.
        id.is_some() && !inside(folder).any(|path| path.is_dir())
    };
    for folder in inside(all) {
        if is_incoming(&folder) {
            remove_left(&folder);
        } else {
            inside(&folder).filter(|path| is_partial(path)).for_each(|path| remove_left(&path));
        }
    }
}

fn remove_left(folder: &Path) {
    if let Err(error) = fs::remove_dir_all(folder) {
        tracing::warn!(%error, folder = %folder.display(), "what a crash left of a snapshot stays for now");
    }
}

/// Unpacks a tar file of a snapshot into an empty folder. Only files directly
/// in it are taken, whatever else the tar holds.
pub(crate) fn unpack(tar: impl Read, folder: &Path) -> Result<()> {
    let failed = || Error::io("unpack a snapshot into", folder);
    let mut tar = tar::Archive::new(tar);
    for entry in tar.entries().map_err(failed())? {
        let mut entry = entry.map_err(failed())?;
        let path = entry.path().map_err(failed())?.into_owned();
        let plain = path.components().count() == 1 && entry.header().entry_type().is_file();
        let Some(name) = path.file_name().filter(|_| plain) else {
            let what = path.display().to_string();
            return Err(Error::Corrupt { what, reason: "it does not belong into a snapshot".to_owned() });
        };
        unpack_file(&mut entry, &folder.join(name))?;
    }
    Ok(())
}

fn unpack_file(from: &mut impl Read, target: &Path) -> Result<()> {
    let mut file = File::create(target).map_err(Error::io("create", target))?;
    std::io::copy(from, &mut file).and_then(|_| file.sync_all()).map_err(Error::io("write", target))
}

/// Brings the files of a snapshot into a collection's new folder and checks
/// every byte of them; returns the entry to put into the catalogue.
pub(crate) fn bring(from: &Path, dir: &Path, uid: u32) -> Result<Entry> {
    let manifest = Manifest::read(from)?;
    manifest.entry.config.check()?;
    for name in &manifest.files {
        let mut parts = Path::new(name).components();
        if !matches!((parts.next(), parts.next()), (Some(Component::Normal(_)), None)) {
            let what = from.join(MANIFEST).display().to_string();
            return Err(Error::Corrupt { what, reason: format!("`{name}` is not a file of a snapshot") });
        }
        link_or_copy(&from.join(name), &dir.join(name))?;
    }
    sync_dir(dir)?;
    for segment in &manifest.entry.segments {
        let path = catalogue::segment_path(dir, segment.number);
        let opened = Segment::open(&path).and_then(|rows| {
            rows.verify(&mut |_| true)?;
            check_fits(&rows, segment.number, &manifest.entry)?;
            catalogue::read_marks(dir, segment, rows.len()).map(drop)
        });
        opened.map_err(|reason| Error::Corrupt { what: path.display().to_string(), reason })?;
    }
    Ok(Entry { uid, generation: 0, ..manifest.entry })
}

/// Checks a segment against the manifest, which anybody may have written.
fn check_fits(rows: &Segment, number: u64, entry: &Entry) -> Result<(), String> {
    if number >= entry.next_number || entry.segments.iter().filter(|known| known.number == number).count() > 1
    {
        return Err("its number may be given to another segment".to_owned());
    }
    let newest = (0..rows.len()).map(|slot| rows.version(slot)).max();
    if entry.seq > u64::MAX / 2 || newest > Some(entry.seq) {
        return Err("it is of another time".to_owned());
    }
    for (name, uid) in &entry.vector_uids {
        let Some(column) = rows.column(name, *uid) else { continue };
        let sparse = entry.config.sparse_vectors.contains_key(name);
        if column.info.dense.as_ref() != entry.config.vectors.get(name)
            || column.info.dense.is_none() != sparse
        {
            return Err(format!("its vector `{name}` is not that of the settings"));
        }
    }
    Ok(())
}

/// A hard link where the file system has them and both ends are on it.
fn link_or_copy(from: &Path, to: &Path) -> Result<()> {
    if fs::hard_link(from, to).is_ok() {
        return Ok(());
    }
    fs::copy(from, to).map_err(Error::io("copy", from))?;
    File::open(to).and_then(|file| file.sync_all()).map_err(Error::io("sync", to))
}
