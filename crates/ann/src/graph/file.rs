//! A graph as bytes.
//!
//! All numbers are `u32`, little-endian. Every array begins at a multiple of 64
//! bytes; what lies between is zero.
//!
//! ```text
//! "cairnann"  8 bytes
//! version, stride, len, entry, upper layers
//! for each of 16 upper layers, 1 first:
//!     slots, links                 how many of each
//! codes                            0 for none, else 1 and the metric's number
//! dimension, scale                 of the codes; the scale is an f32
//! blocks                           1 if there are blocks of neighbours, else 0
//! points                           of the curves of recall
//! bits                             of a value of the codes, 8 or 4; 0 if there are none
//!                                  or they are product codes
//! values                           that a byte of product codes stands for, 1, 2, 4, 8
//!                                  or 16; else 0
//! signs                            1 if there are signs of codes, else 0
//! links of layer 0                 len records, see below
//! for each upper layer, 1 first:
//!     the slots, ascending         slots
//!     where their links begin      slots + 1
//!     the links                    links
//! if there are codes:
//!     the slot of each position    len
//! if there are codes of bits:
//!     the mean that was taken off  the dimension, f32; by cosine and dot only
//!                                  where values have 4 bits
//!     the squared lengths          len, for Euclid; f32
//!     the codes                    len times as many lines of 64 bytes as hold the
//!                                  dimension values
//! if there are product codes:
//!     the centroids                256 for each value of a row, f32
//!     the codes                    len times a byte for each so many values
//! if there are blocks:
//!     the blocks                   see codes::blocks
//! if there are signs:
//!     the mean of the codes        as many values as a code has, f32; not for Euclid
//!     the signs                    see codes::int8::signs
//! the curves: k, ef and recall of each point, the recall an f32
//! crc32 (IEEE) of everything above
//! ```
//!
//! A record holds `stride` links of so few bits as hold the number `len`, lowest
//! bits first; unused room has all bits set. Then come zeros up to a whole word.
//!
//! So a file that is mapped is a graph: nothing is copied. Opening trusts
//! nothing: it compares the length and the checksum, then checks each number
//! that a search would follow. A new field or meaning takes a new version.

use std::io::{Read, Write};
use std::ops::Range;
use std::sync::Arc;

use super::recall::{Curves, Reached};
use super::scan::Scannable;
use super::{Coded, Graph, Layer, MAX_ROWS, MAX_STRIDE, MAX_UPPER, NONE};
use crate::array::{Array, Line, Owner, Words};
use crate::codes::{
    Bits, BlockShape, Blocks, Compression, Held, HeldShape, Int8, Product, ProductShape, Shape, Signs,
    SignsShape,
};
use crate::links::{self, Base};
use crate::pages;
use crate::simd::LINE;
use crate::{Error, Metric, Result};

const MAGIC: &[u8; 8] = b"cairnann";
const VERSION: u32 = 7;
/// Arrays begin at multiples of this, a cache line.
const ALIGN: usize = 64;
/// Where the first array begins.
const HEADER: usize = 192;
/// The first word of the header behind the layers.
const CODES_AT: usize = 5 + 2 * MAX_UPPER;
/// Metrics by their number in the file.
const METRICS: [Metric; 4] = [Metric::Cosine, Metric::Dot, Metric::Euclid, Metric::Manhattan];
/// Far beyond use, and small enough that no size overflows.
const MAX_DIM: usize = 65_536;
/// Points of the curves of recall, far beyond use.
const MAX_POINTS: u32 = 1024;
/// Bytes of the checksum.
const SUM: usize = 4;
/// Bytes read, written or checked at once; they stay in the cache meanwhile.
const CHUNK: usize = 64 * 1024;

impl Graph {
    /// Writes the graph, whole, in small pieces. Flushing is the caller's.
    ///
    /// # Errors
    /// [`Error::Io`] if `out` fails.
    pub fn write_to(&self, out: &mut impl Write) -> Result<()> {
        let mut out = Summing { inner: out, hasher: crc32fast::Hasher::new() };
        out.put(&self.header().to_bytes())?;
        out.put_words(self.base.pack().words())?;
        for layer in &self.upper {
            out.put_words(&layer.slots)?;
            out.put_words(&layer.starts)?;
            out.put_words(&layer.links)?;
        }
        if let Some(coded) = &self.coded {
            out.put_words(&coded.slots)?;
            match &coded.codes {
                Held::Int8(codes) => {
                    let parts = codes.parts();
                    out.put_words(bytemuck::cast_slice(parts.mean))?;
                    out.put_words(bytemuck::cast_slice(parts.squares))?;
                    out.put_lines(parts.lines)?;
                }
                Held::Product(codes) => {
                    let (centroids, codes) = codes.parts();
                    out.put_words(bytemuck::cast_slice(centroids))?;
                    out.put_bytes(codes)?;
                }
            }
            if let Some(blocks) = &coded.blocks {
                out.put_lines(&blocks.in_file_order())?;
            }
            if let Some(signs) = &coded.signs {
                out.put_words(bytemuck::cast_slice(signs.mean()))?;
                out.put_lines(signs.lines())?;
            }
        }
        let curves = self.curves.points().iter();
        let curves: Vec<u32> = curves.flat_map(|point| [point.k, point.ef, point.recall.to_bits()]).collect();
        out.put_words(&curves)?;
        let sum = out.hasher.finalize();
        Ok(out.inner.write_all(&sum.to_le_bytes())?)
    }

    fn header(&self) -> Header {
        let mut layers = [(0, 0); MAX_UPPER];
        for (counts, layer) in layers.iter_mut().zip(&self.upper) {
            *counts = (layer.slots.len() as u32, layer.links.len() as u32);
        }
        Header {
            stride: self.stride() as u32,
            len: self.len() as u32,
            entry: self.entry,
            upper: self.upper.len() as u32,
            layers,
            codes: self.coded.as_ref().map(|coded| coded.codes.shape()),
            blocks: self.coded.as_ref().is_some_and(|coded| coded.blocks.is_some()),
            points: self.curves.points().len() as u32,
            signs: self.coded.as_ref().is_some_and(|coded| coded.signs.is_some()),
        }
    }

    /// Opens a graph where its bytes lie, without copying them.
    ///
    /// `bytes` are what [`write_to`](Self::write_to) wrote and nothing else; a
    /// mapping, or a buffer. They give the same slice each time they are asked.
    /// If they begin at a multiple of 4, and on a little-endian machine, the
    /// links are used in place; else they are copied. All bytes are read once,
    /// to check them, at about 14 GB a second.
    ///
    /// ```
    /// use cairn_ann::{FlatRows, Graph, GraphBuilder, HnswRsBuilder, Metric};
    ///
    /// let rows = FlatRows::new(1, &[1.0f32, 2.0, 4.0])?;
    /// let graph = HnswRsBuilder::default().build(Metric::Euclid, &rows, &|| false)?;
    /// let mut file = Vec::new();
    /// graph.write_to(&mut file)?;
    /// assert!(Graph::from_bytes(file.clone())? == graph);
    /// file[200] ^= 1;
    /// assert!(Graph::from_bytes(file).is_err());
    /// # Ok::<(), cairn_ann::Error>(())
    /// ```
    ///
    /// # Errors
    /// [`Error::NotAGraph`], [`Error::NewerVersion`], [`Error::OlderVersion`],
    /// [`Error::Truncated`], [`Error::Checksum`] or [`Error::Malformed`] for
    /// bytes that are not a whole, unchanged graph.
    pub fn from_bytes(bytes: impl AsRef<[u8]> + Send + Sync + 'static) -> Result<Self> {
        let owner: Owner = Arc::new(bytes);
        let bytes = (*owner).as_ref();
        let header = Header::read(bytes)?;
        let places = header.places()?;
        let end = places.sum_at + SUM;
        if bytes.len() < end {
            return Err(Error::Truncated);
        }
        ensure(bytes.len() == end, "it goes on after its end")?;
        let want = crc32fast::hash(&bytes[..places.sum_at]);
        let got = le_word(bytes, places.sum_at);
        if got != want {
            return Err(Error::Checksum { got, want });
        }

        let lent = |range: &Range<usize>| Words::lent(&owner, range.clone());
        let base = Base::packed(lent(&places.base), header.stride as usize, header.len as usize);
        ensure(base.links_are_below(header.len), "a link has no slot")?;
        let layers = places.layers.iter();
        let layers = layers.map(|[slots, starts, links]| Layer {
            slots: lent(slots),
            starts: lent(starts),
            links: lent(links),
        });
        let mut graph = Self {
            curves: Curves::default(),
            scannable: Scannable::default(),
            entry: header.entry,
            base,
            upper: layers.collect(),
            coded: header.codes.zip(places.codes).map(|(shape, places)| {
                let [slots, mean, squares, codes, blocks, mean_of_codes, signs] = places;
                Coded {
                    slots: lent(&slots),
                    codes: match shape {
                        HeldShape::Int8(shape) => {
                            let squares = Array::lent(&owner, squares);
                            let mean = Array::lent(&owner, mean);
                            Held::Int8(Int8::from_parts(shape, &mean, squares, Array::lent(&owner, codes)))
                        }
                        HeldShape::Product(shape) => {
                            let centroids = Array::lent(&owner, mean);
                            Held::Product(Product::from_parts(shape, centroids, Array::lent(&owner, codes)))
                        }
                    },
                    blocks: header
                        .block_shape()
                        .map(|shape| Blocks::from_parts(shape, Array::lent(&owner, blocks))),
                    signs: header.signs_shape().map(|shape| {
                        let mean = Array::lent(&owner, mean_of_codes);
                        Signs::from_parts(shape, mean, Array::lent(&owner, signs))
                    }),
                }
            }),
        };
        let curves = lent(&places.curves);
        let points = curves.as_chunks::<3>().0.iter();
        let points = points.map(|&[k, ef, recall]| Reached { k, ef, recall: f32::from_bits(recall) });
        let curves = Curves::from_points(points.collect());
        graph.curves = curves.ok_or(Error::Malformed("its curves of recall are none"))?;
        graph.upper.iter().try_for_each(|layer| layer.check(header.len))?;
        let mut slots = graph.coded.iter().flat_map(|coded| coded.slots.iter());
        ensure(slots.all(|&slot| slot < header.len), "a position has no slot")?;
        let mut blocks = graph.coded.iter().filter_map(|coded| coded.blocks.as_ref());
        ensure(blocks.all(|blocks| blocks.links_are_below(header.len)), "a block names no position")?;
        Ok(graph)
    }

    /// Reads a graph and nothing after it.
    ///
    /// Memory follows what the input really holds.
    ///
    /// # Errors
    /// As [`from_bytes`](Self::from_bytes); [`Error::Io`] if `input` fails.
    pub fn read_from(input: &mut impl Read) -> Result<Self> {
        let mut header = [0; HEADER];
        input.read_exact(&mut header[..MAGIC.len()])?;
        if !header.starts_with(MAGIC) {
            return Err(Error::NotAGraph);
        }
        input.read_exact(&mut header[MAGIC.len()..])?;
        let whole = Header::read(&header)?.places()?.sum_at + SUM;
        // Lines, so that every array begins where it can be read.
        let mut lines = vec![Line([0; LINE]); HEADER / LINE];
        bytemuck::cast_slice_mut(&mut lines).copy_from_slice(&header);
        while size_of_val(lines.as_slice()) < whole {
            let read = size_of_val(lines.as_slice());
            if read >= pages::LARGE && lines.capacity() * LINE < whole {
                // So much is there that the rest may be too.
                lines = pages::moved(lines, whole.div_ceil(LINE));
            }
            let bytes = (whole - read).min(if read < pages::LARGE { CHUNK } else { pages::LARGE });
            lines.resize(lines.len() + bytes.div_ceil(LINE), Line([0; LINE]));
            input.read_exact(&mut bytemuck::cast_slice_mut(&mut lines)[read..read + bytes])?;
        }
        Self::from_bytes(Buffer { lines, len: whole })
    }
}

/// Bytes that begin where a line does.
struct Buffer {
    lines: Vec<Line>,
    len: usize,
}

impl AsRef<[u8]> for Buffer {
    fn as_ref(&self) -> &[u8] {
        &bytemuck::cast_slice(&self.lines)[..self.len]
    }
}

fn metric_number(metric: Metric) -> u32 {
    METRICS.iter().position(|&other| other == metric).expect("every metric has a number") as u32
}

/// The numbers before the arrays.
struct Header {
    stride: u32,
    len: u32,
    entry: u32,
    upper: u32,
    /// Slots and links of each upper layer; zeros behind the last.
    layers: [(u32, u32); MAX_UPPER],
    codes: Option<HeldShape>,
    blocks: bool,
    /// Of the curves of recall.
    points: u32,
    signs: bool,
}

/// Where the arrays lie, as byte ranges.
struct Places {
    base: Range<usize>,
    /// Slots, starts and links of each upper layer.
    layers: Vec<[Range<usize>; 3]>,
    /// Slots, mean or centroids, squares, codes, blocks, mean of the codes and signs.
    codes: Option<[Range<usize>; 7]>,
    curves: Range<usize>,
    sum_at: usize,
}

impl Header {
    fn to_bytes(&self) -> [u8; HEADER] {
        let numbers = [VERSION, self.stride, self.len, self.entry, self.upper];
        let layers = self.layers.iter().flat_map(|&(slots, links)| [slots, links]);
        let (scale, bits, values) = match self.codes {
            Some(HeldShape::Int8(Shape { bits: Bits::Eight, scale, .. })) => (scale, 8, 0),
            Some(HeldShape::Int8(Shape { bits: Bits::Four, scale, .. })) => (scale, 4, 0),
            Some(HeldShape::Product(shape)) => (0.0, 0, shape.compression.values_per_byte() as u32),
            None => (0.0, 0, 0),
        };
        let codes =
            self.codes.map_or([0; 2], |shape| [1 + metric_number(shape.metric()), shape.dim() as u32]);
        let mut bytes = [0; HEADER];
        let (magic, rest) = bytes.split_at_mut(MAGIC.len());
        magic.copy_from_slice(MAGIC);
        for (place, word) in
            rest.as_chunks_mut().0.iter_mut().zip(numbers.into_iter().chain(layers).chain(codes).chain([
                scale.to_bits(),
                u32::from(self.blocks),
                self.points,
                bits,
                values,
                u32::from(self.signs),
            ]))
        {
            *place = word.to_le_bytes();
        }
        bytes
    }

    fn read(bytes: &[u8]) -> Result<Self> {
        let shown = bytes.len().min(MAGIC.len());
        if bytes[..shown] != MAGIC[..shown] {
            return Err(Error::NotAGraph);
        }
        if bytes.len() < HEADER {
            return Err(Error::Truncated);
        }
        let number = |at: usize| le_word(bytes, MAGIC.len() + 4 * at);
        match number(0) {
            got if got > VERSION => return Err(Error::NewerVersion { got, known: VERSION }),
            got if got < VERSION => return Err(Error::OlderVersion { got, known: VERSION }),
            _ => {}
        }
        let layers = std::array::from_fn(|layer| (number(5 + 2 * layer), number(6 + 2 * layer)));
        let [codes, dim, scale, blocks, points, bits, values, signs] =
            std::array::from_fn(|at| number(CODES_AT + at));
        ensure(blocks <= 1, "its blocks are of an unknown kind")?;
        ensure(signs <= 1, "its signs are of an unknown kind")?;
        let codes = match codes {
            0 => None,
            kind => {
                let metric = METRICS.get(kind as usize - 1).copied();
                let metric = metric.ok_or(Error::Malformed("its codes are of an unknown kind"))?;
                let (dim, scale) = (dim as usize, f32::from_bits(scale));
                let of_bits = |bits| Some(HeldShape::Int8(Shape { metric, bits, dim, scale }));
                match (bits, values) {
                    (8, 0) => of_bits(Bits::Eight),
                    (4, 0) if metric != Metric::Manhattan => of_bits(Bits::Four),
                    (0, values) => {
                        let kind = Compression::ALL
                            .into_iter()
                            .find(|kind| kind.values_per_byte() == values as usize);
                        let compression =
                            kind.ok_or(Error::Malformed("its codes have no such compression"))?;
                        Some(HeldShape::Product(ProductShape { metric, compression, dim }))
                    }
                    _ => return Err(Error::Malformed("its codes have no such number of bits")),
                }
            }
        };
        let header = Self {
            stride: number(1),
            len: number(2),
            entry: number(3),
            upper: number(4),
            layers,
            codes,
            blocks: blocks == 1,
            points,
            signs: signs == 1,
        };
        header.check()?;
        Ok(header)
    }

    fn check(&self) -> Result<()> {
        ensure((1..=MAX_STRIDE).contains(&(self.stride as usize)), "too much room for links")?;
        ensure(self.len as usize <= MAX_ROWS, "too many slots")?;
        ensure(self.upper as usize <= MAX_UPPER, "too many layers")?;
        let entry_exists = self.entry < self.len || (self.len == 0 && self.entry == NONE);
        ensure(entry_exists, "the entry has no slot")?;
        let dim = self.codes.map_or(1, HeldShape::dim);
        ensure((1..=MAX_DIM).contains(&dim), "its codes have no such dimension")?;
        ensure(self.block_shape().is_some() || !self.blocks, "its blocks lack codes")?;
        ensure(self.signs_shape().is_some() || !self.signs, "its signs lack codes")?;
        ensure(self.points <= MAX_POINTS, "its curves of recall have too many points")?;
        for &(slots, links) in &self.layers[..self.upper as usize] {
            ensure(slots <= self.len, "a layer has too many slots")?;
            let most = u64::from(slots) * MAX_STRIDE as u64;
            ensure(u64::from(links) <= most, "a layer has too many links")?;
        }
        Ok(())
    }

    fn block_shape(&self) -> Option<BlockShape> {
        let HeldShape::Int8(shape) = self.codes.filter(|_| self.blocks)? else { return None };
        let suits = shape.metric != Metric::Manhattan && shape.bits == Bits::Eight;
        suits.then(|| BlockShape::of(shape.bytes(), self.stride as usize))
    }

    fn signs_shape(&self) -> Option<SignsShape> {
        let HeldShape::Int8(shape) = self.codes.filter(|_| self.signs)? else { return None };
        SignsShape::of(shape)
    }

    fn places(&self) -> Result<Places> {
        let mut end = HEADER as u64;
        let mut place = |bytes: u64| {
            let start = end;
            end += bytes;
            let used = start as usize..end as usize;
            end = end.next_multiple_of(ALIGN as u64);
            used
        };
        // At most 2^41 for layer 0 and 16 * 2^34 above it: no overflow.
        let width = links::width(self.stride as usize, links::bits(self.len as usize));
        let base = place(4 * u64::from(self.len) * width as u64);
        let layers = self.layers[..self.upper as usize].iter();
        let layers = layers
            .map(|&(slots, links)| [u64::from(slots), u64::from(slots) + 1, u64::from(links)])
            .map(|words| words.map(|words| place(4 * words)));
        let layers = layers.collect();
        // At most 2^31 codes of 2^17 bytes, and blocks of 2^22.
        let codes = self.codes.map(|shape| {
            let len = self.len as usize;
            let [mean, squares, codes] = shape.array_bytes(len);
            let blocks = self.block_shape().map_or(0, |shape| shape.lines() * ALIGN);
            let signs = self.signs_shape();
            let of_codes = signs.map_or(0, |shape| 4 * shape.mean);
            let signs = signs.map_or(0, |shape| shape.lines() * ALIGN);
            [4 * len, mean, squares, codes, len * blocks, of_codes, len * signs]
                .map(|bytes| place(bytes as u64))
        });
        let curves = place(12 * u64::from(self.points));
        ensure(usize::try_from(end).is_ok(), "too large for this machine")?;
        Ok(Places { base, layers, codes, curves, sum_at: end as usize })
    }
}

impl Layer {
    fn check(&self, len: u32) -> Result<()> {
        let (slots, starts, links): (&[u32], &[u32], &[u32]) = (&self.slots, &self.starts, &self.links);
        let ascending = slots.is_sorted_by(|a, b| a < b);
        ensure(ascending, "a layer's slots are out of order")?;
        let known = slots.iter().chain(links).all(|&slot| slot < len);
        ensure(known, "a layer names a slot that is not there")?;
        let fit =
            starts.first() == Some(&0) && starts.last() == Some(&(links.len() as u32)) && starts.is_sorted();
        ensure(fit, "a layer's links do not fit its slots")
    }
}

fn ensure(holds: bool, otherwise: &'static str) -> Result<()> {
    if holds {
        return Ok(());
    }
    Err(Error::Malformed(otherwise))
}

/// The number at a byte offset that is known to lie within the bytes.
fn le_word(bytes: &[u8], at: usize) -> u32 {
    bytes[at..].first_chunk().map_or(0, |&word| u32::from_le_bytes(word))
}

/// A writer that sums what passes.
struct Summing<'a, W> {
    inner: &'a mut W,
    hasher: crc32fast::Hasher,
}

impl<W: Write> Summing<'_, W> {
    fn put(&mut self, bytes: &[u8]) -> Result<()> {
        self.hasher.update(bytes);
        Ok(self.inner.write_all(bytes)?)
    }

    fn put_lines(&mut self, lines: &[Line]) -> Result<()> {
        lines.chunks(CHUNK / ALIGN).try_for_each(|lines| self.put(bytemuck::cast_slice(lines)))
    }

    /// Writes an array, and zeros up to where the next begins.
    fn put_words(&mut self, words: &[u32]) -> Result<()> {
        let mut ordered = Vec::with_capacity(words.len().min(CHUNK / 4));
        for chunk in words.chunks(CHUNK / 4) {
            ordered.clear();
            ordered.extend(chunk.iter().map(|word| word.to_le()));
            self.put(bytemuck::cast_slice(&ordered))?;
        }
        self.fill(size_of_val(words))
    }

    /// The same of bytes.
    fn put_bytes(&mut self, bytes: &[u8]) -> Result<()> {
        bytes.chunks(CHUNK).try_for_each(|bytes| self.put(bytes))?;
        self.fill(bytes.len())
    }

    /// Zeros behind an array of so many bytes.
    fn fill(&mut self, used: usize) -> Result<()> {
        self.put(&[0; ALIGN][..used.next_multiple_of(ALIGN) - used])
    }
}
