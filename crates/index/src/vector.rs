//! The kinds of vectors a point can have.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};

/// Vectors by name; the unnamed one is `""`.
pub type Vectors = BTreeMap<String, Vector>;

/// One vector of a point, or of a query.
///
/// ```
/// use cairn_index::{SparseVector, Vector};
///
/// let dense: Vector = vec![0.1, 0.2].into();
/// let sparse: Vector = SparseVector::new([(7, 0.5), (3, 1.5)])?.into();
/// assert_eq!(sparse.as_sparse().unwrap().indices(), [3, 7]);
/// # Ok::<(), cairn_index::Error>(())
/// ```
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub enum Vector {
    /// As many values as the collection says.
    Dense(Vec<f32>),
    /// Any number of dense vectors of equal length, compared by the sum over
    /// the query's rows of the best match among the stored rows (MaxSim).
    Multi(MultiVector),
    /// Values at some of 2^32 positions, zero at the rest.
    Sparse(SparseVector),
}

impl Vector {
    /// The values, if this is one dense vector.
    pub fn as_dense(&self) -> Option<&[f32]> {
        match self {
            Self::Dense(values) => Some(values),
            _ => None,
        }
    }

    /// The rows, if these are several dense vectors.
    pub fn as_multi(&self) -> Option<&MultiVector> {
        match self {
            Self::Multi(rows) => Some(rows),
            _ => None,
        }
    }

    /// The positions and values, if this is a sparse vector.
    pub fn as_sparse(&self) -> Option<&SparseVector> {
        match self {
            Self::Sparse(sparse) => Some(sparse),
            _ => None,
        }
    }
}

impl From<Vec<f32>> for Vector {
    fn from(values: Vec<f32>) -> Self {
        Self::Dense(values)
    }
}

impl From<MultiVector> for Vector {
    fn from(rows: MultiVector) -> Self {
        Self::Multi(rows)
    }
}

impl From<SparseVector> for Vector {
    fn from(sparse: SparseVector) -> Self {
        Self::Sparse(sparse)
    }
}

/// Several dense vectors of equal length, at least one.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct MultiVector {
    dim: usize,
    values: Vec<f32>,
}

impl MultiVector {
    /// Vectors of `dim` values each, one after the other.
    ///
    /// # Errors
    /// [`Error::Request`] if there is none or they are not whole.
    pub fn new(dim: usize, values: Vec<f32>) -> Result<Self> {
        if dim == 0 || values.is_empty() || !values.len().is_multiple_of(dim) {
            return Err(Error::Request("a multi-vector must have rows of equal length, at least one".into()));
        }
        Ok(Self { dim, values })
    }

    /// From rows.
    ///
    /// # Errors
    /// [`Error::Request`] if there is none or their lengths differ.
    pub fn from_rows(rows: &[Vec<f32>]) -> Result<Self> {
        let dim = rows.first().map_or(0, Vec::len);
        if rows.iter().any(|row| row.len() != dim) {
            return Err(Error::Request("a multi-vector must have rows of equal length, at least one".into()));
        }
        Self::new(dim, rows.concat())
    }

    /// Values per row.
    pub fn dim(&self) -> usize {
        self.dim
    }

    /// All values, row after row.
    pub fn values(&self) -> &[f32] {
        &self.values
    }

    /// The rows.
    pub fn rows(&self) -> impl ExactSizeIterator<Item = &[f32]> {
        self.values.chunks_exact(self.dim)
    }

    pub(crate) fn values_mut(&mut self) -> &mut [f32] {
        &mut self.values
    }
}

/// Values at ascending positions; those of other positions are zero.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct SparseVector {
    indices: Vec<u32>,
    values: Vec<f32>,
}

impl SparseVector {
    /// From positions and values in any order.
    ///
    /// # Errors
    /// [`Error::Request`] if a position comes twice, [`Error::NotFinite`] for a
    /// value that is not a number.
    pub fn new(entries: impl IntoIterator<Item = (u32, f32)>) -> Result<Self> {
        let mut entries: Vec<(u32, f32)> = entries.into_iter().collect();
        entries.sort_unstable_by_key(|(index, _)| *index);
        if entries.windows(2).any(|pair| pair[0].0 == pair[1].0) {
            return Err(Error::Request("indices of a sparse vector must be unique".to_owned()));
        }
        if let Some(position) = entries.iter().position(|(_, value)| !value.is_finite()) {
            return Err(Error::NotFinite { position });
        }
        let (indices, values) = entries.into_iter().unzip();
        Ok(Self { indices, values })
    }

    /// The positions, ascending.
    pub fn indices(&self) -> &[u32] {
        &self.indices
    }

    /// The value at each position.
    pub fn values(&self) -> &[f32] {
        &self.values
    }

    /// Positions with their values, ascending.
    pub fn entries(&self) -> impl ExactSizeIterator<Item = (u32, f32)> {
        self.indices.iter().copied().zip(self.values.iter().copied())
    }

    /// The inner product; `None` if the two share no position.
    pub fn dot(&self, other: &Self) -> Option<f32> {
        let (mut a, mut b) = (0, 0);
        let mut sum = None;
        while let (Some(x), Some(y)) = (self.indices.get(a), other.indices.get(b)) {
            match x.cmp(y) {
                std::cmp::Ordering::Less => a += 1,
                std::cmp::Ordering::Greater => b += 1,
                std::cmp::Ordering::Equal => {
                    *sum.get_or_insert(0.0) += self.values[a] * other.values[b];
                    (a, b) = (a + 1, b + 1);
                }
            }
        }
        sum
    }
}
