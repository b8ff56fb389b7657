"""Sends statements with the simple query protocol, and reads the lines of `COPY … TO STDOUT`.

Several statements go in one round trip, without parameters. Lines are read with libpq calls; psycopg's row
layer would take three times as long. Not here: the statements, and the interpretation of errors. Invariant:
the event loop is blocked for at most one batch of lines, and libpq's buffer is drained before waiting for the
socket. Only the caller may use the connection, which must not be in pipeline mode. Cancelling the task
cancels the statement on the server (`AsyncConnection.wait`).
"""

from __future__ import annotations

import asyncio
from typing import Final, Self

import psycopg
from psycopg import generators, pq
from psycopg.pq.abc import PGresult

from pgshapes.postgres.bounded_connection import BoundedConnection

_SUCCEEDED: Final = frozenset(
    {pq.ExecStatus.COMMAND_OK, pq.ExecStatus.TUPLES_OK, pq.ExecStatus.COPY_OUT, pq.ExecStatus.EMPTY_QUERY}
)


async def run(connection: BoundedConnection, sql: str) -> list[PGresult]:
    """The results of the statements in `sql`. Raises psycopg.Error for the first one that failed."""
    connection.require_allowed(sql)
    connection.pgconn.send_query(sql.encode())
    return await finish(connection)


async def describe(connection: BoundedConnection, sql: str) -> PGresult:
    """The parameters and result columns of `sql`, which is prepared and not executed.

    Protocol: Parse and Describe of the extended query (manual: Message Flow). The statement has no name, and
    the next simple query drops it.
    """
    connection.require_allowed(sql)
    connection.pgconn.send_prepare(b"", sql.encode())
    await finish(connection)
    connection.pgconn.send_describe_prepared(b"")
    return (await finish(connection))[-1]


async def finish(connection: BoundedConnection) -> list[PGresult]:
    """The results of what was sent, up to the end or the start of a COPY. Raises psycopg.Error."""
    results: list[PGresult] = await connection.wait(generators.execute(connection.pgconn))
    for result in results:
        if result.status not in _SUCCEEDED:
            raise psycopg.errors.error_from_result(result, encoding="utf-8")
    return results


BATCH_BYTES: Final = 64 * 1024
"""Takes about 0.3 ms; libpq reads at most 16 KB from the socket at once."""


class CopyOut:
    """A running COPY."""

    def __init__(self, connection: BoundedConnection) -> None:
        self._connection = connection
        self._is_ended = False

    @classmethod
    async def begin(cls, connection: BoundedConnection, copy_sql: str) -> Self:
        """Send the statement. Raises psycopg.Error."""
        await run(connection, copy_sql)
        return cls(connection)

    async def next_batch(self) -> list[bytes]:
        """The available lines without line ends; waits for the first one. Empty at the end.

        Raises psycopg.Error.
        """
        await asyncio.sleep(0)
        while not self._is_ended:
            batch = self._drain()
            if batch:
                return batch
            if not self._is_ended:
                await self._connection.readable()
        await finish(self._connection)
        return []

    def _drain(self) -> list[bytes]:
        """The lines that are available without waiting, about BATCH_BYTES at most."""
        get_line, consume = self._connection.pgconn.get_copy_data, self._connection.pgconn.consume_input
        batch: list[bytes] = []
        room, has_consumed = BATCH_BYTES, False
        while room > 0:
            size, line = get_line(1)
            if size > 0:
                batch.append(bytes(line[:-1]))
                room -= size
                has_consumed = False
            elif size < 0:
                self._is_ended = True
                break
            elif has_consumed:
                break
            else:
                consume()
                has_consumed = True
        return batch
