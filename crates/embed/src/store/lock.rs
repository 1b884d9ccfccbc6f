//! One process at a time.

use std::fs::{self, File, TryLockError};
use std::path::Path;

use super::Progress;
use crate::{Error, Result};

/// A lock on a file, held until dropped. The system frees it when the process
/// ends, however that happens.
pub(super) struct Lock {
    _file: File,
}

impl Lock {
    /// Waits until no other process holds the lock.
    pub(super) fn take(path: &Path, progress: &dyn Progress) -> Result<Lock> {
        let folder = path.parent().expect("a file in a folder");
        fs::create_dir_all(folder).map_err(Error::io(folder))?;
        let file =
            File::options().create(true).truncate(false).write(true).open(path).map_err(Error::io(path))?;
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                progress.note("another process is fetching this model; waiting for it");
                file.lock().map_err(Error::io(path))?;
            }
            Err(TryLockError::Error(error)) => return Err(Error::io(path)(error)),
        }
        Ok(Lock { _file: file })
    }
}
