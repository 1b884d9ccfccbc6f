//! The best rows of an inverted index for a query.
//!
//! Slots are taken in windows. Within one, the lists that a row must be in to
//! score above the threshold (MaxScore, Turtle and Flood 1995, with the bounds
//! of the blocks in the window) add up into an array of sums, list by list; only
//! rows that can still make it are looked up in the others. While the threshold
//! is low, as it is for long queries and large `k`, every list is added up,
//! which costs little more per posting than reading it.
//!
//! Sums are taken in `f64` and rounded once: what a row scores does not depend
//! on the order in which its terms were met.

use std::ops::{Range, RangeInclusive};

use super::best::Best;
use super::{BLOCK, Inverted, Postings};

/// Slots per window: more share the work around a window among more postings,
/// until the sums leave the second cache. Half and twice as many measured slower.
const WINDOW: usize = 8192;

/// The sum of a row that was not met. No sum of others is negative zero,
/// because a positive zero is added to every product.
const UNMET: f64 = -0.0;

/// Looking a row up in a list costs about as much as adding this many of its
/// postings up.
const LOOK_UP_COST: usize = 16;

/// By slot, of one window.
type Sums = [f64; WINDOW];

/// What a search needs and the next one can use again.
pub(crate) struct Scratch {
    /// All unmet between windows.
    sums: Box<Sums>,
    /// Slots that can still be among the best, ascending.
    candidates: Vec<u32>,
    best: Best,
}

impl Default for Scratch {
    fn default() -> Self {
        let sums: Box<[f64]> = vec![UNMET; WINDOW].into();
        let sums = sums.try_into().expect("as many as were made");
        Self { sums, candidates: Vec::new(), best: Best::default() }
    }
}

impl Inverted {
    /// The `k` rows with the largest inner products with the query, best
    /// first, of equal scores the lower slot.
    ///
    /// A row that shares no position with the query is not found, whatever
    /// the others score. With a floor, only rows that score above it are.
    pub(crate) fn search(
        &self,
        query: &[(u32, f32)],
        k: usize,
        floor: Option<f32>,
        accept: impl Fn(u32) -> bool,
        scratch: &mut Scratch,
    ) -> Vec<(u32, f32)> {
        if k == 0 {
            return Vec::new();
        }
        let cursor = |&(index, weight): &(u32, f32)| Some(Cursor::new(self.postings(index)?, weight));
        let mut lists: Vec<Cursor> = query.iter().filter_map(cursor).collect();
        lists.sort_by(|a, b| a.bound.total_cmp(&b.bound));
        scratch.best.start(k, floor);
        // What rounding can add to a sum of bounds, generously.
        let slack = lists.iter().map(|list| list.largest_part).sum::<f64>() * 1e-12;
        Search { lists, slack, from: 0, end: self.end, accept, scratch }.run()
    }
}

struct Search<'a, Accept> {
    /// By what they can add to a score, least first.
    lists: Vec<Cursor<'a>>,
    slack: f64,
    /// No window is before this slot.
    from: u32,
    end: u32,
    accept: Accept,
    scratch: &'a mut Scratch,
}

impl<Accept: Fn(u32) -> bool> Search<'_, Accept> {
    fn run(mut self) -> Vec<(u32, f32)> {
        while let Some(window) = self.next_window() {
            for list in &mut self.lists {
                list.enter(window);
            }
            let (optional, rest) = self.optional(|list| list.window_bound);
            let met = self.lists[optional..].iter_mut().map(|list| list.add_up(&mut self.scratch.sums)).sum();
            if optional == 0 && window.is_full(met) {
                self.offer_all(window);
            } else {
                self.collect(window, met, rest);
                self.complete(optional, rest);
                self.offer();
            }
            self.clear(window, met);
            self.from = window.last + 1;
        }
        self.scratch.best.take()
    }

    /// The next window in which some row may score above the threshold.
    fn next_window(&mut self) -> Option<Window> {
        let (optional, _) = self.optional(|list| list.bound);
        let slots = self.lists[optional..].iter_mut().filter_map(|list| {
            list.seek(self.from);
            list.slot()
        });
        // Damaged slots may not ascend; windows do.
        let next = slots.min()?.max(self.from);
        let first = next & !(WINDOW as u32 - 1);
        (next < self.end).then(|| Window { first, last: (first | (WINDOW as u32 - 1)).min(self.end - 1) })
    }

    /// How many lists, the least ones, can together not lift a row above the
    /// threshold, and what they can add to a row that is in others.
    fn optional(&self, bound: impl Fn(&Cursor) -> f64) -> (usize, f64) {
        let threshold = f64::from(self.scratch.best.threshold());
        let mut rest = 0.0;
        for (count, list) in self.lists.iter().enumerate() {
            let with = rest + bound(list);
            if with + self.slack > threshold {
                return (count, rest);
            }
            rest = with;
        }
        (self.lists.len(), rest)
    }

    /// Makes candidates of the rows that can still score above the threshold.
    fn collect(&mut self, window: Window, met: usize, rest: f64) {
        let Scratch { sums, candidates, best } = &mut *self.scratch;
        let needed = f64::from(best.threshold()) - rest - self.slack;
        candidates.clear();
        if window.is_full(met) {
            return each_met(window, sums, needed, |slot, _| {
                candidates.push(slot);
                needed
            });
        }
        let added = self.lists.iter().flat_map(Cursor::added);
        candidates.extend(added.filter(|&slot| sums[place(slot)] >= needed));
        candidates.sort_unstable();
        candidates.dedup();
    }

    /// Completes the sums of the candidates by the optional lists, those that
    /// can add most first, and drops candidates that fall behind.
    fn complete(&mut self, optional: usize, mut rest: f64) {
        let Scratch { sums, candidates, best } = &mut *self.scratch;
        if optional > 0 {
            candidates.retain(|&slot| (self.accept)(slot));
        }
        let threshold = f64::from(best.threshold());
        for list in self.lists[..optional].iter_mut().rev() {
            if candidates.is_empty() {
                return;
            }
            rest -= list.window_bound;
            let postings = list.window_len();
            if candidates.len() * LOOK_UP_COST < postings {
                candidates.iter().for_each(|&slot| sums[place(slot)] += list.part_of(slot));
            } else {
                list.add_up(sums);
            }
            // Few postings change too little to look at every candidate again.
            if candidates.len() <= postings {
                let needed = threshold - rest - self.slack;
                candidates.retain(|&slot| sums[place(slot)] >= needed);
            }
        }
    }

    fn offer(&mut self) {
        let Scratch { sums, candidates, best } = &mut *self.scratch;
        for &slot in candidates.iter() {
            let score = sums[place(slot)] as f32;
            if best.has_room_for(slot, score) && slot < self.end && (self.accept)(slot) {
                best.offer(slot, score);
            }
        }
    }

    /// As [`collect`](Self::collect) and [`offer`](Self::offer) where sums are
    /// complete already; the threshold rises on the way.
    fn offer_all(&mut self, window: Window) {
        let Scratch { sums, best, .. } = &mut *self.scratch;
        let needed = f64::from(best.threshold()) - self.slack;
        each_met(window, sums, needed, |slot, sum| {
            let score = sum as f32;
            if best.has_room_for(slot, score) && slot < self.end && (self.accept)(slot) {
                best.offer(slot, score);
            }
            f64::from(best.threshold()) - self.slack
        });
    }

    fn clear(&mut self, window: Window, met: usize) {
        let sums = &mut self.scratch.sums;
        if window.is_full(met) {
            sums[window.places()].fill(UNMET);
            return;
        }
        self.lists.iter().flat_map(Cursor::added).for_each(|slot| sums[place(slot)] = UNMET);
    }
}

/// A slot's place in its window.
fn place(slot: u32) -> usize {
    slot as usize % WINDOW
}

/// Visits every row of the window whose sum is at least what is needed; a
/// visit says what is needed from then on.
fn each_met(window: Window, sums: &Sums, mut needed: f64, mut visit: impl FnMut(u32, f64) -> f64) {
    const STEP: usize = 16;
    for (step, sums) in sums[window.places()].chunks(STEP).enumerate() {
        // Most steps hold no such row; this count of them has no branches.
        if sums.iter().map(|&sum| usize::from(sum >= needed)).sum::<usize>() == 0 {
            continue;
        }
        for (at, &sum) in sums.iter().enumerate() {
            if sum >= needed && sum.to_bits() != UNMET.to_bits() {
                needed = visit(window.first + (step * STEP + at) as u32, sum);
            }
        }
    }
}

#[derive(Clone, Copy)]
struct Window {
    first: u32,
    last: u32,
}

impl Window {
    /// Where the sums of its slots are.
    fn places(self) -> RangeInclusive<usize> {
        place(self.first)..=place(self.last)
    }

    /// Whether so many postings are there that going through all sums costs
    /// less than going through the postings again.
    fn is_full(self, postings: usize) -> bool {
        postings >= (self.last - self.first) as usize / 8
    }
}

/// A posting list on its way through the slots.
struct Cursor<'a> {
    slots: &'a [u32],
    values: &'a [f32],
    last_slots: &'a [u32],
    /// The value of each block that a row gains most by.
    block_bounds: &'a [f32],
    weight: f64,
    /// The most that a row can gain by this list, in it or not.
    bound: f64,
    window_bound: f64,
    largest_part: f64,
    /// All postings before this one are done with.
    at: usize,
    /// The postings of the window begin and end here.
    window: Range<usize>,
    /// Whether those of the window are in the sums.
    is_added: bool,
}

impl<'a> Cursor<'a> {
    fn new(postings: Postings<'a>, weight: f32) -> Self {
        let weight = f64::from(weight);
        let [smallest, largest] = postings.values_within.map(|value| weight * f64::from(value));
        Self {
            slots: postings.slots,
            values: postings.values,
            last_slots: postings.last_slots,
            block_bounds: if weight < 0.0 { postings.smallest } else { postings.largest },
            weight,
            bound: smallest.max(largest).max(0.0),
            window_bound: 0.0,
            largest_part: smallest.abs().max(largest.abs()),
            at: 0,
            window: 0..0,
            is_added: false,
        }
    }

    fn slot(&self) -> Option<u32> {
        self.slots.get(self.at).copied()
    }

    /// Moves to the first posting of the window and bounds what is in it.
    fn enter(&mut self, window: Window) {
        self.seek(window.first);
        self.is_added = false;
        self.window = self.at..self.slots.len();
        let mut bound = 0.0f64;
        for block in self.at / BLOCK..self.last_slots.len() {
            bound = bound.max(self.weight * f64::from(self.block_bounds[block]));
            if self.last_slots[block] >= window.last {
                // The slots of this block, which may begin before `at`.
                let start = self.at.max(block * BLOCK);
                let in_block = &self.slots[start..self.slots.len().min((block + 1) * BLOCK)];
                self.window.end = start + in_block.partition_point(|&slot| slot <= window.last);
                break;
            }
        }
        self.window_bound = bound;
    }

    fn window_len(&self) -> usize {
        self.window.len()
    }

    /// The slots whose parts of this list are in the sums.
    fn added(&self) -> impl Iterator<Item = u32> + '_ {
        let added = if self.is_added { self.window.clone() } else { 0..0 };
        self.slots[added].iter().copied()
    }

    /// Moves to the first posting at or after a slot.
    fn seek(&mut self, slot: u32) {
        self.at = self.first_from(slot);
    }

    fn first_from(&self, slot: u32) -> usize {
        let behind = self.last_slots[self.at / BLOCK..].iter().take_while(|&&last| last < slot).count();
        let start = if behind == 0 { self.at } else { (self.at / BLOCK + behind) * BLOCK };
        let Some(from) = self.slots.get(start..) else { return self.slots.len() };
        let left_in_block = BLOCK - start % BLOCK;
        start + from[..from.len().min(left_in_block)].partition_point(|&other| other < slot)
    }

    /// Adds the postings of the window to the sums; how many there are.
    fn add_up(&mut self, sums: &mut Sums) -> usize {
        self.is_added = true;
        self.at = self.window.end;
        let postings = self.slots[self.window.clone()].iter().zip(&self.values[self.window.clone()]);
        for (&slot, &value) in postings {
            sums[place(slot)] += self.weight * f64::from(value) + 0.0;
        }
        self.window.len()
    }

    /// What the row at a slot, not before the last one asked for, gains.
    fn part_of(&mut self, slot: u32) -> f64 {
        self.seek(slot);
        if self.slot() == Some(slot) { self.weight * f64::from(self.values[self.at]) } else { 0.0 }
    }
}
