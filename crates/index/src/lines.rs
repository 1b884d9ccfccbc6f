//! Points as lines of JSON: `{"id", "vector" or "vectors", "payload"}`.
//!
//! The unnamed vector alone is `vector`, vectors by name are `vectors`; when they
//! are read, either key takes either. A vector is numbers, rows of numbers, or
//! `{"indices", "values"}`, as over HTTP. A point that disappears has `expiry`.
//! Numbers are written so short that they still read back as the same f32.

use std::fmt;
use std::io::Write;

use cairn_ann::Metric;
use serde::de::{self, MapAccess, SeqAccess, Visitor};
use serde::ser::SerializeMap;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::collection::Collection;
use crate::config::{CollectionConfig, VectorConfig};
use crate::error::{Error, Result};
use crate::label::{WrittenId, with_labels};
use crate::point::{Expiry, Parts, Payload, Point, Record};
use crate::vector::{MultiVector, SparseVector, Vector, Vectors};

impl Collection {
    /// Writes every point as a line of JSON with `id`, `vector` or `vectors`,
    /// `payload` and, where it has one, `expiry`, in order of id; returns how
    /// many. All lines are of one moment, one point at a time is in memory.
    ///
    /// A line reads back as a [`Point`]:
    ///
    /// ```
    /// # use cairn_index::{CollectionConfig, Database, Metric, Point};
    /// # let dir = tempfile::tempdir().unwrap();
    /// # let db = Database::open(dir.path())?;
    /// # let stones = db.create_collection("stones", CollectionConfig::new(2, Metric::Dot))?;
    /// stones.upsert(vec![Point::new(7, vec![0.1, 2.0])])?;
    /// let mut lines = Vec::new();
    /// stones.export(&mut lines)?;
    /// assert_eq!(lines, b"{\"id\":7,\"vector\":[0.1,2.0],\"payload\":{}}\n");
    /// let point: Point = serde_json::from_slice(&lines).unwrap();
    /// assert_eq!(point, Point::new(7, vec![0.1, 2.0]));
    /// # Ok::<(), cairn_index::Error>(())
    /// ```
    ///
    /// # Errors
    /// When `out` fails or a segment is damaged.
    pub fn export(&self, out: &mut dyn Write) -> Result<usize> {
        let view = self.shard.view()?;
        let places = view.scroll(None, None, usize::MAX)?;
        let mut line = Vec::new();
        for place in &places {
            let record = view.record(*place, &Parts::all())?;
            line.clear();
            serde_json::to_writer(&mut line, &Line(&record)).expect("keys are strings and numbers finite");
            line.push(b'\n');
            out.write_all(&line).map_err(Error::io("export to", "the output"))?;
        }
        Ok(places.len())
    }

    /// Whether a point fits the collection, so that [`Collection::upsert`] takes
    /// it.
    ///
    /// # Errors
    /// Why it does not, as for [`Collection::upsert`].
    pub fn check(&self, point: &Point) -> Result<()> {
        point.clone().settle(&self.config())
    }
}

impl CollectionConfig {
    /// Settings that these points fit: each vector with the size with which it
    /// comes first, the dense ones compared by `distance`; strings as ids if one has
    /// such.
    pub fn fitting(points: &[Point], distance: Metric) -> Self {
        let string_ids = points.iter().any(|point| point.label.is_some());
        let mut config = Self { string_ids, ..Self::default() };
        for (name, vector) in points.iter().flat_map(|point| &point.vectors) {
            let (size, multivector) = match vector {
                Vector::Dense(values) => (values.len(), false),
                Vector::Multi(rows) => (rows.dim(), true),
                Vector::Sparse(_) => {
                    config.sparse_vectors.entry(name.clone()).or_default();
                    continue;
                }
            };
            let fits = VectorConfig { multivector, ..VectorConfig::new(size, distance) };
            config.vectors.entry(name.clone()).or_insert(fits);
        }
        config
    }
}

struct Line<'r>(&'r Record);

impl Serialize for Line<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let record = self.0;
        let (none, empty) = (Vectors::new(), Payload::new());
        let vectors = record.vectors.as_ref().unwrap_or(&none);
        let mut line = serializer.serialize_map(None)?;
        line.serialize_entry("id", &WrittenId { id: record.id, label: record.label.clone() })?;
        match vectors.get("").filter(|_| vectors.len() == 1) {
            Some(unnamed @ (Vector::Dense(_) | Vector::Multi(_))) => {
                line.serialize_entry("vector", &Shape(unnamed))?;
            }
            _ => line.serialize_entry("vectors", &Named(vectors))?,
        }
        line.serialize_entry("payload", record.payload.as_ref().unwrap_or(&empty))?;
        if let Some(expiry) = &record.expiry {
            line.serialize_entry("expiry", expiry)?;
        }
        line.end()
    }
}

struct Named<'v>(&'v Vectors);

impl Serialize for Named<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_map(self.0.iter().map(|(name, vector)| (name, Shape(vector))))
    }
}

struct Shape<'v>(&'v Vector);

impl Serialize for Shape<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self.0 {
            Vector::Dense(values) => serializer.collect_seq(values),
            Vector::Multi(rows) => serializer.collect_seq(rows.rows()),
            Vector::Sparse(sparse) => {
                let mut parts = serializer.serialize_map(Some(2))?;
                parts.serialize_entry("indices", sparse.indices())?;
                parts.serialize_entry("values", sparse.values())?;
                parts.end()
            }
        }
    }
}

/// A point is read from a line that an export wrote, or from what a client of
/// the HTTP API gets of a point; keys that say nothing of it are passed over.
impl<'de> Deserialize<'de> for Point {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let read = with_labels(|| Read::deserialize(deserializer))?;
        let vectors = match (read.vector, read.vectors) {
            (Some(Given(vectors)), None) | (None, Some(Given(vectors))) => vectors,
            (None, None) => return Err(de::Error::missing_field("vector")),
            (Some(_), Some(_)) => {
                return Err(de::Error::custom("a point has `vector` or `vectors`, not both"));
            }
        };
        let payload = read.payload.unwrap_or_default();
        let WrittenId { id, label } = read.id;
        Ok(Self { id, label, vectors, payload, expiry: read.expiry })
    }
}

#[derive(Deserialize)]
struct Read {
    id: WrittenId,
    vector: Option<Given>,
    vectors: Option<Given>,
    payload: Option<Payload>,
    expiry: Option<Expiry>,
}

/// The unnamed vector, or vectors by name.
struct Given(Vectors);

impl<'de> Deserialize<'de> for Given {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(GivenVisitor)
    }
}

struct GivenVisitor;

impl<'de> Visitor<'de> for GivenVisitor {
    type Value = Given;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a vector, or vectors by name")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, seq: A) -> Result<Given, A::Error> {
        let One(vector) = OneVisitor.visit_seq(seq)?;
        Ok(Given(Vectors::from([(String::new(), vector)])))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Given, A::Error> {
        let mut vectors = Vectors::new();
        while let Some((name, One(vector))) = map.next_entry()? {
            vectors.insert(name, vector);
        }
        Ok(Given(vectors))
    }
}

struct One(Vector);

impl<'de> Deserialize<'de> for One {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(OneVisitor)
    }
}

struct OneVisitor;

impl<'de> Visitor<'de> for OneVisitor {
    type Value = One;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("numbers, rows of numbers, or `indices` with `values`")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<One, A::Error> {
        match seq.next_element()? {
            None => Ok(One(Vector::Dense(Vec::new()))),
            Some(First::Number(first)) => {
                let mut values = Vec::with_capacity(seq.size_hint().unwrap_or(0).clamp(64, 4096));
                values.push(first);
                while let Some(value) = seq.next_element()? {
                    values.push(value);
                }
                Ok(One(Vector::Dense(values)))
            }
            Some(First::Row(first)) => {
                let mut rows = vec![first];
                while let Some(row) = seq.next_element()? {
                    rows.push(row);
                }
                MultiVector::from_rows(&rows).map(|rows| One(rows.into())).map_err(de::Error::custom)
            }
        }
    }

    fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<One, A::Error> {
        let Positions { indices, values } =
            Positions::deserialize(de::value::MapAccessDeserializer::new(map))?;
        if indices.len() != values.len() {
            return Err(de::Error::custom("`indices` and `values` differ in length"));
        }
        let sparse = SparseVector::new(indices.into_iter().zip(values));
        sparse.map(|sparse| One(sparse.into())).map_err(de::Error::custom)
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Positions {
    indices: Vec<u32>,
    values: Vec<f32>,
}

/// The first element of an array says what the array is.
enum First {
    Number(f32),
    Row(Vec<f32>),
}

impl<'de> Deserialize<'de> for First {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(FirstVisitor)
    }
}

struct FirstVisitor;

impl<'de> Visitor<'de> for FirstVisitor {
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

    fn visit_seq<A: SeqAccess<'de>>(self, seq: A) -> Result<First, A::Error> {
        Vec::deserialize(de::value::SeqAccessDeserializer::new(seq)).map(First::Row)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(line: &str) -> Result<Point, String> {
        serde_json::from_str(line).map_err(|error| error.to_string())
    }

    fn written(point: &Point) -> String {
        let record = Record {
            id: point.id,
            label: point.label.clone(),
            version: 0,
            payload: Some(point.payload.clone()),
            vectors: Some(point.vectors.clone()),
            expiry: point.expiry,
        };
        serde_json::to_string(&Line(&record)).unwrap()
    }

    #[test]
    fn every_kind_of_point_reads_back_as_it_was_written() {
        let rows = MultiVector::from_rows(&[vec![0.1, 1e-7], vec![3.0, -0.0]]).unwrap();
        let sparse = SparseVector::new([(u32::MAX, 0.3), (7, -1.5)]).unwrap();
        let payload = serde_json::json!({"b": [1, 2.5, null], "a": {"ü": true}});
        let expiry = Expiry { at_ms: 5, renew_ms: 0 };
        for point in [
            Point::new(1, vec![0.1, 0.2, 16_777_216.0]),
            Point::new(2, rows.clone()),
            Point::empty(3).with_vector("rows", rows).with_vector("words", sparse.clone()),
            Point::new(u64::MAX, vec![f32::MIN_POSITIVE]).with_vector("words", sparse).with_expiry(expiry),
            Point::empty(4).with_payload(payload).unwrap(),
            Point::new("quarry/\"7\"", vec![1.0]),
            Point::new("12", vec![1.0]),
        ] {
            let line = written(&point);
            assert_eq!(read(&line).unwrap(), point, "{line}");
            assert_eq!(written(&read(&line).unwrap()), line);
        }
    }

    #[test]
    fn a_line_is_as_short_as_a_person_would_write_it() {
        let point = Point::new(1, vec![0.1, 2.0]);
        assert_eq!(written(&point), r#"{"id":1,"vector":[0.1,2.0],"payload":{}}"#);
        let named = Point::empty(1).with_vector("a", vec![0.3]);
        assert_eq!(written(&named), r#"{"id":1,"vectors":{"a":[0.3]},"payload":{}}"#);
    }

    #[test]
    fn what_other_servers_write_is_read_too() {
        let point = read(
            r#"{"id": 1, "version": 3, "payload": null, "vector": {"a": [1, 2], "b": {"indices": [3], "values": [4]}}}"#,
        );
        let point = point.unwrap();
        assert_eq!(point.vectors["a"], Vector::Dense(vec![1.0, 2.0]));
        assert_eq!(point.vectors["b"].as_sparse().unwrap().indices(), [3]);
    }

    #[test]
    fn what_is_no_point_says_why() {
        for (line, why) in [
            (r#"{"id": 1}"#, "missing field `vector`"),
            (r#"{"id": -1, "vector": [1]}"#, "-1"),
            (r#"{"vector": [1]}"#, "missing field `id`"),
            (r#"{"id": 1, "vector": ["x"]}"#, "a number"),
            (r#"{"id": 1, "vector": [[1, 2], [3]]}"#, "rows of equal length"),
            (r#"{"id": 1, "vector": {"a": {"indices": [1], "values": [1, 2]}}}"#, "differ in length"),
            (r#"{"id": 1, "vector": {"a": {"indices": [1, 1], "values": [1, 2]}}}"#, "unique"),
            (r#"{"id": 1, "vector": [1], "vectors": {}}"#, "not both"),
            (r#"{"id": 1, "vector": [1], "payload": 3}"#, "invalid type"),
        ] {
            let told = read(line).unwrap_err();
            assert!(told.contains(why), "{line}: {told}");
        }
    }

    #[test]
    fn settings_fit_the_points_they_were_made_for() {
        let points = [
            Point::new(1, vec![1.0, 2.0]),
            Point::empty(2).with_vector("words", SparseVector::new([(1, 1.0)]).unwrap()),
            Point::empty(3).with_vector("rows", MultiVector::from_rows(&[vec![1.0; 3]]).unwrap()),
        ];
        let config = CollectionConfig::fitting(&points, Metric::Euclid);
        assert_eq!(config.vectors[""], VectorConfig::new(2, Metric::Euclid));
        assert!(config.vectors["rows"].multivector && config.vectors["rows"].size == 3);
        assert!(config.sparse_vectors.contains_key("words"));
        assert!(points.into_iter().all(|mut point| point.settle(&config).is_ok()));
    }
}
