//! Checksums of files.

use std::fs::File;
use std::io::{self, Read};
use std::path::Path;

use sha1::Sha1;
use sha2::{Digest, Sha256};

use crate::{Error, Result};

/// The SHA-256 of a file in hexadecimal.
pub(super) fn sha256(path: &Path) -> Result<String> {
    of::<Sha256>(path, Sha256::new())
}

/// What git calls a file with these bytes; the hub's ETag of a small file.
pub(super) fn git_blob(path: &Path) -> Result<String> {
    let bytes = path.metadata().map_err(Error::io(path))?.len();
    of(path, Sha1::new_with_prefix(format!("blob {bytes}\0")))
}

/// The SHA-256 of bytes in memory.
pub(super) fn sha256_of(bytes: &[u8]) -> String {
    hex(&Sha256::digest(bytes))
}

fn of<D: Digest>(path: &Path, mut digest: D) -> Result<String> {
    let mut file = File::open(path).map_err(Error::io(path))?;
    let mut block = vec![0; 1 << 20];
    loop {
        match file.read(&mut block) {
            Ok(0) => return Ok(hex(&digest.finalize())),
            Ok(read) => digest.update(&block[..read]),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(Error::io(path)(error)),
        }
    }
}

fn hex(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    let digit = |at: u8| char::from(DIGITS[at as usize]);
    bytes.iter().flat_map(|byte| [digit(byte >> 4), digit(byte & 15)]).collect()
}

#[cfg(test)]
mod tests {
    use super::{git_blob, sha256, sha256_of};

    #[test]
    fn digests_are_those_of_git_and_sha256sum() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let path = folder.path().join("file");
        std::fs::write(&path, "hello\n").expect("written");
        assert_eq!(git_blob(&path).expect("digest"), "ce013625030ba8dba906f756967f9e9ca394464a");
        let want = "5891b5b522d5df086d0ff0b110fbd9d21bb4fc7163af34d08286a2e846f6be03";
        assert_eq!(sha256(&path).expect("digest"), want);
        assert_eq!(sha256_of(b"hello\n"), want);
    }
}
