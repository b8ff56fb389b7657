"""Holds requests until there is something to send: at the end of the log, before a snapshot chunk, beyond the
tail.

Not here: the rules (`decide`). A hold has one time limit by its kind, counted from the moment the request
began to be served, however often it is woken in between. State: one watch per shape that requests wait on;
owned by one application, in one event loop. Invariants: however many wait on a shape, the table is watched
once; a change between the look at the tail and the wait is not missed, because the watch compares with the
tail that the waiter has seen before it sleeps; the last waiter that leaves ends the watch.
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
from pgshapes.waiting.single_flight import SingleFlight


class TailWaits:
    """Lets requests wait for the next change of a tail, a time limit, or the end of the process.

    A watch is a flight that lands when the tail changes, so ten thousand requests that are held on one shape
    are one waiter in the table, and are released a few per loop turn.
    """

    def __init__(self, shapes: Shapes, stopping: asyncio.Event) -> None:
        self._shapes = shapes
        self._stopping = stopping
        self._watches: SingleFlight[str, Wake] = SingleFlight()
        self._stop_task: asyncio.Task[None] | None = None
        self._held = 0

    async def wait(self, handle: str, seen: Tail | None, timeout_s: float) -> Wake:
        """Return when the tail is no longer `seen`, at the time limit, or when the process stops."""
        if self._stopping.is_set():
            return Wake.STOPPING
        self._enter()
        try:
            return await self._watches.wait(handle, lambda: self._watch(handle, seen), timeout_s)
        except TimeoutError:
            return Wake.TIMED_OUT
        except NotNow:
            if self._stopping.is_set():
                return Wake.STOPPING
            raise
        finally:
            self._leave()

    async def _watch(self, handle: str, seen: Tail | None) -> Wake:
        if self._shapes.tail(handle) == seen:
            await self._shapes.tail_changed(handle)
        return Wake.CHANGED

    def _enter(self) -> None:
        self._held += 1
        if self._stop_task is None:
            self._stop_task = asyncio.create_task(self._watch_stopping())

    def _leave(self) -> None:
        self._held -= 1
        if self._held == 0 and self._stop_task is not None:
            self._stop_task.cancel()
            self._stop_task = None

    async def _watch_stopping(self) -> None:
        await self._stopping.wait()
        await self._watches.close()


class Holds:
    """Holds the requests of one application."""

    def __init__(self, waits: TailWaits, readiness: Readiness, settings: HttpSettings) -> None:
        self._waits = waits
        self._readiness = readiness
        self._settings = settings

    async def hold(self, handle: str, wait: Wait, seen: Tail | None, began_s: float) -> HoldDecision | None:
        """What to do now that the wait is over; None when the tail has changed: look again.

        `began_s` is the event loop's time at which the request began to be served.
        """
        elapsed_s = asyncio.get_running_loop().time() - began_s
        wake = await self._waits.wait(handle, seen, self.limit_s(wait) - elapsed_s)
        if wake is Wake.CHANGED:
            return None
        state = self.state()
        why_down = await self._why_down() if state is ServiceState.DOWN else ""
        return decide_after_hold(wait, wake, state, why_down)

    def limit_s(self, wait: Wait) -> float:
        """How long a wait of this kind may last."""
        if isinstance(wait, WaitForTail):
            return self._settings.long_poll_timeout_s
        if isinstance(wait, WaitForSnapshot):
            return self._settings.snapshot_timeout_s
        return self._settings.catch_up_timeout_s

    def state(self) -> ServiceState:
        """What the service can do now."""
        level = self._readiness.level()
        if level is Level.ACTIVE:
            return ServiceState.ACTIVE
        return ServiceState.READ_ONLY if level is Level.READ_ONLY else ServiceState.DOWN

    async def _why_down(self) -> str:
        try:
            await self._readiness.wait_until(Level.READ_ONLY, 0)
        except NotReady as reason:
            return reason.message
        return "The service was not ready"
