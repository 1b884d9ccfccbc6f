//! The vectors of a segment.
//!
//! The `n`-th vector of the segment has the sections `n.values`, the numbers of
//! one row after the other; `n.present`, a bit a row, missing when every row
//! has the vector; for multi-vectors and sparse ones `n.starts`, u64, where each
//! row begins, counted in rows or entries; for sparse ones `n.indices`, u32.

use std::borrow::Cow;

use cairn_ann::{Row, Rows, f16};
use serde::{Deserialize, Serialize};

use super::container::{Container, Writer};
use crate::bits::Bits;
use crate::bytes::Bytes;
use crate::config::{Datatype, VectorConfig};
use crate::error::Result;
use crate::vector::{MultiVector, SparseVector, Vector};

/// A vector of a segment, as its table tells.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct ColumnInfo {
    pub(crate) name: String,
    /// Which vector of this name: one that was dropped and added again is
    /// another.
    pub(crate) uid: u64,
    /// `None` for a sparse vector.
    pub(crate) dense: Option<VectorConfig>,
}

/// Rows to be written, by their place in the new segment.
pub(crate) trait ColumnSource {
    fn rows(&self) -> u32;
    fn vector(&self, row: u32, name: &str) -> Option<Cow<'_, Vector>>;
}

pub(crate) fn write(
    writer: &mut Writer,
    number: usize,
    info: &ColumnInfo,
    source: &dyn ColumnSource,
) -> Result<()> {
    let mut present = Bits::with_len(source.rows());
    let mut starts = vec![0u64];
    let mut indices: Vec<u32> = Vec::new();
    let mut end = 0u64;
    writer.begin(format!("{number}.values"))?;
    for row in 0..source.rows() {
        let vector = source.vector(row, &info.name);
        present.set(row, vector.is_some());
        match (vector.as_deref(), &info.dense) {
            (Some(Vector::Dense(values)), Some(config)) => write_numbers(writer, config, values)?,
            (None, Some(config)) if !config.multivector => {
                writer.write(&vec![0; config.size * config.datatype.bytes()])?;
            }
            (Some(Vector::Multi(rows)), Some(config)) => {
                write_numbers(writer, config, rows.values())?;
                end += rows.rows().len() as u64;
            }
            (Some(Vector::Sparse(sparse)), None) => {
                writer.write(bytemuck::cast_slice(sparse.values()))?;
                indices.extend(sparse.indices());
                end += sparse.indices().len() as u64;
            }
            _ => {}
        }
        starts.push(end);
    }
    if info.dense.is_none_or(|config| config.multivector) {
        writer.section(format!("{number}.starts"), bytemuck::cast_slice(&starts))?;
    }
    if info.dense.is_none() {
        writer.section(format!("{number}.indices"), bytemuck::cast_slice(&indices))?;
    }
    if present.count() < source.rows() as usize {
        writer.section(format!("{number}.present"), bytemuck::cast_slice(present.words()))?;
    }
    Ok(())
}

fn write_numbers(writer: &mut Writer, config: &VectorConfig, values: &[f32]) -> Result<()> {
    match config.datatype {
        Datatype::Float32 => writer.write(bytemuck::cast_slice(values)),
        Datatype::Float16 => {
            let halves: Vec<f16> = values.iter().map(|value| f16::from_f32(*value)).collect();
            writer.write(bytemuck::cast_slice(&halves))
        }
        Datatype::Uint8 => writer.write(&values.iter().map(|value| *value as u8).collect::<Vec<u8>>()),
    }
}

/// A mapped vector of a segment.
pub(crate) struct Column {
    pub(crate) info: ColumnInfo,
    pub(crate) present: Bits,
    rows: usize,
    values: Bytes,
    starts: Option<Bytes>,
    indices: Option<Bytes>,
}

impl Column {
    /// Maps a vector. Its values are not read: that is for the scrub.
    pub(crate) fn open(
        container: &Container,
        number: usize,
        info: ColumnInfo,
        rows: usize,
    ) -> Result<Self, String> {
        let values = container.unverified(&format!("{number}.values"))?;
        let name = |part: &str| format!("{number}.{part}");
        let optional = |wanted: bool, part: &str| {
            if wanted { container.section(&name(part)).map(Some) } else { Ok(None) }
        };
        let several = info.dense.is_none_or(|config| config.multivector);
        let starts = optional(several, "starts")?;
        let indices = optional(info.dense.is_none(), "indices")?;
        let present = if container.has(&name("present")) {
            let bytes = container.section(&name("present"))?;
            let words = bytes.numbers::<u64>().filter(|words| words.len() == rows.div_ceil(64));
            Bits::from_words(words.ok_or("a bitmap has another length")?, rows as u32)
        } else {
            Bits::full(rows as u32)
        };
        let column = Self { info, present, rows, values, starts, indices };
        if column.fits() { Ok(column) } else { Err("its vectors do not fit its rows".to_owned()) }
    }

    fn fits(&self) -> bool {
        let entries = match &self.starts {
            None => Some(self.rows),
            Some(starts) => starts
                .numbers::<u64>()
                .filter(|starts| starts.len() == self.rows + 1 && starts.is_sorted())
                .and_then(|starts| starts.last().map(|end| *end as usize)),
        };
        let Some(entries) = entries else { return false };
        let stride = self.info.dense.map_or(4, |config| config.size * config.datatype.bytes());
        let indices = match &self.indices {
            None => true,
            Some(indices) => indices.numbers::<u32>().is_some_and(|indices| indices.len() == entries),
        };
        entries.checked_mul(stride) == Some(self.values.len()) && indices
    }

    /// Bytes of the values and of the positions of sparse ones.
    pub(crate) fn bytes(&self) -> u64 {
        (self.values.len() + self.indices.as_ref().map_or(0, |bytes| bytes.len())) as u64
    }

    pub(crate) fn vector(&self, slot: u32) -> Option<Vector> {
        if !self.present.get(slot) {
            return None;
        }
        let Some(config) = &self.info.dense else { return self.sparse(slot).map(Vector::Sparse) };
        if !config.multivector {
            let start = slot as usize * config.size;
            return Some(Vector::Dense(floats(self.numbers(config, start..start + config.size))));
        }
        let range = self.range(slot);
        let values = floats(self.numbers(config, range.start * config.size..range.end * config.size));
        MultiVector::new(config.size, values).ok().map(Vector::Multi)
    }

    fn sparse(&self, slot: u32) -> Option<SparseVector> {
        SparseVector::new(self.entries(slot)).ok()
    }

    /// The rows, if this is a dense vector that every point has at most once.
    pub(crate) fn dense(&self) -> Option<MappedRows<'_>> {
        let config = self.info.dense.as_ref().filter(|config| !config.multivector)?;
        let values = self.numbers(config, 0..self.rows * config.size);
        Some(MappedRows { dim: config.size, rows: self.rows, values })
    }

    /// Positions and values of a sparse vector.
    pub(crate) fn entries(&self, slot: u32) -> impl ExactSizeIterator<Item = (u32, f32)> + '_ {
        let range = self.range(slot);
        let indices = self.indices.as_ref().and_then(Bytes::numbers::<u32>).unwrap_or_default();
        let values = self.values.numbers::<f32>().unwrap_or_default();
        let range = if indices.is_empty() { 0..0 } else { range };
        indices[range.clone()].iter().copied().zip(values[range].iter().copied())
    }

    fn range(&self, slot: u32) -> std::ops::Range<usize> {
        let starts = self.starts.as_ref().and_then(Bytes::numbers::<u64>).expect("checked when opened");
        starts[slot as usize] as usize..starts[slot as usize + 1] as usize
    }

    fn numbers(&self, config: &VectorConfig, range: std::ops::Range<usize>) -> Row<'_> {
        const CHECKED: &str = "length and place were checked when opened";
        match config.datatype {
            Datatype::Float32 => Row::F32(&self.values.numbers::<f32>().expect(CHECKED)[range]),
            Datatype::Float16 => Row::F16(&self.values.numbers::<f16>().expect(CHECKED)[range]),
            Datatype::Uint8 => Row::U8(&self.values[range]),
        }
    }
}

/// The rows of one dense vector, to measure distances in.
#[derive(Clone, Copy)]
pub(crate) struct MappedRows<'c> {
    dim: usize,
    rows: usize,
    values: Row<'c>,
}

impl Rows for MappedRows<'_> {
    fn dim(&self) -> usize {
        self.dim
    }

    fn len(&self) -> usize {
        self.rows
    }

    fn row(&self, slot: u32) -> Row<'_> {
        let start = slot as usize * self.dim;
        let range = start..start + self.dim;
        match self.values {
            Row::F32(values) => Row::F32(&values[range]),
            Row::F16(values) => Row::F16(&values[range]),
            Row::U8(values) => Row::U8(&values[range]),
        }
    }
}

pub(crate) fn floats(row: Row<'_>) -> Vec<f32> {
    match row {
        Row::F32(values) => values.to_vec(),
        Row::F16(values) => values.iter().map(|value| value.to_f32()).collect(),
        Row::U8(values) => values.iter().map(|value| f32::from(*value)).collect(),
    }
}
