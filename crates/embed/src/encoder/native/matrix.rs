//! The weights of a linear layer, packed once for the kernels.
//!
//! Outputs go in panels of [`WIDTH`] columns; a panel is a row of words for
//! each step along the inputs. A word is one f32, two bfloat16 or four 8-bit
//! integers, which is what an instruction multiplies and adds into one sum.
//! The padding of a panel is zero.

use super::level::{Instructions, Precision};
use super::rows::{Format, bf16, bf16_value};

/// Columns of a panel: two registers of 16 lanes.
pub(super) const WIDTH: usize = 32;

/// Steps that a tile takes at a time.
pub(super) const PIECE: usize = 16;

/// Sixteen words on one cache line, so that no load crosses two.
#[derive(Clone, Copy)]
#[repr(C, align(64))]
pub(super) struct Line(pub(super) [u32; 16]);

pub(super) fn lines(words: usize) -> Vec<Line> {
    vec![Line([0; 16]); words.div_ceil(16)]
}

/// A matrix of `outputs` times `inputs` weights, with a bias for each output.
pub(super) struct Matrix {
    pub(super) inputs: usize,
    pub(super) outputs: usize,
    pub(super) precision: Precision,
    pub(super) format: Format,
    pub(super) level: Instructions,
    /// Panel by panel; for the portable level row by row instead.
    pub(super) words: Vec<Line>,
    /// One for each column of each panel.
    pub(super) bias: Vec<f32>,
    /// What an integer weight of the column stands for.
    pub(super) scale: Vec<f32>,
    /// The sum of the column's integer weights.
    pub(super) sums: Vec<i32>,
}

impl Matrix {
    /// Packs `weights`, a row of `inputs` for each output.
    pub(super) fn new(weights: &[f32], bias: &[f32], precision: Precision, level: Instructions) -> Matrix {
        let outputs = bias.len();
        let inputs = weights.len() / outputs.max(1);
        let format = Format::of(precision, level);
        let padded = outputs.next_multiple_of(WIDTH);
        let mut matrix = Matrix {
            inputs,
            outputs,
            precision,
            format,
            level,
            words: Vec::new(),
            bias: bias.to_vec(),
            scale: vec![1.0; padded],
            sums: vec![0; padded],
        };
        matrix.bias.resize(padded, 0.0);
        let rounded = matrix.rounded(weights);
        matrix.words = if level == Instructions::Portable {
            let mut plain = lines(outputs * inputs);
            for (into, &x) in words_mut(&mut plain).iter_mut().zip(&*rounded) {
                *into = x.to_bits();
            }
            plain
        } else {
            matrix.panels(&rounded)
        };
        matrix
    }

    /// The steps along the inputs. Tiles take them in pieces, filled up with zeros.
    pub(super) fn steps(&self) -> usize {
        let steps = self.inputs.div_ceil(self.format.per_word());
        match self.format {
            Format::Bf16 | Format::Int8 if self.level >= Instructions::Amx => steps.next_multiple_of(PIECE),
            _ => steps,
        }
    }

    /// The weights as the precision keeps them; of integers the integers.
    fn rounded<'a>(&mut self, weights: &'a [f32]) -> std::borrow::Cow<'a, [f32]> {
        match self.precision {
            Precision::Bf16 => weights.iter().map(|&x| bf16_value(x)).collect(),
            Precision::Int8 => {
                let mut all = Vec::with_capacity(weights.len());
                for (output, row) in weights.chunks_exact(self.inputs.max(1)).enumerate() {
                    let scale = best_scale(row);
                    self.scale[output] = scale;
                    let mut sum = 0;
                    all.extend(row.iter().map(|x| {
                        let whole = (x / scale).round().clamp(-127.0, 127.0);
                        sum += whole as i32;
                        whole
                    }));
                    self.sums[output] = sum;
                }
                all.into()
            }
            Precision::Auto | Precision::F32 | Precision::F16 => weights.into(),
        }
    }

    fn panels(&self, weights: &[f32]) -> Vec<Line> {
        let (steps, per) = (self.steps(), self.format.per_word());
        let mut packed = lines(self.outputs.div_ceil(WIDTH) * steps * WIDTH);
        let words = words_mut(&mut packed);
        for (output, row) in weights.chunks_exact(self.inputs.max(1)).enumerate() {
            let panel = &mut words[output / WIDTH * steps * WIDTH..];
            for (step, values) in row.chunks(per).enumerate() {
                panel[step * WIDTH + output % WIDTH] = self.format.word(values);
            }
        }
        packed
    }
}

/// The scale that loses least of a row: clipping a lone large weight can be
/// worth it, since all others are then kept more finely.
fn best_scale(row: &[f32]) -> f32 {
    let most = row.iter().fold(0.0f32, |most, x| most.max(x.abs()));
    if !row.iter().all(|x| x.is_finite()) {
        return f32::NAN; // The check of the vectors must see it.
    }
    if most == 0.0 {
        return 1.0;
    }
    let loss = |scale: f32| -> f32 {
        let inverse = 1.0 / scale;
        row.iter()
            .map(|x| {
                // Adding 1.5 * 2^23 rounds to an integer.
                let whole = (x * inverse).clamp(-127.0, 127.0) + 12_582_912.0 - 12_582_912.0;
                let lost = x - whole * scale;
                lost * lost
            })
            .sum()
    };
    let scales = (0..8).map(|step| most / 127.0 * (1.0 - 0.04 * step as f32));
    let best = scales.map(|scale| (loss(scale), scale)).min_by(|a, b| a.0.total_cmp(&b.0));
    best.map_or(most / 127.0, |(_, scale)| scale)
}

/// The words of some lines.
#[allow(unsafe_code)] // A view of the same bytes.
pub(super) fn words_mut(lines: &mut [Line]) -> &mut [u32] {
    // SAFETY: a line is sixteen words without padding, and aligned for them.
    unsafe { std::slice::from_raw_parts_mut(lines.as_mut_ptr().cast(), lines.len() * 16) }
}

/// The words of some lines.
#[allow(unsafe_code)] // A view of the same bytes.
pub(super) fn words(lines: &[Line]) -> &[u32] {
    // SAFETY: as above.
    unsafe { std::slice::from_raw_parts(lines.as_ptr().cast(), lines.len() * 16) }
}

/// A bfloat16 pair as one word, the first in the low half.
pub(super) fn pair(low: f32, high: f32) -> u32 {
    u32::from(bf16(low)) | u32::from(bf16(high)) << 16
}
