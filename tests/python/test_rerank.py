"""Reranking with the clients of Cohere, Jina and text-embeddings-inference, against numbers of the
reference for a small model; and in retrieval."""

import cohere
import httpx
import pytest
import tiny_models
from cohere.errors import BadRequestError, UnprocessableEntityError
from tiny_models import sigmoid

GOLDEN = tiny_models.golden("rerank")
CASE = tiny_models.case("rerank", "bert")
QUERY = GOLDEN["pairs"][0][0]
TEXTS = GOLDEN["texts"]
LOGITS = [logits[0] for logits in CASE["pairs"][: len(TEXTS)]]
ORDER = sorted(range(len(TEXTS)), key=lambda index: -LOGITS[index])
SCORES = [sigmoid(logit) for logit in LOGITS]


@pytest.fixture(scope="module")
def reranking(new_model_server):
    return new_model_server("bert")


def ranks(results):
    return [(result.index, result.relevance_score) for result in results]


def assert_ranked(found, count=len(TEXTS)):
    assert [index for index, _ in found] == ORDER[:count]
    assert [score for _, score in found] == pytest.approx([SCORES[i] for i in ORDER[:count]], abs=1e-4)


def test_the_reference_orders_these_texts_and_not_as_they_came():
    assert ORDER != sorted(ORDER)
    gaps = [LOGITS[a] - LOGITS[b] for a, b in zip(ORDER, ORDER[1:])]
    assert min(gaps) > 1e-3, "close scores would make the order a matter of rounding"


def test_coheres_newer_client_reranks(reranking):
    client = cohere.ClientV2(api_key="none", base_url=reranking.url)
    found = client.rerank(model=reranking.reranker, query=QUERY, documents=TEXTS)
    assert_ranked(ranks(found.results))
    assert found.id and found.meta.api_version.version == "2"
    assert found.meta.billed_units.search_units == 1
    best = client.rerank(model=reranking.reranker, query=QUERY, documents=TEXTS, top_n=2)
    assert_ranked(ranks(best.results), 2)


def test_coheres_older_client_reranks_objects_and_gets_them_back(reranking):
    client = cohere.Client(api_key="none", base_url=reranking.url)
    documents = [{"text": text} for text in TEXTS]
    found = client.rerank(model=reranking.reranker, query=QUERY, documents=documents, return_documents=True)
    assert_ranked(ranks(found.results))
    assert [result.document.text for result in found.results] == [TEXTS[index] for index in ORDER]
    assert found.meta.api_version.version == "1"


def test_a_document_is_cut_to_the_tokens_it_may_have(reranking):
    client = cohere.ClientV2(api_key="none", base_url=reranking.url)

    def score(document, **how):
        found = client.rerank(model=reranking.reranker, query=QUERY, documents=[document], **how)
        return found.results[0].relevance_score

    whole, start = "the stone marks the path", "the stone"
    assert score(whole, max_tokens_per_doc=2) == score(start) != score(whole)
    assert score(whole, max_tokens_per_doc=4096) == score(whole)


def test_coheres_client_understands_what_is_wrong(reranking):
    client = cohere.ClientV2(api_key="none", base_url=reranking.url)
    with pytest.raises(BadRequestError) as error:
        client.rerank(model=reranking.reranker, query=QUERY, documents=[])
    assert "documents" in error.value.body["message"]
    with pytest.raises(UnprocessableEntityError) as error:
        client.rerank(model=reranking.reranker, query=QUERY, documents=TEXTS, top_n=0)
    assert "top_n" in error.value.body["message"]
    with pytest.raises(cohere.errors.NotFoundError) as error:
        client.rerank(model="no/such-model", query=QUERY, documents=TEXTS)
    assert "no/such-model" in error.value.body["message"]


@pytest.mark.parametrize("path", ["/rerank", "/v1/rerank", "/v2/rerank"])
def test_the_shape_of_jina_is_answered_at_each_path(reranking, path):
    body = {"model": reranking.reranker, "query": QUERY, "documents": TEXTS, "top_n": 3, "return_documents": True}
    answer = httpx.post(f"{reranking.url}{path}", json=body).json()
    assert_ranked([(result["index"], result["relevance_score"]) for result in answer["results"]], 3)
    assert answer["results"][0]["document"] == {"text": TEXTS[ORDER[0]]}
    assert answer["usage"]["total_tokens"] == sum(CASE["pair_tokens"][: len(TEXTS)])
    assert answer["model"] and answer["object"] == "list"


@pytest.mark.parametrize("path", ["/rerank", "/v1/rerank"])
def test_the_shape_of_tei_is_a_bare_list(reranking, path):
    body = {"query": QUERY, "texts": TEXTS, "truncate": True}
    answer = httpx.post(f"{reranking.url}{path}", json=body).json()
    assert_ranked([(rank["index"], rank["score"]) for rank in answer])
    assert all(set(rank) == {"index", "score"} for rank in answer)
    raw = httpx.post(f"{reranking.url}{path}", json=body | {"raw_scores": True, "return_text": True}).json()
    assert [rank["score"] for rank in raw] == pytest.approx([LOGITS[index] for index in ORDER], abs=1e-4)
    assert [rank["text"] for rank in raw] == [TEXTS[index] for index in ORDER]


def test_what_is_too_long_is_refused_unless_it_may_be_cut(reranking):
    body = {"query": QUERY, "texts": ["stone " * 100]}
    answer = httpx.post(f"{reranking.url}/rerank", json=body)
    assert answer.status_code == 422
    assert answer.json()["error_type"] == "Validation" and "108" in answer.json()["error"]
    assert httpx.post(f"{reranking.url}/rerank", json=body | {"truncate": True}).status_code == 200


@pytest.mark.parametrize(
    "body, status, kind",
    [
        ({"query": QUERY, "texts": []}, 400, "Empty"),
        ({"query": QUERY, "texts": ["x"] * 2049}, 413, "Validation"),
        ({"texts": ["x"]}, 422, "Validation"),
        ({"query": QUERY}, 422, "Validation"),
        ({"query": QUERY, "texts": [1]}, 422, "Validation"),
        ({"query": QUERY, "texts": ["x"], "model": "all-MiniLM-L6-v2"}, 422, "Validation"),
    ],
)
def test_errors_have_the_shape_of_tei(reranking, body, status, kind):
    answer = httpx.post(f"{reranking.url}/rerank", json=body)
    assert answer.status_code == status, answer.text
    assert answer.json()["error_type"] == kind and answer.json()["error"]


def test_a_search_reranks_what_it_found_and_explains_it(reranking):
    collection = f"{reranking.url}/collections/reranked"
    texts = {f"d{index}": text for index, text in enumerate(TEXTS) if text}
    documents = [{"id": id, "text": text} for id, text in texts.items()]
    added = httpx.put(f"{collection}/documents", json={"documents": documents, "format": "text"}, timeout=60)
    assert added.status_code == 200, added.text

    def search(rerank):
        body = {"query": QUERY, "limit": 20, "retrieval": {"rerank": rerank, "mode": "dense"}, "explain": True}
        answer = httpx.post(f"{collection}/search", json=body, timeout=60).json()
        assert not answer["result"].get("warnings"), answer
        return answer["result"]

    plain, reranked = search(False), search(True)
    assert "rerank" not in [stage["stage"] for stage in plain["stages"]]
    [stage] = [stage for stage in reranked["stages"] if stage["stage"] == "rerank"]
    assert stage["detail"] == reranking.reranker
    scores = [hit["scores"]["rerank"] for hit in reranked["hits"]]
    assert scores == sorted(scores, reverse=True) and len(scores) > 3
    for hit in reranked["hits"]:
        index = int(hit["document_id"][1:])
        if hit["text"] == TEXTS[index]:
            assert hit["scores"]["rerank"] == pytest.approx(SCORES[index], abs=1e-4)
            assert [step["stage"] for step in hit["path"]][-1] == "rerank"
    ids = [hit["id"] for hit in reranked["hits"]]
    assert sorted(ids) == sorted(hit["id"] for hit in plain["hits"])
    assert ids != [hit["id"] for hit in plain["hits"]]


def test_without_a_rerank_model_it_is_said_how_to_get_one(server):
    answer = httpx.post(f"{server.url}/rerank", json={"query": "q", "texts": ["t"]})
    assert answer.status_code == 422
    assert "models.rerank" in answer.json()["error"] and answer.json()["error_type"] == "Validation"
