//! The decoder: token ids to the scores of what comes next.
//!
//! Products are candle's, by the quantized weights of the file (see `product`); what
//! is between them is the same for all families but for what `config` says. The models of
//! candle-transformers keep their keys to themselves, so a shared beginning could
//! not be used again, and leave out scaled frequencies, windows and Gemma's
//! activation.

use candle_core::{Device, Result as Computed, Tensor};
use candle_nn::ops::{rms_norm, silu, softmax_last_dim};

use super::cache::Cache;
use super::compute;
use super::config::{Activation, Config};
use super::gguf::Gguf;
use super::product::{Product, Threads};
use super::rope::Turns;
use crate::Result;

pub(super) struct Decoder {
    pub(super) config: Config,
    embeddings: Product,
    layers: Vec<Layer>,
    norm: Tensor,
    output: Product,
    threads: Threads,
}

struct Layer {
    attention_norm: Tensor,
    queries_keys_values: Joined,
    query_norm: Option<Tensor>,
    key_norm: Option<Tensor>,
    attention_output: Linear,
    after_attention: Option<Tensor>,
    feed_forward_norm: Tensor,
    gate_up: Joined,
    down: Linear,
    after_feed_forward: Option<Tensor>,
}

struct Linear {
    product: Product,
    bias: Option<Tensor>,
}

/// Products of the same input: one for each part, or one for all.
enum Joined {
    One(Linear, Vec<usize>),
    Each(Vec<Linear>),
}

/// The parts of a joined product: names below the layer and outputs.
type Parts<'a> = &'a [(&'a str, usize)];

impl Decoder {
    pub(super) fn load(gguf: &mut Gguf, config: Config, threads: Threads) -> Result<Decoder> {
        const EMBEDDINGS: &str = "token_embd.weight";
        let (rows, hidden) = (config.vocabulary, config.hidden);
        let embeddings = gguf.product(EMBEDDINGS, rows, hidden, &threads)?;
        let output = if gguf.has_tensor("output.weight") {
            gguf.product("output.weight", rows, hidden, &threads)?
        } else {
            embeddings.clone()
        };
        let norm = gguf.vector("output_norm.weight", hidden)?;
        let layer = |layer| Layer::load(gguf, &config, layer, &threads);
        let layers = (0..config.layers).map(layer).collect::<Result<_>>()?;
        Ok(Decoder { config, embeddings, layers, norm, output, threads })
    }

    /// Reads tokens that follow those of the cache. Returns the state of each,
    /// `[tokens, hidden]`. The ids are rows of the vocabulary.
    pub(super) fn read(&self, ids: &[u32], cache: &mut Cache) -> Result<Tensor> {
        let states = self.threads.run(|| self.states(ids, cache)).map_err(compute)?;
        cache.tokens.extend_from_slice(ids);
        Ok(states)
    }

    /// The scores of what may follow each state.
    pub(super) fn scores(&self, states: &Tensor) -> Result<Tensor> {
        let scores = || {
            let scores = self.output.forward(&self.normed(states, &self.norm)?)?;
            match self.config.logit_cap {
                Some(cap) => capped(&scores, cap),
                None => Ok(scores),
            }
        };
        self.threads.run(scores).map_err(compute)
    }

    fn normed(&self, states: &Tensor, weights: &Tensor) -> Computed<Tensor> {
        rms_norm(&states.contiguous()?, weights, self.config.epsilon)
    }

    fn states(&self, ids: &[u32], cache: &mut Cache) -> Computed<Tensor> {
        let position = cache.tokens.len();
        let mut states = self.embeddings.rows(ids)?;
        if let Some(scale) = self.config.embedding_scale {
            states = (states * scale)?;
        }
        let positions = position..position + ids.len();
        // Layers are of two sorts at most.
        let mut turns: Vec<(Option<usize>, Turns)> = Vec::new();
        for (number, layer) in self.layers.iter().enumerate() {
            let window = self.config.window(number);
            if turns.iter().all(|(of, _)| *of != window) {
                turns.push((window, self.config.rope(number).turns(positions.clone())?));
            }
            let turns = turns.iter().find(|(of, _)| *of == window).map(|(_, turns)| turns);
            let turns = turns.expect("it was made above");

            let normed = self.normed(&states, &layer.attention_norm)?;
            let attended = self.attention(layer, number, &normed, turns, cache)?;
            let attended = self.maybe_normed(attended, layer.after_attention.as_ref())?;
            states = (states + attended)?;
            let normed = self.normed(&states, &layer.feed_forward_norm)?;
            let changed = self.feed_forward(layer, &normed)?;
            let changed = self.maybe_normed(changed, layer.after_feed_forward.as_ref())?;
            states = (states + changed)?;
        }
        Ok(states)
    }

    fn maybe_normed(&self, states: Tensor, weights: Option<&Tensor>) -> Computed<Tensor> {
        match weights {
            Some(weights) => self.normed(&states, weights),
            None => Ok(states),
        }
    }

    fn attention(
        &self,
        layer: &Layer,
        number: usize,
        states: &Tensor,
        turns: &Turns,
        cache: &mut Cache,
    ) -> Computed<Tensor> {
        let Config { heads, kv_heads, head_dim, .. } = self.config;
        let (tokens, _) = states.dims2()?;
        let parts = layer.queries_keys_values.forward(states)?;
        let [queries, keys, values] = &parts[..] else { unreachable!("three parts were loaded") };

        // From a row for each token to a block for each head.
        let by_head = |part: &Tensor, heads: usize, norm: Option<&Tensor>| -> Computed<Tensor> {
            let part = self.maybe_normed(part.reshape((tokens, heads, head_dim))?, norm)?;
            part.transpose(0, 1)?.contiguous()
        };
        let queries = turns.apply(&by_head(queries, heads, layer.query_norm.as_ref())?)?;
        let keys = turns.apply(&by_head(keys, kv_heads, layer.key_norm.as_ref())?)?;
        let values = by_head(values, kv_heads, None)?;

        let position = cache.tokens.len();
        let (keys, values) = cache.extend(number, position, &keys, &values)?;
        // What the first token does not see, no later one does.
        let window = self.config.window(number);
        let first = window.map_or(0, |window| (position + 1).saturating_sub(window));
        let seen = position + tokens - first;
        let (keys, values) = (keys.narrow(1, first, seen)?, values.narrow(1, first, seen)?);

        // Heads that share keys become rows of one product.
        let rows = heads / kv_heads * tokens;
        let queries = (queries.reshape((kv_heads, rows, head_dim))? * self.config.scale)?;
        let mut scores = queries.matmul(&keys.transpose(1, 2)?)?.reshape((heads, tokens, seen))?;
        if let Some(cap) = self.config.attention_cap {
            scores = capped(&scores, cap)?;
        }
        if tokens > 1 {
            scores = scores.broadcast_add(&mask(tokens, position, first, window)?)?;
        }
        let weights = softmax_last_dim(&scores)?.reshape((kv_heads, rows, seen))?;
        let mixed = weights.matmul(&values)?.reshape((heads, tokens, head_dim))?;
        let mixed = mixed.transpose(0, 1)?.reshape((tokens, heads * head_dim))?;
        layer.attention_output.forward(&mixed)
    }

    fn feed_forward(&self, layer: &Layer, states: &Tensor) -> Computed<Tensor> {
        let parts = layer.gate_up.forward(states)?;
        let [gate, up] = &parts[..] else { unreachable!("two parts were loaded") };
        let gate = match self.config.activation {
            Activation::Silu => silu(gate)?,
            Activation::Gelu => gate.gelu()?,
        };
        layer.down.forward(&(gate * up)?)
    }
}

impl Layer {
    fn load(gguf: &mut Gguf, config: &Config, number: usize, threads: &Threads) -> Result<Layer> {
        let name = |part: &str| format!("blk.{number}.{part}.weight");
        let prefix = format!("blk.{number}.");
        let Config { hidden, heads, kv_heads, head_dim, feed_forward, .. } = *config;
        let (queries, keys) = (heads.saturating_mul(head_dim), kv_heads.saturating_mul(head_dim));
        let attention = [("attn_q", queries), ("attn_k", keys), ("attn_v", keys)];
        // Joined, the gate comes first and the product is called `up`.
        let gate_up = [("ffn_gate", feed_forward), ("ffn_up", feed_forward)];
        let joined_up = if gguf.has_tensor(&name("ffn_gate")) { "" } else { "ffn_up" };
        Ok(Layer {
            attention_norm: gguf.vector(&name("attn_norm"), hidden)?,
            queries_keys_values: Joined::load(gguf, &prefix, "attn_qkv", &attention, hidden, threads)?,
            query_norm: gguf.optional_vector(&name("attn_q_norm"), head_dim)?,
            key_norm: gguf.optional_vector(&name("attn_k_norm"), head_dim)?,
            attention_output: Linear::load(gguf, &prefix, "attn_output", hidden, queries, threads)?,
            after_attention: gguf.optional_vector(&name("post_attention_norm"), hidden)?,
            feed_forward_norm: gguf.vector(&name("ffn_norm"), hidden)?,
            gate_up: Joined::load(gguf, &prefix, joined_up, &gate_up, hidden, threads)?,
            down: Linear::load(gguf, &prefix, "ffn_down", hidden, feed_forward, threads)?,
            after_feed_forward: gguf.optional_vector(&name("post_ffw_norm"), hidden)?,
        })
    }
}

impl Linear {
    fn load(
        gguf: &mut Gguf,
        prefix: &str,
        name: &str,
        outputs: usize,
        inputs: usize,
        threads: &Threads,
    ) -> Result<Linear> {
        let product = gguf.product(&format!("{prefix}{name}.weight"), outputs, inputs, threads)?;
        let bias = gguf.optional_vector(&format!("{prefix}{name}.bias"), outputs)?;
        Ok(Linear { product, bias })
    }

    fn forward(&self, inputs: &Tensor) -> Computed<Tensor> {
        let outputs = self.product.forward(inputs)?;
        match &self.bias {
            Some(bias) => outputs.broadcast_add(bias),
            None => Ok(outputs),
        }
    }
}

impl Joined {
    /// The product called `joined` if there is one, otherwise one for each part.
    fn load(
        gguf: &mut Gguf,
        prefix: &str,
        joined: &str,
        parts: Parts<'_>,
        inputs: usize,
        threads: &Threads,
    ) -> Result<Joined> {
        let outputs: Vec<usize> = parts.iter().map(|(_, outputs)| *outputs).collect();
        if gguf.has_tensor(&format!("{prefix}{joined}.weight")) {
            let all = outputs.iter().fold(0usize, |all, &outputs| all.saturating_add(outputs));
            let one = Linear::load(gguf, prefix, joined, all, inputs, threads)?;
            return Ok(Joined::One(one, outputs));
        }
        let each =
            |(name, outputs): &(&str, usize)| Linear::load(gguf, prefix, name, *outputs, inputs, threads);
        Ok(Joined::Each(parts.iter().map(each).collect::<Result<_>>()?))
    }

    fn forward(&self, inputs: &Tensor) -> Computed<Vec<Tensor>> {
        match self {
            Joined::Each(each) => each.iter().map(|linear| linear.forward(inputs)).collect(),
            Joined::One(linear, parts) => {
                let all = linear.forward(inputs)?;
                let mut begin = 0;
                let part = |&outputs: &usize| {
                    begin += outputs;
                    all.narrow(1, begin - outputs, outputs)?.contiguous()
                };
                parts.iter().map(part).collect()
            }
        }
    }
}

/// Bounds values softly from both sides.
fn capped(values: &Tensor, cap: f64) -> Computed<Tensor> {
    (values / cap)?.tanh()? * cap
}

/// What is added to the scores of `tokens` that begin at `position`, for keys
/// from `first` on: nothing, or minus infinity for later tokens and those out of
/// the window.
fn mask(tokens: usize, position: usize, first: usize, window: Option<usize>) -> Computed<Tensor> {
    let keys = first..position + tokens;
    let shape = (tokens, keys.len());
    let hidden = |at: usize, key: usize| key > at || window.is_some_and(|window| key + window <= at);
    let value = |at, key| if hidden(at, key) { f32::NEG_INFINITY } else { 0.0 };
    let values = (position..position + tokens).flat_map(|at| keys.clone().map(move |key| value(at, key)));
    Tensor::from_vec(values.collect(), shape, &Device::Cpu)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_sees_those_before_it_within_its_window() {
        let seen = |window| {
            let rows = mask(3, 2, 1, window).unwrap().to_vec2::<f32>().unwrap();
            let row =
                |row: &Vec<f32>| row.iter().map(|&x| if x == 0.0 { '+' } else { '.' }).collect::<String>();
            rows.iter().map(row).collect::<Vec<_>>()
        };
        assert_eq!(seen(None), ["++..", "+++.", "++++"]);
        assert_eq!(seen(Some(2)), ["++..", ".++.", "..++"]);
    }
}
