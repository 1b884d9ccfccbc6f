//! The file of a field index: numbered sections of numbers behind a table.
//!
//! `[magic u32][kind u32][rows u32][points u32][sections u64]`, then for each
//! section its start and its length in bytes as `u64`. Every section starts at
//! a multiple of 8. Numbers have the machine's order. Whether the numbers make
//! sense is for the reader of a section; only their places are checked here.

use std::marker::PhantomData;
use std::ops::Deref;

use bytemuck::Pod;

use crate::bytes::Bytes;

const MAGIC: u32 = u32::from_le_bytes(*b"cfi1");

/// What comes first in the file.
#[derive(Debug, Clone, Copy)]
pub(super) struct Header {
    pub(super) kind: u32,
    pub(super) rows: u32,
    pub(super) points: u32,
}

/// Collects sections.
#[derive(Default)]
pub(super) struct Writer {
    sections: Vec<Vec<u8>>,
}

impl Writer {
    pub(super) fn add<T: Pod>(&mut self, numbers: &[T]) {
        self.sections.push(bytemuck::cast_slice(numbers).to_vec());
    }

    pub(super) fn finish(self, header: Header) -> Vec<u8> {
        let mut file = Vec::new();
        for number in [MAGIC, header.kind, header.rows, header.points] {
            file.extend(number.to_ne_bytes());
        }
        let count = self.sections.len();
        file.extend((count as u64).to_ne_bytes());
        let mut start = file.len() + count * 16;
        for section in &self.sections {
            file.extend((start as u64).to_ne_bytes());
            file.extend((section.len() as u64).to_ne_bytes());
            start = (start + section.len()).next_multiple_of(8);
        }
        for section in &self.sections {
            file.resize(file.len().next_multiple_of(8), 0);
            file.extend(section);
        }
        file
    }
}

/// Reads sections in the order they were added.
pub(super) struct Reader {
    sections: std::vec::IntoIter<Bytes>,
}

impl Reader {
    pub(super) fn open(file: &Bytes) -> Result<(Header, Self), String> {
        let short = || "the field index is cut off".to_owned();
        let head = file.slice(0..16).ok_or_else(short)?;
        let &[magic, kind, rows, points] = head.numbers::<u32>().ok_or_else(short)? else {
            return Err(short());
        };
        if magic != MAGIC {
            return Err("the file is not a field index of this version".to_owned());
        }
        let count = file.slice(16..24).and_then(|bytes| bytes.numbers::<u64>().map(|numbers| numbers[0]));
        let count = count.filter(|count| *count <= 64).ok_or_else(short)? as usize;
        let table = file.slice(24..24 + count * 16).ok_or_else(short)?;
        let table = table.numbers::<u64>().ok_or_else(short)?;
        let section = |place: &[u64]| {
            let end = place[0].checked_add(place[1])?;
            file.slice(usize::try_from(place[0]).ok()?..usize::try_from(end).ok()?)
        };
        let sections: Option<Vec<Bytes>> = table.chunks_exact(2).map(section).collect();
        let sections = sections.ok_or_else(short)?.into_iter();
        Ok((Header { kind, rows, points }, Self { sections }))
    }

    pub(super) fn bytes(&mut self) -> Result<Bytes, String> {
        self.sections.next().ok_or_else(|| "a section of the field index is missing".to_owned())
    }

    pub(super) fn numbers<T: Pod>(&mut self) -> Result<Numbers<T>, String> {
        let bytes = self.bytes()?;
        match bytes.numbers::<T>() {
            Some(_) => Ok(Numbers { bytes, of: PhantomData }),
            None => Err("a section of the field index holds broken numbers".to_owned()),
        }
    }
}

/// A section of numbers, still in the file.
pub(super) struct Numbers<T> {
    bytes: Bytes,
    of: PhantomData<fn() -> T>,
}

impl<T: Pod> Deref for Numbers<T> {
    type Target = [T];

    fn deref(&self) -> &[T] {
        // The cast succeeded when the section was read.
        self.bytes.numbers().unwrap_or_default()
    }
}
