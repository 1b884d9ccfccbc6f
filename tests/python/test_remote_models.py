"""Models behind an address: collections, search, inference, and the interfaces of embeddings, with a
real service on this machine that also fails."""

import subprocess
import time

import embedding_service
import httpx
import pytest
from conftest import Server, clean_env
from qdrant_client import QdrantClient, models

SETTINGS = """
[models]
default = "far"

[[models.remote]]
name = "far"
url = "{url}/v1"
model = "letters-1"
api_key_env = "FAR_KEY"
query_prompt = "q "
batch_texts = 4
in_flight = 2
timeout_ms = 1000
retries = 3
give_up_ms = 6000

[[models.remote]]
name = "Org/far-tei"
url = "{url}"
protocol = "tei"
"""


@pytest.fixture(scope="module")
def service():
    with embedding_service.running() as service:
        yield service


@pytest.fixture(autouse=True)
def fresh(service):
    service.asked.clear()
    service.acts.clear()
    service.keys.clear()


@pytest.fixture(scope="module")
def far(service, binary, tmp_path_factory):
    folder = tmp_path_factory.mktemp("far")
    config = folder / "cairn.toml"
    config.write_text(SETTINGS.format(url=service.url))
    env = {"CAIRN_CONFIG": str(config), "FAR_KEY": "a-secret-key"}
    server = Server(binary, folder / "data", folder / "log", env)
    yield server.start()
    server.close()


@pytest.fixture
def http(far):
    with httpx.Client(base_url=far.url, timeout=60) as http:
        yield http


def add(http, collection, *texts):
    documents = [{"id": f"d{at}", "text": text} for at, text in enumerate(texts)]
    return http.put(f"/collections/{collection}/documents", json={"documents": documents})


def test_documents_are_added_and_found_by_a_model_behind_an_address(http, service, far):
    texts = [f"{letter * 9} {letter * 3}." for letter in "abcdefghij"]
    assert add(http, "letters", *texts).status_code == 200
    assert all(len(body["input"]) <= 4 and body["model"] == "letters-1" for body in service.asked)
    assert set(service.keys) == {"Bearer a-secret-key"}
    service.asked.clear()
    wanted = {"query": "ffff", "limit": 1, "retrieval": {"mode": "dense"}}
    found = http.post("/collections/letters/search", json=wanted).json()
    assert found["result"]["hits"][0]["document_id"] == "d5"
    assert service.texts() == ["q ffff"]
    info = http.get("/collections/letters").json()["result"]
    assert info["config"]["params"]["vectors"]["size"] == 26
    # After a restart it is the same model that is asked.
    far.restart()
    assert (http.post("/collections/letters/search", json=wanted)).status_code == 200


def test_the_interfaces_of_embeddings_give_its_vectors(http, service):
    body = {"model": "far", "input": ["abc", "zz"]}
    made = http.post("/v1/embeddings", json=body).json()
    for one, text in zip(made["data"], ["abc", "zz"], strict=True):
        assert one["embedding"] == pytest.approx(embedding_service.vector(text))
    assert made["usage"]["prompt_tokens"] == 20
    tei = http.post("/embed", json={"model": "Org/far-tei", "inputs": "abc", "normalize": False}).json()
    assert tei == [pytest.approx(embedding_service.vector("abc"))]
    listed = [one["id"] for one in http.get("/v1/models").json()["data"]]
    assert {"far", "Org/far-tei"} <= set(listed)
    info = http.get("/info", params={"model": "far"}).json()
    assert (info["model_id"], info["max_input_length"]) == ("far", 512)


def test_inference_objects_name_it(far, service):
    client = QdrantClient(url=far.url, cloud_inference=True, timeout=60)
    size = models.VectorParams(size=26, distance=models.Distance.COSINE)
    client.create_collection("points", vectors_config=size)
    points = [
        models.PointStruct(id=at, vector=models.Document(text=letter * 5, model="far"))
        for at, letter in enumerate("abc")
    ]
    client.upsert("points", points, wait=True)
    found = client.query_points("points", query=models.Document(text="bb", model="far"), limit=1)
    assert found.points[0].id == 1
    client.close()


def test_what_fails_for_a_while_is_asked_again(http, service):
    service.acts += [(429, {"retry-after": "1"}), 500, 0.0]
    began = time.monotonic()
    made = http.post("/v1/embeddings", json={"model": "far", "input": "abc"})
    assert made.status_code == 200
    assert (len(service.asked), time.monotonic() - began >= 1) == (3, True)


@pytest.mark.parametrize(
    ("acts", "status", "part"),
    [
        ([401], 502, "status 401: told to say 401"),
        ([(429, {"retry-after": "900"})], 429, "asks to wait 900.0 s"),
        ([503] * 9, 502, "4 times tried"),
        (["garbage"], 502, "It works!"),
        ([9.0] * 9, 502, "did not answer within"),
    ],
)
def test_failures_are_told_with_the_services_words_and_no_key(http, service, acts, status, part):
    service.acts += acts
    began = time.monotonic()
    answer = http.post("/v1/embeddings", json={"model": "far", "input": "abc"})
    assert answer.status_code == status, answer.text
    message = answer.json()["error"]["message"]
    assert part in message and "`far`" in message and "secret" not in answer.text
    assert time.monotonic() - began < 15
    service.acts.clear()
    assert http.post("/v1/embeddings", json={"model": "far", "input": "abc"}).status_code == 200


def test_a_document_that_cannot_be_embedded_is_not_there(http, service):
    service.acts += [400] * 9
    answer = add(http, "nothing", "some text")
    assert answer.status_code == 502
    assert "told to say 400" in answer.text


def test_tokens_are_not_to_be_had_and_the_answer_says_so(http):
    answer = http.post("/tokenize", json={"model": "far", "inputs": "abc"})
    assert answer.status_code == 422
    assert "behind an address" in answer.json()["error"]


def test_a_wrong_setting_is_named_at_the_start(binary, tmp_path):
    config = tmp_path / "cairn.toml"
    config.write_text('[[models.remote]]\nname = "far"\nurl = "localhost:1"\n')
    command = [str(binary), "--config", str(config), "config"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=30, env=clean_env())
    assert done.returncode != 0 and "models.remote.url" in done.stderr


def test_another_server_of_ours_is_such_a_service(new_server, tmp_path):
    near = new_server(env={"CAIRN__MODELS__DEFAULT": "cairn/minilm-static"}).start()
    config = tmp_path / "away.toml"
    config.write_text(
        f'[[models.remote]]\nname = "there"\nurl = "{near.url}/v1"\nmodel = "minilm-static"\nretries = 1\n'
        f'[[models.remote]]\nname = "there-tei"\nurl = "{near.url}"\nprotocol = "tei"\nbatch_texts = 2\n'
    )
    away = new_server(env={"CAIRN_CONFIG": str(config), "CAIRN__MODELS__DEFAULT": "there"}).start()
    texts = ["a car drives on the road", "soup with carrots", "Ünïcödé", "stones mark the way", "the end"]

    def embedded(server, model):
        answer = httpx.post(f"{server.url}/v1/embeddings", json={"model": model, "input": texts}, timeout=60)
        assert answer.status_code == 200, answer.text
        answer = answer.json()
        return [number for one in answer["data"] for number in one["embedding"]], answer["usage"]

    want, usage = embedded(near, "cairn/minilm-static")
    assert embedded(away, "there") == (pytest.approx(want, abs=1e-6), usage)
    assert embedded(away, "there-tei")[0] == pytest.approx(want, abs=1e-6)

    with httpx.Client(base_url=away.url, timeout=60) as http:
        assert add(http, "far", *texts).status_code == 200
        wanted = {"query": "an automobile on a street", "limit": 1, "retrieval": {"mode": "dense"}}
        found = http.post("/collections/far/search", json=wanted).json()
        assert found["result"]["hits"][0]["document_id"] == "d0"
        near.stop()
        answer = http.post("/collections/far/search", json=wanted)
        assert answer.status_code == 502 and near.url in answer.text, answer.text
        near.start()
        assert http.post("/collections/far/search", json=wanted).status_code == 200
