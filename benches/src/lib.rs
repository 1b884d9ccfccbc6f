//! What the benchmarks share: data sets and their files.

pub mod clustered;
pub mod npy;
