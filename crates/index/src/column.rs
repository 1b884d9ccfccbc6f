//! The vectors of one name, by slot, and the graph over the older ones.
//!
//! Vectors are only ever appended. Full chunks never change and are shared, so
//! a graph is built from them while writes go on; the graph covers the slots
//! from 0 to `graph.covers`, the rest is scanned exactly.

use std::sync::Arc;

use cairn_ann::{Graph, Rows};

use crate::bits::Bits;
use crate::config::VectorConfig;

/// Vectors per chunk. A graph covers whole chunks.
pub(crate) const CHUNK_ROWS: usize = 1024;

pub(crate) struct Column {
    pub(crate) config: VectorConfig,
    full: Vec<Arc<Vec<f32>>>,
    tail: Vec<f32>,
    rows: usize,
    /// Slots that have this vector and whose point is live.
    pub(crate) live: Bits,
    pub(crate) graph: Option<Arc<CoveringGraph>>,
}

/// A graph and the number of slots, from 0, that it covers.
pub(crate) struct CoveringGraph {
    pub(crate) graph: Graph,
    pub(crate) covers: u32,
}

impl Column {
    pub(crate) fn new(config: VectorConfig) -> Self {
        Self { config, full: Vec::new(), tail: Vec::new(), rows: 0, live: Bits::default(), graph: None }
    }

    /// Appends the vector of the next slot; an absent one takes its room.
    pub(crate) fn push(&mut self, slot: u32, vector: Option<&[f32]>) {
        debug_assert_eq!(slot as usize, self.rows, "slots are appended in order");
        match vector {
            Some(vector) => {
                self.tail.extend_from_slice(vector);
                self.live.set(slot, true);
            }
            None => self.tail.resize(self.tail.len() + self.config.size, 0.0),
        }
        self.rows += 1;
        if self.rows.is_multiple_of(CHUNK_ROWS) {
            let next = Vec::with_capacity(CHUNK_ROWS * self.config.size);
            self.full.push(Arc::new(std::mem::replace(&mut self.tail, next)));
        }
    }

    /// The slots that no graph covers.
    pub(crate) fn uncovered(&self) -> usize {
        self.rows - self.covers() as usize
    }

    pub(crate) fn covers(&self) -> u32 {
        self.graph.as_ref().map_or(0, |graph| graph.covers)
    }

    /// The vectors that no longer change, to build a graph from.
    pub(crate) fn settled(&self) -> Settled {
        Settled { dim: self.config.size, chunks: self.full.clone() }
    }
}

impl Rows for Column {
    fn dim(&self) -> usize {
        self.config.size
    }

    fn len(&self) -> usize {
        self.rows
    }

    fn row(&self, slot: u32) -> &[f32] {
        let chunk = self.full.get(slot as usize / CHUNK_ROWS).map_or(&self.tail, |chunk| chunk);
        row_of(chunk, slot, self.config.size)
    }
}

/// The full chunks of a column at one moment.
pub(crate) struct Settled {
    dim: usize,
    chunks: Vec<Arc<Vec<f32>>>,
}

impl Rows for Settled {
    fn dim(&self) -> usize {
        self.dim
    }

    fn len(&self) -> usize {
        self.chunks.len() * CHUNK_ROWS
    }

    fn row(&self, slot: u32) -> &[f32] {
        row_of(&self.chunks[slot as usize / CHUNK_ROWS], slot, self.dim)
    }
}

fn row_of(chunk: &[f32], slot: u32, dim: usize) -> &[f32] {
    let at = slot as usize % CHUNK_ROWS * dim;
    &chunk[at..at + dim]
}
