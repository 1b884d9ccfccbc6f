//! How long single calls took.

use std::time::{Duration, Instant};

/// The times of calls that ran one after the other on one thread.
#[derive(Debug, Clone, Default)]
pub struct Times {
    micros: Vec<f64>,
}

impl Times {
    /// Times measured elsewhere, in microseconds.
    pub fn of_micros(micros: Vec<f64>) -> Self {
        Self { micros }
    }

    /// Runs a call and keeps its time.
    pub fn time<T>(&mut self, call: impl FnOnce() -> T) -> T {
        let started = Instant::now();
        let result = call();
        self.push(started.elapsed());
        result
    }

    /// Keeps a time.
    pub fn push(&mut self, time: Duration) {
        self.micros.push(time.as_secs_f64() * 1e6);
    }

    /// How many calls.
    pub fn len(&self) -> usize {
        self.micros.len()
    }

    /// Whether nothing was timed.
    pub fn is_empty(&self) -> bool {
        self.micros.is_empty()
    }

    /// Calls per second of their own time; what lies between them is not counted.
    pub fn per_second(&self) -> f64 {
        self.micros.len() as f64 * 1e6 / self.micros.iter().sum::<f64>()
    }

    /// Microseconds within which this part of the calls, 0 to 1, was done.
    pub fn micros_at(&self, part: f64) -> f64 {
        let mut sorted = self.micros.clone();
        sorted.sort_unstable_by(f64::total_cmp);
        let last = sorted.len().saturating_sub(1);
        sorted.get((last as f64 * part) as usize).copied().unwrap_or(f64::NAN)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_hundred_times_have_their_middle_and_their_end() {
        let times = Times::of_micros((0..=100).rev().map(f64::from).collect());
        assert_eq!((times.micros_at(0.5), times.micros_at(0.99)), (50.0, 99.0));
        assert!((times.per_second() - 20_000.0).abs() < 1e-6);
        assert!(Times::default().micros_at(0.5).is_nan());
    }
}
