"""Sends statements with the simple query protocol: several in one round trip, without parameters.

Only the caller may use the connection, which must not be in pipeline mode. Cancelling the task cancels the
statement on the server (`AsyncConnection.wait`).
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
    """The results of the statements in `sql`. Raises psycopg.Error for the first one that failed."""
    connection.pgconn.send_query(sql.encode())
    return await finish(connection)


async def describe(connection: Connection, sql: str) -> PGresult:
    """The parameters and result columns of `sql`, which is prepared and not executed.

    Protocol: Parse and Describe of the extended query (manual: Message Flow).
    """
    connection.pgconn.send_prepare(b"", sql.encode())
    await finish(connection)
    connection.pgconn.send_describe_prepared(b"")
    return (await finish(connection))[-1]


async def finish(connection: Connection) -> list[PGresult]:
    """The results of what was sent, up to the end or the start of a COPY. Raises psycopg.Error."""
    results: list[PGresult] = await connection.wait(generators.execute(connection.pgconn))
    for result in results:
        if result.status not in _SUCCEEDED:
            raise psycopg.errors.error_from_result(result, encoding="utf-8")
    return results
