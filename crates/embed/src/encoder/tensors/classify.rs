//! The heads of sequence classification, on a device.

use candle_core::Tensor;

use super::super::classifier::{Between, Classifier};
use super::super::device::Place;
use super::super::heads::Layer as _;
use super::super::kernels::Activation;
use super::linear::Linear;
use crate::Result;

pub(in super::super) struct Classify {
    dense: Linear,
    between: Between,
    out: Linear,
}

impl Classify {
    pub(super) fn on(classifier: &Classifier, place: &Place) -> Result<Classify> {
        let [(weight, bias), (out_weight, out_bias)] = classifier.maps();
        let relu = (classifier.between() == Between::Relu).then_some(Activation::Relu);
        Ok(Classify {
            dense: Linear::on(weight, bias, relu, place)?,
            between: classifier.between(),
            out: Linear::on(out_weight, out_bias, None, place)?,
        })
    }

    pub(super) fn labels(&self) -> usize {
        self.out.outputs()
    }

    /// The logits of texts with these states of their first tokens.
    pub(super) fn forward(&self, first: &Tensor) -> candle_core::Result<Tensor> {
        let mut rows = self.dense.forward(first)?;
        if self.between == Between::Tanh {
            rows = rows.tanh()?;
        }
        self.out.forward(&rows)
    }
}
