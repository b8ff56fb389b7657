"""What is visible on the primary right now, without holding anything open."""

from __future__ import annotations

import psycopg

from pgshapes.errors import SourceError
from pgshapes.model.lsn import Lsn, parse_lsn
from pgshapes.model.visibility import SnapshotVisibility
from pgshapes.postgres.connection_pool import ConnectionPool
from pgshapes.postgres.sqlstate import from_sqlstate

_QUERY = "SELECT pg_catalog.pg_current_snapshot()::text, pg_catalog.pg_current_wal_insert_lsn()::text"

_FLUSHED = "SELECT pg_catalog.pg_current_wal_flush_lsn()::text"


async def current_snapshot(pool: ConnectionPool) -> SnapshotVisibility:
    """The visibility of a statement that runs now. Raises SourceError."""
    try:
        async with pool.connection() as connection:
            row = await (await connection.execute(_QUERY)).fetchone()
    except psycopg.Error as error:
        raise from_sqlstate(error) from error
    if row is None:
        raise SourceError("Postgres did not say what is visible")
    return parse_visibility(row[0], row[1])


async def flushed_lsn(pool: ConnectionPool) -> Lsn:
    """Up to where the WAL can be sent now. Raises SourceError."""
    try:
        async with pool.connection() as connection:
            row = await (await connection.execute(_FLUSHED)).fetchone()
    except psycopg.Error as error:
        raise from_sqlstate(error) from error
    if row is None:
        raise SourceError("Postgres did not say how far its WAL goes")
    return parse_lsn(row[0])


def parse_visibility(snapshot: str, insert_lsn: str) -> SnapshotVisibility:
    """`xmin:xmax:xip,xip…` (manual: pg_snapshot) and an LSN as values."""
    xmin, xmax, xip = snapshot.split(":")
    running = tuple(int(xid) for xid in xip.split(",") if xid)
    return SnapshotVisibility(int(xmin), int(xmax), running, parse_lsn(insert_lsn))
