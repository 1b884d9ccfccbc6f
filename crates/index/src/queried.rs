//! A view as queries see it: see `query::source` for what they ask.
//!
//! Orders and facets come from the field indexes of segments, and from payloads
//! where there is no index yet.

use std::borrow::Cow;
use std::collections::HashMap;
use std::sync::Arc;

use cairn_ann::{Metric, Query as Measure, Rows, Scratch};
use rayon::prelude::*;

use crate::bits::Bits;
use crate::cancel;
use crate::database::Inner;
use crate::error::{Error, Result};
use crate::fields::{FacetValue, OrderValue};
use crate::filter::Filter;
use crate::filter::prepared::Prepared;
use crate::id::PointId;
use crate::part::{DenseRows, Part};
use crate::path::Path;
use crate::plan::Matcher;
use crate::point::{Payload, settle_query};
use crate::query::SearchParams;
use crate::query::source::{
    Best, Nearest, Ordered, Place, Source, VectorKind, Worded, facet_value, flat_values, no_match_index,
    no_range_index, order_value,
};
use crate::schema::{FieldKind, FieldSchema};
use crate::search::{Ask, comparable, keep_best, nearest, weighted};
use crate::similarity::similarity;
use crate::sparse::scan::dot;
use crate::vector::{SparseVector, Vector};
use crate::view::View;
use crate::worded;

pub(crate) struct Queried<'d> {
    pub(crate) db: &'d Inner,
    pub(crate) name: String,
    pub(crate) view: View,
}

impl Queried<'_> {
    fn schema(&self, key: &Path) -> Option<&FieldSchema> {
        self.view.config.payload_indexes.get(key.as_str())
    }

    /// A sparse query as it is compared: with the idf of its positions.
    fn weigh<'v>(&self, using: &str, vector: &'v Vector, params: &SearchParams) -> Result<Cow<'v, Vector>> {
        let Vector::Sparse(sparse) = vector else { return Ok(Cow::Borrowed(vector)) };
        let weights = weighted(&self.view, using, sparse, params.idf_corpus.as_ref())?;
        Ok(Cow::Owned(SparseVector::new(weights)?.into()))
    }

    /// The vectors of one name in a part; `None` where there are none.
    fn vectors<'v>(&'v self, part: &'v Part, using: &'v str) -> Option<PartVectors<'v>> {
        let present = part.present(using, &self.view.uids)?;
        Some(PartVectors { view: &self.view, part, using, present, rows: part.dense(using, &self.view.uids) })
    }

    /// The similarities of one row to each example; `None` if it lacks the
    /// vector.
    fn similarities(&self, place: Place, using: &str, examples: &[Comparison<'_>]) -> Option<Vec<f32>> {
        self.vectors(self.view.part(place), using)?.similarities(place.slot, examples)
    }

    fn comparisons<'e>(&self, using: &str, examples: &'e [Cow<'e, Vector>]) -> Result<Vec<Comparison<'e>>> {
        let metric = self.kind(using)?.metric;
        Ok(examples.iter().map(|example| Comparison::new(metric, example)).collect())
    }

    /// The best places of one part, through its graph where that is good for
    /// something: the measure is the negated score, whatever it is made of.
    fn best_of_part(
        &self,
        (number, part): (u32, &Part),
        filter: Option<&Prepared<'_>>,
        ask: &Best<'_>,
        comparisons: &[Comparison<'_>],
    ) -> Result<Vec<(Place, f32)>> {
        let Some(vectors) = self.vectors(part, ask.using) else { return Ok(Vec::new()) };
        let score = |slot: u32| Some((ask.combine)(&vectors.similarities(slot, comparisons)?));
        let mut slots = self.view.slots(part, filter)?;
        slots.and(vectors.present);
        let uid = self.view.uid(ask.using);
        let graph = uid.and_then(|uid| part.derived.graph(ask.using, uid));
        let graph = graph.filter(|_| !ask.params.is_exact() && ask.limit < WALKED && slots.count() > WALKED);
        let Some(graph) = graph else {
            let (slots, cancel): (Vec<u32>, _) = (slots.iter().collect(), cancel::current());
            let scored = slots.par_iter().with_min_len(1024).filter(|_| !cancel.is_cancelled());
            let scored = scored.filter_map(|slot| Some((Place { part: number, slot: *slot }, score(*slot)?)));
            let scored = scored.collect();
            return cancel.check().map(|()| scored);
        };
        let ef = ask.params.ef.unwrap_or(self.view.config.hnsw.ef_construct).max(4 * ask.limit);
        let share = slots.count() as f32 / part.len() as f32;
        let measure = |slot| 0.0 - score(slot).unwrap_or(f32::NEG_INFINITY);
        let found = graph.search_filtered_by(
            measure,
            |_| {},
            ask.limit,
            ef,
            share,
            |slot| slots.get(slot),
            &mut Scratch::new(),
        );
        Ok(found
            .into_iter()
            .map(|near| (Place { part: number, slot: near.slot }, 0.0 - near.distance))
            .collect())
    }
}

/// Where the vectors of one name lie in a part, looked up once for many rows.
struct PartVectors<'v> {
    view: &'v View,
    part: &'v Part,
    using: &'v str,
    present: &'v Bits,
    rows: Option<DenseRows<'v>>,
}

impl PartVectors<'_> {
    fn similarities(&self, slot: u32, examples: &[Comparison<'_>]) -> Option<Vec<f32>> {
        if !self.present.get(slot) {
            return None;
        }
        if let Some(rows) = &self.rows {
            let row = rows.row(slot);
            return Some(examples.iter().map(|example| example.dense(row)).collect());
        }
        let stored = self.part.vector(slot, self.using, &self.view.uids)?.into_owned();
        let stored = comparable(self.view, self.using, stored);
        Some(examples.iter().map(|example| example.any(&stored)).collect())
    }
}

/// Fewer points than this are compared one by one with several examples.
const WALKED: usize = 10_000;

/// One example, ready to be compared with many rows.
struct Comparison<'e> {
    metric: Metric,
    example: &'e Vector,
    measure: Option<Measure<'e>>,
}

impl<'e> Comparison<'e> {
    fn new(metric: Metric, example: &'e Vector) -> Self {
        let measure = example.as_dense().map(|values| Measure::new(metric, values));
        Self { metric, example, measure }
    }

    fn dense(&self, row: cairn_ann::Row<'_>) -> f32 {
        self.measure.as_ref().map_or(0.0, |measure| 0.0 - measure.distance(row))
    }

    fn any(&self, stored: &Vector) -> f32 {
        match (self.example, stored) {
            (Vector::Sparse(example), Vector::Sparse(stored)) => dot(example, stored).unwrap_or(0.0),
            (example, stored) => similarity(self.metric, example, stored).unwrap_or(0.0),
        }
    }
}

impl Source for Queried<'_> {
    fn name(&self) -> &str {
        &self.name
    }

    fn resolve(&self, id: PointId) -> Option<Place> {
        self.view.find(&id)
    }

    fn id(&self, place: Place) -> PointId {
        self.view.part(place).id(place.slot)
    }

    fn label(&self, place: Place) -> Option<Arc<str>> {
        self.view.part(place).label(place.slot)
    }

    fn version(&self, place: Place) -> u64 {
        self.view.part(place).version(place.slot)
    }

    fn payload(&self, place: Place) -> Result<Cow<'_, Payload>> {
        self.view.part(place).payload(place.slot)
    }

    fn names(&self) -> Vec<String> {
        self.view.uids.keys().cloned().collect()
    }

    fn vector(&self, place: Place, using: &str) -> Result<Option<Vector>> {
        Ok(self.view.part(place).vector(place.slot, using, &self.view.uids).map(Cow::into_owned))
    }

    fn comparable(&self, place: Place, using: &str) -> Result<Option<Vector>> {
        Ok(self.vector(place, using)?.map(|vector| comparable(&self.view, using, vector)))
    }

    fn kind(&self, using: &str) -> Result<VectorKind> {
        if self.view.config.sparse_vectors.contains_key(using) {
            return Ok(VectorKind { metric: Metric::Dot, multi: false, sparse: true });
        }
        let config = self.view.config.vector(using)?;
        Ok(VectorKind { metric: config.distance, multi: config.multivector, sparse: false })
    }

    fn prepare(&self, using: &str, vector: Vector) -> Result<Vector> {
        settle_query(&self.view.config, using, vector)
    }

    fn nearest(&self, ask: &Nearest<'_>) -> Result<Vec<(Place, f32)>> {
        let Some(places) = ask.scope.among else {
            let ask = Ask {
                using: ask.using,
                query: ask.vector,
                filter: ask.scope.filter,
                k: ask.limit,
                params: ask.params.clone(),
            };
            return Ok(nearest(&self.view, &self.db.options, &ask, false)?.0);
        };
        let examples = [self.weigh(ask.using, ask.vector, ask.params)?];
        let comparison = self.comparisons(ask.using, &examples)?;
        let score = |place: &Place| {
            if let Vector::Sparse(query) = &*examples[0] {
                let stored = self.view.part(*place).vector(place.slot, ask.using, &self.view.uids)?;
                return Some((*place, dot(query, stored.as_sparse()?)?));
            }
            Some((*place, self.similarities(*place, ask.using, &comparison)?[0]))
        };
        let mut found: Vec<_> = places.iter().filter_map(score).collect();
        keep_best(&mut found, ask.limit);
        Ok(found)
    }

    fn best(&self, ask: &Best<'_>) -> Result<Vec<(Place, f32)>> {
        let examples: Vec<Cow<'_, Vector>> = ask
            .examples
            .iter()
            .map(|example| self.weigh(ask.using, example, ask.params))
            .collect::<Result<_>>()?;
        let comparisons = self.comparisons(ask.using, &examples)?;
        let mut found = Vec::new();
        if let Some(places) = ask.scope.among {
            let score = |place: &Place| {
                let similarities = self.similarities(*place, ask.using, &comparisons)?;
                Some((*place, (ask.combine)(&similarities)))
            };
            found.extend(places.iter().filter_map(score));
        } else {
            let prepared = self.view.prepare(ask.scope.filter)?;
            for part in self.view.numbered() {
                found.extend(self.best_of_part(part, prepared.as_ref(), ask, &comparisons)?);
            }
        }
        keep_best(&mut found, ask.limit);
        Ok(found)
    }

    fn by_words(&self, ask: &Worded<'_>) -> Result<Vec<(Place, f32)>> {
        worded::by_words(&self.view, self.schema(ask.key), ask)
    }

    fn scan(&self, filter: Option<&Filter>, each: &mut dyn FnMut(Place) -> Result<()>) -> Result<()> {
        self.view.each_matching(filter, each)
    }

    fn matching(&self, places: &[Place], filter: &Filter) -> Result<Vec<Place>> {
        let Some(prepared) = self.view.prepare(Some(filter))? else { return Ok(places.to_vec()) };
        let filtered: Vec<_> = self.view.parts.iter().map(|part| self.view.filtered(part)).collect();
        let matchers: Vec<_> = filtered.iter().map(|part| Matcher::new(&prepared, part)).collect();
        let matches = |place: &&Place| matchers[place.part as usize].check(place.slot);
        Ok(places.iter().filter(matches).copied().collect())
    }

    fn scroll(&self, filter: Option<&Filter>, from: Option<PointId>, limit: usize) -> Result<Vec<Place>> {
        self.view.scroll(filter, from, limit)
    }

    fn lookup(&self, collection: &str) -> Result<Box<dyn Source + '_>> {
        let unknown = || Error::UnknownLookup { name: collection.to_owned() };
        let shard = self.db.shard(collection).ok_or_else(unknown)?;
        let view = shard.view().map_err(|_| unknown())?;
        Ok(Box::new(Queried { db: self.db, name: shard.name.clone(), view }))
    }

    fn ordered(&self, ask: &Ordered<'_>) -> Result<Vec<(Place, OrderValue)>> {
        let schema = self.schema(ask.key).filter(|schema| schema.can_order());
        let schema = schema.ok_or_else(|| no_range_index(ask.key))?;
        let descending = ask.direction == crate::query::Direction::Descending;
        let prepared = self.view.prepare(ask.scope.filter)?;
        let mut found: Vec<(OrderValue, PointId, Place)> = Vec::new();
        let read = |place: Place, found: &mut Vec<_>| {
            let payload = self.payload(place)?;
            let mut values: Vec<OrderValue> = flat_values(ask.key, &payload)
                .into_iter()
                .filter_map(|value| value_of(schema, value))
                .collect();
            values.sort_by(OrderValue::total_cmp);
            values.dedup();
            let values = values.into_iter().filter(|value| ask.admits(value));
            found.extend(values.map(|value| (value, self.id(place), place)));
            Ok::<(), Error>(())
        };
        if let Some(places) = ask.scope.among {
            places.iter().try_for_each(|place| read(*place, &mut found))?;
        } else {
            for (number, part) in self.view.numbered() {
                let slots = self.view.slots(part, prepared.as_ref())?;
                let index = part.derived.field(ask.key.as_str(), schema);
                match index.and_then(|index| index.ordered(descending, ask.start_from)) {
                    Some(ordered) => {
                        let (mut taken, mut last) = (0, None);
                        for (value, slot) in ordered.filter(|(_, slot)| slots.get(*slot)) {
                            // Equal values are ordered by id below, so all of them are taken.
                            if taken >= ask.limit && last != Some(value) {
                                break;
                            }
                            (taken, last) = (taken + 1, Some(value));
                            found.push((value, part.id(slot), Place { part: number, slot }));
                        }
                    }
                    None => {
                        let cancel = cancel::current();
                        cancel
                            .until(slots.iter())
                            .try_for_each(|slot| read(Place { part: number, slot }, &mut found))?;
                        cancel.check()?;
                    }
                }
            }
        }
        found.sort_by(|a, b| {
            let ascending = a.0.total_cmp(&b.0).then(a.1.cmp(&b.1));
            if descending { ascending.reverse() } else { ascending }
        });
        found.truncate(ask.limit);
        Ok(found.into_iter().map(|(value, _, place)| (place, value)).collect())
    }

    fn facet(&self, key: &Path, filter: Option<&Filter>) -> Result<Vec<(FacetValue, usize)>> {
        let schema = self.schema(key).filter(|schema| schema.can_facet());
        let schema = schema.ok_or_else(|| no_match_index(key))?;
        let prepared = self.view.prepare(filter)?;
        let mut counts: HashMap<FacetValue, usize> = HashMap::new();
        for part in &self.view.parts {
            let slots = self.view.slots(part, prepared.as_ref())?;
            let index = part.derived.field(key.as_str(), schema);
            if let Some(counted) = index.and_then(|index| index.facet(&slots)) {
                counted.into_iter().for_each(|(value, count)| *counts.entry(value).or_default() += count);
                continue;
            }
            let cancel = cancel::current();
            for slot in cancel.until(slots.iter()) {
                let payload = part.payload(slot)?;
                let mut values: Vec<FacetValue> = flat_values(key, &payload)
                    .into_iter()
                    .filter_map(|value| counted_of(schema, value))
                    .collect();
                values.sort_unstable();
                values.dedup();
                values.into_iter().for_each(|value| *counts.entry(value).or_default() += 1);
            }
            cancel.check()?;
        }
        Ok(counts.into_iter().collect())
    }
}

/// The value an index of this kind keeps an order of.
fn value_of(schema: &FieldSchema, value: &serde_json::Value) -> Option<OrderValue> {
    let read = order_value(value)?;
    match (schema.kind(), value.is_string(), read) {
        (FieldKind::Integer, false, OrderValue::Int(_)) | (FieldKind::Datetime, true, _) => Some(read),
        (FieldKind::Float, false, OrderValue::Int(integer)) => Some(OrderValue::Float(integer as f64)),
        (FieldKind::Float, false, OrderValue::Float(_)) => Some(read),
        _ => None,
    }
}

/// The value an index of this kind counts.
fn counted_of(schema: &FieldSchema, value: &serde_json::Value) -> Option<FacetValue> {
    match (schema.kind(), facet_value(value)?) {
        (FieldKind::Uuid, FacetValue::Keyword(text)) => {
            uuid::Uuid::parse_str(&text).ok().map(|uuid| FacetValue::Keyword(uuid.hyphenated().to_string()))
        }
        (FieldKind::Keyword, value @ FacetValue::Keyword(_))
        | (FieldKind::Integer, value @ FacetValue::Integer(_))
        | (FieldKind::Bool, value @ FacetValue::Bool(_)) => Some(value),
        _ => None,
    }
}
