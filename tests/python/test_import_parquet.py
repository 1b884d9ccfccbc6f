"""`cairn import` of Parquet: with vectors or texts, one file or many, whatever wrote it."""

import datetime
import decimal
import json
import uuid

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import tiny_models


@pytest.fixture
def small_model(tmp_path):
    encoder = tiny_models.write(tiny_models.case("tiny", "bert mean normalized"), tmp_path / "encoder")
    return {"CAIRN__MODELS__DEFAULT": str(encoder), "CAIRN__MODELS__ENCODER__PRECISION": "f32"}


def exported(cairn_command, collection):
    return [json.loads(line) for line in cairn_command("export", collection, "-").splitlines()]


def vectors(count, dim=5, shift=0):
    return [[number + shift, *[0.25 * number] * (dim - 1)] for number in range(count)]


CODECS = ["none", "snappy", "gzip", "zstd", "lz4", "brotli"]


@pytest.mark.parametrize("codec", CODECS)
def test_rows_with_vectors_become_points_whatever_packed_them(cairn_command, tmp_path, codec):
    table = pa.table({
        "id": pa.array(range(700), pa.int64()),
        "embedding": pa.array(vectors(700), pa.list_(pa.float32())),
        "title": [f"Stone {number}" for number in range(700)],
    })
    file = tmp_path / "stones.parquet"
    pq.write_table(table, file, compression=codec, row_group_size=250)
    assert "700 points imported" in cairn_command("import", "c", file, "--distance", "dot")
    out = exported(cairn_command, "c")
    assert len(out) == 700
    assert out[699] == {"id": 699, "vector": vectors(700)[699], "payload": {"title": "Stone 699"}}


def test_every_kind_of_value_becomes_json(cairn_command, tmp_path):
    when = datetime.datetime(2024, 2, 29, 12, 0, 0, 123456, tzinfo=datetime.timezone.utc)
    a_uuid = uuid.UUID(int=7)
    columns = {
        "id": pa.array(["doc-1", str(a_uuid)]),
        "vector": pa.array([[1, 2], [3, 4]], pa.list_(pa.float64(), 2)),
        "bool": [True, None],
        "small": pa.array([-5, 7], pa.int8()),
        "big": pa.array([2**64 - 1, 0], pa.uint64()),
        "real": pa.array([0.1, 1e300], pa.float64()),
        "single": pa.array([0.1, -2.5], pa.float32()),
        "half": pa.array([0.5, 2.0], pa.float16()),
        "money": pa.array([decimal.Decimal("12.50"), None], pa.decimal128(10, 2)),
        "date": pa.array([datetime.date(1969, 12, 31), None]),
        "time": pa.array([datetime.time(1, 2, 3), None], pa.time64("us")),
        "seconds": pa.array([when.replace(microsecond=0), None], pa.timestamp("s", "UTC")),
        "millis": pa.array([when.replace(microsecond=123000), None], pa.timestamp("ms", "UTC")),
        "micros": pa.array([when, None], pa.timestamp("us", "UTC")),
        "nanos": pa.array([when, None], pa.timestamp("ns", "UTC")),
        "tags": pa.array([["a", "b"], []], pa.list_(pa.string())),
        "deep": pa.array([{"x": 1, "y": {"z": ["q"]}}, None]),
        "map": pa.array([[("k", 1), ("l", 2)], []], pa.map_(pa.string(), pa.int32())),
        "word": pa.array(["x", "y"]).dictionary_encode(),
        "bytes": pa.array([b"\xff\x00", b"text"], pa.binary()),
        "long": pa.array(["large", None], pa.large_string()),
    }
    file = tmp_path / "all.parquet"
    pq.write_table(pa.table(columns), file)
    cairn_command("import", "c", file, "--distance", "euclid")
    by_id = {point["id"]: point for point in exported(cairn_command, "c")}
    made = by_id["doc-1"]
    assert made["vector"] == [1.0, 2.0] and by_id[str(a_uuid)]["vector"] == [3.0, 4.0]
    payload = made["payload"]
    assert payload == {
        "bool": True, "small": -5, "big": 2**64 - 1, "real": 0.1, "single": 0.1, "half": 0.5, "money": 12.5,
        "date": "1969-12-31", "time": "01:02:03", "seconds": "2024-02-29T12:00:00Z",
        "millis": "2024-02-29T12:00:00.123Z", "micros": "2024-02-29T12:00:00.123456Z",
        "nanos": "2024-02-29T12:00:00.123456Z", "tags": ["a", "b"], "deep": {"x": 1, "y": {"z": ["q"]}},
        "map": {"k": 1, "l": 2}, "word": "x", "bytes": "/wA=", "long": "large",
    }
    other = by_id[str(a_uuid)]["payload"]
    assert other["bool"] is None and other["tags"] == [] and other["bytes"] == "text" and "_id" not in other


def test_strings_are_ids_as_they_are_also_when_the_first_of_them_comes_late(cairn_command, tmp_path):
    # The first batch has nothing but UUIDs, and makes the collection.
    ids = [str(uuid.UUID(int=number)) for number in range(1500)] + ["quarry/1", "7"]
    table = pa.table({"id": ids, "vector": pa.array(vectors(len(ids)), pa.list_(pa.float32()))})
    file = tmp_path / "ids.parquet"
    pq.write_table(table, file)
    assert "1502 points imported" in cairn_command("import", "c", file, "--distance", "dot")
    out = exported(cairn_command, "c")
    assert {point["id"] for point in out} == set(ids) and all(point["payload"] == {} for point in out)
    # The same rows again are the same points.
    cairn_command("import", "c", file)
    assert len(exported(cairn_command, "c")) == 1502
    # Asked for the other way, there is a UUID made from each, and the string in the payload.
    cairn_command("import", "d", file, "--string-ids=false")
    kept = [point for point in exported(cairn_command, "d") if point["payload"]]
    assert {point["payload"]["_id"]: point["id"] for point in kept} == {
        id: str(uuid.uuid5(uuid.NAMESPACE_OID, id)) for id in ids[1500:]
    }


def test_a_folder_of_shards_with_texts_is_embedded_and_goes_on_behind_itself(cairn_command, tmp_path, small_model):
    data = tmp_path / "hub" / "data"
    data.mkdir(parents=True)
    for shard in range(3):
        rows = range(shard * 40, shard * 40 + 40)
        table = pa.table({
            "text": [f"Stone number {row} lies by the river." for row in rows],
            "title": [f"Stone {row}" for row in rows],
            "url": [f"https://example.org/{row}" for row in rows],
            "emb": pa.array([[0.5] * 4] * 40, pa.list_(pa.float32())),
        })
        pq.write_table(table, data / f"train-0000{shard}-of-00003.parquet")
    (tmp_path / "hub" / "README.md").write_text("---\n---\n")
    run = lambda *args: json.loads(cairn_command("--json", "import", "docs", *args, env=small_model))
    done = run(tmp_path / "hub", "--text-field", "text")
    assert (done["documents"], done["unchanged"], done["points"]) == (120, 0, 0)
    assert run(tmp_path / "hub", "--text-field", "text")["unchanged"] == 120
    found = cairn_command("--json", "search", "docs", "Stone number 77", "--mode", "sparse", env=small_model)
    hit = json.loads(found)["hits"][0]
    assert (hit["document_id"], hit["title"]) == ("77", "Stone 77")
    assert hit["metadata"] == {"url": "https://example.org/77"}, "vectors of another model are left out"
    files = sorted(data.iterdir())
    named = run(*files, "--text-field", "text", "--id-field", "url")
    assert named["documents"] == 120


def test_named_vectors_rows_of_vectors_and_columns_left_out(cairn_command, tmp_path):
    table = pa.table({
        "key": pa.array([1, 2], pa.uint32()),
        "a": pa.array([[1, 2], [3, 4]], pa.list_(pa.float16())),
        "b": pa.array([[[1, 2], [3, 4]], [[5, 6]]], pa.list_(pa.list_(pa.float32()))),
        "secret": ["x", "y"],
    })
    file = tmp_path / "two.parquet"
    pq.write_table(table, file)
    told = cairn_command("import", "c", file, fails=True)
    assert "--vector-field" in told and "`a` (vectors)" in told and "`b` (vectors)" in told
    options = ["--vector-field", "a", "--vector-column", "b", "--id-column", "key", "--leave-out", "secret"]
    cairn_command("import", "c", file, *options, "--distance", "dot")
    assert exported(cairn_command, "c") == [
        {"id": 1, "vectors": {"a": [1.0, 2.0], "b": [[1.0, 2.0], [3.0, 4.0]]}, "payload": {}},
        {"id": 2, "vectors": {"a": [3.0, 4.0], "b": [[5.0, 6.0]]}, "payload": {}},
    ]


def test_what_cannot_be_read_is_told_with_its_row(cairn_command, tmp_path):
    file = tmp_path / "bad.parquet"
    rows = [[1, 2], None, [3, None], [4, 5], [6]]
    pq.write_table(pa.table({"id": range(5), "v": pa.array(rows, pa.list_(pa.float32()))}), file)
    told = cairn_command("import", "c", file, fails=True)
    assert "row 2 of" in told and "`v` is empty" in told and "1 written" in told and "--skip-bad" in told
    done = json.loads(cairn_command("--json", "import", "c", file, "--skip-bad"))
    assert done["points"] == 2 and [one["row"] for one in done["skipped"]] == [2, 3, 5]
    assert "no number" in done["skipped"][1]["reason"]
    assert [point["id"] for point in exported(cairn_command, "c")] == [0, 3]
    for options, words in [
        (["--vector-field", "w"], "no column `w`"),
        (["--text-field", "id", "--vector-field", "v"], "cannot be used with"),
        (["--leave-out", "v"], "--text-field"),
    ]:
        assert words in cairn_command("import", "c", file, *options, fails=True)
    cut, none = tmp_path / "cut.parquet", tmp_path / "none.parquet"
    cut.write_bytes(file.read_bytes()[:-20])
    none.write_text("{}")
    for broken in (cut, none):
        assert "no whole Parquet file" in cairn_command("import", "c", broken, fails=True)
    empty = tmp_path / "empty"
    empty.mkdir()
    assert ".parquet" in cairn_command("import", "c", empty, fails=True)
    (empty / "t.lance" / "_versions").mkdir(parents=True)
    assert "write_table" in cairn_command("import", "c", empty, fails=True)
