//! One node of a query tree, carried out.
//!
//! Filters go down: each holds for everything below it, and the leaves apply
//! them. Scores come up: a node with prefetches looks only at what they found.

use std::borrow::Cow;
use std::collections::HashSet;

use crate::error::Result;
use crate::filter::{Condition, Filter};
use crate::path::Path;
use crate::vector::Vector;

use super::examples::Rule;
use super::formula::Scorer;
use super::fusion::fuse;
use super::kinds::{Formula, Fusion, OrderBy, WordsQuery};
use super::mmr::{Selection, select};
use super::request::SearchParams;
use super::source::{Best, Nearest, Ordered, Place, Scope, Source, VectorKind, Worded};
use crate::fields::OrderValue;
use crate::similarity::score;

/// A node, with its examples resolved.
pub(super) struct Stage<'q> {
    pub ask: Ask<'q>,
    pub prefetch: Vec<Self>,
    pub filter: Option<Cow<'q, Filter>>,
    pub params: SearchParams,
    pub score_threshold: Option<f32>,
    pub limit: usize,
}

/// What a node asks, its vectors prepared.
pub(super) enum Ask<'q> {
    Scroll,
    Sample,
    OrderBy(&'q OrderBy),
    Fusion(&'q Fusion),
    Formula(&'q Formula),
    Words { key: Path, words: &'q WordsQuery },
    Nearest { vector: Vector, using: &'q str, kind: VectorKind, mmr: Option<Selection> },
    Best { examples: Vec<Vector>, using: &'q str, rule: Rule },
}

impl Ask<'_> {
    pub(super) fn larger_is_better(&self) -> bool {
        match self {
            Self::Nearest { kind, .. } => kind.larger_is_better(),
            _ => true,
        }
    }

    /// Whether it finds points without comparing or computing anything.
    pub(super) fn only_lists(&self) -> bool {
        matches!(self, Self::Scroll | Self::Sample | Self::OrderBy(_))
    }
}

/// A place with the score that users see.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Scored {
    pub place: Place,
    pub score: f32,
    pub order_value: Option<OrderValue>,
}

impl Scored {
    pub(super) fn new(place: Place, score: f32) -> Self {
        Self { place, score, order_value: None }
    }

    /// A point that is found but not scored.
    fn listed(place: Place) -> Self {
        Self::new(place, 1.0)
    }
}

/// What a node found, best first.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Found {
    pub scored: Vec<Scored>,
    pub larger_is_better: bool,
}

impl Stage<'_> {
    /// The places found, at most `limit`, that match `above` and the node's own
    /// filter.
    pub(super) fn run(
        &self,
        source: &dyn Source,
        above: Option<&Filter>,
        rng: &mut fastrand::Rng,
    ) -> Result<Found> {
        let filter = both(above, self.filter.as_deref());
        let filter = filter.as_deref();
        let mut prefetched = Vec::with_capacity(self.prefetch.len());
        for prefetch in &self.prefetch {
            prefetched.push(prefetch.run(source, filter, rng)?);
        }
        let places = (!self.prefetch.is_empty()).then(|| union(&prefetched));
        let scope = Scope { filter, among: places.as_deref() };
        let mut scored = self.score(source, scope, &prefetched, rng)?;
        scored.truncate(self.limit);
        Ok(Found { scored, larger_is_better: self.ask.larger_is_better() })
    }

    fn score(
        &self,
        source: &dyn Source,
        scope: Scope<'_>,
        prefetched: &[Found],
        rng: &mut fastrand::Rng,
    ) -> Result<Vec<Scored>> {
        let at_least = |scored: &Scored| self.score_threshold.is_none_or(|bound| scored.score >= bound);
        match &self.ask {
            Ask::Scroll => {
                let places = source.scroll(scope.filter, None, self.limit)?;
                Ok(places.into_iter().map(Scored::listed).collect())
            }
            Ask::Sample => sample(source, scope, self.limit, rng),
            Ask::OrderBy(order) => self.order(source, scope, order),
            Ask::Words { key, words } => {
                let WordsQuery { text, k, b } = words;
                let corpus = self.params.idf_corpus.as_ref();
                let ask = Worded { key, text, k: *k, b: *b, corpus, scope, limit: self.limit };
                let found = source.by_words(&ask)?.into_iter();
                let scored = found.map(|(place, score)| Scored::new(place, score));
                Ok(scored.filter(|scored| self.passes(scored.score)).collect())
            }
            Ask::Fusion(fusion) => Ok(fuse(fusion, prefetched).into_iter().filter(at_least).collect()),
            Ask::Formula(formula) => {
                let candidates = scope.among.unwrap_or_default();
                let scorer = Scorer::new(source, formula, prefetched, candidates)?;
                let mut scored = Vec::new();
                for place in candidates {
                    scored.push(Scored::new(*place, scorer.score(*place)?));
                }
                scored.retain(at_least);
                scored.sort_by(|a, b| b.score.total_cmp(&a.score));
                Ok(scored)
            }
            Ask::Nearest { vector, using, kind, mmr } => {
                let limit = mmr.map_or(self.limit, |mmr| mmr.candidates);
                let ask = Nearest { vector, using, scope, limit, params: &self.params };
                let mut nearest = source.nearest(&ask)?;
                nearest.retain(|(_, raw)| self.passes(score(kind.metric, *raw)));
                if let Some(mmr) = mmr {
                    nearest = select(source, using, kind.metric, mmr.lambda, self.limit, nearest)?;
                }
                Ok(nearest
                    .into_iter()
                    .map(|(place, raw)| Scored::new(place, score(kind.metric, raw)))
                    .collect())
            }
            Ask::Best { examples, using, rule } => {
                let combine = |similarities: &[f32]| rule.combine(similarities);
                let (limit, params) = (self.limit, &self.params);
                let best = Best { examples, using, scope, limit, params, combine: &combine };
                let scored = source.best(&best)?.into_iter().map(|(place, score)| Scored::new(place, score));
                Ok(scored.filter(|scored| self.passes(scored.score)).collect())
            }
        }
    }

    /// The bound of a search is not itself good enough.
    fn passes(&self, score: f32) -> bool {
        self.score_threshold
            .is_none_or(|bound| if self.ask.larger_is_better() { score > bound } else { score < bound })
    }

    fn order(&self, source: &dyn Source, scope: Scope<'_>, order: &OrderBy) -> Result<Vec<Scored>> {
        let OrderBy { key, direction, start_from } = order;
        let ask = Ordered { key, direction: *direction, start_from: *start_from, scope, limit: self.limit };
        let ordered = source.ordered(&ask)?;
        let with_value = |(place, value)| Scored { order_value: Some(value), ..Scored::listed(place) };
        Ok(ordered.into_iter().map(with_value).collect())
    }
}

/// Places found, each once, in the order they were met.
fn union(prefetched: &[Found]) -> Vec<Place> {
    let mut seen = HashSet::new();
    let places = prefetched.iter().flat_map(|found| &found.scored).map(|scored| scored.place);
    places.filter(|place| seen.insert(*place)).collect()
}

/// At most `limit` places, each choice as likely as any other, in random order.
fn sample(
    source: &dyn Source,
    scope: Scope<'_>,
    limit: usize,
    rng: &mut fastrand::Rng,
) -> Result<Vec<Scored>> {
    let mut picked: Vec<Place> = Vec::new();
    let mut seen = 0;
    // Reservoir sampling (Vitter, 1985, algorithm R).
    let mut offer = |place| {
        if picked.len() < limit {
            picked.push(place);
        } else if let Some(slot) = picked.get_mut(rng.usize(..=seen)) {
            *slot = place;
        }
        seen += 1;
    };
    match scope.among {
        Some(places) => places.iter().for_each(|place| offer(*place)),
        None => source.scan(scope.filter, &mut |place| {
            offer(place);
            Ok(())
        })?,
    }
    rng.shuffle(&mut picked);
    Ok(picked.into_iter().map(Scored::listed).collect())
}

/// A filter that holds where both do.
pub(super) fn both<'f>(a: Option<&'f Filter>, b: Option<&'f Filter>) -> Option<Cow<'f, Filter>> {
    let (Some(a), Some(b)) = (a, b) else { return a.or(b).map(Cow::Borrowed) };
    let mut both = Filter::default();
    for one in [a, b] {
        both.must_not.extend_from_slice(&one.must_not);
        both.must.extend_from_slice(&one.must);
        // Two lists of which one condition must hold cannot become one list.
        if !one.should.is_empty() || one.min_should.is_some() {
            let (should, min_should) = (one.should.clone(), one.min_should.clone());
            both.must.push(Condition::Filter(Box::new(Filter { should, min_should, ..Filter::default() })));
        }
    }
    Some(Cow::Owned(both))
}
