"""Sparse vectors and vectors of tokens over HTTP: the routes of text-embeddings-inference and the
inference objects of Qdrant, against numbers of the reference for small models."""

import httpx
import numpy
import pytest
import tiny_models

GOLDEN = tiny_models.golden("heads")
TEXTS = GOLDEN["texts"]
M3 = GOLDEN["m3"]
# Longer than a model reads, and empty, are refused in some places.
SHORT = [at for at, text in enumerate(TEXTS) if text and len(text) < 60]


def named(group: str, name: str) -> dict:
    [found] = [case for case in GOLDEN[group] if case["name"] == name]
    return found


SPLADE, COLBERT = named("sparse", "bert"), named("late", "artifact")


@pytest.fixture(scope="module")
def heads(new_model_server, tmp_path_factory):
    home = tmp_path_factory.mktemp("hub")
    for name, case in [("tiny/splade", SPLADE), ("tiny/colbert", COLBERT), ("tiny/m3", M3)]:
        tiny_models.install(case, name, home)
    return new_model_server("bert", {"CAIRN__MODELS__STORE__HUB_HOME": str(home)})


@pytest.fixture
def client(heads):
    with httpx.Client(base_url=heads.url, timeout=60) as client:
        yield client


@pytest.fixture
def post(client):
    return lambda path, **body: client.post(path, json=body)


def near(numbers):
    return pytest.approx(numbers, abs=1e-4)


def whole(indices, values) -> list:
    """As a vector with all its zeros: a value next to zero may be on either side of it."""
    vector = numpy.zeros(128)
    vector[list(indices)] = list(values)
    return vector.tolist()


def of(case: dict, at: int) -> list:
    return whole(case["indices"][at], case["values"][at])


def told(row: list) -> list:
    indices = [entry["index"] for entry in row]
    assert indices == sorted(set(indices)) and all(entry["value"] > 0 for entry in row)
    return whole(indices, [entry["value"] for entry in row])


@pytest.fixture
def collection(client):
    body = {
        "vectors": {
            "dense": {"size": 24, "distance": "Dot"},
            "tokens": {"size": 24, "distance": "Dot", "multivector_config": {"comparator": "max_sim"}},
        },
        "sparse_vectors": {"words": {}},
    }
    assert client.put("/collections/heads", json=body).status_code == 200
    yield "/collections/heads"
    client.delete("/collections/heads")


@pytest.mark.parametrize(("model", "case"), [("tiny/splade", SPLADE), ("tiny/m3", M3)])
def test_sparse_vectors_are_those_of_the_reference(post, model, case):
    answer = post("/embed_sparse", inputs=TEXTS, model=model, truncate=True)
    assert answer.status_code == 200, answer.text
    for at, row in enumerate(answer.json()):
        assert told(row) == near(of(case, at))
    [one] = post("/embed_sparse", inputs=TEXTS[1], model=model).json()
    assert told(one) == near(of(case, 1))


def test_a_model_without_the_head_is_refused_as_by_the_reference(post, heads):
    for model in ({}, {"model": heads.encoder}, {"model": "tiny/colbert"}):
        answer = post("/embed_sparse", inputs="a", **model)
        assert answer.status_code == 424 and answer.json()["error_type"] == "Backend"
        assert answer.json()["error"].startswith("Model is not an embedding model with SPLADE pooling")
        assert "name a model" in answer.json()["error"]
    long = post("/embed_sparse", inputs=TEXTS[-1], model="tiny/splade")
    assert long.status_code == 422 and "truncated" in long.json()["error"]
    assert post("/embed_sparse", inputs="a", model="tiny/none").status_code == 404
    assert post("/embed_sparse", inputs=[], model="tiny/splade").json()["error_type"] == "Empty"
    for path in ("/embed", "/v1/embeddings"):
        field = "inputs" if path == "/embed" else "input"
        answer = post(path, **{field: "a"}, model="tiny/splade")
        assert answer.status_code in (400, 422) and "of the kind sparse" in answer.text


def test_vectors_of_tokens_are_those_of_the_reference(post):
    for kind, name in [("queries", "query"), ("passages", "passage")]:
        found = post("/embed_all", inputs=TEXTS, model="tiny/colbert", prompt_name=name, truncate=True).json()
        for at, rows in enumerate(found):
            assert [near(row) for row in COLBERT[kind][at]] == rows
    # A query is read to fewer tokens than a passage.
    middle = TEXTS[2]
    assert post("/embed_all", inputs=middle, model="tiny/colbert").status_code == 200
    refused = post("/embed_all", inputs=middle, model="tiny/colbert", prompt_name="query")
    assert refused.status_code == 422 and "at most 12" in refused.json()["error"]


def test_info_tells_what_a_model_is(client):
    about = client.get("/info", params={"model": "tiny/splade"}).json()
    assert about["model_type"] == {"embedding": {"pooling": "splade"}}


def test_info_without_a_name_tells_what_the_default_is_of_any_kind(new_model_server, tmp_path_factory):
    home = tmp_path_factory.mktemp("hub")
    tiny_models.install(SPLADE, "tiny/splade", home)
    settings = {"CAIRN__MODELS__STORE__HUB_HOME": str(home), "CAIRN__MODELS__DEFAULT": "tiny/splade"}
    about = httpx.get(new_model_server("bert", settings).url + "/info", timeout=60).json()
    assert about["model_id"] == "tiny/splade"
    assert about["model_type"] == {"embedding": {"pooling": "splade"}}


def test_one_model_fills_all_three_vectors_of_a_point_in_one_pass(client, collection):
    def document(at):
        return {"text": TEXTS[at], "model": "tiny/m3"}

    # One without any word that has a weight would show nothing.
    some = [at for at in SHORT if M3["indices"][at]]
    assert len(some) > 2
    points = [
        {"id": at, "vector": {"dense": document(at), "words": document(at), "tokens": document(at)}} for at in some
    ]
    answer = client.put(f"{collection}/points?wait=true", json={"points": points})
    assert answer.status_code == 200, answer.text
    # Each text went through the model once: the first token has no vector of its own.
    tokens = sum(len(M3["multi"][at]) + 1 for at in some)
    assert answer.json()["usage"]["inference"]["models"] == {"tiny/m3": {"tokens": tokens}}
    asked = {"ids": some, "with_vector": True}
    for point in client.post(f"{collection}/points", json=asked).json()["result"]:
        at, vector = point["id"], point["vector"]
        assert vector["dense"] == near(M3["dense"][at])
        assert whole(vector["words"]["indices"], vector["words"]["values"]) == near(of(M3, at))
        assert [near(row) for row in M3["multi"][at]] == vector["tokens"]

    def found(using, at):
        body = {"query": document(at), "using": using, "limit": 10}
        answer = client.post(f"{collection}/points/query", json=body)
        assert answer.status_code == 200, answer.text
        return {point["id"]: point["score"] for point in answer.json()["result"]["points"]}

    sparse = {at: numpy.array(of(M3, at)) for at in some}
    multi = {at: numpy.array(M3["multi"][at]) for at in some}
    for query in some:
        # Points without a word in common are not found.
        scores = {at: float(sparse[query] @ sparse[at]) for at in some}
        got = found("words", query)
        assert {at: got.get(at, 0.0) for at in some} == pytest.approx(scores, abs=1e-3)
        scores = {at: float((multi[query] @ multi[at].T).max(axis=1).sum()) for at in some}
        assert found("tokens", query) == pytest.approx(scores, abs=1e-2)


def test_a_query_and_a_passage_of_late_interaction_differ(client):
    dim = len(COLBERT["queries"][0][0])
    config = {"size": dim, "distance": "Dot", "multivector_config": {"comparator": "max_sim"}}
    client.put("/collections/late", json={"vectors": config})
    try:
        points = [{"id": at, "vector": {"text": TEXTS[at], "model": "tiny/colbert"}} for at in SHORT]
        answer = client.put("/collections/late/points?wait=true", json={"points": points})
        assert answer.status_code == 200, answer.text
        body = {"query": {"text": TEXTS[1], "model": "tiny/colbert"}, "limit": 10}
        answer = client.post("/collections/late/points/query", json=body)
        assert answer.status_code == 200, answer.text
        query = numpy.array(COLBERT["queries"][1])
        want = {at: float((query @ numpy.array(COLBERT["passages"][at]).T).max(axis=1).sum()) for at in SHORT}
        got = {point["id"]: point["score"] for point in answer.json()["result"]["points"]}
        assert got == pytest.approx(want, abs=1e-2)
    finally:
        client.delete("/collections/late")


@pytest.mark.parametrize(
    ("vector", "model", "says"),
    [
        ("words", "tiny/colbert", "kind sparse"),
        ("tokens", "tiny/splade", "kind multivector"),
        ("dense", "qdrant/bm25", "kind embedding"),
        ("tokens", "qdrant/bm25", "kind multivector"),
        ("tokens", None, "kind multivector"),
        ("dense", "tiny/splade", "kind embedding"),
    ],
)
def test_a_model_that_does_not_fit_the_vector_is_refused_with_what_to_do(client, collection, vector, model, says):
    document = {"text": "a stone", **({"model": model} if model else {})}
    body = {"points": [{"id": 1, "vector": {vector: document}}]}
    for answer in (
        client.put(f"{collection}/points?wait=true", json=body),
        client.post(f"{collection}/points/query", json={"query": document, "using": vector}),
    ):
        assert answer.status_code == 400, answer.text
        assert says in answer.json()["status"]["error"]
    assert client.post(f"{collection}/points/count", json={}).json()["result"]["count"] == 0


def test_without_a_model_a_sparse_vector_counts_words_as_before(client, collection):
    body = {"points": [{"id": 1, "vector": {"words": {"text": "a stone path"}}}]}
    answer = client.put(f"{collection}/points?wait=true", json=body)
    assert list(answer.json()["usage"]["inference"]["models"]) == ["bm25"]
