//! A linear layer over vectors, with a function and perhaps a residual: the
//! `Dense` of sentence-transformers, and projections that are no module.

use std::path::Path;

use super::super::kernels::Activation;
use super::super::native::Linear;
use super::super::weights::{self, Weights};
use super::files;
use super::{Layer, Maker};
use crate::{Error, Result};

/// What `config.json` of a layer says.
pub(super) struct Settings {
    /// That file, inside the model folder.
    pub(super) file: String,
    pub(super) inputs: usize,
    pub(super) outputs: usize,
    pub(super) bias: bool,
    pub(super) function: Function,
    pub(super) residual: bool,
}

/// What follows the linear layer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Function {
    None,
    Tanh,
    Gelu,
    Relu,
}

pub(in super::super) struct Dense<L = Linear> {
    pub(in super::super) linear: L,
    pub(in super::super) tanh: bool,
    pub(in super::super) residual: Residual<L>,
}

/// What is added to the result.
pub(in super::super) enum Residual<L> {
    None,
    /// The inputs.
    Inputs,
    /// The inputs through a layer of their own.
    Through(L),
}

impl<L: Layer> Dense<L> {
    /// Loads the layer in a folder inside the model folder, for vectors of
    /// `inputs` dimensions.
    pub(super) fn load(
        root: &Path,
        path: &Path,
        inputs: usize,
        maker: &impl Maker<Linear = L>,
    ) -> Result<Dense<L>> {
        let settings = files::layer(root, path)?;
        if settings.inputs != inputs {
            return Err(Error::Unsupported {
                file: settings.file,
                field: "in_features".into(),
                value: settings.inputs.to_string(),
                supported: "the dimensions of what comes before",
            });
        }
        let outputs = settings.outputs;
        let weights = Weights::first(&root.join(path), &[weights::FILE, weights::TORCH_FILE])?;
        let activation = match settings.function {
            Function::None | Function::Tanh => None,
            Function::Gelu => Some(Activation::Gelu),
            Function::Relu => Some(Activation::Relu),
        };
        let residual = match (settings.residual, inputs == outputs) {
            (false, _) => Residual::None,
            (true, true) => Residual::Inputs,
            (true, false) => {
                let matrix = weights.values("residual.weight", &[outputs, inputs])?;
                Residual::Through(maker.linear(&matrix, &vec![0.0; outputs], None)?)
            }
        };
        let matrix = weights.values("linear.weight", &[outputs, inputs])?;
        let bias =
            if settings.bias { weights.values("linear.bias", &[outputs])? } else { vec![0.0; outputs] };
        let linear = maker.linear(&matrix, &bias, activation)?;
        Ok(Dense { linear, tanh: settings.function == Function::Tanh, residual })
    }

    /// A projection whose weights are called `{name}weight`, and `{name}bias` if
    /// there is one; how many dimensions come out they tell themselves.
    pub(super) fn projection(
        weights: &Weights,
        name: &str,
        inputs: usize,
        maker: &impl Maker<Linear = L>,
    ) -> Result<Dense<L>> {
        let (matrix, bias) = (format!("{name}weight"), format!("{name}bias"));
        let outputs = weights.shape(&matrix).and_then(|shape| shape.first().copied()).unwrap_or(0);
        // A row at least: no layer here makes vectors of nothing.
        let values = weights.values(&matrix, &[outputs.max(1), inputs])?;
        let bias = if weights.has(&bias) { weights.values(&bias, &[outputs])? } else { vec![0.0; outputs] };
        let linear = maker.linear(&values, &bias, None)?;
        Ok(Dense { linear, tanh: false, residual: Residual::None })
    }

    /// The dimensions of a vector that comes out.
    pub(in super::super) fn outputs(&self) -> usize {
        self.linear.outputs()
    }
}

impl Dense {
    /// A vector for each row.
    pub(in super::super) fn apply(&self, rows: &[f32]) -> Vec<f32> {
        let mut out = Vec::new();
        self.linear.apply(rows, &mut out);
        if self.tanh {
            out.iter_mut().for_each(|x| *x = x.tanh());
        }
        let add = |out: &mut [f32], more: &[f32]| out.iter_mut().zip(more).for_each(|(x, more)| *x += more);
        match &self.residual {
            Residual::None => {}
            Residual::Inputs => add(&mut out, rows),
            Residual::Through(linear) => {
                let mut more = Vec::new();
                linear.apply(rows, &mut more);
                add(&mut out, &more);
            }
        }
        out
    }
}
