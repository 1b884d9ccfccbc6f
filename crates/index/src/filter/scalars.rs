//! Lists of values that a condition compares with.

use serde_json::Value;
use uuid::Uuid;

use super::Scalar;

/// A list of values to compare with, sorted by kind. In a UUID field, strings
/// that spell the same UUID are equal.
#[derive(Debug)]
pub(crate) struct Scalars<'f> {
    pub(crate) keywords: Vec<&'f str>,
    pub(crate) integers: Vec<i64>,
    pub(crate) bools: Vec<bool>,
    pub(crate) uuids: Vec<Uuid>,
    by_uuid: bool,
}

impl<'f> Scalars<'f> {
    pub(super) fn new(list: &'f [Scalar], by_uuid: bool) -> Self {
        let (mut keywords, mut integers, mut bools, mut uuids) = (vec![], vec![], vec![], vec![]);
        for scalar in list {
            match scalar {
                Scalar::Bool(value) => bools.push(*value),
                Scalar::Integer(value) => integers.push(*value),
                Scalar::Keyword(text) => match Uuid::parse_str(text) {
                    Ok(uuid) if by_uuid => uuids.push(uuid),
                    _ => keywords.push(text.as_str()),
                },
            }
        }
        keywords.sort_unstable();
        keywords.dedup();
        integers.sort_unstable();
        integers.dedup();
        bools.sort_unstable();
        bools.dedup();
        uuids.sort_unstable();
        uuids.dedup();
        Self { keywords, integers, bools, uuids, by_uuid }
    }

    pub(super) fn contain(&self, value: &Value) -> bool {
        match value {
            Value::Bool(value) => self.bools.contains(value),
            Value::Number(number) => {
                number.as_i64().is_some_and(|value| self.integers.binary_search(&value).is_ok())
            }
            Value::String(text) => self.contain_string(text),
            _ => false,
        }
    }

    fn contain_string(&self, text: &str) -> bool {
        match Uuid::parse_str(text) {
            Ok(uuid) if self.by_uuid => self.uuids.binary_search(&uuid).is_ok(),
            _ => self.keywords.binary_search(&text).is_ok(),
        }
    }
}
