"""Measures long turns of an event loop by the delay of a periodic timer.

State: one timer in one loop.
"""

from __future__ import annotations

import asyncio
import time
from typing import Final

from pgshapes.metrics.family import SECONDS, Distribution, Family, gauge, histogram

INTERVAL_S: Final = 0.02
"""Turns that take longer than this are noticed, and underestimated by at most this."""


class LoopTurns:
    """Measures the delay of a periodic timer, from `start` to `stop`."""

    def __init__(self, interval_s: float = INTERVAL_S) -> None:
        self.late_s = Distribution(SECONDS)
        """The delay of the timer, each time."""
        self.busy_s = Distribution(SECONDS)
        """The part of the delay in which this thread used the processor."""
        self.longest_s = 0.0
        """The longest delay so far."""
        self._interval_s = interval_s
        self._timer: asyncio.TimerHandle | None = None

    def start(self) -> None:
        """Start the timer in the running event loop."""
        loop = asyncio.get_running_loop()
        self._start_timer(loop, loop.time())

    def stop(self) -> None:
        """Stop the timer."""
        if self._timer is not None:
            self._timer.cancel()

    def _start_timer(self, loop: asyncio.AbstractEventLoop, now: float) -> None:
        due, used_s = now + self._interval_s, time.thread_time()
        self._timer = loop.call_later(self._interval_s, self._measure, loop, due, used_s)

    def _measure(self, loop: asyncio.AbstractEventLoop, due: float, used_s: float) -> None:
        now = loop.time()
        late_s = max(0.0, now - due)
        self.late_s.observe(late_s)
        self.busy_s.observe(min(late_s, time.thread_time() - used_s))
        self.longest_s = max(self.longest_s, late_s)
        self._start_timer(loop, now)


def loop_families(turns: LoopTurns) -> list[Family]:
    """The measurements as metric families."""
    return [
        histogram("loop_late_seconds", "Delay of a timer of the event loop.", turns.late_s),
        histogram("loop_busy_seconds", "Processor time of the loop during that delay.", turns.busy_s),
        gauge("loop_longest_seconds", "The longest delay so far.", turns.longest_s),
    ]
