//! The inverted index of one segment for one sparse vector: for each position
//! the rows that have a value there.
//!
//! An index is bytes, mapped or held, and never changes. Posting lists ascend
//! by slot and are cut into blocks of [`BLOCK`]; each block keeps its last slot
//! and its largest and smallest value, which bound what a row in it can score
//! under a positive and under a negative weight. Values are kept exactly.
//!
//! ```text
//! header   [magic u32][version u32][rows u32][end u32][terms u64][blocks u64][postings u64]
//! terms    index u32, ascending | first posting u64, one more | first block u64, one more
//!          | largest value f32 | smallest value f32
//! blocks   last slot u32 | largest value f32 | smallest value f32
//! postings slot u32 | value f32
//! ```
//!
//! Each `|` begins an array of its own at a multiple of 8 bytes. `end` is above
//! every slot. Writing is in `encode`, searching in `search`, scoring rows that
//! are in no index in `scan`. Which rows are live, and idf, are the caller's.

mod best;
mod encode;
pub(crate) mod scan;
pub(crate) mod search;

use std::ops::Range;

use crate::bits::Bits;
use crate::bytes::Bytes;

/// Postings per block.
const BLOCK: usize = 128;

const MAGIC: u32 = u32::from_le_bytes(*b"cspi");
const VERSION: u32 = 1;
const HEADER_BYTES: usize = 64;

/// An opened index.
pub(crate) struct Inverted {
    rows: u32,
    end: u32,
    terms: Terms,
    blocks: Blocks,
    slots: Bytes,
    values: Bytes,
}

struct Terms {
    indices: Bytes,
    first_postings: Bytes,
    first_blocks: Bytes,
    largest: Bytes,
    smallest: Bytes,
}

struct Blocks {
    last_slots: Bytes,
    largest: Bytes,
    smallest: Bytes,
}

/// The rows that have a value at one position.
#[derive(Clone, Copy)]
struct Postings<'a> {
    slots: &'a [u32],
    values: &'a [f32],
    /// Of each block.
    last_slots: &'a [u32],
    largest: &'a [f32],
    smallest: &'a [f32],
    /// Smallest and largest value of all.
    values_within: [f32; 2],
}

impl Inverted {
    /// Opens an index that [`encode`](Self::encode) made.
    ///
    /// The tables of terms and blocks are checked, so that no later lookup can
    /// leave its list; slots and values are taken as they come.
    pub(crate) fn open(bytes: &Bytes) -> Result<Self, String> {
        let header = bytes.slice(0..HEADER_BYTES).ok_or("an inverted index is shorter than its header")?;
        let word = |at: usize| u32::from_le_bytes(header[at..at + 4].try_into().expect("four bytes"));
        let count = |at: usize| u64::from_le_bytes(header[at..at + 8].try_into().expect("eight bytes"));
        if word(0) != MAGIC {
            return Err("not an inverted index".to_owned());
        }
        if word(4) != VERSION {
            return Err(format!("an inverted index of version {}, this program reads {VERSION}", word(4)));
        }
        let layout = Layout::new(count(16), count(24), count(32))
            .filter(|layout| layout.bytes == bytes.len())
            .ok_or("the length of an inverted index does not match its header")?;
        let [indices, first_postings, first_blocks, largest, smallest] = layout.terms;
        let [last_slots, block_largest, block_smallest] = layout.blocks;
        let [slots, values] = layout.postings;
        let part = |range| bytes.slice(range).expect("the layout was checked against the length");
        let index = Self {
            rows: word(8),
            end: word(12),
            terms: Terms {
                indices: part(indices),
                first_postings: part(first_postings),
                first_blocks: part(first_blocks),
                largest: part(largest),
                smallest: part(smallest),
            },
            blocks: Blocks {
                last_slots: part(last_slots),
                largest: part(block_largest),
                smallest: part(block_smallest),
            },
            slots: part(slots),
            values: part(values),
        };
        index.check()?;
        Ok(index)
    }

    fn check(&self) -> Result<(), String> {
        let indices = self.indices();
        if indices.windows(2).any(|pair| pair[0] >= pair[1]) {
            return Err("the positions of an inverted index do not ascend".to_owned());
        }
        let [postings, blocks] = [&self.terms.first_postings, &self.terms.first_blocks].map(numbers::<u64>);
        let ends = [
            (postings, numbers::<u32>(&self.slots).len()),
            (blocks, numbers::<u32>(&self.blocks.last_slots).len()),
        ];
        if ends.iter().any(|(firsts, end)| firsts[0] != 0 || firsts[firsts.len() - 1] != *end as u64) {
            return Err("the lists of an inverted index do not fill it".to_owned());
        }
        let cut_right = postings.windows(2).zip(blocks.windows(2)).all(|(postings, blocks)| {
            postings[0] < postings[1]
                && blocks[1].checked_sub(blocks[0])
                    == Some((postings[1] - postings[0]).div_ceil(BLOCK as u64))
        });
        if !cut_right {
            return Err("the lists of an inverted index are not cut into blocks".to_owned());
        }
        Ok(())
    }

    /// Number of rows that have the vector, empty ones too.
    pub(crate) fn rows(&self) -> u32 {
        self.rows
    }

    /// Number of rows that have a value at a position.
    pub(crate) fn df(&self, index: u32) -> u32 {
        self.postings(index).map_or(0, |postings| postings.slots.len() as u32)
    }

    /// Number of these rows that have a value at a position.
    pub(crate) fn df_among(&self, index: u32, among: &Bits) -> usize {
        let slots = self.postings(index).map_or(&[][..], |postings| postings.slots);
        slots.iter().filter(|slot| among.get(**slot)).count()
    }

    fn indices(&self) -> &[u32] {
        numbers(&self.terms.indices)
    }

    fn postings(&self, index: u32) -> Option<Postings<'_>> {
        let term = self.indices().binary_search(&index).ok()?;
        let range = |firsts: &Bytes| {
            let firsts: &[u64] = numbers(firsts);
            firsts[term] as usize..firsts[term + 1] as usize
        };
        let (postings, blocks) = (range(&self.terms.first_postings), range(&self.terms.first_blocks));
        Some(Postings {
            slots: &numbers(&self.slots)[postings.clone()],
            values: &numbers(&self.values)[postings],
            last_slots: &numbers(&self.blocks.last_slots)[blocks.clone()],
            largest: &numbers(&self.blocks.largest)[blocks.clone()],
            smallest: &numbers(&self.blocks.smallest)[blocks],
            values_within: [numbers(&self.terms.smallest)[term], numbers(&self.terms.largest)[term]],
        })
    }
}

fn numbers<T: bytemuck::Pod>(bytes: &Bytes) -> &[T] {
    bytes.numbers().expect("arrays are aligned and whole by the layout")
}

/// Where each array begins and ends.
struct Layout {
    terms: [Range<usize>; 5],
    blocks: [Range<usize>; 3],
    postings: [Range<usize>; 2],
    bytes: usize,
}

impl Layout {
    /// `None` where that many would not fit into memory.
    fn new(terms: u64, blocks: u64, postings: u64) -> Option<Self> {
        let [terms, blocks, postings] = [terms, blocks, postings].map(usize::try_from);
        let (terms, blocks, postings) = (terms.ok()?, blocks.ok()?, postings.ok()?);
        let mut bytes = HEADER_BYTES;
        let mut array = |count: usize, width: usize| {
            let start = bytes;
            let end = start.checked_add(count.checked_mul(width)?)?;
            bytes = end.checked_next_multiple_of(8)?;
            Some(start..end)
        };
        let firsts = terms.checked_add(1)?;
        Some(Self {
            terms: [
                array(terms, 4)?,
                array(firsts, 8)?,
                array(firsts, 8)?,
                array(terms, 4)?,
                array(terms, 4)?,
            ],
            blocks: [array(blocks, 4)?, array(blocks, 4)?, array(blocks, 4)?],
            postings: [array(postings, 4)?, array(postings, 4)?],
            bytes,
        })
    }
}

#[cfg(test)]
mod tests;
