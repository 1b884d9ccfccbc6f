//! How wide a beam has to be for a recall.
//!
//! Some of the rows are looked for as queries, each with the row itself hidden
//! from the walk as if it were not in the graph, so that they stand for queries
//! from elsewhere. What beams of several widths find of their true neighbours
//! is a curve, which lies with the graph.

use rayon::prelude::*;

use super::{Graph, Scratch};
use crate::codes::{Bits, Kind};
use crate::exact::exact;
use crate::{Metric, Rows};

/// Rows that are looked for: the recall of as many queries is known to half a
/// part in a hundred.
const SAMPLE: usize = 400;
/// How many neighbours curves are made for.
const KS: [usize; 3] = [1, 10, 100];
/// Beams of a curve at most.
const BEAMS: usize = 24;
/// A beam of this part of the graph takes longer than a scan by codes: of 98k rows
/// of 384 values that takes as long as a beam of about 1,500.
const WIDEST: usize = 64;
/// Recall from which a wider beam is not worth measuring.
const ENOUGH: f32 = 0.998;

/// What beams found.
#[derive(Debug, Clone, Default, PartialEq)]
pub(super) struct Curves {
    /// By `k`, then `ef`; along one `k` no recall is below the one before.
    points: Vec<Reached>,
}

/// What one beam found.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Reached {
    pub(super) k: u32,
    pub(super) ef: u32,
    /// The part of the true neighbours, 0 to 1.
    pub(super) recall: f32,
}

/// What a search has to do for a recall.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Effort {
    /// A walk with so many candidates, an `ef`.
    Beam(usize),
    /// [`Graph::scan`]: no walk that is faster finds as much.
    Scan,
}

/// A query with its true neighbours.
struct Sample {
    position: u32,
    query: Vec<f32>,
    /// Distances of the true neighbours without itself.
    truth: Vec<f32>,
}

impl Graph {
    /// The graph with a curve of recall by width, from a sample of its rows.
    ///
    /// For [`effort`](Self::effort). `rows` are those it was built over. Takes
    /// about as long as 400 scans and 15,000 searches. Other codes make
    /// another curve, so this comes after [`quantized_as`](Self::quantized_as).
    ///
    /// ```
    /// use cairn_ann::{Codes, FlatRows, GraphBuilder, Metric, NativeBuilder};
    ///
    /// let values: Vec<f32> = (0..32_000).map(|at| (at as f32 * at as f32 * 0.01).sin()).collect();
    /// let rows = FlatRows::new(16, &values)?;
    /// let graph = NativeBuilder::default().build(Metric::Euclid, &rows, &|| false)?;
    /// let graph = graph.quantized_as(Metric::Euclid, &rows, Codes::Int8).calibrated(Metric::Euclid, &rows);
    /// assert!(graph.effort(10, 0.99) >= graph.effort(10, 0.9));
    /// # Ok::<(), cairn_ann::Error>(())
    /// ```
    #[must_use]
    pub fn calibrated<R: Rows>(mut self, metric: Metric, rows: &R) -> Self {
        let samples = self.samples(metric, rows);
        let mut points = Vec::new();
        for k in KS {
            let mut best = 0f32;
            // Each beam is wider than the last by half a doubling.
            let beams = (0..).map(|step| (k as f32 * 2f32.powf(step as f32 / 2.0)).round() as usize);
            let widest = (self.len() / WIDEST).max(4 * k);
            for ef in beams.take_while(|&ef| ef <= widest).take(BEAMS) {
                best = best.max(self.reached(metric, rows, &samples, k, ef));
                if samples.is_empty()
                    || points.last().is_some_and(|last: &Reached| (last.k, last.ef) == (k as u32, ef as u32))
                {
                    continue;
                }
                points.push(Reached { k: k as u32, ef: ef as u32, recall: best });
                if best >= ENOUGH {
                    break;
                }
            }
        }
        self.curves = Curves { points };
        self
    }

    /// The least that finds so much of the true `k` nearest, 0 to 1, as far as the
    /// curve of this graph says: a beam, or a scan where none that was measured
    /// reaches it; none if there is no curve.
    pub fn effort(&self, k: usize, recall: f32) -> Option<Effort> {
        self.curves.effort(k, recall)
    }

    /// Rows to be looked for, evenly from all, with their true neighbours.
    fn samples<R: Rows>(&self, metric: Metric, rows: &R) -> Vec<Sample> {
        let len = self.len() as u32;
        // The hidden row must not be where a walk begins. Positions lie in the order
        // of a walk, so that steps over them reach all of the graph evenly.
        let above = |at: u32| self.upper.iter().any(|layer| layer.slots.binary_search(&at).is_ok());
        let step = (self.len() / SAMPLE).max(1);
        let begins = (0..len).step_by(step);
        let positions = begins.map(|from| (from..len).find(|&at| !above(at) && self.entry != at));
        let mut positions: Vec<u32> = positions.flatten().take(SAMPLE).collect();
        positions.dedup();
        // A scan by codes of a byte misses next to none, and takes a tenth of the time.
        let by_code = self.coded.as_ref().is_some_and(|coded| coded.codes.kind() == Kind::Int8(Bits::Eight));
        let sample = |scratch: &mut Scratch, position: u32| {
            let slot = self.slot(position);
            let query = rows.row(slot).to_f32();
            let most = KS[KS.len() - 1];
            let others = (0..len).filter(|&other| other != slot);
            let near = if by_code {
                self.scan(metric, rows, &query, most, others, scratch)
            } else {
                exact(metric, rows, &query, most, others)
            };
            Sample { position, query, truth: near.into_iter().map(|near| near.distance).collect() }
        };
        positions.into_par_iter().map_init(Scratch::new, sample).collect()
    }

    /// The part of the true neighbours that a beam finds.
    fn reached<R: Rows>(&self, metric: Metric, rows: &R, samples: &[Sample], k: usize, ef: usize) -> f32 {
        let hits = |scratch: &mut Scratch, sample: &Sample| {
            scratch.hide(sample.position);
            let near = self.search(metric, rows, &sample.query, k, ef, |_| true, scratch);
            let truth = &sample.truth[..k.min(sample.truth.len())];
            let found =
                truth.last().map_or(0, |&worst| near.iter().filter(|near| near.distance <= worst).count());
            (found.min(truth.len()), truth.len())
        };
        let all = samples.par_iter().map_init(Scratch::new, hits);
        let (found, wanted) = all.reduce(|| (0, 0), |a, b| (a.0 + b.0, a.1 + b.1));
        found as f32 / wanted.max(1) as f32
    }
}

impl Curves {
    /// Curves as they were; none if no graph has such.
    pub(super) fn from_points(points: Vec<Reached>) -> Option<Self> {
        let sound =
            |point: &Reached| point.k > 0 && point.ef >= point.k && (0.0..=1.0).contains(&point.recall);
        let rises =
            |a: &Reached, b: &Reached| (a.k, a.ef) < (b.k, b.ef) && (a.k != b.k || a.recall <= b.recall);
        (points.iter().all(sound) && points.is_sorted_by(rises)).then_some(Self { points })
    }

    pub(super) fn points(&self) -> &[Reached] {
        &self.points
    }

    fn effort(&self, k: usize, recall: f32) -> Option<Effort> {
        let (k, curves) = (k.max(1) as u32, || self.points.chunk_by(|a, b| a.k == b.k));
        let below = curves().rfind(|curve| curve[0].k <= k);
        let above = curves().find(|curve| curve[0].k >= k);
        let (from, to) = (below.or(above)?, above.or(below)?);
        let (Some(narrow), Some(wide)) = (width(from, recall), width(to, recall)) else {
            return Some(Effort::Scan);
        };
        // Between two curves, by the logarithm of k.
        let (least, most, k) = (from[0].k as f32, to[0].k as f32, k as f32);
        let part = if least < most { (k / least).ln() / (most / least).ln() } else { 0.0 };
        let for_each = narrow / least + (wide / most - narrow / least) * part;
        Some(Effort::Beam((for_each * k).ceil() as usize))
    }
}

/// The width that finds so much, on one curve; none if nothing on it does. Between
/// two points the logarithm of what is missed is straight over that of the width.
fn width(curve: &[Reached], recall: f32) -> Option<f32> {
    let missed = |recall: f32| (1.0 - recall).max(1e-4).ln();
    let next = curve.partition_point(|point| point.recall < recall);
    match (next.checked_sub(1).map(|last| curve[last]), curve.get(next)) {
        (None, first) => first.map(|first| first.ef as f32),
        (Some(_), None) => None,
        (Some(last), Some(next)) => {
            let way = missed(last.recall) - missed(next.recall);
            let part = if way > 0.0 { (missed(last.recall) - missed(recall)) / way } else { 1.0 };
            let (from, to) = ((last.ef as f32).ln(), (next.ef as f32).ln());
            Some((from + (to - from) * part.clamp(0.0, 1.0)).exp())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn curves(points: &[(u32, u32, f32)]) -> Option<Curves> {
        Curves::from_points(points.iter().map(|&(k, ef, recall)| Reached { k, ef, recall }).collect())
    }

    #[test]
    fn between_points_the_width_grows_with_the_recall_and_beyond_them_it_ends() {
        let curves =
            curves(&[(10, 10, 0.8), (10, 40, 0.95), (10, 160, 0.998), (100, 100, 0.9)]).expect("sound");
        let at = |k, recall| curves.effort(k, recall);
        assert_eq!(at(10, 0.95), Some(Effort::Beam(40)));
        assert_eq!((at(10, 0.1), at(10, 1.0)), (Some(Effort::Beam(10)), Some(Effort::Scan)));
        let widths: Vec<_> = (80..100).map(|part| at(10, part as f32 / 100.0)).collect();
        assert!(widths.is_sorted());
        // 0.9 is half way from 0.8 to 0.95, in logarithms of what is missed.
        assert_eq!(at(10, 0.9), Some(Effort::Beam(20)));
        assert_eq!((at(5, 0.95), at(1000, 0.9)), (Some(Effort::Beam(20)), Some(Effort::Beam(1000))));
        // A hundred are not found by any beam that was measured.
        assert_eq!(
            (at(100, 0.95), at(30, 0.95), at(1000, 0.95)),
            (Some(Effort::Scan), Some(Effort::Scan), Some(Effort::Scan))
        );
        assert_eq!(Curves::default().effort(10, 0.9), None);
    }

    #[test]
    fn curves_that_no_graph_has_are_refused() {
        let refused: [&[(u32, u32, f32)]; 5] = [
            &[(0, 1, 0.5)],
            &[(10, 9, 0.5)],
            &[(10, 10, f32::NAN)],
            &[(10, 10, 0.9), (10, 20, 0.8)],
            &[(10, 20, 0.8), (10, 10, 0.9)],
        ];
        assert!(refused.into_iter().all(|points| curves(points).is_none()));
    }
}
