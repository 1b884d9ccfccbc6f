//! Rows in fewer bytes, for finding candidates that the rows then decide on.

mod blocks;
mod held;
pub(crate) mod int8;
mod product;
mod rotation;

/// Rows of fewer values are not coded: a code would be no smaller, and a byte a
/// value does not tell many points of few dimensions apart.
pub const MIN_CODED_DIM: usize = 16;

pub(crate) use blocks::{BlockShape, BlockView, Blocks, Tables};
pub(crate) use held::{Held, HeldShape, Kind};
pub(crate) use int8::signs::{BLOCK, BySigns, Planes, Signs, SignsShape};
pub(crate) use int8::{Bits, Encoder, Int8, Int8Buffer, Int8Query, OFFSET, Shape};
pub use product::Compression;
pub(crate) use product::{Product, ProductBuffer, ProductQuery, ProductShape};
