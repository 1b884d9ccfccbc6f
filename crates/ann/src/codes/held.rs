//! The codes of a graph's rows, of one family or the other.

use super::int8::{Bits, Int8, Shape};
use super::product::{Compression, Product, ProductShape};
use crate::{Metric, Rows};

/// What a graph holds of its rows, by position.
#[derive(Clone, PartialEq)]
pub(crate) enum Held {
    Int8(Int8),
    Product(Product),
}

/// What tells codes apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    Int8(Bits),
    Product(Compression),
}

/// What codes are read back with, besides their arrays.
#[derive(Debug, Clone, Copy)]
pub(crate) enum HeldShape {
    Int8(Shape),
    Product(ProductShape),
}

impl Held {
    /// Encodes rows, in the order of `slots`.
    pub(crate) fn encode<R: Rows>(metric: Metric, kind: Kind, rows: &R, slots: &[u32]) -> Self {
        match kind {
            Kind::Int8(bits) => Self::Int8(Int8::encode_as(metric, bits, rows, slots)),
            Kind::Product(compression) => Self::Product(Product::encode(metric, compression, rows, slots)),
        }
    }

    pub(crate) fn kind(&self) -> Kind {
        match self {
            Self::Int8(codes) => Kind::Int8(codes.bits()),
            Self::Product(codes) => Kind::Product(codes.shape().compression),
        }
    }

    pub(crate) fn shape(&self) -> HeldShape {
        match self {
            Self::Int8(codes) => HeldShape::Int8(codes.shape()),
            Self::Product(codes) => HeldShape::Product(codes.shape()),
        }
    }

    /// Those of one byte or half a byte a value.
    pub(crate) fn int8(&self) -> Option<&Int8> {
        match self {
            Self::Int8(codes) => Some(codes),
            Self::Product(_) => None,
        }
    }

    pub(crate) fn memory_bytes(&self) -> usize {
        match self {
            Self::Int8(codes) => codes.memory_bytes(),
            Self::Product(codes) => codes.memory_bytes(),
        }
    }

    /// The same codes in another order.
    pub(crate) fn reordered(&self, positions: &[u32]) -> Self {
        match self {
            Self::Int8(codes) => Self::Int8(codes.reordered(positions)),
            Self::Product(codes) => Self::Product(codes.reordered(positions)),
        }
    }

    /// The values that the code of a position stands for.
    pub(crate) fn decoded(&self, position: u32) -> Vec<f32> {
        match self {
            Self::Int8(codes) => codes.decoded(position),
            Self::Product(codes) => codes.decoded(position),
        }
    }
}

impl HeldShape {
    pub(crate) fn metric(self) -> Metric {
        match self {
            Self::Int8(shape) => shape.metric,
            Self::Product(shape) => shape.metric,
        }
    }

    /// Values per row.
    pub(crate) fn dim(self) -> usize {
        match self {
            Self::Int8(shape) => shape.dim,
            Self::Product(shape) => shape.dim,
        }
    }

    /// Bytes of the arrays of `len` codes, as they lie in a file: the mean or the
    /// centroids, the squared lengths, the codes.
    pub(crate) fn array_bytes(self, len: usize) -> [usize; 3] {
        match self {
            Self::Int8(shape) => [4 * shape.mean(), 4 * shape.squares(len), len * shape.bytes()],
            Self::Product(shape) => [4 * shape.centroids(), 0, len * shape.bytes()],
        }
    }
}
