"""The WAL that the primary keeps for the slot has a limit, and what holds it is said."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from typing import NamedTuple

import httpx
import psycopg
import pytest
from tests.support.clients.pending import until
from tests.support.postgres.databases import fresh_database
from tests.support.servers.servers import Server, running_server

from pgshapes.embedded.server import EmbeddedPostgres

END_S = 60.0
LIMIT_BYTES = 20_000_000
TOLD = "replication slot keeps more WAL than max_retained_wal"


class Scene(NamedTuple):
    """A server with a limit, and a session of the test."""

    server: Server
    sql: psycopg.Connection
    url: str


@pytest.fixture
def scene(postgres_server: EmbeddedPostgres) -> Iterator[Scene]:
    """A table with a shape, and one that is not published."""
    with fresh_database(postgres_server) as url, psycopg.connect(url, autocommit=True) as sql:
        sql.execute("CREATE TABLE t (id int PRIMARY KEY)")
        sql.execute("INSERT INTO t VALUES (1)")
        sql.execute("CREATE TABLE noise (v text)")
        with running_server(url, max_retained_wal=LIMIT_BYTES) as server:
            yield Scene(server, sql, url)


def handle_of(server: Server, **query: str) -> str:
    """The handle of the shape on `t`."""
    answer = httpx.get(server.shape_url, params={"table": "t", "offset": "-1", **query}, timeout=END_S)
    return str(answer.headers.get("electric-handle", ""))


def write_noise(sql: psycopg.Connection) -> None:
    """Twice the limit, in several transactions."""
    for _ in range(4):
        sql.execute("INSERT INTO noise SELECT repeat(md5(i::text), 30) FROM generate_series(1, 10000) i")


def has_told(server: Server, *parts: str) -> bool:
    """Whether one line of the log has the event and all the parts."""
    lines = server.log_path.read_text().splitlines()
    return any(all(part in line for part in (TOLD, *parts)) for line in lines)


def test_an_open_transaction_is_named_and_no_shape_is_dropped(scene: Scene) -> None:
    handle = handle_of(scene.server)
    with psycopg.connect(scene.url, application_name="forgotten") as forgotten:
        forgotten.execute("INSERT INTO noise VALUES ('open')")
        write_noise(scene.sql)
        wanted = (f"pid {forgotten.info.backend_pid} of", "forgotten", "dropping shapes does not help")
        until(lambda: has_told(scene.server, *wanted), "a line about the transaction")
        assert handle_of(scene.server) == handle
        health = httpx.get(f"{scene.server.url}/v1/health", timeout=END_S)
        assert health.status_code == 200
        assert 'held_by="an open transaction"' in health.headers["pgshapes-replication"]


def test_a_stream_that_stands_still_costs_the_shapes_and_not_the_disk(scene: Scene) -> None:
    server, sql = scene.server, scene.sql
    handle = handle_of(server)
    row = sql.execute(
        "SELECT active_pid FROM pg_replication_slots WHERE slot_name = %s", (server.slot,)
    ).fetchone()
    assert row is not None
    os.kill(row[0], signal.SIGSTOP)
    try:
        write_noise(sql)
        until(lambda: has_told(server, "changes that are not processed yet"), "a line about the limit")
        until(lambda: "replication slot is recreated" in server.log_path.read_text(), "its recreation")
    finally:
        os.kill(row[0], signal.SIGCONT)
    until(lambda: handle_of(server) not in ("", handle), "a new shape")
    answer = httpx.get(
        server.shape_url, params={"table": "t", "handle": handle, "offset": "0_inf"}, timeout=END_S
    )
    assert answer.status_code == 409
    sql.execute("CHECKPOINT")
    until(lambda: retained(sql, server.slot) < LIMIT_BYTES, "less WAL than the limit")


def retained(sql: psycopg.Connection, slot: str) -> int:
    """How much WAL the slot keeps; nothing without a slot."""
    row = sql.execute(
        "SELECT pg_current_wal_lsn() - restart_lsn FROM pg_replication_slots WHERE slot_name = %s", (slot,)
    ).fetchone()
    return 0 if row is None or row[0] is None else int(row[0])
