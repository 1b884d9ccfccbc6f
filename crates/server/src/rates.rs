//! Reads and writes a minute, where strict mode limits them.

use std::collections::HashMap;
use std::time::Instant;

/// How much of its minute each limited collection has used.
#[derive(Default)]
pub(crate) struct Rates {
    buckets: HashMap<(String, bool), Bucket>,
}

struct Bucket {
    left: f64,
    at: Instant,
}

impl Rates {
    /// Takes one of `per_minute`; in seconds, how long to wait where none is
    /// left.
    pub(crate) fn take(
        &mut self,
        collection: &str,
        writes: bool,
        per_minute: u32,
        now: Instant,
    ) -> Result<(), f64> {
        let per_second = f64::from(per_minute) / 60.0;
        let full = f64::from(per_minute);
        let bucket =
            self.buckets.entry((collection.to_owned(), writes)).or_insert(Bucket { left: full, at: now });
        let passed = now.saturating_duration_since(bucket.at).as_secs_f64();
        bucket.left = (bucket.left + passed * per_second).min(full);
        bucket.at = now;
        if bucket.left >= 1.0 {
            bucket.left -= 1.0;
            return Ok(());
        }
        Err((1.0 - bucket.left) / per_second)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn a_minute_has_so_many_and_they_come_back_in_time() {
        let (mut rates, start) = (Rates::default(), Instant::now());
        assert!((0..60).all(|_| rates.take("a", false, 60, start).is_ok()));
        let wait = rates.take("a", false, 60, start).unwrap_err();
        assert!((wait - 1.0).abs() < 1e-6);
        assert!(rates.take("a", true, 60, start).is_ok());
        assert!(rates.take("b", false, 60, start).is_ok());
        assert!(rates.take("a", false, 60, start + Duration::from_millis(1001)).is_ok());
    }
}
