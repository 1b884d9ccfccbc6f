//! A graph as bytes.
//!
//! All numbers are `u32`, little-endian:
//!
//! ```text
//! "cairnann"  8 bytes
//! version, stride, len, entry, upper layers
//! links of layer 0                 len * stride, unused room u32::MAX
//! for each upper layer, 1 first:
//!     slots, links                 how many of each
//!     the slots, ascending         slots
//!     where their links begin      slots + 1
//!     the links                    links
//! crc32 (IEEE) of everything above
//! ```
//!
//! Reading trusts nothing: it grows with what the input really holds, compares
//! the checksum, then checks each number that a search would follow. A new
//! field or meaning takes a new version.

use std::io::{Read, Write};

use super::{Graph, Layer, MAX_ROWS, MAX_STRIDE, MAX_UPPER, NONE};
use crate::{Error, Result};

const MAGIC: &[u8; 8] = b"cairnann";
const VERSION: u32 = 1;
/// Words read or written at once.
const CHUNK: usize = 16 * 1024;

impl Graph {
    /// Writes the graph, whole, in small pieces. Flushing is the caller's.
    ///
    /// # Errors
    /// [`Error::Io`] if `out` fails.
    pub fn write_to(&self, out: &mut impl Write) -> Result<()> {
        let mut out = Summing::new(out);
        out.put(MAGIC)?;
        out.put_words(&[
            VERSION,
            self.stride as u32,
            self.len() as u32,
            self.entry,
            self.upper.len() as u32,
        ])?;
        out.put_words(&self.base)?;
        for layer in &self.upper {
            out.put_words(&[layer.slots.len() as u32, layer.links.len() as u32])?;
            out.put_words(&layer.slots)?;
            out.put_words(&layer.starts)?;
            out.put_words(&layer.links)?;
        }
        let sum = out.sum();
        out.put_words(&[sum])
    }

    /// Reads a graph and nothing after it.
    ///
    /// ```
    /// use cairn_ann::{FlatRows, Graph, GraphBuilder, HnswRsBuilder, Metric};
    ///
    /// let rows = FlatRows::new(1, &[1.0, 2.0, 4.0])?;
    /// let graph = HnswRsBuilder::default().build(Metric::Euclid, &rows, &|| false)?;
    /// let mut file = Vec::new();
    /// graph.write_to(&mut file)?;
    /// assert!(Graph::read_from(&mut file.as_slice())? == graph);
    /// file[40] ^= 1;
    /// assert!(Graph::read_from(&mut file.as_slice()).is_err());
    /// # Ok::<(), cairn_ann::Error>(())
    /// ```
    ///
    /// # Errors
    /// [`Error::NotAGraph`], [`Error::NewerVersion`], [`Error::Truncated`],
    /// [`Error::Checksum`] or [`Error::Malformed`] for bytes that are not a
    /// whole, unchanged graph; [`Error::Io`] if `input` fails.
    pub fn read_from(input: &mut impl Read) -> Result<Self> {
        let mut input = Summing::new(input);
        let mut magic = [0; MAGIC.len()];
        input.get(&mut magic)?;
        if magic != *MAGIC {
            return Err(Error::NotAGraph);
        }
        let [version] = input.get_words()?;
        if version > VERSION {
            return Err(Error::NewerVersion { got: version, known: VERSION });
        }
        let [stride, len, entry, upper_layers] = input.get_words()?;
        let (stride, len) = (stride as usize, len as usize);
        ensure(version == VERSION, "there is no such version")?;
        ensure((1..=MAX_STRIDE).contains(&stride), "too much room for links")?;
        ensure(len <= MAX_ROWS, "too many slots")?;
        ensure(upper_layers as usize <= MAX_UPPER, "too many layers")?;

        let words = len.checked_mul(stride);
        let words = words.ok_or(Error::Malformed("too many links"))?;
        let mut graph = Self { stride, entry, base: input.get_many(words)?, upper: Vec::new() };
        for _ in 0..upper_layers {
            graph.upper.push(Layer::read_from(&mut input, len)?);
        }
        let want = input.sum();
        let [got] = input.get_words()?;
        if got != want {
            return Err(Error::Checksum { got, want });
        }
        graph.check()?;
        Ok(graph)
    }

    /// Everything that a search relies on.
    fn check(&self) -> Result<()> {
        let len = self.len() as u32;
        let entry_exists = self.entry < len || (len == 0 && self.entry == NONE);
        ensure(entry_exists, "the entry has no slot")?;
        let known = |&link: &u32| link < len || link == NONE;
        ensure(self.base.iter().all(known), "a link has no slot")?;
        self.upper.iter().try_for_each(|layer| layer.check(len))
    }
}

impl Layer {
    fn read_from<R: Read>(input: &mut Summing<'_, R>, len: usize) -> Result<Self> {
        let [slots, links] = input.get_words()?;
        let (slots, links) = (slots as usize, links as usize);
        ensure(slots <= len, "a layer has too many slots")?;
        ensure(links <= slots.saturating_mul(MAX_STRIDE), "a layer has too many links")?;
        Ok(Self {
            slots: input.get_many(slots)?,
            starts: input.get_many(slots + 1)?,
            links: input.get_many(links)?,
        })
    }

    fn check(&self, len: u32) -> Result<()> {
        let ascending = self.slots.is_sorted_by(|a, b| a < b);
        ensure(ascending, "a layer's slots are out of order")?;
        let known = self.slots.iter().chain(&self.links).all(|&slot| slot < len);
        ensure(known, "a layer names a slot that is not there")?;
        let fit = self.starts.first() == Some(&0)
            && self.starts.last() == Some(&(self.links.len() as u32))
            && self.starts.is_sorted();
        ensure(fit, "a layer's links do not fit its slots")
    }
}

fn ensure(holds: bool, otherwise: &'static str) -> Result<()> {
    if holds {
        return Ok(());
    }
    Err(Error::Malformed(otherwise))
}

/// A reader or writer that sums what passes.
struct Summing<'a, T> {
    inner: &'a mut T,
    hasher: crc32fast::Hasher,
}

impl<'a, T> Summing<'a, T> {
    fn new(inner: &'a mut T) -> Self {
        Self { inner, hasher: crc32fast::Hasher::new() }
    }

    fn sum(&self) -> u32 {
        self.hasher.clone().finalize()
    }
}

impl<W: Write> Summing<'_, W> {
    fn put(&mut self, bytes: &[u8]) -> Result<()> {
        self.hasher.update(bytes);
        Ok(self.inner.write_all(bytes)?)
    }

    fn put_words(&mut self, words: &[u32]) -> Result<()> {
        let mut ordered = Vec::with_capacity(words.len().min(CHUNK));
        for chunk in words.chunks(CHUNK) {
            ordered.clear();
            ordered.extend(chunk.iter().map(|word| word.to_le()));
            self.put(bytemuck::cast_slice(&ordered))?;
        }
        Ok(())
    }
}

impl<R: Read> Summing<'_, R> {
    fn get(&mut self, bytes: &mut [u8]) -> Result<()> {
        self.inner.read_exact(bytes)?;
        self.hasher.update(bytes);
        Ok(())
    }

    fn get_words<const N: usize>(&mut self) -> Result<[u32; N]> {
        let mut words = [0; N];
        self.get(bytemuck::cast_slice_mut(&mut words))?;
        Ok(words.map(u32::from_le))
    }

    /// Reads `count` words. Memory follows what was read, so a wrong count
    /// costs no more than the input is long.
    fn get_many(&mut self, count: usize) -> Result<Vec<u32>> {
        let mut words = Vec::new();
        while words.len() < count {
            let start = words.len();
            words.resize(count.min(start + CHUNK), 0);
            self.get(bytemuck::cast_slice_mut(&mut words[start..]))?;
            words[start..].iter_mut().for_each(|word| *word = u32::from_le(*word));
        }
        words.shrink_to_fit();
        Ok(words)
    }
}
