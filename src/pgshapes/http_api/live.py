"""Holds requests until there is data: at the end of the log, before a snapshot chunk, or beyond the tail.

The rules are in `decide`. Each kind of wait has one time limit, which counts from the start of the request,
however often the wait is interrupted. State: one watch per shape that requests wait for; owned by one
application, in one event loop. Invariants: the table is watched once per shape, however many requests wait; a
change between reading the tail and waiting is not missed, because the watch first compares the tail with the
one that the request has read; the watch ends with its last waiter.
"""

from __future__ import annotations

import asyncio

from pgshapes.errors import NotNow, NotReady
from pgshapes.gates.conditions import Level
from pgshapes.http_api.decide import (
    HoldDecision,
    ServiceState,
    Wait,
    WaitForSnapshot,
    WaitForTail,
    Wake,
    decide_after_hold,
)
from pgshapes.http_api.ports import Readiness, Shapes
from pgshapes.http_api.settings import HttpSettings
from pgshapes.model.tail import Tail
from pgshapes.waiting.background import begin
from pgshapes.waiting.single_flight import SingleFlight


class TailWaits:
    """Lets requests wait for the next change of a tail, a time limit, or the shutdown of the process.

    A watch is a flight that ends when the tail changes. So ten thousand requests that are held on one shape
    are one waiter of the table, and they are released a few per turn of the event loop.
    """

    def __init__(self, shapes: Shapes, stopping: asyncio.Event) -> None:
        self._shapes = shapes
        self._stopping = stopping
        self._watches: SingleFlight[str, Wake] = SingleFlight()
        self._stop_task: asyncio.Task[None] | None = None
        self._held = 0

    @property
    def is_stopping(self) -> bool:
        """Whether the process stops, so that every wait ends at once."""
        return self._stopping.is_set()

    async def wait(self, handle: str, seen: Tail | None, timeout_s: float) -> Wake:
        """Return when the tail differs from `seen`, at the time limit, or when the process stops."""
        if self._stopping.is_set():
            return Wake.STOPPING
        self._start_hold()
        try:
            return await self._watches.wait(handle, lambda: self._watch(handle, seen), timeout_s)
        except TimeoutError:
            return Wake.TIMED_OUT
        except NotNow:
            if self._stopping.is_set():
                return Wake.STOPPING
            raise
        finally:
            self._end_hold()

    def has_changed(self, handle: str, seen: Tail | None) -> bool:
        """Whether the tail differs from `seen`. Raises StaleTables."""
        return self._shapes.tail(handle) != seen

    async def _watch(self, handle: str, seen: Tail | None) -> Wake:
        if not self.has_changed(handle, seen):
            await self._shapes.tail_changed(handle)
        return Wake.CHANGED

    def _start_hold(self) -> None:
        self._held += 1
        if self._stop_task is None:
            self._stop_task = begin(self._watch_stopping(), at_end=self._forget_stop_task)

    def _end_hold(self) -> None:
        self._held -= 1
        if self._held == 0 and self._stop_task is not None:
            self._stop_task.cancel()
            self._stop_task = None

    def _forget_stop_task(self, task: asyncio.Task[None]) -> None:
        if self._stop_task is task:
            self._stop_task = None

    async def _watch_stopping(self) -> None:
        await self._stopping.wait()
        await self._watches.close()


class HeldRequests:
    """Holds the requests of one application."""

    def __init__(self, waits: TailWaits, readiness: Readiness, settings: HttpSettings) -> None:
        self._waits = waits
        self._readiness = readiness
        self._settings = settings

    async def hold(self, handle: str, wait: Wait, seen: Tail | None, began_s: float) -> HoldDecision | None:
        """Wait, then return how to answer; None when the tail must be read again.

        A hold that ended while the tables were replaced is not answered from what was read before it.
        `began_s` is the event loop's time at the start of the request.
        """
        elapsed_s = asyncio.get_running_loop().time() - began_s
        wake = await self._waits.wait(handle, seen, self.limit_s(wait) - elapsed_s)
        if wake is Wake.CHANGED:
            return None
        state, why_down = self.state(), ""
        if state is ServiceState.DOWN:
            why_down = await self._why_down(0 if wake is Wake.STOPPING else self._settings.ready_timeout_s)
            if not why_down:
                return None
        elif self._waits.has_changed(handle, seen):
            return None
        return decide_after_hold(wait, wake, state, why_down)

    async def until_served(self) -> None:
        """Wait until known shapes may be served, because that was not so. Raises NotReady."""
        await self._readiness.wait_until(Level.READ_ONLY, self._settings.ready_timeout_s)

    def limit_s(self, wait: Wait) -> float:
        """The time limit for this kind of wait, in seconds."""
        if isinstance(wait, WaitForTail):
            return self._settings.long_poll_timeout_s
        if isinstance(wait, WaitForSnapshot):
            return self._settings.snapshot_timeout_s
        return self._settings.catch_up_timeout_s

    def state(self) -> ServiceState:
        """The current state of the service."""
        level = self._readiness.level()
        if level is Level.ACTIVE:
            return ServiceState.ACTIVE
        return ServiceState.READ_ONLY if level is Level.READ_ONLY else ServiceState.DOWN

    async def _why_down(self, timeout_s: float) -> str:
        """Wait until known shapes can be served again; why they cannot, empty if they can."""
        try:
            await self._readiness.wait_until(Level.READ_ONLY, timeout_s)
        except NotReady as reason:
            return reason.message
        return ""
