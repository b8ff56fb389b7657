"""A server that cannot start prints one line that says why and what to do, and exits with status 2 (issue:
bad input).

One line on standard error besides the log's own lines, no traceback, and no process is left.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import re
import shutil
import signal
import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import quote, urlsplit

import httpx
import psycopg
import pytest
from tests.support.clients.pending import until
from tests.support.postgres.databases import SERVER_SETTINGS, fresh_database
from tests.support.postgres.installations import postgres_of, programs_of
from tests.support.servers.ports import free_port
from tests.support.servers.processes import session_members
from tests.support.servers.servers import Server, running_server

from pgshapes.embedded.binaries import server_account
from pgshapes.embedded.server import EmbeddedPostgres
from pgshapes.owner.catalogue import CATALOGUE_VERSION

END_S = 60.0
LOG_LINE = re.compile(r"timestamp='")

both_forms = pytest.mark.parametrize("workers", [0, 1])


def refusal(server: Server, status: int = 2) -> str:
    """The last line of a server that cannot start."""
    server.launch()
    process = server.process
    assert process is not None
    try:
        assert process.wait(END_S) == status, server.log_end()
        assert session_members(process.pid) == []
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        server.process = None
    lines = [line for line in server.log_path.read_text().splitlines() if not LOG_LINE.match(line)]
    assert len(lines) == 1, server.log_end()
    assert lines[0].startswith("pgshapes: ")
    return lines[0]


def with_user(url: str, user: str, password: str = "secret") -> str:
    """The URL for another user."""
    parts = urlsplit(url)
    return f"postgresql://{user}:{password}@{parts.hostname}:{parts.port}{parts.path}"


@pytest.fixture
def storage_dir(tmp_path: Path) -> Path:
    """A storage directory of the test's own."""
    return tmp_path / "storage"


@pytest.mark.parametrize(
    ("url", "advice"),
    [
        ("mysql://root@localhost/x", "must look like postgresql://user:password@host:5432/database"),
        ("postgresql://localhost/x", "has no user name"),
        ("postgresql://us%er:swordfish@localhost/x", "contains a raw %: percent-encode"),
        ("postgresql://user:p@swordfish@localhost/x", "contains a raw @"),
        ("postgresql://user:p/swordfish@localhost/x", "contains a raw / or @"),
        ("postgresql://user:swordfish@localhost:pg/x", "has a port that is not a number"),
        ("postgresql://user:swordfish@localhost/x?sslmode=full", "has a value of sslmode that is not known"),
    ],
)
def test_a_url_that_cannot_be_read(storage_dir: Path, url: str, advice: str) -> None:
    line = refusal(Server(url, storage_dir, replication_stream_id="x"))
    assert advice in line
    assert "swordfish" not in line


def test_a_wrong_password(database_url: str, storage_dir: Path) -> None:
    url = with_user(database_url, "postgres", "wrong")
    line = refusal(Server(url, storage_dir))
    assert "check user and password in DATABASE_URL" in line
    assert "wrong@" not in line


def test_an_unknown_database(postgres_server: EmbeddedPostgres, storage_dir: Path) -> None:
    line = refusal(Server(postgres_server.url("no_such_database"), storage_dir))
    assert "create it or correct the name in DATABASE_URL" in line


@contextlib.contextmanager
def role(connection: psycopg.Connection, name: str, attributes: str) -> Iterator[str]:
    """A role for one test."""
    connection.execute(f"CREATE ROLE {name} LOGIN PASSWORD 'secret' {attributes}")
    try:
        yield name
    finally:
        connection.execute(f"DROP OWNED BY {name}")
        connection.execute(f"DROP ROLE {name}")


@both_forms
def test_a_role_that_may_not_replicate(
    sql: psycopg.Connection, database_url: str, storage_dir: Path, workers: int
) -> None:
    with role(sql, f"reader_{workers}", "") as name:
        line = refusal(Server(with_user(database_url, name), storage_dir, workers=workers))
    assert f"run ALTER ROLE {name} WITH REPLICATION" in line


def test_a_publication_that_may_not_be_created(
    sql: psycopg.Connection, database_url: str, storage_dir: Path
) -> None:
    with role(sql, "replicator", "REPLICATION") as name:
        server = Server(with_user(database_url, name), storage_dir)
        line = refusal(server)
    assert f'run GRANT CREATE ON DATABASE "{sql.info.dbname}" TO "{name}"' in line
    assert server.publication in line


def test_a_publication_that_must_be_there_is_not(database_url: str, storage_dir: Path) -> None:
    server = Server(database_url, storage_dir, manual_table_publishing=True)
    assert f'run CREATE PUBLICATION "{server.publication}"' in refusal(server)


def test_a_server_without_logical_wal(storage_dir: Path) -> None:
    with postgres_of(settings={"wal_level": "replica"}) as postgres:
        line = refusal(Server(postgres.url(), storage_dir))
    assert "run ALTER SYSTEM SET wal_level = 'logical' and restart it" in line


def test_a_standby(storage_dir: Path) -> None:
    account = server_account()
    with postgres_of() as primary:
        primary.stop()
        data = primary.data_dir.with_name("standby")
        shutil.copytree(primary.data_dir, data)
        (data / "standby.signal").touch()
        for path in (data, *data.rglob("*")):
            account.chown(path)
        with EmbeddedPostgres(data, primary.version, installed=programs_of(primary.version)) as standby:
            line = refusal(Server(standby.url(), storage_dir))
    assert "let DATABASE_URL point to the primary" in line


def test_a_slot_of_another_database(
    postgres_server: EmbeddedPostgres, database_url: str, storage_dir: Path
) -> None:
    with fresh_database(postgres_server) as other, psycopg.connect(other, autocommit=True) as connection:
        server = Server(database_url, storage_dir)
        connection.execute(f"SELECT pg_create_logical_replication_slot('{server.slot}', 'pgoutput')")
        assert "set another stream id" in refusal(server)
        assert server.sql("SELECT 1 FROM pg_replication_slots WHERE slot_name = %s", server.slot)


@both_forms
def test_a_port_that_is_taken(database_url: str, storage_dir: Path, workers: int) -> None:
    server = Server(database_url, storage_dir, workers=workers)
    with socket.create_server(("127.0.0.1", server.port)):
        assert "choose another with --port or --host" in refusal(server)


def test_a_storage_directory_that_cannot_be_written(database_url: str, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    server = Server(database_url, tmp_path / "file" / "storage")
    server.log_path = tmp_path / "log"
    assert "choose another with --storage-dir" in refusal(server)


@both_forms
def test_a_storage_directory_in_use(database_url: str, storage_dir: Path, workers: int) -> None:
    storage_dir.mkdir()
    with (storage_dir / "owner.lock").open("w") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        line = refusal(Server(database_url, storage_dir, workers=workers))
    assert "stop it, or choose another with --storage-dir" in line


def test_a_catalogue_that_cannot_be_read(database_url: str, storage_dir: Path) -> None:
    storage_dir.mkdir()
    (storage_dir / f"catalogue.v{CATALOGUE_VERSION}.sqlite").write_bytes(b"not a database" * 1000)
    line = refusal(Server(database_url, storage_dir))
    assert "remove the storage directory" in line


def test_a_catalogue_that_is_damaged_inside(database_url: str, storage_dir: Path) -> None:
    with running_server(database_url, storage_dir=storage_dir) as server:
        server.stop()
    with (storage_dir / f"catalogue.v{CATALOGUE_VERSION}.sqlite").open("r+b") as file:
        size = file.seek(0, os.SEEK_END)
        file.seek(4096)
        file.write(b"\xff" * (size - 4096))
    assert "remove the storage directory" in refusal(Server(database_url, storage_dir))


class Unprotected(Server):
    """A server with neither a secret nor `insecure`."""

    def environment(self) -> dict[str, str]:
        return {name: text for name, text in super().environment().items() if name != "PGSHAPES_INSECURE"}


@both_forms
def test_neither_secret_nor_insecure(database_url: str, storage_dir: Path, workers: int) -> None:
    assert "set PGSHAPES_SECRET" in refusal(Unprotected(database_url, storage_dir, workers=workers))


@pytest.fixture(scope="module")
def own_postgres() -> Iterator[EmbeddedPostgres]:
    """A Postgres of these tests' own, at a port that stays, which asks no password."""
    with postgres_of(settings=SERVER_SETTINGS, port=free_port()) as postgres:
        rules = postgres.data_dir / "pg_hba.conf"
        rules.write_text("host all all 127.0.0.1/32 trust\nlocal all all trust\n" + rules.read_text())
        postgres.stop()
        postgres.start()
        yield postgres


@both_forms
@pytest.mark.parametrize("way", ["tcp", "socket"])
def test_a_url_without_a_password(
    own_postgres: EmbeddedPostgres, tmp_path: Path, workers: int, way: str
) -> None:
    url = f"postgresql://postgres@127.0.0.1:{own_postgres.port}/postgres"
    if way == "socket":
        directory = quote(own_postgres.socket_dir, "")
        url = f"postgresql://postgres@{directory}:{own_postgres.port}/postgres"
    with running_server(url, workers=workers, replication_stream_id=f"{way}_{workers}") as server:
        assert httpx.get(f"{server.url}/v1/health").json() == {"status": "active"}
        assert server.stop() == 0


def test_a_restarted_replicator_waits_for_its_database(own_postgres: EmbeddedPostgres) -> None:
    url = f"postgresql://postgres@127.0.0.1:{own_postgres.port}/postgres"
    with running_server(url, workers=1, replication_stream_id="again") as server, httpx.Client() as client:
        supervisor = server.process
        assert supervisor is not None
        own_postgres.stop()
        try:
            os.kill(server.children()[0], signal.SIGKILL)
            until(lambda: "reconnecting" in server.log_path.read_text(), "an attempt without the database")
            assert client.get(f"{server.url}/v1/health").status_code == 202
            assert supervisor.poll() is None
        finally:
            own_postgres.start()
        server.wait_active()


@pytest.mark.parametrize("pause_s", [0.0, 0.4, 1.0])
def test_ctrl_c_prints_no_traceback(database_url: str, storage_dir: Path, pause_s: float) -> None:
    """Also while the children are starting: a terminal interrupts all processes at once."""
    server = Server(database_url, storage_dir, workers=1)
    server.launch()
    process = server.process
    assert process is not None
    until(lambda: "listening" in server.log_path.read_text(), "the start")
    with contextlib.suppress(subprocess.TimeoutExpired):
        process.wait(pause_s)
    os.killpg(process.pid, signal.SIGINT)
    assert process.wait(END_S) in (0, 130)
    until(lambda: session_members(process.pid) == [], "the end of the children")
    assert "Traceback" not in server.log_path.read_text()
