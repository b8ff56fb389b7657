"""Which faults strike when: drawn from a seed, written to a journal, read back, cut down. Pure.

The statements of the writers are not part of a plan: they follow from its seed and the number of a batch.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, replace
from itertools import pairwise
from pathlib import Path
from random import Random
from typing import Any, Self


@dataclass(frozen=True)
class Fault:
    """One fault of a batch."""

    kind: str
    at_s: float
    """Seconds after the batch has begun."""
    seed: int
    """What it draws its details from."""

    def __str__(self) -> str:
        return f"{self.kind} at {self.at_s:.1f} s ({self.seed})"


@dataclass(frozen=True)
class Batch:
    """Faults under writers; afterwards every client must be right."""

    number: int
    faults: tuple[Fault, ...]
    least_s: float = 0.0
    """How long writers go on at least."""

    @property
    def writes_s(self) -> float:
        """How long writers go on, without what faults take."""
        return max([self.least_s, *(one.at_s for one in self.faults)])

    def as_json(self) -> dict[str, Any]:
        """The batch for a journal."""
        return asdict(self)

    @classmethod
    def from_json(cls, record: Mapping[str, Any]) -> Self:
        """The batch of a journal."""
        faults = tuple(Fault(**one) for one in record["faults"])
        return cls(record["number"], faults, record.get("least_s", 0.0))

    def without(self, faults: Iterable[Fault]) -> Batch:
        """The batch without some of its faults; writers go on for as long as with them."""
        gone = set(faults)
        kept = tuple(one for one in self.faults if one not in gone)
        return replace(self, faults=kept, least_s=self.writes_s)


@dataclass(frozen=True)
class Draws:
    """How batches are drawn."""

    seed: int
    weights: Mapping[str, float]
    """By kind of fault."""
    every_s: float = 5.0
    faults: int = 3
    """In each batch."""

    def batch(self, number: int) -> Batch:
        """The batch of that number."""
        chance = Random(f"{self.seed} faults {number}")
        kinds = sorted(self.weights)
        at_s, faults = 0.0, []
        for _ in range(self.faults):
            # Less than the mean, because the time until all clients are right has no fault.
            at_s += self.every_s * chance.uniform(0.2, 1.2)
            kind = chance.choices(kinds, [self.weights[one] for one in kinds])[0]
            faults.append(Fault(kind, round(at_s, 2), chance.getrandbits(32)))
        return Batch(number, tuple(faults))


def dealt(kinds: Iterable[str], seed: int, *, hands: int, batches: int, every_s: float) -> list[list[Batch]]:
    """For each of some runs its batches, in which each kind of fault strikes once in one of the runs."""
    chance, deck = Random(f"{seed} dealt"), sorted(kinds)
    chance.shuffle(deck)
    runs = []
    for hand in range(hands):
        run: list[Batch] = []
        for number in range(batches):
            at_s, faults = 0.0, []
            for kind in deck[hand + number * hands :: hands * batches]:
                at_s += every_s * chance.uniform(0.2, 1.2)
                faults.append(Fault(kind, round(at_s, 2), chance.getrandbits(32)))
            run.append(Batch(number + 1, tuple(faults)))
        runs.append(run)
    return runs


def writer_chance(seed: int, batch: int, writer: int) -> Random:
    """The random numbers of a writer in a batch."""
    return Random(f"{seed} writer {batch} {writer}")


@dataclass(frozen=True)
class Record:
    """What the journal of a run has."""

    options: dict[str, Any]
    batches: list[Batch]
    violations: dict[str, int]
    """What must not happen and did, and in which batch first."""

    def until_failure(self) -> list[Batch]:
        """The batches up to the first that failed; all if none did."""
        last = min(self.violations.values(), default=None)
        return [one for one in self.batches if last is None or one.number <= last]


def read_journal(path: Path) -> Record:
    """The journal of a run, of which the last line may be incomplete."""
    *lines, _ = path.read_text(encoding="utf-8").split("\n")
    records = [json.loads(line) for line in lines]
    options = next(record["options"] for record in records if record["event"] == "run")
    violations: dict[str, int] = {}
    for record in records:
        if record["event"] == "violation":
            violations.setdefault(record["what"], record["batch"])
    batches = [Batch.from_json(record) for record in records if record["event"] == "batch"]
    return Record(options, batches, violations)


def pieces(faults: list[Fault], count: int) -> list[list[Fault]]:
    """The faults in that many runs of about equal length."""
    bounds = [len(faults) * place // count for place in range(count + 1)]
    return [faults[low:high] for low, high in pairwise(bounds)]
