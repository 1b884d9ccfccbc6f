"""Our TypeScript client, built and run by Node, against the real server."""

import os
import shutil
import subprocess
from pathlib import Path

import pytest

CLIENT = Path(__file__).resolve().parents[2] / "clients" / "typescript"


def run(*command, **env):
    done = subprocess.run(
        command, cwd=CLIENT, env=os.environ | env, capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 0, f"{' '.join(command)}:\n{done.stdout}{done.stderr}"
    return done.stdout


def test_the_typescript_client_passes_its_own_tests_on_a_real_server(server, model):
    if shutil.which("npm") is None:
        pytest.skip("node and npm are not installed")
    if not (CLIENT / "node_modules" / "typescript").is_dir():
        run("npm", "ci", "--no-audit", "--no-fund", "--ignore-scripts")
    run("npm", "run", "build")
    tests = [f"dist/test/{name}.test.js" for name in ("events", "client", "integration")]
    report = run("node", "--test", "--test-reporter=tap", *tests, CAIRN_URL=server.url)
    assert "# fail 0" in report
    assert "# skipped 0" in report, report
