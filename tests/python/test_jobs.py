"""Uploads that nobody waits for: at once a job, on the disk before it is answered, done in its turn."""

import time

import httpx
import jwt
import pytest
import tiny_models

KEY = "a key that is long enough for a test"


@pytest.fixture
def small_model(tmp_path):
    """Settings with a model that is quick to load and of which nothing is fetched."""
    encoder = tiny_models.write(tiny_models.case("tiny", "bert mean normalized"), tmp_path / "encoder")
    return {"CAIRN__MODELS__DEFAULT": str(encoder), "CAIRN__MODELS__ENCODER__PRECISION": "f32"}


@pytest.fixture
def jobs(new_server, small_model):
    """Makes and starts a server with settings of its own: its `Jobs`."""

    def make(**settings):
        named = {f"CAIRN__SERVER__{key.upper()}": str(value) for key, value in settings.items()}
        return Jobs(new_server(env=small_model | named).start())

    return make


class Jobs:
    """Plain HTTP to one server, as far as jobs go."""

    def __init__(self, server, key=None):
        self.server = server
        headers = {"api-key": key} if key else {}
        self.http = httpx.Client(base_url=server.url, timeout=60, headers=headers)

    def upload(self, collection, files, status=202, **more):
        parts = [("file", (name, content)) for name, content in files]
        answer = self.http.post(f"/collections/{collection}/documents/files?wait=false", files=parts, **more)
        assert answer.status_code == status, answer.text
        return answer.json()["result"] if status == 202 else answer

    def get(self, id):
        answer = self.http.get(f"/jobs/{id}")
        assert answer.status_code == 200, answer.text
        return answer.json()["result"]

    def list(self, **params):
        return self.http.get("/jobs", params=params).json()["result"]["jobs"]

    def until(self, id, holds, timeout_s=120):
        end = time.monotonic() + timeout_s
        while time.monotonic() < end:
            job = self.get(id)
            if holds(job):
                return job
            time.sleep(0.005)
        raise AssertionError(f"not in {timeout_s} s: {job}")

    def ended(self, id):
        return self.until(id, lambda job: job["state"] in ("done", "failed", "cancelled"))

    def documents(self, collection):
        answer = self.http.get(f"/v1/vector_stores/{collection}")
        return answer.json()["file_counts"]["completed"]


def many(count, start=0):
    """Files that keep the model busy for a while."""
    words = "A cairn of grey stones marks the way over the high pass when snow hides the path. " * 12
    return [(f"{number}.md", f"# Note {number}\n\n{words}{number}\n") for number in range(start, start + count)]


SOME = [("a.md", "# Slate\n\nSlate splits into thin plates."), ("b.txt", "Granite is hard."), ("c.pdf", "no pdf")]


def test_an_upload_is_a_job_at_once_and_tells_what_became_of_each_file(jobs):
    jobs = jobs()
    answer = jobs.http.post(
        "/collections/docs/documents/files?wait=false", files=[("x", file) for file in SOME]
    )
    assert answer.status_code == 202 and answer.json()["status"] == "accepted"
    job = answer.json()["result"]
    assert answer.headers["location"] == f"/jobs/{job['id']}"
    assert job["state"] in ("queued", "running") and job["files"] == 3
    assert job["bytes"] == sum(len(content) for _, content in SOME)
    done = jobs.ended(job["id"])
    assert (done["state"], done["files_done"], done["documents"], done["failed"]) == ("done", 3, 2, 1)
    assert done["passages"] >= 2 and done["tokens"] > 0 and done["bytes_done"] == job["bytes"]
    assert [failure["name"] for failure in done["failures"]] == ["c.pdf"] and done["failures"][0]["reason"]
    assert done["created_at"] <= done["started_at"] <= done["ended_at"]
    hits = jobs.http.post("/collections/docs/search", json={"query": "slate"}).json()["result"]
    assert "a.md" in str(hits)
    again = jobs.ended(jobs.upload("docs", SOME)["id"])
    assert (again["documents"], again["unchanged"], again["failed"]) == (0, 2, 1)
    assert [listed["id"] for listed in jobs.list()] == [again["id"], done["id"]]
    assert "failures" not in jobs.list()[0]
    assert jobs.list(state="queued") == [] and jobs.list(collection="other") == []
    kept = list((jobs.server.data_dir / "jobs").iterdir())
    assert sorted(file.suffix for file in kept) == [".json", ".json"], "the bytes go with the end of a job"


def test_documents_and_plain_bodies_become_jobs_too(jobs):
    jobs = jobs()
    documents = {"documents": [{"id": f"d{n}", "text": f"Stone {n}.", "metadata": {"n": n}} for n in range(40)]}
    answer = jobs.http.put(
        "/collections/docs/documents?wait=false", json=documents | {"chunk": {"max_tokens": 50}}
    )
    assert answer.status_code == 202, answer.text
    done = jobs.ended(answer.json()["result"]["id"])
    assert (done["state"], done["files"], done["documents"]) == ("done", 40, 40)
    answer = jobs.http.post("/collections/docs/documents/files?wait=false&name=e.md", content=b"# E\n\nEarth.")
    assert jobs.ended(answer.json()["result"]["id"])["documents"] == 1
    waited = jobs.http.post("/collections/docs/documents/files?name=f.md", content=b"# F\n\nFire.")
    assert waited.json()["result"][0]["added"]["documents"] == 1
    assert jobs.documents("docs") == 42
    # What can be refused is refused at once.
    refused = [
        ("put", "/collections/docs/documents?wait=false", {"json": {"documents": [{"id": "", "text": "x"}]}}, 400),
        ("put", "/collections/docs/documents?wait=false", {"json": {"documents": [], "chunk": {"max_tokens": 9}}}, 400),
        ("post", "/collections/docs/documents/files?wait=false", {"content": b"x"}, 400),
        ("post", "/collections/docs/documents/files?wait=false", {"files": {"x": (None, "no file")}}, 400),
        ("post", "/collections/docs/documents/files?wait=perhaps&name=x", {"content": b"x"}, 400),
        ("get", "/jobs/none", {}, 404),
        ("delete", "/jobs/none", {}, 404),
        ("get", "/jobs?limit=0", {}, 422),
        ("get", "/jobs?state=lost", {}, 400),
    ]
    for method, path, more, status in refused:
        answer = jobs.http.request(method, path, **more)
        assert answer.status_code == status, (path, answer.text)
    all_bad = jobs.ended(jobs.upload("docs", [("a.pdf", "x"), ("b.docx", "y")])["id"])
    assert all_bad["state"] == "failed" and all_bad["failed"] == 2 and "failures" in all_bad["error"]


@pytest.mark.parametrize("how", ["killed", "stopped"])
def test_a_job_that_was_interrupted_goes_on_and_those_behind_it_follow(jobs, how):
    jobs = jobs()
    first = jobs.upload("docs", many(1500))
    second = jobs.upload("docs", [*many(1, start=1), ("1.md", "# Note 1\n\nThe last word counts.")])
    assert jobs.get(second["id"])["state"] == "queued" and jobs.get(second["id"])["before"] == 1
    part = jobs.until(first["id"], lambda job: job["files_done"] > 0)
    jobs.server.kill9() if how == "killed" else jobs.server.stop()
    assert part["state"] == "running" and part["files_done"] < 1500
    jobs.server.start()
    done, after = jobs.ended(first["id"]), jobs.ended(second["id"])
    assert (done["state"], done["files_done"], done["failed"]) == ("done", 1500, 0)
    # The batch that was written last may not have been noted; it is found unchanged.
    assert done["documents"] + done["unchanged"] == 1500 and done["unchanged"] <= 32
    assert done["documents"] >= 1500 - 32 and done["bytes_done"] == done["bytes"]
    assert after["state"] == "done" and after["started_at"] >= done["ended_at"]
    assert jobs.documents("docs") == 1500
    answer = jobs.http.get("/v1/vector_stores/docs/files/1.md/content").json()
    assert answer["data"][0]["text"].endswith("The last word counts.")
    assert not list((jobs.server.data_dir / "jobs").glob("*.bytes"))


def test_a_full_queue_turns_away_and_a_job_can_be_cancelled(jobs):
    jobs = jobs(jobs__max_waiting=1, jobs__max_upload_bytes=10_000_000)
    running = jobs.upload("docs", many(3000))
    jobs.until(running["id"], lambda job: job["files_done"] > 0)
    queued = jobs.upload("docs", SOME)
    refused = jobs.upload("docs", SOME, status=429)
    assert int(refused.headers["retry-after"]) >= 1 and "server.jobs.max_waiting" in refused.text
    metrics = jobs.http.get("/metrics").text
    assert 'cairn_jobs{state="queued"} 1' in metrics and 'cairn_jobs{state="running"} 1' in metrics
    assert jobs.http.delete(f"/jobs/{queued['id']}").json()["result"]["state"] == "cancelled"
    assert jobs.http.delete(f"/jobs/{queued['id']}").status_code == 409
    assert jobs.http.delete(f"/jobs/{running['id']}").json()["result"]["cancel_asked"]
    ended = jobs.ended(running["id"])
    assert ended["state"] == "cancelled" and 0 < ended["documents"] < 3000
    assert jobs.documents("docs") == ended["documents"], "what was written stays"
    large = jobs.upload("docs", [("a.txt", b"x" * 10_000_001)], status=413)
    assert "max_upload_bytes" in large.text
    assert jobs.ended(jobs.upload("docs", SOME)["id"])["state"] == "done"
    jobs.server.restart()
    states = [job["state"] for job in jobs.list()]
    assert states == ["done", "cancelled", "cancelled"]


def test_a_collection_that_was_dropped_is_not_made_again_by_a_job(jobs):
    jobs = jobs()
    jobs.ended(jobs.upload("docs", SOME)["id"])
    busy = jobs.upload("other", many(1500))
    waiting = jobs.upload("docs", many(3))
    assert jobs.http.delete("/collections/docs").status_code == 200
    jobs.http.delete(f"/jobs/{busy['id']}")
    ended = jobs.ended(waiting["id"])
    assert ended["state"] == "failed" and "docs" in ended["error"]
    assert jobs.http.get("/collections/docs").status_code == 404


def test_a_key_sees_the_jobs_of_its_collections_alone(jobs):
    full = jobs(api_key=KEY)
    full = Jobs(full.server, KEY)
    token = lambda access: jwt.encode({"access": access}, KEY, algorithm="HS256")
    writer = Jobs(full.server, token([{"collection": "mine", "access": "rw"}]))
    reader = Jobs(full.server, token([{"collection": "mine", "access": "r"}]))
    mine, other = writer.upload("mine", SOME), full.upload("other", SOME)
    writer.upload("other", SOME, status=403)
    assert Jobs(full.server).http.get("/jobs").status_code == 401
    assert [job["id"] for job in reader.list()] == [mine["id"]]
    assert {job["id"] for job in full.list()} == {mine["id"], other["id"]}
    assert reader.http.get(f"/jobs/{other['id']}").status_code == 404
    assert reader.http.delete(f"/jobs/{mine['id']}").status_code == 403
    assert writer.http.delete(f"/jobs/{other['id']}").status_code == 404
    full.ended(mine["id"]), full.ended(other["id"])
    assert writer.http.delete(f"/jobs/{mine['id']}").status_code == 409
