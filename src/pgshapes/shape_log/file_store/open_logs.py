"""Which logs keep their file descriptors. Owner only; its state is the list of logs that have a place.

A change may touch all shapes one after another, which defeats every policy that makes room for the newest:
each log would be closed just before its turn. So when all places are taken a newcomer gets one only now and
then, at the expense of a random log; the others open and close their files for that one append.
"""

from __future__ import annotations

import resource
from random import random
from typing import Final, Protocol

ADMIT_ONE_IN: Final = 16
"""A log that became busy gets a place after 16 appends on average; a round over all logs moves little."""
FILES_PER_LOG: Final = 2


class OpenLog(Protocol):
    """A log that can have a place."""

    place: int
    """Its number among the open logs, -1 without a place; written by `OpenLogs` alone."""

    def close_files(self) -> None:
        """Give the descriptors back."""


class OpenLogs:
    """At most `max_files` descriptors, two for each log that has a place."""

    def __init__(self, max_files: int | None = None) -> None:
        self._capacity = max((max_files or default_max_files()) // FILES_PER_LOG, 1)
        self._logs: list[OpenLog] = []

    def __len__(self) -> int:
        return len(self._logs)

    def admit(self, log: OpenLog) -> bool:
        """Whether `log`, which has just opened its files, may keep them open."""
        if len(self._logs) >= self._capacity:
            if random() * ADMIT_ONE_IN >= 1:
                return False
            self._evict()
        log.place = len(self._logs)
        self._logs.append(log)
        return True

    def release(self, log: OpenLog) -> None:
        """Take a log's place away and close its files; nothing happens when it has none."""
        if log.place < 0:
            return
        last = self._logs.pop()
        if last is not log:
            self._logs[log.place] = last
            last.place = log.place
        log.place = -1
        log.close_files()

    def make_room(self) -> bool:
        """Close half of all files and keep to that from now on; False when none is open."""
        if not self._logs:
            return False
        self._capacity = max(len(self._logs) // 2, 1)
        for _ in range((len(self._logs) + 1) // 2):
            self._evict()
        return True

    def _evict(self) -> None:
        self.release(self._logs[int(random() * len(self._logs))])


def default_max_files() -> int:
    """Half of the descriptors that this process may have; the rest is for sockets and the catalogue."""
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return 2**20 if soft == resource.RLIM_INFINITY else soft // 2
