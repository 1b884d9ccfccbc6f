"""What every end-to-end test stands on: the real binary, a folder, a free port.

`CAIRN_BIN` names the binary; without it `target/release/cairn` is taken.
Nothing here knows what the server is for.
"""

import os
import signal
import socket
import subprocess
import time
import uuid
from pathlib import Path

import httpx
import pytest
from cairn_client import Cairn
from qdrant_client import QdrantClient

ROOT = Path(__file__).resolve().parents[2]
MODEL = "all-MiniLM-L6-v2"
LOG_LINES = 80

# Points are sealed, and graphs built and used, from a few hundred on, so that small tests meet them.
SMALL_GRAPHS = {
    "CAIRN__INDEX__SEAL_POINTS": "500",
    "CAIRN__INDEX__INDEXING_THRESHOLD": "300",
    "CAIRN__INDEX__FULL_SCAN_THRESHOLD": "50",
}


class Server:
    """A `cairn serve` process that can be started again on the same data and port."""

    def __init__(self, binary: Path, data_dir: Path, log: Path, env: dict | None = None):
        self.binary, self.data_dir, self.log = binary, data_dir, log
        self.env = clean_env() | (env or {})
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self.process: subprocess.Popen | None = None

    @property
    def pid(self) -> int:
        assert self.process is not None, "the server was not started"
        return self.process.pid

    def start(self, timeout_s: float = 120) -> "Server":
        """Starts the process and waits until it is ready."""
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                self.command(), stdout=log, stderr=log, stdin=subprocess.DEVNULL, env=self.env
            )
        end = time.monotonic() + timeout_s
        while time.monotonic() < end:
            if self.process.poll() is not None:
                raise AssertionError(f"the server ended with {self.process.returncode}:\n{self.tail()}")
            try:
                if httpx.get(f"{self.url}/readyz", timeout=2).status_code == 200:
                    return self
            except httpx.TransportError:
                pass
            time.sleep(0.02)
        raise AssertionError(f"the server was not ready after {timeout_s} s:\n{self.tail()}")

    def command(self) -> list[str]:
        serve = [self.binary, "serve", "--data-dir", self.data_dir]
        return [str(part) for part in [*serve, "--host", "127.0.0.1", "--port", self.port]]

    def stop(self, timeout_s: float = 30) -> int:
        """Asks the process to end (SIGTERM); returns its exit code."""
        return self._end(signal.SIGTERM, timeout_s)

    def kill9(self) -> None:
        """Ends the process as a crash would."""
        self._end(signal.SIGKILL, 10)

    def restart(self) -> "Server":
        self.stop()
        return self.start()

    def close(self) -> None:
        """Ends the process if it still runs, whatever state it is in."""
        if self.process is not None and self.process.poll() is None:
            try:
                self.stop()
            except subprocess.TimeoutExpired:
                self.kill9()

    def tail(self) -> str:
        text = self.log.read_text(errors="replace") if self.log.exists() else ""
        return "\n".join(text.splitlines()[-LOG_LINES:])

    def _end(self, number: signal.Signals, timeout_s: float) -> int:
        assert self.process is not None, "the server was not started"
        self.process.send_signal(number)
        return self.process.wait(timeout_s)


def clean_env() -> dict:
    """The environment without settings of ours that would change what is tested."""
    return {
        key: value
        for key, value in os.environ.items()
        if not key.startswith("CAIRN__") and key != "CAIRN_CONFIG"
    }


def free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return free.getsockname()[1]


@pytest.fixture(scope="session")
def binary() -> Path:
    path = Path(os.environ.get("CAIRN_BIN", ROOT / "target/release/cairn")).resolve()
    if not path.is_file():
        pytest.exit(f"no binary at {path}: run `cargo build --release -p cairn` or set CAIRN_BIN", 2)
    return path


@pytest.fixture
def cairn_command(binary, tmp_path):
    """Runs `cairn`, its data in a folder of the test's own; gives back what it printed, or why it failed."""

    def run(*args, fails=False, stdin=None, env=None):
        command = [str(binary), "--data-dir", str(tmp_path / "data"), *map(str, args)]
        done = subprocess.run(
            command, capture_output=True, text=True, timeout=300, input=stdin, env=clean_env() | (env or {})
        )
        assert (done.returncode != 0) == fails, done.stdout + done.stderr
        assert "panicked" not in done.stderr
        return done.stderr if fails else done.stdout

    return run


@pytest.fixture(scope="session")
def model(binary) -> str:
    """The default model, pulled once; a server finds it in the cache."""
    pull = subprocess.run([binary, "model", "pull", MODEL], capture_output=True, text=True, env=clean_env())
    assert pull.returncode == 0, f"`cairn model pull {MODEL}` failed:\n{pull.stdout}{pull.stderr}"
    return MODEL


@pytest.fixture(scope="session")
def server(binary, tmp_path_factory):
    """One server for all tests that do not stop it; each uses its own collections."""
    folder = tmp_path_factory.mktemp("server")
    server = Server(binary, folder / "data", folder / "log", SMALL_GRAPHS)
    _servers.append(server)
    yield server.start()
    server.close()


@pytest.fixture
def new_server(binary, tmp_path):
    """Makes servers of the test's own, not started; `new_server(data_dir=..., env=...)`."""
    made = []

    def make(data_dir: Path | None = None, env: dict | None = None) -> Server:
        log = tmp_path / f"log-{len(made)}"
        server = Server(binary, data_dir or tmp_path / f"data-{len(made)}", log, env)
        made.append(server)
        _servers.append(server)
        return server

    yield make
    for server in made:
        server.close()
        _servers.remove(server)


@pytest.fixture(scope="session")
def new_model_server(binary, tmp_path_factory):
    """Makes and starts servers with small models: `new_model_server(case of the reranker, env)`."""
    import tiny_models

    made = []

    def make(reranker: str, env: dict | None = None) -> Server:
        folder = tmp_path_factory.mktemp("models")
        encoder = tiny_models.write(tiny_models.case("tiny", "bert mean normalized"), folder / "encoder")
        cross_encoder = tiny_models.write(tiny_models.case("rerank", reranker), folder / "reranker")
        settings = {
            "CAIRN__MODELS__DEFAULT": str(encoder),
            "CAIRN__MODELS__RERANK": str(cross_encoder),
            "CAIRN__MODELS__ENCODER__PRECISION": "f32",
        }
        server = Server(binary, folder / "data", folder / "log", SMALL_GRAPHS | settings | (env or {}))
        server.encoder, server.reranker = str(encoder), str(cross_encoder)
        made.append(server)
        _servers.append(server)
        return server.start()

    yield make
    for server in made:
        server.close()


@pytest.fixture
def http(server):
    """Plain HTTP, for what the clients would not send."""
    with httpx.Client(base_url=server.url, timeout=60) as http:
        yield http


@pytest.fixture
def qdrant(server):
    client = QdrantClient(url=server.url, cloud_inference=True, timeout=60)
    yield client
    client.close()


@pytest.fixture
def cairn(server, model):
    with Cairn(server.url, timeout=300) as cairn:
        yield cairn


@pytest.fixture
def collection(server):
    """A collection name of the test's own; what it holds is dropped afterwards."""
    name = f"test-{uuid.uuid4().hex[:12]}"
    yield name
    if server.process is not None and server.process.poll() is None:
        httpx.delete(f"{server.url}/collections/{name}", timeout=60)


_servers: list[Server] = []


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item, call):
    report = yield
    if report.failed and {"server", "new_server", "new_model_server"} & set(item.fixturenames):
        report.sections += [(f"log of {server.url}", server.tail()) for server in _servers]
    return report
