"""DDL under a followed shape: what can alter its rows ends it, also while nobody writes; the rest does not.

Followers and clients that come later must have what SELECT returns, and no change may be delivered that
follows a gap.
"""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from typing import NamedTuple

import httpx
import psycopg
import pytest
from tests.support.clients.materialised import Materialised, Refetch
from tests.support.clients.pending import until
from tests.support.postgres.databases import fresh_database
from tests.support.servers.servers import Server, running_server

from pgshapes.embedded.server import EmbeddedPostgres

_numbers = itertools.count(1)

SET_UP = """
CREATE TYPE {t}_mood AS ENUM ('sad', 'ok');
CREATE TYPE {t}_pair AS (a int, b text);
CREATE DOMAIN {t}_text AS text;
CREATE TABLE {t} (
  id int PRIMARY KEY, a int DEFAULT 1, b int DEFAULT -1, name text DEFAULT 'name',
  note {t}_text DEFAULT 'note', m {t}_mood DEFAULT 'ok', p {t}_pair DEFAULT '(1,x)',
  c regclass DEFAULT '{t}_named', spare text);
CREATE TABLE {t}_named (id int);
INSERT INTO {t} (id) VALUES (1), (2)
"""

ENDING = {
    "same type USING": "ALTER TABLE {t} ALTER name TYPE text USING upper(name)",
    "domain USING": "ALTER TABLE {t} ALTER note TYPE {t}_text USING upper(note)",
    "dropped and added, in one statement": "ALTER TABLE {t} DROP a, ADD a int DEFAULT 7",
    "dropped and added": "ALTER TABLE {t} DROP a; ALTER TABLE {t} ADD a int DEFAULT 7",
    "names exchanged": "BEGIN; ALTER TABLE {t} RENAME a TO x; ALTER TABLE {t} RENAME b TO a;"
    " ALTER TABLE {t} RENAME x TO b; COMMIT",
    "renamed, and another of its name": "ALTER TABLE {t} RENAME a TO x; ALTER TABLE {t} ADD a int DEFAULT 7;"
    " ALTER TABLE {t} DROP x",
    "int to text": 'ALTER TABLE {t} ALTER a TYPE text USING \'","role":"admin\'',
    "label renamed": "ALTER TYPE {t}_mood RENAME VALUE 'ok' TO 'fine'",
    "attribute renamed and added": "ALTER TYPE {t}_pair ADD ATTRIBUTE c int CASCADE",
    "attribute dropped": "ALTER TYPE {t}_pair DROP ATTRIBUTE b",
    "named object renamed": "ALTER TABLE {t}_named RENAME TO {t}_renamed",
    "column added": "ALTER TABLE {t} ADD more int DEFAULT 3",
    "key moved": "ALTER TABLE {t} DROP CONSTRAINT {t}_pkey; UPDATE {t} SET a = id;"
    " ALTER TABLE {t} ADD PRIMARY KEY (a)",
    "made again": "DROP TABLE {t}; CREATE TABLE {t} (id int PRIMARY KEY, a int);"
    " INSERT INTO {t} VALUES (9, 9)",
    "publication edited": "ALTER PUBLICATION {p} DROP TABLE {t}; INSERT INTO {t} (id) VALUES (5);"
    " DELETE FROM {t} WHERE id = 1; ALTER PUBLICATION {p} ADD TABLE {t}",
    "operations edited": "ALTER PUBLICATION {p} SET (publish = 'insert'); DELETE FROM {t} WHERE id = 1;"
    " ALTER PUBLICATION {p} SET (publish = 'insert, update, delete, truncate')",
}
"""Statements on `{t}`, a table with the publication `{p}`, that alter the rows of a shape of all columns."""

OF_OTHER_COLUMNS = (
    "same type USING",
    "dropped and added",
    "label renamed",
    "attribute renamed and added",
    "column added",
    "named object renamed",
)
"""Of these, the ones that do not concern a shape of the columns `id`, `b` and `spare`."""

HARMLESS = {
    "VACUUM FULL": "VACUUM FULL {t}",
    "CLUSTER": "CLUSTER {t} USING {t}_pkey",
    "ANALYZE": "ANALYZE {t}",
    "index": "CREATE INDEX ON {t} (name)",
    "unique index": "CREATE UNIQUE INDEX ON {t} (id, name)",
    "comment": "COMMENT ON COLUMN {t}.name IS 'x'",
    "NOT NULL": "ALTER TABLE {t} ALTER name SET NOT NULL",
    "default": "ALTER TABLE {t} ALTER name SET DEFAULT 'other'",
    "statistics": "ALTER TABLE {t} ALTER name SET STATISTICS 10",
    "fillfactor": "ALTER TABLE {t} SET (fillfactor = 50)",
    "check": "ALTER TABLE {t} ADD CHECK (id > 0) NOT VALID",
    "label added": "ALTER TYPE {t}_mood ADD VALUE 'new'",
    "type renamed": "ALTER TYPE {t}_mood RENAME TO {t}_feeling",
    "grant": "GRANT SELECT ON {t} TO PUBLIC",
    "trigger": "CREATE FUNCTION {t}_f() RETURNS trigger LANGUAGE plpgsql AS $$BEGIN RETURN NEW;END$$;"
    " CREATE TRIGGER x BEFORE INSERT ON {t} FOR EACH ROW EXECUTE FUNCTION {t}_f()",
    "rolled back": "BEGIN; ALTER TABLE {t} DROP name; ROLLBACK",
    "another table in the publication": "ALTER PUBLICATION {p} ADD TABLE {t}_named;"
    " ALTER PUBLICATION {p} DROP TABLE {t}_named",
}
"""Statements that alter no row of a shape of all columns but `c`, a regclass, which may name any object."""


class Env(NamedTuple):
    server: Server
    sql: psycopg.Connection
    client: httpx.Client


@pytest.fixture(scope="module")
def env(postgres_server: EmbeddedPostgres) -> Iterator[Env]:
    """A server that looks at the system catalogs every 0.2 s."""
    module = "tests.support.servers.frequent_checks_server"
    with (
        fresh_database(postgres_server) as url,
        running_server(url, module=module) as server,
        psycopg.connect(url, autocommit=True) as sql,
        httpx.Client() as client,
    ):
        yield Env(server, sql, client)


def make_table(env: Env) -> str:
    table = f"items_{next(_numbers)}"
    # The default of a regclass column is a constant, so its table comes first.
    created = SET_UP.format(t=table).split(";")
    for statement in (*created[:3], created[4], created[3], created[5]):
        env.sql.execute(statement)
    return table


def run(env: Env, statements: str, table: str) -> None:
    for statement in statements.format(t=table, p=env.server.publication).split("; "):
        env.sql.execute(statement.strip().rstrip(";"))


def selected(env: Env, table: str, columns: str = "*") -> list[dict[str, str | None]]:
    """What SELECT returns, as texts; names of objects have their schema, as in a shape."""
    with env.sql.transaction():
        env.sql.execute("SET LOCAL search_path = pg_catalog")
        rows = env.sql.execute(f"SELECT {columns} FROM public.{table}", prepare=False)
        names = [column.name for column in rows.description or ()]
        texts = ", ".join(f'concat("{name}")' for name in names)
        nulls = ", ".join(f'"{name}" IS NOT DISTINCT FROM NULL' for name in names)
        query = f"SELECT ARRAY[{texts}], ARRAY[{nulls}] FROM public.{table}"
        found = env.sql.execute(query, prepare=False).fetchall()
    return ordered(
        [
            {name: None if is_null else text for name, text, is_null in zip(names, *row, strict=True)}
            for row in found
        ]
    )


def ordered(rows: list[dict[str, str | None]]) -> list[dict[str, str | None]]:
    return sorted(rows, key=lambda row: json.dumps(row, sort_keys=True))


@contextmanager
def held(shape: Materialised) -> Iterator[Future[httpx.Response]]:
    """A live request of the shape, which is at its tail."""

    def ask() -> httpx.Response:
        params = {**shape.params, "handle": shape.handle or "", "offset": str(shape.offset), "live": "true"}
        return httpx.get(shape.shape_url, params=params, timeout=60)

    with ThreadPoolExecutor(1) as thread:
        yield thread.submit(ask)


def fetched(env: Env, params: dict[str, str]) -> list[dict[str, str | None]]:
    """The rows of a client that comes now."""
    shape = Materialised(env.server.shape_url, params)
    shape.catch_up(env.client)
    return ordered(list(shape.rows.values()))


@pytest.mark.parametrize("name", ENDING)
def test_what_alters_rows_ends_the_shape_while_nobody_writes(env: Env, name: str) -> None:
    table = make_table(env)
    shape = Materialised(env.server.shape_url, {"table": table})
    clause = Materialised(env.server.shape_url, {"table": table, "where": "id > 0", "replica": "full"})
    for one in (shape, clause):
        one.catch_up(env.client)
    with held(shape) as first, held(clause) as second:
        run(env, ENDING[name], table)
        assert [first.result().status_code, second.result().status_code] == [409, 409]
    for params in (shape.params, clause.params, {"table": table, "where": "id > -1"}):
        assert fetched(env, params) == selected(env, table)


@pytest.mark.parametrize("name", OF_OTHER_COLUMNS)
def test_what_alters_other_columns_does_not_end_the_shape(env: Env, name: str) -> None:
    table = make_table(env)
    shape = Materialised(env.server.shape_url, {"table": table, "columns": "id,b,spare"})
    witness = Materialised(env.server.shape_url, {"table": table})
    for one in (shape, witness):
        one.catch_up(env.client)
    with held(witness) as answer:
        run(env, ENDING[name], table)
        assert answer.result().status_code == 409
    env.sql.execute(f"INSERT INTO {table} (id, spare) VALUES (8, 'more')")
    follow_to(env, shape, table, 8)
    assert ordered(list(shape.rows.values())) == selected(env, table, "id, b, spare")


@pytest.mark.parametrize("name", HARMLESS)
def test_what_alters_no_row_does_not_end_the_shape(env: Env, name: str) -> None:
    table = make_table(env)
    env.sql.execute(f"ALTER TABLE {table} DROP c")
    shape = Materialised(env.server.shape_url, {"table": table})
    shape.catch_up(env.client)
    run(env, HARMLESS[name], table)
    env.sql.execute(f"INSERT INTO {table} (id) VALUES (8)")
    follow_to(env, shape, table, 8)
    env.sql.execute(f"UPDATE {table} SET spare = 'x' WHERE id = 1; INSERT INTO {table} (id) VALUES (9)")
    follow_to(env, shape, table, 9)
    assert ordered(list(shape.rows.values())) == selected(env, table)
    assert fetched(env, {"table": table, "where": "id > 0"}) == selected(env, table)


def follow_to(env: Env, shape: Materialised, table: str, row: int) -> None:
    while f'"public"."{table}"/"{row}"' not in shape.rows:
        shape.request(env.client, live=shape.is_up_to_date)


@pytest.mark.parametrize("name", ["publication edited", "operations edited", "names exchanged", "made again"])
def test_no_change_is_delivered_that_follows_the_gap(env: Env, name: str) -> None:
    """The change comes at once, before the next look of the timer: the announcement before it is compared."""
    table = make_table(env)
    shape = Materialised(env.server.shape_url, {"table": table})
    shape.catch_up(env.client)
    with held(shape) as answer:
        run(env, ENDING[name], table)
        if name == "made again":
            fetched(env, {"table": table})
        env.sql.execute(f"UPDATE {table} SET a = 5; INSERT INTO {table} (id, a) VALUES (50, 50)")
        assert answer.result().status_code == 409
    with pytest.raises(Refetch):
        shape.request(env.client)


def test_a_value_is_never_part_of_the_structure(env: Env) -> None:
    """A new shape right after a column became text, by which its values may be anything."""
    for _ in range(5):
        table = make_table(env)
        for params in ({"table": table}, {"table": table, "where": "id > 0"}):
            fetched(env, params)
        env.sql.execute(f'ALTER TABLE {table} ALTER a TYPE text USING \'x","role":"admin\'')
        for row in fetched(env, {"table": table, "where": "id > -1"}):
            assert "role" not in row
            assert row["a"] == 'x","role":"admin'


@pytest.mark.parametrize("has_shape", [True, False])
def test_a_column_can_be_asked_for_as_soon_as_it_is_there(env: Env, has_shape: bool) -> None:
    """A client that was early got 400; the refusal is not remembered."""
    table = make_table(env)
    if has_shape:
        fetched(env, {"table": table})
    for params in ({"columns": "id,fresh"}, {"where": "fresh = 3"}):
        early = env.client.get(env.server.shape_url, params={"table": table, "offset": "-1", **params})
        assert early.status_code == 400
    env.sql.execute(f"ALTER TABLE {table} ADD fresh int DEFAULT 3")
    assert [row["fresh"] for row in fetched(env, {"table": table, "columns": "id,fresh"})] == ["3", "3"]
    assert len(fetched(env, {"table": table, "where": "fresh = 3"})) == 2


def test_a_table_that_was_made_again_is_served_at_once(env: Env) -> None:
    """Without a shape, it is only remembered that it was looked up."""
    table = make_table(env)
    early = {"table": table, "offset": "-1", "columns": "id,nothing"}
    assert env.client.get(env.server.shape_url, params=early).status_code == 400
    env.sql.execute(f"DROP TABLE {table}; CREATE TABLE {table} (id int PRIMARY KEY, b int)")
    env.sql.execute(f"INSERT INTO {table} VALUES (3, 4)")
    assert fetched(env, {"table": table}) == [{"id": "3", "b": "4"}]


# --- partitions

PARTITIONED = (
    "CREATE TABLE {t} (id int, k int, PRIMARY KEY (id, k)) PARTITION BY LIST (k);"
    "CREATE TABLE {t}_1 PARTITION OF {t} FOR VALUES IN (1); INSERT INTO {t} VALUES (1, 1)"
)
ATTACH = "ALTER TABLE {t} ATTACH PARTITION {t}_2 FOR VALUES IN (2)"
FILLED = "CREATE TABLE {t}_2 (LIKE {t} INCLUDING ALL); INSERT INTO {t}_2 VALUES (5, 2); "
MOVING = {
    "attached with rows": FILLED + ATTACH,
    "in one transaction": "BEGIN; " + FILLED + ATTACH + "; COMMIT",
    "detached": "ALTER TABLE {t} DETACH PARTITION {t}_1",
    "detached, written, attached": "ALTER TABLE {t} DETACH PARTITION {t}_1; INSERT INTO {t}_1 VALUES (7, 1);"
    " ALTER TABLE {t} ATTACH PARTITION {t}_1 FOR VALUES IN (1)",
    "dropped": "DROP TABLE {t}_1",
    "attached with leaves that have rows": "CREATE TABLE {t}_2 (LIKE {t} INCLUDING ALL)"
    " PARTITION BY LIST (id);"
    " CREATE TABLE {t}_2_5 PARTITION OF {t}_2 FOR VALUES IN (5); INSERT INTO {t}_2 VALUES (5, 2); " + ATTACH,
}


def make_partitioned(env: Env) -> str:
    table = f"parts_{next(_numbers)}"
    for statement in PARTITIONED.format(t=table).split(";"):
        env.sql.execute(statement)
    return table


@pytest.mark.parametrize("name", MOVING)
def test_rows_that_come_or_go_with_a_partition(env: Env, name: str) -> None:
    table = make_partitioned(env)
    shape = Materialised(env.server.shape_url, {"table": table})
    shape.catch_up(env.client)
    with held(shape) as answer:
        run(env, MOVING[name], table)
        assert answer.result().status_code == 409
    assert fetched(env, {"table": table}) == selected(env, table)


@pytest.mark.parametrize(
    "made",
    [
        "CREATE TABLE {t}_2 PARTITION OF {t} FOR VALUES IN (2)",
        "CREATE TABLE {t}_2 (LIKE {t} INCLUDING ALL); " + ATTACH,
    ],
    ids=["created", "attached"],
)
def test_an_empty_partition_ends_no_shape(env: Env, made: str) -> None:
    if "ATTACH" in made and env.sql.info.server_version < 150000:
        pytest.skip("before Postgres 15 every attached partition ends the shapes of its root")
    table = make_partitioned(env)
    shape = Materialised(env.server.shape_url, {"table": table})
    shape.catch_up(env.client)
    run(env, made, table)
    if "ATTACH" in made:
        identity = f"SELECT relreplident = 'f' FROM pg_class WHERE relname = '{table}_2'"
        until(lambda: env.sql.execute(identity).fetchone() == (True,), "the look at the new partition")
    env.sql.execute(f"INSERT INTO {table} VALUES (8, 2)")
    while f'"public"."{table}"/"8"/"2"' not in shape.rows:
        shape.request(env.client, live=shape.is_up_to_date)
    assert ordered(list(shape.rows.values())) == selected(env, table)


def test_a_renamed_root_and_a_client_of_its_new_name(env: Env) -> None:
    """The client comes before the rename was noticed: the log of its shape has the new name, too."""
    table = make_partitioned(env)
    old = Materialised(env.server.shape_url, {"table": table})
    old.catch_up(env.client)
    env.sql.execute(f"ALTER TABLE {table} RENAME TO {table}_new")
    shape = Materialised(env.server.shape_url, {"table": f"{table}_new"})
    shape.catch_up(env.client)
    env.sql.execute(f"DELETE FROM {table}_new WHERE id = 1; INSERT INTO {table}_new VALUES (9, 1)")
    while f'"public"."{table}_new"/"9"/"1"' not in shape.rows:
        shape.request(env.client, live=shape.is_up_to_date)
    assert ordered(list(shape.rows.values())) == selected(env, f"{table}_new")


# --- the publication itself


@pytest.mark.parametrize("workers", [0, 2])
def test_a_publication_that_is_dropped_is_made_again(database_url: str, workers: int) -> None:
    """All shapes are recreated, and the server goes on."""
    with (
        running_server(database_url, workers=workers) as server,
        psycopg.connect(database_url, autocommit=True) as sql,
        httpx.Client() as client,
    ):
        sql.execute("CREATE TABLE items (id int PRIMARY KEY); INSERT INTO items VALUES (1)")
        shape = Materialised(server.shape_url, {"table": "items"})
        shape.catch_up(client)
        with held(shape) as answer:
            sql.execute(f"DROP PUBLICATION {server.publication}")
            assert answer.result().status_code in (409, 503)
        until(lambda: is_served_anew(client, shape), "the new shape")
        again = Materialised(server.shape_url, {"table": "items"})
        again.catch_up(client)
        sql.execute("INSERT INTO items VALUES (2)")
        while '"public"."items"/"2"' not in again.rows:
            again.request(client, live=True)
        assert server.process is not None
        assert server.process.poll() is None


def is_served_anew(client: httpx.Client, shape: Materialised) -> bool:
    answer = client.get(shape.shape_url, params={**shape.params, "offset": "-1"})
    return answer.status_code == 200 and answer.headers["electric-handle"] != shape.handle


@pytest.mark.each_postgres
def test_a_table_that_was_written_before_it_was_attached_is_followed(
    postgres_server: EmbeddedPostgres, database_url: str
) -> None:
    """Before Postgres 15 a running walsender does not notice that such a table became a partition."""
    module = "tests.support.servers.frequent_checks_server"
    with (
        running_server(database_url, module=module) as server,
        psycopg.connect(database_url, autocommit=True) as sql,
        httpx.Client() as client,
    ):
        sql.execute(
            "CREATE TABLE parts (id int PRIMARY KEY) PARTITION BY RANGE (id);"
            "CREATE TABLE low PARTITION OF parts FOR VALUES FROM (0) TO (1000);"
            "CREATE TABLE late (id int PRIMARY KEY); ALTER TABLE late REPLICA IDENTITY FULL"
        )
        shape = Materialised(server.shape_url, {"table": "parts"})
        shape.catch_up(client)
        sql.execute("INSERT INTO late VALUES (2001); INSERT INTO low VALUES (2)")
        while '"public"."parts"/"2"' not in shape.rows:
            shape.request(client, live=shape.is_up_to_date)
        with held(shape) as answer:
            sql.execute("ALTER TABLE parts ATTACH PARTITION late FOR VALUES FROM (2000) TO (3000)")
            assert answer.result().status_code in (409, 503)
        for number in range(2, 8):
            sql.execute(f"INSERT INTO late VALUES (200{number})")
        sql.execute("INSERT INTO low VALUES (4)")
        until(lambda: has_all(client, server), "all rows")


def has_all(client: httpx.Client, server: Server) -> bool:
    """Whether a client that comes now gets all rows, and follows them to the last one."""
    shape = Materialised(server.shape_url, {"table": "parts"})
    expected = {f'"public"."parts"/"{number}"' for number in (2, 4, *range(2001, 2008))}
    try:
        while not shape.is_up_to_date:
            if client.get(server.shape_url, params={"table": "parts", "offset": "-1"}).status_code != 200:
                return False
            shape.request(client)
    except Refetch:
        return False
    return shape.rows.keys() == expected
