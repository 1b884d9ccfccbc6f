//! A growable set of slots, one bit each. Slots beyond the last word are not in
//! the set, so that an empty set costs nothing.

/// Fewer slots are counted one by one as they are added.
const FEW: usize = 1024;

#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Bits {
    words: Vec<u64>,
    ones: usize,
}

impl Bits {
    /// The slots below `len`.
    pub(crate) fn full(len: u32) -> Self {
        let mut bits = Self { words: vec![!0; len as usize / 64], ones: len as usize };
        if !len.is_multiple_of(64) {
            bits.words.push((1 << (len % 64)) - 1);
        }
        bits
    }

    /// No slot, with the room for `len`.
    pub(crate) fn with_len(len: u32) -> Self {
        Self { words: vec![0; (len as usize).div_ceil(64)], ones: 0 }
    }

    /// The slots below `len` whose bits are set in these words.
    pub(crate) fn from_words(words: &[u64], len: u32) -> Self {
        let mut bits = Self { words: words.to_vec(), ones: 0 };
        bits.words.truncate((len as usize).div_ceil(64));
        bits.clear_from(len);
        bits.count_again();
        bits
    }

    /// 64 slots to a word, the lowest bit first.
    pub(crate) fn words(&self) -> &[u64] {
        &self.words
    }

    pub(crate) fn get(&self, slot: u32) -> bool {
        self.words.get(slot as usize / 64).is_some_and(|word| word >> (slot % 64) & 1 == 1)
    }

    pub(crate) fn set(&mut self, slot: u32, value: bool) {
        let index = slot as usize / 64;
        if index >= self.words.len() {
            if !value {
                return;
            }
            self.words.resize(index + 1, 0);
        }
        let mask = 1u64 << (slot % 64);
        let was = self.words[index] & mask != 0;
        if value && !was {
            self.words[index] |= mask;
            self.ones += 1;
        } else if !value && was {
            self.words[index] &= !mask;
            self.ones -= 1;
        }
    }

    /// Adds those of the slots that are below `len`.
    pub(crate) fn insert_all(&mut self, slots: &[u32], len: u32) {
        let few = slots.len() < FEW;
        let slots = slots.iter().filter(|slot| **slot < len);
        if few {
            return slots.for_each(|slot| self.set(*slot, true));
        }
        self.words.resize(self.words.len().max((len as usize).div_ceil(64)), 0);
        slots.for_each(|slot| self.words[*slot as usize / 64] |= 1 << (slot % 64));
        self.count_again();
    }

    /// Keeps the slots that are in both.
    pub(crate) fn and(&mut self, other: &Self) {
        self.words.truncate(other.words.len());
        for (word, other) in self.words.iter_mut().zip(&other.words) {
            *word &= other;
        }
        self.count_again();
    }

    /// Adds the slots of the other.
    pub(crate) fn or(&mut self, other: &Self) {
        if self.words.len() < other.words.len() {
            self.words.resize(other.words.len(), 0);
        }
        for (word, other) in self.words.iter_mut().zip(&other.words) {
            *word |= other;
        }
        self.count_again();
    }

    /// The slots below `len` that are not in the set.
    pub(crate) fn not(mut self, len: u32) -> Self {
        self.words.resize((len as usize).div_ceil(64), 0);
        for word in &mut self.words {
            *word = !*word;
        }
        self.clear_from(len);
        self.count_again();
        self
    }

    fn clear_from(&mut self, len: u32) {
        if let Some(word) = self.words.get_mut(len as usize / 64) {
            *word &= (1 << (len % 64)) - 1;
        }
    }

    fn count_again(&mut self) {
        self.ones = self.words.iter().map(|word| word.count_ones() as usize).sum();
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = u32> + Clone + '_ {
        self.iter_from(0)
    }

    pub(crate) fn count(&self) -> usize {
        self.ones
    }

    /// The slots of the set from `from` on, in order.
    pub(crate) fn iter_from(&self, from: u32) -> impl Iterator<Item = u32> + Clone + '_ {
        let first = from as usize / 64;
        self.words.iter().enumerate().skip(first).flat_map(move |(index, &word)| {
            let word = if index == first { word & (!0 << (from % 64)) } else { word };
            Ones { word, base: index as u32 * 64 }
        })
    }
}

impl FromIterator<u32> for Bits {
    fn from_iter<I: IntoIterator<Item = u32>>(slots: I) -> Self {
        let mut bits = Self::default();
        slots.into_iter().for_each(|slot| bits.set(slot, true));
        bits
    }
}

#[derive(Clone)]
struct Ones {
    word: u64,
    base: u32,
}

impl Iterator for Ones {
    type Item = u32;

    fn next(&mut self) -> Option<u32> {
        if self.word == 0 {
            return None;
        }
        let bit = self.word.trailing_zeros();
        self.word &= self.word - 1;
        Some(self.base + bit)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use rand::{Rng, SeedableRng, rngs::StdRng};

    use super::*;

    #[test]
    fn bits_are_a_set_of_slots() {
        let seed = 7;
        let mut rng = StdRng::seed_from_u64(seed);
        let (mut bits, mut naive) = (Bits::default(), BTreeSet::new());
        for _ in 0..5_000 {
            let (slot, value) = (rng.random_range(0..700), rng.random_bool(0.6));
            bits.set(slot, value);
            if value {
                naive.insert(slot)
            } else {
                naive.remove(&slot)
            };
        }
        assert_eq!(bits.count(), naive.len(), "seed {seed}");
        for from in [0, 1, 63, 64, 65, 350, 699, 5_000] {
            let got: Vec<u32> = bits.iter_from(from).collect();
            let want: Vec<u32> = naive.range(from..).copied().collect();
            assert_eq!(got, want, "seed {seed}, from {from}");
        }
    }

    #[test]
    fn sets_combine_as_sets_do() {
        let seed = 8;
        let mut rng = StdRng::seed_from_u64(seed);
        for _ in 0..300 {
            let len = rng.random_range(0..300);
            let mut some = || -> BTreeSet<u32> { (0..len).filter(|_| rng.random_bool(0.3)).collect() };
            let (a, b) = (some(), some());
            let bits = |set: &BTreeSet<u32>| -> Bits { set.iter().copied().collect() };
            let check = |got: &Bits, want: BTreeSet<u32>| {
                assert!(got.iter().eq(want.iter().copied()), "seed {seed}");
                assert_eq!(got.count(), want.len(), "seed {seed}");
            };
            let (mut and, mut or) = (bits(&a), bits(&a));
            and.and(&bits(&b));
            or.or(&bits(&b));
            check(&and, &a & &b);
            check(&or, &a | &b);
            check(&bits(&a).not(len), &(0..len).collect() - &a);
            check(&Bits::full(len), (0..len).collect());
            check(&Bits::from_words(&bits(&a).words, len / 2), a.range(..len / 2).copied().collect());
            let mut all = Bits::default();
            all.insert_all(&[1, 5, 5, 900], len);
            check(&all, [1, 5].into_iter().filter(|slot| *slot < len).collect());
            all.insert_all(&(0..2000).rev().collect::<Vec<_>>(), len);
            check(&all, (0..len).collect());
        }
    }
}
