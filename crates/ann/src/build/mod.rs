//! Making a graph from rows.

mod freeze;
mod hnsw_rs;
mod space;
mod twins;

pub use hnsw_rs::{HnswRsBuilder, HnswRsIndex};

use crate::{Graph, Metric, Result, Rows};

/// Something that makes graphs.
pub trait GraphBuilder {
    /// Builds a graph over the slots `0..rows.len()`.
    ///
    /// `rows` are prepared for `metric` and do not change meanwhile; they may
    /// be of any format. Uses the
    /// rayon pool it is called in. `cancelled` is polled every few hundred rows.
    ///
    /// # Errors
    /// [`Error::Cancelled`](crate::Error::Cancelled) soon after `cancelled`
    /// gives true; [`Error::Setting`](crate::Error::Setting) if the builder's
    /// settings are out of range;
    /// [`Error::TooManyRows`](crate::Error::TooManyRows) for more rows than
    /// slots can number.
    fn build<R: Rows>(
        &self,
        metric: Metric,
        rows: &R,
        cancelled: &(dyn Fn() -> bool + Sync),
    ) -> Result<Graph>;
}
