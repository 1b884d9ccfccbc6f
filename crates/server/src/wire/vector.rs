//! Vectors as clients write them: numbers, names to numbers, or text for a
//! model.

use std::fmt;

use serde::de::{self, MapAccess, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer};

/// A text that a model turns into a vector.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct TextInput {
    pub(crate) text: String,
    /// The default model when absent.
    pub(crate) model: Option<String>,
}

/// The value of `vector` in a write.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum VectorInput {
    Dense(Vec<f32>),
    Text(TextInput),
    Named(Vec<(String, VectorInput)>),
}

impl<'de> Deserialize<'de> for VectorInput {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        match Loose::deserialize(deserializer)? {
            Loose::Numbers(numbers) => Ok(Self::Dense(numbers)),
            Loose::Fields(fields) => from_fields(fields).map_err(de::Error::custom),
            other => Err(de::Error::custom(format!("a vector cannot be {}", other.kind()))),
        }
    }
}

/// An object is a text for a model, or vectors by name; a vector named `text`
/// holds numbers, so the kinds of the values tell.
fn from_fields(fields: Vec<(String, Loose)>) -> Result<VectorInput, String> {
    if fields.iter().any(|(name, value)| name == "text" && matches!(value, Loose::Text(_))) {
        return text_input(fields).map(VectorInput::Text);
    }
    if fields.iter().any(|(name, _)| name == "indices") {
        return Err("sparse vectors are not supported by this version".to_owned());
    }
    let named = fields.into_iter().map(|(name, value)| match value {
        Loose::Numbers(numbers) => Ok((name, VectorInput::Dense(numbers))),
        Loose::Fields(inner) => match from_fields(inner)? {
            VectorInput::Named(_) => Err(format!("vector `{name}` must be numbers or a text")),
            input => Ok((name, input)),
        },
        other => Err(format!("vector `{name}` cannot be {}", other.kind())),
    });
    named.collect::<Result<_, _>>().map(VectorInput::Named)
}

fn text_input(fields: Vec<(String, Loose)>) -> Result<TextInput, String> {
    let (mut text, mut model) = (String::new(), None);
    for (name, value) in fields {
        match (name.as_str(), value) {
            ("text", Loose::Text(value)) => text = value,
            ("model", Loose::Text(value)) => model = Some(value).filter(|name| !name.is_empty()),
            ("model" | "options", Loose::Null) | ("options", Loose::Fields(_)) => {}
            (name, value) => return Err(format!("`{name}` of a text to embed cannot be {}", value.kind())),
        }
    }
    Ok(TextInput { text, model })
}

/// JSON as far as it matters here, numbers read straight into f32.
enum Loose {
    Null,
    Other,
    Text(String),
    Numbers(Vec<f32>),
    Fields(Vec<(String, Loose)>),
}

impl Loose {
    fn kind(&self) -> &'static str {
        match self {
            Self::Null => "null",
            Self::Other => "a number or a bool",
            Self::Text(_) => "a string",
            Self::Numbers(_) => "an array",
            Self::Fields(_) => "an object",
        }
    }
}

impl<'de> Deserialize<'de> for Loose {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(LooseVisitor)
    }
}

struct LooseVisitor;

impl<'de> Visitor<'de> for LooseVisitor {
    type Value = Loose;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("numbers, or vectors by name, or a text with a model")
    }

    fn visit_unit<E>(self) -> Result<Loose, E> {
        Ok(Loose::Null)
    }

    fn visit_bool<E>(self, _: bool) -> Result<Loose, E> {
        Ok(Loose::Other)
    }

    fn visit_u64<E>(self, _: u64) -> Result<Loose, E> {
        Ok(Loose::Other)
    }

    fn visit_i64<E>(self, _: i64) -> Result<Loose, E> {
        Ok(Loose::Other)
    }

    fn visit_f64<E>(self, _: f64) -> Result<Loose, E> {
        Ok(Loose::Other)
    }

    fn visit_str<E>(self, text: &str) -> Result<Loose, E> {
        Ok(Loose::Text(text.to_owned()))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Loose, A::Error> {
        let mut numbers = Vec::with_capacity(seq.size_hint().unwrap_or(0).min(4096));
        while let Some(number) = seq.next_element::<f32>()? {
            numbers.push(number);
        }
        Ok(Loose::Numbers(numbers))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Loose, A::Error> {
        let mut fields = Vec::new();
        while let Some(field) = map.next_entry()? {
            fields.push(field);
        }
        Ok(Loose::Fields(fields))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(json: &str) -> Result<VectorInput, String> {
        serde_json::from_str(json).map_err(|error| error.to_string())
    }

    fn text(text: &str, model: Option<&str>) -> VectorInput {
        VectorInput::Text(TextInput { text: text.to_owned(), model: model.map(str::to_owned) })
    }

    #[test]
    fn each_shape_is_told_by_its_kinds() {
        assert_eq!(read("[1, 2.5]"), Ok(VectorInput::Dense(vec![1.0, 2.5])));
        assert_eq!(read(r#"{"text": "a", "model": "m"}"#), Ok(text("a", Some("m"))));
        assert_eq!(read(r#"{"text": "a", "options": {"k": 1}}"#), Ok(text("a", None)));
        let named = VectorInput::Named(vec![
            ("text".to_owned(), VectorInput::Dense(vec![1.0])),
            ("b".to_owned(), text("x", None)),
        ]);
        assert_eq!(read(r#"{"text": [1], "b": {"text": "x"}}"#), Ok(named));
        assert_eq!(read("{}"), Ok(VectorInput::Named(Vec::new())));
    }

    #[test]
    fn what_is_no_vector_is_refused_with_a_reason() {
        for (json, part) in [
            ("\"x\"", "cannot be a string"),
            ("[[1.0]]", "expected f32"),
            ("[\"a\"]", "expected f32"),
            (r#"{"s": {"indices": [1], "values": [1]}}"#, "sparse"),
            (r#"{"a": 1}"#, "vector `a` cannot be a number"),
            ("[NaN]", "expected"),
            ("[1e999]", "out of range"),
        ] {
            let error = read(json).unwrap_err();
            assert!(error.contains(part), "{json}: {error}");
        }
    }
}
