"""One metric of one process: its name, what it tells, and its values. Pure.

Not a registry: parts of the program count in plain attributes of their own, and a process makes families of
them when somebody asks. They cross process borders as msgpack.
"""

from __future__ import annotations

from collections.abc import Mapping

import msgspec

from pgshapes.metrics.distribution import Distribution

COUNTER = "counter"
GAUGE = "gauge"
HISTOGRAM = "histogram"


class Sample(msgspec.Struct, array_like=True, frozen=True):
    """A value, under labels if the metric has several."""

    labels: tuple[tuple[str, str], ...]
    value: float


class Family(msgspec.Struct, array_like=True, frozen=True):
    """A metric. A histogram's samples are cumulative, labelled `le`; `total` is the sum of what was
    observed.
    """

    name: str
    kind: str
    about: str
    samples: tuple[Sample, ...]
    total: float = 0.0


def counter(name: str, about: str, value: float) -> Family:
    """Something that only grows, for as long as the process lives."""
    return Family(name, COUNTER, about, (Sample((), value),))


def gauge(name: str, about: str, value: float) -> Family:
    """Something as it is now."""
    return Family(name, GAUGE, about, (Sample((), value),))


def labelled(kind: str, name: str, about: str, label: str, values: Mapping[str, float]) -> Family:
    """The same for each value of a label."""
    samples = tuple(Sample(((label, key),), value) for key, value in values.items())
    return Family(name, kind, about, samples)


def histogram(name: str, about: str, distribution: Distribution) -> Family:
    """How large something was each time."""
    samples = tuple(Sample((("le", _bound(le)),), count) for le, count in distribution.cumulative())
    return Family(name, HISTOGRAM, about, samples, distribution.total)


def _bound(le: float) -> str:
    return "+Inf" if le == float("inf") else repr(le)
