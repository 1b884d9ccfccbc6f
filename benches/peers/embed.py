"""Text embedding in sentence-transformers, ONNX Runtime and OpenVINO, as `embed` asks for it.

    embed.py texts WORK DOCS MODEL    makes the texts from the toolchain's pages
    embed.py prepare WORK SYSTEM      makes the files that a system loads
    embed.py run WORK SYSTEM THREADS  measures one system, JSON on standard output

sentence-transformers reads the model's own folder. The others get an ONNX graph
that this script writes from the weights; each fuses it as it likes. ONNX Runtime's
int8 is its dynamic quantization with a scale for each output; OpenVINO's is NNCF's
static one, calibrated on texts that are not measured. Batches have 32 texts, padded
to the longest; sentence-transformers sorts the texts of a call itself. Timed from
text to vector of length 1, in one process for each system and number of threads,
whose own peak of memory is told.
"""

import glob
import html.parser
import json
import os
import pathlib
import random
import re
import sys
import time

BOOKS = ["book", "reference", "cargo", "nomicon", "edition-guide", "embedded-book", "rustc", "rustdoc", "clippy"]
BATCH = 32


class Paragraphs(html.parser.HTMLParser):
    """The texts of the paragraphs in the main part of a page."""

    def __init__(self):
        super().__init__()
        self.main, self.depth, self.text, self.found = 0, 0, [], []

    def handle_starttag(self, tag, attributes):
        self.main += tag == "main"
        self.depth += tag == "p"

    def handle_endtag(self, tag):
        self.main -= tag == "main"
        if tag == "p" and self.depth:
            self.depth -= 1
            text = re.sub(r"\s+", " ", "".join(self.text)).strip()
            self.text = []
            if self.main and len(text) > 30:
                self.found.append(text)

    def handle_data(self, data):
        if self.depth:
            self.text.append(data)


def make_texts(work, docs, model):
    from tokenizers import Tokenizer

    tokenizer = Tokenizer.from_file(f"{model}/tokenizer.json")
    tokenizer.no_truncation()
    tokenizer.no_padding()
    paragraphs = {}
    for book in BOOKS:
        for file in sorted(glob.glob(f"{docs}/{book}/**/*.html", recursive=True)):
            if os.path.basename(file) in ("print.html", "toc.html", "404.html"):
                continue
            if len(os.path.relpath(file, docs).split(os.sep)[1]) == 2:  # a translation
                continue
            parser = Paragraphs()
            parser.feed(pathlib.Path(file).read_text(errors="replace"))
            paragraphs.update(dict.fromkeys(parser.found))

    def lengths(texts):
        return [len(found.ids) for found in tokenizer.encode_batch(texts)]

    def between(texts, low, high):
        return [text for text, length in zip(texts, lengths(texts)) if low <= length <= high]

    def joined(low, high):
        found, part, size = [], [], 2
        for text, length in zip(paragraphs, lengths(list(paragraphs))):
            if size + length - 2 > high:
                if size >= low:
                    found.append(" ".join(part))
                part, size = [], 2
            if length <= high:
                part.append(text)
                size += length - 2
        return found

    sentences = {}
    for text in paragraphs:
        parts = re.split(r"(?<=[.!?:])\s+(?=[A-Z])", text)
        sentences.update(dict.fromkeys(part for part in parts if len(part) > 20))
    pools = {
        "short": between(list(sentences), 12, 20),
        "medium": between(list(paragraphs), 52, 76),
        "between": joined(100, 160),
        "long": joined(224, 256),
    }
    chance = random.Random(42)
    for pool in pools.values():
        chance.shuffle(pool)
    sets = {"short": pools["short"][:256], "medium": pools["medium"][:128], "long": pools["long"][:48]}
    mixed = pools["short"][256:304] + pools["medium"][128:164] + pools["between"][:18] + pools["long"][48:66]
    chance.shuffle(mixed)
    sets["mixed"] = mixed
    sets["calibration"] = pools["medium"][-100:] + pools["long"][-50:]
    (work / "texts.json").write_text(json.dumps(sets))


def write_onnx(model, path):
    """BERT as a graph of the operators that exporters use for it."""
    import numpy as np
    import onnx
    from onnx import TensorProto, helper, numpy_helper
    from safetensors.numpy import load_file

    config = json.loads(pathlib.Path(model, "config.json").read_text())
    heads, hidden, eps = config["num_attention_heads"], config["hidden_size"], config["layer_norm_eps"]
    weights = {name.removeprefix("bert."): w for name, w in load_file(f"{model}/model.safetensors").items()}
    nodes, constants = [], []

    def const(value, name):
        constants.append(numpy_helper.from_array(np.asarray(value), name))
        return name

    def op(kind, inputs, name, **attributes):
        nodes.append(helper.make_node(kind, inputs, [name], name=name, **attributes))
        return name

    def linear(x, part, name):
        product = op("MatMul", [x, const(weights[f"{part}.weight"].T.copy(), f"{name}.w")], f"{name}.product")
        return op("Add", [const(weights[f"{part}.bias"], f"{name}.b"), product], f"{name}.out")

    def norm(x, part, name):
        scale, bias = const(weights[f"{part}.weight"], f"{name}.w"), const(weights[f"{part}.bias"], f"{name}.b")
        return op("LayerNormalization", [x, scale, bias], f"{name}.out", axis=-1, epsilon=eps)

    types = weights["embeddings.token_type_embeddings.weight"][0]
    places = const(weights["embeddings.position_embeddings.weight"] + types, "places")
    words = op("Gather", [const(weights["embeddings.word_embeddings.weight"], "words"), "input_ids"], "word_rows")
    shape = op("Shape", ["input_ids"], "shape")
    length = op("Gather", [shape, const(np.array([1]), "one")], "length")
    zero = const(np.array([0]), "zero")
    rows = op("Slice", [places, zero, length, zero], "place_rows")
    x = norm(op("Add", [words, rows], "embedded"), "embeddings.LayerNorm", "embeddings.norm")

    mask = op("Cast", ["attention_mask"], "mask_float", to=TensorProto.FLOAT)
    mask = op("Unsqueeze", [mask, const(np.array([1, 2]), "axes")], "mask_rows")
    mask = op("Sub", [const(np.float32(1), "one_float"), mask], "mask_away")
    mask = op("Mul", [mask, const(np.float32(-3.4e38), "lowest")], "mask_added")
    split = const(np.array([0, 0, heads, hidden // heads]), "split_shape")
    joined = const(np.array([0, 0, hidden]), "joined_shape")
    root = const(np.float32((hidden // heads) ** 0.5), "root")
    for layer in range(config["num_hidden_layers"]):
        at, name = f"encoder.layer.{layer}", f"layer{layer}"

        def head(part, order):
            y = linear(x, f"{at}.attention.self.{part}", f"{name}.{part}")
            y = op("Reshape", [y, split], f"{name}.{part}.split")
            return op("Transpose", [y], f"{name}.{part}.heads", perm=order)

        query, key = head("query", [0, 2, 1, 3]), head("key", [0, 2, 3, 1])
        value = head("value", [0, 2, 1, 3])
        scores = op("Div", [op("MatMul", [query, key], f"{name}.qk"), root], f"{name}.scores")
        scores = op("Softmax", [op("Add", [scores, mask], f"{name}.masked")], f"{name}.softmax", axis=-1)
        mixed = op("Transpose", [op("MatMul", [scores, value], f"{name}.pv")], f"{name}.back", perm=[0, 2, 1, 3])
        mixed = op("Reshape", [mixed, joined], f"{name}.joined")
        y = linear(mixed, f"{at}.attention.output.dense", f"{name}.output")
        x = norm(op("Add", [y, x], f"{name}.add1"), f"{at}.attention.output.LayerNorm", f"{name}.norm1")
        y = linear(x, f"{at}.intermediate.dense", f"{name}.up")
        e = op("Erf", [op("Div", [y, const(np.float32(2**0.5), f"{name}.two")], f"{name}.inner")], f"{name}.erf")
        e = op("Add", [e, const(np.float32(1), f"{name}.one")], f"{name}.plus")
        y = op("Mul", [op("Mul", [y, e], f"{name}.times"), const(np.float32(0.5), f"{name}.half")], f"{name}.gelu")
        y = linear(y, f"{at}.output.dense", f"{name}.down")
        x = norm(op("Add", [y, x], f"{name}.add2"), f"{at}.output.LayerNorm", f"{name}.norm2")
    nodes[-1].output[0] = "last_hidden_state"
    ids = [
        helper.make_tensor_value_info(given, TensorProto.INT64, ["batch", "length"])
        for given in ("input_ids", "attention_mask")
    ]
    out = helper.make_tensor_value_info("last_hidden_state", TensorProto.FLOAT, ["batch", "length", hidden])
    graph = helper.make_graph(nodes, "bert", ids, [out], constants)
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=10), path)


def prepare(work, system):
    """Writes what the system loads, so that the process that is measured does not."""
    task = json.loads((work / "task.json").read_text())
    path = work / "model.onnx"
    if not system.startswith("sentence-transformers") and not path.exists():
        write_onnx(task["model"], path)
    short = work / "model.int8.onnx"
    if system == "onnxruntime-int8" and not short.exists():
        from onnxruntime.quantization import QuantType, quantize_dynamic

        quantize_dynamic(str(path), str(short), weight_type=QuantType.QInt8, per_channel=True)
    short = work / "openvino-int8.xml"
    if system == "openvino-int8" and not short.exists():
        import nncf
        import openvino as ov

        batch = batches(task["model"])

        def inputs(text):
            ids, mask = batch([text])
            return {"input_ids": ids, "attention_mask": mask}

        texts = json.loads((work / "texts.json").read_text())["calibration"]
        model = nncf.quantize(
            ov.Core().read_model(str(path)),
            nncf.Dataset(texts, inputs),
            model_type=nncf.ModelType.TRANSFORMER,
            subset_size=len(texts),
        )
        ov.save_model(model, str(short), compress_to_fp16=False)


def batches(model):
    """Texts to ids and masks, padded to the longest."""
    import numpy as np
    from tokenizers import Tokenizer

    tokenizer = Tokenizer.from_file(model + "/tokenizer.json")
    tokenizer.enable_truncation(256)
    tokenizer.enable_padding(pad_id=0, pad_token="[PAD]")

    def batch(texts):
        found = tokenizer.encode_batch(texts)
        ids = np.array([one.ids for one in found], dtype=np.int64)
        return ids, np.array([one.attention_mask for one in found], dtype=np.int64)

    return batch


def sentence_transformers(task, kind, threads):
    import torch
    from sentence_transformers import SentenceTransformer

    torch.set_num_threads(threads)
    torch.set_num_interop_threads(1)
    model = SentenceTransformer(task["model"], device="cpu")
    model = model.to(torch.bfloat16) if kind == "bf16" else model
    options = {"batch_size": BATCH, "normalize_embeddings": True, "show_progress_bar": False}
    # NumPy has no bfloat16.
    return lambda texts: model.encode(texts, convert_to_tensor=True, **options).float().numpy()


def onnxruntime_run(work, kind, threads):
    import onnxruntime as ort

    options = ort.SessionOptions()
    options.intra_op_num_threads, options.inter_op_num_threads = threads, 1
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_ENABLE_ALL
    path = work / ("model.int8.onnx" if kind == "int8" else "model.onnx")
    session = ort.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    return lambda ids, mask: session.run(None, {"input_ids": ids, "attention_mask": mask})[0]


def openvino_run(work, kind, threads):
    import openvino as ov

    config = {"INFERENCE_NUM_THREADS": threads, "PERFORMANCE_HINT": "LATENCY", "NUM_STREAMS": 1}
    if kind in ("f32", "bf16"):
        config["INFERENCE_PRECISION_HINT"] = kind
    path = work / ("openvino-int8.xml" if kind == "int8" else "model.onnx")
    compiled = ov.Core().compile_model(str(path), "CPU", config)
    request, out = compiled.create_infer_request(), compiled.output(0)
    return lambda ids, mask: request.infer({"input_ids": ids, "attention_mask": mask})[out]


def pooled(states, batch):
    """The means of states, at length 1."""
    import numpy as np

    def embed(texts):
        found = []
        for at in range(0, len(texts), BATCH):
            ids, mask = batch(texts[at : at + BATCH])
            weights = mask[:, :, None].astype(np.float32)
            vectors = (states(ids, mask) * weights).sum(1) / weights.sum(1)
            found.append(vectors / np.linalg.norm(vectors, axis=1, keepdims=True))
        return np.concatenate(found)

    return embed


def peak_bytes():
    """The most memory this process had; what `getrusage` says counts its parent's as well."""
    with open("/proc/self/status") as status:
        return next(int(line.split()[1]) * 1024 for line in status if line.startswith("VmHWM:"))


def run(work, system, threads):
    os.environ["OMP_NUM_THREADS"] = os.environ["RAYON_NUM_THREADS"] = str(threads)
    os.environ["TOKENIZERS_PARALLELISM"] = "true" if threads > 1 else "false"
    task = json.loads((work / "task.json").read_text())
    library, kind = system.rsplit("-", 1)
    started = time.perf_counter()
    if library == "sentence-transformers":
        embed = sentence_transformers(task, kind, threads)
    elif library == "onnxruntime":
        embed = pooled(onnxruntime_run(work, kind, threads), batches(task["model"]))
    else:
        embed = pooled(openvino_run(work, kind, threads), batches(task["model"]))
    embed(["warm up"])
    loaded = time.perf_counter() - started

    def seconds(texts):
        started = time.perf_counter()
        embed(texts)
        return time.perf_counter() - started

    found = {"system": system, "threads": threads, "load_s": loaded, "seconds": {}, "alone_us": {}}
    for texts in task["sets"].values():
        embed(texts[:BATCH])
    # Set after set, so that what disturbs the machine for a while disturbs all.
    for _ in range(task["rounds"]):
        for name, texts in task["sets"].items():
            found["seconds"][name] = min(seconds(texts), found["seconds"].get(name, float("inf")))
    for name in task["alone"]:
        texts, times = task["sets"][name][: task["alone_texts"]], []
        for text in texts[:10] + texts * 2:
            started = time.perf_counter()
            embed([text])
            times.append((time.perf_counter() - started) * 1e6)
        found["alone_us"][name] = times[10:]
    found["vectors"] = [embed([text])[0].tolist() for text in task["judged"]]
    found["peak_bytes"] = peak_bytes()
    print(json.dumps(found))


if __name__ == "__main__":
    work = pathlib.Path(sys.argv[2])
    if sys.argv[1] == "texts":
        make_texts(work, sys.argv[3], sys.argv[4])
    elif sys.argv[1] == "prepare":
        prepare(work, sys.argv[3])
    else:
        run(work, sys.argv[3], int(sys.argv[4]))
