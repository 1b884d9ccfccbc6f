//! What a GGUF file says about the shape of its decoder.
//!
//! The families differ in few things: how positions turn queries and keys, the
//! activation, whether the embeddings are scaled, and which layers see only a
//! window. What shows in the tensors themselves (biases, norms of heads, norms
//! behind a block, joined products) is looked up there, not told from the name.

use super::gguf::Gguf;
use super::rope::Rope;
use crate::Result;

const SUPPORTED: &str = "llama (Llama, Mistral, SmolLM and others of that shape), qwen2, qwen3, phi3, gemma, \
    gemma2, gemma3";

/// Numbers of a head at most, far more than any model has.
const WIDEST: usize = 1 << 16;

/// The architectures that run here.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Family {
    Llama,
    Qwen2,
    Qwen3,
    Phi3,
    Gemma,
    Gemma2,
    Gemma3,
}

impl Family {
    fn of(name: &str) -> Option<Family> {
        Some(match name {
            "llama" => Family::Llama,
            "qwen2" => Family::Qwen2,
            "qwen3" => Family::Qwen3,
            "phi3" => Family::Phi3,
            "gemma" => Family::Gemma,
            "gemma2" => Family::Gemma2,
            "gemma3" => Family::Gemma3,
            _ => return None,
        })
    }

    fn is_gemma(self) -> bool {
        matches!(self, Family::Gemma | Family::Gemma2 | Family::Gemma3)
    }

    /// Of so many layers, the last sees everything and the others a window.
    fn layers_a_full_one(self) -> usize {
        match self {
            Family::Gemma2 => 2,
            Family::Gemma3 => 6,
            _ => usize::MAX,
        }
    }
}

/// The function between the two products of a feed-forward block.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Activation {
    Silu,
    /// GELU by its approximation with a hyperbolic tangent.
    Gelu,
}

#[derive(Debug)]
pub(super) struct Config {
    pub(super) architecture: String,
    pub(super) layers: usize,
    pub(super) hidden: usize,
    pub(super) heads: usize,
    pub(super) kv_heads: usize,
    pub(super) head_dim: usize,
    pub(super) feed_forward: usize,
    /// Rows of the embedding table.
    pub(super) vocabulary: usize,
    /// Positions that the model was made for, and those of them that are used.
    pub(super) trained: usize,
    pub(super) context: usize,
    pub(super) epsilon: f32,
    pub(super) activation: Activation,
    /// What queries are multiplied by before they meet the keys.
    pub(super) scale: f64,
    pub(super) embedding_scale: Option<f64>,
    /// Bounds of attention scores and of logits, from both sides.
    pub(super) attention_cap: Option<f64>,
    pub(super) logit_cap: Option<f64>,
    window: Option<usize>,
    layers_a_full_one: usize,
    rope: Rope,
    /// How positions turn in layers that see only a window.
    local_rope: Rope,
}

impl Config {
    /// Reads the fields of a file; `wanted` positions are to be used, 0 for all
    /// that the model was made for.
    pub(super) fn read(gguf: &mut Gguf, wanted: usize) -> Result<Config> {
        const ARCHITECTURE: &str = "general.architecture";
        let architecture = gguf.text(ARCHITECTURE)?.to_owned();
        let Some(family) = Family::of(&architecture) else {
            return Err(gguf.unsupported(ARCHITECTURE, architecture, SUPPORTED));
        };
        let key = |name: &str| format!("{architecture}.{name}");
        let experts = key("expert_count");
        if let Some(count @ 1..) = gguf.optional_count(&experts)? {
            return Err(gguf.unsupported(&experts, count.to_string(), "models without experts"));
        }

        let hidden = gguf.count(&key("embedding_length"))?;
        let heads = gguf.count(&key("attention.head_count"))?;
        let kv_field = key("attention.head_count_kv");
        let kv_heads = gguf.optional_count(&kv_field)?.filter(|&count| count > 0).unwrap_or(heads);
        if heads % kv_heads != 0 {
            return Err(gguf.fault(&kv_field, format!("is {kv_heads}, it must divide the {heads} heads")));
        }
        let length = key("attention.key_length");
        let head_dim = match gguf.optional_count(&length)? {
            Some(dim) => dim,
            None if hidden % heads == 0 => hidden / heads,
            None => return Err(gguf.fault(&length, "is missing")),
        };
        if head_dim % 2 != 0 || !(2..=WIDEST).contains(&head_dim) {
            let fault = format!("is {head_dim}, it must be even, from 2 to {WIDEST}");
            return Err(gguf.fault(&length, fault));
        }
        let values = key("attention.value_length");
        if let Some(dim) = gguf.optional_count(&values)?
            && dim != head_dim
        {
            return Err(gguf.unsupported(&values, dim.to_string(), "values as long as keys"));
        }
        let layers = gguf.count(&key("block_count"))?;
        let trained = gguf.count(&key("context_length"))?;
        let context = if wanted == 0 { trained } else { wanted.min(trained) };
        let window = gguf.optional_count(&key("attention.sliding_window"))?.filter(|&window| window > 0);
        let windowed = matches!(family, Family::Phi3 | Family::Gemma2 | Family::Gemma3);
        let cap = |name: &str, usual: f64| -> Result<Option<f64>> {
            let given = gguf.optional_number(&key(name))?.filter(|&cap| cap > 0.0);
            Ok(if family == Family::Gemma2 { given.or(Some(usual)) } else { None })
        };
        let (attention_cap, logit_cap) =
            (cap("attn_logit_softcapping", 50.0)?, cap("final_logit_softcapping", 30.0)?);
        // The largest Gemmas scale by the width of a head as if it were not set.
        let per_head = match family {
            Family::Gemma2 if layers == 46 => hidden / heads,
            Family::Gemma3 if layers == 62 => hidden / heads,
            _ => head_dim,
        };
        let feed_forward = gguf.count(&key("feed_forward_length"))?;
        let epsilon = gguf.number(&key("attention.layer_norm_rms_epsilon"))? as f32;
        let vocabulary = gguf.shape("token_embd.weight")?.first().copied().unwrap_or(0);

        let turns_halves = family != Family::Llama;
        let rope = Rope::read(gguf, &architecture, head_dim, turns_halves, trained, context)?;
        let local_rope = match family {
            Family::Gemma3 => {
                let base = gguf.optional_number(&key("rope.freq_base_swa"))?;
                Rope::plain(head_dim, base.unwrap_or(10_000.0), turns_halves)
            }
            _ => rope.clone(),
        };
        Ok(Config {
            layers,
            hidden,
            heads,
            kv_heads,
            head_dim,
            feed_forward,
            vocabulary,
            trained,
            context,
            epsilon,
            activation: if family.is_gemma() { Activation::Gelu } else { Activation::Silu },
            scale: 1.0 / (per_head as f64).sqrt(),
            embedding_scale: family.is_gemma().then(|| (hidden as f64).sqrt()),
            attention_cap,
            logit_cap,
            window: window.filter(|_| windowed),
            layers_a_full_one: family.layers_a_full_one(),
            rope,
            local_rope,
            architecture,
        })
    }

    /// How many positions back a layer sees, itself included; all when none.
    pub(super) fn window(&self, layer: usize) -> Option<usize> {
        self.window.filter(|_| !(layer + 1).is_multiple_of(self.layers_a_full_one))
    }

    pub(super) fn rope(&self, layer: usize) -> &Rope {
        if self.window(layer).is_some() { &self.local_rope } else { &self.rope }
    }
}
