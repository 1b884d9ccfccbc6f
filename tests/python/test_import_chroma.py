"""`cairn import` of a Chroma folder, against what Chroma itself says is in it (`tests/data/chroma/make.py`)."""

import json
import shutil
import sqlite3
import tarfile
import uuid
from pathlib import Path

import pytest
import tiny_models

PACKED = Path(__file__).resolve().parents[1] / "data/chroma/chroma.tar.gz"


@pytest.fixture(scope="module")
def unpacked(tmp_path_factory):
    folder = tmp_path_factory.mktemp("chroma")
    with tarfile.open(PACKED) as tar:
        tar.extractall(folder, filter="data")
    return folder / "chroma", json.loads((folder / "told.json").read_text())


def exported(cairn_command, collection):
    return [json.loads(line) for line in cairn_command("export", collection, "-").splitlines()]


@pytest.mark.parametrize("name", ["stones", "few"])
def test_a_collection_comes_over_as_chroma_tells_it(cairn_command, unpacked, name):
    folder, told = unpacked
    before = {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    done = json.loads(cairn_command("--json", "import", "c", folder, "--source-collection", name))
    assert done["points"] == len(told[name]) and done["skipped"] == []
    points = {point["id"]: point for point in exported(cairn_command, "c")}
    assert points.keys() == told[name].keys()
    for id, want in told[name].items():
        point = points[id]
        assert point["payload"] == (want["metadata"] or {}) | {"document": want["document"]}
        vector = want["vector"]
        if name == "few":
            # Made for cosine, as the source is, so at unit length here.
            norm = sum(value * value for value in vector) ** 0.5
            vector = [value / norm for value in vector]
        assert point["vector"] == pytest.approx(vector, abs=1e-6), id
    assert before == {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_ids_become_uuids_where_a_collection_takes_no_strings(cairn_command, unpacked):
    folder, told = unpacked
    stones = [folder, "--source-collection", "stones"]
    cairn_command("import", "c", *stones, "--string-ids=false")
    points = {point["payload"].pop("_id"): point["id"] for point in exported(cairn_command, "c")}
    assert points == {id: str(uuid.uuid5(uuid.NAMESPACE_OID, id)) for id in told["stones"]}
    # A collection that is there keeps its way: the same points once more, no others.
    cairn_command("import", "c", *stones)
    assert {point["id"] for point in exported(cairn_command, "c")} == set(points.values())
    # Unless it is told to take them from now on.
    cairn_command("import", "c", *stones, "--string-ids")
    assert {point["id"] for point in exported(cairn_command, "c")} == set(points.values()) | told["stones"].keys()


def test_its_texts_can_be_embedded_instead(cairn_command, unpacked, tmp_path):
    folder, told = unpacked
    encoder = tiny_models.write(tiny_models.case("tiny", "bert mean normalized"), tmp_path / "encoder")
    env = {"CAIRN__MODELS__DEFAULT": str(encoder), "CAIRN__MODELS__ENCODER__PRECISION": "f32"}
    options = ["--source-collection", "stones", "--text-field", "document", "--leave-out", "half"]
    done = json.loads(cairn_command("--json", "import", "docs", folder, *options, env=env))
    assert done["documents"] == len(told["stones"])
    found = cairn_command("--json", "search", "docs", "Changed last", "--mode", "sparse", env=env)
    hit = json.loads(found)["hits"][0]
    assert hit["document_id"] == "id-8" and hit["metadata"]["n"] == 8 and "half" not in hit["metadata"]


def test_what_cannot_be_read_is_told(cairn_command, unpacked, tmp_path):
    folder, _ = unpacked
    told = cairn_command("import", "c", folder, fails=True)
    assert "--source-collection" in told and "`few`, `stones`" in told
    assert "`none`" in cairn_command("import", "c", folder, "--source-collection", "none", fails=True)
    wanted = ["--source-collection", "stones"]
    told = cairn_command("import", "c", folder, *wanted, "--vector-field", "v", fails=True)
    assert "--text-field" in told
    broken = tmp_path / "broken"
    shutil.copytree(folder, broken)
    # Of `few` nothing was written to the graph.
    [labels] = broken.rglob("index_metadata.pickle")
    data = labels.parent / "data_level0.bin"
    data.write_bytes(data.read_bytes()[:1000])
    # What the header says is no longer there.
    assert "data_level0.bin" in cairn_command("import", "c", broken, *wanted, fails=True)
    (broken / "chroma.sqlite3").write_bytes(b"x" * 5000)
    assert "chroma.sqlite3" in cairn_command("import", "c", broken, *wanted, fails=True)
    other = tmp_path / "other"
    other.mkdir()
    sqlite3.connect(other / "chroma.sqlite3").close()
    assert "no such table" in cairn_command("import", "c", other, fails=True)
