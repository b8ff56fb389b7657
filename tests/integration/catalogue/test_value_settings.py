"""Log, snapshot and subset have the same texts, whatever the database and the role set."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack, asynccontextmanager
from typing import NamedTuple

import psycopg
import pytest
from tests.integration.catalogue.test_one_rendering import Column, array_of, stock_types
from tests.integration.catalogue.type_samples import SAMPLES
from tests.integration.catalogue.wire_rows import Walsender, walsender
from tests.support.postgres.databases import fresh_database
from tests.support.postgres.installations import postgres_of
from tests.support.postgres.locales import german

from pgshapes.embedded.server import EmbeddedPostgres
from pgshapes.model.change import Row
from pgshapes.model.quoting import quote_identifier, quote_literal
from pgshapes.model.relation import Relation
from pgshapes.postgres.connection import Connection, ConnectionPool, connect, connect_shared
from pgshapes.postgres.inspector import Inspector
from pgshapes.postgres.rendering import copy_rows
from pgshapes.postgres.session_settings import VALUE_SETTINGS
from pgshapes.postgres.snapshot import SnapshotSource
from pgshapes.postgres.subset import SubsetSelection, SubsetSource
from pgshapes.where.clause import clause_from_sql, prepare_clause

DECIDING = {
    "bytea_output": "'escape'",
    "DateStyle": "'SQL, MDY'",
    "TimeZone": "'Asia/Tokyo'",
    "extra_float_digits": "'-5'",
    "IntervalStyle": "'postgres_verbose'",
    "lc_monetary": "'de_DE.UTF-8'",
    "search_path": '"Other", public, pg_catalog',
    "quote_all_identifiers": "'on'",
}
"""Values that change some text unless the setting is pinned."""

OTHERS = {
    "client_encoding": "'LATIN1'",
    "transform_null_equals": "'on'",
    "xmloption": "'document'",
    "xmlbinary": "'hex'",
    "array_nulls": "'off'",
    "lc_numeric": "'de_DE.UTF-8'",
    "lc_time": "'de_DE.UTF-8'",
    "timezone_abbreviations": "'Australia'",
    "default_text_search_config": "'pg_catalog.german'",
    "standard_conforming_strings": "'off'",
    "default_transaction_isolation": "'serializable'",
    "statement_timeout": "'30s'",
}
"""Settings that look as if they did."""

OWN_OBJECTS = """
CREATE SCHEMA "Other";
CREATE TABLE "Other"."Things" (id int);
CREATE TABLE things (id int);
CREATE FUNCTION "Other"."Fn"(int) RETURNS int LANGUAGE sql AS 'SELECT 1';
CREATE FUNCTION fn(int) RETURNS int LANGUAGE sql AS 'SELECT 1';
CREATE FUNCTION same(int, text) RETURNS bool LANGUAGE sql AS 'SELECT true';
CREATE OPERATOR === (LEFTARG = int, RIGHTARG = text, FUNCTION = same);
CREATE COLLATION own FROM "C";
CREATE TEXT SEARCH CONFIGURATION own (COPY = english);
CREATE TEXT SEARCH DICTIONARY own (TEMPLATE = simple);
CREATE TYPE mood AS ENUM ('sad', 'happy');
CREATE TYPE pair AS (relation regclass, price money, seen timestamptz);
CREATE TYPE prices AS RANGE (subtype = money);
CREATE TYPE names AS RANGE (subtype = regclass);
CREATE DOMAIN referenced AS regclass;
CREATE DOMAIN pairs AS pair[];
"""

OWN_COLUMNS = (
    Column("regclass", ('"Other"."Things"', "things", "pg_class")),
    Column("regproc", ('"Other"."Fn"', "fn", "now")),
    Column("regprocedure", ('"Other"."Fn"(int)', "fn(int)", "abs(numeric)")),
    Column("regoper", ("===", "||/")),
    Column("regoperator", ("===(int,text)", "+(int,int)")),
    Column("regtype", ("mood", "pair[]", '"Other"."Things"', "int", "referenced")),
    Column("regcollation", ("own", '"C"')),
    Column("regconfig", ("public.own", "english")),
    Column("regdictionary", ("public.own", "simple")),
    Column("regnamespace", ('"Other"', "public")),
    Column("regrole", ("postgres",)),
    Column("referenced", ("things",)),
    Column("mood", ("sad",)),
    Column("pair", ('(things,1.5,"2024-01-31 12:00:00+00")',)),
    Column("pairs", ('{"(things,1.5,\\"2024-01-31 12:00:00+00\\")"}',)),
    Column("prices", ("[1.5,2.5)",)),
    Column("names", ("[pg_class,]", "[things,]")),
)


class Table(NamedTuple):
    """The test's table: its columns, and the statements that insert its rows."""

    names: tuple[str, ...]
    inserts: tuple[str, ...]


@pytest.fixture(scope="module")
def german_server(postgres_server: EmbeddedPostgres) -> Iterator[EmbeddedPostgres]:
    """A server of its own, which knows a German locale."""
    with german(), postgres_of(postgres_server.version) as server:
        yield server


@pytest.fixture
def url(german_server: EmbeddedPostgres) -> Iterator[str]:
    with fresh_database(german_server) as url:
        yield url
    with psycopg.connect(german_server.url(), autocommit=True) as admin:
        admin.execute("ALTER ROLE postgres RESET ALL")


@pytest.fixture
async def db(url: str) -> AsyncIterator[Connection]:
    async with await Connection.connect(url, autocommit=True) as connection:
        await connection.execute(OWN_OBJECTS)
        yield connection


async def make_table(db: Connection) -> Table:
    columns = list(OWN_COLUMNS) + [array_of(column) for column in OWN_COLUMNS]
    for name in await stock_types(db):
        plain = Column(f"pg_catalog.{quote_identifier(name)}", SAMPLES[name])
        columns += [plain, array_of(plain)]
    names = tuple(f"c{place:04}" for place in range(len(columns)))
    declared = ", ".join(f"{name} {column.type_name}" for name, column in zip(names, columns, strict=True))
    await db.execute(
        f"CREATE TABLE rendered ({declared}); ALTER TABLE rendered REPLICA IDENTITY FULL;"
        " CREATE PUBLICATION first FOR TABLE rendered; CREATE PUBLICATION second FOR TABLE rendered".encode()
    )
    inserts = []
    for row in range(max(len(column.samples) for column in columns)):
        values = [quote_literal(column.samples[row % len(column.samples)]) for column in columns]
        inserts.append(f"INSERT INTO rendered VALUES ({', '.join(values)})")
    return Table(names, tuple(inserts))


class Readers(NamedTuple):
    """One connection of each kind that reads values."""

    snapshots: SnapshotSource
    subsets: SubsetSource
    log: Walsender

    async def snapshot(
        self, relation: Relation, names: tuple[str, ...], where: str | None = None
    ) -> list[Row]:
        async with self.snapshots.open(relation) as snapshot:
            await snapshot.take()
            return [
                _values(text)
                async for batch in snapshot.rows(copy_rows(relation, names, where))
                for text in batch
            ]

    async def subset(self, relation: Relation, names: tuple[str, ...], where: str | None = None) -> list[Row]:
        async with self.subsets.open(relation) as query:
            await query.take()
            rows = await query.rows(SubsetSelection(relation, names, where), 7)
        return [tuple(row["value"][name] for name in names) for row in json.loads(b"[%b]" % b"".join(rows))]


def _values(text: bytes) -> Row:
    row = json.loads(text)["value"]
    return tuple(row[name] for name in sorted(row))


@asynccontextmanager
async def readers(url: str, publication: str) -> AsyncIterator[Readers]:
    async with AsyncExitStack() as stack:
        pool = ConnectionPool(lambda: connect_shared(url), 1)
        stack.push_async_callback(pool.close)
        async with pool.connection():
            """Now it is open."""
        log = await stack.enter_async_context(walsender(url, publication))
        yield Readers(SnapshotSource(pool, publication=publication), SubsetSource(pool), log)


async def look_up(url: str) -> Relation:
    pool = ConnectionPool(lambda: connect(url), 1)
    inspector = Inspector(pool)
    found = await inspector.relation("public", "rendered")
    await inspector.close()
    await pool.close()
    return found


@pytest.mark.each_postgres
@pytest.mark.parametrize("scope", ["DATABASE {}", "ROLE postgres", "ROLE postgres IN DATABASE {}"])
async def test_log_snapshot_and_subset_agree(db: Connection, url: str, scope: str) -> None:
    table = await make_table(db)
    relation = await look_up(url)
    async with readers(url, "first") as before:
        for insert in table.inserts:
            await db.execute(insert.encode())
        clean = await before.snapshot(relation, table.names)
        for name, value in (DECIDING | OTHERS).items():
            await db.execute(f"ALTER {scope.format(db.info.dbname)} SET {name} = {value}".encode())
        async with readers(url, "second") as after:
            await db.execute(b"TRUNCATE rendered")
            for insert in table.inserts:
                await db.execute(insert.encode())
            relation = await look_up(url)
            found: dict[str, list[Row]] = {
                "snapshot, open before": await before.snapshot(relation, table.names),
                "snapshot": await after.snapshot(relation, table.names),
                "subset, open before": await before.subset(relation, table.names),
                "subset": await after.subset(relation, table.names),
                "log, open before": (await before.log.inserts(2 * len(clean)))[len(clean) :],
                "log": await after.log.inserts(len(clean)),
            }
    for reader, rows in found.items():
        for row, expected in zip(rows, clean, strict=True):
            assert row == expected, reader


@pytest.mark.parametrize("setting", DECIDING)
async def test_each_of_the_settings_would_change_a_text(db: Connection, url: str, setting: str) -> None:
    table = await make_table(db)
    for insert in table.inserts:
        await db.execute(insert.encode())
    relation = await look_up(url)
    async with readers(url, "first") as ours:
        clean = await ours.snapshot(relation, table.names)
    await db.execute(f"ALTER DATABASE {db.info.dbname} SET {setting} = {DECIDING[setting]}".encode())
    async with await connect(url) as session:
        for name, value in VALUE_SETTINGS:
            if name not in (setting, "search_path"):
                await session.execute(f"SET {name} = '{value}'".encode())
        await session.execute(f"RESET {setting}".encode())
        shown = session.pgconn.exec_(b"SELECT * FROM public.rendered")
    rows = [
        tuple((shown.get_value(row, column) or b"").decode() for column in range(shown.nfields))
        for row in range(shown.ntuples)
    ]
    assert rows != clean


@pytest.mark.each_postgres
async def test_functions_of_an_index_that_need_the_roles_path(db: Connection, url: str) -> None:
    await db.execute(
        """
        CREATE FUNCTION own_lower(text) RETURNS text LANGUAGE sql IMMUTABLE AS 'SELECT lower($1)';
        CREATE FUNCTION normal(text) RETURNS text LANGUAGE sql IMMUTABLE AS 'SELECT public.own_lower($1)';
        CREATE TABLE rendered (id int PRIMARY KEY, name text, relation regclass);
        INSERT INTO rendered VALUES (2, 'b', 'rendered'), (1, 'a', 'pg_class'), (3, NULL, '"Other"."Things"');
        CREATE INDEX ON rendered (normal(name)) WHERE normal(name) > '';
        CREATE STATISTICS normals ON normal(name), id FROM rendered;
        CREATE OR REPLACE FUNCTION normal(text) RETURNS text LANGUAGE sql IMMUTABLE AS 'SELECT own_lower($1)';
        CREATE PUBLICATION first FOR TABLE rendered;
        """
    )
    relation, names = await look_up(url), ("id", "name", "relation")
    async with readers(url, "first") as ours:
        assert sorted(await ours.snapshot(relation, names)) == [
            ("1", "a", "pg_class"),
            ("2", "b", "public.rendered"),
            ("3", None, '"Other"."Things"'),
        ]
        assert sorted(await ours.subset(relation, names)) == sorted(await ours.snapshot(relation, names))


@pytest.mark.parametrize(
    "clause",
    [
        "m = 'sad'",
        "m IN ('sad', other)",
        "'sad' = ANY (ARRAY[m, other])",
        "m::text LIKE 's%'",
        "d > 0 AND d IN (1, 2)",
        "COALESCE(m, 'happy') = 'sad'",
        "name ^@ 'a'",
    ],
)
async def test_types_outside_the_search_path_are_found(db: Connection, url: str, clause: str) -> None:
    await db.execute(
        """
        CREATE TYPE "Other".mood AS ENUM ('sad', 'happy', 'calm');
        CREATE DOMAIN "Other".positive AS int;
        CREATE TABLE rendered (
          id int PRIMARY KEY, m "Other".mood, other "Other".mood, d "Other".positive, name text);
        INSERT INTO rendered VALUES (1, 'sad', 'happy', 1, 'a'), (2, 'happy', 'calm', -1, 'b');
        CREATE PUBLICATION first FOR TABLE rendered;
        """
    )
    pool = ConnectionPool(lambda: connect(url), 1)
    inspector = Inspector(pool)
    relation = await inspector.relation("public", "rendered")
    prepared = prepare_clause(clause, {}, relation)
    confirmed = prepared.confirm(await inspector.describe(prepared.authority_sql))
    await pool.close()
    assert clause_from_sql(confirmed.sql, relation).sql == confirmed.sql
    async with readers(url, "first") as ours:
        assert await ours.snapshot(relation, ("id",), confirmed.sql) == [("1",)]
        assert await ours.subset(relation, ("id",), confirmed.sql) == [("1",)]


async def test_a_clause_means_the_same_with_transform_null_equals(db: Connection, url: str) -> None:
    await db.execute(
        "CREATE TABLE rendered (id int PRIMARY KEY, m mood); CREATE PUBLICATION first FOR TABLE rendered;"
        " INSERT INTO rendered VALUES (1, NULL), (2, 'sad')"
    )
    await db.execute(f"ALTER DATABASE {db.info.dbname} SET transform_null_equals = on".encode())
    relation = await look_up(url)
    async with readers(url, "first") as ours:
        assert await ours.snapshot(relation, ("id",), '("m" OPERATOR(pg_catalog.=) NULL)') == []
