"""Reads the rows of a shape in one snapshot, as JSON texts.

Not here: which transactions a snapshot sees (`model.visibility`), when it must be retaken and what its table
must be like (the caller), storing the rows. Invariants: `take` locks the table against DDL first, then gets
the snapshot, then the WAL position and the version of the table; all rows are read with this snapshot on the
primary. Settings are made with SET LOCAL, because the connection may go through a transaction pooler. State:
an open snapshot owns its connection until `end`, which does not wait: the pool ends the transaction.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Final

import psycopg
from psycopg.pq.abc import PGresult
from psycopg.rows import TupleRow

from pgshapes.errors import PgShapesError, SchemaChanged, SourceError
from pgshapes.model.lsn import Lsn, parse_lsn
from pgshapes.model.relation import Relation
from pgshapes.model.visibility import SnapshotVisibility
from pgshapes.postgres import refusals, simple_query
from pgshapes.postgres.backend_activity import activity_check
from pgshapes.postgres.connection import Connection, ConnectionPool, Loan, PoolTimeout
from pgshapes.postgres.lock_waits import BACKEND_PID, LockingQuery, LockWaits, backend_pid
from pgshapes.postgres.relation_sql import RELATION_BY_OID, RelationStamp, relation_from_row, stamp_of
from pgshapes.postgres.rendering import copy_after_pin, from_item
from pgshapes.postgres.session_settings import SEARCH_PATH, VALUE_SETTINGS, long_life_settings, settings_sql
from pgshapes.postgres.simple_query import CopyOut
from pgshapes.postgres.sqlstate import OPERATOR, from_sqlstate
from pgshapes.waiting.notice import Notice

CURRENT_SNAPSHOT: Final = (
    "SELECT pg_catalog.pg_current_snapshot()::text, pg_catalog.pg_current_wal_insert_lsn()::text"
)
"""One row, for `parse_visibility`."""

_FLUSHED = "SELECT pg_catalog.pg_current_wal_flush_lsn()::text"


async def current_snapshot(pool: ConnectionPool) -> SnapshotVisibility:
    """The visibility of a new snapshot. Raises SourceError."""
    snapshot, insert_lsn = await _one_row(pool, CURRENT_SNAPSHOT)
    return parse_visibility(snapshot, insert_lsn)


async def flushed_lsn(pool: ConnectionPool) -> Lsn:
    """The flush position of the WAL, up to which it can be sent. Raises SourceError."""
    (lsn,) = await _one_row(pool, _FLUSHED)
    return parse_lsn(lsn)


async def _one_row(pool: ConnectionPool, sql: str) -> TupleRow:
    try:
        async with pool.connection() as connection:
            row = await (await connection.execute(sql.encode())).fetchone()
    except psycopg.Error as error:
        raise from_sqlstate(error) from error
    if row is None:
        raise SourceError(f"Postgres returned no row for {sql}")
    return row


def parse_visibility(snapshot: str, insert_lsn: str) -> SnapshotVisibility:
    """Parse `xmin:xmax:xip,xip…` (manual: pg_snapshot) and an LSN."""
    xmin, xmax, xip = snapshot.split(":")
    running = tuple(int(xid) for xid in xip.split(",") if xid)
    return SnapshotVisibility(int(xmin), int(xmax), running, parse_lsn(insert_lsn))


_QUERY_SETTINGS: Final = (
    ("row_security", "off"),  # the stream ignores policies, so raise an error rather than filter rows
)


def begin_sql(server_version: int) -> str:
    """The statements that begin the transaction; none takes its snapshot."""
    settings = VALUE_SETTINGS + long_life_settings(server_version) + _QUERY_SETTINGS
    return "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY; " + settings_sql(settings, local=True)


VISIBILITY_QUERY: Final = (
    "SELECT pg_catalog.pg_current_snapshot()::text,"
    " CASE WHEN NOT pg_catalog.pg_is_in_recovery() THEN pg_catalog.pg_current_wal_insert_lsn()::text END"
)
"""The snapshot is taken before the first expression is evaluated, so the WAL position is later."""


def visibility(result: PGresult) -> SnapshotVisibility:
    """The result of `VISIBILITY_QUERY`. Raises SourceError on a standby: its snapshots omit running xids."""
    snapshot, insert_lsn = (result.get_value(0, column) for column in (0, 1))
    if snapshot is None or insert_lsn is None:
        raise SourceError("snapshots need the primary: this server is a standby", action=OPERATOR)
    return parse_visibility(snapshot.decode(), insert_lsn.decode())


async def check_shared(pool: ConnectionPool) -> None:
    """Raise SourceError if the pool's shared sessions cannot take snapshots."""
    try:
        async with pool.connection() as connection:
            results = await simple_query.run(connection, f"BEGIN READ ONLY; {VISIBILITY_QUERY}; COMMIT")
    except psycopg.Error as error:
        raise from_sqlstate(error) from error
    visibility(results[1])


_UNDEFINED: Final = frozenset({"42883", "42P01", "42704", "42703", "3F000"})
"""Undefined function, table, object, column, schema."""

_TAKE_OWN_PATH: Final = (
    "SELECT pg_catalog.set_config('search_path', pg_catalog.concat_ws(', ', 'pg_catalog', s.reset_val), true)"
    " FROM pg_catalog.pg_settings s WHERE s.name = 'search_path' AND s.reset_val <> ''"
)
"""The search path of the role, after pg_catalog."""


async def begin_copy(connection: Connection, copy_sql: str) -> CopyOut:
    """Begin a COPY of `copy_texts` in a transaction of `begin_sql`. Raises psycopg.Error.

    Planning inlines SQL functions of the table's indexes, statistics and partition keys, and an owner's
    functions may need the role's search path (before Postgres 17, which builds indexes without it). Then the
    query is planned with that path; its values are as VALUE_SETTINGS say all the same.
    """
    try:
        return await CopyOut.begin(connection, f"SAVEPOINT unplanned; {copy_sql}")
    except psycopg.Error as error:
        if error.sqlstate not in _UNDEFINED:
            raise
    again = copy_after_pin(copy_sql, SEARCH_PATH)
    return await CopyOut.begin(connection, f"ROLLBACK TO SAVEPOINT unplanned; {_TAKE_OWN_PATH}; {again}")


FIRST_ROW_TIMEOUT_S: Final = 30.0
QUEUE_TIMEOUT_S: Final = 10.0
"""Less than the 30 s that a caller waits for a creation."""


def lock_table(relation: Relation) -> str:
    """The statement that excludes DDL on the table until the transaction ends; it does not block writers.

    Must precede the snapshot, to which the table would look empty after a later TRUNCATE or a rewriting ALTER
    (manual: Caveats of MVCC). LOCK TABLE needs a right on the whole table. With rights on columns only, a
    query locks the table, right after its snapshot was taken; `check_lock` finds what happened in between.
    """
    if relation.is_readable:
        return f"LOCK TABLE {from_item(relation)} IN ACCESS SHARE MODE"
    parts = ", ".join(str(part.oid) for part in relation.parts)
    return (
        f"SELECT FROM {from_item(relation)} LIMIT 0;"
        " SELECT pg_catalog.bool_and(pg_catalog.pg_relation_filenode(c.oid) = c.relfilenode)"
        f" FROM pg_catalog.pg_class c WHERE c.oid IN ({parts})"
    )


def check_lock(relation: Relation, results: Sequence[PGresult]) -> None:
    """Raise SchemaChanged if the table was rewritten or truncated between its snapshot and its lock.

    `results` are those of `lock_table` and of two statements after it. The catalogs are read as they are in
    the snapshot, the function reads them as they are now.
    """
    if not relation.is_readable and results[-3].get_value(0, 0) == b"f":
        raise SchemaChanged("the table was rewritten or truncated while it was being locked")


class Snapshot:
    """A transaction with a snapshot: `take` it, then read its `rows`, or `discard` it and take another."""

    def __init__(
        self,
        loan: Loan,
        relation: Relation,
        publication: str,
        lock_waits: LockWaits,
        first_row_timeout_s: float,
    ) -> None:
        self._loan = loan
        self._connection = loan.connection
        self._relation = relation
        self._publication = publication
        self._lock_waits = lock_waits
        self._first_row_timeout_s = first_row_timeout_s
        self._locking: LockingQuery | None = None
        self.stamp: RelationStamp | None = None
        """The version of the table in the snapshot, once it was taken."""

    async def take(self) -> SnapshotVisibility:
        """Begin; return what the snapshot sees. Raises RequestError, NotNow, SchemaChanged, SourceError;
        GaveWay if another session waits for a lock of this one.
        """
        oid, server_version = self._relation.oid, self._connection.info.server_version
        timeout_ms = round(self._first_row_timeout_s * 1000)
        timeout = settings_sql([("lock_timeout", f"{timeout_ms}ms")], local=True)
        begun = await self._run("; ".join((BACKEND_PID, begin_sql(server_version), timeout)))
        pid = backend_pid(begun)
        self._locking = self._lock_waits.watch(self._connection, pid)
        if self._connection.is_pooled:
            self._connection.check_with(activity_check(self._lock_waits.connect, pid))
        statements = (
            lock_table(self._relation),
            VISIBILITY_QUERY,
            stamp_of(oid, self._publication, server_version),
        )
        *_, seen, stamp = results = await self._run("; ".join(statements))
        check_lock(self._relation, results)
        if stamp.ntuples == 0:
            raise SchemaChanged("the table was dropped")
        self.stamp = RelationStamp(_text(stamp, 0) or "", _text(stamp, 1))
        return visibility(seen)

    async def read_relation(self) -> Relation:
        """The table as it is in the snapshot. Raises NotNow, SchemaChanged, SourceError."""
        try:
            arguments = (self._relation.oid,)
            row = await (await self._connection.execute(RELATION_BY_OID.encode(), arguments)).fetchone()
        except psycopg.Error as error:
            raise self._refused(error) from error
        if row is None:
            raise SchemaChanged("the table was dropped")
        return relation_from_row(row)

    async def discard(self) -> None:
        """End the transaction without a query."""
        await self._release()
        await self._run("ROLLBACK")
        self._connection.reset()

    async def rows(self, copy_sql: str | None, *, has_where: bool = False) -> AsyncIterator[list[bytes]]:
        """The rows' JSON texts in non-empty batches, as they arrive; none without a statement.

        After the first row there is no limit while the server works on the query: it may find few of many.
        Call it once, after `take`. `has_where` is whether a client's clause is part of the statement. Raises
        RequestError, NotNow, SchemaChanged, SourceError. Other tasks run between two batches.
        """
        if copy_sql is not None:
            try:
                batch, copy = await self._first_batch(copy_sql)
                while batch:
                    yield batch
                    batch = await copy.next_batch()
            except psycopg.Error as error:
                raise self._refused(error, has_where=has_where) from error
        await self._release()
        if not self._has_yielded:
            await self._run("COMMIT")

    def end(self) -> Notice:
        """Return the connection now, also in the middle of a query; given when it can be borrowed again.

        A second call does nothing.
        """
        return self._loan.end(None if self._locking is None else self._locking.end())

    async def _first_batch(self, copy_sql: str) -> tuple[list[bytes], CopyOut]:
        try:
            async with asyncio.timeout(self._first_row_timeout_s):
                self._check_locks()
                copy = await begin_copy(self._connection, copy_sql)
                return await copy.next_batch(), copy
        except TimeoutError:
            raise refusals.too_slow(self._first_row_timeout_s) from None

    @property
    def _has_yielded(self) -> bool:
        return self._locking is not None and self._locking.has_yielded

    def _check_locks(self) -> None:
        if self._has_yielded:
            raise refusals.gave_way()

    async def _release(self) -> None:
        if self._locking is not None:
            await self._locking.release()

    async def _run(self, sql: str) -> list[PGresult]:
        self._check_locks()
        try:
            return await simple_query.run(self._connection, sql)
        except psycopg.Error as error:
            raise self._refused(error) from error

    def _refused(self, error: psycopg.Error, *, has_where: bool = False) -> PgShapesError:
        if self._has_yielded:
            return refusals.gave_way()
        return refusals.refuse_snapshot(error, self._relation, has_where=has_where)


class SnapshotSource:
    """Opens snapshots on connections of a pool; waits for a free one up to a timeout."""

    def __init__(
        self,
        pool: ConnectionPool,
        *,
        publication: str,
        first_row_timeout_s: float = FIRST_ROW_TIMEOUT_S,
        queue_timeout_s: float = QUEUE_TIMEOUT_S,
    ) -> None:
        self._pool = pool
        self._publication = publication
        self.lock_waits = LockWaits(pool.connect)
        self._first_row_timeout_s = first_row_timeout_s
        self._queue_timeout_s = queue_timeout_s

    @property
    def connections(self) -> int:
        """Maximum number of open snapshots."""
        return self._pool.size

    @asynccontextmanager
    async def open(self, relation: Relation) -> AsyncIterator[Snapshot]:
        """A snapshot of a table until the end of the block. Raises as `borrow`."""
        snapshot = await self.borrow(relation)
        try:
            yield snapshot
        finally:
            await snapshot.end()

    async def borrow(self, relation: Relation) -> Snapshot:
        """A snapshot of a table, to be ended by the caller.

        Raises NotNow if no connection is available. Cancelling the task cancels the query on the server.
        """
        try:
            loan = await self._pool.borrow(self._queue_timeout_s)
        except PoolTimeout:
            raise refusals.queue_too_long() from None
        except SourceError as error:
            raise refusals.refuse_snapshot(error) from error
        return Snapshot(loan, relation, self._publication, self.lock_waits, self._first_row_timeout_s)

    async def close(self) -> None:
        """Stop looking for sessions that wait for a snapshot. Does not close the pool."""
        await self.lock_waits.close()


def _text(result: PGresult, column: int) -> str | None:
    value = result.get_value(0, column)
    return None if value is None else value.decode()
