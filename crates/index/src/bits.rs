//! A growable set of slots, one bit each.

#[derive(Debug, Clone, Default)]
pub(crate) struct Bits {
    words: Vec<u64>,
    ones: usize,
}

impl Bits {
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

    pub(crate) fn count(&self) -> usize {
        self.ones
    }

    /// The slots of the set from `from` on, in order.
    pub(crate) fn iter_from(&self, from: u32) -> impl Iterator<Item = u32> + '_ {
        let first = from as usize / 64;
        self.words.iter().enumerate().skip(first).flat_map(move |(index, &word)| {
            let word = if index == first { word & (!0 << (from % 64)) } else { word };
            Ones { word, base: index as u32 * 64 }
        })
    }
}

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
}
