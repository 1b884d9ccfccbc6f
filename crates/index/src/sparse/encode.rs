//! Writing an inverted index.

use std::collections::HashMap;
use std::hash::{BuildHasher, Hasher};
use std::ops::Range;

use super::{BLOCK, HEADER_BYTES, Inverted, Layout, MAGIC, VERSION};

impl Inverted {
    /// The bytes of the index of rows, each a slot and its positions with their
    /// values. Slots ascend and are below `u32::MAX`; a position comes once in a
    /// row.
    ///
    /// The rows are read twice, once to count and once to place, so that little
    /// more than the result is ever in memory: some numbers per position.
    pub(crate) fn encode<Row>(rows: impl Iterator<Item = (u32, Row)> + Clone) -> Vec<u8>
    where
        Row: Iterator<Item = (u32, f32)>,
    {
        let counted = Counted::new(rows.clone());
        let (postings, blocks) = counted.firsts();
        let totals = [counted.terms.len(), blocks[counted.terms.len()], postings[counted.terms.len()]];
        let layout = Layout::new(totals[0] as u64, totals[1] as u64, totals[2] as u64)
            .expect("postings of rows in memory can be counted in memory");
        let mut out = Writer { bytes: vec![0; layout.bytes] };
        out.header(&counted, totals);
        for (term, &(index, _)) in counted.terms.iter().enumerate() {
            out.put(&layout.terms[0], term, index.to_le_bytes());
        }
        for term in 0..=totals[0] {
            out.put(&layout.terms[1], term, (postings[term] as u64).to_le_bytes());
            out.put(&layout.terms[2], term, (blocks[term] as u64).to_le_bytes());
        }
        let mut next = postings.clone();
        for (slot, row) in rows {
            for (index, value) in row {
                let at = &mut next[counted.rank[&index] as usize];
                out.put(&layout.postings[0], *at, slot.to_le_bytes());
                out.put(&layout.postings[1], *at, value.to_le_bytes());
                *at += 1;
            }
        }
        for term in 0..totals[0] {
            out.bounds(&layout, term, blocks[term], postings[term]..postings[term + 1]);
        }
        out.bytes
    }
}

/// What the first reading of the rows finds.
struct Counted {
    rows: u32,
    end: u32,
    /// Positions, ascending, with the number of rows that have them.
    terms: Vec<(u32, u32)>,
    /// Where each position is in `terms`.
    rank: HashMap<u32, u32, Seed>,
}

impl Counted {
    fn new<Row: Iterator<Item = (u32, f32)>>(all: impl Iterator<Item = (u32, Row)>) -> Self {
        let (mut rows, mut end) = (0, 0);
        let mut rank: HashMap<u32, u32, Seed> = HashMap::with_hasher(Seed(fastrand::u64(..) | 1));
        for (slot, row) in all {
            rows += 1;
            end = end.max(slot.saturating_add(1));
            row.for_each(|(index, _)| *rank.entry(index).or_default() += 1);
        }
        let mut terms: Vec<(u32, u32)> = rank.iter().map(|(&index, &count)| (index, count)).collect();
        terms.sort_unstable();
        for (term, (index, _)) in terms.iter().enumerate() {
            rank.insert(*index, term as u32);
        }
        Self { rows, end, terms, rank }
    }

    /// First posting and first block of each term, and one past the last.
    fn firsts(&self) -> (Vec<usize>, Vec<usize>) {
        let (mut postings, mut blocks) = (vec![0], vec![0]);
        for &(_, count) in &self.terms {
            postings.push(postings[postings.len() - 1] + count as usize);
            blocks.push(blocks[blocks.len() - 1] + (count as usize).div_ceil(BLOCK));
        }
        (postings, blocks)
    }
}

struct Writer {
    bytes: Vec<u8>,
}

impl Writer {
    fn header(&mut self, counted: &Counted, totals: [usize; 3]) {
        let header = 0..HEADER_BYTES;
        for (at, word) in [MAGIC, VERSION, counted.rows, counted.end].into_iter().enumerate() {
            self.put(&header, at, word.to_le_bytes());
        }
        for (at, total) in totals.into_iter().enumerate() {
            self.put(&header, 2 + at, (total as u64).to_le_bytes());
        }
    }

    fn put<const N: usize>(&mut self, array: &Range<usize>, at: usize, number: [u8; N]) {
        let start = array.start + at * N;
        self.bytes[start..start + N].copy_from_slice(&number);
    }

    fn get(&self, array: &Range<usize>, at: usize) -> [u8; 4] {
        let start = array.start + at * 4;
        self.bytes[start..start + 4].try_into().expect("four bytes")
    }

    /// The largest and smallest values of a term and of its blocks.
    fn bounds(&mut self, layout: &Layout, term: usize, first_block: usize, postings: Range<usize>) {
        let mut of_term = Bounds::default();
        for (block, start) in postings.clone().step_by(BLOCK).enumerate() {
            let mut of_block = Bounds::default();
            let end = postings.end.min(start + BLOCK);
            for at in start..end {
                of_block.include(f32::from_le_bytes(self.get(&layout.postings[1], at)));
            }
            let block = first_block + block;
            let last_slot = self.get(&layout.postings[0], end - 1);
            self.put(&layout.blocks[0], block, last_slot);
            self.put(&layout.blocks[1], block, of_block.largest.to_le_bytes());
            self.put(&layout.blocks[2], block, of_block.smallest.to_le_bytes());
            of_term.include(of_block.largest);
            of_term.include(of_block.smallest);
        }
        self.put(&layout.terms[3], term, of_term.largest.to_le_bytes());
        self.put(&layout.terms[4], term, of_term.smallest.to_le_bytes());
    }
}

struct Bounds {
    largest: f32,
    smallest: f32,
}

impl Default for Bounds {
    fn default() -> Self {
        Self { largest: f32::NEG_INFINITY, smallest: f32::INFINITY }
    }
}

impl Bounds {
    fn include(&mut self, value: f32) {
        self.largest = self.largest.max(value);
        self.smallest = self.smallest.min(value);
    }
}

/// Hashes a position by one multiplication with a random number, because
/// there is a lookup per posting. Whoever sends vectors cannot know the number.
#[derive(Clone, Copy)]
struct Seed(u64);

struct Multiplied(u64, u64);

impl BuildHasher for Seed {
    type Hasher = Multiplied;

    fn build_hasher(&self) -> Multiplied {
        Multiplied(self.0, 0)
    }
}

impl Hasher for Multiplied {
    fn write(&mut self, bytes: &[u8]) {
        bytes.iter().for_each(|&byte| self.write_u32(u32::from(byte)));
    }

    fn write_u32(&mut self, number: u32) {
        let product = u128::from(self.1 ^ u64::from(number) ^ self.0.rotate_left(32)) * u128::from(self.0);
        self.1 = (product >> 64) as u64 ^ product as u64;
    }

    fn finish(&self) -> u64 {
        self.1
    }
}
