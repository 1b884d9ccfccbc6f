//! Which points have which words, and where, if phrases are asked for.
//!
//! Without positions, which phrases and ranking need, a word has each slot once; with them it has an entry for
//! every occurrence. Positions count on from one string of a point to the
//! next, with a gap, so that no phrase runs across. Where each object of an array
//! counts for itself, what is said of points and slots here is about objects.

use std::sync::OnceLock;

use super::postings::Words;
use super::sections::{Numbers, Reader, Writer};
use crate::bits::Bits;
use crate::filter::tokens::{How, Tokens};

pub(crate) struct Texts {
    words: Words,
    /// One for each slot of the postings, or none at all.
    positions: Numbers<u32>,
    /// Tokens of each row, once they were asked for.
    lengths: OnceLock<Vec<u32>>,
}

impl Texts {
    pub(super) fn read(file: &mut Reader, with_positions: bool) -> Result<Self, String> {
        let texts = Self { words: Words::read(file)?, positions: file.numbers()?, lengths: OnceLock::new() };
        let expected = if with_positions { texts.words.postings.entries() } else { 0 };
        if texts.positions.len() != expected {
            return Err("the field index has words without positions".to_owned());
        }
        Ok(texts)
    }

    pub(super) fn write_positions(positions: &[u32], file: &mut Writer) {
        file.add(positions);
    }

    /// The slots that pass, and whether they only may.
    pub(super) fn slots(&self, tokens: &Tokens<'_>, rows: u32) -> (Bits, bool) {
        let places: Vec<_> = tokens.wanted.iter().map(|word| self.words.find(word)).collect();
        let mut found = Bits::default();
        if tokens.how == How::Any {
            places.into_iter().for_each(|place| found.insert_all(self.words.postings.slots(place), rows));
            return (found, false);
        }
        for (number, place) in places.iter().enumerate() {
            let mut of_word = Bits::default();
            of_word.insert_all(self.words.postings.slots(place.clone()), rows);
            if number == 0 {
                found = of_word;
            } else {
                found.and(&of_word);
            }
        }
        match tokens.how {
            How::InOrder => {
                (found.iter().filter(|slot| self.in_order(&tokens.wanted, *slot)).collect(), false)
            }
            How::AllAnd(_) => (found, true),
            How::All | How::Any => (found, false),
        }
    }

    fn in_order(&self, wanted: &[String], slot: u32) -> bool {
        let of: Vec<&[u32]> = wanted.iter().map(|word| self.occurrences(word, slot)).collect();
        let Some((first, rest)) = of.split_first() else {
            return false;
        };
        first.iter().any(|start| {
            rest.iter().zip(1..).all(|(positions, offset)| {
                start.checked_add(offset).is_some_and(|next| positions.binary_search(&next).is_ok())
            })
        })
    }

    /// The positions of a word in one point, ascending.
    fn occurrences(&self, word: &str, slot: u32) -> &[u32] {
        let keys = self.words.find(word);
        let slots = self.words.postings.slots(keys.clone());
        let start = self.words.postings.places(keys).start;
        let from = slots.partition_point(|other| *other < slot);
        let to = slots.partition_point(|other| *other <= slot);
        self.positions.get(start + from..start + to).unwrap_or_default()
    }

    /// The slots that have a word, ascending; with positions, one for each
    /// occurrence.
    pub(crate) fn slots_of(&self, word: &str) -> &[u32] {
        self.words.postings.slots(self.words.find(word))
    }

    /// How many occurrences the words of each row have.
    pub(crate) fn lengths(&self, rows: u32) -> &[u32] {
        self.lengths.get_or_init(|| {
            let mut lengths = vec![0u32; rows as usize];
            for slot in self.words.postings.slots(0..self.words.len()) {
                if let Some(length) = lengths.get_mut(*slot as usize) {
                    *length += 1;
                }
            }
            lengths
        })
    }

    /// How many entries each wanted word has.
    pub(super) fn counts(&self, tokens: &Tokens<'_>) -> Vec<usize> {
        tokens.wanted.iter().map(|word| self.words.postings.slots(self.words.find(word)).len()).collect()
    }
}
