"""The advisory lock that allows one active instance per slot; others wait for it.

The lock is held by a connection of its own and ends with it. Without the lock, two instances could consume
the same slot, and each would acknowledge WAL that the other has not stored. `wait_until_lost` returns when
the lock is lost; the caller decides what to do.

The holder sends a statement every few seconds, from the moment it has the lock: so it notices a connection
that is dead, no proxy closes one that is idle, and an instance that waits can tell a holder that lives from
one that is gone.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable
from functools import partial
from typing import Final, NamedTuple

import psycopg

from pgshapes.errors import SourceError
from pgshapes.logs import get_logger
from pgshapes.postgres.backend_activity import terminate
from pgshapes.postgres.connection import Connection, connect
from pgshapes.postgres.sqlstate import RETRY, from_sqlstate
from pgshapes.waiting.background import begin, holds_nothing
from pgshapes.waiting.keep_running import keep_running

_log = get_logger(__name__)

_TRY: Final = "SELECT pg_catalog.pg_try_advisory_lock(pg_catalog.hashtext(%s))"
_UNLOCK: Final = "SELECT pg_catalog.pg_advisory_unlock(pg_catalog.hashtext(%s))"
_WAIT: Final = "SELECT pg_catalog.pg_advisory_lock(pg_catalog.hashtext(%s))"

_IDLE_HOLDER: Final = """
SELECT l.pid, a.backend_start, a.state_change
FROM pg_catalog.pg_locks l
JOIN pg_catalog.pg_stat_activity a ON a.pid = l.pid
JOIN pg_catalog.pg_database d ON d.oid = l.database AND d.datname = pg_catalog.current_database()
JOIN pg_catalog.pg_replication_slots s ON s.slot_name = %(slot)s AND NOT s.active
WHERE l.locktype = 'advisory' AND l.granted AND l.objsubid = 1
  AND (l.classid::bigint << 32) | l.objid::bigint = pg_catalog.hashtext(%(slot)s)::bigint
"""

BREAK_INTERVAL_S: Final = 5.0
CHECKS: Final = 4
"""How many checks in a row have to find a holder that has sent nothing: 15 s, three of its statements."""
_BEAT_S: Final = 5.0
_BEAT: Final = "SELECT 1"
_UNLOCK_TIMEOUT_S: Final = 2.0
_APPLICATION: Final = "pgshapes lock"


class _Holder(NamedTuple):
    pid: int
    backend_start: object
    state_change: object
    """When its last statement ended; it is another after each one."""


class LockBreaker:
    """Terminates the backend of a dead holder whose connection the server has not detected as broken.

    A live holder streams from the slot, or sends statements: it may be loading shapes, or reconnecting. A
    holder that did neither at several consecutive checks is considered dead.
    """

    def __init__(self, slot: str) -> None:
        self._slot = slot
        self._suspect: _Holder | None = None
        self._checks = 0

    async def check(self, connection: Connection) -> int | None:
        """Check the holder once; return the pid of the terminated backend, if any. Raises psycopg.Error."""
        cursor = await connection.execute(_IDLE_HOLDER, {"slot": self._slot})
        row = await cursor.fetchone()
        holder = _Holder(*row) if row else None
        self._checks = self._checks + 1 if holder is not None and holder == self._suspect else 1
        self._suspect = holder
        if holder is None or self._checks < CHECKS:
            return None
        # Before it, because whoever waits for the lock ends this check at once when it has it.
        _log.warning("lock holder is terminated", pid=holder.pid, reason="it sent nothing between the checks")
        await connection.execute("SELECT pg_catalog.pg_terminate_backend(%s)", (holder.pid,))
        return holder.pid


class AdvisoryLock:
    """The advisory lock for a slot. Owns its connection."""

    def __init__(
        self,
        url: str,
        slot: str,
        *,
        break_interval_s: float = BREAK_INTERVAL_S,
        beat_s: float = _BEAT_S,
    ) -> None:
        self._beat_s = beat_s
        self._url = url
        self._slot = slot
        self._break_interval_s = break_interval_s
        self._connection: Connection | None = None
        self._pid = 0
        self.is_suspect = False
        """Whether another connection to the server turned out to be dead."""
        self._beating: asyncio.Task[None] | None = None

    async def acquire(self, on_waiting: Callable[[], None] = lambda: None) -> None:
        """Acquire the lock; wait without a timeout. `on_waiting` is called if another instance holds it.

        Raises SourceError if the connection fails; the lock is not held then.
        """
        connection = await connect(self._url, application_name=_APPLICATION, read_values=False)
        try:
            if not await self._try(connection):
                on_waiting()
                await self._wait(connection)
        except BaseException as error:
            await connection.close()
            if isinstance(error, psycopg.Error):
                raise from_sqlstate(error) from error
            raise
        self._connection, self._pid = connection, connection.info.backend_pid
        self._beating = begin(_beat_until_lost(connection, self._beat_s), at_end=holds_nothing)

    async def wait_until_lost(self) -> None:
        """Return when the connection that holds the lock has ended, or its server does not answer."""
        if self._beating is not None:
            await asyncio.wait((self._beating,))

    async def release(self) -> None:
        """Release the lock, also if this is cancelled. If the server does not answer, end its session, which
        would keep the lock.
        """
        connection, self._connection = self._connection, None
        beating, self._beating = self._beating, None
        if connection is not None and beating is not None:
            beating.cancel()
            ending = begin(self._end(connection, beating), at_end=lambda _: connection.pgconn.finish())
            await asyncio.wait((ending,))

    async def _end(self, connection: Connection, beating: asyncio.Task[None]) -> None:
        await asyncio.wait((beating,))
        is_released = not self.is_suspect and await self._unlock(connection)
        await connection.close()
        if not is_released:
            await terminate(partial(connect, self._url), self._pid, _APPLICATION)

    async def _unlock(self, connection: Connection) -> bool:
        """Unlock; whether the server has confirmed it."""
        try:
            async with asyncio.timeout(_UNLOCK_TIMEOUT_S):
                await connection.execute(_UNLOCK, (self._slot,))
        except (psycopg.Error, TimeoutError):
            return False
        return True

    async def _try(self, connection: Connection) -> bool:
        row = await (await connection.execute(_TRY, (self._slot,))).fetchone()
        return row is not None and row[0] is True

    async def _wait(self, connection: Connection) -> None:
        checking = keep_running("checking the holder of the lock", self._break_when_stale)
        breaking = begin(checking, at_end=holds_nothing)
        try:
            await connection.execute(_WAIT, (self._slot,))
        finally:
            breaking.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await breaking

    async def _break_when_stale(self) -> None:
        """Check the holder periodically, on another connection: this one waits for the lock."""
        breaker = LockBreaker(self._slot)
        while True:
            await asyncio.sleep(self._break_interval_s)
            try:
                connection = await connect(self._url, application_name="pgshapes lock breaker")
                async with connection:
                    await breaker.check(connection)
            except (psycopg.Error, SourceError) as error:
                _log.warning("lock holder check failed", reason=str(error), action=RETRY)


async def _beat_until_lost(connection: Connection, beat_s: float) -> None:
    """Send a statement at intervals; return when the connection has ended."""
    with contextlib.suppress(psycopg.Error, OSError):
        while True:
            # Nothing is sent unasked but the end of the connection.
            await connection.is_readable_within(beat_s)
            await connection.execute(_BEAT)
