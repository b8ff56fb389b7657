"""Watches whether changes arrive, and how much WAL the slot makes the primary keep.

What stops changes without ending the session, such as a full disk, makes the condition `changes_flowing`
unmet, so that health does not say `active`. With `max_retained_wal`, the primary is not made to keep more WAL
for this instance for long: a burst of writes may exceed the limit while it is processed, but if the
unconfirmed part does not become smaller, the shapes that hold the slot back are dropped; if that does not
help, the slot is recreated, and all shapes with it. An open transaction of somebody else keeps WAL for every
slot, a new one too: nothing is dropped for it, it is named.

What holds the slot, and since when, is in the log, in the metrics and in what health says of the stream. Only
the log names users and transactions: health is answered without a secret.

Not here: dropping and recreating (`replicator`). State: the last reading, since when what holds, and the
least unconfirmed WAL since the limit was exceeded.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from typing import Final, NamedTuple, Protocol

from pgshapes.errors import PgShapesError
from pgshapes.gates.conditions import Condition, Conditions
from pgshapes.logs import get_logger
from pgshapes.postgres.retained_wal import RetainedWal

_log = get_logger(__name__)

INTERVAL_S: Final = 5.0
CHECKS_BEFORE_DROPPING: Final = 4
"""How many checks in a row must find no less unconfirmed WAL than any before, until something is dropped:
20 s, in which a burst that can be processed is acknowledged in part."""
REASON: Final = "the replication slot keeps more WAL than max_retained_wal"
TRANSACTION: Final = "an open transaction"
UNPROCESSED: Final = "changes that are not processed yet"
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


class Holder(NamedTuple):
    """What holds the slot back."""

    kind: str
    """For everybody: the obstacle, TRANSACTION or UNPROCESSED."""
    since: float
    """As a Unix time."""
    detail: str = ""
    """For the log."""

    def __str__(self) -> str:
        return f"{self.kind}: {self.detail}" if self.detail else self.kind


class SlotWatch:
    """The checks of one instance."""

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
        self._shown_obstacle: str | None = None
        self._least_bytes: int | None = None
        """The least unconfirmed WAL at any check since it exceeded the limit; None while it does not."""
        self._checks = 0
        """Since it was that."""
        self._has_dropped = False
        self._logged: str | None = None
        self.retained: RetainedWal | None = None
        """The last reading; None if there is no slot, or it could not be read."""
        self.holder: Holder | None = None
        """None if nothing holds the slot back."""

    async def run(self, interval_s: float = INTERVAL_S) -> None:
        """Check at intervals, until cancelled."""
        while True:
            await asyncio.sleep(interval_s)
            await self.check()

    async def check(self) -> None:
        """Check once."""
        self._note_obstacle(self._watched.obstacle())
        has_read = True
        try:
            self.retained = await self._read()
        except PgShapesError:
            self.retained, has_read = None, False  # the session says that the database cannot be reached
        self.holder = self._find_holder(self.retained)
        self._note_stream()
        if has_read and self._limit_bytes is not None:
            self._keep_limit(self.retained, self._limit_bytes)

    def _note_stream(self) -> None:
        parts = []
        if (heard_at := self._watched.heard_at()) is not None:
            lag = "unknown" if self.retained is None else self.retained.unconfirmed_bytes
            parts += [f"lag_bytes={lag}", f"heard_at={_moment(heard_at)}"]
        if self.holder is not None:
            parts += [f'held_by="{self.holder.kind}"', f"held_since={_moment(self.holder.since)}"]
        self._conditions.note_stream("; ".join(parts))

    def _note_obstacle(self, obstacle: str | None) -> None:
        """One that is there at two checks in a row is shown; shorter ones are part of the work."""
        shown = obstacle if self._obstacle is not None else None
        if shown is not None and shown != self._shown_obstacle:
            self._conditions.unmeet(Condition.CHANGES_FLOWING, shown)
        elif shown is None and self._shown_obstacle is not None:
            self._conditions.meet(Condition.CHANGES_FLOWING)
        self._obstacle, self._shown_obstacle = obstacle, shown

    def _find_holder(self, retained: RetainedWal | None) -> Holder | None:
        if self._obstacle is not None:
            return self._holding(self._obstacle)
        limit = self._limit_bytes
        if retained is None or limit is None or retained.total_bytes <= limit:
            return None
        if retained.is_being_created or not _is_ours(retained, limit):
            return self._holding(TRANSACTION, retained.open_since, retained.transaction or _ANONYMOUS)
        return self._holding(UNPROCESSED)

    def _holding(self, kind: str, since: float | None = None, detail: str = "") -> Holder:
        if since is None:
            is_known = self.holder is not None and self.holder.kind == kind
            since = self.holder.since if self.holder is not None and is_known else self._clock()
        return Holder(kind, since, detail)

    def _keep_limit(self, retained: RetainedWal | None, limit_bytes: int) -> None:
        if retained is None or retained.total_bytes <= limit_bytes:
            self._logged = None
            self._let_be()
            return
        is_ours = _is_ours(retained, limit_bytes)
        self._tell(retained, limit_bytes, is_ours=is_ours)
        if not is_ours:
            self._let_be()
        elif self._least_bytes is None or retained.unconfirmed_bytes < self._least_bytes:
            self._least_bytes, self._checks = retained.unconfirmed_bytes, 0
        else:
            self._checks += 1
            if self._checks >= CHECKS_BEFORE_DROPPING:
                self._act(retained)

    def _let_be(self) -> None:
        """What the slot keeps is no reason to drop anything."""
        self._least_bytes, self._checks, self._has_dropped = None, 0, False
        self._watched.keep_slot()

    def _act(self, retained: RetainedWal) -> None:
        """Drop the shapes that hold the slot back; recreate it if there are none, or that did not help."""
        self._checks = 0
        if not self._has_dropped:
            self._has_dropped = True
            if self._watched.drop_holders(REASON) > 0:
                return
        _log.error(
            "replication slot is recreated", reason=REASON, unconfirmed_bytes=retained.unconfirmed_bytes
        )
        self._watched.recreate_slot(REASON)
        self._least_bytes, self._has_dropped = None, False

    def _tell(self, retained: RetainedWal, limit_bytes: int, *, is_ours: bool) -> None:
        kind = "ours" if is_ours else f"{retained.transaction}"
        if kind == self._logged or self.holder is None:
            return
        self._logged = kind
        end = "end the transaction: dropping shapes does not help"
        _log.error(
            "replication slot keeps more WAL than max_retained_wal",
            retained_bytes=retained.total_bytes,
            unconfirmed_bytes=retained.unconfirmed_bytes,
            limit_bytes=limit_bytes,
            held_by=str(self.holder),
            since=_moment(self.holder.since),
            action="shapes are dropped unless the unconfirmed part becomes smaller" if is_ours else end,
        )


def _is_ours(retained: RetainedWal, limit_bytes: int) -> bool:
    """Whether what exceeds the limit is kept for what we have not acknowledged, so that dropping helps."""
    return retained.is_being_created or retained.unconfirmed_bytes > limit_bytes


def _moment(unix_time: float) -> str:
    return datetime.fromtimestamp(unix_time, UTC).isoformat(timespec="seconds")
