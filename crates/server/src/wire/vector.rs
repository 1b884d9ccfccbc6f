//! Vectors as clients write them: numbers, rows of numbers, positions with
//! values, names to any of these, or an object that a model turns into one.
//!
//! Numbers are read straight into f32. What an object means is told by its
//! keys: a vector named `text` holds numbers, an inference object's `text` is a
//! string.

use std::fmt;

use cairn_index::{MultiVector, SparseVector, Vector, WrittenId};
use serde::de::{self, DeserializeSeed, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer};
use serde_json::{Map, Value};

use crate::json::vector_or_any;

/// What a model turns into a vector.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Inference {
    /// The text; images and other objects are read but no model takes them.
    pub(crate) input: InferenceInput,
    /// The default model when absent.
    pub(crate) model: Option<String>,
    /// Options of the model.
    pub(crate) options: Map<String, Value>,
}

/// What kind of thing a model is given.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum InferenceInput {
    Text(String),
    Image,
    Object,
}

/// One vector of a write or a query.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum VectorInput {
    Dense(Vec<f32>),
    Multi(Vec<Vec<f32>>),
    Sparse { indices: Vec<u32>, values: Vec<f32> },
    Inference(Inference),
}

/// The value of `vector` in a write.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum VectorsInput {
    Unnamed(VectorInput),
    Named(Vec<(String, VectorInput)>),
}

impl VectorInput {
    /// The vector itself, where no model is needed for it.
    ///
    /// # Errors
    /// A text for the client, where the parts do not make a vector.
    pub(crate) fn into_vector(self) -> Result<Result<Vector, Inference>, String> {
        match self {
            Self::Dense(values) => Ok(Ok(values.into())),
            Self::Multi(rows) => {
                let rows = MultiVector::from_rows(&rows).map_err(|error| error.to_string())?;
                Ok(Ok(rows.into()))
            }
            Self::Sparse { indices, values } => sparse(indices, values).map(|vector| Ok(vector.into())),
            Self::Inference(inference) => Ok(Err(inference)),
        }
    }
}

fn sparse(indices: Vec<u32>, values: Vec<f32>) -> Result<SparseVector, String> {
    if indices.len() != values.len() {
        return Err("values: Validation error: must be the same length as indices [{}]".to_owned());
    }
    SparseVector::new(indices.into_iter().zip(values)).map_err(|error| match error {
        cairn_index::Error::Request(_) => "indices: Validation error: must be unique [{}]".to_owned(),
        other => other.to_string(),
    })
}

impl<'de> Deserialize<'de> for VectorInput {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        match VectorsInput::deserialize(deserializer)? {
            VectorsInput::Unnamed(vector) => Ok(vector),
            VectorsInput::Named(_) => Err(de::Error::custom(
                "a vector is numbers, rows of numbers, `indices` with `values`, or `text` with `model`",
            )),
        }
    }
}

impl<'de> Deserialize<'de> for VectorsInput {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        match Loose::deserialize(deserializer)? {
            Loose::Numbers(numbers) => Ok(Self::Unnamed(VectorInput::Dense(numbers))),
            Loose::Rows(rows) => Ok(Self::Unnamed(VectorInput::Multi(rows))),
            Loose::Fields(fields) => from_fields(fields).map_err(de::Error::custom),
            other => Err(de::Error::custom(format!("a vector cannot be {}", other.kind()))),
        }
    }
}

/// The keys that say what an inference object is made from.
const INPUTS: [&str; 3] = ["text", "image", "object"];

fn from_fields(fields: Vec<(String, Loose)>) -> Result<VectorsInput, String> {
    let has = |name: &str| fields.iter().find(|(key, _)| key == name).map(|(_, value)| value);
    let is_vector = |value: &Loose| !matches!(value, Loose::Text(_) | Loose::Other(_));
    if INPUTS.iter().any(|input| has(input).is_some_and(|value| !is_vector(value)))
        || (matches!(has("model"), Some(Loose::Text(_))) && INPUTS.iter().any(|input| has(input).is_some()))
    {
        return inference(fields).map(|made| VectorsInput::Unnamed(VectorInput::Inference(made)));
    }
    if let (Some(Loose::Indices(_)), Some(Loose::Numbers(_))) = (has("indices"), has("values")) {
        return positions(fields).map(VectorsInput::Unnamed);
    }
    let named = fields.into_iter().map(|(name, value)| match one(value) {
        Ok(vector) => Ok((name, vector)),
        Err(kind) => Err(format!("vector `{name}` cannot be {kind}")),
    });
    named.collect::<Result<_, _>>().map(VectorsInput::Named)
}

fn one(value: Loose) -> Result<VectorInput, String> {
    match value {
        Loose::Numbers(numbers) => Ok(VectorInput::Dense(numbers)),
        Loose::Indices(numbers) => Ok(VectorInput::Dense(numbers.into_iter().map(|n| n as f32).collect())),
        Loose::Rows(rows) => Ok(VectorInput::Multi(rows)),
        Loose::Fields(inner) => match from_fields(inner)? {
            VectorsInput::Unnamed(vector) => Ok(vector),
            VectorsInput::Named(_) => Err("an object of vectors".to_owned()),
        },
        other => Err(other.kind().to_owned()),
    }
}

fn positions(fields: Vec<(String, Loose)>) -> Result<VectorInput, String> {
    let (mut indices, mut values) = (Vec::new(), Vec::new());
    for (name, value) in fields {
        match (name.as_str(), value) {
            ("indices", Loose::Indices(numbers)) => indices = numbers,
            ("values", Loose::Numbers(numbers)) => values = numbers,
            _ => {}
        }
    }
    let whole = |index: f64| {
        let fits = index >= 0.0 && index <= f64::from(u32::MAX) && index.fract() == 0.0;
        if fits { Ok(index as u32) } else { Err(format!("index {index} is not an unsigned 32-bit integer")) }
    };
    let indices = indices.into_iter().map(whole).collect::<Result<_, _>>()?;
    Ok(VectorInput::Sparse { indices, values })
}

fn inference(fields: Vec<(String, Loose)>) -> Result<Inference, String> {
    let (mut input, mut model, mut options) = (None, None, Map::new());
    for (name, value) in fields {
        match (name.as_str(), value) {
            ("text", Loose::Text(text)) => input = Some(InferenceInput::Text(text)),
            ("image", _) => input = Some(InferenceInput::Image),
            ("object", _) => input = Some(InferenceInput::Object),
            ("model", Loose::Text(name)) => model = Some(name).filter(|name| !name.is_empty()),
            ("model" | "options", Loose::Null) => {}
            ("options", Loose::Options(given)) => options = given,
            (name, value) => {
                return Err(format!("`{name}` of an object to embed cannot be {}", value.kind()));
            }
        }
    }
    let input = input.ok_or("an object to embed has `text`")?;
    Ok(Inference { input, model, options })
}

/// JSON as far as it matters here.
enum Loose {
    Null,
    Other(&'static str),
    Text(String),
    Numbers(Vec<f32>),
    /// The numbers of a key `indices`, which f32 could not hold.
    Indices(Vec<f64>),
    Rows(Vec<Vec<f32>>),
    Fields(Vec<(String, Loose)>),
    Options(Map<String, Value>),
}

impl Loose {
    fn kind(&self) -> &'static str {
        match self {
            Self::Null => "null",
            Self::Other(kind) => kind,
            Self::Text(_) => "a string",
            Self::Numbers(_) | Self::Indices(_) => "an array",
            Self::Rows(_) => "an array of arrays",
            Self::Fields(_) | Self::Options(_) => "an object",
        }
    }
}

impl<'de> Deserialize<'de> for Loose {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        vector_or_any(deserializer, LooseVisitor { objects: true })
    }
}

struct LooseVisitor {
    /// Whether what is in an object is kept.
    objects: bool,
}

impl<'de> Visitor<'de> for LooseVisitor {
    type Value = Loose;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("numbers, or vectors by name, or a text with a model")
    }

    fn visit_newtype_struct<D: Deserializer<'de>>(self, deserializer: D) -> Result<Loose, D::Error> {
        deserializer.deserialize_any(self)
    }

    fn visit_unit<E>(self) -> Result<Loose, E> {
        Ok(Loose::Null)
    }

    fn visit_bool<E>(self, _: bool) -> Result<Loose, E> {
        Ok(Loose::Other("a bool"))
    }

    fn visit_u64<E>(self, _: u64) -> Result<Loose, E> {
        Ok(Loose::Other("a number"))
    }

    fn visit_i64<E>(self, _: i64) -> Result<Loose, E> {
        Ok(Loose::Other("a number"))
    }

    fn visit_f64<E>(self, _: f64) -> Result<Loose, E> {
        Ok(Loose::Other("a number"))
    }

    fn visit_str<E>(self, text: &str) -> Result<Loose, E> {
        Ok(Loose::Text(text.to_owned()))
    }

    fn visit_string<E>(self, text: String) -> Result<Loose, E> {
        Ok(Loose::Text(text))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Loose, A::Error> {
        match seq.next_element()? {
            None => Ok(Loose::Numbers(Vec::new())),
            Some(First::Number(first)) => {
                let mut numbers = Vec::with_capacity(seq.size_hint().unwrap_or(0).clamp(64, 4096));
                numbers.push(first);
                while let Some(number) = seq.next_element::<f32>()? {
                    numbers.push(number);
                }
                Ok(Loose::Numbers(numbers))
            }
            Some(First::Row(first)) => {
                let mut rows = vec![first];
                while let Some(row) = seq.next_element::<Vec<f32>>()? {
                    rows.push(row);
                }
                Ok(Loose::Rows(rows))
            }
        }
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Loose, A::Error> {
        if !self.objects {
            while map.next_entry::<IgnoredAny, IgnoredAny>()?.is_some() {}
            return Ok(Loose::Other("an object"));
        }
        let mut fields: Vec<(String, Loose)> = Vec::new();
        while let Some(key) = map.next_key::<String>()? {
            let value = map.next_value_seed(Field(&key))?;
            fields.push((key, value));
        }
        // The last of several equal keys counts, as in other JSON readers. There may be
        // millions of keys, so they are not looked for one by one.
        fields.sort_by(|(a, _), (b, _)| a.cmp(b));
        fields.dedup_by(|later, kept| {
            let is_same = later.0 == kept.0;
            if is_same {
                std::mem::swap(later, kept);
            }
            is_same
        });
        Ok(Loose::Fields(fields))
    }
}

/// The first element of an array says what the array is.
enum First {
    Number(f32),
    Row(Vec<f32>),
}

impl<'de> Deserialize<'de> for First {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Either;
        impl<'de> Visitor<'de> for Either {
            type Value = First;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a number or an array of numbers")
            }

            fn visit_u64<E>(self, number: u64) -> Result<First, E> {
                Ok(First::Number(number as f32))
            }

            fn visit_i64<E>(self, number: i64) -> Result<First, E> {
                Ok(First::Number(number as f32))
            }

            fn visit_f64<E>(self, number: f64) -> Result<First, E> {
                Ok(First::Number(number as f32))
            }

            fn visit_f32<E>(self, number: f32) -> Result<First, E> {
                Ok(First::Number(number))
            }

            fn visit_seq<A: SeqAccess<'de>>(self, seq: A) -> Result<First, A::Error> {
                Vec::deserialize(de::value::SeqAccessDeserializer::new(seq)).map(First::Row)
            }
        }
        deserializer.deserialize_any(Either)
    }
}

/// Reads the value of one key of an object.
struct Field<'k>(&'k str);

impl<'de> DeserializeSeed<'de> for Field<'_> {
    type Value = Loose;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Loose, D::Error> {
        match self.0 {
            "indices" => Numbers::deserialize(deserializer).map(|Numbers(numbers)| Loose::Indices(numbers)),
            "options" => match Value::deserialize(deserializer)? {
                Value::Null => Ok(Loose::Null),
                Value::Object(options) => Ok(Loose::Options(options)),
                // A vector of this name.
                numbers => serde_json::from_value(numbers).map(Loose::Numbers).map_err(de::Error::custom),
            },
            // An image or an object may be anything; a vector of this name is numbers.
            "image" | "object" => deserializer.deserialize_any(LooseVisitor { objects: false }),
            _ => Loose::deserialize(deserializer),
        }
    }
}

/// The numbers of `indices`, exactly.
struct Numbers(Vec<f64>);

impl<'de> Deserialize<'de> for Numbers {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Vec::deserialize(deserializer).map(Self)
    }
}

/// What a query compares with: a vector, or a point that has one.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum TargetInput {
    Vector(VectorInput),
    Id(WrittenId),
}

impl<'de> Deserialize<'de> for TargetInput {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        vector_or_any(deserializer, TargetVisitor)
    }
}

struct TargetVisitor;

impl<'de> Visitor<'de> for TargetVisitor {
    type Value = TargetInput;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a vector, a point id, or a text with a model")
    }

    fn visit_newtype_struct<D: Deserializer<'de>>(self, deserializer: D) -> Result<TargetInput, D::Error> {
        deserializer.deserialize_any(self)
    }

    fn visit_u64<E>(self, id: u64) -> Result<TargetInput, E> {
        Ok(TargetInput::Id(id.into()))
    }

    fn visit_i64<E: de::Error>(self, id: i64) -> Result<TargetInput, E> {
        Err(E::custom(cairn_index::Error::PointId(id.to_string())))
    }

    fn visit_f64<E: de::Error>(self, id: f64) -> Result<TargetInput, E> {
        Err(E::custom(cairn_index::Error::PointId(id.to_string())))
    }

    fn visit_str<E: de::Error>(self, id: &str) -> Result<TargetInput, E> {
        serde_json::from_value(Value::from(id)).map(TargetInput::Id).map_err(E::custom)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, seq: A) -> Result<TargetInput, A::Error> {
        VectorInput::deserialize(de::value::SeqAccessDeserializer::new(seq)).map(TargetInput::Vector)
    }

    fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<TargetInput, A::Error> {
        VectorInput::deserialize(de::value::MapAccessDeserializer::new(map)).map(TargetInput::Vector)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(json: &str) -> Result<VectorsInput, String> {
        serde_json::from_str(json).map_err(|error| error.to_string())
    }

    fn text(text: &str, model: Option<&str>) -> VectorInput {
        let input = InferenceInput::Text(text.to_owned());
        VectorInput::Inference(Inference { input, model: model.map(str::to_owned), options: Map::new() })
    }

    #[test]
    fn each_shape_is_told_by_its_kinds() {
        let unnamed = |vector| Ok(VectorsInput::Unnamed(vector));
        assert_eq!(read("[1, 2.5]"), unnamed(VectorInput::Dense(vec![1.0, 2.5])));
        assert_eq!(
            read("[[1, 2], [3, 4]]"),
            unnamed(VectorInput::Multi(vec![vec![1.0, 2.0], vec![3.0, 4.0]]))
        );
        assert_eq!(read(r#"{"text": "a", "model": "m"}"#), unnamed(text("a", Some("m"))));
        let indices = vec![4_294_967_295, 16_777_217];
        let sparse = VectorInput::Sparse { indices, values: vec![0.5, 1.0] };
        let json = r#"{"indices": [4294967295, 16777217], "values": [0.5, 1]}"#;
        assert_eq!(read(json), unnamed(sparse.clone()));
        let named = VectorsInput::Named(vec![
            ("b".to_owned(), text("x", None)),
            ("indices".to_owned(), VectorInput::Dense(vec![0.5])),
            ("s".to_owned(), sparse),
            ("text".to_owned(), VectorInput::Dense(vec![1.0])),
        ]);
        let json = format!(r#"{{"text": [1], "b": {{"text": "x"}}, "indices": [0.5], "s": {json}}}"#);
        assert_eq!(read(&json), Ok(named));
        assert_eq!(read("{}"), Ok(VectorsInput::Named(Vec::new())));
    }

    #[test]
    fn of_equal_names_the_last_counts() {
        let last = vec![
            ("a".to_owned(), VectorInput::Dense(vec![3.0])),
            ("b".to_owned(), VectorInput::Dense(vec![2.0])),
        ];
        let json = r#"{"a": [0], "b": [1], "a": [2], "b": [2], "a": [3]}"#;
        assert_eq!(read(json), Ok(VectorsInput::Named(last)));
    }

    /// Each name was looked for among all before it: a body of 32 MB took hours.
    #[test]
    fn a_vector_of_very_many_names_is_read_in_a_moment() {
        let names: Vec<_> = (0..400_000).map(|number| format!("\"{number}\":[1]")).collect();
        let started = std::time::Instant::now();
        let Ok(VectorsInput::Named(read)) = read(&format!("{{{}}}", names.join(","))) else {
            panic!("it is one")
        };
        assert_eq!(read.len(), names.len());
        assert!(started.elapsed() < std::time::Duration::from_secs(20), "{:?}", started.elapsed());
    }

    #[test]
    fn what_is_no_vector_is_refused_with_a_reason() {
        for (json, part) in [
            ("\"x\"", "cannot be a string"),
            ("[1, [2]]", "expected f32"),
            ("[\"a\"]", "expected a number or an array"),
            (r#"{"s": {"indices": [-1], "values": [1]}}"#, "index -1 is not"),
            (r#"{"a": 1}"#, "vector `a` cannot be a number"),
            ("[NaN]", "expected"),
            ("[1e999]", "out of range"),
        ] {
            let error = read(json).unwrap_err();
            assert!(error.contains(part), "{json}: {error}");
        }
    }

    #[test]
    fn a_target_is_an_id_or_a_vector() {
        let read = |json| serde_json::from_str::<TargetInput>(json).map_err(|error| error.to_string());
        assert_eq!(read("7"), Ok(TargetInput::Id(7.into())));
        assert_eq!(read("[2]"), Ok(TargetInput::Vector(VectorInput::Dense(vec![2.0]))));
        assert!(read("\"no-uuid\"").unwrap_err().contains("not a valid point ID"));
    }
}
