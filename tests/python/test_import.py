"""`cairn export` and `cairn import`: points as lines of JSON, there and back."""

import gzip
import json
import random
import uuid

import pytest
import tiny_models
from qdrant_client import models


def lines(points):
    return "".join(json.dumps(point) + "\n" for point in points)


def some_points(count=2500, dim=7):
    draw = random.Random(7)
    vector = lambda: [draw.uniform(-1, 1) for _ in range(dim)]
    return [
        {"id": number if number % 3 else str(uuid.UUID(int=number)), "vector": vector(), "payload": {"n": number, "z": "ü"}}
        for number in range(count)
    ]


def test_what_was_exported_comes_back_byte_by_byte(cairn_command, tmp_path):
    given, one, two = tmp_path / "given.jsonl", tmp_path / "one.jsonl", tmp_path / "two.jsonl"
    given.write_text(lines(some_points()))
    assert "2500 points imported to `a`" in cairn_command("import", "a", given)
    assert "2500 points" in cairn_command("export", "a", one)
    cairn_command("import", "b", one)
    cairn_command("export", "b", two)
    assert one.read_bytes() == two.read_bytes()
    packed = tmp_path / "packed.jsonl.gz"
    cairn_command("export", "b", packed)
    assert gzip.decompress(packed.read_bytes()) == one.read_bytes()
    cairn_command("import", "c", packed)
    piped = cairn_command("export", "c", "-")
    assert piped == one.read_text()
    assert json.loads(cairn_command("--json", "import", "d", "-", stdin=piped))["points"] == 2500
    assert cairn_command("export", "d", "-") == piped


def test_named_sparse_and_multi_vectors_keep_their_shapes(cairn_command, tmp_path):
    points = [
        {"id": 1, "vectors": {"a": [0.5, 0.25], "rows": [[1.0, 2.0], [3.0, 4.0]]}, "payload": {}},
        {"id": 2, "vectors": {"a": [0.125, 1e-07], "words": {"indices": [3, 4294967295], "values": [0.1, 2.0]}}, "payload": {"b": 1, "a": None}},
        {"id": 3, "vectors": {}, "payload": {"deep": {"list": [1, 2.5]}}},
    ]
    file = tmp_path / "points.jsonl"
    file.write_text(lines(points))
    cairn_command("import", "a", file, "--distance", "dot")
    out = cairn_command("export", "a", "-")
    assert [json.loads(line) for line in out.splitlines()] == points
    cairn_command("import", "b", "-", "--distance", "dot", stdin=out)
    assert cairn_command("export", "b", "-") == out


BAD = [
    ("broken", "line 2 of"),
    ('{"id": 2}', "no `vector`"),
    ('{"id": -2, "vector": [1, 2]}', "line 2 of"),
    ('{"id": "x", "vector": [1, 2, 3]}', "point x: "),
    ('{"id": 2, "vector": [1, 2, 3]}', "expected dim: 2, got 3"),
    ('{"id": 2, "vectors": {"none": [1, 2]}}', "none"),
]


@pytest.mark.parametrize("bad,words", BAD, ids=[words for _, words in BAD])
def test_a_bad_line_is_named_and_stops_or_is_passed_over(cairn_command, tmp_path, bad, words):
    file = tmp_path / "points.jsonl"
    good = {number: json.dumps({"id": number, "vector": [1, number]}) for number in (1, 3)}
    file.write_text("\n".join([good[1], bad, good[3]]) + "\n")
    if "none" in bad:
        # Of a collection that is made, any name would do.
        cairn_command("import", "c", "-", stdin=good[1])
    told = cairn_command("import", "c", file, fails=True)
    assert words in told and "line 2 of" in told and "--skip-bad" in told and "1 written" in told
    ids = lambda: [json.loads(line)["id"] for line in cairn_command("export", "c", "-").splitlines()]
    assert ids() == [1], "what comes before a bad line is written"
    done = json.loads(cairn_command("--json", "import", "c", file, "--skip-bad"))
    assert done["points"] == 2 and [one["line"] for one in done["skipped"]] == [2]
    assert ids() == [1, 3]


def test_lines_with_a_text_become_documents(cairn_command, tmp_path):
    encoder = tiny_models.write(tiny_models.case("tiny", "bert mean normalized"), tmp_path / "encoder")
    env = {"CAIRN__MODELS__DEFAULT": str(encoder), "CAIRN__MODELS__ENCODER__PRECISION": "f32"}
    texts = lines([{"id": 1, "text": "A stone.", "payload": {"kind": "slate"}}, {"_id": "b", "title": "B", "text": "A river."}])
    done = json.loads(cairn_command("--json", "import", "docs", "-", stdin=texts, env=env))
    assert (done["documents"], done["unchanged"]) == (2, 0)
    assert json.loads(cairn_command("--json", "import", "docs", "-", stdin=texts, env=env))["unchanged"] == 2
    hits = json.loads(cairn_command("--json", "search", "docs", "stone", env=env))["hits"]
    assert {hit["document_id"] for hit in hits} == {"1", "b"}
    cairn_command("import", "points", "-", stdin='{"id": 1, "vector": [1, 2]}\n')
    assert "points" in cairn_command("import", "points", "-", stdin=texts, env=env, fails=True)


def test_strings_as_ids_come_over_as_they_are_or_as_is_asked(cairn_command, tmp_path):
    given = lines([{"id": 1, "vector": [1, 0]}, {"id": "quarry/1", "vector": [0, 1], "payload": {"n": 2}}])
    ids = lambda of: [json.loads(line)["id"] for line in cairn_command("export", of, "-").splitlines()]
    cairn_command("import", "strings", "-", stdin=given)
    assert ids("strings") == [1, "quarry/1"]
    cairn_command("import", "uuids", "-", "--string-ids=false", stdin=given)
    made = str(uuid.uuid5(uuid.NAMESPACE_OID, "quarry/1"))
    assert ids("uuids") == [1, made]
    [kept] = [json.loads(line) for line in cairn_command("export", "uuids", "-").splitlines()][1:]
    assert kept["payload"] == {"n": 2, "_id": "quarry/1"}
    # One that takes none refuses them, with the way out, and takes them from when it is told to.
    told = cairn_command("import", "uuids", "-", stdin=given, fails=True)
    assert "quarry/1" in told and "string_ids" in told and "--string-ids" in told
    cairn_command("import", "uuids", "-", "--string-ids", stdin=given)
    assert set(ids("uuids")) == {1, made, "quarry/1"}
    # A collection that is made takes them if that is asked for, though the source has none.
    cairn_command("import", "numbers", "-", "--string-ids", stdin=lines([{"id": 1, "vector": [1, 0]}]))
    cairn_command("import", "numbers", "-", stdin=given)
    assert ids("numbers") == [1, "quarry/1"]
    assert "BOOL" in cairn_command("import", "c", "-", "--string-ids=maybe", stdin=given, fails=True)


def test_a_collection_of_another_server_is_brought_over(cairn_command, qdrant, server, collection):
    qdrant.create_collection(
        collection,
        vectors_config={"a": models.VectorParams(size=3, distance=models.Distance.DOT)},
        sparse_vectors_config={"words": models.SparseVectorParams(modifier=models.Modifier.IDF)},
    )
    qdrant.create_payload_index(collection, "n", models.PayloadSchemaType.INTEGER)
    points = [
        models.PointStruct(
            id=number,
            vector={"a": [number, 0.5, 0.1], "words": models.SparseVector(indices=[number], values=[0.3])},
            payload={"n": number},
        )
        for number in range(700)
    ]
    qdrant.upsert(collection, points)
    url = f"{server.url}/collections/{collection}"
    assert "700 points imported" in cairn_command("import", "mine", url)
    out = [json.loads(line) for line in cairn_command("export", "mine", "-").splitlines()]
    assert out[699] == {
        "id": 699,
        "vectors": {"a": [699.0, 0.5, 0.1], "words": {"indices": [699], "values": [0.3]}},
        "payload": {"n": 699},
    }
    assert len(out) == 700
    told = cairn_command("import", "mine", f"{server.url}/collections/none", fails=True)
    assert "none" in told and "404" in told
    assert "NO_SUCH_KEY" in cairn_command("import", "mine", url, "--api-key-env", "NO_SUCH_KEY", fails=True)
    assert "collections/NAME" in cairn_command("import", "mine", server.url, fails=True)


def test_an_unknown_collection_and_a_missing_file_are_named(cairn_command, tmp_path):
    assert "`gone` doesn't exist" in cairn_command("export", "gone", tmp_path / "x.jsonl", fails=True)
    assert list(tmp_path.glob("x.jsonl*")) == []
    assert "nowhere.jsonl" in cairn_command("import", "c", tmp_path / "nowhere.jsonl", fails=True)
