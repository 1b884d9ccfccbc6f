"""`cairn add` over folders: what changed is read again, what is gone can be removed, bad files are told."""

import io
import json
import os
import signal
import subprocess
import time
import zipfile

import pytest
from conftest import clean_env
from test_formats import pdf


class Adding:
    """One data directory, and the command that adds to it."""

    def __init__(self, binary, data):
        self.command = [str(binary), "--data-dir", str(data), "--json"]

    def run(self, *args, ok=True):
        done = subprocess.run(
            [*self.command, *map(str, args)], capture_output=True, text=True, timeout=600, env=clean_env()
        )
        assert "panicked" not in done.stderr, done.stderr
        assert (done.returncode == 0) == ok, done.stderr
        return json.loads(done.stdout) if done.stdout else done.stderr

    def add(self, *args, ok=True):
        return self.run("add", "c", *args, ok=ok)

    def ids(self):
        hits = self.run("search", "c", "stones", "--limit", "100")["hits"]
        return {hit["document_id"] for hit in hits}


@pytest.fixture
def adding(binary, model, tmp_path):
    return Adding(binary, tmp_path / "data")


def write(path, text, age_s=60):
    """Writes a file as if some time ago, so that its time says that it has not changed."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    then = time.time() - age_s
    os.utime(path, (then, then))


def counts(done):
    return done["added"]["documents"], done["replaced"], done["added"]["unchanged"], done["removed"]


def test_what_changed_is_replaced_and_what_is_gone_is_removed_when_asked(adding, tmp_path):
    notes = tmp_path / "notes"
    for number in range(5):
        write(notes / f"deep/{number}.md", f"# Note {number}\n\nStone number {number} lies here.\n")
    assert counts(adding.add(notes)) == (5, 0, 0, 0)
    assert counts(adding.add(notes)) == (0, 0, 5, 0)
    write(notes / "deep/1.md", "# Note 1\n\nStone number 1 was moved.\n", age_s=30)
    (notes / "deep/2.md").unlink()
    write(notes / "deep/3.md", (notes / "deep/3.md").read_text(), age_s=20)
    planned = adding.add(notes, "--dry-run", "--prune", "--show-chunks")
    assert [one["id"] for one in planned["would_write"]] == ["deep/1.md"]
    assert planned["would_write"][0]["replaces"] and planned["would_remove"] == ["deep/2.md"]
    chunk = planned["would_write"][0]["chunks"][0]
    assert chunk["heading"] == ["Note 1"] and chunk["prefix"] == "Note 1" and chunk["tokens"] > 3
    assert counts(adding.add(notes)) == (1, 1, 3, 0)
    assert "deep/2.md" in adding.ids()
    assert counts(adding.add(notes, "--prune")) == (0, 0, 4, 1)
    assert adding.ids() == {f"deep/{number}.md" for number in (0, 1, 3, 4)}


def test_only_documents_of_the_given_folder_are_removed(adding, tmp_path):
    one, two = tmp_path / "one", tmp_path / "two"
    write(one / "a.md", "A stone of one.")
    write(two / "b.md", "A stone of two.")
    write(two / "c.jsonl", '{"_id": "x", "text": "A stone x."}\n{"_id": "y", "text": "A stone y."}\n')
    adding.add(one, two)
    write(two / "c.jsonl", '{"_id": "x", "text": "A stone x."}\n')
    (one / "a.md").unlink()
    assert adding.add(two, "--prune")["removed"] == 1
    assert adding.ids() == {"a.md", "b.md", "x"}
    assert "prune" in adding.add(two / "b.md", "--prune", ok=False)


def test_ignored_files_hidden_files_links_and_the_data_itself_are_left_out(binary, model, tmp_path):
    tree = tmp_path / "tree"
    adding = Adding(binary, tree / "data")
    write(tree / "kept.md", "A stone that is kept.")
    write(tree / "out/built.md", "A stone that was built.")
    write(tree / ".hidden/h.md", "A hidden stone.")
    write(tree / ".gitignore", "out/\n")
    (tree / "loop").symlink_to(tree)
    assert adding.add(tree, "--gitignore")["added"]["documents"] == 1
    done = adding.add(tree)
    assert counts(done) == (1, 0, 1, 0) and done["skipped"] == []
    assert adding.ids() == {"kept.md", "out/built.md"}


def test_bad_files_are_told_and_the_rest_is_added(adding, tmp_path):
    folder = tmp_path / "bad"
    write(folder / "good.md", "A good stone.")
    write(folder / "line.txt", "word " * 20_000)
    write(folder / "letters.txt", "x" * 300_000)
    write(folder / "deep.json", "[" * 20_000)
    write(folder / "deep.html", "<div>" * 5_000 + "A deep stone." + "</div>" * 5_000)
    write(folder / "lines.jsonl", '{"_id": "a", "text": "Stone a."}\nbroken\n{"_id": "a", "text": "Twice."}\n')
    (folder / "binary.md").write_bytes(b"\x7fELF\x00\x01")
    (folder / "broken.pdf").write_bytes(pdf("A stone.")[:200])
    (folder / "locked.pdf").write_bytes(
        pdf("A stone.").replace(b"/Root 1 0 R", b"/Root 1 0 R /Encrypt << /Filter /Standard /V 1 /R 2 /O (x) /U (y) /P -4 >>")
    )
    bomb = io.BytesIO()
    with zipfile.ZipFile(bomb, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("word/document.xml", b" " * (300 << 20))
    (folder / "bomb.docx").write_bytes(bomb.getvalue())
    (folder / "bomb.xlsx").write_bytes(bomb.getvalue())
    (folder / "round").symlink_to(folder)
    done = adding.add(folder)
    skipped = {}
    for one in done["skipped"]:
        skipped.setdefault(one["path"].rsplit("/", 1)[-1], []).append(one["reason"])
    assert set(skipped) == {"binary.md", "broken.pdf", "locked.pdf", "bomb.docx", "bomb.xlsx", "lines.jsonl"}
    assert "unpacks to more" in skipped["bomb.docx"][0] and "unpacks to more" in skipped["bomb.xlsx"][0]
    assert any("line 2" in reason for reason in skipped["lines.jsonl"])
    assert any("comes twice" in reason for reason in skipped["lines.jsonl"])
    assert done["added"]["documents"] == 6
    # Not all was seen, so nothing may be taken for gone.
    assert adding.add(folder, "--prune")["removed"] == 0


def test_a_run_that_is_stopped_goes_on_where_it_was(binary, model, tmp_path):
    folder, data = tmp_path / "many", tmp_path / "data"
    for number in range(600):
        sentence = f"Stone {number} is heavier than stone {number - 1} and lies beside it in the field. "
        write(folder / f"{number // 100}/{number}.md", sentence * 30)
    adding = Adding(binary, data)
    process = subprocess.Popen(
        [*adding.command, "add", "c", str(folder)], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=clean_env()
    )
    time.sleep(2)
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=60)
    assert process.returncode != 0 and "goes on behind it" in err, err
    stopped = json.loads(out)
    assert stopped["stopped"] and stopped["added"]["documents"] < 600
    rest = adding.add(folder)
    assert rest["added"]["unchanged"] == stopped["added"]["documents"]
    assert rest["added"]["documents"] + rest["added"]["unchanged"] == 600
