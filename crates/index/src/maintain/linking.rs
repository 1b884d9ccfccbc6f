//! Graphs over rows that are in no segment yet.
//!
//! Comparing a query with every recent row is exact, and slow once there are
//! thousands. So while a collection is searched, its growing part gets a graph
//! that follows the writes a few hundred rows behind; the rest is compared. A
//! collection that is only written to pays nothing. When the part is sealed,
//! the graph goes into the segment instead of one that is built anew.

use std::collections::BTreeMap;
use std::sync::Arc;

use cairn_ann::{Graph, GraphGrower, MIN_CODED_DIM, NativeBuilder, Row, Rows};

use crate::config::{Builder, HnswConfig, VectorConfig};
use crate::part::{DenseRows, Part};
use crate::shard::Shard;
use crate::view::View;

/// Bytes of vectors that are compared before there is a graph: 0.1 ms.
const FROM: usize = 3 << 19;
/// Rows that are linked before the graph is shown to searches.
const STEP: usize = 384;
/// With more rows in no graph than this, linking no longer waits for idle time.
const BEHIND: usize = 8 * STEP;

/// Threads to link with.
///
/// A core that does nothing but link counts as idle then, and a writer that wakes
/// up is put there and not where a search is running. Where searches leave no idle
/// time, linking would never end; so it has a thread that takes its share.
pub(crate) struct Pools {
    pub(crate) usual: rayon::ThreadPool,
    pub(crate) behind: rayon::ThreadPool,
}

impl Pools {
    fn for_rows(&self, waiting: usize) -> &rayon::ThreadPool {
        if waiting > BEHIND { &self.behind } else { &self.usual }
    }
}

/// Graphs that follow one growing part.
pub(crate) struct Draft {
    /// The number of the part.
    part: u64,
    graphs: BTreeMap<String, Linked>,
}

struct Linked {
    uid: u64,
    config: VectorConfig,
    hnsw: HnswConfig,
    grower: GraphGrower,
    /// Graphs that searches may still be using. Giving their memory back takes
    /// a millisecond, which is not to be one of a search.
    shown: Vec<Arc<Graph>>,
}

/// Whether enough rows of the growing part are in no graph.
pub(crate) fn is_due(view: &View) -> bool {
    let Some(part) = view.parts.last().filter(|part| !part.is_sealed()) else { return false };
    let len = part.len() as usize;
    wanted(view).any(|(name, uid, config)| {
        len * config.size * config.datatype.bytes() >= FROM && len >= covered(part, name, uid) + STEP
    })
}

fn covered(part: &Part, name: &str, uid: u64) -> usize {
    part.derived.graph(name, uid).map_or(0, Graph::len)
}

/// The vectors that get a graph.
fn wanted(view: &View) -> impl Iterator<Item = (&str, u64, VectorConfig)> {
    let vectors = view.config.vectors.iter();
    let single = vectors.filter(|(_, vector)| !vector.multivector && vector.size >= MIN_CODED_DIM);
    let native = view.config.hnsw.builder == Builder::Native;
    single
        .filter(move |_| native)
        .filter_map(|(name, vector)| Some((name.as_str(), view.uid(name)?, *vector)))
}

/// Links the rows of the growing part that are in no graph yet, and shows the
/// graphs to searches as they grow.
///
/// The lock on the graphs is not taken within the pool: a thread of a pool that
/// waits may be given another job, which then waits for this one.
pub(crate) fn follow(shard: &Shard, pools: &Pools, cancelled: &dyn Fn() -> bool) -> crate::Result<()> {
    let mut draft = shard.draft.lock();
    let view = shard.view()?;
    let Some(part) = view.parts.last().filter(|part| !part.is_sealed()) else { return Ok(()) };
    if draft.as_ref().is_none_or(|draft| draft.part != part.number) {
        *draft = Some(Draft { part: part.number, graphs: BTreeMap::new() });
    }
    let Some(draft) = &mut *draft else { return Ok(()) };
    for (name, uid, config) in wanted(&view) {
        let Some(rows) = part.dense(name, &view.uids) else { continue };
        let linked = match draft.linked(name, uid, config, view.config.hnsw) {
            Ok(linked) => linked,
            Err(error) => {
                tracing::warn!(collection = shard.name, %error, "recent points have no graph");
                continue;
            }
        };
        while linked.grower.len() < rows.len() && !cancelled() {
            let grower = &mut linked.grower;
            let len = rows.len().min(grower.len() + 2 * STEP);
            let waiting = shard.state.read().growing_points().saturating_sub(grower.len());
            let link = || grower.extend(&First { rows, len }).map(|()| grower.graph());
            let Ok(graph) = pools.for_rows(waiting).install(link) else { break };
            let graph = Arc::new(graph);
            let before = shard.change(|state| state.set_graph(part.number, name, uid, graph));
            linked.shown.extend(before);
            linked.shown.retain(|graph| Arc::strong_count(graph) > 1);
        }
    }
    Ok(())
}

impl Draft {
    fn linked(
        &mut self,
        name: &str,
        uid: u64,
        config: VectorConfig,
        hnsw: HnswConfig,
    ) -> cairn_ann::Result<&mut Linked> {
        let known = self.graphs.get(name);
        if known.is_none_or(|known| (known.uid, known.config, known.hnsw) != (uid, config, hnsw)) {
            let grower = GraphGrower::new(builder(hnsw), config.distance)?;
            self.graphs.insert(name.to_owned(), Linked { uid, config, hnsw, grower, shown: Vec::new() });
        }
        Ok(self.graphs.get_mut(name).expect("it was put there"))
    }

    /// The graph over all rows of a part that no longer grows, if most of them
    /// are linked already.
    pub(crate) fn finished(
        &mut self,
        part: &Part,
        name: &str,
        uid: u64,
        rows: DenseRows<'_>,
        pool: &rayon::ThreadPool,
    ) -> Option<Graph> {
        let linked =
            self.graphs.get_mut(name).filter(|linked| linked.uid == uid && self.part == part.number)?;
        if linked.grower.len() * 2 < rows.len() {
            return None;
        }
        pool.install(|| linked.grower.extend(&rows)).ok()?;
        Some(linked.grower.graph())
    }
}

/// The native builder with the settings of a collection.
pub(crate) fn builder(hnsw: HnswConfig) -> NativeBuilder {
    let ef_construction = hnsw.ef_construct.max(hnsw.m);
    NativeBuilder { m: hnsw.m, ef_construction, ..NativeBuilder::default() }
}

/// The first rows of some.
struct First<'p> {
    rows: DenseRows<'p>,
    len: usize,
}

impl Rows for First<'_> {
    fn dim(&self) -> usize {
        self.rows.dim()
    }

    fn len(&self) -> usize {
        self.len
    }

    fn row(&self, slot: u32) -> Row<'_> {
        self.rows.row(slot)
    }
}
