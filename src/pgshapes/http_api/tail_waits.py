"""Holding requests until the end of a shape's log moves.

State: one watch per shape that somebody waits on, and the futures of those who wait; owned by one
application, on one event loop. Invariants: however many wait on a shape, the table is watched once; a change
between the look at the tail and the wait is not missed, because the watch compares with the tail that the
waiter has seen before it sleeps; who leaves takes his future along, and the last one takes the watch.
"""

from __future__ import annotations

import asyncio

from pgshapes.http_api.decide import Wake
from pgshapes.http_api.ports import Shapes
from pgshapes.model.tail import Tail


class _Watch:
    """Those who wait on one shape."""

    __slots__ = ("task", "waiters")

    def __init__(self) -> None:
        self.waiters: set[asyncio.Future[Wake]] = set()
        self.task: asyncio.Task[None] | None = None

    def wake(self, wake: Wake) -> None:
        for waiter in self.waiters:
            _settle(waiter, wake)

    def fail(self, error: Exception) -> None:
        for waiter in self.waiters:
            if not waiter.done():
                waiter.set_exception(error)


class TailWaits:
    """Lets requests wait for the next change of a tail, a time limit, or the end of the process."""

    def __init__(self, shapes: Shapes, stopping: asyncio.Event) -> None:
        self._shapes = shapes
        self._stopping = stopping
        self._watches: dict[str, _Watch] = {}
        self._stop_task: asyncio.Task[None] | None = None
        self._held = 0

    @property
    def held(self) -> int:
        """How many requests wait now."""
        return self._held

    async def wait(self, handle: str, seen: Tail | None, timeout_s: float) -> Wake:
        """Return when the tail is no longer `seen`, at the time limit, or when the process stops."""
        if self._stopping.is_set():
            return Wake.STOPPING
        loop = asyncio.get_running_loop()
        waiter: asyncio.Future[Wake] = loop.create_future()
        timer = loop.call_later(max(0.0, timeout_s), _settle, waiter, Wake.TIMED_OUT)
        watch = self._join(handle, seen, waiter)
        try:
            return await waiter
        finally:
            timer.cancel()
            self._leave(handle, watch, waiter)

    def _join(self, handle: str, seen: Tail | None, waiter: asyncio.Future[Wake]) -> _Watch:
        watch = self._watches.get(handle)
        if watch is None:
            watch = self._watches[handle] = _Watch()
            watch.task = asyncio.create_task(self._watch_tail(handle, seen, watch))
        watch.waiters.add(waiter)
        self._held += 1
        if self._stop_task is None:
            self._stop_task = asyncio.create_task(self._watch_stopping())
        return watch

    def _leave(self, handle: str, watch: _Watch, waiter: asyncio.Future[Wake]) -> None:
        watch.waiters.discard(waiter)
        self._held -= 1
        if not watch.waiters and watch.task is not None:
            watch.task.cancel()
            self._forget(handle, watch)
        if self._held == 0 and self._stop_task is not None:
            self._stop_task.cancel()
            self._stop_task = None

    def _forget(self, handle: str, watch: _Watch) -> None:
        if self._watches.get(handle) is watch:
            del self._watches[handle]

    async def _watch_tail(self, handle: str, seen: Tail | None, watch: _Watch) -> None:
        try:
            if self._shapes.tail(handle) == seen:
                await self._shapes.tail_changed(handle)
        except Exception as error:
            self._forget(handle, watch)
            watch.fail(error)
        else:
            self._forget(handle, watch)
            watch.wake(Wake.CHANGED)

    async def _watch_stopping(self) -> None:
        await self._stopping.wait()
        for watch in self._watches.values():
            watch.wake(Wake.STOPPING)


def _settle(waiter: asyncio.Future[Wake], wake: Wake) -> None:
    if not waiter.done():
        waiter.set_result(wake)
