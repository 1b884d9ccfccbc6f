//! Points as they are given and as they are returned.

use std::collections::BTreeMap;

use serde_json::{Map, Value};

use crate::config::CollectionConfig;
use crate::error::{Error, Result};
use crate::id::PointId;
use crate::path::Path;

/// What an application keeps with a point: a JSON object.
pub type Payload = Map<String, Value>;

/// Vectors by name; the unnamed one is `""`.
pub type Vectors = BTreeMap<String, Vec<f32>>;

/// A point to be written. It replaces any point of the same id as a whole.
#[derive(Debug, Clone, PartialEq)]
pub struct Point {
    /// The id, chosen by the caller.
    pub id: PointId,
    /// Any subset of the collection's vectors.
    pub vectors: Vectors,
    /// The payload.
    pub payload: Payload,
}

impl Point {
    /// A point with the unnamed vector and no payload.
    pub fn new(id: impl Into<PointId>, vector: Vec<f32>) -> Self {
        Self { id: id.into(), vectors: Vectors::from([(String::new(), vector)]), payload: Payload::new() }
    }

    /// The same point with this payload, given as a JSON object.
    ///
    /// # Errors
    /// [`Error::Request`] when `payload` is not an object.
    pub fn with_payload(mut self, payload: Value) -> Result<Self> {
        let Value::Object(payload) = payload else {
            return Err(Error::Request("a payload must be a JSON object".to_owned()));
        };
        self.payload = payload;
        Ok(self)
    }

    /// Checks the point against the collection and brings its vectors into the
    /// form they are stored in.
    pub(crate) fn settle(&mut self, config: &CollectionConfig) -> Result<()> {
        for (name, vector) in &mut self.vectors {
            settle_vector(config, name, vector)?;
        }
        if self.payload.values().any(|value| deeper_than(value, MAX_PAYLOAD_DEPTH)) {
            let text = format!("payload of point {} nests deeper than {MAX_PAYLOAD_DEPTH} levels", self.id);
            return Err(Error::Request(text));
        }
        Ok(())
    }
}

// The log keeps payloads as JSON, whose reader stops at 128 levels.
const MAX_PAYLOAD_DEPTH: usize = 100;

fn deeper_than(value: &Value, levels: usize) -> bool {
    let mut inner: Box<dyn Iterator<Item = &Value>> = match value {
        Value::Array(items) => Box::new(items.iter()),
        Value::Object(object) => Box::new(object.values()),
        _ => return false,
    };
    levels == 0 || inner.any(|value| deeper_than(value, levels - 1))
}

pub(crate) fn settle_vector(config: &CollectionConfig, name: &str, vector: &mut [f32]) -> Result<()> {
    let want = config.vector(name)?;
    if vector.len() != want.size {
        return Err(Error::Dimension { want: want.size, got: vector.len() });
    }
    if let Some(position) = vector.iter().position(|value| !value.is_finite()) {
        return Err(Error::NotFinite { position });
    }
    want.distance.prepare(vector);
    Ok(())
}

/// A stored point, read by id or by scrolling.
#[derive(Debug, Clone, PartialEq)]
pub struct Record {
    /// The id.
    pub id: PointId,
    /// The seq of the operation that wrote it.
    pub version: u64,
    /// The payload, if asked for.
    pub payload: Option<Payload>,
    /// The vectors asked for; cosine vectors come back at unit length.
    pub vectors: Option<Vectors>,
}

/// Which parts of a point are wanted.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Parts {
    /// Whether, and which of, the payload.
    pub payload: Selector,
    /// Whether, and which of, the vectors.
    pub vectors: Selector,
}

impl Parts {
    /// The payload and no vectors.
    pub fn payload() -> Self {
        Self { payload: Selector::All, vectors: Selector::None }
    }

    /// Everything.
    pub fn all() -> Self {
        Self { payload: Selector::All, vectors: Selector::All }
    }
}

/// A choice among named parts: vectors by name, payload values by path. A path
/// into a payload is `a.b`; what lies in arrays on its way is reached too.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum Selector {
    /// None of them.
    #[default]
    None,
    /// All of them.
    All,
    /// Those named.
    Only(Vec<String>),
    /// All but those named.
    Except(Vec<String>),
}

impl Selector {
    /// The chosen parts of a payload, its structure kept; `None` for no part.
    pub(crate) fn pick(&self, payload: &Payload) -> Option<Payload> {
        match self {
            Self::None => None,
            Self::All => Some(payload.clone()),
            Self::Only(paths) => Some(keep(payload, &split(&read_paths(paths)))),
            Self::Except(paths) => Some(drop_paths(payload, &split(&read_paths(paths)))),
        }
    }

    /// Whether a vector of this name is wanted.
    pub fn wants(&self, name: &str) -> bool {
        match self {
            Self::None => false,
            Self::All => true,
            Self::Only(names) => names.iter().any(|wanted| wanted == name),
            Self::Except(names) => names.iter().all(|unwanted| unwanted != name),
        }
    }
}

/// Reads paths; what is not one is taken as the name of a key.
fn read_paths(paths: &[String]) -> Vec<Result<Path, &str>> {
    paths.iter().map(|path| path.parse().map_err(|_| path.as_str())).collect()
}

/// Paths as lists of keys; brackets say nothing here, arrays are always entered.
fn split<'p>(paths: &'p [Result<Path, &'p str>]) -> Vec<Vec<&'p str>> {
    paths.iter().map(|path| path.as_ref().map_or_else(|key| vec![*key], Path::keys)).collect()
}

/// What is left of the paths below a key: those that go on, and whether one
/// ends there.
fn below<'k>(paths: &[Vec<&'k str>], key: &str) -> (Vec<Vec<&'k str>>, bool) {
    let through: Vec<&Vec<&str>> = paths.iter().filter(|path| path.first() == Some(&key)).collect();
    let ends = through.iter().any(|path| path.len() == 1);
    (through.iter().filter(|path| path.len() > 1).map(|path| path[1..].to_vec()).collect(), ends)
}

fn keep(payload: &Payload, paths: &[Vec<&str>]) -> Payload {
    let kept = payload.iter().filter_map(|(key, value)| {
        let (rest, whole) = below(paths, key);
        if whole {
            return Some((key.clone(), value.clone()));
        }
        if rest.is_empty() { None } else { Some((key.clone(), inside(value, &|inner| keep(inner, &rest))?)) }
    });
    kept.collect()
}

fn drop_paths(payload: &Payload, paths: &[Vec<&str>]) -> Payload {
    let kept = payload.iter().filter_map(|(key, value)| {
        let (rest, whole) = below(paths, key);
        if whole {
            return None;
        }
        let left = inside(value, &|inner| drop_paths(inner, &rest));
        Some((key.clone(), left.unwrap_or_else(|| value.clone())))
    });
    kept.collect()
}

/// Applies a choice to an object, or to the objects of an array; `None` for
/// anything else.
fn inside(value: &Value, choose: &dyn Fn(&Payload) -> Payload) -> Option<Value> {
    match value {
        Value::Object(object) => Some(Value::Object(choose(object))),
        Value::Array(items) => {
            let chosen = items.iter().map(|item| inside(item, choose).unwrap_or_else(|| item.clone()));
            Some(Value::Array(chosen.collect()))
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_choice_of_paths_keeps_the_structure() {
        let Value::Object(payload) =
            json!({"a": {"b": 1, "c": 2}, "l": [{"x": 1, "y": 2}], "d.e": 3, "n": 4})
        else {
            unreachable!("it is an object");
        };
        let paths = |list: &[&str]| list.iter().map(|path| (*path).to_owned()).collect::<Vec<_>>();
        let only = |list: &[&str]| Value::Object(Selector::Only(paths(list)).pick(&payload).unwrap());
        let except = |list: &[&str]| Value::Object(Selector::Except(paths(list)).pick(&payload).unwrap());
        assert_eq!(only(&["a.b", "n"]), json!({"a": {"b": 1}, "n": 4}));
        assert_eq!(only(&["l[].x"]), json!({"l": [{"x": 1}]}));
        assert_eq!(only(&["\"d.e\"", "gone"]), json!({"d.e": 3}));
        assert_eq!(only(&["no path"]), json!({}));
        assert_eq!(except(&["a.b", "l.y", "n"]), json!({"a": {"c": 2}, "l": [{"x": 1}], "d.e": 3}));
        assert_eq!(Selector::None.pick(&payload), None);
    }
}
