//! Speed by recall: the points that no other beats, and what lies between them.

/// Queries per second at some recall.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Rate {
    /// Between two settings.
    At(f64),
    /// The cheapest setting finds more than was asked for.
    Cheapest(f64),
}

impl Rate {
    pub(crate) fn value(self) -> f64 {
        match self {
            Self::At(value) | Self::Cheapest(value) => value,
        }
    }
}

/// Recall and queries per second of settings that no other setting beats in both.
#[derive(Debug, Default)]
pub(crate) struct Curve {
    /// Recall grows, speed falls.
    pub(crate) points: Vec<(f64, f64)>,
}

impl Curve {
    pub(crate) fn new(mut points: Vec<(f64, f64)>) -> Self {
        points.sort_by(|a, b| b.1.total_cmp(&a.1).then(b.0.total_cmp(&a.0)));
        let mut best = f64::MIN;
        points.retain(|&(recall, _)| {
            let better = recall > best;
            best = best.max(recall);
            better
        });
        Self { points }
    }

    /// Speed at a recall, log-linear between settings; none if it is not reached.
    pub(crate) fn at(&self, recall: f64) -> Option<Rate> {
        let after = self.points.iter().position(|point| point.0 >= recall)?;
        let (high, slow) = self.points[after];
        let Some(&(low, fast)) = after.checked_sub(1).and_then(|before| self.points.get(before)) else {
            return Some(if high > recall { Rate::Cheapest(slow) } else { Rate::At(slow) });
        };
        let part = (recall - low) / (high - low);
        Some(Rate::At((fast.ln() * (1.0 - part) + slow.ln() * part).exp()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn between_two_settings_the_logarithm_is_straight() {
        let curve = Curve::new(vec![(0.9, 1000.0), (1.0, 10.0), (0.92, 500.0), (0.91, 400.0)]);
        assert_eq!(curve.points, [(0.9, 1000.0), (0.92, 500.0), (1.0, 10.0)]);
        assert_eq!(curve.at(0.8), Some(Rate::Cheapest(1000.0)));
        assert_eq!(curve.at(0.9), Some(Rate::At(1000.0)));
        let middle = curve.at(0.96).map_or(0.0, Rate::value);
        assert!((middle - 5000f64.sqrt()).abs() < 1e-6);
        assert_eq!(Curve::new(vec![(0.9, 1000.0)]).at(0.95), None);
    }
}
