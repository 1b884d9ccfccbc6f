//! Vectors by slot: what the caller's storage must offer.
//!
//! A row is lent as the numbers that are stored, of whichever format; what they
//! are compared with, and how, is the metric's affair.

use half::f16;

use crate::{Error, Result};

/// One stored vector, in the format it is stored in.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Row<'a> {
    /// 32-bit floats.
    F32(&'a [f32]),
    /// 16-bit floats; distances are those of the rounded values.
    F16(&'a [f16]),
    /// Whole numbers from 0 to 255.
    U8(&'a [u8]),
}

impl<'a> Row<'a> {
    /// Values in the row.
    pub fn len(self) -> usize {
        match self {
            Self::F32(values) => values.len(),
            Self::F16(values) => values.len(),
            Self::U8(values) => values.len(),
        }
    }

    /// True when there is no value.
    pub fn is_empty(self) -> bool {
        self.len() == 0
    }

    /// The values as `f32`, which holds all of them exactly.
    ///
    /// ```
    /// assert_eq!(cairn_ann::Row::U8(&[0, 255]).to_f32(), [0.0, 255.0]);
    /// ```
    pub fn to_f32(self) -> Vec<f32> {
        match self {
            Self::F32(values) => values.to_vec(),
            Self::F16(values) => values.iter().map(|x| x.to_f32()).collect(),
            Self::U8(values) => values.iter().map(|&x| f32::from(x)).collect(),
        }
    }

    /// The row as it lies in memory.
    #[inline]
    pub(crate) fn bytes(self) -> &'a [u8] {
        match self {
            Self::F32(values) => bytemuck::cast_slice(values),
            Self::F16(values) => bytemuck::cast_slice(values),
            Self::U8(values) => values,
        }
    }
}

/// Vectors by slot.
///
/// Rows are looked up once per distance, so `row` should be a few
/// instructions. A build keeps `&self` shared between threads.
pub trait Rows: Sync {
    /// Values per row, at least 1.
    fn dim(&self) -> usize;

    /// Rows held; slots are `0..len`.
    fn len(&self) -> usize;

    /// The row of a slot, `dim` values long, of the same format for every slot.
    ///
    /// # Panics
    /// May panic if `slot` is not below `len`.
    fn row(&self, slot: u32) -> Row<'_>;

    /// True when there is no row.
    fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// A number format that rows come in.
pub trait Element: Copy + Sync {
    /// The row of these values.
    fn row(values: &[Self]) -> Row<'_>;
}

impl Element for f32 {
    #[inline]
    fn row(values: &[Self]) -> Row<'_> {
        Row::F32(values)
    }
}

impl Element for f16 {
    #[inline]
    fn row(values: &[Self]) -> Row<'_> {
        Row::F16(values)
    }
}

impl Element for u8 {
    #[inline]
    fn row(values: &[Self]) -> Row<'_> {
        Row::U8(values)
    }
}

/// Rows that lie behind each other in one slice.
///
/// ```
/// use cairn_ann::{FlatRows, Row, Rows};
///
/// let rows = FlatRows::new(2, &[1.0f32, 2.0, 3.0, 4.0])?;
/// assert_eq!(rows.len(), 2);
/// assert_eq!(rows.row(1), Row::F32(&[3.0, 4.0]));
/// # Ok::<(), cairn_ann::Error>(())
/// ```
#[derive(Debug, Clone, Copy)]
pub struct FlatRows<'a, T = f32> {
    dim: usize,
    values: &'a [T],
}

impl<'a, T: Element> FlatRows<'a, T> {
    /// Reads `values` as rows of `dim` values.
    ///
    /// # Errors
    /// [`Error::Shape`] if `dim` is 0 or does not divide the number of values.
    pub fn new(dim: usize, values: &'a [T]) -> Result<Self> {
        if dim == 0 || !values.len().is_multiple_of(dim) {
            return Err(Error::Shape { dim, values: values.len() });
        }
        Ok(Self { dim, values })
    }

    /// The values of a slot's row.
    ///
    /// # Panics
    /// If there is no such slot.
    #[inline]
    pub fn values(&self, slot: u32) -> &'a [T] {
        let start = slot as usize * self.dim;
        &self.values[start..start + self.dim]
    }
}

impl<T: Element> Rows for FlatRows<'_, T> {
    fn dim(&self) -> usize {
        self.dim
    }

    fn len(&self) -> usize {
        self.values.len() / self.dim
    }

    #[inline]
    fn row(&self, slot: u32) -> Row<'_> {
        T::row(self.values(slot))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn flat_rows_refuse_a_ragged_slice_and_dimension_zero() {
        assert!(FlatRows::new(3, &[0f32; 7]).is_err());
        assert!(FlatRows::new(0, &[0u8; 0]).is_err());
        assert!(FlatRows::new(3, &[f16::ZERO; 0]).is_ok_and(|rows| rows.is_empty()));
    }

    #[test]
    fn rows_of_every_format_lend_the_values_they_were_given() {
        let halves = [1.5, -2.0, 0.0, 65504.0].map(f16::from_f32);
        let rows = FlatRows::new(2, &halves).expect("whole rows");
        assert_eq!(rows.row(1), Row::F16(&halves[2..]));
        assert_eq!(rows.row(1).to_f32(), [0.0, 65504.0]);
        let bytes = FlatRows::new(2, &[1u8, 2, 3, 255]).expect("whole rows");
        assert_eq!((bytes.row(1), bytes.row(1).len()), (Row::U8(&[3, 255]), 2));
    }
}
