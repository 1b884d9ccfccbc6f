"""The interface of text-embeddings-inference, with the clients that speak it, against numbers of the
reference for a small model."""

import base64
import math
import struct
import threading

import cohere
import httpx
import numpy
import openai
import pytest
import tiny_models
from cohere.errors import BadRequestError, UnprocessableEntityError
from huggingface_hub import InferenceClient
from huggingface_hub.errors import HfHubHTTPError

GOLDEN = tiny_models.golden("tiny")
CASE = tiny_models.case("tiny", "bert mean normalized")
VECTORS = CASE["vectors"]
# The empty text is none of OpenAI's.
TEXTS = GOLDEN["texts"]
SHORT = [at for at, text in enumerate(TEXTS) if text and len(text) < 40]
LABELS = tiny_models.case("rerank", "bert with labels")
PAIRS = tiny_models.golden("rerank")["pairs"]


@pytest.fixture(scope="module")
def tei(new_model_server):
    return new_model_server("bert with labels")


@pytest.fixture
def post(tei):
    with httpx.Client(base_url=tei.url, timeout=60) as client:
        yield lambda path, **body: client.post(path, json=body)


def near(numbers):
    return pytest.approx(numbers, abs=1e-4)


def test_the_hubs_client_extracts_features(tei):
    client = InferenceClient(model=tei.url)
    for at in SHORT:
        found = client.feature_extraction(TEXTS[at])
        assert found.shape == (1, 24) and found[0].tolist() == near(VECTORS[at])
    cut = client.feature_extraction(TEXTS[-1], truncate=True, normalize=True)
    assert cut[0].tolist() == near(VECTORS[-1])
    with pytest.raises(HfHubHTTPError) as error:
        client.feature_extraction(TEXTS[-1])
    assert error.value.response.status_code == 422


def test_coheres_client_embeds_in_every_form_and_is_told_what_is_wrong(tei):
    client = cohere.ClientV2(api_key="none", base_url=tei.url)
    texts, kinds = [TEXTS[at] for at in SHORT], ["float", "base64", "binary", "ubinary"]
    asked = {"model": tei.encoder, "texts": texts, "input_type": "search_document"}
    found = client.embed(**asked, embedding_types=kinds)
    for place, at in enumerate(SHORT):
        vector = found.embeddings.float_[place]
        assert vector == near(VECTORS[at])
        raw = base64.b64decode(found.embeddings.base64[place])
        assert struct.unpack(f"<{len(vector)}f", raw) == near(vector)
        bits = numpy.packbits(numpy.array(vector) > 0)
        assert found.embeddings.ubinary[place] == bits.tolist()
        assert found.embeddings.binary[place] == (bits.astype(int) - 128).tolist()
    assert found.meta.billed_units.input_tokens > 0 and found.meta.api_version.version == "2"
    short = client.embed(**asked, output_dimension=8).embeddings.float_[0]
    assert len(short) == 8 and math.hypot(*short) == near(1.0)
    newer = [{"content": [{"type": "text", "text": text}]} for text in texts]
    again = client.embed(model=tei.encoder, inputs=newer, input_type="search_document", embedding_types=["float"])
    assert again.embeddings.float_ == found.embeddings.float_
    for wrong in (
        {"embedding_types": ["int8"]},
        {"texts": [TEXTS[-1]], "truncate": "NONE"},
        {"texts": [" "]},
        {"texts": []},
        {"output_dimension": 1000},
    ):
        with pytest.raises((UnprocessableEntityError, BadRequestError)) as error:
            client.embed(**{**asked, **wrong})
        assert error.value.body["message"]


def test_the_hubs_client_compares_sentences(tei):
    client = InferenceClient(model=f"{tei.url}/similarity")
    source, *others = SHORT
    found = client.sentence_similarity(TEXTS[source], other_sentences=[TEXTS[at] for at in others])
    assert found == near([float(numpy.dot(VECTORS[source], VECTORS[at])) for at in others])


def test_a_batch_is_a_bare_list_and_changes_nothing(post):
    answer = post("/embed", inputs=TEXTS, truncate=True).json()
    for row, want in zip(answer, VECTORS, strict=True):
        assert row == near(want)
    [alone] = post("/embed", inputs=TEXTS[2]).json()
    assert alone == near(VECTORS[2])


def test_dimensions_are_cut_and_scaled(post):
    [vector] = post("/embed", inputs=TEXTS[2], dimensions=7).json()
    assert len(vector) == 7 and math.hypot(*vector) == near(1)
    [plain] = post("/embed", inputs=TEXTS[2], dimensions=7, normalize=False).json()
    assert plain == near(VECTORS[2][:7])
    assert post("/embed", inputs="a", dimensions=25).status_code == 422


def test_tokens_can_be_sent_instead_of_texts(post, tei):
    [tokens] = post("/tokenize", inputs=TEXTS[2]).json()
    ids = [token["id"] for token in tokens]
    assert post("/embed", inputs=ids).json()[0] == near(VECTORS[2])
    assert post("/embed", inputs=[ids, TEXTS[1]]).json()[1] == near(VECTORS[1])
    assert post("/embed", inputs=[[10**6]]).json()["error_type"] == "Tokenizer"
    with openai.OpenAI(base_url=f"{tei.url}/v1", api_key="none", max_retries=0) as sdk:
        one = sdk.embeddings.create(model=tei.encoder, input=ids)
        two = sdk.embeddings.create(model=tei.encoder, input=[ids, ids], dimensions=24)
    assert one.data[0].embedding == near(VECTORS[2])
    assert [row.embedding for row in two.data] == [near(VECTORS[2])] * 2
    assert two.usage.prompt_tokens == 2 * len(ids)


def test_openais_client_gets_2048_inputs_in_one_batch_and_no_more(tei):
    texts = [TEXTS[at % 2 + 1] for at in range(2048)]
    with openai.OpenAI(base_url=f"{tei.url}/v1", api_key="none", max_retries=0) as sdk:
        found = sdk.embeddings.create(model=tei.encoder, input=texts)
        assert [row.index for row in found.data] == list(range(2048))
        assert found.data[2047].embedding == near(VECTORS[2])
        with pytest.raises(openai.BadRequestError):
            sdk.embeddings.create(model=tei.encoder, input=[*texts, "x"])
        with pytest.raises(openai.BadRequestError):
            sdk.embeddings.create(model=tei.encoder, input=[[]])


def test_openais_client_retrieves_models(tei, server):
    with openai.OpenAI(base_url=f"{tei.url}/v1", api_key="none", max_retries=0) as sdk:
        names = [model.id for model in sdk.models.list()]
        assert "cross-encoder/ms-marco-MiniLM-L6-v2" in names
        for name in ("cross-encoder/ms-marco-MiniLM-L6-v2", "all-MiniLM-L6-v2"):
            assert sdk.models.retrieve(name).id == name
        with pytest.raises(openai.NotFoundError) as error:
            sdk.models.retrieve("no/such-model")
        assert error.value.body["code"] == "model_not_found"
    plain = httpx.get(f"{tei.url}/v1/models/cross-encoder/ms-marco-MiniLM-L6-v2").json()
    assert plain["object"] == "model"


def test_teis_openai_route_has_flat_errors(post):
    answer = post("/embeddings", input="a", encoding_format="base64").json()
    raw = base64.b64decode(answer["data"][0]["embedding"])
    assert list(struct.unpack("<24f", raw)) == near(VECTORS[1])
    error = post("/embeddings", input=[]).json()
    assert set(error) == {"message", "code", "type"} and error["type"] == "Validation"


def test_the_end_of_a_text_is_read_when_the_start_may_be_cut(post):
    long = "snow " * 200 + "the path " * 7
    [cut] = post("/embed", inputs=long, truncate=True, truncation_direction="Left").json()
    [end] = post("/embed", inputs="the path " * 7).json()
    assert cut == near(end)


def test_each_token_has_a_vector(post):
    rows, empty = post("/embed_all", inputs=[TEXTS[2], ""]).json()
    assert (len(rows), len(rows[0]), len(empty)) == (7, 24, 2)
    mean = numpy.mean(rows, axis=0)
    assert (mean / numpy.linalg.norm(mean)).tolist() == near(VECTORS[2])


def test_labels_are_predicted_for_texts_and_pairs(post):
    names = ["contradiction", "entailment", "neutral"]

    def want(logits):
        powers = numpy.exp(numpy.array(logits) - max(logits))
        return dict(zip(names, (powers / powers.sum()).tolist()))

    def got(labels):
        assert [one["score"] for one in labels] == sorted((one["score"] for one in labels), reverse=True)
        return {one["label"]: one["score"] for one in labels}

    short = [at for at, pair in enumerate(PAIRS) if sum(map(len, pair)) < 60]
    many = post("/predict", inputs=[PAIRS[at] for at in short]).json()
    for at, labels in zip(short, many, strict=True):
        assert got(labels) == near(want(LABELS["pairs"][at]))
    single = post("/predict", inputs="the stone marks the path").json()
    assert got(single) == near(want(LABELS["single"][0]))
    pair = post("/predict", inputs=PAIRS[0], raw_scores=True).json()
    assert got(pair) == near(dict(zip(names, LABELS["pairs"][0])))
    assert post("/predict", inputs=["a", "b", "c"]).status_code == 422
    refused = post("/rerank", query="a", texts=["b"])
    assert refused.status_code == 422 and "entailment" in refused.json()["error"]


def test_texts_are_tokenized_with_places_and_decoded(post):
    [tokens] = post("/tokenize", inputs="The stones").json()
    assert [token["text"] for token in tokens] == ["[CLS]", "The", "stone", "s", "[SEP]"]
    assert (tokens[2]["start"], tokens[2]["stop"], tokens[2]["special"]) == (4, 9, False)
    assert (tokens[0]["start"], tokens[0]["special"]) == (None, True)
    [plain] = post("/tokenize", inputs=["The stones"], add_special_tokens=False).json()
    assert len(plain) == 3
    ids = [token["id"] for token in tokens]
    assert post("/decode", ids=ids).json() == ["the stones"]
    assert post("/decode", ids=[ids, ids], skip_special_tokens=False).json() == ["[CLS] the stones [SEP]"] * 2
    assert post("/decode", ids=[10**6]).json()["error_type"] == "Tokenizer"


def test_the_models_are_described(tei):
    info = httpx.get(f"{tei.url}/info").json()
    assert info["model_id"] == tei.encoder and info["model_type"] == {"embedding": {"pooling": "mean"}}
    assert (info["model_dtype"], info["max_input_length"], info["max_client_batch_size"]) == ("float32", 16, 2048)
    about = httpx.get(f"{tei.url}/info", params={"model": tei.reranker}).json()
    assert about["model_type"]["classifier"]["id2label"]["1"] == "entailment"
    assert httpx.get(f"{tei.url}/health").status_code == 200


@pytest.mark.parametrize(
    "path, body, status, kind",
    [
        ("/embed", {"inputs": []}, 400, "Empty"),
        ("/embed", {"inputs": ["x"] * 2049}, 413, "Validation"),
        ("/embed", {"inputs": {"a": 1}}, 422, "Validation"),
        ("/embed", {}, 422, "Validation"),
        ("/embed", {"inputs": "stone " * 100}, 422, "Validation"),
        ("/embed", {"inputs": "a", "prompt_name": "odd"}, 422, "Validation"),
        ("/embed", {"inputs": "a", "model": "no/such-model"}, 404, "Validation"),
        ("/embed", {"inputs": "a", "model": "/etc"}, 404, "Validation"),
        ("/embed_all", {"inputs": []}, 400, "Empty"),
        ("/similarity", {"inputs": {"source_sentence": "a", "sentences": []}}, 400, "Empty"),
        ("/predict", {"inputs": []}, 400, "Empty"),
        ("/tokenize", {"inputs": []}, 400, "Empty"),
        ("/decode", {"ids": []}, 400, "Empty"),
    ],
)
def test_errors_are_flat_and_name_their_type(post, path, body, status, kind):
    answer = post(path, **body)
    assert answer.status_code == status, answer.text
    assert answer.json()["error_type"] == kind and answer.json()["error"]


def test_too_much_at_once_is_overload_in_the_shape_of_tei(new_model_server):
    server = new_model_server("bert", {"CAIRN__SERVER__MAX_CONCURRENT_REQUESTS": "1"})
    long = {"inputs": ["stone " * 14] * 2048}
    seen = []

    def send():
        seen.append(httpx.post(f"{server.url}/embed", json=long, timeout=60))

    threads = [threading.Thread(target=send) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    refused = [answer for answer in seen if answer.status_code == 429]
    assert refused and any(answer.status_code == 200 for answer in seen)
    assert refused[0].json()["error_type"] == "Overloaded" and int(refused[0].headers["retry-after"]) >= 1
