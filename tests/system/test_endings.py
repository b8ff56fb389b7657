"""When a shape is removed, every client gets a 409, and its handle is never valid again.

A shape is not removed when only columns change that it does not have.
"""

from __future__ import annotations

import threading
from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from itertools import count, product

import httpx
import psycopg
import pytest
from tests.support.clients.materialised import Materialised, Row
from tests.support.clients.pending import until
from tests.support.servers.servers import Server, running_server
from tests.system.conftest import Environment

CREATE = """
CREATE TABLE {t} (id int PRIMARY KEY, a int, b int, c int);
CREATE TABLE {t}_other (id int PRIMARY KEY)
"""
CREATE_PARTITIONED = """
CREATE TABLE {t} (id int PRIMARY KEY, a int, b int, c int) PARTITION BY HASH (id);
CREATE TABLE {t}_even PARTITION OF {t} FOR VALUES WITH (MODULUS 2, REMAINDER 0);
CREATE TABLE {t}_odd (c int, b int, a int, id int PRIMARY KEY);
ALTER TABLE {t} ATTACH PARTITION {t}_odd FOR VALUES WITH (MODULUS 2, REMAINDER 1);
CREATE TABLE {t}_other (id int PRIMARY KEY)
"""
FILL = "INSERT INTO {t} SELECT i, 10 * i, 100 * i, 1000 * i FROM generate_series(1, 2) i"
SOME = {"columns": "id,a"}
INSERT = "INSERT INTO {t} (id) VALUES (3)"

ENDS = {
    "a column added": ({}, "ALTER TABLE {t} ADD COLUMN extra int", INSERT),
    "a column dropped": ({}, "ALTER TABLE {t} DROP COLUMN c", INSERT),
    "a column renamed": ({}, "ALTER TABLE {t} RENAME COLUMN c TO d", INSERT),
    "a column swapped for another": (
        {},
        "ALTER TABLE {t} DROP COLUMN c; ALTER TABLE {t} ADD COLUMN c text",
        INSERT,
    ),
    "a selected column renamed": (SOME, "ALTER TABLE {t} RENAME COLUMN a TO d", INSERT),
    "a selected column dropped": (SOME, "ALTER TABLE {t} DROP COLUMN a", INSERT),
    "a selected column retyped": (SOME, "ALTER TABLE {t} ALTER COLUMN a TYPE bigint", INSERT),
    "a column of the clause retyped": (
        {**SOME, "where": "b > 0"},
        "ALTER TABLE {t} ALTER COLUMN b TYPE text",
        "INSERT INTO {t} (id, b) VALUES (3, '1')",
    ),
    "a column of the clause dropped": (
        {**SOME, "where": "b > 0"},
        "ALTER TABLE {t} DROP COLUMN b",
        INSERT,
    ),
    "the table renamed": ({}, "ALTER TABLE {t} RENAME TO {t}_new", "INSERT INTO {t}_new (id) VALUES (3)"),
    "truncated": ({}, "TRUNCATE {t}", INSERT),
    "truncated and filled": ({}, "BEGIN; TRUNCATE {t}; INSERT INTO {t} VALUES (1, 2, 3, 4); COMMIT", INSERT),
}
KEPT = {
    "a column added": (SOME, "ALTER TABLE {t} ADD COLUMN extra int DEFAULT 7"),
    "another column dropped": (SOME, "ALTER TABLE {t} DROP COLUMN c"),
    "a column before the selected ones dropped and added": (
        {"columns": "id,b"},
        "ALTER TABLE {t} DROP COLUMN a; ALTER TABLE {t} ADD COLUMN a text",
    ),
    "another column renamed": (SOME, "ALTER TABLE {t} RENAME COLUMN c TO d"),
    "another column retyped": (SOME, "ALTER TABLE {t} ALTER COLUMN c TYPE bigint"),
    "another column beside a clause dropped": (
        {**SOME, "where": "b > 0 OR b IS NULL"},
        "ALTER TABLE {t} DROP COLUMN c",
    ),
    "a default": ({}, "ALTER TABLE {t} ALTER COLUMN a SET DEFAULT 5"),
    "not null": (
        {},
        "UPDATE {t} SET a = 0; ALTER TABLE {t} ALTER COLUMN a SET DEFAULT 5, ALTER a SET NOT NULL",
    ),
    "another table": ({}, "ALTER TABLE {t}_other ADD COLUMN extra int; TRUNCATE {t}_other"),
    "an index": ({}, "CREATE INDEX ON {t} (a)"),
}

_numbers = count(1)


@contextmanager
def followed(
    env: Environment, params: dict[str, str], *, create: str = CREATE, held: int = 4
) -> Iterator[Followed]:
    """A shape on a table of its own, with live requests held on it."""
    table = f"t{next(_numbers)}"
    env.sql.execute((create + ";" + FILL).format(t=table))
    shape = Shape(env.server.shape_url, {"table": table, **params})
    with httpx.Client(verify=False) as client, ThreadPoolExecutor(held or 1) as threads:
        shape.catch_up(client)
        yield Followed(table, shape, [threads.submit(wait, shape) for _ in range(held)])


class Shape(Materialised):
    """A client of a table with a column `id`."""

    def follow_to(self, client: httpx.Client, row: int) -> None:
        """Follow until a row is there."""
        while str(row) not in [values["id"] for values in self.rows.values()]:
            self.request(client, live=self.is_up_to_date)


class Followed:
    """A table, its shape, and the live requests held on it."""

    def __init__(self, table: str, shape: Shape, held: list[Future[httpx.Response]]) -> None:
        self.table = table
        self.shape = shape
        self.held = held


@contextmanager
def live_request(shape: Materialised) -> Iterator[Future[httpx.Response]]:
    """A live request that is sent before the block runs."""
    is_sent = threading.Event()
    with ThreadPoolExecutor(1) as thread:
        response = thread.submit(wait, shape, is_sent)
        assert is_sent.wait(60)
        yield response


def wait(shape: Materialised, is_sent: threading.Event | None = None) -> httpx.Response:
    """The response to a live request on its own connection, repeated while it brings no data."""
    with httpx.Client(verify=False) as client:
        if is_sent is not None:
            client.event_hooks = {"request": [lambda _: is_sent.set()]}
        while True:
            response = ask(client, shape, live="true")
            if response.headers.get("electric-has-data") != "false":
                return response


def ask(client: httpx.Client, shape: Materialised, **more: str) -> httpx.Response:
    """A request with the shape's handle at its offset."""
    params = shape.params | {"handle": shape.handle or "", "offset": str(shape.offset), **more}
    return client.get(shape.shape_url, params=params, timeout=60)


def check_gone(shape: Materialised) -> None:
    """Check that no process accepts the handle, at any offset."""
    for _ in range(6):
        with httpx.Client(verify=False) as client:
            for offset in (str(shape.offset), "0_0", "0_inf"):
                answer = ask(client, shape, offset=offset)
                assert answer.status_code == 409, answer.text
                assert answer.headers.get("electric-handle") != shape.handle


def check_recreated(sql: psycopg.Connection, shape: Materialised, table: str) -> None:
    """Check that the next shape of the definition has the current rows of the table."""
    again = Materialised(shape.shape_url, {"table": table})
    with httpx.Client() as client:
        again.catch_up(client)
        assert again.handle != shape.handle
        assert by_id(again.rows.values()) == by_id(selected(sql, table))


def selected(sql: psycopg.Connection, table: str) -> list[Row]:
    """The table's rows as text."""
    rows = sql.execute(f"SELECT * FROM {table}")
    names = [column.name for column in rows.description or ()]
    return [
        {name: None if value is None else str(value) for name, value in zip(names, row, strict=True)}
        for row in rows
    ]


def by_id(rows: Iterable[Row]) -> dict[str | None, Row]:
    """The rows by their ids."""
    return {row["id"]: row for row in rows}


KINDS = {"plain": CREATE, "partitioned": CREATE_PARTITIONED}
NOT_IN_STREAM_FOR_ROOTS = ("the table renamed", "partitioned")
"""The stream names only leaves."""


@pytest.mark.parametrize(
    ("name", "kind"), [case for case in product(ENDS, KINDS) if case != NOT_IN_STREAM_FOR_ROOTS]
)
def test_every_client_gets_a_409(env: Environment, name: str, kind: str) -> None:
    params, alteration, change = ENDS[name]
    with followed(env, params, create=KINDS[kind]) as on:
        env.sql.execute(alteration.format(t=on.table))
        env.sql.execute(change.format(t=on.table))
        for held in on.held:
            assert_ended(held.result())
        check_gone(on.shape)
        check_recreated(env.sql, on.shape, on.table + ("_new" if "RENAME TO" in alteration else ""))


def assert_ended(answer: httpx.Response) -> None:
    """The body of a 409."""
    assert answer.status_code == 409, answer.text
    assert answer.json() == [{"headers": {"control": "must-refetch"}}]


@pytest.mark.parametrize(("name", "kind"), [*product(KEPT, KINDS)])
def test_a_change_of_columns_outside_the_shape_does_not_end_it(
    env: Environment, name: str, kind: str
) -> None:
    params, alteration = KEPT[name]
    with followed(env, params, create=KINDS[kind], held=1) as on, httpx.Client() as client:
        env.sql.execute(alteration.format(t=on.table))
        env.sql.execute(INSERT.format(t=on.table))
        env.sql.execute(f"UPDATE {on.table} SET id = 4 WHERE id = 2")
        key = f'"public"."{on.table}"/"4"'
        while key not in on.shape.rows:
            on.shape.request(client, live=True)
        columns = params.get("columns", "*")
        expected = selected(env.sql, f"(SELECT {columns} FROM {on.table}) t")
        assert by_id(on.shape.rows.values()) == by_id(expected)
        assert on.held[0].result().status_code == 200


def test_deleted_on_request(env: Environment) -> None:
    with followed(env, {}) as on, httpx.Client() as client:
        definition = {**on.shape.params, "handle": on.shape.handle or ""}
        assert client.delete(on.shape.shape_url, params=definition).status_code == 202
        for answer in on.held:
            assert_ended(answer.result())
        check_gone(on.shape)
        check_recreated(env.sql, on.shape, on.table)


def test_a_removed_handle_is_not_valid_after_a_restart(env: Environment) -> None:
    """Also when the server is killed as soon as the first client has its 409."""
    with followed(env, {}) as on:
        env.sql.execute(f"TRUNCATE {on.table}")
        for answer in on.held:
            assert_ended(answer.result())
        env.server.kill()
        env.server.start()
        check_gone(on.shape)
        check_recreated(env.sql, on.shape, on.table)


def test_shapes_with_different_columns_of_one_table(env: Environment) -> None:
    """One was created before a column was added, one after; also after a restart."""
    with followed(env, SOME, held=0) as on, httpx.Client() as client:
        env.sql.execute(f"ALTER TABLE {on.table} DROP COLUMN b; ALTER TABLE {on.table} ADD COLUMN d text")
        env.sql.execute(f"INSERT INTO {on.table} (id, d) VALUES (3, 'three')")
        on.shape.follow_to(client, 3)
        younger = Shape(on.shape.shape_url, {"table": on.table, "where": "d IS NULL OR d <> 'x'"})
        younger.catch_up(client)
        env.server.stop()
        env.server.start()
        env.sql.execute(f"INSERT INTO {on.table} (id, a, d) VALUES (4, 1, 'four'), (5, 2, 'x')")
        env.sql.execute(f"UPDATE {on.table} SET d = 'two' WHERE id = 2")
        env.sql.execute(f"INSERT INTO {on.table} (id, d) VALUES (6, 'six')")
        for shape in (on.shape, younger):
            shape.follow_to(client, 6)
        assert by_id(on.shape.rows.values()) == by_id(selected(env.sql, f"(SELECT id, a FROM {on.table}) t"))
        assert by_id(younger.rows.values()) == by_id(
            selected(env.sql, f"(SELECT * FROM {on.table} WHERE d IS NULL OR d <> 'x') t")
        )


def test_a_truncate_that_the_snapshot_has_seen_ends_nothing(env: Environment) -> None:
    """The shape's snapshot was taken after it."""
    env.sql.execute("CREATE TABLE emptied (id int PRIMARY KEY); INSERT INTO emptied VALUES (1)")
    env.sql.execute("TRUNCATE emptied; INSERT INTO emptied VALUES (2)")
    shape = Materialised(env.server.shape_url, {"table": "emptied"})
    with httpx.Client() as client:
        shape.catch_up(client)
        env.sql.execute("INSERT INTO emptied VALUES (3)")
        while '"public"."emptied"/"3"' not in shape.rows:
            shape.request(client, live=True)
    assert sorted(row["id"] or "" for row in shape.rows.values()) == ["2", "3"]


# --- changes that are not in the stream

NOT_IN_STREAM = {
    "dropped": "DROP TABLE quiet",
    "dropped and made again": "DROP TABLE quiet; CREATE TABLE quiet (id int PRIMARY KEY, a int)",
    "renamed": "ALTER TABLE quiet RENAME TO loud",
    "a column added": "ALTER TABLE quiet ADD COLUMN b int",
    "the key changed": "ALTER TABLE quiet DROP CONSTRAINT quiet_pkey, ADD PRIMARY KEY (a, id)",
    "moved": "CREATE SCHEMA attic; ALTER TABLE quiet SET SCHEMA attic",
    "out of the publication": "ALTER PUBLICATION {p} DROP TABLE quiet",
    "out of the publication and in again": (
        "ALTER PUBLICATION {p} DROP TABLE quiet; INSERT INTO quiet VALUES (7);"
        " ALTER PUBLICATION {p} ADD TABLE quiet"
    ),
}


@pytest.fixture
def frequent_checks(database_url: str) -> Iterator[Server]:
    """A server that checks the system catalogs every 0.2 s."""
    with running_server(
        database_url, module="tests.support.servers.frequent_checks_server", long_poll_timeout_ms=1000
    ) as server:
        yield server


@pytest.mark.parametrize("name", NOT_IN_STREAM)
def test_a_change_of_a_table_that_the_stream_does_not_report(frequent_checks: Server, name: str) -> None:
    """No change of a row follows that would announce it; the periodic check of the system catalogs finds
    it.
    """
    with httpx.Client() as client, psycopg.connect(frequent_checks.database_url, autocommit=True) as sql:
        sql.execute("CREATE TABLE quiet (id int PRIMARY KEY, a int); INSERT INTO quiet VALUES (1, 2)")
        shape = Materialised(frequent_checks.shape_url, {"table": "quiet"})
        shape.catch_up(client)
        with live_request(shape) as response:
            sql.execute(NOT_IN_STREAM[name].format(p=frequent_checks.publication))
            assert response.result().status_code == 409
        check_gone(shape)
        sql.execute("CREATE TABLE IF NOT EXISTS quiet (id int, a int, PRIMARY KEY (id, a))")
        until(lambda: not is_unknown(client, shape), "the new table")
        check_recreated(sql, shape, "quiet")


def test_a_column_that_was_not_announced_can_be_requested(frequent_checks: Server) -> None:
    """A shape without it remains, so the layout from the stream is still the old one."""
    with httpx.Client() as client, psycopg.connect(frequent_checks.database_url, autocommit=True) as sql:
        sql.execute("CREATE TABLE quiet (id int PRIMARY KEY, a int); INSERT INTO quiet VALUES (1, 2)")
        narrow = Shape(frequent_checks.shape_url, {"table": "quiet", "columns": "id"})
        narrow.catch_up(client)
        sql.execute("INSERT INTO quiet VALUES (2, 3)")
        narrow.follow_to(client, 2)
        sql.execute("ALTER TABLE quiet DROP COLUMN a, ADD COLUMN b text, ADD COLUMN c int DEFAULT 5")
        wide = Shape(frequent_checks.shape_url, {"table": "quiet", "columns": "id,c", "where": "c > 4"})
        until(
            lambda: client.get(wide.shape_url, params=wide.params | {"offset": "-1"}).status_code == 200, "c"
        )
        wide.catch_up(client)
        assert [row["c"] for row in wide.rows.values()] == ["5", "5"]
        sql.execute("INSERT INTO quiet VALUES (3, 'x', 6), (4, 'y', 1); UPDATE quiet SET c = 3 WHERE id = 1")
        sql.execute("INSERT INTO quiet (id) VALUES (5)")
        narrow.follow_to(client, 5)
        wide.follow_to(client, 5)
        assert narrow.rows.keys() == {f'"public"."quiet"/"{number}"' for number in range(1, 6)}
        assert {row["id"]: row["c"] for row in wide.rows.values()} == {"2": "5", "3": "6", "5": "5"}


@pytest.mark.parametrize("statement", ["DROP TABLE low", "ALTER TABLE parts DETACH PARTITION low"])
def test_a_partition_that_is_removed_ends_the_shapes_of_its_root(
    frequent_checks: Server, statement: str
) -> None:
    """The stream does not report it."""
    with httpx.Client() as client, psycopg.connect(frequent_checks.database_url, autocommit=True) as sql:
        sql.execute("CREATE TABLE parts (id int PRIMARY KEY) PARTITION BY RANGE (id)")
        sql.execute("CREATE TABLE low PARTITION OF parts FOR VALUES FROM (0) TO (10)")
        sql.execute("CREATE TABLE high PARTITION OF parts FOR VALUES FROM (10) TO (20)")
        sql.execute("INSERT INTO parts VALUES (1), (11)")
        shape = Materialised(frequent_checks.shape_url, {"table": "parts"})
        shape.catch_up(client)
        with live_request(shape) as response:
            sql.execute(statement)
            assert response.result().status_code == 409
        check_recreated(sql, shape, "parts")


@pytest.mark.parametrize("name", ["dropped", "renamed", "moved"])
def test_a_dropped_table_is_unknown(frequent_checks: Server, name: str) -> None:
    """Also to clients that did not follow it."""
    with httpx.Client() as client, psycopg.connect(frequent_checks.database_url, autocommit=True) as sql:
        sql.execute("CREATE TABLE quiet (id int PRIMARY KEY)")
        shape = Materialised(frequent_checks.shape_url, {"table": "quiet"})
        shape.catch_up(client)
        with live_request(shape) as response:
            sql.execute(NOT_IN_STREAM[name])
            assert response.result().status_code == 409
        until(lambda: is_unknown(client, shape), "the end of the table")


def is_unknown(client: httpx.Client, shape: Materialised) -> bool:
    """Whether the server has noticed that there is no such table."""
    return client.get(shape.shape_url, params={**shape.params, "offset": "now"}).status_code == 400
