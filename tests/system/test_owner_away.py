"""While the replicator does not run, its shapes can still be read. A request for a new shape gets 503."""

from __future__ import annotations

import os
import signal
import threading

import httpx
import psycopg
import pytest
from tests.support.clients.materialised import Materialised
from tests.support.clients.pending import until
from tests.support.servers.servers import running_server
from tests.support.storage.catalogue import is_durable

pytestmark = pytest.mark.slow


def test_a_replicator_that_waits_for_its_lock_keeps_its_shapes(database_url: str) -> None:
    """The replicator is killed and its lock taken by another session: a follower keeps its handle, and
    continues once the lock is free.
    """
    with (
        psycopg.connect(database_url, autocommit=True) as sql,
        psycopg.connect(database_url, autocommit=True) as other,
        running_server(database_url, workers=1, long_poll_timeout_ms=2000) as server,
        httpx.Client() as client,
    ):
        sql.execute("CREATE TABLE items (id int PRIMARY KEY)")
        shape = Materialised(server.shape_url, {"table": "items"})
        shape.catch_up(client)
        until(lambda: is_durable(server.storage_dir), "a durable snapshot")
        lock = threading.Thread(
            target=other.execute, args=("SELECT pg_advisory_lock(hashtext(%s))", (server.slot,))
        )
        lock.start()
        wait_until_queued(sql)
        os.kill(server.children()[0], signal.SIGKILL)
        lock.join(20)
        for _ in range(3):
            shape.request(client, live=True)
        unasked = {"table": "items", "offset": "-1", "where": "id > 5"}
        # The server waits for its owner for as long as httpx does by default.
        unknown = client.get(server.shape_url, params=unasked, timeout=60)
        assert unknown.status_code == 503, unknown.text
        other.execute("SELECT pg_advisory_unlock_all()")
        server.wait_active()
        sql.execute("INSERT INTO items VALUES (1)")
        while not shape.rows:
            shape.request(client, live=True)


def wait_until_queued(sql: psycopg.Connection) -> None:
    """Wait until another session waits for an advisory lock."""
    waiting = "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND NOT granted"
    while sql.execute(waiting).fetchone() != (1,):
        """The server answers in its own time."""
