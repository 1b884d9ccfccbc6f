//! Searches of a quantized graph without its rows: codes decide alone.
//!
//! Distances are estimates, and neighbours that differ by less than codes tell
//! are taken for one another. The README says what part of the nearest is found.

use super::filtered::Filter;
use super::judge::ByCodesAlone;
use super::{Beam, Coded, Graph, Scratch};
use crate::Metric;
use crate::nearest::Neighbor;

/// A quantized graph as it is searched where there are no rows; see
/// [`Graph::by_codes`].
///
/// All distances are estimates by the graph's metric; smaller is nearer. Queries
/// are prepared and have [`dim`](Self::dim) values.
///
/// ```
/// use cairn_ann::{Codes, FlatRows, GraphBuilder, Metric, NativeBuilder, Scratch};
///
/// let values: Vec<f32> = (0..32_000).map(|at| (at as f32 * at as f32 * 0.01).sin()).collect();
/// let rows = FlatRows::new(32, &values)?;
/// let graph = NativeBuilder::default().build(Metric::Euclid, &rows, &|| false)?;
/// let graph = graph.quantized_as(Metric::Euclid, &rows, Codes::Int8);
/// let query = rows.values(77).to_vec();
/// // From here on the rows are not needed.
/// let codes = graph.by_codes().expect("it is quantized");
/// let near = codes.search(&query, 3, 64, |_| true, &mut Scratch::new());
/// assert_eq!(near[0].slot, 77);
/// let about = codes.decoded(77).expect("there is such a slot");
/// assert!(Metric::Euclid.distance(&about, &query) < 1e-2);
/// # Ok::<(), cairn_ann::Error>(())
/// ```
#[derive(Clone, Copy)]
pub struct ByCodes<'g> {
    graph: &'g Graph,
    coded: &'g Coded,
}

impl Graph {
    /// The graph as it is searched without rows, by any [`Codes`](super::Codes);
    /// none if it is not quantized, as one of rows of fewer than
    /// [`MIN_CODED_DIM`](crate::MIN_CODED_DIM) values never is.
    ///
    /// What [`effort`](Self::effort) says holds for searches that rows decide, not
    /// for these.
    #[must_use]
    pub fn by_codes(&self) -> Option<ByCodes<'_>> {
        Some(ByCodes { graph: self, coded: self.coded.as_ref()? })
    }
}

impl ByCodes<'_> {
    /// The metric of the codes.
    #[must_use]
    pub fn metric(&self) -> Metric {
        self.coded.codes.shape().metric()
    }

    /// Values of a query, and of a decoded row.
    #[must_use]
    pub fn dim(&self) -> usize {
        self.coded.codes.shape().dim()
    }

    /// Finds about the `k` nearest slots that `accept` allows, nearest first, as
    /// [`Graph::search`] does.
    ///
    /// # Panics
    /// If `query` has another length than the rows had.
    pub fn search(
        &self,
        query: &[f32],
        k: usize,
        beam: impl Into<Beam>,
        accept: impl Fn(u32) -> bool,
        scratch: &mut Scratch,
    ) -> Vec<Neighbor> {
        self.graph.search_coded(self.coded, &ByCodesAlone, query, k, beam.into(), accept, scratch)
    }

    /// The same in the way that suits how many slots are accepted, as
    /// [`Graph::search_filtered`] does.
    ///
    /// # Panics
    /// If `query` has another length than the rows had.
    pub fn search_filtered(
        &self,
        query: &[f32],
        k: usize,
        beam: impl Into<Beam>,
        accepted_share: f32,
        accept: impl Fn(u32) -> bool,
        scratch: &mut Scratch,
    ) -> Vec<Neighbor> {
        let found = self.walk_accepted(query, k, beam, accepted_share, &accept, scratch);
        found.unwrap_or_else(|| {
            let accepted = (0..self.graph.len() as u32).filter(|&slot| accept(slot));
            self.scan(query, k, accepted, scratch)
        })
    }

    /// [`search_filtered`](Self::search_filtered) as far as a walk does it, as
    /// [`Graph::walk_accepted`].
    ///
    /// # Panics
    /// If `query` has another length than the rows had.
    pub fn walk_accepted(
        &self,
        query: &[f32],
        k: usize,
        beam: impl Into<Beam>,
        accepted_share: f32,
        accept: impl Fn(u32) -> bool,
        scratch: &mut Scratch,
    ) -> Option<Vec<Neighbor>> {
        let filter = Filter { share: accepted_share, accept: &accept };
        self.graph.walk_coded(self.coded, &ByCodesAlone, query, k, beam.into(), &filter, scratch)
    }

    /// Finds about the `k` nearest of `slots` by measuring the code of each, nearest
    /// first. Slots that the graph does not have are passed by.
    ///
    /// # Panics
    /// If `query` has another length than the rows had.
    pub fn scan(
        &self,
        query: &[f32],
        k: usize,
        slots: impl Iterator<Item = u32>,
        scratch: &mut Scratch,
    ) -> Vec<Neighbor> {
        self.graph.scan_coded(self.coded, &ByCodesAlone, query, k, slots, scratch)
    }

    /// About the values of a row, as its code has them; none if there is no such
    /// slot.
    ///
    /// By cosine they have about unit length, also where rows of `u8` had another.
    /// Of the passages in the README product codes have this squared error, as a part
    /// of the squared length: `X4` 0.0002, `X8` 0.008, `X16` 0.09, `X32` 0.29, `X64`
    /// 0.49.
    #[must_use]
    pub fn decoded(&self, slot: u32) -> Option<Vec<f32>> {
        let position = self.graph.position(self.coded, slot)?;
        Some(self.coded.codes.decoded(position))
    }
}
