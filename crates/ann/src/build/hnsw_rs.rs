//! Builds with the crate hnsw_rs.
//!
//! It has faults that shape this file. It stops the process for more than 256
//! links a point. Points inserted at the same time into an empty index can end
//! up without links, so the first ones go in one by one. It keeps a copy of
//! each vector; the builder gives it slots instead, and a distance that looks
//! the rows up.

use ::hnsw_rs::hnsw::Hnsw;
use ::hnsw_rs::prelude::Distance;
use rayon::prelude::*;

use super::freeze::freeze;
use super::space::{apart, between, to_product};
use super::twins::Twins;
use super::{GraphBuilder, check};
use crate::graph::NONE;
use crate::{Error, Graph, Metric, Neighbor, Result, Row, Rows};

/// Points inserted one by one before threads join in.
const ALONE: usize = 1000;
/// Points inserted between two polls for cancellation.
const BATCH: usize = 256;
/// The most that hnsw_rs has.
const LAYERS: usize = 16;

/// Builds a [`Graph`] with hnsw_rs.
///
/// ```
/// use cairn_ann::{FlatRows, GraphBuilder, HnswRsBuilder, Metric};
///
/// let rows = FlatRows::new(2, &[0.0f32, 0.0, 1.0, 0.0, 0.0, 1.0])?;
/// let builder = HnswRsBuilder { m: 8, ef_construction: 100 };
/// let graph = builder.build(Metric::Euclid, &rows, &|| false)?;
/// assert_eq!(graph.len(), 3);
/// # Ok::<(), cairn_ann::Error>(())
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct HnswRsBuilder {
    /// Links per point on the upper layers, twice as many on layer 0; 2 to
    /// 128. More find more in hard data and take more memory and time.
    pub m: usize,
    /// The beam's width while building, `m` to 65,536. Wider gives a better
    /// graph and takes longer.
    pub ef_construction: usize,
}

impl Default for HnswRsBuilder {
    fn default() -> Self {
        Self { m: 16, ef_construction: 200 }
    }
}

impl HnswRsBuilder {
    fn index<T, D>(&self, rows: usize, distance: D) -> Hnsw<'static, T, D>
    where
        T: Clone + Send + Sync,
        D: Distance<T> + Send + Sync,
    {
        Hnsw::new(self.m, rows, LAYERS, self.ef_construction, distance)
    }
}

impl GraphBuilder for HnswRsBuilder {
    fn build<R: Rows>(
        &self,
        metric: Metric,
        rows: &R,
        cancelled: &(dyn Fn() -> bool + Sync),
    ) -> Result<Graph> {
        check(self.m, self.ef_construction, rows.len())?;
        if rows.is_empty() {
            return Ok(Graph::unlinked(0, 2 * self.m, NONE));
        }
        let index = self.index(rows.len(), BySlot { metric, rows });
        let insert = |slot: u32| index.insert_slice((&[slot], slot as usize));
        let twins = Twins::find(rows);
        insert_all(&twins.firsts, insert, cancelled)?;
        let mut graph = freeze(&index, rows.len());
        twins.hang(&mut graph);
        graph.link_orphans(|a, b| between(metric, rows, a, b));
        Ok(graph)
    }
}

/// An hnsw_rs index as it comes: it copies the vectors, as `f32` and for cosine
/// at unit length, and searches itself.
///
/// The measure of the frozen graph, in tests and benchmarks, not for service.
/// Searches are not filtered.
pub struct HnswRsIndex {
    index: Hnsw<'static, f32, ByValue>,
}

impl HnswRsIndex {
    /// Copies and links all rows, like [`GraphBuilder::build`].
    ///
    /// # Errors
    /// As [`GraphBuilder::build`].
    pub fn build<R: Rows>(
        builder: HnswRsBuilder,
        metric: Metric,
        rows: &R,
        cancelled: &(dyn Fn() -> bool + Sync),
    ) -> Result<Self> {
        check(builder.m, builder.ef_construction, rows.len())?;
        let index = builder.index(rows.len(), ByValue { metric });
        let insert = |slot: u32| {
            let row = metric.prepared(rows.row(slot));
            index.insert_slice((&row, slot as usize));
        };
        let slots: Vec<u32> = (0..rows.len() as u32).collect();
        insert_all(&slots, insert, cancelled)?;
        Ok(Self { index })
    }

    /// Finds the `k` nearest to a prepared query, nearest first.
    pub fn search(&self, query: &[f32], k: usize, ef: usize) -> Vec<Neighbor> {
        let metric = self.index.get_distance().metric;
        let found = self.index.search(query, k, ef);
        let neighbors = found.iter().map(|near| Neighbor {
            slot: near.d_id as u32,
            distance: match metric {
                Metric::Cosine => near.distance - 1.0,
                Metric::Dot => to_product(near.distance),
                Metric::Euclid | Metric::Manhattan => near.distance,
            },
        });
        neighbors.collect()
    }

    /// The same graph, frozen. `rows` are those it was built from.
    pub fn freeze<R: Rows>(&self, rows: &R) -> Graph {
        let metric = self.index.get_distance().metric;
        let mut graph = freeze(&self.index, rows.len());
        graph.link_orphans(|a, b| between(metric, rows, a, b));
        graph
    }
}

/// Inserts slots in order, the first alone, the rest in parallel batches.
fn insert_all(
    slots: &[u32],
    insert: impl Fn(u32) + Sync,
    cancelled: &(dyn Fn() -> bool + Sync),
) -> Result<()> {
    let go_on = || {
        if cancelled() {
            return Err(Error::Cancelled);
        }
        Ok(())
    };
    go_on()?;
    let (alone, together) = slots.split_at(slots.len().min(ALONE));
    for &slot in alone {
        go_on()?;
        insert(slot);
    }
    for batch in together.chunks(BATCH) {
        go_on()?;
        batch.par_iter().for_each(|&slot| insert(slot));
    }
    Ok(())
}

/// The distance between slots, each a slice of one.
struct BySlot<'a, R> {
    metric: Metric,
    rows: &'a R,
}

impl<R: Rows> Distance<u32> for BySlot<'_, R> {
    fn eval(&self, a: &[u32], b: &[u32]) -> f32 {
        between(self.metric, self.rows, a[0], b[0])
    }
}

/// The distance between copied vectors.
struct ByValue {
    metric: Metric,
}

impl Distance<f32> for ByValue {
    fn eval(&self, a: &[f32], b: &[f32]) -> f32 {
        apart(self.metric, Row::F32(a), Row::F32(b))
    }
}
