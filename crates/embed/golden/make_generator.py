"""Writes generator.json: what transformers and llama.cpp make of small language models.

Run by hand, never by the tests:

    python -m venv venv && venv/bin/pip install torch transformers safetensors xllamacpp
    venv/bin/python make_generator.py

Weights come from the formula of make_golden.py, applied to the names a GGUF file has; here they are
turned into what transformers expects. Logits are those of transformers in 32-bit floats. Token ids are
those of llama.cpp, whose server reads files with the same fields.
"""

import base64
import json
import sys
import tempfile
from pathlib import Path

import numpy
import torch
import transformers

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parents[2] / "tests/python"))

import llama_server  # noqa: E402
import tiny_gguf  # noqa: E402

IDS = [3, 77, 104, 260, 11, 261, 199, 32, 104, 5, 262, 77, 90, 14]
TEXTS = [
    "the stone marks the path",
    "Hello, World! 123 45678",
    "I'll don't WE'VE they'd",
    "na\u00efve F\u00fc\u00dfe \u65e5\u672c\u8a9e \U0001f642",
    "  two  spaces\n\n and lines\t. ",
    "x = foo(bar)[1]; // ~^$ \u201equoted\u201c",
    "e\u0301 is two characters",
]
MARKED = {
    "bytes": "<|im_start|>user\nthe path<|im_end|>\n<think>so</think>",
    "pieces": "<s>the path</s> the stone",
}
PRE = ["default", "gpt-2", "smollm", "qwen2", "llama-bpe", "dbrx", "tekken", "gpt-4o"]


def byte_letters():
    """The letters that stand for bytes in the tokens of GPT-2."""
    plain = [*range(33, 127), *range(161, 173), *range(174, 256)]
    letters = {byte: chr(byte) for byte in plain}
    others = (byte for byte in range(256) if byte not in letters)
    return letters | {byte: chr(256 + number) for number, byte in enumerate(others)}


def of_bytes():
    letters = byte_letters()
    tokens = [letters[byte] for byte in range(256)]
    merges = []
    for word in ["\u0120the", "\u0120stone", "\u0120path", "ing", "the", "12", "ma", "rks", "\u0120\u0120", "\u010a\u010a"]:
        for at in range(1, len(word)):
            merge = f"{word[:at]} {word[at]}"
            if merge not in merges:
                merges.append(merge)
                tokens.append(word[: at + 1])
    kinds = [1] * len(tokens)
    for token, kind in [("<|endoftext|>", 3), ("<|im_start|>", 3), ("<|im_end|>", 3), ("<think>", 4), ("</think>", 4)]:
        tokens.append(token)
        kinds.append(kind)
    return {
        "tokenizer.ggml.model": "gpt2",
        "tokenizer.ggml.pre": "qwen2",
        "tokenizer.ggml.tokens": tokens,
        "tokenizer.ggml.token_type": kinds,
        "tokenizer.ggml.merges": merges,
        "tokenizer.ggml.eos_token_id": tokens.index("<|im_end|>"),
        "tokenizer.ggml.bos_token_id": tokens.index("<|endoftext|>"),
        "tokenizer.ggml.add_bos_token": False,
        "tokenizer.chat_template": "{% for message in messages %}<|im_start|>{{ message.role }}\n"
        "{{ message.content }}<|im_end|>\n{% endfor %}<|im_start|>assistant{{ '\\n' }}",
    }


def of_pieces():
    pieces = []
    for word in ["\u2581the", "\u2581stone", "\u2581path", "marks", "\u2581\u2581", "ing"]:
        for length in range(2, len(word) + 1):
            pieces += [word[at : at + length] for at in range(len(word) - length + 1)]
    pieces = list(dict.fromkeys(pieces))
    letters = ["\u2581", *"abcdefghijklmnopqrstuvwxyz0123456789.,!?'"]
    tokens = ["<unk>", "<s>", "</s>", *(f"<0x{byte:02X}>" for byte in range(256)), *pieces, *letters]
    kinds = [2, 3, 3, *[6] * 256, *[1] * (len(pieces) + len(letters))]
    scores = [0.0] * 259 + [-float(rank) for rank in range(len(pieces) + len(letters))]
    return {
        "tokenizer.ggml.model": "llama",
        "tokenizer.ggml.tokens": tokens,
        "tokenizer.ggml.token_type": kinds,
        "tokenizer.ggml.scores": scores,
        "tokenizer.ggml.unknown_token_id": 0,
        "tokenizer.ggml.bos_token_id": 1,
        "tokenizer.ggml.eos_token_id": 2,
        "tokenizer.chat_template": "{{ bos_token }}{% for message in messages %}{% if message.role == 'user' %}"
        "[INST] {{ message.content }} [/INST]{% elif message.role == 'assistant' %}{{ message.content }}{{ eos_token }}"
        "{% else %}{{ raise_exception('no such role') }}{% endif %}{% endfor %}",
    }


TOKENIZERS = {"bytes": of_bytes(), "pieces": of_pieces()}

BASE = {"hidden_size": 64, "num_attention_heads": 4, "num_key_value_heads": 2, "head_dim": 16, "intermediate_size": 96, "num_hidden_layers": 2, "max_position_embeddings": 128, "rms_norm_eps": 1e-5, "attn_implementation": "eager", "pad_token_id": None, "bos_token_id": None, "eos_token_id": None}


def turns(kind="default", theta=10000.0, **more):
    return {"rope_parameters": {"rope_type": kind, "rope_theta": theta, **more}}


LONG = {"short_factor": [1 + number / 10 for number in range(8)], "long_factor": [2.0 + number for number in range(8)]}

# Name, tokenizer, architecture, configuration of transformers, fields beyond the usual ones.
CASES = [
    ("llama", "pieces", "llama", {**turns(), "tie_word_embeddings": False}, {}),
    ("llama tied with wide heads", "bytes", "llama", {**turns(theta=5000.0), "head_dim": 24, "tie_word_embeddings": True, "rms_norm_eps": 1e-6}, {}),
    ("llama with scaled frequencies", "bytes", "llama", {**turns("llama3", 500000.0, factor=8.0, low_freq_factor=1.0, high_freq_factor=4.0, original_max_position_embeddings=32), "tie_word_embeddings": False}, {}),
    ("llama linear", "bytes", "llama", {**turns("linear", factor=4.0), "tie_word_embeddings": False}, {"rope.scaling.type": "linear", "rope.scaling.factor": 4.0}),
    ("qwen2", "bytes", "qwen2", {**turns(theta=1e6), "tie_word_embeddings": True}, {}),
    ("qwen2 yarn", "bytes", "qwen2", {**turns("yarn", factor=4.0, original_max_position_embeddings=32), "tie_word_embeddings": False}, {"rope.scaling.type": "yarn", "rope.scaling.factor": 4.0, "rope.scaling.original_context_length": 32}),
    ("qwen3", "bytes", "qwen3", {**turns(theta=1e6), "head_dim": 32, "tie_word_embeddings": True}, {}),
    ("phi3 windowed", "pieces", "phi3", {**turns(), "sliding_window": 6, "tie_word_embeddings": False}, {}),
    ("phi3 long", "pieces", "phi3", {**turns("longrope", partial_rotary_factor=1.0, **LONG), "original_max_position_embeddings": 32, "tie_word_embeddings": False}, {}),
    ("phi3 long beyond", "pieces", "phi3", {**turns("longrope", partial_rotary_factor=1.0, **LONG), "original_max_position_embeddings": 8, "tie_word_embeddings": False}, {}),
    ("gemma", "pieces", "gemma", {**turns(), "head_dim": 32, "hidden_activation": "gelu_pytorch_tanh", "tie_word_embeddings": True}, {}),
    ("gemma2", "pieces", "gemma2", {**turns(), "head_dim": 32, "query_pre_attn_scalar": 32, "sliding_window": 5, "tie_word_embeddings": True}, {}),
    ("gemma3", "pieces", "gemma3", {"rope_parameters": {"full_attention": {"rope_type": "linear", "rope_theta": 1e6, "factor": 8.0}, "sliding_attention": {"rope_type": "default", "rope_theta": 10000.0}}, "num_hidden_layers": 6, "head_dim": 32, "query_pre_attn_scalar": 32, "sliding_window": 5, "tie_word_embeddings": True}, {"rope.scaling.type": "linear", "rope.scaling.factor": 8.0}),
]

CLASSES = {
    "llama": (transformers.LlamaConfig, transformers.LlamaForCausalLM),
    "qwen2": (transformers.Qwen2Config, transformers.Qwen2ForCausalLM),
    "qwen3": (transformers.Qwen3Config, transformers.Qwen3ForCausalLM),
    "phi3": (transformers.Phi3Config, transformers.Phi3ForCausalLM),
    "gemma": (transformers.GemmaConfig, transformers.GemmaForCausalLM),
    "gemma2": (transformers.Gemma2Config, transformers.Gemma2ForCausalLM),
    "gemma3": (transformers.Gemma3TextConfig, transformers.Gemma3ForCausalLM),
}

NAMES = {
    "model.embed_tokens": "token_embd", "model.norm": "output_norm", "lm_head": "output",
    "self_attn.q_proj": "attn_q", "self_attn.k_proj": "attn_k", "self_attn.v_proj": "attn_v", "self_attn.o_proj": "attn_output",
    "self_attn.qkv_proj": "attn_qkv", "self_attn.q_norm": "attn_q_norm", "self_attn.k_norm": "attn_k_norm",
    "mlp.gate_proj": "ffn_gate", "mlp.up_proj": "ffn_up", "mlp.down_proj": "ffn_down", "mlp.gate_up_proj": "ffn_up",
    "input_layernorm": "attn_norm", "post_attention_layernorm": "ffn_norm",
}
# Gemma 2 and 3 have norms behind their blocks too, and call those before them otherwise.
SANDWICH = {"post_attention_layernorm": "post_attention_norm", "pre_feedforward_layernorm": "ffn_norm", "post_feedforward_layernorm": "post_ffw_norm"}


def gguf_name(name, architecture):
    stem, kind = name.rsplit(".", 1)
    names = NAMES | (SANDWICH if architecture in ("gemma2", "gemma3") else {})
    if not stem.startswith("model.layers."):
        return f"{names[stem]}.{kind}"
    _, _, layer, rest = stem.split(".", 3)
    return f"blk.{layer}.{names[rest]}.{kind}"


def for_transformers(name, tensor, architecture, config):
    """What transformers has where the file has `tensor`."""
    if architecture == "llama" and (".attn_q." in name or ".attn_k." in name):
        # The file has the halves of each head interleaved.
        heads = config.num_attention_heads if ".attn_q." in name else config.num_key_value_heads
        rows, columns = tensor.shape
        tensor = tensor.reshape(heads, rows // heads // 2, 2, columns).swapaxes(1, 2).reshape(rows, columns)
    if architecture.startswith("gemma") and "norm" in name:
        tensor = tensor - 1
    return torch.from_numpy(numpy.ascontiguousarray(tensor))


def made(name, tokenizer, architecture, changes, more):
    of_config, of_model = CLASSES[architecture]
    vocabulary = len(TOKENIZERS[tokenizer]["tokenizer.ggml.tokens"])
    config = of_config(**{**BASE, "vocab_size": vocabulary, **changes})
    model = of_model(config).eval()
    tied = config.tie_word_embeddings
    shapes = {key: list(value.shape) for key, value in model.state_dict().items() if not (tied and key == "lm_head.weight")}
    names = {key: gguf_name(key, architecture) for key in shapes}
    usual = {
        "block_count": config.num_hidden_layers, "context_length": config.max_position_embeddings,
        "embedding_length": config.hidden_size, "feed_forward_length": config.intermediate_size,
        "attention.head_count": config.num_attention_heads, "attention.head_count_kv": config.num_key_value_heads,
        "attention.key_length": config.head_dim, "attention.value_length": config.head_dim,
        "attention.layer_norm_rms_epsilon": float(config.rms_norm_eps), "rope.dimension_count": config.head_dim,
        "vocab_size": vocabulary,
    }
    rope = config.rope_parameters.get("full_attention", config.rope_parameters)
    usual["rope.freq_base"] = float(rope["rope_theta"])
    if "sliding_window" in changes:
        usual["attention.sliding_window"] = config.sliding_window
    given = {}
    if rope["rope_type"] == "llama3":
        of = transformers.modeling_rope_utils.ROPE_INIT_FUNCTIONS["llama3"]
        scaled, _ = of(config, torch.device("cpu"))
        plain = 1.0 / rope["rope_theta"] ** (torch.arange(0, config.head_dim, 2, dtype=torch.float32) / config.head_dim)
        given["rope_freqs.weight"] = (plain / scaled).tolist()
    if rope["rope_type"] == "longrope":
        given["rope_factors_long.weight"], given["rope_factors_short.weight"] = rope["long_factor"], rope["short_factor"]
        usual["rope.scaling.original_context_length"] = rope["original_max_position_embeddings"]
        usual["rope.scaling.attn_factor"] = float(model.model.rotary_emb.attention_scaling)
    case = {
        "name": name, "tokenizer": tokenizer,
        "fields": {"general.architecture": architecture, **{f"{architecture}.{key}": value for key, value in {**usual, **more}.items()}},
        "tensors": {names[key]: shape for key, shape in shapes.items()},
        "given": given, "ids": IDS,
    }
    tensors = tiny_gguf.tensors(case)
    state = {key: for_transformers(names[key], tensors[names[key]], architecture, config) for key in shapes}
    found = model.load_state_dict(state, strict=False)
    assert not found.unexpected_keys and set(found.missing_keys) <= {"lm_head.weight"}, found
    with torch.no_grad():
        logits = model(torch.tensor([IDS])).logits[0].numpy()
    print(name, "spread", logits.std(), "greedy", logits.argmax(axis=1).tolist())
    case["logits"] = base64.b64encode(logits.astype("<f4").tobytes()).decode()
    return case


# llama.cpp takes no window for Phi.
UNLIKE = ["phi3 windowed"]


def continued(cases):
    """The tokens that llama.cpp finds likeliest after the ids of each case."""
    with tempfile.TemporaryDirectory() as folder:
        for case in cases:
            if case["name"] not in UNLIKE:
                path = Path(folder, f"{case['name']}.gguf")
                tiny_gguf.write(path, tiny_gguf.fields(case, TOKENIZERS), tiny_gguf.tensors(case))
                with llama_server.server(path) as server:
                    case["continued"] = server.complete(case["ids"], 12)
                print(case["name"], case["continued"])


def tokenized(cases):
    """What llama.cpp makes of texts, by each way to split them."""
    found = []
    kinds = [("bytes", {"tokenizer.ggml.pre": pre}) for pre in PRE]
    kinds += [("pieces", {}), ("pieces", {"tokenizer.ggml.add_space_prefix": False})]
    [case] = [case for case in cases if case["name"] == "llama"]
    with tempfile.TemporaryDirectory() as folder:
        for number, (tokenizer, changes) in enumerate(kinds):
            vocabulary = TOKENIZERS[tokenizer] | changes
            rows = len(vocabulary["tokenizer.ggml.tokens"])
            shapes = {name: [rows if size == len(TOKENIZERS["pieces"]["tokenizer.ggml.tokens"]) else size for size in shape] for name, shape in case["tensors"].items()}
            resized = {**case, "tensors": shapes, "fields": case["fields"] | {"llama.vocab_size": rows}}
            path = Path(folder, f"{number}.gguf")
            tiny_gguf.write(path, vocabulary | resized["fields"], tiny_gguf.tensors(resized))
            with llama_server.server(path) as server:
                texts = [*TEXTS, MARKED[tokenizer]]
                ids = [server.tokenize(text, special=False) for text in texts]
            found.append({"tokenizer": tokenizer, "fields": changes, "texts": texts, "ids": ids})
    return found


def main():
    torch.manual_seed(0)
    cases = [made(*case) for case in CASES]
    continued(cases)
    versions = {module.__name__: module.__version__ for module in (torch, transformers)} | {"llama.cpp": llama_server.version()}
    written = {"made_with": versions, "tokenizers": TOKENIZERS, "cases": cases, "tokenized": tokenized(cases)}
    (HERE / "generator.json").write_text(json.dumps(written, ensure_ascii=True, separators=(",", ":")) + "\n")


if __name__ == "__main__":
    main()
