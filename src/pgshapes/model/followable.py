"""Which tables can be followed, and what to do about one that cannot. Pure.

A table is followed exactly, or it is refused: its rows are all in its log, each row has a key of its own, and
no statement of the table's owner fails because the table is published with REPLICA IDENTITY FULL. What the
publication itself must be like is in `postgres.publication_sql`.
"""

from __future__ import annotations

from typing import Final, NamedTuple

from pgshapes.model.quoting import qualified_name, quote_identifier
from pgshapes.model.relation import Relation

_FIRST_USER_OID: Final = 16384
"""Relations with smaller oids are made by initdb and cannot be published."""


class Obstacle(NamedTuple):
    """Why a table cannot be followed, and what to do. Texts begin in lower case and have no full stop."""

    reason: str
    advice: str
    statements: tuple[str, ...] = ()
    """SQL for the owner of the table or an administrator; `…` stands for what only they know."""
    breaks_writes: bool = False
    """Whether UPDATE and DELETE of the table's owner fail while it is published."""

    def describe(self, schema: str, name: str) -> str:
        """The text for clients."""
        advice = self.advice[:1].upper() + self.advice[1:]
        return f"Table {qualified_name(schema, name)} cannot be followed: {self.reason}. {advice}."


def find_obstacle(relation: Relation, *, allows_no_key: bool) -> Obstacle | None:
    """Why the table cannot be followed whichever of its columns are requested; None if it can.

    `allows_no_key` is the setting `allow_tables_without_key`.
    """
    return (
        _of_kind(relation)
        or _of_storage(relation)
        or _of_rights(relation)
        or _of_columns(relation)
        or _of_key(relation, allows_no_key=allows_no_key)
    )


_KINDS: Final = {
    "v": ("it is a view", "request the tables that it selects from"),
    "m": ("it is a materialized view", "request the tables that it selects from"),
    "f": ("it is a foreign table", "request the table on the server that stores it"),
    "S": ("it is a sequence", "request a table"),
    "i": ("it is an index", "request its table"),
    "I": ("it is an index", "request its table"),
    "c": ("it is a composite type", "request a table"),
    "t": ("it is a TOAST table", "request the table that it belongs to"),
}


def _of_kind(relation: Relation) -> Obstacle | None:
    if relation.oid < _FIRST_USER_OID:
        return Obstacle(
            "it belongs to the system catalogs, which are not replicated", "request another table"
        )
    if relation.kind in ("r", "p"):
        return None
    return Obstacle(*_KINDS.get(relation.kind, ("it is not a table", "request a table")))


def _of_storage(relation: Relation) -> Obstacle | None:
    table = qualified_name(relation.schema, relation.name)
    if relation.persistence == "t":
        return Obstacle("it is temporary", "request a permanent table")
    if relation.persistence == "u":
        return Obstacle(
            "it is unlogged, so its changes are not replicated",
            "make it a logged table",
            (f"ALTER TABLE {table} SET LOGGED",),
        )
    if relation.unlogged_parts:
        return Obstacle(
            f"its partition {relation.unlogged_parts[0]} is unlogged, so changes there are not replicated",
            "make it a logged table",
            tuple(f"ALTER TABLE {part} SET LOGGED" for part in relation.unlogged_parts),
        )
    if relation.has_inheriting_tables:
        return Obstacle(
            "other tables inherit from it, and a SELECT returns their rows, too, which it does not store",
            "request the inheriting tables, or use declarative partitioning",
        )
    return None


def _of_rights(relation: Relation) -> Obstacle | None:
    table, role = qualified_name(relation.schema, relation.name), relation.role or "…"
    if not relation.is_schema_usable:
        statement = f"GRANT USAGE ON SCHEMA {quote_identifier(relation.schema)} TO {role}"
        return Obstacle(
            "the role of the server lacks USAGE on its schema", "grant it and request again", (statement,)
        )
    if not any(column.is_readable for column in relation.columns) and not relation.is_readable:
        return Obstacle(
            "the role of the server may not read it",
            "grant SELECT and request again",
            (f"GRANT SELECT ON {table} TO {role}",),
        )
    if relation.is_row_security_active:
        return Obstacle(
            "row-level security applies to the role of the server, and replication ignores policies",
            "let the server use a role to which no policies apply",
            (f"ALTER ROLE {role} BYPASSRLS", f"ALTER TABLE {table} NO FORCE ROW LEVEL SECURITY"),
        )
    return None


def _of_columns(relation: Relation) -> Obstacle | None:
    virtual = next((column.name for column in relation.columns if column.is_virtual), None)
    if virtual is None:
        return None
    return Obstacle(
        f"its column {quote_identifier(virtual)} is a virtual generated column, with which UPDATE and DELETE"
        " fail on a table that is published with REPLICA IDENTITY FULL",
        "replace it by a stored generated column, or move it to a view",
        (
            f"ALTER TABLE {qualified_name(relation.schema, relation.name)} DROP COLUMN"
            f" {quote_identifier(virtual)}, ADD COLUMN {quote_identifier(virtual)} … GENERATED ALWAYS AS (…)"
            " STORED",
        ),
        breaks_writes=True,
    )


def _of_key(relation: Relation, *, allows_no_key: bool) -> Obstacle | None:
    # Without a primary key a partition may be a foreign table, too, whose changes are not replicated.
    table = qualified_name(relation.schema, relation.name)
    if relation.kind == "p" and not relation.has_primary_key:
        return Obstacle(
            "it is partitioned and has no primary key"
            + (" that is not deferrable" if relation.has_deferrable_key else "")
            + ", so that UPDATE and DELETE would fail on each new partition while it is published",
            "add a primary key",
            (f"ALTER TABLE {table} ADD PRIMARY KEY (…)",),
            breaks_writes=True,
        )
    if relation.primary_key or allows_no_key:
        return None
    if relation.has_deferrable_key:
        return Obstacle(
            "its primary key is deferrable, so that two rows may have one key within a transaction",
            "add a unique index on NOT NULL columns",
            (f"CREATE UNIQUE INDEX CONCURRENTLY ON {table} (…)",),
        )
    return Obstacle(
        "it has neither a primary key nor a unique index on NOT NULL columns, so that equal rows cannot be"
        " told apart",
        "add one, or set PGSHAPES_ALLOW_TABLES_WITHOUT_KEY if it never has equal rows",
        (f"ALTER TABLE {table} ADD PRIMARY KEY (…)",),
    )
