//! Rows of a table as points or documents: which column is what, and what its
//! values become.

use cairn_index::{MultiVector, Point, Vector, Vectors, WrittenId};
use cairn_rag::Document;
use serde_json::{Map, Value};
use uuid::Uuid;

use super::Item;
use crate::args::Columns;

/// What a column holds, as far as its type says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Vector,
    Text,
    Other,
}

/// A column of a table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Column {
    pub(super) name: String,
    pub(super) kind: Kind,
}

/// What a column is to an import.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Role {
    Id,
    /// The vector of this name.
    Vector(String),
    Text,
    Title,
    Payload,
    LeftOut,
}

/// Columns that are taken for the id, or the text, where none is named.
const IDS: [&str; 2] = ["id", "_id"];
const TEXTS: [&str; 5] = ["text", "content", "document", "body", "passage"];

/// What each column is; `key` is the one that the table itself says identifies a
/// row.
///
/// # Errors
/// When a column that was named is not there, or it does not follow which one
/// holds the vectors or the texts.
pub(super) fn roles(columns: &[Column], wanted: &Columns, key: Option<&str>) -> Result<Vec<Role>, String> {
    let mut roles = vec![Role::Payload; columns.len()];
    let named = |name: &str, option: &str| {
        let found = columns.iter().position(|column| column.name == name);
        found.ok_or_else(|| format!("{option}: there is no column `{name}`, there are {}", listed(columns)))
    };
    let known = |names: &[&str]| columns.iter().position(|column| names.contains(&column.name.as_str()));
    for name in &wanted.leave_out {
        roles[named(name, "--leave-out")?] = Role::LeftOut;
    }
    let texts_wanted = wanted.text_field.is_some() || wanted.title_field.is_some();
    let vectors: Vec<usize> = match wanted.vector_field.as_slice() {
        [] if texts_wanted => Vec::new(),
        [] => {
            let is_there = |at: &usize| columns[*at].kind == Kind::Vector && roles[*at] == Role::Payload;
            let found: Vec<usize> = (0..columns.len()).filter(is_there).collect();
            if found.len() > 1 {
                return Err(format!(
                    "there are several columns of vectors, name those to take with --vector-field, or with \
                     --text-field one to embed; there are {}",
                    listed(columns)
                ));
            }
            found
        }
        names => names.iter().map(|name| named(name, "--vector-field")).collect::<Result<_, _>>()?,
    };
    for at in &vectors {
        let name = if vectors.len() == 1 { String::new() } else { columns[*at].name.clone() };
        roles[*at] = Role::Vector(name);
    }
    if vectors.is_empty() {
        let text = match &wanted.text_field {
            Some(name) => Some(named(name, "--text-field")?),
            None => known(&TEXTS),
        };
        let Some(text) = text else {
            return Err(format!(
                "no column holds vectors, and none is called `text`: name one with --vector-field, or with \
                 --text-field one to embed; there are {}",
                listed(columns)
            ));
        };
        // Vectors of another model are nothing to filter by.
        for (role, column) in roles.iter_mut().zip(columns) {
            if column.kind == Kind::Vector {
                *role = Role::LeftOut;
            }
        }
        roles[text] = Role::Text;
        let title = match &wanted.title_field {
            Some(name) => Some(named(name, "--title-field")?),
            None => known(&["title"]).filter(|at| roles[*at] == Role::Payload),
        };
        if let Some(title) = title {
            roles[title] = Role::Title;
        }
    }
    let id = match &wanted.id_field {
        Some(name) => Some(named(name, "--id-field")?),
        None => key.and_then(|key| known(&[key])).or_else(|| known(&IDS)),
    };
    if let Some(id) = id.filter(|id| wanted.id_field.is_some() || roles[*id] == Role::Payload) {
        roles[id] = Role::Id;
    }
    Ok(roles)
}

fn listed(columns: &[Column]) -> String {
    let one = |column: &Column| {
        let kind = match column.kind {
            Kind::Vector => " (vectors)",
            Kind::Text => " (text)",
            Kind::Other => "",
        };
        format!("`{}`{kind}", column.name)
    };
    columns.iter().map(one).collect::<Vec<_>>().join(", ")
}

/// What a row says, put together from its columns.
#[derive(Debug, Default)]
pub(super) struct Row {
    pub(super) id: Option<Value>,
    pub(super) vectors: Vectors,
    pub(super) text: Option<Value>,
    pub(super) title: Option<Value>,
    pub(super) payload: Map<String, Value>,
}

impl Row {
    /// The point or document of the row; `number` stands for an id where the table
    /// has none. With `strings` a text is an id as it is.
    pub(super) fn into_item(self, number: usize, strings: bool) -> Result<Item, String> {
        let id = self.id.unwrap_or_else(|| Value::from(number));
        let Some(text) = self.text else {
            let called = point_id(&id)?;
            let point = Point { vectors: self.vectors, payload: self.payload, ..Point::empty(called) };
            return Ok(Item::Point(if strings { point } else { without_label(point, id) }));
        };
        let id = match id {
            Value::String(id) if !id.is_empty() => id,
            Value::Number(id) => id.to_string(),
            _ => return Err("its id is neither a number nor a text with something in it".to_owned()),
        };
        let written = |value: Option<Value>| match value {
            None | Some(Value::Null) => String::new(),
            Some(Value::String(text)) => text,
            Some(other) => other.to_string(),
        };
        let (text, title) = (written(Some(text)), written(self.title));
        if text.trim().is_empty() {
            return Err("its text is empty".to_owned());
        }
        Ok(Item::Document(Document { id, title, text, metadata: self.payload, pages: Vec::new() }))
    }
}

/// Where the payload keeps an id that a point cannot have.
pub(super) const ORIGINAL_ID: &str = "_id";

/// A number or UUID as it is, any other text as the label of a point.
pub(super) fn point_id(id: &Value) -> Result<WrittenId, String> {
    match id {
        Value::Number(number) => Ok(match number.as_u64() {
            Some(number) => number.into(),
            None => number.to_string().into(),
        }),
        Value::String(text) if !text.is_empty() => Ok(text.as_str().into()),
        _ => Err("its id is neither a number nor a text with something in it".to_owned()),
    }
}

/// The point for a collection that takes no texts as ids: a UUID made from the text,
/// and the id as it was `written` in the payload.
pub(super) fn without_label(mut point: Point, written: Value) -> Point {
    if let Some(label) = point.label.take() {
        point.id = Uuid::new_v5(&Uuid::NAMESPACE_OID, label.as_bytes()).into();
        point.payload.insert(ORIGINAL_ID.to_owned(), written);
    }
    point
}

/// Numbers, or rows of numbers, as a vector.
pub(super) fn vector(value: &Value) -> Result<Vector, String> {
    let Value::Array(values) = value else {
        return Err(match value {
            Value::Null => "is empty".to_owned(),
            _ => "is not a list of numbers".to_owned(),
        });
    };
    let numbers = |values: &[Value]| {
        let number = |value: &Value| value.as_f64().map(|value| value as f32);
        values.iter().map(number).collect::<Option<Vec<f32>>>().ok_or("is not a list of numbers".to_owned())
    };
    if values.first().is_some_and(Value::is_array) {
        let rows = values.iter().map(|row| match row {
            Value::Array(values) => numbers(values),
            _ => Err("is not a list of numbers".to_owned()),
        });
        return rows_of(&rows.collect::<Result<Vec<_>, _>>()?);
    }
    numbers(values).map(Vector::Dense)
}

/// Rows of one vector.
pub(super) fn rows_of(rows: &[Vec<f32>]) -> Result<Vector, String> {
    MultiVector::from_rows(rows).map(Vector::Multi).map_err(|error| error.to_string())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn columns(kinds: &[(&str, Kind)]) -> Vec<Column> {
        kinds.iter().map(|(name, kind)| Column { name: (*name).to_owned(), kind: *kind }).collect()
    }

    fn vector_role() -> Role {
        Role::Vector(String::new())
    }

    #[test]
    fn the_only_vectors_are_taken_and_the_rest_is_payload() {
        let table = columns(&[("_id", Kind::Text), ("text", Kind::Text), ("emb", Kind::Vector)]);
        let found = roles(&table, &Columns::default(), None).unwrap();
        assert_eq!(found, [Role::Id, Role::Payload, vector_role()]);
        let wanted = Columns { text_field: Some("text".to_owned()), ..Columns::default() };
        assert_eq!(roles(&table, &wanted, None).unwrap(), [Role::Id, Role::Text, Role::LeftOut]);
    }

    #[test]
    fn texts_are_embedded_where_there_are_no_vectors() {
        let table = columns(&[("url", Kind::Text), ("title", Kind::Text), ("content", Kind::Text)]);
        let found = roles(&table, &Columns::default(), Some("url")).unwrap();
        assert_eq!(found, [Role::Id, Role::Title, Role::Text]);
        let wanted = Columns { leave_out: vec!["title".to_owned()], ..Columns::default() };
        assert_eq!(roles(&table, &wanted, None).unwrap(), [Role::Payload, Role::LeftOut, Role::Text]);
    }

    #[test]
    fn what_does_not_follow_is_asked_for() {
        let two = columns(&[("a", Kind::Vector), ("b", Kind::Vector)]);
        let told = roles(&two, &Columns::default(), None).unwrap_err();
        assert!(told.contains("--vector-field") && told.contains("`b` (vectors)"), "{told}");
        let wanted = Columns { vector_field: vec!["a".to_owned(), "b".to_owned()], ..Columns::default() };
        let named = ["a", "b"].map(|name| Role::Vector(name.to_owned()));
        assert_eq!(roles(&two, &wanted, None).unwrap(), named);
        let none = columns(&[("n", Kind::Other)]);
        assert!(roles(&none, &Columns::default(), None).unwrap_err().contains("--text-field"));
        let wanted = Columns { vector_field: vec!["x".to_owned()], ..Columns::default() };
        assert!(roles(&none, &wanted, None).unwrap_err().contains("no column `x`, there are `n`"));
    }

    #[test]
    fn a_text_is_an_id_or_becomes_one_and_is_kept() {
        assert_eq!(point_id(&json!(7)), Ok(7.into()));
        let uuid = "936da01f-9abd-4d9d-80c7-02af85c822a8";
        assert_eq!(point_id(&json!(uuid)).unwrap().label, None);
        let named = |id: Value| Point::empty(point_id(&id).unwrap());
        assert_eq!(named(json!("doc-1")).label.as_deref(), Some("doc-1"));
        assert!(point_id(&json!("")).is_err() && point_id(&Value::Null).is_err());

        let without = |id: Value| without_label(named(id.clone()), id);
        assert_eq!(without(json!(7)), named(json!(7)));
        let made = without(json!("doc-1"));
        assert_eq!((&made.label, &made.payload[ORIGINAL_ID]), (&None, &json!("doc-1")));
        assert_eq!(made.id, Uuid::new_v5(&Uuid::NAMESPACE_OID, b"doc-1").into());
        assert_eq!(without(json!(-7)).payload[ORIGINAL_ID], -7);
        assert_eq!(without(json!("7")).payload[ORIGINAL_ID], "7");
    }

    #[test]
    fn a_list_of_numbers_or_of_such_lists_is_a_vector() {
        assert_eq!(vector(&json!([1, 2.5])), Ok(Vector::Dense(vec![1.0, 2.5])));
        let rows = rows_of(&[vec![1.0, 2.0], vec![3.0, 4.0]]).unwrap();
        assert_eq!(vector(&json!([[1, 2], [3, 4]])), Ok(rows));
        for wrong in [json!(null), json!("x"), json!([1, null]), json!([[1], 2]), json!([[1], [2, 3]])] {
            assert!(vector(&wrong).is_err(), "{wrong}");
        }
    }
}
