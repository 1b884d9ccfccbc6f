//! Rows in fewer bytes, for finding candidates that the rows then decide on.

pub(crate) mod int8;
mod rotation;

pub(crate) use int8::{Int8, Int8Buffer, Int8Query, Shape};
