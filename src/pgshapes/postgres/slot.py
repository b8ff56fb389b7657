"""Finds, creates and drops the replication slot (manual: Logical Decoding Concepts).

Not here: streaming (`replication`), and the consequences of a new or lost slot for shapes. Only
acknowledgements move a slot's position. Slot names are unique in the cluster, so a slot of another database
can have our name.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from typing import Final, NamedTuple

import psycopg
import structlog

from pgshapes.errors import SourceError
from pgshapes.model.lsn import Lsn, parse_lsn
from pgshapes.model.quoting import quote_identifier
from pgshapes.postgres.connection import Connection
from pgshapes.postgres.sqlstate import OPERATOR, WAIT, from_sqlstate

_log = structlog.get_logger(__name__)

_FIND: Final = """
SELECT database, plugin, temporary, active_pid, wal_status, confirmed_flush_lsn::text,
       database IS NOT DISTINCT FROM pg_catalog.current_database() AND plugin = 'pgoutput'
FROM pg_catalog.pg_replication_slots WHERE slot_name = %s
"""
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
    is_lost: bool
    """Whether the server has removed WAL that it needs; it can only be dropped."""
    is_temporary: bool


async def find_slot(connection: Connection, name: str) -> Slot | None:
    """The slot, or None. Raises SourceError if another database or plugin uses the name."""
    try:
        cursor = await connection.execute(_FIND, (name,))
        row = await cursor.fetchone()
    except psycopg.Error as error:
        raise from_sqlstate(error) from error
    if row is None:
        return None
    database, plugin, is_temporary, active_pid, wal_status, confirmed, is_ours = row
    if not is_ours:
        raise SourceError(
            f'replication slot "{name}" belongs to {plugin} in database {database}: set another stream id',
            action=OPERATOR,
        )
    is_lost = wal_status == "lost" or confirmed is None
    return Slot(name, parse_lsn(confirmed) if confirmed else 0, active_pid, is_lost, is_temporary)


async def create_slot(
    replication: Connection, admin: Connection, name: str, *, temporary: bool = False
) -> Lsn:
    """Create the slot on a walsender connection; return the position from which it has every change.

    Postgres waits for all open transactions; `admin` is used to shorten that. A temporary slot is dropped
    with the walsender connection. Raises SourceError.
    """
    kind = "TEMPORARY LOGICAL" if temporary else "LOGICAL"
    sql = f"CREATE_REPLICATION_SLOT {quote_identifier(name)} {kind} pgoutput NOEXPORT_SNAPSHOT"
    logs = asyncio.create_task(_log_standby_snapshots(admin, name))
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

    Not possible before Postgres 16 or without the privilege; slot creation then takes longer.
    """
    pause_s = _FIRST_PAUSE_S
    with contextlib.suppress(psycopg.errors.UndefinedFunction):
        while True:
            await asyncio.sleep(pause_s)
            pause_s = _PAUSE_S
            _log.info("slot creation waits for open transactions", slot=slot)
            try:
                await admin.execute(_LOG_STANDBY_SNAPSHOT)
            except psycopg.errors.InsufficientPrivilege:
                _log.info(
                    "slot creation not accelerated",
                    slot=slot,
                    action="grant EXECUTE on pg_log_standby_snapshot()",
                )
                return
