//! From the states of a batch to a vector for each text, or for its tokens.

use candle_core::{DType, Tensor};

use super::super::TextKind;
use super::super::classifier::Classifier;
use super::super::device::Place;
use super::super::heads::{Dense, Late, Residual};
use super::super::kernels;
use super::super::pooling::{Pool, Pooling};
use super::super::runner::{Head, Made};
use super::super::tokens::Sequence;
use super::classify::Classify;
use super::linear::{Linear, indices};
use super::packing::{Group, Packing, joined, matrix};
use crate::Result;

/// What becomes of the states of a text; as `runner::Head`, on the device.
pub(in super::super) enum Finish {
    Pool(Pooling),
    /// Layers after the pooling, and whether the vector then gets length 1.
    Project(Pooling, Vec<Dense<Linear>>, bool),
    Classify(Classify),
    Nothing,
}

impl Finish {
    pub(in super::super) fn on(head: Head<Linear>, place: &Place) -> Result<Finish> {
        Ok(match head {
            Head::Pool(pooling) => Finish::Pool(pooling),
            Head::Project(pooling, layers, normalize) => Finish::Project(pooling, layers, normalize),
            Head::Classify(classifier) => Finish::classify(&classifier, place)?,
            Head::Nothing => Finish::Nothing,
        })
    }

    fn classify(classifier: &Classifier, place: &Place) -> Result<Finish> {
        Classify::on(classifier, place).map(Finish::Classify)
    }

    pub(super) fn dim(&self, hidden: usize) -> usize {
        match self {
            Finish::Pool(pooling) => pooling.dim(hidden),
            Finish::Project(pooling, layers, _) => {
                layers.last().map_or_else(|| pooling.dim(hidden), Dense::outputs)
            }
            Finish::Classify(classify) => classify.labels(),
            Finish::Nothing => 0,
        }
    }

    /// A vector for each text.
    pub(super) fn apply(&self, states: &Tensor, packing: &Packing) -> candle_core::Result<Vec<Vec<f32>>> {
        let (rows, normalize) = match self {
            Finish::Nothing => return Ok(packing.ranges().map(|_| Vec::new()).collect()),
            Finish::Pool(pooling) => (pooled(pooling, states, packing)?, pooling.normalize),
            Finish::Project(pooling, layers, normalize) => {
                let mut rows = pooled(pooling, states, packing)?;
                if pooling.normalize {
                    rows = at_length_1(&rows)?;
                }
                rows = through(layers, rows.to_dtype(states.dtype())?)?;
                (rows, *normalize)
            }
            Finish::Classify(classify) => {
                let first = packing.ranges().map(|range| range.start as u32).collect();
                let first = states.contiguous()?.index_select(&indices(first, states.device())?, 0)?;
                (classify.forward(&first)?, false)
            }
        };
        let mut vectors = rows.to_dtype(DType::F32)?.to_vec2::<f32>()?;
        if normalize {
            vectors.iter_mut().for_each(|vector| kernels::normalize(vector));
        }
        Ok(vectors)
    }
}

/// The rows after all layers.
fn through(layers: &[Dense<Linear>], rows: Tensor) -> candle_core::Result<Tensor> {
    layers.iter().try_fold(rows, |rows, layer| {
        let mut out = layer.linear.forward(&rows)?;
        if layer.tanh {
            out = out.tanh()?;
        }
        match &layer.residual {
            Residual::None => Ok(out),
            Residual::Inputs => out + rows,
            Residual::Through(linear) => out + linear.forward(&rows)?,
        }
    })
}

/// Rows at length 1; zeros stay zeros.
fn at_length_1(rows: &Tensor) -> candle_core::Result<Tensor> {
    let length = rows.sqr()?.sum_keepdim(1)?.sqrt()?;
    rows.broadcast_div(&length.maximum(f64::from(f32::MIN_POSITIVE))?)
}

/// The pools of each text, joined, in f32.
fn pooled(pooling: &Pooling, states: &Tensor, packing: &Packing) -> candle_core::Result<Tensor> {
    let states = states.contiguous()?;
    let pool = |pool: &Pool| match pool {
        Pool::Cls => picked(&states, packing, |range| range.start),
        Pool::Last => picked(&states, packing, |range| range.end - 1),
        Pool::Max => {
            let group = |group: &Group| group.side_by_side(&states)?.max(1)?.to_dtype(DType::F32);
            joined(&packing.groups.iter().map(group).collect::<candle_core::Result<Vec<_>>>()?)
        }
        Pool::Mean => summed(&states, packing, |_, tokens| 1.0 / tokens),
        Pool::MeanSqrt => summed(&states, packing, |_, tokens| 1.0 / tokens.sqrt()),
        Pool::WeightedMean => {
            summed(&states, packing, |at, tokens| 2.0 * (at + 1.0) / (tokens * (tokens + 1.0)))
        }
    };
    let pools = pooling.pools.iter().map(pool).collect::<candle_core::Result<Vec<_>>>()?;
    if let [one] = &pools[..] { Ok(one.clone()) } else { Tensor::cat(&pools, 1) }
}

/// One row of each text.
fn picked(
    states: &Tensor,
    packing: &Packing,
    which: impl Fn(std::ops::Range<usize>) -> usize,
) -> candle_core::Result<Tensor> {
    let rows = packing.ranges().map(|range| which(range) as u32).collect();
    states.index_select(&indices(rows, states.device())?, 0)?.to_dtype(DType::F32)
}

/// The sum of the rows of each text, each times its weight: that of a token at a
/// position, of so many.
pub(super) fn summed(
    states: &Tensor,
    packing: &Packing,
    weight: impl Fn(f32, f32) -> f32,
) -> candle_core::Result<Tensor> {
    let group = |group: &Group| {
        let rows = group.side_by_side(states)?.to_dtype(DType::F32)?;
        weights(group, &weight, states)?.matmul(&rows)?.squeeze(1)
    };
    joined(&packing.groups.iter().map(group).collect::<candle_core::Result<Vec<_>>>()?)
}

/// Text, 1, token: the weights of rows side by side, zero for those added.
pub(super) fn weights(
    group: &Group,
    weight: &impl Fn(f32, f32) -> f32,
    like: &Tensor,
) -> candle_core::Result<Tensor> {
    let text = |&length: &usize| {
        let one = move |at| if at < length { weight(at as f32, length as f32) } else { 0.0 };
        (0..group.longest).map(one)
    };
    let values = group.lengths.iter().flat_map(text).collect();
    matrix(values, (group.count(), 1, group.longest), like.device())
}

/// The vectors of the tokens of each text.
pub(super) fn late(
    late: &Late<Linear>,
    states: &Tensor,
    texts: &[&Sequence],
    packing: &Packing,
    kind: TextKind,
    made: &mut [Made],
) -> candle_core::Result<()> {
    let kept: Vec<Vec<u32>> = texts
        .iter()
        .zip(packing.ranges())
        .map(|(text, range)| late.kept(&text.ids, kind).map(|at| (range.start + at) as u32).collect())
        .collect();
    if kept.iter().all(Vec::is_empty) {
        return Ok(());
    }
    let rows = states.contiguous()?.index_select(&indices(kept.concat(), states.device())?, 0)?;
    let rows = through(&late.layers, rows)?;
    let dim = rows.dim(1)?;
    let mut values = rows.to_dtype(DType::F32)?.flatten_all()?.to_vec1::<f32>()?;
    if late.normalize {
        values.chunks_exact_mut(dim).for_each(kernels::normalize);
    }
    let mut rest = &values[..];
    for (kept, made) in kept.iter().zip(made) {
        let (rows, others) = rest.split_at(kept.len() * dim);
        made.rows = rows.to_vec();
        rest = others;
    }
    Ok(())
}
