//! What a data directory takes on the disk, and what of it the system remembers.

use std::collections::BTreeMap;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::{fs, io};

/// All files below a folder.
///
/// # Errors
/// If a folder cannot be read.
pub fn files(folder: &Path) -> io::Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        if path.is_dir() { found.extend(files(&path)?) } else { found.push(path) }
    }
    Ok(found)
}

/// Bytes that the disk has given to the files of a data directory, by kind:
/// `segment`, `derived`, `marks`, `log`, and `other`.
///
/// # Errors
/// If a folder cannot be read.
pub fn by_kind(data: &Path) -> io::Result<BTreeMap<&'static str, u64>> {
    let mut kinds = BTreeMap::new();
    for path in files(data)? {
        // A file may go away while it is looked at.
        let Ok(metadata) = path.metadata() else { continue };
        let kind = match path.extension().and_then(|ending| ending.to_str()) {
            _ if path.starts_with(data.join("log")) => "log",
            Some("segment") => "segment",
            Some("derived") => "derived",
            Some("marks") => "marks",
            _ => "other",
        };
        *kinds.entry(kind).or_default() += metadata.blocks() * 512;
    }
    Ok(kinds)
}

/// All bytes that the disk has given to the files of a data directory.
///
/// # Errors
/// If a folder cannot be read.
pub fn bytes(data: &Path) -> io::Result<u64> {
    Ok(by_kind(data)?.values().sum())
}

/// Makes the system forget what the files below a folder hold, so that they
/// come from the disk next; tells whether it did.
pub fn forget(folder: &Path) -> &'static str {
    // Only what is on the disk already can be forgotten.
    let _ = Command::new("sync").status();
    // GNU dd tells the system that it need not keep a file.
    let dropped = |path: &PathBuf| {
        let mut dd = Command::new("dd");
        dd.arg(format!("if={}", path.display())).args(["iflag=nocache", "count=0", "status=none"]);
        dd.status().is_ok_and(|status| status.success())
    };
    let each = files(folder).is_ok_and(|files| files.iter().all(dropped));
    if each || fs::write("/proc/sys/vm/drop_caches", "3").is_ok() { "cold" } else { "warm" }
}
