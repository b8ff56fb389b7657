"""After which statements pgoutput announces a relation again, on each version.

A change of values that is not announced has to be found in another way.
"""

from __future__ import annotations

import psycopg
import pytest
from tests.support.postgres.replicated import PUBLICATION

from pgshapes.postgres.pgoutput import decode_message
from pgshapes.postgres.pgoutput_messages import Insert, Message, RelationMessage

pytestmark = pytest.mark.each_postgres

ANNOUNCED = {
    "a new column": "ALTER TABLE {t} ADD z int",
    "no column": "ALTER TABLE {t} DROP a",
    "another column of the same name": "ALTER TABLE {t} DROP a, ADD a int",
    "another name": "ALTER TABLE {t} RENAME a TO z",
    "another type": "ALTER TABLE {t} ALTER a TYPE text",
    "the same type with other values": "ALTER TABLE {t} ALTER a TYPE int USING a + 1",
    "another length": "ALTER TABLE {t} ALTER v TYPE varchar(20)",
    "a default": "ALTER TABLE {t} ALTER a SET DEFAULT 5",
    "no generation expression": "ALTER TABLE {t} ALTER g DROP EXPRESSION",
    "no key": "ALTER TABLE {t} DROP CONSTRAINT {t}_pkey",
    "another identity": "ALTER TABLE {t} REPLICA IDENTITY DEFAULT",
    "row level security": "ALTER TABLE {t} ENABLE ROW LEVEL SECURITY",
    "another name of the table": "ALTER TABLE {t} RENAME TO {t}_renamed",
    "another schema": "CREATE SCHEMA {t}_schema; ALTER TABLE {t} SET SCHEMA {t}_schema",
    "a child": "CREATE TABLE {t}_child () INHERITS ({t})",
    "removed and published again": f"ALTER PUBLICATION {PUBLICATION} DROP TABLE {{t}};"
    f" ALTER PUBLICATION {PUBLICATION} ADD TABLE {{t}}",
    "an index": "CREATE INDEX ON {t} (a)",
    "rewritten": "CLUSTER {t} USING {t}_pkey",
    "analyzed": "ANALYZE {t}",
}

UNANNOUNCED = {
    "nothing": "SELECT '{t}'",
    "another label": "ALTER TYPE {t}_mood RENAME VALUE 'sad' TO 'blue'",
    "another name of the enum": "ALTER TYPE {t}_mood RENAME TO {t}_feeling",
    "a new attribute": "ALTER TYPE {t}_pair ADD ATTRIBUTE z int",
    "another function of a generated column": "CREATE OR REPLACE FUNCTION {t}_next(int) RETURNS int IMMUTABLE"
    " LANGUAGE sql AS 'SELECT $1 + 9'",
    "a comment": "COMMENT ON COLUMN {t}.a IS '{t}'",
    "the same identity": "ALTER TABLE {t} REPLICA IDENTITY FULL",
    "no triggers": "ALTER TABLE {t} DISABLE TRIGGER ALL",
}

TABLE = """
CREATE TYPE {t}_mood AS ENUM ('sad'); CREATE TYPE {t}_pair AS (x int, y int);
CREATE FUNCTION {t}_next(int) RETURNS int IMMUTABLE LANGUAGE sql AS 'SELECT $1 + 1';
CREATE TABLE {t} (id int PRIMARY KEY, a int, v varchar(10), m {t}_mood, p {t}_pair,
                  g int GENERATED ALWAYS AS ({t}_next(id)) STORED);
ALTER TABLE {t} REPLICA IDENTITY FULL;
"""

PARTITIONS = f"""
CREATE TABLE t (id int PRIMARY KEY) PARTITION BY LIST (id);
CREATE TABLE leaf PARTITION OF t FOR VALUES IN (1, 2, 3, 4);
CREATE TABLE other (id int NOT NULL);
ALTER TABLE leaf REPLICA IDENTITY FULL; ALTER TABLE other REPLICA IDENTITY FULL;
CREATE PUBLICATION {PUBLICATION} FOR TABLE t
"""

SLOT_CHANGES = f"""
SELECT data FROM pg_logical_slot_get_binary_changes(
  %s, NULL, NULL, 'proto_version', '1', 'publication_names', '{PUBLICATION}')
"""


class Decoded:
    """A slot whose changes are read by one decoding, as a walsender does."""

    def __init__(self, sql: psycopg.Connection) -> None:
        self._sql = sql
        self._slot = f"slot_{sql.info.dbname}"
        sql.execute("SELECT pg_create_logical_replication_slot(%s, 'pgoutput')", (self._slot,))

    def messages(self) -> list[Message]:
        return [decode_message(bytes(data)) for (data,) in self._sql.execute(SLOT_CHANGES, (self._slot,))]


def oid_of(sql: psycopg.Connection, table: str) -> int:
    row = sql.execute("SELECT %s::regclass::oid::int8", (table,)).fetchone()
    assert row is not None
    return int(row[0])


def insert(sql: psycopg.Connection, oid: int, key: int) -> None:
    """Add a row to the table, whatever its name is now."""
    row = sql.execute("SELECT %s::oid::regclass::text", (oid,)).fetchone()
    assert row is not None
    sql.execute(f"INSERT INTO {row[0]} (id) VALUES ({key})")


def announced_again(messages: list[Message], oid: int) -> bool:
    """Whether the table is announced between its first and its second row."""
    kinds = [type(each) for each in messages if getattr(each, "oid", getattr(each, "relation_oid", 0)) == oid]
    first, *between, last = kinds[kinds.index(Insert) :]
    assert first is last is Insert
    return RelationMessage in between


def keys(messages: list[Message], oid: int) -> list[str]:
    return [str(each.new[0]) for each in messages if isinstance(each, Insert) and each.relation_oid == oid]


def test_what_announces_a_relation_again(sql: psycopg.Connection) -> None:
    statements = {**ANNOUNCED, **UNANNOUNCED}
    tables = {change: f"t{number}" for number, change in enumerate(statements)}
    for table in tables.values():
        sql.execute(TABLE.format(t=table))
    # On 15 to 17 a changed membership announces all tables again, also those whose two rows it lies between:
    # none, because the rows of each table are written right before and after its statement.
    sql.execute(f"CREATE PUBLICATION {PUBLICATION} FOR TABLE {', '.join(tables.values())}")
    decoded = Decoded(sql)
    oids = {change: oid_of(sql, table) for change, table in tables.items()}
    for change, statement in statements.items():
        insert(sql, oids[change], 1)
        sql.execute(statement.format(t=tables[change]))
        insert(sql, oids[change], 2)
    messages = decoded.messages()
    assert {change for change, oid in oids.items() if announced_again(messages, oid)} == set(ANNOUNCED)


@pytest.mark.parametrize(
    "statement",
    [
        f"ALTER PUBLICATION {PUBLICATION} SET (publish = 'insert, update, delete, truncate')",
        f"DROP PUBLICATION {PUBLICATION}; CREATE PUBLICATION {PUBLICATION} FOR TABLE t, other",
    ],
)
def test_a_change_of_the_publication_announces_all_tables(sql: psycopg.Connection, statement: str) -> None:
    sql.execute("CREATE TABLE t (id int PRIMARY KEY); CREATE TABLE other (id int PRIMARY KEY)")
    sql.execute(f"CREATE PUBLICATION {PUBLICATION} FOR TABLE t, other")
    decoded = Decoded(sql)
    oids = [oid_of(sql, table) for table in ("t", "other")]
    for key in (1, 2):
        for oid in oids:
            insert(sql, oid, key)
        sql.execute(statement)
    messages = decoded.messages()
    assert all(announced_again(messages, oid) for oid in oids)


def test_a_gap_in_a_transaction_is_announced_with_the_next_row(
    sql: psycopg.Connection, database_url: str
) -> None:
    """A change of the publication does not wait for writers, so that half a transaction can be missing."""
    sql.execute("CREATE TABLE t (id int PRIMARY KEY)")
    sql.execute(f"CREATE PUBLICATION {PUBLICATION} FOR TABLE t")
    decoded, oid = Decoded(sql), oid_of(sql, "t")
    with psycopg.connect(database_url) as writer:
        insert(writer, oid, 1)
        sql.execute(f"ALTER PUBLICATION {PUBLICATION} DROP TABLE t")
        insert(writer, oid, 2)
        sql.execute(f"ALTER PUBLICATION {PUBLICATION} ADD TABLE t")
        insert(writer, oid, 3)
    messages = decoded.messages()
    assert keys(messages, oid) == ["1", "3"]
    assert announced_again(messages, oid)


def test_postgres_14_remembers_to_which_tree_a_leaf_belongs(sql: psycopg.Connection) -> None:
    """Until the publication changes it sends the rows of a detached leaf and not of an attached one."""
    sql.execute(PARTITIONS)
    decoded, leaf, other = Decoded(sql), oid_of(sql, "leaf"), oid_of(sql, "other")
    insert(sql, leaf, 1)
    insert(sql, other, 5)
    sql.execute(
        "ALTER TABLE t DETACH PARTITION leaf; ALTER TABLE t ATTACH PARTITION other FOR VALUES IN (5, 6, 7)"
    )
    insert(sql, leaf, 2)
    insert(sql, other, 6)
    sql.execute(f"ALTER PUBLICATION {PUBLICATION} SET (publish = 'insert, update, delete, truncate')")
    insert(sql, leaf, 3)
    insert(sql, other, 7)
    messages = decoded.messages()
    found = (keys(messages, leaf), keys(messages, other))
    assert found == ((["1", "2"], ["7"]) if sql.info.server_version < 150000 else (["1"], ["6", "7"]))
