"""Writes heads.json: sparse vectors, vectors of tokens and projected vectors of tiny models.

Sparse vectors are those of sentence-transformers' SparseEncoder, vectors of tokens those of its
MultiVectorEncoder, which reads the folders of ColBERT and PyLate. BGE-M3 is the few lines of its
authors' formulae below, on transformers' model.

Run by hand, never by the tests:

    python -m venv venv && venv/bin/pip install torch sentence-transformers
    venv/bin/python make_heads.py
"""

import base64
import io
import json
import tempfile
from pathlib import Path

import safetensors.torch
import sentence_transformers
import torch
import transformers

from make_golden import BERT, DISTIL, HERE, MPNET, ROBERTA, TOKENIZER, TOKENIZER_CONFIG, VOCAB, values, with_padding_at_one

# Empty, unknown words, punctuation, and longer than any limit below.
TEXTS = ["", "the stone marks the path", "old keys, snowing and rained!", "zebra", ". , ? !", "rain and snow and stone . " * 12]

MARKS = ["[unused0]", "[unused1]", "[Q] ", "[D] "]


def with_marks():
    """The tokenizer with the markers of ColBERT in its vocabulary, and those of PyLate as added tokens."""
    first = len(VOCAB)
    vocab = {**VOCAB, "[unused0]": first, "[unused1]": first + 1}
    added = [{**TOKENIZER["added_tokens"][0], "id": first + 2 + at, "content": mark} for at, mark in enumerate(MARKS[2:])]
    return {**TOKENIZER, "added_tokens": TOKENIZER["added_tokens"] + added, "model": {**TOKENIZER["model"], "vocab": vocab}}


def modules(*kinds):
    found = [{"idx": at, "name": str(at), "path": path, "type": kind} for at, (path, kind) in enumerate(kinds)]
    return {"modules.json": found}


def of(architecture, config):
    return {**config, "architectures": [architecture]}


TRANSFORMER = ("", "sentence_transformers.models.Transformer")
MLM = ("", "sentence_transformers.sparse_encoder.models.MLMTransformer")
SPLADE = ("1_SpladePooling", "sentence_transformers.sparse_encoder.models.SpladePooling")
PYLATE = ("1_Dense", "pylate.models.Dense.Dense")
DENSE = "sentence_transformers.base.modules.dense.Dense"
NORMALIZE = ("9_Normalize", "sentence_transformers.models.Normalize")
MASK = ("3_MultiVectorMask", "sentence_transformers.multi_vector_encoder.modules.multi_vector_mask.MultiVectorMask")
POOLING = ("1_Pooling", "sentence_transformers.models.Pooling")


def splade(strategy, function):
    config = {"pooling_strategy": strategy, "activation_function": function, "word_embedding_dimension": len(VOCAB)}
    kind = {"config_sentence_transformers.json": {"model_type": "SparseEncoder"}}
    return {**modules(MLM, SPLADE), "1_SpladePooling/config.json": config, **kind}


def layer(path, inputs, outputs, function, bias, **more):
    config = {"in_features": inputs, "out_features": outputs, "bias": bias, "activation_function": f"torch.nn.modules.{function}", **more}
    tensors = {"linear.weight": [outputs, inputs]}
    if bias:
        tensors["linear.bias"] = [outputs]
    if more.get("use_residual") and inputs != outputs:
        tensors["residual.weight"] = [outputs, inputs]
    return {f"{path}/config.json": config}, {path: tensors}


SPARSE = [
    ("bert", of("BertForMaskedLM", BERT), splade("max", "relu")),
    ("bert sum", of("BertForMaskedLM", {**BERT, "hidden_act": "gelu_new"}), splade("sum", "log1p_relu")),
    ("distilbert", of("DistilBertForMaskedLM", DISTIL), splade("max", "log1p_relu")),
    ("roberta", of("RobertaForMaskedLM", ROBERTA), splade("max", "relu")),
    # Without modules the architecture says it.
    ("xlm-roberta plain", of("XLMRobertaForMaskedLM", {**ROBERTA, "model_type": "xlm-roberta", "hidden_act": "gelu"}), {}),
    ("mpnet plain", of("MPNetForMaskedLM", MPNET), {}),
]


def tensors_of(kind, config):
    model = getattr(transformers, kind).from_config(transformers.AutoConfig.for_model(**config))
    tied = ("decoder.weight", "decoder.bias", "vocab_projector.weight")
    state = {k: v for k, v in model.state_dict().items() if v.dtype == torch.float32 and not k.endswith(tied)}
    return {k: values(k, tuple(v.shape)) for k, v in state.items()}


def write(folder, files, tensors, layers=None):
    for path, content in files.items():
        path = Path(folder, path)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(content))
    safetensors.torch.save_file(tensors, Path(folder, "model.safetensors"), {"format": "pt"})
    for path, shapes in (layers or {}).items():
        saved = {name: values(f"{path}.{name}", tuple(shape)) for name, shape in shapes.items()}
        safetensors.torch.save_file(saved, Path(folder, path, "model.safetensors"), {"format": "pt"})


def rounded(rows):
    return [[float(f"{x:.6g}") for x in row] for row in rows]


def shapes(tensors):
    return {k: list(v.shape) for k, v in tensors.items() if "pooler" not in k}


def sparse(name, config, more):
    tokenizer = with_padding_at_one() if config["model_type"] == "mpnet" else TOKENIZER
    files = {"config.json": config, "tokenizer.json": tokenizer, "tokenizer_config.json": TOKENIZER_CONFIG, **more}
    tensors = tensors_of("AutoModelForMaskedLM", config)
    with tempfile.TemporaryDirectory() as folder:
        write(folder, files, tensors)
        model = sentence_transformers.SparseEncoder(folder, device="cpu")
        rows = [model.encode([text])[0].coalesce() for text in TEXTS]
    indices = [row.indices()[0].tolist() for row in rows]
    print(name, "nonzero", [len(row) for row in indices], "of", len(VOCAB))
    found = rounded([row.values().tolist() for row in rows])
    return {"name": name, "files": files, "tensors": shapes(tensors), "indices": indices, "values": found}


WIDE = {**BERT, "hidden_size": 64, "num_attention_heads": 2}
SIZES = {"vocab_size": len(VOCAB) + len(MARKS)}
ARTIFACT = {"query_token_id": "[unused0]", "doc_token_id": "[unused1]", "query_token": "[Q]", "doc_token": "[D]", "query_maxlen": 12, "doc_maxlen": 20, "dim": 8, "mask_punctuation": True, "attend_to_mask_tokens": False, "similarity": "cosine"}
PYLATE_CONFIG = {"query_prefix": "[Q] ", "document_prefix": "[D] ", "query_length": 14, "document_length": 18, "do_query_expansion": True, "attend_to_expansion_tokens": True, "skiplist_words": [".", ","]}
NO_EXPANSION = {**PYLATE_CONFIG, "query_length": 9, "do_query_expansion": False, "attend_to_expansion_tokens": False}
NATIVE = {"model_type": "MultiVectorEncoder", "prompts": {"query": "[Q] ", "document": "[D] "}}
NATIVE_SENTENCE = {"max_seq_length": 26, "document_length": 16, "query_expansion": {"strategy": "min", "attend": False, "length": 10, "token": "[PAD]"}}


def late_cases():
    one_files, one = layer("1_Dense", 24, 8, "linear.Identity", False, module_input_name="token_embeddings")
    two_files, two = layer("2_Dense", 8, 6, "activation.Tanh", True, use_residual=True, module_input_name="token_embeddings")
    pylate = {**modules(TRANSFORMER, PYLATE), **one_files}
    native = {
        **modules(TRANSFORMER, ("1_Dense", DENSE), ("2_Dense", DENSE), MASK, NORMALIZE),
        **one_files, **two_files,
        "9_Normalize/config.json": {"module_input_name": "token_embeddings"},
        "3_MultiVectorMask/config.json": {"skiplist_words": ["the", "!"], "skiplist_tasks": ["query", "document"], "keep_only_token_ids": None},
        "sentence_bert_config.json": NATIVE_SENTENCE,
        "config_sentence_transformers.json": NATIVE,
    }
    return [
        ("artifact", of("HF_ColBERT", {**WIDE, **SIZES}), {"artifact.metadata": ARTIFACT}, {}, {"linear.weight": (8, 64)}),
        ("artifact attending", of("HF_ColBERT", {**BERT, **SIZES}), {"artifact.metadata": {**ARTIFACT, "attend_to_mask_tokens": True, "mask_punctuation": False}}, {}, {"linear.weight": (8, 24)}),
        ("pylate", {**ROBERTA, **SIZES}, {**pylate, "config_sentence_transformers.json": PYLATE_CONFIG}, one, {}),
        ("pylate without expansion", {**DISTIL, **SIZES}, {**pylate, "config_sentence_transformers.json": NO_EXPANSION}, one, {}),
        ("modules", {**BERT, **SIZES}, native, {**one, **two}, {}),
    ]


def late(name, config, more, layers, inline):
    files = {"config.json": config, "tokenizer.json": with_marks(), "tokenizer_config.json": TOKENIZER_CONFIG, **more}
    tensors = tensors_of("AutoModel", config)
    if inline:
        tensors = {f"bert.{name}": values(f"bert.{name}", tuple(tensor.shape)) for name, tensor in tensors.items()}
        tensors |= {name: values(name, shape) for name, shape in inline.items()}
    with tempfile.TemporaryDirectory() as folder:
        write(folder, files, tensors, layers)
        model = sentence_transformers.MultiVectorEncoder(folder, device="cpu")
        queries = [model.encode_query([text])[0].tolist() for text in TEXTS]
        passages = [model.encode_document([text])[0].tolist() for text in TEXTS]
    print(name, "queries", [len(rows) for rows in queries], "passages", [len(rows) for rows in passages])
    return {
        "name": name, "files": files, "tensors": shapes(tensors), "layers": layers,
        "queries": [rounded(rows) for rows in queries], "passages": [rounded(rows) for rows in passages],
    }


M3 = {**ROBERTA, "model_type": "xlm-roberta", "hidden_act": "gelu", "num_hidden_layers": 1, "architectures": ["XLMRobertaModel"]}


def pickled(tensors):
    out = io.BytesIO()
    torch.save({k: v.half() for k, v in tensors.items()}, out)
    return base64.b64encode(out.getvalue()).decode()


def m3():
    """FlagEmbedding's BGEM3: dense is the first token, sparse a weight a token, ColBERT all but the first."""
    pooling = {"word_embedding_dimension": 24, "pooling_mode_cls_token": True, "pooling_mode_mean_tokens": False}
    files = {
        "config.json": M3, "tokenizer.json": TOKENIZER,
        "tokenizer_config.json": {**TOKENIZER_CONFIG, "eos_token": "[SEP]"},
        **modules(TRANSFORMER, POOLING, NORMALIZE), "1_Pooling/config.json": pooling,
    }
    # As in the published one, weights have 16 bits and torch's own files.
    half = lambda tensors: {k: v.half().float() for k, v in tensors.items()}
    body = half({k: v for k, v in tensors_of("AutoModel", M3).items() if "pooler" not in k})
    sparse_linear = {"weight": values("sparse_linear.weight", (1, 24))}
    colbert_linear = half({"weight": values("colbert_linear.weight", (24, 24)), "bias": values("colbert_linear.bias", (24,))})
    with tempfile.TemporaryDirectory() as folder:
        write(folder, files, body)
        reader = transformers.AutoTokenizer.from_pretrained(folder)
        model = transformers.AutoModel.from_pretrained(folder, add_pooling_layer=False).eval()
        unused = {reader.convert_tokens_to_ids(token) for token in ("[CLS]", "[SEP]", "[PAD]", "[UNK]")}
        normalize = torch.nn.functional.normalize
        dense, indices, weights, multi = [], [], [], []
        read = [reader([text], truncation=True, max_length=30, return_tensors="pt") for text in TEXTS]
        with torch.inference_mode():
            all_states = [model(**{k: v for k, v in fed.items() if k != "token_type_ids"}).last_hidden_state[0] for fed in read]
            # With this bias half of the tokens have a weight.
            sparse_linear["bias"] = -(torch.cat(all_states) @ sparse_linear["weight"].T).median().reshape(1)
            sparse_linear = half(sparse_linear)
            for states in all_states:
                dense.append(normalize(states[0], dim=-1).tolist())
                multi.append(normalize(states[1:] @ colbert_linear["weight"].T + colbert_linear["bias"], dim=-1).tolist())
        for fed, states in zip(read, all_states):
            each = torch.relu(states @ sparse_linear["weight"].T + sparse_linear["bias"])[:, 0].tolist()
            found = {}
            for token, weight in zip(fed["input_ids"][0].tolist(), each):
                if token not in unused and weight > 0:
                    found[token] = max(weight, found.get(token, 0))
            indices.append(sorted(found))
            weights.append([found[token] for token in sorted(found)])
    print("m3", "nonzero", [len(row) for row in indices], "vectors", [len(rows) for rows in multi])
    files_of_torch = {"pytorch_model.bin": body, "sparse_linear.pt": sparse_linear, "colbert_linear.pt": colbert_linear}
    return {
        "files": files, "torch": {name: pickled(tensors) for name, tensors in files_of_torch.items()},
        "dense": rounded(dense), "indices": indices, "values": rounded(weights), "multi": [rounded(rows) for rows in multi],
    }


def projected():
    """A vector through a layer after the pooling."""
    config, tensors = BERT, tensors_of("AutoModel", BERT)
    layer_files, layers = layer("2_Dense", 24, 10, "activation.Tanh", True)
    pooling = {"word_embedding_dimension": 24, "pooling_mode_cls_token": True, "pooling_mode_mean_tokens": False}
    files = {
        "config.json": config, "tokenizer.json": TOKENIZER, "tokenizer_config.json": TOKENIZER_CONFIG,
        **modules(TRANSFORMER, POOLING, ("2_Dense", "sentence_transformers.models.Dense"), NORMALIZE),
        "1_Pooling/config.json": pooling, **layer_files,
    }
    with tempfile.TemporaryDirectory() as folder:
        write(folder, files, tensors, layers)
        vectors = sentence_transformers.SentenceTransformer(folder, device="cpu").encode(TEXTS, batch_size=1).tolist()
    return {"name": "projected", "files": files, "tensors": shapes(tensors), "layers": layers, "vectors": rounded(vectors)}


def main():
    torch.manual_seed(0)
    versions = {m.__name__: m.__version__ for m in (torch, transformers, sentence_transformers)}
    content = {
        "made_with": versions, "texts": TEXTS, "sparse": [sparse(*one) for one in SPARSE],
        "late": [late(*one) for one in late_cases()], "m3": m3(), "projected": projected(),
    }
    (HERE / "heads.json").write_text(json.dumps(content, ensure_ascii=True, separators=(",", ":")) + "\n")


if __name__ == "__main__":
    main()
