"""Retrieval, conversations, replay and evaluation, through the real binary."""

import json
import subprocess

import handbook
import httpx
import pytest
from cairn_client import Cairn, CairnError, Document
from conftest import clean_env

SOURCES = {
    "cordouan": "The lighthouse of Cordouan stands off the mouth of the Gironde. "
    "It was built by Louis de Foix. Its first Fresnel lens was lit in 1823.",
    "cairns": "A cairn is a heap of stones that marks a mountain path. Part number QX-7741 is its flag.",
    "bread": "Sourdough bread rises without added yeast. The dough rests for twelve hours.",
    "tea": "Green tea is not fermented. It is brewed with water of eighty degrees.",
}


def documents():
    for number, (id, text) in enumerate(SOURCES.items()):
        yield Document(id, text, title=id, metadata={"published": f"202{number}-01-01"})


@pytest.fixture
def filled(cairn, collection):
    cairn.add_documents(collection, documents(), format="text")
    return collection


def search(http, collection, query, **body):
    response = http.post(f"/collections/{collection}/search", json={"query": query, **body})
    assert response.status_code == 200, response.text
    return response.json()["result"]


def test_words_find_what_meaning_does_not_know(cairn, filled):
    [hit] = cairn.search(filled, "QX-7741", limit=1, retrieval={"mode": "sparse"})
    assert hit.document_id == "cairns"
    assert hit.scores["sparse"] > 0 and hit.score == hit.scores["sparse"]
    [hit] = cairn.search(filled, "QX-7741", limit=1)
    assert hit.document_id == "cairns"
    # Words alone find nothing where no word is shared, meaning finds something.
    assert cairn.search(filled, "waymark", retrieval={"mode": "sparse"}) == []
    assert cairn.search(filled, "waymark", retrieval={"mode": "dense"})


def test_an_explained_search_tells_each_stage_and_the_rank_after_it(http, filled):
    result = search(http, filled, "When was the lens lit?", explain=True)
    stages = [stage["stage"] for stage in result["stages"]]
    assert stages == ["embed", "dense", "sparse", "fuse", "read"]
    assert all(stage["micros"] >= 0 for stage in result["stages"])
    first = result["hits"][0]
    assert first["document_id"] == "cordouan"
    assert [step["stage"] for step in first["path"]] == ["dense", "sparse", "fuse"]
    assert first["path"][-1] == {"stage": "fuse", "rank": 1, "score": first["score"]}
    assert first["scores"]["fused"] == first["score"] <= 1
    plain = search(http, filled, "When was the lens lit?")
    assert "stages" not in plain and "path" not in plain["hits"][0]
    assert [hit["id"] for hit in plain["hits"]] == [hit["id"] for hit in result["hits"]]


def test_newer_passages_can_come_first(http, filled):
    decay = {"field": "published", "half_life_days": 30, "weight": 1.0}
    hits = search(http, filled, "lighthouse stones bread tea", retrieval={"decay": decay})["hits"]
    assert hits[0]["document_id"] == "tea"


def test_a_hit_can_bring_the_passages_around_it(http, cairn, collection):
    lines = [f"Paragraph number {n} speaks of matter {n}. " * 20 for n in range(5)]
    cairn.add_documents(collection, [Document("long", "\n\n".join(lines))], format="text")
    body = {"limit": 1, "retrieval": {"mode": "dense", "expand": "neighbours"}}
    hits = search(http, collection, "Paragraph number 2 speaks of matter 2.", **body)["hits"]
    assert 2 <= len(hits) <= 3
    assert all(hit["expanded_from"] == hits[0]["id"] for hit in hits[1:])
    assert "expanded_from" not in hits[0]


def test_a_collection_keeps_how_it_is_searched(http, cairn, filled):
    path = f"/collections/{filled}/retrieval"
    assert http.put(path, json={"mode": "sparse"}).status_code == 200
    assert cairn.search(filled, "waymark") == []
    assert cairn.search(filled, "waymark", retrieval={"mode": "dense"})
    response = http.put(path, json={"diversity": 2})
    assert response.status_code == 422 and "diversity" in response.text


@pytest.mark.parametrize(
    ("retrieval", "status", "words"),
    [
        ({"mod": "sparse"}, 400, "unknown field `mod`"),
        ({"mode": "dance"}, 400, "dance"),
        ({"candidates": 0}, 422, "from 1 to 1000"),
        ({"fusion": {"method": "weighted", "dense": 3}}, 422, "from 0 to 1"),
        ({"decay": {"field": "d", "half_life_days": 0}}, 422, "half_life_days"),
    ],
)
def test_an_option_out_of_range_is_refused_with_what_it_may_be(http, filled, retrieval, status, words):
    body = {"query": "x", "retrieval": retrieval}
    response = http.post(f"/collections/{filled}/search", json=body)
    assert response.status_code == status and words in response.text, response.text


def test_a_collection_without_words_is_searched_by_meaning_and_says_so(http, cairn, collection, model):
    config = {
        "vectors": {"size": 384, "distance": "Cosine"},
        "metadata": {"cairn": {"model": f"sentence-transformers/{model}"}},
    }
    assert http.put(f"/collections/{collection}", json=config).status_code == 200
    cairn.add_documents(collection, documents(), format="text")
    result = search(http, collection, "What marks a path?")
    assert result["hits"][0]["document_id"] == "cairns"
    assert "BM25" in result["warnings"][0]
    body = {"query": "x", "retrieval": {"mode": "sparse"}}
    response = http.post(f"/collections/{collection}/search", json=body)
    assert response.status_code == 400 and "mode dense" in response.text
    assert cairn.ask(collection, "What marks a mountain path?").citations


def test_rewrites_without_a_language_model_are_left_out_with_a_warning(http, filled):
    result = search(http, filled, "lens", retrieval={"rewrites": 2, "hyde": True})
    assert result["hits"] and "rag.generator.url" in result["warnings"][0]


def test_each_sentence_of_an_answer_has_its_support(cairn, filled):
    answer = cairn.ask(filled, "When was the first Fresnel lens lit?", max_sentences=1)
    assert len(answer.sentences) == len(answer.citations) == 1
    [sentence] = answer.sentences
    assert "1823" in sentence.text and sentence.supported and sentence.citations == (0,)
    assert 0 < sentence.support <= 1
    assert answer.searched["passages"] == len(SOURCES)
    assert 0.5 <= answer.searched["confidence"] <= 1


def test_a_refusal_says_what_was_searched_and_which_words_are_nowhere(cairn, filled):
    answer = cairn.ask(filled, "Which enzyme unwinds DNA during replication?")
    assert answer.refused and answer.searched["read"] == len(SOURCES)
    assert {"enzyme", "DNA"} <= set(answer.searched["missing"])
    assert answer.searched["confidence"] < 0.5


def test_a_conversation_understands_what_points_back(http, cairn, filled):
    id = cairn.start_conversation(filled)
    cairn.ask(filled, "Who built the lighthouse of Cordouan?", conversation_id=id)
    answer = cairn.ask(filled, "And when was its lens lit?", conversation_id=id)
    assert "1823" in answer.answer and answer.conversation_id == id
    assert "Cordouan" in answer.searched["query"]
    kept = http.get(f"/collections/{filled}/conversations/{id}").json()["result"]
    assert [turn["question"] for turn in kept["turns"]][1] == "And when was its lens lit?"
    cairn.delete_conversation(filled, id)
    with pytest.raises(CairnError, match="there is no conversation"):
        cairn.ask(filled, "And who?", conversation_id=id)


def test_a_question_that_stands_by_itself_is_not_mixed_with_the_one_before(http, cairn, collection):
    texts = {
        "tapes": "Backup tapes are rotated every Friday. The tapes are kept in a vault.",
        "canteen": "Soup is served on Mondays. Fish is served on Fridays.",
    }
    cairn.add_documents(collection, [Document(id, text) for id, text in texts.items()], format="text")
    id = cairn.start_conversation(collection)
    assert "Friday" in cairn.ask(collection, "When are the backup tapes rotated?", conversation_id=id).answer
    answer = cairn.ask(collection, "What is served on Mondays?", conversation_id=id)
    assert answer.searched["query"] == "What is served on Mondays?"
    assert [citation.document_id for citation in answer.citations][:1] == ["canteen"]
    answer = cairn.ask(collection, "And on Fridays?", conversation_id=id)
    assert "served" in answer.searched["query"] and "Fish" in answer.answer


def test_a_conversation_is_not_seen_from_another_collection(http, cairn, filled):
    other = f"{filled}-other"
    cairn.add_documents(other, documents(), format="text")
    id = cairn.start_conversation(filled)
    assert http.get(f"/collections/{other}/conversations/{id}").status_code == 404
    assert http.get(f"/collections/{filled}/conversations/..%2Fowner").status_code == 404
    http.delete(f"/collections/{other}")


def test_history_can_also_be_sent_along(http, filled):
    history = [{"question": "Who built the lighthouse of Cordouan?", "answer": "Louis de Foix."}]
    body = {"question": "And when was its lens lit?", "history": history}
    answer = http.post(f"/collections/{filled}/ask", json=body).json()["result"]
    assert "1823" in answer["answer"]


def test_an_answer_is_retrieved_again_at_its_seq_although_the_documents_changed(cairn, filled):
    answer = cairn.ask(filled, "When was the first Fresnel lens lit?")
    record = answer.provenance
    assert record["embedder"]["sha256"] and record["seq"] >= 1
    again = cairn.replay(filled, record)
    assert again.same and again.reasons == ()
    cairn.add_documents(filled, [Document("cordouan", "Nothing of that any more.")], format="text")
    again = cairn.replay(filled, record)
    assert again.same
    assert "1823" in again.passages[0].text


def test_a_replay_after_a_restart_says_why_it_is_not_the_same(new_server, model):
    server = new_server().start()
    with Cairn(server.url, timeout=300) as cairn:
        cairn.add_documents("docs", documents(), format="text")
        record = cairn.ask("docs", "When was the lens lit?").provenance
        server.restart()
        assert cairn.replay("docs", record).same
        cairn.add_documents("docs", [Document("cordouan", "Nothing of that any more.")], format="text")
        server.restart()
        again = cairn.replay("docs", record)
        assert not again.same and "seq" in again.reasons[0]


def test_conversations_survive_a_restart(new_server, model):
    server = new_server().start()
    with Cairn(server.url, timeout=300) as cairn:
        cairn.add_documents("docs", documents(), format="text")
        id = cairn.start_conversation("docs")
        cairn.ask("docs", "Who built the lighthouse of Cordouan?", conversation_id=id)
        server.restart()
        assert "1823" in cairn.ask("docs", "And when was its lens lit?", conversation_id=id).answer


def judged():
    queries = [{"id": row["_id"], "text": row["text"], "answers": row["answers"]} for row in handbook.queries()]
    return {"queries": queries[:20], "qrels": handbook.qrels()}


def test_an_evaluation_compares_ways_of_searching_and_measures_answers(http, cairn, collection):
    rows = [Document(row["_id"], row["text"], title=row["title"]) for row in handbook.corpus()]
    cairn.add_documents(collection, rows, format="text")
    body = {**judged(), "answers": True, "unanswerable": handbook.unanswerable()[:4]}
    response = http.post(f"/collections/{collection}/eval", json=body)
    assert response.status_code == 200, response.text
    report = response.json()["result"]
    assert [one["system"] for one in report["systems"]] == ["dense", "sparse", "fused"]
    for one in report["systems"]:
        low, mean, high = (one["ndcg_10"][key] for key in ("low", "mean", "high"))
        assert 0.6 < low <= mean <= high <= 1
        assert 0 < one["p50_ms"] <= one["p95_ms"]
    # The measure is the one that is worked out here from the same ranking.
    gains = []
    for query in body["queries"]:
        hits = cairn.search(collection, query["text"], limit=100)
        ranking = list(dict.fromkeys(hit.document_id for hit in hits))
        gains.append(handbook.ndcg(ranking, body["qrels"][query["id"]]))
    assert report["systems"][2]["ndcg_10"]["mean"] == pytest.approx(sum(gains) / len(gains), abs=1e-6)
    assert report["answers"]["questions"] == 20 and report["answers"]["verbatim"] == 1
    empty = http.post(f"/collections/{collection}/eval", json={"queries": [], "qrels": {}})
    assert empty.status_code == 400 and "relevant" in empty.text


def test_the_command_reports_and_fails_below_a_threshold(binary, tmp_path, model):
    def cairn(*args):
        command = [str(binary), "--data-dir", str(tmp_path / "data"), *map(str, args)]
        return subprocess.run(command, capture_output=True, text=True, env=clean_env(), timeout=300)

    folder = handbook.FOLDER
    assert cairn("add", "book", folder / "corpus.jsonl").returncode == 0
    judged = ["book", "--queries", folder / "queries.jsonl", "--qrels", folder / "qrels.tsv"]
    page = tmp_path / "report.html"
    done = cairn("eval", *judged, "--only-configured", "--report", page, "--min", "ndcg=0.5")
    assert done.returncode == 0, done.stderr
    assert "fused" in done.stdout and page.read_text().count("<svg") == 3
    done = cairn("--json", "eval", *judged, "--only-configured", "--min", "ndcg=1.1")
    assert done.returncode != 0 and "ndcg is" in done.stderr
    assert json.loads(done.stdout)["configured"] == "fused"
    done = cairn("eval", *judged, "--only-configured", "--min", "beauty=1")
    assert done.returncode != 0 and "no measure `beauty`" in done.stderr
    done = cairn("eval", "book", "--queries", tmp_path / "none", "--qrels", tmp_path / "none")
    assert done.returncode != 0 and "cannot be read" in done.stderr


def test_a_client_that_leaves_a_stream_harms_nothing(server, cairn, filled):
    with httpx.Client(base_url=server.url, timeout=60) as http:
        body = {"question": "What marks a path?", "stream": True}
        with http.stream("POST", f"/collections/{filled}/ask", json=body) as response:
            next(response.iter_bytes())
    assert not cairn.ask(filled, "What marks a mountain path?").refused
