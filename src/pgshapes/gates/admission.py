"""Admission: whether a request may begin, decided before anything is parsed.

Nothing here is awaited: counters that this process can read. Invariants: no more permits are in use than the
limits say, over all processes of the instance; a permit is returned exactly once, however often it is
released; refusing costs no more than admitting. Each process has one `AdmissionControl` and is its only
writer.

`LocalCounts` is for one process, `SharedCounts` for several: a small file that each maps, with one slot per
process. A slot is written by the one process that has it; every process reads the sum. Two processes that
count at the same moment may both see the other's permit and both refuse, or, within the time of one memory
access, both miss it: the limit is exceeded by at most one per process. A process that dies leaves its slot as
it was, so the process that takes its place resets the slot first.

A refused request is told when to retry: each refusal takes the next place in a queue that moves at the
measured rate of completions, so `retry-after` grows with load and spreads those that were refused together.
"""

from __future__ import annotations

import math
import mmap
import os
import random as _random
import time
from collections.abc import Callable
from enum import Enum
from pathlib import Path
from typing import Final, Protocol

from pgshapes.config_values import ConcurrencyLimits
from pgshapes.errors import ConfigError, Overloaded
from pgshapes.gates.time_limits import CREATION_TIMEOUT_S

SHORTEST_S: Final = 1
LONGEST_S: Final = 60
"""Longer than a long poll: by then every place has changed hands."""
JITTER: Final = 0.25
WINDOW_S: Final = 5.0
"""Completions count for about this long."""
SLOWEST_TURNOVER_S: Final = CREATION_TIMEOUT_S
"""By then all places have changed hands, whatever was measured: no caller waits longer for a creation."""
COUNTED_AT_ONCE: Final = 64
"""Completions are counted one by one and weighed together: every request ends with one."""


class RetryQueue:
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


class Kind(Enum):
    """What a permit stands for."""

    INITIAL = "initial"
    """Work: a look-up or a creation."""
    EXISTING = "existing"
    """A request in flight: reading, or waiting for what somebody else does."""

    place: int
    """Number of the kind, for lists: every request counts, and hashing a member costs more than counting."""

    def __init__(self, word: str) -> None:
        self.place = len(type(self))


class PermitCounts(Protocol):
    """Counters that one process changes and sees the sum of."""

    def take(self, kind: Kind, limit: int) -> bool:
        """Count one more in this process, unless there are `limit` over all processes."""

    def give_back(self, kind: Kind) -> None:
        """Count one less in this process."""

    def own(self, kind: Kind) -> int:
        """The count of this process."""

    def total(self, kind: Kind) -> int:
        """The count over all processes."""


class LocalCounts:
    """Counts of a process that is alone."""

    def __init__(self) -> None:
        self._counts = [0] * len(Kind)

    def take(self, kind: Kind, limit: int) -> bool:
        """Count one more unless there are `limit`."""
        place = kind.place
        if self._counts[place] >= limit:
            return False
        self._counts[place] += 1
        return True

    def give_back(self, kind: Kind) -> None:
        """Count one less."""
        self._counts[kind.place] -= 1

    def own(self, kind: Kind) -> int:
        """The count."""
        return self._counts[kind.place]

    def total(self, kind: Kind) -> int:
        """The count."""
        return self._counts[kind.place]


_KINDS: Final = len(Kind)
_WORD_BYTES: Final = 8


class SharedCounts:
    """One process's view of the file of counts."""

    def __init__(self, path: Path, slot: int) -> None:
        """Raises ConfigError when the file cannot be mapped or has no such slot."""
        self._map = _map(path)
        self._words = memoryview(self._map).cast("q")
        self._base = slot * _KINDS
        if not 0 <= self._base < len(self._words):
            self.close()
            raise ConfigError(f"{path} has no slot {slot}")

    @staticmethod
    def create(path: Path, slots: int) -> None:
        """Make the file, all zero, for `slots` processes; in place of one that was there."""
        fresh = path.with_name(f"{path.name}.{os.getpid()}")
        descriptor = os.open(fresh, os.O_CREAT | os.O_TRUNC | os.O_RDWR, 0o600)
        try:
            os.ftruncate(descriptor, slots * _KINDS * _WORD_BYTES)
        finally:
            os.close(descriptor)
        fresh.rename(path)

    @staticmethod
    def reset(path: Path, slot: int) -> None:
        """Forget what the dead process of `slot` held. Only when it is dead."""
        counts = SharedCounts(path, slot)
        try:
            counts.forget()
        finally:
            counts.close()

    def take(self, kind: Kind, limit: int) -> bool:
        """Count one more in our slot, unless that makes more than `limit` over all slots."""
        place = kind.place
        own = self._base + place
        self._words[own] += 1
        if sum(self._words[place::_KINDS]) <= limit:
            return True
        self._words[own] -= 1
        return False

    def give_back(self, kind: Kind) -> None:
        """Count one less in our slot."""
        self._words[self._base + kind.place] -= 1

    def own(self, kind: Kind) -> int:
        """The count of our slot."""
        return self._words[self._base + kind.place]

    def total(self, kind: Kind) -> int:
        """The count over all slots."""
        return sum(self._words[kind.place :: _KINDS])

    def forget(self) -> None:
        """Count nothing in our slot."""
        for kind in Kind:
            self._words[self._base + kind.place] = 0

    def close(self) -> None:
        """Let go of the file; the slot keeps its counts."""
        self._words.release()
        self._map.close()


def _map(path: Path) -> mmap.mmap:
    try:
        with path.open("r+b") as file:
            return mmap.mmap(file.fileno(), 0)
    except (OSError, ValueError) as error:
        raise ConfigError(f"cannot map {path}: {error}") from error


_LIMITS: Final = ConcurrencyLimits()
WORK_FROM_S: Final = 0.001
"""An *initial* permit that is given back sooner stood for no work: its holder found the shape there, or
joined others. A thousand of those say nothing about when a place is free.
"""


class AdmissionControl:
    """Hands out permits within the limits."""

    def __init__(
        self,
        *,
        initial_limit: int = _LIMITS.initial,
        existing_limit: int = _LIMITS.existing,
        counts: PermitCounts | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """`counts` are those of this process alone unless given; `clock` is any steady one."""
        self._limits = _by_kind(initial_limit, existing_limit)
        self._lines = [RetryQueue(limit) for limit in self._limits]
        self._refused = [0] * len(Kind)
        self._counts: PermitCounts = LocalCounts() if counts is None else counts
        self._clock = clock

    def limit(self, kind: Kind) -> int:
        """How many permits may be out, over all processes."""
        return self._limits[kind.place]

    def in_use(self, kind: Kind) -> int:
        """Permits that are out, over all processes."""
        return self._counts.total(kind)

    def own(self, kind: Kind) -> int:
        """Those of them that this process has given out."""
        return self._counts.own(kind)

    def refused(self, kind: Kind) -> int:
        """How often this process has refused one."""
        return self._refused[kind.place]

    def acquire(self, kind: Kind) -> Permit:
        """A permit. Raises Overloaded when the limit is reached."""
        if not self._counts.take(kind, self._limits[kind.place]):
            raise self._refusal(kind)
        return Permit(self, kind, self._clock() if kind is Kind.INITIAL else 0.0)

    def take(self, kind: Kind) -> bool:
        """Count one more, unless the limit is reached. For permits."""
        return self._counts.take(kind, self._limits[kind.place])

    def give_back(self, kind: Kind, since: float) -> None:
        """Count one less. For permits; `since` is when an *initial* one was given out."""
        self._counts.give_back(kind)
        if kind is Kind.INITIAL and self._clock() - since < WORK_FROM_S:
            return
        line = self._lines[kind.place]
        line.completions += 1
        if line.completions >= COUNTED_AT_ONCE:
            line.count_completions(self._clock())

    def _refusal(self, kind: Kind) -> Overloaded:
        place = kind.place
        self._refused[place] += 1
        return Overloaded(
            f"Concurrent {kind.value} request limit exceeded (limit: {self._limits[place]}), please retry",
            retry_after_s=self._lines[place].take_place(self._clock()),
            known=True,
        )


def _by_kind(initial: int, existing: int) -> list[int]:
    values = {Kind.INITIAL: initial, Kind.EXISTING: existing}
    return [values[kind] for kind in Kind]


class Permit:
    """A slot for one request in flight; return it with `release()`."""

    __slots__ = ("_control", "_since", "kind")

    def __init__(self, control: AdmissionControl, kind: Kind, since: float) -> None:
        self.kind = kind
        self._since = since
        self._control: AdmissionControl | None = control

    def swap_to_existing(self) -> bool:
        """Turn an *initial* permit into an *existing* one if there is one; False keeps the old kind.

        True also when it is one already; False when it was released.
        """
        if self._control is None:
            return False
        if self.kind is Kind.EXISTING:
            return True
        if not self._control.take(Kind.EXISTING):
            return False
        self._control.give_back(self.kind, self._since)
        self.kind = Kind.EXISTING
        return True

    def release(self) -> None:
        """Give it back; a second time does nothing."""
        control, self._control = self._control, None
        if control is not None:
            control.give_back(self.kind, self._since)
