//! Positions as rotations of queries and keys (RoFormer, section 3.2.2).
//!
//! The column `i` of a head and the one half a head further on are the two
//! coordinates of a point, which is turned by the position times a frequency
//! that falls with `i`. The score of two tokens then depends on their distance.

// A closure that is not inlined would be compiled for the smallest width.
#![allow(clippy::inline_always)]

use std::sync::{Arc, Mutex};

use pulp::Arch;
use serde::Deserialize;

use super::architecture::unsupported;
use super::config::Config;
use super::reach::Heads;
use super::tokens::Sequence;
use crate::Result;

/// The frequencies of a layer's rotations.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Rope {
    /// Each frequency is a power of this.
    pub(super) theta: f32,
    pub(super) scaling: Scaling,
}

/// How frequencies are changed for texts longer than those of the training.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Scaling {
    None,
    /// All are divided by this.
    Linear(f32),
    /// The base is multiplied by this, and all are divided by the root of it that
    /// the fastest needs.
    Ntk(f32),
    /// Texts of more than `trained` tokens have a larger base, which grows with
    /// their length.
    Dynamic {
        factor: f32,
        trained: usize,
    },
}

/// `rope_scaling` of a configuration.
#[derive(Deserialize)]
pub(super) struct RopeScaling {
    rope_type: Option<String>,
    /// The older name, which many files have beside the newer one.
    #[serde(rename = "type")]
    kind: Option<String>,
    factor: Option<f32>,
    mixed_b: Option<f32>,
}

/// `rope_parameters` of newer configurations.
#[derive(Deserialize)]
pub(super) struct RopeParameters {
    pub(super) rope_theta: Option<f32>,
    #[serde(flatten)]
    pub(super) scaling: RopeScaling,
}

impl Rope {
    /// What a configuration with at most `trained` positions says.
    pub(super) fn read(theta: f32, scaling: Option<&RopeScaling>, trained: usize) -> Result<Rope> {
        if !(theta > 1.0 && theta.is_finite()) {
            return Err(unsupported("rope_theta", theta.to_string(), "a number above 1"));
        }
        let Some(scaling) = scaling else {
            return Ok(Rope { theta, scaling: Scaling::None });
        };
        let kind = scaling.rope_type.as_deref().or(scaling.kind.as_deref()).unwrap_or("default");
        let factor = scaling.factor.unwrap_or(1.0);
        if !(factor >= 1.0 && factor.is_finite()) {
            return Err(unsupported("factor of rope_scaling", factor.to_string(), "a number from 1 on"));
        }
        if scaling.mixed_b.is_some() {
            return Err(unsupported("mixed_b of rope_scaling", "a number".into(), "null"));
        }
        let scaling = match kind {
            "default" => Scaling::None,
            "linear" => Scaling::Linear(factor),
            "ntk" => Scaling::Ntk(factor),
            "dynamic" => Scaling::Dynamic { factor, trained },
            other => {
                return Err(unsupported(
                    "type of rope_scaling",
                    other.into(),
                    "default, linear, ntk, dynamic",
                ));
            }
        };
        Ok(Rope { theta, scaling })
    }

    /// The same frequencies for every text.
    fn is_fixed(self) -> bool {
        !matches!(self.scaling, Scaling::Dynamic { .. })
    }

    /// The frequencies of a head with `dim` columns in a text of so many tokens.
    fn frequencies(self, dim: usize, tokens: usize) -> Vec<f32> {
        let wide = dim as f32;
        let (theta, divisor) = match self.scaling {
            Scaling::None => (self.theta, 1.0),
            Scaling::Linear(factor) => (self.theta, factor),
            Scaling::Ntk(factor) => (self.theta * factor, factor.powf(2.0 / wide)),
            Scaling::Dynamic { factor, trained } if tokens > trained && dim > 2 => {
                let longer = factor * tokens as f32 / trained as f32 - (factor - 1.0);
                (self.theta * longer.powf(wide / (wide - 2.0)), 1.0)
            }
            Scaling::Dynamic { .. } => (self.theta, 1.0),
        };
        (0..dim / 2).map(|at| 1.0 / theta.powf((2 * at) as f32 / wide) / divisor).collect()
    }
}

/// The rotations of the first positions: a cosine and a sine for each of them and
/// each half column.
pub(super) struct Turns {
    half: usize,
    cos: Vec<f32>,
    sin: Vec<f32>,
}

impl Turns {
    fn new(frequencies: &[f32], positions: usize) -> Turns {
        let angles = (0..positions).flat_map(|at| frequencies.iter().map(move |each| at as f32 * each));
        let (cos, sin) = angles.map(|angle| (angle.cos(), angle.sin())).unzip();
        Turns { half: frequencies.len(), cos, sin }
    }

    fn positions(&self) -> usize {
        self.cos.len() / self.half
    }

    /// The cosines and sines of the first `tokens` positions, row after row.
    pub(super) fn of_first(&self, tokens: usize) -> (&[f32], &[f32]) {
        let values = tokens * self.half;
        (&self.cos[..values], &self.sin[..values])
    }

    /// Turns the queries and keys of a text, a row of `heads` per token.
    pub(super) fn apply(&self, rows: &mut [f32], heads: Heads) {
        let (half, turned) = (self.half, (heads.queries + heads.keys) * heads.dim);
        assert!(2 * half == heads.dim && rows.len() / heads.wide() <= self.positions());
        Arch::new().dispatch(
            #[inline(always)]
            || {
                let turns = self.cos.chunks_exact(half).zip(self.sin.chunks_exact(half));
                for (row, (cos, sin)) in rows.chunks_exact_mut(heads.wide()).zip(turns) {
                    for head in row[..turned].chunks_exact_mut(2 * half) {
                        let (left, right) = head.split_at_mut(half);
                        let points = left.iter_mut().zip(right).zip(cos.iter().zip(sin));
                        for ((x, y), (cos, sin)) in points {
                            (*x, *y) = (*x * cos - *y * sin, *y * cos + *x * sin);
                        }
                    }
                }
            },
        );
    }
}

/// The rotations of all layers of a model.
pub(super) struct Rotary {
    dim: usize,
    kinds: Vec<Rope>,
    /// Which of them a layer has.
    layers: Vec<Option<usize>>,
    /// Those of short texts, which grow with the texts that come.
    known: Vec<Mutex<Arc<Turns>>>,
}

/// The rotations of a batch: for each kind, those of each text.
pub(super) struct BatchTurns<'a> {
    rotary: &'a Rotary,
    kinds: Vec<Vec<Arc<Turns>>>,
}

impl Rotary {
    /// Heads are of an even size if any layer turns them.
    pub(super) fn new(config: &Config) -> Rotary {
        let dim = config.heads.dim;
        let mut kinds: Vec<Rope> = Vec::new();
        let mut layers = Vec::with_capacity(config.layers);
        for layer in 0..config.layers {
            layers.push(config.sight(layer).rope.map(|rope| {
                kinds.iter().position(|kind| *kind == rope).unwrap_or_else(|| {
                    kinds.push(rope);
                    kinds.len() - 1
                })
            }));
        }
        let known = kinds.iter().map(|kind| Mutex::new(Arc::new(Turns::new(&kind.frequencies(dim, 1), 1))));
        Rotary { dim, known: known.collect(), kinds, layers }
    }

    /// The rotations for the texts of a batch.
    pub(super) fn of(&self, texts: &[&Sequence]) -> BatchTurns<'_> {
        let kind = |kind: usize| texts.iter().map(|text| self.turns(kind, text.len())).collect();
        BatchTurns { rotary: self, kinds: (0..self.kinds.len()).map(kind).collect() }
    }

    fn turns(&self, kind: usize, tokens: usize) -> Arc<Turns> {
        let rope = self.kinds[kind];
        let new = |positions| Arc::new(Turns::new(&rope.frequencies(self.dim, tokens), positions));
        if let Scaling::Dynamic { trained, .. } = rope.scaling
            && tokens > trained
        {
            return new(tokens);
        }
        let mut known = self.known[kind].lock().expect("making numbers does not panic");
        if known.positions() < tokens {
            // A text that may be longer than the training has frequencies of its
            // own, which must not be in a table for others.
            *known = new(if rope.is_fixed() { tokens.next_power_of_two() } else { tokens });
        }
        known.clone()
    }
}

impl BatchTurns<'_> {
    /// The rotations of each text for each kind that layers have.
    pub(super) fn kinds(&self) -> &[Vec<Arc<Turns>>] {
        &self.kinds
    }

    /// Which of the kinds a layer has.
    pub(super) fn kind(&self, layer: usize) -> Option<usize> {
        self.rotary.layers[layer]
    }

    /// The rotations of each text in a layer; nothing if it has none.
    pub(super) fn layer(&self, layer: usize) -> Option<&[Arc<Turns>]> {
        self.rotary.layers[layer].map(|kind| &self.kinds[kind][..])
    }
}

#[cfg(test)]
mod tests {
    use super::super::reach::Heads;
    use super::{Rope, RopeScaling, Scaling, Turns};

    fn close(found: &[f32], want: &[f32]) {
        assert_eq!(found.len(), want.len());
        assert!(found.iter().zip(want).all(|(a, b)| (a - b).abs() < 1e-6), "{found:?} {want:?}");
    }

    #[test]
    fn frequencies_fall_from_one_by_the_base() {
        let of = |scaling| Rope { theta: 100.0, scaling };
        close(&of(Scaling::None).frequencies(4, 9), &[1.0, 0.1]);
        close(&of(Scaling::Linear(4.0)).frequencies(4, 9), &[0.25, 0.025]);
        // The base is 400; the square root of 4 slows all down.
        close(&of(Scaling::Ntk(4.0)).frequencies(4, 9), &[0.5, 0.025]);
        let dynamic = of(Scaling::Dynamic { factor: 2.0, trained: 10 });
        close(&dynamic.frequencies(4, 10), &[1.0, 0.1]);
        // Three times the base, to the power 4 / (4 - 2).
        close(&dynamic.frequencies(4, 20), &[1.0, 1.0 / 30.0]);
    }

    #[test]
    fn scores_of_turned_points_depend_on_their_distance_and_values_stay() {
        let heads = Heads { queries: 1, keys: 1, dim: 4 };
        let turns = Turns::new(&[1.0, 0.1], 12);
        let row = [0.5, -1.0, 2.0, 0.25, 1.5, 0.75, -0.5, 1.0, 7.0, 8.0, 9.0, 10.0];
        let mut rows = row.repeat(12);
        turns.apply(&mut rows, heads);
        close(&rows[..12], &row);
        let score = |query: usize, key: usize| -> f32 {
            (0..4).map(|d| rows[query * 12 + d] * rows[key * 12 + 4 + d]).sum()
        };
        for distance in 0..8 {
            assert!((score(3 + distance, 3) - score(distance, 0)).abs() < 1e-5);
        }
        assert!(rows.chunks(12).all(|found| found[8..] == row[8..]));
        // The first column of a head and the third are one point.
        close(
            &[rows[12], rows[14]],
            &[0.5 * 1f32.cos() - 2.0 * 1f32.sin(), 2.0 * 1f32.cos() + 0.5 * 1f32.sin()],
        );
    }

    #[test]
    fn scalings_that_are_not_known_are_refused_by_name() {
        let read = |json: &str| {
            let scaling: RopeScaling = serde_json::from_str(json).expect("the fields are right");
            Rope::read(10.0, Some(&scaling), 64).map(|rope| rope.scaling).map_err(|error| error.to_string())
        };
        assert_eq!(read(r#"{"rope_type": "default"}"#), Ok(Scaling::None));
        assert_eq!(read(r#"{"type": "linear", "factor": 2}"#), Ok(Scaling::Linear(2.0)));
        let dynamic = Scaling::Dynamic { factor: 2.0, trained: 64 };
        assert_eq!(read(r#"{"type": "dynamic", "factor": 2}"#), Ok(dynamic));
        assert!(read(r#"{"type": "yarn", "factor": 2}"#).expect_err("refused").contains("yarn"));
        assert!(read(r#"{"type": "ntk", "factor": 0.5}"#).expect_err("refused").contains("0.5"));
        assert!(Rope::read(0.0, None, 64).is_err());
    }
}
