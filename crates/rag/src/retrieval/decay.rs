//! What is old counts less.

use cairn_index::DateTime;
use serde_json::{Map, Value};

use super::options::Decay;

const DAY_MICROS: f64 = 86_400.0 * 1e6;

/// What a passage's score is multiplied with, 0 to 1; `now` in microseconds
/// since 1970. A date in the future is as good as now.
pub(crate) fn factor(decay: &Decay, metadata: &Map<String, Value>, now: i64) -> f32 {
    let half_lives = date(metadata, &decay.field).map_or(1.0, |date| {
        ((now - date).max(0) as f64 / DAY_MICROS / f64::from(decay.half_life_days)) as f32
    });
    1.0 - decay.weight + decay.weight * 0.5f32.powf(half_lives)
}

/// The date below a path such as `published` or `about.published`.
fn date(metadata: &Map<String, Value>, field: &str) -> Option<i64> {
    let mut keys = field.split('.');
    let mut value = metadata.get(keys.next()?)?;
    for key in keys {
        value = value.get(key)?;
    }
    match value {
        Value::String(text) => text.trim().parse::<DateTime>().ok().map(|date| date.micros()),
        Value::Number(seconds) => seconds.as_f64().map(|seconds| (seconds * 1e6) as i64),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn each_half_life_halves_what_ages() {
        let decay = Decay { field: "about.published".to_owned(), half_life_days: 10.0, weight: 0.8 };
        let now = "2026-03-21T00:00:00Z".parse::<DateTime>().unwrap().micros();
        let of = |date: Value| {
            let metadata = json!({ "about": { "published": date } });
            factor(&decay, metadata.as_object().unwrap(), now)
        };
        for (date, want) in [
            (json!("2026-03-21T00:00:00Z"), 1.0),
            (json!("2026-03-11"), 0.2 + 0.4),
            (json!("2026-03-01T00:00:00Z"), 0.2 + 0.2),
            (json!("2030-01-01"), 1.0),
            (json!(now / 1_000_000), 1.0),
            // No date counts as one half-life.
            (json!("soon"), 0.6),
            (json!(null), 0.6),
        ] {
            let got = of(date.clone());
            assert!((got - want).abs() < 1e-4, "{date}: {got}, wanted {want}");
        }
    }
}
