"""Reads how much WAL a replication slot makes the server keep, and which open transaction makes it.

A slot keeps the WAL after `restart_lsn`, which lies before the oldest transaction that was open at the last
acknowledged position (manual: pg_replication_slots). What is behind `confirmed_flush_lsn` is kept for us;
the rest is kept for transactions that are open. Not here: what to do about it. Keeps no state.
"""

from __future__ import annotations

from typing import Final, NamedTuple

import psycopg

from pgshapes.postgres.connection import ConnectionPool
from pgshapes.postgres.sqlstate import from_sqlstate

_READ: Final = """
SELECT pg_catalog.pg_wal_lsn_diff(w.lsn, s.restart_lsn)::int8,
       pg_catalog.pg_wal_lsn_diff(w.lsn, COALESCE(s.confirmed_flush_lsn, s.restart_lsn))::int8,
       s.confirmed_flush_lsn IS NULL,
       COALESCE(p.found, t.found),
       extract(epoch FROM CASE WHEN p.found IS NULL THEN t.since ELSE p.since END)::float8
  FROM (SELECT CASE WHEN pg_catalog.pg_is_in_recovery() THEN pg_catalog.pg_last_wal_replay_lsn()
               ELSE pg_catalog.pg_current_wal_lsn() END AS lsn) w
  JOIN pg_catalog.pg_replication_slots s ON s.slot_name = %s AND s.restart_lsn IS NOT NULL
  LEFT JOIN LATERAL (
       SELECT pg_catalog.format('pid %%s of %%s (%%s)', a.pid, a.usename,
              COALESCE(NULLIF(a.application_name, ''), 'no application name')) AS found,
              a.xact_start AS since
         FROM pg_catalog.pg_stat_activity a WHERE a.backend_xid IS NOT NULL AND a.xact_start IS NOT NULL
        ORDER BY a.xact_start LIMIT 1) t ON true
  LEFT JOIN LATERAL (
       SELECT pg_catalog.format('prepared transaction %%L', x.gid) AS found, x.prepared AS since
         FROM pg_catalog.pg_prepared_xacts x ORDER BY x.prepared LIMIT 1) p ON true
"""


class RetainedWal(NamedTuple):
    """What a slot keeps."""

    total_bytes: int
    """All that the server keeps for the slot."""
    unconfirmed_bytes: int
    """The part that we have not acknowledged; for a slot that is being created, all of it."""
    is_being_created: bool
    transaction: str | None
    """The oldest open transaction that has written, as a text for the log; None if none can be seen."""
    open_since: float | None = None
    """Since when it is open, as a Unix time of the server."""


async def read_retained_wal(pool: ConnectionPool, slot: str) -> RetainedWal | None:
    """What the slot keeps, None if there is no such slot. Raises SourceError."""
    try:
        async with pool.connection() as db:
            row = await (await db.execute(_READ.encode(), (slot,))).fetchone()
    except psycopg.Error as error:
        raise from_sqlstate(error) from error
    if row is None:
        return None
    return RetainedWal(*row)
