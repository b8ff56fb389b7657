"""The file descriptors of this process: which files are open, and few left, or none."""

from __future__ import annotations

import os
import resource
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

_HOLES = 64
"""More than the test run has free below its highest descriptor."""


@contextmanager
def descriptors_left(number: int) -> Iterator[None]:
    """Let this process open so many descriptors during the block."""
    taken = [os.open(os.devnull, os.O_RDONLY) for _ in range(_HOLES)]
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(taken) + 1, before[1]))
    try:
        for _ in range(number):
            os.close(taken.pop())
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, before)
        for each in taken:
            os.close(each)


def open_files() -> set[tuple[int, str]]:
    """The descriptors of this process, and what each is open for.

    Compare two sets, not two numbers: the collector closes meanwhile what earlier tests have left.
    """
    found = set[tuple[int, str]]()
    for descriptor in Path("/proc/self/fd").iterdir():
        with suppress(FileNotFoundError):
            found.add((int(descriptor.name), str(descriptor.readlink())))
    return found
