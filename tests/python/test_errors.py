"""Bad input: each gets its status and a text that helps, and loses nothing."""

import json
import os
import re
import shutil
import subprocess

import httpx
import pytest
from conftest import clean_env

NOWHERE = "Not found: Collection `nowhere` doesn't exist!"


@pytest.fixture
def filled(http, collection):
    """A collection of four dimensions with one point, which every refusal must leave alone."""
    body = {"vectors": {"size": 4, "distance": "Dot"}}
    assert http.put(f"/collections/{collection}", json=body).status_code == 200
    points = [{"id": 1, "vector": [1, 2, 3, 4], "payload": {"kept": True}}]
    upsert = http.put(f"/collections/{collection}/points?wait=true", json={"points": points})
    assert upsert.status_code == 200
    yield collection
    records = http.post(f"/collections/{collection}/points/scroll", json={"with_vector": True}).json()[
        "result"
    ]["points"]
    assert records == [{"id": 1, "vector": [1, 2, 3, 4], "payload": {"kept": True}}]


def error(response, status):
    """The text of an error, after a look at its shape."""
    assert response.status_code == status, response.text
    body = response.json()
    assert "result" not in body
    assert isinstance(body["time"], float | int)
    return body["status"]["error"]


def raw(http, method, path, body):
    headers = {"content-type": "application/json"}
    return http.request(method, path, content=body, headers=headers)


@pytest.mark.parametrize("wait", ["true", "false"])
def test_a_vector_of_the_wrong_dimension_is_refused_with_both_numbers(http, filled, wait):
    text = "Wrong input: Vector dimension error: expected dim: 4, got 3"
    # The first point of the batch is good: none or all are written.
    points = [{"id": 2, "vector": [1, 2, 3, 4]}, {"id": 3, "vector": [1, 2, 3]}]
    path = f"/collections/{filled}/points"
    assert error(http.put(f"{path}?wait={wait}", json={"points": points}), 400) == text
    assert error(http.post(f"{path}/query", json={"query": [1, 2, 3]}), 400) == text


@pytest.mark.parametrize("number", ["NaN", "Infinity", "-Infinity", "1e39", "1e999"])
def test_a_number_that_is_not_finite_is_refused(http, filled, number):
    path = f"/collections/{filled}/points"
    point = f'{{"points":[{{"id":2,"vector":[1,2,{number},4]}}]}}'
    assert error(raw(http, "PUT", f"{path}?wait=true", point), 400)
    assert error(raw(http, "POST", f"{path}/query", f'{{"query":[1,2,{number},4]}}'), 400)


def test_an_unknown_collection_is_not_found_by_any_call(http):
    vector = [1, 2, 3, 4]
    calls = [
        ("GET", "", None),
        ("PUT", "/points?wait=true", {"points": [{"id": 1, "vector": vector}]}),
        ("POST", "/points", {"ids": [1]}),
        ("POST", "/points/query", {"query": vector}),
        ("POST", "/points/scroll", {}),
        ("POST", "/points/count", {}),
        ("POST", "/points/delete", {"points": [1]}),
        ("POST", "/search", {"query": "stones"}),
        ("POST", "/ask", {"question": "Why stones?"}),
        ("DELETE", "/documents/a", None),
    ]
    for method, path, body in calls:
        response = http.request(method, f"/collections/nowhere{path}", json=body)
        assert error(response, 404) == NOWHERE, (method, path)


@pytest.mark.parametrize("body", ["", "{", "[]", '{"points":', "\xff", '{"points":7}'])
def test_json_that_cannot_be_read_is_a_format_error(http, filled, body):
    response = raw(http, "PUT", f"/collections/{filled}/points?wait=true", body.encode("latin-1"))
    assert error(response, 400).startswith("Format error in JSON body: ")


def test_a_point_id_is_a_number_or_a_uuid(http, filled):
    for id in ("not-a-uuid", -1, 1.5, None, [1]):
        points = [{"id": id, "vector": [1, 2, 3, 4]}]
        assert error(http.put(f"/collections/{filled}/points?wait=true", json={"points": points}), 400)
    text = error(http.get(f"/collections/{filled}/points/not-a-uuid"), 400)
    assert "not-a-uuid" in text
    assert "5" in error(http.get(f"/collections/{filled}/points/5"), 404)


@pytest.mark.parametrize("size", [0, 65537])
def test_a_vector_size_out_of_range_is_refused_with_the_range(http, collection, size):
    body = {"vectors": {"size": size, "distance": "Cosine"}}
    text = error(http.put(f"/collections/{collection}", json=body), 422)
    want = f"vectors.size: value {size} invalid, must be from 1 to 65536"
    assert text == f"Validation error in JSON body: [{want}]"
    assert http.get(f"/collections/{collection}/exists").json()["result"] == {"exists": False}


def test_an_unknown_distance_is_refused(http, collection):
    body = {"vectors": {"size": 4, "distance": "Hamming"}}
    assert "Hamming" in error(http.put(f"/collections/{collection}", json=body), 400)


def test_a_limit_of_zero_is_refused(http, filled):
    body = {"query": [1, 2, 3, 4], "limit": 0}
    text = error(http.post(f"/collections/{filled}/points/query", json=body), 422)
    assert "limit: value 0 invalid, must be 1 or larger" in text


def test_a_filter_that_says_nothing_is_refused(http, filled):
    body = {"filter": {"must": [{"key": "a"}]}}
    assert error(http.post(f"/collections/{filled}/points/scroll", json=body), 422)
    body = {"filter": {"must": [{"key": "a[", "match": {"value": 1}}]}}
    assert error(http.post(f"/collections/{filled}/points/scroll", json=body), 400)


def test_a_query_parameter_of_the_wrong_kind_is_named(http, filled):
    response = http.put(f"/collections/{filled}/points?wait=perhaps", json={"points": []})
    assert error(response, 400).startswith("Deserialize error in query parameters: ")


def test_an_unknown_path_or_method_is_answered_in_the_same_shape(http, filled):
    assert http.get("/no/such/path").status_code == 404
    assert http.post(f"/collections/{filled}").status_code in (404, 405)


def test_an_empty_text_is_refused_and_named(http, model, collection, cairn):
    documents = [{"id": "good", "text": "Stones."}, {"id": "empty-one", "text": " \n "}]
    response = http.put(f"/collections/{collection}/documents", json={"documents": documents})
    assert response.status_code in (400, 422), response.text
    assert "empty-one" in response.json()["status"]["error"]

    cairn.add_documents(collection, documents[:1])
    for path, body in [("search", {"query": ""}), ("ask", {"question": "  "})]:
        response = http.post(f"/collections/{collection}/{path}", json=body)
        assert response.status_code in (400, 422), response.text
        assert "empty" in response.json()["status"]["error"]


def test_an_unknown_model_is_named(http, filled, model):
    document = {"text": "stones", "model": "no-such/model"}
    path = f"/collections/{filled}/points"
    points = [{"id": 2, "vector": document}]
    assert "no-such/model" in error(http.put(f"{path}?wait=true", json={"points": points}), 400)
    assert "no-such/model" in error(http.post(f"{path}/query", json={"query": document}), 400)


def test_a_model_of_another_dimension_is_refused_like_a_vector(http, filled, model):
    points = [{"id": 2, "vector": {"text": "stones", "model": model}}]
    text = error(http.put(f"/collections/{filled}/points?wait=true", json={"points": points}), 400)
    assert re.search(r"\b384\b", text) and re.search(r"\b4\b", text), text


def test_a_body_of_fifty_megabytes_is_refused_with_the_mend(http, filled):
    payload = "x" * (50 * 1024 * 1024)
    points = [{"id": 2, "vector": [1, 2, 3, 4], "payload": {"x": payload}}]
    response = http.put(f"/collections/{filled}/points?wait=true", json={"points": points})
    text = error(response, 413)
    assert re.search(r"\d", text), "the limit is named"
    assert re.search(r"send|split|smaller|fewer|raise", text), text
    # The server is still there and takes what fits.
    assert http.get("/readyz").status_code == 200


def refusal(server):
    """What a server says that must not start."""
    done = subprocess.run(server.command(), capture_output=True, text=True, timeout=60, env=server.env)
    assert done.returncode not in (0, None)
    assert "panicked" not in done.stderr
    return done.stdout + done.stderr


def test_a_data_directory_in_use_names_its_owner(new_server):
    owner = new_server().start()
    text = refusal(new_server(data_dir=owner.data_dir))
    assert str(owner.pid) in text
    assert "in use" in text
    assert httpx.get(f"{owner.url}/readyz").status_code == 200


def test_a_killed_owner_does_not_lock_the_directory_for_ever(new_server):
    first = new_server().start()
    first.kill9()
    new_server(data_dir=first.data_dir).start()


def test_a_data_directory_of_a_newer_version_is_refused_untouched(new_server):
    server = new_server().start()
    server.stop()
    path = server.data_dir / "format.json"
    written = json.loads(path.read_text())
    path.write_text(json.dumps(written | {"format": 999}))
    text = refusal(server)
    assert "999" in text
    assert "install a newer cairn" in text
    path.write_text(json.dumps(written))
    server.start()


def test_an_unknown_setting_is_refused_by_name(new_server):
    text = refusal(new_server(env={"CAIRN__SERVER__NO_SUCH_KEY": "1"}))
    assert "no_such_key" in text


def test_an_unknown_setting_in_a_file_is_refused_by_name(new_server, tmp_path):
    config = tmp_path / "cairn.toml"
    config.write_text("[server]\nno_such_key = 1\n")
    server = new_server()
    command = [*server.command(), "--config", str(config)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, env=server.env)
    assert done.returncode not in (0, None)
    assert "no_such_key" in done.stdout + done.stderr


def test_a_port_in_use_is_named(new_server):
    owner = new_server().start()
    other = new_server()
    other.port = owner.port
    assert str(owner.port) in refusal(other)


def test_a_file_that_is_not_text_is_reported_and_the_others_are_added(binary, model, new_server, tmp_path):
    folder = tmp_path / "docs"
    folder.mkdir()
    (folder / "a-good.md").write_text("# Stones\n\nA cairn is a heap of stones.\n")
    (folder / "b-picture.png").write_bytes(bytes(range(256)) * 64)
    (folder / "c-cut.txt").write_bytes(b"Latin-1: caf\xe9 \x00\xff")
    (folder / "d-good.txt").write_text("A lighthouse warns ships of rocks.\n")
    server = new_server()
    command = [binary, "add", "docs", folder, "--data-dir", server.data_dir]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, env=clean_env())
    report = done.stdout + done.stderr
    assert "panicked" not in report
    assert "c-cut.txt" in report, report
    assert "not text" in report, report

    server.start()
    body = {"query": "stones and rocks", "limit": 10}
    hits = httpx.post(f"{server.url}/collections/docs/search", json=body, timeout=60).json()["result"]["hits"]
    assert len(hits) == 2
    assert {hit["text"].split()[-1] for hit in hits} == {"stones.", "rocks."}


@pytest.fixture
def small_disk(tmp_path):
    """A file system of 64 MB, which only root can make."""
    folder = tmp_path / "disk"
    folder.mkdir()
    if os.geteuid() != 0 or shutil.which("mount") is None:
        pytest.skip("only root can mount a small disk")
    options = ["-t", "tmpfs", "-o", "size=64m", "tmpfs", str(folder)]
    mounted = subprocess.run(["mount", *options], capture_output=True, text=True)
    if mounted.returncode != 0:
        pytest.skip(f"cannot mount a small disk: {mounted.stderr.strip()}")
    yield folder
    subprocess.run(["umount", "--lazy", str(folder)], check=True)


def test_a_full_disk_refuses_writes_keeps_reads_and_recovers(small_disk, new_server):
    ballast = small_disk / "ballast"
    ballast.write_bytes(bytes(12 * 1024 * 1024))
    # The usual reserve is as large as this whole disk.
    reserve = {"CAIRN__INDEX__MIN_FREE_BYTES": str(8 * 1024 * 1024)}
    server = new_server(data_dir=small_disk / "data", env=reserve).start()
    http = httpx.Client(base_url=server.url, timeout=60)
    assert http.put("/collections/c", json={"vectors": {"size": 4, "distance": "Dot"}}).is_success

    def point(id):
        return {"id": id, "vector": [id, 1, 2, 3], "payload": {"n": id, "fill": f"{id}" * 4000}}

    def upsert(start):
        points = [point(id) for id in range(start, start + 20)]
        return http.put("/collections/c/points?wait=true", json={"points": points})

    acknowledged = 0
    while (response := upsert(acknowledged)).status_code == 200:
        acknowledged += 20
        assert acknowledged < 20_000, "the disk never filled up"
    text = error(response, 507)
    assert "space" in text
    assert "free" in text, "the mend is named"
    assert acknowledged > 100
    # It stays refused, and every read still works.
    assert error(upsert(acknowledged), 507)

    def assert_all_there():
        for start in range(0, acknowledged, 200):
            ids = list(range(start, min(start + 200, acknowledged)))
            body = {"ids": ids, "with_vector": True}
            records = http.post("/collections/c/points", json=body).json()["result"]
            assert records == [
                {"id": id, "payload": point(id)["payload"], "vector": [id, 1, 2, 3]} for id in ids
            ]
        last = acknowledged - 1
        query = {
            "query": [1, 0, 0, 0],
            "limit": 1,
            "filter": {"must": [{"key": "n", "match": {"value": last}}]},
        }
        [hit] = http.post("/collections/c/points/query", json=query).json()["result"]["points"]
        assert hit["id"] == last

    assert_all_there()
    server.restart()
    assert_all_there()

    ballast.unlink()
    if upsert(acknowledged).status_code != 200:
        server.restart()
        assert upsert(acknowledged).status_code == 200
    acknowledged += 20
    assert_all_there()
    server.kill9()
    server.start()
    assert_all_there()
    http.close()
    server.stop()
