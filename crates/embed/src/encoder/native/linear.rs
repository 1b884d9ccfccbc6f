//! A linear layer by itself, for what comes after the transformer.

use super::super::kernels::Activation;
use super::level::{Instructions, Precision};
use super::matrix::Matrix;
use super::product::product;
use super::rows::Rows;

/// Weights packed once, with the function that follows them.
pub(in super::super) struct Linear {
    matrix: Matrix,
    activation: Option<Activation>,
}

impl Linear {
    /// Packs `weights`, a row for each output; `bias` has a value for each.
    pub(in super::super) fn new(
        weights: &[f32],
        bias: &[f32],
        activation: Option<Activation>,
        precision: Precision,
        level: Instructions,
    ) -> Linear {
        Linear { matrix: Matrix::new(weights, bias, precision, level), activation }
    }

    /// Values of a row that comes out.
    pub(in super::super) fn outputs(&self) -> usize {
        self.matrix.outputs
    }

    /// A row of outputs in `out` for each row of inputs in `values`.
    pub(in super::super) fn apply(&self, values: &[f32], out: &mut Vec<f32>) {
        out.resize(values.len() / self.matrix.inputs * self.matrix.outputs, 0.0);
        product(values, &self.matrix, self.activation, &mut Rows::default(), out);
    }
}
