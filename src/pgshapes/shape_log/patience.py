"""How long an error of the disk is taken for one that passes.

State: since when each key fails, of at most `_REMEMBERED` keys; one event loop.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Final

from pgshapes.errors import StorageError, StorageFailing, StorageShortage

LIMIT_S: Final = 60.0
_REMEMBERED: Final = 1_000


class Patience:
    """Decides whether a `StorageError` is damage."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self.failing: dict[str, float] = {}
        """Since when each key fails; empty in ordinary times."""

    def is_damage(self, key: str, error: StorageError) -> bool:
        """Whether waiting is useless: always for damage, never for a shortage, and for an error of the disk
        when the operation named `key` has failed for longer than `LIMIT_S`.
        """
        if not isinstance(error, StorageShortage):
            return True
        if not isinstance(error, StorageFailing):
            return False
        if key not in self.failing and len(self.failing) >= _REMEMBERED:
            del self.failing[next(iter(self.failing))]
        return self._clock() - self.failing.setdefault(key, self._clock()) > LIMIT_S

    def succeeded(self, key: str) -> None:
        """Note that the operation has succeeded."""
        self.failing.pop(key, None)
