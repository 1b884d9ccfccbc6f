"""sentence-transformers on a GPU, as `embed_gpu` asks for it.

    embed_gpu.py WORK DEVICE

Reads WORK/gpu.json, prints JSON on its last line. Each precision is a load of the
model by itself. Batches are as sentence-transformers makes them: sorted by length,
padded to the longest. Timed from texts to vectors that are back.
"""

import json
import pathlib
import sys
import time


def measure(task, device, dtype):
    import torch
    from sentence_transformers import SentenceTransformer

    started = time.perf_counter()
    model = SentenceTransformer(task["model"], device=device, model_kwargs={"dtype": getattr(torch, dtype)})
    model.encode(["warm up"])
    loaded = time.perf_counter() - started

    def embed(texts):
        return model.encode(texts, batch_size=task["batch"], normalize_embeddings=False, show_progress_bar=False)

    seconds = {}
    for name, texts in task["sets"].items():
        embed(texts)
        best = float("inf")
        for _ in range(task["rounds"]):
            began = time.perf_counter()
            embed(texts)
            best = min(best, time.perf_counter() - began)
        seconds[name] = best
    query = []
    for text in task["queries"]:
        began = time.perf_counter()
        embed([text])
        query.append((time.perf_counter() - began) * 1e6)
    vectors = embed(task["judged"]).astype("float32").tolist()
    return {
        "system": f"sentence-transformers {dtype}",
        "load_s": loaded,
        "seconds": seconds,
        "query_us": query,
        "vectors": vectors,
    }


def main():
    work, device = pathlib.Path(sys.argv[1]), sys.argv[2]
    task = json.loads((work / "gpu.json").read_text())
    import torch

    kind = device.split(":")[0]
    usable = {"cuda": torch.cuda.is_available, "metal": torch.backends.mps.is_available, "cpu": lambda: True}
    if not usable[kind]():
        sys.exit(f"torch has no {device} here")
    device = "mps" if kind == "metal" else device
    found = [measure(task, device, dtype) for dtype in ("float16", "float32")]
    print(json.dumps(found))


main()
