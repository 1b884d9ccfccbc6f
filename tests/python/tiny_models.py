"""Small models with weights from a formula, and what the reference makes of them.

The formula, the files and the expected numbers are those of `crates/embed/golden`, where a script
made them with transformers and sentence-transformers.
"""

import json
import math
from pathlib import Path

import numpy
from safetensors.numpy import save_file

GOLDEN = Path(__file__).resolve().parents[2] / "crates/embed/golden"


def golden(name: str) -> dict:
    return json.loads((GOLDEN / f"{name}.json").read_text())


def case(file: str, name: str) -> dict:
    [found] = [case for case in golden(file)["cases"] if case["name"] == name]
    return found


def values(name: str, shape: list) -> numpy.ndarray:
    seed = 0xCBF29CE484222325
    for byte in name.encode():
        seed = (seed ^ byte) * 0x100000001B3 % 2**64
    count = math.prod(shape)
    x = (numpy.arange(count, dtype=numpy.uint64) + numpy.uint64(1)) * numpy.uint64(0x9E3779B97F4A7C15)
    x += numpy.uint64(seed)
    x ^= x >> numpy.uint64(31)
    x *= numpy.uint64(0xBF58476D1CE4E5B9)
    x ^= x >> numpy.uint64(29)
    unit = (x >> numpy.uint64(40)).astype(numpy.float32) / numpy.float32(2**24) - numpy.float32(0.5)
    norm = "norm" in name.lower() and name.endswith("weight")
    return (unit + (1 if norm else 0)).astype(numpy.float32).reshape(shape)


def write(case: dict, folder: Path) -> Path:
    """Writes the folder of a model."""
    for path, content in case["files"].items():
        path = folder / path
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(content))
    tensors = {name: values(name, shape) for name, shape in case["tensors"].items()}
    save_file(tensors, folder / "model.safetensors")
    return folder


def sigmoid(x: float) -> float:
    return 1 / (1 + math.exp(-x))
