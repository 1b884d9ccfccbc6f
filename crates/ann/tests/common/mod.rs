//! Clustered random rows, and how much of the truth a search finds.
#![allow(dead_code)] // Each test file uses its own part.

use cairn_ann::{FlatRows, Graph, Metric, Neighbor, Rows, Scratch, exact};
use rand::{Rng, SeedableRng, rngs::StdRng};

pub(crate) const ALL: [Metric; 4] = [Metric::Cosine, Metric::Dot, Metric::Euclid, Metric::Manhattan];

/// Rows around 50 centres, lengths between a half and twice, prepared.
pub(crate) fn clustered(metric: Metric, dim: usize, len: usize, seed: u64) -> Vec<f32> {
    let mut centres = StdRng::seed_from_u64(1);
    let centres: Vec<f32> = (0..50 * dim).map(|_| normal(&mut centres)).collect();
    let mut random = StdRng::seed_from_u64(seed);
    let mut values = Vec::with_capacity(len * dim);
    for _ in 0..len {
        let centre = random.random_range(0..50) * dim;
        let length = random.random_range(0.5..2.0);
        let row = centres[centre..centre + dim].iter();
        let mut row: Vec<f32> = row.map(|x| length * (x + 0.7 * normal(&mut random))).collect();
        metric.prepare(&mut row);
        values.extend(row);
    }
    values
}

/// Nearly of the normal distribution.
pub(crate) fn normal(random: &mut StdRng) -> f32 {
    (0..12).map(|_| random.random_range(-0.5f32..0.5)).sum()
}

/// The part of the true `k` nearest that `search` finds over all queries.
///
/// A neighbour as near as the true one counts, whichever of equals it is.
pub(crate) fn recall(
    metric: Metric,
    rows: &FlatRows,
    queries: &FlatRows,
    k: usize,
    mut search: impl FnMut(&[f32]) -> Vec<Neighbor>,
) -> f64 {
    let mut found = 0;
    for query in 0..queries.len() as u32 {
        let query = queries.values(query);
        let truth = exact(metric, rows, query, k, 0..rows.len() as u32);
        let worst = truth.last().expect("there are rows").distance;
        let near = search(query);
        found += near.iter().filter(|near| near.distance <= worst).count();
    }
    found as f64 / (k * queries.len()) as f64
}

/// A search that takes everything, with scratch of its own.
pub(crate) fn search(
    graph: &Graph,
    metric: Metric,
    rows: &FlatRows,
    query: &[f32],
    k: usize,
    ef: usize,
) -> Vec<Neighbor> {
    graph.search(metric, rows, query, k, ef, |_| true, &mut Scratch::new())
}
