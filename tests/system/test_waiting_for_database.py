"""A start waits for a database that may come, says so, and ends when it is told to."""

from __future__ import annotations

import contextlib
import os
import signal
import threading
from collections.abc import Iterator
from pathlib import Path

import httpx
import psycopg
import pytest
from tests.support.clients.pending import until
from tests.support.postgres.databases import SERVER_SETTINGS
from tests.support.servers.ports import free_port
from tests.support.servers.servers import Server, running_server

from pgshapes.embedded.server import EmbeddedPostgres

END_S = 60.0
WAITING = "waiting for the database"

both_forms = pytest.mark.parametrize("workers", [0, 1])


@contextlib.contextmanager
def launched(server: Server) -> Iterator[Server]:
    """A server whose processes run, ready or not."""
    server.launch()
    try:
        yield server
    except Exception as error:
        error.add_note(f"the server's log ends with:\n{server.log_end()}")
        raise
    finally:
        if server.process is not None:
            server.kill()


def waits_because(server: Server, reason: str) -> None:
    """Wait until the log says so; the server is starting, and not ended."""
    wanted = (f"event='{WAITING}'", reason)
    until(
        lambda: any(
            all(part in line for part in wanted) for line in server.log_path.read_text().splitlines()
        ),
        f"a line about waiting because of {reason}",
    )
    until(lambda: says_waiting(server), "`/v1/health` says what is waited for")
    assert server.process is not None
    assert server.process.poll() is None


def says_waiting(server: Server) -> bool:
    """Whether `/v1/health` says so, with the reason."""
    answer = httpx.get(f"{server.url}/v1/health", timeout=END_S)
    assert answer.status_code == 202
    reason = answer.headers.get("pgshapes-waits-for", "")
    is_waiting: bool = answer.json() == {"status": "waiting"}
    return is_waiting and reason.startswith("the database:")


def serves_rows(server: Server) -> bool:
    """Whether the server answers for a table of its database."""
    server.sql("CREATE TABLE IF NOT EXISTS waited (id int PRIMARY KEY)")
    answer = httpx.get(server.shape_url, params={"table": "waited", "offset": "-1"}, timeout=END_S)
    return answer.status_code == 200


@pytest.fixture
def storage_dir(tmp_path: Path) -> Path:
    """A storage directory of the test's own."""
    return tmp_path / "storage"


@pytest.fixture(scope="module")
def late_postgres() -> Iterator[EmbeddedPostgres]:
    """A Postgres with a port that stays; each test starts and stops it."""
    with EmbeddedPostgres(settings=SERVER_SETTINGS, port=free_port()) as postgres:
        yield postgres


@both_forms
def test_postgres_is_not_up_yet(late_postgres: EmbeddedPostgres, storage_dir: Path, workers: int) -> None:
    server = Server(
        late_postgres.url(), storage_dir, workers=workers, replication_stream_id=f"late_{workers}"
    )
    late_postgres.stop()
    with launched(server):
        waits_because(server, "Connection refused; check that Postgres runs")
        answer = httpx.get(server.shape_url, params={"table": "waited", "offset": "-1"}, timeout=END_S)
        assert answer.status_code == 503
        assert answer.json()["message"].startswith("Timeout waiting for Postgres lock acquisition")
        assert "retry-after" in answer.headers
        late_postgres.start()
        server.wait_active()
        assert serves_rows(server)
        assert server.stop() == 0


@both_forms
@pytest.mark.parametrize(
    "url", ["postgresql://postgres@127.0.0.1:{port}/x", "postgresql://me@nowhere.invalid/x"]
)
def test_a_start_that_waits_can_be_stopped(storage_dir: Path, workers: int, url: str) -> None:
    with launched(Server(url.format(port=free_port()), storage_dir, workers=workers)) as server:
        waits_because(server, "DATABASE_URL")
        assert server.stop() == 0
        assert "Traceback" not in server.log_path.read_text()


def test_the_pooler_is_not_up_yet(
    database_url: str, late_postgres: EmbeddedPostgres, storage_dir: Path
) -> None:
    """The reason names the other URL."""
    pooled_url = late_postgres.url()
    late_postgres.stop()
    with launched(Server(database_url, storage_dir, pooled_database_url=pooled_url)) as server:
        waits_because(server, "the pooled database cannot be used: connection failed")
        assert "that POOLED_DATABASE_URL has its host and port" in server.log_path.read_text()
        late_postgres.start()
        server.wait_active()


def test_a_name_that_is_not_known_yet(storage_dir: Path) -> None:
    with launched(Server("postgresql://postgres@nowhere.invalid/x", storage_dir)) as server:
        waits_because(server, "check the host in DATABASE_URL")


def test_postgres_does_not_accept_connections_yet(storage_dir: Path) -> None:
    """It recovers, as after a crash, until it is promoted (57P03)."""
    settings = {**SERVER_SETTINGS, "hot_standby": "off"}
    with EmbeddedPostgres(settings=settings, port=free_port()) as postgres:
        url = postgres.url()
        postgres.stop()
        signal_file = postgres.data_dir / "standby.signal"
        signal_file.touch()
        owner = postgres.data_dir.stat()
        os.chown(signal_file, owner.st_uid, owner.st_gid)
        starting = threading.Thread(target=postgres.start)
        starting.start()
        try:
            with launched(Server(url, storage_dir, replication_stream_id="recovering")) as server:
                waits_because(server, "the database system is not accepting connections")
                promote(postgres)
                server.wait_active()
                assert serves_rows(server)
        finally:
            promote(postgres)
            starting.join(END_S)


def promote(postgres: EmbeddedPostgres) -> None:
    """Have a standby become a primary (manual: pg_ctl promote)."""
    (postgres.data_dir / "promote").touch()
    os.kill(postgres.pid, signal.SIGUSR1)


@pytest.fixture
def role(sql: psycopg.Connection) -> Iterator[str]:
    """A role that may do everything that the server needs."""
    name = f"limited_{sql.info.dbname}"
    sql.execute(f"CREATE ROLE {name} LOGIN PASSWORD 'secret' REPLICATION")
    sql.execute(f"GRANT CREATE ON DATABASE {sql.info.dbname} TO {name}")
    yield name
    sql.execute(f"DROP OWNED BY {name}")
    sql.execute(f"DROP ROLE {name}")


@pytest.mark.parametrize("limit", [0, 1, 2, 3])
def test_all_connections_are_in_use(
    sql: psycopg.Connection, database_url: str, role: str, storage_dir: Path, limit: int
) -> None:
    """At each of the connections that a start opens."""
    sql.execute(f"ALTER ROLE {role} CONNECTION LIMIT {limit}")
    url = f"postgresql://{role}:secret@{database_url.partition('@')[2]}"
    with launched(Server(url, storage_dir)) as server:
        waits_because(server, f'too many connections for role "{role}"')
        sql.execute(f"ALTER ROLE {role} CONNECTION LIMIT -1")
        server.wait_active()
        assert server.stop() == 0


@pytest.mark.slow
def test_a_slot_that_another_walsender_uses(
    sql: psycopg.Connection, database_url: str, storage_dir: Path
) -> None:
    server = Server(database_url, storage_dir, workers=1)
    sql.execute(f"SELECT pg_create_logical_replication_slot('{server.slot}', 'pgoutput')")
    sql.execute(f"CREATE PUBLICATION {server.publication}")
    with launched(server):
        with reading_slot(database_url, server):
            waits_because(server, "stop that one or set another stream id")
        server.wait_active()


@both_forms
def test_a_slot_that_another_backend_is_creating(
    sql: psycopg.Connection, database_url: str, storage_dir: Path, workers: int
) -> None:
    """As one of an instance that has ended does, until the transactions that were open then have ended."""
    server = Server(database_url, storage_dir, workers=workers)
    with psycopg.connect(database_url) as writer, psycopg.connect(database_url, autocommit=True) as other:
        writer.execute("CREATE TABLE held (id int PRIMARY KEY)")
        create = f"SELECT pg_create_logical_replication_slot('{server.slot}', 'pgoutput')"
        creating = threading.Thread(target=other.execute, args=(create,))
        creating.start()
        slots = f"SELECT FROM pg_replication_slots WHERE slot_name = '{server.slot}'"
        until(lambda: sql.execute(slots).fetchone() is not None, "the slot")
        with launched(server):
            waits_because(server, "is being created by backend")
            writer.commit()
            creating.join()
            server.wait_active()
            assert "cannot be used" not in server.log_path.read_text()


@contextlib.contextmanager
def reading_slot(url: str, server: Server) -> Iterator[None]:
    """Another walsender on the server's slot."""
    with psycopg.connect(f"{url}?replication=database", autocommit=True) as other:
        other.execute(
            f"START_REPLICATION SLOT {server.slot} LOGICAL 0/0"
            f" (proto_version '1', publication_names '{server.publication}')"
        )
        yield
        other.pgconn.finish()


def test_another_instance_holds_the_lock(
    sql: psycopg.Connection, database_url: str, storage_dir: Path
) -> None:
    """At a first start, as later."""
    server = Server(database_url, storage_dir, workers=1)
    sql.execute("SELECT pg_advisory_lock(hashtext(%s))", (server.slot,))
    with launched(server):
        health = f"{server.url}/v1/health"
        until(lambda: "waiting for another instance" in server.log_path.read_text(), "a line about waiting")
        until(lambda: httpx.get(health, timeout=END_S).json() == {"status": "waiting"}, "the status")
        assert httpx.get(health, timeout=END_S).status_code == 202
        sql.execute("SELECT pg_advisory_unlock(hashtext(%s))", (server.slot,))
        server.wait_active()


def test_a_database_that_is_read_only_by_default(sql: psycopg.Connection, database_url: str) -> None:
    """As providers set it when the disk is nearly full."""
    sql.execute("CREATE TABLE waited (id int PRIMARY KEY)")
    sql.execute(f"ALTER DATABASE {sql.info.dbname} SET default_transaction_read_only = on")
    with running_server(database_url) as server:
        answer = httpx.get(server.shape_url, params={"table": "waited", "offset": "-1"}, timeout=END_S)
        assert answer.status_code == 200
        assert server.stop() == 0
