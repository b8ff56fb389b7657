"""While the replicator does not run, its shapes can still be read. A request for a new shape gets 503.

Once there is another replicator, no process serves from the tables of the one before.
"""

from __future__ import annotations

import http.client
import os
import resource
import signal
import threading
from contextlib import ExitStack
from urllib.parse import urlencode

import httpx
import psycopg
import pytest
from tests.support.clients.materialised import Materialised
from tests.support.clients.pending import until
from tests.support.servers.accepted import connections_to_both
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


@pytest.mark.parametrize("fault", [signal.SIGKILL, signal.SIGSTOP])
def test_a_process_that_starts_meanwhile_serves_what_is_known(
    database_url: str, fault: signal.Signals
) -> None:
    """The replicator is killed and cannot get its lock, or is stopped; then the HTTP process is killed."""
    with (
        psycopg.connect(database_url, autocommit=True) as sql,
        psycopg.connect(database_url, autocommit=True) as other,
        running_server(database_url, workers=1, long_poll_timeout_ms=500) as server,
        httpx.Client(timeout=60, headers={"connection": "close"}) as client,
    ):
        sql.execute("CREATE TABLE items (id int PRIMARY KEY, n text)")
        sql.execute("INSERT INTO items VALUES (1, 'a'), (2, 'b')")
        known = [{"table": "items"}, {"table": "items", "where": "n > 'a' and id < 7", "columns": "n,id"}]
        shapes = [Materialised(server.shape_url, each) for each in known]
        for shape in shapes:
            shape.catch_up(client)
        sql.execute("INSERT INTO items VALUES (3, 'c')")
        for shape in shapes:
            shape.request(client, live=True)
        until(lambda: is_durable(server.storage_dir), "a durable snapshot")
        if fault is signal.SIGKILL:
            lock = threading.Thread(
                target=other.execute, args=("SELECT pg_advisory_lock(hashtext(%s))", (server.slot,))
            )
            lock.start()
            wait_until_queued(sql)
        replicator, web = server.children()[:2]
        os.kill(replicator, fault)
        os.kill(web, signal.SIGKILL)
        until(lambda: web not in server.children(), "the end of the HTTP process")
        for shape, definition in zip(shapes, known, strict=True):
            before = dict(shape.rows)
            shape.request(client, live=True)
            again = Materialised(server.shape_url, definition)
            again.catch_up(client)
            assert again.rows == shape.rows == before
            assert again.handle == shape.handle
        unknown = client.get(server.shape_url, params={"table": "items", "offset": "-1", "where": "id > 5"})
        assert unknown.status_code == 503, unknown.text
        if fault is signal.SIGKILL:
            other.execute("SELECT pg_advisory_unlock_all()")
        else:
            os.kill(replicator, signal.SIGCONT)
        server.wait_active()
        old, rows = [shape.handle for shape in shapes], [len(shape.rows) for shape in shapes]
        sql.execute("INSERT INTO items VALUES (4, 'd')")
        for shape, number in zip(shapes, rows, strict=True):
            while len(shape.rows) == number:
                shape.request(client, live=True)
        assert [shape.handle for shape in shapes] == old, "nobody has to refetch"


def wait_until_queued(sql: psycopg.Connection) -> None:
    """Wait until another session waits for an advisory lock."""
    waiting = "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND NOT granted"
    while sql.execute(waiting).fetchone() != (1,):
        """The server answers in its own time."""


def answer(connection: http.client.HTTPConnection, **query: str) -> tuple[int, str | None]:
    """Status and handle of the answer to a request for the table."""
    connection.request("GET", "/v1/shape?" + urlencode({"table": "items", **query}))
    response = connection.getresponse()
    response.read()
    return response.status, response.headers.get("electric-handle")


@pytest.mark.parametrize("fault", ["no descriptors", "stopped"])
def test_a_handle_does_not_come_back_after_its_409(database_url: str, fault: str) -> None:
    """One of two processes cannot get the tables of the new replicator: it cannot open a socket, or was
    stopped and answers requests that were sent meanwhile before it notices anything.
    """
    with (
        ExitStack() as stack,
        psycopg.connect(database_url, autocommit=True) as sql,
        running_server(database_url, workers=2) as server,
    ):
        sql.execute("CREATE TABLE items (id int PRIMARY KEY)")
        sql.execute("INSERT INTO items VALUES (1)")
        replicator, cut_off, *_ = server.children()
        theirs, ours = connections_to_both(stack, server, cut_off)
        handles = {answer(connection, offset="-1")[1] for connection in (*theirs, *ours)}
        (old,) = handles
        assert old is not None
        until(lambda: is_durable(server.storage_dir), "a durable snapshot")
        if fault == "stopped":
            os.kill(cut_off, signal.SIGSTOP)
        else:
            limits = resource.prlimit(cut_off, resource.RLIMIT_NOFILE)
            resource.prlimit(cut_off, resource.RLIMIT_NOFILE, (0, limits[1]))
        os.kill(replicator, signal.SIGKILL)
        until(lambda: has_new(ours[0]), "a new replicator")
        sql.execute("TRUNCATE items")
        until(lambda: answer(ours[0], offset="0_0", handle=old)[0] == 409, "a 409 for the old handle")
        for connection in theirs:
            connection.request("GET", f"/v1/shape?table=items&offset=0_0&handle={old}")
        if fault == "stopped":
            os.kill(cut_off, signal.SIGCONT)
        seen = [(response.status, response.headers.get("electric-handle")) for response in map(read, theirs)]
        assert {status for status, _ in seen} <= {409, 503}
        assert old not in {handle for _, handle in seen}
        if fault == "no descriptors":
            assert {status for status, _ in seen} == {503}
            resource.prlimit(cut_off, resource.RLIMIT_NOFILE, limits)
        for connection in theirs:
            until(lambda each=connection: answer(each, offset="-1")[0] == 200, "the new tables")  # type: ignore[misc]


def read(connection: http.client.HTTPConnection) -> http.client.HTTPResponse:
    """The response, read completely."""
    response = connection.getresponse()
    response.read()
    return response


def has_new(connection: http.client.HTTPConnection) -> bool:
    """Whether a shape could be created that nobody has requested before."""
    return answer(connection, offset="-1", where="id < 5")[0] == 200
