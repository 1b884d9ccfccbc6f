//! From the hidden states of a text's tokens to one vector.

use super::kernels;

/// One way to reduce the rows of a text to one row.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Pool {
    /// The first token, `[CLS]`.
    Cls,
    /// The largest value of each component.
    Max,
    /// The mean over all tokens, special ones included.
    Mean,
    /// The sum divided by the square root of the number of tokens.
    MeanSqrt,
    /// The mean with weights 1, 2, 3 and so on.
    WeightedMean,
    /// The last token.
    Last,
}

/// The pools of a model, in the order their results are joined, and whether
/// the joined vector gets length 1.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Pooling {
    pub(super) pools: Vec<Pool>,
    pub(super) normalize: bool,
}

impl Pooling {
    /// The dimensions of the vector for a model with `hidden` of them.
    pub(super) fn dim(&self, hidden: usize) -> usize {
        self.pools.len() * hidden
    }

    /// The names of the pools, as the files of models have them.
    pub(super) fn name(&self) -> String {
        let name = |pool: &Pool| match pool {
            Pool::Cls => "cls",
            Pool::Max => "max",
            Pool::Mean => "mean",
            Pool::MeanSqrt => "mean_sqrt_len_tokens",
            Pool::WeightedMean => "weightedmean",
            Pool::Last => "lasttoken",
        };
        self.pools.iter().map(name).collect::<Vec<_>>().join("+")
    }

    /// The vector of one text; `rows` holds `hidden` values per token.
    pub(super) fn apply(&self, rows: &[f32], hidden: usize) -> Vec<f32> {
        let mut vector = Vec::with_capacity(self.dim(hidden));
        for pool in &self.pools {
            match pool {
                Pool::Cls => vector.extend_from_slice(&rows[..hidden]),
                Pool::Last => vector.extend_from_slice(&rows[rows.len() - hidden..]),
                Pool::WeightedMean => vector.extend(weighted_mean(rows, hidden)),
                Pool::Max => vector.extend(fold(rows, hidden, f32::max)),
                Pool::Mean => {
                    let tokens = (rows.len() / hidden) as f32;
                    vector.extend(fold(rows, hidden, |a, b| a + b).iter().map(|x| x / tokens));
                }
                Pool::MeanSqrt => {
                    let tokens = (rows.len() / hidden) as f32;
                    let by = tokens.sqrt();
                    vector.extend(fold(rows, hidden, |a, b| a + b).iter().map(|x| x / by));
                }
            }
        }
        if self.normalize {
            kernels::normalize(&mut vector);
        }
        vector
    }
}

fn fold(rows: &[f32], hidden: usize, join: impl Fn(f32, f32) -> f32) -> Vec<f32> {
    let mut sum = rows[..hidden].to_vec();
    for row in rows[hidden..].chunks_exact(hidden) {
        for (into, value) in sum.iter_mut().zip(row) {
            *into = join(*into, *value);
        }
    }
    sum
}

fn weighted_mean(rows: &[f32], hidden: usize) -> Vec<f32> {
    let mut sum = vec![0.0; hidden];
    let mut weight = 0.0;
    for row in rows.chunks_exact(hidden) {
        weight += 1.0;
        for (into, value) in sum.iter_mut().zip(row) {
            *into += weight * value;
        }
    }
    let tokens = (rows.len() / hidden) as f32;
    let total = tokens * (tokens + 1.0) / 2.0;
    sum.iter().map(|x| x / total).collect()
}

#[cfg(test)]
mod tests {
    use super::{Pool, Pooling};

    fn pool(pools: &[Pool], normalize: bool) -> Vec<f32> {
        let rows = [1.0, -4.0, 3.0, 2.0, 2.0, -1.0, 4.0, -5.0];
        Pooling { pools: pools.to_vec(), normalize }.apply(&rows, 2)
    }

    #[test]
    fn each_pool_reduces_the_rows_its_own_way() {
        assert_eq!(pool(&[Pool::Cls], false), [1.0, -4.0]);
        assert_eq!(pool(&[Pool::Max], false), [4.0, 2.0]);
        assert_eq!(pool(&[Pool::Mean], false), [2.5, -2.0]);
        assert_eq!(pool(&[Pool::MeanSqrt], false), [5.0, -4.0]);
        assert_eq!(pool(&[Pool::WeightedMean], false), [2.9, -2.3]);
        assert_eq!(pool(&[Pool::Last], false), [4.0, -5.0]);
    }

    #[test]
    fn several_pools_are_joined_and_the_whole_is_normalized() {
        let joined = pool(&[Pool::Cls, Pool::Mean], true);
        assert_eq!(joined.len(), 4);
        let length: f32 = joined.iter().map(|x| x * x).sum();
        assert!((length - 1.0).abs() < 1e-6);
    }
}
