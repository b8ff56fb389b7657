"""A bounded set of connections to one database, opened when they are needed and lent one at a time.

Not here: what is done with a connection, and how it is opened (`connection`). Invariant: a lent connection is
idle, outside any transaction, and belongs to its borrower alone; one that comes back in any other state is
closed. A borrower that waits is served in the order of arrival. State: the pool owns its idle connections.
"""

from __future__ import annotations

import asyncio
import select
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import psycopg
from psycopg import pq

from pgshapes.postgres.connection import Connection

Connect = Callable[[], Awaitable[Connection]]


class PoolTimeout(Exception):
    """No connection became free in time."""


class ConnectionPool:
    """At most `size` connections, made by `connect`."""

    def __init__(self, connect: Connect, size: int) -> None:
        self.size = size
        self._connect = connect
        self._free = asyncio.Semaphore(size)
        self._idle: list[Connection] = []
        self._waiting = 0
        self._is_closed = False

    @property
    def waiting(self) -> int:
        """How many borrowers wait for a connection."""
        return self._waiting

    @asynccontextmanager
    async def connection(self, timeout_s: float | None = None) -> AsyncIterator[Connection]:
        """Lend a connection. Raises PoolTimeout when none is free in time, what `connect` raises."""
        await self._wait_for_turn(timeout_s)
        try:
            borrowed = self._take_idle() or await self._connect()
            try:
                yield borrowed
            finally:
                await self._take_back(borrowed)
        finally:
            self._free.release()

    async def close(self) -> None:
        """Close what is idle now, and what is lent when it comes back."""
        self._is_closed = True
        while self._idle:
            await self._idle.pop().close()

    async def _wait_for_turn(self, timeout_s: float | None) -> None:
        self._waiting += 1
        try:
            async with asyncio.timeout(timeout_s):
                await self._free.acquire()
        except TimeoutError:
            raise PoolTimeout from None
        finally:
            self._waiting -= 1

    def _take_idle(self) -> Connection | None:
        while self._idle:
            candidate = self._idle.pop()
            if _is_usable(candidate):
                return candidate
            candidate.pgconn.finish()
        return None

    async def _take_back(self, returned: Connection) -> None:
        if _is_usable(returned) and not self._is_closed:
            self._idle.append(returned)
        else:
            await returned.close()


def _is_usable(connection: Connection) -> bool:
    """Whether no transaction is open and the server has not hung up; a restart is noticed without a query."""
    if connection.pgconn.transaction_status != pq.TransactionStatus.IDLE:
        return False
    unread = select.poll()
    unread.register(connection.pgconn.socket, select.POLLIN)
    try:
        while unread.poll(0):
            connection.pgconn.consume_input()
    except psycopg.OperationalError:
        return False
    return True
