"""Both clients against a local server that answers what a test tells it to."""

import asyncio
import json
import socket
import struct
import threading
from base64 import b64encode
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from cairn_client import (
    Added,
    AsyncCairn,
    Cairn,
    CairnError,
    Cited,
    Delta,
    Document,
    Done,
    Retrieved,
)

HIT = {
    "id": 1,
    "document_id": "a",
    "title": "A",
    "heading": ["H1", "H2"],
    "start": 0,
    "end": 4,
    "text": "text",
    "score": 0.5,
    "metadata": {"lang": "en"},
    "new_key": True,
}
CITATION = {"document_id": "a", "title": "A", "start": 0, "end": 4, "quote": "text", "score": 0.5}
ANSWER = {
    "answer": "text",
    "citations": [CITATION],
    "refused": False,
    "reason": None,
    "generator": "extractive",
}


JOB = {
    "id": "job-7",
    "collection": "docs",
    "state": "queued",
    "before": 2,
    "created_at": "2026-01-02T03:04:05.006Z",
    "started_at": None,
    "ended_at": None,
    "files": 3,
    "files_done": 0,
    "bytes": 90,
    "bytes_done": 0,
    "documents": 0,
    "unchanged": 0,
    "passages": 0,
    "tokens": 0,
    "failed": 0,
    "new_key": True,
}


class Fake:
    """Keeps the last request; answers with `status` and `body`."""

    def __init__(self):
        self.status, self.body = 200, b""
        self.turns = []  # results that are answered one after the other
        fake = self

        class Handler(BaseHTTPRequestHandler):
            def answer(self):
                size = int(self.headers.get("content-length", 0))
                sent = self.rfile.read(size)
                form = self.headers.get("content-type", "").startswith("multipart/")
                body = sent if form else json.loads(sent) if sent else None
                fake.request = (self.command, self.path, body)
                fake.headers = dict(self.headers)
                if fake.turns:
                    fake.answers(fake.turns.pop(0))
                self.send_response(fake.status)
                self.send_header("content-length", str(len(fake.body)))
                self.end_headers()
                self.wfile.write(fake.body)

            do_GET = do_PUT = do_POST = do_PATCH = do_DELETE = answer

            def log_message(self, *args):
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}"
        threading.Thread(target=self.server.serve_forever, args=(0.01,), daemon=True).start()

    def answers(self, result, status=200):
        body = {"result": result, "status": "ok", "time": 0.0}
        self.status, self.body = status, json.dumps(body).encode()

    def streams(self, *events):
        lines = [f"event: {name}\ndata: {json.dumps(data)}\n\n" for name, data in events]
        self.status, self.body = 200, "".join(lines).encode()


class Awaited:
    """An `AsyncCairn` called like a `Cairn`, so that one test serves both."""

    def __init__(self, *args, **kwargs):
        self.args, self.kwargs = args, kwargs

    def __getattr__(self, name):
        async def once(*args, **kwargs):
            async with AsyncCairn(*self.args, **self.kwargs) as cairn:
                if name == "ask_stream":
                    return [event async for event in cairn.ask_stream(*args, **kwargs)]
                return await getattr(cairn, name)(*args, **kwargs)

        return lambda *args, **kwargs: asyncio.run(once(*args, **kwargs))


@pytest.fixture
def fake():
    fake = Fake()
    yield fake
    fake.server.shutdown()
    fake.server.server_close()


@pytest.fixture(params=[Cairn, Awaited], ids=["sync", "async"])
def client(request):
    return request.param


def test_documents_are_sent_as_they_are_and_counted(fake, client):
    fake.answers({"documents": 2, "passages": 3, "tokens": 120})
    documents = [Document("a", "text", metadata={"n": 1}), {"id": "b", "text": "t", "title": "T"}]
    added = client(fake.url, api_key="k").add_documents("my docs", documents, format="markdown")
    assert added == Added(documents=2, passages=3, tokens=120)
    assert fake.request == (
        "PUT",
        "/collections/my%20docs/documents",
        {
            "documents": [
                {"id": "a", "text": "text", "metadata": {"n": 1}},
                {"id": "b", "text": "t", "title": "T"},
            ],
            "format": "markdown",
        },
    )
    assert fake.headers["api-key"] == "k"


def test_an_upload_that_is_queued_is_a_job(fake, client, tmp_path):
    fake.answers(JOB, status=202)
    job = client(fake.url).queue_documents("my docs", [Document("a", "text")], format="text")
    assert (job.id, job.state, job.before, job.files, job.ended) == ("job-7", "queued", 2, 3, False)
    assert fake.request == (
        "PUT",
        "/collections/my%20docs/documents?wait=false",
        {"documents": [{"id": "a", "text": "text", "metadata": {}}], "format": "text"},
    )
    note = tmp_path / "n\u00f6te.md"
    note.write_bytes(b"# Note")
    for files in ([note, ("b.pdf", b"%PDF")], [str(note), ("b.pdf", b"%PDF")]):
        assert client(fake.url).queue_files("docs", files).id == "job-7"
        method, path, body = fake.request
        assert (method, path) == ("POST", "/collections/docs/documents/files?wait=false")
        assert b"# Note" in body and b'filename="b.pdf"' in body and b"%PDF" in body
    assert client(fake.url).queue_files("docs", note).id == "job-7"
    with pytest.raises(CairnError, match="no file"):
        client(fake.url).queue_files("docs", [])
    with pytest.raises(CairnError, match="cannot read .*none.md"):
        client(fake.url).queue_files("docs", [tmp_path / "none.md"])


def test_jobs_are_looked_at_listed_and_cancelled(fake, client):
    failures = [{"name": "c.pdf", "reason": "it is encrypted"}]
    fake.answers(JOB | {"state": "done", "failed": 1, "failures": failures})
    job = client(fake.url).job("job-7")
    assert job.ended and [(one.name, one.reason) for one in job.failures] == [
        ("c.pdf", "it is encrypted")
    ]
    assert fake.request == ("GET", "/jobs/job-7", None)
    fake.answers({"jobs": [JOB]})
    assert [job.id for job in client(fake.url).jobs("my docs", state="queued", limit=5)] == ["job-7"]
    assert fake.request == ("GET", "/jobs?collection=my+docs&state=queued&limit=5", None)
    client(fake.url).jobs()
    assert fake.request == ("GET", "/jobs", None)
    fake.answers(JOB | {"state": "running", "cancel_asked": True})
    assert client(fake.url).cancel_job("job-7").cancel_asked
    assert fake.request == ("DELETE", "/jobs/job-7", None)


def test_a_job_is_waited_for_until_it_has_ended_or_it_is_late(fake, client):
    fake.turns = [JOB, JOB | {"state": "running"}, JOB | {"state": "failed", "error": "gone"}]
    job = client(fake.url).wait_for_job("job-7", timeout=30)
    assert (job.state, job.error) == ("failed", "gone") and fake.turns == []
    fake.answers(JOB | {"state": "running", "files_done": 1})
    with pytest.raises(CairnError, match="job-7 is running .* 1 of 3 files; it goes on"):
        client(fake.url).wait_for_job("job-7", timeout=0.3)


def test_a_collection_can_take_strings_as_ids(fake, client):
    fake.answers(True)
    vectors = {"size": 2, "distance": "Dot"}
    assert client(fake.url).create_collection("c", vectors, string_ids=True) is True
    assert fake.request == ("PUT", "/collections/c", {"vectors": vectors, "string_ids": True})
    client(fake.url).create_collection("c", vectors)
    assert fake.request[2] == {"vectors": vectors}
    assert client(fake.url).take_string_ids("c") is True
    assert fake.request == ("PATCH", "/collections/c", {"string_ids": True})


def test_a_document_id_may_have_slashes_but_cannot_climb_out_of_its_path(fake, client):
    fake.answers({"deleted": 3})
    assert client(fake.url).delete_document("c", "a/b?c#d%e") == 3
    assert fake.request == ("DELETE", "/collections/c/documents/a%2Fb%3Fc%23d%25e", None)
    for id in ("", ".", ".."):
        with pytest.raises(CairnError, match="cannot stand in a URL"):
            client(fake.url).delete_document("c", id)


def test_hits_are_read_and_unknown_keys_ignored(fake, client):
    fake.answers({"hits": [HIT]})
    filter = {"must": [{"key": "metadata.lang", "match": {"value": "en"}}]}
    [hit] = client(fake.url + "/").search("c", "q", limit=3, filter=filter)
    assert (hit.document_id, hit.heading, hit.metadata) == ("a", ("H1", "H2"), {"lang": "en"})
    assert fake.request == (
        "POST",
        "/collections/c/search",
        {"query": "q", "limit": 3, "filter": filter},
    )


def test_an_answer_has_its_citations(fake, client):
    fake.answers(ANSWER)
    answer = client(fake.url).ask("c", "q")
    assert (answer.answer, answer.refused, answer.citations[0].quote) == ("text", False, "text")
    assert answer.citations[0].page is None
    fake.answers(ANSWER | {"citations": [CITATION | {"page": 7}]})
    assert client(fake.url).ask("c", "q").citations[0].page == 7
    assert fake.request == ("POST", "/collections/c/ask", {"question": "q", "stream": False})


def test_a_stream_gives_typed_events_and_stops_at_done(fake, client):
    fake.streams(
        ("retrieval", {"passages": [HIT]}),
        ("delta", {"text": "te"}),
        ("later", {"unknown": 1}),
        ("delta", {"text": "xt"}),
        ("citation", CITATION),
        ("done", ANSWER),
        ("error", {"error": "not read any more"}),
    )
    events = list(client(fake.url).ask_stream("c", "q"))
    assert [type(event) for event in events] == [Retrieved, Delta, Delta, Cited, Done]
    assert events[-1].answer.citations[0] == events[3].citation
    assert fake.request[2] == {"question": "q", "stream": True}


def test_a_stream_that_fails_or_breaks_off_is_an_error(fake, client):
    fake.streams(("delta", {"text": "te"}), ("error", {"error": "the model is gone"}))
    with pytest.raises(CairnError, match="the model is gone"):
        list(client(fake.url).ask_stream("c", "q"))
    fake.streams(("delta", {"text": "te"}))
    with pytest.raises(CairnError, match="broke off"):
        list(client(fake.url).ask_stream("c", "q"))
    fake.status, fake.body = 404, b'{"status":{"error":"Not found"},"time":0.0}'
    with pytest.raises(CairnError, match="404: Not found"):
        list(client(fake.url).ask_stream("c", "q"))


def test_vectors_come_back_exactly_and_in_the_order_of_the_texts(fake, client):
    rows = [[0.1, -2.5], [3.0, 1e-20]]
    data = [
        {"index": index, "embedding": b64encode(struct.pack("<2f", *row)).decode()}
        for index, row in reversed(list(enumerate(rows)))
    ]
    fake.body = json.dumps({"object": "list", "data": data}).encode()
    vectors = client(fake.url).embed(["a", "b"], model="m")
    assert [struct.pack("<2f", *vector) for vector in vectors] == [
        struct.pack("<2f", *row) for row in rows
    ]
    assert fake.request[2] == {"input": ["a", "b"], "model": "m", "encoding_format": "base64"}


def test_health_tells_ready_from_starting(fake, client):
    fake.body = b"all shards are ready"
    assert client(fake.url).health() is True
    fake.status = 503
    assert client(fake.url).health() is False


@pytest.mark.parametrize(
    "body",
    [
        b'{"status":{"error":"what went wrong"},"time":0.0}',
        b'{"error":{"message":"what went wrong","type":"x"}}',
        b'{"error":"what went wrong"}',
        b"what went wrong",
    ],
)
def test_every_shape_of_error_gives_its_text(fake, client, body):
    fake.status, fake.body = 401, body
    with pytest.raises(CairnError) as caught:
        client(fake.url).search("c", "q")
    assert (caught.value.status, caught.value.message) == (401, "what went wrong")


def test_an_answer_from_something_else_is_an_error_not_a_crash(fake, client):
    for body in (b"<html>hello</html>", b"[]", b'{"result":{}}'):
        fake.body = body
        with pytest.raises(CairnError, match="is it a Cairn server"):
            client(fake.url).search("c", "q")


def test_a_server_that_is_not_there_is_an_error_that_says_what_to_do(client):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{free.getsockname()[1]}"
    with pytest.raises(CairnError, match="start the server with `cairn serve`") as caught:
        client(url).search("c", "q")
    assert caught.value.status == 0
    with pytest.raises(CairnError, match="http://HOST:PORT"):
        client("127.0.0.1:6333").search("c", "q")
