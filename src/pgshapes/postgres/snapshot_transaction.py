"""The transaction that rows are read in: how it begins, what it sees, how a connection gets out of it.

Not here: the queries inside it. Invariant: all that it reads is of one snapshot of the primary, written with
the values' settings; SET LOCAL, so that a pooler between two transactions finds nothing changed.
"""

from __future__ import annotations

import asyncio
from typing import Final

import psycopg
from psycopg import pq
from psycopg.pq.abc import PGresult

from pgshapes.errors import SourceError
from pgshapes.model.visibility import SnapshotVisibility
from pgshapes.postgres import simple_query
from pgshapes.postgres.connection import LONG_LIFE_SETTINGS, VALUE_SETTINGS, Connection, settings_sql
from pgshapes.postgres.current_snapshot import parse_visibility
from pgshapes.postgres.sqlstate import OPERATOR

_CLEAN_UP_TIMEOUT_S: Final = 5.0

_QUERY_SETTINGS: Final = (
    *LONG_LIFE_SETTINGS,
    ("row_security", "off"),  # the log knows no policies: an error is better than other rows than the log's
    ("jit", "off"),  # output functions gain nothing by it, and the first row waits for the compiler
)

BEGIN: Final = "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY; " + settings_sql(
    VALUE_SETTINGS + _QUERY_SETTINGS, local=True
)

LOOK: Final = (
    "SELECT pg_catalog.pg_current_snapshot()::text,"
    " CASE WHEN NOT pg_catalog.pg_is_in_recovery() THEN pg_catalog.pg_current_wal_insert_lsn()::text END"
)
"""What the snapshot sees. It exists before its first expression is computed, so the WAL position is later."""


def visibility(look: PGresult) -> SnapshotVisibility:
    """What `LOOK` found. Raises SourceError on a standby, whose snapshots list no running transactions."""
    snapshot, insert_lsn = (look.get_value(0, column) for column in (0, 1))
    if snapshot is None or insert_lsn is None:
        raise SourceError("snapshots need the primary: this server is a standby", action=OPERATOR)
    return parse_visibility(snapshot.decode(), insert_lsn.decode())


async def leave(connection: Connection) -> None:
    """Bring the connection back to idle, or close it: also in the middle of a query that nobody wants any
    more.
    """
    status = connection.pgconn.transaction_status
    try:
        async with asyncio.timeout(_CLEAN_UP_TIMEOUT_S):
            if status == pq.TransactionStatus.ACTIVE:
                await connection.cancel_safe(timeout=_CLEAN_UP_TIMEOUT_S)
                await connection.close()
            elif status in (pq.TransactionStatus.INTRANS, pq.TransactionStatus.INERROR):
                await simple_query.run(connection, "ROLLBACK")
    except (TimeoutError, psycopg.Error):
        await connection.close()
