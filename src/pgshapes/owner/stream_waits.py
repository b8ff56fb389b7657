"""The waits before the next change: the stream is paused while one of them is open.

Several may be open at once, as a log may turn out not to be writable while a relation is compared with the
system catalogs. Each ends itself only, and changes are processed again when none is left. What is waited for
on behalf of a stream ends with the stream, so the next one does not wait for it. After an error nothing of
the stream is processed any more: what follows would be acknowledged together with what has failed.

State: the open waits, in the replicator's loop.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from functools import partial
from typing import Any, Protocol

from pgshapes.logs import get_logger

_log = get_logger(__name__)


class Pausable(Protocol):
    """The replication stream, as far as it is used here."""

    @property
    def heard_at(self) -> float:
        """When the server sent something for the last time, in time.monotonic()."""

    @property
    def is_doubtful(self) -> bool:
        """Whether the server has not answered a request for a reply."""

    def pause(self) -> None:
        """Stop reading; keepalives are still answered."""

    def resume(self) -> None:
        """Continue reading."""


@dataclass(eq=False, slots=True)
class _Wait:
    reason: str
    is_for_stream: bool
    """Whether it ends with the stream; otherwise it goes on with the next one."""
    streams: int
    """How many streams there were when it began."""
    task: asyncio.Task[None] | None = None


class StreamWaits:
    """Begins and ends waits. `go_on` processes changes, when no wait is open; `fail` ends the stream."""

    def __init__(
        self,
        spawn: Callable[[Coroutine[Any, Any, None]], asyncio.Task[None]],
        go_on: Callable[[], None],
        fail: Callable[[str], None],
    ) -> None:
        self._spawn = spawn
        self._go_on = go_on
        self._fail = fail
        self._streams = 0
        self.stream: Pausable | None = None
        self.open: list[_Wait] = []
        """The waits under way: changes are processed only while it is empty. Always the same list."""

    @property
    def reason(self) -> str | None:
        """Why changes are not processed; None if no open wait has a reason."""
        return next((wait.reason for wait in self.open if wait.reason), None)

    def connected(self, stream: Pausable) -> None:
        """Use a new stream, and end the waits for the previous one."""
        self._streams += 1
        self.stream = stream
        for wait in [wait for wait in self.open if wait.is_for_stream]:
            self.open.remove(wait)
            if wait.task is not None:
                wait.task.cancel()
        if self.open:
            stream.pause()

    def begin(self, until: Coroutine[Any, Any, None], reason: str, *, is_for_stream: bool) -> None:
        """Process no change before `until` has ended; `reason` is empty while other work has its turn."""
        if self.stream is not None:
            self.stream.pause()
        wait = _Wait(reason, is_for_stream, self._streams)
        self.open.append(wait)
        try:
            wait.task = self._spawn(self._run(wait, until))
            wait.task.add_done_callback(partial(self._ended, wait, until))
        except BaseException:
            self.open.remove(wait)
            raise

    def stop(self, reason: str) -> None:
        """Process nothing more of this stream."""
        self.open.append(_Wait(reason, True, self._streams))

    async def _run(self, wait: _Wait, until: Coroutine[Any, Any, None]) -> None:
        await until
        self.open.remove(wait)
        if self.open:
            return
        self._go_on()
        if not self.open and self.stream is not None:
            self.stream.resume()

    def _ended(self, wait: _Wait, until: Coroutine[Any, Any, None], task: asyncio.Task[None]) -> None:
        """Begin a new stream if the wait has failed: otherwise all shapes would wait for changes without a
        sign. They are sent again.
        """
        until.close()  # it was not awaited if the task took no step
        is_over = wait.is_for_stream and wait.streams < self._streams
        error = asyncio.CancelledError() if task.cancelled() else task.exception()
        if error is None or is_over:
            return
        if not task.cancelled():
            _log.error("changes could not be processed", exc_info=error)
        self.stop("changes could not be processed")
        if wait in self.open:
            self.open.remove(wait)
        self._fail(f"changes could not be processed: {error!r}")
