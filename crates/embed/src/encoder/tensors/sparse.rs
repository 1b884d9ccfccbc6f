//! The heads for sparse vectors, on a device.

use candle_core::{DType, Tensor};

use super::super::heads::{Lexical, MaskedLm, Sparse, SparseVector};
use super::super::runner::Made;
use super::super::tokens::Sequence;
use super::head::weights;
use super::linear::Linear;
use super::packing::{Group, Packing};

/// Logits that are in memory together, but for those of a token of each text.
const LOGITS: usize = 1 << 27;

/// Adds the sparse vector of each text to what is made of it.
pub(super) fn apply(
    head: &Sparse<Linear>,
    states: &Tensor,
    texts: &[&Sequence],
    packing: &Packing,
    made: &mut [Made],
) -> candle_core::Result<()> {
    match head {
        Sparse::Lexical(head) => lexical(head, states, texts, packing, made),
        Sparse::Masked(head) => {
            let states = states.contiguous()?;
            let mut rest = made;
            for group in &packing.groups {
                let (made, others) = rest.split_at_mut(group.count());
                for (made, row) in made.iter_mut().zip(masked(head, &states, group)?.to_vec2::<f32>()?) {
                    made.sparse = SparseVector::of(&row);
                }
                rest = others;
            }
            Ok(())
        }
    }
}

/// SPLADE: a row over the vocabulary for each text of a group.
fn masked(head: &MaskedLm<Linear>, states: &Tensor, group: &Group) -> candle_core::Result<Tensor> {
    let rows = group.side_by_side(states)?;
    let (texts, longest, hidden) = rows.dims3()?;
    let vocab = head.outputs();
    let step = (LOGITS / (texts * vocab)).clamp(1, longest);
    let counted = weights(group, &|_, _| 1.0, states)?;
    let mut found: Option<Tensor> = None;
    for from in (0..longest).step_by(step) {
        let some = step.min(longest - from);
        let rows = rows.narrow(1, from, some)?.contiguous()?.reshape((texts * some, hidden))?;
        let logits = head.decoder.forward(&head.norm.forward(&head.transform.forward(&rows)?)?)?;
        let logits = logits.reshape((texts, some, vocab))?;
        let part = if head.splade.sum {
            let values = value(head, &logits.to_dtype(DType::F32)?)?;
            counted.narrow(2, from, some)?.contiguous()?.matmul(&values)?.squeeze(1)?
        } else {
            // A row that was added is one of the text again, which changes no maximum.
            logits.max(1)?.to_dtype(DType::F32)?
        };
        found = Some(match found {
            None => part,
            Some(found) if head.splade.sum => found.add(&part)?,
            Some(found) => found.maximum(&part)?,
        });
    }
    let Some(found) = found else { candle_core::bail!("a text has no tokens") };
    // Logarithms keep the order, so they can wait for the end.
    if head.splade.sum { Ok(found) } else { value(head, &found) }
}

fn value(head: &MaskedLm<Linear>, logits: &Tensor) -> candle_core::Result<Tensor> {
    let value = (logits.relu()? + 1.0)?.log()?;
    if head.splade.twice { (value + 1.0)?.log() } else { Ok(value) }
}

/// BGE-M3: a weight for each token of each text.
fn lexical(
    head: &Lexical,
    states: &Tensor,
    texts: &[&Sequence],
    packing: &Packing,
    made: &mut [Made],
) -> candle_core::Result<()> {
    let weight = Tensor::from_slice(&head.weight, (head.weight.len(), 1), states.device())?;
    let products = states.to_dtype(DType::F32)?.matmul(&weight)?.flatten_all()?.to_vec1::<f32>()?;
    for ((made, text), range) in made.iter_mut().zip(texts).zip(packing.ranges()) {
        let weights = products[range].iter().map(|product| product + head.bias);
        made.sparse = head.largest(weights, &text.ids);
    }
    Ok(())
}
