//! The heads of sequence classification: from the state of a text's first
//! token to a number for each label.

use std::collections::BTreeMap;
use std::path::Path;

use serde::Deserialize;

use super::architecture::{Architecture, Family, unsupported};
use super::files::read_required;
use super::weights::Weights;
use crate::Result;

/// Two linear maps with a function between them.
pub(super) struct Classifier {
    dense: Linear,
    between: Between,
    out: Linear,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Between {
    Tanh,
    Relu,
}

struct Linear {
    /// A row for each output.
    weight: Vec<f32>,
    bias: Vec<f32>,
}

impl Classifier {
    /// Loads the head of a model with so many labels. `weights` are those of
    /// the whole model.
    pub(super) fn load(weights: &Weights, of: &Architecture, labels: usize) -> Result<Classifier> {
        let (dense, between, out) = match of.family {
            Family::Bert => ("bert.pooler.dense", Between::Tanh, "classifier"),
            Family::Roberta | Family::MpNet => ("classifier.dense", Between::Tanh, "classifier.out_proj"),
            Family::DistilBert => ("pre_classifier", Between::Relu, "classifier"),
            Family::Nomic | Family::ModernBert | Family::Gte | Family::Qwen => {
                let supported =
                    "for sequence classification: bert, roberta, xlm-roberta, camembert, distilbert";
                return Err(unsupported("model_type", of.family.name().into(), supported));
            }
        };
        let hidden = of.config.hidden;
        Ok(Classifier {
            dense: Linear::load(weights, dense, hidden, hidden)?,
            between,
            out: Linear::load(weights, out, hidden, labels)?,
        })
    }

    pub(super) fn labels(&self) -> usize {
        self.out.bias.len()
    }

    /// The weights and biases of both maps.
    pub(super) fn maps(&self) -> [(&[f32], &[f32]); 2] {
        [&self.dense, &self.out].map(|linear| (&linear.weight[..], &linear.bias[..]))
    }

    /// The function between them.
    pub(super) fn between(&self) -> Between {
        self.between
    }

    /// The logits for a text with these states, `hidden` values per token.
    pub(super) fn apply(&self, rows: &[f32], hidden: usize) -> Vec<f32> {
        let mut state = self.dense.apply(&rows[..hidden]);
        for x in &mut state {
            *x = match self.between {
                Between::Tanh => x.tanh(),
                // `max` would turn what is not a number into 0.
                Between::Relu if *x < 0.0 => 0.0,
                Between::Relu => *x,
            };
        }
        self.out.apply(&state)
    }
}

impl Linear {
    fn load(weights: &Weights, name: &str, from: usize, to: usize) -> Result<Linear> {
        Ok(Linear {
            weight: weights.values(&format!("{name}.weight"), &[to, from])?,
            bias: weights.values(&format!("{name}.bias"), &[to])?,
        })
    }

    fn apply(&self, x: &[f32]) -> Vec<f32> {
        let rows = self.weight.chunks_exact(x.len()).zip(&self.bias);
        rows.map(|(row, bias)| dot(row, x) + bias).collect()
    }
}

/// In partial sums: a float sum in one variable cannot be vectorised.
fn dot(a: &[f32], b: &[f32]) -> f32 {
    let mut sums = [0.0; 16];
    let (chunks, others) = (a.chunks_exact(16), b.chunks_exact(16));
    let rest: f32 = chunks.remainder().iter().zip(others.remainder()).map(|(a, b)| a * b).sum();
    for (a, b) in chunks.zip(others) {
        for (sum, (a, b)) in sums.iter_mut().zip(a.iter().zip(b)) {
            *sum += a * b;
        }
    }
    rest + sums.iter().sum::<f32>()
}

/// The labels of a model's `config.json`, in the order of its numbers.
pub(super) fn labels(folder: &Path) -> Result<Vec<String>> {
    #[derive(Deserialize)]
    struct Head {
        architectures: Option<Vec<String>>,
        id2label: Option<BTreeMap<String, String>>,
        num_labels: Option<usize>,
    }
    let config: Head = read_required(folder, "config.json")?;
    let architectures = config.architectures.unwrap_or_default();
    if !architectures.is_empty() && !architectures.iter().any(|name| classifies(name)) {
        let supported = "a model for sequence classification, such as BertForSequenceClassification";
        return Err(unsupported("architectures", architectures.join(", "), supported));
    }
    let Some(names) = config.id2label else {
        // What the reference takes when nothing is said.
        let count = config.num_labels.unwrap_or(2);
        return Ok((0..count).map(|label| format!("LABEL_{label}")).collect());
    };
    let numbered = |(at, name): (&String, &String)| Some((at.parse::<usize>().ok()?, name.clone()));
    let mut numbered: Vec<(usize, String)> = names.iter().filter_map(numbered).collect();
    numbered.sort();
    if numbered.len() != names.len() || numbered.iter().enumerate().any(|(at, one)| one.0 != at) {
        let value = names.into_keys().collect::<Vec<_>>().join(", ");
        return Err(unsupported("id2label with the numbers", value, "0, 1, 2 and so on"));
    }
    Ok(numbered.into_iter().map(|(_, name)| name).collect())
}

/// Whether this is the name of an architecture with a classification head.
pub(crate) fn classifies(architecture: &str) -> bool {
    architecture.ends_with("ForSequenceClassification")
}
