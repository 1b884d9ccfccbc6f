//! A source over a list of points that does everything by looking at all of
//! them.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::sync::Arc;

use cairn_ann::Metric;
use parking_lot::Mutex;
use serde_json::Value;

use crate::error::{Error, Result};
use crate::filter::Filter;
use crate::id::PointId;
use crate::path::Path;
use crate::point::Payload;
use crate::query::SearchParams;
use crate::query::source::{
    Best, Nearest, Ordered, Place, Scope, Source, VectorKind, no_match_index, no_range_index,
};
use crate::similarity::similarity;
use crate::vector::{Vector, Vectors};
use crate::{FacetValue, OrderValue};

pub(super) struct Memory {
    pub name: String,
    pub kinds: BTreeMap<String, (usize, VectorKind)>,
    pub points: Vec<Stored>,
    pub others: Vec<Memory>,
    /// Keys without an index.
    pub unindexed: Vec<String>,
    /// How the last search was asked for.
    pub asked: Mutex<SearchParams>,
}

pub(super) struct Stored {
    pub id: PointId,
    pub payload: Payload,
    pub vectors: Vectors,
}

impl Stored {
    fn matches(&self, filter: &Filter) -> bool {
        filter.matches(self.id, &self.payload)
    }
}

pub(super) fn kind(metric: Metric) -> VectorKind {
    VectorKind { metric, multi: false, sparse: false }
}

impl Memory {
    /// A collection with one unnamed vector.
    pub(super) fn new(dim: usize, metric: Metric) -> Self {
        Self {
            name: "memory".to_owned(),
            kinds: BTreeMap::from([(String::new(), (dim, kind(metric)))]),
            points: Vec::new(),
            others: Vec::new(),
            unindexed: Vec::new(),
            asked: Mutex::default(),
        }
    }

    pub(super) fn with(mut self, id: u64, vector: &[f32], payload: Value) -> Self {
        self.push(id.into(), Vectors::from([(String::new(), vector.to_vec().into())]), payload);
        self
    }

    pub(super) fn push(&mut self, id: PointId, mut vectors: Vectors, payload: Value) {
        let Value::Object(payload) = payload else { panic!("a payload is an object") };
        for (name, vector) in &mut vectors {
            *vector = self.prepare(name, vector.clone()).unwrap();
        }
        self.points.push(Stored { id, payload, vectors });
    }

    pub(super) fn at(&self, place: Place) -> &Stored {
        &self.points[place.slot as usize]
    }

    fn places(&self, scope: Scope<'_>) -> Vec<Place> {
        let all = (0..self.points.len() as u32).map(|slot| Place { part: 0, slot });
        let looked_at = scope.among.map_or_else(|| all.collect(), <[Place]>::to_vec);
        let filter = |place: &Place| {
            scope.among.is_some() || scope.filter.is_none_or(|filter| self.at(*place).matches(filter))
        };
        looked_at.into_iter().filter(filter).collect()
    }
}

/// The first `limit` by score, equal ones by place.
fn top(mut scored: Vec<(Place, f32)>, limit: usize) -> Vec<(Place, f32)> {
    scored.sort_by(|a, b| b.1.total_cmp(&a.1).then(a.0.cmp(&b.0)));
    scored.truncate(limit);
    scored
}

impl Source for Memory {
    fn name(&self) -> &str {
        &self.name
    }

    fn resolve(&self, id: PointId) -> Option<Place> {
        let slot = self.points.iter().position(|point| point.id == id)?;
        Some(Place { part: 0, slot: slot as u32 })
    }

    fn id(&self, place: Place) -> PointId {
        self.at(place).id
    }

    fn label(&self, _: Place) -> Option<Arc<str>> {
        None
    }

    fn version(&self, place: Place) -> u64 {
        u64::from(place.slot) + 100
    }

    fn payload(&self, place: Place) -> Result<Cow<'_, Payload>> {
        Ok(Cow::Borrowed(&self.at(place).payload))
    }

    fn names(&self) -> Vec<String> {
        self.kinds.keys().cloned().collect()
    }

    fn vector(&self, place: Place, using: &str) -> Result<Option<Vector>> {
        self.kind(using)?;
        Ok(self.at(place).vectors.get(using).cloned())
    }

    fn kind(&self, using: &str) -> Result<VectorKind> {
        let unknown = || Error::UnknownVector { name: using.to_owned() };
        self.kinds.get(using).map(|(_, kind)| *kind).ok_or_else(unknown)
    }

    fn prepare(&self, using: &str, mut vector: Vector) -> Result<Vector> {
        let kind = self.kind(using)?;
        let want = self.kinds[using].0;
        let fits = |got: usize| {
            if got == want { Ok(()) } else { Err(Error::Dimension { want, got }) }
        };
        match &mut vector {
            Vector::Dense(values) if !kind.multi && !kind.sparse => {
                fits(values.len())?;
                kind.metric.prepare(values);
            }
            Vector::Multi(rows) if kind.multi => {
                let dim = rows.dim();
                fits(dim)?;
                rows.values_mut().chunks_exact_mut(dim).for_each(|row| kind.metric.prepare(row));
            }
            Vector::Sparse(_) if kind.sparse => {}
            _ => return Err(Error::Request(format!("vector of the wrong kind for `{using}`"))),
        }
        Ok(vector)
    }

    fn nearest(&self, ask: &Nearest<'_>) -> Result<Vec<(Place, f32)>> {
        *self.asked.lock() = ask.params.clone();
        let metric = self.kind(ask.using)?.metric;
        let scored = self.places(ask.scope).into_iter().filter_map(|place| {
            let stored = self.at(place).vectors.get(ask.using)?;
            Some((place, similarity(metric, ask.vector, stored)?))
        });
        Ok(top(scored.collect(), ask.limit))
    }

    fn best(&self, ask: &Best<'_>) -> Result<Vec<(Place, f32)>> {
        *self.asked.lock() = ask.params.clone();
        let metric = self.kind(ask.using)?.metric;
        let scored = self.places(ask.scope).into_iter().filter_map(|place| {
            let stored = self.at(place).vectors.get(ask.using)?;
            let near = |example| similarity(metric, example, stored).unwrap_or(0.0);
            let similarities: Vec<f32> = ask.examples.iter().map(near).collect();
            Some((place, (ask.combine)(&similarities)))
        });
        Ok(top(scored.collect(), ask.limit))
    }

    fn scan(&self, filter: Option<&Filter>, each: &mut dyn FnMut(Place) -> Result<()>) -> Result<()> {
        self.places(Scope { filter, among: None }).into_iter().try_for_each(each)
    }

    fn scroll(&self, filter: Option<&Filter>, from: Option<PointId>, limit: usize) -> Result<Vec<Place>> {
        let mut places = self.places(Scope { filter, among: None });
        places.retain(|place| from.is_none_or(|from| self.id(*place) >= from));
        places.sort_by_key(|place| self.id(*place));
        places.truncate(limit);
        Ok(places)
    }

    fn matching(&self, places: &[Place], filter: &Filter) -> Result<Vec<Place>> {
        Ok(places.iter().copied().filter(|place| self.at(*place).matches(filter)).collect())
    }

    fn lookup(&self, collection: &str) -> Result<Box<dyn Source + '_>> {
        let all = std::iter::once(self).chain(&self.others);
        let found = all.into_iter().find(|other| other.name == collection);
        let unknown = || Error::UnknownLookup { name: collection.to_owned() };
        found.map(|other| Box::new(Borrowed(other)) as Box<dyn Source>).ok_or_else(unknown)
    }

    fn ordered(&self, ask: &Ordered<'_>) -> Result<Vec<(Place, OrderValue)>> {
        if self.unindexed.iter().any(|key| key == ask.key.as_str()) {
            return Err(no_range_index(ask.key));
        }
        Borrowed(self).ordered(ask)
    }

    fn facet(&self, key: &Path, filter: Option<&Filter>) -> Result<Vec<(FacetValue, usize)>> {
        if self.unindexed.iter().any(|unindexed| unindexed == key.as_str()) {
            return Err(no_match_index(key));
        }
        Borrowed(self).facet(key, filter)
    }
}

/// The same source, with what a source can leave to the trait left to it.
struct Borrowed<'m>(&'m Memory);

impl Source for Borrowed<'_> {
    fn name(&self) -> &str {
        self.0.name()
    }

    fn resolve(&self, id: PointId) -> Option<Place> {
        self.0.resolve(id)
    }

    fn id(&self, place: Place) -> PointId {
        self.0.id(place)
    }

    fn label(&self, place: Place) -> Option<Arc<str>> {
        self.0.label(place)
    }

    fn version(&self, place: Place) -> u64 {
        self.0.version(place)
    }

    fn payload(&self, place: Place) -> Result<Cow<'_, Payload>> {
        self.0.payload(place)
    }

    fn names(&self) -> Vec<String> {
        self.0.names()
    }

    fn vector(&self, place: Place, using: &str) -> Result<Option<Vector>> {
        self.0.vector(place, using)
    }

    fn kind(&self, using: &str) -> Result<VectorKind> {
        self.0.kind(using)
    }

    fn prepare(&self, using: &str, vector: Vector) -> Result<Vector> {
        self.0.prepare(using, vector)
    }

    fn nearest(&self, ask: &Nearest<'_>) -> Result<Vec<(Place, f32)>> {
        self.0.nearest(ask)
    }

    fn best(&self, ask: &Best<'_>) -> Result<Vec<(Place, f32)>> {
        self.0.best(ask)
    }

    fn scan(&self, filter: Option<&Filter>, each: &mut dyn FnMut(Place) -> Result<()>) -> Result<()> {
        self.0.scan(filter, each)
    }

    fn scroll(&self, filter: Option<&Filter>, from: Option<PointId>, limit: usize) -> Result<Vec<Place>> {
        self.0.scroll(filter, from, limit)
    }

    fn matching(&self, places: &[Place], filter: &Filter) -> Result<Vec<Place>> {
        self.0.matching(places, filter)
    }

    fn lookup(&self, collection: &str) -> Result<Box<dyn Source + '_>> {
        self.0.lookup(collection)
    }
}
