"""The description of the service, and what a tool makes of it that knows nothing else.

The long test takes CAIRN_LONG, and CAIRN_FUZZ_MINUTES of time; `cargo xtask schemathesis` sets both.
"""

import os
import subprocess
import sys

import pytest

MINUTES = int(os.environ.get("CAIRN_FUZZ_MINUTES", "20"))


def test_the_description_and_its_page_are_served(http):
    description = http.get("/openapi.json").json()
    assert description["openapi"].startswith("3.1")
    for path in ("/collections/{collection}/points/query", "/collections/{collection}/points"):
        assert path in description["paths"]
    operations = [of for path in description["paths"].values() for of in path.values() if "operationId" in of]
    names = [operation["operationId"] for operation in operations]
    assert len(names) > 100 and len(set(names)) == len(names), "two operations have the same name"
    page = http.get("/docs")
    assert page.headers["content-type"].startswith("text/html") and "/openapi.json" in page.text


@pytest.mark.skipif("CAIRN_LONG" not in os.environ, reason="takes long: set CAIRN_LONG")
def test_no_request_that_the_description_allows_is_answered_wrongly(new_server):
    pytest.importorskip("schemathesis")
    server = new_server().start()
    command = [sys.executable, "-m", "schemathesis.cli", "run", f"{server.url}/openapi.json"]
    command += ["--checks", "not_a_server_error,status_code_conformance,response_schema_conformance"]
    # Half of the time goes to requests that follow each other: what one answers, the next one asks about.
    command += ["--phases", "examples,coverage,fuzzing,stateful"]
    command += ["--max-time", str(MINUTES * 60), "--continue-on-failure"]
    # A recovered snapshot would be fetched from addresses that were made up.
    command += ["--exclude-path-regex", "snapshots/recover", "--report-dir", str(server.data_dir.parent / "report")]
    done = subprocess.run(command, capture_output=True, text=True, timeout=MINUTES * 60 + 600)
    print(done.stdout[-6000:])
    assert done.returncode == 0, done.stdout[-6000:]
    assert "panicked" not in server.log.read_text()
