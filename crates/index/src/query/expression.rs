//! Expressions that compute a score, as a tree.
//!
//! What stays true of a checked tree: decays have a scale above 0 and a
//! midpoint between 0 and 1. Values are looked up and computed in `formula`.

use crate::error::{Error, Result};
use crate::filter::geo::GeoPoint;
use crate::filter::time::micros;
use crate::filter::{Condition, Filter};
use crate::path::Path;

/// An expression over a point's prefetch scores and payload.
///
/// It is computed in f64. An operation whose result is not finite is an error
/// that names it.
///
/// ```
/// use cairn_index::Expression;
///
/// // Twice the score, plus how popular it is.
/// let popular = Expression::Payload("popularity".parse()?);
/// let boosted = Expression::Sum(vec![
///     Expression::Mult(vec![2.0.into(), Expression::Score(0)]),
///     Expression::Ln(Box::new(popular)),
/// ]);
/// # Ok::<(), cairn_index::Error>(())
/// ```
#[derive(Debug, Clone, PartialEq)]
pub enum Expression {
    /// A constant.
    Number(f64),
    /// The score that the prefetch of this position gave; else the default of
    /// `$score[i]`, else 0.
    Score(usize),
    /// The number in the payload, else the path's default, else an error. An
    /// array of one number is that number.
    Payload(Path),
    /// 1 if the point matches, else 0.
    Condition(Box<Filter>),
    /// The product, 1 if empty. After a factor of 0 no further one is computed.
    Mult(Vec<Self>),
    /// The sum, 0 if empty.
    Sum(Vec<Self>),
    /// The largest; at least one is given.
    Max(Vec<Self>),
    /// The smallest; at least one is given.
    Min(Vec<Self>),
    /// The number with the other sign.
    Neg(Box<Self>),
    /// The number without its sign.
    Abs(Box<Self>),
    /// `left / right`. If `left` is 0, so is the result, and `right` is not
    /// computed.
    Div {
        /// The dividend.
        left: Box<Self>,
        /// The divisor.
        right: Box<Self>,
        /// The result where the divisor is 0. Default: an error.
        by_zero_default: Option<f64>,
    },
    /// The square root.
    Sqrt(Box<Self>),
    /// `base` to the power of `exponent`.
    Pow {
        /// The base.
        base: Box<Self>,
        /// The exponent.
        exponent: Box<Self>,
    },
    /// e to the power of the number.
    Exp(Box<Self>),
    /// The logarithm to base 10.
    Log10(Box<Self>),
    /// The natural logarithm.
    Ln(Box<Self>),
    /// The inverse hyperbolic cosine.
    Acosh(Box<Self>),
    /// The great-circle distance from `origin` to the place in the payload, in
    /// metres.
    GeoDistance {
        /// From here.
        origin: GeoPoint,
        /// To the place there: an object with `lon` and `lat`.
        to: Path,
    },
    /// A point in time, given in microseconds since 1970, as seconds.
    Datetime(i64),
    /// The datetime in the payload, as seconds since 1970.
    DatetimeKey(Path),
    /// `max(0, 1 - (1 - midpoint) / scale * |x - target|)`.
    LinDecay(Decay),
    /// `exp(ln(midpoint) / scale * |x - target|)`.
    ExpDecay(Decay),
    /// `exp(ln(midpoint) / scale^2 * (x - target)^2)`.
    GaussDecay(Decay),
}

/// A value between 0 and 1 that is 1 at a target and `midpoint` at a distance
/// of `scale` from it.
#[derive(Debug, Clone, PartialEq)]
pub struct Decay {
    /// What decays.
    pub x: Box<Expression>,
    /// Where the value is 1. Default 0.
    pub target: Option<Box<Expression>>,
    /// The distance at which the value is `midpoint`, above 0. Default 1.
    pub scale: f64,
    /// The value there, above 0 and below 1. Default 0.5.
    pub midpoint: f64,
}

impl Decay {
    /// The decay of `x` from 0 to 0.5 at distance 1.
    pub fn new(x: Expression) -> Self {
        Self { x: Box::new(x), target: None, scale: 1.0, midpoint: 0.5 }
    }

    /// With its peak at `target`.
    #[must_use]
    pub fn target(mut self, target: Expression) -> Self {
        self.target = Some(Box::new(target));
        self
    }

    /// With the value `midpoint` at distance `scale`.
    #[must_use]
    pub fn at(mut self, scale: f64, midpoint: f64) -> Self {
        (self.scale, self.midpoint) = (scale, midpoint);
        self
    }

    fn check(&self) -> Result<()> {
        let Self { scale, midpoint, .. } = self;
        if !(*midpoint > 0.0 && *midpoint < 1.0) {
            let text = format!("Decay midpoint should be between 0.0 and 1.0 (exclusive), got {midpoint}.");
            return Err(Error::Request(text));
        }
        if !(*scale > 0.0 && scale.is_finite()) {
            return Err(Error::Request(format!("Decay scale should be non-zero positive, got {scale}.")));
        }
        Ok(())
    }
}

impl From<f64> for Expression {
    fn from(number: f64) -> Self {
        Self::Number(number)
    }
}

impl From<Condition> for Expression {
    fn from(condition: Condition) -> Self {
        Self::Condition(Box::new(Filter::must(condition)))
    }
}

impl Expression {
    /// A point in time, as seconds since 1970.
    ///
    /// # Errors
    /// [`Error::Request`] when `text` is not a datetime.
    pub fn datetime(text: &str) -> Result<Self> {
        let since_1970 = micros(text).ok_or_else(|| {
            Error::Request(format!("`{text}` is not a datetime, write it as RFC 3339 does"))
        })?;
        Ok(Self::Datetime(since_1970))
    }

    /// Refuses what no point could make computable.
    pub(super) fn check(&self) -> Result<()> {
        match self {
            Self::LinDecay(decay) | Self::ExpDecay(decay) | Self::GaussDecay(decay) => decay.check()?,
            Self::Max(of) | Self::Min(of) if of.is_empty() => {
                return Err(Error::Request("max and min need at least one expression".to_owned()));
            }
            _ => {}
        }
        self.parts().into_iter().try_for_each(Self::check)
    }

    /// The filters of all conditions in the tree.
    pub(super) fn conditions(&self) -> Vec<&Filter> {
        match self {
            Self::Condition(filter) => vec![filter],
            other => other.parts().into_iter().flat_map(Self::conditions).collect(),
        }
    }

    /// The expressions directly below.
    fn parts(&self) -> Vec<&Self> {
        match self {
            Self::Number(_)
            | Self::Score(_)
            | Self::Payload(_)
            | Self::Condition(_)
            | Self::GeoDistance { .. }
            | Self::Datetime(_)
            | Self::DatetimeKey(_) => Vec::new(),
            Self::Mult(of) | Self::Sum(of) | Self::Max(of) | Self::Min(of) => of.iter().collect(),
            Self::Neg(of)
            | Self::Abs(of)
            | Self::Sqrt(of)
            | Self::Exp(of)
            | Self::Log10(of)
            | Self::Ln(of)
            | Self::Acosh(of) => vec![of],
            Self::Div { left, right, .. } => vec![left, right],
            Self::Pow { base, exponent } => vec![base, exponent],
            Self::LinDecay(decay) | Self::ExpDecay(decay) | Self::GaussDecay(decay) => {
                [Some(&decay.x), decay.target.as_ref()].into_iter().flatten().map(AsRef::as_ref).collect()
            }
        }
    }
}
