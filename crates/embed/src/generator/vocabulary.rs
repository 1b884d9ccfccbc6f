//! A tokenizer out of what a GGUF file says about its own.
//!
//! Two sorts are in use: `gpt2`, merges of bytes after a split by a pattern that
//! `tokenizer.ggml.pre` names, and `llama`, pieces with scores as SentencePiece
//! has them, whose merges are worked out from the scores. Both become what
//! `tokenizer.json` would say, so the same library reads them.

use std::collections::HashMap;

use serde_json::{Map, Value, json};
use tokenizers::Tokenizer;

use super::gguf::Gguf;
use crate::{Error, Result};

/// Where a space would be in a piece of SentencePiece.
const SPACE: &str = "\u{2581}";

/// Kinds of tokens, as the file numbers them.
const NORMAL: usize = 1;
const CONTROL: usize = 3;
const USER_DEFINED: usize = 4;

const PRE: &str = "tokenizer.ggml.pre";
const TOKENS: &str = "tokenizer.ggml.tokens";

const GPT2: &str = r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+";
const LLAMA3: &str = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+";
const QWEN2: &str = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+";
const TEKKEN: &str = r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+";
const GPT4O: &str = r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+(?i:'s|'t|'re|'ve|'m|'ll|'d)?|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*(?i:'s|'t|'re|'ve|'m|'ll|'d)?|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+";

/// How text is split before its bytes are merged.
struct Splits {
    /// One after the other, each within what the one before left.
    patterns: &'static [&'static str],
    composes: bool,
    /// A word that is a token as it stands is not merged from its bytes.
    whole_words: bool,
    begins: bool,
}

/// The splits by the name the file gives them.
fn splits(name: &str) -> Option<Splits> {
    let plain = |patterns| Splits { patterns, composes: false, whole_words: false, begins: false };
    Some(match name {
        "default" => plain(&[r"[\p{P}\$\+<=>\^~\|]+", GPT2, r"\p{N}+", "[0-9][0-9][0-9]"]),
        "gpt-2" | "phi-2" | "olmo" | "mpt" => plain(&[GPT2]),
        "smollm" | "starcoder" | "refact" | "codeshell" | "command-r" => plain(&[r"\p{N}", GPT2]),
        "qwen2" | "deepseek-r1-qwen" => Splits { composes: true, ..plain(&[QWEN2]) },
        "llama3" | "llama-v3" | "llama-bpe" | "falcon3" => {
            Splits { whole_words: true, begins: true, ..plain(&[LLAMA3]) }
        }
        "dbrx" | "smaug-bpe" => plain(&[LLAMA3]),
        "tekken" => Splits { whole_words: true, begins: true, ..plain(&[TEKKEN]) },
        "gpt-4o" | "llama4" => plain(&[GPT4O]),
        _ => return None,
    })
}

/// What a file says about its tokenizer, apart from the tokenizer itself.
#[derive(Debug)]
pub(super) struct Vocabulary {
    pub(super) begin: Option<u32>,
    /// Whether a text begins with that token.
    pub(super) begins: bool,
    pub(super) end: Option<u32>,
    /// Tokens that end a text.
    pub(super) stops: Vec<u32>,
}

/// Tokens that end a turn in one family or another; files do not always say so.
const ENDS: [&str; 9] = [
    "<|im_end|>",
    "<|eot_id|>",
    "<|eom_id|>",
    "<|end|>",
    "<|endoftext|>",
    "<|end_of_text|>",
    "<end_of_turn>",
    "</s>",
    "<eos>",
];

impl Vocabulary {
    pub(super) fn read(gguf: &Gguf) -> Result<Vocabulary> {
        let id = |name: &str| gguf.optional_id(&format!("tokenizer.ggml.{name}_token_id"));
        let (begin, end) = (id("bos")?, id("eos")?);
        let usually = match gguf.optional_text("tokenizer.ggml.model")? {
            Some("llama") => true,
            _ => splits(gguf.optional_text(PRE)?.unwrap_or("default")).is_some_and(|splits| splits.begins),
        };
        let begins = gguf.optional_flag("tokenizer.ggml.add_bos_token")?.unwrap_or(usually);
        let mut stops: Vec<u32> = [end, id("eot")?, id("eom")?].into_iter().flatten().collect();
        if gguf.has(TOKENS) {
            let kinds = kinds(gguf)?;
            let known = gguf.texts(TOKENS)?.into_iter().zip(0..).filter(|(token, _)| ENDS.contains(token));
            let control = |id: &u32| kinds.get(*id as usize) == Some(&CONTROL);
            stops.extend(known.map(|(_, id)| id).filter(control));
        }
        stops.sort_unstable();
        stops.dedup();
        Ok(Vocabulary { begin, begins, end, stops })
    }
}

fn kinds(gguf: &Gguf) -> Result<Vec<usize>> {
    const FIELD: &str = "tokenizer.ggml.token_type";
    if gguf.has(FIELD) { gguf.counts(FIELD) } else { Ok(Vec::new()) }
}

/// The tokenizer of a file.
pub(super) fn tokenizer(gguf: &Gguf) -> Result<Tokenizer> {
    const MODEL: &str = "tokenizer.ggml.model";
    let tokens = gguf.texts(TOKENS)?;
    let kinds = kinds(gguf)?;
    let ids: HashMap<&str, u32> = tokens.iter().copied().zip(0..).collect();
    if ids.len() < tokens.len() {
        return Err(gguf.fault(TOKENS, "has the same token twice"));
    }
    let kind = |id: usize| kinds.get(id).copied().unwrap_or(NORMAL);
    let mut file = match gguf.text(MODEL)? {
        "gpt2" => of_bytes(gguf, &ids)?,
        "llama" => of_pieces(gguf, &tokens, &ids, &kind)?,
        other => {
            let supported = "gpt2 and llama; with a tokenizer.json beside the file any other";
            return Err(gguf.unsupported(MODEL, other.into(), supported));
        }
    };
    // The white space behind the marks of Phi 3 belongs to them.
    let strips = gguf.text(MODEL)? == "llama" && gguf.text("general.architecture")? == "phi3";
    let added: Vec<Value> = (0..tokens.len())
        .filter(|&id| matches!(kind(id), CONTROL | USER_DEFINED) && !tokens[id].is_empty())
        .map(|id| {
            let strips = strips && !matches!(tokens[id], "<unk>" | "<s>" | "<|endoftext|>");
            json!({
                "id": id, "content": tokens[id], "special": kind(id) == CONTROL, "rstrip": strips,
                "single_word": false, "lstrip": false, "normalized": false,
            })
        })
        .collect();
    file.insert("added_tokens".into(), added.into());
    file.insert("version".into(), "1.0".into());
    let bytes = serde_json::to_vec(&file).expect("JSON has string keys");
    Tokenizer::from_bytes(bytes)
        .map_err(|error| Error::Tokenizer { path: gguf.path().into(), reason: error.to_string() })
}

/// Merges of bytes.
fn of_bytes(gguf: &Gguf, ids: &HashMap<&str, u32>) -> Result<Map<String, Value>> {
    const MERGES: &str = "tokenizer.ggml.merges";
    let name = gguf.optional_text(PRE)?.unwrap_or("default");
    let Some(splits) = splits(name) else {
        let supported = "default, gpt-2, qwen2, llama-bpe, dbrx, tekken, gpt-4o, smollm and what equals them; \
            put the model's tokenizer.json beside the file";
        return Err(gguf.unsupported(PRE, name.into(), supported));
    };
    let merges = gguf.texts(MERGES)?;
    let mut pairs = Vec::with_capacity(merges.len());
    for merge in merges {
        let pair = merge.split_once(' ').filter(|(a, b)| ids.contains_key(format!("{a}{b}").as_str()));
        let Some((a, b)) = pair.filter(|(a, b)| ids.contains_key(a) && ids.contains_key(b)) else {
            return Err(gguf.fault(MERGES, format!("has `{merge}`, which joins no two tokens to a third")));
        };
        pairs.push([a, b]);
    }
    let bytes =
        json!({ "type": "ByteLevel", "add_prefix_space": false, "trim_offsets": false, "use_regex": false });
    let mut steps: Vec<Value> = splits
        .patterns
        .iter()
        .map(|regex| json!({ "type": "Split", "pattern": { "Regex": regex }, "behavior": "Isolated", "invert": false }))
        .collect();
    steps.push(bytes.clone());
    Ok(object(json!({
        "normalizer": if splits.composes { json!({ "type": "NFC" }) } else { Value::Null },
        "pre_tokenizer": { "type": "Sequence", "pretokenizers": steps },
        "decoder": bytes,
        "model": { "type": "BPE", "vocab": ids, "merges": pairs, "ignore_merges": splits.whole_words },
    })))
}

/// Pieces with scores: of two neighbours that make a piece, the pair whose piece
/// has the highest score is joined first.
fn of_pieces(
    gguf: &Gguf,
    tokens: &[&str],
    ids: &HashMap<&str, u32>,
    kind: &dyn Fn(usize) -> usize,
) -> Result<Map<String, Value>> {
    const SCORES: &str = "tokenizer.ggml.scores";
    let scores = gguf.numbers(SCORES)?;
    if scores.len() != tokens.len() {
        return Err(gguf.fault(SCORES, format!("has {} numbers for {} tokens", scores.len(), tokens.len())));
    }
    let normal = |id: u32| kind(id as usize) == NORMAL;
    let mut merges: Vec<(f32, [&str; 2])> = Vec::new();
    for (id, piece) in tokens.iter().enumerate().filter(|(id, _)| kind(*id) == NORMAL) {
        let cuts = piece.char_indices().skip(1).map(|(at, _)| piece.split_at(at));
        let found = |part: &str| ids.get(part).copied().filter(|&id| normal(id));
        let mut pairs: Vec<((u32, u32), [&str; 2])> =
            cuts.filter_map(|(a, b)| Some(((found(a)?, found(b)?), [a, b]))).collect();
        pairs.sort_by_key(|(ids, _)| *ids);
        merges.extend(pairs.into_iter().map(|(_, pair)| (scores[id], pair)));
    }
    merges.sort_by(|a, b| b.0.total_cmp(&a.0));
    let merges: Vec<[&str; 2]> = merges.into_iter().map(|(_, pair)| pair).collect();

    let prefix = gguf.optional_flag("tokenizer.ggml.add_space_prefix")?.unwrap_or(true);
    let unknown = gguf.optional_id("tokenizer.ggml.unknown_token_id")?.unwrap_or(0);
    let unknown = tokens.get(unknown as usize).copied();
    let mut normalizers = vec![json!({ "type": "Replace", "pattern": { "String": " " }, "content": SPACE })];
    let mut decoders = vec![
        json!({ "type": "Replace", "pattern": { "String": SPACE }, "content": " " }),
        json!({ "type": "ByteFallback" }),
        json!({ "type": "Fuse" }),
    ];
    if prefix {
        normalizers.insert(0, json!({ "type": "Prepend", "prepend": SPACE }));
        decoders.push(json!({ "type": "Strip", "content": " ", "start": 1, "stop": 0 }));
    }
    Ok(object(json!({
        "normalizer": { "type": "Sequence", "normalizers": normalizers },
        "decoder": { "type": "Sequence", "decoders": decoders },
        "model": {
            "type": "BPE", "vocab": ids, "merges": merges, "unk_token": unknown, "fuse_unk": true,
            "byte_fallback": true,
        },
    })))
}

fn object(value: Value) -> Map<String, Value> {
    match value {
        Value::Object(map) => map,
        _ => Map::new(),
    }
}
