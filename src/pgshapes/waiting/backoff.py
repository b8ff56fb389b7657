"""Pauses between attempts: longer after each failure, short again after a success.

The caller says what a success is, in one of two ways: `reset`, or how long the attempt worked. Invariant: a
pause is never longer than the cap, jitter aside. State: the next pause.
"""

from __future__ import annotations

import random
from typing import Final

STABLE_S: Final = 1.0
"""What worked for this long had succeeded: its failure is a new one."""


class Backoff:
    """The pauses of one thing that is attempted again and again."""

    def __init__(self, first_s: float, cap_s: float, *, stable_s: float = STABLE_S) -> None:
        self.cap_s = cap_s
        self._first_s = first_s
        self._stable_s = stable_s
        self._next_s = first_s

    def reset(self) -> None:
        """The attempt has succeeded."""
        self._next_s = self._first_s

    def note_worked(self, worked_s: float) -> None:
        """The attempt failed after it had worked for this long, 0 if it did not work at all."""
        if worked_s >= self._stable_s:
            self.reset()

    def next_s(self) -> float:
        """The pause before the next attempt, in seconds, with jitter."""
        pause_s = min(self._next_s, self.cap_s)
        self._next_s = min(pause_s * 2, self.cap_s)
        return pause_s * random.uniform(0.75, 1.25)
