"""Connections to Postgres that are dead while nobody closes them, and sessions that end again and again."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any, NamedTuple

import httpx
import psycopg
import pytest
from tests.support.clients.pending import until
from tests.support.postgres.databases import fresh_database
from tests.support.servers.black_hole import Proxy, proxied
from tests.support.servers.servers import Server, running_server

from pgshapes.embedded.server import EmbeddedPostgres

END_S = 60.0


class Scene(NamedTuple):
    """A server that reaches its database through a proxy, and a session of the test."""

    server: Server
    proxy: Proxy
    sql: psycopg.Connection


@pytest.fixture
def scene(postgres_server: EmbeddedPostgres, request: pytest.FixtureRequest) -> Iterator[Scene]:
    """A table of one row with a shape on it; the walsender's timeout is short."""
    with (
        fresh_database(postgres_server) as url,
        psycopg.connect(url, autocommit=True) as sql,
        proxied(url) as (proxy, proxied_url),
    ):
        sql.execute(f"ALTER DATABASE {sql.info.dbname} SET wal_sender_timeout = '3s'")
        sql.execute("CREATE TABLE t (id int PRIMARY KEY)")
        sql.execute("INSERT INTO t VALUES (1)")
        with running_server(proxied_url, workers=getattr(request, "param", 0)) as server:
            yield Scene(server, proxy, sql)


def get(server: Server, **query: Any) -> httpx.Response:
    """One request for the shape on `t`."""
    return httpx.get(server.shape_url, params={"table": "t", **query}, timeout=END_S)


def read_until(server: Server, wanted: int) -> str:
    """Follow the shape from the beginning until a row arrives; return its handle. It is never a 409."""
    answer = get(server, offset="-1")
    handle, found = answer.headers["electric-handle"], set[str]()

    def has_arrived() -> bool:
        nonlocal answer
        assert answer.status_code == 200
        found.update(message["value"]["id"] for message in answer.json() if "value" in message)
        is_complete = "electric-up-to-date" in answer.headers
        answer = get(server, handle=handle, offset=answer.headers["electric-offset"])
        return is_complete and str(wanted) in found

    until(has_arrived, f"the row {wanted}")
    return handle


@pytest.mark.parametrize("scene", [0, 1], indirect=True)
def test_a_dead_stream_is_left_and_made_anew(scene: Scene) -> None:
    server = scene.server
    handle = get(server, offset="-1").headers["electric-handle"]
    scene.proxy.swallow()
    scene.sql.execute("INSERT INTO t VALUES (2)")
    assert read_until(server, 2) == handle
    assert re.search(r"reconnecting.*(has sent nothing|lock on the database)", server.log_path.read_text())
    until(lambda: httpx.get(f"{server.url}/v1/health", timeout=END_S).status_code == 200, "active")


@pytest.mark.parametrize("scene", [0, 1], indirect=True)
def test_a_server_whose_connections_are_dead_stops_by_itself(scene: Scene) -> None:
    """It is not killed after its time limit, and leaves no session that would keep the lock."""
    server = scene.server
    get(server, offset="-1")
    scene.proxy.swallow()
    scene.sql.execute("INSERT INTO t VALUES (2)")
    server.stop()
    assert "process killed" not in server.log_path.read_text()
    query = "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'pgshapes lock'"
    until(lambda: scene.sql.execute(query).fetchone() == (0,), "the end of the session with the lock")


def test_the_next_server_does_not_wait_long_for_a_lock_behind_a_dead_connection(scene: Scene) -> None:
    """It was killed, and nobody tells Postgres: its session is ended by the one that waits."""
    server = scene.server
    handle = read_until(server, 1)
    scene.proxy.swallow()
    server.kill()
    scene.sql.execute("INSERT INTO t VALUES (2)")
    server.start()
    assert read_until(server, 2) == handle
    assert "lock holder is terminated" in server.log_path.read_text()


@pytest.mark.parametrize("scene", [1], indirect=True)
def test_new_shapes_are_made_after_dead_connections(scene: Scene) -> None:
    server = scene.server
    assert get(server, offset="-1").status_code == 200
    scene.proxy.swallow()
    until(lambda: get(server, offset="-1", where="id > 0").status_code == 200, "a new shape")


def test_sessions_that_worked_are_made_anew_at_once(scene: Scene) -> None:
    """The pause before the next one does not grow with the number of those that were lost before."""
    server, sql = scene.server, scene.sql
    get(server, offset="-1")
    for number in range(2, 7):
        sql.execute("SELECT pg_sleep(1.2)")
        sql.execute(
            "SELECT pg_terminate_backend(active_pid) FROM pg_replication_slots WHERE slot_name = %s",
            (server.slot,),
        )
        sql.execute("INSERT INTO t VALUES (%s)", (number,))
        read_until(server, number)
    pauses = re.findall(r"reconnecting.*pause_s=([0-9.]+)", server.log_path.read_text())
    assert len(pauses) >= 5
    assert all(float(pause_s) < 1 for pause_s in pauses)
