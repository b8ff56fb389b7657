"""How long an event loop keeps everybody waiting: turns that last, seen by a timer that comes late.

State: one timer in one loop.
"""

from __future__ import annotations

import asyncio
import time
from typing import Final

from pgshapes.metrics.distribution import SECONDS, Distribution
from pgshapes.metrics.family import Family, gauge, histogram

INTERVAL_S: Final = 0.02
"""A turn that lasts longer than this is seen, less this at most."""


class LoopTurns:
    """Looks at the clock at intervals, from `start` to `stop`."""

    def __init__(self, interval_s: float = INTERVAL_S) -> None:
        self.late_s = Distribution(SECONDS)
        """How late the timer came, each time."""
        self.busy_s = Distribution(SECONDS)
        """The part of it in which this loop itself used the processor; the rest is others' doing."""
        self.longest_s = 0.0
        """The latest that it came so far."""
        self._interval_s = interval_s
        self._timer: asyncio.TimerHandle | None = None

    def start(self) -> None:
        """Begin, in the running loop."""
        loop = asyncio.get_running_loop()
        self._arm(loop, loop.time())

    def stop(self) -> None:
        """End."""
        if self._timer is not None:
            self._timer.cancel()

    def _arm(self, loop: asyncio.AbstractEventLoop, now: float) -> None:
        due, used_s = now + self._interval_s, time.thread_time()
        self._timer = loop.call_later(self._interval_s, self._look, loop, due, used_s)

    def _look(self, loop: asyncio.AbstractEventLoop, due: float, used_s: float) -> None:
        now = loop.time()
        late_s = max(0.0, now - due)
        self.late_s.observe(late_s)
        self.busy_s.observe(min(late_s, time.thread_time() - used_s))
        self.longest_s = max(self.longest_s, late_s)
        self._arm(loop, now)


def loop_families(turns: LoopTurns) -> list[Family]:
    """What was seen, as metrics."""
    return [
        histogram("loop_late_seconds", "How late a timer of the event loop came.", turns.late_s),
        histogram("loop_busy_seconds", "How much of that the loop was busy itself.", turns.busy_s),
        gauge("loop_longest_seconds", "The latest that it came so far.", turns.longest_s),
    ]
