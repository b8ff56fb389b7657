"""How many permits of each kind are out, over all processes of the instance.

`LocalCounts` is for one process, `SharedCounts` for several: a small file that each maps, with one slot per
process. Invariant: a slot is written by the one process that has it; everyone reads the sum. Two processes
that count at the same moment may both see the other's permit and both refuse, or, within the time of one
memory access, both not see it: the limit is exceeded by at most one per process. A process that dies leaves
its slot as it was, so whoever restarts it resets the slot first.
"""

from __future__ import annotations

import mmap
import os
from enum import Enum
from pathlib import Path
from typing import Final, Protocol

from pgshapes.errors import ConfigError


class Kind(Enum):
    """What a permit stands for."""

    INITIAL = "initial"
    """Work: a look-up or a creation."""
    EXISTING = "existing"
    """A place in the house: reading, or waiting for what somebody else does."""


class PermitCounts(Protocol):
    """Counters that one process changes and sees the sum of."""

    def add(self, kind: Kind, amount: int) -> None:
        """Change this process's own count."""

    def total(self, kind: Kind) -> int:
        """The count over all processes."""


class LocalCounts:
    """Counts of a process that is alone."""

    def __init__(self) -> None:
        self._counts = {Kind.INITIAL: 0, Kind.EXISTING: 0}

    def add(self, kind: Kind, amount: int) -> None:
        """Change the count."""
        self._counts[kind] += amount

    def total(self, kind: Kind) -> int:
        """The count."""
        return self._counts[kind]


_KINDS: Final = len(Kind)
_INDEX: Final = {kind: index for index, kind in enumerate(Kind)}
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
            for kind in Kind:
                counts.add(kind, -counts.own(kind))
        finally:
            counts.close()

    def add(self, kind: Kind, amount: int) -> None:
        """Change this process's own count."""
        self._words[self._base + _INDEX[kind]] += amount

    def own(self, kind: Kind) -> int:
        """This process's own count."""
        return self._words[self._base + _INDEX[kind]]

    def total(self, kind: Kind) -> int:
        """The count over all slots."""
        return sum(self._words[_INDEX[kind] :: _KINDS])

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
