"""A folder of mixed files becomes one collection whose answers quote them."""

import io
import json
import subprocess
import zipfile

import httpx
import pytest
from conftest import clean_env

FACTS = {
    "stones.md": "# Stones\n\nThe tallest cairn of the valley has forty stones.\n",
    "bread.txt": "The baker sells rye bread on Tuesdays.\n",
    "ferry.html": "<html><head><title>Ferry</title></head><body><script>var x = 'no';</script>"
    "<h1>Ferry</h1><p>The ferry to the island leaves at seven in the morning.</p></body></html>",
    "towns.csv": "town,mayor\nAltdorf,Frieda Keller\nBrunnen,Otto Meier\n",
    "retry.py": '"""How often a request is tried."""\n\n# The client tries a request five times before it gives up.\nRETRIES = 5\n',
}


def packed(parts):
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as archive:
        for name, text in parts.items():
            archive.writestr(name, text)
    return out.getvalue()


def docx(*paragraphs):
    body = "".join(f"<w:p><w:r><w:t>{text}</w:t></w:r></w:p>" for text in paragraphs)
    return packed({"word/document.xml": f'<w:document xmlns:w="w"><w:body>{body}</w:body></w:document>'})


def pptx(*slides):
    slide = '<p:sld xmlns:a="a" xmlns:p="p"><a:p><a:r><a:t>{}</a:t></a:r></a:p></p:sld>'
    return packed({f"ppt/slides/slide{at}.xml": slide.format(text) for at, text in enumerate(slides, 1)})


def epub(text):
    return packed(
        {
            "META-INF/container.xml": '<container><rootfiles><rootfile full-path="b.opf"/></rootfiles></container>',
            "b.opf": '<package><manifest><item id="a" href="a.xhtml"/></manifest>'
            '<spine><itemref idref="a"/></spine></package>',
            "a.xhtml": f"<html><body><p>{text}</p></body></html>",
        }
    )


def pdf(*pages):
    def stream(text):
        body = f"BT /F1 12 Tf 72 700 Td ({text}) Tj ET"
        return f"<< /Length {len(body)} >>\nstream\n{body}\nendstream"

    count = len(pages)
    kids = " ".join(f"{3 + at} 0 R" for at in range(count))
    font = 3 + 2 * count
    objects = ["<< /Type /Catalog /Pages 2 0 R >>", f"<< /Type /Pages /Kids [{kids}] /Count {count} >>"]
    for at in range(count):
        objects.append(
            f"<< /Type /Page /Parent 2 0 R /MediaBox [0 0 612 792] /Contents {3 + count + at} 0 R"
            f" /Resources << /Font << /F1 {font} 0 R >> >> >>"
        )
    objects += [stream(text) for text in pages]
    objects.append("<< /Type /Font /Subtype /Type1 /BaseFont /Helvetica /Encoding /WinAnsiEncoding >>")
    out, places = "%PDF-1.4\n", []
    for number, text in enumerate(objects, 1):
        places.append(len(out))
        out += f"{number} 0 obj\n{text}\nendobj\n"
    table = len(out)
    out += f"xref\n0 {len(objects) + 1}\n0000000000 65535 f \n"
    out += "".join(f"{place:010} 00000 n \n" for place in places)
    out += f"trailer\n<< /Size {len(objects) + 1} /Root 1 0 R >>\nstartxref\n{table}\n%%EOF\n"
    return out.encode()


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("mixed")
    for name, text in FACTS.items():
        (folder / name).write_text(text)
    (folder / "contract.pdf").write_bytes(pdf("The contract was signed in Lucerne.", "The rent is due on the tenth of each month."))
    (folder / "garden.docx").write_bytes(docx("The garden opens in April.", "Roses are cut back in November."))
    (folder / "plan.pptx").write_bytes(pptx("The bridge was built in 1904.", "The tunnel will open in 2031."))
    (folder / "novel.epub").write_bytes(epub("The captain kept a parrot called Balthasar."))
    (folder / "broken.pdf").write_bytes(b"%PDF-1.4 and then nothing")
    (folder / "binary.md").write_bytes(b"\x7fELF\x00\x00\x01")
    (folder / "picture.png").write_bytes(b"\x89PNG")
    (folder / "loop").symlink_to(folder)
    return folder


ASKED = [
    ("How many stones has the tallest cairn?", "stones.md", "forty", None),
    ("When does the baker sell rye bread?", "bread.txt", "Tuesdays", None),
    ("When does the ferry to the island leave?", "ferry.html", "seven", None),
    ("Who is the mayor of Altdorf?", "towns.csv", "Frieda Keller", None),
    ("How often does the client try a request?", "retry.py", "five times", None),
    ("When is the rent due?", "contract.pdf", "tenth", 2),
    ("When are roses cut back?", "garden.docx", "November", None),
    ("When was the bridge built?", "plan.pptx", "1904", 1),
    ("What was the parrot of the captain called?", "novel.epub", "Balthasar", None),
]


def test_nine_kinds_of_files_are_added_and_quoted_with_their_pages(binary, model, folder, tmp_path):
    command = [str(binary), "--data-dir", str(tmp_path / "data"), "--json"]

    def run(*args):
        done = subprocess.run([*command, *args], capture_output=True, text=True, timeout=300, env=clean_env())
        assert done.returncode == 0 and "panicked" not in done.stderr, done.stderr
        return json.loads(done.stdout)

    added = run("add", "mixed", str(folder))
    assert added["added"]["documents"] == len(ASKED)
    skipped = {entry["path"].rsplit("/", 1)[-1]: entry["reason"] for entry in added["skipped"]}
    assert set(skipped) == {"broken.pdf", "binary.md", "picture.png"}
    assert "not text" in skipped["binary.md"] and "PDF" in skipped["broken.pdf"]
    for question, name, told, page in ASKED:
        answer = run("ask", "mixed", question)
        assert told in answer["answer"], (question, answer)
        citation = answer["citations"][0]
        assert (citation["document_id"], citation.get("page")) == (name, page), (question, citation)
        if name in FACTS and name.endswith((".md", ".txt", ".py")):
            assert FACTS[name][citation["start"] : citation["end"]] == citation["quote"]
    again = run("add", "mixed", str(folder))
    assert (again["added"]["documents"], again["added"]["unchanged"]) == (0, len(ASKED))


def test_files_are_uploaded_and_those_that_cannot_be_read_are_named(server, model, folder):
    names = ["contract.pdf", "broken.pdf", "garden.docx"]
    form = [("file", (name, (folder / name).read_bytes())) for name in names]
    url = f"{server.url}/collections/uploads"
    done = httpx.post(f"{url}/documents/files", files=form, timeout=300)
    assert done.status_code == 200, done.text
    results = done.json()["result"]
    assert [result["name"] for result in results] == names
    assert "error" in results[1] and results[0]["added"]["documents"] == results[2]["added"]["documents"] == 1
    answer = httpx.post(f"{url}/ask", json={"question": "When is the rent due?"}, timeout=60).json()["result"]
    assert answer["citations"][0]["page"] == 2
    nothing = httpx.post(f"{url}/documents/files", files={}, data={"a": "b"}, timeout=60)
    assert nothing.status_code == 400
    httpx.delete(url, timeout=60)
