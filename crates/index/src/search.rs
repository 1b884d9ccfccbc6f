//! Finding the nearest points: which plan, and how its parts come together.
//!
//! A graph answers for the slots it covers, an exact scan for the rest. Under
//! a filter the matches are estimated from a sample: few are scanned exactly,
//! many are walked in the graph. A filtered search never returns fewer than
//! asked while more points match: a walk that comes up short becomes a scan.

use std::cell::RefCell;

use cairn_ann::{Neighbor, Rows, Scratch, exact};
use rayon::prelude::*;

use crate::column::Column;
use crate::config::{CollectionConfig, Options};
use crate::error::{Error, Result};
use crate::filter::Filter;
use crate::id::PointId;
use crate::point::{Parts, Payload, Vectors, settle_vector};
use crate::state::State;

/// A question to a collection: the nearest points to a vector.
///
/// ```
/// use cairn_index::Search;
///
/// let search = Search::nearest(vec![0.1, 0.2]).limit(5).exact();
/// ```
#[derive(Debug, Clone, PartialEq)]
pub struct Search {
    /// The query, as long as the collection's vectors.
    pub vector: Vec<f32>,
    /// Which vector is compared; the unnamed one is `""`.
    pub using: String,
    /// How many hits at most. Default 10.
    pub limit: usize,
    /// How many of the nearest are passed over. Default 0.
    pub offset: usize,
    /// Which points may be hits.
    pub filter: Option<Filter>,
    /// Candidates kept while walking the graph: more finds more of the true
    /// neighbours and takes longer. Default: the collection's `ef_construct`.
    pub ef: Option<usize>,
    /// Compare with every point instead of walking the graph.
    pub exact: bool,
    /// Only hits better than this score: above it for similarities, below it
    /// for Euclid and Manhattan.
    pub score_threshold: Option<f32>,
    /// What comes back with a hit. Default: nothing but id and score.
    pub parts: Parts,
}

impl Search {
    /// The ten nearest points to `vector`.
    pub fn nearest(vector: Vec<f32>) -> Self {
        Self {
            vector,
            using: String::new(),
            limit: 10,
            offset: 0,
            filter: None,
            ef: None,
            exact: false,
            score_threshold: None,
            parts: Parts::default(),
        }
    }

    /// At most `limit` hits.
    #[must_use]
    pub fn limit(mut self, limit: usize) -> Self {
        self.limit = limit;
        self
    }

    /// Only points that match.
    #[must_use]
    pub fn filter(mut self, filter: Filter) -> Self {
        self.filter = Some(filter);
        self
    }

    /// By comparing with every point.
    #[must_use]
    pub fn exact(mut self) -> Self {
        self.exact = true;
        self
    }

    /// With these parts of each hit.
    #[must_use]
    pub fn with(mut self, parts: Parts) -> Self {
        self.parts = parts;
        self
    }
}

/// A point found, with its score: larger is better for cosine and dot,
/// smaller for Euclid and Manhattan.
#[derive(Debug, Clone, PartialEq)]
pub struct Hit {
    /// The point.
    pub id: PointId,
    /// The seq of the operation that wrote it.
    pub version: u64,
    /// Similarity or distance, as the metric's users expect it.
    pub score: f32,
    /// The payload, if asked for.
    pub payload: Option<Payload>,
    /// The vectors asked for.
    pub vectors: Option<Vectors>,
}

/// How a search was carried out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Plan {
    /// Every live point was compared, or every one that matches the filter.
    Scan,
    /// The graph was walked, and the points it does not cover were scanned.
    Graph,
}

/// What a search found, best first, and how.
#[derive(Debug, Clone, PartialEq)]
pub struct Found {
    /// The hits, best first.
    pub hits: Vec<Hit>,
    /// The plan that ran.
    pub plan: Plan,
}

/// Matches are estimated from this many points.
const SAMPLE: usize = 512;

/// Below this many points a scan is not worth splitting over threads.
const SCAN_PIECE: u32 = 8192;

thread_local! {
    static SCRATCH: RefCell<Scratch> = RefCell::new(Scratch::new());
}

pub(crate) fn search(
    state: &State,
    config: &CollectionConfig,
    options: &Options,
    search: &Search,
) -> Result<Found> {
    if search.limit == 0 {
        return Err(Error::Request("limit: value 0 invalid, must be 1 or larger".to_owned()));
    }
    let mut query = search.vector.clone();
    settle_vector(config, &search.using, &mut query)?;
    let walk = Walk {
        state,
        column: &state.columns[&search.using],
        query: &query,
        filter: search.filter.as_ref().filter(|filter| !filter.is_empty()),
        k: search.limit.saturating_add(search.offset).min(state.live.count()),
        ef: search.ef.unwrap_or(config.hnsw.ef_construct),
    };
    let (nearest, plan) = walk.run(options, search.exact);

    let metric = walk.column.config.distance;
    let good_enough = |score: f32| match search.score_threshold {
        None => true,
        Some(bound) if metric.larger_is_better() => score > bound,
        Some(bound) => score < bound,
    };
    let hits = nearest
        .into_iter()
        .map(|near| (near.slot, metric.score(near.distance)))
        .filter(|(_, score)| good_enough(*score))
        .skip(search.offset)
        .take(search.limit)
        .map(|(slot, score)| Hit {
            id: state.id(slot),
            version: state.version(slot),
            score,
            payload: state.payload(slot, &search.parts),
            vectors: state.vectors(slot, &search.parts),
        })
        .collect();
    Ok(Found { hits, plan })
}

struct Walk<'s> {
    state: &'s State,
    column: &'s Column,
    query: &'s [f32],
    filter: Option<&'s Filter>,
    k: usize,
    ef: usize,
}

impl Walk<'_> {
    fn run(&self, options: &Options, exact: bool) -> (Vec<Neighbor>, Plan) {
        if exact || self.column.graph.is_none() || self.few_match(options.full_scan_threshold) {
            return (self.scan(0), Plan::Scan);
        }
        let nearest = self.walk();
        if nearest.len() < self.k {
            return (self.scan(0), Plan::Scan);
        }
        (nearest, Plan::Graph)
    }

    fn accepts(&self, slot: u32) -> bool {
        self.column.live.get(slot) && self.filter.is_none_or(|filter| self.state.matches(slot, filter))
    }

    fn few_match(&self, threshold: usize) -> bool {
        let live = self.column.live.count();
        let Some(filter) = self.filter else { return false };
        let step = (live / SAMPLE).max(1);
        let sample = self.column.live.iter_from(0).step_by(step);
        let (seen, matched) = sample.fold((0usize, 0usize), |(seen, matched), slot| {
            (seen + 1, matched + usize::from(self.state.matches(slot, filter)))
        });
        matched.saturating_mul(live) / seen.max(1) < threshold
    }

    fn walk(&self) -> Vec<Neighbor> {
        let graph = self.column.graph.as_ref().expect("the plan asked for it");
        let metric = self.column.config.distance;
        let ef = self.ef.max(self.k);
        let mut nearest = SCRATCH.with_borrow_mut(|scratch| {
            graph.graph.search(
                metric,
                self.column,
                self.query,
                self.k,
                ef,
                |slot| self.accepts(slot),
                scratch,
            )
        });
        nearest.extend(self.scan(graph.covers));
        self.keep_best(nearest)
    }

    /// Compares with every accepted slot from `first` on.
    fn scan(&self, first: u32) -> Vec<Neighbor> {
        let metric = self.column.config.distance;
        let slots = self.column.len() as u32;
        let scan_piece = |from: u32| {
            let until = from.saturating_add(SCAN_PIECE).min(slots);
            let accepted = self
                .column
                .live
                .iter_from(from)
                .take_while(|slot| *slot < until)
                .filter(|slot| self.filter.is_none_or(|filter| self.state.matches(*slot, filter)));
            exact(metric, self.column, self.query, self.k, accepted)
        };
        if slots - first <= SCAN_PIECE {
            return scan_piece(first);
        }
        let starts: Vec<u32> = (first..slots).step_by(SCAN_PIECE as usize).collect();
        self.keep_best(starts.into_par_iter().flat_map_iter(scan_piece).collect())
    }

    fn keep_best(&self, mut nearest: Vec<Neighbor>) -> Vec<Neighbor> {
        nearest.sort_unstable();
        nearest.truncate(self.k);
        nearest
    }
}
