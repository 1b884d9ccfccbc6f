//! The cache other programs share with us, laid out as the hub's own client
//! lays it out.
//!
//! `models--org--name/` holds `blobs/<etag>`, the bytes;
//! `snapshots/<commit>/<file>`, links to them; and `refs/<branch>`, the commit
//! a branch meant. Locks are in `.locks/models--org--name/<etag>.lock`.

use std::fs;
use std::path::{Path, PathBuf};

use super::lock::Lock;
use super::{Progress, folder_bytes, is_model};
use crate::{Error, Result};

pub(super) struct HubCache {
    pub(super) root: PathBuf,
}

impl HubCache {
    pub(super) fn model(&self, repo: &str) -> PathBuf {
        self.root.join(format!("models--{}", repo.replace('/', "--")))
    }

    pub(super) fn snapshot(&self, repo: &str, commit: &str) -> PathBuf {
        self.model(repo).join("snapshots").join(commit)
    }

    pub(super) fn blob(&self, repo: &str, etag: &str) -> PathBuf {
        self.model(repo).join("blobs").join(etag)
    }

    /// Keeps other processes, also those of the hub's own client, from
    /// writing the same blob.
    pub(super) fn lock(&self, repo: &str, etag: &str, progress: &dyn Progress) -> Result<Lock> {
        let name = format!("models--{}", repo.replace('/', "--"));
        let path = self.root.join(".locks").join(name);
        Lock::take(&path.join(format!("{etag}.lock")), progress)
    }

    /// Makes `snapshots/<commit>/<file>` mean a blob.
    pub(super) fn link(&self, repo: &str, commit: &str, file: &str, etag: &str) -> Result<()> {
        let path = self.snapshot(repo, commit).join(file);
        let folder = path.parent().expect("a file in a folder");
        fs::create_dir_all(folder).map_err(Error::io(folder))?;
        // From snapshots/<commit>/<file> up to the model's folder.
        let up = "../".repeat(2 + Path::new(file).components().count() - 1);
        let target = PathBuf::from(format!("{up}blobs/{etag}"));
        if fs::read_link(&path).is_ok_and(|link| link == target) {
            return Ok(());
        }
        // A rename replaces whatever was there at once.
        let draft = folder.join(format!(".{etag}.{}", std::process::id()));
        let _ = fs::remove_file(&draft);
        symlink(&target, &draft)
            .or_else(|_| fs::copy(self.blob(repo, etag), &draft).map(|_| ()))
            .and_then(|()| fs::rename(&draft, &path))
            .map_err(Error::io(path))
    }

    /// Records which commit a branch means.
    pub(super) fn set_ref(&self, repo: &str, branch: &str, commit: &str) -> Result<()> {
        let path = self.model(repo).join("refs").join(branch);
        let folder = path.parent().expect("a file in a folder");
        fs::create_dir_all(folder).and_then(|()| fs::write(&path, commit)).map_err(Error::io(path))
    }

    /// Folders that may hold the model: first that of `preferred`, a commit or
    /// a branch, then the newest.
    pub(super) fn candidates(&self, repo: &str, preferred: &str) -> Vec<PathBuf> {
        let commit = fs::read_to_string(self.model(repo).join("refs").join(preferred))
            .map_or_else(|_| preferred.to_owned(), |text| text.trim().to_owned());
        let first = self.snapshot(repo, &commit);
        let mut others = folders(&self.model(repo).join("snapshots"));
        others.retain(|path| *path != first);
        others.sort_by_key(|path| {
            let changed = path.metadata().and_then(|data| data.modified()).ok();
            std::cmp::Reverse(changed)
        });
        others.insert(0, first);
        others.retain(|path| is_model(path));
        others
    }

    /// Name, folder and bytes of each complete model.
    pub(super) fn installed(&self) -> Vec<(String, PathBuf, u64)> {
        let mut found = Vec::new();
        for model in folders(&self.root) {
            let Some(name) = model.file_name().and_then(|name| name.to_str()) else {
                continue;
            };
            let Some(name) = name.strip_prefix("models--") else {
                continue;
            };
            let name = name.replacen("--", "/", 1);
            for path in folders(&model.join("snapshots")) {
                if is_model(&path) {
                    found.push((name.clone(), path.clone(), folder_bytes(&path)));
                }
            }
        }
        found
    }
}

/// The folders in a folder, sorted; none if it does not exist.
pub(super) fn folders(path: &Path) -> Vec<PathBuf> {
    let Ok(entries) = fs::read_dir(path) else {
        return Vec::new();
    };
    let mut found: Vec<PathBuf> =
        entries.flatten().map(|entry| entry.path()).filter(|path| path.is_dir()).collect();
    found.sort();
    found
}

#[cfg(unix)]
fn symlink(target: &Path, path: &Path) -> std::io::Result<()> {
    std::os::unix::fs::symlink(target, path)
}

#[cfg(not(unix))]
fn symlink(_: &Path, _: &Path) -> std::io::Result<()> {
    Err(std::io::ErrorKind::Unsupported.into())
}
