//! Facets: how many points have each value of a payload field.

use crate::error::Result;
use crate::filter::Filter;
use crate::path::Path;

use super::check_limit;
use super::source::Source;
use crate::fields::FacetValue;

/// A question for the most frequent values of a field.
#[derive(Debug, Clone, PartialEq)]
pub struct FacetRequest {
    /// The field.
    pub key: Path,
    /// How many values at most, 1 or more. Default 10.
    pub limit: usize,
    /// Which points are counted.
    pub filter: Option<Filter>,
    /// Whether counts must not be estimated. They never are.
    pub exact: bool,
}

impl FacetRequest {
    /// The ten most frequent values at `key`.
    pub fn new(key: Path) -> Self {
        Self { key, limit: 10, filter: None, exact: false }
    }
}

/// A value and the number of points that have it, however often each does.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FacetHit {
    /// The value.
    pub value: FacetValue,
    /// How many points have it, 1 or more.
    pub count: usize,
}

/// The most frequent values first, equally frequent ones in their own order.
///
/// # Errors
/// [`Error::Request`](crate::Error::Request) for a limit of 0 or a field
/// without an index of its values.
pub(crate) fn run_facet(source: &dyn Source, request: &FacetRequest) -> Result<Vec<FacetHit>> {
    check_limit("limit", request.limit)?;
    let mut counts = source.facet(&request.key, request.filter.as_ref())?;
    counts.retain(|(_, count)| *count > 0);
    counts.sort_by(|a, b| b.1.cmp(&a.1).then_with(|| a.0.cmp(&b.0)));
    counts.truncate(request.limit);
    Ok(counts.into_iter().map(|(value, count)| FacetHit { value, count }).collect())
}
