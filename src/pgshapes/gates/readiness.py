"""Lets requests wait until the service can do what they need, and releases them without a burst of load.

The conditions are rows that the owner writes (`conditions`). Waiters are parked, and one task checks the
level for all of them. When many are parked, new waiters poll instead, with jitter, until no waiter is parked.
Invariants: one poller serves all parked waiters; waiters are released a few per turn of the event loop; a
waiter that is cancelled leaves no state behind. The level is computed once per version of the table, because
every request reads it. State: one monitor, used in one event loop.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import Awaitable, Callable
from typing import Final, Protocol

from pgshapes.errors import NotReady
from pgshapes.gates.conditions import (
    Condition,
    Level,
    ServiceStatus,
    StatusTable,
    level_of,
    obstacle_text,
    service_status_of,
    stream_text,
    timeout_text,
)
from pgshapes.waiting import poll_wait
from pgshapes.waiting.background import begin
from pgshapes.waiting.keep_running import keep_running
from pgshapes.waiting.notice import Notice
from pgshapes.waiting.release_gate import ReleaseGate

CONGESTED_FROM: Final = 1000
"""Number of parked waiters from which on new ones poll."""
RELEASED_PER_TURN: Final = 50
"""Each released waiter runs for a fraction of a millisecond, so a turn takes well under 50 ms."""
RETRY_AFTER_S: Final = 5


class Poll(Protocol):
    """The part of `poll_wait.until` that is used here."""

    def __call__(self, check: Callable[[], bool], timeout_s: float, /) -> Awaitable[bool]:
        """Return True once `check` returns True. Raises TimeoutError."""


class StatusMonitor:
    """Reads the service level from the table `status`, and lets requests wait for a higher one."""

    def __init__(
        self,
        status: StatusTable,
        *,
        is_following: Callable[[], bool] = lambda: True,
        is_current: Callable[[], bool] = lambda: True,
        poll: Poll = poll_wait.until,
    ) -> None:
        """`is_following` returns whether this process is connected to the owner and has what it must have, so
        `status` is current; `is_current` returns whether it may serve from its tables if it is not.
        """
        self.polling = 0
        """The number of waiters that poll."""
        self.is_congested = False
        self._status = status
        self._level = level_of(status)
        """The level at `_version` of `status`, for a process that is connected to the owner."""
        self._version = status.version
        self._is_following = is_following
        self._is_current = is_current
        self._poll = poll
        self._parked: dict[asyncio.Future[None], Level] = {}
        self._poller: asyncio.Task[None] | None = None
        self._change = Notice()
        self._release_gate = ReleaseGate(RELEASED_PER_TURN)
        for condition in Condition:
            status.watch(condition.value, lambda _: self._wake_poller())

    @property
    def parked(self) -> int:
        """The number of parked waiters."""
        return len(self._parked)

    def level(self) -> Level:
        """The current service level."""
        if self._version != self._status.version:
            self._level, self._version = level_of(self._status), self._status.version
        if self._level is Level.STARTING or self._is_following():
            return self._level
        return Level.READ_ONLY if self._is_current() else Level.STARTING

    def stream(self) -> tuple[str, str]:
        """What is known of the replication stream, and why changes do not arrive; empty if nothing, or they
        do.
        """
        return stream_text(self._status), obstacle_text(self._status)

    def service_status(self) -> ServiceStatus:
        """The status for `/v1/health`."""
        is_following = self._is_following()
        if not is_following and not self._is_current():
            return ServiceStatus.STARTING
        return service_status_of(self._status, is_following=is_following)

    async def wait_until(self, level: Level, timeout_s: float) -> None:
        """Return once `level` is reached. Raises NotReady with the text of the first unmet condition."""
        if _reaches(self.level(), level):
            return
        try:
            await (self._poll_for(level, timeout_s) if self.is_congested else self._park(level, timeout_s))
        except TimeoutError:
            raise NotReady(timeout_text(self._status), retry_after_s=RETRY_AFTER_S) from None

    async def _poll_for(self, level: Level, timeout_s: float) -> None:
        self.polling += 1
        try:
            await self._poll(lambda: _reaches(self.level(), level), timeout_s)
            await self._release_gate.wait()
        finally:
            self.polling -= 1

    async def _park(self, level: Level, timeout_s: float) -> None:
        waiter: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._parked[waiter] = level
        self.is_congested = len(self._parked) >= CONGESTED_FROM
        if self._poller is None:
            waiting = keep_running("releasing requests", self._poll_for_parked)
            self._poller = begin(waiting, at_end=self._forget_poller)
        try:
            async with asyncio.timeout(timeout_s):
                await waiter
        finally:
            self._unpark(waiter)

    def _unpark(self, waiter: asyncio.Future[None]) -> None:
        self._parked.pop(waiter, None)
        if not self._parked:
            self.is_congested = False
            if self._poller is not None:
                self._poller.cancel()
                self._poller = None

    def _forget_poller(self, poller: asyncio.Task[None]) -> None:
        """However it ended: the next waiter starts another."""
        if self._poller is poller:
            self._poller = None

    async def _poll_for_parked(self) -> None:
        while True:
            await poll_wait.until(self._has_releasable, math.inf, notice=lambda: self._change)
            for waiter in self._releasable()[:RELEASED_PER_TURN]:
                waiter.set_result(None)
            await asyncio.sleep(0)

    def _has_releasable(self) -> bool:
        now = self.level()
        return any(not waiter.done() and _reaches(now, level) for waiter, level in self._parked.items())

    def _releasable(self) -> list[asyncio.Future[None]]:
        now = self.level()
        return [
            waiter for waiter, level in self._parked.items() if not waiter.done() and _reaches(now, level)
        ]

    def _wake_poller(self) -> None:
        change, self._change = self._change, Notice()
        change.give()


def _reaches(now: Level, needed: Level) -> bool:
    return now is needed or (now is Level.ACTIVE and needed is Level.READ_ONLY)
