//! Hits: what was found, with the parts of the points that were asked for.

use std::sync::Arc;

use crate::error::Result;
use crate::id::PointId;
use crate::point::{Parts, Payload, Selector};
use crate::vector::Vectors;

use super::plan::Plan;
use super::source::{Place, Source};
use super::stage::Scored;
use crate::fields::OrderValue;

/// A point found by a query.
#[derive(Debug, Clone, PartialEq)]
pub struct QueryHit {
    /// The point.
    pub id: PointId,
    /// The string that the id was made of, if it was made of one.
    pub label: Option<Arc<str>>,
    /// The seq of the operation that wrote it; 0 where the root only lists
    /// points: in order of id, by a payload value, or at random.
    pub version: u64,
    /// As the query defines it; 1 where the root only lists points.
    pub score: f32,
    /// The value the points were ordered by.
    pub order_value: Option<OrderValue>,
    /// The payload, if asked for.
    pub payload: Option<Payload>,
    /// The vectors asked for.
    pub vectors: Option<Vectors>,
}

/// Makes hits of what a plan found.
pub(super) fn dress(
    source: &dyn Source,
    plan: &Plan<'_>,
    scored: &[Scored],
    parts: &Parts,
) -> Result<Vec<QueryHit>> {
    let only_lists = plan.root.ask.only_lists();
    let wanted = wanted_vectors(source, &parts.vectors)?;
    let hit = |scored: &Scored| {
        let (payload, vectors) = read(source, scored.place, &parts.payload, wanted.as_deref())?;
        Ok(QueryHit {
            id: source.id(scored.place),
            label: source.label(scored.place),
            version: if only_lists { 0 } else { source.version(scored.place) },
            score: scored.score,
            order_value: scored.order_value,
            payload,
            vectors,
        })
    };
    scored.iter().map(hit).collect()
}

/// The names of the vectors asked for, if any are.
pub(super) fn wanted_vectors(source: &dyn Source, selector: &Selector) -> Result<Option<Vec<String>>> {
    match selector {
        Selector::None => Ok(None),
        Selector::Only(names) => {
            names.iter().try_for_each(|name| source.kind(name).map(drop))?;
            Ok(Some(names.clone()))
        }
        _ => Ok(Some(source.names().into_iter().filter(|name| selector.wants(name)).collect())),
    }
}

pub(super) fn read(
    source: &dyn Source,
    place: Place,
    payload: &Selector,
    vectors: Option<&[String]>,
) -> Result<(Option<Payload>, Option<Vectors>)> {
    let payload = match payload {
        Selector::None => None,
        selector => selector.pick(source.payload(place)?.as_ref()),
    };
    let Some(names) = vectors else { return Ok((payload, None)) };
    let mut present = Vectors::new();
    for name in names {
        if let Some(vector) = source.vector(place, name)? {
            present.insert(name.clone(), vector);
        }
    }
    Ok((payload, Some(present)))
}
