//! Builds over flat arrays, measuring codes of one byte a value.
//!
//! The layers are those of HNSW: each holds a random part of the one below. A
//! layer grows in batches. For every point of a batch the nearest are searched
//! in the layer as it was before the batch, and become its links after pruning;
//! then every point that got links back prunes its own. Neither half writes what
//! the other threads read, so there are no locks, and the graph does not depend
//! on the number of threads (Manohar et al. 2024, ParlayANN).

#![allow(clippy::inline_always)] // Parts of loops that are compiled per instruction set.

use rayon::prelude::*;

use super::codes::{BuildCodes, From, Sums};
use super::prune::{Candidate, PruneScratch, prune};
use super::space::between;
use super::twins::Twins;
use super::{GraphBuilder, HnswRsBuilder, check};
use crate::array::Words;
use crate::codes::{Int8, MIN_CODED_DIM};
use crate::graph::{Layer, MAX_UPPER, NONE};
use crate::links::Links;
use crate::pages;
use crate::simd::{Simd, Task, run};
use crate::walk::Walker;
use crate::{Error, Graph, Metric, Result, Rows};

/// Points of a layer for each one that is on the layer above too.
pub(super) const SHRINK: usize = 32;
/// A layer with fewer points needs none above it.
const SMALLEST: usize = 64;
/// Points inserted so far for each one of the next batch.
const PER_BATCH: usize = 50;
/// The most points in a batch: cancelling waits for one.
const LARGEST_BATCH: usize = 4096;
/// While a layer grows, there is room for one more link per this many, so that
/// not every link back makes its point prune.
pub(super) const SLACK: usize = 2;

/// Builds a [`Graph`] over arrays, several times as fast as
/// [`HnswRsBuilder`].
///
/// The same rows, settings and seed give the same graph, with any number of
/// threads and on any processor that rounds alike. Rows of fewer than
/// [`MIN_CODED_DIM`] values are left to [`HnswRsBuilder`].
///
/// ```
/// use cairn_ann::{FlatRows, GraphBuilder, Metric, NativeBuilder};
///
/// let rows = FlatRows::new(2, &[0.0f32, 0.0, 1.0, 0.0, 0.0, 1.0])?;
/// let graph = NativeBuilder::default().build(Metric::Euclid, &rows, &|| false)?;
/// assert_eq!(graph.len(), 3);
/// # Ok::<(), cairn_ann::Error>(())
/// ```
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct NativeBuilder {
    /// Links per point on the upper layers, twice as many on layer 0; 2 to
    /// 128. More find more in hard data and take more memory and time.
    pub m: usize,
    /// The beam's width while building, `m` to 65,536. Wider gives a better
    /// graph and takes longer.
    pub ef_construction: usize,
    /// How much longer than the way around a link may be, as a factor on the
    /// distance, 1 to 2. A larger one keeps more links and shortens walks. Without effect
    /// by dot, which is no distance.
    pub alpha: f32,
    /// Decides who is on the upper layers and in which order points go in.
    pub seed: u64,
}

impl Default for NativeBuilder {
    fn default() -> Self {
        Self { m: 16, ef_construction: 100, alpha: 1.0, seed: 0 }
    }
}

impl NativeBuilder {
    pub(super) fn check(&self, rows: usize) -> Result<()> {
        check(self.m, self.ef_construction, rows)?;
        if !(1.0..=2.0).contains(&self.alpha) {
            return Err(Error::Alpha { got: self.alpha });
        }
        Ok(())
    }

    pub(super) fn work<'a>(&self, metric: Metric, cancelled: &'a (dyn Fn() -> bool + Sync)) -> Work<'a> {
        // Factors are on distances; squared ones are measured.
        let alpha = match metric {
            Metric::Cosine | Metric::Euclid => self.alpha * self.alpha,
            Metric::Manhattan => self.alpha,
            // Products have no factor.
            Metric::Dot => 1.0,
        };
        Work { ef: self.ef_construction, alpha, cancelled }
    }
}

impl GraphBuilder for NativeBuilder {
    fn build<R: Rows>(
        &self,
        metric: Metric,
        rows: &R,
        cancelled: &(dyn Fn() -> bool + Sync),
    ) -> Result<Graph> {
        self.check(rows.len())?;
        if rows.dim() < MIN_CODED_DIM {
            let builder = HnswRsBuilder { m: self.m, ef_construction: self.ef_construction };
            return builder.build(metric, rows, cancelled);
        }
        if rows.is_empty() {
            return Ok(Graph::unlinked(0, 2 * self.m, NONE));
        }
        let twins = Twins::find(rows);
        // The order in which points go in, by which all but layer 0 lie.
        let mut slots = twins.firsts.clone();
        fastrand::Rng::with_seed(self.seed).shuffle(&mut slots);
        let codes = Int8::encode(metric, rows, &slots);
        let work = self.work(metric, cancelled);

        let sums = Sums::of(&codes);
        let by_order = BuildCodes::new(&codes, &sums);
        let above = work.grow_above(&by_order, self.m, slots.len())?;
        let layout = Layout::new(&near_above(&by_order, slots.len(), &above), &above);
        let codes = codes.reordered(&layout.order);
        let sums = Sums::of(&codes);
        let by_position = BuildCodes::new(&codes, &sums);
        let base = work.grow(&by_position, 2 * self.m, &layout.sequence, &layout.near, size_above(&above))?;

        let by_position: Vec<u32> = layout.order.iter().map(|&code| slots[code as usize]).collect();
        Ok(finished(metric, rows, &twins, (&base, &by_position), (&above, &slots)))
    }
}

/// The graph by slot, with twins, and with no slot out of reach. Layers come
/// with the slots of their positions, the lowest of those above last.
pub(super) fn finished<R: Rows>(
    metric: Metric,
    rows: &R,
    twins: &Twins,
    (base, slots): (&Grown, &[u32]),
    (above, slots_above): (&[Grown], &[u32]),
) -> Graph {
    let slot = |position: u32| slots[position as usize];
    let mut graph = Graph::unlinked(rows.len(), base.stride, slots_above[0]);
    for position in 0..slots.len() as u32 {
        graph.set_links(slot(position), base.links().of(position).map(slot));
    }
    above.iter().rev().for_each(|layer| graph.push_layer(layer.named(slots_above)));
    twins.hang(&mut graph);
    graph.link_orphans(|a, b| between(metric, rows, a, b));
    graph
}

/// For each of the first `len` codes, a near one on the lowest layer so far.
fn near_above(codes: &BuildCodes<'_>, len: usize, above: &[Grown]) -> Vec<u32> {
    let points = (0..len as u32).into_par_iter().with_min_len(64);
    points
        .map_init(Vec::new, |query, code| run(Descend { from: codes, code, among: codes, above, query }))
        .collect()
}

fn size_above(above: &[Grown]) -> usize {
    above.last().map_or(0, |layer| layer.links().positions())
}

/// How layer 0 lies in memory: points behind each other that are near the same
/// point of layer 1. A thread that inserts one after the other then finds in
/// its cache most of what it reads.
struct Layout {
    /// Which code lies at each position.
    order: Vec<u32>,
    /// The position of each code: where points are, in the order in which they
    /// go in.
    sequence: Vec<u32>,
    /// For each position that of a near point of layer 1.
    near: Vec<u32>,
}

impl Layout {
    fn new(near: &[u32], above: &[Grown]) -> Self {
        let met = above.last().map_or_else(|| vec![(0, 0)], |layer| layer.links().breadth_first(0));
        let mut ranks = vec![0; met.len()];
        (0u32..).zip(met).for_each(|(rank, (position, _))| ranks[position as usize] = rank);
        let mut order: Vec<u32> = (0..near.len() as u32).collect();
        order.sort_by_key(|&code| (ranks[near[code as usize] as usize], code));
        let mut sequence = vec![0; order.len()];
        for (position, &code) in order.iter().enumerate() {
            sequence[code as usize] = position as u32;
        }
        let near = order.iter().map(|&code| sequence[near[code as usize] as usize]).collect();
        Self { order, sequence, near }
    }
}

/// Finds a near point on the lowest of some layers.
pub(super) struct Descend<'a> {
    /// Holds the code that a near one is looked for.
    pub(super) from: &'a BuildCodes<'a>,
    pub(super) code: u32,
    /// The codes of the layers.
    pub(super) among: &'a BuildCodes<'a>,
    /// The lowest last.
    pub(super) above: &'a [Grown],
    pub(super) query: &'a mut Vec<u8>,
}

impl Task for Descend<'_> {
    type Output = u32;

    #[inline(always)]
    fn run<S: Simd>(self) -> u32 {
        let from = From { codes: self.among, turned: self.from.turned(self.code, self.query) };
        let mut near = 0;
        for layer in self.above {
            near = Walker::descend::<S, _>(layer.links(), &from, near);
        }
        near
    }
}

/// Points on each layer, layer 0 first: the first ones in the order in which
/// they go in.
pub(super) fn sizes(len: usize) -> Vec<usize> {
    let mut sizes = vec![len];
    let mut last = len;
    while last > SMALLEST && sizes.len() <= MAX_UPPER {
        last = last.div_ceil(SHRINK);
        sizes.push(last);
    }
    sizes
}

/// A layer, by position: the order in which points go in.
pub(super) struct Grown {
    pub(super) all: Words,
    pub(super) stride: usize,
}

impl Grown {
    pub(super) fn unlinked(positions: usize, stride: usize) -> Self {
        let mut all = pages::with_capacity(positions * stride);
        all.resize(positions * stride, NONE);
        Self { all: all.into(), stride }
    }

    pub(super) fn row_mut(&mut self, position: u32) -> &mut [u32] {
        &mut self.all.make_mut()[position as usize * self.stride..][..self.stride]
    }

    pub(super) fn links(&self) -> Links<'_> {
        Links::wide(&self.all, self.stride)
    }

    /// The layer with `names` in place of positions.
    pub(super) fn named(&self, names: &[u32]) -> Layer {
        let (links, named) = (self.links(), |position: u32| names[position as usize]);
        let lists = (0..links.positions() as u32).map(|at| (named(at), links.of(at).map(named).collect()));
        Layer::new(lists.collect())
    }
}

/// What growing needs, and leaves as it is.
pub(super) struct Work<'a> {
    pub(super) ef: usize,
    pub(super) alpha: f32,
    pub(super) cancelled: &'a (dyn Fn() -> bool + Sync),
}

/// Memory of a thread.
#[derive(Default)]
pub(super) struct Scratch {
    pub(super) walker: Walker,
    pub(super) query: Vec<u8>,
    pub(super) candidates: Vec<Candidate>,
    pub(super) prune: PruneScratch,
}

/// A link back: to whom, how far, from whom.
pub(super) type Back = (u32, u32, u32);

impl Work<'_> {
    /// The layers above one of `len` points, the lowest last. Their codes are the
    /// first ones.
    pub(super) fn grow_above(&self, codes: &BuildCodes<'_>, m: usize, len: usize) -> Result<Vec<Grown>> {
        let mut above: Vec<Grown> = Vec::new();
        for &len in sizes(len)[1..].iter().rev() {
            let sequence: Vec<u32> = (0..len as u32).collect();
            let near = near_above(codes, len, &above);
            let layer = self.grow(codes, m, &sequence, &near, size_above(&above))?;
            above.push(layer);
        }
        Ok(above)
    }

    /// Links positions in the order of `sequence`. A walk begins at `near` of
    /// its point, which the first `known` of the sequence are.
    fn grow(
        &self,
        codes: &BuildCodes<'_>,
        stride: usize,
        sequence: &[u32],
        near: &[u32],
        known: usize,
    ) -> Result<Grown> {
        let mut grown = Grown::unlinked(sequence.len(), stride + stride / SLACK);
        let mut done = 1;
        while done < sequence.len() {
            if (self.cancelled)() {
                return Err(Error::Cancelled);
            }
            let size = (done / PER_BATCH).clamp(1, LARGEST_BATCH).min(sequence.len() - done);
            let mut batch = sequence[done..done + size].to_vec();
            batch.sort_unstable();
            let start = |position: u32| if done < known { sequence[0] } else { near[position as usize] };
            self.insert(codes, &mut grown, stride, &batch, start);
            done += size;
        }
        Ok(self.within(codes, &grown, stride))
    }

    /// Links positions with the others, each from where `start` says and from
    /// the links it has. They do not see each other's new links.
    pub(super) fn insert(
        &self,
        codes: &BuildCodes<'_>,
        grown: &mut Grown,
        stride: usize,
        batch: &[u32],
        start: impl Fn(u32) -> u32 + Sync,
    ) {
        let links = grown.links();
        let insert = |scratch: &mut Scratch, &position: &u32| {
            run(Insert { work: self, codes, links, stride, start: start(position), position, scratch })
        };
        let linked: Vec<Vec<Candidate>> = batch.par_iter().map_init(Scratch::default, insert).collect();
        let mut back: Vec<Back> = Vec::with_capacity(batch.len() * stride);
        for (&position, kept) in batch.iter().zip(&linked) {
            let is_new = links.room(position)[0] == NONE;
            let new = kept.iter().filter(|&&(_, link)| is_new || !links.room(link).contains(&position));
            back.extend(new.map(|&(distance, link)| (link, distance, position)));
        }
        for (&position, kept) in batch.iter().zip(&linked) {
            let row = grown.row_mut(position);
            row.fill(NONE);
            row.iter_mut().zip(kept).for_each(|(place, link)| *place = link.1);
        }
        back.par_sort_unstable();
        self.link_back(codes, grown, stride, &back);
    }

    /// The same links in less room; those with more are pruned.
    pub(super) fn within(&self, codes: &BuildCodes<'_>, grown: &Grown, stride: usize) -> Grown {
        let links = grown.links();
        let mut less = Grown::unlinked(links.positions(), stride);
        let rows = less.all.make_mut().par_chunks_exact_mut(stride).enumerate().with_min_len(64);
        rows.for_each_init(Scratch::default, |scratch, (position, row)| {
            let all = links.room(position as u32);
            if all[stride] == NONE {
                row.copy_from_slice(&all[..stride]);
            } else {
                run(Prune {
                    work: self,
                    codes,
                    position: position as u32,
                    links: all,
                    back: &[],
                    scratch,
                    row,
                });
            }
        });
        less
    }

    /// Gives points the links back to those that linked to them.
    pub(super) fn link_back(&self, codes: &BuildCodes<'_>, grown: &mut Grown, stride: usize, back: &[Back]) {
        let room = grown.stride;
        let per_piece = (grown.all.len() / room).div_ceil(64).max(16);
        let pieces = grown.all.make_mut().par_chunks_mut(per_piece * room).enumerate();
        pieces.for_each_init(Scratch::default, |scratch, (piece, rows)| {
            let first = (piece * per_piece) as u32;
            let after = first + (rows.len() / room) as u32;
            let from = back.partition_point(|&(to, ..)| to < first);
            let until = back.partition_point(|&(to, ..)| to < after);
            for back in back[from..until].chunk_by(|a, b| a.0 == b.0) {
                let position = back[0].0;
                let row = &mut rows[(position - first) as usize * room..][..room];
                let used = row.iter().position(|&link| link == NONE).unwrap_or(room);
                if used + back.len() <= room {
                    row[used..].iter_mut().zip(back).for_each(|(place, link)| *place = link.2);
                    continue;
                }
                let links = row[..used].to_vec();
                row.fill(NONE);
                run(Prune {
                    work: self,
                    codes,
                    position,
                    links: &links,
                    back,
                    scratch,
                    row: &mut row[..stride],
                });
            }
        });
    }
}

/// Finds the links of one point.
struct Insert<'a> {
    work: &'a Work<'a>,
    codes: &'a BuildCodes<'a>,
    links: Links<'a>,
    /// The most links it gets.
    stride: usize,
    start: u32,
    position: u32,
    scratch: &'a mut Scratch,
}

impl Task for Insert<'_> {
    type Output = Vec<Candidate>;

    #[inline(always)]
    fn run<S: Simd>(self) -> Vec<Candidate> {
        let Self { work, codes, links, stride, start, position, scratch } = self;
        let Scratch { walker, query, candidates, prune: pruning } = scratch;
        let from = From { codes, turned: codes.turned(position, query) };
        let own = links.room(position);
        // One that has links is in reach, and itself the nearest.
        let is_linked = own[0] != NONE;
        let also = is_linked.then_some(position);
        walker.walk::<S, _>(links, &from, also.into_iter().chain([start]), work.ef, (work.ef, 0));
        candidates.clear();
        candidates.extend(walker.pool.iter().filter(|&(_, near)| near != position));
        prune::<S>(codes, candidates, stride, work.alpha, pruning);
        pruning.kept.clone()
    }
}

/// Keeps the links of one point that are worth it.
struct Prune<'a> {
    work: &'a Work<'a>,
    codes: &'a BuildCodes<'a>,
    position: u32,
    /// What it has, and room.
    links: &'a [u32],
    /// What is offered.
    back: &'a [Back],
    scratch: &'a mut Scratch,
    /// Where the kept ones go.
    row: &'a mut [u32],
}

impl Task for Prune<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self) {
        let Self { work, codes, position, links, back, scratch, row } = self;
        let Scratch { query, candidates, prune: pruning, .. } = scratch;
        links.iter().filter(|&&link| link != NONE).for_each(|&link| codes.prefetch(link));
        let turned = codes.turned(position, query);
        candidates.clear();
        candidates.extend(back.iter().map(|&(_, distance, from)| (distance, from)));
        for &link in links {
            if link != NONE {
                candidates.push((codes.apart::<S>(&turned, link), link));
            }
        }
        candidates.sort_unstable();
        prune::<S>(codes, candidates, row.len(), work.alpha, pruning);
        row.fill(NONE);
        row.iter_mut().zip(&pruning.kept).for_each(|(place, kept)| *place = kept.1);
    }
}

/// The distance between two codes.
pub(super) struct Apart<'a> {
    pub(super) codes: BuildCodes<'a>,
    pub(super) a: u32,
    pub(super) b: u32,
}

impl Task for Apart<'_> {
    type Output = u32;

    #[inline(always)]
    fn run<S: Simd>(self) -> u32 {
        let mut buffer = Vec::new();
        let turned = self.codes.turned(self.a, &mut buffer);
        self.codes.apart::<S>(&turned, self.b)
    }
}
