//! How many rows a filter is expected to match, before it is asked.
//!
//! Indexes count their keys; a condition without one is tried on a few rows.
//! Conditions are taken to be independent, and bounds hold at both ends.

use std::cell::OnceCell;

use super::{Branch, By, FilterPart, Leaf, Matcher, Row, each_leaf};
use crate::fields::Estimate;
use crate::filter::prepared::{Clauses, Node};

/// Rows whose payload is read for an estimate.
const SAMPLE: u32 = 256;

impl Matcher<'_> {
    /// How many of the part's live rows match.
    pub(crate) fn estimate(&self, live: usize) -> Estimate {
        let len = self.part.len() as usize;
        let whole = match self.bounds.get() {
            Some(bounds) if bounds.possible.is_none() => Estimate::exactly(bounds.sure.count()),
            _ => {
                self.sample();
                self.tree.estimate(self.part)
            }
        };
        let dead = len.saturating_sub(live);
        let (min, max) = (whole.min.saturating_sub(dead), whole.max.min(live));
        let expected = (whole.expected as f64 * live as f64 / len.max(1) as f64).round() as usize;
        Estimate { min, expected: expected.clamp(min.min(max), max), max }
    }

    /// Tries the conditions that no index counts on some rows, once.
    pub(super) fn sample(&self) {
        let mut leaves = Vec::new();
        each_leaf(&self.tree, &mut |leaf| {
            if leaf.sampled.get().is_none() && leaf.counted().is_none() && leaf.source.by >= By::Index {
                leaves.push(leaf);
            }
        });
        leaves.retain(|leaf| !matches!(leaf.node, Node::Slice(_)));
        let len = self.part.len();
        if leaves.is_empty() || len == 0 {
            return;
        }
        let mut passed = vec![0usize; leaves.len()];
        let rows = len.min(SAMPLE);
        for number in 0..rows {
            let slot = (u64::from(number) * u64::from(len) / u64::from(rows)) as u32;
            let row = Row { part: self.part, slot, payload: OnceCell::new() };
            for (passed, leaf) in passed.iter_mut().zip(&leaves) {
                *passed += usize::from(leaf.decide(&row));
            }
        }
        for (passed, leaf) in passed.into_iter().zip(leaves) {
            let _ = leaf.sampled.set(passed as f64 / f64::from(rows));
        }
    }
}

impl Leaf<'_> {
    /// What an index counts, all checks together.
    fn counted(&self) -> Option<Estimate> {
        let (Node::Field(field), Some(index)) = (self.node, self.source.index) else {
            return None;
        };
        let counted: Option<Vec<Estimate>> = field.checks.iter().map(|check| index.estimate(check)).collect();
        Some(any(&counted?, index.rows() as usize))
    }

    pub(super) fn estimate(&self, part: &dyn FilterPart) -> Estimate {
        let len = part.len() as usize;
        match self.node {
            Node::HasId(_) | Node::HasVector(_) => Estimate::exactly(self.bounds(part).sure.count()),
            Node::Slice(slice) => Estimate { min: 0, expected: len / slice.total() as usize, max: len },
            _ => self.counted().unwrap_or_else(|| {
                let share = self.sampled.get().copied().unwrap_or(0.5);
                let expected = (share * len as f64).round() as usize;
                // A sample of every row is a count.
                let (min, max) = if len as u32 <= SAMPLE && self.sampled.get().is_some() {
                    (expected, expected)
                } else {
                    (0, len)
                };
                Estimate { min, expected, max }
            }),
        }
    }
}

impl Clauses<Branch<'_>> {
    fn estimate(&self, part: &dyn FilterPart) -> Estimate {
        let len = part.len() as usize;
        let of = |branches: &[Branch<'_>]| -> Vec<Estimate> {
            branches
                .iter()
                .map(|branch| match branch {
                    Branch::Leaf(leaf) => leaf.estimate(part),
                    Branch::Filter(tree) => tree.estimate(part),
                })
                .collect()
        };
        let mut all = of(&self.must);
        all.extend(of(&self.must_not).into_iter().map(|one| not(one, len)));
        if !self.should.is_empty() {
            all.push(any(&of(&self.should), len));
        }
        if let Some((enough, branches)) = &self.min_should {
            all.push(at_least(*enough, &of(branches), len));
        }
        both(&all, len)
    }
}

fn share(one: Estimate, len: usize) -> f64 {
    one.expected as f64 / len.max(1) as f64
}

fn within(min: usize, share: f64, max: usize, len: usize) -> Estimate {
    let max = max.min(len);
    let min = min.min(max);
    Estimate { min, expected: ((share * len as f64).round() as usize).clamp(min, max), max }
}

fn not(one: Estimate, len: usize) -> Estimate {
    let rest = |count: usize| len.saturating_sub(count);
    Estimate { min: rest(one.max), expected: rest(one.expected), max: rest(one.min) }
}

fn both(all: &[Estimate], len: usize) -> Estimate {
    let missed: usize = all.iter().map(|one| len.saturating_sub(one.min)).sum();
    let max = all.iter().map(|one| one.max).min().unwrap_or(len);
    let share = all.iter().map(|one| share(*one, len)).product();
    within(len.saturating_sub(missed), share, max, len)
}

fn any(all: &[Estimate], len: usize) -> Estimate {
    let min = all.iter().map(|one| one.min).max().unwrap_or(0);
    let max = all.iter().map(|one| one.max).sum();
    let missed: f64 = all.iter().map(|one| 1.0 - share(*one, len)).product();
    within(min, 1.0 - missed, max, len)
}

fn at_least(enough: usize, all: &[Estimate], len: usize) -> Estimate {
    if enough == 0 {
        return Estimate::exactly(len);
    }
    // The chance of 0, 1, 2, .. conditions to hold.
    let mut chances = vec![1.0];
    for one in all {
        let share = share(*one, len);
        chances.push(0.0);
        for count in (0..chances.len()).rev() {
            let with_it = if count > 0 { chances[count - 1] * share } else { 0.0 };
            chances[count] = chances[count] * (1.0 - share) + with_it;
        }
    }
    let share = chances.iter().skip(enough).sum();
    within(0, share, all.iter().map(|one| one.max).sum::<usize>() / enough, len)
}
