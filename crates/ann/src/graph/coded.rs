//! Graphs whose walks measure codes, and rows only at the end.
//!
//! Positions are numbered in the order in which a breadth-first walk meets
//! them, so that what is read together lies together; each knows its slot.

#![allow(clippy::inline_always)] // Parts of loops that are compiled per instruction set.

use std::collections::VecDeque;

use super::filtered::Filter;
use super::{Coded, Graph, Layer, NONE, Scratch};
use crate::codes::{Int8, Int8Query};
use crate::exact::exact;
use crate::metric::Query;
use crate::nearest::Neighbor;
use crate::pool::rank;
use crate::prefetch::prefetch;
use crate::simd::{Simd, Task, run};
use crate::walk::{Links, Measure, Walker};
use crate::{Metric, Rows};

impl Graph {
    /// The same graph with the rows in one byte a value beside it, to be
    /// searched several times as fast.
    ///
    /// `rows` are those it was built over. A walk then measures codes, and the
    /// rows of the best decide: for the same `ef` the recall is the same within
    /// 0.002. Takes as many bytes per row as it has values, rounded up to 64.
    #[must_use]
    pub fn quantized<R: Rows>(self, metric: Metric, rows: &R) -> Self {
        assert!(rows.len() >= self.len(), "the rows are the graph's");
        let slots = self.breadth_first();
        let mut graph = self.renumbered(&slots);
        graph.coded = Some(Coded { codes: Int8::encode(metric, rows, &slots), slots: slots.into() });
        graph
    }

    /// All positions in the order in which a walk from the entry meets them.
    fn breadth_first(&self) -> Vec<u32> {
        let mut met = vec![false; self.len()];
        let mut order = Vec::with_capacity(self.len());
        let mut queue = VecDeque::new();
        // Every position is reached from the entry; the rest is for safety.
        for start in (self.entry != NONE).then_some(self.entry).into_iter().chain(0..self.len() as u32) {
            if met[start as usize] {
                continue;
            }
            met[start as usize] = true;
            queue.push_back(start);
            while let Some(position) = queue.pop_front() {
                order.push(position);
                for link in self.links(position) {
                    if !met[link as usize] {
                        met[link as usize] = true;
                        queue.push_back(link);
                    }
                }
            }
        }
        order
    }

    /// The graph with `order[new]` in place of each `new`.
    fn renumbered(&self, order: &[u32]) -> Self {
        let mut new = vec![0u32; order.len()];
        for (at, &old) in order.iter().enumerate() {
            new[old as usize] = at as u32;
        }
        let new = |old: u32| new[old as usize];
        let entry = if self.entry == NONE { NONE } else { new(self.entry) };
        let mut graph = Self::unlinked(order.len(), self.stride, entry);
        for (at, &old) in order.iter().enumerate() {
            graph.set_links(at as u32, self.links(old).map(new));
        }
        for layer in &self.upper {
            let lists = layer
                .slots
                .iter()
                .map(|&old| (new(old), layer.links(old).iter().map(|&link| new(link)).collect()));
            graph.push_layer(Layer::new(lists.collect()));
        }
        graph
    }

    /// The search over codes; see [`Graph::search`].
    #[allow(clippy::too_many_arguments)] // What a search is made of.
    pub(super) fn search_coded<R: Rows>(
        &self,
        coded: &Coded,
        metric: Metric,
        rows: &R,
        query: &[f32],
        k: usize,
        ef: usize,
        accept: impl Fn(u32) -> bool,
        scratch: &mut Scratch,
    ) -> Vec<Neighbor> {
        if self.is_empty() || k == 0 {
            return Vec::new();
        }
        let Scratch { walker, code, .. } = scratch;
        let measure = Codes(coded.codes.query(query, code));
        run(Beam { graph: self, measure: &measure, ef: ef.max(k), walker });
        let slots = &*coded.slots;
        let (met, wanted) = (walker.pool.len(), rescored(k));
        let accepted =
            walker.pool.iter().map(|(_, position)| slots[position as usize]).filter(|&slot| accept(slot));
        let mut near = Vec::with_capacity(wanted);
        near.extend(accepted.take(wanted).map(|slot| Neighbor { slot, distance: 0.0 }));
        if near.len() < k.min(met) {
            // Many were rejected: the beam has to count what is accepted.
            let filter = Filter { share: 1.0, accept: &accept };
            return self.search_coded_filtered(coded, metric, rows, query, k, ef, &filter, scratch);
        }
        rescore(metric, rows, query, near, k)
    }

    /// The search over codes with a filter; see [`Graph::search_filtered`].
    #[allow(clippy::too_many_arguments)] // What a search is made of.
    pub(super) fn search_coded_filtered<R: Rows, A: Fn(u32) -> bool>(
        &self,
        coded: &Coded,
        metric: Metric,
        rows: &R,
        query: &[f32],
        k: usize,
        ef: usize,
        filter: &Filter<'_, A>,
        scratch: &mut Scratch,
    ) -> Vec<Neighbor> {
        let slots = &*coded.slots;
        let accept = filter.accept;
        // The walk needs the rest of the scratch.
        let mut code = std::mem::take(&mut scratch.code);
        let query_code = coded.codes.query(query, &mut code);
        let found = run(Filtered {
            graph: self,
            query: &query_code,
            wanted: rescored(k),
            ef: ef.max(k),
            filter: Filter { share: filter.share, accept: &|position| accept(slots[position as usize]) },
            scratch,
        });
        scratch.code = code;
        match found {
            Some(found) => rescore(metric, rows, query, self.slots().name(found), k),
            None => exact(metric, rows, query, k, (0..self.len() as u32).filter(|&slot| accept(slot))),
        }
    }
}

/// Measures the rows of candidates and keeps the `k` nearest, nearest first.
fn rescore<R: Rows>(
    metric: Metric,
    rows: &R,
    query: &[f32],
    mut near: Vec<Neighbor>,
    k: usize,
) -> Vec<Neighbor> {
    near.iter().for_each(|near| prefetch(rows.row(near.slot).bytes()));
    let query = Query::new(metric, query);
    for near in &mut near {
        near.distance = query.distance(rows.row(near.slot));
    }
    near.sort_unstable();
    near.truncate(k);
    near
}

/// Candidates whose rows are measured, for `k` results.
fn rescored(k: usize) -> usize {
    k + k / 2 + 2
}

/// Distances to a query by code.
struct Codes<'c>(Int8Query<'c>);

impl Measure for Codes<'_> {
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
struct Beam<'a, M> {
    graph: &'a Graph,
    measure: &'a M,
    ef: usize,
    walker: &'a mut Walker,
}

impl<M: Measure> Task for Beam<'_, M> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self) {
        let Self { graph, measure, ef, walker } = self;
        let mut near = (measure.rank::<S>(graph.entry), graph.entry);
        for layer in graph.upper.iter().rev() {
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
        let links = Links { all: &graph.base, stride: graph.stride };
        walker.walk::<S, _>(links, measure, [near.1, graph.entry], ef);
    }
}

/// A walk with a filter over codes.
struct Filtered<'a, A> {
    graph: &'a Graph,
    query: &'a Int8Query<'a>,
    wanted: usize,
    ef: usize,
    /// By position.
    filter: Filter<'a, A>,
    scratch: &'a mut Scratch,
}

impl<A: Fn(u32) -> bool> Task for Filtered<'_, A> {
    type Output = Option<Vec<Neighbor>>;

    #[inline(always)]
    fn run<S: Simd>(self) -> Self::Output {
        let Self { graph, query, wanted, ef, filter, scratch } = self;
        let measure = |position| query.distance::<S>(position);
        let prefetch = |position| query.prefetch(position);
        graph.walk_filtered(&measure, &prefetch, wanted, ef, &filter, scratch)
    }
}
