"""Small models with weights from a formula, and what the reference makes of them.

The formula, the files and the expected numbers are those of `crates/embed/golden`, where a script
made them with transformers and sentence-transformers.
"""

import base64
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
    # Some have files that torch saved instead, as they are.
    for path, content in case.get("torch", {}).items():
        (folder / path).write_bytes(base64.b64decode(content))
    if "tensors" in case:
        tensors = {name: values(name, shape) for name, shape in case["tensors"].items()}
        save_file(tensors, folder / "model.safetensors")
    for path, shapes in case.get("layers", {}).items():
        tensors = {name: values(f"{path}.{name}", shape) for name, shape in shapes.items()}
        save_file(tensors, folder / path / "model.safetensors")
    return folder


def install(case: dict, name: str, hub_home: Path) -> str:
    """Writes the folder of a model where the hub's client would, so that it can be named."""
    place = hub_home / "hub" / f"models--{name.replace('/', '--')}"
    (place / "refs").mkdir(parents=True)
    (place / "refs/main").write_text("0" * 40)
    write(case, place / "snapshots" / ("0" * 40))
    return name


def sigmoid(x: float) -> float:
    return 1 / (1 + math.exp(-x))
