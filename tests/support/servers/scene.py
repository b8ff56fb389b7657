"""A scene: a server, a database session of the test, and clients, for a test of a single case."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import Future
from contextlib import contextmanager
from typing import Any, NamedTuple

import httpx
import psycopg
import pytest
from tests.support.clients.materialised import Materialised, Row
from tests.support.clients.pending import Ask, end_mark, pending_requests, until, until_query
from tests.support.servers.servers import Server, running_server

MODES = [pytest.param(0, 1_000, id="1kB"), pytest.param(2, 10_000, id="10kB-workers")]

LEFT_PUBLICATION = """SELECT FROM pg_class c WHERE relname = %s AND NOT EXISTS (
  SELECT FROM pg_publication_rel m WHERE m.prrelid = c.oid)"""


class Scene(NamedTuple):
    """A server, a session of the test on its database, and a client."""

    server: Server
    sql: psycopg.Connection
    client: httpx.Client
    ask: Ask

    def shape(self, **params: str) -> Materialised:
        """A client without rows."""
        return Materialised(self.server.shape_url, params)

    def follow_to_row(self, shape: Materialised, key: str) -> None:
        """Follow until a row is there."""
        while key not in shape.rows:
            shape.request(self.client, live=shape.is_up_to_date)

    def check(self, shapes: list[Materialised], table: str) -> None:
        """Follow each shape to the end of what was committed, and compare with a SELECT."""
        lsn = end_mark(self.sql, f"INSERT INTO {table} VALUES (999)")
        for shape in shapes:
            shape.follow_until(self.client, lsn)
            assert ids(shape.rows) == self.selected(table)

    def selected(self, table: str) -> list[int]:
        """The ids that a SELECT finds."""
        return [row[0] for row in self.sql.execute(f"SELECT id FROM {table} ORDER BY id")]


def ids(rows: dict[str, Row]) -> list[int]:
    """The ids of a client's rows."""
    return sorted(int(row["id"] or 0) for row in rows.values())


def key(table: str, row: int) -> str:
    """The key of a row."""
    return f'"public"."{table}"/"{row}"'


@contextmanager
def scene(url: str, **settings: Any) -> Iterator[Scene]:
    """A running server with an empty table `items`."""
    with (
        psycopg.connect(url.partition("?")[0], autocommit=True) as sql,
        running_server(url, allow_delete=True, long_poll_timeout_ms=1000, **settings) as server,
        httpx.Client() as client,
        pending_requests(client) as ask,
    ):
        sql.execute("CREATE TABLE items (id int PRIMARY KEY, pad text DEFAULT repeat('x', 300))")
        yield Scene(server, sql, client, ask)


@contextmanager
def open_writer(stage: Scene, *statements: str) -> Iterator[psycopg.Connection]:
    """A session with a transaction in which the statements have run."""
    with psycopg.connect(stage.sql.info.dsn, password=stage.sql.info.password) as session:
        for statement in statements:
            session.execute(statement)
        yield session


def publish_and_drop(stage: Scene, table: str, statement: str) -> None:
    """Create and delete a shape: the table is not in the publication any more, but its identity is FULL."""
    gone = stage.shape(table=table)
    gone.catch_up(stage.client)
    answer = stage.client.delete(stage.server.shape_url, params={"table": table, "handle": gone.handle or ""})
    assert answer.status_code == 202
    until_query(stage.sql, LEFT_PUBLICATION, table)
    stage.sql.execute(statement)


def until_waiting(stage: Scene, answer: Future[httpx.Response]) -> None:
    """Wait until a creation has logged that it waits for writers, or the request is answered."""
    until(lambda: answer.done() or has_waited(stage), "the wait for writers")


def has_waited(stage: Scene) -> bool:
    """Whether a creation has logged that it waits for writers."""
    return "shape creation waits for old writers" in stage.server.log_path.read_text()
