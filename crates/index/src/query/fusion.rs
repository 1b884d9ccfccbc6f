//! Several scored lists made into one; see [`Fusion`] for the formulas.
//!
//! A place that several lists found has the sum of its scores, added in f32 in
//! the order of the lists. Equal sums keep the order in which they were met.

use std::collections::HashMap;

use crate::error::{Error, Result};

use super::kinds::Fusion;
use super::source::Place;
use super::stage::{Found, Scored};

impl Fusion {
    /// Refuses what cannot be computed for this many lists.
    pub(super) fn check(&self, lists: usize) -> Result<()> {
        let Self::Rrf { k, weights } = self else { return Ok(()) };
        if *k == 0 {
            return Err(Error::Request("rrf.k: value 0 invalid, must be 1 or larger".to_owned()));
        }
        let Some(weights) = weights else { return Ok(()) };
        if weights.len() != lists {
            return Err(Error::Request(format!(
                "RRF weights length ({}) does not match number of prefetches ({lists})",
                weights.len()
            )));
        }
        if weights.iter().any(|weight| !weight.is_finite() || *weight < 0.0) {
            return Err(Error::Request("RRF weights must be finite and not negative".to_owned()));
        }
        Ok(())
    }
}

/// All places of the lists, best first.
pub(super) fn fuse(fusion: &Fusion, lists: &[Found]) -> Vec<Scored> {
    let mut sum = Sum::default();
    for (at, list) in lists.iter().enumerate() {
        let scores = match fusion {
            Fusion::Rrf { k, weights } => {
                ranks(list.scored.len(), *k, weights.as_ref().map_or(1.0, |weights| weights[at]))
            }
            Fusion::Dbsf => distribution(list),
        };
        list.scored.iter().zip(scores).for_each(|(scored, score)| sum.add(scored.place, score));
    }
    let mut fused = sum.scored;
    fused.sort_by(|a, b| b.score.total_cmp(&a.score));
    fused
}

#[derive(Default)]
struct Sum {
    scored: Vec<Scored>,
    at: HashMap<Place, usize>,
}

impl Sum {
    fn add(&mut self, place: Place, score: f32) {
        let at = *self.at.entry(place).or_insert_with(|| {
            self.scored.push(Scored::new(place, 0.0));
            self.scored.len() - 1
        });
        self.scored[at].score += score;
    }
}

fn ranks(length: usize, k: usize, weight: f32) -> Vec<f32> {
    (0..length).map(|position| 1.0 / ((position as f32 + 1.0) / weight + k as f32 - 1.0)).collect()
}

fn distribution(list: &Found) -> Vec<f32> {
    let scores: Vec<f32> = list.scored.iter().map(|scored| scored.score).collect();
    if scores.len() < 2 {
        return vec![0.5; scores.len()];
    }
    let (mean, variance) = mean_and_variance(&scores);
    let reach = 3.0 * variance.sqrt();
    let (min, max) = (mean - reach, mean + reach);
    let normal = |score: &f32| match (score - min) / (max - min) {
        _ if min == max => 0.5,
        part if list.larger_is_better => part,
        part => 1.0 - part,
    };
    scores.iter().map(normal).collect()
}

/// The mean and the sample variance of at least two scores, in one pass
/// (Welford, 1962).
fn mean_and_variance(scores: &[f32]) -> (f32, f32) {
    let (mut mean, mut squares) = (0.0f32, 0.0f32);
    for (count, score) in (1..).zip(scores) {
        let before = score - mean;
        mean += before / count as f32;
        squares += before * (score - mean);
    }
    (mean, squares / (scores.len() as f32 - 1.0))
}
