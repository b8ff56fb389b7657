"""A metric family of one process: name, kind, description and samples. Pure.

There is no registry: parts of the program count in their own attributes, and a process makes families of them
when its metrics are requested. Processes send families to each other as msgpack.
"""

from __future__ import annotations

from collections.abc import Mapping

import msgspec

from pgshapes.metrics.distribution import Distribution

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
