"""Where models run: the processor in tensors as a GPU would, and a GPU that is asked for and absent."""

import json
import subprocess

import httpx
import numpy
import pytest
import tiny_models
from conftest import clean_env

TEXTS = ["the stone marks the path", "snow", "", "the old key is of stone and rain"]

# No machine has so many.
ABSENT = "cuda:99"


@pytest.fixture
def embed(binary, tmp_path):
    """Runs `cairn embed` over the texts and reads the rows."""
    encoder = tiny_models.write(tiny_models.case("tiny", "bert mean normalized"), tmp_path / "encoder")
    texts = tmp_path / "texts.txt"
    texts.write_text("\n".join(TEXTS) + "\n")

    def run(env, fails=False):
        out = tmp_path / "rows.npy"
        out.unlink(missing_ok=True)
        settings = {f"CAIRN__MODELS__ENCODER__{key.upper()}": value for key, value in env.items()}
        command = [str(binary), "embed", str(texts), "--model", str(encoder), "--out", str(out)]
        done = subprocess.run(command, capture_output=True, text=True, timeout=120, env=clean_env() | settings)
        assert (done.returncode != 0) == fails, done.stdout + done.stderr
        assert "panicked" not in done.stderr
        return done.stderr if fails else numpy.load(out)

    return run


def test_tensors_give_the_rows_of_the_native_engine(embed):
    native = embed({"device": "cpu", "precision": "f32"})
    for precision, least in [("f32", 1 - 1e-6), ("f16", 0.9999), ("bf16", 0.995), ("auto", 1 - 1e-6)]:
        rows = embed({"device": "cpu", "backend": "tensors", "precision": precision})
        assert (rows * native).sum(axis=1).min() > least, precision


def test_a_gpu_that_is_absent_is_named_with_the_mend(embed):
    said = embed({"device": ABSENT}, fails=True)
    assert f"device `{ABSENT}` cannot be used" in said and "`auto` or `cpu`" in said
    assert "--features cuda" in said or "its driver says" in said
    said = embed({"device": "gpu"}, fails=True)
    assert "auto, cpu, cuda, cuda:N or metal" in said
    said = embed({"device": ABSENT, "backend": "packed"}, fails=True)
    assert "`backend` is packed" in said
    said = embed({"device": "cpu", "precision": "f16"}, fails=True)
    assert "`precision` is f16" in said


def test_a_service_without_the_gpu_it_is_to_use_goes_on(new_model_server):
    server = new_model_server("bert", {"CAIRN__MODELS__ENCODER__DEVICE": ABSENT})
    body = {"model": server.encoder, "input": TEXTS[:2]}
    for _ in range(2):
        answer = httpx.post(f"{server.url}/v1/embeddings", json=body, timeout=60)
        assert answer.status_code == 500
        assert f"device `{ABSENT}`" in json.dumps(answer.json())
    points = {"vectors": {"size": 2, "distance": "Dot"}}
    assert httpx.put(f"{server.url}/collections/without", json=points, timeout=60).status_code == 200


def test_one_model_may_run_elsewhere_than_the_others(new_model_server, tmp_path):
    encoder = str(tiny_models.write(tiny_models.case("tiny", "bert mean"), tmp_path / "other"))
    settings = tmp_path / "cairn.toml"
    settings.write_text(f'[[models.local]]\nname = {json.dumps(encoder)}\ndevice = "{ABSENT}"\nprecision = "f16"\n')
    server = new_model_server("bert", {"CAIRN_CONFIG": str(settings), "CAIRN__MODELS__DEFAULT": encoder})
    answer = httpx.post(f"{server.url}/v1/embeddings", json={"model": encoder, "input": "snow"}, timeout=60)
    assert answer.status_code == 500 and f"device `{ABSENT}`" in json.dumps(answer.json())
    info = httpx.post(f"{server.url}/rerank", json={"query": "snow", "texts": ["rain"]}, timeout=60)
    assert info.status_code == 200, info.text


def test_bench_measures_on_the_device_that_is_named(binary, tmp_path):
    encoder = tiny_models.write(tiny_models.case("tiny", "bert mean"), tmp_path / "encoder")

    def bench(device):
        command = [str(binary), "--json", "model", "bench", str(encoder), "--seconds", "1", "--device", device]
        return subprocess.run(command, capture_output=True, text=True, timeout=120, env=clean_env())

    done = bench("cpu")
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["device"] == "cpu"
    done = bench(ABSENT)
    assert done.returncode != 0 and f"device `{ABSENT}`" in done.stderr
    assert "cuda:N" in bench("gpu").stderr
