//! Confidence intervals by resampling the questions.

use serde::{Deserialize, Serialize};

/// A mean and the interval that it stays in for 95 of 100 draws of as many
/// questions.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
pub struct Interval {
    /// The mean over the questions.
    pub mean: f64,
    /// The 2.5th percentile of the means of the draws.
    pub low: f64,
    /// The 97.5th.
    pub high: f64,
}

const DRAWS: usize = 1000;

impl Interval {
    /// The percentile bootstrap (Efron 1979), with draws that are always the
    /// same.
    pub fn of(values: &[f64]) -> Self {
        if values.is_empty() {
            return Self::default();
        }
        let count = values.len();
        let mut random = fastrand::Rng::with_seed(17);
        let mut means: Vec<f64> = (0..DRAWS)
            .map(|_| (0..count).map(|_| values[random.usize(..count)]).sum::<f64>() / count as f64)
            .collect();
        means.sort_by(f64::total_cmp);
        let at = |share: f64| means[((DRAWS - 1) as f64 * share).round() as usize];
        Self { mean: values.iter().sum::<f64>() / count as f64, low: at(0.025), high: at(0.975) }
    }
}

#[cfg(test)]
mod tests {
    use super::Interval;

    #[test]
    fn the_interval_is_that_of_the_normal_distribution_for_many_values() {
        let values: Vec<f64> = (0..400).map(|n| f64::from(n % 2)).collect();
        let got = Interval::of(&values);
        let half = 1.96 * 0.5 / 20.0;
        assert!((got.mean - 0.5).abs() < 1e-12);
        assert!((got.low - (0.5 - half)).abs() < 0.01 && (got.high - (0.5 + half)).abs() < 0.01, "{got:?}");
        let same = Interval::of(&[0.3; 5]);
        assert!((same.low - 0.3).abs() < 1e-9 && (same.high - 0.3).abs() < 1e-9);
        assert_eq!(Interval::of(&[]), Interval::default());
    }
}
