"""Writes rotary.json: what sentence-transformers makes of some texts with tiny
models whose positions are rotations, encoders and decoders.

Run by hand, never by the tests:

    python -m venv venv && venv/bin/pip install torch transformers sentence-transformers
    venv/bin/python make_rotary.py

The tensors have the names that the files on the hub have; so has `config.json`.
Where transformers wants another configuration than the hub's, it gets that one,
and the same weights.
"""

import json
import tempfile
from pathlib import Path

import numpy
import safetensors
import safetensors.torch
import sentence_transformers
import torch
import transformers
from tokenizers.pre_tokenizers import ByteLevel

from make_golden import HERE, TINY_TEXTS, TOKENIZER, TOKENIZER_CONFIG, VOCAB, values

LONG_CONFIG = {**TOKENIZER_CONFIG, "model_max_length": 110}
TEXTS = TINY_TEXTS + ["the old stone marks the path and the snow is of rain, key and stone . " * 3]

# Decoders have tokens of bytes, and one more at the end of each text, as Qwen/Qwen3-Embedding-0.6B does.
END = "<|endoftext|>"
MERGES = [pair.split("+") for pair in "t+h th+e \u0120+the s+t o+n st+on ston+e \u0120+ston \u0120+s n+o \u0120s+no a+n an+d \u0120+and r+a i+n \u0120+ra \u0120ra+in \u0120+p a+th \u0120p+ath".split()]
BYTES = {piece: at for at, piece in enumerate(sorted(ByteLevel.alphabet()) + ["".join(pair) for pair in MERGES] + [END])}
SPLIT = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
BYTE_LEVEL = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": False, "use_regex": False}
DECODER_TOKENIZER = {
    "version": "1.0", "truncation": None, "padding": None,
    "added_tokens": [{"id": BYTES[END], "special": True, "content": END, "single_word": False, "lstrip": False, "rstrip": False, "normalized": False}],
    "normalizer": {"type": "NFC"},
    "pre_tokenizer": {"type": "Sequence", "pretokenizers": [{"type": "Split", "pattern": {"Regex": SPLIT}, "behavior": "Isolated", "invert": False}, BYTE_LEVEL]},
    "post_processor": {"type": "Sequence", "processors": [BYTE_LEVEL, {
        "type": "TemplateProcessing",
        "single": [{"Sequence": {"id": "A", "type_id": 0}}, {"SpecialToken": {"id": END, "type_id": 0}}],
        "pair": [{"Sequence": {"id": "A", "type_id": 0}}, {"SpecialToken": {"id": END, "type_id": 0}}, {"Sequence": {"id": "B", "type_id": 0}}, {"SpecialToken": {"id": END, "type_id": 0}}],
        "special_tokens": {END: {"id": END, "ids": [BYTES[END]], "tokens": [END]}},
    }]},
    "decoder": BYTE_LEVEL,
    "model": {"type": "BPE", "dropout": None, "unk_token": None, "continuing_subword_prefix": "", "end_of_word_suffix": "", "fuse_unk": False, "byte_fallback": False, "ignore_merges": False, "vocab": BYTES, "merges": MERGES},
}
DECODER_CONFIG = {"tokenizer_class": "Qwen2Tokenizer", "model_max_length": 110, "eos_token": END, "pad_token": END, "padding_side": "left"}

# As nomic-ai/nomic-embed-text-v1.5 has it.
NOMIC = {
    "model_type": "nomic_bert", "activation_function": "swiglu", "causal": False, "layer_norm_epsilon": 1e-12,
    "mlp_fc1_bias": False, "mlp_fc2_bias": False, "qkv_proj_bias": False, "n_embd": 24, "n_head": 3, "n_inner": 40,
    "n_layer": 2, "n_positions": 128, "max_trained_positions": 128, "pad_vocab_size_multiple": 1, "parallel_block": False,
    "prenorm": False, "rotary_emb_base": 1000, "rotary_emb_fraction": 1.0, "rotary_emb_interleaved": False,
    "rotary_emb_scale_base": None, "rotary_scaling_factor": None, "scale_attn_weights": True, "type_vocab_size": 2,
    "use_rms_norm": False, "vocab_size": len(VOCAB),
}


def nomic_reference(config):
    scaled = config["rotary_scaling_factor"]
    scaling = {"rope_type": "dynamic", "factor": scaled} if scaled else {"rope_type": "default"}
    return {
        "model_type": "nomic_bert", "vocab_size": config["vocab_size"], "hidden_size": config["n_embd"],
        "num_hidden_layers": config["n_layer"], "num_attention_heads": config["n_head"], "intermediate_size": config["n_inner"],
        "hidden_act": "silu", "max_position_embeddings": config["max_trained_positions"], "type_vocab_size": config["type_vocab_size"],
        "layer_norm_eps": config["layer_norm_epsilon"], "pad_token_id": 0,
        "rope_parameters": {"rope_theta": float(config["rotary_emb_base"]), **scaling},
    }


# As answerdotai/ModernBERT-base has it.
MODERN = {
    "model_type": "modernbert", "attention_bias": False, "global_attn_every_n_layers": 3, "global_rope_theta": 160000.0,
    "hidden_activation": "gelu", "hidden_size": 24, "intermediate_size": 36, "local_attention": 8, "local_rope_theta": 100.0,
    "max_position_embeddings": 128, "mlp_bias": False, "norm_bias": False, "norm_eps": 1e-5, "num_attention_heads": 3,
    "num_hidden_layers": 5, "position_embedding_type": "absolute", "vocab_size": len(VOCAB), "pad_token_id": 0,
    "bos_token_id": 2, "eos_token_id": 3, "cls_token_id": 2, "sep_token_id": 3,
}

# As Alibaba-NLP/gte-multilingual-base has it.
GTE = {
    "model_type": "new", "hidden_act": "gelu", "hidden_size": 24, "intermediate_size": 40, "layer_norm_eps": 1e-12,
    "layer_norm_type": "layer_norm", "logn_attention_scale": False, "max_position_embeddings": 128, "num_attention_heads": 3,
    "num_hidden_layers": 2, "pack_qkv": True, "position_embedding_type": "rope", "rope_scaling": {"factor": 8.0, "type": "ntk"},
    "rope_theta": 200, "type_vocab_size": 1, "vocab_size": len(VOCAB), "pad_token_id": 0,
}


def gte_reference(config):
    dim = config["hidden_size"] // config["num_attention_heads"]
    rope = {"rope_type": "default", "rope_theta": float(config["rope_theta"])}
    if config["rope_scaling"]:
        # Equations 5 and 6 of kexue.fm/archives/9706: a larger base, then all frequencies smaller alike.
        factor = config["rope_scaling"]["factor"]
        rope = {"rope_type": "linear", "rope_theta": config["rope_theta"] * factor, "factor": factor ** (2 / dim)}
    same = ["hidden_act", "hidden_size", "intermediate_size", "layer_norm_eps", "max_position_embeddings", "num_attention_heads", "num_hidden_layers", "type_vocab_size", "vocab_size", "pad_token_id"]
    return {"model_type": "gte", **{field: config[field] for field in same}, "rope_parameters": rope}


# As Alibaba-NLP/gte-Qwen2-1.5B-instruct and Qwen/Qwen3-Embedding-0.6B have them.
QWEN2 = {
    "model_type": "qwen2", "hidden_act": "silu", "hidden_size": 24, "intermediate_size": 40, "max_position_embeddings": 128,
    "max_window_layers": 2, "num_attention_heads": 4, "num_hidden_layers": 3, "num_key_value_heads": 2, "rms_norm_eps": 1e-6,
    "rope_theta": 500.0, "sliding_window": 8, "use_sliding_window": False, "tie_word_embeddings": True, "vocab_size": len(BYTES),
}
QWEN3 = {**QWEN2, "model_type": "qwen3", "attention_bias": False, "head_dim": 16, "rope_scaling": None, "sliding_window": None}

LAST = {"lasttoken": True}
PROMPTS = {"prompts": {"query": "the path marks a key of: ", "document": ""}, "default_prompt_name": None}
WIDE = {"hidden_size": 64, "num_attention_heads": 2}

CASES = [
    ("nomic mean", NOMIC, nomic_reference, {"mean_tokens": True}, True),
    ("nomic wide heads, scaled", {**NOMIC, "n_embd": 64, "n_head": 2, "max_trained_positions": 20, "rotary_scaling_factor": 2.0}, nomic_reference, {"mean_tokens": True}, True),
    ("modernbert cls", MODERN, None, {"cls_token": True}, True),
    ("modernbert wide heads", {**MODERN, **WIDE}, None, {"mean_tokens": True}, False),
    ("modernbert biases", {**MODERN, "attention_bias": True, "mlp_bias": True, "norm_bias": True, "local_attention": 16}, None, {"mean_tokens": True}, True),
    ("gte cls", GTE, gte_reference, {"cls_token": True}, True),
    ("gte wide heads", {**GTE, **WIDE, "type_vocab_size": 0, "rope_scaling": None}, gte_reference, {"cls_token": True}, False),
    ("qwen2 last token", QWEN2, None, LAST, True),
    ("qwen2 windows", {**QWEN2, "use_sliding_window": True, "max_window_layers": 1, "hidden_size": 64, "num_attention_heads": 2, "num_key_value_heads": 1}, None, LAST, False),
    ("qwen2 both ways", {**QWEN2, "is_causal": False}, None, {"mean_tokens": True}, True),
    ("qwen3 last token", QWEN3, None, LAST, True),
    ("qwen3 wide heads", {**QWEN3, "head_dim": 32, "hidden_size": 48, "attention_bias": True}, None, LAST, True),
]


def rounded(vectors):
    return [[float(f"{x:.7g}") for x in vector] for vector in vectors.tolist()]


def shapes(config):
    """The tensors of such a model, with the names it is saved with."""
    torch.manual_seed(0)
    model = transformers.AutoModel.from_config(transformers.AutoConfig.for_model(**config))
    with tempfile.TemporaryDirectory() as folder:
        model.save_pretrained(folder)
        with safetensors.safe_open(Path(folder, "model.safetensors"), "pt") as saved:
            return {name: tuple(saved.get_slice(name).get_shape()) for name in saved.keys() if "pooler" not in name}


def encode(reference, prompt=""):
    """One text after the other, the shortest first: what a text longer than the
    training does to dynamic frequencies lasts in the reference, here it must not.
    White space around a text does not count here."""
    vectors = [None] * len(TEXTS)
    for at in sorted(range(len(TEXTS)), key=lambda at: len(TEXTS[at])):
        vectors[at] = reference.encode((prompt + TEXTS[at]).strip())
    return numpy.stack(vectors)


def case(name, config, reference_of, pooling, normalize):
    reference_config = reference_of(config) if reference_of else config
    # Some files have the body under a name of its own.
    prefix = "new." if name == "gte cls" else ""
    tensors = {prefix + tensor: values(prefix + tensor, shape) for tensor, shape in shapes(reference_config).items()}
    decoder = config["model_type"].startswith("qwen")
    hidden = reference_config["hidden_size"]
    flags = ["cls_token", "max_tokens", "mean_tokens", "mean_sqrt_len_tokens", "weightedmean_tokens", "lasttoken"]
    files = {
        "config.json": config,
        "tokenizer.json": DECODER_TOKENIZER if decoder else TOKENIZER,
        "tokenizer_config.json": DECODER_CONFIG if decoder else LONG_CONFIG,
        "sentence_bert_config.json": {"do_lower_case": False, "max_seq_length": 110},
        "1_Pooling/config.json": {"word_embedding_dimension": hidden, **{f"pooling_mode_{f}": pooling.get(f, False) for f in flags}, "include_prompt": True},
        "config_sentence_transformers.json": PROMPTS,
        "modules.json": [
            {"idx": i, "name": str(i), "path": path, "type": f"sentence_transformers.models.{kind}"}
            for i, (path, kind) in enumerate([("", "Transformer"), ("1_Pooling", "Pooling"), ("2_Normalize", "Normalize")])
        ][: 3 if normalize else 2],
    }
    with tempfile.TemporaryDirectory() as folder:
        for path, content in {**files, "config.json": reference_config}.items():
            path = Path(folder, path)
            path.parent.mkdir(exist_ok=True)
            path.write_text(json.dumps(content))
        safetensors.torch.save_file(tensors, Path(folder, "model.safetensors"), {"format": "pt"})
        _, loaded = transformers.AutoModel.from_pretrained(folder, output_loading_info=True)
        strange = {key: found for key, found in loaded.items() if found and "pooler" not in str(found)}
        assert not strange, strange
        reference = sentence_transformers.SentenceTransformer(folder, device="cpu", model_kwargs={"dtype": torch.float32})
        vectors = encode(reference)
        queries = encode(reference, PROMPTS["prompts"]["query"])
        print(name, reference.tokenizer("the stones").input_ids, "limit", reference.max_seq_length, "spread", numpy.std(vectors, axis=0).mean(), "tokens", len(tensors))
    return {
        "name": name,
        "files": files,
        "tensors": {tensor: list(found.shape) for tensor, found in tensors.items()},
        "vectors": rounded(vectors),
        "queries": rounded(queries),
        "max_tokens": reference.max_seq_length,
    }


def main():
    versions = {m.__name__: m.__version__ for m in (torch, transformers, sentence_transformers)}
    content = {"made_with": versions, "texts": TEXTS, "sample": [], "cases": [case(*one) for one in CASES]}
    (HERE / "rotary.json").write_text(json.dumps(content, ensure_ascii=True, separators=(",", ":")) + "\n")


if __name__ == "__main__":
    main()
