"""Finds, creates and drops the replication slot (manual: Logical Decoding Concepts).

Not here: streaming (`replication`), and the consequences of a new or unusable slot for shapes. Only
acknowledgements move a slot's position. Slot names are unique in the cluster, so a slot of another database
can have our name. Every property of a found slot is looked at: it is another's (an error), unusable (to be
recreated), or it does not matter to us (`_FIND`).
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from functools import partial
from typing import Final, NamedTuple

import psycopg

from pgshapes.errors import SourceError
from pgshapes.logs import get_logger
from pgshapes.model.lsn import Lsn, parse_lsn
from pgshapes.model.quoting import quote_identifier
from pgshapes.postgres.connection import Connection
from pgshapes.postgres.sqlstate import OPERATOR, WAIT, from_sqlstate
from pgshapes.waiting.background import begin, holds_nothing
from pgshapes.waiting.keep_running import keep_running

_log = get_logger(__name__)

_FIND: Final = """
SELECT s.database, s.plugin, s.temporary, s.active_pid, s.wal_status, s.confirmed_flush_lsn::text,
       s.two_phase,
       COALESCE(pg_catalog.to_jsonb(s) ->> 'invalidation_reason',
                CASE WHEN pg_catalog.to_jsonb(s) ->> 'conflicting' = 'true' THEN 'conflict' END),
       s.database IS NOT DISTINCT FROM pg_catalog.current_database() AND s.plugin = 'pgoutput'
FROM pg_catalog.pg_replication_slots s WHERE s.slot_name = %s
"""
"""What it leaves out. `failover`: changes are sent once the standbys have them, as its owner wants. `synced`:
remains true on a promoted standby, where the slot can be used. `inactive_since`, `xmin`, `catalog_xmin`,
`restart_lsn`, `safe_wal_size`: follow from its use."""
_PREPARED: Final = "SELECT gid FROM pg_catalog.pg_prepared_xacts ORDER BY prepared LIMIT 10"
_LOG_STANDBY_SNAPSHOT: Final = "SELECT pg_catalog.pg_log_standby_snapshot()"
_FIRST_PAUSE_S: Final = 1.0
_PAUSE_S: Final = 10.0
_DROP_RETRY_S: Final = 0.1


class Slot(NamedTuple):
    """The state of our slot on the server."""

    name: str
    confirmed_flush_lsn: Lsn
    """Everything before it has been acknowledged."""
    active_pid: int | None
    """The walsender that streams from it."""
    unusable: str | None = None
    """Why nothing can be streamed from it, so that it has to be recreated; None if it can be used."""


async def find_slot(connection: Connection, name: str) -> Slot | None:
    """The slot, or None. Raises SourceError if another database or plugin uses the name, or if it is being
    created: by another instance, or by the backend of one that has ended.
    """
    try:
        cursor = await connection.execute(_FIND, (name,))
        row = await cursor.fetchone()
    except psycopg.Error as error:
        raise from_sqlstate(error) from error
    if row is None:
        return None
    database, plugin, temporary, active_pid, wal_status, confirmed, two_phase, reason, is_ours = row
    if not is_ours:
        owner = f"to {plugin} in database {database}" if plugin else "to a physical standby"
        raise SourceError(
            f'replication slot "{name}" belongs {owner}: set another stream id', action=OPERATOR
        )
    if confirmed is None and active_pid is not None and reason is None and wal_status != "lost":
        raise SourceError(
            f'replication slot "{name}" is being created by backend {active_pid}, which waits for open'
            " transactions: end them, or terminate that backend if its client is gone",
            action=WAIT,
        )
    unusable = None
    if wal_status == "lost" or confirmed is None or reason is not None:
        unusable = f"it was invalidated ({reason or 'its WAL was removed'})"
    elif two_phase:
        unusable = "it is two_phase: it sends transactions when they are prepared, and some are rolled back"
    elif temporary:
        unusable = "it is temporary: it ends with the session that created it"
    return Slot(name, parse_lsn(confirmed) if confirmed else 0, active_pid, unusable)


async def create_slot(
    replication: Connection, admin: Connection, name: str, *, temporary: bool = False
) -> Lsn:
    """Create the slot on a walsender connection; return the position from which it has every change.

    Postgres waits for all open transactions, also prepared ones, as long as it takes;
    `admin` is used to shorten that. A temporary slot is dropped with the walsender connection. Raises
    SourceError.
    """
    kind = "TEMPORARY LOGICAL" if temporary else "LOGICAL"
    sql = f"CREATE_REPLICATION_SLOT {quote_identifier(name)} {kind} pgoutput NOEXPORT_SNAPSHOT"
    logging = keep_running(
        "accelerating the creation of the slot", partial(_log_standby_snapshots, admin, name)
    )
    logs = begin(logging, at_end=holds_nothing)
    try:
        row = await (await replication.execute(sql.encode())).fetchone()
    except psycopg.Error as error:
        raise from_sqlstate(error) from error
    finally:
        logs.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await logs
    if row is None:
        raise SourceError(f'Postgres returned no position for replication slot "{name}"')
    return parse_lsn(row[1])


async def drop_slot(connection: Connection, name: str, *, wait_s: float = 10.0) -> None:
    """Drop the slot if it exists; wait up to `wait_s` while it is in use. Raises SourceError."""
    deadline = time.monotonic() + wait_s
    while True:
        try:
            await connection.execute("SELECT pg_catalog.pg_drop_replication_slot(%s)", (name,))
            return
        except psycopg.errors.UndefinedObject:
            return
        except psycopg.Error as error:
            ours = from_sqlstate(error)
            if ours.action != WAIT or time.monotonic() >= deadline:
                raise ours from error
        await asyncio.sleep(_DROP_RETRY_S)


async def _log_standby_snapshots(admin: Connection, slot: str) -> None:
    """Make the server log its running transactions repeatedly, so that slot creation continues sooner.

    Not possible before Postgres 16, without the privilege, or once the connection is lost; slot creation then
    takes longer.
    """
    pause_s = _FIRST_PAUSE_S
    with contextlib.suppress(psycopg.errors.UndefinedFunction, psycopg.OperationalError):
        while True:
            await asyncio.sleep(pause_s)
            pause_s = _PAUSE_S
            prepared = await (await admin.execute(_PREPARED)).fetchall()
            _log.info(
                "slot creation waits for open transactions", slot=slot, prepared=[g for (g,) in prepared]
            )
            try:
                await admin.execute(_LOG_STANDBY_SNAPSHOT)
            except psycopg.errors.InsufficientPrivilege:
                _log.info(
                    "slot creation not accelerated",
                    slot=slot,
                    action="grant EXECUTE on pg_log_standby_snapshot()",
                )
                return
