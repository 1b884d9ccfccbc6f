//! Finding the nearest points: which plan, and how its parts come together.
//!
//! Each part answers for itself. A part without a graph is scanned. Under a
//! filter the matches are estimated from the field indexes: few are scanned, by
//! codes where a graph has some, many are walked in the graph. A filtered search
//! never returns fewer than asked while more points match: a walk that comes up
//! short becomes a scan.

use std::cell::RefCell;
use std::sync::Arc;
use std::time::Instant;

use cairn_ann::{Beam, Effort, Graph, Metric, Neighbor, Rows, Scratch, Strategy, exact};
use rayon::prelude::*;

use crate::bits::Bits;
use crate::cancel;
use crate::config::{Datatype, Modifier, Options};
use crate::error::{Error, Result};
use crate::filter::Filter;
use crate::id::PointId;
use crate::part::{DenseRows, Part};
use crate::plan::{Explained, Matcher};
use crate::point::{Parts, Payload, settle_query};
use crate::query::{Measured, SearchParams};
use crate::similarity::{score, similarity};
use crate::sparse;
use crate::vector::{SparseVector, Vector, Vectors};
use crate::view::{Place, View};

/// A question to a collection: the nearest points to a vector.
///
/// ```
/// use cairn_index::Search;
///
/// let search = Search::nearest(vec![0.1, 0.2]).limit(5).exact();
/// ```
#[derive(Debug, Clone, PartialEq)]
pub struct Search {
    /// The query: as long as the collection's vectors, or sparse.
    pub vector: Vector,
    /// Which vector is compared; the unnamed one is `""`.
    pub using: String,
    /// How many hits at most. Default 10.
    pub limit: usize,
    /// How many of the nearest are passed over. Default 0.
    pub offset: usize,
    /// Which points may be hits.
    pub filter: Option<Filter>,
    /// How: by a graph with how wide a beam, or by comparing with every point.
    pub params: SearchParams,
    /// Only hits better than this score: above it for similarities, below it
    /// for Euclid and Manhattan.
    pub score_threshold: Option<f32>,
    /// What comes back with a hit. Default: nothing but id and score.
    pub parts: Parts,
    /// Tell in [`Found::steps`] how each part was searched; costs a little.
    pub explain: bool,
}

impl Search {
    /// The ten nearest points to `vector`.
    pub fn nearest(vector: impl Into<Vector>) -> Self {
        Self {
            vector: vector.into(),
            using: String::new(),
            limit: 10,
            offset: 0,
            filter: None,
            params: SearchParams::default(),
            score_threshold: None,
            parts: Parts::default(),
            explain: false,
        }
    }

    /// By the vector of this name.
    #[must_use]
    pub fn using(mut self, name: &str) -> Self {
        name.clone_into(&mut self.using);
        self
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

    /// Finding so much of the true nearest neighbours; see [`SearchParams::recall`].
    #[must_use]
    pub fn recall(mut self, recall: f32) -> Self {
        self.params.recall = Some(recall);
        self
    }

    /// By comparing with every point.
    #[must_use]
    pub fn exact(mut self) -> Self {
        self.params.exact = true;
        self
    }

    /// With these parts of each hit.
    #[must_use]
    pub fn with(mut self, parts: Parts) -> Self {
        self.parts = parts;
        self
    }

    /// Telling how each part was searched.
    #[must_use]
    pub fn explain(mut self) -> Self {
        self.explain = true;
        self
    }
}

/// A point found, with its score: larger is better for cosine and dot,
/// smaller for Euclid and Manhattan.
#[derive(Debug, Clone, PartialEq)]
pub struct Hit {
    /// The point.
    pub id: PointId,
    /// The string that the id was made of, if it was made of one.
    pub label: Option<Arc<str>>,
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
    /// A graph was walked, and the points in none were scanned.
    Graph,
    /// The postings of the query's positions were read.
    Inverted,
}

/// How one part of the collection was searched.
#[derive(Debug, Clone, PartialEq)]
pub struct Step {
    /// The segment's number; `None` for points that are in none yet.
    pub segment: Option<u64>,
    /// Live points in the part.
    pub points: usize,
    /// How it was searched.
    pub plan: Plan,
    /// Points that were expected to match the filter.
    pub expected_matches: Option<usize>,
    /// How each condition of the filter was answered.
    pub filter: Vec<Explained>,
    /// Hits it contributed candidates for.
    pub found: usize,
    /// Microseconds it took.
    pub micros: u64,
}

/// What a search found, best first, and how.
#[derive(Debug, Clone, PartialEq)]
pub struct Found {
    /// The hits, best first.
    pub hits: Vec<Hit>,
    /// The plan that ran; of several, the one for the most points.
    pub plan: Plan,
    /// How each part was searched, if the search asked to explain itself.
    pub steps: Vec<Step>,
}

/// Below this many points a scan is not worth splitting over threads.
const SCAN_PIECE: u32 = 8192;

thread_local! {
    static SCRATCH: RefCell<Scratch> = RefCell::new(Scratch::new());
    static SPARSE_SCRATCH: RefCell<sparse::search::Scratch> = RefCell::default();
}

/// The nearest points of a view, as callers see them.
pub(crate) fn search(view: &View, options: &Options, search: &Search) -> Result<(Found, Vec<Place>)> {
    if search.limit == 0 {
        return Err(Error::Request("limit: value 0 invalid, must be 1 or larger".to_owned()));
    }
    let query = settle_query(&view.config, &search.using, search.vector.clone())?;
    let ask = Ask {
        using: &search.using,
        query: &query,
        filter: search.filter.as_ref(),
        k: search.limit.saturating_add(search.offset),
        params: search.params.clone(),
    };
    let (nearest, steps) = nearest(view, options, &ask, search.explain)?;
    let metric = view.config.vectors.get(&search.using).map(|vector| vector.distance);
    let good_enough = |score: f32| match search.score_threshold {
        None => true,
        Some(bound) if metric.is_none_or(Metric::larger_is_better) => score > bound,
        Some(bound) => score < bound,
    };
    let shown = nearest
        .iter()
        .map(|(place, raw)| (*place, metric.map_or(*raw, |metric| score(metric, *raw))))
        .filter(|(_, score)| good_enough(*score))
        .skip(search.offset)
        .take(search.limit);
    let mut hits = Vec::new();
    let mut places = Vec::new();
    for (place, score) in shown {
        let part = view.part(place);
        hits.push(Hit {
            id: part.id(place.slot),
            label: part.label(place.slot),
            version: part.version(place.slot),
            score,
            payload: view.payload(place, &search.parts.payload)?,
            vectors: view.vectors(place, &search.parts.vectors),
        });
        places.push(place);
    }
    let plan = steps.iter().max_by_key(|step| step.points).map_or(Plan::Scan, |step| step.plan);
    let steps = if search.explain { steps } else { Vec::new() };
    Ok((Found { hits, plan, steps }, places))
}

/// Places with their raw similarities, best first.
pub(crate) type Ranked = Vec<(Place, f32)>;

/// A query that was checked and prepared.
pub(crate) struct Ask<'a> {
    pub(crate) using: &'a str,
    pub(crate) query: &'a Vector,
    pub(crate) filter: Option<&'a Filter>,
    pub(crate) k: usize,
    /// `indexed_only` passes over parts that have no graph yet.
    pub(crate) params: SearchParams,
}

/// The `k` most similar rows, best first, by raw similarity: larger is better
/// under every metric.
pub(crate) fn nearest(
    view: &View,
    options: &Options,
    ask: &Ask<'_>,
    explain: bool,
) -> Result<(Ranked, Vec<Step>)> {
    if let Some(recall) = ask.params.recall
        && !(recall > 0.0 && recall <= 1.0)
    {
        let told = format!("recall: value {recall} invalid, must be above 0 and at most 1");
        return Err(Error::Request(told));
    }
    let weights = match ask.query {
        Vector::Sparse(sparse) => Some(weighted(view, ask.using, sparse, ask.params.idf_corpus.as_ref())?),
        _ => None,
    };
    let prepared = view.prepare(ask.filter)?;
    let mut best: Vec<(Place, f32)> = Vec::new();
    let mut steps = Vec::new();
    // The largest first: the others then know how near a hit has to be.
    let mut parts: Vec<(u32, &Part)> =
        view.numbered().filter(|(_, part)| part.marks.live.count() > 0).collect();
    parts.sort_by_key(|(_, part)| std::cmp::Reverse(part.marks.live.count()));
    let rows_of_view = parts.iter().map(|(_, part)| part.marks.live.count()).sum();
    for (number, part) in parts {
        let started = Instant::now();
        let filtered = view.filtered(part);
        let searched = PartSearch {
            view,
            part,
            ask,
            matcher: prepared.as_ref().map(|filter| Matcher::new(filter, &filtered)),
            expires: part.has_expiry(),
            none: Bits::default(),
            worst: best.get(ask.k.saturating_sub(1)).map(|(_, raw)| *raw),
            rows_of_view,
        };
        let (found, plan) = match &weights {
            Some(weights) => searched.sparse(weights),
            None => searched.dense(options)?,
        };
        cancel::check()?;
        steps.push(Step {
            segment: part.is_sealed().then_some(part.number),
            points: part.marks.live.count(),
            plan,
            expected_matches: explain.then(|| searched.expected()).flatten(),
            filter: if explain { searched.describe() } else { Vec::new() },
            found: found.len(),
            micros: started.elapsed().as_micros() as u64,
        });
        best.extend(found.into_iter().map(|(slot, raw)| (Place { part: number, slot }, raw)));
        keep_best(&mut best, ask.k);
    }
    Ok((best, steps))
}

struct PartSearch<'s> {
    view: &'s View,
    part: &'s Part,
    ask: &'s Ask<'s>,
    matcher: Option<Matcher<'s>>,
    expires: bool,
    none: Bits,
    /// The last of enough hits that other parts gave, as similarity.
    worst: Option<f32>,
    /// Live rows of all parts.
    rows_of_view: usize,
}

type Scored = Vec<(u32, f32)>;

impl PartSearch<'_> {
    fn present(&self) -> &Bits {
        self.part.present(self.ask.using, &self.view.uids).unwrap_or(&self.none)
    }

    fn expected(&self) -> Option<usize> {
        self.matcher.as_ref().map(|matcher| matcher.estimate(self.part.marks.live.count()).expected)
    }

    fn describe(&self) -> Vec<Explained> {
        self.matcher.as_ref().map(Matcher::describe).unwrap_or_default()
    }

    fn is_there(&self, slot: u32) -> bool {
        self.part.marks.live.get(slot) && (!self.expires || !self.part.is_expired(slot, self.view.now_ms))
    }

    fn accepts(&self, slot: u32, present: &Bits) -> bool {
        present.get(slot)
            && self.is_there(slot)
            && self.matcher.as_ref().is_none_or(|matcher| matcher.check(slot))
    }

    /// The accepted slots as one set, where the filter's are known: a walk asks
    /// for a hundred thousand of them.
    fn accepted(&self, present: &Bits) -> Option<Bits> {
        let mut accepted = self.matcher.as_ref()?.exact_slots()?.clone();
        accepted.and(present);
        accepted.and(&self.part.marks.live);
        if self.expires {
            let gone: Vec<u32> =
                accepted.iter().filter(|slot| self.part.is_expired(*slot, self.view.now_ms)).collect();
            gone.into_iter().for_each(|slot| accepted.set(slot, false));
        }
        Some(accepted)
    }

    fn dense(&self, options: &Options) -> Result<(Scored, Plan)> {
        let config = self.view.config.vector(self.ask.using)?;
        if config.multivector {
            return Ok((self.scan_multi(config.distance), Plan::Scan));
        }
        let Some(rows) = self.part.dense(self.ask.using, &self.view.uids) else {
            return Ok((Vec::new(), Plan::Scan));
        };
        let query = self.ask.query.as_dense().expect("a settled query is of the vector's kind");
        let uid = self.view.uid(self.ask.using);
        let graph = uid.and_then(|uid| self.part.derived.graph(self.ask.using, uid));
        let walk = Walk { search: self, metric: config.distance, rows, query, graph };
        let (nearest, plan) = walk.run(options);
        Ok((nearest.into_iter().map(|near| (near.slot, 0.0 - near.distance)).collect(), plan))
    }

    fn scan_multi(&self, metric: Metric) -> Scored {
        let present = self.present();
        let cancel = cancel::current();
        let all = cancel.until(present.iter_from(0));
        let slots: Vec<u32> = all.filter(|slot| self.accepts(*slot, present)).collect();
        let mut scored: Scored = slots
            .par_iter()
            .filter_map(|slot| {
                if cancel.is_cancelled() {
                    return None;
                }
                let stored = self.part.vector(*slot, self.ask.using, &self.view.uids)?.into_owned();
                let stored = comparable(self.view, self.ask.using, stored);
                Some((*slot, similarity(metric, self.ask.query, &stored)?))
            })
            .collect();
        keep_best(&mut scored, self.ask.k);
        scored
    }

    fn sparse(&self, weights: &[(u32, f32)]) -> (Scored, Plan) {
        let present = self.present();
        if let Some(index) =
            self.view.uid(self.ask.using).and_then(|uid| self.part.derived.sparse(self.ask.using, uid))
        {
            let found = SPARSE_SCRATCH.with_borrow_mut(|scratch| {
                index.search(weights, self.ask.k, None, |slot| self.accepts(slot, present), scratch)
            });
            return (found, Plan::Inverted);
        }
        let weights = sparse::scan::Weights::new(weights.iter().copied());
        let all = cancel::current().until(present.iter_from(0));
        let slots = all.filter(|slot| self.accepts(*slot, present));
        let mut scored: Scored =
            slots.filter_map(|slot| Some((slot, self.sparse_score(slot, &weights)?))).collect();
        keep_best(&mut scored, self.ask.k);
        (scored, Plan::Scan)
    }

    fn sparse_score(&self, slot: u32, weights: &sparse::scan::Weights) -> Option<f32> {
        let stored = self.part.vector(slot, self.ask.using, &self.view.uids)?;
        weights.score(stored.as_sparse()?.entries())
    }
}

/// A stored vector in the form in which `similarity` compares it: whole numbers
/// are stored as they are, also under cosine, and get their unit length here.
pub(crate) fn comparable(view: &View, using: &str, mut stored: Vector) -> Vector {
    let Some(config) = view.config.vectors.get(using) else { return stored };
    if config.datatype == Datatype::Uint8 {
        match &mut stored {
            Vector::Dense(values) => config.distance.prepare(values),
            Vector::Multi(rows) => {
                let dim = rows.dim();
                rows.values_mut().chunks_exact_mut(dim).for_each(|row| config.distance.prepare(row));
            }
            Vector::Sparse(_) => {}
        }
    }
    stored
}

/// The `k` with the largest scores, best first; equal ones by place.
pub(crate) fn keep_best<P: Ord>(scored: &mut Vec<(P, f32)>, k: usize) {
    scored.sort_unstable_by(|a, b| b.1.total_cmp(&a.1).then_with(|| a.0.cmp(&b.0)));
    scored.truncate(k);
}

/// The query's weights, with the idf of each position where the vector has it.
pub(crate) fn weighted(
    view: &View,
    using: &str,
    query: &SparseVector,
    corpus: Option<&Filter>,
) -> Result<Vec<(u32, f32)>> {
    let config = view
        .config
        .sparse_vectors
        .get(using)
        .ok_or_else(|| Error::UnknownVector { name: using.to_owned() })?;
    let mut weights: Vec<(u32, f32)> = query.entries().collect();
    if config.modifier == Modifier::Idf {
        let (rows, counts) = frequencies(view, using, query.indices(), corpus)?;
        for ((_, weight), count) in weights.iter_mut().zip(counts) {
            *weight *= crate::bm25::idf(rows, count);
        }
    }
    Ok(weights)
}

/// How many rows have a sparse vector, and how many have each position: of the
/// points that match, or of all. Of all, rows of segments count until merging
/// removes them.
fn frequencies(
    view: &View,
    using: &str,
    indices: &[u32],
    corpus: Option<&Filter>,
) -> Result<(usize, Vec<usize>)> {
    let prepared = view.prepare(corpus)?;
    let mut rows = 0;
    let mut counts = vec![0; indices.len()];
    for part in &view.parts {
        let Some(present) = part.present(using, &view.uids) else { continue };
        let counted = match corpus {
            Some(_) => {
                let mut counted = view.slots(part, prepared.as_ref())?;
                counted.and(present);
                Some(counted)
            }
            None => None,
        };
        if let Some(index) = view.uid(using).and_then(|uid| part.derived.sparse(using, uid)) {
            rows += counted.as_ref().map_or(index.rows() as usize, Bits::count);
            for (count, at) in counts.iter_mut().zip(indices) {
                *count += match &counted {
                    Some(counted) => index.df_among(*at, counted),
                    None => index.df(*at) as usize,
                };
            }
            continue;
        }
        let slots = counted.as_ref().unwrap_or(present).iter();
        for slot in slots.filter(|slot| part.marks.live.get(*slot)) {
            let Some(vector) = part.vector(slot, using, &view.uids) else { continue };
            let Some(sparse) = vector.as_sparse() else { continue };
            rows += 1;
            for (count, at) in counts.iter_mut().zip(indices) {
                *count += usize::from(sparse.indices().binary_search(at).is_ok());
            }
        }
    }
    Ok((rows, counts))
}

/// Candidates that a walk goes on from in every part, to get to where the nearest
/// are.
const LEAST: usize = 16;

struct Walk<'s> {
    search: &'s PartSearch<'s>,
    metric: Metric,
    rows: DenseRows<'s>,
    query: &'s [f32],
    graph: Option<&'s Graph>,
}

impl Walk<'_> {
    fn run(&self, options: &Options) -> (Vec<Neighbor>, Plan) {
        let ask = self.search.ask;
        let Some(graph) = self.graph.filter(|_| !ask.params.is_exact() && !self.scans(options)) else {
            let skip = ask.params.indexed_only && self.search.part.is_sealed() && self.graph.is_none();
            let slots = if skip { Vec::new() } else { self.scan() };
            return (slots, Plan::Scan);
        };
        let present = self.search.present();
        let k = ask.k.min(self.search.part.marks.live.count());
        let beam = self.beam(k);
        let len = self.rows.len() as f32;
        let nearest = match self.search.accepted(present) {
            Some(accepted) => {
                let share = accepted.count() as f32 / len;
                self.walk(graph, k, beam, (share, true), |slot| accepted.get(slot))
            }
            None => {
                let plan = (self.expected() as f32 / len, self.search.matcher.is_some());
                self.walk(graph, k, beam, plan, |slot| self.search.accepts(slot, present))
            }
        };
        match nearest {
            Some(nearest) if nearest.len() >= k || self.search.matcher.is_none() => {
                (self.with_recent(nearest, graph.len() as u32), Plan::Graph)
            }
            _ => (self.scan(), Plan::Scan),
        }
    }

    /// The walk over a graph, told which share it accepts; nothing if comparing all that
    /// is accepted takes less time and is left to others.
    fn walk(
        &self,
        graph: &Graph,
        k: usize,
        beam: Beam,
        (share, leaves_scans): (f32, bool),
        accept: impl Fn(u32) -> bool,
    ) -> Option<Vec<Neighbor>> {
        let (metric, rows, query) = (self.metric, &self.rows, self.query);
        SCRATCH.with_borrow_mut(|scratch| match (self.search.ask.params.measured, graph.by_codes()) {
            (Measured::Vectors, Some(_)) => {
                let query = cairn_ann::Query::new(metric, query);
                let measure = |slot| query.distance(rows.row(slot));
                Some(graph.search_filtered_by(measure, |_| (), k, beam, share, accept, scratch))
            }
            (Measured::Codes, Some(codes)) if leaves_scans => {
                codes.walk_accepted(query, k, beam, share, accept, scratch)
            }
            (Measured::Codes, Some(codes)) => {
                Some(codes.search_filtered(query, k, beam, share, accept, scratch))
            }
            _ if leaves_scans => graph.walk_accepted(metric, rows, query, k, beam, share, accept, scratch),
            _ => Some(graph.search_filtered(metric, rows, query, k, beam, share, accept, scratch)),
        })
    }

    /// Adds the rows of a growing part that its graph does not cover yet.
    fn with_recent(&self, mut nearest: Vec<Neighbor>, covered: u32) -> Vec<Neighbor> {
        if (covered as usize) < self.rows.len() {
            let (search, present) = (self.search, self.search.present());
            let recent = present.iter_from(covered).filter(|slot| search.accepts(*slot, present));
            nearest.extend(exact(self.metric, &self.rows, self.query, search.ask.k, recent));
            nearest.sort_unstable();
            nearest.truncate(search.ask.k);
        }
        nearest
    }

    /// Where other parts gave enough hits, a walk need not go far beyond them: in
    /// a tenth of all rows lie about a tenth of the beam that all together would
    /// have.
    fn beam(&self, k: usize) -> Beam {
        let more = self.search.ask.params.oversampling.unwrap_or(1.0).max(1.0);
        let ef = self.ef().max((k as f32 * more) as usize).max(k);
        let Some(worst) = self.search.worst else { return ef.into() };
        let share = self.search.part.marks.live.count() as f64 / self.search.rows_of_view.max(1) as f64;
        // A filtered walk that comes up short becomes a scan.
        let least = if self.search.matcher.is_some() { k.max(LEAST) } else { LEAST };
        let least = least.max((ef as f64 * share) as usize);
        Beam { ef, least, bound: 0.0 - worst }
    }

    fn ef(&self) -> usize {
        let ask = self.search.ask;
        let usual = || self.search.view.config.hnsw.ef_construct;
        let known = || match self.effort()? {
            Effort::Beam(ef) => Some(ask.params.ef_limit.map_or(ef, |most| ef.min(most))),
            Effort::Scan => ask.params.ef_limit,
        };
        ask.params.ef.or_else(known).unwrap_or_else(usual)
    }

    /// What the recall that was asked for takes, as far as that is known.
    fn effort(&self) -> Option<Effort> {
        let ask = self.search.ask;
        self.graph?.effort(ask.k, ask.params.recall?)
    }

    /// Whether only a scan reaches the recall that was asked for, and one is allowed.
    fn wants_scan(&self) -> bool {
        let params = &self.search.ask.params;
        params.ef.is_none() && params.ef_limit.is_none() && self.effort() == Some(Effort::Scan)
    }

    /// Whether the recall that was asked for needs the rows themselves: codes of few
    /// bits do not tell apart what is nearly equally far, and where that is so, no
    /// walk finds enough either.
    fn needs_rows(&self) -> bool {
        !self.search.view.config.hnsw.codes.tell_all_apart() && self.wants_scan()
    }

    /// Rows that the walk is expected to accept.
    fn expected(&self) -> usize {
        self.search.expected().unwrap_or_else(|| self.search.part.marks.live.count())
    }

    /// Whether comparing all that match is as fast as a walk, or finds what no walk
    /// does: so few match, or so much is to be found.
    fn scans(&self, options: &Options) -> bool {
        if self.wants_scan() {
            return true;
        }
        let Some(expected) = self.search.expected() else { return false };
        let share = expected as f32 / self.rows.len().max(1) as f32;
        let suits = |graph: &Graph| graph.filtered_strategy(share, self.ef()) == Strategy::Scan;
        expected < options.full_scan_threshold || self.graph.is_some_and(suits)
    }

    /// Compares with every accepted slot.
    fn scan(&self) -> Vec<Neighbor> {
        let search = self.search;
        let present = search.present();
        if let Some(listed) = search.matcher.as_ref().and_then(Matcher::listed) {
            let there = listed.into_iter().filter(|slot| present.get(*slot) && search.is_there(*slot));
            return self.compare(there);
        }
        if let Some(accepted) = search.accepted(present) {
            return self.compare(accepted.iter());
        }
        if let Some(candidates) = search.matcher.as_ref().and_then(Matcher::candidates) {
            let accepted = candidates.iter().filter(|slot| search.accepts(*slot, present));
            return self.compare(accepted);
        }
        let len = self.rows.len() as u32;
        let cancel = cancel::current();
        let piece = |from: u32| {
            if cancel.is_cancelled() {
                return Vec::new();
            }
            let until = from.saturating_add(SCAN_PIECE).min(len);
            let slots = present.iter_from(from).take_while(|slot| *slot < until);
            let accepted = slots.filter(|slot| search.accepts(*slot, present));
            self.compare(accepted)
        };
        if len <= SCAN_PIECE {
            return piece(0);
        }
        let starts: Vec<u32> = (0..len).step_by(SCAN_PIECE as usize).collect();
        let mut nearest: Vec<Neighbor> = starts.into_par_iter().flat_map_iter(piece).collect();
        nearest.sort_unstable();
        nearest.truncate(search.ask.k);
        nearest
    }

    /// The nearest of some slots: by codes, where there are some and the search is
    /// not to be exact.
    fn compare(&self, slots: impl Iterator<Item = u32>) -> Vec<Neighbor> {
        let (ask, rows) = (self.search.ask, &self.rows);
        let slots = cancel::current().until(slots);
        let measured = ask.params.measured;
        let by_rows = ask.params.is_exact() || self.needs_rows() || measured == Measured::Vectors;
        let Some(graph) = self.graph.filter(|_| !by_rows) else {
            return exact(self.metric, rows, self.query, ask.k, slots);
        };
        SCRATCH.with_borrow_mut(|scratch| match graph.by_codes() {
            Some(codes) if measured == Measured::Codes => codes.scan(self.query, ask.k, slots, scratch),
            _ => graph.scan(self.metric, rows, self.query, ask.k, slots, scratch),
        })
    }
}
