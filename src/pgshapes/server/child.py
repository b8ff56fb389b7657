"""The task that a child process gets from the supervisor, and how the child learns that it should stop.

A child reads its task from standard input. The supervisor keeps that pipe open; when it reaches end of file,
the supervisor has ended and the child stops as on SIGTERM.
"""

from __future__ import annotations

import asyncio
import os
import pickle
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Final, NamedTuple

from pgshapes.config import Settings

PERMITS: Final = "permits"
"""File in the run directory in which HTTP processes count the permits in use."""
REQUIRED: Final = "required"
"""File in the run directory in which the owner writes the version that tables must have to be served from."""


class ChildTask(NamedTuple):
    """What a child process runs, and with which settings."""

    name: str
    """`replicator` or `http`."""
    settings: Settings
    run_dir: Path
    """The directory with the sockets and mapped files of this instance."""
    listener_fd: int = -1
    number: int = 0
    """The number of the HTTP process, from 0."""
    is_restart: bool = False
    """Whether an earlier process with this task has ended; the database may then be unavailable."""

    @property
    def label(self) -> str:
        """The name of the process in metrics and log lines."""
        return self.name if self.name == "replicator" else f"{self.name}-{self.number}"

    @property
    def metrics_path(self) -> Path:
        """The socket on which it reports its metrics."""
        return self.run_dir / f"{self.label}.metrics"

    @property
    def required_path(self) -> Path:
        """The file with the version that tables must have to be served from."""
        return self.run_dir / REQUIRED

    @property
    def owner_socket(self) -> Path:
        """The socket on which the owner accepts links."""
        return self.run_dir / "owner.sock"


def read_task() -> ChildTask:
    """Read the task from standard input. Raises SystemExit at end of file."""
    size = int.from_bytes(_read(4), "big")
    task = pickle.loads(_read(size))
    assert isinstance(task, ChildTask)
    return task


def _read(size: int) -> bytes:
    data = b""
    while len(data) < size:
        more = os.read(0, size - len(data))
        if not more:
            raise SystemExit(1)
        data += more
    return data


def stop_with_supervisor(stop: Callable[[], None]) -> None:
    """Call `stop` on SIGTERM, and when the supervisor has ended. Children inherit that SIGINT is blocked."""
    loop = asyncio.get_running_loop()
    loop.add_signal_handler(signal.SIGTERM, stop)

    def readable() -> None:
        if not os.read(0, 1):
            loop.remove_reader(0)
            stop()

    loop.add_reader(0, readable)
