"""`Files` whose operations a test can block, to simulate a slow disk.

A test blocks an operation by creating the file `<directory>/<operation>`. A thread that reaches the operation
creates `<operation>.reached` and waits until the first file is removed. Only operations in worker threads can
be blocked: syncs, and renames for a removal.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path

from pgshapes.shape_log.file_store.files import Files

_POLL_S = 0.002


class HeldFiles:
    """Wraps other `Files`."""

    def __init__(self, files: Files, directory: Path) -> None:
        self._files = files
        self._directory = directory
        self.make_directory = files.make_directory
        self.open = files.open
        self.write_at = files.write_at
        self.close = files.close
        self.truncate = files.truncate
        self.remove_tree = files.remove_tree

    def rename(self, old: str, new: str) -> None:
        self._wait("rename")
        self._files.rename(old, new)

    def sync_files(self, paths: Sequence[str]) -> dict[str, OSError]:
        self._wait("sync_files")
        return self._files.sync_files(paths)

    def sync_directories(self, paths: Sequence[str]) -> dict[str, OSError]:
        return self._files.sync_directories(paths)

    def _wait(self, operation: str) -> None:
        held = self._directory / operation
        while held.exists():
            held.with_suffix(".reached").touch()
            time.sleep(_POLL_S)


def hold(directory: Path, operation: str) -> None:
    """Block an operation from now on."""
    directory.mkdir(exist_ok=True)
    (directory / operation).touch()


def is_reached(directory: Path, operation: str) -> bool:
    """Whether a thread waits in the operation."""
    return (directory / f"{operation}.reached").exists()


def release(directory: Path) -> None:
    """Unblock all operations."""
    for path in directory.iterdir():
        path.unlink()
