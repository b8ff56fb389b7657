"""Requests that run in threads while a test does something else."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from typing import Protocol

import httpx
import psycopg
from tests.support.clients.materialised import Materialised


class Ask(Protocol):
    """Sends a shape's next request from a thread."""

    def __call__(self, shape: Materialised, *, live: bool = False) -> Future[httpx.Response]: ...


WAIT_S = 60.0


@contextmanager
def pending_requests(client: httpx.Client) -> Iterator[Ask]:
    """A function that sends a shape's next request from a thread."""
    with ThreadPoolExecutor(8) as threads:

        def ask(shape: Materialised, *, live: bool = False) -> Future[httpx.Response]:
            return threads.submit(shape.request, client, live=live)

        yield ask


def until(happened: Callable[[], object], what: str) -> None:
    """Wait until a check is true."""
    deadline, pause_s = time.monotonic() + WAIT_S, 0.01
    while not happened():
        assert time.monotonic() < deadline, f"{what} did not happen"
        time.sleep(pause_s)
        pause_s = min(1.5 * pause_s, 0.1)


def until_query(connection: psycopg.Connection, query: str, *parameters: object) -> None:
    """Wait until a query returns a row."""
    until(lambda: connection.execute(query, parameters or None).fetchone() is not None, query)


def end_mark(connection: psycopg.Connection, statement: str) -> int:
    """Commit a change after everything else; a client that has seen this LSN has received everything."""
    found = connection.execute("SELECT pg_current_wal_insert_lsn() - '0/0'").fetchone()
    assert found is not None
    connection.execute(statement)
    return int(found[0])
