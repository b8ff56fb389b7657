"""Lets those who come at the same moment go on a few per turn of the event loop.

Timers that fire late fire together: waiters that poll, each at its own time, would all be in one turn as soon
as the loop is busy. State: the queue of those who wait, in one event loop.
"""

from __future__ import annotations

import asyncio
from collections import deque


class Turnstile:
    """Lets `per_turn` pass in each turn, in the order of their arrival."""

    def __init__(self, per_turn: int) -> None:
        self._per_turn = per_turn
        self._queue: deque[asyncio.Future[None]] = deque()

    async def wait(self) -> None:
        """Return in a turn in which there is room."""
        loop = asyncio.get_running_loop()
        place: asyncio.Future[None] = loop.create_future()
        if not self._queue:
            loop.call_soon(self._turn, loop)
        self._queue.append(place)
        await place

    def _turn(self, loop: asyncio.AbstractEventLoop) -> None:
        passed = 0
        while self._queue and passed < self._per_turn:
            place = self._queue.popleft()
            if not place.done():
                place.set_result(None)
                passed += 1
        if self._queue:
            loop.call_soon(self._turn, loop)
