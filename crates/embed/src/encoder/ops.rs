//! What lies between the matrix products, as operations of candle on the CPU.

use std::sync::{Arc, Mutex};

use candle_core::{CpuStorage, CustomOp1, InplaceOp1, InplaceOp2, Layout, Shape};

use super::attend::{Attend, Scratch};
use super::kernels::{self, Activation, Norm};
use super::parts::HeadNorms;
use super::reach::{Heads, Reach};
use super::relative::Relative;
use super::rotary::Turns;
use super::tokens::Sequence;

/// Adds the bias of queries, keys and values, then norms and turns them.
pub(super) struct Settle<'a> {
    pub(super) bias: &'a [f32],
    pub(super) heads: Heads,
    pub(super) norms: Option<&'a HeadNorms>,
    /// The rotations of each text.
    pub(super) turns: Option<&'a [Arc<Turns>]>,
    pub(super) texts: &'a [&'a Sequence],
}

impl InplaceOp1 for Settle<'_> {
    fn name(&self) -> &'static str {
        "bias-norm-rotation"
    }

    fn cpu_fwd(&self, storage: &mut CpuStorage, layout: &Layout) -> candle_core::Result<()> {
        let rows = slice_mut(storage, layout)?;
        kernels::bias_only(rows, self.bias);
        if let Some(norms) = self.norms {
            norms.apply(rows, self.heads);
        }
        let mut rest = rows;
        for (text, turns) in self.texts.iter().zip(self.turns.unwrap_or_default()) {
            let (text, others) = rest.split_at_mut(text.len() * self.heads.wide());
            turns.apply(text, self.heads);
            rest = others;
        }
        Ok(())
    }
}

/// The attention of each text.
pub(super) struct Attention<'a> {
    pub(super) bias: &'a [f32],
    pub(super) texts: &'a [&'a Sequence],
    pub(super) heads: Heads,
    pub(super) reach: Reach,
    pub(super) relative: Option<&'a Relative>,
    pub(super) scratch: Mutex<Scratch>,
}

impl CustomOp1 for Attention<'_> {
    fn name(&self) -> &'static str {
        "packed-attention"
    }

    fn cpu_fwd(&self, storage: &CpuStorage, layout: &Layout) -> candle_core::Result<(CpuStorage, Shape)> {
        let (tokens, wide) = layout.shape().dims2()?;
        let (heads, hidden) = (self.heads, self.heads.out());
        let mut qkv = slice(storage, layout)?;
        let mut all = vec![0.0; tokens * hidden];
        let mut out = &mut all[..];
        let mut scratch = self.scratch.lock().expect("no kernel panics");
        for text in self.texts {
            let (of_text, rest) = qkv.split_at(text.len() * wide);
            let (mixed, others) = out.split_at_mut(text.len() * hidden);
            if !mixed.is_empty() {
                Attend {
                    qkv: of_text,
                    bias: self.bias,
                    heads,
                    reach: self.reach.among(text.seen()),
                    relative: self.relative,
                    out: mixed,
                    scratch: &mut scratch,
                }
                .run();
            }
            (qkv, out) = (rest, others);
        }
        Ok((CpuStorage::F32(all), (tokens, hidden).into()))
    }
}

/// Adds a bias and other rows, and norms the sum if there is a norm.
pub(super) struct AddNorm<'a> {
    pub(super) bias: &'a [f32],
    pub(super) norm: Option<&'a Norm>,
}

impl InplaceOp2 for AddNorm<'_> {
    fn name(&self) -> &'static str {
        "bias-residual-norm"
    }

    fn cpu_fwd(
        &self,
        storage: &mut CpuStorage,
        layout: &Layout,
        other: &CpuStorage,
        other_layout: &Layout,
    ) -> candle_core::Result<()> {
        let (rows, other) = (slice_mut(storage, layout)?, slice(other, other_layout)?);
        if let Some(norm) = self.norm {
            kernels::add_norm(rows, self.bias, other, norm);
        } else {
            kernels::bias_only(rows, self.bias);
            kernels::add(rows, other);
        }
        Ok(())
    }
}

/// Norms each row.
pub(super) struct Normed<'a>(pub(super) &'a Norm);

impl CustomOp1 for Normed<'_> {
    fn name(&self) -> &'static str {
        "norm"
    }

    fn cpu_fwd(&self, storage: &CpuStorage, layout: &Layout) -> candle_core::Result<(CpuStorage, Shape)> {
        let rows = slice(storage, layout)?;
        let mut out = vec![0.0; rows.len()];
        kernels::norm(rows, self.0, &mut out);
        Ok((CpuStorage::F32(out), layout.shape().clone()))
    }
}

/// Adds a bias, then applies the activation, if there is one.
pub(super) struct BiasActivate<'a> {
    pub(super) bias: &'a [f32],
    pub(super) activation: Option<Activation>,
}

impl InplaceOp1 for BiasActivate<'_> {
    fn name(&self) -> &'static str {
        "bias-activation"
    }

    fn cpu_fwd(&self, storage: &mut CpuStorage, layout: &Layout) -> candle_core::Result<()> {
        let rows = slice_mut(storage, layout)?;
        match self.activation {
            Some(activation) => kernels::bias_activate(rows, self.bias, activation),
            None => kernels::bias_only(rows, self.bias),
        }
        Ok(())
    }
}

/// The activation of the first half of each row times the second half.
pub(super) struct Gate(pub(super) Activation);

impl CustomOp1 for Gate {
    fn name(&self) -> &'static str {
        "gate"
    }

    fn cpu_fwd(&self, storage: &CpuStorage, layout: &Layout) -> candle_core::Result<(CpuStorage, Shape)> {
        let (tokens, wide) = layout.shape().dims2()?;
        let mut out = vec![0.0; tokens * wide / 2];
        kernels::gate(slice(storage, layout)?, wide / 2, self.0, &mut out);
        Ok((CpuStorage::F32(out), (tokens, wide / 2).into()))
    }
}

fn slice<'a>(storage: &'a CpuStorage, layout: &Layout) -> candle_core::Result<&'a [f32]> {
    let (from, to) = contiguous(layout)?;
    Ok(&storage.as_slice()?[from..to])
}

fn slice_mut<'a>(storage: &'a mut CpuStorage, layout: &Layout) -> candle_core::Result<&'a mut [f32]> {
    let (from, to) = contiguous(layout)?;
    match storage {
        CpuStorage::F32(values) => Ok(&mut values[from..to]),
        _ => candle_core::bail!("the operation works on f32"),
    }
}

fn contiguous(layout: &Layout) -> candle_core::Result<(usize, usize)> {
    match layout.contiguous_offsets() {
        Some(offsets) => Ok(offsets),
        None => candle_core::bail!("the operation works on contiguous rows"),
    }
}
