//! The query language: what can be asked of a collection, and its execution.
//!
//! [`QueryRequest`] is a tree. Its leaves find candidates in the whole
//! collection, its inner nodes score again what their prefetches found, and
//! the root's result is the answer. Groups, facets and distance matrices are
//! asked beside it.
//!
//! Execution is pure over a [`Source`]: it takes no locks, and
//! randomness comes from the caller. How a source finds the nearest points,
//! with graphs, inverted indexes or by scanning, is not here; neither is the
//! JSON form of a query.
mod examples;
mod expression;
pub(crate) mod facet;
mod formula;
mod fusion;
pub(crate) mod groups;
mod hit;
mod kinds;
pub(crate) mod matrix;
pub(crate) mod mmr;
mod plan;
mod request;
pub(crate) mod source;
mod stage;
#[cfg(test)]
mod tests;
mod values;

pub use expression::{Decay, Expression};
pub(crate) use facet::run_facet;
pub use facet::{FacetHit, FacetRequest};
pub(crate) use groups::run_groups;
pub use groups::{Group, GroupId, GroupLookup, GroupRequest, WithLookup};
pub use hit::QueryHit;
pub use kinds::{
    ContextPair, Direction, FeedbackExample, FeedbackWeights, Formula, Fusion, Mmr, OrderBy, Query, Strategy,
    Target, WordsQuery,
};
pub(crate) use matrix::run_matrix;
pub use matrix::{MatrixOffsets, MatrixPair, MatrixRequest, MatrixResult};
pub use request::{LookupFrom, Measured, Prefetch, QueryRequest, SearchParams};

use crate::error::{Error, Result};

use self::plan::Plan;
use self::source::Source;

/// Answers a query, best hits first.
///
/// `rng` decides what a random sample picks; the same state gives the same
/// answer.
///
/// # Errors
/// [`Error::Request`] for a tree that has no meaning, [`Error::UnknownPoint`],
/// [`Error::MissingVector`] and [`Error::UnknownLookup`] for examples that
/// cannot be found, [`Error::UnknownVector`], [`Error::Dimension`] and
/// [`Error::NotFinite`] for vectors that do not fit, and what the source fails
/// with.
pub(crate) fn run(
    source: &dyn Source,
    request: &QueryRequest,
    rng: &mut fastrand::Rng,
) -> Result<Vec<QueryHit>> {
    let plan = Plan::new(source, request)?;
    let scored = plan.run(source, None, rng)?;
    hit::dress(source, &plan, &scored, &request.parts)
}

/// A limit that asks for nothing is taken for a mistake.
fn check_limit(field: &str, limit: usize) -> Result<()> {
    if limit == 0 {
        return Err(Error::Request(format!("{field}: value 0 invalid, must be 1 or larger")));
    }
    Ok(())
}
