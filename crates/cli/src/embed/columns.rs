//! The columns that a table of JSON objects has, and what each holds.

use std::collections::HashMap;

use serde_json::{Map, Value};

use super::source::Record;

/// More fields than this are no columns but data.
const MOST: usize = 1000;

/// The field that gets the vectors, whatever was in it.
pub(super) const VECTOR: &str = "vector";

/// What a column holds. A cell may be missing in each.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Bool,
    Int,
    Float,
    Text,
    /// Lists, objects, or cells of several kinds, written as JSON.
    Json,
}

impl Kind {
    fn of(value: &Value) -> Option<Kind> {
        Some(match value {
            Value::Null => return None,
            Value::Bool(_) => Kind::Bool,
            Value::Number(number) if number.is_i64() => Kind::Int,
            Value::Number(number) if number.is_f64() => Kind::Float,
            Value::String(_) => Kind::Text,
            // A number past i64 is none that a column of floats would keep.
            Value::Number(_) | Value::Array(_) | Value::Object(_) => Kind::Json,
        })
    }

    fn with(self, other: Kind) -> Kind {
        match (self, other) {
            (one, other) if one == other => one,
            (Kind::Int, Kind::Float) | (Kind::Float, Kind::Int) => Kind::Float,
            _ => Kind::Json,
        }
    }
}

/// Columns in the order in which they were first seen.
#[derive(Debug, Default)]
pub(super) struct Columns {
    names: Vec<String>,
    kinds: Vec<Option<Kind>>,
    at: HashMap<String, usize>,
}

impl Columns {
    /// Takes note of what a text came with.
    pub(super) fn see(&mut self, record: &Record, number: usize) {
        match record {
            Record::Object { object, .. } => self.see_object(object),
            // They are all alike.
            Record::Plain(_) if number > 0 => {}
            Record::Plain(_) => self.see_object(&record.clone().into_object(number)),
        }
    }

    fn see_object(&mut self, object: &Map<String, Value>) {
        for (name, value) in object.iter().filter(|(name, _)| *name != VECTOR) {
            let at = match self.at.get(name) {
                Some(&at) => at,
                None if self.names.len() > MOST => return,
                None => {
                    self.at.insert(name.clone(), self.names.len());
                    self.names.push(name.clone());
                    self.kinds.push(None);
                    self.names.len() - 1
                }
            };
            let seen = &mut self.kinds[at];
            *seen = match (*seen, Kind::of(value)) {
                (Some(one), Some(other)) => Some(one.with(other)),
                (one, other) => one.or(other),
            };
        }
    }

    /// The columns with what they hold; one that is always null is of texts.
    ///
    /// # Errors
    /// In words, if there are too many.
    pub(super) fn all(&self) -> Result<Vec<(&str, Kind)>, String> {
        if self.names.len() > MOST {
            return Err(format!(
                "the objects have more than {MOST} different fields, which make no table: write .jsonl"
            ));
        }
        let kinds = self.kinds.iter().map(|kind| kind.unwrap_or(Kind::Text));
        Ok(self.names.iter().map(String::as_str).zip(kinds).collect())
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::{Columns, Kind, MOST};

    fn of(objects: &[Value]) -> Columns {
        let mut columns = Columns::default();
        objects.iter().for_each(|object| columns.see_object(object.as_object().unwrap()));
        columns
    }

    #[test]
    fn a_column_is_what_all_its_cells_are() {
        let columns = of(&[
            json!({ "id": 1, "year": null, "score": 1, "tags": ["a"], "vector": [1] }),
            json!({ "id": 2, "year": 2000, "score": 0.5, "ok": true, "none": null }),
            json!({ "id": "c", "big": u64::MAX }),
        ]);
        let want = [
            ("id", Kind::Json),
            ("year", Kind::Int),
            ("score", Kind::Float),
            ("tags", Kind::Json),
            ("ok", Kind::Bool),
            ("none", Kind::Text),
            ("big", Kind::Json),
        ];
        assert_eq!(columns.all().unwrap(), want);
    }

    #[test]
    fn objects_with_a_field_for_each_row_are_no_table() {
        let objects: Vec<Value> = (0..2 * MOST).map(|at| json!({ format!("f{at}"): at })).collect();
        assert!(of(&objects).all().unwrap_err().contains(".jsonl"));
        assert_eq!(of(&objects[..MOST]).all().unwrap().len(), MOST);
    }
}
