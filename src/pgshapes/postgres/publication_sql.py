"""The SQL that makes a table ready, that is, published with complete changes. Pure.

A table is *ready* when it is in the publication, and it and all its leaves are REPLICA IDENTITY FULL, which
does not recurse. The transaction locks the table first: when the lock is granted, all transactions that wrote
to the table have ended, and none writes before the commit. So no transaction has written both before and
after the table was published. While the transaction waits for the lock it does not hold the publication,
which ALTER PUBLICATION locks until the commit, so a locked table does not delay others.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final, NamedTuple

from pgshapes.errors import NotNow, PgShapesError, SchemaChanged
from pgshapes.model.quoting import display_name, qualified_name, quote_identifier
from pgshapes.model.relation import Relation
from pgshapes.postgres.refusals import known_refusal
from pgshapes.postgres.relation_sql import membership


class Part(NamedTuple):
    """A table or leaf whose replica identity is not FULL."""

    schema: str
    name: str
    is_ours: bool
    """Whether our role owns it."""


class TableState(NamedTuple):
    """The state of a table and of the publication; None for what does not exist."""

    relation_oid: int
    schema: str | None
    name: str | None
    kind: str | None
    is_ours: bool
    has_publication: bool
    is_publication_ours: bool
    publishes_all_operations: bool
    publishes_generated: bool
    membership: str | None
    """How it is published (`relation_sql.membership`); None if it is not."""
    publishes_parts_only: bool
    """Whether the membership has a row filter or a column list."""
    not_full: tuple[Part, ...]

    @property
    def is_ready(self) -> bool:
        """Whether the table is published and all identities are FULL."""
        return self.membership is not None and not self.not_full


_NOT_FULL: Final = """
SELECT COALESCE(pg_catalog.json_agg(pg_catalog.json_build_array(
         pn.nspname, part.relname, pg_catalog.pg_has_role(part.relowner, 'USAGE')
       ) ORDER BY part.oid), '[]') AS parts
  FROM (WITH RECURSIVE tree(oid) AS (
          SELECT c.oid
          UNION
          SELECT i.inhrelid
            FROM pg_catalog.pg_inherits i JOIN tree ON i.inhparent = tree.oid
           WHERE c.relkind = 'p'
        ) SELECT oid FROM tree) members
  JOIN pg_catalog.pg_class part ON part.oid = members.oid
  JOIN pg_catalog.pg_namespace pn ON pn.oid = part.relnamespace
 WHERE part.relreplident <> 'f' AND (part.relkind = 'r' OR part.oid = c.oid)"""


def table_states(server_version: int) -> str:
    """Arguments: relation oids, name of the publication. One row per oid, for `state_from_row`."""
    return f"""
SELECT wanted.oid, n.nspname::text, c.relname::text, c.relkind::text,
       COALESCE(pg_catalog.pg_has_role(c.relowner, 'USAGE'), false),
       p.oid IS NOT NULL,
       COALESCE(pg_catalog.pg_has_role(p.pubowner, 'USAGE'), false),
       COALESCE(p.pubinsert AND p.pubupdate AND p.pubdelete AND p.pubtruncate, false),
       COALESCE(pg_catalog.to_jsonb(p) ->> 'pubgencols' = 's', false),
       {membership(server_version)},
       COALESCE(pg_catalog.to_jsonb(m) ->> 'prqual', pg_catalog.to_jsonb(m) ->> 'prattrs') IS NOT NULL,
       not_full.parts
  FROM pg_catalog.unnest(%s::int8[]) wanted(oid)
  LEFT JOIN pg_catalog.pg_class c ON c.oid = wanted.oid::oid
  LEFT JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
  LEFT JOIN pg_catalog.pg_publication p ON p.pubname = %s
  LEFT JOIN pg_catalog.pg_publication_rel m ON m.prpubid = p.oid AND m.prrelid = c.oid,
       LATERAL ({_NOT_FULL}) not_full"""


BLOCKERS: Final = """
SELECT l.pid::int8,
       EXTRACT(EPOCH FROM pg_catalog.clock_timestamp() - COALESCE(a.xact_start, x.prepared))::float8,
       COALESCE(a.backend_type = 'autovacuum worker', false)
  FROM pg_catalog.pg_locks l
  LEFT JOIN pg_catalog.pg_stat_activity a ON a.pid = l.pid
  LEFT JOIN pg_catalog.pg_locks own ON l.pid IS NULL AND own.pid IS NULL AND own.locktype = 'transactionid'
                                   AND own.virtualtransaction = l.virtualtransaction
  LEFT JOIN pg_catalog.pg_prepared_xacts x ON x.transaction = own.transactionid
 WHERE l.locktype = 'relation' AND l.granted AND l.pid IS DISTINCT FROM pg_catalog.pg_backend_pid()
   AND l.database = (SELECT d.oid FROM pg_catalog.pg_database d
                      WHERE d.datname = pg_catalog.current_database())
   AND l.mode IN ('RowExclusiveLock', 'ShareUpdateExclusiveLock', 'ShareRowExclusiveLock', 'ExclusiveLock',
                  'AccessExclusiveLock')
   AND l.relation IN (
         WITH RECURSIVE tree(oid) AS (
           SELECT %s::int8::oid
           UNION
           SELECT i.inhrelid FROM pg_catalog.pg_inherits i JOIN tree ON i.inhparent = tree.oid
         ) SELECT oid FROM tree)
 ORDER BY 2 DESC NULLS LAST"""
"""Argument: a relation's oid. The holders of conflicting locks, oldest transaction first.

The pid of a prepared transaction is NULL.
"""


DEADLOCK_TIMEOUT_MS: Final = "SELECT setting::int FROM pg_catalog.pg_settings WHERE name = 'deadlock_timeout'"


def state_from_row(row: Sequence[Any]) -> TableState:
    """The state in a row of `table_states`."""
    *fields, parts = row
    return TableState._make([*fields, tuple(Part(*part) for part in parts)])


_BEGIN: Final = "BEGIN READ WRITE"
"""Providers set `default_transaction_read_only` when a disk is nearly full; it is a default only."""


def in_transaction(statement: str) -> str:
    """The statement in a transaction that may write."""
    return f"{_BEGIN}; {statement}; COMMIT"


def create_publication(name: str, server_version: int) -> str:
    """The statement that creates an empty publication."""
    generated = " WITH (publish_generated_columns = stored)" if server_version >= 180000 else ""
    return f"CREATE PUBLICATION {quote_identifier(name)}{generated}"


def make_ready(state: TableState, publication: str, lock_timeout_ms: int) -> str:
    """The transaction that makes a table ready.

    An ordinary table is altered with ONLY: tables that inherit from it are relations of their own in the
    stream.
    """
    steps = [_BEGIN, f"SET LOCAL lock_timeout = {lock_timeout_ms}"]
    table = qualified_name(state.schema or "", state.name or "")
    target = table if state.kind == "p" else f"ONLY {table}"
    if state.membership is None:
        steps.append(f"LOCK TABLE {target} IN SHARE MODE")
    parts = [qualified_name(part.schema, part.name) for part in state.not_full]
    steps += [f"ALTER TABLE ONLY {part} REPLICA IDENTITY FULL" for part in parts]
    if state.membership is None:
        steps.append(f"ALTER PUBLICATION {quote_identifier(publication)} ADD TABLE {target}")
    return "; ".join([*steps, "COMMIT"])


def drop_from_publication(state: TableState, publication: str, lock_timeout_ms: int) -> str:
    """The transaction that removes a table from the publication."""
    table = qualified_name(state.schema or "", state.name or "")
    target = table if state.kind == "p" else f"ONLY {table}"
    return (
        f"{_BEGIN}; SET LOCAL lock_timeout = {lock_timeout_ms};"
        f" ALTER PUBLICATION {quote_identifier(publication)} DROP TABLE {target}; COMMIT"
    )


def check_table(state: TableState, relation: Relation) -> None:
    """Raise SchemaChanged if the table no longer has the name of `relation`."""
    if (state.schema, state.name) != (relation.schema, relation.name):
        shown = display_name(relation.schema, relation.name)
        raise SchemaChanged(f'Database table "{shown}" has been dropped or renamed')


def check_publication(state: TableState, publication: str, *, needs_generated: bool = False) -> None:
    """Raise NotNow, with a message that clients know, if the publication is not usable."""
    if not state.has_publication:
        raise known_refusal(f'Publication "{publication}" not found in the database')
    if not state.publishes_all_operations:
        raise known_refusal(
            f'Publication "{publication}" does not publish all required operations:'
            " INSERT, UPDATE, DELETE, TRUNCATE"
        )
    if needs_generated and not state.publishes_generated:
        raise known_refusal(
            f'Publication "{publication}" does not publish generated columns. This is a feature introduced in'
            " PostgreSQL 18 and requires setting the publication parameter 'publish_generated_columns' to"
            " 'stored'. Alternatively, you can exclude them from the shape by explicitly listing which"
            " columns to fetch in the 'columns' query param."
        )
    if state.publishes_parts_only:
        shown = display_name(state.schema or "", state.name or "")
        raise known_refusal(
            f'Publication "{publication}" has a row filter or a column list for the table "{shown}",'
            " so that changes would be missed"
        )


def alteration_refusal(state: TableState, publication: str, *, is_manual: bool) -> PgShapesError | None:
    """The error for the client if our role may not make the table ready; else None."""
    shown = display_name(state.schema or "", state.name or "")
    if state.membership is None and (is_manual or not state.is_publication_ours):
        return _missing(shown, publication, is_manual=is_manual)
    if state.not_full and (is_manual or not state.is_publication_ours):
        return known_refusal(f'Database table "{shown}" does not have its replica identity set to FULL')
    foreign = [part.name for part in state.not_full if not part.is_ours]
    if state.membership is None and not state.is_ours:
        foreign.insert(0, state.name or "")
    if foreign:
        return known_refusal(f"Unable to create initial snapshot: must be owner of table {foreign[0]}")
    return None


def _missing(shown: str, publication: str, *, is_manual: bool) -> NotNow:
    cause = (
        "the ELECTRIC_MANUAL_TABLE_PUBLISHING setting prevents Electric from adding it"
        if is_manual
        else "Electric lacks privileges to add it"
    )
    return known_refusal(
        f'Database table "{shown}" is missing from the publication "{publication}" and {cause}'
    )
