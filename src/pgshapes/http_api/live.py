"""Holding a request until there is something to say: at the end of the log, before a snapshot chunk, beyond
the tail.

Not here: the rules (`decide.py`), who is woken when (`tail_waits.py`). A hold has one time limit by its kind,
counted from the moment the request began to be served, however often it is woken in between.
"""

from __future__ import annotations

import asyncio

from pgshapes.errors import NotReady
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
from pgshapes.http_api.ports import Readiness
from pgshapes.http_api.settings import HttpSettings
from pgshapes.http_api.tail_waits import TailWaits
from pgshapes.model.tail import Tail


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
        if level in (Level.ACTIVE, Level.SLEEPING):
            return ServiceState.ACTIVE
        return ServiceState.READ_ONLY if level is Level.READ_ONLY else ServiceState.DOWN

    async def _why_down(self) -> str:
        try:
            await self._readiness.wait_until(Level.READ_ONLY, 0)
        except NotReady as reason:
            return reason.message
        return "The service was not ready"
