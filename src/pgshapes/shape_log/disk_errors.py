"""How long an error of the disk is taken for one that passes.

It lasts only if it was tried again meanwhile: two errors that are far apart are two that have passed.
State: since when each key fails, of at most `_REMEMBERED` keys; one event loop.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Final, NamedTuple

from pgshapes.errors import StorageError, StorageFailing, StorageShortage

LIMIT_S: Final = 60.0
"""For how long an operation may fail, and within what time it must fail again: clients that get a 503 try
again within a minute.
"""
_REMEMBERED: Final = 1_000


class _Failing(NamedTuple):
    since_s: float
    last_s: float


class DiskErrors:
    """Decides whether a `StorageError` is damage."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self.failing: dict[str, _Failing] = {}
        """What fails; empty in ordinary times."""

    def is_damage(self, key: str, error: StorageError) -> bool:
        """Whether waiting is useless: always for damage, never for a shortage, and for an error of the disk
        when the operation named `key` has failed for longer than `LIMIT_S`, without a success and without
        as long a time in which it was not tried.
        """
        if not isinstance(error, StorageShortage):
            return True
        if not isinstance(error, StorageFailing):
            return False
        now_s = self._clock()
        known = self.failing.get(key)
        if known is None:
            self._make_room(now_s)
        since_s = now_s if known is None or now_s - known.last_s > LIMIT_S else known.since_s
        self.failing[key] = _Failing(since_s, now_s)
        return now_s - since_s > LIMIT_S

    def _make_room(self, now_s: float) -> None:
        """Forget what was not tried for long, and if there are many what has failed first."""
        for key in [key for key, each in self.failing.items() if now_s - each.last_s > LIMIT_S]:
            del self.failing[key]
        if len(self.failing) >= _REMEMBERED:
            del self.failing[next(iter(self.failing))]

    def succeeded(self, key: str) -> None:
        """Note that the operation has succeeded."""
        self.failing.pop(key, None)
