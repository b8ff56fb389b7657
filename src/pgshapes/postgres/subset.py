"""Runs subset snapshots: one transaction each, on a small pool of their own.

Not here: what may be requested (`where`), what must be visible (`shape_cache.subsets`). Invariants: metadata,
checked types and rows belong to one snapshot and one state of the table. Statements contain no text of a
client: clauses are rebuilt by `where`, names and numbers are formatted here. State: the pool owns its
connections; the number of waiting requests and the size of a result are bounded.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Final, NamedTuple

import psycopg

from pgshapes.errors import SchemaChanged, SourceError
from pgshapes.model.quoting import qualified_name, quote_identifier
from pgshapes.model.relation import Relation
from pgshapes.model.visibility import SnapshotVisibility
from pgshapes.postgres import refusals, simple_query, snapshot
from pgshapes.postgres.connection import ConnectionPool, Loan, PoolTimeout
from pgshapes.postgres.lock_waits import BACKEND_PID, LockingQuery, LockWaits, backend_pid
from pgshapes.postgres.relation_sql import stamp_of
from pgshapes.postgres.rendering import copy_texts, from_item, row_json
from pgshapes.postgres.session_settings import settings_sql
from pgshapes.waiting.notice import Notice
from pgshapes.where.language.sort_order import SortTerm


class SubsetSelection(NamedTuple):
    """The rows to select from a relation, and their order. Clauses are rebuilt SQL."""

    relation: Relation
    columns: tuple[str, ...]
    shape_where: str | None = None
    subset_where: str | None = None
    order: tuple[SortTerm, ...] = ()
    limit: int | None = None
    offset: int | None = None


def copy_subset(selection: SubsetSelection, snapshot_mark: int) -> str:
    """The COPY statement that sends one JSON text per line."""
    row = row_json(selection.relation, selection.columns, snapshot_mark)
    clauses = [f"({clause})" for clause in (selection.shape_where, selection.subset_where) if clause]
    query = f"SELECT {row} FROM {from_item(selection.relation)}"
    if clauses:
        query += f" WHERE {' AND '.join(clauses)}"
    return copy_texts(query + _order(selection) + _page(selection))


def _order(selection: SubsetSelection) -> str:
    if not selection.order:
        return ""
    return " ORDER BY " + ", ".join(_term(selection.relation, term) for term in selection.order)


def _term(relation: Relation, term: SortTerm) -> str:
    """A sort term. The column is qualified: a bare name could refer to the result column."""
    direction = "DESC" if term.is_descending else "ASC"
    nulls = "" if term.nulls_first is None else f" NULLS {'FIRST' if term.nulls_first else 'LAST'}"
    return (
        f"{qualified_name(relation.schema, relation.name)}.{quote_identifier(term.column)} {direction}{nulls}"
    )


def _page(selection: SubsetSelection) -> str:
    limit = "" if selection.limit is None else f" LIMIT {selection.limit:d}"
    offset = "" if selection.offset is None else f" OFFSET {selection.offset:d}"
    return limit + offset


STATEMENT_TIMEOUT_MS: Final = 30_000
"""Less than the 60 s after which proxies time out."""
QUEUE_TIMEOUT_S: Final = 10.0
QUEUE_LIMIT: Final = 200
"""Requests that wait for a connection; a pool of 4 completes 200 queries of 10 ms in 0.5 s."""
MAX_BYTES: Final = 64 * 2**20
"""JSON in one response, which is kept in memory: about 300,000 rows of 200 bytes."""

_MAX_ADDED_XIDS: Final = 1_000

_VISIBILITY_QUERY: Final = (
    snapshot.VISIBILITY_QUERY
    + ", pg_catalog.age(pg_catalog.pg_snapshot_xmax(pg_catalog.pg_current_snapshot())::xid)"
)
"""The third column is the number of transactions with an xid at or above xmax that have begun: `age()` counts
from the next xid, and is evaluated after the snapshot is taken."""


class SubsetVisibility(NamedTuple):
    """The visibility of a subset's snapshot."""

    visibility: SnapshotVisibility
    begun_above_xmax: int
    """How many xids from xmax on may have been assigned."""

    def with_later_xmax(self) -> SnapshotVisibility:
        """The same snapshot with an xmax from which on no transaction had begun.

        The published client discards a snapshot's metadata at the first change with an xid at or above xmax.
        Such a transaction may precede, in the WAL, one that the snapshot sees, because transactions become
        visible after their commit record is written; the client would then apply that one twice. The added
        xids are listed as running, which is equivalent. With very many of them the snapshot is not changed.
        """
        seen, count = self.visibility, self.begun_above_xmax
        if not 0 < count <= _MAX_ADDED_XIDS:
            return seen
        return seen._replace(xmax=seen.xmax + count, xip=(*seen.xip, *range(seen.xmax, seen.xmax + count)))


class SubsetQuery:
    """One transaction: `take` it, then read its `rows`."""

    def __init__(self, loan: Loan, relation: Relation, lock_waits: LockWaits, max_bytes: int) -> None:
        self._loan = loan
        self._connection = loan.connection
        self._relation = relation
        self._lock_waits = lock_waits
        self._max_bytes = max_bytes
        self._locking: LockingQuery | None = None

    async def take(self) -> SubsetVisibility:
        """Begin, lock the table, return the visibility. Raises RequestError, NotNow, SourceError, GaveWay if
        another session waits for a lock of this one, and SchemaChanged unless the table is as in the look-up
        of the relation.
        """
        relation, server_version = self._relation, self._connection.info.server_version
        timeout = settings_sql([("statement_timeout", str(STATEMENT_TIMEOUT_MS))], local=True)
        begin = snapshot.begin_sql(server_version)
        stamp_sql = stamp_of(relation.oid, "", server_version)
        statements = (snapshot.lock_table(relation), _VISIBILITY_QUERY, stamp_sql)
        try:
            begun = await simple_query.run(self._connection, "; ".join((BACKEND_PID, begin, timeout)))
            self._locking = self._lock_waits.watch(self._connection, backend_pid(begun))
            *_, result, stamp = results = await simple_query.run(self._connection, "; ".join(statements))
        except psycopg.Error as error:
            self._check_locks()
            raise refusals.refuse_subset(error, relation) from error
        snapshot.check_lock(relation, results)
        if stamp.ntuples == 0 or stamp.get_value(0, 0) != relation.stamp.encode():
            raise SchemaChanged(f'table "{relation.schema}"."{relation.name}" was changed')
        visibility = snapshot.visibility(result)
        return SubsetVisibility(visibility, int(result.get_value(0, 2) or b"0"))

    async def describe(self, authority_sql: str) -> tuple[int, ...]:
        """Type oids of a statement's result columns. The statement is parsed, not executed.

        Raises RequestError about `where`, SchemaChanged, NotNow, SourceError.
        """
        try:
            self._check_locks()
            described = await simple_query.describe(self._connection, authority_sql)
        except psycopg.Error as error:
            self._check_locks()
            raise refusals.refuse_clause(error, self._relation) from error
        return tuple(described.ftype(index) for index in range(described.nfields))

    async def rows(self, selection: SubsetSelection, snapshot_mark: int) -> list[bytes]:
        """The rows as JSON texts, separated by commas, in pieces: the response is to be joined only once.

        Raises RequestError about `where`, `order_by` or `limit`, NotNow, SourceError. Cancelling the task
        cancels the query on the server.
        """
        try:
            self._check_locks()
            return await self._read(copy_subset(selection, snapshot_mark))
        except psycopg.Error as error:
            self._check_locks()
            raise refusals.refuse_rows(
                error,
                self._relation,
                has_where=selection.subset_where is not None,
                has_order=bool(selection.order),
                has_shape_where=selection.shape_where is not None,
            ) from error

    def end(self) -> Notice:
        """Return the connection now, also in the middle of a query; given when it can be borrowed again."""
        return self._loan.end(None if self._locking is None else self._locking.end())

    def _check_locks(self) -> None:
        if self._locking is not None and self._locking.has_yielded:
            raise refusals.gave_way()

    async def _read(self, copy_sql: str) -> list[bytes]:
        copy = await snapshot.begin_copy(self._connection, copy_sql)
        pieces: list[bytes] = []
        room = self._max_bytes
        while batch := await copy.next_batch():
            pieces.append(b"," * bool(pieces) + b",".join(batch))
            room -= len(pieces[-1])
            if room < 0:
                raise refusals.too_large(self._max_bytes)
        return pieces


class SubsetSource:
    """Opens subset queries on connections of a pool; waits for a free one up to a timeout."""

    def __init__(
        self,
        pool: ConnectionPool,
        *,
        queue_limit: int = QUEUE_LIMIT,
        queue_timeout_s: float = QUEUE_TIMEOUT_S,
        max_bytes: int = MAX_BYTES,
    ) -> None:
        self._pool = pool
        self.lock_waits = LockWaits(pool.connect)
        self._queue_limit = queue_limit
        self._queue_timeout_s = queue_timeout_s
        self._max_bytes = max_bytes

    @asynccontextmanager
    async def open(self, relation: Relation) -> AsyncIterator[SubsetQuery]:
        """A query on this table. Raises NotNow if no connection is available, SourceError."""
        if self._pool.waiting >= self._queue_limit:
            raise refusals.too_many()
        query = await self._borrow(relation)
        try:
            yield query
        finally:
            await query.end()

    async def close(self) -> None:
        """Close the connections."""
        await self.lock_waits.close()
        await self._pool.close()

    async def _borrow(self, relation: Relation) -> SubsetQuery:
        try:
            loan = await self._pool.borrow(self._queue_timeout_s)
        except PoolTimeout:
            raise refusals.too_many() from None
        except SourceError as error:
            raise refusals.refuse_subset(error) from error
        return SubsetQuery(loan, relation, self.lock_waits, self._max_bytes)
