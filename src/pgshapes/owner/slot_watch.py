"""Watches whether changes arrive, and how much WAL the slot makes the primary keep.

What stops changes without ending the session, such as a full disk, makes the condition `changes_flowing`
unmet, so that health does not say `active`. With `max_retained_wal`, the primary keeps no more WAL for this
instance than that: first the shapes that hold the slot back are dropped; if that does not help by the next
looks, the slot is recreated, and all shapes with it. An open transaction of somebody else keeps WAL for every
slot, a new one too: nothing is dropped for it, it is named.

Not here: dropping and recreating (`replicator`). State: the last reading, and since when what holds.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from typing import Final, Protocol

import structlog

from pgshapes.errors import PgShapesError
from pgshapes.gates.conditions import Condition, Conditions
from pgshapes.postgres.retained_wal import RetainedWal

_log = structlog.get_logger(__name__)

INTERVAL_S: Final = 5.0
PATIENCE: Final = 3
"""How many looks in a row must exceed the limit after shapes were dropped, before the slot is recreated."""
_ANONYMOUS: Final = "one that our role may not see; pg_stat_activity has it"


class Watched(Protocol):
    """The instance, as far as it is used here."""

    def obstacle(self) -> str | None:
        """Why changes do not arrive at the moment; None if they do."""

    def heard_at(self) -> float | None:
        """When Postgres sent something on the stream for the last time, as a Unix time."""

    def drop_holders(self, reason: str) -> int:
        """Drop the shapes that hold the slot back; return how many there are."""

    def recreate_slot(self, reason: str) -> None:
        """Have the slot recreated, and all shapes; once asked for, it is done as soon as that is possible."""

    def keep_slot(self) -> None:
        """Withdraw that, if it is not done yet."""


class SlotWatch:
    """The looks of one instance."""

    def __init__(
        self,
        read: Callable[[], Awaitable[RetainedWal | None]],
        watched: Watched,
        conditions: Conditions,
        limit_bytes: int | None,
        *,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._read = read
        self._watched = watched
        self._conditions = conditions
        self._limit_bytes = limit_bytes
        self._clock = clock
        self._obstacle: str | None = None
        self._told_obstacle: str | None = None
        self._excesses = 0
        self._told: str | None = None
        self.retained: RetainedWal | None = None
        """The last reading; None if there is no slot, or it could not be read."""
        self.held_by: str | None = None
        """What holds the slot back; None if nothing does."""
        self.held_since: float | None = None
        """As a Unix time."""

    async def run(self, interval_s: float = INTERVAL_S) -> None:
        """Look at intervals, until cancelled."""
        while True:
            await asyncio.sleep(interval_s)
            await self.look()

    async def look(self) -> None:
        """Look once."""
        self._note_obstacle(self._watched.obstacle())
        try:
            self.retained = await self._read()
        except PgShapesError:
            self.retained = None  # the session says that the database cannot be reached
        self._note_holder(self._holder(self.retained))
        self._note_stream()
        if self.retained is not None and self._limit_bytes is not None:
            self._keep_limit(self.retained, self._limit_bytes)

    def _note_stream(self) -> None:
        heard_at = self._watched.heard_at()
        if heard_at is None:
            return
        moment = datetime.fromtimestamp(heard_at, UTC).isoformat(timespec="seconds")
        lag = "unknown" if self.retained is None else self.retained.unconfirmed_bytes
        self._conditions.note_stream(f"lag_bytes={lag}; heard_at={moment}")

    def _note_obstacle(self, obstacle: str | None) -> None:
        """One that is there at two looks in a row is told; shorter ones are part of the work."""
        told = obstacle if self._obstacle is not None else None
        if told is not None and told != self._told_obstacle:
            self._conditions.unmeet(Condition.CHANGES_FLOWING, told)
        elif told is None and self._told_obstacle is not None:
            self._conditions.meet(Condition.CHANGES_FLOWING)
        self._obstacle, self._told_obstacle = obstacle, told

    def _holder(self, retained: RetainedWal | None) -> str | None:
        if self._obstacle is not None:
            return self._obstacle
        if retained is None or self._limit_bytes is None or retained.total_bytes <= self._limit_bytes:
            return None
        if retained.is_being_created or retained.unconfirmed_bytes <= self._limit_bytes:
            return f"an open transaction: {retained.transaction or _ANONYMOUS}"
        return "changes that are not processed yet"

    def _note_holder(self, holder: str | None) -> None:
        if holder is None:
            self.held_by = self.held_since = None
            return
        if self.held_since is None:
            self.held_since = self._clock()
        self.held_by = holder

    def _keep_limit(self, retained: RetainedWal, limit_bytes: int) -> None:
        if retained.total_bytes <= limit_bytes:
            self._excesses, self._told = 0, None
            return
        is_ours = retained.is_being_created or retained.unconfirmed_bytes > limit_bytes
        self._tell(retained, limit_bytes, is_ours=is_ours)
        if not is_ours:
            return
        self._excesses += 1
        reason = "the replication slot keeps more WAL than max_retained_wal"
        dropped = self._watched.drop_holders(reason) if self._excesses == 1 else 0
        if dropped == 0 and (self._excesses == 1 or self._excesses > PATIENCE):
            self._watched.recreate_slot(reason)
            self._excesses = 0

    def _tell(self, retained: RetainedWal, limit_bytes: int, *, is_ours: bool) -> None:
        kind = "ours" if is_ours else f"{retained.transaction}"
        if kind == self._told:
            return
        self._told = kind
        _log.error(
            "replication slot keeps more WAL than max_retained_wal",
            retained_bytes=retained.total_bytes,
            unconfirmed_bytes=retained.unconfirmed_bytes,
            limit_bytes=limit_bytes,
            held_by=self.held_by,
            since=self.held_since,
            action="shapes are dropped" if is_ours else "end the transaction: dropping shapes does not help",
        )
