//! Formulas as JSON: numbers, variables, conditions, and objects whose one key
//! is an operation.

use cairn_index::{Condition, Decay, Expression, GeoPoint, Path};
use serde::Deserialize;
use serde_json::{Map, Value};

use crate::error::{ApiError, ApiResult};

/// The operations, each the only key of its object.
const OPERATIONS: [&str; 18] = [
    "mult",
    "sum",
    "max",
    "min",
    "neg",
    "abs",
    "div",
    "sqrt",
    "pow",
    "exp",
    "log10",
    "ln",
    "acosh",
    "geo_distance",
    "datetime",
    "datetime_key",
    "lin_decay",
    "exp_decay",
];

#[derive(Deserialize)]
struct Quotient {
    left: Value,
    right: Value,
    #[serde(default)]
    by_zero_default: Option<f64>,
}

#[derive(Deserialize)]
struct Power {
    base: Value,
    exponent: Value,
}

#[derive(Deserialize)]
struct GeoDistance {
    origin: GeoPoint,
    to: Path,
}

#[derive(Deserialize)]
struct DecayInput {
    x: Value,
    #[serde(default)]
    target: Option<Value>,
    #[serde(default)]
    scale: Option<f64>,
    #[serde(default)]
    midpoint: Option<f64>,
}

/// Reads an expression.
///
/// # Errors
/// With the text for the client, where it does not follow the grammar.
pub(super) fn expression(value: Value) -> ApiResult<Expression> {
    match value {
        Value::Number(number) => {
            let number = number.as_f64().filter(|number| number.is_finite());
            number
                .map(Expression::Number)
                .ok_or_else(|| ApiError::format("a number of a formula is not finite"))
        }
        Value::String(variable) => read_variable(&variable),
        Value::Object(fields) => operation(fields),
        other => Err(ApiError::format(format!("an expression cannot be {other}"))),
    }
}

fn read_variable(text: &str) -> ApiResult<Expression> {
    let Some(reserved) = text.strip_prefix('$') else {
        return text.parse().map(Expression::Payload).map_err(|error: cairn_index::Error| error.into());
    };
    let index = match reserved.strip_prefix("score") {
        Some("") => Some(0),
        Some(index) => index.strip_prefix('[').and_then(|i| i.strip_suffix(']')).and_then(|i| i.parse().ok()),
        None => None,
    };
    index
        .map(Expression::Score)
        .ok_or_else(|| ApiError::bad_request(format!("Invalid reserved word: {text}")))
}

fn operation(mut fields: Map<String, Value>) -> ApiResult<Expression> {
    let known = OPERATIONS.iter().copied().chain(["gauss_decay"]).find(|name| fields.contains_key(*name));
    let Some(name) = known else {
        let condition: Condition = read(Value::Object(fields))?;
        return Ok(condition.into());
    };
    let of = fields.remove(name).unwrap_or_default();
    let one = |of| expression(of).map(Box::new);
    Ok(match name {
        "mult" => Expression::Mult(list(of)?),
        "sum" => Expression::Sum(list(of)?),
        "max" => Expression::Max(list(of)?),
        "min" => Expression::Min(list(of)?),
        "neg" => Expression::Neg(one(of)?),
        "abs" => Expression::Abs(one(of)?),
        "sqrt" => Expression::Sqrt(one(of)?),
        "exp" => Expression::Exp(one(of)?),
        "log10" => Expression::Log10(one(of)?),
        "ln" => Expression::Ln(one(of)?),
        "acosh" => Expression::Acosh(one(of)?),
        "div" => {
            let Quotient { left, right, by_zero_default } = read(of)?;
            Expression::Div { left: one(left)?, right: one(right)?, by_zero_default }
        }
        "pow" => {
            let Power { base, exponent } = read(of)?;
            Expression::Pow { base: one(base)?, exponent: one(exponent)? }
        }
        "geo_distance" => {
            let GeoDistance { origin, to } = read(of)?;
            Expression::GeoDistance { origin, to }
        }
        "datetime" => Expression::datetime(&read::<String>(of)?)?,
        "datetime_key" => Expression::DatetimeKey(read(of)?),
        "lin_decay" => Expression::LinDecay(decay(of)?),
        "exp_decay" => Expression::ExpDecay(decay(of)?),
        _ => Expression::GaussDecay(decay(of)?),
    })
}

fn list(of: Value) -> ApiResult<Vec<Expression>> {
    read::<Vec<Value>>(of)?.into_iter().map(expression).collect()
}

fn decay(of: Value) -> ApiResult<Decay> {
    let DecayInput { x, target, scale, midpoint } = read(of)?;
    let decay = Decay::new(expression(x)?).at(scale.unwrap_or(1.0), midpoint.unwrap_or(0.5));
    Ok(match target {
        Some(target) => decay.target(expression(target)?),
        None => decay,
    })
}

fn read<T: serde::de::DeserializeOwned>(value: Value) -> ApiResult<T> {
    serde_json::from_value(value).map_err(|error| ApiError::from_json(&error))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn formulas_are_read_as_they_are_written() {
        let read = |value| expression(value).unwrap();
        assert_eq!(read(json!(2.5)), Expression::Number(2.5));
        assert_eq!(read(json!("$score")), Expression::Score(0));
        assert_eq!(read(json!("$score[3]")), Expression::Score(3));
        assert_eq!(read(json!("a.b")), Expression::Payload("a.b".parse().unwrap()));
        let sum = json!({"sum": ["$score", {"mult": [0.5, {"key": "a", "match": {"value": 1}}]}]});
        assert!(matches!(read(sum), Expression::Sum(of) if of.len() == 2));
        let decay = json!({"gauss_decay": {"x": "n", "target": 3, "scale": 5, "midpoint": 0.3}});
        assert!(matches!(read(decay), Expression::GaussDecay(decay) if decay.scale == 5.0));
    }

    #[test]
    fn mistakes_in_formulas_are_named() {
        for (value, part) in [
            (json!("$rank"), "Invalid reserved word: $rank"),
            (json!("a["), "Invalid json path: 'a['"),
            (json!({"div": {"left": 1}}), "missing field `right`"),
            (json!({"sums": [1]}), "unknown field `sums`"),
            (json!([1]), "an expression cannot be [1]"),
        ] {
            let error = expression(value).unwrap_err();
            assert!(error.text.contains(part), "{}", error.text);
        }
    }
}
