//! Values that orders and facets read from payloads.

use serde_json::Value;

use crate::fields::{FacetValue, OrderValue};
use crate::filter::time;
use crate::path::Path;
use crate::point::Payload;

/// The number or the datetime that a payload value is, if it is one.
pub(crate) fn order_value(value: &Value) -> Option<OrderValue> {
    match value {
        Value::Number(number) => {
            number.as_i64().map(OrderValue::Int).or_else(|| number.as_f64().map(OrderValue::Float))
        }
        Value::String(text) => time::micros(text).map(OrderValue::Int),
        _ => None,
    }
}

/// The value that can be counted, if a payload value is one.
pub(crate) fn facet_value(value: &Value) -> Option<FacetValue> {
    match value {
        Value::String(text) => Some(FacetValue::Keyword(text.clone())),
        Value::Number(number) => number.as_i64().map(FacetValue::Integer),
        Value::Bool(value) => Some(FacetValue::Bool(*value)),
        _ => None,
    }
}

/// The values at a path, the last array opened once.
pub(crate) fn flat_values<'p>(path: &Path, payload: &'p Payload) -> Vec<&'p Value> {
    // Such a path has opened it already.
    if path.as_str().ends_with("[]") {
        return path.values(payload);
    }
    let mut values = Vec::new();
    for value in path.values(payload) {
        match value {
            Value::Array(items) => values.extend(items),
            one => values.push(one),
        }
    }
    values
}
