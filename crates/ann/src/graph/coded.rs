//! Graphs whose walks measure codes, and rows only at the end.
//!
//! Positions are numbered in the order in which a breadth-first walk meets
//! them, so that what is read together lies together; each knows its slot.

#![allow(clippy::inline_always)] // Parts of loops that are compiled per instruction set.

use super::fast::Fast;
use super::filtered::{Filter, Strategy};
use super::judge::Judge;
use super::lanes::{search_one, search_some};
use super::recall::Curves;
use super::scan::Scannable;
use super::signed::Signed;
use super::{Beam, Coded, Codes, Graph, Layer, NONE, Scratch, product};
use crate::array::Words;
use crate::build::between;
use crate::codes::{Bits, Blocks, Held, Int8, Int8Query, Kind, MIN_CODED_DIM, Signs};
use crate::links::Base;
use crate::metric::Query;
use crate::nearest::Neighbor;
use crate::pool::{Pool, distance, rank};
use crate::prefetch::prefetch_all;
use crate::simd::{Simd, Task, run};
use crate::walk::{Measure, Walker};
use crate::{Metric, Rows};

impl Graph {
    /// The same graph with the rows in one byte a value beside it, to be
    /// searched several times as fast.
    ///
    /// `rows` are those it was built over. A walk then measures codes, and the
    /// rows of the best decide. Takes as many bytes per row as it has values, rounded up to 64,
    /// and an eighth of that for signs.
    /// Rows of fewer than [`MIN_CODED_DIM`] values leave the graph as it is.
    #[must_use]
    pub fn quantized<R: Rows>(self, metric: Metric, rows: &R) -> Self {
        if self.coded.is_some() { self } else { self.coded_in(Kind::Int8(Bits::Eight), metric, rows) }
    }

    /// The graph with codes of a kind, those that it has or new ones.
    fn coded_in<R: Rows>(mut self, kind: Kind, metric: Metric, rows: &R) -> Self {
        assert!(rows.len() >= self.len(), "the rows are the graph's");
        if rows.dim() < MIN_CODED_DIM {
            return self;
        }
        if let Some(coded) = &mut self.coded
            && coded.codes.kind() == kind
        {
            // A graph that grew has none.
            coded.signs = coded.signs.take().or_else(|| coded.codes.int8().and_then(Signs::of));
            return self;
        }
        let (mut graph, slots) = match self.coded.as_ref().map(|coded| coded.slots.clone()) {
            Some(slots) => (self, slots),
            None => {
                let slots = self.breadth_first();
                let mut graph = self.renumbered(&slots);
                graph.base = graph.base.pack();
                (graph, slots.into())
            }
        };
        let codes = Held::encode(metric, kind, rows, &slots);
        let signs = codes.int8().and_then(Signs::of);
        graph.coded = Some(Coded { codes, slots, blocks: None, signs });
        graph
    }

    /// [`quantized`](Self::quantized) with codes of one's choice.
    ///
    /// [`Codes::Fast`] is searched 1.2 to 1.6 times as fast as [`Codes::Int8`] at a
    /// recall of 0.95 (AVX-512, AVX2), and takes another 5 bytes per row and value.
    /// [`Codes::Compact`] takes half of `Int8`; more rows are looked at in the
    /// end. By Manhattan both are `Int8`: those distances do not survive the
    /// rotation that they need. [`Codes::Product`] takes what its [`Compression`]
    /// says, by every metric, and a KiB a value for all rows together. Codes that the
    /// graph has and that are not of this kind are made anew.
    #[must_use]
    pub fn quantized_as<R: Rows>(self, metric: Metric, rows: &R, codes: Codes) -> Self {
        let rotated = metric != Metric::Manhattan;
        let kind = match codes {
            Codes::Product(compression) => Kind::Product(compression),
            Codes::Compact if rotated => Kind::Int8(Bits::Four),
            _ => Kind::Int8(Bits::Eight),
        };
        let mut graph = self.coded_in(kind, metric, rows);
        let links = graph.base.links();
        if let Some(coded) = &mut graph.coded {
            let coarse = coded.codes.int8().filter(|_| codes == Codes::Fast && rotated);
            let old = coded.blocks.take();
            coded.blocks = coarse.map(|codes| old.unwrap_or_else(|| Blocks::encode(codes, links)));
            graph.curves = Curves::default();
        }
        graph
    }

    /// A graph whose positions are its slots, with the codes of a builder.
    pub(crate) fn pictured(base: Words, stride: usize, upper: Layer, codes: Int8) -> Self {
        let base = Base::wide(base, stride);
        let len = base.links().positions();
        let slots: Vec<u32> = (0..len as u32).collect();
        let coded = Some(Coded { codes: Held::Int8(codes), slots: slots.into(), blocks: None, signs: None });
        Self {
            entry: if len == 0 { NONE } else { 0 },
            base,
            upper: vec![upper],
            coded,
            curves: Curves::default(),
            scannable: Scannable::default(),
        }
    }

    /// The graph without some of its slots, the others renumbered.
    ///
    /// `new_slots` says for each slot its number among `rows`, which are those
    /// that stay. For a graph that has lost a few; when it has lost many,
    /// building anew gives a better one.
    ///
    /// # Panics
    /// If a new number has no row, or not every row has one.
    #[must_use]
    pub fn kept<R: Rows>(&self, metric: Metric, rows: &R, new_slots: &[Option<u32>]) -> Self {
        let slots = self.slots();
        let new = |position: u32| new_slots[slots.of(position) as usize];
        let mut old = vec![NONE; rows.len()];
        (0..self.len() as u32).for_each(|position| {
            if let Some(slot) = new(position) {
                old[slot as usize] = position;
            }
        });
        assert!(!old.contains(&NONE), "every row that stays was in the graph");
        let layers: Vec<Layer> = self.upper.iter().map(|layer| layer.kept(&new)).collect();
        let entry = (self.entry != NONE).then(|| new(self.entry)).flatten();
        let entry = entry.or_else(|| layers.iter().rev().find_map(|layer| layer.slots.first().copied()));
        let mut graph = Self::unlinked(
            rows.len(),
            self.stride(),
            if rows.is_empty() { NONE } else { entry.unwrap_or(0) },
        );
        let mut links = Vec::new();
        for (slot, &position) in old.iter().enumerate() {
            self.kept_links(position, new, &mut links);
            graph.set_links(slot as u32, links.iter().copied());
        }
        layers.into_iter().for_each(|layer| graph.push_layer(layer));
        graph.link_orphans(|a, b| between(metric, rows, a, b));
        let Some(coded) = &self.coded else { return graph };
        let order = graph.breadth_first();
        let mut graph = graph.renumbered(&order);
        graph.base = graph.base.pack();
        let positions: Vec<u32> = order.iter().map(|&slot| old[slot as usize]).collect();
        let codes = coded.codes.reordered(&positions);
        let blocked = codes.int8().filter(|_| coded.blocks.is_some());
        let blocks = blocked.map(|codes| Blocks::encode(codes, graph.base()));
        let signs = codes.int8().filter(|_| coded.signs.is_some()).and_then(Signs::of);
        graph.coded = Some(Coded { codes, slots: order.into(), blocks, signs });
        graph
    }

    /// The links of a position by new numbers, those it had to lost ones replaced.
    pub(crate) fn kept_links(&self, position: u32, new: impl Fn(u32) -> Option<u32>, links: &mut Vec<u32>) {
        links.clear();
        links.extend(self.links(position).filter_map(&new));
        // What a lost one was linked with stands in for it.
        for lost in self.links(position).filter(|&link| new(link).is_none()) {
            for behind in self.links(lost).filter(|&behind| behind != position).filter_map(&new) {
                if links.len() < self.stride() && !links.contains(&behind) {
                    links.push(behind);
                }
            }
        }
    }

    /// All positions in the order in which a walk from the entry meets them.
    fn breadth_first(&self) -> Vec<u32> {
        self.base().breadth_first(self.entry).into_iter().map(|(position, _)| position).collect()
    }

    /// The graph with `order[new]` in place of each `new`.
    fn renumbered(&self, order: &[u32]) -> Self {
        let mut new = vec![0u32; order.len()];
        for (at, &old) in order.iter().enumerate() {
            new[old as usize] = at as u32;
        }
        let new = |old: u32| new[old as usize];
        let entry = if self.entry == NONE { NONE } else { new(self.entry) };
        let mut graph = Self::unlinked(order.len(), self.stride(), entry);
        for (at, &old) in order.iter().enumerate() {
            graph.set_links(at as u32, self.links(old).map(new));
        }
        self.upper.iter().for_each(|layer| graph.push_layer(layer.kept(&|old| Some(new(old)))));
        graph
    }

    /// The search over codes; see [`Graph::search`].
    #[allow(clippy::too_many_arguments)] // What a search is made of.
    pub(super) fn search_coded(
        &self,
        coded: &Coded,
        judge: &impl Judge,
        query: &[f32],
        k: usize,
        beam: Beam,
        accept: impl Fn(u32) -> bool,
        scratch: &mut Scratch,
    ) -> Vec<Neighbor> {
        if self.is_empty() || k == 0 {
            return Vec::new();
        }
        let plan = (judge.wanted(k, coded.rescored(k, beam.ef)), beam.for_k(k));
        let by_position = |position: u32| accept(coded.slots[position as usize]);
        let found = match coded.by_estimates() {
            Some(ByEstimates::Fast(codes, blocks)) => {
                let way = Fast::new(self, codes, blocks, plan, by_position);
                search_one(&way, &coded.slots, judge, query, k, scratch)
            }
            Some(ByEstimates::Signed(codes, signs)) => {
                let way = Signed::new(self, codes, signs, plan, by_position);
                search_one(&way, &coded.slots, judge, query, k, scratch)
            }
            None => self.search_by_all(coded, judge, query, k, plan, &accept, scratch),
        };
        // Many were rejected: the beam has to count what is accepted.
        found.unwrap_or_else(|| self.search_rejecting(coded, judge, query, k, beam, accept, scratch))
    }

    /// The search over codes for several queries at once, with a scratch for each.
    #[allow(clippy::too_many_arguments)] // What a search is made of.
    pub(super) fn search_coded_some(
        &self,
        coded: &Coded,
        judge: &impl Judge,
        queries: &[&[f32]],
        k: usize,
        beam: Beam,
        accept: impl Fn(u32) -> bool,
        scratches: &mut [Scratch],
    ) -> Vec<Vec<Neighbor>> {
        if self.is_empty() || k == 0 {
            return vec![Vec::new(); queries.len()];
        }
        let plan = (judge.wanted(k, coded.rescored(k, beam.ef)), beam.for_k(k));
        let by_position = |position: u32| accept(coded.slots[position as usize]);
        let found = match coded.by_estimates() {
            Some(ByEstimates::Fast(codes, blocks)) => {
                let way = Fast::new(self, codes, blocks, plan, by_position);
                search_some(&way, &coded.slots, judge, queries, k, scratches)
            }
            Some(ByEstimates::Signed(codes, signs)) => {
                let way = Signed::new(self, codes, signs, plan, by_position);
                search_some(&way, &coded.slots, judge, queries, k, scratches)
            }
            None => {
                let each = queries.iter().zip(&mut *scratches);
                let search = |(query, scratch): (&&[f32], &mut Scratch)| {
                    self.search_by_all(coded, judge, query, k, plan, &accept, scratch)
                };
                each.map(search).collect()
            }
        };
        let each = found.into_iter().zip(queries).zip(scratches);
        let decided = each.map(|((found, query), scratch)| {
            let again = || self.search_rejecting(coded, judge, query, k, beam, &accept, scratch);
            found.unwrap_or_else(again)
        });
        decided.collect()
    }

    /// The search that measures the codes of all it meets; nothing if it rejects so
    /// many that the beam has to count what is accepted.
    #[allow(clippy::too_many_arguments)] // What a search is made of.
    fn search_by_all(
        &self,
        coded: &Coded,
        judge: &impl Judge,
        query: &[f32],
        k: usize,
        (wanted, beam): (usize, Beam),
        accept: &impl Fn(u32) -> bool,
        scratch: &mut Scratch,
    ) -> Option<Vec<Neighbor>> {
        let Scratch { walker, code, product, .. } = scratch;
        match &coded.codes {
            Held::Int8(codes) => {
                let measure = ByCode(codes.query(query, code));
                run(Walk { graph: self, measure: &measure, beam, walker });
            }
            Held::Product(codes) => {
                let measure = codes.query(query, product);
                run(Walk { graph: self, measure: &measure, beam, walker });
            }
        }
        let met = walker.pool.len();
        let accepted = walker.pool.iter().map(named(&coded.slots)).filter(|near| accept(near.slot));
        let mut near = Vec::with_capacity(wanted.min(met));
        near.extend(accepted.take(wanted));
        (near.len() >= k.min(met)).then(|| judge.decide(query, near, k))
    }

    /// The search over codes that turned out to reject many.
    #[allow(clippy::too_many_arguments)] // What a search is made of.
    pub(super) fn search_rejecting(
        &self,
        coded: &Coded,
        judge: &impl Judge,
        query: &[f32],
        k: usize,
        beam: Beam,
        accept: impl Fn(u32) -> bool,
        scratch: &mut Scratch,
    ) -> Vec<Neighbor> {
        let filter = Filter { share: 1.0, accept: &accept };
        let found = self.search_coded_filtered(coded, judge, query, k, beam, &filter, scratch);
        found.unwrap_or_else(|| {
            let accepted = (0..self.len() as u32).filter(|&slot| accept(slot));
            self.scan_coded(coded, judge, query, k, accepted, scratch)
        })
    }

    /// The search over codes with a filter; see [`Graph::walk_accepted`].
    #[allow(clippy::too_many_arguments)] // What a search is made of.
    pub(super) fn search_coded_filtered<A: Fn(u32) -> bool>(
        &self,
        coded: &Coded,
        judge: &impl Judge,
        query: &[f32],
        k: usize,
        beam: Beam,
        filter: &Filter<'_, A>,
        scratch: &mut Scratch,
    ) -> Option<Vec<Neighbor>> {
        let slots = &*coded.slots;
        let accept = filter.accept;
        let wanted = judge.wanted(k, coded.rescored(k, beam.ef));
        let filter = Filter { share: filter.share, accept: &|position| accept(slots[position as usize]) };
        let (graph, beam) = (self, beam.for_k(k));
        // The walk needs the rest of the scratch.
        let mut code = std::mem::take(&mut scratch.code);
        let mut product = std::mem::take(&mut scratch.product);
        let found = match &coded.codes {
            Held::Int8(codes) => {
                let query = &ByCode(codes.query(query, &mut code));
                run(Filtered { graph, query, wanted, beam, filter, scratch })
            }
            Held::Product(codes) => {
                let query = &codes.query(query, &mut product);
                run(Filtered { graph, query, wanted, beam, filter, scratch })
            }
        };
        (scratch.code, scratch.product) = (code, product);
        Some(judge.decide(query, self.slots().name(found?), k))
    }
}

impl Layer {
    /// The layer by new numbers, without what has none.
    fn kept(&self, new: &impl Fn(u32) -> Option<u32>) -> Self {
        let kept = self.slots.iter().filter_map(|&slot| {
            let links = self.links(slot).iter().filter_map(|&link| new(link));
            Some((new(slot)?, links.collect()))
        });
        Self::new(kept.collect())
    }
}

/// Gives entries of a pool by the slots of their positions.
pub(super) fn named(slots: &[u32]) -> impl Fn((u32, u32)) -> Neighbor {
    |(rank, position)| Neighbor { slot: slots[position as usize], distance: distance(rank) }
}

/// What a walk by estimates measures: the best of it, and when it was enough.
pub(super) struct Measured<'a, A> {
    best: &'a mut Pool,
    /// By position.
    accept: A,
    /// Candidates in a row that may be measured in vain.
    patience: usize,
    in_vain: usize,
    /// Near ones that were not accepted.
    rejected: usize,
}

impl<'a, A: Fn(u32) -> bool> Measured<'a, A> {
    pub(super) fn new(best: &'a mut Pool, accept: A, patience: usize) -> Self {
        Self { best, accept, patience, in_vain: 0, rejected: 0 }
    }

    /// Takes a candidate; says whether the walk goes on.
    #[inline(always)]
    pub(super) fn take(&mut self, distance: f32, position: u32) -> bool {
        if distance < self.best.worst() {
            if (self.accept)(position) {
                self.best.offer(rank(distance), position);
                self.in_vain = 0;
            } else {
                self.rejected += 1;
            }
            return true;
        }
        self.in_vain += 1;
        self.in_vain <= self.patience
    }

    /// The best; nothing if so many were rejected that a beam has to count what is
    /// accepted.
    pub(super) fn found(&self) -> Option<&Pool> {
        (self.rejected <= self.best.len() / 4).then_some(self.best)
    }
}

/// Measures the rows of candidates and keeps the `k` nearest, nearest first.
pub(super) fn rescore<R: Rows>(
    metric: Metric,
    rows: &R,
    query: &[f32],
    mut near: Vec<Neighbor>,
    k: usize,
) -> Vec<Neighbor> {
    near.iter().for_each(|near| prefetch_all(rows.row(near.slot).bytes()));
    let query = Query::new(metric, query);
    for near in &mut near {
        near.distance = query.distance(rows.row(near.slot));
    }
    near.sort_unstable();
    near.truncate(k);
    near
}

/// What codes are walked by where estimates lie beside them.
enum ByEstimates<'a> {
    Fast(&'a Int8, &'a Blocks),
    Signed(&'a Int8, &'a Signs),
}

impl Coded {
    fn by_estimates(&self) -> Option<ByEstimates<'_>> {
        let codes = self.codes.int8()?;
        match (&self.blocks, &self.signs) {
            (Some(blocks), _) => Some(ByEstimates::Fast(codes, blocks)),
            (None, Some(signs)) => Some(ByEstimates::Signed(codes, signs)),
            (None, None) => None,
        }
    }

    /// Candidates whose rows are measured, for `k` results of a beam: a share of
    /// it too, so that a wider one finds more also where codes do not tell a crowd
    /// apart.
    pub(super) fn rescored(&self, k: usize, ef: usize) -> usize {
        match self.codes.kind() {
            Kind::Int8(Bits::Eight) => (k + k / 8 + 2).max(ef / 8),
            Kind::Int8(Bits::Four) => (k + k / 2 + 6).max(ef / 2),
            Kind::Product(compression) => product::rescored(compression, k, ef),
        }
    }
}

/// Distances to a query by code.
pub(super) struct ByCode<'c>(pub(super) Int8Query<'c>);

impl Measure for ByCode<'_> {
    #[inline(always)]
    fn rank<S: Simd>(&self, position: u32) -> u32 {
        rank(self.0.distance::<S>(position))
    }

    #[inline(always)]
    fn prefetch(&self, position: u32) {
        self.0.prefetch(position);
    }
}

/// The walk from the entry down to layer 0 and over it.
struct Walk<'a, M> {
    graph: &'a Graph,
    measure: &'a M,
    beam: Beam,
    walker: &'a mut Walker,
}

impl Graph {
    /// Goes down the upper layers: gives a near position, and its rank.
    #[inline(always)]
    pub(super) fn descend_coded<S: Simd, M: Measure>(&self, measure: &M) -> (u32, u32) {
        let mut near = (measure.rank::<S>(self.entry), self.entry);
        for layer in self.upper.iter().rev() {
            loop {
                let from = near.1;
                let links = layer.links(from);
                links.iter().for_each(|&link| measure.prefetch(link));
                for &link in links {
                    near = near.min((measure.rank::<S>(link), link));
                }
                if near.1 == from {
                    break;
                }
            }
        }
        near
    }
}

impl<M: Measure> Task for Walk<'_, M> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self) {
        let Self { graph, measure, beam, walker } = self;
        let near = graph.descend_coded::<S, M>(measure);
        let links = graph.base();
        let limits = (beam.least, rank(beam.bound));
        walker.walk::<S, _>(links, measure, [near.1, graph.entry], beam.ef, limits);
    }
}

/// A walk with a filter over codes.
struct Filtered<'a, M, A> {
    graph: &'a Graph,
    query: &'a M,
    wanted: usize,
    beam: Beam,
    /// By position.
    filter: Filter<'a, A>,
    scratch: &'a mut Scratch,
}

impl<M: Measure, A: Fn(u32) -> bool> Task for Filtered<'_, M, A> {
    type Output = Option<Vec<Neighbor>>;

    #[inline(always)]
    fn run<S: Simd>(self) -> Self::Output {
        let Self { graph, query, wanted, beam, filter, scratch } = self;
        match graph.filtered_strategy(filter.share, beam.ef) {
            Strategy::Scan => None,
            Strategy::StepOver => {
                let measure = |position| distance(query.rank::<S>(position));
                let prefetch = |position| query.prefetch(position);
                graph.step_over(&measure, &prefetch, wanted, beam, filter.accept, scratch)
            }
            Strategy::WalkThrough => {
                graph.walk_through::<S, _, _>(query, wanted, beam, &filter, &mut scratch.walker)
            }
        }
    }
}
