//! Linear layers and norms on a device.

use candle_core::{DType, Device, Tensor};
use candle_nn::ops;

use super::super::device::Place;
use super::super::heads::{Layer, Maker};
use super::super::kernels::{self, Activation};
use crate::Result;

/// A linear layer with the function that follows it.
pub(in super::super) struct Linear {
    /// A row for each output.
    weight: Tensor,
    /// Nothing where it would be zeros.
    bias: Option<Tensor>,
    activation: Option<Activation>,
}

impl Linear {
    pub(super) fn on(
        weight: &[f32],
        bias: &[f32],
        activation: Option<Activation>,
        place: &Place,
    ) -> Result<Linear> {
        let shape = (bias.len(), weight.len() / bias.len().max(1));
        let loaded = || -> candle_core::Result<Linear> {
            let weight = put(weight, place, place.dtype)?.reshape(shape)?;
            let some = bias.iter().any(|x| *x != 0.0);
            let bias = some.then(|| put(bias, place, place.dtype)).transpose()?;
            Ok(Linear { weight, bias, activation })
        };
        loaded().map_err(|error| failed(error, place))
    }

    /// A row for each row of `rows`, which has two dimensions.
    pub(super) fn forward(&self, rows: &Tensor) -> candle_core::Result<Tensor> {
        let mut out = rows.matmul(&self.weight.t()?)?;
        if let Some(bias) = &self.bias {
            out = out.broadcast_add(bias)?;
        }
        self.activation.map_or(Ok(out.clone()), |activation| activate(&out, activation))
    }
}

impl Layer for Linear {
    type Norm = Norm;

    fn outputs(&self) -> usize {
        self.weight.dims()[0]
    }
}

impl Maker for Place {
    type Linear = Linear;

    fn linear(&self, weights: &[f32], bias: &[f32], activation: Option<Activation>) -> Result<Linear> {
        Linear::on(weights, bias, activation, self)
    }

    fn norm(&self, norm: kernels::Norm) -> Result<Norm> {
        Norm::on(&norm, self)
    }
}

pub(super) fn activate(rows: &Tensor, activation: Activation) -> candle_core::Result<Tensor> {
    match activation {
        Activation::Gelu => rows.gelu_erf(),
        Activation::GeluTanh => rows.gelu(),
        Activation::Relu => rows.relu(),
        Activation::Silu => rows.silu(),
    }
}

/// A norm of rows; its sums are f32 in every precision.
pub(in super::super) struct Norm {
    weight: Tensor,
    bias: Tensor,
    eps: f32,
    centred: bool,
    shifts: bool,
}

impl Norm {
    pub(super) fn on(norm: &kernels::Norm, place: &Place) -> Result<Norm> {
        let put = |values: &[f32]| put(values, place, place.dtype).map_err(|error| failed(error, place));
        Ok(Norm {
            weight: put(&norm.weight)?,
            bias: put(&norm.bias)?,
            eps: norm.eps,
            centred: norm.centred,
            shifts: norm.bias.iter().any(|x| *x != 0.0),
        })
    }

    /// Norms the last dimension.
    pub(super) fn forward(&self, rows: &Tensor) -> candle_core::Result<Tensor> {
        let rows = rows.contiguous()?;
        if self.centred {
            return ops::layer_norm(&rows, &self.weight, &self.bias, self.eps);
        }
        let normed = ops::rms_norm(&rows, &self.weight, self.eps)?;
        if self.shifts { normed.broadcast_add(&self.bias) } else { Ok(normed) }
    }
}

/// Numbers on the device. They are made shorter before they go there.
pub(super) fn put(values: &[f32], place: &Place, dtype: DType) -> candle_core::Result<Tensor> {
    Tensor::from_slice(values, values.len(), &Device::Cpu)?.to_dtype(dtype)?.to_device(&place.device)
}

/// Positions on the device.
pub(super) fn indices(values: Vec<u32>, place: &Device) -> candle_core::Result<Tensor> {
    let count = values.len();
    Tensor::from_vec(values, count, place)
}

/// What went wrong while the weights were put there.
pub(super) fn failed(error: candle_core::Error, place: &Place) -> crate::Error {
    place.error(error, || "the weights of the model".into())
}
