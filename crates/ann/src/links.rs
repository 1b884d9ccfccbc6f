//! Who is linked to whom on one layer.
//!
//! A layer that grows has a word for each link. One that is done keeps its links
//! in as few bits as name its positions: half the memory, and fewer lines of the
//! cache for each step of a walk.

#![allow(clippy::inline_always)] // Parts of loops that are compiled per instruction set.

use crate::array::Words;

/// Marks unused room among the links of a position; no position is this large.
pub(crate) const NONE: u32 = u32::MAX;

/// Bits of a link that has a word of its own.
const WORD: u32 = u32::BITS;

/// The links of a layer, `stride` for each position, unused room at the end
/// being `NONE`. Every link is a position of the layer.
#[derive(Clone, Copy)]
pub(crate) struct Links<'a> {
    all: &'a [u32],
    stride: usize,
    bits: u32,
}

/// Bits that name each of `positions`, and none of them.
pub(crate) fn bits(positions: usize) -> u32 {
    (usize::BITS - positions.leading_zeros()).max(1)
}

/// Words that the links of a position take.
pub(crate) fn width(stride: usize, bits: u32) -> usize {
    (stride * bits as usize).div_ceil(WORD as usize)
}

impl<'a> Links<'a> {
    /// A word for each link.
    pub(crate) fn wide(all: &'a [u32], stride: usize) -> Self {
        Self { all, stride, bits: WORD }
    }

    pub(crate) fn positions(self) -> usize {
        self.all.len() / self.width()
    }

    /// Room for links at each position.
    pub(crate) fn stride(self) -> usize {
        self.stride
    }

    fn width(self) -> usize {
        width(self.stride, self.bits)
    }

    /// What holds the links of a position, to be asked for ahead.
    #[inline(always)]
    pub(crate) fn record(self, position: u32) -> &'a [u32] {
        let width = self.width();
        &self.all[position as usize * width..][..width]
    }

    /// The links of a position, and unused room, where each has a word.
    #[inline(always)]
    pub(crate) fn room(self, position: u32) -> &'a [u32] {
        debug_assert!(self.is_wide(), "these are packed");
        self.record(position)
    }

    pub(crate) fn is_wide(self) -> bool {
        self.bits == WORD
    }

    /// The links of a position.
    #[inline(always)]
    pub(crate) fn of(self, position: u32) -> impl Iterator<Item = u32> + 'a {
        let packed = self.packed(position);
        (0..self.stride).map(move |at| packed.link(at)).take_while(|&link| link != NONE)
    }

    #[inline(always)]
    fn packed(self, position: u32) -> Packed<'a> {
        Packed { words: self.record(position), bits: self.bits }
    }

    /// All positions in the order in which a breadth-first walk from `first`
    /// meets them, each with the one it was met from, which where a walk begins
    /// is itself. What it does not reach is met by walks of its own.
    pub(crate) fn breadth_first(self, first: u32) -> Vec<(u32, u32)> {
        let mut met = vec![false; self.positions()];
        let mut order: Vec<(u32, u32)> = Vec::with_capacity(met.len());
        let all = 0..met.len() as u32;
        for start in all.clone().filter(|&position| position == first).chain(all) {
            if met[start as usize] {
                continue;
            }
            met[start as usize] = true;
            let mut next = order.len();
            order.push((start, start));
            while let Some(&(position, _)) = order.get(next) {
                next += 1;
                for link in self.of(position) {
                    if !met[link as usize] {
                        met[link as usize] = true;
                        order.push((link, position));
                    }
                }
            }
        }
        order
    }
}

/// The links of one position, lowest bits first.
#[derive(Clone, Copy)]
struct Packed<'a> {
    words: &'a [u32],
    bits: u32,
}

impl Packed<'_> {
    #[inline(always)]
    fn link(self, at: usize) -> u32 {
        let first = at as u32 * self.bits;
        let (word, shift) = ((first / WORD) as usize, first % WORD);
        let above = self.words.get(word + 1).copied().unwrap_or(0);
        let both = u64::from(above) << WORD | u64::from(self.words[word]);
        let none = NONE >> (WORD - self.bits);
        let link = (both >> shift) as u32 & none;
        if link == none { NONE } else { link }
    }
}

/// The links of a layer, by themselves.
#[derive(Clone)]
pub(crate) struct Base {
    words: Words,
    stride: usize,
    bits: u32,
}

impl Base {
    /// A word for each link.
    pub(crate) fn wide(words: Words, stride: usize) -> Self {
        Self { words, stride, bits: WORD }
    }

    /// Links of so many positions as they are in a file.
    pub(crate) fn packed(words: Words, stride: usize, positions: usize) -> Self {
        Self { words, stride, bits: bits(positions) }
    }

    /// The same links in as few bits as name them.
    pub(crate) fn pack(&self) -> Self {
        if self.bits != WORD {
            return self.clone();
        }
        let links = self.links();
        let bits = bits(links.positions());
        let width = width(self.stride, bits);
        let mut words = crate::pages::with_capacity(width * links.positions());
        for position in 0..links.positions() as u32 {
            let end = words.len() + width;
            let (mut held, mut used) = (0u64, 0);
            for &link in links.room(position) {
                held |= u64::from(link & NONE >> (WORD - bits)) << used;
                used += bits;
                if used >= WORD {
                    words.push(held as u32);
                    held >>= WORD;
                    used -= WORD;
                }
            }
            if words.len() < end {
                words.push(held as u32);
            }
        }
        Self { words: words.into(), stride: self.stride, bits }
    }

    #[inline(always)]
    pub(crate) fn links(&self) -> Links<'_> {
        Links { all: &self.words, stride: self.stride, bits: self.bits }
    }

    pub(crate) fn stride(&self) -> usize {
        self.stride
    }

    /// Whether every link is the number of one of `positions`.
    pub(crate) fn links_are_below(&self, positions: u32) -> bool {
        let links = self.links();
        let below = |position| links.of(position).all(|link| link < positions);
        (0..links.positions() as u32).all(below)
    }

    /// The links as they are kept.
    pub(crate) fn words(&self) -> &Words {
        &self.words
    }

    /// The links of a position and unused room, to be changed.
    ///
    /// # Panics
    /// If they are packed: then nothing changes any more.
    pub(crate) fn room_mut(&mut self, position: u32) -> &mut [u32] {
        assert!(self.bits == WORD, "a graph is packed when it is done");
        &mut self.words.make_mut()[position as usize * self.stride..][..self.stride]
    }
}

impl PartialEq for Base {
    fn eq(&self, other: &Self) -> bool {
        let (a, b) = (self.links(), other.links());
        self.stride == other.stride
            && a.positions() == b.positions()
            && (0..a.positions() as u32).all(|position| a.of(position).eq(b.of(position)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn packed_links_are_the_links() {
        let mut random = fastrand::Rng::with_seed(3);
        for positions in [1, 2, 3, 4, 7, 8, 255, 256, 1000, 70_000] {
            let stride = random.usize(1..40);
            let all: Vec<u32> = (0..positions)
                .flat_map(|_| {
                    let used = random.usize(0..=stride);
                    (0..stride)
                        .map(|at| if at < used { random.u32(0..positions) } else { NONE })
                        .collect::<Vec<_>>()
                })
                .collect();
            let base = Base::wide(all.into(), stride);
            let packed = base.pack();
            assert_eq!(packed.links().positions(), positions as usize);
            assert!(packed == base && packed.pack() == base);
            for position in 0..positions {
                let room = base.links().room(position).iter().copied();
                let links = room.take_while(|&link| link != NONE);
                assert!(packed.links().of(position).eq(links), "{position} of {positions}");
            }
        }
    }

    #[test]
    fn a_hundred_thousand_positions_take_17_bits_a_link() {
        assert_eq!(bits(100_000), 17);
        assert_eq!((bits(131_071), bits(131_072)), (17, 18));
        assert_eq!(width(32, 17), 17);
    }
}
