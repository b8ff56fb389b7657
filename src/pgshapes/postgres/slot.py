"""The replication slot: how Postgres remembers which WAL we still need (manual: Logical Decoding Concepts).

Not here: streaming from it (`replication`), and what a new or lost slot means for shapes. A slot's position
moves by acknowledgement alone. Slots are named per server, not per database, so a slot of another database
stands in the way.
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
    """A slot of ours as the server sees it."""

    name: str
    confirmed_flush_lsn: Lsn
    """Everything before it has been acknowledged."""
    active_pid: int | None
    """The walsender that streams from it now."""
    is_lost: bool
    """Whether the server has given up keeping the WAL that it needs; it can only be dropped then."""
    is_temporary: bool


async def find_slot(connection: Connection, name: str) -> Slot | None:
    """The slot, or None. Raises SourceError when the name is taken by a slot that is none of ours."""
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
    """Create the slot on a walsender connection; from which position on it has every change.

    It takes as long as the transactions that are open now; meanwhile the server is nudged on `admin`. A
    temporary slot goes with the walsender connection. Raises SourceError.
    """
    kind = "TEMPORARY LOGICAL" if temporary else "LOGICAL"
    sql = f"CREATE_REPLICATION_SLOT {quote_identifier(name)} {kind} pgoutput NOEXPORT_SNAPSHOT"
    logs = asyncio.create_task(_log_standby_snapshots(admin))
    try:
        row = await (await replication.execute(sql.encode())).fetchone()
    except psycopg.Error as error:
        raise from_sqlstate(error) from error
    finally:
        logs.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await logs
    if row is None:
        raise SourceError(f'Postgres did not say where replication slot "{name}" begins')
    return parse_lsn(row[1])


async def drop_slot(connection: Connection, name: str, *, wait_s: float = 10.0) -> None:
    """Drop the slot if it is there; one that is in use is waited for. Raises SourceError."""
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


async def _log_standby_snapshots(admin: Connection) -> None:
    """Make the server log its running transactions now and then, which lets a waiting creation go on sooner.

    Where it cannot be had (Postgres before 16, no privilege) the creation takes the time that it takes.
    """
    pause_s = _FIRST_PAUSE_S
    with contextlib.suppress(psycopg.errors.UndefinedFunction):
        while True:
            await asyncio.sleep(pause_s)
            pause_s = _PAUSE_S
            _log.info("waiting for open transactions to end before the replication slot can be created")
            try:
                await admin.execute(_LOG_STANDBY_SNAPSHOT)
            except psycopg.errors.InsufficientPrivilege:
                _log.info("no privilege to speed it up: grant EXECUTE on pg_log_standby_snapshot()")
                return
