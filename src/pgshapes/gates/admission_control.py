"""Who may come in, decided before anything is parsed (http-api §11.2, design §6).

Nothing here is awaited and nobody is asked: counters that this process can read. Invariants: no more permits
are out than the limits say, over all processes of the instance; a permit is given back exactly once, however
often it is released; refusing costs no more than admitting. Each process has one admission control and is
its only writer.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable
from typing import Final

from pgshapes.errors import Overloaded
from pgshapes.gates.permit_counts import Kind, LocalCounts, PermitCounts
from pgshapes.gates.retry_after import ReturnLine

INITIAL_LIMIT: Final = 300
EXISTING_LIMIT: Final = 10_000


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
        self.refused: Counter[Kind] = Counter()
        """How often each kind was refused by this process."""
        self._limits = {Kind.INITIAL: initial_limit, Kind.EXISTING: existing_limit}
        self._lines = {kind: ReturnLine(limit) for kind, limit in self._limits.items()}
        self._counts: PermitCounts = LocalCounts() if counts is None else counts
        self._clock = clock

    def in_use(self, kind: Kind) -> int:
        """Permits that are out, over all processes."""
        return self._counts.total(kind)

    def acquire(self, kind: Kind) -> Permit:
        """A permit. Raises Overloaded when the limit is reached."""
        if not self.take(kind):
            self.refused[kind] += 1
            raise Overloaded(
                f"Concurrent {kind.value} request limit exceeded (limit: {self._limits[kind]}), please retry",
                retry_after_s=self._lines[kind].take_place(self._clock()),
                known=True,
            )
        return Permit(self, kind)

    def take(self, kind: Kind) -> bool:
        """Count one more, unless the limit is reached. For permits."""
        self._counts.add(kind, 1)
        if self._counts.total(kind) <= self._limits[kind]:
            return True
        self._counts.add(kind, -1)
        return False

    def give_back(self, kind: Kind) -> None:
        """Count one less. For permits."""
        self._counts.add(kind, -1)
        self._lines[kind].note_completion(self._clock())


class Permit:
    """Leave to be in the house until `release`."""

    __slots__ = ("_control", "kind")

    def __init__(self, control: AdmissionControl, kind: Kind) -> None:
        self.kind = kind
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
        self._control.give_back(self.kind)
        self.kind = Kind.EXISTING
        return True

    def release(self) -> None:
        """Give it back; a second time does nothing."""
        control, self._control = self._control, None
        if control is not None:
            control.give_back(self.kind)
