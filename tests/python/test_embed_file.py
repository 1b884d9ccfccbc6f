"""`cairn embed`: a file of texts to vectors, cut and gone on with; and `cairn model bench`. The model
is the one that is compiled in, or a service on this machine."""

import json
import os
import signal
import subprocess
import sys
import time

import embedding_service
import numpy
import pyarrow
import pyarrow.parquet as pq
import pytest
from conftest import clean_env

BUILT_IN = "cairn/minilm-static"


@pytest.fixture
def embed(binary, tmp_path):
    """Runs `cairn embed` without any data directory or network."""

    def run(*args, fails=False, stdin=None, env=None, model=BUILT_IN):
        command = [str(binary), "--json", "embed", *map(str, args), "--model", model]
        settings = clean_env() | {"CAIRN__MODELS__STORE__OFFLINE": "true"} | (env or {})
        done = subprocess.run(
            command, capture_output=True, text=True, timeout=300, env=settings, input=stdin, cwd=tmp_path
        )
        assert (done.returncode != 0) == fails, done.stdout + done.stderr
        assert "panicked" not in done.stderr
        return done.stderr if fails else done.stdout

    return run


def lines(path):
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_a_text_a_line_becomes_a_row_of_numpy(embed, tmp_path):
    texts = tmp_path / "texts.txt"
    texts.write_text("a car drives on the road\nsoup with carrots and onions\n\nan automobile on the highway\n")
    told = json.loads(embed(texts, "--out", tmp_path / "rows.npy"))
    assert (told["texts"], told["dim"], told["model"]) == (4, 256, BUILT_IN)
    rows = numpy.load(tmp_path / "rows.npy")
    assert rows.shape == (4, 256) and rows.dtype == numpy.float32 and rows.flags["C_CONTIGUOUS"]
    assert numpy.linalg.norm(rows, axis=1) == pytest.approx([1, 1, 0, 1], abs=1e-5)
    near, far = rows[0] @ rows[3], rows[0] @ rows[1]
    assert near > far
    assert not list(tmp_path.glob("*.partial*")) and not (tmp_path / "cairn-data").exists()


def test_lines_of_json_keep_what_they_had(embed, tmp_path):
    source = tmp_path / "texts.jsonl"
    objects = [{"id": f"a{at}", "body": f"text {at}", "year": 2000 + at} for at in range(7)]
    source.write_text("\n".join(map(json.dumps, objects)) + "\n\n")
    embed(source, "--out", "out.jsonl", "--field", "body", "--batch", 2)
    embed(source, "--out", "out.npy", "--field", "body")
    made = lines(tmp_path / "out.jsonl")
    vectors = numpy.array([one.pop("vector") for one in made], dtype=numpy.float32)
    assert made == objects
    assert numpy.array_equal(vectors, numpy.load(tmp_path / "out.npy"))


def test_standard_input_and_output_are_files_too(embed):
    out = embed("-", "--out", "-", stdin="one\ntwo\n")
    made = [json.loads(line) for line in out.splitlines()]
    assert [(one["id"], one["text"], len(one["vector"])) for one in made] == [(0, "one", 256), (1, "two", 256)]
    out = embed("-", "--out", "-", "--format", "jsonl", stdin='{"id": "x", "text": "one"}')
    assert json.loads(out)["vector"] == made[0]["vector"]


def test_what_cannot_be_read_or_written_is_told_with_its_place(embed, tmp_path):
    source = tmp_path / "texts.jsonl"
    source.write_text('{"text": "one"}\n{"title": "two"}\n')
    error = embed(source, "--out", "out.npy", fails=True)
    for part in ["line 2", "`text` is not there", "--field", "title"]:
        assert part in error, error
    assert "ends with none of these" in embed(source, "--out", "out.csv", fails=True)
    assert "cannot read" in embed(tmp_path / "none.txt", "--out", "out.npy", fails=True)
    assert "no/model" in embed(source, "--out", "out.npy", "--field", "x", model="no/model", fails=True)


def test_behind_a_bad_line_it_goes_on_once_that_is_mended(embed, tmp_path):
    source = tmp_path / "texts.jsonl"
    source.write_text('{"text": "one"}\n{"text": "two"}\n{"text": 3}\n')
    assert "line 3" in embed(source, "--out", "out.jsonl", fails=True)
    assert "--resume" in embed(source, "--out", "out.jsonl", fails=True)
    source.write_text('{"text": "one"}\n{"text": "two"}\n{"text": "three"}\n')
    told = json.loads(embed(source, "--out", "out.jsonl", "--resume"))
    assert (told["texts"], told["resumed_after"]) == (3, 2)
    assert [one["text"] for one in lines(tmp_path / "out.jsonl")] == ["one", "two", "three"]


@pytest.fixture(scope="module")
def service():
    with embedding_service.running() as service:
        yield service


def far(tmp_path, service):
    config = tmp_path / "cairn.toml"
    config.write_text(
        f'[[models.remote]]\nname = "far"\nurl = "{service.url}/v1"\nbatch_texts = 10\nin_flight = 1\n'
    )
    return {"CAIRN_CONFIG": str(config)}


@pytest.mark.parametrize("end", ["npy", "jsonl", "parquet"])
@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGKILL])
def test_a_run_that_is_cut_goes_on_and_ends_as_if_it_had_not_been(binary, embed, tmp_path, service, end, how):
    env = far(tmp_path, service)
    source = tmp_path / "texts.txt"
    texts = [f"text {'abc'[at % 3] * (at % 50)}" for at in range(400)]
    source.write_text("".join(text + "\n" for text in texts))
    out = tmp_path / f"out.{end}"
    service.asked.clear()
    # A tenth of a second for each ten texts, so that it is cut in the middle.
    service.acts[:] = [0.1] * 100
    command = [str(binary), "embed", str(source), "--out", str(out), "--model", "far", "--batch", "10"]
    running = subprocess.Popen(command, env=clean_env() | env, stderr=subprocess.PIPE, text=True)
    note = tmp_path / f"out.{end}.partial.json"
    end_s = time.monotonic() + 60
    while not note.exists() and time.monotonic() < end_s:
        time.sleep(0.02)
    running.send_signal(how)
    stderr = running.communicate(timeout=30)[1]
    assert running.returncode != 0 and not out.exists()
    if how == signal.SIGINT:
        assert "--resume" in stderr
    service.acts.clear()
    noted = json.loads(note.read_text())["texts"]
    assert 0 < noted < 400
    # What a crash left behind the note is written again.
    with (tmp_path / f"out.{end}.partial").open("ab") as partial:
        partial.write(b"half a row")
    service.asked.clear()
    told = json.loads(embed(source, "--out", out, "--resume", "--batch", 10, env=env, model="far"))
    assert (told["texts"], told["resumed_after"]) == (400, noted)
    asked = service.texts()
    assert [text for text in asked if text != "dimensions"] == [text.strip() for text in texts[noted:]]
    if end == "npy":
        made = numpy.load(out)
    elif end == "parquet":
        assert pq.read_table(out).column("text").to_pylist() == [text.removesuffix("\n") for text in texts]
        made = vectors_of(out)
    else:
        assert [one["id"] for one in lines(out)] == list(range(400))
        made = numpy.array([one["vector"] for one in lines(out)], dtype=numpy.float32)
    want = numpy.array([embedding_service.vector(text) for text in texts], dtype=numpy.float32)
    assert numpy.array_equal(made, want)
    assert not list(tmp_path.glob("*.partial*"))


def vectors_of(path):
    column = pq.read_table(path).column("vector").combine_chunks()
    assert column.null_count == 0 and pyarrow.types.is_float32(column.type.value_type)
    return numpy.stack(column.to_numpy(zero_copy_only=False))


def test_a_table_keeps_its_columns_as_they_were_and_gets_vectors(embed, tmp_path):
    count = 1000
    columns = {
        "key": pyarrow.array([f"k{at}" for at in range(count)], pyarrow.large_string()),
        "body": [f"text {at} of stones" if at % 7 else "" for at in range(count)],
        "day": pyarrow.array([at if at % 3 else None for at in range(count)], pyarrow.date32()),
        "price": pyarrow.array([f"{at}.25" for at in range(count)]).cast(pyarrow.decimal128(9, 2)),
        "tags": [None if at % 5 == 0 else [f"t{one}" for one in range(at % 4)] for at in range(count)],
        "at": [{"x": at, "y": [at / 2]} for at in range(count)],
        "vector": [[1.0]] * count,
    }
    table = pyarrow.table(columns)
    source = tmp_path / "texts.parquet"
    pq.write_table(table, source, row_group_size=300)
    told = json.loads(embed(source, "--out", "out.parquet", "--field", "body", "--batch", 64))
    assert (told["texts"], told["dim"]) == (count, 256)
    made = pq.read_table(tmp_path / "out.parquet")
    assert made.column_names == ["key", "body", "day", "price", "tags", "at", "vector"]
    for name in made.column_names[:-1]:
        assert made.column(name).to_pylist() == table.column(name).to_pylist(), name
    assert pq.ParquetFile(tmp_path / "out.parquet").num_row_groups == 4
    embed(source, "--out", "out.npy", "--field", "body")
    assert numpy.array_equal(vectors_of(tmp_path / "out.parquet"), numpy.load(tmp_path / "out.npy"))
    embed(source, "--out", "out.jsonl", "--field", "body")
    first = lines(tmp_path / "out.jsonl")[1]
    assert (first["key"], first["day"], first["price"]) == ("k1", "1970-01-02", 1.25)
    assert (first["tags"], first["at"], len(first["vector"])) == (["t0"], {"x": 1, "y": [0.5]}, 256)
    left = {path.name for path in tmp_path.iterdir()}
    assert left == {"texts.parquet", "out.parquet", "out.npy", "out.jsonl"}


def test_lines_become_a_table_with_a_column_for_each_field(embed, tmp_path):
    source = tmp_path / "texts.jsonl"
    objects = [
        {"id": 1, "text": "one", "year": 2001, "score": 1, "ok": True, "tags": ["a", "b"]},
        {"id": 2, "text": "two", "score": 0.5, "vector": [3], "mixed": 1},
        {"id": 3, "text": "three", "year": None, "mixed": "x"},
    ]
    source.write_text("\n".join(map(json.dumps, objects)))
    embed(source, "--out", "out.parquet")
    made = pq.read_table(tmp_path / "out.parquet")
    rows = made.drop(["vector"]).to_pylist()
    assert [row["year"] for row in rows] == [2001, None, None]
    assert [row["score"] for row in rows] == [1.0, 0.5, None]
    assert [row["ok"] for row in rows] == [True, None, None]
    assert [row["tags"] for row in rows] == ['["a","b"]', None, None]
    assert [row["mixed"] for row in rows] == [None, "1", '"x"']
    assert [(row["id"], row["text"]) for row in rows] == [(1, "one"), (2, "two"), (3, "three")]
    embed(source, "--out", "out.npy")
    assert numpy.array_equal(vectors_of(tmp_path / "out.parquet"), numpy.load(tmp_path / "out.npy"))
    plain = tmp_path / "plain.txt"
    plain.write_text("one\n\ntwo\n")
    embed(plain, "--out", "plain.parquet")
    rows = pq.read_table(tmp_path / "plain.parquet").drop(["vector"]).to_pylist()
    assert rows == [{"id": 0, "text": "one"}, {"id": 1, "text": ""}, {"id": 2, "text": "two"}]
    nothing = tmp_path / "nothing.txt"
    nothing.write_text("")
    embed(nothing, "--out", "nothing.parquet")
    assert pq.read_table(tmp_path / "nothing.parquet").num_rows == 0


def test_a_table_that_cannot_be_embedded_says_what_and_where(embed, tmp_path):
    source = tmp_path / "texts.parquet"
    pq.write_table(pyarrow.table({"title": ["one", None, "three"], "n": [1, 2, 3]}), source)
    error = embed(source, "--out", "out.npy", fails=True)
    for part in ["no column `text`", "--field", "title, n"]:
        assert part in error, error
    assert "holds no texts" in embed(source, "--out", "out.npy", "--field", "n", fails=True)
    error = embed(source, "--out", "out.parquet", "--field", "title", fails=True)
    assert "row 2" in error and "is null" in error
    pq.write_table(pyarrow.table({"title": ["one", "two", "three"]}), source)
    told = json.loads(embed(source, "--out", "out.parquet", "--field", "title", "--resume"))
    assert (told["texts"], told["resumed_after"]) == (3, 1)
    whole = source.read_bytes()
    for cut in [0, 4, len(whole) // 2, len(whole) - 1]:
        source.write_bytes(whole[:cut])
        assert "as Parquet" in embed(source, "--out", "cut.npy", "--field", "title", fails=True)
    assert "read again" in embed("-", "--out", "out.npy", "--format", "parquet", stdin="", fails=True)
    assert "read again" in embed("-", "--out", "other.parquet", stdin="one\n", fails=True)


def test_a_run_does_not_go_on_with_other_texts_or_another_model(embed, tmp_path, service):
    env = far(tmp_path, service)
    source = tmp_path / "texts.jsonl"
    bad = '{"text": 3}\n'
    source.write_text('{"text": "one"}\n' + bad)
    embed(source, "--out", "out.npy", fails=True)
    source.write_text('{"text": "other"}\n')
    assert "have changed" in embed(source, "--out", "out.npy", "--resume", fails=True)
    source.write_text('{"text": "one"}\n')
    error = embed(source, "--out", "out.npy", "--resume", env=env, model="far", fails=True)
    assert "far" in error and BUILT_IN in error
    error = embed(source, "--out", "out.npy", "--resume", "--kind", "query", fails=True)
    assert "query" in error
    assert json.loads(embed(source, "--out", "out.npy", "--resume"))["texts"] == 1


def test_memory_does_not_grow_with_the_file(binary, tmp_path):
    source = tmp_path / "texts.txt"
    with source.open("w") as file:
        for at in range(240_000):
            file.write(f"Line {at} speaks of stones, of paths and of the weather on the hill.\n")
    out = tmp_path / "out.npy"
    command = [str(binary), "embed", str(source), "--out", str(out), "--model", BUILT_IN]
    # Linux counts a process's memory from before it became the program, so it is
    # begun by one that has little.
    small = (
        "import os, subprocess, sys\n"
        "running = subprocess.Popen(sys.argv[1:], stdout=subprocess.DEVNULL)\n"
        "_, status, used = os.wait4(running.pid, 0)\n"
        "print(status, used.ru_maxrss)\n"
    )
    told = subprocess.check_output([sys.executable, "-c", small, *command], env=clean_env(), text=True)
    status, kilobytes = map(int, told.split())
    assert status == 0
    assert out.stat().st_size == 128 + 240_000 * 256 * 4
    # The vectors alone have 245 MB.
    assert kilobytes < 200_000, f"{kilobytes} KB"


def test_a_model_is_measured(binary):
    command = [str(binary), "--json", "model", "bench", "minilm-static", "--seconds", "1"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, env=clean_env())
    assert done.returncode == 0, done.stderr
    report = json.loads(done.stdout)
    assert (report["model"], report["dim"]) == (BUILT_IN, 256)
    tokens = {one["name"]: one["tokens"] for one in report["lengths"]}
    assert tokens["short"] == pytest.approx(16, abs=2)
    assert tokens["medium"] == pytest.approx(62, abs=3)
    assert tokens["long"] == pytest.approx(242, abs=4)
    assert all(one["texts_per_s"] > 100 for one in report["lengths"])
    assert 0 < report["query"]["p50_ms"] <= report["query"]["p99_ms"]
    assert report["peak_bytes"] > 10_000_000


def test_a_first_start_without_network_works_and_says_so_in_a_line(binary, tmp_path):
    env = clean_env() | {
        "CAIRN__MODELS__STORE__CACHE_DIR": str(tmp_path / "cache"),
        "CAIRN__MODELS__STORE__HUB_HOME": str(tmp_path / "hub"),
        "CAIRN__MODELS__STORE__HUB_URL": "http://127.0.0.1:9",
        "CAIRN__MODELS__STORE__PYTHON": str(tmp_path / "no-python"),
        "PATH": str(tmp_path),
    }

    def run(*args, env=env):
        command = [str(binary), "--data-dir", str(tmp_path / "data"), *map(str, args)]
        return subprocess.run(command, capture_output=True, text=True, timeout=120, env=env)

    notes = tmp_path / "notes"
    notes.mkdir()
    (notes / "way.md").write_text("A cairn is a pile of stones. It marks the way over the hill.\n")
    (notes / "soup.md").write_text("The canteen serves soup with carrots on Mondays.\n")
    added = run("add", "notes", notes)
    assert added.returncode == 0, added.stderr
    warnings = [line for line in added.stderr.splitlines() if BUILT_IN in line]
    assert len(warnings) == 1, added.stderr
    for part in ["all-MiniLM-L6-v2", "127.0.0.1:9", "cairn model pull"]:
        assert part in warnings[0], warnings
    # The collection has its model from now on: nothing is tried, nothing is warned of.
    found = run("--json", "search", "notes", "a pile of rocks on a hill")
    assert found.returncode == 0, found.stderr
    assert json.loads(found.stdout)["hits"][0]["document_id"] == "way.md"
    assert "127.0.0.1:9" not in found.stderr and BUILT_IN not in found.stderr, found.stderr
    strict = run("add", "more", notes, env=env | {"CAIRN__MODELS__FALLBACK": ""})
    assert strict.returncode != 0 and "could not be had" in strict.stderr
    shown = run("model", "list")
    assert f"{BUILT_IN}  embedding  built in" in shown.stdout
