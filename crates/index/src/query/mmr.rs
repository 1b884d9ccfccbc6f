//! Maximal marginal relevance; see [`Mmr`](super::Mmr) for the formula.

use cairn_ann::Metric;

use crate::error::Result;
use crate::vector::Vector;

use super::source::{Place, Source};
use crate::similarity::similarity;

/// The settings of a selection, all defaults filled in.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Selection {
    /// One less the diversity.
    pub lambda: f32,
    /// How many of the nearest are looked at.
    pub candidates: usize,
}

/// Picks at most `limit` of the candidates, which come with their raw
/// relevance, best first. Returns them in the order they were picked.
///
/// Time grows with the candidates times the picks.
pub(super) fn select(
    source: &dyn Source,
    using: &str,
    metric: Metric,
    lambda: f32,
    limit: usize,
    candidates: Vec<(Place, f32)>,
) -> Result<Vec<(Place, f32)>> {
    if candidates.len() < 2 {
        return Ok(candidates);
    }
    let mut left = Vec::with_capacity(candidates.len());
    for (place, relevance) in candidates {
        if let Some(vector) = source.comparable(place, using)? {
            left.push(Candidate { place, relevance, vector, nearest_taken: None });
        }
    }
    let mut taken = Vec::new();
    while taken.len() < limit && !left.is_empty() {
        let best = left.remove(best(&left, lambda));
        for candidate in &mut left {
            candidate.note(similarity(metric, &candidate.vector, &best.vector).unwrap_or(0.0));
        }
        taken.push((best.place, best.relevance));
    }
    Ok(taken)
}

struct Candidate {
    place: Place,
    relevance: f32,
    vector: Vector,
    /// The largest similarity to one that was taken.
    nearest_taken: Option<f32>,
}

impl Candidate {
    fn note(&mut self, similarity: f32) {
        let largest = self.nearest_taken.map_or(similarity, |largest| largest.max(similarity));
        self.nearest_taken = Some(largest);
    }

    /// The first pick is by relevance alone.
    fn worth(&self, lambda: f32) -> f32 {
        self.nearest_taken
            .map_or(self.relevance, |nearest| lambda * self.relevance - (1.0 - lambda) * nearest)
    }
}

/// The position of the first of the best.
fn best(candidates: &[Candidate], lambda: f32) -> usize {
    let mut best = 0;
    for at in 1..candidates.len() {
        if candidates[at].worth(lambda) > candidates[best].worth(lambda) {
            best = at;
        }
    }
    best
}
