"""DDL on a type while a transaction is open that has written values of it: no client keeps their old texts.

Such DDL does not wait for writers, and decoding gives their changes the texts of the types as they were when
the row was written. A client that has fetched the table in between must be told to fetch it again.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from itertools import count
from typing import NamedTuple

import httpx
import psycopg
import pytest
from tests.support.clients.materialised import Materialised, Refetch
from tests.support.clients.pending import end_mark
from tests.support.postgres.databases import fresh_database
from tests.support.servers.servers import Server, running_server

from pgshapes.embedded.server import EmbeddedPostgres

pytestmark = [pytest.mark.xdist_group("types and writers"), pytest.mark.each_postgres]

_numbers = count(1)

CASES = {
    "enum": (
        "CREATE TYPE {t}_type AS ENUM ('sad', 'ok'); CREATE TABLE {t} (id int PRIMARY KEY, v {t}_type)",
        "ALTER TYPE {t}_type RENAME VALUE 'ok' TO 'fine'",
        ("ok", "fine"),
    ),
    "composite": (
        "CREATE TYPE {t}_type AS (a int, b int); CREATE TABLE {t} (id int PRIMARY KEY, v {t}_type)",
        "ALTER TYPE {t}_type DROP ATTRIBUTE b",
        ("(1,2)", "(1)"),
    ),
    "domain of an array of an enum": (
        "CREATE TYPE {t}_type AS ENUM ('sad', 'ok'); CREATE DOMAIN {t}_domain AS {t}_type[];"
        "CREATE TABLE {t} (id int PRIMARY KEY, v {t}_domain)",
        "ALTER TYPE {t}_type RENAME VALUE 'ok' TO 'fine'",
        ("{ok}", "{fine}"),
    ),
    "regclass": (
        "CREATE TABLE {t}_named (); CREATE TABLE {t} (id int PRIMARY KEY, v regclass)",
        "ALTER TABLE {t}_named RENAME TO {t}_renamed",
        ("public.{t}_named", "public.{t}_renamed"),
    ),
}
"""A table with a column of a type, DDL that changes a text, and the text before and after."""


class Env(NamedTuple):
    server: Server
    sql: psycopg.Connection
    client: httpx.Client


@pytest.fixture(scope="module")
def env(postgres_server: EmbeddedPostgres) -> Iterator[Env]:
    """A server that looks at the system catalogs every 0.2 s."""
    with (
        fresh_database(postgres_server) as url,
        running_server(url, module="tests.support.servers.frequent_checks_server") as server,
        psycopg.connect(url, autocommit=True) as sql,
        httpx.Client() as client,
    ):
        yield Env(server, sql, client)


class Scene:
    """The table of a case, with one row, and shapes on it."""

    def __init__(self, env: Env, case: str) -> None:
        self._env = env
        self.table = f"t{next(_numbers)}"
        created, self.ddl, texts = CASES[case]
        self.ddl = self.ddl.format(t=self.table)
        self.before, self.after = (text.replace("{t}", self.table) for text in texts)
        env.sql.execute(created.format(t=self.table).encode())
        env.sql.execute(f"CREATE TABLE {self.table}_other (id int)")
        env.sql.execute(self.insertion(1, self.before))
        self.first = self.follow()
        self.of_ids = self.follow(columns="id")
        """Without any shape the table would leave the publication, and the next one wait for all writers."""

    def insertion(self, number: int, text: str) -> str:
        return f"INSERT INTO {self.table} VALUES ({number}, '{text}')"

    def follow(self, **params: str) -> Materialised:
        """A new client that has the rows of now."""
        shape = Materialised(self._env.server.shape_url, {"table": self.table, **params})
        shape.catch_up(self._env.client)
        return shape

    def change_type(self) -> None:
        """Run the DDL, and wait until it has ended the first shape."""
        self._env.sql.execute(self.ddl)
        with pytest.raises(Refetch):
            while True:
                self.first.request(self._env.client, live=True)

    def is_ended(self, shape: Materialised) -> bool:
        """Follow to the 409, or to a change that comes after everything else."""
        mark = end_mark(self._env.sql, f"INSERT INTO {self.table} VALUES ({next(_numbers)}000)")
        try:
            shape.follow_until(self._env.client, mark)
        except Refetch:
            return True
        return False

    def is_right(self, shape: Materialised) -> bool:
        """Whether a client has the ids and texts that are right after the DDL."""
        expected = {
            id_: self.after
            for (id_,) in self._env.sql.execute(f"SELECT id::text FROM {self.table} WHERE v IS NOT NULL")
        }
        return {row["id"]: row["v"] for row in shape.rows.values() if row["v"] is not None} == expected


@contextmanager
def open_writer(env: Env, statement: str) -> Iterator[psycopg.Connection]:
    """A transaction that has run the statement, and commits at the end."""
    with psycopg.connect(env.server.database_url) as writer:
        writer.execute(statement.encode())
        yield writer


@pytest.mark.parametrize("case", CASES)
def test_what_was_written_before_the_ddl_ends_shapes_that_came_after_it(env: Env, case: str) -> None:
    scene = Scene(env, case)
    with open_writer(env, scene.insertion(2, scene.before)):
        scene.change_type()
        shapes = [scene.follow(), scene.follow(where="id > 0"), scene.follow(log="changes_only")]
        of_others = [scene.of_ids, scene.follow(columns="id", where="id > 0"), scene.follow(where="id > 2")]
    assert [scene.is_ended(shape) for shape in shapes] == [True, True, True]
    assert [scene.is_ended(shape) for shape in of_others] == [False, False, False]
    again = scene.follow()
    assert scene.is_right(again)
    assert not scene.is_ended(again)


@pytest.mark.parametrize("where", ["v = 'fine'", "v <> 'ok'"])
def test_a_clause_that_reads_an_older_text(env: Env, where: str) -> None:
    """The older text may hide a row that matches."""
    scene = Scene(env, "enum")
    with open_writer(env, scene.insertion(2, scene.before)):
        scene.change_type()
        env.sql.execute(f"ALTER TYPE {scene.table}_type ADD VALUE 'ok'")
        shape = scene.follow(where=where, columns="id,v")
    assert scene.is_ended(shape)
    assert scene.is_right(scene.follow(where=where))


@pytest.mark.parametrize("case", CASES)
def test_what_is_written_after_the_ddl_ends_no_shape(env: Env, case: str) -> None:
    """Although its transaction is older."""
    scene = Scene(env, case)
    with open_writer(env, f"INSERT INTO {scene.table}_other VALUES (1)") as writer:
        scene.change_type()
        shape = scene.follow()
        writer.execute(scene.insertion(2, scene.after).encode())
    assert not scene.is_ended(shape)
    assert scene.is_right(shape)


def test_labels_that_are_added_end_no_shape(env: Env) -> None:
    """Values keep their texts."""
    scene = Scene(env, "enum")
    with open_writer(env, scene.insertion(2, scene.before)):
        env.sql.execute(f"ALTER TYPE {scene.table}_type ADD VALUE 'more'")
        shape = scene.follow(where="id > 0")
    assert not scene.is_ended(shape)
    assert [row["v"] for row in shape.rows.values()][:2] == [scene.before, scene.before]


@pytest.mark.parametrize("case", ["enum", "regclass"])
def test_a_restart_in_between(env: Env, case: str) -> None:
    """The shapes are restored before the older transaction is delivered."""
    scene = Scene(env, case)
    with open_writer(env, scene.insertion(2, scene.before)):
        scene.change_type()
        shape, of_ids = scene.follow(), scene.follow(columns="id", where="id > 0")
        env.server.stop()
        env.server.start()
    assert scene.is_ended(shape)
    assert not scene.is_ended(of_ids)
    assert scene.is_right(scene.follow())
