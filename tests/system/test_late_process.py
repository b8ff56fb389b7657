"""An HTTP process that was stopped, or is busy, gets a removal late: its requests wait until it has it."""

from __future__ import annotations

import http.client
import json
import os
import signal
from contextlib import ExitStack
from typing import Any
from urllib.parse import urlencode

import psycopg
import pytest
from tests.support.clients.pending import until
from tests.support.servers.accepted import connections_to_both
from tests.support.servers.servers import running_server

pytestmark = pytest.mark.slow

SHAPES, COMMITS = 80, 600
"""So many that their changes do not fit into the buffer of the socket to a process that reads nothing."""


def send(connection: http.client.HTTPConnection, table: str, **query: str) -> None:
    """Send a request for a table."""
    connection.request("GET", "/v1/shape?" + urlencode({"table": table, "offset": "-1", **query}))


def ask(connection: http.client.HTTPConnection, table: str, **query: str) -> tuple[int, Any, list[Any]]:
    """Status, headers and messages of the answer to a request for a table."""
    send(connection, table, **query)
    return read(connection)


def read(connection: http.client.HTTPConnection) -> tuple[int, Any, list[Any]]:
    """Status, headers and messages of an answer."""
    response = connection.getresponse()
    body = json.loads(response.read())
    return response.status, response.headers, body if isinstance(body, list) else [body]


def ids_of_stream(response: http.client.HTTPResponse, count: int) -> list[int]:
    """The ids of so many rows of an event stream, in their order; fewer if it ends before."""
    ids: list[int] = []
    while len(ids) < count and (line := response.readline()):
        if line.startswith(b"data: ") and "value" in (message := json.loads(line[6:])):
            ids.append(int(message["value"]["id"]))
    return ids


def test_nobody_notices_that_a_process_is_late(database_url: str) -> None:
    """Neither a client of the shape that is removed meanwhile, nor those of others."""
    with (
        ExitStack() as stack,
        psycopg.connect(database_url, autocommit=True) as sql,
        running_server(database_url, workers=2) as server,
    ):
        sql.execute("CREATE TABLE items (id int PRIMARY KEY)")
        sql.execute("CREATE TABLE other (id int PRIMARY KEY)")
        late = server.children()[1]
        theirs, (ours, *_) = connections_to_both(stack, server, late, at_least=6)
        handles = {table: ask(ours, table)[1]["electric-handle"] for table in ("items", "other")}
        for number in range(SHAPES):
            assert ask(ours, "other", where=f"id > {-number}")[0] == 200
        live = {"handle": handles["other"], "offset": "0_0", "live": "true"}
        stream, poll, old, new, known, subset = theirs[:6]
        send(stream, "other", live_sse="true", **live)
        events = stream.getresponse()
        assert ask(poll, "other")[0] == 200
        send(poll, "other", **live)
        os.kill(late, signal.SIGSTOP)
        for number in range(COMMITS):
            sql.execute("INSERT INTO other VALUES (%s)", (number,))
        sql.execute("TRUNCATE items")
        gone = {"handle": handles["items"], "offset": "0_0"}
        until(lambda: ask(ours, "items", **gone)[0] == 409, "a 409 for the handle of the truncated table")
        send(old, "items", **gone)
        send(new, "items")
        send(known, "other")
        send(subset, "other", offset="now", subset__limit="5", subset__order_by="id")
        os.kill(late, signal.SIGCONT)
        assert read(old)[0] == 409
        assert read(new)[0] == 200
        assert read(known)[0] == 200
        assert read(subset)[0] == 200
        status, _, messages = read(poll)
        assert (status, messages[0]["value"]) == (200, {"id": "0"})
        assert ids_of_stream(events, COMMITS) == list(range(COMMITS))
