"""Reads the rows of a shape as they are at one moment, as ready JSON texts (design §7 steps 3 to 5).

Not here: which transactions are in the snapshot (`model.visibility`), when it must be taken again (the caller
knows what was delivered), where the texts go. Invariant: what `take` tells was asked first the snapshot, then
the WAL position, and all rows come from that snapshot. State: an open snapshot owns its connection until the
`async with` ends.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterable
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Final

import psycopg

from pgshapes.errors import SourceError
from pgshapes.model.relation import Relation
from pgshapes.model.visibility import SnapshotVisibility
from pgshapes.postgres import simple_query, snapshot_refusal, snapshot_transaction
from pgshapes.postgres.connection import Connection
from pgshapes.postgres.connection_pool import ConnectionPool, PoolTimeout
from pgshapes.postgres.copy_out import CopyOut
from pgshapes.postgres.rendering import copy_rows

FIRST_ROW_TIMEOUT_S: Final = 30.0
QUEUE_TIMEOUT_S: Final = 10.0
"""Below the 30 s that a caller waits for a creation."""

_TAKE: Final = f"{snapshot_transaction.BEGIN}; {snapshot_transaction.LOOK}"
"""One round trip."""


class Snapshot:
    """One transaction at a time on one connection: `take` it, then `discard` it and take another, or read its
    `rows`.
    """

    def __init__(self, connection: Connection, copy_sql: str | None, first_row_timeout_s: float) -> None:
        self._connection = connection
        self._copy_sql = copy_sql
        self._first_row_timeout_s = first_row_timeout_s

    async def take(self) -> SnapshotVisibility:
        """Begin; what the snapshot sees. Raises NotNow, SchemaMoved, SourceError (a standby, too)."""
        try:
            *_, look = await simple_query.run(self._connection, _TAKE)
        except psycopg.Error as error:
            raise snapshot_refusal.refuse(error) from error
        return snapshot_transaction.visibility(look)

    async def discard(self) -> None:
        """End the transaction without a query."""
        await self._end("ROLLBACK")

    async def rows(self) -> AsyncIterator[list[bytes]]:
        """JSON texts of the rows in batches, as they arrive; a batch is never empty. To be called once, after
        `take`.

        Raises NotNow, SchemaMoved, SourceError. Other tasks get their turn between two batches.
        """
        if self._copy_sql is not None:
            try:
                batch, copy = await self._first_batch(self._copy_sql)
                while batch:
                    yield batch
                    batch = await copy.next_batch()
            except psycopg.Error as error:
                raise snapshot_refusal.refuse(error) from error
        await self._end("COMMIT")

    async def leave(self) -> None:
        """Bring the connection back to idle, or close it: also in the middle of a query that nobody wants any
        more.
        """
        await snapshot_transaction.leave(self._connection)

    async def _first_batch(self, copy_sql: str) -> tuple[list[bytes], CopyOut]:
        try:
            async with asyncio.timeout(self._first_row_timeout_s):
                copy = await CopyOut.begin(self._connection, copy_sql)
                return await copy.next_batch(), copy
        except TimeoutError:
            raise snapshot_refusal.too_slow(self._first_row_timeout_s) from None

    async def _end(self, how: str) -> None:
        try:
            await simple_query.run(self._connection, how)
        except psycopg.Error as error:
            raise snapshot_refusal.refuse(error) from error


class SnapshotSource:
    """Opens snapshots on connections of a pool; who finds none free waits for its turn, but not for long."""

    def __init__(
        self,
        pool: ConnectionPool,
        *,
        first_row_timeout_s: float = FIRST_ROW_TIMEOUT_S,
        queue_timeout_s: float = QUEUE_TIMEOUT_S,
    ) -> None:
        self._pool = pool
        self._first_row_timeout_s = first_row_timeout_s
        self._queue_timeout_s = queue_timeout_s

    @property
    def connections(self) -> int:
        """How many snapshots can be open at once."""
        return self._pool.size

    @asynccontextmanager
    async def open(
        self, relation: Relation, columns: Iterable[str], where_sql: str | None, log_mode: str
    ) -> AsyncIterator[Snapshot]:
        """A snapshot for these rows; none with `log_mode` `changes_only`. `where_sql` is rebuilt SQL (design
        §9).

        Raises NotNow when no connection can be had. Cancelling the task cancels the query on the server.
        """
        copy_sql = None if log_mode == "changes_only" else copy_rows(relation, columns, where_sql)
        async with AsyncExitStack() as borrowed:
            connection = await self._borrow(borrowed)
            snapshot = Snapshot(connection, copy_sql, self._first_row_timeout_s)
            borrowed.push_async_callback(snapshot.leave)
            yield snapshot

    async def _borrow(self, borrowed: AsyncExitStack) -> Connection:
        try:
            return await borrowed.enter_async_context(self._pool.connection(self._queue_timeout_s))
        except PoolTimeout:
            raise snapshot_refusal.queue_too_long() from None
        except SourceError as error:
            raise snapshot_refusal.refuse(error) from error
