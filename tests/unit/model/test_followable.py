"""Which tables cannot be followed, why, and what to do."""

from __future__ import annotations

import pytest

from pgshapes.model.followable import find_obstacle
from pgshapes.model.relation import Column, Relation

ID = Column("id", 23, "int4", "b", -1, 0, None, True, 0, False)
NOTE = Column("note", 25, "text", "b", -1, 0, None, False, None, False)
TABLE = Relation(20_000, "s", 't"', "r", (ID, NOTE), ("id",), 1, role="app")
KEYLESS = TABLE._replace(primary_key=(), has_primary_key=False)
ROOT = TABLE._replace(kind="p")
SECRET = NOTE._replace(is_readable=False)


@pytest.mark.parametrize(
    ("table", "reason", "statement"),
    [
        (TABLE._replace(kind="v"), "it is a view", None),
        (TABLE._replace(kind="m"), "it is a materialized view", None),
        (TABLE._replace(kind="f"), "it is a foreign table", None),
        (TABLE._replace(kind="S"), "it is a sequence", None),
        (TABLE._replace(kind="i"), "it is an index", None),
        (TABLE._replace(kind="?"), "it is not a table", None),
        (TABLE._replace(oid=1259), "it belongs to the system catalogs", None),
        (TABLE._replace(persistence="t"), "it is temporary", None),
        (TABLE._replace(persistence="u"), "it is unlogged", 'ALTER TABLE "s"."t""" SET LOGGED'),
        (
            ROOT._replace(unlogged_parts=("s.u",)),
            "its partition s.u is unlogged",
            "ALTER TABLE s.u SET LOGGED",
        ),
        (TABLE._replace(has_inheriting_tables=True), "other tables inherit from it", None),
        (TABLE._replace(is_schema_usable=False), "lacks USAGE", 'GRANT USAGE ON SCHEMA "s" TO app'),
        (
            TABLE._replace(is_readable=False, columns=(SECRET,)),
            "may not read it",
            'GRANT SELECT ON "s"."t""" TO app',
        ),
        (TABLE._replace(is_row_security_active=True), "row-level security", "ALTER ROLE app BYPASSRLS"),
        (KEYLESS, "neither a primary key nor", 'ALTER TABLE "s"."t""" ADD PRIMARY KEY (…)'),
        (
            KEYLESS._replace(has_deferrable_key=True),
            "its primary key is deferrable",
            'CREATE UNIQUE INDEX CONCURRENTLY ON "s"."t""" (…)',
        ),
    ],
)
def test_tables_that_cannot_be_followed(table: Relation, reason: str, statement: str | None) -> None:
    found = find_obstacle(Relation(*table), allows_no_key=False)
    assert found is not None
    assert reason in found.reason
    assert (statement in found.statements) if statement else not found.statements
    assert not found.breaks_writes
    text = found.describe(table.schema, table.name)
    assert text.startswith('Table "s"."t""" cannot be followed: ' + found.reason)
    assert text.endswith(".")


@pytest.mark.parametrize(
    "table",
    [
        TABLE._replace(columns=(ID, NOTE._replace(is_generated=True, is_virtual=True))),
        ROOT._replace(has_primary_key=False),
        ROOT._replace(has_primary_key=False, primary_key=(), has_deferrable_key=True),
    ],
    ids=["virtual column", "partitioned with a unique index only", "partitioned with a deferrable key"],
)
@pytest.mark.parametrize("allows_no_key", [True, False])
def test_tables_whose_owner_could_not_write_any_more(table: Relation, allows_no_key: bool) -> None:
    found = find_obstacle(Relation(*table), allows_no_key=allows_no_key)
    assert found is not None
    assert found.breaks_writes


@pytest.mark.parametrize(
    "table",
    [
        TABLE,
        ROOT,
        TABLE._replace(is_readable=False, columns=(ID, SECRET)),
        TABLE._replace(has_primary_key=False),
        TABLE._replace(has_primary_key=False, has_deferrable_key=True),
        TABLE._replace(columns=(ID, NOTE._replace(is_generated=True))),
    ],
)
def test_tables_that_can_be_followed(table: Relation) -> None:
    assert find_obstacle(Relation(*table), allows_no_key=False) is None


def test_a_table_without_a_key_can_be_allowed() -> None:
    assert find_obstacle(Relation(*KEYLESS), allows_no_key=True) is None
    deferrable = Relation(*KEYLESS._replace(has_deferrable_key=True))
    assert find_obstacle(deferrable, allows_no_key=True) is None
