"""The publication or the slot is edited behind our back: no client keeps rows that the stream lacks."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import NamedTuple

import httpx
import psycopg
import pytest
from tests.support.clients.materialised import Materialised, Refetch
from tests.support.clients.pending import until
from tests.support.servers.servers import Server, running_server

TABLE = "CREATE TABLE items (id int PRIMARY KEY, v text)"
GENERATED = "CREATE TABLE items (id int PRIMARY KEY, v text, w text GENERATED ALWAYS AS (v) STORED)"


class Edit(NamedTuple):
    """A change of the publication, and how it is undone."""

    change: str
    undo: str
    reason: str
    """Why the table is refused until then; empty if it is mended by itself."""
    gap: str
    """What is not sent, or not as a whole, in between."""
    table: str = TABLE
    since: int = 140_000


EDITS = {
    "operations": Edit(
        "ALTER PUBLICATION {p} SET (publish = 'insert')",
        "ALTER PUBLICATION {p} SET (publish = 'insert, update, delete, truncate')",
        "does not publish all required operations",
        "DELETE FROM items WHERE id = 1",
    ),
    "row filter": Edit(
        "ALTER PUBLICATION {p} SET TABLE items WHERE (id > 50)",
        "ALTER PUBLICATION {p} SET TABLE items",
        "",  # the table leaves the publication with its last shape, and joins it without them
        "INSERT INTO items (id, v) VALUES (10, 'x')",
        since=150_000,
    ),
    "column list": Edit(
        "ALTER PUBLICATION {p} SET TABLE items (id, v)",
        "ALTER PUBLICATION {p} SET TABLE items",
        "",  # the table leaves the publication with its last shape, and joins it without them
        "INSERT INTO items (id, v) VALUES (10, 'x')",
        since=150_000,
    ),
}

GENERATED_COLUMNS = Edit(
    "ALTER PUBLICATION {p} SET (publish_generated_columns = none)",
    "ALTER PUBLICATION {p} SET (publish_generated_columns = stored)",
    "",
    "INSERT INTO items (id, v) VALUES (10, 'x')",
    GENERATED,
    since=180_000,
)


class Scene(NamedTuple):
    """A server, a session of the test, and a client that is up to date."""

    server: Server
    sql: psycopg.Connection
    client: httpx.Client
    shape: Materialised

    def run(self, statement: str) -> None:
        self.sql.execute(statement.format(p=self.server.publication))

    def is_ended(self) -> bool:
        """Whether the shape's handle gets a 409."""
        at = {"handle": self.shape.handle or "", "offset": str(self.shape.offset)}
        answer = self.client.get(self.shape.shape_url, params=self.shape.params | at)
        assert answer.status_code in (200, 409, 503), answer.text
        return answer.status_code == 409

    def first(self) -> httpx.Response:
        return self.client.get(self.server.shape_url, params={"table": "items", "offset": "-1"})

    def followed_to_the_end(self) -> Materialised:
        """A new client that has received the last changes. It refetches if the edit is noticed only now."""
        while True:
            again = Materialised(self.server.shape_url, {"table": "items"})
            try:
                again.catch_up(self.client)
                self.run("DELETE FROM items WHERE id = 201")
                self.run("UPDATE items SET v = 'last' WHERE id = 202")
                while "last" not in [row.get("v") for row in again.rows.values()]:
                    again.request(self.client, live=again.is_up_to_date)
                return again
            except Refetch:
                continue

    def check_healed(self) -> None:
        """Check that a new client has the rows of the table, also after a change of each kind."""
        until(lambda: self.first().status_code == 200, "a new shape")
        self.run("INSERT INTO items (id, v) VALUES (201, 'a'), (202, 'b')")
        again = self.followed_to_the_end()
        assert again.handle != self.shape.handle
        rows = self.sql.execute("SELECT id::text, v FROM items ORDER BY id").fetchall()
        assert sorted((row["id"], row["v"]) for row in again.rows.values()) == sorted(rows)


@contextmanager
def followed(sql: psycopg.Connection, url: str, table: str = TABLE, *, workers: int = 0) -> Iterator[Scene]:
    sql.execute(table)
    sql.execute("INSERT INTO items (id, v) SELECT i, 'old' FROM generate_series(1, 3) i")
    with (
        running_server(url, workers=workers, long_poll_timeout_ms=1000) as server,
        httpx.Client(timeout=60) as client,
    ):
        shape = Materialised(server.shape_url, {"table": "items"})
        shape.catch_up(client)
        yield Scene(server, sql, client, shape)


def require(sql: psycopg.Connection, edit: Edit) -> None:
    if sql.info.server_version < edit.since:
        pytest.skip("not in this version of Postgres")


def check_mended(sql: psycopg.Connection, url: str, edit: Edit) -> None:
    """A publication that sends less ends shapes, and the table is refused until it is mended."""
    require(sql, edit)
    with followed(sql, url, edit.table) as on:
        on.run(edit.change)
        until(on.is_ended, "the end of the shape")
        if edit.reason:
            until(lambda: edit.reason in on.first().text, "the reason")
        on.run(edit.undo)
        on.check_healed()


def check_gap(sql: psycopg.Connection, url: str, edit: Edit) -> None:
    """The publication is as before when the catalogs are read again; others write meanwhile."""
    require(sql, edit)
    stop = threading.Event()

    def write() -> None:
        with psycopg.connect(url, autocommit=True) as other:
            number = 1000
            while not stop.is_set():
                number += 1
                other.execute("INSERT INTO items (id, v) VALUES (%s, 'busy')", (number,))

    with followed(sql, url, edit.table) as on:
        writing = threading.Thread(target=write)
        writing.start()
        try:
            on.run(edit.change)
            on.run(edit.gap)
            on.run(edit.undo)
            until(on.is_ended, "the end of the shape")
        finally:
            stop.set()
            writing.join()
        on.check_healed()


@pytest.mark.parametrize("edit", EDITS.values(), ids=EDITS)
def test_a_publication_that_sends_less(sql: psycopg.Connection, database_url: str, edit: Edit) -> None:
    check_mended(sql, database_url, edit)


@pytest.mark.parametrize("edit", EDITS.values(), ids=EDITS)
def test_a_publication_that_sent_less_for_a_moment(
    sql: psycopg.Connection, database_url: str, edit: Edit
) -> None:
    check_gap(sql, database_url, edit)


@pytest.mark.each_postgres
@pytest.mark.parametrize("check", [check_mended, check_gap])
def test_a_publication_without_generated_columns(
    sql: psycopg.Connection, database_url: str, check: Callable[[psycopg.Connection, str, Edit], None]
) -> None:
    check(sql, database_url, GENERATED_COLUMNS)


@pytest.mark.parametrize("workers", [0, 1])
def test_a_publication_that_is_dropped_on_an_idle_database_is_made_again(
    sql: psycopg.Connection, database_url: str, workers: int
) -> None:
    """Nobody writes, so the walsender does not notice it."""
    with followed(sql, database_url, workers=workers) as on:
        on.run("DROP PUBLICATION {p}")
        until(on.is_ended, "the end of the shape")
        on.check_healed()


def test_a_publication_that_is_dropped_before_there_are_shapes_is_made_again(
    sql: psycopg.Connection, database_url: str
) -> None:
    sql.execute(TABLE)
    with running_server(database_url) as server, httpx.Client(timeout=60) as client:
        sql.execute(f"DROP PUBLICATION {server.publication}")
        scene = Scene(server, sql, client, Materialised(server.shape_url, {"table": "items"}))
        scene.check_healed()


def test_a_slot_that_is_dropped_under_the_stream_recreates_the_shapes(
    sql: psycopg.Connection, database_url: str
) -> None:
    with followed(sql, database_url) as on:
        slot = on.server.slot

        def drop() -> bool:
            on.run(
                "SELECT pg_terminate_backend(active_pid) FROM pg_replication_slots"
                f" WHERE slot_name = '{slot}' AND active_pid IS NOT NULL"
            )
            try:
                on.run(f"SELECT pg_drop_replication_slot('{slot}')")
            except psycopg.errors.ObjectInUse:
                return False
            return True

        until(drop, "the end of the slot")
        on.run("UPDATE items SET v = 'unseen' WHERE id = 1")
        until(on.is_ended, "the end of the shape")
        on.check_healed()
