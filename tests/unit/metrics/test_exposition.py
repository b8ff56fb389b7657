"""Rendering of metric families as Prometheus text."""

from __future__ import annotations

import msgspec
from prometheus_client.parser import text_string_to_metric_families

from pgshapes.metrics.exposition import exposition
from pgshapes.metrics.family import COUNTER, Distribution, Family, counter, gauge, histogram, labelled


def told(*families: Family) -> list[Family]:
    """Families as they are received from another process."""
    return msgspec.msgpack.decode(msgspec.msgpack.encode(list(families)), type=list[Family])


def samples(text: bytes) -> dict[tuple[str, tuple[tuple[str, str], ...]], float]:
    return {
        (sample.name, tuple(sorted(sample.labels.items()))): sample.value
        for family in text_string_to_metric_families(text.decode())
        for sample in family.samples
    }


def test_each_sample_has_the_label_process() -> None:
    text = exposition(
        {"http-0": told(counter("hits", "Hits.", 3)), "http-1": told(counter("hits", "Hits.", 4))}
    )
    found = samples(text)
    assert found[("pgshapes_hits_total", (("process", "http-0"),))] == 3
    assert found[("pgshapes_hits_total", (("process", "http-1"),))] == 4
    assert text.count(b"# TYPE pgshapes_hits_total counter") == 1


def test_a_process_that_does_not_answer_is_not_up() -> None:
    found = samples(exposition({"replicator": None, "http-0": told(gauge("now", "Now.", 1))}))
    assert found[("pgshapes_process_up", (("process", "replicator"),))] == 0
    assert found[("pgshapes_process_up", (("process", "http-0"),))] == 1


def test_labels_are_kept() -> None:
    calls = labelled(COUNTER, "calls", "Calls.", "call", {"create": 1, "delete": 2})
    found = samples(exposition({"replicator": told(calls)}))
    assert found[("pgshapes_calls_total", (("call", "delete"), ("process", "replicator")))] == 2


def test_a_metric_without_samples_is_rendered() -> None:
    text = exposition({"replicator": told(labelled(COUNTER, "calls", "Calls.", "call", {}))})
    assert b"# TYPE pgshapes_calls_total counter" in text


def test_a_distribution_becomes_a_histogram() -> None:
    distribution = Distribution((1.0, 2.0))
    for value in (0.5, 1.0, 1.5, 9.0):
        distribution.observe(value)
    found = samples(exposition({"http-0": told(histogram("waits", "Waits.", distribution))}))
    process = ("process", "http-0")
    assert found[("pgshapes_waits_bucket", (("le", "1.0"), process))] == 2
    assert found[("pgshapes_waits_bucket", (("le", "2.0"), process))] == 3
    assert found[("pgshapes_waits_bucket", (("le", "+Inf"), process))] == 4
    assert found[("pgshapes_waits_sum", (process,))] == 12.0
    assert found[("pgshapes_waits_count", (process,))] == 4
