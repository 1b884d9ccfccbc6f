//! Distance matrices: how near sampled points are to each other.

use std::sync::Arc;

use crate::error::Result;
use crate::filter::Filter;
use crate::id::PointId;

use super::request::SearchParams;
use super::source::{Nearest, Place, Scope, Source};
use crate::similarity::score;

/// A question for the nearest neighbours of sampled points within the sample.
#[derive(Debug, Clone, PartialEq)]
pub struct MatrixRequest {
    /// Which points may be sampled.
    pub filter: Option<Filter>,
    /// How many points are sampled at most. Default 10.
    pub sample: usize,
    /// How many neighbours of each at most. Default 3.
    pub limit: usize,
    /// Which vector is compared; the unnamed one is `""`.
    pub using: String,
}

impl Default for MatrixRequest {
    fn default() -> Self {
        Self { filter: None, sample: 10, limit: 3, using: String::new() }
    }
}

/// A sparse matrix of scores between sampled points, none to itself.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct MatrixResult {
    /// The sampled points, in order of id.
    pub ids: Vec<PointId>,
    /// For each of them the string that its id was made of, if it was made of one.
    pub labels: Vec<Option<Arc<str>>>,
    /// For each of them its nearest neighbours: position in `ids`, and score.
    pub rows: Vec<Vec<(usize, f32)>>,
}

/// Two points and the score between them.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct MatrixPair {
    /// The point whose neighbour it is.
    pub a: PointId,
    /// The neighbour.
    pub b: PointId,
    /// As a search for `a` would show it.
    pub score: f32,
}

/// The matrix in coordinate form: entry `i` is `scores[i]` at row
/// `offsets_row[i]` and column `offsets_col[i]`, both positions in `ids`.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct MatrixOffsets {
    /// Rows of the entries.
    pub offsets_row: Vec<u64>,
    /// Columns of the entries.
    pub offsets_col: Vec<u64>,
    /// Values of the entries.
    pub scores: Vec<f32>,
    /// The sampled points.
    pub ids: Vec<PointId>,
}

impl MatrixResult {
    /// Row by row, nearest first.
    fn entries(&self) -> impl Iterator<Item = (usize, usize, f32)> {
        self.rows
            .iter()
            .enumerate()
            .flat_map(|(row, near)| near.iter().map(move |(col, score)| (row, *col, *score)))
    }

    /// The matrix as pairs of points.
    pub fn pairs(&self) -> Vec<MatrixPair> {
        self.entries().map(|(a, b, score)| MatrixPair { a: self.ids[a], b: self.ids[b], score }).collect()
    }

    /// The matrix in coordinate form.
    pub fn offsets(&self) -> MatrixOffsets {
        let mut offsets = MatrixOffsets { ids: self.ids.clone(), ..MatrixOffsets::default() };
        for (row, col, score) in self.entries() {
            offsets.offsets_row.push(row as u64);
            offsets.offsets_col.push(col as u64);
            offsets.scores.push(score);
        }
        offsets
    }
}

/// Samples points and finds the nearest of them to each. Fewer than two points
/// give an empty matrix.
///
/// # Errors
/// [`Error::UnknownVector`](crate::Error::UnknownVector), and what the source
/// fails with.
pub(crate) fn run_matrix(
    source: &dyn Source,
    request: &MatrixRequest,
    rng: &mut fastrand::Rng,
) -> Result<MatrixResult> {
    let kind = source.kind(&request.using)?;
    let sampled = sample(source, request, rng)?;
    if sampled.len() < 2 || request.limit == 0 {
        return Ok(MatrixResult::default());
    }
    let places: Vec<Place> = sampled.iter().map(|(_, place)| *place).collect();
    let exact = SearchParams { exact: true, ..SearchParams::default() };
    let mut rows = Vec::with_capacity(places.len());
    for own in &places {
        let Some(vector) = source.vector(*own, &request.using)? else { continue };
        let ask = Nearest {
            vector: &vector,
            using: &request.using,
            scope: Scope { filter: None, among: Some(&places) },
            limit: request.limit.saturating_add(1),
            params: &exact,
        };
        let nearest = source.nearest(&ask)?.into_iter().filter(|(place, _)| place != own);
        let at = |place| places.iter().position(|sampled| *sampled == place);
        let near = nearest.filter_map(|(place, raw)| Some((at(place)?, score(kind.metric, raw))));
        rows.push(near.take(request.limit).collect());
    }
    let labels = places.iter().map(|place| source.label(*place)).collect();
    Ok(MatrixResult { ids: sampled.into_iter().map(|(id, _)| id).collect(), labels, rows })
}

/// Random points that have the vector, in order of id.
fn sample(
    source: &dyn Source,
    request: &MatrixRequest,
    rng: &mut fastrand::Rng,
) -> Result<Vec<(PointId, Place)>> {
    let mut places = Vec::new();
    source.scan(request.filter.as_ref(), &mut |place| {
        places.push(place);
        Ok(())
    })?;
    // Shuffled first, so that only as many vectors are read as are needed.
    rng.shuffle(&mut places);
    let mut sampled = Vec::new();
    for place in places {
        if sampled.len() == request.sample {
            break;
        }
        if source.vector(place, &request.using)?.is_some() {
            sampled.push((source.id(place), place));
        }
    }
    sampled.sort_unstable();
    Ok(sampled)
}
