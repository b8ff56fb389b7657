"""The link between processes of one machine: frames over a Unix domain socket.

`UnixSocketOwner` listens, `UnixSocketLink` connects and reconnects. Neither knows what calls mean.

Invariants: the owner waits for no caller. A replica always holds one whole state of one epoch. An owner that
sends nothing counts as not connected, but its connection and the calls on it are kept: it is busy or stopped,
and no other owner can exist before its process ends (`owner/storage_dir.py`), which ends the connection.
"""

from __future__ import annotations

import asyncio
import random
import socket
import time
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Final

from pgshapes.errors import ConfigError, OwnerUnavailable, PgShapesError, is_shortage
from pgshapes.limited_log import LimitedLog
from pgshapes.logs import get_logger
from pgshapes.tables.caller_connection import CallerConnection
from pgshapes.tables.calls import Call, Reply
from pgshapes.tables.deltas import Rows
from pgshapes.tables.frames import Heartbeat, encode
from pgshapes.tables.link import answered_within
from pgshapes.tables.mailbox import Handler, Mailbox
from pgshapes.tables.owner_connection import OwnerConnection
from pgshapes.tables.replica import TablesReplica
from pgshapes.tables.required_version import EPOCH, NUMBER, RequiredVersion
from pgshapes.tables.tables import Tables
from pgshapes.waiting.background import begin, holds_nothing
from pgshapes.waiting.keep_running import keep_running
from pgshapes.waiting.notice import Notice

HEARTBEAT_S: Final = 0.25
SILENT_AFTER_BEATS: Final = 4
"""An owner is silent after 1 s without a byte. Counted in intervals of this process's own loop, so that the
delays of a busy caller do not count as the owner's."""
CHECK_S: Final = 0.5
CHECKS_BEFORE_READING: Final = 2
"""An owner that has just started sends its tables sooner."""
FIRST_RETRY_S: Final = 0.01
LAST_RETRY_S: Final = 0.5
_BACKLOG: Final = 64

ReadStored = Callable[[], Rows | None]
"""Reads the rows with which the shapes of an owner that is away can be served."""

failures: Final = LimitedLog(get_logger(__name__))


class UnixSocketOwner:
    """Serves tables and calls on a socket that only its own user can open."""

    def __init__(self, path: str | Path, tables: Tables, handler: Handler) -> None:
        self.mailbox = Mailbox(handler)
        self._path = Path(path)
        self._tables = tables
        self._connections: set[OwnerConnection] = set()
        self._inode: int | None = None
        self._server: asyncio.Server | None = None
        self._beat: asyncio.TimerHandle | None = None

    async def start(self) -> None:
        """Listen, replacing the socket of an earlier owner; can be repeated after an error. Raises
        ConfigError when it cannot be bound, OSError for a shortage.
        """
        loop = asyncio.get_running_loop()
        self._tables.begin_epoch()
        listener = bind_private(self._path)
        try:
            self._inode = self._path.stat().st_ino
            self._server = await loop.create_unix_server(self._accept, sock=listener, backlog=_BACKLOG)
        except BaseException:
            listener.close()
            raise
        self._send_heartbeats()

    def _accept(self) -> OwnerConnection:
        return OwnerConnection(self._tables, self.mailbox, self._connections)

    def _send_heartbeats(self) -> None:
        # First: an error of a connection must not be the last heartbeat of all.
        self._beat = asyncio.get_running_loop().call_later(HEARTBEAT_S, self._send_heartbeats)
        for connection in tuple(self._connections):
            connection.send(_HEARTBEAT)

    async def close(self) -> None:
        """Stop listening, end every connection and every call."""
        if self._beat is not None:
            self._beat.cancel()
        if self._server is not None:
            self._server.close()
        for connection in tuple(self._connections):
            connection.cut()
        self._remove_socket()
        await self.mailbox.close()

    def _remove_socket(self) -> None:
        """Remove the socket unless another owner has replaced it."""
        with suppress(FileNotFoundError):
            if self._path.stat().st_ino == self._inode:
                self._path.unlink()


_HEARTBEAT: Final = encode(Heartbeat())


def bind_private(path: Path) -> socket.socket:
    """A bound socket at `path` that only its own user can open, replacing what was there.

    It is bound under another name and renamed: a caller that connects finds the old socket, or the new one
    with its mode set. Raises ConfigError, OSError for a shortage.
    """
    aside = path.with_name(f"{path.name}~")
    try:
        listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    except OSError as error:
        raise _bind_error(error, path) from error
    try:
        aside.unlink(missing_ok=True)
        listener.bind(str(aside))
        aside.chmod(0o600)
        aside.rename(path)
    except OSError as error:
        listener.close()
        raise _bind_error(error, path) from error
    listener.setblocking(False)
    return listener


def _bind_error(error: OSError, path: Path) -> Exception:
    return error if is_shortage(error) else ConfigError(f"cannot listen on {path}: {error}")


class UnixSocketLink:
    """The link of a caller's process: a replica of its tables, and calls. Reconnects until closed."""

    def __init__(
        self,
        path: str | Path,
        *,
        has_notices: bool = True,
        required: RequiredVersion | None = None,
        read_stored: ReadStored | None = None,
    ) -> None:
        """`required` is the version that the owner at `path` writes; without it every state is served.

        `read_stored` is called in a thread when there is nothing to serve from and the owner is away.
        """
        self.tables = TablesReplica(has_notices=has_notices, required=required)
        self._read_stored = read_stored
        self.syncs = 0
        """How many times the whole state has arrived."""
        self._path = str(path)
        self._connection: CallerConnection | None = None
        self._is_silent = False
        self._change = Notice()
        self._tasks: list[asyncio.Task[None]] = []

    @property
    def epoch(self) -> int:
        """The epoch of the tables."""
        return self.tables.epoch

    @property
    def is_connected(self) -> bool:
        """Whether the replica follows an owner that has sent something within the last second."""
        return self._connection is not None and self._connection.is_synced and not self._is_silent

    @property
    def is_following(self) -> bool:
        """Whether it is connected, and the tables have all that they must have to be served from: a process
        that is busy or was stopped gets it late.
        """
        return self.is_connected and self.tables.is_current()

    async def connected(self) -> None:
        """Wait until `is_connected`."""
        while not self.is_connected:
            await self._change

    def start(self) -> None:
        """Begin to connect, in the background."""
        works = [("connecting to the owner", self._stay_connected)]
        if self._read_stored is not None:
            works.append(("reading what the owner has stored", partial(self._stay_filled, self._read_stored)))
        self._tasks = [begin(keep_running(name, work), at_end=holds_nothing) for name, work in works]

    async def close(self) -> None:
        """End the connection; calls under way get OwnerUnavailable."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def call(self, call: Call, *, timeout_s: float) -> Reply:
        """See `OwnerLink.call`. While the state is still arriving the call waits for it."""
        deadline = time.monotonic() + timeout_s
        async with answered_within(timeout_s):
            connection = await self._following()
            return await connection.call(call, deadline)

    async def barrier(self, *, timeout_s: float) -> None:
        """See `OwnerLink.barrier`."""
        async with answered_within(timeout_s):
            connection = await self._following()
            await connection.barrier()

    async def _following(self) -> CallerConnection:
        connection = self._connection
        if connection is None or self._is_silent:
            raise OwnerUnavailable("the owner cannot be reached")
        await connection.settled
        return connection

    def _note_change(self) -> None:
        change, self._change = self._change, Notice()
        change.give()

    async def _stay_filled(self, read_stored: ReadStored) -> None:
        """Fill the tables with what the owner has stored, when there is nothing else to serve from."""
        checks = 0
        while True:
            await asyncio.sleep(CHECK_S)
            checks = checks + 1 if self._is_without_tables() else 0
            if checks >= CHECKS_BEFORE_READING:
                await self._restore(read_stored)
                checks = 0

    def _is_without_tables(self) -> bool:
        """Whether no current tables are there, and none on their way. An owner of this run has loaded its
        shapes before: until then nobody knows whether they belong to this database.
        """
        has_owner = self._connection is not None and not self._is_silent
        return not has_owner and self.tables.required[EPOCH] != 0 and not self.tables.is_current()

    async def _restore(self, read_stored: ReadStored) -> None:
        # Read before the rows: what is removed later requires more.
        number, epoch = self.tables.required[NUMBER], self.tables.required[EPOCH]
        try:
            rows = await asyncio.to_thread(read_stored)
        except (PgShapesError, OSError) as error:
            failures.note("stored shapes could not be read; retrying", str(error), error=str(error))
            return
        if rows is not None and self._is_without_tables():
            self.tables.restore(rows, epoch, number)

    async def _stay_connected(self) -> None:
        retry_s = FIRST_RETRY_S
        while True:
            syncs = self.syncs
            await self._connect_and_follow()
            retry_s = FIRST_RETRY_S if self.syncs > syncs else min(retry_s * 2, LAST_RETRY_S)
            await asyncio.sleep(retry_s * random.uniform(0.75, 1.25))

    async def _connect_and_follow(self) -> None:
        try:
            connection = await self._open()
        except (OSError, OwnerUnavailable):
            return
        await self._follow(connection)

    async def _open(self) -> CallerConnection:
        """A connection on which the welcome has arrived. Raises OSError, OwnerUnavailable."""
        loop = asyncio.get_running_loop()
        _, connection = await loop.create_unix_connection(self._new_connection, self._path)
        try:
            await connection.welcomed
            if connection.welcome is None:
                raise OwnerUnavailable("the owner closed the connection before the welcome")
        except BaseException:
            connection.abort()
            raise
        return connection

    def _new_connection(self) -> CallerConnection:
        return CallerConnection(self.tables, self._note_sync)

    def _note_sync(self) -> None:
        self.syncs += 1
        self._note_change()

    async def _follow(self, connection: CallerConnection) -> None:
        """Keep the replica on `connection` until it is lost."""
        self._connection = connection
        connection.subscribe()
        try:
            while not connection.is_lost:
                await _silence(connection)
                await self._wait_for_data(connection)
        finally:
            self._connection = None
            connection.abort()
            self._note_change()

    async def _wait_for_data(self, silent: CallerConnection) -> None:
        """Count as not connected until data arrives again or the connection is lost."""
        self._is_silent = True
        try:
            await silent.next_received()
        finally:
            self._is_silent = False
            self._note_change()


async def _silence(connection: CallerConnection) -> None:
    """Wait until nothing has arrived on `connection` for a second, or it is lost."""
    missed, reads = 0, connection.reads
    while missed < SILENT_AFTER_BEATS and not connection.is_lost:
        with suppress(TimeoutError):
            async with asyncio.timeout(HEARTBEAT_S):
                await connection.lost
        missed = missed + 1 if connection.reads == reads else 0
        reads = connection.reads
