//! A file of named sections, each with a checksum: the shape of segments and of
//! what is derived from them.
//!
//! ```text
//! 0      "CAIRNSEG", format u32, zeros up to 64
//! 64     the sections, each beginning at a multiple of 64
//!        the table: JSON with kind, info, and name, offset, bytes and crc32 of
//!        each section
//! end-32 offset u64 and length u64 of the table, crc32 of the table u32,
//!        format u32, "CAIRNEND"
//! ```
//!
//! Numbers are little-endian. A file gets its name only when it is whole and on
//! the disk, and is never changed after that.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{BufWriter, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::bytes::Bytes;
use crate::error::{Error, Result};
use crate::store::sync_dir;

const START: &[u8; 8] = b"CAIRNSEG";
const END: &[u8; 8] = b"CAIRNEND";
const FORMAT: u32 = 1;
const ALIGN: u64 = 64;
const TRAILER: usize = 32;

#[derive(Serialize, Deserialize)]
struct Table {
    kind: String,
    info: Value,
    sections: BTreeMap<String, Section>,
}

#[derive(Serialize, Deserialize)]
struct Section {
    offset: u64,
    bytes: u64,
    crc32: u32,
}

/// Writes a container; nothing is seen of it until [`Writer::finish`].
pub(crate) struct Writer {
    path: PathBuf,
    partial: PathBuf,
    file: BufWriter<File>,
    at: u64,
    sections: BTreeMap<String, Section>,
    open: Option<(String, u64, crc32fast::Hasher)>,
}

impl Writer {
    pub(crate) fn create(path: &Path) -> Result<Self> {
        let partial = path.with_extension("partial");
        let file = File::create(&partial).map_err(Error::io("create", &partial))?;
        let mut writer = Self {
            path: path.to_owned(),
            partial,
            file: BufWriter::with_capacity(1 << 20, file),
            at: 0,
            sections: BTreeMap::new(),
            open: None,
        };
        writer.put(START)?;
        writer.put(&FORMAT.to_le_bytes())?;
        Ok(writer)
    }

    /// Begins a section; what is written goes into it until the next begins.
    pub(crate) fn begin(&mut self, name: impl Into<String>) -> Result<()> {
        self.end();
        self.pad()?;
        self.open = Some((name.into(), self.at, crc32fast::Hasher::new()));
        Ok(())
    }

    pub(crate) fn write(&mut self, bytes: &[u8]) -> Result<()> {
        if let Some((_, _, crc)) = &mut self.open {
            crc.update(bytes);
        }
        self.put(bytes)
    }

    /// A whole section at once.
    pub(crate) fn section(&mut self, name: impl Into<String>, bytes: &[u8]) -> Result<()> {
        self.begin(name)?;
        self.write(bytes)
    }

    /// Makes the file durable and gives it its name.
    pub(crate) fn finish(mut self, kind: &str, info: Value) -> Result<()> {
        self.end();
        self.pad()?;
        let sections = std::mem::take(&mut self.sections);
        let table = Table { kind: kind.to_owned(), info, sections };
        let table = serde_json::to_vec(&table).expect("keys are strings and numbers whole");
        let offset = self.at;
        self.put(&table)?;
        self.put(&offset.to_le_bytes())?;
        self.put(&(table.len() as u64).to_le_bytes())?;
        self.put(&crc32fast::hash(&table).to_le_bytes())?;
        self.put(&FORMAT.to_le_bytes())?;
        self.put(END)?;
        let written = self.file.flush().and_then(|()| self.file.get_ref().sync_all());
        written.map_err(Error::io("write", &self.partial))?;
        fs::rename(&self.partial, &self.path).map_err(Error::io("rename", &self.partial))?;
        sync_dir(self.path.parent().expect("a file in a data directory has a folder"))
    }

    fn end(&mut self) {
        if let Some((name, offset, crc)) = self.open.take() {
            let section = Section { offset, bytes: self.at - offset, crc32: crc.finalize() };
            self.sections.insert(name, section);
        }
    }

    fn pad(&mut self) -> Result<()> {
        let zeros = self.at.next_multiple_of(ALIGN) - self.at;
        self.put(&[0; ALIGN as usize][..zeros as usize])
    }

    fn put(&mut self, bytes: &[u8]) -> Result<()> {
        self.file.write_all(bytes).map_err(Error::io("write", &self.partial))?;
        self.at += bytes.len() as u64;
        Ok(())
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        // After `finish` the file has another name, and this finds nothing.
        let _ = fs::remove_file(&self.partial);
    }
}

/// A mapped container. Its table was checked; its sections when they are read.
pub(crate) struct Container {
    path: PathBuf,
    bytes: Bytes,
    table: Table,
}

impl Container {
    /// Maps a file; the error is the reason it cannot be used.
    pub(crate) fn open(path: &Path, kind: &str) -> Result<Self, String> {
        let file = File::open(path).map_err(|error| error.to_string())?;
        if file.metadata().map_err(|error| error.to_string())?.len() < ALIGN + TRAILER as u64 {
            return Err("it is cut off".to_owned());
        }
        Self::read(path, Bytes::map(&file).map_err(|error| error.to_string())?, kind)
    }

    fn read(path: &Path, bytes: Bytes, kind: &str) -> Result<Self, String> {
        let (front, trailer) =
            bytes.split_at_checked(bytes.len().saturating_sub(TRAILER)).ok_or("it is cut off")?;
        if !front.starts_with(START) {
            return Err("it is not a file of this kind".to_owned());
        }
        if trailer.len() < TRAILER || &trailer[24..] != END {
            return Err("it is cut off".to_owned());
        }
        let word = |at: usize| u32::from_le_bytes(trailer[at..at + 4].try_into().expect("four bytes"));
        let long = |at: usize| u64::from_le_bytes(trailer[at..at + 8].try_into().expect("eight bytes"));
        if word(20) > FORMAT {
            return Err(format!("it has format {}, this version reads up to {FORMAT}", word(20)));
        }
        let (offset, length) = (long(0) as usize, long(8) as usize);
        let table = offset.checked_add(length).and_then(|end| front.get(offset..end));
        let table = table.ok_or("its table is outside")?;
        if crc32fast::hash(table) != word(16) {
            return Err("the checksum of its table does not match".to_owned());
        }
        let table: Table = serde_json::from_slice(table).map_err(|error| error.to_string())?;
        if table.kind != kind {
            return Err(format!("it holds a {}, not a {kind}", table.kind));
        }
        Ok(Self { path: path.to_owned(), bytes, table })
    }

    pub(crate) fn info(&self) -> &Value {
        &self.table.info
    }

    pub(crate) fn has(&self, name: &str) -> bool {
        self.table.sections.contains_key(name)
    }

    /// A section, unread: see [`Container::verify`].
    pub(crate) fn unverified(&self, name: &str) -> Result<Bytes, String> {
        let section = self.table.sections.get(name).ok_or_else(|| format!("section {name} is missing"))?;
        let start = section.offset as usize;
        let end = start.checked_add(section.bytes as usize);
        let piece = end.and_then(|end| self.bytes.slice(start..end));
        piece.ok_or_else(|| format!("section {name} is outside"))
    }

    /// A section whose checksum holds.
    pub(crate) fn section(&self, name: &str) -> Result<Bytes, String> {
        let bytes = self.unverified(name)?;
        if crc32fast::hash(&bytes) != self.table.sections[name].crc32 {
            return Err(format!("the checksum of section {name} does not match"));
        }
        Ok(bytes)
    }

    /// Reads everything and compares all checksums, calling `pace` after every
    /// so many bytes; stops without a verdict when that gives false. Reads the file, not the map, so that the pages do not count
    /// as memory in use.
    pub(crate) fn verify(&self, pace: &mut dyn FnMut(usize) -> bool) -> Result<(), String> {
        let mut file = File::open(&self.path).map_err(|error| error.to_string())?;
        let mut buffer = vec![0; 1 << 20];
        for (name, section) in &self.table.sections {
            file.seek(SeekFrom::Start(section.offset)).map_err(|error| error.to_string())?;
            let mut crc = crc32fast::Hasher::new();
            let mut left = section.bytes as usize;
            while left > 0 {
                let piece = &mut buffer[..left.min(1 << 20)];
                file.read_exact(piece).map_err(|error| format!("section {name}: {error}"))?;
                crc.update(piece);
                left -= piece.len();
                if !pace(piece.len()) {
                    return Ok(());
                }
            }
            if crc.finalize() != section.crc32 {
                return Err(format!("the checksum of section {name} does not match"));
            }
        }
        Ok(())
    }

    pub(crate) fn bytes(&self) -> u64 {
        self.bytes.len() as u64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample(path: &Path) {
        let mut writer = Writer::create(path).unwrap();
        writer.section("a", b"hello").unwrap();
        writer.begin("numbers").unwrap();
        for number in 0u64..20 {
            writer.write(&number.to_le_bytes()).unwrap();
        }
        writer.finish("test", serde_json::json!({"rows": 20})).unwrap();
    }

    #[test]
    fn sections_come_back_and_lie_aligned() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("1.segment");
        sample(&path);
        let container = Container::open(&path, "test").unwrap();
        assert_eq!(&*container.section("a").unwrap(), b"hello");
        assert_eq!(container.section("numbers").unwrap().numbers::<u64>().unwrap()[19], 19);
        assert_eq!(container.info()["rows"], 20);
        assert!(container.section("b").is_err());
        assert!(Container::open(&path, "other").is_err());
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1);
    }

    #[test]
    fn every_cut_and_every_flipped_bit_that_matters_is_found() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("1.segment");
        sample(&path);
        let whole = fs::read(&path).unwrap();
        for end in 0..whole.len() {
            let cut = Bytes::copy_of(&whole[..end]);
            assert!(Container::read(&path, cut, "test").is_err(), "cut at {end}");
        }
        let container = Container::open(&path, "test").unwrap();
        let covered = |at: usize| {
            let sections = container.table.sections.values();
            let inside = sections.map(|s| s.offset as usize..(s.offset + s.bytes) as usize);
            at < 8 || at >= whole.len() - TRAILER || inside.into_iter().any(|range| range.contains(&at))
        };
        for at in (0..whole.len()).filter(|at| covered(*at)) {
            let mut damaged = whole.clone();
            damaged[at] ^= 4;
            fs::write(&path, &damaged).unwrap();
            let read = Container::read(&path, Bytes::copy_of(&damaged), "test");
            // The trailer's own format number may become smaller unnoticed.
            let fine = read.and_then(|container| container.verify(&mut |_| true));
            assert!(fine.is_err() || (whole.len() - 12..whole.len() - 8).contains(&at), "byte {at}");
        }
    }
}
