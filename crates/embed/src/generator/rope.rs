//! Positions as turns of queries and keys (rotary embeddings).
//!
//! Frequencies are worked out once, in double precision, with the scaling the
//! file asks for: none, linear, YaRN, or a divisor for each frequency (Llama 3,
//! LongRoPE of Phi). The tables of cosines are made for the positions at hand.

use std::f64::consts::PI;
use std::ops::Range;

use candle_core::{Device, Result as Computed, Tensor};
use candle_nn::rotary_emb;

use super::gguf::Gguf;
use crate::Result;

/// YaRN: turns within the trained context from which on a frequency is kept,
/// and below which it is wholly interpolated.
const FAST: f64 = 32.0;
const SLOW: f64 = 1.0;

#[derive(Debug, Clone, PartialEq)]
pub(super) struct Rope {
    /// Radians a position, one for each pair of numbers that turns.
    frequencies: Vec<f32>,
    /// What cosines and sines are multiplied by.
    factor: f64,
    /// Whether number `i` turns with `i + dim/2`; otherwise with `i + 1`.
    halves: bool,
}

/// The cosines and sines of some positions.
pub(super) struct Turns {
    cos: Tensor,
    sin: Tensor,
    halves: bool,
}

impl Rope {
    /// Turns without scaling.
    pub(super) fn plain(dim: usize, base: f64, halves: bool) -> Rope {
        Rope { frequencies: frequencies(dim, base), factor: 1.0, halves }
    }

    /// The turns a file asks for, of heads with `head_dim` numbers. `trained`
    /// positions are what the file says the model reads, `positions` the most
    /// that will be used.
    pub(super) fn read(
        gguf: &mut Gguf,
        architecture: &str,
        head_dim: usize,
        halves: bool,
        trained: usize,
        positions: usize,
    ) -> Result<Rope> {
        let key = |name: &str| format!("{architecture}.rope.{name}");
        let field = key("dimension_count");
        let dim = gguf.optional_count(&field)?.unwrap_or(head_dim);
        if dim == 0 || dim % 2 != 0 || dim > head_dim {
            return Err(gguf.fault(&field, format!("is {dim}, it must be even, and {head_dim} at most")));
        }
        let base = gguf.optional_number(&key("freq_base"))?.unwrap_or(10_000.0);
        let mut rope = Rope::plain(dim, base, halves);
        let original = gguf.optional_count(&key("scaling.original_context_length"))?.unwrap_or(trained);
        let by = gguf.optional_number(&key("scaling.factor"))?.filter(|&by| by > 0.0).unwrap_or(1.0);
        let method = key("scaling.type");
        let attention = gguf.optional_number(&key("scaling.attn_factor"))?;
        match gguf.optional_text(&method)? {
            None | Some("none" | "longrope") => rope.factor = attention.unwrap_or(1.0),
            Some("linear") => rope.frequencies.iter_mut().for_each(|frequency| *frequency /= by as f32),
            Some("yarn") => {
                rope.frequencies = yarn(dim, base, by, original);
                rope.factor = attention.unwrap_or(1.0) * (0.1 * by.ln() + 1.0);
            }
            Some(other) => {
                let other = other.to_owned();
                return Err(gguf.unsupported(&method, other, "none, linear, yarn, longrope"));
            }
        }
        // LongRoPE has a set of divisors for contexts beyond the first one.
        let set = if positions > original { "rope_factors_long.weight" } else { "rope_factors_short.weight" };
        for name in [set, "rope_freqs.weight"] {
            if let Some(divisors) = gguf.optional_vector(name, dim / 2)? {
                let divisors = divisors.to_vec1::<f32>().map_err(super::compute)?;
                rope.frequencies.iter_mut().zip(divisors).for_each(|(frequency, by)| *frequency /= by);
            }
        }
        Ok(rope)
    }

    /// Tables for positions next to each other.
    pub(super) fn turns(&self, positions: Range<usize>) -> Computed<Turns> {
        let shape = (positions.len(), self.frequencies.len());
        // The product of 32-bit floats is what models were trained with.
        let angles: Vec<f32> = positions
            .flat_map(|position| self.frequencies.iter().map(move |frequency| position as f32 * frequency))
            .collect();
        let table = |of: fn(f64) -> f64| -> Computed<Tensor> {
            let values = angles.iter().map(|&angle| (of(f64::from(angle)) * self.factor) as f32);
            Tensor::from_vec(values.collect(), shape, &Device::Cpu)
        };
        Ok(Turns { cos: table(f64::cos)?, sin: table(f64::sin)?, halves: self.halves })
    }
}

impl Turns {
    /// Turns `[heads, positions, numbers]`; numbers beyond those that turn stay.
    pub(super) fn apply(&self, heads: &Tensor) -> Computed<Tensor> {
        let (_, _, numbers) = heads.dims3()?;
        let dim = 2 * self.cos.dim(1)?;
        let turning = heads.narrow(2, 0, dim)?.contiguous()?.unsqueeze(0)?;
        let turn = if self.halves { rotary_emb::rope } else { rotary_emb::rope_i };
        let turned = turn(&turning, &self.cos, &self.sin)?.squeeze(0)?;
        if dim == numbers {
            return Ok(turned);
        }
        Tensor::cat(&[&turned, &heads.narrow(2, dim, numbers - dim)?], 2)
    }
}

fn frequencies(dim: usize, base: f64) -> Vec<f32> {
    (0..dim / 2).map(|pair| (1.0 / base.powf(2.0 * pair as f64 / dim as f64)) as f32).collect()
}

/// Low frequencies are divided by `by`, high ones kept, those between mixed.
fn yarn(dim: usize, base: f64, by: f64, original: usize) -> Vec<f32> {
    // The pair that turns so often within the original context.
    let pair = |turns: f64| dim as f64 * (original as f64 / (turns * 2.0 * PI)).ln() / (2.0 * base.ln());
    let low = pair(FAST).floor().max(0.0);
    let high = pair(SLOW).ceil().min(dim as f64 - 1.0);
    let width = (high - low).max(0.001);
    (0..dim / 2)
        .map(|pair| {
            let frequency = 1.0 / base.powf(2.0 * pair as f64 / dim as f64);
            let interpolated = ((pair as f64 - low) / width).clamp(0.0, 1.0);
            (frequency / by * interpolated + frequency * (1.0 - interpolated)) as f32
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frequencies_fall_from_one_and_yarn_divides_the_lowest() {
        let plain = frequencies(64, 10_000.0);
        assert_eq!(plain[0], 1.0);
        assert!(plain.windows(2).all(|pair| pair[1] < pair[0]));
        let scaled = yarn(64, 10_000.0, 4.0, 4096);
        assert_eq!(scaled[0], plain[0]);
        assert!((scaled[31] * 4.0 - plain[31]).abs() < 1e-9);
    }

    #[test]
    fn the_position_zero_does_not_turn() {
        let rope = Rope::plain(4, 10_000.0, true);
        let heads = Tensor::arange(0f32, 12.0, &Device::Cpu).unwrap().reshape((1, 2, 6)).unwrap();
        let turned = rope.turns(0..2).unwrap().apply(&heads).unwrap();
        let got = turned.to_vec3::<f32>().unwrap();
        assert_eq!(got[0][0], [0.0, 1.0, 2.0, 3.0, 4.0, 5.0]);
        // 6 turns with 8 by one radian; 10 and 11 do not turn.
        let (sin, cos) = 1f32.sin_cos();
        assert!((got[0][1][0] - (6.0 * cos - 8.0 * sin)).abs() < 1e-5);
        assert!((got[0][1][2] - (6.0 * sin + 8.0 * cos)).abs() < 1e-5);
        assert_eq!(got[0][1][4..], [10.0, 11.0]);
    }
}
