"""Admission control: limits the number of requests in flight, before a request's parameters are validated.

Admission never waits: it reads counters in memory. Invariants: the number of permits in use does not exceed
the limits over all processes of the instance; a permit is returned once, however often it is released;
refusing a request costs no more than admitting it. Each process has one `AdmissionControl` and is its only
writer.

`LocalCounts` counts for one process, `SharedCounts` for several: a small file that all processes map, with
one slot per process. Only the process of a slot writes it; every process reads the sum. Two processes that
count at the same moment may both see the other's permit and both refuse, or, within the time of one memory
access, both miss it: the limit can be exceeded by one per process. A process that dies leaves its slot
unchanged, so the slot is reset before the next process uses it.

One client gets at most its share of the permits (`gates.shares`), counted in each process alone.

A refused request gets a `retry-after`: each refusal takes the next place in a queue that advances at the
measured rate of completions. So `retry-after` grows with load, and requests refused together retry at
different times.
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
from pgshapes.gates.shares import may_take
from pgshapes.gates.time_limits import CREATION_TIMEOUT_S

SHORTEST_S: Final = 1
LONGEST_S: Final = 60
"""Longer than a long poll: every permit has been returned by then."""
JITTER: Final = 0.25
WINDOW_S: Final = 5.0
"""The time constant of the average: completions count for about this long."""
SLOWEST_TURNOVER_S: Final = CREATION_TIMEOUT_S
"""All permits are assumed to be returned within this time: no request waits longer for a creation."""
COUNTED_AT_ONCE: Final = 64
"""Completions are added to the average in groups of this size, because every request ends with one."""


class RetryQueue:
    """The queue of requests that were refused one kind of permit; computes their `retry-after`."""

    def __init__(self, limit: int, *, random: Callable[[], float] = _random.random) -> None:
        self._slowest_rate = max(limit, 1) / SLOWEST_TURNOVER_S
        self._random = random
        self.completions = 0
        """Returned permits that are not in the average yet; the code that returns permits increments this."""
        self._weight = 0.0
        self._weighed_at = -math.inf
        self._end = -math.inf

    def count_completions(self, now: float) -> None:
        """Add `completions` to the average at `now` (seconds of a monotonic clock)."""
        self._weight = self._faded(now) + self.completions
        self._weighed_at = now
        self.completions = 0

    def rate(self, now: float) -> float:
        """Recent completions per second; at least the rate that `SLOWEST_TURNOVER_S` implies."""
        return max(self._faded(now) / WINDOW_S, self._slowest_rate)

    def take_place(self, now: float) -> int:
        """The seconds after which a request that is refused at `now` should be retried, as a whole number."""
        self.count_completions(now)
        self._end = max(self._end, now) + 1 / self.rate(now)
        wait_s = min(SHORTEST_S + self._end - now, LONGEST_S)
        jittered_s = wait_s * (1 + JITTER * (2 * self._random() - 1))
        return min(max(math.ceil(jittered_s), SHORTEST_S), LONGEST_S)

    def _faded(self, now: float) -> float:
        return self._weight * math.exp(-(now - self._weighed_at) / WINDOW_S)


class Kind(Enum):
    """The two kinds of permits, with separate limits."""

    INITIAL = "initial"
    """For a request that does work: a look-up or a creation."""
    EXISTING = "existing"
    """For a request that reads, or waits for the work of another request."""

    index: int
    """Index of the kind in lists: hashing an enum member costs more than counting a permit."""

    def __init__(self, word: str) -> None:
        self.index = len(type(self))


class PermitCounts(Protocol):
    """Counters of permits: a process changes its own and reads the sum over all processes."""

    def take(self, kind: Kind, limit: int) -> bool:
        """Count one more in this process, unless there are `limit` over all processes."""

    def give_back(self, kind: Kind) -> None:
        """Count one less in this process."""

    def own(self, kind: Kind) -> int:
        """The count of this process."""

    def total(self, kind: Kind) -> int:
        """The count over all processes."""


class LocalCounts:
    """Counts for an instance with one process."""

    def __init__(self) -> None:
        self._counts = [0] * len(Kind)

    def take(self, kind: Kind, limit: int) -> bool:
        """Count one more unless there are `limit`."""
        index = kind.index
        if self._counts[index] >= limit:
            return False
        self._counts[index] += 1
        return True

    def give_back(self, kind: Kind) -> None:
        """Count one less."""
        self._counts[kind.index] -= 1

    def own(self, kind: Kind) -> int:
        """The count."""
        return self._counts[kind.index]

    def total(self, kind: Kind) -> int:
        """The count."""
        return self._counts[kind.index]


_KINDS: Final = len(Kind)
_WORD_BYTES: Final = 8


class SharedCounts:
    """Counts in a file that several processes map; this process writes one slot of it."""

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
        """Create the file for `slots` processes with all counts zero; replaces an existing file."""
        fresh = path.with_name(f"{path.name}.{os.getpid()}")
        descriptor = os.open(fresh, os.O_CREAT | os.O_TRUNC | os.O_RDWR, 0o600)
        try:
            os.ftruncate(descriptor, slots * _KINDS * _WORD_BYTES)
        finally:
            os.close(descriptor)
        fresh.rename(path)

    @staticmethod
    def reset(path: Path, slot: int) -> None:
        """Set the counts of `slot` to zero. The process of the slot must have ended."""
        counts = SharedCounts(path, slot)
        try:
            counts.clear()
        finally:
            counts.close()

    def take(self, kind: Kind, limit: int) -> bool:
        """Count one more in our slot, unless that makes more than `limit` over all slots."""
        index = kind.index
        own = self._base + index
        self._words[own] += 1
        if sum(self._words[index::_KINDS]) <= limit:
            return True
        self._words[own] -= 1
        return False

    def give_back(self, kind: Kind) -> None:
        """Count one less in our slot."""
        self._words[self._base + kind.index] -= 1

    def own(self, kind: Kind) -> int:
        """The count of our slot."""
        return self._words[self._base + kind.index]

    def total(self, kind: Kind) -> int:
        """The count over all slots."""
        return sum(self._words[kind.index :: _KINDS])

    def clear(self) -> None:
        """Set the counts of our slot to zero."""
        for kind in Kind:
            self._words[self._base + kind.index] = 0

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
"""An *initial* permit that is returned sooner was not used for work: its request found an existing shape, or
joined another request. Such a permit does not count as a completion.
"""


class AdmissionControl:
    """Grants permits up to the limits."""

    def __init__(
        self,
        *,
        initial_limit: int = _LIMITS.initial,
        existing_limit: int = _LIMITS.existing,
        counts: PermitCounts | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """`counts` defaults to counts of this process alone; `clock` is monotonic, in seconds."""
        self._limits = _by_kind(initial_limit, existing_limit)
        self._queues = [RetryQueue(limit) for limit in self._limits]
        self._refused = [0] * len(Kind)
        self._held: list[dict[str, int]] = [{} for _ in Kind]
        """The permits of this process by kind and client."""
        self._counts: PermitCounts = LocalCounts() if counts is None else counts
        self._clock = clock

    def limit(self, kind: Kind) -> int:
        """The maximum number of permits in use over all processes."""
        return self._limits[kind.index]

    def in_use(self, kind: Kind) -> int:
        """The number of permits in use over all processes."""
        return self._counts.total(kind)

    def own(self, kind: Kind) -> int:
        """The number of permits in use that this process has granted."""
        return self._counts.own(kind)

    def refused(self, kind: Kind) -> int:
        """The number of permits that this process has refused."""
        return self._refused[kind.index]

    def acquire(self, kind: Kind, client: str | None = None) -> Permit:
        """Grant a permit to a client (None: it has no share). Raises Overloaded when a limit is reached."""
        if client is None:
            has_permit = self._counts.take(kind, self._limits[kind.index])
        else:
            has_permit = self.take(kind, client)
        if not has_permit:
            raise self._refusal(kind)
        return Permit(self, kind, client, self._clock() if kind is Kind.INITIAL else 0.0)

    def take(self, kind: Kind, client: str | None) -> bool:
        """Count one more permit; False at the limit, or if the client has its share of this process's."""
        index = kind.index
        limit = self._limits[index]
        if client is None:
            return self._counts.take(kind, limit)
        held = self._held[index]
        number = held.get(client, 0)
        if number and not may_take(number, self._counts.total(kind), limit):
            return False
        if not self._counts.take(kind, limit):
            return False
        held[client] = number + 1
        return True

    def give_back(self, kind: Kind, client: str | None, since: float) -> None:
        """Count one permit less. Called by `Permit`; `since` is when an *initial* one was granted."""
        self._counts.give_back(kind)
        if client is not None:
            held = self._held[kind.index]
            held[client] -= 1
            if not held[client]:
                del held[client]
        if kind is Kind.INITIAL and self._clock() - since < WORK_FROM_S:
            return
        queue = self._queues[kind.index]
        queue.completions += 1
        if queue.completions >= COUNTED_AT_ONCE:
            queue.count_completions(self._clock())

    def _refusal(self, kind: Kind) -> Overloaded:
        index = kind.index
        self._refused[index] += 1
        return Overloaded(
            f"Concurrent {kind.value} request limit exceeded (limit: {self._limits[index]}), please retry",
            retry_after_s=self._queues[index].take_place(self._clock()),
            known=True,
        )


def _by_kind(initial: int, existing: int) -> list[int]:
    values = {Kind.INITIAL: initial, Kind.EXISTING: existing}
    return [values[kind] for kind in Kind]


class Permit:
    """A slot for one request in flight; return it with `release()`."""

    __slots__ = ("_client", "_control", "_since", "kind")

    def __init__(self, control: AdmissionControl, kind: Kind, client: str | None, since: float) -> None:
        self.kind = kind
        self._client = client
        self._since = since
        self._control: AdmissionControl | None = control

    def swap_to_existing(self) -> bool:
        """Exchange an *initial* permit for an *existing* one; return whether it is an *existing* one now.

        At the limit of *existing* permits it keeps its kind. False for a released permit.
        """
        if self._control is None:
            return False
        if self.kind is Kind.EXISTING:
            return True
        if not self._control.take(Kind.EXISTING, self._client):
            return False
        self._control.give_back(self.kind, self._client, self._since)
        self.kind = Kind.EXISTING
        return True

    def release(self) -> None:
        """Return the permit; a second call does nothing."""
        control, self._control = self._control, None
        if control is not None:
            control.give_back(self.kind, self._client, self._since)
