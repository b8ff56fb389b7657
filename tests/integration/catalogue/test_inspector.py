"""The inspector on the system catalogs of a real server."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import psycopg
import pytest

from pgshapes.errors import NotNow, RequestError
from pgshapes.postgres.connection import Connection, ConnectionPool, connect
from pgshapes.postgres.electric_schema import schema_header
from pgshapes.postgres.inspector import Inspector

pytestmark = pytest.mark.each_postgres

INT4, TEXT, BOOL = 23, 25, 16


async def oid_of(db: Connection, table: str) -> int:
    row = await (await db.execute("SELECT %s::regclass::oid::int8", (table,))).fetchone()
    assert row is not None
    return int(row[0])


async def test_a_table_is_found_with_its_columns_and_key(db: Connection, inspector: Inspector) -> None:
    await db.execute("CREATE TYPE mood AS ENUM ('sad', 'ok')")
    await db.execute(
        'CREATE TABLE "My ""table" (gone int, b text COLLATE "C" NOT NULL, a int, m mood, c int[][],'
        " twice int GENERATED ALWAYS AS (a * 2) STORED, PRIMARY KEY (b, a))"
    )
    await db.execute('ALTER TABLE "My ""table" DROP COLUMN gone')
    found = await inspector.relation("public", 'My "table')
    assert (found.schema, found.name, found.kind) == ("public", 'My "table', "r")
    assert found.oid == await oid_of(db, '"My ""table"')
    assert found.primary_key == ("b", "a")
    assert [column.name for column in found.columns] == ["b", "a", "m", "c", "twice"]
    b, a, m, c, twice = found.columns
    assert (b.type_oid, b.not_null, b.pk_index, b.collation) == (TEXT, True, 0, "C")
    assert (a.type_oid, a.pk_index, a.collation) == (INT4, 1, None)
    assert (m.type_name, m.type_kind) == ("mood", "e")
    assert (c.type_name, c.element_type_name, c.dims) == ("_int4", "int4", 2)
    assert twice.is_generated
    assert found.publishes_generated == (db.info.server_version >= 180000)


async def test_generated_columns_are_marked(db: Connection, inspector: Inspector) -> None:
    if db.info.server_version < 180000:
        pytest.skip("virtual columns came with Postgres 18")
    await db.execute(
        "CREATE TABLE t (a int, b int GENERATED ALWAYS AS (a) STORED, c int GENERATED ALWAYS AS (a) VIRTUAL)"
    )
    columns = (await inspector.relation("public", "t")).columns
    assert [(column.is_generated, column.is_virtual) for column in columns] == [
        (False, False),
        (True, False),
        (True, True),
    ]


async def test_the_key_is_that_of_the_index_without_its_included_columns(
    db: Connection, inspector: Inspector
) -> None:
    await db.execute("CREATE TABLE t (a int, b int, c int, PRIMARY KEY (c, a) INCLUDE (b))")
    assert (await inspector.relation("public", "t")).primary_key == ("c", "a")


async def test_collations_have_their_real_names(db: Connection, inspector: Inspector) -> None:
    await db.execute('CREATE TABLE t (a text, b text COLLATE "POSIX", c text[])')
    found = await inspector.relation("public", "t")
    a, b, c = found.columns
    row = await (
        await db.execute("SELECT datcollate FROM pg_database WHERE datname = current_database()")
    ).fetchone()
    assert row is not None
    assert a.collation == c.collation == found.database_collation == row[0]
    assert (b.collation, b.collation_provider) == ("POSIX", "c")
    assert found.server_version == db.info.server_version


async def test_collations_have_their_provider(db: Connection, inspector: Inspector) -> None:
    try:
        await db.execute(
            "CREATE COLLATION blind (provider=icu, locale='und-u-ks-level2', deterministic=false)"
        )
    except psycopg.errors.FeatureNotSupported:
        pytest.skip("this server was built without ICU")
    await db.execute("CREATE TABLE t (a text COLLATE blind)")
    (a,) = (await inspector.relation("public", "t")).columns
    assert (a.collation, a.collation_provider) == ("und-u-ks-level2", "i")
    assert not a.is_deterministic_collation


async def test_a_domain_has_its_base_type(db: Connection, inspector: Inspector) -> None:
    await db.execute("CREATE DOMAIN inner_one AS int; CREATE DOMAIN outer_one AS inner_one")
    await db.execute("CREATE TABLE t (a outer_one, b int, c inner_one[])")
    a, b, c = (await inspector.relation("public", "t")).columns
    assert (a.type_name, a.type_kind, a.base_type_oid) == ("outer_one", "d", INT4)
    assert b.base_type_oid == c.base_type_oid == 0


@pytest.mark.parametrize(
    "make",
    [
        "SELECT 1",
        'CREATE TABLE "T" (a int)',
    ],
)
async def test_a_table_of_another_name_is_not_found(db: Connection, inspector: Inspector, make: str) -> None:
    await db.execute(make.encode())
    with pytest.raises(RequestError) as refused:
        await inspector.relation("public", "t")
    assert refused.value.errors == {
        "table": [
            'Table "public"."t" does not exist. If the table name contains capitals or special characters'
            " you must quote it."
        ]
    }


async def test_a_partitioned_table_knows_its_leaves(db: Connection, inspector: Inspector) -> None:
    await db.execute("CREATE TABLE root (a int, b int) PARTITION BY LIST (a)")
    await db.execute("CREATE TABLE middle PARTITION OF root FOR VALUES IN (1) PARTITION BY LIST (b)")
    await db.execute("CREATE TABLE leaf PARTITION OF middle DEFAULT")
    await db.execute("CREATE TABLE other PARTITION OF root DEFAULT")
    root, middle, leaf, other = [await oid_of(db, name) for name in ("root", "middle", "leaf", "other")]
    assert (await inspector.relation("public", "root")).kind == "p"
    assert set(await inspector.leaves(root)) == {leaf, other}
    assert await inspector.existing([leaf, root, other, 1]) == {leaf, root, other}
    above = await inspector.ancestors([leaf, root, other, 1])
    assert {oid: set(oids) for oid, oids in above.items()} == {
        leaf: {middle, root},
        root: set(),
        other: {root},
        1: set(),
    }
    assert await inspector.leaves(leaf) == ()


async def test_a_new_partition_is_seen_after_clean(db: Connection, inspector: Inspector) -> None:
    await db.execute("CREATE TABLE root (a int) PARTITION BY LIST (a)")
    root = await oid_of(db, "root")
    assert await inspector.leaves(root) == ()
    await db.execute("CREATE TABLE leaf PARTITION OF root DEFAULT")
    inspector.clean(root)
    assert await inspector.leaves(root) == (await oid_of(db, "leaf"),)


async def test_generations_change_only_with_the_table(db: Connection, inspector: Inspector) -> None:
    await db.execute("CREATE TABLE t (a int PRIMARY KEY)")
    first = await inspector.relation("public", "t")
    inspector.clean(first.oid)
    assert await inspector.relation_by_oid(first.oid) == first == await inspector.relation("public", "t")
    await db.execute("ALTER TABLE t ADD COLUMN b text")
    assert await inspector.relation("public", "t") == first
    inspector.clean(first.oid)
    second = await inspector.relation("public", "t")
    assert second.generation != first.generation
    assert [column.name for column in second.columns] == ["a", "b"]
    await db.execute("DROP TABLE t; CREATE TABLE t (a int PRIMARY KEY)")
    inspector.clean(None)
    assert await inspector.relation_by_oid(first.oid) is None
    assert (await inspector.relation("public", "t")).generation not in (first.generation, second.generation)


async def test_concurrent_requests_share_a_look_up(
    db: Connection, make_pool: Callable[[int], ConnectionPool]
) -> None:
    await db.execute("CREATE TABLE t (a int)")
    inspector = Inspector(make_pool(1))
    found = await asyncio.gather(*(inspector.relation("public", "t") for _ in range(300)))
    assert len(set(map(id, found))) == 1
    assert (inspector.look_ups, inspector.shared_look_ups) == (1, 299)


async def test_describe_gives_types_and_executes_nothing(db: Connection, inspector: Inspector) -> None:
    await db.execute("CREATE TABLE t (a int, b text)")
    await db.execute("CREATE SEQUENCE numbers")
    assert await inspector.describe("SELECT a, b, a > 1, nextval('public.numbers')::int FROM public.t") == (
        INT4,
        TEXT,
        BOOL,
        INT4,
    )
    row = await (await db.execute("SELECT is_called FROM numbers")).fetchone()
    assert row == (False,)


@pytest.mark.parametrize(
    ("sql", "text", "position"),
    [
        ("SELECT nope FROM public.t", 'column "nope" does not exist', 8),
        ("SELECT 'x'::int FROM public.t", 'invalid input syntax for type integer: "x"', 8),
        ("SELECT a = b FROM public.t", "operator does not exist: integer = text", 10),
        ("SELECT 1; SELECT 2", "cannot insert multiple commands into a prepared statement", None),
    ],
)
async def test_an_invalid_clause_has_the_message_of_the_server(
    db: Connection, inspector: Inspector, sql: str, text: str, position: int | None
) -> None:
    await db.execute("CREATE TABLE t (a int, b text)")
    with pytest.raises(RequestError) as refused:
        await inspector.describe(sql)
    assert refused.value.errors == {"where": [text]}
    assert refused.value.details["position"] == position
    assert await inspector.describe("SELECT a FROM public.t") == (INT4,)


async def test_an_unreachable_database_is_not_now() -> None:
    pool = ConnectionPool(lambda: connect("postgresql://nobody@127.0.0.1:1/none"), 1)
    inspector = Inspector(pool)
    for _ in range(3):
        with pytest.raises(NotNow, match="Cannot connect to the database to verify the shape"):
            await inspector.relation("public", "t")
    assert inspector.look_ups == 1


async def test_a_slow_database_is_not_now(db: Connection, make_pool: Callable[[int], ConnectionPool]) -> None:
    await db.execute("CREATE TABLE t (a int)")
    pool = make_pool(1)
    inspector = Inspector(pool, timeout_s=0.05, failure_ttl_s=0.0)
    async with pool.connection():
        with pytest.raises(NotNow):
            await inspector.relation("public", "t")
    patient = Inspector(pool)
    assert (await patient.relation("public", "t")).name == "t"


async def test_a_closed_connection_is_replaced(db: Connection, inspector: Inspector) -> None:
    await db.execute("CREATE TABLE t (a int)")
    await inspector.relation("public", "t")
    await db.execute(
        "SELECT pg_terminate_backend(pid, 10000) FROM pg_stat_activity"
        " WHERE datname = current_database() AND pid <> pg_backend_pid()"
    )
    inspector.clean(None)
    assert (await inspector.relation("public", "t")).name == "t"


async def test_electric_schema_of_real_types(db: Connection, inspector: Inspector) -> None:
    await db.execute(
        "CREATE TABLE t (id int PRIMARY KEY, name varchar(20), code char(3), price numeric(10, 2),"
        " at timestamptz(3), wait interval day to second(3), years interval year, bits bit varying(5),"
        " tags text[] NOT NULL, short varchar(7)[][], clock timetz(0))"
    )
    relation = await inspector.relation("public", "t")
    assert schema_header(relation, [column.name for column in relation.columns]) == (
        b'{"id":{"type":"int4","pk_index":0,"not_null":true},"name":{"type":"varchar","max_length":20},'
        b'"code":{"type":"bpchar","length":3},"price":{"type":"numeric","precision":10,"scale":2},'
        b'"at":{"type":"timestamptz","precision":3},'
        b'"wait":{"type":"interval","fields":"DAY TO SECOND","precision":3},'
        b'"years":{"type":"interval","fields":"YEAR"},"bits":{"type":"varbit","length":5},'
        b'"tags":{"type":"text","dims":1,"not_null":true},'
        b'"short":{"type":"varchar","dims":2,"max_length":7},"clock":{"type":"timetz","type_mod":0}}'
    )
