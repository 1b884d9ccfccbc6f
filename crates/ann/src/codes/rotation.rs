//! A random rotation, made of sign flips and Hadamard transforms.
//!
//! It spreads every vector's length evenly over all values, so that few bits a
//! value suffice whatever the data: a direction that dominates is gone. Lengths
//! and products stay as they were. The signs are the same for every graph of a
//! dimension, so they are not stored.
//!
//! The transform needs a power of two; other lengths take it over their
//! beginning and their end in turn, and mix both halves in between (a step of
//! Kac's walk), as the FHT-Kac rotation of the RaBitQ library does.

#![allow(clippy::inline_always)] // Parts of loops that are compiled per instruction set.

use crate::simd::{Portable, Simd};

/// Transforms per rotation. With 4, a vector of a single value ends as evenly
/// spread as a random one.
const ROUNDS: usize = 4;
/// Bits of the signs are those of this generator.
const SEED: u64 = 0x9e37_79b9_7f4a_7c15;

/// A rotation of vectors with `dim` values, a multiple of 64.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Rotation {
    /// 1 or -1, scaled by what the transform of the round multiplies by.
    signs: [Vec<f32>; ROUNDS],
    /// The largest power of two within `dim`.
    block: usize,
}

impl Rotation {
    pub(crate) fn new(dim: usize) -> Self {
        let block = 1 << dim.ilog2();
        let mut state = SEED ^ dim as u64;
        let mut sign = || {
            // SplitMix64.
            state = state.wrapping_add(SEED);
            let mut bits = (state ^ (state >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
            bits = (bits ^ (bits >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
            if (bits ^ (bits >> 31)) >> 63 == 0 { 1.0 } else { -1.0 }
        };
        let signs = std::array::from_fn(|_| (0..dim).map(|_| sign()).collect());
        Self { signs, block }
    }

    /// Turns what was rotated back, in place.
    pub(crate) fn undo(&self, values: &mut [f32]) {
        let (dim, block) = (values.len(), self.block);
        let scale = (block as f32).sqrt().recip();
        // Each step undoes itself.
        for (round, signs) in self.signs.iter().enumerate().rev() {
            if block < dim {
                mix_halves(values);
            }
            let start = if round % 2 == 0 { 0 } else { dim - block };
            let window = &mut values[start..start + block];
            hadamard::<Portable>(window);
            window.iter_mut().for_each(|value| *value *= scale);
            values.iter_mut().zip(signs).for_each(|(value, sign)| *value *= sign);
        }
    }

    /// Rotates in place.
    #[inline(always)]
    pub(crate) fn apply<S: Simd>(&self, values: &mut [f32]) {
        let (dim, block) = (values.len(), self.block);
        let scale = (block as f32).sqrt().recip();
        for (round, signs) in self.signs.iter().enumerate() {
            values.iter_mut().zip(signs).for_each(|(value, sign)| *value *= sign);
            let start = if round % 2 == 0 { 0 } else { dim - block };
            let window = &mut values[start..start + block];
            hadamard::<S>(window);
            window.iter_mut().for_each(|value| *value *= scale);
            if block < dim {
                mix_halves(values);
            }
        }
    }
}

/// The Walsh-Hadamard transform, not normalised; the length is a power of two
/// and at least 64.
#[inline(always)]
fn hadamard<S: Simd>(values: &mut [f32]) {
    values.as_chunks_mut().0.iter_mut().for_each(S::hadamard_16);
    let mut half = 16;
    while half < values.len() {
        for pair in values.chunks_exact_mut(2 * half) {
            let (low, high) = pair.split_at_mut(half);
            for (a, b) in low.iter_mut().zip(high) {
                (*a, *b) = (*a + *b, *a - *b);
            }
        }
        half *= 2;
    }
}

/// Sums and differences of both halves, at the length they had.
#[inline(always)]
fn mix_halves(values: &mut [f32]) {
    let (low, high) = values.split_at_mut(values.len() / 2);
    for (a, b) in low.iter_mut().zip(high) {
        let (sum, difference) = (*a + *b, *a - *b);
        (*a, *b) = (sum * std::f32::consts::FRAC_1_SQRT_2, difference * std::f32::consts::FRAC_1_SQRT_2);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rand::{Rng, SeedableRng, rngs::StdRng};

    fn dot(a: &[f32], b: &[f32]) -> f64 {
        a.iter().zip(b).map(|(&x, &y)| f64::from(x) * f64::from(y)).sum()
    }

    #[test]
    fn products_survive_a_rotation_in_every_dimension() {
        let mut random = StdRng::seed_from_u64(5);
        for dim in (1..=24).map(|lines| 64 * lines).chain([4096, 65_536]) {
            let rotation = Rotation::new(dim);
            let mut a: Vec<f32> = (0..dim).map(|_| random.random_range(-1.0..1.0)).collect();
            let mut b: Vec<f32> = (0..dim).map(|_| random.random_range(-1.0..1.0)).collect();
            let before = [dot(&a, &b), dot(&a, &a)];
            rotation.apply::<Portable>(&mut a);
            rotation.apply::<Portable>(&mut b);
            let after = [dot(&a, &b), dot(&a, &a)];
            for (before, after) in before.into_iter().zip(after) {
                assert!((before - after).abs() < 1e-4 * dim as f64, "{dim}: {before} became {after}");
            }
        }
    }

    #[test]
    fn a_rotation_is_undone_in_every_dimension() {
        let mut random = StdRng::seed_from_u64(6);
        for dim in (1..=24).map(|lines| 64 * lines).chain([4096]) {
            let values: Vec<f32> = (0..dim).map(|_| random.random_range(-1.0..1.0)).collect();
            let mut turned = values.clone();
            let rotation = Rotation::new(dim);
            rotation.apply::<Portable>(&mut turned);
            assert!(turned.iter().zip(&values).any(|(a, b)| (a - b).abs() > 0.1), "{dim}");
            rotation.undo(&mut turned);
            assert!(turned.iter().zip(&values).all(|(a, b)| (a - b).abs() < 1e-4), "{dim}");
        }
    }

    #[test]
    fn a_single_value_is_spread_over_all() {
        for dim in [64, 128, 192, 320, 384, 448, 768, 960, 1088, 1536] {
            let rotation = Rotation::new(dim);
            for at in [0, 1, dim / 2, dim - 1] {
                let mut values = vec![0.0; dim];
                values[at] = 1.0;
                rotation.apply::<Portable>(&mut values);
                let largest = values.iter().fold(0f32, |largest, value| largest.max(value.abs()));
                // A Gaussian vector of this length has its largest at about 3.5.
                assert!(largest * (dim as f32).sqrt() < 6.0, "{dim}: {largest} from {at}");
            }
        }
    }
}
