"""Writes rerank.json: what transformers makes of some pairs with tiny models
for sequence classification.

Run by hand, never by the tests:

    python -m venv venv && venv/bin/pip install torch transformers sentence-transformers
    venv/bin/python make_rerank.py
"""

import json
import tempfile
from pathlib import Path

import numpy
import safetensors.torch
import torch
import transformers

from make_golden import BERT, DISTIL, HERE, ROBERTA, TOKENIZER, TOKENIZER_CONFIG, VOCAB, values

QUERIES = ["what marks the path?", "stone " * 40, ""]
TEXTS = ["the stone marks the path", "snow and rain .", "", "a", "the old key of the path and snow " * 12, "zebra!"]
# Both short, the text too long, the query too long, both too long, either empty.
PAIRS = [[query, text] for query in QUERIES for text in TEXTS]

ROBERTA_TOKENIZER = {
    **TOKENIZER,
    "post_processor": {
        "type": "RobertaProcessing", "sep": ["[SEP]", VOCAB["[SEP]"]], "cls": ["[CLS]", VOCAB["[CLS]"]],
        "trim_offsets": True, "add_prefix_space": False,
    },
}
WITH_TYPES = {**TOKENIZER_CONFIG, "model_input_names": ["input_ids", "token_type_ids", "attention_mask"]}
WITHOUT_TYPES = {**TOKENIZER_CONFIG, "model_input_names": ["input_ids", "attention_mask"]}


def labels(*names):
    return {"id2label": {str(at): name for at, name in enumerate(names)}, "label2id": {name: at for at, name in enumerate(names)}}


ONE = labels("LABEL_0")
BERT_HEAD = {**BERT, "architectures": ["BertForSequenceClassification"]}
CASES = [
    ("bert", {**BERT_HEAD, **ONE}, TOKENIZER, WITH_TYPES),
    ("bert without token types", {**BERT_HEAD, **ONE}, TOKENIZER, WITHOUT_TYPES),
    ("bert with labels", {**BERT_HEAD, **labels("contradiction", "entailment", "neutral")}, TOKENIZER, WITH_TYPES),
    ("roberta", {**ROBERTA, **ONE, "architectures": ["RobertaForSequenceClassification"]}, ROBERTA_TOKENIZER, WITHOUT_TYPES),
    ("xlm-roberta", {**ROBERTA, **ONE, "model_type": "xlm-roberta", "hidden_act": "gelu", "architectures": ["XLMRobertaForSequenceClassification"]}, ROBERTA_TOKENIZER, WITHOUT_TYPES),
    ("distilbert", {**DISTIL, **ONE, "architectures": ["DistilBertForSequenceClassification"]}, TOKENIZER, WITHOUT_TYPES),
]


def rounded(rows):
    return [[float(f"{x:.7g}") for x in row] for row in rows]


def case(name, config, tokenizer, tokenizer_config):
    kind = transformers.AutoConfig.for_model(**config)
    model = transformers.AutoModelForSequenceClassification.from_config(kind)
    tensors = {k: values(k, tuple(v.shape)) for k, v in model.state_dict().items() if v.dtype == torch.float32}
    files = {"config.json": config, "tokenizer.json": tokenizer, "tokenizer_config.json": tokenizer_config}
    with tempfile.TemporaryDirectory() as folder:
        for path, content in files.items():
            Path(folder, path).write_text(json.dumps(content))
        safetensors.torch.save_file(tensors, Path(folder, "model.safetensors"), {"format": "pt"})
        reader = transformers.AutoTokenizer.from_pretrained(folder)
        model = transformers.AutoModelForSequenceClassification.from_pretrained(folder).eval()

        def logits(*texts):
            # As lists: alone, an empty second text would count as none.
            fed = reader(*([text] for text in texts), truncation=True, max_length=30, return_tensors="pt")
            with torch.inference_mode():
                return model(**fed).logits[0].tolist(), fed["input_ids"].shape[1]

        pairs = [logits(*pair) for pair in PAIRS]
        single = [logits(text) for text in TEXTS]
    print(name, "spread", numpy.std([found for found, _ in pairs], axis=0))
    return {
        "name": name,
        "files": files,
        "tensors": {k: list(v.shape) for k, v in tensors.items()},
        "pairs": rounded([found for found, _ in pairs]),
        "pair_tokens": [tokens for _, tokens in pairs],
        "single": rounded([found for found, _ in single]),
    }


def main():
    torch.manual_seed(0)
    versions = {m.__name__: m.__version__ for m in (torch, transformers)}
    content = {"made_with": versions, "pairs": PAIRS, "texts": TEXTS, "cases": [case(*one) for one in CASES]}
    (HERE / "rerank.json").write_text(json.dumps(content, ensure_ascii=True, separators=(",", ":")) + "\n")


if __name__ == "__main__":
    main()
