//! A file that gets its name when it is whole.

use std::fs::{self, File};
use std::path::{Path, PathBuf};

use crate::failure::{Failure, Outcome};

/// Fills a file, which replaces one of its name once it is on the disk; what is
/// no file, such as a pipe, is filled as it is.
pub(crate) fn write<T>(file: &Path, fill: impl FnOnce(&File) -> Outcome<T>) -> Outcome<T> {
    if fs::metadata(file).is_ok_and(|there| !there.is_file()) {
        return fill(&File::options().write(true).open(file).map_err(|error| failed(file, error))?);
    }
    let partial = partial_of(file);
    let filled = (|| {
        let out = File::create(&partial).map_err(|error| failed(file, error))?;
        let filled = fill(&out)?;
        out.sync_all().map_err(|error| failed(file, error))?;
        fs::rename(&partial, file).map_err(|error| failed(file, error))?;
        Ok(filled)
    })();
    if filled.is_err() {
        let _ = fs::remove_file(&partial);
    }
    filled
}

pub(crate) fn failed(file: &Path, source: std::io::Error) -> Failure {
    Failure::Write { path: file.to_owned(), source }
}

pub(crate) fn partial_of(file: &Path) -> PathBuf {
    let mut name = file.as_os_str().to_owned();
    name.push(".partial");
    name.into()
}
