"""Metric families of one process: name, kind, description and samples; and the data of histograms. Pure.

There is no registry: parts of the program count in their own attributes, and a process makes families of them
when its metrics are requested. Processes send families to each other as msgpack. `prometheus_client` is not
used here, because its histograms take a lock at each observation, and every request makes observations. Only
the event loop of the process that counts writes to a distribution.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Mapping, Sequence
from typing import Final

import msgspec

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


COUNTER = "counter"
GAUGE = "gauge"
HISTOGRAM = "histogram"


class Sample(msgspec.Struct, array_like=True, frozen=True):
    """A value with its labels, if the metric has several values."""

    labels: tuple[tuple[str, str], ...]
    value: float


class Family(msgspec.Struct, array_like=True, frozen=True):
    """A metric. The samples of a histogram are cumulative with a label `le`; `total` is the sum of the
    observed values.
    """

    name: str
    kind: str
    about: str
    samples: tuple[Sample, ...]
    total: float = 0.0


def counter(name: str, about: str, value: float) -> Family:
    """A family with one value that only increases while the process runs."""
    return Family(name, COUNTER, about, (Sample((), value),))


def gauge(name: str, about: str, value: float) -> Family:
    """A family with one current value."""
    return Family(name, GAUGE, about, (Sample((), value),))


def labelled(kind: str, name: str, about: str, label: str, values: Mapping[str, float]) -> Family:
    """A family with one value for each value of `label`."""
    samples = tuple(Sample(((label, key),), value) for key, value in values.items())
    return Family(name, kind, about, samples)


def histogram(name: str, about: str, distribution: Distribution) -> Family:
    """A family with the distribution of observed values."""
    samples = tuple(Sample((("le", _bound(le)),), count) for le, count in distribution.cumulative())
    return Family(name, HISTOGRAM, about, samples, distribution.total)


def _bound(le: float) -> str:
    return "+Inf" if le == float("inf") else repr(le)
