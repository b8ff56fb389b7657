"""When a refused request should come back: as the house empties, one after another. Pure.

Not a dice throw: each refusal takes the next place in a line that moves at the measured rate of completions,
so the answer grows with the load and spreads those who were refused together. Owned by one admission
control.
"""

from __future__ import annotations

import math
import random as _random
from collections.abc import Callable
from typing import Final

SHORTEST_S: Final = 1
LONGEST_S: Final = 60
"""Longer than a long poll: by then every place has changed hands."""
JITTER: Final = 0.25
WINDOW_S: Final = 5.0
"""Completions count for about this long."""
SLOWEST_TURNOVER_S: Final = 30.0
"""As long as a caller waits for a creation: by then all places have changed hands, whatever was measured."""
COUNTED_AT_ONCE: Final = 64
"""Completions are counted one by one and weighed together: every request ends with one."""


class ReturnLine:
    """The line of those who were refused one kind of permit."""

    def __init__(self, limit: int, *, random: Callable[[], float] = _random.random) -> None:
        self._slowest_rate = max(limit, 1) / SLOWEST_TURNOVER_S
        self._random = random
        self.completions = 0
        """Permits given back and not weighed yet. For whoever gives them back."""
        self._weight = 0.0
        self._weighed_at = -math.inf
        self._end = -math.inf

    def count_completions(self, now: float) -> None:
        """Weigh `completions` as of `now` (seconds of any steady clock)."""
        self._weight = self._faded(now) + self.completions
        self._weighed_at = now
        self.completions = 0

    def rate(self, now: float) -> float:
        """Completions per second of late, never less than the slowest turnover makes."""
        return max(self._faded(now) / WINDOW_S, self._slowest_rate)

    def take_place(self, now: float) -> int:
        """Whole seconds after which a request that is refused at `now` should come back."""
        self.count_completions(now)
        self._end = max(self._end, now) + 1 / self.rate(now)
        wait_s = min(SHORTEST_S + self._end - now, LONGEST_S)
        jittered_s = wait_s * (1 + JITTER * (2 * self._random() - 1))
        return min(max(math.ceil(jittered_s), SHORTEST_S), LONGEST_S)

    def _faded(self, now: float) -> float:
        return self._weight * math.exp(-(now - self._weighed_at) / WINDOW_S)
