//! The keys and values of the tokens that a decoder has read.
//!
//! One cache belongs to one prompt at a time. It knows its tokens, so a prompt
//! that begins with the same ones goes on from there, whatever followed: what is
//! behind the shared beginning is written over.

use candle_core::{DType, Device, Result as Computed, Tensor};

/// Rows that a cache begins with.
const FIRST: usize = 128;

#[derive(Default)]
pub(super) struct Cache {
    /// What was read; each layer has a row for each of them.
    pub(super) tokens: Vec<u32>,
    layers: Vec<Layer>,
}

/// Keys and values of one layer: `[heads, rows, numbers]`, of which as many rows
/// count as there are tokens.
struct Layer {
    keys: Tensor,
    values: Tensor,
}

impl Cache {
    /// Tokens at the beginning of `prompt` that were read already.
    pub(super) fn shared(&self, prompt: &[u32]) -> usize {
        self.tokens.iter().zip(prompt).take_while(|(a, b)| a == b).count()
    }

    /// Forgets what comes after the first `len` tokens.
    pub(super) fn truncate(&mut self, len: usize) {
        self.tokens.truncate(len);
    }

    /// Puts keys and values `[heads, tokens, numbers]` behind the first
    /// `position` rows of a layer, and gives all up to there.
    pub(super) fn extend(
        &mut self,
        layer: usize,
        position: usize,
        keys: &Tensor,
        values: &Tensor,
    ) -> Computed<(Tensor, Tensor)> {
        let (heads, tokens, numbers) = keys.dims3()?;
        let rows = position + tokens;
        if layer == self.layers.len() {
            let empty = || zeros(heads, rows, numbers);
            self.layers.push(Layer { keys: empty()?, values: empty()? });
        }
        let layer = &mut self.layers[layer];
        for (kept, new) in [(&mut layer.keys, keys), (&mut layer.values, values)] {
            if kept.dim(1)? < rows {
                let larger = zeros(heads, rows, numbers)?;
                if position > 0 {
                    larger.slice_set(&kept.narrow(1, 0, position)?.contiguous()?, 1, 0)?;
                }
                *kept = larger;
            }
            kept.slice_set(&new.contiguous()?, 1, position)?;
        }
        Ok((layer.keys.narrow(1, 0, rows)?, layer.values.narrow(1, 0, rows)?))
    }
}

/// Room for `rows` and as many again, so that growing costs little.
fn zeros(heads: usize, rows: usize, numbers: usize) -> Computed<Tensor> {
    let room = rows.next_power_of_two().max(FIRST);
    Tensor::zeros((heads, room, numbers), DType::F32, &Device::Cpu)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rows(from: u32, count: usize) -> Tensor {
        Tensor::arange(from, from + count as u32, &Device::Cpu)
            .and_then(|row| row.to_dtype(DType::F32)?.reshape((1, count, 1)))
            .unwrap()
    }

    fn numbers(tensor: &Tensor) -> Vec<f32> {
        tensor.flatten_all().unwrap().to_vec1().unwrap()
    }

    #[test]
    fn rows_are_kept_while_it_grows_and_written_over_behind_a_shared_beginning() {
        let mut cache = Cache::default();
        cache.extend(0, 0, &rows(0, 100), &rows(500, 100)).unwrap();
        let (keys, values) = cache.extend(0, 100, &rows(100, 200), &rows(600, 200)).unwrap();
        assert_eq!(numbers(&keys), (0..300).map(|x| x as f32).collect::<Vec<_>>());
        assert_eq!(numbers(&values), (500..800).map(|x| x as f32).collect::<Vec<_>>());
        let (keys, _) = cache.extend(0, 2, &rows(9, 1), &rows(9, 1)).unwrap();
        assert_eq!(numbers(&keys), [0.0, 1.0, 9.0]);
    }

    #[test]
    fn a_prompt_shares_what_it_begins_with() {
        let cache = Cache { tokens: vec![1, 2, 3], ..Cache::default() };
        assert_eq!(cache.shared(&[1, 2, 4, 3]), 2);
        assert_eq!(cache.shared(&[1, 2, 3, 4]), 3);
        assert_eq!(cache.shared(&[2]), 0);
    }
}
