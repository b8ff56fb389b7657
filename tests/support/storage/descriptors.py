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


def open_files(directory: Path) -> list[str]:
    """The files below a directory that this process has open.

    Unlike a count of all descriptors, this is not changed by what earlier tests left to the collector.
    """
    paths = []
    for descriptor in Path("/proc/self/fd").iterdir():
        with suppress(FileNotFoundError):
            paths.append(descriptor.readlink())
    return [str(path) for path in paths if path.is_relative_to(directory)]
