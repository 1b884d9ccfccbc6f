//! Making a graph from rows.

mod codes;
mod freeze;
mod growing;
mod hnsw_rs;
mod merge;
mod native;
mod prune;
mod space;
mod twins;

pub use growing::GraphGrower;
pub use hnsw_rs::{HnswRsBuilder, HnswRsIndex};
pub use merge::Merged;
pub use native::NativeBuilder;
pub(crate) use space::between;

use crate::graph::{MAX_ROWS, MAX_STRIDE};
use crate::{Error, Graph, Metric, Result, Rows};

/// Far beyond use; a larger value is a mistake and would take days.
const MAX_EF_CONSTRUCTION: usize = 65_536;

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

/// Refuses settings that are out of range, and rows that slots cannot number.
fn check(m: usize, ef_construction: usize, rows: usize) -> Result<()> {
    within("m", m, 2, MAX_STRIDE / 2)?;
    within("ef_construction", ef_construction, m, MAX_EF_CONSTRUCTION)?;
    if rows > MAX_ROWS {
        return Err(Error::TooManyRows { got: rows, max: MAX_ROWS });
    }
    Ok(())
}

fn within(name: &'static str, got: usize, min: usize, max: usize) -> Result<()> {
    if (min..=max).contains(&got) {
        return Ok(());
    }
    Err(Error::Setting { name, got, min, max })
}
