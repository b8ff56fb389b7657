"""Hands calls to the owner of the shapes.

There may be another owner after each session: when the replication slot was recreated, all shapes are, and so
is the owner with its state. Race: a call arrives while no session works, and waits for the next one. If the
owner that was there on arrival carried it out then, it would create a shape in a router that gets no changes
any more: the shape would be served, and miss every change from its snapshot to the next start. So a call that
has to wait does so here, and is handed to the owner that is there afterwards.
"""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable

from pgshapes.errors import NotReady
from pgshapes.gates.conditions import Level
from pgshapes.gates.readiness import StatusMonitor
from pgshapes.gates.time_limits import READY_TIMEOUT_S
from pgshapes.owner.owner import Owner
from pgshapes.tables.calls import Call, CreateOrWaitShapeHandle, DeleteShape, Reply
from pgshapes.tables.mailbox import CallContext
from pgshapes.tables.tables import Tables
from pgshapes.waiting import poll_wait


class CurrentOwner:
    """Handles calls. `owner` returns the present owner, None before the shapes are loaded."""

    def __init__(self, tables: Tables, owner: Callable[[], Owner | None]) -> None:
        self._monitor = StatusMonitor(tables.status)
        self._owner = owner

    def handle(self, call: Call, context: CallContext) -> Awaitable[Reply]:
        """Answer a caller. The creation lock that a call sets is set before this returns, if the service is
        active. Raises NotReady.
        """
        owner = self._owner()
        needs_session = isinstance(call, CreateOrWaitShapeHandle | DeleteShape)
        if owner is None or (needs_session and self._monitor.level() is not Level.ACTIVE):
            return self._handle_later(call, context, needs_session=needs_session)
        return owner.handle(call, context)

    async def _handle_later(self, call: Call, context: CallContext, *, needs_session: bool) -> Reply:
        deadline_s = time.monotonic() + min(READY_TIMEOUT_S, context.remaining_s)
        if needs_session:
            await self._monitor.wait_until(Level.ACTIVE, deadline_s - time.monotonic())
        try:
            owner = await poll_wait.until(self._owner, deadline_s - time.monotonic())
        except TimeoutError:
            text = "Timeout waiting for shape metadata to be loaded"
            raise NotReady(text, retry_after_s=5) from None
        return await owner.handle(call, context)
