"""Stops and kills of each process while clients follow: the only effect is a reconnect.

Every follower is strict: a message that is lost, repeated, or in another order than before fails the
test, and so does a 409.
"""

from __future__ import annotations

import os
import signal
import sqlite3
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager, suppress
from pathlib import Path

import httpx
import msgspec
import psycopg
import pytest
from tests.support.clients.followers import Followers, RetryingClient, following
from tests.support.clients.materialised import Materialised
from tests.support.clients.pending import end_mark, until, until_query
from tests.support.postgres import writers
from tests.support.postgres.bursts import bursts
from tests.support.postgres.databases import SERVER_SETTINGS, fresh_database
from tests.support.postgres.installations import postgres_of
from tests.support.postgres.selected import select_rows
from tests.support.servers.ports import free_port
from tests.support.servers.servers import Server, running_server

from pgshapes.owner.durability import Recorded

pytestmark = pytest.mark.slow

DEFINITIONS = [
    {"table": "items"},
    {"table": "items", "where": "tenant = 1", "replica": "full"},
    {"table": "items", "where": "n % 2 = 0"},
]
MODES = [pytest.param(0, 1_000, id="1kB"), pytest.param(2, 10_000, id="10kB-workers")]

Interruption = Callable[[Server], None]


def stop_and_start(server: Server) -> None:
    assert server.stop() == 0
    server.start()


def kill_and_start(server: Server) -> None:
    server.kill()
    server.start()


def end_child(find: Callable[[Server], int], how: signal.Signals) -> Interruption:
    """End a single process of the server; the supervisor starts it again."""

    def interrupt(server: Server) -> None:
        pid, count = find(server), len(server.children())
        os.kill(pid, how)
        until(lambda: has_replaced(server, pid, count), "the new process")
        server.wait_active()

    return interrupt


def replicator_of(server: Server) -> int:
    """The process that holds the storage directory."""
    return next(pid for pid in server.children() if holds(pid, server.storage_dir / "owner.lock"))


def http_process_of(server: Server) -> int:
    """An HTTP process."""
    return next(pid for pid in server.children() if pid != replicator_of(server))


def holds(pid: int, path: Path) -> bool:
    """Whether a process has a file open."""
    for file in Path(f"/proc/{pid}/fd").iterdir():
        with suppress(FileNotFoundError):
            if file.readlink() == path:
                return True
    return False


def has_replaced(server: Server, pid: int, count: int) -> bool:
    """Whether a child has been replaced by another."""
    now = server.children()
    return pid not in now and len(now) == count


@contextmanager
def followed(url: str, server: Server) -> Iterator[tuple[list[RetryingClient], Followers]]:
    """Clients of a few shapes on an empty table."""
    with psycopg.connect(url, autocommit=True) as sql:
        sql.execute(writers.CREATE.format(table="items"))
    shapes = [RetryingClient(server.shape_url, DEFINITIONS[number % 3]) for number in range(6)]
    with following(shapes) as followers:
        until_received(shapes, followers, 0)
        yield shapes, followers


def until_received(shapes: Sequence[RetryingClient], followers: Followers, more: int) -> None:
    """Wait until each has received some more changes."""
    goals = [len(shape.log) + more for shape in shapes]

    def is_reached() -> bool:
        followers.check()
        return all(
            shape.is_up_to_date and len(shape.log) >= goal for shape, goal in zip(shapes, goals, strict=True)
        )

    until(is_reached, "more changes")


def finish(url: str, server: Server, shapes: list[RetryingClient], followers: Followers) -> None:
    """Compare all clients with a late client, and with a SELECT."""
    with psycopg.connect(url, autocommit=True) as sql, httpx.Client() as client:
        followers.finish(end_mark(sql, "INSERT INTO items VALUES (1000000, 1, 2, NULL)"))
        for shape in shapes:
            late = Materialised(server.shape_url, shape.params)
            late.catch_up(client)
            _, _, expected = select_rows(sql, "items", shape.params.get("where", "true"))
            assert shape.rows == expected
            assert (shape.handle, shape.log) == (late.handle, late.log)


def interrupt_twice(url: str, server: Server, interrupt: Interruption) -> list[RetryingClient]:
    """Interrupt while clients follow and writers write; the clients."""
    with followed(url, server) as (shapes, followers):
        with bursts(url, "items"):
            for _ in range(2):
                until_received(shapes, followers, 5)
                interrupt(server)
        finish(url, server, shapes, followers)
    return shapes


@contextmanager
def server_on(url: str, workers: int, chunk_bytes: int) -> Iterator[Server]:
    """A server whose long polls are short."""
    with running_server(
        url, workers=workers, chunk_bytes_threshold=chunk_bytes, long_poll_timeout_ms=1000
    ) as server:
        yield server


@pytest.mark.parametrize(("workers", "chunk_bytes"), MODES)
def test_a_stop_is_only_a_reconnect(database_url: str, workers: int, chunk_bytes: int) -> None:
    """Every response that was begun is complete, and the slot is left at the end of the WAL."""
    with server_on(database_url, workers, chunk_bytes) as server:
        shapes = interrupt_twice(database_url, server, stop_and_start)
        assert [shape.broken for shape in shapes if shape.broken] == []
        assert all(shape.reconnects for shape in shapes)
        assert server.stop() == 0
        with psycopg.connect(database_url, autocommit=True) as sql:
            check_slot_is_clean(sql, server)


def check_slot_is_clean(sql: psycopg.Connection, server: Server) -> None:
    """Check that the slot is inactive and that nothing is left to read."""
    until_query(sql, "SELECT 1 FROM pg_replication_slots WHERE slot_name = %s AND NOT active", server.slot)
    left = sql.execute(
        "SELECT lsn, data FROM pg_logical_slot_peek_binary_changes(%s, NULL, NULL,"
        " 'proto_version', '1', 'publication_names', %s)",
        (server.slot, server.publication),
    )
    assert left.fetchall() == []


@pytest.mark.parametrize(("workers", "chunk_bytes"), MODES)
def test_a_kill_is_only_a_reconnect(database_url: str, workers: int, chunk_bytes: int) -> None:
    with server_on(database_url, workers, chunk_bytes) as server:
        interrupt_twice(database_url, server, kill_and_start)


@pytest.mark.parametrize("how", [signal.SIGTERM, signal.SIGKILL], ids=["SIGTERM", "kill"])
def test_a_restart_of_the_replicator_keeps_connections(database_url: str, how: signal.Signals) -> None:
    """The HTTP processes keep their connections."""
    with server_on(database_url, 2, 10_000) as server:
        shapes = interrupt_twice(database_url, server, end_child(replicator_of, how))
        assert [shape.reconnects for shape in shapes] == [0] * len(shapes)


@pytest.mark.parametrize("how", [signal.SIGTERM, signal.SIGKILL], ids=["SIGTERM", "kill"])
def test_an_http_process_is_replaced_alone(database_url: str, how: signal.Signals) -> None:
    """Its clients reconnect, to any process."""
    with server_on(database_url, 2, 10_000) as server:
        replicator = replicator_of(server)
        shapes = interrupt_twice(database_url, server, end_child(http_process_of, how))
        assert replicator_of(server) == replicator
        if how is signal.SIGTERM:
            assert [shape.broken for shape in shapes if shape.broken] == []


# --- Postgres


@pytest.mark.parametrize("how", ["stop", "kill"])
@pytest.mark.parametrize(("workers", "chunk_bytes"), MODES)
def test_clients_continue_after_a_restart_of_postgres(workers: int, chunk_bytes: int, how: str) -> None:
    """Stopped or crashed, with a transaction open: clients wait and then continue."""
    with (
        postgres_of(settings=SERVER_SETTINGS, port=free_port()) as postgres,
        fresh_database(postgres) as url,
        server_on(url, workers, chunk_bytes) as server,
        followed(url, server) as (shapes, followers),
    ):
        for _ in range(2):
            with bursts(url, "items"):
                until_received(shapes, followers, 1)
            with closing(psycopg.connect(url)) as lost:
                lost.execute("INSERT INTO items VALUES (-1, 1, 2, 'never committed')")
                getattr(postgres, how)()
                postgres.start()
            server.wait_active()
        with bursts(url, "items"):
            until_received(shapes, followers, 1)
        finish(url, server, shapes, followers)


# --- acknowledgement


def test_nothing_is_acknowledged_before_it_is_recorded(database_url: str) -> None:
    """The confirmed LSN is never past the recorded LSN."""
    with (
        server_on(database_url, 0, 1_000) as server,
        followed(database_url, server) as (shapes, followers),
        psycopg.connect(database_url, autocommit=True) as sql,
    ):
        confirmed = 0
        seen = set()
        with bursts(database_url, "items", 40) as is_over:
            while not is_over():
                before, confirmed = confirmed, confirmed_lsn(sql, server)
                assert before <= confirmed <= recorded_lsn(server)
                seen.add(confirmed)
                time.sleep(0.01)
        assert len(seen) > 3
        finish(database_url, server, shapes, followers)


def confirmed_lsn(sql: psycopg.Connection, server: Server) -> int:
    """The slot's confirmed LSN."""
    query = "SELECT confirmed_flush_lsn - '0/0' FROM pg_replication_slots WHERE slot_name = %s"
    (lsn,) = sql.execute(query, (server.slot,)).fetchone() or (0,)
    return int(lsn)


def recorded_lsn(server: Server) -> int:
    """The catalogue's recorded LSN."""
    (path,) = server.storage_dir.glob("catalogue.v*.sqlite")
    with closing(sqlite3.connect(path)) as catalogue:
        (value,) = catalogue.execute("SELECT value FROM facts WHERE name = 'recorded'").fetchone()
    return msgspec.json.decode(value, type=Recorded).lsn
