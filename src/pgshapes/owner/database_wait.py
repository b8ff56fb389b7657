"""Says what a start waits for, mostly the database: at once, when the reason changes, and every 10 s.

Not here: the attempts, and which failures may pass (`postgres/sqlstate`). State: the reason of the last
failure, and the task that repeats it.
"""

from __future__ import annotations

import asyncio
import time
from contextlib import suppress
from datetime import UTC, datetime
from typing import Final

from pgshapes.logs import get_logger
from pgshapes.waiting.background import begin, holds_nothing
from pgshapes.waiting.keep_running import keep_running

_log = get_logger(__name__)

REPEAT_S: Final = 10.0
_FOR_DATABASE: Final = "waiting for the database"


class DatabaseWait:
    """Begins with the first failure, ends when the database is connected or the start is given up."""

    def __init__(self, repeat_s: float = REPEAT_S) -> None:
        self._repeat_s = repeat_s
        self._reason: str | None = None
        self._event = _FOR_DATABASE
        self._since = ""
        self._began_at = 0.0
        self._repeating: asyncio.Task[None] | None = None

    def note(self, reason: str, event: str = _FOR_DATABASE) -> None:
        """An attempt has failed for this reason; `event` is what is logged."""
        if self._repeating is None:
            self._began_at = time.monotonic()
            self._since = datetime.now(UTC).isoformat(timespec="seconds")
            saying = keep_running("saying what is waited for", self._repeat)
            self._repeating = begin(saying, at_end=holds_nothing)
        if reason != self._reason:
            self._reason, self._event = reason, event
            self._say()

    async def end(self) -> None:
        """Say no more."""
        repeating, self._repeating, self._reason = self._repeating, None, None
        if repeating is not None:
            repeating.cancel()
            with suppress(asyncio.CancelledError):
                await repeating

    async def _repeat(self) -> None:
        while True:
            await asyncio.sleep(self._repeat_s)
            self._say()

    def _say(self) -> None:
        waited_s = round(time.monotonic() - self._began_at)
        _log.warning(self._event, reason=self._reason, since=self._since, waited_s=waited_s)
