"""A real llama.cpp server, in a process of its own: that of the package `xllamacpp`.

Everything is 32-bit floats, so that what it writes can be compared with what we write.
"""

import contextlib
import importlib.metadata
import importlib.util
import json
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path

# Serves until it is told to end; says its address on the first line.
SERVE = """
import signal, sys, xllamacpp
params = xllamacpp.CommonParams()
params.model.path = sys.argv[1]
params.n_ctx = int(sys.argv[3])
params.n_parallel = 1
params.n_gpu_layers = 0
params.warmup = False
params.hostnames = ["127.0.0.1"]
params.port = int(sys.argv[2])
params.cpuparams.n_threads = 1
params.cache_type_k = xllamacpp.ggml_type.GGML_TYPE_F32
params.cache_type_v = xllamacpp.ggml_type.GGML_TYPE_F32
params.flash_attn_type = xllamacpp.llama_flash_attn_type.LLAMA_FLASH_ATTN_TYPE_DISABLED
server = xllamacpp.Server(params)
print(server.listening_address, flush=True)
signal.pause()
"""


class LlamaCpp:
    """The server at an address."""

    def __init__(self, url: str):
        self.url = url

    def tokenize(self, text: str, special: bool) -> list[int]:
        """The ids of a text; with `special`, the token that texts begin with too."""
        body = {"content": text, "add_special": special, "parse_special": True}
        return self.post("/tokenize", body)["tokens"]

    def complete(self, prompt: list[int], count: int) -> list[int]:
        """The likeliest tokens after a prompt."""
        body = {"prompt": prompt, "n_predict": count, "temperature": 0, "return_tokens": True}
        return self.post("/completion", body | {"samplers": ["top_k"], "top_k": 1})["tokens"]

    def weighed(self, prompt: list[int], count: int) -> list[tuple[int, dict[int, float]]]:
        """The likeliest tokens after a prompt, each with the logarithms of how likely it and some others were;
        for one whose bytes are no whole character the server does not tell them."""
        body = {"prompt": prompt, "n_predict": count, "temperature": 0, "return_tokens": True, "n_probs": 5}
        told = self.post("/completion", body | {"samplers": ["top_k"], "top_k": 1})
        steps, weighed = list(told.get("completion_probabilities", [])), []
        for token in told["tokens"]:
            step = steps.pop(0) if steps and steps[0]["id"] == token else {"top_logprobs": []}
            weighed.append((token, {one["id"]: one["logprob"] for one in step["top_logprobs"]}))
        return weighed

    def chat(self, messages: list[dict], count: int) -> str:
        body = {"messages": messages, "max_tokens": count, "temperature": 0}
        return self.post("/v1/chat/completions", body)["choices"][0]["message"]["content"]

    def post(self, path: str, body: dict) -> dict:
        headers = {"content-type": "application/json"}
        request = urllib.request.Request(self.url + path, json.dumps(body).encode(), headers)
        with urllib.request.urlopen(request, timeout=120) as reply:
            return json.load(reply)


def healthy(url: str) -> bool:
    try:
        with urllib.request.urlopen(f"{url}/health", timeout=5) as reply:
            return reply.status == 200
    except urllib.error.URLError:
        return False


def free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return free.getsockname()[1]


def is_here() -> bool:
    return importlib.util.find_spec("xllamacpp") is not None


def version() -> str:
    return importlib.metadata.version("xllamacpp")


@contextlib.contextmanager
def server(model: Path, context: int = 256, timeout_s: float = 120):
    """Serves a GGUF file."""
    log = model.with_suffix(".log")
    with log.open("wb") as errors:
        process = subprocess.Popen(
            [sys.executable, "-c", SERVE, str(model), str(free_port()), str(context)],
            stdout=subprocess.PIPE,
            stderr=errors,
        )
    try:
        url = process.stdout.readline().decode().strip()
        assert url.startswith("http"), f"llama.cpp did not start:\n{log.read_text(errors='replace')[-4000:]}"
        end = time.monotonic() + timeout_s
        while not healthy(url):
            assert time.monotonic() < end, "llama.cpp was not ready in time"
            time.sleep(0.05)
        yield LlamaCpp(url)
    finally:
        process.send_signal(signal.SIGKILL)
        process.wait()
