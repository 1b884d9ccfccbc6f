//! The bytes of an upload: one file of the data directory, entry after entry.
//!
//! An entry is `[name u32][content u64]`, its lengths in little-endian, then the
//! name and the content. The file gets its name once it is whole and synced.

use std::fs::{self, File};
use std::io::{BufReader, BufWriter, ErrorKind, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

/// Bytes of the lengths before an entry.
const LENGTHS: u64 = 12;

/// An upload that is being received; its file goes away unless it is kept.
pub(crate) struct Upload {
    out: BufWriter<File>,
    path: PathBuf,
    kept: bool,
    /// Where the entry that is being written begins, and how long its name is.
    entry: Option<(u64, u64)>,
    end: u64,
    pub(crate) entries: u64,
    /// Of the contents.
    pub(crate) bytes: u64,
}

impl Upload {
    /// `path` is where it lies once it is kept.
    pub(crate) fn new(path: PathBuf) -> std::io::Result<Self> {
        let out = BufWriter::with_capacity(1 << 16, File::create(partial(&path))?);
        Ok(Self { out, path, kept: false, entry: None, end: 0, entries: 0, bytes: 0 })
    }

    /// Begins an entry; what was begun before is ended.
    pub(crate) fn begin(&mut self, name: &str) -> std::io::Result<()> {
        self.finish()?;
        self.out.write_all(&(name.len() as u32).to_le_bytes())?;
        self.out.write_all(&0u64.to_le_bytes())?;
        self.out.write_all(name.as_bytes())?;
        self.entry = Some((self.end, name.len() as u64));
        self.end += LENGTHS + name.len() as u64;
        self.entries += 1;
        Ok(())
    }

    /// Takes the next bytes of the entry.
    pub(crate) fn take(&mut self, bytes: &[u8]) -> std::io::Result<()> {
        self.out.write_all(bytes)?;
        self.end += bytes.len() as u64;
        self.bytes += bytes.len() as u64;
        Ok(())
    }

    /// Writes how long the entry became.
    fn finish(&mut self) -> std::io::Result<()> {
        let Some((start, name)) = self.entry.take() else { return Ok(()) };
        let content = self.end - start - LENGTHS - name;
        self.out.seek(SeekFrom::Start(start + 4))?;
        self.out.write_all(&content.to_le_bytes())?;
        self.out.seek(SeekFrom::Start(self.end))?;
        Ok(())
    }

    /// Everything is on the disk, under its name.
    pub(crate) fn keep(mut self) -> std::io::Result<()> {
        self.finish()?;
        self.out.flush()?;
        self.out.get_ref().sync_all()?;
        fs::rename(partial(&self.path), &self.path)?;
        self.kept = true;
        File::open(self.path.parent().expect("a file is in a folder"))?.sync_all()
    }
}

impl Drop for Upload {
    fn drop(&mut self) {
        if !self.kept {
            let _ = fs::remove_file(partial(&self.path));
        }
    }
}

fn partial(path: &Path) -> PathBuf {
    path.with_extension("partial")
}

/// What was sent under one name.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Entry {
    pub(crate) name: String,
    /// Of the content.
    pub(crate) size: u64,
    /// None if it is larger than was asked for.
    pub(crate) content: Option<Vec<u8>>,
}

/// The entries of an upload that was kept.
pub(crate) struct Entries {
    file: BufReader<File>,
    /// Where the next entry begins.
    pub(crate) at: u64,
}

impl Entries {
    pub(crate) fn open(path: &Path, at: u64) -> std::io::Result<Self> {
        let mut file = BufReader::with_capacity(1 << 16, File::open(path)?);
        file.seek(SeekFrom::Start(at))?;
        Ok(Self { file, at })
    }

    /// The next entry, its content if it has at most `limit` bytes; none at the end.
    pub(crate) fn next(&mut self, limit: u64) -> std::io::Result<Option<Entry>> {
        let mut lengths = [0; LENGTHS as usize];
        match self.file.read_exact(&mut lengths) {
            Ok(()) => {}
            Err(error) if error.kind() == ErrorKind::UnexpectedEof => return Ok(None),
            Err(error) => return Err(error),
        }
        let (name, size) = lengths.split_at(4);
        let name_bytes = u32::from_le_bytes(name.try_into().expect("four bytes"));
        let size = u64::from_le_bytes(size.try_into().expect("eight bytes"));
        let name = String::from_utf8(self.exactly(u64::from(name_bytes))?)
            .map_err(|error| std::io::Error::new(ErrorKind::InvalidData, error))?;
        let content = if size <= limit {
            Some(self.exactly(size)?)
        } else {
            self.file.seek_relative(i64::try_from(size).unwrap_or(i64::MAX))?;
            None
        };
        self.at += LENGTHS + u64::from(name_bytes) + size;
        Ok(Some(Entry { name, size, content }))
    }

    fn exactly(&mut self, bytes: u64) -> std::io::Result<Vec<u8>> {
        let mut read = Vec::new();
        self.file.by_ref().take(bytes).read_to_end(&mut read)?;
        if (read.len() as u64) < bytes {
            return Err(std::io::Error::new(ErrorKind::UnexpectedEof, "the upload is cut off"));
        }
        Ok(read)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_sent_comes_back_from_any_entry_on() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a.bytes");
        let mut upload = Upload::new(path.clone()).unwrap();
        for (name, pieces) in [("a.md", vec!["# A", " stone"]), ("ü.txt", vec![]), ("b.md", vec!["B"])] {
            upload.begin(name).unwrap();
            pieces.into_iter().for_each(|piece| upload.take(piece.as_bytes()).unwrap());
        }
        assert_eq!((upload.entries, upload.bytes), (3, 10));
        upload.keep().unwrap();
        let mut entries = Entries::open(&path, 0).unwrap();
        let entry = |name: &str, content: &str| Entry {
            name: name.to_owned(),
            size: content.len() as u64,
            content: Some(content.as_bytes().to_vec()),
        };
        assert_eq!(entries.next(100).unwrap(), Some(entry("a.md", "# A stone")));
        let at = entries.at;
        assert_eq!(entries.next(100).unwrap(), Some(entry("ü.txt", "")));
        let mut again = Entries::open(&path, at).unwrap();
        assert_eq!(again.next(100).unwrap(), Some(entry("ü.txt", "")));
        assert_eq!(again.next(100).unwrap(), Some(entry("b.md", "B")));
        assert_eq!(again.next(100).unwrap(), None);
    }

    #[test]
    fn a_large_entry_is_passed_over_and_the_next_is_read() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a.bytes");
        let mut upload = Upload::new(path.clone()).unwrap();
        upload.begin("large").unwrap();
        upload.take(&[b'x'; 1000]).unwrap();
        upload.begin("small").unwrap();
        upload.take(b"y").unwrap();
        upload.keep().unwrap();
        let mut entries = Entries::open(&path, 0).unwrap();
        assert_eq!(
            entries.next(999).unwrap(),
            Some(Entry { name: "large".to_owned(), size: 1000, content: None })
        );
        assert_eq!(entries.next(999).unwrap().unwrap().content, Some(b"y".to_vec()));
    }

    #[test]
    fn an_upload_that_was_not_kept_leaves_nothing_behind() {
        let dir = tempfile::tempdir().unwrap();
        let mut upload = Upload::new(dir.path().join("a.bytes")).unwrap();
        upload.begin("a").unwrap();
        drop(upload);
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 0);
    }
}
