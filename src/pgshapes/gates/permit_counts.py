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
