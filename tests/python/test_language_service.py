"""Answers with a language model at an address that hangs, breaks off, writes garbage or writes on and on."""

import resource
import time

import httpx
import language_service as service
import pytest
from cairn_client import Cairn, Delta, Document, Done

DOCUMENTS = [
    Document("stones", "A cairn is a heap of stones that marks a mountain path.", title="stones"),
    Document("bread", "Sourdough bread rises without added yeast.", title="bread"),
]
QUESTION = "What marks a mountain path?"
WROTE = "A heap of stones marks a mountain path [1]."
IDLE_MS, TIMEOUT_MS = 1000, 3000


@pytest.fixture
def asked(new_server, model):
    """Makes a server that asks the language model at `url`: its client."""
    clients = []

    def make(url, timeout_ms=TIMEOUT_MS):
        generator = {"URL": url, "IDLE_TIMEOUT_MS": IDLE_MS, "TIMEOUT_MS": timeout_ms, "RETRIES": 1, "MAX_TOKENS": 64}
        settings = {f"CAIRN__RAG__GENERATOR__{key}": str(value) for key, value in generator.items()}
        server = new_server(env=settings | {"CAIRN__MODELS__DEFAULT": model}).start()
        clients.append(Cairn(server.url))
        clients[-1].add_documents("notes", DOCUMENTS, format="text")
        return clients[-1], server

    yield make
    for client in clients:
        client.close()


def assert_extractive(answer, *words):
    assert answer.generator == "extractive" and "heap of stones" in answer.answer
    assert answer.citations[0].quote == DOCUMENTS[0].text
    [warning] = [warning for warning in answer.warnings if "extractive" in warning]
    for word in words:
        assert word in warning, warning


def test_an_answer_that_comes_whole_is_the_models_and_its_citation_is_checked(asked):
    with service.running(service.says(service.piece(WROTE), service.END)) as there:
        cairn, _ = asked(there.url)
        answer = cairn.ask("notes", QUESTION)
    assert answer.generator == "talker" and answer.answer.startswith("A heap of stones")
    assert answer.citations[0].document_id == "stones" and not answer.warnings
    assert there.asked[0]["max_tokens"] == 64 and there.asked[0]["stream"] is True


BEGUN = service.piece("A heap of ")
BROKEN = {
    "hangs before it begins": (service.hangs(begins=False), ["timeout"]),
    "hangs after it began": (service.hangs(), ["said nothing for 1000 ms"]),
    "hangs in the middle": (service.hangs(BEGUN), ["said nothing for 1000 ms"]),
    "cuts the stream": (service.says(BEGUN), ["ended before the answer did"]),
    "cuts a piece": (service.says(BEGUN, b'data: {"choices": [{"del'), ["not JSON"]),
    "says an error in the middle": (service.says(BEGUN, service.event({"error": {"message": "out of memory"}})), ["out of memory"]),
    "writes a page": (service.answers(200, b"<html>It works!</html>"), ["ended before the answer did"]),
    "writes no JSON": (service.says(service.event("{stones}")), ["not JSON"]),
    "writes no text": (service.says(b"data: \xff\xfe\x00\n\n"), ["not JSON"]),
    "writes other JSON": (service.says(service.event([1]), service.event("7"), service.event("null")), ["ended before"]),
    "says nothing but its end": (service.says(service.event({"choices": []})), ["ended before"]),
    "fails": (service.answers(500, {"error": "broken"}), ["500", "broken"]),
    "refuses": (service.answers(401, {"error": "no key"}), ["401", "no key"]),
    "stays busy": (service.answers(429, {"error": "busy"}, retry_after="1"), ["429", "busy"]),
    "never ends a line": (service.endless(b"x" * 1024), ["more than 1048576 bytes"]),
    "never ends": (service.endless(service.piece("stones ")), ["wrote on after the 64 tokens"]),
}


@pytest.mark.parametrize("act,words", BROKEN.values(), ids=BROKEN.keys())
def test_a_server_that_fails_in_some_way_leaves_an_extractive_answer_that_says_so(asked, act, words):
    with service.running(act) as there:
        cairn, server = asked(there.url)
        before = resident_mb(server)
        start = time.monotonic()
        assert_extractive(cairn.ask("notes", QUESTION), there.url, *words)
        # Its time, once more where it is asked again, and what our own machine needs.
        assert time.monotonic() - start < 2 * TIMEOUT_MS / 1000 + 4
        assert resident_mb(server) < before + 100
        # The next question finds nothing broken here, and the same there.
        assert_extractive(cairn.ask("notes", QUESTION), there.url)
        assert cairn.search("notes", "bread", limit=1)[0].document_id == "bread"


def resident_mb(server) -> float:
    with open(f"/proc/{server.process.pid}/statm") as file:
        return int(file.read().split()[1]) * resource.getpagesize() / 2**20


def test_a_server_that_fails_once_is_asked_again(asked):
    good = service.says(service.piece(WROTE), service.END)
    with service.running(service.answers(503, {"error": "loading"}), good) as there:
        cairn, _ = asked(there.url)
        assert cairn.ask("notes", QUESTION).generator == "talker"
    assert len(there.asked) == 2


def test_a_stream_sets_apart_what_was_told_before_the_model_broke_off(asked):
    with service.running(service.says(service.piece("A cairn is made of gold, "))) as there:
        cairn, _ = asked(there.url)
        events = list(cairn.ask_stream("notes", QUESTION))
    told = "".join(event.text for event in events if isinstance(event, Delta))
    assert isinstance(events[-1], Done)
    answer = events[-1].answer
    assert_extractive(answer, "ended before the answer did")
    assert told.startswith("A cairn is made of gold, ") and "broke off" in told
    assert told.endswith(answer.answer) and "gold" not in answer.answer
    assert not any("gold" in citation.quote for citation in answer.citations)


def test_who_leaves_while_the_model_says_nothing_holds_up_nothing(asked):
    with service.running(service.hangs(begins=False)) as there:
        cairn, server = asked(there.url)
        body = {"question": QUESTION, "stream": True}
        for _ in range(20):
            with httpx.Client(base_url=server.url, timeout=10) as http:
                with http.stream("POST", "/collections/notes/ask", json=body) as response:
                    next(response.iter_bytes())
        start = time.monotonic()
        assert cairn.search("notes", "bread", limit=1)[0].document_id == "bread"
        assert time.monotonic() - start < 1
        assert_extractive(cairn.ask("notes", QUESTION), "timeout")


def test_who_leaves_in_the_middle_of_an_answer_ends_the_request_to_the_model(asked):
    with service.running(service.drips(service.piece("stone "), every=0.3)) as there:
        _, server = asked(there.url, timeout_ms=600_000)
        body = {"question": QUESTION, "stream": True}
        with httpx.Client(base_url=server.url, timeout=10) as http:
            with http.stream("POST", "/collections/notes/ask", json=body) as response:
                next(response.iter_bytes())
        end = time.monotonic() + 10
        while there.left == 0 and time.monotonic() < end:
            time.sleep(0.05)
        assert there.left == 1, "the model still writes for nobody"


def test_nobody_at_the_address_is_said_with_the_address(asked):
    with service.running(service.says()) as there:
        url = there.url
    cairn, _ = asked(url)
    assert_extractive(cairn.ask("notes", QUESTION), url)
