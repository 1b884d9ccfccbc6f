//! Fields in arrays of objects of which each object counts for itself.
//!
//! The option `nested` of a field's schema names the array. A condition on the
//! field then holds for a point when it holds for one object of the array alone:
//! all words of a text are in one object, and `is_empty` says that an object
//! lacks the field. Ranking by words takes each object for a document. The
//! field's index has an entry for each object, see `fields`.

use serde_json::Value;

use crate::path::Path;
use crate::point::Payload;
use crate::schema::FieldSchema;

/// Where the objects are, and where in each the field is.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Elements {
    array: Path,
    inner: Path,
}

impl Elements {
    /// `None` where objects do not count for themselves, or the field is in none
    /// of them.
    pub(crate) fn of(schema: &FieldSchema, field: &Path) -> Option<Self> {
        let array = schema.common.nested.as_ref()?.parse::<Path>().ok()?.each();
        let inner = field.within(&array)?;
        Some(Self { array, inner })
    }

    /// Whether the objects are the elements that a path reaches.
    pub(crate) fn are_those_of(&self, path: &Path) -> bool {
        self.array.reaches_as(path)
    }

    /// As they are seen from an element of the array at `outer`; `None` where that
    /// is one of the objects, or in one.
    pub(crate) fn within(self, outer: &Path) -> Option<Self> {
        Some(Self { array: self.array.within(outer)?, inner: self.inner })
    }

    /// The values of the field, object by object.
    pub(crate) fn each<'v>(&self, payload: &'v Payload) -> impl Iterator<Item = Vec<&'v Value>> {
        let objects = self.array.values(payload).into_iter().filter_map(Value::as_object);
        objects.map(|object| self.inner.values(object))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn elements(nested: &str, field: &str) -> Option<Elements> {
        let schema = json!({"type": "keyword", "nested": nested});
        Elements::of(&serde_json::from_value(schema).unwrap(), &field.parse().unwrap())
    }

    #[test]
    fn a_field_is_read_object_by_object() {
        let payload = json!({"shop": {"offers": [
            {"tags": ["a", "b"]}, {}, 7, {"tags": [{"n": 1}, {"n": 2}]}, {"tags": null}
        ]}});
        let read = |nested: &str, field: &str| -> Vec<Value> {
            let elements = elements(nested, field).unwrap();
            elements.each(payload.as_object().unwrap()).map(|values| json!(values)).collect()
        };
        let tags = [json!([["a", "b"]]), json!([]), json!([[{"n": 1}, {"n": 2}]]), json!([null])];
        assert_eq!(read("shop.offers", "shop.offers[].tags"), tags);
        assert_eq!(read("shop.offers[]", "shop.offers[].tags"), tags);
        let numbers = [json!([]), json!([]), json!([1, 2]), json!([])];
        assert_eq!(read("shop.offers", "shop.offers[].tags[].n"), numbers);
        assert_eq!(read("shop.offers[].tags", "shop.offers[].tags[].n"), [json!([1]), json!([2])]);
    }

    #[test]
    fn a_field_outside_of_the_array_has_no_objects() {
        for (nested, field) in [
            ("offers", "offers"),
            ("offers", "offers[]"),
            ("offers", "offers.price"),
            ("offers", "offers[0].price"),
            ("offers", "other[].price"),
            ("offers[].tags", "offers[].price"),
            ("no path", "offers[].price"),
        ] {
            assert_eq!(elements(nested, field), None, "{nested} {field}");
        }
        let plain = serde_json::from_value(json!("keyword")).unwrap();
        assert_eq!(Elements::of(&plain, &"offers[].price".parse().unwrap()), None);
    }

    #[test]
    fn an_object_sees_only_what_is_in_it() {
        let path = |text: &str| text.parse::<Path>().unwrap();
        let offers = elements("shop.offers", "shop.offers[].price").unwrap();
        assert!(offers.are_those_of(&path("shop.offers[]")) && !offers.are_those_of(&path("shop")));
        assert_eq!(offers.clone().within(&path("shop")), elements("offers", "offers[].price"));
        assert_eq!(offers.clone().within(&path("shop.offers[]")), None);
        assert_eq!(offers.within(&path("shop.offers[].tags[]")), None);
    }
}
