//! Vectors by slot: what the caller's storage must offer.

use crate::{Error, Result};

/// Vectors by slot.
///
/// Rows are looked up once per distance, so `row` should be a few
/// instructions. A build keeps `&self` shared between threads.
pub trait Rows: Sync {
    /// Values per row, at least 1.
    fn dim(&self) -> usize;

    /// Rows held; slots are `0..len`.
    fn len(&self) -> usize;

    /// The row of a slot, `dim` values long.
    ///
    /// # Panics
    /// May panic if `slot` is not below `len`.
    fn row(&self, slot: u32) -> &[f32];

    /// True when there is no row.
    fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// Rows that lie behind each other in one slice.
///
/// ```
/// use cairn_ann::{FlatRows, Rows};
///
/// let rows = FlatRows::new(2, &[1.0, 2.0, 3.0, 4.0])?;
/// assert_eq!(rows.len(), 2);
/// assert_eq!(rows.row(1), [3.0, 4.0]);
/// # Ok::<(), cairn_ann::Error>(())
/// ```
#[derive(Debug, Clone, Copy)]
pub struct FlatRows<'a> {
    dim: usize,
    values: &'a [f32],
}

impl<'a> FlatRows<'a> {
    /// Reads `values` as rows of `dim` values.
    ///
    /// # Errors
    /// [`Error::Shape`] if `dim` is 0 or does not divide the number of values.
    pub fn new(dim: usize, values: &'a [f32]) -> Result<Self> {
        if dim == 0 || !values.len().is_multiple_of(dim) {
            return Err(Error::Shape { dim, values: values.len() });
        }
        Ok(Self { dim, values })
    }
}

impl Rows for FlatRows<'_> {
    fn dim(&self) -> usize {
        self.dim
    }

    fn len(&self) -> usize {
        self.values.len() / self.dim
    }

    fn row(&self, slot: u32) -> &[f32] {
        let start = slot as usize * self.dim;
        &self.values[start..start + self.dim]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn flat_rows_refuse_a_ragged_slice_and_dimension_zero() {
        assert!(FlatRows::new(3, &[0.0; 7]).is_err());
        assert!(FlatRows::new(0, &[]).is_err());
        assert!(FlatRows::new(3, &[]).is_ok_and(|rows| rows.is_empty()));
    }
}
