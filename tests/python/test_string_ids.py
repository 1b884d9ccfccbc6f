"""Points that are called by strings: taken where a collection says so, and given back as they were written."""

import json
import subprocess
import uuid

import httpx
import pytest
from conftest import SMALL_GRAPHS, clean_env
from qdrant_client import QdrantClient, models

NAMESPACE = uuid.UUID("8b0c92d6-3c1f-5e0a-9d57-41a6c3e270b4")
REFUSED = "is not a valid point ID, valid values are either an unsigned integer or a UUID"


def named(number):
    """What a point is called: mostly strings, among them some that look like numbers and paths."""
    return [number, f"quarry/{number}", str(number), f'"Stein" {number} ü\n'][number % 4]


def order(id):
    """Numbers come first, then UUIDs and what strings stand for."""
    return (0, id) if isinstance(id, int) else (1, uuid.uuid5(NAMESPACE, id).int)


def point(number):
    payload = {"n": number, "of": f"quarry/{number % 2 * 4 + 1}"}
    return {"id": named(number), "vector": [1.0, float(number)], "payload": payload}


def result(response):
    assert response.status_code == 200, response.text
    return response.json()["result"]


def error(response, status):
    assert response.status_code == status, response.text
    return response.json()["status"]["error"]


@pytest.fixture
def stones(http, collection):
    """Forty points, the address of their collection."""
    path = f"/collections/{collection}"
    body = {"vectors": {"size": 2, "distance": "Dot"}, "string_ids": True}
    assert result(http.put(path, json=body)) is True
    result(http.put(f"{path}/index", json={"field_name": "of", "field_schema": "keyword"}))
    points = {"points": [point(number) for number in range(40)]}
    result(http.put(f"{path}/points?wait=true", json=points))
    return path


def test_a_collection_without_them_refuses_strings_as_before(http, collection):
    path = f"/collections/{collection}"
    result(http.put(path, json={"vectors": {"size": 2, "distance": "Dot"}}))
    good = {"id": 1, "vector": [1, 2]}
    result(http.put(f"{path}/points?wait=true", json={"points": [good]}))
    info = result(http.get(path))
    assert "string_ids" not in info["config"]
    bad = {"id": "quarry/1", "vector": [1, 2]}
    for response in [
        http.put(f"{path}/points", json={"points": [good | {"id": 2}, bad]}),
        http.put(f"{path}/points", json={"batch": {"ids": ["quarry/1"], "vectors": [[1, 2]]}}),
        http.post(f"{path}/points", json={"ids": ["quarry/1"]}),
        http.post(f"{path}/points/delete", json={"points": ["quarry/1"]}),
        http.post(f"{path}/points/scroll", json={"offset": "quarry/1"}),
        http.post(f"{path}/points/query", json={"query": "quarry/1"}),
        http.post(f"{path}/points/count", json={"filter": {"must": {"has_id": ["quarry/1"]}}}),
    ]:
        told = error(response, 400)
        assert told.startswith("Format error in JSON body: "), told
        assert f"value quarry/1 {REFUSED}" in told, told
    assert error(http.get(f"{path}/points/x"), 400) == 'Bad request: Can not recognize "x" as point id'
    assert result(http.post(f"{path}/points/count", json={})) == {"count": 1}


def test_every_read_gives_back_what_was_written(http, stones):
    points = f"{stones}/points"
    ids = [named(number) for number in (5, 2, 0, 7)]
    got = result(http.post(points, json={"ids": ids, "with_vector": True}))
    assert got == [point(number) for number in (5, 2, 0, 7)]
    for number in (5, 7):
        address = httpx.URL(f"{http.base_url}").copy_with(raw_path=f"{points}/{quoted(named(number))}".encode())
        assert result(http.get(address)) == point(number)
    assert result(http.get(f"{points}/2")) == point(2), "there is no number 2"
    assert result(http.get(f"{points}/4")) == point(4)
    assert error(http.get(f"{points}/gone"), 404) == "Not found: Point with id gone does not exists!"

    met, offset = [], None
    while True:
        page = result(http.post(f"{points}/scroll", json={"limit": 7, "offset": offset}))
        assert offset is None or page["points"][0]["id"] == offset
        met += [found["id"] for found in page["points"]]
        offset = page["next_page_offset"]
        if offset is None:
            break
    assert met == sorted((named(number) for number in range(40)), key=order)

    best = result(http.post(f"{points}/query", json={"query": [0, 1], "limit": 4}))["points"]
    assert [hit["id"] for hit in best] == [named(number) for number in (39, 38, 37, 36)]
    near = result(http.post(f"{points}/query", json={"query": named(39), "limit": 2}))["points"]
    assert [hit["id"] for hit in near] == [named(38), named(37)], "the point itself is left out"
    batch = result(http.post(f"{points}/query/batch", json={"searches": [{"query": named(39), "limit": 1}]}))
    assert batch[0]["points"][0]["id"] == named(38)
    recommend = {"recommend": {"positive": [named(39), named(1)], "negative": [named(2)]}}
    near = result(http.post(f"{points}/query", json={"query": recommend, "limit": 1}))["points"]
    assert near[0]["id"] == named(38)
    legacy = {"positive": [named(39)], "limit": 1}
    assert result(http.post(f"{points}/recommend", json=legacy))[0]["id"] == named(38)
    for query in ["gone", {"recommend": {"positive": ["gone"]}}]:
        told = error(http.post(f"{points}/query", json={"query": query}), 404)
        assert told == "Not found: No point with id gone found"
    only = {"must": [{"has_id": [named(5), named(6), "gone"]}]}
    found = result(http.post(f"{points}/search", json={"vector": [0, 1], "limit": 9, "filter": only}))
    assert [hit["id"] for hit in found] == [named(6), named(5)]
    assert result(http.post(f"{points}/count", json={"filter": only})) == {"count": 2}
    facet = {"key": "of", "filter": only}
    assert {hit["value"] for hit in result(http.post(f"{stones}/facet", json=facet))["hits"]} == {"quarry/1", "quarry/5"}

    groups = {"query": [0, 1], "group_by": "of", "with_lookup": stones.rsplit("/", 1)[1], "limit": 2, "group_size": 1}
    groups = result(http.post(f"{points}/query/groups", json=groups))["groups"]
    assert [group["hits"][0]["id"] for group in groups] == [named(39), named(38)]
    assert [group["lookup"]["id"] for group in groups] == ["quarry/5", "quarry/1"]
    explained = result(http.post(f"{points}/explain", json={"query": [0, 1], "limit": 1}))["points"]
    assert explained[0]["id"] == named(39) and explained[0]["found_by"]

    names = [named(number) for number in range(40)]
    sample = {"sample": 40, "limit": 1}
    pairs = result(http.post(f"{points}/search/matrix/pairs", json=sample))["pairs"]
    assert len(pairs) == 40 and all(pair["a"] in names and pair["b"] in names for pair in pairs)
    offsets = result(http.post(f"{points}/search/matrix/offsets", json=sample))
    assert offsets["ids"] == sorted(names, key=order)


def quoted(id):
    from urllib.parse import quote

    return quote(id, safe="")


def test_every_write_finds_its_point(http, stones):
    points = f"{stones}/points"
    id = named(1)
    get = lambda: result(http.post(points, json={"ids": [id], "with_vector": True}))[0]
    result(http.post(f"{points}/payload?wait=true", json={"payload": {"a": {"b": 1}}, "points": [id]}))
    result(http.post(f"{points}/payload?wait=true", json={"payload": {"c": 2}, "points": [id], "key": "a"}))
    result(http.post(f"{points}/payload/delete?wait=true", json={"keys": ["n", "of"], "points": [id]}))
    result(http.put(f"{points}/vectors?wait=true", json={"points": [{"id": id, "vector": [3, 4]}]}))
    assert get() == {"id": id, "vector": [3, 4], "payload": {"a": {"b": 1, "c": 2}}}
    result(http.put(f"{points}/payload?wait=true", json={"payload": {"d": 1}, "points": [id]}))
    assert get()["payload"] == {"d": 1}
    operations = [
        {"upsert": {"points": [{"id": "new one", "vector": [5, 5]}]}},
        {"set_payload": {"payload": {"e": 1}, "points": ["new one"]}},
        {"clear_payload": {"points": [id]}},
        {"delete": {"points": [named(2), "gone"]}},
        {"delete_vectors": {"points": ["new one"], "vector": [""]}},
        {"update_vectors": {"points": [{"id": "new one", "vector": [6, 6]}]}},
    ]
    assert len(result(http.post(f"{points}/batch?wait=true", json={"operations": operations}))) == 6
    assert get() == {"id": id, "vector": [3, 4], "payload": {}}
    both = result(http.post(points, json={"ids": ["new one", named(2)], "with_vector": True}))
    assert both == [{"id": "new one", "vector": [6, 6], "payload": {"e": 1}}]
    columns = {"ids": ["x", 7000, "y"], "vectors": [[1, 1], [2, 2], [3, 3]]}
    result(http.put(f"{points}?wait=true", json={"batch": columns}))
    found = result(http.post(points, json={"ids": ["y", "x", 7000]}))
    assert [record["id"] for record in found] == ["y", "x", 7000]

    told = error(http.post(f"{points}/payload", json={"payload": {"a": 1}, "points": [id, "gone"]}), 404)
    assert told == "Not found: No point with id gone found"
    told = error(http.put(f"{points}/vectors", json={"points": [{"id": "gone", "vector": [3, 4]}]}), 404)
    assert told == "Not found: No point with id gone found"
    long = {"points": [{"id": "x" * 5000, "vector": [1, 2]}]}
    assert "4096" in error(http.put(points, json=long), 400)


def test_a_string_and_the_uuid_it_stands_for_are_one_point(http, stones):
    points = f"{stones}/points"
    as_uuid = str(uuid.uuid5(NAMESPACE, "quarry/1"))
    assert result(http.post(points, json={"ids": [as_uuid]}))[0]["id"] == "quarry/1"
    result(http.put(f"{points}?wait=true", json={"points": [{"id": as_uuid.upper(), "vector": [9, 9]}]}))
    assert result(http.post(points, json={"ids": ["quarry/1"]}))[0] == {"id": "quarry/1", "payload": {}}
    assert result(http.post(f"{points}/count", json={})) == {"count": 40}
    plain = str(uuid.uuid4())
    result(http.put(f"{points}?wait=true", json={"points": [{"id": plain.upper(), "vector": [9, 9]}]}))
    assert result(http.post(points, json={"ids": [plain.replace("-", "")]}))[0]["id"] == plain


def test_a_collection_is_told_to_take_them_later_and_for_good(http, collection):
    path = f"/collections/{collection}"
    result(http.put(path, json={"vectors": {"size": 2, "distance": "Dot"}}))
    write = lambda: http.put(f"{path}/points?wait=true", json={"points": [{"id": "a", "vector": [1, 2]}]})
    error(write(), 400)
    assert result(http.patch(path, json={"string_ids": False})) is True
    assert result(http.patch(path, json={"string_ids": True})) is True
    assert result(http.get(path))["config"]["string_ids"] is True
    result(write())
    assert "cannot be taken back" in error(http.patch(path, json={"string_ids": False}), 400)
    assert result(http.post(f"{path}/points", json={"ids": ["a"]}))[0]["id"] == "a"


def test_strings_survive_kill_9_sealing_and_merging(new_server):
    server = new_server(env=SMALL_GRAPHS).start()
    with httpx.Client(base_url=server.url, timeout=60) as http:
        body = {"vectors": {"size": 2, "distance": "Dot"}, "string_ids": True}
        result(http.put("/collections/stones", json=body))
        for start in range(0, 3000, 300):
            points = {"points": [point(number) for number in range(start, start + 300)]}
            result(http.put("/collections/stones/points?wait=true", json=points))
            if start == 1500:
                server.kill9()
                server.start()
    server.kill9()
    server.start()
    with httpx.Client(base_url=server.url, timeout=60) as http:
        everything = {"limit": 5000, "with_payload": True, "with_vector": True}
        page = result(http.post("/collections/stones/points/scroll", json=everything))
        want = sorted((point(number) for number in range(3000)), key=lambda point: order(point["id"]))
        assert page == {"points": want, "next_page_offset": None}


def test_snapshots_and_lines_carry_them(http, server, stones, binary, tmp_path):
    name = result(http.post(f"{stones}/snapshots?wait=true"))["name"]
    packed = http.get(f"{stones}/snapshots/{name}").content
    copy = f"{stones}-copy"
    upload = http.post(f"{copy}/snapshots/upload?wait=true", files={"snapshot": (name, packed)})
    assert result(upload) is True
    scroll = {"limit": 100, "with_vector": True}
    original = result(http.post(f"{stones}/points/scroll", json=scroll))
    assert result(http.post(f"{copy}/points/scroll", json=scroll)) == original
    result(http.put(f"{copy}/points?wait=true", json={"points": [{"id": "one more", "vector": [1, 1]}]}))
    result(http.delete(copy))

    def cairn(*args, stdin=None):
        command = [str(binary), "--data-dir", str(tmp_path / "data"), *map(str, args)]
        done = subprocess.run(command, capture_output=True, text=True, timeout=300, input=stdin, env=clean_env())
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    cairn("import", "mine", f"{server.url}{stones}")
    lines = cairn("export", "mine", "-")
    assert [json.loads(line) for line in lines.splitlines()] == original["points"]
    cairn("import", "again", "-", "--distance", "dot", stdin=lines)
    assert cairn("export", "again", "-") == lines


def test_the_python_client_passes_them_on(new_server):
    server = new_server(env=SMALL_GRAPHS | {"CAIRN__SERVER__STRING_IDS": "true"}).start()
    client = QdrantClient(url=server.url, timeout=60)
    dot = models.VectorParams(size=2, distance=models.Distance.DOT)
    client.create_collection("stones", vectors_config=dot)
    points = [models.PointStruct(**point(number)) for number in range(700)]
    client.upsert("stones", points[:350])
    client.upload_points("stones", points[350:], wait=True)
    records, offset = client.scroll("stones", limit=100)
    while offset is not None:
        more, offset = client.scroll("stones", limit=100, offset=offset)
        records += more
    assert [record.id for record in records] == sorted((point.id for point in points), key=order)
    exact = models.SearchParams(exact=True)
    hits = client.query_points("stones", query="quarry/1", limit=1, search_params=exact).points
    assert hits[0].id == named(699)
    found = client.retrieve("stones", ids=["quarry/1", named(3)])
    assert [record.id for record in found] == ["quarry/1", named(3)]
    client.set_payload("stones", {"seen": True}, points=["quarry/1"])
    has_id = models.Filter(must=[models.HasIdCondition(has_id=["quarry/1", named(2)])])
    assert {record.id for record in client.scroll("stones", has_id)[0]} == {"quarry/1", named(2)}
    client.delete("stones", points_selector=["quarry/1"])
    assert client.retrieve("stones", ids=["quarry/1"]) == []
    client.close()
