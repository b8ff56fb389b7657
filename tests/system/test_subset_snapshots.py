"""Subset snapshots of the whole program: combined with the log they are the table, nothing lost or repeated.

Each case is produced deterministically, except for the one under load.
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any, NamedTuple

import httpx
import psycopg
import pytest
from tests.support.clients.materialised import Refetch
from tests.support.clients.pending import until, until_query
from tests.support.clients.subset_client import SubsetClient
from tests.support.postgres import writers
from tests.support.postgres.databases import fresh_database
from tests.support.postgres.installations import postgres_of
from tests.support.postgres.selected import select_rows
from tests.support.postgres.unconfirmed import UNCONFIRMED_SETTINGS, patient_url, unconfirmed
from tests.support.servers.servers import Server, running_server

from pgshapes.embedded.server import EmbeddedPostgres

WORKERS = [pytest.param(0, id="one process"), pytest.param(2, id="workers")]
SMALL_TABLE = "CREATE TABLE items (id int PRIMARY KEY, value text)"


class Scene(NamedTuple):
    """A server, a session of the test on its database, and connections to the server."""

    server: Server
    sql: psycopg.Connection
    client: httpx.Client

    def subsets(self, **params: str) -> SubsetClient:
        """A client without rows."""
        return SubsetClient(self.server.shape_url, params)


@contextmanager
def scene(url: str, **settings: Any) -> Iterator[Scene]:
    """A running server on a database."""
    with (
        psycopg.connect(url.partition("?")[0], autocommit=True) as sql,
        running_server(url, long_poll_timeout_ms=1000, **settings) as server,
        httpx.Client() as client,
    ):
        yield Scene(server, sql, client)


def mark_end(sql: psycopg.Connection, row: int) -> int:
    """Insert a row after everything else; a client that has seen this LSN has received everything before
    it.
    """
    found = sql.execute("SELECT pg_current_wal_insert_lsn() - '0/0'").fetchone()
    assert found is not None
    sql.execute("INSERT INTO items VALUES (%s)", (row,))
    return int(found[0])


@pytest.mark.timeout(300)
@pytest.mark.parametrize("workers", WORKERS)
@pytest.mark.parametrize("chunk_bytes", [1_000, 10_485_760], ids=["1kB", "default"])
def test_subsets_and_changes_make_the_table(database_url: str, workers: int, chunk_bytes: int) -> None:
    """Subsets are loaded while eight writers commit; then all rows are there, and nothing was sent twice."""
    chance = random.Random(workers + chunk_bytes)
    with scene(database_url, workers=workers, chunk_bytes_threshold=chunk_bytes) as stage:
        stage.sql.execute(writers.CREATE.format(table="items"))
        stage.sql.execute("INSERT INTO items SELECT n, n % 5 + 1, n, 'x' FROM generate_series(1, 400) n")
        shape = stage.subsets(table="items", where="tenant < 3 OR tenant < 9")
        with writers.writing(database_url, "items"):
            for _ in range(8):
                for tenant in chance.sample(range(1, 6), 5):
                    shape.load(stage.client, where="tenant = $1", params=f'{{"1": {tenant}}}')
                    for _ in range(chance.randint(0, 2)):
                        shape.follow(stage.client)
                shape.load(stage.client, order_by="n DESC, id", limit="50", offset=str(chance.randint(0, 99)))
        _, lsn, expected = select_rows(stage.sql, "items")
        stage.sql.execute("INSERT INTO items VALUES (9999, 1, 1, '')")
        shape.follow_until(stage.client, lsn)
        del shape.rows['"public"."items"/"9999"']
        assert shape.rows == expected
        assert shape.dropped > 0


@pytest.fixture(scope="module")
def unconfirmed_server() -> Iterator[EmbeddedPostgres]:
    """A Postgres on which commits wait for a synchronous standby that does not exist."""
    with postgres_of(settings=UNCONFIRMED_SETTINGS) as server:
        yield server


@pytest.fixture
def unconfirmed_url(unconfirmed_server: EmbeddedPostgres) -> Iterator[str]:
    with fresh_database(unconfirmed_server) as url:
        yield patient_url(url)


@pytest.mark.parametrize("becomes_available", [False, True], ids=["running", "kill"])
@pytest.mark.parametrize("workers", WORKERS)
def test_a_change_that_was_sent_and_is_not_visible_yet(
    unconfirmed_url: str, workers: int, becomes_available: bool
) -> None:
    """A snapshot without a change that the client has would undo it, so the request waits for the change."""
    with (
        scene(unconfirmed_url, workers=workers) as stage,
        unconfirmed(stage.sql) as hanging,
        ThreadPoolExecutor(1) as threads,
    ):
        stage.sql.execute(SMALL_TABLE)
        stage.sql.execute("INSERT INTO items VALUES (1, 'old')")
        shape = stage.subsets(table="items")
        shape.load(stage.client, where="id = 1")
        hanging.begin("UPDATE items SET value = 'new' WHERE id = 1")
        hanging.hang()
        while shape.rows['"public"."items"/"1"']["value"] != "new":
            shape.follow(stage.client)
        assert stage.sql.execute("SELECT value FROM items").fetchone() == ("old",)
        if becomes_available:
            until_acknowledged(stage, shape)
            stage.server.kill()
            stage.server.start()
        answer = threads.submit(shape.load, stage.client, where="id = 1")
        until_retaken(stage.sql, answer)
        hanging.release()
        answer.result()
        assert shape.rows['"public"."items"/"1"'] == {"id": "1", "value": "new"}
        shape.follow_until(stage.client, mark_end(stage.sql, 2))
        assert shape.rows['"public"."items"/"1"'] == {"id": "1", "value": "new"}


def until_acknowledged(stage: Scene, shape: SubsetClient) -> None:
    """Wait until the shape, and the last change that the client received, would survive a kill."""
    last = max(lsn for _, lsn in shape.applied.values())
    acknowledged = (
        "SELECT FROM pg_replication_slots WHERE slot_name = %s AND confirmed_flush_lsn - '0/0' > %s"
    )
    until_query(stage.sql, acknowledged, stage.server.slot, last)


def until_retaken(sql: psycopg.Connection, answer: Future[httpx.Response]) -> None:
    """Wait until a subset's snapshot was discarded."""
    discarded = (
        "SELECT FROM pg_stat_activity WHERE application_name = 'pgshapes subsets' AND query = 'ROLLBACK'"
        " AND datname = current_database()"
    )
    until(lambda: answer.done() or sql.execute(discarded).fetchone() is not None, "a retake")
    assert not answer.done(), answer.result().text


@pytest.mark.parametrize("workers", WORKERS)
def test_a_restart_between_a_subset_and_the_log(database_url: str, workers: int) -> None:
    with scene(database_url, workers=workers) as stage:
        stage.sql.execute(SMALL_TABLE)
        stage.sql.execute("INSERT INTO items VALUES (1, 'one'), (2, 'two')")
        shape = stage.subsets(table="items")
        shape.load(stage.client, where="id = 1")
        shape.follow_until(stage.client, mark_end(stage.sql, 3))
        until_acknowledged(stage, shape)
        stage.server.kill()
        stage.sql.execute("UPDATE items SET value = 'changed'")
        stage.server.start()
        shape.load(stage.client, where="id < 3")
        shape.follow_until(stage.client, mark_end(stage.sql, 4))
        values = {row["id"]: row["value"] for row in shape.rows.values()}
        assert values == {"1": "changed", "2": "changed", "3": "changed", "4": None}


@pytest.mark.parametrize("workers", WORKERS)
def test_another_table_of_the_same_name(database_url: str, workers: int) -> None:
    """The stream does not report that a table was dropped; the rows of the new one are not the shape's."""
    with scene(database_url, workers=workers) as stage:
        stage.sql.execute(SMALL_TABLE)
        shape = stage.subsets(table="items")
        shape.load(stage.client, where="true")
        stage.sql.execute("DROP TABLE items")
        stage.sql.execute(SMALL_TABLE)
        stage.sql.execute("INSERT INTO items VALUES (1, 'another')")
        with pytest.raises(Refetch):
            shape.load(stage.client, where="true")
        again = stage.subsets(table="items")
        again.load(stage.client, where="true")
        assert again.handle != shape.handle
        assert list(again.rows.values()) == [{"id": "1", "value": "another"}]
        with pytest.raises(Refetch, match=again.handle):
            shape.load(stage.client, where="true")


@pytest.mark.parametrize("workers", WORKERS)
def test_the_query_of_a_client_that_disconnects_is_cancelled(database_url: str, workers: int) -> None:
    waiting = "SELECT FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND query LIKE '%%LOCK TABLE%%'"
    with scene(database_url, workers=workers) as stage:
        stage.sql.execute(SMALL_TABLE)
        shape = stage.subsets(table="items")
        shape.load(stage.client, where="true")
        with stage.sql.transaction():
            stage.sql.execute("LOCK TABLE items IN ACCESS EXCLUSIVE MODE")
            url = f"{stage.server.shape_url}?table=items&log=changes_only&offset=-1&subset__where=true"
            with pytest.raises(httpx.ReadTimeout):
                httpx.get(url, timeout=0.5)
            until(lambda: stage.sql.execute(waiting).fetchone() is None, "the end of the query")
        shape.load(stage.client, where="true")


def test_subsets_do_not_pass_through_the_owner(database_url: str) -> None:
    """The owner's process has its own connections, which subsets do not use."""
    with scene(database_url, workers=2) as stage:
        stage.sql.execute(SMALL_TABLE)
        shape = stage.subsets(table="items")
        for _ in range(20):
            shape.load(stage.client, where="id > 0")
        until_query(
            stage.sql,
            "SELECT FROM pg_stat_activity WHERE application_name = 'pgshapes subsets' GROUP BY datname"
            " HAVING count(*) BETWEEN 1 AND 4",
        )
