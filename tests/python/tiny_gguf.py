"""Small language models as GGUF files: fields from `golden/generator.json`, weights from the formula.

Written here byte by byte, so that it takes no package and shares no code with what is tested.
"""

import struct
from pathlib import Path

import numpy
import tiny_models

ALIGNMENT = 32
U32, I32, F32, BOOL, TEXT, LIST = 4, 5, 6, 7, 8, 9
KINDS = {"F32": 0, "F16": 1, "Q8_0": 8}

# Types of few bits: number, weights and bytes of a block, the places of its 16-bit floats, and the
# ratio of the second of them to the first. A weight is scale * n * q - minimum * m, or scale * (q - half);
# the ratio makes their mean 0, and `spread` is their deviation for a scale of 1.
BLOCKS = {
    "Q2_K": {"number": 10, "weights": 256, "bytes": 84, "scale": 80, "minimum": 82, "ratio": 1.5, "spread": 14},
    "Q3_K": {"number": 11, "weights": 256, "bytes": 110, "scale": 108, "spread": 43},
    "Q4_K": {"number": 12, "weights": 256, "bytes": 144, "scale": 0, "minimum": 2, "ratio": 7.5, "spread": 255},
    "Q5_K": {"number": 13, "weights": 256, "bytes": 176, "scale": 0, "minimum": 2, "ratio": 15.5, "spread": 520},
    "Q6_K": {"number": 14, "weights": 256, "bytes": 210, "scale": 208, "spread": 1366},
    "Q4_0": {"number": 2, "weights": 32, "bytes": 18, "scale": 0, "spread": 4.6},
    "Q4_1": {"number": 3, "weights": 32, "bytes": 20, "scale": 0, "minimum": 2, "ratio": -7.5, "spread": 4.6},
    "Q5_0": {"number": 6, "weights": 32, "bytes": 22, "scale": 0, "spread": 9.2},
    "Q5_1": {"number": 7, "weights": 32, "bytes": 24, "scale": 0, "minimum": 2, "ratio": -15.5, "spread": 9.2},
}
KINDS |= {name: block["number"] for name, block in BLOCKS.items()}

# Sizes of the small models, and those of the same models with rows of whole blocks.
WIDER = {64: 256, 32: 128, 96: 512, 128: 512, 192: 1024}


def golden() -> dict:
    return tiny_models.golden("generator")


def case(name: str) -> dict:
    [found] = [case for case in golden()["cases"] if case["name"] == name]
    return found


def fields(case: dict, tokenizers: dict | None = None) -> dict:
    """All fields of a case: those of its tokenizer and its own."""
    tokenizers = golden()["tokenizers"] if tokenizers is None else tokenizers
    return tokenizers[case["tokenizer"]] | case["fields"]


def tensors(case: dict) -> dict:
    """The tensors as the file has them: from the formula, but for those whose numbers are given."""
    made = {name: tiny_models.values(name, shape) for name, shape in case["tensors"].items()}
    return made | {name: numpy.array(given, dtype=numpy.float32) for name, given in case["given"].items()}


def wide(case: dict) -> dict:
    """The same model four times as wide, so that its rows are whole blocks of 256."""
    architecture = case["fields"]["general.architecture"]
    sizes = {"embedding_length": 256, "feed_forward_length": 512, "rope.dimension_count": 64}
    sizes |= {"attention.key_length": 64, "attention.value_length": 64}
    wider = {name: [WIDER.get(size, size) for size in shape] for name, shape in case["tensors"].items()}
    fields = case["fields"] | {f"{architecture}.{name}": size for name, size in sizes.items()}
    return case | {"tensors": wider, "fields": fields}


class Blocks:
    """A matrix in a type of few bits whose every bit is drawn: any bits are weights, but for the scales,
    which are set so that a product keeps the size of what goes through it."""

    ndim = 2

    def __init__(self, name: str, shape: list[int], kind: str):
        self.name, self.shape, self.kind = name, tuple(shape), kind

    def bytes(self) -> bytes:
        block = BLOCKS[self.kind]
        rows, inputs = self.shape
        count = rows * inputs // block["weights"]
        drawn = tiny_models.values(self.name, [count * block["bytes"]]) + 0.5
        made = (drawn * 256).astype(numpy.uint8).reshape(count, block["bytes"])
        scale = inputs**-0.5 / block["spread"]
        self.put(made, block["scale"], scale)
        if "minimum" in block:
            self.put(made, block["minimum"], scale * block["ratio"])
        return made.tobytes()

    @staticmethod
    def put(blocks: numpy.ndarray, at: int, number: float):
        blocks[:, at : at + 2] = numpy.frombuffer(numpy.array([number], dtype="<f2").tobytes(), dtype=numpy.uint8)


def few_bits(case: dict, kind_of) -> dict:
    """The tensors of a case with matrices of few bits: `kind_of` a name is its type."""
    made = tensors(case)
    for name, tensor in made.items():
        if tensor.ndim == 2:
            made[name] = Blocks(name, tensor.shape, kind_of(name))
    return made


def write(path: Path, fields: dict, tensors: dict, kind: str = "F32") -> Path:
    """Writes a file; matrices are kept as `kind`, vectors as 32-bit floats."""
    head = [b"GGUF", struct.pack("<IQQ", 3, len(tensors), len(fields))]
    for name, value in fields.items():
        number, data = _value(value)
        head += [_text(name), struct.pack("<I", number), data]
    body, offset = [], 0
    for name, tensor in tensors.items():
        of = "F32" if tensor.ndim != 2 else tensor.kind if isinstance(tensor, Blocks) else kind
        dims = tensor.shape[::-1]
        head += [_text(name), struct.pack(f"<I{len(dims)}QIQ", len(dims), *dims, KINDS[of], offset)]
        data = tensor.bytes() if isinstance(tensor, Blocks) else _tensor(tensor, of)
        data += bytes(-len(data) % ALIGNMENT)
        body.append(data)
        offset += len(data)
    head = b"".join(head)
    path.write_bytes(head + bytes(-len(head) % ALIGNMENT) + b"".join(body))
    return path


def _text(text: str) -> bytes:
    data = text.encode()
    return struct.pack("<Q", len(data)) + data


def _value(value) -> tuple[int, bytes]:
    match value:
        case bool():
            return BOOL, struct.pack("<?", value)
        case int():
            return U32, struct.pack("<I", value)
        case float():
            return F32, struct.pack("<f", value)
        case str():
            return TEXT, _text(value)
        case [int(), *_]:
            return LIST, struct.pack("<IQ", I32, len(value)) + struct.pack(f"<{len(value)}i", *value)
        case [float(), *_]:
            return LIST, struct.pack("<IQ", F32, len(value)) + struct.pack(f"<{len(value)}f", *value)
        case [str(), *_]:
            return LIST, struct.pack("<IQ", TEXT, len(value)) + b"".join(map(_text, value))
    raise TypeError(f"no kind of GGUF for {value!r}")


def _tensor(tensor: numpy.ndarray, kind: str) -> bytes:
    if kind == "F32":
        return tensor.astype("<f4").tobytes()
    if kind == "F16":
        return tensor.astype("<f2").tobytes()
    # Blocks of 32 bytes, each with a scale of 16 bits before it.
    blocks = tensor.reshape(-1, 32)
    scales = (numpy.abs(blocks).max(axis=1, keepdims=True) / 127).astype("<f2")
    bytes_ = numpy.rint(blocks / numpy.maximum(scales.astype(numpy.float32), 1e-12)).clip(-127, 127)
    made = numpy.zeros(len(blocks), dtype=[("scale", "<f2"), ("bytes", "i1", 32)])
    made["scale"], made["bytes"] = scales[:, 0], bytes_
    return made.tobytes()
