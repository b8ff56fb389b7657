"""The connection class of this package: no wait for the server is without a limit.

A server can be gone while its connection stays open: a proxy, a tunnel or a suspended machine answers TCP in
its place, so neither the kernel nor libpq notices anything. Each wait of psycopg passes through
`BoundedConnection.wait`, and each wait for lines of a COPY through `readable`. Each time that the server has
been silent for the connection's limit, another session is asked whether it works on the statement; if it
twice does not, the statement is cancelled and the wait ends with `ServerSilent`. So a server that works is
not taken for one that is gone, and a dead connection is noticed after seconds. Where that cannot be known,
because the server is full or hides what its sessions do, the wait ends after `SILENCE_LIMIT_S`.

Not here: the replication stream, which has its own limit (`replication`), and opening a connection, which
`connect_timeout` limits. Invariant: after `ServerSilent`, and after a cancelled wait that the server did not
confirm, the connection is closed without waiting for anything.
"""

from __future__ import annotations

import asyncio
import select
import time
from collections.abc import Awaitable, Callable, Coroutine, Generator
from contextlib import suppress
from types import TracebackType
from typing import Any, Final, Self, TypeVar

import psycopg
from psycopg import pq, waiting
from psycopg.abc import PQGen
from psycopg.rows import TupleRow

from pgshapes.waiting.background import begin, holds_nothing

SILENCE_LIMIT_S: Final = 40.0
"""Of a connection whose activity nobody checks: longer than every limit that the server keeps on a statement
of ours, which is 30 s at most.
"""
CHECK_AFTER_S: Final = 5.0
"""Of a connection whose activity can be checked."""
CONFIRM_AFTER_S: Final = 1.0
"""Between the two checks that find nothing: an answer may be on its way, or the next step may begin."""
_CHECK_INTERVAL_S: Final = 0.1
_CANCEL_TIMEOUT_S: Final = 2.0
"""For each of the two steps: sending a cancellation, and the end of the statement."""

ActivityCheck = Callable[[], Awaitable[bool | None]]
"""Whether the server is alive and works on the statement, asked on another connection; None if that cannot be
known.
"""
Connect = Callable[[], Awaitable["BoundedConnection"]]
"""Opens a connection."""
R = TypeVar("R")


class ServerSilent(psycopg.OperationalError):
    """The server has sent nothing for the connection's limit of silence; the connection is closed."""


class _LimitReachedError(Exception):
    """Nothing was received for the limit. The wait can be continued."""


class _Watched(Generator[waiting.Wait, waiting.Ready | int, R]):
    """An operation of psycopg that raises _LimitReachedError, and can be resumed, after a silence."""

    def __init__(self, operation: PQGen[R], limit_s: float) -> None:
        self._operation = operation
        self._limit_s = limit_s
        self.heard_at = self._began_at = time.monotonic()

    def restart(self) -> None:
        """Begin a new limit of silence."""
        self._began_at = time.monotonic()

    def send(self, ready: waiting.Ready | int) -> waiting.Wait:
        """Continue the operation; `ready` is 0 after an interval in which nothing happened."""
        if ready:
            self.heard_at = self._began_at = time.monotonic()
        elif ready is not None and time.monotonic() - self._began_at >= self._limit_s:
            raise _LimitReachedError
        return self._operation.send(ready)

    def throw(  # type: ignore[override]
        self, kind: Any, value: BaseException | None = None, trace: TracebackType | None = None
    ) -> waiting.Wait:
        """Raise an exception in the operation."""
        return self._operation.throw(kind, value, trace)


class BoundedConnection(psycopg.AsyncConnection[TupleRow]):
    """A connection on which nothing waits without a limit. Opened by `connection` and `doctor` only."""

    silence_limit_s: float = SILENCE_LIMIT_S
    is_pooled = False
    """Whether a pooler may be in between: the backend is another one in each transaction."""
    _check: ActivityCheck | None = None
    end_session: Callable[[], Coroutine[Any, Any, None]] | None = None
    """Ends the session on the server when the connection is given up: it would keep its locks."""
    heard_at: float = 0.0
    """When something was received for the last time, in time.monotonic(); 0 before the first wait."""
    silent_since: float | None = None
    """Since when the server had been silent when the connection was given up; None if it was not."""

    @classmethod
    async def connect(cls, conninfo: str = "", **options: Any) -> Self:
        """As psycopg's; an attempt that is cancelled is closed at once.

        psycopg closes it when nothing refers to it any more. A traceback does, and may be kept by a task
        whose result nobody retrieves, until the garbage collector finds it.
        """
        try:
            return await super().connect(conninfo, **options)
        except asyncio.CancelledError as error:
            raise error.with_traceback(None) from None

    async def wait(
        self,
        gen: PQGen[R],
        interval: float = _CHECK_INTERVAL_S,
        timeout: float | None = None,  # noqa: ASYNC109 - the signature of psycopg
    ) -> R:
        """The result of an operation of psycopg. Raises psycopg.Error, ServerSilent.

        Cancelling the task cancels the statement on the server. Nothing here uses `timeout`.
        """
        assert timeout is None, "use asyncio.timeout, which cancels the statement"
        watched = _Watched(gen, self.silence_limit_s)
        try:
            while True:
                try:
                    result = await waiting.wait_async(watched, self.pgconn.socket, interval=interval)
                except _LimitReachedError:
                    await self._allow_silence(watched.heard_at)
                    watched.restart()
                else:
                    self.heard_at = time.monotonic()
                    return result
        except asyncio.CancelledError:
            await self._cancel(watched)
            raise

    async def readable(self) -> None:
        """Wait until the socket can be read, because the server works for us. Raises ServerSilent."""
        heard_at = time.monotonic()
        while not await self.is_readable_within(self.silence_limit_s):
            await self._allow_silence(heard_at)

    async def is_readable_within(self, limit_s: float) -> bool:
        """Wait until the socket can be read, at most for the limit: nothing is expected of the server."""
        loop, socket = asyncio.get_running_loop(), self.fileno()
        is_readable: asyncio.Future[bool] = loop.create_future()
        loop.add_reader(socket, _end, is_readable, True)
        timer = loop.call_later(limit_s, _end, is_readable, False)
        try:
            return await is_readable
        finally:
            loop.remove_reader(socket)
            timer.cancel()

    def check_with(self, check: ActivityCheck | None) -> None:
        """Let the server be silent as long as `check` returns True; None: for `SILENCE_LIMIT_S`."""
        self._check = check
        self.silence_limit_s = SILENCE_LIMIT_S if check is None else CHECK_AFTER_S

    async def is_working(self) -> bool | None:
        """Whether the server works on what was sent; None if that cannot be known, False if there is no way
        to ask.
        """
        return False if self._check is None else await self._check()

    def require_allowed(self, sql: str) -> None:
        """Raise TypeError for a simple query that this kind of connection may not send now."""

    def reset(self) -> None:
        """Forget what belongs to one transaction; called when a connection is returned to its pool."""

    def give_up(self, silent_since: float) -> None:
        """Close the connection now, because its server does not answer."""
        self.silent_since = silent_since
        self.pgconn.finish()
        if self.end_session is not None:
            begin(self.end_session(), at_end=holds_nothing)

    async def _allow_silence(self, heard_at: float) -> None:
        """Return if the server works. Raises ServerSilent."""
        if has_input(self.pgconn.socket):
            return  # it arrived while the loop was busy
        try:
            is_working = await self._is_working_at_last()
        except Exception:  # whatever it is: nothing is known of the statement then
            self.give_up(heard_at)
            raise
        silent_s = time.monotonic() - heard_at
        if is_working or (is_working is None and silent_s < SILENCE_LIMIT_S) or has_input(self.pgconn.socket):
            return
        with suppress(psycopg.Error, TimeoutError):
            await self.cancel_safe(timeout=_CANCEL_TIMEOUT_S)  # it needs no place on a server that is full
        self.give_up(heard_at)
        raise ServerSilent(f"the server has sent nothing for {silent_s:.0f} s; the connection was closed")

    async def _is_working_at_last(self) -> bool | None:
        found = await self.is_working()
        if found is not False or self._check is None:
            return found
        await asyncio.sleep(CONFIRM_AFTER_S)
        return has_input(self.pgconn.socket) or await self.is_working()

    async def _cancel(self, watched: _Watched[Any]) -> None:
        """End the running statement, so that the connection can be used again; else close it."""
        if self.pgconn.transaction_status != pq.TransactionStatus.ACTIVE:
            return
        silent_since = watched.heard_at
        try:
            await self.cancel_safe(timeout=_CANCEL_TIMEOUT_S)
            async with asyncio.timeout(_CANCEL_TIMEOUT_S):
                await waiting.wait_async(watched, self.pgconn.socket, interval=_CHECK_INTERVAL_S)
        except psycopg.errors.QueryCanceled:
            return
        except (psycopg.Error, TimeoutError, _LimitReachedError):
            self.give_up(silent_since)
        except BaseException:
            self.give_up(silent_since)
            raise


def has_input(socket: int) -> bool:
    """Whether the socket can be read without waiting."""
    input_ = select.poll()
    input_.register(socket, select.POLLIN)
    return bool(input_.poll(0))


def _end(waiter: asyncio.Future[bool], is_readable: bool) -> None:
    if not waiter.done():
        waiter.set_result(is_readable)
