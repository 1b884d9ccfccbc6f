//! Nearest neighbours in memory.
//!
//! Vectors live with the caller and are looked up by slot through [`Rows`],
//! as 32-bit or 16-bit floats or as bytes. A [`GraphBuilder`] turns them into a
//! [`Graph`], a frozen navigable graph over `u32` slots, which is searched,
//! written, and used again where its bytes lie. [`exact`] scans instead. Both
//! measure with a [`Metric`], smaller distances being nearer.
//!
//! Ids, payloads, deletes and files are not here: a caller that deletes passes
//! a filter, and a caller that keeps files gives a reader or a writer.
//!
//! ```
//! use cairn_ann::{FlatRows, GraphBuilder, HnswRsBuilder, Metric, Scratch};
//!
//! let mut vectors = vec![0.9f32, 0.1, 0.0, 1.0, -0.7, 0.2];
//! for vector in vectors.chunks_mut(2) {
//!     Metric::Cosine.prepare(vector);
//! }
//! let rows = FlatRows::new(2, &vectors)?;
//! let graph = HnswRsBuilder::default().build(Metric::Cosine, &rows, &|| false)?;
//!
//! let mut query = vec![2.0, 0.1];
//! Metric::Cosine.prepare(&mut query);
//! let mut scratch = Scratch::new();
//! let near = graph.search(Metric::Cosine, &rows, &query, 2, 16, |_| true, &mut scratch);
//! assert_eq!(near[0].slot, 0);
//! assert!(Metric::Cosine.score(near[0].distance) > 0.99);
//! # Ok::<(), cairn_ann::Error>(())
//! ```

mod array;
mod build;
mod codes;
mod error;
mod exact;
mod graph;
mod links;
mod metric;
mod nearest;
mod pages;
mod pool;
mod prefetch;
mod rows;
mod simd;
mod walk;

pub use build::{GraphBuilder, GraphGrower, HnswRsBuilder, HnswRsIndex, Merged, NativeBuilder};
pub use codes::{Compression, MIN_CODED_DIM};
pub use error::{Error, Result};
pub use exact::exact;
pub use graph::{Beam, ByCodes, Codes, Effort, Graph, Scratch, Strategy, filtered_strategy};
pub use half::f16;
pub use metric::{Metric, Query, simd_capabilities};
pub use nearest::Neighbor;
pub use rows::{Element, FlatRows, Row, Rows};

/// Runs the example of the README.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
