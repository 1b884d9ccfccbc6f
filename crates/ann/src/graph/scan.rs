//! The scan of some slots by their codes: signs tell which may be among the
//! nearest, their codes are measured, and the rows of the best decide.

#![allow(clippy::inline_always)] // Parts of loops that are compiled per instruction set.

use std::sync::{Arc, OnceLock};

use super::coded::named;
use super::judge::{ByRows, Judge};
use super::{Coded, Graph, NONE, Scratch, product};
use crate::codes::{BLOCK, Bits, BySigns, Held, Int8Query, Kind, Signs};
use crate::exact::exact;
use crate::nearest::Neighbor;
use crate::pool::{Pool, rank};
use crate::simd::{Simd, Task, run};
use crate::{Metric, Rows};

/// So few slots are compared by their rows: readying the query as a code takes
/// as long.
const FEW: usize = 64;
/// Codes asked for ahead.
const AHEAD: usize = 12;

/// What scans look at besides codes, made when first asked for. It follows from
/// the rest of the graph.
#[derive(Clone, Default)]
pub(super) struct Scannable(OnceLock<Arc<BySlot>>);

struct BySlot {
    /// The position of each slot; `NONE` for one without.
    positions: Vec<u32>,
    /// Of a graph that has none itself.
    signs: Option<Signs>,
}

impl PartialEq for Scannable {
    fn eq(&self, _: &Self) -> bool {
        true
    }
}

impl Scannable {
    fn of(&self, coded: &Coded) -> &BySlot {
        self.0.get_or_init(|| {
            let slots = &*coded.slots;
            let mut positions = vec![NONE; slots.len()];
            slots.iter().zip(0u32..).for_each(|(&slot, position)| positions[slot as usize] = position);
            let signs = coded.codes.int8().filter(|_| coded.signs.is_none()).and_then(Signs::of);
            Arc::new(BySlot { positions, signs })
        })
    }

    pub(super) fn memory_bytes(&self) -> usize {
        let bytes = |by_slot: &Arc<BySlot>| {
            let signs = by_slot.signs.as_ref().map_or(0, Signs::memory_bytes);
            size_of_val(&*by_slot.positions) + signs
        };
        self.0.get().map_or(0, bytes)
    }
}

/// The memory of a scan, kept from one to the next.
#[derive(Debug, Default)]
pub(super) struct Scanned {
    positions: Vec<u32>,
    /// The least that a distance may be, and the position.
    kept: Vec<(f32, u32)>,
}

impl Graph {
    /// Finds the `k` nearest of `slots` by measuring each, nearest first.
    ///
    /// As [`exact`], but of a quantized graph the codes are measured, and the rows
    /// of the best decide. Of 98k rows of 384 values that takes half the time for
    /// a thousand slots, and less than a tenth for half of all. Of the true
    /// neighbours about one in a thousand is missed, more where many are equally
    /// far; as many hits are returned. Slots beyond the graph's may be among them
    /// if they have rows. The first scan of a graph notes where each slot is, and makes
    /// signs of a graph that still grew.
    ///
    /// ```
    /// use cairn_ann::{FlatRows, GraphBuilder, Metric, NativeBuilder, Scratch};
    ///
    /// let values: Vec<f32> = (0..16_000).map(|at| (at as f32 * 0.7).sin()).collect();
    /// let rows = FlatRows::new(16, &values)?;
    /// let graph = NativeBuilder::default().build(Metric::Euclid, &rows, &|| false)?;
    /// let graph = graph.quantized(Metric::Euclid, &rows);
    /// let (query, even) = (rows.values(700), (0..1000).step_by(2));
    /// let near = graph.scan(Metric::Euclid, &rows, query, 3, even, &mut Scratch::new());
    /// assert_eq!((near.len(), near[0].slot), (3, 700));
    /// # Ok::<(), cairn_ann::Error>(())
    /// ```
    ///
    /// # Panics
    /// If `query` has another length than the rows, or a slot has no row.
    pub fn scan<R: Rows>(
        &self,
        metric: Metric,
        rows: &R,
        query: &[f32],
        k: usize,
        slots: impl Iterator<Item = u32>,
        scratch: &mut Scratch,
    ) -> Vec<Neighbor> {
        match &self.coded {
            Some(coded) => self.scan_coded(coded, &ByRows { metric, rows }, query, k, slots, scratch),
            None => exact(metric, rows, query, k, slots),
        }
    }

    /// The scan over codes; see [`Graph::scan`].
    pub(super) fn scan_coded(
        &self,
        coded: &Coded,
        judge: &impl Judge,
        query: &[f32],
        k: usize,
        slots: impl Iterator<Item = u32>,
        scratch: &mut Scratch,
    ) -> Vec<Neighbor> {
        let Scratch { scanned, best, code, planes, product, .. } = scratch;
        let Scanned { positions: scanned, kept } = scanned;
        scanned.clear();
        scanned.extend(slots);
        let wanted = judge.wanted(k, coded.rescored_of_scan(k));
        if scanned.len() <= wanted.max(FEW)
            && let Some(near) = judge.by_rows(query, k, scanned.iter().copied())
        {
            return near;
        }
        let by_slot = self.scannable.of(coded);
        // Rows that have no code are compared themselves.
        let mut others = Vec::new();
        scanned.retain_mut(|slot| {
            let position = by_slot.positions.get(*slot as usize).copied().unwrap_or(NONE);
            if position == NONE {
                others.push(*slot);
            } else {
                *slot = position;
            }
            position != NONE
        });
        best.reset(wanted.min(scanned.len()));
        match &coded.codes {
            Held::Int8(codes) => {
                let query = &codes.query(query, code);
                let signs = coded.signs.as_ref().or(by_slot.signs.as_ref());
                let signs = signs.map(|signs| query.by_signs(signs, planes));
                run(Scan { query, signs: signs.as_ref(), positions: scanned, pool: best, kept });
            }
            Held::Product(codes) => product::scan(&codes.query(query, product), scanned, best),
        }
        let mut near = Vec::with_capacity(best.len());
        near.extend(best.iter().map(named(&coded.slots)));
        let mut near = judge.decide(query, near, k);
        if !others.is_empty()
            && let Some(compared) = judge.by_rows(query, k, others.into_iter())
        {
            near.extend(compared);
            near.sort_unstable();
            near.truncate(k);
        }
        near
    }
}

impl Graph {
    /// Where the code of a slot lies; none if there is none.
    pub(super) fn position(&self, coded: &Coded, slot: u32) -> Option<u32> {
        let position = self.scannable.of(coded).positions.get(slot as usize).copied();
        position.filter(|&position| position != NONE)
    }
}

impl Coded {
    /// Candidates whose rows are measured, for `k` results: more than after a walk,
    /// which misses more than codes confuse.
    fn rescored_of_scan(&self, k: usize) -> usize {
        match self.codes.kind() {
            Kind::Int8(Bits::Eight) => k.saturating_add(k / 4).saturating_add(4),
            Kind::Int8(Bits::Four) => k.saturating_mul(2).saturating_add(32),
            Kind::Product(compression) => product::rescored_of_scan(compression, k),
        }
    }
}

/// Puts the nearest positions into the pool.
struct Scan<'a> {
    query: &'a Int8Query<'a>,
    signs: Option<&'a BySigns<'a>>,
    positions: &'a [u32],
    pool: &'a mut Pool,
    kept: &'a mut Vec<(f32, u32)>,
}

impl Task for Scan<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self) {
        let Self { query, signs, positions, pool, kept } = self;
        let mut least = [f32::NEG_INFINITY; BLOCK];
        let ask = |signs: &BySigns<'_>, block: &[u32]| block.iter().for_each(|&at| signs.prefetch(at));
        if let (Some(signs), Some(first)) = (signs, positions.chunks(BLOCK).next()) {
            ask(signs, first);
        }
        for (at, block) in positions.chunks(BLOCK).enumerate() {
            let worst = pool.worst();
            if let Some(signs) = signs {
                if let Some(next) = positions.chunks(BLOCK).nth(at + 1) {
                    ask(signs, next);
                }
                signs.least::<S>(block, worst, &mut least);
            }
            kept.clear();
            for (&least, &position) in least.iter().zip(block) {
                if least <= worst {
                    kept.push((least, position));
                }
            }
            if signs.is_some() {
                // The most promising first, so that others need not be measured.
                kept.sort_unstable_by(|a, b| a.0.total_cmp(&b.0));
            }
            kept.iter().take(AHEAD).for_each(|&(_, position)| query.prefetch(position));
            for (at, &(least, position)) in kept.iter().enumerate() {
                if least > pool.worst() {
                    break;
                }
                if let Some(&(_, ahead)) = kept.get(at + AHEAD) {
                    query.prefetch(ahead);
                }
                pool.offer(rank(query.distance::<S>(position)), position);
            }
        }
    }
}
