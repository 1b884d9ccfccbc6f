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


def write(path: Path, fields: dict, tensors: dict, kind: str = "F32") -> Path:
    """Writes a file; matrices are kept as `kind`, vectors as 32-bit floats."""
    head = [b"GGUF", struct.pack("<IQQ", 3, len(tensors), len(fields))]
    for name, value in fields.items():
        number, data = _value(value)
        head += [_text(name), struct.pack("<I", number), data]
    body, offset = [], 0
    for name, tensor in tensors.items():
        of = kind if tensor.ndim == 2 else "F32"
        dims = tensor.shape[::-1]
        head += [_text(name), struct.pack(f"<I{len(dims)}QIQ", len(dims), *dims, KINDS[of], offset)]
        data = _tensor(tensor, of)
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
