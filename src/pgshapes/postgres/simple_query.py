"""Statements sent as they are, below psycopg's row layer: several in one round trip, no parameters, no
placeholders.

The connection must be the caller's alone and outside pipeline mode. Cancelling the task cancels the statement
on the server (`AsyncConnection.wait`).
"""

from __future__ import annotations

from typing import Final

import psycopg
from psycopg import generators, pq
from psycopg.pq.abc import PGresult

from pgshapes.postgres.connection import Connection

_SUCCEEDED: Final = frozenset(
    {pq.ExecStatus.COMMAND_OK, pq.ExecStatus.TUPLES_OK, pq.ExecStatus.COPY_OUT, pq.ExecStatus.EMPTY_QUERY}
)


async def run(connection: Connection, sql: str) -> list[PGresult]:
    """The results of the statements in `sql`, separated by `;`. Raises psycopg.Error for the first that
    failed.
    """
    connection.pgconn.send_query(sql.encode())
    return await finish(connection)


async def describe(connection: Connection, sql: str) -> PGresult:
    """What an unnamed prepared statement of `sql` takes and gives; nothing is executed.

    Protocol: Parse and Describe of the extended query (manual: Message Flow).
    """
    connection.pgconn.send_prepare(b"", sql.encode())
    await finish(connection)
    connection.pgconn.send_describe_prepared(b"")
    return (await finish(connection))[-1]


async def finish(connection: Connection) -> list[PGresult]:
    """The results of what was sent, up to the end or to the beginning of a COPY. Raises psycopg.Error."""
    results: list[PGresult] = await connection.wait(generators.execute(connection.pgconn))
    for result in results:
        if result.status not in _SUCCEEDED:
            raise psycopg.errors.error_from_result(result, encoding="utf-8")
    return results
