"""Renders the metric families of several processes as Prometheus text. Pure.

Each sample has a label `process`. Processes are restarted one by one, and a sum over counters that restart at
different times would decrease; use `sum without (process) (rate(…))` in queries instead.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Final

from prometheus_client import generate_latest
from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    Metric,
)
from prometheus_client.registry import Collector

from pgshapes.metrics.family import COUNTER, GAUGE, HISTOGRAM, Family

PREFIX: Final = "pgshapes_"
CONTENT_TYPE: Final = "text/plain; version=0.0.4; charset=utf-8"


def exposition(processes: Mapping[str, Sequence[Family] | None]) -> bytes:
    """The text for the families of each process; None means that the process did not answer."""
    return generate_latest(_Given(list(_metrics(processes))))


class _Given(Collector):
    """A collector of given metrics, in the form that `generate_latest` expects."""

    def __init__(self, metrics: list[Metric]) -> None:
        self._metrics = metrics

    def collect(self) -> Iterable[Metric]:
        """All metrics."""
        return self._metrics


def _metrics(processes: Mapping[str, Sequence[Family] | None]) -> Iterator[Metric]:
    up = GaugeMetricFamily(
        PREFIX + "process_up", "Whether the process reported its metrics.", labels=["process"]
    )
    by_name: dict[str, list[tuple[str, Family]]] = {}
    for process, families in processes.items():
        up.add_metric([process], 0 if families is None else 1)
        for family in families or ():
            by_name.setdefault(family.name, []).append((process, family))
    yield up
    for name, found in by_name.items():
        yield _metric(PREFIX + name, found)


def _metric(name: str, found: list[tuple[str, Family]]) -> Metric:
    first = found[0][1]
    labels = ["process"]
    if first.kind == HISTOGRAM:
        histogram = HistogramMetricFamily(name, first.about, labels=labels)
        for process, family in found:
            buckets = [(sample.labels[0][1], sample.value) for sample in family.samples]
            histogram.add_metric([process], buckets, family.total)
        return histogram
    labels += [key for key, _ in next((sample.labels for sample in first.samples), ())]
    metric: CounterMetricFamily | GaugeMetricFamily = _KINDS[first.kind](name, first.about, labels=labels)
    for process, family in found:
        for sample in family.samples:
            metric.add_metric([process, *(value for _, value in sample.labels)], sample.value)
    return metric


_KINDS: Final = {COUNTER: CounterMetricFamily, GAUGE: GaugeMetricFamily}
