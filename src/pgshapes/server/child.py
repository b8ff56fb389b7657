"""What a child process is told, and how it hears that it should stop.

It reads its task from standard input, which stays open for as long as the supervisor lives; at its end the
child stops as on SIGTERM.
"""

from __future__ import annotations

import asyncio
import os
import pickle
import signal
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from pgshapes.config import Settings

PERMITS = "permits"
"""File of the run directory in which HTTP processes count the permits that are out."""


class ChildTask(NamedTuple):
    """What a child is to do."""

    name: str
    """`replicator` or `http`."""
    settings: Settings
    run_dir: Path
    """Where the sockets and shared maps of this instance are."""
    listener_fd: int = -1
    number: int = 0
    """Which HTTP process it is, from 0."""
    is_restart: bool = False
    """Whether an earlier process with this task has died: then the database may be away for a while."""

    @property
    def label(self) -> str:
        """What metrics call the process."""
        return self.name if self.name == "replicator" else f"{self.name}-{self.number}"

    @property
    def metrics_path(self) -> Path:
        """Where it tells its metrics."""
        return self.run_dir / f"{self.label}.metrics"

    @property
    def owner_socket(self) -> Path:
        """Where the owner listens for links."""
        return self.run_dir / "owner.sock"


def read_task() -> ChildTask:
    """The task that the supervisor wrote."""
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
    """Call `stop` on SIGTERM, and when the supervisor is gone. SIGINT is held off from the start."""
    loop = asyncio.get_running_loop()
    loop.add_signal_handler(signal.SIGTERM, stop)

    def readable() -> None:
        if not os.read(0, 1):
            loop.remove_reader(0)
            stop()

    loop.add_reader(0, readable)
