//! Files that were uploaded, and other small records that outlive a restart.
//!
//! A record is a JSON file in a folder of the data directory, replaced as a
//! whole. Of an uploaded file the bytes lie beside its record, and are written
//! before it.

use std::fs::{self, File};
use std::io::Write;
use std::marker::PhantomData;
use std::path::{Path, PathBuf};

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::error::{ApiError, ApiResult};

/// Seconds since 1970.
pub(crate) fn now() -> u64 {
    std::time::UNIX_EPOCH.elapsed().map_or(0, |since| since.as_secs())
}

/// Records of one kind by id.
pub(crate) struct Records<T> {
    folder: PathBuf,
    _of: PhantomData<fn() -> T>,
}

impl<T: Serialize + DeserializeOwned> Records<T> {
    pub(crate) fn new(folder: PathBuf) -> Self {
        Self { folder, _of: PhantomData }
    }

    /// The record of this id; none if it is not there.
    pub(crate) fn get(&self, id: &str) -> ApiResult<Option<T>> {
        if !is_id(id) {
            return Ok(None);
        }
        match fs::read(self.path(id, "json")) {
            Ok(bytes) => serde_json::from_slice(&bytes).map(Some).map_err(|error| damaged(id, &error)),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(damaged(id, &error)),
        }
    }

    pub(crate) fn put(&self, id: &str, record: &T) -> ApiResult<()> {
        let bytes = serde_json::to_vec(record).map_err(ApiError::internal)?;
        write(&self.path(id, "json"), &bytes).map_err(|error| ApiError::not_kept(&error))
    }

    /// Whether it was there.
    pub(crate) fn delete(&self, id: &str) -> ApiResult<bool> {
        if !is_id(id) {
            return Ok(false);
        }
        match fs::remove_file(self.path(id, "json")) {
            Ok(()) => Ok(true),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(false),
            Err(error) => Err(damaged(id, &error)),
        }
    }

    /// All of them, in no order; those that cannot be read are left out.
    pub(crate) fn all(&self) -> Vec<T> {
        let Ok(entries) = fs::read_dir(&self.folder) else { return Vec::new() };
        let paths = entries.filter_map(|entry| Some(entry.ok()?.path()));
        let records = paths.filter(|path| path.extension().is_some_and(|end| end == "json"));
        records.filter_map(|path| serde_json::from_slice(&fs::read(path).ok()?).ok()).collect()
    }

    /// A file of this record.
    pub(crate) fn path(&self, id: &str, end: &str) -> PathBuf {
        self.folder.join(format!("{id}.{end}"))
    }
}

/// Whether it is one of ours, which is a name of a file and nothing else.
fn is_id(id: &str) -> bool {
    (1..=64).contains(&id.len())
        && id.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_".contains(&byte))
}

fn damaged(id: &str, error: &dyn std::fmt::Display) -> ApiError {
    ApiError::internal(format!("{id} cannot be read: {error}"))
}

/// Writes a file so that it is there as a whole or not at all.
fn write(path: &Path, bytes: &[u8]) -> std::io::Result<()> {
    let folder = path.parent().expect("a file is in a folder");
    fs::create_dir_all(folder)?;
    let partial = path.with_extension("partial");
    let mut file = File::create(&partial)?;
    file.write_all(bytes)?;
    file.sync_all()?;
    fs::rename(&partial, path)?;
    File::open(folder)?.sync_all()
}

/// An uploaded file.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Uploaded {
    pub(crate) id: String,
    pub(crate) filename: String,
    pub(crate) purpose: String,
    pub(crate) bytes: u64,
    pub(crate) created_at: u64,
    pub(crate) expires_at: Option<u64>,
}

/// The uploaded files of a data directory.
pub(crate) struct Files {
    records: Records<Uploaded>,
}

impl Files {
    pub(crate) fn new(data_dir: &Path) -> Self {
        Self { records: Records::new(data_dir.join("files")) }
    }

    pub(crate) fn keep(
        &self,
        filename: String,
        purpose: String,
        bytes: &[u8],
        keep_for: Option<u64>,
    ) -> ApiResult<Uploaded> {
        let (id, created_at) = (format!("file-{}", Uuid::new_v4().simple()), now());
        let expires_at = keep_for.map(|seconds| created_at.saturating_add(seconds));
        let size = bytes.len() as u64;
        let file = Uploaded { id, filename, purpose, bytes: size, created_at, expires_at };
        write(&self.records.path(&file.id, "bytes"), bytes).map_err(|error| ApiError::not_kept(&error))?;
        self.records.put(&file.id, &file)?;
        Ok(file)
    }

    pub(crate) fn get(&self, id: &str) -> ApiResult<Uploaded> {
        let file = self.records.get(id)?.filter(|file| !file.is_expired());
        file.ok_or_else(|| ApiError::not_found(format!("No such File object: {id}")))
    }

    pub(crate) fn content(&self, id: &str) -> ApiResult<Vec<u8>> {
        self.get(id)?;
        fs::read(self.records.path(id, "bytes")).map_err(|error| damaged(id, &error))
    }

    pub(crate) fn delete(&self, id: &str) -> ApiResult<()> {
        self.get(id)?;
        self.remove(id)
    }

    fn remove(&self, id: &str) -> ApiResult<()> {
        self.records.delete(id)?;
        let _ = fs::remove_file(self.records.path(id, "bytes"));
        Ok(())
    }

    /// Those that are there; what has expired is cleared away.
    pub(crate) fn all(&self) -> Vec<Uploaded> {
        let (gone, there): (Vec<_>, Vec<_>) = self.records.all().into_iter().partition(Uploaded::is_expired);
        for file in gone {
            let _ = self.remove(&file.id);
        }
        there
    }
}

impl Uploaded {
    fn is_expired(&self) -> bool {
        self.expires_at.is_some_and(|at| at <= now())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn files() -> (tempfile::TempDir, Files) {
        let dir = tempfile::tempdir().unwrap();
        let files = Files::new(dir.path());
        (dir, files)
    }

    #[test]
    fn a_file_is_kept_until_it_is_deleted() {
        let (dir, files) = files();
        let kept = files.keep("a.md".into(), "assistants".into(), b"text", None).unwrap();
        let again = Files::new(dir.path());
        assert_eq!(again.content(&kept.id).unwrap(), b"text");
        assert_eq!((again.all().len(), again.get(&kept.id).unwrap().bytes), (1, 4));
        again.delete(&kept.id).unwrap();
        assert!(files.get(&kept.id).is_err() && files.all().is_empty());
    }

    #[test]
    fn an_expired_file_is_gone() {
        let (_dir, files) = files();
        let kept = files.keep("a.md".into(), "user_data".into(), b"text", Some(0)).unwrap();
        assert!(files.content(&kept.id).is_err());
        assert!(files.all().is_empty());
        assert!(!files.records.path(&kept.id, "bytes").exists());
    }

    #[test]
    fn an_id_never_leads_out_of_the_folder() {
        let (_dir, files) = files();
        for id in ["", "../files/x", "a/b", "a.b", &"a".repeat(65)] {
            assert!(files.get(id).is_err() && files.content(id).is_err() && files.delete(id).is_err());
        }
    }
}
