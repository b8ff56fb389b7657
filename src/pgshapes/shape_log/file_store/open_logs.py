"""Limits how many logs keep their files open. Owner only; its state is the list of open logs.

A change may affect all shapes one after another. A policy such as LRU would then close each log just before
its next append. So when the limit is reached, a log is admitted only with a small probability, in place of a
random one; the others open and close their files for each append.
"""

from __future__ import annotations

import resource
from random import random
from typing import Final, Protocol

ADMIT_ONE_IN: Final = 16
"""A busy log is admitted after 16 appends on average; an append to every log changes few entries."""
FILES_PER_LOG: Final = 2


class OpenLog(Protocol):
    """A log whose files can be kept open."""

    open_index: int
    """Its index in the list of open logs, -1 if it is not there; written only by `OpenLogs`."""

    def close_files(self) -> None:
        """Close the descriptors."""


class OpenLogs:
    """Keeps at most `max_files` descriptors open, two per log."""

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
        log.open_index = len(self._logs)
        self._logs.append(log)
        return True

    def release(self, log: OpenLog) -> None:
        """Remove a log from the list and close its files; does nothing if it is not there."""
        if log.open_index < 0:
            return
        last = self._logs.pop()
        if last is not log:
            self._logs[log.open_index] = last
            last.open_index = log.open_index
        log.open_index = -1
        log.close_files()

    def make_room(self) -> bool:
        """Close half of the files and lower the limit to the rest; False if none is open."""
        if not self._logs:
            return False
        self._capacity = max(len(self._logs) // 2, 1)
        for _ in range((len(self._logs) + 1) // 2):
            self._evict()
        return True

    def _evict(self) -> None:
        self.release(self._logs[int(random() * len(self._logs))])


def default_max_files() -> int:
    """Half of the process's descriptor limit; the rest is for sockets and the catalogue."""
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return 2**20 if soft == resource.RLIM_INFINITY else soft // 2
