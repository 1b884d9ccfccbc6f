//! Which segments to merge.
//!
//! Two segments of about the same size are merged, so each row is written again
//! about twice for each fourfold growth: a search walks every segment, and a merge
//! makes one graph from several at a fraction of what building it costs. A segment
//! with many dead rows is written again without them.

use crate::config::Options;
use crate::part::Part;

/// How far to go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Aim {
    /// What keeps searches fast for the work it costs.
    Usual,
    /// As few segments as may be, without dead rows.
    Smallest,
}

/// Segments are of about the same size up to this factor.
const FANOUT: usize = 4;
/// So many of about the same size are merged.
const TOGETHER: usize = 2;
/// A segment is written again when more than this share of it is dead.
const MAX_DEAD: f64 = 0.2;
/// And when that is worth a file.
const MIN_DEAD: usize = 1000;

#[derive(Debug, Clone, Copy)]
struct Size {
    number: u64,
    live: usize,
    rows: usize,
}

/// The numbers of the segments to merge next, of these and how many of the rows
/// of each a merge would keep.
pub(crate) fn merge(parts: &[(Part, usize)], options: &Options, aim: Aim) -> Option<Vec<u64>> {
    let size =
        |(part, live): &(Part, usize)| Size { number: part.number, live: *live, rows: part.len() as usize };
    choose(parts.iter().map(size).collect(), options, aim)
}

fn choose(mut sizes: Vec<Size>, options: &Options, aim: Aim) -> Option<Vec<u64>> {
    sizes.sort_unstable_by_key(|size| (size.live, size.number));
    let max = options.max_segment_points;
    let chosen = match aim {
        Aim::Smallest => {
            let small = within(&sizes, max);
            if small.len() > 1 || small.iter().any(|size| size.live < size.rows) { small } else { Vec::new() }
        }
        Aim::Usual => {
            let tier = |size: &Size| tier(size.live, options.seal_points);
            let full = (0..=16).rev().find(|wanted| {
                sizes.iter().filter(|size| tier(size) == *wanted && size.live * 2 <= max).count() >= TOGETHER
            });
            let tiered: Vec<Size> =
                sizes.iter().filter(|size| full.is_some_and(|full| tier(size) <= full)).copied().collect();
            let tiered = within(&tiered, max);
            if tiered.len() > 1 { tiered } else { Vec::new() }
        }
    };
    if !chosen.is_empty() {
        return Some(chosen.iter().map(|size| size.number).collect());
    }
    let wasteful = |size: &&Size| {
        let dead = size.rows - size.live;
        size.live == 0
            || aim == Aim::Smallest && dead > 0
            || dead >= MIN_DEAD && dead as f64 > MAX_DEAD * size.rows as f64
    };
    sizes.iter().find(wasteful).map(|size| vec![size.number])
}

/// The smallest ones that fit into one segment.
fn within(sizes: &[Size], max: usize) -> Vec<Size> {
    let mut sum = 0;
    sizes
        .iter()
        .take_while(|size| {
            sum += size.live;
            sum <= max
        })
        .copied()
        .collect()
}

/// 0 up to `base` points, then one more for each four times as many.
fn tier(live: usize, base: usize) -> u32 {
    let mut tier = 0;
    let mut bound = base.max(1);
    while live > bound && tier < 16 {
        bound = bound.saturating_mul(FANOUT);
        tier += 1;
    }
    tier
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sizes(lives: &[usize]) -> Vec<Size> {
        (1..).zip(lives).map(|(number, live)| Size { number, live: *live, rows: *live }).collect()
    }

    #[test]
    fn two_of_a_size_are_merged_with_all_that_is_smaller() {
        let options = Options { seal_points: 100, max_segment_points: 10_000, ..Options::default() };
        let choose = |lives: &[usize]| choose(sizes(lives), &options, Aim::Usual);
        assert_eq!(choose(&[100, 390, 1_500]), None);
        assert_eq!(choose(&[100, 390, 1_500, 90]), Some(vec![4, 1]));
        assert_eq!(choose(&[390, 400, 1_500, 10]), Some(vec![4, 1, 2]));
        assert_eq!(choose(&[6_000, 7_000, 8_000, 9_000]), None);
    }

    #[test]
    fn merging_ends() {
        let options = Options { seal_points: 10, max_segment_points: 1000, ..Options::default() };
        for aim in [Aim::Usual, Aim::Smallest] {
            let mut segments = Vec::new();
            for number in 0..500 {
                segments.push(Size { number, live: 10, rows: if number % 3 == 0 { 5_000 } else { 10 } });
                let mut rounds = 0;
                while let Some(numbers) = choose(segments.clone(), &options, aim) {
                    let live = segments.iter().filter(|s| numbers.contains(&s.number)).map(|s| s.live).sum();
                    segments.retain(|size| !numbers.contains(&size.number));
                    segments.push(Size { number: 10_000 + number * 100 + rounds, live, rows: live });
                    rounds += 1;
                    assert!(rounds < 20);
                }
            }
            assert!(segments.len() < 16, "{aim:?}: {}", segments.len());
            assert!(segments.iter().all(|size| size.live <= 1000));
        }
    }
}
