//! The frozen graph: who is linked to whom, in flat arrays.
//!
//! Layer 0 holds every slot, with the same room for links at each, so that a
//! slot's links are found by one multiplication. The layers above hold fewer
//! and fewer slots and are sorted lists. Every link is below `len`; whoever
//! makes a graph ensures it, and the search relies on it.
//!
//! The arrays are the graph's own after a build, and where they lie in a file
//! after opening one. Vectors are not here: a search is given the rows the graph
//! was built over. A quantized graph holds codes of them, and has its positions
//! in another order than the slots; see `coded`.

mod alone;
mod audit;
mod coded;
mod fast;
mod file;
mod filtered;
mod judge;
mod lanes;
mod product;
mod recall;
mod scan;
mod scratch;
mod search;
mod signed;

pub use alone::ByCodes;
pub use filtered::{Strategy, filtered_strategy};
pub use recall::Effort;
pub use scratch::Scratch;
pub(crate) use scratch::Visited;
pub use search::Beam;

use std::fmt;

use crate::array::Words;
use crate::codes::{Blocks, Compression, Held, Signs};
pub(crate) use crate::links::NONE;
use crate::links::{Base, Links};
use crate::nearest::Neighbor;
use crate::pages;
use recall::Curves;
use scan::Scannable;

/// The most rows a graph holds.
pub(crate) const MAX_ROWS: usize = i32::MAX as usize;
/// The most links a slot has on layer 0.
pub(crate) const MAX_STRIDE: usize = 256;
/// The most layers above layer 0.
pub(crate) const MAX_UPPER: usize = 16;

/// A navigable graph that no longer changes.
///
/// Made by a [`GraphBuilder`](crate::GraphBuilder),
/// [`from_bytes`](Self::from_bytes) or [`read_from`](Self::read_from); holds
/// links, not vectors. A clone shares them.
#[derive(Clone, PartialEq)]
pub struct Graph {
    /// Where every search begins; `NONE` only in the empty graph.
    entry: u32,
    /// The links of layer 0, with room for as many at each slot.
    base: Base,
    /// Layers 1, 2, ...
    upper: Vec<Layer>,
    /// The rows in fewer bytes, and which slot each position is.
    coded: Option<Coded>,
    /// What beams of several widths find, if that was measured.
    curves: Curves,
    /// What scans look at, once there was one.
    scannable: Scannable,
}

/// What a graph whose walks measure codes has besides links.
#[derive(Clone, PartialEq)]
struct Coded {
    codes: Held,
    /// The slot of each position: links lead to positions then.
    slots: Words,
    /// The neighbours of each position in fewer bits, if it is to be fast.
    blocks: Option<Blocks>,
    /// One bit a value, where that says enough.
    signs: Option<Signs>,
}

/// What a graph keeps of the rows, to walk by; see
/// [`Graph::quantized_as`](Graph::quantized_as).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Codes {
    /// One byte a value, and one bit of each to go by.
    Int8,
    /// One byte a value, and at each slot one bit a value of all its
    /// neighbours.
    Fast,
    /// Half a byte a value.
    Compact,
    /// A byte for 1 to 16 values, whatever the metric: product quantisation.
    Product(Compression),
}

/// The slots of positions.
#[derive(Clone, Copy)]
struct Slots<'a>(Option<&'a [u32]>);

impl Slots<'_> {
    #[inline]
    fn of(self, position: u32) -> u32 {
        self.0.map_or(position, |slots| slots[position as usize])
    }

    /// Gives what was found at positions by slot, equal distances in their
    /// order.
    fn name(self, mut found: Vec<Neighbor>) -> Vec<Neighbor> {
        if self.0.is_some() {
            found.iter_mut().for_each(|near| near.slot = self.of(near.slot));
            found.sort_unstable();
        }
        found
    }
}

/// A layer above layer 0: the links of a few slots.
#[derive(Clone, Default, PartialEq)]
pub(crate) struct Layer {
    /// Ascending.
    slots: Words,
    /// Where the links of each slot begin, and the end of the last.
    starts: Words,
    links: Words,
}

impl Graph {
    /// A graph of `len` slots without links.
    pub(crate) fn unlinked(len: usize, stride: usize, entry: u32) -> Self {
        let mut base = pages::with_capacity(len * stride);
        base.resize(len * stride, NONE);
        let base = Base::wide(base.into(), stride);
        Self {
            entry,
            base,
            upper: Vec::new(),
            coded: None,
            curves: Curves::default(),
            scannable: Scannable::default(),
        }
    }

    /// Sets a slot's links on layer 0, as many as there is room for.
    pub(crate) fn set_links(&mut self, slot: u32, links: impl Iterator<Item = u32>) {
        let room = self.base.room_mut(slot);
        room.fill(NONE);
        for (place, link) in room.iter_mut().zip(links) {
            *place = link;
        }
    }

    /// Adds a link on layer 0 after the others, in place of the last one if
    /// there is no room.
    pub(crate) fn add_last_link(&mut self, slot: u32, link: u32) {
        let place = self.links(slot).count().min(self.stride() - 1);
        self.base.room_mut(slot)[place] = link;
    }

    /// The links of layer 0 of a graph that still grows.
    pub(crate) fn base_links(&self) -> Words {
        self.base.words().clone()
    }

    /// Room for links per slot on layer 0.
    pub(crate) fn stride(&self) -> usize {
        self.base.stride()
    }

    /// Puts a layer on top.
    pub(crate) fn push_layer(&mut self, layer: Layer) {
        self.upper.push(layer);
    }

    /// Slots in the graph.
    pub fn len(&self) -> usize {
        self.base().positions()
    }

    /// True when there is no slot.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Bytes that the links and codes take, of memory or of the mapped file.
    pub fn memory_bytes(&self) -> usize {
        let upper: usize = self.upper.iter().map(Layer::words).sum();
        let blocks = |coded: &Coded| coded.blocks.as_ref().map_or(0, Blocks::memory_bytes);
        let signs = |coded: &Coded| coded.signs.as_ref().map_or(0, Signs::memory_bytes);
        let coded = self.coded.as_ref().map_or(0, |coded| {
            coded.codes.memory_bytes() + size_of_val(&*coded.slots) + blocks(coded) + signs(coded)
        });
        let words = self.base.words().len() + upper;
        words * size_of::<u32>() + coded + self.scannable.memory_bytes()
    }

    /// The links of layer 0, to be walked over.
    pub(crate) fn base(&self) -> Links<'_> {
        self.base.links()
    }

    /// Where searches begin, a position.
    pub(crate) fn entry(&self) -> u32 {
        self.entry
    }

    /// The slot of a position.
    pub(crate) fn slot(&self, position: u32) -> u32 {
        self.slots().of(position)
    }

    fn slots(&self) -> Slots<'_> {
        Slots(self.coded.as_ref().map(|coded| &*coded.slots))
    }

    /// The links of a slot on layer 0, nearest first as far as the builder
    /// knew.
    fn links(&self, slot: u32) -> impl Iterator<Item = u32> + '_ {
        self.base().of(slot)
    }
}

impl Layer {
    /// A layer from each slot's links; the slots are sorted here.
    pub(crate) fn new(mut lists: Vec<(u32, Vec<u32>)>) -> Self {
        lists.sort_unstable_by_key(|(slot, _)| *slot);
        let (mut slots, mut starts, mut all) = (Vec::new(), vec![0], Vec::new());
        for (slot, links) in lists {
            slots.push(slot);
            all.extend(links);
            starts.push(all.len() as u32);
        }
        Self { slots: slots.into(), starts: starts.into(), links: all.into() }
    }

    /// The links of a slot; none if it is not on this layer.
    fn links(&self, slot: u32) -> &[u32] {
        match self.slots.binary_search(&slot) {
            Ok(at) => &self.links[self.starts[at] as usize..self.starts[at + 1] as usize],
            Err(_) => &[],
        }
    }

    fn words(&self) -> usize {
        self.slots.len() + self.starts.len() + self.links.len()
    }
}

impl fmt::Debug for Graph {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Graph")
            .field("len", &self.len())
            .field("stride", &self.stride())
            .field("entry", &self.entry)
            .field("upper_layers", &self.upper.len())
            .field("quantized", &self.coded.is_some())
            .finish_non_exhaustive()
    }
}
