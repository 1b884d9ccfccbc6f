//! Which of the near ones become links.
//!
//! A link to a candidate is left out when another link is so much nearer to the
//! candidate that a walk gets there by way of it (Malkov and Yashunin 2016,
//! algorithm 4; with the factor alpha, Subramanya et al. 2019, RobustPrune).

#![allow(clippy::inline_always)] // Parts of loops that are compiled per instruction set.

use super::codes::BuildCodes;
use crate::simd::Simd;

/// A candidate for a link: how far it is, and where.
pub(super) type Candidate = (u32, u32);

/// Keeps at most `most` of the candidates, which come nearest first.
///
/// A candidate stays if its distance is below `alpha` times that to each kept
/// before it. Free room stays free: filled with the nearest, rows of clusters
/// lose the links that lead out of them.
#[inline(always)]
pub(super) fn prune<S: Simd>(
    codes: &BuildCodes<'_>,
    candidates: &[Candidate],
    most: usize,
    alpha: f32,
    scratch: &mut PruneScratch,
) {
    let PruneScratch { kept, query } = scratch;
    kept.clear();
    for &(distance, position) in candidates {
        if kept.len() == most {
            break;
        }
        let turned = codes.turned(position, query);
        let mut near = false;
        for &(_, other) in &*kept {
            let apart = codes.apart::<S>(&turned, other);
            // Whole numbers lose nothing.
            near = if alpha == 1.0 { apart <= distance } else { alpha * apart as f32 <= distance as f32 };
            if near {
                break;
            }
        }
        if !near {
            kept.push((distance, position));
        }
    }
}

/// The memory of pruning.
#[derive(Debug, Default)]
pub(super) struct PruneScratch {
    /// What stays, nearest first.
    pub(super) kept: Vec<Candidate>,
    query: Vec<u8>,
}
