//! Random vectors with clusters, for benchmarks that need no data set.

use rand::{Rng, SeedableRng, rngs::StdRng};

/// `len` rows of `dim` values around 200 centres, the same for the same seed.
pub fn clustered(dim: usize, len: usize, seed: u64) -> Vec<f32> {
    let mut random = StdRng::seed_from_u64(1);
    let centres: Vec<f32> = (0..200 * dim).map(|_| random.random_range(-1.0..1.0)).collect();
    let mut random = StdRng::seed_from_u64(seed);
    let mut values = Vec::with_capacity(len * dim);
    for _ in 0..len {
        let centre = random.random_range(0..200) * dim;
        for x in &centres[centre..centre + dim] {
            values.push(x + random.random_range(-0.8f32..0.8));
        }
    }
    values
}
