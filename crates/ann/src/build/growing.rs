//! A graph that new rows are linked into as they come.

use super::codes::{BuildCodes, Sums};
use super::native::{Apart, Descend, Grown, SHRINK, SLACK, Work};
use crate::codes::{Bits, Encoder, Int8};
use crate::graph::{Layer, NONE};
use crate::simd::run;
use crate::{Graph, Metric, NativeBuilder, Result, Rows};

/// Rows that are linked at the same time, without seeing each other.
const BATCH: usize = 32;
/// With fewer rows than this, everything begins anew with the next ones.
const FEW: usize = 256;
/// New rows that are looked at for values out of the codes' range.
const SAMPLE: usize = 256;
/// The share of such values from which the range is another one.
const OUTSIDE: f64 = 0.01;

/// Links rows as they are appended, and gives pictures of the graph so far.
///
/// For rows that still come in; when all are there,
/// [`NativeBuilder`] makes a better graph for the same time. Measures codes of
/// one byte a value, whose range is that of the first rows; when later ones
/// leave it, all are linked anew. Rows of fewer than
/// [`MIN_CODED_DIM`](crate::MIN_CODED_DIM) values are told apart badly by codes.
///
/// ```
/// use cairn_ann::{FlatRows, GraphGrower, Metric, NativeBuilder, Scratch};
///
/// let values: Vec<f32> = (0..16_000).map(|at| (at as f32 * 0.7).sin()).collect();
/// let mut grower = GraphGrower::new(NativeBuilder::default(), Metric::Euclid)?;
/// grower.extend(&FlatRows::new(16, &values[..9_600])?)?;
/// let rows = FlatRows::new(16, &values)?;
/// grower.extend(&rows)?;
/// let (graph, query) = (grower.graph(), rows.values(777));
/// let near = graph.search(Metric::Euclid, &rows, query, 1, 16, |_| true, &mut Scratch::new());
/// assert!(graph.len() == 1000 && near[0].distance < 0.01);
/// # Ok::<(), cairn_ann::Error>(())
/// ```
pub struct GraphGrower {
    builder: NativeBuilder,
    metric: Metric,
    /// Made from the first rows.
    encoder: Option<Encoder>,
    /// How many those were.
    known: usize,
    base: Floor,
    /// A few of the rows, where walks look for a start.
    upper: Floor,
    /// The slots of those.
    members: Vec<u32>,
}

/// A layer and the codes of its positions.
#[derive(Default)]
struct Floor {
    codes: Option<Int8>,
    sums: Sums,
    grown: Option<Grown>,
    len: usize,
}

impl GraphGrower {
    /// An empty graph.
    ///
    /// # Errors
    /// [`Error::Setting`](crate::Error::Setting) and
    /// [`Error::Alpha`](crate::Error::Alpha) for settings out of range.
    pub fn new(builder: NativeBuilder, metric: Metric) -> Result<Self> {
        builder.check(0)?;
        let (base, upper) = (Floor::default(), Floor::default());
        Ok(Self { builder, metric, encoder: None, known: 0, base, upper, members: Vec::new() })
    }

    /// Rows linked so far.
    pub fn len(&self) -> usize {
        self.base.len
    }

    /// True when no row is linked.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Links the rows behind those that are linked; the others are as they were.
    ///
    /// # Errors
    /// [`Error::TooManyRows`](crate::Error::TooManyRows) for more than slots
    /// can number.
    pub fn extend<R: Rows>(&mut self, rows: &R) -> Result<()> {
        self.builder.check(rows.len())?;
        if self.len() < FEW || self.has_outgrown(rows) {
            // The range of the values is not known well enough.
            *self = Self::new(self.builder, self.metric)?;
        }
        if self.encoder.is_none() {
            self.known = rows.len();
        }
        let encoder = self.encoder.get_or_insert_with(|| Encoder::of(self.metric, Bits::Eight, rows)).clone();
        let fresh: Vec<u32> = (self.len() as u32..rows.len() as u32).collect();
        let (m, work) = (self.builder.m, self.builder.work(self.metric, &|| false));
        self.base.append(&encoder, rows, &fresh, 2 * m);
        let mut query = Vec::new();
        for batch in fresh.chunks(BATCH) {
            let starts: Vec<u32> = batch.iter().map(|&slot| self.start(slot, &mut query)).collect();
            self.base.insert(&work, 2 * m, batch, |slot| starts[(slot - batch[0]) as usize]);
            // What is above is linked below: there a walk goes on.
            let chosen: Vec<u32> = batch.iter().copied().filter(|&slot| self.is_above(slot)).collect();
            self.upper.append(&encoder, rows, &chosen, m);
            for slot in chosen {
                let position = self.members.len() as u32;
                self.members.push(slot);
                self.upper.insert(&work, m, &[position], |_| 0);
            }
        }
        Ok(())
    }

    /// The graph over the rows so far, searched by codes; every row can be
    /// reached in it. Takes a look at every link; the next row that is linked
    /// then copies links and codes once.
    pub fn graph(&mut self) -> Graph {
        let (Some(grown), Some(codes)) = (&mut self.base.grown, &self.base.codes) else {
            return Graph::unlinked(0, 2 * self.builder.m, NONE);
        };
        let upper = self.upper.grown.as_ref().map_or_else(Layer::default, |upper| upper.named(&self.members));
        let mut graph = Graph::pictured(grown.all.clone(), grown.stride, upper, codes.clone());
        let build = BuildCodes::new(codes, &self.base.sums);
        graph.link_orphans(|a, b| run(Apart { codes: build, a, b }) as f32);
        // The links that were added stay.
        grown.all = graph.base_links();
        graph
    }

    /// Whether many values of new rows are out of the codes' range, after enough
    /// rows to be worth beginning anew.
    fn has_outgrown<R: Rows>(&self, rows: &R) -> bool {
        let Some(encoder) = &self.encoder else { return false };
        let fresh: Vec<u32> = (self.len() as u32..rows.len() as u32).take(SAMPLE).collect();
        if fresh.is_empty() || rows.len() < self.known + self.known / 4 {
            return false;
        }
        let mut codes = encoder.empty();
        encoder.append(&mut codes, rows, &fresh);
        codes.at_the_ends() > OUTSIDE
    }

    /// Whether a slot is on the upper layer; the first one is.
    fn is_above(&self, slot: u32) -> bool {
        let bits = (u64::from(slot) + self.builder.seed).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        slot == 0 || ((bits >> 32) as usize).is_multiple_of(SHRINK)
    }

    /// A slot that is linked and near another one.
    fn start(&self, slot: u32, query: &mut Vec<u8>) -> u32 {
        let (Some(grown), Some(upper), Some(codes)) =
            (&self.upper.grown, &self.upper.codes, &self.base.codes)
        else {
            return 0;
        };
        if self.members.is_empty() {
            return 0;
        }
        let near = run(Descend {
            from: &BuildCodes::new(codes, &self.base.sums),
            code: slot,
            among: &BuildCodes::new(upper, &self.upper.sums),
            above: std::slice::from_ref(grown),
            query,
        });
        self.members[near as usize]
    }
}

impl Floor {
    /// Adds codes of rows, and room for their links.
    fn append<R: Rows>(&mut self, encoder: &Encoder, rows: &R, slots: &[u32], stride: usize) {
        let codes = self.codes.get_or_insert_with(|| encoder.empty());
        encoder.append(codes, rows, slots);
        self.sums.append(codes);
        let room = stride + stride / SLACK;
        let grown = self.grown.get_or_insert_with(|| Grown::unlinked(0, room));
        let len = grown.all.len() + slots.len() * room;
        grown.all.make_mut().resize(len, NONE);
    }

    /// Links positions whose codes are there.
    fn insert(&mut self, work: &Work<'_>, stride: usize, batch: &[u32], start: impl Fn(u32) -> u32 + Sync) {
        let (Some(codes), Some(grown)) = (&self.codes, &mut self.grown) else { return };
        // The first one has nobody to link with, and the first batch it alone.
        let batch = if self.len == 0 { &batch[1..] } else { batch };
        self.len += batch.len() + usize::from(self.len == 0);
        work.insert(&BuildCodes::new(codes, &self.sums), grown, stride, batch, start);
    }
}
