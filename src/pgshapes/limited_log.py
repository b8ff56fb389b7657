"""Log lines whose number a client could decide: one for each cause and minute, with the count of the others.

State: when each cause was logged last, for at most `CAUSES` of them, in one process.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Hashable
from typing import Any, Final, Protocol

INTERVAL_S: Final = 60.0
CAUSES: Final = 1000
"""Causes can be made of a client's text: beyond this many, those that were logged first are forgotten."""


class Logger(Protocol):
    """A logger of structlog, as far as it is used here."""

    def warning(self, event: str, **fields: Any) -> Any:
        """Write a line."""


class Due:
    """Decides which lines are due: of each cause one in `INTERVAL_S`."""

    def __init__(self) -> None:
        self._seen: dict[Hashable, tuple[float, int]] = {}
        """When a cause was logged, and how often it was left out since."""

    def take(self, cause: Hashable, now: float) -> int | None:
        """How many lines were left out before the one that is due; None if it is not."""
        logged_s, left_out = self._seen.get(cause, (-INTERVAL_S, 0))
        if now < logged_s + INTERVAL_S:
            self._seen[cause] = (logged_s, left_out + 1)
            return None
        self._seen.pop(cause, None)
        if len(self._seen) >= CAUSES:
            del self._seen[next(iter(self._seen))]
        self._seen[cause] = (now, 0)
        return left_out


class LimitedLog:
    """Writes warnings, each cause at most once in `INTERVAL_S`."""

    def __init__(self, log: Logger, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._log = log
        self._clock = clock
        self._due = Due()

    def note(self, event: str, cause: Hashable, **fields: Any) -> None:
        """Write the line, unless one with this event and cause was written a short time ago."""
        left_out = self._due.take((event, cause), self._clock())
        if left_out is None:
            return
        if left_out:
            fields["left_out"] = left_out
        self._log.warning(event, **fields)
