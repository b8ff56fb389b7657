"""Counts of observed values by upper bound: the data of a histogram. Pure.

`prometheus_client` is not used here, because its histograms take a lock at each observation, and every
request makes observations. Only the event loop of the process that counts writes to it.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Sequence
from typing import Final

SECONDS: Final = (0.001, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)
"""Bounds for durations: from the time of a table read to the deadline of a caller."""
TIMES: Final = (0.0, 1.0, 2.0, 3.0, 5.0, 8.0, 13.0, 21.0, 34.0, 55.0, 144.0, 377.0)
"""Bounds for numbers of polls: from none to those of a minute."""


class Distribution:
    """Observed values, counted by upper bound."""

    __slots__ = ("_counts", "bounds", "total")

    def __init__(self, bounds: Sequence[float]) -> None:
        self.bounds = tuple(bounds)
        self.total = 0.0
        """Sum of all values."""
        self._counts = [0] * (len(self.bounds) + 1)

    @property
    def count(self) -> int:
        """The number of values."""
        return sum(self._counts)

    def observe(self, value: float) -> None:
        """Count one value."""
        self.total += value
        self._counts[bisect_left(self.bounds, value)] += 1

    def cumulative(self) -> list[tuple[float, int]]:
        """The bounds, ending with infinity, each with the number of values that do not exceed it."""
        found, below = [], 0
        for bound, count in zip((*self.bounds, float("inf")), self._counts, strict=True):
            below += count
            found.append((bound, below))
        return found
