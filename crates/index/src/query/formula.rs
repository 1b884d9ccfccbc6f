//! Expressions computed for one point after another.
//!
//! A variable's value is the point's, else the formula's default, else an
//! error that names the variable. A score that no prefetch gave is 0.

use std::borrow::Cow;
use std::cell::OnceCell;
use std::collections::{HashMap, HashSet};
use std::fmt::Display;

use serde_json::Value;

use crate::error::{Error, Result};
use crate::filter::Filter;
use crate::filter::geo::GeoPoint;
use crate::filter::time::micros;
use crate::path::Path;
use crate::point::Payload;

use super::expression::{Decay, Expression};
use super::kinds::Formula;
use super::source::{Place, Source};
use super::stage::Found;
use super::values::flat_values;

impl Formula {
    /// Refuses what no point could make computable.
    pub(super) fn check(&self) -> Result<()> {
        for variable in self.defaults.keys() {
            Variable::read(variable)?;
        }
        self.expression.check()
    }
}

enum Variable {
    Score(usize),
    Payload(Path),
}

impl Variable {
    fn read(text: &str) -> Result<Self> {
        let Some(reserved) = text.strip_prefix('$') else {
            let invalid = |_| Error::Request(format!("Invalid payload variable: {text}"));
            return text.parse().map(Self::Payload).map_err(invalid);
        };
        let position = match reserved.strip_prefix("score") {
            Some("") => Some(0),
            Some(index) => {
                index.strip_prefix('[').and_then(|i| i.strip_suffix(']')).and_then(|i| i.parse().ok())
            }
            None => return Err(Error::Request(format!("Invalid reserved word: {text}"))),
        };
        position.map(Self::Score).ok_or_else(|| Error::Request(format!("Invalid reserved variable: {text}")))
    }
}

/// A point being scored. Its payload is read once, if it is needed at all.
struct Point<'p> {
    place: Place,
    payload: OnceCell<Cow<'p, Payload>>,
}

impl<'p> Point<'p> {
    fn payload(&self, source: &'p dyn Source) -> Result<&Payload> {
        if let Some(payload) = self.payload.get() {
            return Ok(payload);
        }
        let payload = source.payload(self.place)?;
        Ok(self.payload.get_or_init(|| payload))
    }
}

/// A formula with everything its variables need.
pub(super) struct Scorer<'q> {
    source: &'q dyn Source,
    expression: &'q Expression,
    /// Of each prefetch.
    scores: Vec<HashMap<Place, f32>>,
    /// Of each condition in the expression, the candidates that match.
    conditions: Vec<(&'q Filter, HashSet<Place>)>,
    default_scores: HashMap<usize, f64>,
    default_values: Vec<(Path, &'q Value)>,
}

impl<'q> Scorer<'q> {
    pub(super) fn new(
        source: &'q dyn Source,
        formula: &'q Formula,
        prefetched: &[Found],
        candidates: &[Place],
    ) -> Result<Self> {
        let scores = prefetched
            .iter()
            .map(|found| found.scored.iter().map(|scored| (scored.place, scored.score)).collect());
        let mut scorer = Self {
            source,
            expression: &formula.expression,
            scores: scores.collect(),
            conditions: Vec::new(),
            default_scores: HashMap::new(),
            default_values: Vec::new(),
        };
        for filter in formula.expression.conditions() {
            let matching = source.matching(candidates, filter)?;
            scorer.conditions.push((filter, matching.into_iter().collect()));
        }
        for (variable, value) in &formula.defaults {
            match Variable::read(variable)? {
                Variable::Score(position) => {
                    scorer.default_scores.extend(value.as_f64().map(|value| (position, value)));
                }
                Variable::Payload(path) => scorer.default_values.push((path, value)),
            }
        }
        Ok(scorer)
    }

    /// The score of a point.
    ///
    /// # Errors
    /// [`Error::Request`] if a variable has no value of the right kind, or a
    /// number is not finite.
    pub(super) fn score(&self, place: Place) -> Result<f32> {
        let point = Point { place, payload: OnceCell::new() };
        let precise = self.value(self.expression, &point)?;
        let score = precise as f32;
        finite(f64::from(score), || format!("{precise} as f32"))?;
        Ok(score)
    }

    fn value(&self, expression: &Expression, point: &Point<'q>) -> Result<f64> {
        let value = |of: &Expression| self.value(of, point);
        match expression {
            Expression::Number(number) => Ok(*number),
            Expression::Score(position) => Ok(self.prefetched(*position, point.place)),
            Expression::Payload(path) => {
                self.payload(path, point, "number", |value| value.as_f64().ok_or("Value is not a number"))
            }
            Expression::Condition(filter) => Ok(f64::from(self.matches(filter, point.place))),
            Expression::Mult(of) => self.product(of, point),
            Expression::Sum(of) => of.iter().try_fold(0.0, |sum, of| Ok(sum + value(of)?)),
            Expression::Max(of) => of.iter().try_fold(f64::NEG_INFINITY, |max, of| Ok(value(of)?.max(max))),
            Expression::Min(of) => of.iter().try_fold(f64::INFINITY, |min, of| Ok(value(of)?.min(min))),
            Expression::Neg(of) => Ok(-value(of)?),
            Expression::Abs(of) => Ok(value(of)?.abs()),
            Expression::Div { left, right, by_zero_default } => {
                self.quotient(left, right, *by_zero_default, point)
            }
            Expression::Pow { base, exponent } => {
                let (base, exponent) = (value(base)?, value(exponent)?);
                finite(base.powf(exponent), || format!("{base}^{exponent}"))
            }
            Expression::Sqrt(of) => value(of).and_then(|x| finite(x.sqrt(), || format!("√{x}"))),
            Expression::Exp(of) => value(of).and_then(|x| finite(x.exp(), || format!("exp({x})"))),
            Expression::Log10(of) => value(of).and_then(|x| finite(x.log10(), || format!("log10({x})"))),
            Expression::Ln(of) => value(of).and_then(|x| finite(x.ln(), || format!("ln({x})"))),
            Expression::Acosh(of) => value(of).and_then(|x| finite(x.acosh(), || format!("acosh({x})"))),
            Expression::GeoDistance { origin, to } => {
                Ok(origin.metres_to(self.payload(to, point, "geo point", |value| {
                    GeoPoint::of(value).ok_or("Value is not a geo point")
                })?))
            }
            Expression::Datetime(micros) => Ok(seconds(*micros)),
            Expression::DatetimeKey(path) => self.payload(path, point, "datetime", |value| {
                let text = value.as_str().ok_or("value is not a string")?;
                micros(text).map(seconds).ok_or("value is not a datetime")
            }),
            Expression::LinDecay(decay) => {
                let distance = self.distance(decay, point)?;
                Ok((1.0 - (1.0 - decay.midpoint) / decay.scale * distance).max(0.0))
            }
            Expression::ExpDecay(decay) => {
                Ok((decay.midpoint.ln() / decay.scale * self.distance(decay, point)?).exp())
            }
            Expression::GaussDecay(decay) => {
                let distance = self.distance(decay, point)?;
                Ok((decay.midpoint.ln() / decay.scale.powi(2) * distance * distance).exp())
            }
        }
    }

    fn product(&self, factors: &[Expression], point: &Point<'q>) -> Result<f64> {
        let mut product = 1.0;
        for factor in factors {
            let value = self.value(factor, point)?;
            // A factor of 0 guards the ones after it, which may fail.
            if value == 0.0 {
                return Ok(0.0);
            }
            product *= value;
        }
        Ok(product)
    }

    fn quotient(
        &self,
        left: &Expression,
        right: &Expression,
        by_zero: Option<f64>,
        point: &Point<'q>,
    ) -> Result<f64> {
        let left = self.value(left, point)?;
        if left == 0.0 {
            return Ok(0.0);
        }
        let right = self.value(right, point)?;
        match by_zero {
            Some(default) if right == 0.0 => Ok(default),
            _ => finite(left / right, || format!("{left}/{right}")),
        }
    }

    /// How far a decaying value is from its target.
    fn distance(&self, decay: &Decay, point: &Point<'q>) -> Result<f64> {
        let x = self.value(&decay.x, point)?;
        let target = decay.target.as_ref().map_or(Ok(0.0), |target| self.value(target, point))?;
        Ok((x - target).abs())
    }

    fn matches(&self, filter: &Filter, place: Place) -> bool {
        let of = self.conditions.iter().find(|(of, _)| std::ptr::eq(*of, filter));
        of.is_some_and(|(_, matching)| matching.contains(&place))
    }

    fn prefetched(&self, position: usize, place: Place) -> f64 {
        let given = self.scores.get(position).and_then(|scores| scores.get(&place));
        let default = || self.default_scores.get(&position).copied().unwrap_or(0.0);
        given.map_or_else(default, |score| f64::from(*score))
    }

    fn payload<T, E: Display>(
        &self,
        path: &Path,
        point: &Point<'q>,
        kind: &str,
        read: impl Fn(&Value) -> Result<T, E>,
    ) -> Result<T> {
        let wrong = |reason: &dyn Display| {
            Error::Request(format!(
                "Expected {kind} value for {path} in the payload and/or in the formula defaults. Error: {reason}"
            ))
        };
        let values = flat_values(path, point.payload(self.source)?);
        let value = match values.as_slice() {
            [] => self.default(path).map(Cow::Borrowed),
            [value] => Some(Cow::Borrowed(*value)),
            many => Some(Cow::Owned(Value::Array(many.iter().copied().cloned().collect()))),
        };
        let value = value.ok_or_else(|| wrong(&"No value found in a payload nor defaults"))?;
        read(&value).map_err(|reason| wrong(&reason))
    }

    fn default(&self, path: &Path) -> Option<&'q Value> {
        self.default_values.iter().find(|(of, _)| of == path).map(|(_, value)| *value)
    }
}

fn seconds(micros: i64) -> f64 {
    micros as f64 / 1e6
}

fn finite(value: f64, of: impl Fn() -> String) -> Result<f64> {
    if value.is_finite() {
        return Ok(value);
    }
    Err(Error::Request(format!("The expression {} = {value} produced a non-finite number", of())))
}
