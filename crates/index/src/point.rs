//! Points as they are given and as they are returned.

use std::sync::Arc;

use half::f16;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::config::{CollectionConfig, Datatype, VectorConfig};
use crate::error::{Error, Result};
use crate::id::PointId;
use crate::label::{self, WrittenId};
use crate::path::Path;
use crate::vector::{Vector, Vectors};

/// What an application keeps with a point: a JSON object.
pub type Payload = Map<String, Value>;

/// A point to be written. It replaces any point of the same id as a whole.
#[derive(Debug, Clone, PartialEq)]
pub struct Point {
    /// The id, chosen by the caller.
    pub id: PointId,
    /// The string that the id was made of, if it was made of one.
    pub label: Option<Arc<str>>,
    /// Any subset of the collection's vectors.
    pub vectors: Vectors,
    /// The payload.
    pub payload: Payload,
    /// When it disappears; `None` for never.
    pub expiry: Option<Expiry>,
}

/// When a point disappears.
///
/// From that moment no search, read or count sees it; its room is given back
/// when its segment is merged.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Expiry {
    /// Milliseconds since 1970, UTC.
    pub at_ms: u64,
    /// When above 0, being read or found moves `at_ms` to that moment plus
    /// this. So that not every read becomes a write, it is moved once a tenth
    /// of this time has passed.
    pub renew_ms: u64,
}

impl Expiry {
    /// Disappears this long from now.
    pub fn after(time: std::time::Duration) -> Self {
        let at_ms = now_ms().saturating_add(u64::try_from(time.as_millis()).unwrap_or(u64::MAX));
        Self { at_ms, renew_ms: 0 }
    }

    /// Disappears once it was not read or found for this long.
    pub fn unused_for(time: std::time::Duration) -> Self {
        let renew_ms = u64::try_from(time.as_millis()).unwrap_or(u64::MAX);
        Self { renew_ms, ..Self::after(time) }
    }
}

/// The clock, for what is settled before the log.
pub(crate) fn now_ms() -> u64 {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    since.map_or(0, |since| since.as_millis() as u64)
}

impl Point {
    /// A point with the unnamed vector and no payload. The id is a number, a
    /// UUID or, where the collection takes those, any string.
    pub fn new(id: impl Into<WrittenId>, vector: impl Into<Vector>) -> Self {
        Self::empty(id).with_vector("", vector)
    }

    /// A point without vectors and payload.
    pub fn empty(id: impl Into<WrittenId>) -> Self {
        let WrittenId { id, label } = id.into();
        Self { id, label, vectors: Vectors::new(), payload: Payload::new(), expiry: None }
    }

    /// The same point with this vector too.
    #[must_use]
    pub fn with_vector(mut self, name: &str, vector: impl Into<Vector>) -> Self {
        self.vectors.insert(name.to_owned(), vector.into());
        self
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

    /// The same point, disappearing in time.
    #[must_use]
    pub fn with_expiry(mut self, expiry: Expiry) -> Self {
        self.expiry = Some(expiry);
        self
    }

    /// Checks the point against the collection and brings its vectors into the
    /// form they are stored in.
    pub(crate) fn settle(&mut self, config: &CollectionConfig) -> Result<()> {
        label::check(self, config.string_ids)?;
        settle_vectors(config, &mut self.vectors)?;
        check_depth(&self.payload)
    }
}

pub(crate) fn check_depth(payload: &Payload) -> Result<()> {
    check_depth_below(payload, 0)
}

/// The same for a payload that is put this many levels below the top.
pub(crate) fn check_depth_below(payload: &Payload, levels: usize) -> Result<()> {
    check_object_depth("payload", payload, levels)
}

/// The same for any object that is kept as JSON.
pub(crate) fn check_object_depth(what: &str, object: &Map<String, Value>, levels: usize) -> Result<()> {
    let left = MAX_DEPTH.checked_sub(levels);
    if left.is_none_or(|left| object.values().any(|value| deeper_than(value, left))) {
        return Err(Error::Request(format!("{what} nests deeper than {MAX_DEPTH} levels")));
    }
    Ok(())
}

// Log and catalogue keep objects as JSON, whose reader stops at 128 levels.
const MAX_DEPTH: usize = 100;

fn deeper_than(value: &Value, levels: usize) -> bool {
    let mut inner: Box<dyn Iterator<Item = &Value>> = match value {
        Value::Array(items) => Box::new(items.iter()),
        Value::Object(object) => Box::new(object.values()),
        _ => return false,
    };
    levels == 0 || inner.any(|value| deeper_than(value, levels - 1))
}

pub(crate) fn settle_vectors(config: &CollectionConfig, vectors: &mut Vectors) -> Result<()> {
    vectors.iter_mut().try_for_each(|(name, vector)| settle_vector(config, name, vector))
}

/// Checks a vector against the collection and brings it into the form it is
/// stored in: of unit length under cosine, rounded to what its type can hold.
pub(crate) fn settle_vector(config: &CollectionConfig, name: &str, vector: &mut Vector) -> Result<()> {
    if config.sparse_vectors.contains_key(name) {
        return match vector {
            Vector::Sparse(_) => Ok(()),
            _ => Err(Error::VectorKind { name: name.to_owned(), want: "sparse" }),
        };
    }
    let want = config.vector(name)?;
    match vector {
        Vector::Dense(values) if !want.multivector => settle_row(want, values),
        Vector::Dense(values) => {
            // One row is a multi-vector of one.
            let mut values = std::mem::take(values);
            settle_row(want, &mut values)?;
            *vector = Vector::Multi(crate::vector::MultiVector::new(want.size, values)?);
            Ok(())
        }
        Vector::Multi(rows) if want.multivector => {
            if rows.dim() != want.size {
                return Err(Error::Dimension { want: want.size, got: rows.dim() });
            }
            rows.values_mut().chunks_exact_mut(want.size).try_for_each(|row| settle_row(want, row))
        }
        Vector::Multi(_) => Err(Error::VectorKind { name: name.to_owned(), want: "one dense vector" }),
        Vector::Sparse(_) => Err(Error::VectorKind { name: name.to_owned(), want: "dense" }),
    }
}

fn settle_row(want: &VectorConfig, values: &mut [f32]) -> Result<()> {
    check_row(want, values)?;
    match want.datatype {
        Datatype::Float32 => want.distance.prepare(values),
        Datatype::Float16 => {
            want.distance.prepare(values);
            for (position, value) in values.iter_mut().enumerate() {
                let rounded = f16::from_f32(*value);
                if !rounded.is_finite() {
                    return Err(Error::OutOfType { position, value: *value, datatype: "float16" });
                }
                *value = rounded.to_f32();
            }
        }
        Datatype::Uint8 => {
            let whole = |value: f32| (0.0..=255.0).contains(&value) && value.fract() == 0.0;
            if let Some(position) = values.iter().position(|value| !whole(*value)) {
                return Err(Error::OutOfType { position, value: values[position], datatype: "uint8" });
            }
        }
    }
    Ok(())
}

fn check_row(want: &VectorConfig, values: &[f32]) -> Result<()> {
    if values.len() != want.size {
        return Err(Error::Dimension { want: want.size, got: values.len() });
    }
    match values.iter().position(|value| !value.is_finite()) {
        Some(position) => Err(Error::NotFinite { position }),
        None => Ok(()),
    }
}

/// Checks a query against the collection and brings it into the form stored
/// vectors are compared with. A query may have values its type cannot store.
pub(crate) fn settle_query(config: &CollectionConfig, name: &str, mut query: Vector) -> Result<Vector> {
    if config.sparse_vectors.contains_key(name) {
        return match query {
            Vector::Sparse(_) => Ok(query),
            _ => Err(Error::VectorKind { name: name.to_owned(), want: "sparse" }),
        };
    }
    let want = config.vector(name)?;
    let prepare = |values: &mut [f32]| {
        check_row(want, values)?;
        want.distance.prepare(values);
        Ok(())
    };
    match &mut query {
        Vector::Dense(values) => prepare(values)?,
        Vector::Multi(rows) if want.multivector => {
            let dim = rows.dim();
            rows.values_mut().chunks_exact_mut(dim).try_for_each(prepare)?;
        }
        Vector::Multi(_) => {
            return Err(Error::VectorKind { name: name.to_owned(), want: "one dense vector" });
        }
        Vector::Sparse(_) => return Err(Error::VectorKind { name: name.to_owned(), want: "dense" }),
    }
    Ok(query)
}

/// A stored point, read by id or by scrolling.
#[derive(Debug, Clone, PartialEq)]
pub struct Record {
    /// The id.
    pub id: PointId,
    /// The string that the id was made of, if it was made of one.
    pub label: Option<Arc<str>>,
    /// The seq of the operation that wrote it.
    pub version: u64,
    /// The payload, if asked for.
    pub payload: Option<Payload>,
    /// The vectors asked for; cosine vectors come back at unit length.
    pub vectors: Option<Vectors>,
    /// When it disappears, if ever.
    pub expiry: Option<Expiry>,
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
