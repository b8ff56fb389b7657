"""A server that is stopped answers requests that wait for something that does not come."""

from __future__ import annotations

import os
import signal
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpx
import psycopg
import pytest
from tests.support.clients.pending import until
from tests.support.servers.servers import Server, running_server

pytestmark = pytest.mark.slow


def ask(server: Server, **params: str) -> httpx.Response:
    """The answer to a request for a shape; for as long as it takes."""
    return httpx.get(server.shape_url, params={"table": "items", "offset": "-1", **params}, timeout=60)


@pytest.mark.parametrize(
    ("workers", "what"), [(0, "the server"), (2, "the server"), (2, "an HTTP process"), (2, "the supervisor")]
)
def test_a_request_for_a_shape_that_cannot_be_created(database_url: str, workers: int, what: str) -> None:
    """It is refused, and can be repeated; not broken off, and not answered with 500."""
    with (
        psycopg.connect(database_url) as locker,
        psycopg.connect(database_url, autocommit=True) as sql,
        running_server(database_url, workers=workers) as server,
        ThreadPoolExecutor() as pool,
    ):
        sql.execute("CREATE TABLE items (id int PRIMARY KEY)")
        sql.execute("ALTER TABLE items REPLICA IDENTITY FULL")
        assert ask(server, columns="id").status_code == 200
        locker.execute("LOCK TABLE items IN ACCESS EXCLUSIVE MODE")
        waiting = pool.submit(ask, server)  # without a clause, for which the table would be looked at first
        until(lambda: is_waiting(sql), "a snapshot that waits for the table")
        assert server.process is not None
        if what == "the server":
            server.stop()
        elif what == "an HTTP process":
            for pid in server.children()[1:]:
                os.kill(pid, signal.SIGTERM)
        else:
            os.kill(server.process.pid, signal.SIGKILL)
        answer = waiting.result()
        assert (answer.status_code, answer.headers.get("retry-after")) == (503, "1"), answer.text
        assert "The service is stopping" in answer.text
        assert "request failed" not in server.log_path.read_text()
        locker.rollback()


def is_waiting(sql: psycopg.Connection[Any]) -> bool:
    """Whether a session waits for a lock on a table."""
    query = "SELECT count(*) FROM pg_locks WHERE locktype = 'relation' AND NOT granted"
    return sql.execute(query).fetchone() != (0,)
