//! Strings as ids: a point may be called by any text that is no UUID.
//!
//! Such a label stands for the UUID of version 5 that the namespace [`LABELS`]
//! makes of it. That is the point's id, in which it is found and ordered; the
//! label is kept beside it, and both are given back. Which collections take
//! labels is in their settings, see `config`.

use std::cell::Cell;
use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};
use uuid::Uuid;

use crate::error::{Error, Result};
use crate::id::PointId;
use crate::point::Point;

/// The namespace in which labels become UUIDs of version 5. What was stored
/// depends on it: it must not change.
pub const LABELS: Uuid = Uuid::from_u128(0x8b0c_92d6_3c1f_5e0a_9d57_41a6_c3e2_70b4);

/// Bytes a label may have.
const MAX_LABEL: usize = 4096;

/// The id of a point as it is written: with its label, if it has one.
///
/// ```
/// use cairn_index::{PointId, WrittenId};
///
/// let stone = WrittenId::from("quarry/7");
/// assert_eq!(stone.label.as_deref(), Some("quarry/7"));
/// assert_eq!(stone.id, PointId::labelled("quarry/7"));
/// assert_eq!(stone.to_string(), "quarry/7");
///
/// let uuid = WrittenId::from("936DA01F-9ABD-4D9D-80C7-02AF85C822A8");
/// assert_eq!(uuid.to_string(), "936da01f-9abd-4d9d-80c7-02af85c822a8");
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WrittenId {
    /// The id.
    pub id: PointId,
    /// The text that the id was made of.
    pub label: Option<Arc<str>>,
}

impl PointId {
    /// The id that a text stands for: the UUID that it is, or else the one made
    /// of it.
    #[must_use]
    pub fn labelled(text: &str) -> Self {
        Self::Uuid(Uuid::parse_str(text).unwrap_or_else(|_| Uuid::new_v5(&LABELS, text.as_bytes())))
    }
}

impl From<&str> for WrittenId {
    fn from(text: &str) -> Self {
        let label = Uuid::parse_str(text).is_err().then(|| Arc::from(text));
        Self { id: PointId::labelled(text), label }
    }
}

impl From<String> for WrittenId {
    fn from(text: String) -> Self {
        Self::from(text.as_str())
    }
}

impl From<PointId> for WrittenId {
    fn from(id: PointId) -> Self {
        Self { id, label: None }
    }
}

impl From<u64> for WrittenId {
    fn from(id: u64) -> Self {
        PointId::from(id).into()
    }
}

impl From<Uuid> for WrittenId {
    fn from(id: Uuid) -> Self {
        PointId::from(id).into()
    }
}

impl fmt::Display for WrittenId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.label {
            Some(label) => f.write_str(label),
            None => self.id.fmt(f),
        }
    }
}

impl Serialize for WrittenId {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match &self.label {
            Some(label) => serializer.serialize_str(label),
            None => self.id.serialize(serializer),
        }
    }
}

/// Read from JSON as a [`PointId`] is, and as that takes labels only within
/// [`with_labels`].
impl<'de> Deserialize<'de> for WrittenId {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(JsonId)
    }
}

struct JsonId;

impl de::Visitor<'_> for JsonId {
    type Value = WrittenId;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if are_read() {
            "a point ID: an unsigned integer or a string"
        } else {
            "a point ID: an unsigned integer or a UUID string"
        })
    }

    fn visit_u64<E: de::Error>(self, id: u64) -> Result<WrittenId, E> {
        Ok(id.into())
    }

    fn visit_i64<E: de::Error>(self, id: i64) -> Result<WrittenId, E> {
        u64::try_from(id).map(WrittenId::from).map_err(|_| E::custom(Error::PointId(id.to_string())))
    }

    fn visit_str<E: de::Error>(self, text: &str) -> Result<WrittenId, E> {
        // A string of digits is not a number here: JSON says which is meant.
        if are_read() {
            return Ok(text.into());
        }
        let uuid = Uuid::parse_str(text).map_err(|_| E::custom(Error::PointId(text.to_owned())))?;
        Ok(uuid.into())
    }
}

/// Reads a [`PointId`] from JSON.
pub(crate) fn read_id<'de, D: Deserializer<'de>>(deserializer: D) -> Result<PointId, D::Error> {
    deserializer.deserialize_any(JsonId).map(|written| written.id)
}

thread_local! {
    static READ: Cell<bool> = const { Cell::new(false) };
}

/// Whether labels are taken for ids on this thread now.
fn are_read() -> bool {
    READ.get()
}

/// Lets any string stand for an id, wherever one may, in the JSON that `read`
/// reads on this thread. Outside of it a string that is no UUID is refused, as
/// collections refuse it that do not take labels.
///
/// ```
/// use cairn_index::{Filter, PointId, with_labels};
///
/// let json = r#"{"must": [{"has_id": ["quarry/7"]}]}"#;
/// assert!(serde_json::from_str::<Filter>(json).is_err());
/// let filter: Filter = with_labels(|| serde_json::from_str(json)).unwrap();
/// assert!(filter.matches(PointId::labelled("quarry/7"), &serde_json::Map::new()));
/// ```
pub fn with_labels<T>(read: impl FnOnce() -> T) -> T {
    /// Also when `read` panics.
    struct Restored(bool);

    impl Drop for Restored {
        fn drop(&mut self) {
            READ.set(self.0);
        }
    }

    let _before = Restored(READ.replace(true));
    read()
}

/// Checks the label of a point that is to be written.
pub(crate) fn check(point: &Point, are_taken: bool) -> Result<()> {
    let Some(label) = &point.label else { return Ok(()) };
    if !are_taken {
        return Err(Error::Label { label: label.to_string() });
    }
    if label.len() > MAX_LABEL {
        return Err(Error::Request(format!(
            "the id of a point has {} bytes, a string may have {MAX_LABEL}",
            label.len()
        )));
    }
    if point.id != PointId::labelled(label) || Uuid::parse_str(label).is_ok() {
        return Err(Error::Request(format!("the label `{label}` does not belong to the id {}", point.id)));
    }
    Ok(())
}

/// Checks that no two different labels of these points stand for the same id,
/// nor one of them and that of a point which is there.
pub(crate) fn check_distinct(points: &[Point], there: impl Fn(PointId) -> Option<Arc<str>>) -> Result<()> {
    let mut met: HashMap<PointId, &str> = HashMap::new();
    for point in points {
        let Some(label) = point.label.as_deref() else { continue };
        let before = met.insert(point.id, label).map(Arc::from).or_else(|| there(point.id));
        if let Some(other) = before.filter(|other| **other != *label) {
            let (label, other) = (label.to_owned(), other.to_string());
            return Err(Error::LabelTaken { label, other, id: point.id });
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use cairn_ann::Metric;

    use super::*;
    use crate::config::CollectionConfig;
    use crate::op::{Change, Op, When};
    use crate::part::VectorUids;
    use crate::state::State;

    #[test]
    fn a_label_stands_for_the_same_uuid_for_ever() {
        // What is stored depends on it.
        assert_eq!(PointId::labelled("quarry/7").to_string(), "02041b27-d26a-54ef-b6eb-4d40a48c90c5");
    }

    #[test]
    fn labels_are_read_only_where_they_are_asked_for() {
        let read = |json: &str| serde_json::from_str::<WrittenId>(json).map_err(|error| error.to_string());
        let refused = "is not a valid point ID";
        for json in ["\"quarry/7\"", "\"\"", "\"12\""] {
            assert!(read(json).unwrap_err().contains(refused), "{json}");
            let written = with_labels(|| read(json)).unwrap();
            assert_eq!(serde_json::to_string(&written).unwrap(), json);
            assert_eq!(with_labels(|| serde_json::from_str::<PointId>(json)).unwrap(), written.id);
            assert!(serde_json::from_str::<PointId>(json).is_err(), "{json}");
        }
        for json in ["-1", "1.5", "true", "[]"] {
            assert!(with_labels(|| read(json)).is_err(), "{json}");
        }
        let uuid = "\"936DA01F9ABD4D9D80C702AF85C822A8\"";
        assert_eq!(with_labels(|| read(uuid)), read(uuid));
        assert_eq!(with_labels(|| read("12")).unwrap(), 12.into());
    }

    #[test]
    fn a_panic_while_reading_leaves_the_thread_as_it_was() {
        let read = std::panic::catch_unwind(|| with_labels(|| panic!("as a visitor might")));
        assert!(read.is_err() && !are_read());
    }

    #[test]
    fn two_labels_of_one_id_are_told_apart() {
        let written = |label: &str| Point { id: 7.into(), label: Some(label.into()), ..Point::empty(7) };
        let nothing = |_| None;
        assert!(check_distinct(&[written("a"), written("a")], nothing).is_ok());
        let clash = check_distinct(&[written("a"), written("b")], nothing);
        assert!(matches!(clash, Err(Error::LabelTaken { .. })));
        let there = |_| Some(Arc::from("b"));
        assert!(matches!(check_distinct(&[written("a")], there), Err(Error::LabelTaken { .. })));
        assert!(check_distinct(&[written("b"), Point::empty(7)], there).is_ok());
    }

    #[test]
    fn the_log_writes_no_point_over_one_with_another_label() {
        let config = CollectionConfig::new(1, Metric::Dot).with_string_ids();
        let mut state = State::new(0, Arc::new(config), VectorUids::from([(String::new(), 0)]), Vec::new());
        let mut upsert = |seq: u64, label: Option<&str>, value: f32| {
            let point = Point { label: label.map(Arc::from), ..Point::new(7, vec![value]) };
            let op = Op::one(Change::Upsert { points: vec![point], when: When::default() });
            let upserted = state.apply(seq, op).upserted;
            (upserted, state.label(7.into(), 1), state.view().parts[0].len())
        };
        let a = Some(Arc::from("a"));
        assert_eq!(upsert(1, None, 0.1), (1, None, 1));
        assert_eq!(upsert(2, Some("a"), 0.2), (1, a.clone(), 2));
        assert_eq!(upsert(3, Some("b"), 0.3), (0, a.clone(), 2));
        assert_eq!(upsert(4, None, 0.4), (1, a, 3));
    }

    #[test]
    fn a_label_must_be_that_of_its_id() {
        let point = |id: PointId, label: &str| Point { label: Some(label.into()), ..Point::empty(id) };
        let right = point(PointId::labelled("a"), "a");
        assert!(check(&right, true).is_ok());
        assert!(matches!(check(&right, false), Err(Error::Label { .. })));
        let uuid = "936da01f-9abd-4d9d-80c7-02af85c822a8";
        let long = "x".repeat(MAX_LABEL + 1);
        for (id, label) in [
            (7.into(), "a"),
            (PointId::labelled("b"), "a"),
            (PointId::labelled(uuid), uuid),
            (PointId::labelled(&long), &long),
        ] {
            assert!(matches!(check(&point(id, label), true), Err(Error::Request(_))), "{id}");
        }
    }
}
