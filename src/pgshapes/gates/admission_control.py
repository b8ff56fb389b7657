"""Who may come in, decided before anything is parsed (http-api §11.2, design §6).

Nothing here is awaited and nobody is asked: counters that this process can read. Invariants: no more permits
are out than the limits say, over all processes of the instance; a permit is given back exactly once, however
often it is released; refusing costs no more than admitting. Each process has one admission control and is
its only writer.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Final

from pgshapes.errors import Overloaded
from pgshapes.gates.permit_counts import Kind, LocalCounts, PermitCounts
from pgshapes.gates.retry_after import COUNTED_AT_ONCE, ReturnLine

INITIAL_LIMIT: Final = 300
EXISTING_LIMIT: Final = 10_000
WORK_FROM_S: Final = 0.001
"""An *initial* permit that is given back sooner stood for no work: its holder found the shape there, or
joined others. A thousand of those say nothing about when a place is free.
"""


class AdmissionControl:
    """Hands out permits within the limits."""

    def __init__(
        self,
        *,
        initial_limit: int = INITIAL_LIMIT,
        existing_limit: int = EXISTING_LIMIT,
        counts: PermitCounts | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """`counts` are those of this process alone unless given; `clock` is any steady one."""
        self._limits = _by_kind(initial_limit, existing_limit)
        self._lines = [ReturnLine(limit) for limit in self._limits]
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
    """Leave to be in the house until `release`."""

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
