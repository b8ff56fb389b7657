"""Snapshot and log have the same text for values and keys of every type."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from typing import NamedTuple

import psycopg
import pytest
from tests.integration.catalogue.type_samples import SAMPLES, STRINGS, WITHOUT_INPUT
from tests.integration.catalogue.wire_rows import walsender

from pgshapes.model.change import Row
from pgshapes.model.key import json_text, key_prefix, row_key
from pgshapes.model.quoting import quote_identifier, quote_literal
from pgshapes.model.relation import Relation
from pgshapes.postgres.connection import Connection, ConnectionPool
from pgshapes.postgres.inspector import Inspector
from pgshapes.postgres.rendering import PLAIN_TYPES, copy_rows
from pgshapes.postgres.snapshot import SnapshotSource

pytestmark = pytest.mark.each_postgres

STOCK_TYPES = """
SELECT typname::text FROM pg_type
 WHERE typnamespace = 'pg_catalog'::regnamespace AND typtype IN ('b', 'r', 'm')
   AND NOT EXISTS (SELECT FROM pg_type e WHERE e.typarray = pg_type.oid)
"""


class Column(NamedTuple):
    """A column of a test table: the name of its type, and the literals of its rows."""

    type_name: str
    samples: Sequence[str]


class Rendered(NamedTuple):
    """The same rows from the snapshot and from the walsender."""

    relation: Relation
    snapshot: list[bytes]
    log: list[Row]


async def render(
    db: Connection,
    url: str,
    source: SnapshotSource,
    inspector: Inspector,
    columns: Sequence[Column],
    key: str = "",
) -> Rendered:
    names = [f"c{place:04}" for place in range(len(columns))]
    declared = ", ".join(f"{name} {column.type_name}" for name, column in zip(names, columns, strict=True))
    await db.execute(
        f"CREATE TABLE rendered ({declared}{key}); ALTER TABLE rendered REPLICA IDENTITY FULL".encode()
    )
    await db.execute(f"CREATE PUBLICATION {db.info.dbname} FOR TABLE rendered".encode())
    async with walsender(url, db.info.dbname) as sender:
        for row in range(max(len(column.samples) for column in columns)):
            values = ", ".join(_value(column, row, nullable=not key) for column in columns)
            await db.execute(f"INSERT INTO rendered VALUES ({values})".encode())
        relation = await inspector.relation("public", "rendered")
        async with source.open(relation) as snapshot:
            await snapshot.take()
            texts = [
                text async for batch in snapshot.rows(copy_rows(relation, names, None)) for text in batch
            ]
        return Rendered(relation, texts, await sender.inserts(len(texts)))


def _value(column: Column, row: int, *, nullable: bool) -> str:
    if row >= len(column.samples) and nullable:
        return "NULL"
    return quote_literal(column.samples[row % len(column.samples)])


def assert_same(rendered: Rendered) -> None:
    relation = rendered.relation
    prefix = key_prefix(relation.schema, relation.name)
    places = [relation.column_index[name] for name in relation.key_columns]
    assert len(rendered.snapshot) == len(rendered.log) > 0
    for text, row in zip(rendered.snapshot, rendered.log, strict=True):
        message = json.loads(text)
        for column, logged in zip(relation.columns, row, strict=True):
            assert message["value"][column.name] == logged, column
        key = row_key(prefix, [row[place] for place in places])
        assert message["key"] == key
        assert text.startswith(b'{"key":' + json_text(key) + b',"value":{')


@pytest.fixture
def source(make_pool: Callable[[int], ConnectionPool]) -> SnapshotSource:
    return SnapshotSource(make_pool(1), publication="none")


async def stock_types(db: Connection) -> list[str]:
    rows = await (await db.execute(STOCK_TYPES)).fetchall()
    types = {row[0] for row in rows} - WITHOUT_INPUT
    try:
        await db.execute("SELECT '<a/>'::xml")
    except psycopg.errors.FeatureNotSupported:
        types.remove("xml")  # the server was built without xml
    return sorted(types)


def array_of(column: Column) -> Column:
    elements = ['"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"' for text in column.samples]
    delimiter = ";" if column.type_name.endswith('box"') else ","
    return Column(f"{column.type_name}[]", ("{" + delimiter.join([*elements, "NULL"]) + "}", "{}"))


async def test_every_stock_type_its_array_and_a_domain_over_it(
    db: Connection, database_url: str, source: SnapshotSource, inspector: Inspector
) -> None:
    types = await stock_types(db)
    assert set(types) - set(SAMPLES) == set(), "types without samples"
    columns: list[Column] = []
    for name in types:
        plain = Column(f"pg_catalog.{quote_identifier(name)}", SAMPLES[name])
        await db.execute(f'CREATE DOMAIN "d_{name}" AS {plain.type_name}'.encode())
        domain = Column(f'"d_{name}"', SAMPLES[name])
        columns += [plain, array_of(plain), domain, array_of(domain)]
    assert_same(await render(db, database_url, source, inspector, columns))


async def test_types_with_modifiers(
    db: Connection, database_url: str, source: SnapshotSource, inspector: Inspector
) -> None:
    columns = [
        Column("char(5)", ("ab", "", "é/", "     ")),
        Column("char(5)[]", ('{ab,"",NULL}',)),
        Column("varchar(20)", STRINGS[:5]),
        Column("bit(4)", ("1010",)),
        Column("numeric(10, 3)", ("1.5", "0")),
        Column("interval year to month", ("1 year 2 months",)),
        Column("timestamptz(3)", ("2024-01-31 12:00:00.123456+00",)),
        Column('text COLLATE "C"', STRINGS),
    ]
    if db.info.server_version >= 150000:
        columns.append(Column("numeric(5, -2)", ("12345",)))
    assert_same(await render(db, database_url, source, inspector, columns))


async def test_types_that_users_make(
    db: Connection, database_url: str, source: SnapshotSource, inspector: Inspector
) -> None:
    await db.execute(
        """
        CREATE TYPE mood AS ENUM ('sad', 'so "so"/', 'ha\\ppy');
        CREATE TYPE pair AS (a int, b text);
        CREATE TYPE nested AS (p pair, m mood[], flag bool, host inet, padded char(4));
        CREATE TYPE floats AS RANGE (subtype = float8);
        CREATE DOMAIN positive AS int CHECK (value > 0);
        CREATE DOMAIN listed AS int[];
        CREATE DOMAIN domain_of_domain AS positive;
        CREATE FUNCTION mood_as_text(mood) RETURNS text LANGUAGE sql IMMUTABLE AS $$ SELECT 'wrong' $$;
        CREATE CAST (mood AS text) WITH FUNCTION mood_as_text(mood) AS IMPLICIT;
        CREATE FUNCTION pair_as_json(pair) RETURNS json LANGUAGE sql AS $$ SELECT '"wrong"'::json $$;
        CREATE CAST (pair AS json) WITH FUNCTION pair_as_json(pair);
        CREATE FUNCTION public.concat(text) RETURNS text LANGUAGE sql IMMUTABLE AS $$ SELECT 'wrong' $$;
        CREATE FUNCTION public.to_json(text) RETURNS json LANGUAGE sql AS $$ SELECT '"wrong"'::json $$;
        """
    )
    columns = [
        Column("mood", ("sad", 'so "so"/', "ha\\ppy")),
        Column("mood[]", ('{sad,"so \\"so\\"/"}',)),
        Column("pair", ('(1,"a ""b"" / \\\\")', "(,)")),
        Column("pair[]", ('{"(1,x)","(,)",NULL}',)),
        Column("nested", ('("(1,x)","{sad}",t,10.0.0.1,ab)', "(,,,,)")),
        Column("floats", ("[0.1,1e100)",)),
        Column("floats[]", ('{"[0.1,2)",empty}',)),
        Column("positive", ("1",)),
        Column("positive[]", ("{1,NULL}",)),
        Column("listed", ("{1,2}", "[2:3]={1,2}")),
        Column("listed[]", ('{"{1,2}"}',)),
        Column("domain_of_domain", ("5",)),
        Column("int[][]", ("{{1,2},{3,4}}", "[0:1]={7,8}")),
    ]
    assert_same(await render(db, database_url, source, inspector, columns))


async def test_every_plain_type_as_a_key(
    db: Connection, database_url: str, source: SnapshotSource, inspector: Inspector
) -> None:
    rows = await (
        await db.execute(
            "SELECT typname::text FROM pg_type WHERE oid = ANY(%s::int8[]::oid[])", (list(PLAIN_TYPES),)
        )
    ).fetchall()
    names = sorted(row[0] for row in rows)
    assert len(names) == len(PLAIN_TYPES)
    for name in names:
        scalar = name.removeprefix("_")
        column = Column(f"pg_catalog.{quote_identifier(scalar)}", SAMPLES[scalar])
        if name in {"cid", "xid"}:
            continue  # no index: they have no ordering
        chosen = array_of(column) if name.startswith("_") else column
        rendered = await render(db, database_url, source, inspector, [chosen], ", PRIMARY KEY (c0000)")
        assert_same(rendered)
        await db.execute(f"DROP PUBLICATION {db.info.dbname}; DROP TABLE rendered".encode())
        inspector.clean(None)


async def test_a_key_of_several_types_in_key_order(
    db: Connection, database_url: str, source: SnapshotSource, inspector: Inspector
) -> None:
    columns = [
        Column("text", STRINGS),
        Column("int", [str(number) for number in range(len(STRINGS))]),
        Column("bool", ("true", "false")),
        Column("inet", ("10.0.0.1", "10.0.0.0/8")),
        Column("char(3)", ("a/",)),
        Column("text", STRINGS),
    ]
    key = ", PRIMARY KEY (c0001, c0000, c0002, c0003, c0004)"
    assert_same(await render(db, database_url, source, inspector, columns, key))


async def test_a_row_of_nulls_and_a_table_without_columns(
    db: Connection, database_url: str, source: SnapshotSource, inspector: Inspector
) -> None:
    rendered = await render(
        db, database_url, source, inspector, [Column("int", ("1",)), Column("text", ("a", "b"))]
    )
    assert json.loads(rendered.snapshot[1])["key"] == '"public"."rendered"/_/"b"'
    assert_same(rendered)
    await db.execute("CREATE TABLE nothing (); INSERT INTO nothing DEFAULT VALUES")
    relation = await inspector.relation("public", "nothing")
    async with source.open(relation) as snapshot:
        await snapshot.take()
        ((text,),) = [batch async for batch in snapshot.rows(copy_rows(relation, [], None))]
    assert text == (
        b'{"key":"\\"public\\".\\"nothing\\"","value":{},'
        b'"headers":{"operation":"insert","relation":["public","nothing"]}}'
    )


async def test_names_that_need_escapes(db: Connection, source: SnapshotSource, inspector: Inspector) -> None:
    await db.execute(
        'CREATE SCHEMA "s/""1\\"; CREATE TABLE "s/""1\\"."t\'\n%s" ("c""\t\'é%s" int PRIMARY KEY)'.encode()
    )
    await db.execute(b'INSERT INTO "s/""1\\"."t\'\n%s" VALUES (1)')
    relation = await inspector.relation('s/"1\\', "t'\n%s")
    async with source.open(relation) as snapshot:
        await snapshot.take()
        ((text,),) = [
            batch async for batch in snapshot.rows(copy_rows(relation, relation.column_index, None))
        ]
    assert json.loads(text) == {
        "key": row_key(key_prefix('s/"1\\', "t'\n%s"), ["1"]),
        "value": {"c\"\t'é%s": "1"},
        "headers": {"operation": "insert", "relation": ['s/"1\\', "t'\n%s"]},
    }


async def test_every_character_has_the_same_escapes_in_sql_and_python(db: Connection) -> None:
    blocks = [range(first, first + 0x800) for first in range(0, 0x110000, 0x800) if first != 0xD800]
    for block in blocks:
        text = "".join(chr(point) for point in block if point)
        row = await (await db.execute("SELECT to_json(%s::text)::text", (text,))).fetchone()
        assert row is not None
        assert json_text(text).decode() == row[0], f"{block.start:x}"
