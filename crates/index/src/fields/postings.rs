//! Sorted distinct keys, and for each the ascending slots that have it.
//!
//! The slots of neighbouring keys are neighbours too, so a range of keys is one
//! piece. Places in damaged files that point nowhere have no slots.

use std::ops::Range;

use bytemuck::Pod;

use super::sections::{Numbers, Reader, Writer};
use crate::bytes::Bytes;

/// Pieces of one array, by number.
pub(super) struct Postings {
    starts: Numbers<u64>,
    slots: Numbers<u32>,
}

impl Postings {
    /// Writes the slots of each key; they come sorted by key and slot.
    pub(super) fn write<K: PartialEq>(entries: &[(K, u32)], file: &mut Writer) {
        let mut starts: Vec<u64> = Vec::new();
        for (place, (key, _)) in entries.iter().enumerate() {
            if place == 0 || entries[place - 1].0 != *key {
                starts.push(place as u64);
            }
        }
        starts.push(entries.len() as u64);
        file.add(&starts);
        file.add(&entries.iter().map(|(_, slot)| *slot).collect::<Vec<_>>());
    }

    pub(super) fn read(file: &mut Reader) -> Result<Self, String> {
        let postings = Self { starts: file.numbers()?, slots: file.numbers()? };
        if postings.starts.is_empty() {
            return Err("the field index has no end of its slots".to_owned());
        }
        Ok(postings)
    }

    pub(super) fn keys(&self) -> usize {
        self.starts.len() - 1
    }

    /// How many slots all keys have together.
    pub(super) fn entries(&self) -> usize {
        self.slots.len()
    }

    /// Where the slots of these keys are.
    pub(super) fn places(&self, keys: Range<usize>) -> Range<usize> {
        if keys.is_empty() {
            return 0..0;
        }
        match (self.starts.get(keys.start), self.starts.get(keys.end)) {
            (Some(&start), Some(&end)) if start <= end && end <= self.slots.len() as u64 => {
                start as usize..end as usize
            }
            _ => 0..0,
        }
    }

    pub(super) fn slots(&self, keys: Range<usize>) -> &[u32] {
        &self.slots[self.places(keys)]
    }

    pub(super) fn of(&self, key: usize) -> &[u32] {
        self.slots(key..key + 1)
    }
}

/// Keys of a fixed size.
pub(super) struct Column<K> {
    keys: Numbers<K>,
    pub(super) postings: Postings,
}

impl<K: Pod + Ord> Column<K> {
    pub(super) fn write(mut entries: Vec<(K, u32)>, file: &mut Writer) {
        entries.sort_unstable();
        entries.dedup();
        let mut keys: Vec<K> = entries.iter().map(|(key, _)| *key).collect();
        keys.dedup();
        file.add(&keys);
        Postings::write(&entries, file);
    }

    pub(super) fn read(file: &mut Reader) -> Result<Self, String> {
        let (keys, postings) = (file.numbers()?, Postings::read(file)?);
        if keys.len() != postings.keys() {
            return Err("the field index has keys without slots".to_owned());
        }
        Ok(Self { keys, postings })
    }

    pub(super) fn keys(&self) -> &[K] {
        &self.keys
    }

    /// The place of a key, as a range of none or one.
    pub(super) fn find(&self, key: &K) -> Range<usize> {
        self.keys.binary_search(key).map_or(0..0, |place| place..place + 1)
    }

    /// The keys that are not before and not after what is wanted.
    pub(super) fn between(&self, before: impl Fn(K) -> bool, after: impl Fn(K) -> bool) -> Range<usize> {
        let start = self.keys.partition_point(|key| before(*key));
        let end = self.keys.partition_point(|key| !after(*key));
        start..end.max(start)
    }
}

/// Keys that are strings.
pub(super) struct Words {
    starts: Numbers<u64>,
    text: Bytes,
    pub(super) postings: Postings,
}

impl Words {
    /// Writes sorted distinct words; what their postings are is for the caller
    /// to write next.
    pub(super) fn write(words: &[&str], file: &mut Writer) {
        let mut starts = vec![0u64];
        let mut text = String::new();
        for word in words {
            text.push_str(word);
            starts.push(text.len() as u64);
        }
        file.add(&starts);
        file.add(text.as_bytes());
    }

    pub(super) fn read(file: &mut Reader) -> Result<Self, String> {
        let words = Self { starts: file.numbers()?, text: file.bytes()?, postings: Postings::read(file)? };
        if words.starts.len() != words.postings.keys() + 1 {
            return Err("the field index has words without slots".to_owned());
        }
        Ok(words)
    }

    pub(super) fn len(&self) -> usize {
        self.postings.keys()
    }

    pub(super) fn word(&self, place: usize) -> &[u8] {
        match (self.starts.get(place), self.starts.get(place + 1)) {
            (Some(&start), Some(&end)) => self.text.get(start as usize..end as usize).unwrap_or_default(),
            _ => &[],
        }
    }

    pub(super) fn find(&self, word: &str) -> Range<usize> {
        let start = self.first(|other| other < word.as_bytes());
        if start < self.len() && self.word(start) == word.as_bytes() { start..start + 1 } else { 0..0 }
    }

    pub(super) fn starting_with(&self, prefix: &str) -> Range<usize> {
        let start = self.first(|word| word < prefix.as_bytes());
        let end = self.first(|word| word < prefix.as_bytes() || word.starts_with(prefix.as_bytes()));
        start..end.max(start)
    }

    /// The first place whose word is not `before`.
    fn first(&self, before: impl Fn(&[u8]) -> bool) -> usize {
        let (mut low, mut high) = (0, self.len());
        while low < high {
            let middle = usize::midpoint(low, high);
            if before(self.word(middle)) { low = middle + 1 } else { high = middle }
        }
        low
    }
}
