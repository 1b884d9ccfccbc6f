//! What a query needs of the points it runs over.
//!
//! A source is a snapshot: nothing in it changes while it is asked. It says
//! which points match and which are nearest; what is made of that is `stage`'s.

use std::borrow::Cow;
use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

use cairn_ann::Metric;

use crate::error::{Error, Result};
use crate::fields::{FacetValue, OrderValue};
use crate::filter::Filter;
use crate::id::PointId;
use crate::path::Path;
use crate::point::Payload;
use crate::vector::Vector;
pub(crate) use crate::view::Place;

use super::kinds::Direction;
use super::request::SearchParams;
pub(crate) use super::values::{facet_value, flat_values, order_value};

/// How the vectors of a name are compared; sparse ones by their inner product.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub(crate) struct VectorKind {
    pub metric: Metric,
    pub multi: bool,
    pub sparse: bool,
}

impl VectorKind {
    /// Whether users see larger scores for nearer vectors.
    pub(crate) fn larger_is_better(self) -> bool {
        self.metric.larger_is_better()
    }
}

/// Which points a search looks at: those given, or those that match.
#[derive(Copy, Clone)]
pub(crate) struct Scope<'q> {
    pub filter: Option<&'q Filter>,
    /// Places without repetition; the filter holds for them already.
    pub among: Option<&'q [Place]>,
}

/// The points nearest to one vector.
pub(crate) struct Nearest<'q> {
    /// As [`Source::prepare`] returned it, or as it is stored.
    pub vector: &'q Vector,
    pub using: &'q str,
    pub scope: Scope<'q>,
    pub limit: usize,
    pub params: &'q SearchParams,
}

/// The points that are best by several examples at once.
pub(crate) struct Best<'q> {
    /// As [`Source::prepare`] returned them, or as they are stored.
    pub examples: &'q [Vector],
    pub using: &'q str,
    pub scope: Scope<'q>,
    pub limit: usize,
    pub params: &'q SearchParams,
    /// Makes one score, larger for better, of the raw similarities to the
    /// examples, in their order. A sparse vector that shares no position with
    /// an example has similarity 0 to it.
    pub combine: &'q (dyn Fn(&[f32]) -> f32 + Sync),
}

/// The points that a text field ranks by the words of a text.
pub(crate) struct Worded<'q> {
    pub key: &'q Path,
    pub text: &'q str,
    pub k: f32,
    pub b: f32,
    /// The points that are counted; all without one.
    pub corpus: Option<&'q Filter>,
    pub scope: Scope<'q>,
    pub limit: usize,
}

/// Points in order of a payload value.
pub(crate) struct Ordered<'q> {
    pub key: &'q Path,
    pub direction: Direction,
    pub start_from: Option<OrderValue>,
    pub scope: Scope<'q>,
    pub limit: usize,
}

/// A snapshot of a collection. Limits may be larger than it is.
pub(crate) trait Source: Sync {
    /// The collection's name.
    fn name(&self) -> &str;

    /// The point of this id, if it is there.
    fn resolve(&self, id: PointId) -> Option<Place>;

    fn id(&self, place: Place) -> PointId;

    /// The string that the id was made of.
    fn label(&self, place: Place) -> Option<Arc<str>>;

    fn version(&self, place: Place) -> u64;

    fn payload(&self, place: Place) -> Result<Cow<'_, Payload>>;

    /// The names of the collection's vectors.
    fn names(&self) -> Vec<String>;

    /// The point's vector of this name, as it is stored.
    fn vector(&self, place: Place, using: &str) -> Result<Option<Vector>>;

    /// The same in the form in which two stored vectors are compared.
    fn comparable(&self, place: Place, using: &str) -> Result<Option<Vector>> {
        self.vector(place, using)
    }

    /// [`Error::UnknownVector`] for a name the collection does not have.
    fn kind(&self, using: &str) -> Result<VectorKind>;

    /// Checks a query vector and brings it into the form that is compared.
    /// Weights that depend on what is stored, as idf, are applied by
    /// [`nearest`](Self::nearest) and [`best`](Self::best).
    fn prepare(&self, using: &str, vector: Vector) -> Result<Vector>;

    /// At most `limit` places with raw similarities, largest first. Points
    /// without the vector, and sparse ones that share no position with it, are
    /// left out.
    fn nearest(&self, ask: &Nearest<'_>) -> Result<Vec<(Place, f32)>>;

    /// At most `limit` places with combined scores, largest first. Points
    /// without the vector are left out.
    fn best(&self, ask: &Best<'_>) -> Result<Vec<(Place, f32)>>;

    /// At most `limit` places with scores, largest first; points without any of
    /// the words are left out. [`no_scored_index`] where the key has no text
    /// index with scoring.
    fn by_words(&self, ask: &Worded<'_>) -> Result<Vec<(Place, f32)>> {
        Err(no_scored_index(ask.key))
    }

    /// Every live point that matches, in any order.
    fn scan(&self, filter: Option<&Filter>, each: &mut dyn FnMut(Place) -> Result<()>) -> Result<()>;

    /// Those of the places that match, in the same order.
    fn matching(&self, places: &[Place], filter: &Filter) -> Result<Vec<Place>>;

    /// At most `limit` points that match, in order of id, from `from` on.
    fn scroll(&self, filter: Option<&Filter>, from: Option<PointId>, limit: usize) -> Result<Vec<Place>>;

    /// Another collection, by name or alias; [`Error::UnknownLookup`] if there
    /// is none.
    fn lookup(&self, collection: &str) -> Result<Box<dyn Source + '_>>;

    /// At most `limit` places with their values, equal values in order of id in
    /// the same direction. [`no_range_index`] where the key has no index that
    /// keeps an order.
    fn ordered(&self, ask: &Ordered<'_>) -> Result<Vec<(Place, OrderValue)>> {
        let mut found = Vec::new();
        let mut collect = |place: Place| {
            let payload = self.payload(place)?;
            let values = flat_values(ask.key, &payload).into_iter().filter_map(order_value);
            found
                .extend(values.filter(|value| ask.admits(value)).map(|value| (value, self.id(place), place)));
            Ok(())
        };
        match ask.scope.among {
            Some(places) => places.iter().try_for_each(|place| collect(*place))?,
            None => self.scan(ask.scope.filter, &mut collect)?,
        }
        found.sort_by(|a, b| {
            let ascending = a.0.total_cmp(&b.0).then(a.1.cmp(&b.1));
            if ask.direction == Direction::Ascending { ascending } else { ascending.reverse() }
        });
        found.truncate(ask.limit);
        Ok(found.into_iter().map(|(value, _, place)| (place, value)).collect())
    }

    /// Each value at the key with the number of points that have it, in any
    /// order. [`no_match_index`] where the key has no index of values.
    fn facet(&self, key: &Path, filter: Option<&Filter>) -> Result<Vec<(FacetValue, usize)>> {
        let mut counts: HashMap<FacetValue, usize> = HashMap::new();
        self.scan(filter, &mut |place| {
            let payload = self.payload(place)?;
            let values: BTreeSet<_> =
                flat_values(key, &payload).into_iter().filter_map(facet_value).collect();
            for value in values {
                *counts.entry(value).or_default() += 1;
            }
            Ok(())
        })?;
        Ok(counts.into_iter().collect())
    }
}

impl Ordered<'_> {
    /// Whether a value is not before the one to start from.
    pub(crate) fn admits(&self, value: &OrderValue) -> bool {
        self.start_from.as_ref().is_none_or(|start| match self.direction {
            Direction::Ascending => value.total_cmp(start).is_ge(),
            Direction::Descending => value.total_cmp(start).is_le(),
        })
    }
}

/// The refusal of an order by a key without an index that keeps one.
pub(crate) fn no_range_index(key: &Path) -> Error {
    Error::Request(format!(
        "No range index for `order_by` key: `{key}`. Please create an integer, float or datetime index on it."
    ))
}

/// The refusal of ranking by a key without a text index that keeps scores.
pub(crate) fn no_scored_index(key: &Path) -> Error {
    Error::Request(format!(
        "No text index with scoring on `{key}`. Please create a text index with `\"scoring\": true` on it."
    ))
}

/// The refusal of a facet over a key without an index of its values.
pub(crate) fn no_match_index(key: &Path) -> Error {
    Error::Request(format!(
        "No appropriate index for faceting: `{key}`. Please create a keyword, integer, bool or uuid index on it."
    ))
}
