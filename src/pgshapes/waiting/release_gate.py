"""Lets tasks that become ready together continue a few per turn of the event loop.

Race: timers that are late fire together, so thousands of tasks that poll, each at times of its own, all
become ready in one turn as soon as the loop is busy. Without the gate that turn would last as long as the
work of all of them, and every deadline, heartbeat and health check of the process would wait for it.

Invariant: tasks pass in the order of their arrival, at most `per_turn` in each turn. State: the queue belongs
to one `ReleaseGate`, in one event loop.
"""

from __future__ import annotations

import asyncio
from collections import deque


class ReleaseGate:
    """Lets `per_turn` tasks pass in each turn. A task that is cancelled leaves the queue to the others."""

    def __init__(self, per_turn: int) -> None:
        self._per_turn = per_turn
        self._queue: deque[asyncio.Future[None]] = deque()

    async def wait(self) -> None:
        """Return in a turn in which there is room."""
        loop = asyncio.get_running_loop()
        turn: asyncio.Future[None] = loop.create_future()
        if not self._queue:
            loop.call_soon(self._release, loop)
        self._queue.append(turn)
        await turn

    def _release(self, loop: asyncio.AbstractEventLoop) -> None:
        released = 0
        while self._queue and released < self._per_turn:
            turn = self._queue.popleft()
            if not turn.done():
                turn.set_result(None)
                released += 1
        if self._queue:
            loop.call_soon(self._release, loop)
