//! A bias of the attention that depends on how far apart two tokens are.
//!
//! Distances are counted exactly near by and in ever wider steps further away
//! (T5, section 2.1). MPNet has one table of biases for all its layers.

use super::config::Config;
use super::weights::Weights;
use crate::Result;

/// Distances from which on all are alike.
const FAR: f32 = 128.0;

/// What is added to the score of two tokens.
pub(super) struct Relative {
    /// For each head, the biases of the distances from `1 - most` to `most - 1`.
    biases: Vec<f32>,
    /// The tokens a text has at most.
    most: usize,
}

impl Relative {
    /// Loads `name`, a table with a row for each bucket of distances and a
    /// column for each head.
    pub(super) fn load(weights: &Weights, name: &str, buckets: usize, config: &Config) -> Result<Relative> {
        let heads = config.heads.queries;
        let table = weights.values(name, &[buckets, heads])?;
        let most = config.positions - config.first_position;
        let mut biases = Vec::with_capacity(heads * (2 * most - 1));
        for head in 0..heads {
            for distance in 1 - most as i64..most as i64 {
                biases.push(table[bucket(distance, buckets) * heads + head]);
            }
        }
        Ok(Relative { biases, most })
    }

    /// The tokens a text has at most.
    pub(super) fn most(&self) -> usize {
        self.most
    }

    /// What is added to the scores of the token `at` with all `tokens` of its
    /// text.
    pub(super) fn row(&self, head: usize, at: usize, tokens: usize) -> &[f32] {
        let first = head * (2 * self.most - 1) + self.most - 1 - at;
        &self.biases[first..][..tokens]
    }
}

/// The row of the table for a token so far behind (or, if negative, before)
/// the one that looks.
fn bucket(distance: i64, buckets: usize) -> usize {
    // Half of the rows are for tokens behind, half of those for exact distances.
    let half = buckets / 2;
    let exact = half / 2;
    let side = if distance > 0 { half } else { 0 };
    let far = distance.unsigned_abs() as usize;
    if far < exact {
        return side + far;
    }
    // In f32 as the reference does it, or the borders would be others.
    let steps = (far as f32 / exact as f32).ln() / (FAR / exact as f32).ln() * (half - exact) as f32;
    side + (exact + steps as usize).min(half - 1)
}

#[cfg(test)]
mod tests {
    use super::bucket;

    #[test]
    fn near_distances_have_buckets_of_their_own_and_far_ones_share_them() {
        let of = |distance| bucket(distance, 32);
        assert_eq!([0, -1, -7, 1, 7].map(of), [0, 1, 7, 17, 23]);
        assert_eq!([-8, -11, -12, -127, -128, -500].map(of), [8, 8, 9, 15, 15, 15]);
        assert_eq!([8, 128, 10_000].map(of), [24, 31, 31]);
        // Where the reference has a new bucket.
        let borders: Vec<i64> = (1..512).filter(|&distance| of(-distance) != of(1 - distance)).collect();
        assert_eq!(borders, [1, 2, 3, 4, 5, 6, 7, 8, 12, 16, 23, 32, 46, 64, 91]);
    }
}
