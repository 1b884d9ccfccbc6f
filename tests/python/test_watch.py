"""`cairn add --watch`: what changes in a folder is found, what is gone is not, until it is stopped."""

import json
import os
import signal
import subprocess
import time

import pytest
import tiny_models
from conftest import clean_env

DEADLINE_S = 120


class Watching:
    """A folder, and the command that follows it."""

    def __init__(self, binary, env, folder, data, log):
        self.binary, self.env, self.folder, self.data, self.log = binary, env, folder, data, log
        self.process = None

    def start(self, *more):
        command = [self.binary, "--data-dir", self.data, "add", "c", self.folder, "--watch", *more]
        with self.log.open("wb") as log:
            self.process = subprocess.Popen([str(part) for part in command], stdout=log, stderr=log, env=self.env)
        self.until_told("ctrl-c ends it")
        return self

    def stop(self):
        self.process.send_signal(signal.SIGINT)
        assert self.process.wait(DEADLINE_S) == 0, self.told()
        return self.told()

    def told(self):
        text = self.log.read_text()
        assert "panicked" not in text, text
        return text

    def until(self, what, wanted):
        end = time.monotonic() + DEADLINE_S
        while True:
            got = what()
            if got == wanted:
                return
            assert self.process.poll() is None, self.told()
            assert time.monotonic() < end, f"{got} and not {wanted}:\n{self.told()}"
            time.sleep(0.1)

    def until_told(self, words):
        self.until(lambda: words in self.told(), True)

    def until_found(self, *ids):
        self.until(self.found, set(ids))

    def found(self):
        """The documents that a search finds; none told while the folder is being added, and before."""
        search = [self.binary, "--data-dir", self.data, "--json", "search", "c", "stones", "--limit", "100"]
        done = subprocess.run([str(part) for part in search], capture_output=True, text=True, env=self.env)
        if done.returncode != 0:
            assert "is in use by" in done.stderr or "doesn't exist" in done.stderr, done.stderr
            return None
        return {hit["document_id"] for hit in json.loads(done.stdout)["hits"]}

    def texts(self, id):
        export = [str(part) for part in [self.binary, "--data-dir", self.data, "export", "c", "-"]]
        done = subprocess.run(export, capture_output=True, text=True, env=self.env)
        payloads = [json.loads(line)["payload"] for line in done.stdout.splitlines()]
        return [payload["text"].strip() for payload in payloads if payload["document_id"] == id]


@pytest.fixture
def watching(binary, tmp_path):
    encoder = tiny_models.write(tiny_models.case("tiny", "bert mean normalized"), tmp_path / "encoder")
    env = clean_env() | {"CAIRN__MODELS__DEFAULT": str(encoder), "CAIRN__MODELS__ENCODER__PRECISION": "f32"}
    (tmp_path / "notes").mkdir()
    watching = Watching(binary, env, tmp_path / "notes", tmp_path / "data", tmp_path / "log")
    yield watching
    if watching.process is not None and watching.process.poll() is None:
        watching.process.kill()


@pytest.mark.parametrize("more", [[], ["--poll", "1"]], ids=["told", "looked"])
def test_what_is_written_changed_moved_and_removed_is_followed(watching, more):
    notes = watching.folder
    (notes / "first.md").write_text("A stone that lay here before.")
    watching.start(*more)
    watching.until_found("first.md")
    (notes / "deep/er").mkdir(parents=True)
    (notes / "deep/er/new.md").write_text("A new stone.")
    watching.until_found("first.md", "deep/er/new.md")
    (notes / "first.md").write_text("A stone that was turned over.")
    watching.until(lambda: watching.texts("first.md"), ["A stone that was turned over."])
    (notes / "deep/er/new.md").rename(notes / "moved.md")
    watching.until_found("first.md", "moved.md")
    (notes / "first.md").unlink()
    watching.until_found("moved.md")
    told = watching.stop()
    assert "watched `c`: 4 documents added (3 new, 1 replaced), 2 removed" in told, told


def test_only_what_the_folder_brought_is_removed(watching, tmp_path):
    other = tmp_path / "other"
    other.mkdir()
    (other / "kept.md").write_text("A stone of elsewhere.")
    add = [str(part) for part in [watching.binary, "--data-dir", watching.data, "add", "c", other]]
    subprocess.run(add, check=True, env=watching.env, capture_output=True)
    (watching.folder / "gone.md").write_text("A stone of here.")
    watching.start()
    watching.until_found("gone.md", "kept.md")
    (watching.folder / "gone.md").unlink()
    watching.until_found("kept.md")
    watching.stop()


def test_a_bad_file_is_told_once_and_watching_goes_on(watching):
    watching.start()
    (watching.folder / "bad.pdf").write_bytes(b"%PDF-1.4 broken")
    watching.until_told("skipped")
    (watching.folder / "good.md").write_text("A good stone.")
    watching.until_found("good.md")
    (watching.folder / "better.md").write_text("A better stone.")
    watching.until_found("good.md", "better.md")
    assert watching.stop().count("skipped") == 1 + watching.told().count("files skipped")


def test_a_folder_that_goes_away_is_told_and_followed_again_when_it_is_back(watching):
    (watching.folder / "a.md").write_text("A stone.")
    watching.start()
    away = watching.folder.with_name("away")
    watching.folder.rename(away)
    watching.until_told("watching goes on")
    assert watching.found() == {"a.md"}, "a folder that is not there says nothing of its files"
    away.rename(watching.folder)
    (watching.folder / "b.md").write_text("Another stone.")
    watching.until_found("a.md", "b.md")
    (watching.folder / "c.md").write_text("A third stone.")
    watching.until_found("a.md", "b.md", "c.md")
    watching.stop()


def test_data_below_the_folder_is_not_followed(watching):
    watching.data = watching.folder / "data"
    watching.start()
    (watching.folder / "a.md").write_text("A stone.")
    watching.until_found("a.md")
    rounds = watching.told().count("documents added to")
    time.sleep(3)
    told = watching.stop()
    assert told.count("documents added to") == rounds, told


def test_what_cannot_be_watched_is_refused(watching):
    (watching.folder / "a.md").write_text("A stone.")
    command = [str(watching.binary), "--data-dir", str(watching.data), "add", "c"]
    for more, words in [
        ([str(watching.folder / "a.md"), "--watch"], "give the folder"),
        ([str(watching.folder), "--watch", "--dry-run"], "cannot be used with"),
        ([str(watching.folder), "--poll", "1"], "--watch"),
        ([str(watching.folder / "none"), "--watch"], "none"),
    ]:
        done = subprocess.run([*command, *more], capture_output=True, text=True, env=watching.env)
        assert done.returncode != 0 and words in done.stderr, done.stderr


def test_each_round_and_the_end_are_json_for_scripts(watching):
    (watching.folder / "a.md").write_text("A stone.")
    watching.start("--json")
    (watching.folder / "b.md").write_text("Another stone.")
    watching.until_found("a.md", "b.md")
    told = watching.stop()
    lines = [json.loads(line) for line in told.splitlines() if line.startswith("{")]
    assert [line["added"]["documents"] for line in lines[:-1]] == [1, 1]
    assert lines[-1]["watched"]["added"] == 2 and os.path.isdir(watching.data)
