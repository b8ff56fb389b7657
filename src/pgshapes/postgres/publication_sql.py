"""The SQL that makes a table ready, that is, published with complete changes. Pure.

A table is *ready* when it is in the publication, and it and all its leaves are REPLICA IDENTITY FULL, which
does not recurse. Each identity is set in a transaction of its own. The last transaction locks the table, then
adds it: when the lock is granted, all transactions that wrote to the table have ended, and none writes before
the commit. So no transaction has written both before and after the table was published. Somebody else may
publish a table, or alter how it is published, while transactions are open that have written to it: the
transactions that `WRITERS` then finds may have.

Invariant: statements of others wait for our locks at most `LOCK_BUDGET_MS`: a request for a lock, behind
which they queue, is withdrawn after that time, and no transaction waits for a second table while it holds the
first one. While a transaction waits for a table it does not hold the publication, which ALTER PUBLICATION
locks until the commit, so a locked table does not delay others.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, Final, NamedTuple

from pgshapes.model.quoting import qualified_name, quote_identifier
from pgshapes.postgres.relation_sql import membership

LOCK_BUDGET_MS: Final = 200
"""How long statements of others may wait for our locks."""
_ADDING_MS: Final = 50
"""The part of the budget for ALTER PUBLICATION, which may wait for another one on the same publication."""
_PUBLISHES_SCHEMAS: Final = 150000


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
    narrowed: tuple[str, ...]
    """The table and its partitions, quoted, as far as they are listed with a row filter or a column list."""
    is_listed: bool
    """Whether it is published by its name, and not with its schema or with all tables."""
    publishes_via_root: bool
    """Whether changes of partitions are published as changes of their root."""
    is_partition: bool
    has_stored_generated: bool
    """Whether it has stored generated columns that this server could publish (Postgres 18 and newer)."""
    breaks_in: tuple[str, ...]
    """Other publications with which UPDATE and DELETE fail if the identity is FULL."""
    role: str
    """Our role, quoted as an identifier."""
    not_full: tuple[Part, ...]

    @property
    def is_ready(self) -> bool:
        """Whether the table is published with all its columns, and all identities are FULL."""
        has_all_columns = self.publishes_generated or not self.has_stored_generated
        return self.membership is not None and not self.not_full and has_all_columns


_BELOW: Final = """WITH RECURSIVE tree(oid) AS (
          SELECT c.oid
          UNION
          SELECT i.inhrelid
            FROM pg_catalog.pg_inherits i JOIN tree ON i.inhparent = tree.oid
           WHERE c.relkind = 'p'
        ) SELECT oid FROM tree"""
"""A table and its partitions."""

_NOT_FULL: Final = f"""
SELECT COALESCE(pg_catalog.json_agg(pg_catalog.json_build_array(
         pn.nspname, part.relname, pg_catalog.pg_has_role(part.relowner, 'USAGE')
       ) ORDER BY part.oid), '[]') AS parts
  FROM ({_BELOW}) members
  JOIN pg_catalog.pg_class part ON part.oid = members.oid
  JOIN pg_catalog.pg_namespace pn ON pn.oid = part.relnamespace
 WHERE part.relreplident <> 'f' AND (part.relkind = 'r' OR part.oid = c.oid)"""


_FAMILY: Final = """
WITH RECURSIVE below(oid) AS (
  SELECT c.oid
  UNION
  SELECT i.inhrelid FROM pg_catalog.pg_inherits i JOIN below ON i.inhparent = below.oid
   WHERE c.relkind = 'p'
), above(oid) AS (
  SELECT c.oid
  UNION
  SELECT i.inhparent FROM pg_catalog.pg_inherits i JOIN above ON i.inhrelid = above.oid
   WHERE c.relispartition
)
SELECT below.oid FROM below UNION SELECT above.oid FROM above"""
"""A table, its partitions and its partitioned ancestors."""

_NARROWED: Final = f"""
SELECT COALESCE(pg_catalog.array_agg(pg_catalog.format('%%I.%%I', s.nspname, l.relname)
                                     ORDER BY l.oid), '{{}}')
  FROM pg_catalog.pg_publication_rel r
  JOIN pg_catalog.pg_class l ON l.oid = r.prrelid
  JOIN pg_catalog.pg_namespace s ON s.oid = l.relnamespace
 WHERE r.prpubid = p.oid AND (l.oid = c.oid OR l.relkind = 'r' AND l.oid IN ({_BELOW}))
   AND COALESCE(pg_catalog.to_jsonb(r) ->> 'prqual', pg_catalog.to_jsonb(r) ->> 'prattrs') IS NOT NULL"""

_HAS_STORED: Final = """EXISTS (SELECT FROM pg_catalog.pg_attribute a
                WHERE a.attrelid = c.oid AND a.attgenerated = 's' AND NOT a.attisdropped)"""


def _breaks_in(server_version: int) -> str:
    """With REPLICA IDENTITY FULL a publication of updates or deletes may have no column list, and must
    publish stored generated columns (manual: Column Lists; Generated Column Replication).
    """
    schema = "false"
    if server_version >= _PUBLISHES_SCHEMAS:
        schema = """EXISTS (SELECT FROM pg_catalog.pg_publication_namespace s
   JOIN pg_catalog.pg_class m ON m.relnamespace = s.pnnspid
  WHERE s.pnpubid = o.oid AND m.oid IN (SELECT oid FROM family))"""
    return f"""
WITH family(oid) AS ({_FAMILY}), listed AS (
  SELECT r.prpubid, pg_catalog.bool_or(pg_catalog.to_jsonb(r) ->> 'prattrs' IS NOT NULL) AS has_list
    FROM pg_catalog.pg_publication_rel r WHERE r.prrelid IN (SELECT oid FROM family) GROUP BY r.prpubid)
SELECT COALESCE(pg_catalog.array_agg(o.pubname::text ORDER BY o.pubname), '{{}}') AS names
  FROM pg_catalog.pg_publication o LEFT JOIN listed ON listed.prpubid = o.oid
 WHERE o.oid IS DISTINCT FROM p.oid AND (o.pubupdate OR o.pubdelete)
   AND (listed.has_list
        OR (pg_catalog.to_jsonb(o) ->> 'pubgencols' = 'n' AND {_HAS_STORED}
            AND (o.puballtables OR listed.prpubid IS NOT NULL OR {schema})))"""


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
       ({_NARROWED}),
       m.oid IS NOT NULL,
       COALESCE(p.pubviaroot, false),
       COALESCE(c.relispartition, false),
       {_HAS_STORED if server_version >= 180000 else "false"},
       breaks_in.names,
       pg_catalog.quote_ident(CURRENT_USER),
       not_full.parts
  FROM pg_catalog.unnest(%s::int8[]) wanted(oid)
  LEFT JOIN pg_catalog.pg_class c ON c.oid = wanted.oid::oid
  LEFT JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
  LEFT JOIN pg_catalog.pg_publication p ON p.pubname = %s
  LEFT JOIN pg_catalog.pg_publication_rel m ON m.prpubid = p.oid AND m.prrelid = c.oid,
       LATERAL ({_breaks_in(server_version)}) breaks_in,
       LATERAL ({_NOT_FULL}) not_full"""


def _lock_holders(first: str, modes: str) -> str:
    return f"""
SELECT {first},
       EXTRACT(EPOCH FROM pg_catalog.clock_timestamp() - COALESCE(a.xact_start, x.prepared))::float8,
       COALESCE(a.backend_type = 'autovacuum worker', false),
       pg_catalog.format('%%I.%%I', n.nspname, c.relname)
  FROM pg_catalog.pg_locks l
  JOIN pg_catalog.pg_class c ON c.oid = l.relation
  JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
  LEFT JOIN pg_catalog.pg_stat_activity a ON a.pid = l.pid
  LEFT JOIN pg_catalog.pg_locks own ON l.pid IS NULL AND own.pid IS NULL AND own.locktype = 'transactionid'
                                   AND own.virtualtransaction = l.virtualtransaction
  LEFT JOIN pg_catalog.pg_prepared_xacts x ON x.transaction = own.transactionid
 WHERE l.locktype = 'relation' AND l.granted AND l.pid IS DISTINCT FROM pg_catalog.pg_backend_pid()
   AND l.database = (SELECT d.oid FROM pg_catalog.pg_database d
                      WHERE d.datname = pg_catalog.current_database())
   AND ({modes})
   AND l.relation IN (
         WITH RECURSIVE tree(oid) AS (
           SELECT %s::int8::oid
           UNION
           SELECT i.inhrelid FROM pg_catalog.pg_inherits i JOIN tree ON i.inhparent = tree.oid
         ) SELECT oid FROM tree)
 ORDER BY 2 DESC NULLS LAST"""


BLOCKERS: Final = _lock_holders(
    "l.pid::int8",
    "l.mode IN ('RowExclusiveLock', 'ShareUpdateExclusiveLock', 'ShareRowExclusiveLock',"
    " 'ExclusiveLock', 'AccessExclusiveLock') OR %s",
)
"""Arguments: whether any lock conflicts, as when an identity is set, and a relation's oid. The holders of
conflicting locks, oldest transaction first.

The pid of a prepared transaction is NULL.
"""

WRITERS: Final = _lock_holders(
    "l.virtualtransaction, l.pid::int8", "l.mode IN ('RowExclusiveLock', 'AccessExclusiveLock')"
)
"""Argument: a relation's oid. The open transactions that may have written to the table, each with its virtual
transaction id, which no later one has; else as `BLOCKERS`.
"""


DEADLOCK_TIMEOUT_MS: Final = "SELECT setting::int FROM pg_catalog.pg_settings WHERE name = 'deadlock_timeout'"


def state_from_row(row: Sequence[Any]) -> TableState:
    """The state in a row of `table_states`."""
    state = TableState._make(row)
    return state._replace(
        narrowed=tuple(state.narrowed),
        breaks_in=tuple(state.breaks_in),
        not_full=tuple(Part(*part) for part in state.not_full),
    )


PUBLICATION: Final = """
SELECT COALESCE(pg_catalog.to_jsonb(p) ->> 'pubgencols' = 'n', false)
       AND pg_catalog.pg_has_role(p.pubowner, 'USAGE')
  FROM pg_catalog.pg_publication p WHERE p.pubname = %s"""
"""Argument: a name. Whether the publication is ours and lacks generated columns; no row without one."""


_BEGIN: Final = "BEGIN READ WRITE"
"""Providers set `default_transaction_read_only` when a disk is nearly full; it is a default only."""


def create_publication(name: str, server_version: int) -> str:
    """The transaction that creates an empty publication."""
    return _alteration(LOCK_BUDGET_MS, creation_statement(name, server_version))


def creation_statement(name: str, server_version: int) -> str:
    """The statement that creates an empty publication."""
    generated = " WITH (publish_generated_columns = stored)" if server_version >= 180000 else ""
    return f"CREATE PUBLICATION {quote_identifier(name)}{generated}"


def alterations(state: TableState, publication: str) -> Iterator[str]:
    """The transactions that make a table ready, in order; each is bounded by the budget on its own."""
    if state.has_stored_generated and not state.publishes_generated:
        yield publish_generated(publication)
    for part in state.not_full:
        yield set_identity(part)
    if state.membership is None:
        yield add_to_publication(state, publication)


def _alteration(lock_timeout_ms: int, *statements: str) -> str:
    """A transaction that also a role with `default_transaction_read_only` can run."""
    return "; ".join([_BEGIN, f"SET LOCAL lock_timeout = {lock_timeout_ms}", *statements, "COMMIT"])


def set_identity(part: Part) -> str:
    """The transaction that makes a table or leaf REPLICA IDENTITY FULL.

    With ONLY: tables that inherit from it are relations of their own in the stream.
    """
    table = qualified_name(part.schema, part.name)
    return _alteration(LOCK_BUDGET_MS, f"ALTER TABLE ONLY {table} REPLICA IDENTITY FULL")


def add_to_publication(state: TableState, publication: str) -> str:
    """The transaction that publishes a table. LOCK TABLE waits for all partitions within one timeout."""
    target = _target(state)
    return _alteration(
        LOCK_BUDGET_MS,
        f"SET LOCAL statement_timeout = {LOCK_BUDGET_MS - _ADDING_MS}",
        f"LOCK TABLE {target} IN SHARE MODE",
        f"SET LOCAL statement_timeout = {_ADDING_MS}",
        f"ALTER PUBLICATION {quote_identifier(publication)} ADD TABLE {target}",
    )


def drop_from_publication(state: TableState, publication: str) -> str:
    """The transaction that removes a table from the publication."""
    statement = f"ALTER PUBLICATION {quote_identifier(publication)} DROP TABLE {_target(state)}"
    return _alteration(LOCK_BUDGET_MS, statement)


def publish_generated(publication: str) -> str:
    """The transaction that makes the publication contain stored generated columns (Postgres 18)."""
    return _alteration(LOCK_BUDGET_MS, generated_statement(publication))


def generated_statement(publication: str) -> str:
    """The statement that makes the publication contain stored generated columns."""
    return f"ALTER PUBLICATION {quote_identifier(publication)} SET (publish_generated_columns = stored)"


def interrupt_vacuum(table: str, lock_timeout_ms: int) -> str:
    """The transaction after which no autovacuum that began before holds a lock on `table`, a qualified name.

    Postgres cancels an autovacuum for a request that has waited for `deadlock_timeout`. This lock conflicts
    with VACUUM and not with writers, so none of them waits meanwhile.
    """
    return _alteration(lock_timeout_ms, f"LOCK TABLE ONLY {table} IN SHARE UPDATE EXCLUSIVE MODE")


def _target(state: TableState) -> str:
    table = qualified_name(state.schema or "", state.name or "")
    return table if state.kind == "p" else f"ONLY {table}"
