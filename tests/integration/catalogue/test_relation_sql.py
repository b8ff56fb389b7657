"""What changes the stamp of a relation, and what a relation has besides names and types, on a real server."""

from __future__ import annotations

import pytest
from tests.support.postgres.databases import SERVER_SETTINGS

from pgshapes.model.relation import Relation
from pgshapes.postgres.connection import Connection
from pgshapes.postgres.inspector import Inspector
from pgshapes.postgres.relation_sql import RELATION_BY_OID, relation_from_row, rights_of, stamps

pytestmark = pytest.mark.each_postgres

TABLES = """
CREATE TYPE mood AS ENUM ('sad', 'ok');
CREATE TYPE pair AS (a int, m mood);
CREATE DOMAIN feeling AS mood;
CREATE TYPE span AS RANGE (subtype = int);
CREATE TABLE items (
  id int PRIMARY KEY, name text, m mood, ms mood[], p pair, f feeling, s span,
  doubled int GENERATED ALWAYS AS (id * 2) STORED);
CREATE TABLE other (id int PRIMARY KEY, of regclass, ofs regclass[]);
CREATE TABLE root (id int, k int, PRIMARY KEY (id, k)) PARTITION BY LIST (k);
CREATE TABLE leaf PARTITION OF root FOR VALUES IN (1);
CREATE PUBLICATION p FOR TABLE items, other, root;
CREATE PUBLICATION unrelated;
"""

CHANGING = {
    "column added": "ALTER TABLE items ADD c int",
    "column dropped": "ALTER TABLE items DROP name",
    "column renamed": "ALTER TABLE items RENAME name TO title",
    "type": "ALTER TABLE items ALTER name TYPE varchar",
    "same type rewritten": "ALTER TABLE items ALTER name TYPE text USING upper(name)",
    "NOT NULL": "ALTER TABLE items ALTER name SET NOT NULL",
    "renamed": "ALTER TABLE items RENAME TO things",
    "schema renamed": "ALTER SCHEMA public RENAME TO aside",
    "identity": "ALTER TABLE items REPLICA IDENTITY FULL",
    "key dropped": "ALTER TABLE items DROP CONSTRAINT items_pkey",
    "unique index": "CREATE UNIQUE INDEX ON items (name)",
    "row security": "ALTER TABLE items ENABLE ROW LEVEL SECURITY",
    "label renamed": "ALTER TYPE mood RENAME VALUE 'ok' TO 'fine'",
    "label added": "ALTER TYPE mood ADD VALUE 'new'",
    "attribute added": "ALTER TYPE pair ADD ATTRIBUTE c int",
    "attribute renamed": "ALTER TYPE pair RENAME ATTRIBUTE a TO b",
    "inheriting table": "CREATE TABLE child () INHERITS (items)",
    "VACUUM FULL": "VACUUM FULL items",
}

UNCHANGING = {
    "rows": "INSERT INTO items VALUES (1, 'a')",
    "ANALYZE": "ANALYZE items",
    "VACUUM": "VACUUM items",
    "comment": "COMMENT ON TABLE items IS 'x'",
    "another table": "ALTER TABLE other ADD c int",
    "another table's row type": "CREATE TABLE third (id int)",
    "another publication": "ALTER PUBLICATION unrelated ADD TABLE items",
    "VACUUM FULL of the catalogs": "VACUUM FULL pg_attribute",
    "VACUUM FREEZE of the catalogs": "VACUUM FREEZE pg_class",
}

OF_THE_PUBLICATION = {
    "dropped and added": "ALTER PUBLICATION p DROP TABLE items; ALTER PUBLICATION p ADD TABLE items",
    "set without and with": "ALTER PUBLICATION p SET TABLE other; ALTER PUBLICATION p SET TABLE items",
    "operations and back": "ALTER PUBLICATION p SET (publish = 'insert');"
    "ALTER PUBLICATION p SET (publish = 'insert, update, delete, truncate')",
    "made again": "DROP PUBLICATION p; CREATE PUBLICATION p FOR TABLE items",
}


@pytest.fixture
async def items(db: Connection, inspector: Inspector) -> Relation:
    for statement in TABLES.split(";"):
        await db.execute(statement.encode())
    return await inspector.relation("public", "items")


async def run(db: Connection, statements: str) -> None:
    for statement in statements.split(";"):
        await db.execute(statement.encode())


@pytest.mark.parametrize("change", CHANGING.values(), ids=CHANGING)
async def test_a_change_of_the_catalogs_changes_the_stamp(
    db: Connection, inspector: Inspector, items: Relation, change: str
) -> None:
    assert await inspector.is_current(items)
    await run(db, change)
    assert not await inspector.is_current(items)


@pytest.mark.parametrize("change", UNCHANGING.values(), ids=UNCHANGING)
async def test_what_does_not_concern_the_table_leaves_the_stamp(
    db: Connection, inspector: Inspector, items: Relation, change: str
) -> None:
    before = await inspector.stamps([items.oid], "p")
    await run(db, change)
    assert await inspector.stamps([items.oid], "p") == before


@pytest.mark.parametrize("change", OF_THE_PUBLICATION.values(), ids=OF_THE_PUBLICATION)
async def test_a_change_of_the_publication_changes_the_membership_only(
    db: Connection, inspector: Inspector, items: Relation, change: str
) -> None:
    (before,) = (await inspector.stamps([items.oid], "p")).values()
    await run(db, change)
    (after,) = (await inspector.stamps([items.oid], "p")).values()
    assert after.stamp == before.stamp
    assert None not in (before.membership, after.membership)
    assert after.membership != before.membership


async def test_tables_that_join_or_leave_do_not_change_the_membership_of_others(
    db: Connection, inspector: Inspector, items: Relation
) -> None:
    before = await inspector.stamps([items.oid], "p")
    await run(db, "ALTER PUBLICATION p DROP TABLE other; ALTER PUBLICATION p ADD TABLE other")
    assert await inspector.stamps([items.oid], "p") == before


async def test_a_schema_in_the_publication_is_a_membership(
    db: Connection, inspector: Inspector, items: Relation
) -> None:
    if db.info.server_version < 150000:
        pytest.skip("before Postgres 15 a publication has no schemas")
    await db.execute("CREATE PUBLICATION of_schema FOR TABLES IN SCHEMA public")
    (first,) = (await inspector.stamps([items.oid], "of_schema")).values()
    await run(
        db,
        "ALTER PUBLICATION of_schema DROP TABLES IN SCHEMA public;"
        "ALTER PUBLICATION of_schema ADD TABLES IN SCHEMA public",
    )
    (second,) = (await inspector.stamps([items.oid], "of_schema")).values()
    assert None not in (first.membership, second.membership)
    assert first.membership != second.membership
    assert (await inspector.stamps([items.oid], "none"))[items.oid].membership is None


async def test_the_types_below_a_column(db: Connection, inspector: Inspector, items: Relation) -> None:
    below = {
        column.name: {
            (detail.kind, tuple(text.split()[0] for _, text in detail.parts))
            for detail in column.type_details
        }
        for column in items.columns
    }
    enum = ("e", ("sad", "ok"))
    assert below["id"] == below["name"] == below["doubled"] == set()
    assert below["m"] == {enum}
    assert below["ms"] == {("b", ()), enum}
    assert enum in below["f"]
    assert {kind for kind, _ in below["f"]} == {"d", "e"}
    assert {kind for kind, _ in below["p"]} == {"c", "e"}
    assert {kind for kind, _ in below["s"]} == {"r"}
    assert [column.number for column in items.columns] == list(range(1, 9))
    assert [column.name for column in items.columns if column.expression] == ["doubled"]


async def test_names_of_objects_are_part_of_the_types_that_show_them(
    db: Connection, inspector: Inspector, items: Relation
) -> None:
    other = await inspector.relation("public", "other")
    await db.execute("ALTER TABLE leaf RENAME TO renamed")
    assert not await inspector.is_current(other)
    inspector.clean(other.oid)
    again = await inspector.relation("public", "other")
    for name in ("of", "ofs"):
        was, now = (each.columns[each.column_index[name]].type_details for each in (other, again))
        assert was != now


LEAVES = {
    "created as one": ("CREATE TABLE new PARTITION OF root FOR VALUES IN (2)", True),
    "created with a default of its own": (
        "CREATE TABLE new PARTITION OF root (id DEFAULT 5, k DEFAULT 2) FOR VALUES IN (2)",
        False,  # not certain: both columns were updated after they were made
    ),
    "created in a subtransaction": (
        "BEGIN; SAVEPOINT s; CREATE TABLE new PARTITION OF root FOR VALUES IN (2); RELEASE s; COMMIT",
        True,
    ),
    "attached": (
        "CREATE TABLE new (LIKE root); ALTER TABLE root ATTACH PARTITION new FOR VALUES IN (2)",
        False,
    ),
    "created with rows and attached in one transaction": (
        "BEGIN; CREATE TABLE new (LIKE root INCLUDING ALL); INSERT INTO new VALUES (1, 2);"
        "ALTER TABLE root ATTACH PARTITION new FOR VALUES IN (2);"
        "COMMIT",
        False,
    ),
    "detached and attached": (
        "CREATE TABLE new PARTITION OF root FOR VALUES IN (2); ALTER TABLE root DETACH PARTITION new;"
        "ALTER TABLE root ATTACH PARTITION new FOR VALUES IN (2)",
        False,
    ),
    "selected into": (
        "BEGIN; CREATE TABLE new AS SELECT 1 AS id, 2 AS k; ALTER TABLE new ALTER id SET NOT NULL;"
        "ALTER TABLE new ALTER k SET NOT NULL; ALTER TABLE root ATTACH PARTITION new FOR VALUES IN (2);"
        "COMMIT",
        False,
    ),
}


@pytest.mark.parametrize(("statements", "is_created_attached"), LEAVES.values(), ids=LEAVES)
async def test_a_partition_that_was_created_as_one_is_known_as_such(
    db: Connection, inspector: Inspector, items: Relation, statements: str, is_created_attached: bool
) -> None:
    await run(db, statements)
    root = await inspector.relation("public", "root")
    row = await (await db.execute("SELECT 'new'::regclass::oid::int8")).fetchone()
    assert row is not None
    (new,) = [part for part in root.parts if part.oid == row[0]]
    assert new.is_created_attached is is_created_attached
    assert len(root.parts) == 2


async def test_only_a_table_without_a_page_certainly_has_no_rows(
    db: Connection, database_url: str, inspector: Inspector, items: Relation
) -> None:
    assert not await inspector.has_rows(items.oid)
    await db.execute("BEGIN; LOCK TABLE items")
    assert await inspector.has_rows(items.oid)
    await db.execute("ROLLBACK; INSERT INTO items VALUES (1); DELETE FROM items")
    assert await inspector.has_rows(items.oid)
    await db.execute("TRUNCATE items")
    assert not await inspector.has_rows(items.oid)
    assert await inspector.has_rows(1)


KEYS = {
    "primary key": ("a int, b int NOT NULL UNIQUE, PRIMARY KEY (b, a)", ("b", "a"), False),
    "unique index": ("a int, b int NOT NULL UNIQUE", ("b",), False),
    "the smaller unique index": ("a int NOT NULL, b int NOT NULL UNIQUE, UNIQUE (a, b)", ("b",), False),
    "unique and nullable": ("a int UNIQUE, b int", (), False),
    "deferrable primary key": ("a int PRIMARY KEY DEFERRABLE, b int", (), True),
    "deferrable, and another": ("a int PRIMARY KEY DEFERRABLE, b int NOT NULL UNIQUE", ("b",), True),
    "deferrable unique": ("a int NOT NULL UNIQUE DEFERRABLE INITIALLY DEFERRED, b int", (), False),
    "included columns": ("a int, b int, PRIMARY KEY (a) INCLUDE (b)", ("a",), False),
}


@pytest.mark.parametrize(("columns", "key", "has_deferrable_key"), KEYS.values(), ids=KEYS)
async def test_the_key_identifies_a_row_at_every_moment(
    db: Connection, inspector: Inspector, columns: str, key: tuple[str, ...], has_deferrable_key: bool
) -> None:
    await db.execute(f"CREATE TABLE keyed ({columns})".encode())
    keyed = await inspector.relation("public", "keyed")
    assert keyed.primary_key == key
    assert keyed.has_deferrable_key is has_deferrable_key
    assert [column.pk_index for column in keyed.columns if column.name in key] == [
        key.index(column.name) for column in keyed.columns if column.name in key
    ]


@pytest.mark.parametrize("index", ["(b) WHERE a > 0", "((b + 1))", "(b, (a + 1))"])
async def test_a_partial_index_or_one_of_expressions_is_no_key(
    db: Connection, inspector: Inspector, index: str
) -> None:
    await db.execute("CREATE TABLE keyed (a int NOT NULL, b int NOT NULL)")
    await db.execute(f"CREATE UNIQUE INDEX ON keyed {index}".encode())
    assert (await inspector.relation("public", "keyed")).primary_key == ()


async def test_a_partition_of_a_table_with_defaults(db: Connection, inspector: Inspector) -> None:
    """Columns with defaults are updated when the partition is created, as ATTACH PARTITION does."""
    await run(
        db,
        "CREATE TABLE root (id int, k int, at timestamptz DEFAULT now(), PRIMARY KEY (id, k))"
        " PARTITION BY LIST (k); CREATE TABLE made PARTITION OF root FOR VALUES IN (1);"
        "CREATE TABLE attached (LIKE root INCLUDING ALL);"
        "ALTER TABLE root ATTACH PARTITION attached FOR VALUES IN (2);"
        "BEGIN; CREATE TABLE joined (LIKE root INCLUDING ALL);"
        "ALTER TABLE root ATTACH PARTITION joined FOR VALUES IN (3); COMMIT",
    )
    root = await inspector.relation("public", "root")
    assert [part.is_created_attached for part in root.parts] == [True, False, False]


async def test_a_partitioned_table_that_is_attached_with_its_leaves(
    db: Connection, inspector: Inspector
) -> None:
    """Its leaves were created as partitions, but not of the root."""
    await run(
        db,
        "CREATE TABLE root (id int, k int, PRIMARY KEY (id, k)) PARTITION BY LIST (k);"
        "CREATE TABLE middle (id int, k int, PRIMARY KEY (id, k)) PARTITION BY LIST (id);"
        "CREATE TABLE leaf PARTITION OF middle FOR VALUES IN (1);"
        "CREATE TABLE made PARTITION OF root FOR VALUES IN (2) PARTITION BY LIST (id);"
        "CREATE TABLE below PARTITION OF made FOR VALUES IN (1);"
        "ALTER TABLE root ATTACH PARTITION middle FOR VALUES IN (1)",
    )
    before = await inspector.relation("public", "root")
    assert [part.is_created_attached for part in before.parts] == [False, True]
    await run(
        db,
        "ALTER TABLE root DETACH PARTITION middle;ALTER TABLE root ATTACH PARTITION middle FOR VALUES IN (1)",
    )
    inspector.clean(before.oid)
    after = await inspector.relation("public", "root")
    assert [
        one.attachment == other.attachment for one, other in zip(before.parts, after.parts, strict=True)
    ] == [
        False,
        True,
    ]


async def test_the_order_of_columns_in_partitions(db: Connection, inspector: Inspector) -> None:
    """Listed where it is another one than in the root."""
    await run(
        db,
        "CREATE TABLE root (id int, spare int, a int, b int) PARTITION BY RANGE (id);"
        " ALTER TABLE root DROP spare;"
        " CREATE TABLE same PARTITION OF root FOR VALUES FROM (0) TO (9);"
        " CREATE TABLE other (b int, id int, a int);"
        " ALTER TABLE root ATTACH PARTITION other FOR VALUES FROM (10) TO (19)",
    )
    root = await inspector.relation("public", "root")
    assert sorted(part.columns for part in root.parts) == [(), ("b", "id", "a")]


async def test_an_expression_of_a_partition(db: Connection, inspector: Inspector) -> None:
    if db.info.server_version < 170000:
        pytest.skip("SET EXPRESSION is new in Postgres 17")
    await run(
        db,
        "CREATE TABLE root (id int PRIMARY KEY, a int, f int GENERATED ALWAYS AS (a * 2) STORED)"
        " PARTITION BY RANGE (id); CREATE TABLE leaf PARTITION OF root FOR VALUES FROM (0) TO (9)",
    )
    before = await inspector.relation("public", "root")
    await db.execute("ALTER TABLE leaf ALTER f SET EXPRESSION AS (a * 9)")
    assert not await inspector.is_current(before)
    inspector.clean(before.oid)
    after = await inspector.relation("public", "root")
    assert before.parts[0].expressions != after.parts[0].expressions
    assert before.columns == after.columns


def test_the_server_does_not_analyze_by_itself() -> None:
    """Otherwise the stamps could change on their own."""
    assert SERVER_SETTINGS["autovacuum"] == "off"


@pytest.mark.parametrize(
    "change",
    [
        "",
        "ALTER TABLE items ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY",
        "GRANT SELECT ON items TO reader_of_stamps; SET ROLE reader_of_stamps",
        "GRANT SELECT (id) ON items TO reader_of_stamps; SET ROLE reader_of_stamps",
        "SET ROLE reader_of_stamps",
        "REVOKE USAGE ON SCHEMA public FROM PUBLIC; SET ROLE reader_of_stamps",
    ],
)
async def test_the_rights_in_a_stamp_are_those_of_the_relation(
    db: Connection, inspector: Inspector, items: Relation, change: str
) -> None:
    await db.execute("CREATE ROLE reader_of_stamps")
    try:
        await run(db, change)
        cursor = await db.execute(RELATION_BY_OID.encode(), (items.oid,))
        relation = relation_from_row(await cursor.fetchone() or ())
        cursor = await db.execute(stamps(db.info.server_version).encode(), ([items.oid], False, "p", "p"))
        rights = (await cursor.fetchone() or ())[4]
        assert rights_of(relation) == rights
    finally:
        await run(db, "RESET ROLE; DROP OWNED BY reader_of_stamps; DROP ROLE reader_of_stamps")
