"""Computes how long to wait before a request is retried. Pure: time and random numbers are arguments."""

from __future__ import annotations

import math
import random
from collections.abc import Callable
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from typing import Final

LONGEST_RETRY_AFTER_S: Final = 3600.0
"""Longer delays are reduced to this one."""


@dataclass(frozen=True)
class Backoff:
    """Exponential backoff with full jitter, so that clients do not retry at the same time."""

    initial_s: float = 1.0
    factor: float = 2.0
    cap_s: float = 32.0
    chance: Callable[[], float] = random.random
    """Returns a random number in [0, 1)."""

    def delay_s(self, attempt: int, at_least_s: float = 0.0) -> float:
        """Seconds to wait after `attempt` consecutive failures (1 or more)."""
        # The exponent is bounded: the float would overflow after days of failures.
        bound = min(self.cap_s, self.initial_s * self.factor ** min(attempt - 1, 64))
        return max(at_least_s, bound * self.chance())


def parse_retry_after_s(text: str | None, now: float) -> float:
    """The delay in `retry-after`, a number or an HTTP date; 0 if it is missing or invalid.

    `now` is Unix time in seconds.
    """
    if text is None:
        return 0.0
    try:
        seconds = float(text)
    except ValueError:
        seconds = _seconds_until(text, now)
    return min(max(seconds, 0.0), LONGEST_RETRY_AFTER_S) if math.isfinite(seconds) else 0.0


def _seconds_until(date: str, now: float) -> float:
    try:
        return parsedate_to_datetime(date).timestamp() - now
    except ValueError:
        return 0.0
